"""A part that means nothing raises before anything runs: the sentence names it, what came and what was expected."""

import re

import pytest
import torch
from decoder_inputs import ALL, PARTS, as_the_op_takes, decoder_inputs, of
from helpers import call, is_float, place

import s2s_kernels as sk
from s2s_kernels import triton

OPS = ("attention_gru", "attention_lstm")
# Every tensor of every part, once: in the first form that has it.
ARGUMENTS = {
    (op, name): form
    for op in OPS
    for form in reversed(list((of(op, PARTS) | of(op, ALL)).values()))
    for name, x in decoder_inputs(op, **form).items()
    if isinstance(x, torch.Tensor)
}
TENSORS = [pytest.param(op, name, form, id=f"{op[10:]}-{name}") for (op, name), form in ARGUMENTS.items()]
OF_X = [p for p in TENSORS if p.values[1] != "x"]  # which sets the dtype and device of the others


def refused(op, inputs, error, match):
    with pytest.raises(error, match=match):
        call(sk, op, inputs)


@pytest.mark.parametrize(("op", "name", "form"), TENSORS)
def test_dimensions(anywhere, op, name, form):
    inputs = place(decoder_inputs(op, **form), anywhere.device, torch.float32)
    refused(op, inputs | {name: inputs[name][..., None, None, None]}, ValueError, f"^{re.escape(name)} has shape")


@pytest.mark.parametrize(("op", "name", "form"), OF_X)
def test_every_size(anywhere, op, name, form):
    inputs = place(decoder_inputs(op, **form), anywhere.device, torch.float32)
    for dimension in range(inputs[name].dim()):
        doubled = torch.cat([inputs[name]] * 2, dimension)
        if name == "w_location" and dimension == 2:
            doubled = doubled[..., :4]  # even; any odd size is right
        refused(op, inputs | {name: doubled}, ValueError, r"has shape \(.*expected \(")


@pytest.mark.parametrize(("op", "name", "form"), TENSORS)
def test_a_list(anywhere, op, name, form):
    inputs = place(decoder_inputs(op, **form), anywhere.device, torch.float32)
    refused(op, inputs | {name: inputs[name].tolist()}, TypeError, f"^{re.escape(name)} is a list")


@pytest.mark.parametrize(("op", "name", "form"), [p for p in OF_X if p.values[1] not in ("lengths", "mask")])
def test_another_dtype_and_device(anywhere, op, name, form):
    inputs = place(decoder_inputs(op, **form), anywhere.device, torch.float32)
    refused(op, inputs | {name: inputs[name].double()}, TypeError, f"^{re.escape(name)} has dtype torch.float64")
    refused(op, inputs | {name: inputs[name].to("meta")}, ValueError, f"^{re.escape(name)} is on meta")


MASKS = [p for p in TENSORS if p.values[1].startswith(("drop_", "zone_"))]


@pytest.mark.parametrize(("op", "name", "form"), MASKS)
def test_a_mask_that_requires_a_gradient(anywhere, op, name, form):
    inputs = place(decoder_inputs(op, **form), anywhere.device)
    inputs[name].requires_grad_()
    refused(op, inputs, ValueError, f"^{name} requires a gradient, expected a tensor that does not")


CHOICES = {
    "query": ({}, "q", "query is 'q', expected 'h' or 'c_h'"),
    "score": ({}, "general", "score is 'general', expected 'additive' or 'dot'"),
    "normalization": ({}, None, "normalization is None, expected 'softmax' or 'sigmoid' or 'forward'"),
    "location": ({"K": 3}, ["both"], r"location is \['both'\], expected 'previous' or 'cumulative' or 'both'"),
    "feed": ({"F": 4}, "relu", "feed is 'relu', expected 'tanh' or 'linear' or 'gate'"),
}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("name", CHOICES)
def test_choices(anywhere, op, name):
    form, value, message = CHOICES[name]
    inputs = place(decoder_inputs(op, **form), anywhere.device)
    refused(op, inputs | {name: value}, ValueError, f"^{message}$")


