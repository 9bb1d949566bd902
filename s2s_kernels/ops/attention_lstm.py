"""The attention decoder on an LSTM cell: attention, input feeding and recurrence as one op."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from .. import reference
from ..reference import AttentionLSTMOutput
from . import registration
from .attention_decoder import PLAIN, decode
from .attention_recurrence import register_scan
from .decoder_checks import check_decoder
from .recurrence import pair


def attention_lstm(
    x: Tensor,
    state: Sequence[Tensor],
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
) -> AttentionLSTMOutput:
    """`attention_gru` with an LSTM cell: the state is (h, c), the query is made from h.

    Args:
        state: (h0, c0), each (B, H).
        weight_ih: (4H, I + F), columns [x | feed], in the order i, f, g, o; weight_hh: (4H, H).
        bias_ih, bias_hh: (4H,) or None.
        All others, parts, dtypes and errors: as in `attention_gru`.

    Returns:
        ``AttentionLSTMOutput``: states, contexts, weights, feeds and h_n as in `attention_gru`, and c_n (B, H).
        For backward the cell states (B, T, H) are saved too.
    """
    args = (x, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    options = {"lengths": lengths, "mask": mask, "w_feed": w_feed, "b_feed": b_feed, "first_feed": first_feed}
    parts = (
        layers, transition, query, score, scale, b_score, normalization, w_location, w_dense, location, first_weights,
        detach_location,
        feed, drop_query, drop_weights, drop_attended, drop_fed, drop_layers, drop_h, drop_c, zone_h, zone_c,
    )  # fmt: skip
    if parts == PLAIN and scale is not True and detach_location is False and getattr(values, "ndim", 3) != 4:
        result = registration.check_and_run("attention_lstm", reference.attention_lstm, check, *args, **options)
        if isinstance(result, AttentionLSTMOutput):
            return result
    else:
        result = decode("attention_lstm", *args, **options, parts=parts)
    states, contexts, weights, feeds, h_n, c_n = result
    return AttentionLSTMOutput(states, contexts, weights, contexts if w_feed is None else feeds, h_n, c_n)


def check(x, state, *source_and_cell, **options):
    h0, c0 = pair("state", state)
    check_decoder(4, x, (("h0", h0), ("c0", c0)), *source_and_cell, **options)


register_scan("attention_lstm", 4)
