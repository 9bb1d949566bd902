"""Modules made of the ops.

``GRU``, ``LSTM``, ``GRUCell`` and ``LSTMCell`` take the place of torch.nn's: same constructor, parameters, state_dict
and forward. ``AdditiveAttention``, ``AttentionGRU`` and ``AttentionLSTM`` hold the parameters of the attention
and of the whole attention decoder. ``ResetBeforeGRU`` and ``ResetBeforeGRUCell`` are the GRU of other
frameworks, in plain PyTorch.
"""

from .attention import AdditiveAttention
from .attention_recurrent import AttentionGRU, AttentionGRUState, AttentionLSTM, AttentionLSTMState
from .cells import GRUCell, LSTMCell
from .recurrent import GRU, LSTM
from .reset_before import ResetBeforeGRU, ResetBeforeGRUCell

__all__ = [
    "GRU",
    "LSTM",
    "AdditiveAttention",
    "AttentionGRU",
    "AttentionGRUState",
    "AttentionLSTM",
    "AttentionLSTMState",
    "GRUCell",
    "LSTMCell",
    "ResetBeforeGRU",
    "ResetBeforeGRUCell",
]
