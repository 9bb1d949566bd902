"""What test_attention_gru.py and test_attention_lstm.py share: the tests of the decoder, for a given op."""

from functools import partial

import decoder_oracle
import numpy as np
import torch
from helpers import (
    OUTPUTS,
    assert_parity,
    assert_parity_of_draws,
    assert_parity_when_drawn,
    call,
    leaves,
    place,
    scan_inputs,
)

import s2s_kernels as sk

FORMS = {
    "plain": {},
    "lengths": {"lengths": torch.int64},
    "lengths32 mask": {"lengths": torch.int32, "mask": True},
    "mask": {"mask": True},
    "first": {"first": True},
    "feed": {"F": 9},
    "feed first": {"F": 9, "first": True, "lengths": torch.int64},
    "feed without bias": {"F": 9, "b_feed": False},
    "heads": {"N": 3},
    "one head": {"N": 1, "first": True},
    "heads lengths feed": {"N": 2, "lengths": torch.int64, "mask": True, "F": 6},
    "heads first": {"N": 2, "first": True},
    "no biases": {"biases": "none", "b_query": False},
    "bias_ih": {"biases": "ih"},
    "bias_hh": {"biases": "hh", "b_query": False, "F": 5},
}
SIZES = [
    {"B": 1, "T": 1, "S": 1, "I": 1, "H": 1, "A": 1, "D": 1},
    {"B": 2, "T": 1, "S": 5, "I": 3, "H": 5, "A": 3, "D": 7},
    {"B": 5, "T": 3, "S": 1, "I": 7, "H": 16, "A": 17, "D": 33},
    {"B": 3, "T": 5, "S": 19, "I": 17, "H": 19, "A": 33, "D": 5, "F": 1},
    {"B": 17, "T": 2, "S": 4, "I": 2, "H": 33, "A": 100, "D": 3},
    {"B": 2, "T": 9, "S": 33, "I": 8, "H": 100, "A": 16, "D": 64, "N": 2},
    # Products in several blocks, and a backward pass in several chunks of steps.
    {"B": 2, "T": 3, "S": 3, "I": 530, "H": 200, "A": 5, "D": 6},
    {"B": 40, "T": 60, "S": 3, "I": 4, "H": 5, "A": 3, "D": 4},
    {"B": 40, "T": 60, "S": 3, "I": 4, "H": 5, "A": 3, "D": 4, "F": 6, "first": True, "lengths": torch.int64},
    {"B": 1030, "T": 2, "S": 2, "I": 2, "H": 3, "A": 2, "D": 3, "first": True},
]
GRADCHECK_FORMS = {
    "plain": {"mask": True},
    "first": {"first": True, "lengths": torch.int64, "biases": "ih"},
    "feed heads": {"F": 2, "N": 2},
    "feed first": {"F": 2, "first": True, "b_feed": False, "b_query": False, "biases": "hh"},
}


def parity(op, kernel, dtype, **form):
    assert_parity_when_drawn(op, partial(scan_inputs, op, **form), dtype, kernel)


def gradcheck(op, kernel, form):
    inputs = scan_inputs(op, B=2, T=2, S=3, I=2, H=2, A=3, D=2, **form)
    inputs = leaves(place(inputs, kernel.device))
    names = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.requires_grad]

    def function(*tensors):
        return tuple(call(sk, op, inputs | dict(zip(names, tensors, strict=True))))

    assert torch.autograd.gradcheck(function, [inputs[name] for name in names])


def numpy_loops(op, anywhere, form):
    inputs = scan_inputs(op, **form)
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    found = call(sk, op, place(inputs, anywhere.device))
    arrays = {name: x if x is None else x.numpy() for name, x in inputs.items()}
    for name, y, expected in zip(OUTPUTS[op], found, decoder_oracle.scan(op, arrays), strict=True):
        assert y.shape == expected.shape, name
        assert np.allclose(y.cpu(), expected, rtol=0, atol=1e-13), name


def saturated(op, kernel, dtype):
    """Queries and keys of scale 100; a few elements are not, or every gradient through tanh would be rounding."""
    draws = [scan_inputs(op, scale=100.0, lengths=torch.int64, seed=seed) for seed in range(6)]
    for inputs in draws:
        inputs["keys"][..., ::4] /= 100
        inputs["b_query"][::4] /= 100
    assert_parity_of_draws(op, draws, dtype, kernel)


def large_query_meets_large_negative_key(op, kernel, dtype, offset):
    inputs = scan_inputs(op, S=9, A=33)
    inputs["b_query"] += offset
    inputs["keys"] -= offset
    assert_parity(op, inputs, dtype, kernel)


def mixed_ranges(op, kernel, dtype):
    """Some rows, positions and elements out of the range where exp(2q) exp(2k) is exact, others within it."""
    inputs = scan_inputs(op, B=4, S=9, A=33)
    inputs["b_query"][::3] += 60
    inputs["keys"][:, :, ::3] -= 60
    inputs["keys"][1, 2:5] += 50
    inputs["keys"][2, 4] = -90
    assert_parity(op, inputs, dtype, kernel)


def decoders(op, anywhere):
    """The orders of the literature are all in the one recurrence."""
    inputs = place(scan_inputs(op, first=True), anywhere.device)
    inputs["first_feed"] = torch.zeros_like(inputs["first_feed"])
    out = getattr(sk, op)(*_positional(inputs), first_feed=inputs["first_feed"])
    # Attention after the cell: the context of each state is what the next step is fed, the first gets zeros.
    h = [inputs["h0"]] + ([inputs["c0"]] if "c0" in inputs else [])
    feed = inputs["first_feed"]
    for t in range(inputs["x"].shape[1]):
        gates_x = torch.nn.functional.linear(
            torch.cat([inputs["x"][:, t], feed], 1), inputs["weight_ih"], inputs["bias_ih"]
        )
        gates_h = torch.nn.functional.linear(h[0], inputs["weight_hh"], inputs["bias_hh"])
        h = list(sk.lstm_step(gates_x, gates_h, h[1])) if "c0" in inputs else [sk.gru_step(gates_x, gates_h, h[0])]
        query = torch.nn.functional.linear(h[0], inputs["w_query"], inputs["b_query"])
        feed, weights = sk.additive_attention(query, inputs["keys"], inputs["values"], inputs["v"])
        assert torch.allclose(out.states[:, t], h[0], rtol=0, atol=1e-13)
        assert torch.allclose(out.contexts[:, 1:][:, t], feed, rtol=0, atol=1e-13)
        assert torch.allclose(out.weights[:, 1:][:, t], weights, rtol=0, atol=1e-13)


def _positional(inputs):
    state = (inputs["h0"], inputs["c0"]) if "c0" in inputs else inputs["h0"]
    names = ("keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return inputs["x"], state, *(inputs[name] for name in names)


def outputs_are_named(op, anywhere):
    for form in ({}, {"F": 9}, {"first": True}):
        inputs = place(scan_inputs(op, **form), anywhere.device)
        extra = {name: inputs.get(name) for name in ("w_feed", "b_feed", "first_feed")}
        out = getattr(sk, op)(*_positional(inputs), **extra)
        assert out._fields == OUTPUTS[op]
        assert torch.equal(out.h_n, out.states[:, -1])
        assert (out.feeds is out.contexts) == (extra["w_feed"] is None)
        if extra["w_feed"] is not None:
            assert out.feeds.shape == (3, 5, 9)
