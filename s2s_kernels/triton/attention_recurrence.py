"""The attention decoder: attention to h_t, the feed f_t, and the cell to h_{t+1}, one after another on the host.

A step is one product of h with [weight_hh ; w_query ; w_feed's part], attention, one product of what is fed into x's
part of the gates, which was made for all steps before the loop, and the cell. (With w_feed, a product of the context
and a tanh come between.) Buffers of the loop are laid out by time, (T, B, ...), so that each step's part is whole.
Backward leaves to the passes after the loop all that no step waits for: keys, values, v and every weight.
"""

import torch
import triton
import triton.language as tl
from torch.nn.functional import linear
from triton import cdiv

from .additive_attention import Source, attend, attend_backward, source_gradients, values_gradient
from .cell import row_of, row_strides, start
from .language import accumulation, store, tanh
from .recurrence import (
    Saved,
    Wanted,
    at,
    before_each_step,
    begin_as,
    copied,
    is_wide,
    linear_out,
    outer_products,
    sum_of_rows,
)


@triton.jit
def feed_kernel(x, feed, exact, x_b, feed_b, exact_b, F, ACC: tl.constexpr, BH: tl.constexpr):
    b, j, inside = row_of(F, BH)
    y = tanh(tl.load(x + b * x_b + j, mask=inside, other=0).to(ACC))
    store(feed + b * feed_b + j, y, inside)
    if exact is not None:
        store(exact + b * exact_b + j, y, inside)


@triton.jit
def feed_backward_kernel(grad, feed, grad_x, grad_b, feed_b, grad_x_b, F, ACC: tl.constexpr, BH: tl.constexpr):
    b, j, inside = row_of(F, BH)
    y = tl.load(feed + b * feed_b + j, mask=inside, other=0).to(ACC)
    g = tl.load(grad + b * grad_b + j, mask=inside, other=0).to(ACC)
    store(grad_x + b * grad_x_b + j, g * (1.0 - y * y), inside)


def by_time(x):
    """(B, T, ...) as (T, B, ...)."""
    return x.transpose(0, 1).contiguous()


