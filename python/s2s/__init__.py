"""Attention RNN sequence-to-sequence models on ``s2s_kernels``: train, translate, evaluate.

>>> import s2s
>>> s2s.load("runs/demo/model").translate(["March 5, 2024"])
['५ मार्च, २०२४']
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import Config
    from .data import Dataset
    from .errors import S2SError
    from .importing.joeynmt import import_joeynmt
    from .importing.opennmt import import_opennmt
    from .model import Seq2Seq
    from .search_options import SearchOptions
    from .training import Trainer, train
    from .translator import Translator

_MODULES = {
    "Config": "config",
    "Dataset": "data",
    "S2SError": "errors",
    "SearchOptions": "search_options",
    "Seq2Seq": "model",
    "Trainer": "training",
    "Translator": "translator",
    "import_joeynmt": "importing.joeynmt",
    "import_opennmt": "importing.opennmt",
    "train": "training",
}
__all__ = [
    "Config",
    "Dataset",
    "S2SError",
    "SearchOptions",
    "Seq2Seq",
    "Trainer",
    "Translator",
    "import_joeynmt",
    "import_opennmt",
    "load",
    "train",
]


def load(path, device="cpu") -> "Translator":
    """The Translator in a checkpoint folder. Raises S2SError if it is none."""
    from .translator import Translator

    return Translator.load(path, device)


def __getattr__(name):
    # On first use, so that ``import s2s`` and ``s2s --help`` do not wait for torch.
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
