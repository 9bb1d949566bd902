"""Every op in plain PyTorch, as short as its formula.

The reference defines what the kernels must compute: in float64 it is the truth that the tests compare with,
and it runs wherever PyTorch does, on any device and in any floating dtype, differentiated by autograd.
Arguments are not checked here; the public functions in ``s2s_kernels.ops`` do that.
"""

from .additive_attention import additive_attention
from .attention_gru import AttentionGRUOutput, attention_gru
from .attention_lstm import AttentionLSTMOutput, attention_lstm
from .beam_search import SearchOutput, beam_search
from .bidirectional import gru_bidirectional, lstm_bidirectional
from .greedy_search import greedy_search
from .gru import gru
from .gru_step import gru_step
from .linear_cross_entropy import linear_cross_entropy, logits_cross_entropy
from .lstm import lstm
from .lstm_step import lstm_step

__all__ = [
    "AttentionGRUOutput",
    "AttentionLSTMOutput",
    "SearchOutput",
    "additive_attention",
    "attention_gru",
    "attention_lstm",
    "beam_search",
    "greedy_search",
    "gru",
    "gru_bidirectional",
    "gru_step",
    "linear_cross_entropy",
    "logits_cross_entropy",
    "lstm",
    "lstm_bidirectional",
    "lstm_step",
]
