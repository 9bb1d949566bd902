"""The attention decoder on a GRU cell: attention, input feeding and recurrence as one op."""

from .. import reference
from ..reference import AttentionGRUOutput
from . import registration
from .attention_recurrence import check_scan, register_scan


def attention_gru(
    x,
    h0,
    keys,
    values,
    v,
    w_query,
    b_query,
    weight_ih,
    weight_hh,
    bias_ih=None,
    bias_hh=None,
    *,
    lengths=None,
    mask=None,
    w_feed=None,
    b_feed=None,
    first_feed=None,
):
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

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    args = (x, h0, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    kwargs = {"lengths": lengths, "mask": mask, "w_feed": w_feed, "b_feed": b_feed, "first_feed": first_feed}
    result = registration.check_and_run("attention_gru", reference.attention_gru, check, *args, **kwargs)
    if isinstance(result, AttentionGRUOutput):
        return result
    states, contexts, weights, feeds, h_n = result
    return AttentionGRUOutput(states, contexts, weights, contexts if w_feed is None else feeds, h_n)


def check(x, h0, *source_and_cell, **options):
    check_scan(3, x, (("h0", h0),), *source_and_cell, **options)


register_scan("attention_gru", 3)
