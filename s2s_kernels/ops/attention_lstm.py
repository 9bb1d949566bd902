"""The attention decoder on an LSTM cell: attention, input feeding and recurrence as one op."""

from .. import reference
from ..reference import AttentionLSTMOutput
from . import registration
from .attention_recurrence import check_scan, register_scan
from .recurrence import pair


def attention_lstm(
    x,
    state,
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
    """`attention_gru` with an LSTM cell: the state is (h, c), the query is made from h.

    Args:
        state: (h0, c0), each (B, H).
        weight_ih: (4H, I + F), columns [x | feed], in the order i, f, g, o; weight_hh: (4H, H).
        bias_ih, bias_hh: (4H,) or None.
        All others, dtypes and errors: as in `attention_gru`.

    Returns:
        ``AttentionLSTMOutput``: states, contexts, weights, feeds and h_n as in `attention_gru`, and c_n (B, H).
        For backward the cell states (B, T, H) are saved too.
    """
    args = (x, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    kwargs = {"lengths": lengths, "mask": mask, "w_feed": w_feed, "b_feed": b_feed, "first_feed": first_feed}
    result = registration.check_and_run("attention_lstm", reference.attention_lstm, check, *args, **kwargs)
    if isinstance(result, AttentionLSTMOutput):
        return result
    states, contexts, weights, feeds, h_n, c_n = result
    return AttentionLSTMOutput(states, contexts, weights, contexts if w_feed is None else feeds, h_n, c_n)


def check(x, state, *source_and_cell, **options):
    h0, c0 = pair("state", state)
    check_scan(4, x, (("h0", h0), ("c0", c0)), *source_and_cell, **options)


register_scan("attention_lstm", 4)
