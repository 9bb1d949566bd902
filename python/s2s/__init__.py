"""Attention RNN sequence-to-sequence models on ``s2s_kernels``: train, translate, evaluate.

>>> import s2s
>>> s2s.load("runs/demo/model").translate(["March 5, 2024"])
['५ मार्च, २०२४']
"""

import os
from typing import TYPE_CHECKING

from .lazy import names_from

if TYPE_CHECKING:
    import torch

    from .errors import S2SError
    from .importing.joeynmt import import_joeynmt
    from .importing.marian import import_marian
    from .importing.opennmt import import_opennmt
    from .model.config import Config
    from .model.seq2seq import Seq2Seq
    from .search.options import SearchOptions
    from .text.data import Dataset
    from .training.trainer import Trainer, train
    from .translator import Translator
else:
    __getattr__ = names_from(
        __name__,
        {
            "Config": "model.config",
            "Dataset": "text.data",
            "S2SError": "errors",
            "SearchOptions": "search.options",
            "Seq2Seq": "model.seq2seq",
            "Trainer": "training.trainer",
            "Translator": "translator",
            "import_joeynmt": "importing.joeynmt",
            "import_marian": "importing.marian",
            "import_opennmt": "importing.opennmt",
            "train": "training.trainer",
        },
    )

__all__ = [
    "Config",
    "Dataset",
    "S2SError",
    "SearchOptions",
    "Seq2Seq",
    "Trainer",
    "Translator",
    "import_joeynmt",
    "import_marian",
    "import_opennmt",
    "load",
    "train",
]


def load(path: str | os.PathLike[str], device: "torch.device | str" = "cpu") -> "Translator":
    """The Translator in a checkpoint folder. Raises S2SError if it is none."""
    from .translator import Translator

    return Translator.load(path, device)
