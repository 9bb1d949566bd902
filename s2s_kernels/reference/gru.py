"""A GRU over a sequence."""

from .gru_step import gru_step
from .recurrent import run_sequence


def step(gates_x, gates_h, state):
    return (gru_step(gates_x, gates_h, *state),)


def gru(
    x, h0, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, lengths=None, reverse=False, resets=None,
    reset_states=None,
):  # fmt: skip
    """h_{t+1} = gru_step(weight_ih x_t + bias_ih, weight_hh h_t + bias_hh, h_t); h_t = reset_states_t at a reset."""
    reset_states = None if reset_states is None else (reset_states,)
    cell = (weight_ih, weight_hh, bias_ih, bias_hh)
    (output,), (h_n,) = run_sequence(step, x, (h0,), *cell, lengths, reverse, resets, reset_states)
    return output, h_n