def by_head(x, heads):
    """(..., N * X) as (..., N, X); there may be no heads."""
    return x.unflatten(-1, (heads, x.shape[-1] // max(1, heads)))


class Inputs:
    def __init__(self, cell, inputs, lengths, mask):
        self.x, *self.states = inputs[: cell.gates - 1]
        keys, values, v, w_query, b_query, weight_ih, weight_hh, self.bias_ih, bias_hh, w_feed, b_feed, first_feed = (
            inputs[cell.gates - 1 :]
        )
        self.source = Source(keys, values, v, lengths, mask)
        self.v_shape, self.has_feed, self.first_feed = v.shape, w_feed is not None, first_feed
        (self.B, self.T, I), self.H = self.x.shape, weight_hh.shape[1]
        self.N, self.A, self.D, self.S = self.source.N, self.source.A, self.source.D, self.source.S
        self.weight_x, self.weight_fed = weight_ih[:, :I], weight_ih[:, I:]
        self.feed_context = w_feed[:, self.H :] if self.has_feed else None
        of_h = [(weight_hh, bias_hh), (w_query, b_query)]
        if self.has_feed:
            of_h.append((w_feed[:, : self.H], b_feed))
        self.weight_h = torch.cat([weight for weight, _ in of_h])
        self.bias_h = None
        if any(bias is not None for _, bias in of_h):
            self.bias_h = torch.cat([w.new_zeros(w.shape[0]) if bias is None else bias for w, bias in of_h])
        self.gates = cell.gates * self.H
        self.queries = self.gates + self.N * self.A  # where the queries end among the columns of a product with h

    def heads(self, x):
        """(B, N * X) as (B, 1, N, X)."""
        return by_head(x, self.N).unsqueeze(1)

    def fed_first(self, t):
        """Whether the feed of step t is the caller's."""
        return t == 0 and self.first_feed is not None


def attention_recurrence_forward(cell, inputs, lengths, mask, save):
    i = Inputs(cell, inputs, lengths, mask)
    x, B, T, H, N = i.x, i.B, i.T, i.H, i.N
    states, contexts = x.new_empty(B, T, H), x.new_empty(B, T + 1, N * i.D)
    weights = x.new_empty(B, T + 1, *i.v_shape[:-1], i.S)
    feeds = x.new_empty(B, T + 1, i.feed_context.shape[0]) if i.has_feed else x.new_empty(0)
    kept, narrow = Saved(x, save), not is_wide(x)
    gates = kept.make(B, T, 4 * H)
    cells = kept.make(B, T, H) if cell.gates == 4 else None
    queries = kept.make(B, T + 1, N * i.A)
    exact_states, exact_contexts, exact_weights, exact_feeds = (
        kept.make(*y.shape, wanted=narrow) for y in (states, contexts, weights, feeds)
    )

    gates_x = linear(by_time(x), i.weight_x, i.bias_ih)
    # Gates of h, queries, feeds: each step's aligned as all memory is, or cuBLAS might sum them in another order than
    # where nothing is saved.
    size = B * i.weight_h.shape[0]
    of_h = x.new_empty(T + 1 if save else 1, cdiv(size, 256) * 256)[:, :size].unflatten(1, (B, i.weight_h.shape[0]))
    scores = i.source.empty(B, 1, N, i.S)
    current = [copied(state, accumulation(x.dtype)[0]) for state in i.states]
    operand = copied(i.states[0], x.dtype) if narrow else None
    for t in range(T + 1):
        made = of_h[t if save else 0]
        linear_out(operand if narrow else current[0], i.weight_h, i.bias_h, made)
        attend(
            i.heads(made[:, i.gates : i.queries]), i.source, None, scores, weights[:, t].view(B, 1, N, i.S),
            None if exact_weights is None else exact_weights[:, t].view(B, 1, N, i.S),
            i.heads(contexts[:, t]), None if exact_contexts is None else i.heads(exact_contexts[:, t]),
        )  # fmt: skip
        fed = contexts[:, t]
        if i.has_feed:
            before_tanh = made[:, i.queries :].addmm_(fed, i.feed_context.t())
            fed, exact = feeds[:, t], at(exact_feeds, t)
            if i.fed_first(t):
                fed.copy_(i.first_feed)
                if exact is not None:
                    exact.copy_(i.first_feed)
            else:
                start(
                    feed_kernel, fed, fed.shape[1], before_tanh, fed, exact, *row_strides(before_tanh, fed, exact)
                )  # fmt: skip
        if t == T:
            break
        gates_x[t].addmm_(i.first_feed if i.fed_first(t) else fed, i.weight_fed.t())
        cell.forward(
            gates_x[t], made[:, : i.gates], current, current, states[:, t], operand=operand,
            exact=at(exact_states, t), saved=at(gates, t), cells=at(cells, t),
        )  # fmt: skip
    if save:
        queries.copy_(of_h[:, :, i.gates : i.queries].transpose(0, 1))
    return [states, contexts, weights, feeds, *(state.to(x.dtype) for state in current), *kept.returned]


def attention_recurrence_backward(cell, grads, inputs, lengths, mask, outputs, needs):
    i = Inputs(cell, inputs, lengths, mask)
    x, B, T, H, N = i.x, i.B, i.T, i.H, i.N
    count = len(i.states)
    gates, cells, queries = outputs[4 + count], outputs[5 + count] if count == 2 else None, outputs[4 + 2 * count]
    # As they were before their rounding to 16 bits; products take the public ones.
    states, _, weights, feeds = outputs[:4] if is_wide(x) else outputs[-4:]
    grad_output, grad_contexts, grad_weights, grad_feeds, *grad_states = grads
    grad_output = None if grad_output is None else grad_output.contiguous()
    grad_weights = None if grad_weights is None else grad_weights.contiguous().view(B, T + 1, N, i.S)
    before = [before_each_step(*pair) for pair in zip(i.states, (states, cells), strict=False)]
    queries, weights = queries.view(B, T + 1, N, i.A), weights.view(B, T + 1, N, i.S)

    grad_states = [begin_as(grad, x, B, H) for grad in grad_states]
    grad_contexts = begin_as(grad_contexts, x, B, T + 1, N * i.D).to(x.dtype)
    grad_feeds = begin_as(grad_feeds, x, B, T + 1, i.feed_context.shape[0]).to(x.dtype) if i.has_feed else None
    grad_first = x.new_zeros(i.first_feed.shape) if i.first_feed is not None else None
    # Of each step: gradients of x's gates in the first columns, and from `of_h` on those of all that is made from h.
    wide, of_h = i.gates, 4 * H - i.gates
    asked, fed = 4 * H, 4 * H + N * i.A
    made = x.new_zeros(T + 1, B, of_h + i.weight_h.shape[0])
    grad_scores, products = i.source.empty(B, T + 1, N, i.S), i.source.empty(B, 1, N, i.S)
    weight_fed = cell.to_gradients_order(i.weight_fed)
    product, buffer = None, x.new_empty(B, H)
    for t in reversed(range(T + 1)):
        grad = made[t]
        if t < T:
            cell.backward(
                gates[:, t], [s[:, t] for s in before], grad_states, grad[:, : 4 * H], cells=at(cells, t),
                product=product, grad_output=at(grad_output, t),
            )  # fmt: skip
            to = grad_first if i.fed_first(t) else grad_feeds[:, t] if i.has_feed else grad_contexts[:, t]
            to.addmm_(grad[:, :wide], weight_fed)
        if i.has_feed and not i.fed_first(t):
            y, g, out = feeds[:, t], grad_feeds[:, t], grad[:, fed:]
            start(feed_backward_kernel, out, out.shape[1], g, y, out, *row_strides(g, y, out))
            grad_contexts[:, t].addmm_(out, i.feed_context)
        attend_backward(
            queries[:, t : t + 1], i.source, weights[:, t : t + 1], i.heads(grad_contexts[:, t]),
            None if grad_weights is None else grad_weights[:, t : t + 1], products, grad_scores[:, t : t + 1],
            i.heads(grad[:, asked:fed]),
        )  # fmt: skip
        product = torch.mm(grad[:, of_h:], i.weight_h, out=buffer)
    grad_states[0] += product
    if i.has_feed and i.first_feed is not None:
        grad_first += grad_feeds[:, 0]

    wanted = Wanted(x, needs)
    grad_gates, grad_of_h = made[:T, :, :wide].flatten(0, 1), made[:, :, of_h:].flatten(0, 1)
    wanted.give(lambda: (grad_gates @ cell.to_gradients_order(i.weight_x)).view(T, B, x.shape[2]).transpose(0, 1))
    for grad in grad_states:
        wanted.give(lambda grad=grad: grad)
    grad_keys, grad_v = source_gradients(queries, i.source, grad_scores)
    wanted.give(lambda: grad_keys.view(B, i.S, *i.v_shape))
    wanted.give(
        lambda: values_gradient(weights.to(x.dtype), grad_contexts.view(B, T + 1, N, i.D), i.source.values)
    )  # fmt: skip
    wanted.give(lambda: grad_v.view(i.v_shape))
    all_states = torch.cat([i.states[0][None], by_time(outputs[0])]).flatten(0, 1)
    grad_weight_h, grad_bias_h = outer_products(grad_of_h, all_states), sum_of_rows(grad_of_h)
    wanted.give(lambda: grad_weight_h[wide : i.queries])
    wanted.give(lambda: grad_bias_h[wide : i.queries])

    def weight_ih_gradient():
        used = (outputs[3] if i.has_feed else outputs[1])[:, :T]
        if i.first_feed is not None:
            used = torch.cat([i.first_feed[:, None], used[:, 1:]], 1)[:, :T]
        read = torch.cat([x, used], 2)
        return cell.to_weights_order(outer_products(grad_gates, by_time(read).flatten(0, 1)))

    def w_feed_gradient():
        of_context = outer_products(grad_of_h[:, i.queries :], by_time(outputs[1]).flatten(0, 1))
        return torch.cat([grad_weight_h[i.queries :], of_context], 1)

    wanted.give(weight_ih_gradient)
    wanted.give(lambda: grad_weight_h[:wide])
    wanted.give(lambda: cell.to_weights_order(sum_of_rows(grad_gates)))
    wanted.give(lambda: grad_bias_h[:wide])
    wanted.give(w_feed_gradient)
    wanted.give(lambda: grad_bias_h[i.queries :])
    wanted.give(lambda: grad_first)
    return wanted.made
