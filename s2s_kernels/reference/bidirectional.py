"""Both directions of a layer: a sequence, and the same in reverse with weights and states of its own."""

import torch

from .gru import gru
from .lstm import lstm


def gru_bidirectional(
    x, h0, weight_ih, weight_hh, bias_ih, bias_hh, h0_reverse, weight_ih_reverse, weight_hh_reverse,
    bias_ih_reverse=None, bias_hh_reverse=None, *, lengths=None, op=gru,
):  # fmt: skip
    """output (B, T, 2H) and h_n (2, B, H) of two calls of gru. op: by which gru."""
    reverse = (weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    outputs, last = zip(
        op(x, h0, weight_ih, weight_hh, bias_ih, bias_hh, lengths=lengths),
        op(x, h0_reverse, *reverse, lengths=lengths, reverse=True),
        strict=True,
    )
    return torch.cat(outputs, -1), torch.stack(last)


def lstm_bidirectional(
    x, state, weight_ih, weight_hh, bias_ih, bias_hh, state_reverse, weight_ih_reverse, weight_hh_reverse,
    bias_ih_reverse=None, bias_hh_reverse=None, *, lengths=None, op=lstm,
):  # fmt: skip
    """output (B, T, 2H), h_n and c_n (2, B, H) of two calls of lstm. op: by which lstm."""
    reverse = (weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    outputs, last = zip(
        op(x, state, weight_ih, weight_hh, bias_ih, bias_hh, lengths=lengths),
        op(x, state_reverse, *reverse, lengths=lengths, reverse=True),
        strict=True,
    )
    return torch.cat(outputs, -1), *map(torch.stack, zip(*last, strict=True))
