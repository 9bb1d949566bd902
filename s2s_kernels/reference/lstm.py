"""An LSTM over a sequence."""

from .lstm_step import lstm_step
from .recurrent import run_sequence


def step(gates_x, gates_h, state):
    return lstm_step(gates_x, gates_h, state[1])


def lstm(
    x, state, weight_ih, weight_hh, bias_ih=None, bias_hh=None, *, lengths=None, reverse=False, resets=None,
    reset_states=None, cells=False,
):  # fmt: skip
    """(h, c)_{t+1} = lstm_step(weight_ih x_t + bias_ih, weight_hh h_t + bias_hh, c_t); (h, c)_t = reset_states_t at a
    reset. cells: also returns c after each step."""
    args = (weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, resets, reset_states)
    (output, *more), last = run_sequence(step, x, tuple(state), *args, shown=1 + cells)
    return output, last, *more