VALUES = [
    ("scale", float("nan"), ValueError, "scale is nan, expected a finite number"),
    ("scale", float("inf"), ValueError, "scale is inf, expected a finite number"),
    ("scale", "2", TypeError, "scale is a str, expected a number"),
    ("scale", True, TypeError, "scale is a bool, expected a number"),
    ("detach_location", 1, TypeError, "detach_location is 1, expected True or False"),
    ("layers", 3, TypeError, "layers is a int, expected a tuple or list"),
    ("layers", [3], TypeError, r"layers\[0\] is a int, expected \(weight_ih, weight_hh, bias_ih, bias_hh\)"),
    ("transition", 3, TypeError, r"transition is a int, expected \(weight_ih, weight_hh, bias_ih, bias_hh\)"),
    ("transition", [None], ValueError, r"transition has 1 elements, expected the 4 of \(weight_ih, "),
    ("layers", [(None, None)], ValueError, r"layers\[0\] has 2 elements, expected the 4 of \(weight_ih, "),
]


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize(("name", "value", "error", "message"), VALUES, ids=str)
def test_values(anywhere, op, name, value, error, message):
    form = {"K": 3} if name == "detach_location" else {}
    inputs = place(decoder_inputs(op, **form), anywhere.device)
    if name == "layers" and isinstance(value, list):
        inputs |= {state: inputs[state][None].repeat(2, 1, 1) for state in ("h0", "c0") if state in inputs}
    refused(op, inputs | {name: value}, error, f"^{message}")


def ones(*shape):
    return torch.ones(shape, dtype=torch.float64)


# (form, what is given beside it, the message)
COMBINATIONS = {
    "dot with v": ({"score": "dot"}, {"v": ones(13)}, "v is given with score 'dot', expected None"),
    "no v": ({}, {"v": None}, "v is a NoneType"),
    "no query": ({"b_score": True}, {"w_query": None}, "w_query is a NoneType"),
    "dot of another width": (
        {"score": "dot"},
        {"w_query": None, "b_query": None},
        r"keys has shape \(3, 6, 13\), expected \(B, S, A\) with A = 11: without w_query the query is the state",
    ),
    "bias alone": ({"score": "dot", "project": False}, {"b_query": ones(11)}, "b_query is given without w_query"),
    "location of a dot": (
        {"score": "dot"},
        {"w_location": ones(13, 1, 3)},
        "w_location is given with score 'dot', expected score 'additive'",
    ),
    "dense alone": ({}, {"w_dense": ones(13, 4)}, "w_dense is given without w_location, expected both"),
    "no filters": ({"K": 3}, {"w_dense": ones(13, 0), "w_location": ones(0, 1, 3)}, "w_dense has no columns"),
    "location of heads": (
        {"N": 2},
        {"w_location": ones(13, 1, 3)},
        "w_location is given with heads, expected one head",
    ),
    "even kernel": (
        {},
        {"w_location": ones(13, 1, 4)},
        r"w_location has shape .*expected \(A, C, K\) = \(13, 1, odd\)",
    ),
    "one channel of two": ({"K": 3}, {"location": "both"}, r"w_location has shape .* = \(13, 2, 3\)"),
    "location alone": ({}, {"location": "both"}, "location is 'both' without w_location, expected both"),
    "weights alone": ({}, {"first_weights": ones(3, 6)}, "first_weights is given without w_location"),
    "detached alone": ({}, {"detach_location": True}, "detach_location is True without w_location"),
    "forward of heads": ({"N": 2}, {"normalization": "forward"}, "normalization is 'forward' with heads"),
    "feed alone": ({}, {"feed": "linear"}, "feed is 'linear' without w_feed, expected both"),
    "gate alone": ({}, {"feed": "gate"}, "feed is 'gate' without w_feed, expected both"),
    "b_feed alone": ({}, {"b_feed": ones(7)}, "b_feed is given without w_feed, expected both or neither"),
    "attended alone": ({}, {"drop_attended": ones(3, 5, 18)}, "drop_attended is given without w_feed"),
    "a first feed of a transition": (
        {"transition": True},
        {"first_feed": ones(3, 7)},
        "first_feed is given with a transition, expected None: no feed comes before it",
    ),
    "dropout of a transition": (
        {"transition": True},
        {"drop_h": ones(3, 4, 11)},
        "drop_h is given with a transition, expected None",
    ),
    "layers alone": ({}, {"drop_layers": ones(1, 3, 4, 11)}, "drop_layers is given without layers"),
    "gate of another width": ({"F": 9}, {"feed": "gate"}, r"(w_feed|weight_ih) has shape"),
    "b_score of heads": ({"N": 3}, {"b_score": ones(1)}, r"b_score has shape \(1,\), expected \(N\) = \(3,\)"),
    "values of one head": ({}, {"values": ones(3, 6, 1, 7)}, r"values has shape .*expected \(B, S, D\)"),
    "values of other heads": ({"N": 2}, {"values": ones(3, 6, 3, 7)}, r"values has shape .*expected \(B, S, N, D\)"),
    "flat state": ({"L": 2}, {"h0": ones(3, 11)}, r"h0 has shape \(3, 11\), expected \(L, B, H\)"),
}
OF_A_GRU = {
    "query": ({}, {"query": "c_h"}, "query is 'c_h' for a GRU, expected 'h'"),
    "drop_c": ({}, {"drop_c": ones(3, 4, 11)}, "drop_c is given to a GRU, expected None"),
    "zone_c": ({}, {"zone_c": ones(3, 4, 11)}, "zone_c is given to a GRU, expected None"),
}
CASES = [pytest.param(op, *case, id=f"{op[10:]}-{name}") for op in OPS for name, case in COMBINATIONS.items()]
CASES += [pytest.param("attention_gru", *case, id=f"gru-{name}") for name, case in OF_A_GRU.items()]


