"""Additive (Bahdanau) attention: score, mask, softmax and context in one op, for one query or for T of them."""

from torch import Tensor

from .. import reference
from ..checks import check_lengths, check_mask, dims, expect, floating, of_ops
from . import registration, second_derivative


def additive_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    v: Tensor,
    *,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of Bahdanau et al. (2015), eq. 6 and the alignment model of its appendix.

    ``score = v . tanh(query + keys) + bias``, ``weights = softmax(score)`` over the valid source positions,
    ``context = weights @ values``.

    Args:
        query: (B, A), or (B, T, A) for T queries: ``W_q s``, already projected.
        keys: (B, S, A): ``W_k h``, already projected.
        values: (B, S, D).
        v: (A,).
        lengths: (B,) integers, the number of valid source positions of each row.
        mask: (B, S) bool, True where a position may be attended; with ``lengths``, both must hold.
        bias: (B, S) or (B, T, S), added to the score.

    With N heads: ``v`` (N, A), ``query`` (B, [T,] N, A), ``keys`` (B, S, N, A), ``values`` (B, S, D).

    Returns:
        ``context (B, [T,] [N,] D)`` and ``weights (B, [T,] [N,] S)``. A row with no valid position gets zeros, and
        what stands at masked positions, NaN included, reaches no output and no gradient.

    float32, float64, bfloat16 or float16, all arguments the same; accumulated in float32 or wider. For backward
    the inputs and ``weights`` are saved, never a tensor of (B, T, S, A): tanh is computed again.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    given = {name: x for name, x in (("lengths", lengths), ("mask", mask), ("bias", bias)) if x is not None}
    return registration.check_and_run(
        "additive_attention", reference.additive_attention, check, query, keys, values, v, **given
    )


def check(query, keys, values, v, lengths=None, mask=None, bias=None):
    heads = len(dims("v", v, "A", "N, A")) == 2
    if heads:
        query_dims, keys_form = dims("query", query, "B, N, A", "B, T, N, A"), "B, S, N, A"
    else:
        query_dims, keys_form = dims("query", query, "B, A", "B, T, A"), "B, S, A"
    floating("query", query)
    batch, source = query_dims[0], dims("keys", keys, keys_form)[1]
    tail = tuple(query_dims[-2:]) if heads else (query_dims[-1],)
    expect("keys", keys, keys_form, (batch, source, *tail), query, "query")
    expect("values", values, "B, S, D", (batch, source, dims("values", values, "B, S, D")[2]), query, "query")
    expect("v", v, "N, A" if heads else "A", tail, query, "query")
    check_lengths(lengths, batch, source, query, "S")
    check_mask(mask, batch, source, query)
    if bias is not None:
        forms = {2: ("B, S", (batch, source))}
        if len(query_dims) == 3 + heads:
            forms[3] = ("B, T, S", (batch, query_dims[1], source))
        form, shape = forms[len(dims("bias", bias, *(form for form, _ in forms.values())))]
        expect("bias", bias, form, shape, query, "query")


of_ops["additive_attention"] = check


@registration.fake("additive_attention")
def _(query, keys, values, v, *, lengths=None, mask=None, bias=None):
    check(query, keys, values, v, lengths, mask, bias)
    lead = query.shape[:-1]
    return query.new_empty((*lead, values.shape[2])), query.new_empty((*lead, keys.shape[1]))


@registration.fake("additive_attention_backward")
def _(grad_context, grad_weights, query, keys, values, v, weights, lengths, mask, bias, needs):
    inputs = (query, keys, values, v, bias)
    return registration.gradients(inputs, needs)


def replay(grad_context, grad_weights, query, keys, values, v, weights, lengths, mask, bias, needs):
    def attend(query, keys, values, v, bias):
        return reference.additive_attention(query, keys, values, v, lengths=lengths, mask=mask, bias=bias)

    return attend, [query, keys, values, v, bias], needs, [grad_context, grad_weights]


second_derivative.register("additive_attention", replay)
registration.autocast("additive_attention")
