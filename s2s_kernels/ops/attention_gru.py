"""The attention decoder on a GRU cell: attention, input feeding and recurrence as one op."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from .. import reference
from ..reference import AttentionGRUOutput
from . import registration
from .attention_decoder import PLAIN, decode
from .attention_recurrence import register_scan
from .decoder_checks import check_decoder


def attention_gru(
    x: Tensor,
    h0: Tensor,
    keys: Tensor,
    values: Tensor,
    v: Tensor | None,
    w_query: Tensor | None,
    b_query: Tensor | None,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None = None,
    bias_hh: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    mask: Tensor | None = None,
    w_feed: Tensor | None = None,
    b_feed: Tensor | None = None,
    first_feed: Tensor | None = None,
    layers: Sequence[Sequence[Tensor | None]] = (),
    transition: Sequence[Tensor | None] | None = None,
    query: Literal["h", "c_h"] = "h",
    score: Literal["additive", "dot"] = "additive",
    scale: float = 1.0,
    b_score: Tensor | None = None,
    normalization: Literal["softmax", "sigmoid", "forward"] = "softmax",
    w_location: Tensor | None = None,
    w_dense: Tensor | None = None,
    location: Literal["previous", "cumulative", "both"] = "previous",
    first_weights: Tensor | None = None,
    detach_location: bool = False,
    feed: Literal["tanh", "linear", "gate"] = "tanh",
    drop_query: Tensor | None = None,
    drop_weights: Tensor | None = None,
    drop_attended: Tensor | None = None,
    drop_fed: Tensor | None = None,
    drop_layers: Tensor | None = None,
    drop_h: Tensor | None = None,
    drop_c: Tensor | None = None,
    zone_h: Tensor | None = None,
    zone_c: Tensor | None = None,
) -> AttentionGRUOutput:
    """A whole teacher-forced attention decoder (Bahdanau 2015, Luong 2015) with a GRU cell.

    ``c_t = attend(h_t)`` for t = 0..T, ``f_t = c_t`` or ``tanh(W_f [h_t ; c_t] + b_f)``,
    ``h_{t+1} = GRU([x_t ; f_t], h_t)`` for t = 0..T-1, where ``attend(h)`` is `additive_attention` with the
    query ``W_q h + b_q``.

    Args:
        x: (B, T, I), decoder inputs (embeddings).
        h0: (B, H).
        keys: (B, S, A), already projected; values: (B, S, D); v: (A,).
        w_query, b_query: (A, H), and (A,) or None.
        weight_ih: (3H, I + F), columns [x | feed], in the order r, z, n; weight_hh: (3H, H).
        bias_ih, bias_hh: (3H,) or None.
        lengths: (B,) integers, valid source positions; mask: (B, S) bool, True = may be attended.
        w_feed, b_feed: (F, H + D) and (F,): Luong's attentional vector as the feed; None: the context, F = D.
        first_feed: (B, F), the feed of the first step; None: made from h0.

    With N heads: v (N, A), keys (B, S, N, A), w_query (N*A, H), b_query (N*A,); a context is N*D wide.

    Returns:
        ``AttentionGRUOutput``: states (B, T, H), h_1..h_T; contexts (B, T+1, N*D), c_0..c_T; weights
        (B, T+1, [N,] S); feeds (B, T+1, F), what step t is fed (without w_feed the very tensor ``contexts``;
        a first_feed takes the place of ``feeds[:, 0]`` in the first step); h_n (B, H).
        Bahdanau reads ``contexts[:, :-1]``; attention after the cell passes ``first_feed`` = zeros and reads
        ``contexts[:, 1:]``.

    float32, float64, bfloat16 or float16, all arguments the same; accumulated in float32 or wider. For backward
    the inputs, the outputs, the gates (B, T, 4H) and the queries (B, T+1, N*A) are saved; memory does not grow
    with S*A*T.

    All other arguments are the parts of docs/ops.md, with their shapes, from ``layers`` to ``zone_c``: what is given
    is part of every step, what is not costs nothing. With ``layers`` states are (L, B, H); with a ``transition``
    weight_ih is (3H, I).

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    args = (x, h0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    options = {"lengths": lengths, "mask": mask, "w_feed": w_feed, "b_feed": b_feed, "first_feed": first_feed}
    parts = (
        layers, transition, query, score, scale, b_score, normalization, w_location, w_dense, location, first_weights,
        detach_location,
        feed, drop_query, drop_weights, drop_attended, drop_fed, drop_layers, drop_h, drop_c, zone_h, zone_c,
    )  # fmt: skip
    if parts == PLAIN and scale is not True and detach_location is False and getattr(values, "ndim", 3) != 4:
        result = registration.check_and_run("attention_gru", reference.attention_gru, check, *args, **options)
        if isinstance(result, AttentionGRUOutput):
            return result
    else:
        result = decode("attention_gru", *args, **options, parts=parts)[:5]
    states, contexts, weights, feeds, h_n = result
    return AttentionGRUOutput(states, contexts, weights, contexts if w_feed is None else feeds, h_n)


def check(x, h0, *source_and_cell, **options):
    check_decoder(3, x, (("h0", h0),), *source_and_cell, **options)


register_scan("attention_gru", 3)