@pytest.mark.parametrize(("op", "form", "given", "message"), CASES)
def test_combinations(anywhere, op, form, given, message):
    inputs = place(decoder_inputs(op, **form) | given, anywhere.device)
    refused(op, inputs, (ValueError, TypeError), f"^{message}")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("value", [-1, 100])
def test_lengths(anywhere, monkeypatch, op, value):
    monkeypatch.setenv("S2S_CHECK", "1")
    inputs = place(decoder_inputs(op, K=3, lengths=torch.int64), anywhere.device)
    inputs["lengths"][-1] = value
    refused(op, inputs, ValueError, f"^lengths holds {value}, expected values from 0 to S = 6")


@pytest.fixture(params=["auto", "triton"])
def backend(request):
    if request.param == "triton" and not triton.runs_on("cpu"):
        pytest.skip("Triton is not installed, or runs on this machine's GPU and is tested there")
    with sk.backend(request.param):
        yield request.param


def test_torch_ops_are_checked(backend):
    """Whichever way they come: kernels read memory by the sizes of some arguments."""
    inputs, lengths, mask, form = as_the_op_takes("attention_gru", decoder_inputs("attention_gru", K=3))
    op = torch.ops.s2s_kernels.attention_decoder_forward
    for i, x in enumerate(inputs[1:], 1):
        if is_float(x):
            wrong = [*inputs[:i], x[:-1].contiguous(), *inputs[i + 1 :]]
            with pytest.raises((ValueError, RuntimeError), match=r"shape|expected"):
                op(wrong, lengths, mask, form, False)
    for wrong, match in ((inputs[:-1], "inputs"), ([*inputs, None], "inputs")):
        with pytest.raises((ValueError, RuntimeError), match=match):
            op(wrong, lengths, mask, form, False)
    for i, value in ((0, 5), (1, 2), (2, -1), (6, 3)):
        with pytest.raises((ValueError, RuntimeError), match="form"):
            op(inputs, lengths, mask, [*form[:i], value, *form[i + 1 :]], False)
