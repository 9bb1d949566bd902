"""What the two attention scans without parts share."""

from .. import reference
from ..checks import of_ops
from . import registration
from .decoder_checks import check_decoder
from .recurrence import register_halves, rounded, saved_like


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
        check_decoder(gates, x, tuple(zip(("h0", "c0"), states)), keys, values, v, *cell, **optional_inputs)

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
