"""One step of an LSTM cell, after its two matrix products."""

from torch import Tensor

from .. import reference
from ..checks import dims, expect, floating, of_ops
from . import registration, second_derivative


def lstm_step(gates_x: Tensor, gates_h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM.

    ``i, f, o = sigmoid(x + h)``, ``g = tanh(x + h)`` of their gates, ``c' = f c + i g``, ``h' = o tanh(c')``.

    Args:
        gates_x: (B, 4H): ``W_ih x + b_ih``, in the order i, f, g, o.
        gates_h: (B, 4H): ``W_hh h + b_hh``.
        c: (B, H), the cell state.

    Returns:
        h and c, each (B, H). For backward only the three inputs are saved.

    Raises:
        ValueError, TypeError: an argument's shape, dtype or device, before anything runs.
    """
    return registration.check_and_run("lstm_step", reference.lstm_step, check, gates_x, gates_h, c)


def check(gates_x, gates_h, c):
    batch, hidden = dims("c", c, "B, H")
    floating("c", c)
    expect("gates_x", gates_x, "B, 4H", (batch, 4 * hidden), c, "c")
    expect("gates_h", gates_h, "B, 4H", (batch, 4 * hidden), c, "c")


of_ops["lstm_step"] = check


@registration.fake("lstm_step")
def _(gates_x, gates_h, c):
    check(gates_x, gates_h, c)
    return c.new_empty(c.shape), c.new_empty(c.shape)


@registration.fake("lstm_step_backward")
def _(grad_h, grad_c, gates_x, gates_h, c):
    return gates_x.new_empty(gates_x.shape), c.new_empty(c.shape)


def replay(grad_h, grad_c, gates_x, gates_h, c):
    def step(gates_x, c):  # the gradient of both gates is one
        return reference.lstm_step(gates_x, gates_h, c)

    return step, [gates_x, c], [True] * 2, [grad_h, grad_c]


second_derivative.register("lstm_step", replay)
registration.autocast("lstm_step")
