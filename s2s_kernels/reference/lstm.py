"""An LSTM over a sequence."""

from .lstm_step import lstm_step
from .recurrent import run_sequence


def step(gates_x, gates_h, state):
    return lstm_step(gates_x, gates_h, state[1])


def lstm(x, state, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, lengths=None, reverse=False):
    """(h, c)_{t+1} = lstm_step(weight_ih x_t + bias_ih, weight_hh h_t + bias_hh, c_t)."""
    return run_sequence(step, x, tuple(state), weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse)
