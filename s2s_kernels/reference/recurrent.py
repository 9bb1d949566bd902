"""The loop over time of a plain sequence, which the GRU and the LSTM share; ``decoder`` has the attention decoder's.

A state is a tuple whose first tensor is h. ``step(gates_x, gates_h, state)`` returns the next state.
"""

import torch
from torch.nn.functional import linear

from .additive_attention import valid_positions, zero_invalid


def stack_steps(tensors, like):
    """(B, T, H) of T tensors shaped as ``like``; T may be 0."""
    return torch.stack(tensors, 1) if tensors else like.unsqueeze(1)[:, :0]


def run_sequence(step, x, state, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse):
    """Returns the outputs (B, T, H), zeros past each row's length, and each row's last valid state."""
    steps = range(x.shape[1])
    valid = valid_positions(len(steps), lengths, None)
    gates_x = linear(zero_invalid(x, valid), weight_ih, bias_ih)
    outputs = [torch.zeros_like(state[0])] * len(steps)
    for t in reversed(steps) if reverse else steps:
        new = step(gates_x[:, t], linear(state[0], weight_hh, bias_hh), state)
        if valid is None:
            state, outputs[t] = new, new[0]
        else:
            here = valid[:, t, None]
            state = tuple(torch.where(here, a, b) for a, b in zip(new, state, strict=True))
            outputs[t] = torch.where(here, new[0], 0)
    return stack_steps(outputs, state[0]), state
