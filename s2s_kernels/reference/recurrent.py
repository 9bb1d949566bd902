"""The loop over time of a plain sequence, which the GRU and the LSTM share; ``decoder`` has the attention decoder's.

A state is a tuple whose first tensor is h. ``step(gates_x, gates_h, state)`` returns the next state.
"""

import torch
from torch.nn.functional import linear

from .additive_attention import valid_positions, zero_invalid


def stack_steps(tensors, like):
    """(B, T, H) of T tensors shaped as ``like``; T may be 0."""
    return torch.stack(tensors, 1) if tensors else like.unsqueeze(1)[:, :0]


def run_sequence(
    step, x, state, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, resets, reset_states, shown=1
):  # fmt: skip
    """Returns a list of the first ``shown`` tensors of the states, (B, T, H), zeros past each row's length; and each
    row's last valid state.

    reset_states: a tuple of (B, T, H), or None for zeros.
    """
    steps = range(x.shape[1])
    valid = valid_positions(len(steps), lengths, None)
    if resets is not None and valid is not None:
        resets = resets & valid
    gates_x = linear(zero_invalid(x, valid), weight_ih, bias_ih)
    states = [state] * len(steps)
    for t in reversed(steps) if reverse else steps:
        if resets is not None:
            begin = [0] * len(state) if reset_states is None else [s[:, t] for s in reset_states]
            state = tuple(torch.where(resets[:, t, None], a, b) for a, b in zip(begin, state, strict=True))
        new = step(gates_x[:, t], linear(state[0], weight_hh, bias_hh), state)
        states[t] = new
        if valid is not None:
            new = tuple(torch.where(valid[:, t, None], a, b) for a, b in zip(new, state, strict=True))
        state = new
    return [zero_invalid(stack_steps([s[i] for s in states], state[i]), valid) for i in range(shown)], state
