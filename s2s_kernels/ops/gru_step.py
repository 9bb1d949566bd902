"""One step of a GRU cell, after its two matrix products."""

from torch import Tensor

from .. import reference
from ..checks import dims, expect, floating, of_ops
from . import registration, second_derivative


def gru_step(gates_x: Tensor, gates_h: Tensor, h: Tensor) -> Tensor:
    """One step of a GRU with the reset gate after the matrix product, as torch.nn.GRU and cuDNN have it.

    ``r = sigmoid(x_r + h_r)``, ``z = sigmoid(x_z + h_z)``, ``n = tanh(x_n + r * h_n)``, ``h' = (1 - z) n + z h``.

    Args:
        gates_x: (B, 3H): ``W_ih x + b_ih``, in the order r, z, n.
        gates_h: (B, 3H): ``W_hh h + b_hh``.
        h: (B, H).

    Returns:
        (B, H), the new hidden state. For backward only the three inputs are saved.

    Raises:
        ValueError, TypeError: an argument's shape, dtype or device, before anything runs.
    """
    return registration.check_and_run("gru_step", reference.gru_step, check, gates_x, gates_h, h)


def check(gates_x, gates_h, h):
    batch, hidden = dims("h", h, "B, H")
    floating("h", h)
    expect("gates_x", gates_x, "B, 3H", (batch, 3 * hidden), h, "h")
    expect("gates_h", gates_h, "B, 3H", (batch, 3 * hidden), h, "h")


of_ops["gru_step"] = check


@registration.fake("gru_step")
def _(gates_x, gates_h, h):
    check(gates_x, gates_h, h)
    return h.new_empty(h.shape)


@registration.fake("gru_step_backward")
def _(grad_h, gates_x, gates_h, h):
    return gates_x.new_empty(gates_x.shape), gates_h.new_empty(gates_h.shape), h.new_empty(h.shape)


def replay(grad_h, *inputs):
    return lambda *inputs: (reference.gru_step(*inputs),), inputs, [True] * 3, [grad_h]


second_derivative.register("gru_step", replay)
registration.autocast("gru_step")
