"""Checks and shapes that the two attention scans share."""

from .. import reference
from ..checks import check_lengths, check_mask, dims, expect, of_ops, optional
from . import registration
from .recurrence import check_cell, register_halves, rounded, saved_like


def check_scan(
    gates,
    x,
    states,
    keys,
    values,
    v,
    w_query,
    b_query,
    weight_ih,
    weight_hh,
    bias_ih,
    bias_hh,
    *,
    lengths,
    mask,
    w_feed,
    b_feed,
    first_feed,
):
    """``states`` are the named (B, H) tensors of a cell with ``gates`` gates."""
    batch, hidden = dims("x", x, "B, T, I")[0], dims(*states[0], "B, H")[1]
    heads = len(dims("v", v, "A", "N, A")) == 2
    like = (x, "x")
    source, width = (
        dims("keys", keys, "B, S, N, A" if heads else "B, S, A")[1],
        dims("values", values, "B, S, D")[2],
    )
    context, queries = width * (v.shape[0] if heads else 1), v.numel()
    feed = context if w_feed is None else dims("w_feed", w_feed, "F, H + D")[0]
    check_cell(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh, feed)
    tail = tuple(v.shape)
    expect("keys", keys, "B, S, N, A" if heads else "B, S, A", (batch, source, *tail), *like)
    expect("values", values, "B, S, D", (batch, source, width), *like)
    expect("v", v, "N, A" if heads else "A", tail, *like)
    expect("w_query", w_query, "N * A, H" if heads else "A, H", (queries, hidden), *like)
    optional("b_query", b_query, "N * A" if heads else "A", (queries,), *like)
    optional("w_feed", w_feed, "F, H + N * D" if heads else "F, H + D", (feed, hidden + context), *like)
    if b_feed is not None and w_feed is None:
        raise ValueError("b_feed is given without w_feed, expected both or neither")
    optional("b_feed", b_feed, "F", (feed,), *like)
    optional("first_feed", first_feed, "B, F", (batch, feed), *like)
    check_lengths(lengths, batch, source, x, "S")
    check_mask(mask, batch, source, x)


def register_scan(name, gates):
    """The registrations of ``attention_gru`` and ``attention_lstm``."""

    def check(inputs, lengths, mask, reverse, save):
        x, *states = inputs[: gates - 1]
        keys, values, v, *cell, w_feed, b_feed, first_feed = inputs[gates - 1 :]
        optional_inputs = {
            "lengths": lengths,
            "mask": mask,
            "w_feed": w_feed,
            "b_feed": b_feed,
            "first_feed": first_feed,
        }
        check_scan(gates, x, tuple(zip(("h0", "c0"), states)), keys, values, v, *cell, **optional_inputs)

    of_ops[f"{name}_forward"] = check

    @registration.fake(f"{name}_forward")
    def _(inputs, lengths, mask, reverse, save):
        check(inputs, lengths, mask, reverse, save)
        x, *states = inputs[: gates - 1]
        keys, values, v, *_, w_feed, _, _ = inputs[gates - 1 :]
        (batch, steps, hidden), heads = (*x.shape[:2], states[0].shape[1]), tuple(v.shape[:-1])
        outputs = [
            (batch, steps, hidden),
            (batch, steps + 1, values.shape[2] * (heads[0] if heads else 1)),
            (batch, steps + 1, *heads, keys.shape[1]),
            0 if w_feed is None else (batch, steps + 1, w_feed.shape[0]),
        ]
        cells = [saved_like(x, (batch, steps, hidden), save)] if gates == 4 else []
        return [
            *(x.new_empty(shape) for shape in outputs),
            *(state.new_empty(state.shape) for state in states),
            saved_like(x, (batch, steps, 4 * hidden), save),
            *cells,
            saved_like(x, (batch, steps + 1, v.numel()), save),
            *(saved_like(x, shape, rounded(x, save)) for shape in outputs),
        ]

    def run(inputs, lengths, mask, reverse):
        x, *states = inputs[: gates - 1]
        *source_and_cell, w_feed, b_feed, first_feed = inputs[gates - 1 :]
        feed = {"w_feed": w_feed, "b_feed": b_feed, "first_feed": first_feed}
        state = states[0] if gates == 3 else states
        return getattr(reference, name)(x, state, *source_and_cell, lengths=lengths, mask=mask, **feed)

    register_halves(name, run)
    registration.autocast(name)
