"""An attention decoder with a GRU cell."""

from typing import NamedTuple

from torch import Tensor

from .gru import step
from .recurrent import run_attention


class AttentionGRUOutput(NamedTuple):
    states: Tensor  # (B, T, H), h_1 .. h_T
    contexts: Tensor  # (B, T+1, N*D), c_0 .. c_T
    weights: Tensor  # (B, T+1, S), with N heads (B, T+1, N, S)
    feeds: Tensor  # (B, T+1, F), f_0 .. f_T; contexts itself when there is no w_feed
    h_n: Tensor  # (B, H)


def attention_gru(
    x, h0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
    *, lengths=None, mask=None, w_feed=None, b_feed=None, first_feed=None,
):  # fmt: skip
    """See ``recurrent.run_attention`` for the recurrence."""
    *outputs, (h_n,) = run_attention(
        step, x, (h0,), keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
        lengths, mask, w_feed, b_feed, first_feed,
    )  # fmt: skip
    return AttentionGRUOutput(*outputs, h_n)
