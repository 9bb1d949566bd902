"""The kernels of additive attention. Rows of a grid's first axis are pairs (b, n) of batch and head.

Everything is laid out as (B, T, N, ...): queries and their results have strides for B and T, keys and values one for B,
and what lies within is contiguous. Two ways forward and backward: `attend` and `attend_backward` take one query from
beginning to end; where such programs are too few to fill a GPU, or queries are many, `scores` with `softmax_context`
(`grad_weights` with `query_backward`) split the source (the query's elements) as well. Sums have one order in both:
no atomics.
"""

import triton
import triton.language as tl

from .language import dot, nearest_tf32, source_length, store, tanh_of_score, valid_positions


@triton.jit
def score_tile(query, keys, v, t, s, t_valid, s_valid, query_t, N, A, ACC, BT, BS, BA):
    """v . tanh(query + key) of BT queries and BS positions."""
    parts = tl.zeros([BT, BS, BA], ACC)
    for first in range(0, A, BA):
        a = first + tl.arange(0, BA)
        inside = (a < A)[None, :]
        q = tl.load(query + t[:, None] * query_t + a[None, :], mask=t_valid[:, None] & inside, other=0).to(ACC)
        k = tl.load(keys + s[:, None] * N * A + a[None, :], mask=s_valid[:, None] & inside, other=0).to(ACC)
        w = tl.load(v + a, mask=a < A, other=0).to(ACC)
        parts += tanh_of_score(q[:, None, :] + k[None, :, :], keys) * w[None, None, :]
    return tl.sum(parts, 2)


@triton.jit
def add_bias(score, bias, t, s, inside, bias_t):
    if bias is not None:
        score += tl.load(bias + t[:, None] * bias_t + s[None, :], mask=inside, other=0).to(score.dtype)
    return score


@triton.jit
def add_to_softmax(highest, total, x):
    """The online softmax: the highest score so far and the sum of exp(score - highest), with those of x (BT, BS)."""
    new = tl.maximum(highest, tl.max(x, 1))
    shift = tl.where(new == -float("inf"), 0.0, new)
    return new, total * tl.exp(highest - shift) + tl.sum(tl.exp(x - shift[:, None]), 1)


@triton.jit
def softmax(x, highest, total):
    """Zero for every score of a row with no valid position."""
    shift = tl.where(highest == -float("inf"), 0.0, highest)
    return tl.exp(x - shift[:, None]) / tl.where(total == 0, 1.0, total)[:, None]


@triton.jit
def write_weights(scores, weights, exact, t, t_valid, length, highest, total, weights_t, exact_t, S, N, BS):
    """softmax(scores) to all S positions, in the public dtype and, where there is an `exact`, as it is."""
    for first in range(0, S, BS):
        s = first + tl.arange(0, BS)
        x = tl.load(scores + t[:, None] * N * S + s[None, :], mask=t_valid & (s < length)[None, :], other=-float("inf"))
        w = softmax(x, highest, total)
        inside = t_valid & (s < S)[None, :]
        store(weights + t[:, None] * weights_t + s[None, :], w, inside)
        if exact is not None:
            store(exact + t[:, None] * exact_t + s[None, :], w, inside)


@triton.jit
def write_context(
    scores, values, mask, context, exact, b, t, t_valid, d, length, highest, total, context_t, exact_t,
    S, N, D, ACC, BT, BS, BD, DOT, PRECISION,
):  # fmt: skip
    """weights @ values for BD columns d."""
    if DOT:
        sums = tl.zeros([BT, BD], ACC)
    else:
        parts = tl.zeros([BT, BS, BD], ACC)
    for first in range(0, length, BS):
        s = first + tl.arange(0, BS)
        valid = valid_positions(mask, b, s, length, S)
        x = tl.load(scores + t[:, None] * N * S + s[None, :], mask=t_valid & (s < length)[None, :], other=-float("inf"))
        w = softmax(x, highest, total)
        value = tl.load(values + s[:, None] * D + d[None, :], mask=valid[:, None] & (d < D)[None, :], other=0).to(ACC)
        if DOT:
            sums = dot(nearest_tf32(w) if PRECISION == "tf32" else w, value, sums, PRECISION)
        else:
            parts += w[:, :, None] * value[None, :, :]
    if not DOT:
        sums = tl.sum(parts, 1)
    inside = t_valid & (d < D)[None, :]
    store(context + t[:, None] * context_t + d[None, :], sums, inside)
    if exact is not None:
        store(exact + t[:, None] * exact_t + d[None, :], sums, inside)


# What changes from batch to batch is left general: each of these that is 1, or divides by 16 or not, would otherwise
# compile a kernel of its own.
GENERAL = ("T", "S", "bias_b", "bias_t", "weights_b", "weights_t", "exact_weights_b", "exact_weights_t")
GENERAL += ("grad_scores_b", "grad_scores_t")


