"""The LSTM cell: the op lstm_step, and the kernels that each step of a recurrence is made of."""

import torch
import triton
import triton.language as tl

from .cell import Cell, load_four, load_or_zero, row_of, row_strides, start, store_four
from .language import sigmoid, store, tanh


@triton.jit
def lstm_sum(gates_x, gates_h, j, inside, ACC):
    return tl.load(gates_x + j, mask=inside, other=0).to(ACC) + tl.load(gates_h + j, mask=inside, other=0).to(ACC)


@triton.jit
def lstm_gates(gates_x, gates_h, j, inside, H, ACC):
    """i, f, o = sigmoid(x + h), g = tanh(x + h)."""
    i = sigmoid(lstm_sum(gates_x, gates_h, j, inside, ACC))
    f = sigmoid(lstm_sum(gates_x + H, gates_h + H, j, inside, ACC))
    g = tanh(lstm_sum(gates_x + 2 * H, gates_h + 2 * H, j, inside, ACC))
    return i, f, g, sigmoid(lstm_sum(gates_x + 3 * H, gates_h + 3 * H, j, inside, ACC))


@triton.jit
def lstm_gradients(i, f, g, o, c, c_next, grad_h, grad_c):
    """Gradients of the four sums, and of c."""
    y = tanh(c_next)
    total = grad_c + grad_h * o * (1.0 - y * y)
    return (
        total * g * i * (1.0 - i),
        total * c * f * (1.0 - f),
        total * i * (1.0 - g * g),
        grad_h * y * o * (1.0 - o),
        total * f,
    )


@triton.jit(do_not_specialize=["time"])
def lstm_forward_kernel(
    gates_x, gates_h, h, c, h_next, c_next, operand, output, exact, saved, cells, lengths, time,
    gates_x_b, gates_h_b, output_b, exact_b, saved_b, cells_b, H, ACC: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """c' = f c + i g, h' = o tanh(c'). A row past its length keeps its state, and its output is zero."""
    b, j, inside = row_of(H, BH)
    i, f, g, o = lstm_gates(gates_x + b * gates_x_b, gates_h + b * gates_h_b, j, inside, H, ACC)
    before = tl.load(c + b * H + j, mask=inside, other=0).to(ACC)
    new_c = f * before + i * g
    new_h = o * tanh(new_c)
    out = new_h
    if lengths is not None:
        valid = time < tl.load(lengths + b)
        out = tl.where(valid, new_h, 0.0)
        new_h = tl.where(valid, new_h, tl.load(h + b * H + j, mask=inside, other=0).to(ACC))
        new_c = tl.where(valid, new_c, before)
    store(output + b * output_b + j, out, inside)
    store(c_next + b * H + j, new_c, inside)
    if h_next is not None:
        store(h_next + b * H + j, new_h, inside)
    if operand is not None:
        store(operand + b * H + j, new_h, inside)
    if exact is not None:
        store(exact + b * exact_b + j, out, inside)
    if cells is not None:
        store(cells + b * cells_b + j, new_c, inside)
    if saved is not None:
        store_four(saved + b * saved_b + j, i, f, g, o, H, inside)


@triton.jit(do_not_specialize=["time"])
def lstm_backward_kernel(
    saved, c, cells, grad_h, grad_c, product, grad_output, grad_gates, lengths, time,
    saved_b, c_b, cells_b, grad_output_b, grad_gates_b, H, ACC: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """grad_h and grad_c, of the state after the step, become those before it, but for the part through gates_h."""
    b, j, inside = row_of(H, BH)
    i, f, g, o = load_four(saved + b * saved_b + j, H, inside)
    before = tl.load(c + b * c_b + j, mask=inside, other=0).to(ACC)
    after = tl.load(cells + b * cells_b + j, mask=inside, other=0).to(ACC)
    held = tl.load(grad_h + b * H + j, mask=inside, other=0) + load_or_zero(product, b * H + j, inside, ACC, BH)
    grad = held + load_or_zero(grad_output, b * grad_output_b + j, inside, ACC, BH)
    total = tl.load(grad_c + b * H + j, mask=inside, other=0)
    grad_i, grad_f, grad_g, grad_o, grad_before = lstm_gradients(i, f, g, o, before, after, grad, total)
    # h reaches the loss through the gates alone
    if lengths is None:
        held = tl.zeros_like(held)
    else:
        valid = time < tl.load(lengths + b)
        grad_i, grad_f = tl.where(valid, grad_i, 0.0), tl.where(valid, grad_f, 0.0)
        grad_g, grad_o = tl.where(valid, grad_g, 0.0), tl.where(valid, grad_o, 0.0)
        held, grad_before = tl.where(valid, 0.0, held), tl.where(valid, grad_before, total)
    store(grad_h + b * H + j, held, inside)
    store(grad_c + b * H + j, grad_before, inside)
    store_four(grad_gates + b * grad_gates_b + j, grad_i, grad_f, grad_g, grad_o, H, inside)


@triton.jit
def lstm_step_backward_kernel(
    grad_h, grad_c, gates_x, gates_h, c, grad_gates, grad_before, H, ACC: tl.constexpr, BH: tl.constexpr
):
    b, j, inside = row_of(H, BH)
    i, f, g, o = lstm_gates(gates_x + b * 4 * H, gates_h + b * 4 * H, j, inside, H, ACC)
    before = tl.load(c + b * H + j, mask=inside, other=0).to(ACC)
    given_h = load_or_zero(grad_h, b * H + j, inside, ACC, BH)
    given_c = load_or_zero(grad_c, b * H + j, inside, ACC, BH)
    grad_i, grad_f, grad_g, grad_o, grad = lstm_gradients(i, f, g, o, before, f * before + i * g, given_h, given_c)
    store(grad_before + b * H + j, grad, inside)
    store_four(grad_gates + b * 4 * H + j, grad_i, grad_f, grad_g, grad_o, H, inside)


def forward(
    gates_x, gates_h, before, after, output, *, operand=None, exact=None, saved=None, cells=None, lengths=None, time=0
):
    """One step. before and after: (h, c), contiguous; all others (B, ...) with rows anywhere."""
    start(
        lstm_forward_kernel, output, output.shape[1],
        gates_x, gates_h, *before, *after, operand, output, exact, saved, cells, lengths, time,
        *row_strides(gates_x, gates_h, output, exact, saved, cells),
    )  # fmt: skip


def backward(saved, before, grad_states, grad_gates, *, cells, product=None, grad_output=None, lengths=None, time=0):
    """One step back. grad_states: (grad_h, grad_c), (B, H), changed in place."""
    c = before[1]
    start(
        lstm_backward_kernel, grad_gates, grad_gates.shape[1] // 4,
        saved, c, cells, *grad_states, product, grad_output, grad_gates, lengths, time,
        *row_strides(saved, c, cells, grad_output, grad_gates),
    )  # fmt: skip


LSTM = Cell(4, forward, backward)


def lstm_step(gates_x, gates_h, c):
    h_next, c_next = c.new_empty(c.shape), c.new_empty(c.shape)
    forward(gates_x.contiguous(), gates_h.contiguous(), (None, c.contiguous()), (None, c_next), h_next)
    return h_next, c_next


def lstm_step_backward(grad_h, grad_c, gates_x, gates_h, c):
    inputs = [None if x is None else x.contiguous() for x in (grad_h, grad_c, gates_x, gates_h, c)]
    grads = tuple(torch.empty_like(x) for x in inputs[3:])
    start(lstm_step_backward_kernel, c, c.shape[1], *inputs, *grads)
    return grads
