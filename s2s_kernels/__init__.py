"""Fused kernels for attention RNN sequence-to-sequence models, as torch autograd ops.

``import s2s_kernels as sk``: the ops (``sk.additive_attention``, ``sk.gru``, ``sk.attention_gru``, ...),
the modules made of them (``sk.nn``), ``sk.convert(model)`` for existing models, ``sk.backend`` to choose an
implementation and ``sk.info()`` to see which one runs.
"""

from . import extension as extension  # loads the compiled library, before any op looks for it
from . import nn, weights
from .backend import backend
from .convert import convert, revert
from .info import info
from .ops import (
    additive_attention,
    attention_gru,
    attention_lstm,
    beam_search,
    greedy_search,
    gru,
    gru_step,
    linear_cross_entropy,
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
    "beam_search",
    "convert",
    "greedy_search",
    "gru",
    "gru_step",
    "info",
    "linear_cross_entropy",
    "lstm",
    "lstm_step",
    "nn",
    "revert",
    "weights",
]