def kernel(function):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return triton.jit(function, do_not_specialize=[name for name in names if name in GENERAL])


@kernel
def scores_kernel(
    query, keys, v, bias, lengths, mask, scores,
    query_b, query_t, keys_b, bias_b, bias_t, T, S, N, A,
    ACC: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BA: tl.constexpr,
):  # fmt: skip
    b, n = tl.program_id(0).to(tl.int64) // N, tl.program_id(0).to(tl.int64) % N
    t = tl.program_id(1).to(tl.int64) * BT + tl.arange(0, BT)
    s = tl.program_id(2).to(tl.int64) * BS + tl.arange(0, BS)
    length = source_length(lengths, b, S)
    score = tl.full([BT, BS], -float("inf"), ACC)
    if tl.program_id(2) * BS < length:
        valid = valid_positions(mask, b, s, length, S)
        score = score_tile(
            query + b * query_b + n * A, keys + b * keys_b + n * A, v + n * A, t, s, t < T, valid,
            query_t, N, A, ACC, BT, BS, BA,
        )  # fmt: skip
        if bias is not None:
            score = add_bias(score, bias + b * bias_b, t, s, (t < T)[:, None] & valid[None, :], bias_t)
        score = tl.where(valid[None, :], score, -float("inf"))
    row = scores + (b * T * N + n) * S
    tl.store(row + t[:, None] * N * S + s[None, :], score, mask=(t < T)[:, None] & (s < S)[None, :])


