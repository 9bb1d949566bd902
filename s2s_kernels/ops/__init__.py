"""The public ops. Each file holds one: its documentation, its checks and its registrations with torch."""

from .additive_attention import additive_attention
from .attention_gru import attention_gru
from .attention_lstm import attention_lstm
from .beam_search import beam_search
from .greedy_search import greedy_search
from .gru import gru
from .gru_step import gru_step
from .linear_cross_entropy import linear_cross_entropy
from .lstm import lstm
from .lstm_step import lstm_step

__all__ = [
    "additive_attention",
    "attention_gru",
    "attention_lstm",
    "beam_search",
    "greedy_search",
    "gru",
    "gru_step",
    "linear_cross_entropy",
    "lstm",
    "lstm_step",
]
