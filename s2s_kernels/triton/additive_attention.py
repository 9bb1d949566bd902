"""Additive attention on Triton: which kernels run, and the op's forward and backward."""

import torch
from triton import cdiv

from . import attention_kernels as kernels
from .language import accumulation, launch
from .tiles import ONE_QUERY, architecture_of, choose

FEW_PROGRAMS = 64  # fewer than these leave most of a GPU idle, so that the source is split as well


def one_at_a_time(rows, T, S):
    """Whether one program takes a query from beginning to end."""
    return T == 1 and (rows >= FEW_PROGRAMS or S <= ONE_QUERY.S)


class Source:
    """What is attended, as the kernels want it: keys (B, S, N, A), values (B, S, D), v (N, A)."""

    def __init__(self, keys, values, v, lengths, mask):
        if v.dim() == 1:
            keys, v = keys.unsqueeze(2), v[None]
        self.keys, self.values = dense_rows(keys), dense_rows(values)
        self.v = v.contiguous()
        self.lengths = None if lengths is None else lengths.contiguous()
        self.mask = None if mask is None else mask.contiguous().view(torch.uint8)
        (self.B, self.S, self.N, self.A), self.D = keys.shape, values.shape[2]
        self.dtype, self.architecture = keys.dtype, architecture_of(keys.device)
        self.torch_accumulation, self.accumulation = accumulation(keys.dtype)
        # Values of 16 bits are exact in tf32; those of 32 are not. A GPU's tl.dot in float64 is not to be had.
        self.precision = "ieee" if keys.dtype == torch.float32 else "tf32"
        self.dot = keys.dtype != torch.float64

    def tiles(self, kernel, T):
        return choose(kernel, self.architecture, T, self.S, self.A, self.D, self.dtype)

    def empty(self, *shape):
        return torch.empty(shape, dtype=self.torch_accumulation, device=self.keys.device)


def dense_rows(x):
    """x with each row of the batch contiguous; the rows may be anywhere, one memory for all as well."""
    return x if x.shape[0] == 0 or x[0].is_contiguous() else x.contiguous()


def strides(x):
    """Those of batch and time; None has none."""
    return (0, 0) if x is None else x.stride()[:2]


def attend(query, source, bias, scores, weights, exact_weights, context, exact_context):
    """weights (B, T, N, S) and context (B, T, N, D) of query (B, T, N, A), and both in the accumulation's dtype.

    bias: (B, 1 or T, S) or None. scores: scratch of (B, T, N, S). An exact output is None where it is not wanted.
    """
    B, T, N, A = query.shape
    S, D = source.S, source.D
    bias_b, bias_t = strides(bias)
    if bias is not None and bias.shape[1] == 1:
        bias_t = 0
    asked = (query, source.keys, source.v, bias, source.lengths, source.mask)
    asked_strides = (*strides(query), source.keys.stride(0), bias_b, bias_t)
    outputs = (weights, exact_weights, context, exact_context)
    output_strides = [stride for x in outputs for stride in strides(x)]
    constants = {"ACC": source.accumulation}
    if one_at_a_time(B * N, T, S):
        tiles = source.tiles("attend", T)
        launch(
            kernels.attend_kernel, (B * N, T),
            query, source.keys, source.values, source.v, bias, source.lengths, source.mask, scores, *outputs,
            *strides(query), source.keys.stride(0), source.values.stride(0), bias_b, bias_t, *output_strides,
            T, S, N, A, D, BS=tiles.S, BA=tiles.A, BD=tiles.D, num_warps=tiles.warps, **constants,
        )  # fmt: skip
        return
    tiles = source.tiles("scores", T)
    launch(
        kernels.scores_kernel, (B * N, cdiv(T, tiles.T), cdiv(S, tiles.S)), *asked, scores, *asked_strides,
        T, S, N, A, BT=tiles.T, BS=tiles.S, BA=tiles.A, num_warps=tiles.warps, **constants,
    )  # fmt: skip
    tiles, dot = source.tiles("softmax_context", T), T > 1 and source.dot
    launch(
        kernels.softmax_context_kernel, (B * N, cdiv(T, tiles.T), max(1, cdiv(D, tiles.D))),
        scores, source.values, source.lengths, source.mask, *outputs, source.values.stride(0), *output_strides,
        T, S, N, D, BT=tiles.T, BS=tiles.S, BD=tiles.D, DOT=dot, PRECISION=source.precision,
        num_warps=tiles.warps, **constants,
    )  # fmt: skip


