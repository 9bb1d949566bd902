"""gru and lstm over a sequence: one product over all T for x's part of the gates, then a product and a kernel a step.

Backward keeps in its loop what the step before needs, the gradient of h; weights get theirs after it, in products
over all T. In 16 bits the products take and give 16 bits, as eager PyTorch's do, and the state is kept in float32.
"""

import torch
from torch.nn.functional import linear

from .language import accumulation


def linear_out(x, weight, bias, out):
    """out = x W^T + b, into memory that is there."""
    if bias is None:
        torch.mm(x, weight.t(), out=out)
    else:
        torch.addmm(bias, x, weight.t(), out=out)
    return out


def is_wide(x):
    """Whether sums are kept in x's own dtype."""
    return accumulation(x.dtype)[0] == x.dtype


def copied(x, dtype):
    """A contiguous copy, which may be written to."""
    return torch.empty(x.shape, dtype=dtype, device=x.device).copy_(x)


def at(x, t):
    """Step t of (B, T, ...), None of what is not there."""
    return None if x is None else x[:, t]


def flat(x):
    """(B * T, ...)"""
    return x.flatten(0, 1)


def outer_products(a, b):
    """a^T b, a sum over the rows of the batch and all steps: a weight's gradient, (columns of a, columns of b).

    In parts, each summed on its own, as csrc/cuda/glue.h says why.
    """
    count = len(a)
    parts = min(count // max(128, b.shape[1]), 16)
    if parts < 2 or not is_wide(a):
        return a.t() @ b
    depth = count // parts
    even = parts * depth
    a_parts, b_parts = (x[:even].unflatten(0, (parts, depth)) for x in (a, b))
    made = torch.bmm(a_parts.transpose(1, 2), b_parts).sum(0)
    return made if even == count else made.addmm_(a[even:].t(), b[even:])


def sum_of_rows(x):
    """A bias's gradient. (x.sum(0) would take a buffer of up to 16 times x.)"""
    return outer_products(x, x.new_ones(len(x), 1))[:, 0]


class Saved:
    """What a forward pass keeps for backward in the accumulation's dtype; where it keeps nothing, an empty tensor
    is returned in place of each."""

    def __init__(self, x, save):
        self.x, self.save, self.returned = x, save, []

    def make(self, *shape, wanted=True):
        wanted = self.save and wanted
        made = self.x.new_empty(shape if wanted else 0, dtype=accumulation(self.x.dtype)[0])
        self.returned.append(made)
        return made if wanted else None


class Resets:
    """Where rows are reset, (B, T), within their lengths, and to which states (B, T, H)."""

    def __init__(self, x, lengths, resets, *states):
        self.at = resets if lengths is None else resets & valid_steps(x, lengths)
        self.states = [
            self.at.new_zeros((), dtype=x.dtype).expand(*resets.shape, 1) if s is None else s for s in states
        ]

    def replace(self, t, states):
        """States (B, H) before step t, in place."""
        for state, reset in zip(states, self.states, strict=True):
            torch.where(self.at[:, t, None], reset[:, t].to(state.dtype), state, out=state)

    def replace_all(self, states):
        """States (B, T, H) before each step."""
        return [torch.where(self.at[:, :, None], r, s) for r, s in zip(self.states, states, strict=True)]

    def take(self, t, grads, to):
        """Gradients (B, H) of the states before step t: of a reset they go to ``to`` (B, T, H) and no further."""
        for grad, kept in zip(grads, to, strict=True):
            if kept is not None:
                kept[:, t] = torch.where(self.at[:, t, None], grad, 0)
            grad.masked_fill_(self.at[:, t, None], 0)


def recurrence_forward(cell, inputs, lengths, reverse, save):
    x, *states, weight_ih, weight_hh, bias_ih, bias_hh = inputs[: cell.gates + 3]
    B, T, H = x.shape[0], x.shape[1], weight_hh.shape[1]
    lengths = None if lengths is None else lengths.contiguous()
    resets = Resets(x, lengths, *inputs[cell.gates + 3 :]) if len(inputs) > cell.gates + 3 else None
    gates_x, gates_h = linear(valid_part(x, lengths), weight_ih, bias_ih), x.new_empty(B, cell.gates * H)
    output, kept = x.new_empty(B, T, H), Saved(x, save)
    gates, exact = kept.make(B, T, 4 * H), kept.make(B, T, H, wanted=not is_wide(x))
    cells, shown = None, []
    if cell.gates == 4:
        cells = kept.make(B, T, H, wanted=resets is None or not is_wide(x))
        if resets is not None and cells is None:
            cells = x.new_empty(B, T, H, dtype=accumulation(x.dtype)[0])
    current = [copied(state, accumulation(x.dtype)[0]) for state in states]
    operand = None if is_wide(x) else copied(states[0], x.dtype)
    for t in reversed(range(T)) if reverse else range(T):
        if resets is not None:
            resets.replace(t, current)
            if operand is not None:
                operand.copy_(current[0])
        linear_out(current[0] if operand is None else operand, weight_hh, bias_hh, gates_h)
        cell.forward(
            gates_x[:, t], gates_h, current, current, output[:, t], operand=operand, exact=at(exact, t),
            saved=at(gates, t), cells=at(cells, t), lengths=lengths, time=t,
        )  # fmt: skip
    if resets is not None and cells is not None:
        shown = [valid_part(cells, lengths).to(x.dtype)]
    return [output, *(state.to(x.dtype) for state in current), *shown, *kept.returned]


def before_each_step(first, states, lengths=None, reverse=False):
    """The states (B, T, H) that the steps started from."""
    T, first = states.shape[1], first.to(states.dtype).unsqueeze(1)
    if not reverse:
        return torch.cat([first, states], 1)[:, :T]
    before = torch.cat([states, first], 1)[:, 1:]
    if lengths is None:
        return before
    last = torch.arange(1, T + 1, device=lengths.device) == lengths[:, None]
    return torch.where(last[:, :, None], first, before)


def valid_part(x, lengths):
    """x with zeros past each row's length: what stands there, NaN included, must not reach a weight's gradient, nor a
    product in which a library lets one row reach another (as PyTorch's own of bfloat16 on a CPU does)."""
    return x if lengths is None else torch.where(valid_steps(x, lengths)[:, :, None], x, 0)


def valid_steps(x, lengths):
    return torch.arange(x.shape[1], device=x.device) < lengths[:, None]


def begin_as(grad, like, *shape):
    """A gradient that the loop adds to: at first the one that came in, or zeros; in the accumulation's dtype."""
    dtype = accumulation(like.dtype)[0]
    return like.new_zeros(shape, dtype=dtype) if grad is None else copied(grad, dtype)


class Wanted:
    """Collects the gradients that were asked for, in the dtype of the inputs; of the others an empty tensor."""

    def __init__(self, like, needs):
        self.like, self.needs, self.made = like, iter(needs), []

    def give(self, make):
        self.made.append(make().to(self.like.dtype) if next(self.needs) else self.like.new_empty(0))


def recurrence_backward(cell, grads, inputs, lengths, reverse, outputs, needs):
    x, *states, weight_ih, weight_hh, _, _ = inputs[: cell.gates + 3]
    B, T, H = x.shape[0], x.shape[1], weight_hh.shape[1]
    wide, count = cell.gates * H, len(states)
    lengths = None if lengths is None else lengths.contiguous()
    given = inputs[cell.gates + 3 :]
    resets = Resets(x, lengths, *given) if given else None
    shown = 1 + count + (resets is not None and count == 2)
    grad_output = None if grads[0] is None else grads[0].contiguous()
    grad_cells = None if shown < 4 or grads[3] is None else valid_part(grads[3], lengths)
    gates, output = outputs[shown], outputs[0 if is_wide(x) else shown + 1]
    cells = None if count == 1 else outputs[3 if shown == 4 and is_wide(x) else shown + 2]
    before = [before_each_step(*pair, lengths, reverse) for pair in zip(states, (output, cells), strict=False)]
    if resets is not None:
        before = resets.replace_all(before)
    grad_states = [begin_as(grad, x, B, H) for grad in grads[1 : 1 + count]]
    grad_resets = [
        x.new_empty(B, T, H) if state is not None and need else None
        for state, need in zip(given[1:], needs[cell.gates + 4 :], strict=True)
    ]
    grad_gates, product, buffer = x.new_empty(B, T, 4 * H), None, x.new_empty(B, H)
    for t in range(T) if reverse else reversed(range(T)):
        if grad_cells is not None:
            grad_states[1] += grad_cells[:, t]
        cell.backward(
            gates[:, t], [s[:, t] for s in before], grad_states, grad_gates[:, t], cells=at(cells, t),
            product=product, grad_output=at(grad_output, t), lengths=lengths, time=t,
        )  # fmt: skip
        product = torch.mm(grad_gates[:, t, 4 * H - wide :], weight_hh, out=buffer)
        if resets is not None:
            grad_states[0] += product
            product = None
            resets.take(t, grad_states, grad_resets)
    if product is not None:
        grad_states[0] += product

    grad_x, grad_h = flat(grad_gates[..., :wide]), flat(grad_gates[..., 4 * H - wide :])
    wanted = Wanted(x, needs)
    wanted.give(lambda: (grad_x @ cell.to_gradients_order(weight_ih)).view(x.shape))
    for grad in grad_states:
        wanted.give(lambda grad=grad: grad)
    wanted.give(lambda: cell.to_weights_order(outer_products(grad_x, flat(valid_part(x, lengths)))))
    wanted.give(lambda: outer_products(grad_h, flat(before[0].to(x.dtype))))
    wanted.give(lambda: cell.to_weights_order(sum_of_rows(grad_x)))
    wanted.give(lambda: sum_of_rows(grad_h))
    for grad in [None, *grad_resets] if given else []:
        wanted.give(lambda grad=grad: grad)
    return wanted.made