@kernel
def softmax_context_kernel(
    scores, values, lengths, mask, weights, exact_weights, context, exact_context,
    values_b, weights_b, weights_t, exact_weights_b, exact_weights_t, context_b, context_t, exact_context_b,
    exact_context_t, T, S, N, D,
    ACC: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    b, n = tl.program_id(0).to(tl.int64) // N, tl.program_id(0).to(tl.int64) % N
    t = tl.program_id(1).to(tl.int64) * BT + tl.arange(0, BT)
    t_valid = (t < T)[:, None]
    length = source_length(lengths, b, S)
    scores += (b * T * N + n) * S
    highest, total = tl.full([BT], -float("inf"), ACC), tl.zeros([BT], ACC)
    for first in range(0, length, BS):
        s = first + tl.arange(0, BS)
        x = tl.load(scores + t[:, None] * N * S + s[None, :], mask=t_valid & (s < length)[None, :], other=-float("inf"))
        highest, total = add_to_softmax(highest, total, x)
    if tl.program_id(2) == 0:
        if exact_weights is not None:
            exact_weights += b * exact_weights_b + n * S
        write_weights(
            scores, weights + b * weights_b + n * S, exact_weights, t, t_valid, length, highest, total,
            weights_t, exact_weights_t, S, N, BS,
        )  # fmt: skip
    if exact_context is not None:
        exact_context += b * exact_context_b + n * D
    d = tl.program_id(2) * BD + tl.arange(0, BD)
    write_context(
        scores, values + b * values_b, mask, context + b * context_b + n * D, exact_context, b, t, t_valid, d, length,
        highest, total, context_t, exact_context_t, S, N, D, ACC, BT, BS, BD, DOT, PRECISION,
    )  # fmt: skip


@kernel
def attend_kernel(
    query, keys, values, v, bias, lengths, mask, scores, weights, exact_weights, context, exact_context,
    query_b, query_t, keys_b, values_b, bias_b, bias_t, weights_b, weights_t, exact_weights_b, exact_weights_t,
    context_b, context_t, exact_context_b, exact_context_t, T, S, N, A, D,
    ACC: tl.constexpr, BS: tl.constexpr, BA: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """One query from its scores to its context."""
    b, n = tl.program_id(0).to(tl.int64) // N, tl.program_id(0).to(tl.int64) % N
    t = tl.program_id(1).to(tl.int64) + tl.arange(0, 1)
    t_valid = (t < T)[:, None]
    length = source_length(lengths, b, S)
    scores += (b * T * N + n) * S
    highest, total = tl.full([1], -float("inf"), ACC), tl.zeros([1], ACC)
    for first in range(0, length, BS):
        s = first + tl.arange(0, BS)
        valid = valid_positions(mask, b, s, length, S)
        score = score_tile(
            query + b * query_b + n * A, keys + b * keys_b + n * A, v + n * A, t, s, t < T, valid,
            query_t, N, A, ACC, 1, BS, BA,
        )  # fmt: skip
        if bias is not None:
            score = add_bias(score, bias + b * bias_b, t, s, t_valid & valid[None, :], bias_t)
        score = tl.where(valid[None, :], score, -float("inf"))
        tl.store(scores + t[:, None] * N * S + s[None, :], score, mask=t_valid & (s < length)[None, :])
        highest, total = add_to_softmax(highest, total, score)
    tl.debug_barrier()  # from here on other threads read those scores
    if exact_weights is not None:
        exact_weights += b * exact_weights_b + n * S
    write_weights(
        scores, weights + b * weights_b + n * S, exact_weights, t, t_valid, length, highest, total,
        weights_t, exact_weights_t, S, N, BS,
    )  # fmt: skip
    if exact_context is not None:
        exact_context += b * exact_context_b + n * D
    for first in range(0, D, BD):
        write_context(
            scores, values + b * values_b, mask, context + b * context_b + n * D, exact_context, b, t, t_valid,
            first + tl.arange(0, BD), length, highest, total, context_t, exact_context_t, S, N, D,
            ACC, 1, BS, BD, False, "ieee",
        )  # fmt: skip


@triton.jit
def grad_weights_tile(grad_context, values, t, s, t_valid, s_valid, context_t, D, ACC, BT, BS, BD, DOT, PRECISION):
    """grad_context . value of BT queries and BS positions."""
    if DOT:
        sums = tl.zeros([BT, BS], ACC)
    else:
        parts = tl.zeros([BT, BS, BD], ACC)
    for first in range(0, D, BD):
        d = first + tl.arange(0, BD)
        inside = (d < D)[None, :]
        c = tl.load(grad_context + t[:, None] * context_t + d[None, :], mask=t_valid & inside, other=0).to(ACC)
        value = tl.load(values + s[:, None] * D + d[None, :], mask=s_valid[:, None] & inside, other=0).to(ACC)
        if DOT:
            sums = dot(c, tl.trans(value), sums, PRECISION)
        else:
            parts += c[:, None, :] * value[None, :, :]
    if not DOT:
        sums = tl.sum(parts, 2)
    return sums


@kernel
def grad_weights_kernel(
    grad_context, grad_weights, values, lengths, mask, products, context_b, context_t, weights_b, weights_t, values_b,
    T, S, N, D,
    ACC: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr, DOT: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """products = grad_context . values + grad_weights."""
    b, n = tl.program_id(0).to(tl.int64) // N, tl.program_id(0).to(tl.int64) % N
    t = tl.program_id(1).to(tl.int64) * BT + tl.arange(0, BT)
    s = tl.program_id(2).to(tl.int64) * BS + tl.arange(0, BS)
    t_valid = (t < T)[:, None]
    length = source_length(lengths, b, S)
    grad = tl.zeros([BT, BS], ACC)
    if tl.program_id(2) * BS < length:
        valid = valid_positions(mask, b, s, length, S)
        if grad_context is not None:
            grad = grad_weights_tile(
                grad_context + b * context_b + n * D, values + b * values_b, t, s, t_valid, valid, context_t, D,
                ACC, BT, BS, BD, DOT, PRECISION,
            )  # fmt: skip
        if grad_weights is not None:
            given = grad_weights + b * weights_b + n * S
            grad += tl.load(
                given + t[:, None] * weights_t + s[None, :], mask=t_valid & valid[None, :], other=0
            ).to(ACC)  # fmt: skip
    row = products + (b * T * N + n) * S
    tl.store(row + t[:, None] * N * S + s[None, :], grad, mask=t_valid & (s < S)[None, :])


@triton.jit
def softmax_backward_tile(weights, products, mean, t, s, inside, weights_t, N, S, ACC):
    """Gradient of the scores: w (g - mean of g)."""
    w = tl.load(weights + t[:, None] * weights_t + s[None, :], mask=inside, other=0).to(ACC)
    g = tl.load(products + t[:, None] * N * S + s[None, :], mask=inside, other=0)
    return w * (g.to(tl.float64) - mean[:, None]).to(ACC)


@triton.jit
def query_gradient_tile(query, keys, v, grad, t, s, a, t_valid, s_valid, query_t, N, A, ACC):
    """grad v (1 - tanh^2), (BT, BS, BA)."""
    inside = (a < A)[None, :]
    q = tl.load(query + t[:, None] * query_t + a[None, :], mask=t_valid & inside, other=0).to(ACC)
    k = tl.load(keys + s[:, None] * N * A + a[None, :], mask=s_valid[:, None] & inside, other=0).to(ACC)
    w = tl.load(v + a, mask=a < A, other=0).to(ACC)
    y = tanh_of_score(q[:, None, :] + k[None, :, :], keys)
    return grad[:, :, None] * w[None, None, :] * (1.0 - y * y)


@kernel
def query_backward_kernel(
    query, keys, v, weights, products, lengths, mask, grad_scores, grad_query,
    query_b, query_t, keys_b, weights_b, weights_t, grad_scores_b, grad_scores_t, grad_query_b, grad_query_t,
    T, S, N, A,
    ACC: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BA: tl.constexpr,
):  # fmt: skip
    """From `products` to the gradients of the scores and of BA elements of the query."""
    b, n = tl.program_id(0).to(tl.int64) // N, tl.program_id(0).to(tl.int64) % N
    t = tl.program_id(1).to(tl.int64) * BT + tl.arange(0, BT)
    a = tl.program_id(2) * BA + tl.arange(0, BA)
    t_valid = (t < T)[:, None]
    length = source_length(lengths, b, S)
    weights += b * weights_b + n * S
    products += (b * T * N + n) * S
    # In float64: a mean that is rounded, or of weights that do not quite sum to 1, is the same error at every position,
    # and adds up in the gradient of the query, where all else cancels.
    sums, masses = tl.zeros([BT, BS], tl.float64), tl.zeros([BT, BS], tl.float64)
    for first in range(0, length, BS):
        s = first + tl.arange(0, BS)
        inside = t_valid & (s < length)[None, :]
        w = tl.load(weights + t[:, None] * weights_t + s[None, :], mask=inside, other=0).to(tl.float64)
        sums += w * tl.load(products + t[:, None] * N * S + s[None, :], mask=inside, other=0).to(tl.float64)
        masses += w
    mass = tl.sum(masses, 1)
    mean = tl.sum(sums, 1) / tl.where(mass == 0, 1.0, mass)
    if tl.program_id(2) == 0:
        row = grad_scores + b * grad_scores_b + n * S
        for first in range(0, S, BS):
            s = first + tl.arange(0, BS)
            inside = t_valid & (s < S)[None, :]
            grad = softmax_backward_tile(weights, products, mean, t, s, inside, weights_t, N, S, ACC)
            tl.store(row + t[:, None] * grad_scores_t + s[None, :], grad, mask=inside)
    # Positions are summed some at a time: in one long sum the gradients of later ones, all small, would lose digits.
    total = tl.zeros([BT, BA], ACC)
    for together in range(0, length, 64 * BS):
        parts = tl.zeros([BT, BS, BA], ACC)
        for first in range(together, tl.minimum(together + 64 * BS, length), BS):
            s = first + tl.arange(0, BS)
            valid = valid_positions(mask, b, s, length, S)
            inside = t_valid & valid[None, :]
            grad = softmax_backward_tile(weights, products, mean, t, s, inside, weights_t, N, S, ACC)
            parts += query_gradient_tile(
                query + b * query_b + n * A, keys + b * keys_b + n * A, v + n * A, grad, t, s, a, t_valid, valid,
                query_t, N, A, ACC,
            )  # fmt: skip
        total += tl.sum(parts, 1)
    row = grad_query + b * grad_query_b + n * A
    store(row + t[:, None] * grad_query_t + a[None, :], total, t_valid & (a < A)[None, :])


@kernel
def keys_backward_kernel(
    query, keys, v, grad_scores, lengths, mask, grad_keys, grad_v,
    query_b, query_t, keys_b, T, S, N, A,
    ACC: tl.constexpr, BS: tl.constexpr, BA: tl.constexpr,
):  # fmt: skip
    """Gradients of keys and, a part from each tile of the source, of v: over all T with the keys in registers."""
    b, n = tl.program_id(0).to(tl.int64) // N, tl.program_id(0).to(tl.int64) % N
    s = tl.program_id(1).to(tl.int64) * BS + tl.arange(0, BS)
    a = tl.program_id(2) * BA + tl.arange(0, BA)
    length = source_length(lengths, b, S)
    valid = valid_positions(mask, b, s, length, S)
    k = tl.load(
        keys + b * keys_b + n * A + s[:, None] * N * A + a[None, :], mask=valid[:, None] & (a < A)[None, :], other=0
    ).to(ACC)  # fmt: skip
    w = tl.load(v + n * A + a, mask=a < A, other=0).to(ACC)
    grad_k, grad_w = tl.zeros([BS, BA], ACC), tl.zeros([BS, BA], ACC)
    queries = T
    if tl.program_id(1) * BS >= length:
        queries = 0
    for t in range(queries):
        q = tl.load(query + b * query_b + t * query_t + n * A + a, mask=a < A, other=0).to(ACC)
        g = tl.load(grad_scores + ((b * T + t) * N + n) * S + s, mask=valid, other=0)
        y = tanh_of_score(q[None, :] + k, keys)
        grad_k += g[:, None] * (1.0 - y * y)
        grad_w += g[:, None] * y
    out = grad_keys + (b * S * N + n) * A
    store(out + s[:, None] * N * A + a[None, :], grad_k * w[None, :], (s < S)[:, None] & (a < A)[None, :])
    part = grad_v + ((b * N + n) * tl.num_programs(1) + tl.program_id(1)) * A
    tl.store(part + a, tl.sum(grad_w, 0), mask=a < A)
