"""An attention decoder with an LSTM cell."""

from typing import NamedTuple

from torch import Tensor

from .decoder import run_decoder
from .lstm import step


class AttentionLSTMOutput(NamedTuple):
    states: Tensor  # (B, T, H), h_1 .. h_T
    contexts: Tensor  # (B, T+1, N*D), c_0 .. c_T
    weights: Tensor  # (B, T+1, S), with N heads (B, T+1, N, S)
    feeds: Tensor  # (B, T+1, F), f_0 .. f_T; contexts itself when there is no w_feed
    h_n: Tensor  # (B, H), with layers (L, B, H)
    c_n: Tensor  # (B, H), with layers (L, B, H)


def attention_lstm(x, state, *source_and_cell, **parts):
    """See ``decoder.run_decoder`` for the recurrence and its parts."""
    *outputs, (h_n, c_n) = run_decoder(step, x, tuple(state), *source_and_cell, **parts)
    return AttentionLSTMOutput(*outputs, h_n, c_n)
