"""Checks and shapes that the sequence ops share."""

import torch
from torch.utils._pytree import tree_leaves

from .. import reference
from ..checks import check_lengths, check_mask, dims, expect, floating, of_ops, optional
from . import registration, second_derivative
from .lazy_values import register_plain_values


def pair(name, state, names="h0, c0", form="B, H"):
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise TypeError(f"{name} is a {type(state).__name__}, expected a pair ({names}) of tensors of shape ({form})")
    return state


def check_cell(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh, feed=0, layers=0, x_name="x", suffix=""):
    """``x`` (B, T, I), ``states`` named (B, H) tensors, and the weights of a cell with ``gates`` gates.

    With ``layers`` above this cell, states are (L, B, H). ``x_name``: of what ``x`` has its dtype and device from;
    ``suffix``: of the weights' names."""
    batch, _, inputs = dims("x", x, "B, T, I")
    floating(x_name, x)
    form, lead = ("L, B, H", (1 + layers,)) if layers else ("B, H", ())
    hidden = dims(*states[0], form)[-1]
    for name, state in states:
        expect(name, state, form, (*lead, batch, hidden), x, x_name)
    wide, form = gates * hidden, f"{gates}H, I + F" if feed else f"{gates}H, I"
    expect(f"weight_ih{suffix}", weight_ih, form, (wide, inputs + feed), x, x_name)
    expect(f"weight_hh{suffix}", weight_hh, f"{gates}H, H", (wide, hidden), x, x_name)
    optional(f"bias_ih{suffix}", bias_ih, f"{gates}H", (wide,), x, x_name)
    optional(f"bias_hh{suffix}", bias_hh, f"{gates}H", (wide,), x, x_name)


def check_sequence(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh, lengths, resets=None, reset_states=None):
    """``reset_states``: None, or as many tensors as ``states``."""
    check_cell(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh)
    batch, steps, hidden = x.shape[0], x.shape[1], states[0][1].shape[1]
    check_lengths(lengths, batch, steps, x, "T")
    check_mask(resets, batch, steps, x, "resets", "B, T", "the state before the step is replaced")
    if reset_states is None:
        return
    if resets is None:
        raise ValueError("reset_states is given, but resets is None, expected both or neither")
    for i, state in enumerate(reset_states):
        name = "reset_states" if len(states) == 1 else f"reset_states[{i}]"
        expect(name, state, "B, T, H", (batch, steps, hidden), x, "x")


def given(lengths, reverse, resets, reset_states):
    """The keywords of a call: only those that change something, as each costs the dispatcher part of a microsecond."""
    options = {}
    if lengths is not None:
        options["lengths"] = lengths
    if reverse:
        options["reverse"] = True
    if resets is not None:
        options["resets"] = resets
    if reset_states is not None:
        options["reset_states"] = reset_states
    return options


def accumulation_dtype(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def saved_like(x, shape, save):
    """An empty tensor in the accumulation's dtype: what an op saves for backward, nothing unless ``save``."""
    return x.new_empty(shape if save else 0, dtype=accumulation_dtype(x.dtype))


def rounded(x, save):
    """Whether outputs are saved a second time, as they were before their rounding to 16 bits."""
    return save and x.dtype in (torch.bfloat16, torch.float16)


def sequence_outputs(gates, x, states, resets, save):
    """Fakes of all that the forward half of ``gru`` or ``lstm`` returns."""
    shape, seen = (x.shape[0], x.shape[1], states[0].shape[1]), gates == 4 and resets is not None
    return [
        x.new_empty(shape),
        *(state.new_empty(state.shape) for state in states),
        *([x.new_empty(shape)] if seen else []),
        saved_like(x, (*shape[:2], 4 * shape[2]), save),
        saved_like(x, shape, rounded(x, save)),
        *([saved_like(x, shape, rounded(x, save) if seen else save)] if gates == 4 else []),
    ]


def register_halves(name, run):
    """What the halves of the recurrences share. ``run(inputs, lengths, mask, reverse)`` is the reference."""
    registration.refuse_batched_gradients(name)
    for half in ("forward", "backward"):
        register_plain_values(f"{name}_{half}")

    @registration.fake(f"{name}_backward")
    def _(grads, inputs, lengths, mask, reverse, outputs, needs):
        return list(registration.gradients(inputs, needs))

    def replay(grads, inputs, lengths, mask, reverse, outputs, needs):
        def function(*inputs):
            return tree_leaves(run(inputs, lengths, mask, reverse))

        return function, inputs, needs, grads

    second_derivative.register(name, replay)


def register_recurrence(name, gates):
    """The registrations of ``gru`` and ``lstm``."""

    def split(inputs):
        """x, states, the cell's weights, resets, and their states or None."""
        x, *states = inputs[: gates - 1]
        resets, *reset_states = inputs[gates + 3 :] or [None]
        given = reset_states and reset_states[0] is not None
        return x, states, inputs[gates - 1 : gates + 3], resets, reset_states if given else None

    def check(inputs, lengths, mask, reverse, save):
        x, states, cell, resets, reset_states = split(inputs)
        check_sequence(gates, x, tuple(zip(("h0", "c0"), states)), *cell, lengths, resets, reset_states)

    of_ops[f"{name}_forward"] = check

    @registration.fake(f"{name}_forward")
    def _(inputs, lengths, mask, reverse, save):
        check(inputs, lengths, mask, reverse, save)
        x, states, _, resets, _ = split(inputs)
        return sequence_outputs(gates, x, states, resets, save)

    def run(inputs, lengths, mask, reverse):
        x, states, cell, resets, reset_states = split(inputs)
        options = {"lengths": lengths, "reverse": reverse, "resets": resets}
        if gates == 3:
            return reference.gru(x, *states, *cell, **options, reset_states=reset_states and reset_states[0])
        return reference.lstm(x, states, *cell, **options, reset_states=reset_states, cells=resets is not None)

    register_halves(name, run)
    registration.autocast(name)
