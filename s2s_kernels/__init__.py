"""Fused kernels for attention RNN sequence-to-sequence models, as torch autograd ops.

``import s2s_kernels as sk``: the ops (``sk.additive_attention``, ``sk.gru``, ``sk.attention_gru``, ...),
the modules made of them (``sk.nn``), ``sk.convert(model)`` for existing models, ``sk.backend`` to choose an
implementation and ``sk.info()`` to see which one runs.
"""

from . import extension as extension  # loads the compiled library, before any op looks for it
from .backend import backend
from .info import info
from .ops import (
    additive_attention,
    attention_gru,
    attention_lstm,
    gru,
    gru_step,
    lstm,
    lstm_step,
)
from .version import __version__

__all__ = [
    "__version__",
    "additive_attention",
    "attention_gru",
    "attention_lstm",
    "backend",
    "convert",
    "gru",
    "gru_step",
    "info",
    "lstm",
    "lstm_step",
    "nn",
    "revert",
]


def __getattr__(name):
    """Modules that most programs never touch are imported on first use, to keep the import quick."""
    import importlib

    if name == "nn":
        return importlib.import_module(".nn", __name__)
    if name in ("convert", "revert"):
        module = importlib.import_module(".convert", __name__)
        globals().update(convert=module.convert, revert=module.revert)  # the names also of the submodule
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