def attend_backward(query, source, weights, grad_context, grad_weights, products, grad_scores, grad_query):
    """Gradients of the scores and of query, as `attend` has them; grad_context or grad_weights may be None.

    products: scratch of (B, T, N, S).
    """
    B, T, N, A = query.shape
    S, D = source.S, source.D
    tiles, dot = source.tiles("grad_weights", T), T > 1 and source.dot
    launch(
        kernels.grad_weights_kernel, (B * N, cdiv(T, tiles.T), cdiv(S, tiles.S)),
        grad_context, grad_weights, source.values, source.lengths, source.mask, products,
        *strides(grad_context), *strides(grad_weights), source.values.stride(0), T, S, N, D,
        ACC=source.accumulation, BT=tiles.T, BS=tiles.S, BD=tiles.D, DOT=dot, PRECISION=source.precision,
        num_warps=tiles.warps,
    )  # fmt: skip
    tiles = source.tiles("query_backward", T)
    launch(  # the scores have a gradient by the bias even where A is 0
        kernels.query_backward_kernel, (B * N, cdiv(T, tiles.T), max(1, cdiv(A, tiles.A))),
        query, source.keys, source.v, weights, products, source.lengths, source.mask, grad_scores, grad_query,
        *strides(query), source.keys.stride(0), *strides(weights), *strides(grad_scores), *strides(grad_query),
        T, S, N, A, ACC=source.accumulation, BT=tiles.T, BS=tiles.S, BA=tiles.A, num_warps=tiles.warps,
    )  # fmt: skip


def source_gradients(query, source, grad_scores):
    """Gradients of keys (B, S, N, A) and v (N, A) from all T queries and the gradients of their scores."""
    B, T, N, A = query.shape
    tiles = source.tiles("keys_backward", T)
    grad_keys = torch.empty(B, source.S, N, A, dtype=source.dtype, device=query.device)
    grad_v = source.empty(B, N, cdiv(source.S, tiles.S), A)
    launch(
        kernels.keys_backward_kernel, (B * N, cdiv(source.S, tiles.S), cdiv(A, tiles.A)),
        query, source.keys, source.v, grad_scores, source.lengths, source.mask, grad_keys, grad_v,
        *strides(query), source.keys.stride(0), T, source.S, N, A,
        ACC=source.accumulation, BS=tiles.S, BA=tiles.A, num_warps=tiles.warps,
    )  # fmt: skip
    return grad_keys, grad_v.sum((0, 2)).to(source.dtype)


def with_time_and_heads(x, heads, one):
    """(B, [T,] [N,] X) as (B, T, N, X), each row of the batch dense."""
    if x is None:
        return None
    x = x if heads else x.unsqueeze(-2)
    return (x.unsqueeze(1) if one else x).contiguous()


def forms(query, v):
    heads = v.dim() == 2
    return heads, query.dim() == 2 + heads


def bias_with_time(bias):
    return None if bias is None else (bias.unsqueeze(1) if bias.dim() == 2 else bias).contiguous()


def additive_attention(query, keys, values, v, *, lengths=None, mask=None, bias=None):
    source = Source(keys, values, v, lengths, mask)
    rows = with_time_and_heads(query, *forms(query, v))
    B, T, N, _ = rows.shape
    context, weights = query.new_empty(B, T, N, source.D), query.new_empty(B, T, N, source.S)
    scores = source.empty(B, T, N, source.S)
    attend(rows, source, bias_with_time(bias), scores, weights, None, context, None)
    lead = query.shape[:-1]
    return context.view(*lead, source.D), weights.view(*lead, source.S)


def additive_attention_backward(
    grad_context, grad_weights, query, keys, values, v, weights, lengths, mask, bias, needs
):  # fmt: skip
    source = Source(keys, values, v, lengths, mask)
    form = forms(query, v)
    rows, w = with_time_and_heads(query, *form), with_time_and_heads(weights, *form)
    grad_context, grad_weights = (with_time_and_heads(x, *form) for x in (grad_context, grad_weights))
    B, T, N, _ = rows.shape
    grad_query = grad_keys = grad_values = grad_v = grad_bias = None
    if needs[0] or needs[1] or needs[3] or needs[4]:
        products, grad_scores = source.empty(B, T, N, source.S), source.empty(B, T, N, source.S)
        grad_query = torch.empty_like(rows)
        attend_backward(rows, source, w, grad_context, grad_weights, products, grad_scores, grad_query)
        grad_query = grad_query.view(query.shape)
        if needs[1] or needs[3]:
            grad_keys, grad_v = source_gradients(rows, source, grad_scores)
            grad_keys, grad_v = grad_keys.view(keys.shape), grad_v.view(v.shape)
        if needs[4]:
            grad_bias = grad_scores.sum(2 if bias.dim() == 3 else (1, 2)).to(query.dtype)
    if needs[2]:
        grad_values = values_gradient(w, grad_context, values)
    made = (grad_query, grad_keys, grad_values, grad_v, grad_bias)
    return tuple(x if need else query.new_empty(0) for x, need in zip(made, needs, strict=True))


def values_gradient(weights, grad_context, values):
    """weights^T grad_context, over all queries and heads."""
    if grad_context is None:
        return torch.zeros_like(values, memory_format=torch.contiguous_format)
    return torch.bmm(weights.flatten(1, 2).transpose(1, 2), grad_context.flatten(1, 2).to(values.dtype))
