"""The GRU cell: the op gru_step, and the kernels that each step of a recurrence is made of."""

import torch
import triton
import triton.language as tl

from .cell import Cell, load_four, load_or_zero, row_of, row_strides, start, store_four
from .language import sigmoid, store, tanh


@triton.jit
def gru_gates(gates_x, gates_h, j, inside, H, ACC):
    """r = sigmoid(x_r + h_r), z = sigmoid(x_z + h_z), n = tanh(x_n + r h_n), and h_n."""
    x_r = tl.load(gates_x + j, mask=inside, other=0).to(ACC)
    h_r = tl.load(gates_h + j, mask=inside, other=0).to(ACC)
    x_z = tl.load(gates_x + H + j, mask=inside, other=0).to(ACC)
    h_z = tl.load(gates_h + H + j, mask=inside, other=0).to(ACC)
    x_n = tl.load(gates_x + 2 * H + j, mask=inside, other=0).to(ACC)
    h_n = tl.load(gates_h + 2 * H + j, mask=inside, other=0).to(ACC)
    r = sigmoid(x_r + h_r)
    return r, sigmoid(x_z + h_z), tanh(x_n + r * h_n), h_n


@triton.jit
def gru_gradients(r, z, n, h_n, h, grad):
    """Gradients of the sums under r, z and n, of h_n, and of h."""
    grad_n = grad * (1.0 - z) * (1.0 - n * n)
    return grad_n * h_n * r * (1.0 - r), grad * (h - n) * z * (1.0 - z), grad_n, grad_n * r, grad * z


@triton.jit(do_not_specialize=["time"])
def gru_forward_kernel(
    gates_x, gates_h, h, h_next, operand, output, exact, saved, lengths, time,
    gates_x_b, gates_h_b, output_b, exact_b, saved_b, H, ACC: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """h' = (1 - z) n + z h. A row past its length keeps its state, and its output is zero."""
    b, j, inside = row_of(H, BH)
    r, z, n, h_n = gru_gates(gates_x + b * gates_x_b, gates_h + b * gates_h_b, j, inside, H, ACC)
    before = tl.load(h + b * H + j, mask=inside, other=0).to(ACC)
    new = (1.0 - z) * n + z * before
    out = new
    if lengths is not None:
        valid = time < tl.load(lengths + b)
        new, out = tl.where(valid, new, before), tl.where(valid, new, 0.0)
    store(output + b * output_b + j, out, inside)
    if h_next is not None:
        store(h_next + b * H + j, new, inside)
    if operand is not None:
        store(operand + b * H + j, new, inside)
    if exact is not None:
        store(exact + b * exact_b + j, out, inside)
    if saved is not None:
        store_four(saved + b * saved_b + j, r, z, n, h_n, H, inside)


@triton.jit(do_not_specialize=["time"])
def gru_backward_kernel(
    saved, h, grad_h, product, grad_output, grad_gates, lengths, time,
    saved_b, h_b, grad_output_b, grad_gates_b, H, ACC: tl.constexpr, BH: tl.constexpr,
):  # fmt: skip
    """grad_h, of the state after the step, becomes that of the state before it, but for the part through gates_h."""
    b, j, inside = row_of(H, BH)
    r, z, n, h_n = load_four(saved + b * saved_b + j, H, inside)
    before = tl.load(h + b * h_b + j, mask=inside, other=0).to(ACC)
    held = tl.load(grad_h + b * H + j, mask=inside, other=0) + load_or_zero(product, b * H + j, inside, ACC, BH)
    grad = held + load_or_zero(grad_output, b * grad_output_b + j, inside, ACC, BH)
    grad_r, grad_z, grad_n, grad_h_n, grad_before = gru_gradients(r, z, n, h_n, before, grad)
    if lengths is not None:
        valid = time < tl.load(lengths + b)
        grad_r, grad_z = tl.where(valid, grad_r, 0.0), tl.where(valid, grad_z, 0.0)
        grad_n, grad_h_n = tl.where(valid, grad_n, 0.0), tl.where(valid, grad_h_n, 0.0)
        grad_before = tl.where(valid, grad_before, held)
    store(grad_h + b * H + j, grad_before, inside)
    store_four(grad_gates + b * grad_gates_b + j, grad_n, grad_r, grad_z, grad_h_n, H, inside)


@triton.jit
def gru_step_backward_kernel(
    grad_output, gates_x, gates_h, h, grad_x, grad_h, grad_before, H, ACC: tl.constexpr, BH: tl.constexpr
):
    b, j, inside = row_of(H, BH)
    r, z, n, h_n = gru_gates(gates_x + b * 3 * H, gates_h + b * 3 * H, j, inside, H, ACC)
    before = tl.load(h + b * H + j, mask=inside, other=0).to(ACC)
    grad = tl.load(grad_output + b * H + j, mask=inside, other=0).to(ACC)
    grad_r, grad_z, grad_n, grad_h_n, grad = gru_gradients(r, z, n, h_n, before, grad)
    store(grad_before + b * H + j, grad, inside)
    grad_x, grad_h = grad_x + b * 3 * H + j, grad_h + b * 3 * H + j
    store(grad_x, grad_r, inside)
    store(grad_h, grad_r, inside)
    store(grad_x + H, grad_z, inside)
    store(grad_h + H, grad_z, inside)
    store(grad_x + 2 * H, grad_n, inside)
    store(grad_h + 2 * H, grad_h_n, inside)


def forward(
    gates_x, gates_h, before, after, output, *, operand=None, exact=None, saved=None, lengths=None, time=0, **_
):
    """One step. before and after: (h,), contiguous; all others (B, ...) with rows anywhere."""
    start(
        gru_forward_kernel, output, output.shape[1],
        gates_x, gates_h, *before, *after, operand, output, exact, saved, lengths, time,
        *row_strides(gates_x, gates_h, output, exact, saved),
    )  # fmt: skip


def backward(saved, before, grad_states, grad_gates, *, product=None, grad_output=None, lengths=None, time=0, **_):
    """One step back. grad_states: (grad_h,), (B, H), changed in place."""
    start(
        gru_backward_kernel, grad_gates, grad_gates.shape[1] // 4,
        saved, *before, *grad_states, product, grad_output, grad_gates, lengths, time,
        *row_strides(saved, *before, grad_output, grad_gates),
    )  # fmt: skip


GRU = Cell(3, forward, backward)


def gru_step(gates_x, gates_h, h):
    output = h.new_empty(h.shape)
    forward(gates_x.contiguous(), gates_h.contiguous(), (h.contiguous(),), (None,), output)
    return output


def gru_step_backward(grad_h, gates_x, gates_h, h):
    inputs = [x.contiguous() for x in (grad_h, gates_x, gates_h, h)]
    grads = tuple(torch.empty_like(x) for x in inputs[1:])
    start(gru_step_backward_kernel, h, h.shape[1], *inputs, *grads)
    return grads
