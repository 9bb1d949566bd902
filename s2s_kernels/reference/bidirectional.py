"""Both directions of a layer: a sequence, and the same in reverse with weights and states of its own."""

import torch

from .gru import gru
from .lstm import lstm


def both(op, x, forward, reverse, lengths):
    """The output (B, T, 2H) of two calls of op, with these states and weights, and the last state of each."""
    outputs, last = zip(op(x, *forward, lengths=lengths), op(x, *reverse, lengths=lengths, reverse=True), strict=True)
    return torch.cat(outputs, -1), last


def gru_bidirectional(
    x, h0, weight_ih, weight_hh, bias_ih, bias_hh, h0_reverse, weight_ih_reverse, weight_hh_reverse,
    bias_ih_reverse=None, bias_hh_reverse=None, *, lengths=None, op=gru,
):  # fmt: skip
    """output (B, T, 2H) and h_n (2, B, H). op: by which gru."""
    reverse = (h0_reverse, weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    output, last = both(op, x, (h0, weight_ih, weight_hh, bias_ih, bias_hh), reverse, lengths)
    return output, torch.stack(last)


def lstm_bidirectional(
    x, state, weight_ih, weight_hh, bias_ih, bias_hh, state_reverse, weight_ih_reverse, weight_hh_reverse,
    bias_ih_reverse=None, bias_hh_reverse=None, *, lengths=None, op=lstm,
):  # fmt: skip
    """output (B, T, 2H), h_n and c_n (2, B, H). op: by which lstm."""
    reverse = (state_reverse, weight_ih_reverse, weight_hh_reverse, bias_ih_reverse, bias_hh_reverse)
    output, last = both(op, x, (state, weight_ih, weight_hh, bias_ih, bias_hh), reverse, lengths)
    return output, *map(torch.stack, zip(*last, strict=True))
