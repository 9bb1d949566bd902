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

# Each from its file: type checkers take `from .ops import gru` for the module ops/gru.py.
from .ops.additive_attention import additive_attention
from .ops.attention_gru import attention_gru
from .ops.attention_lstm import attention_lstm
from .ops.beam_search import beam_search
from .ops.greedy_search import greedy_search
from .ops.gru import gru
from .ops.gru_step import gru_step
from .ops.linear_cross_entropy import linear_cross_entropy
from .ops.lstm import lstm
from .ops.lstm_step import lstm_step
from .quantize import QuantizedWeights, quantize
from .version import __version__

__all__ = [
    "QuantizedWeights",
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
    "quantize",
    "revert",
    "weights",
]
