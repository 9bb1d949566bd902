"""Checks and shapes that the sequence ops share."""

import torch
from torch.utils._pytree import tree_leaves

from .. import reference
from ..checks import check_lengths, dims, expect, floating, of_ops, optional
from . import registration, second_derivative
from .lazy_values import register_plain_values


def pair(name, state):
    if not isinstance(state, (tuple, list)) or len(state) != 2:
        raise TypeError(f"{name} is a {type(state).__name__}, expected a pair (h0, c0) of tensors of shape (B, H)")
    return state


def check_cell(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh, feed=0, layers=0, x_name="x"):
    """``x`` (B, T, I), ``states`` named (B, H) tensors, and the weights of a cell with ``gates`` gates.

    With ``layers`` above this cell, states are (L, B, H). ``x_name``: of what ``x`` has its dtype and device from."""
    batch, _, inputs = dims("x", x, "B, T, I")
    floating(x_name, x)
    form, lead = ("L, B, H", (1 + layers,)) if layers else ("B, H", ())
    hidden = dims(*states[0], form)[-1]
    for name, state in states:
        expect(name, state, form, (*lead, batch, hidden), x, x_name)
    wide, form = gates * hidden, f"{gates}H, I + F" if feed else f"{gates}H, I"
    expect("weight_ih", weight_ih, form, (wide, inputs + feed), x, x_name)
    expect("weight_hh", weight_hh, f"{gates}H, H", (wide, hidden), x, x_name)
    optional("bias_ih", bias_ih, f"{gates}H", (wide,), x, x_name)
    optional("bias_hh", bias_hh, f"{gates}H", (wide,), x, x_name)


def check_sequence(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh, lengths):
    check_cell(gates, x, states, weight_ih, weight_hh, bias_ih, bias_hh)
    check_lengths(lengths, x.shape[0], x.shape[1], x, "T")


def accumulation_dtype(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def saved_like(x, shape, save):
    """An empty tensor in the accumulation's dtype: what an op saves for backward, nothing unless ``save``."""
    return x.new_empty(shape if save else 0, dtype=accumulation_dtype(x.dtype))


def rounded(x, save):
    """Whether outputs are saved a second time, as they were before their rounding to 16 bits."""
    return save and x.dtype in (torch.bfloat16, torch.float16)


def register_halves(name, run):
    """What the halves of the four recurrences share. ``run(inputs, lengths, mask, reverse)`` is the reference."""
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

    def check(inputs, lengths, mask, reverse, save):
        x, *states = inputs[: gates - 1]
        check_sequence(gates, x, tuple(zip(("h0", "c0"), states)), *inputs[gates - 1 :], lengths)

    of_ops[f"{name}_forward"] = check

    @registration.fake(f"{name}_forward")
    def _(inputs, lengths, mask, reverse, save):
        check(inputs, lengths, mask, reverse, save)
        x, *states = inputs[: gates - 1]
        batch, steps, hidden = x.shape[0], x.shape[1], states[0].shape[1]
        cells = [saved_like(x, (batch, steps, hidden), save)] if gates == 4 else []
        return [
            x.new_empty((batch, steps, hidden)),
            *(state.new_empty(state.shape) for state in states),
            saved_like(x, (batch, steps, 4 * hidden), save),
            saved_like(x, (batch, steps, hidden), rounded(x, save)),
            *cells,
        ]

    def run(inputs, lengths, mask, reverse):
        x, *states = inputs[: gates - 1]
        state = states[0] if gates == 3 else states
        return getattr(reference, name)(x, state, *inputs[gates - 1 :], lengths=lengths, reverse=reverse)

    register_halves(name, run)
    registration.autocast(name)
