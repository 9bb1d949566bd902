"""The parts of the attention decoder (docs/ops.md): alone, in pairs and all together."""

from functools import partial

import decoder_oracle
import numpy as np
import pytest
import torch
from decoder_inputs import ALL, PAIRS, PARTS, decoder_inputs, of
from helpers import (
    DTYPES,
    OUTPUTS,
    assert_parity_when_drawn,
    call,
    is_mask,
    leaves,
    negated,
    outputs_and_gradients,
    place,
    strided,
    transposed,
)

import s2s_kernels as sk

OPS = ("attention_gru", "attention_lstm")
SINGLE = {op: of(op, PARTS | ALL) for op in OPS}
FORMS = [pytest.param(op, form, id=f"{op[10:]}-{name}") for op in OPS for name, form in SINGLE[op].items()]
EVERY = [pytest.param(op, form, id=f"{op[10:]}-{name}") for op in OPS for name, form in of(op, PAIRS).items()]
WHOLE = [pytest.param(op, form, id=f"{op[10:]}-{name}") for op in OPS for name, form in of(op, ALL).items()]


def with_empty_row(inputs):
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    return inputs


def made(op, form, **kwargs):
    return with_empty_row(decoder_inputs(op, **form | kwargs))


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("op", "form"), FORMS)
def test_parity(kernel, dtype, op, form):
    assert_parity_when_drawn(op, partial(decoder_inputs, op, **form), dtype, kernel)


@pytest.mark.exhaustive(every=8)
@pytest.mark.parametrize(("op", "form"), EVERY)
def test_pairs(kernel, op, form):
    assert_parity_when_drawn(op, partial(decoder_inputs, op, **form), torch.float32, kernel)


@pytest.mark.exhaustive(every=8)
@pytest.mark.parametrize(("op", "form"), FORMS + EVERY)
def test_numpy_loops(anywhere, op, form):
    inputs = made(op, {"lengths": torch.int64} | form)
    found = call(sk, op, place(inputs, anywhere.device))
    arrays = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    for name, y, expected in zip(OUTPUTS[op], found, decoder_oracle.scan(op, arrays), strict=True):
        assert y.shape == expected.shape, name
        assert np.allclose(y.cpu(), expected, rtol=0, atol=1e-13 * max(1, np.abs(expected).max(initial=0))), name


SIZES = [
    {"B": 1, "T": 1, "S": 1, "I": 1, "H": 2, "A": 1, "D": 1},
    {"B": 2, "T": 9, "S": 33, "I": 8, "H": 100, "A": 16, "D": 64},
    {"B": 17, "T": 2, "S": 4, "I": 2, "H": 33, "A": 100, "D": 3},
    {"B": 40, "T": 30, "S": 3, "I": 4, "H": 5, "A": 3, "D": 4},
]


@pytest.mark.exhaustive(every=8)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("op", "form"), WHOLE)
def test_sizes(kernel, dtype, op, form, sizes):
    assert_parity_when_drawn(op, partial(decoder_inputs, op, **form | sizes), dtype, kernel)


@pytest.mark.exhaustive(every=5)
@pytest.mark.parametrize(
    ("op", "form", "size"),
    [
        pytest.param(*p.values, size, id=f"{p.id}-{size}")
        for p in FORMS
        for size in "BTSIHADNF"
        if size not in "NF" or size in p.values[1]
    ],
)
def test_a_size_of_0(anywhere, op, form, size):
    if form.get("project") is False and size in "HAN":
        form = form | {"H": 0, "A": 0}
    assert_parity_when_drawn(op, partial(decoder_inputs, op, **form | {size: 0}), torch.float32, anywhere)


# What is detached differs from what numbers say: test_detached_location compares it.
@pytest.mark.exhaustive(every=8)
@pytest.mark.parametrize(("op", "form"), [p for p in FORMS if not p.values[1].get("detach")])
def test_gradcheck(kernel, op, form):
    sizes = {"B": 2, "T": 2, "S": 3, "I": 2, "H": 2, "A": 3, "D": 2} | ({"F": 2} if "F" in form else {})
    inputs = leaves(place(made(op, form | sizes), kernel.device))
    names = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.requires_grad]

    def function(*tensors):
        return tuple(call(sk, op, inputs | dict(zip(names, tensors, strict=True))))

    assert torch.autograd.gradcheck(function, [inputs[name] for name in names])


@pytest.mark.parametrize("op", OPS)
def test_detached_location(anywhere, op):
    """As if the history were given: weights of a first call, which a second one reads step by step."""
    form = {"K": 3, "location": "both", "first_weights": True, "T": 1, "first": True}
    inputs = place(decoder_inputs(op, **form), anywhere.device)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    expected = outputs_and_gradients(sk, op, inputs, cotangents)
    found = outputs_and_gradients(sk, op, inputs | {"detach_location": True}, cotangents)
    # With a first feed the history of both attentions is what the caller gave: only its own gradient is gone.
    for name, x in found.items():
        wanted = torch.zeros_like(x) if name == "d first_weights" else expected[name]
        assert torch.allclose(x, wanted, rtol=0, atol=1e-13), name
    assert expected["d first_weights"].any()


@pytest.mark.exhaustive(every=5)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(("op", "form"), FORMS)
def test_garbage_at_masked_positions(anywhere, dtype, garbage, op, form):
    clean = place(made(op, form | {"lengths": torch.int64, "mask": True}), anywhere.device, dtype)
    masked = ~(clean["mask"] & (torch.arange(6, device=anywhere.device) < clean["lengths"][:, None]))
    dirty = {name: x.clone() if isinstance(x, torch.Tensor) else x for name, x in clean.items()}
    dirty["keys"][masked], dirty["values"][masked] = garbage, garbage
    if "first_weights" in dirty:
        dirty["first_weights"][masked] = garbage
    if "drop_weights" in dirty:
        dirty["drop_weights"].movedim(-1, 1)[masked] = garbage
    cotangents = [torch.randn_like(y) for y in call(sk, op, clean)]
    expected = outputs_and_gradients(sk, op, clean, cotangents)
    for name, x in outputs_and_gradients(sk, op, dirty, cotangents).items():
        assert x.isfinite().all(), name
        assert torch.equal(x, expected[name]), name


@pytest.mark.parametrize(("op", "form"), WHOLE)
@pytest.mark.parametrize("layout", [strided, transposed, negated])
def test_layouts(kernel, op, form, layout):
    assert_parity_when_drawn(op, partial(decoder_inputs, op, **form), torch.float32, kernel, layout=layout)


@pytest.mark.parametrize(("op", "form"), WHOLE)
def test_one_gradient(kernel, op, form):
    make = partial(decoder_inputs, op, **form)
    for name, x in make().items():
        if isinstance(x, torch.Tensor) and x.is_floating_point() and not is_mask(name):
            assert_parity_when_drawn(op, make, torch.float32, kernel, wrt=[name])


@pytest.mark.parametrize(("op", "form"), FORMS)
def test_some_gradients(kernel, op, form):
    """Those of one input alone, and of all but one, are those of all."""
    inputs = place(made(op, form), kernel.device, torch.float64)
    names = [name for name, x in leaves(inputs).items() if isinstance(x, torch.Tensor) and x.requires_grad]
    cotangents = [torch.ones_like(y) for y in call(sk, op, inputs)]
    truth = outputs_and_gradients(sk, op, inputs, cotangents)
    for wrt in [[name] for name in names] + [[other for other in names if other != name] for name in names]:
        for name, x in outputs_and_gradients(sk, op, inputs, cotangents, wrt=wrt).items():
            torch.testing.assert_close(x, truth[name], rtol=1e-11, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("op", "form"), WHOLE)
def test_one_output(kernel, op, form):
    for name in OUTPUTS[op]:
        assert_parity_when_drawn(op, partial(decoder_inputs, op, **form), torch.float32, kernel, use=[name])


@pytest.mark.parametrize(("op", "form"), FORMS)
def test_without_gradients_the_same_bits(anywhere, op, form):
    inputs = place(made(op, form), anywhere.device, torch.float32)
    for x, y in zip(call(sk, op, inputs), call(sk, op, leaves(inputs)), strict=True):
        assert torch.equal(x, y) and not x.requires_grad and y.requires_grad


@pytest.mark.parametrize(("op", "form"), WHOLE)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_two_runs_give_the_same_bits(kernel, threads, op, form, count):
    threads(count)
    inputs = place(made(op, form, B=5, T=7), kernel.device, torch.float32)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    first, second = (outputs_and_gradients(sk, op, inputs, cotangents) for _ in range(2))
    for name, x in first.items():
        assert torch.equal(x, second[name]), name


@pytest.mark.parametrize("op", OPS)
def test_parts_that_change_nothing(anywhere, op):
    """Neutral values of the parts give the plain decoder."""
    inputs = place(decoder_inputs(op, F=9), anywhere.device)
    batch, steps, hidden = 3, 4, 11
    one = torch.ones(batch, steps, hidden, dtype=torch.float64, device=anywhere.device)
    neutral = {"w_location": inputs["keys"].new_zeros(13, 1, 3), "drop_h": one, "zone_h": 0 * one}
    neutral |= {"b_score": inputs["keys"].new_ones(1)}
    for x, y in zip(call(sk, op, inputs | neutral), call(sk, op, inputs), strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("op", OPS)
def test_zoneout_of_everything_keeps_the_state(anywhere, op):
    inputs = place(decoder_inputs(op, L=2, masks=("zone_h",)), anywhere.device)
    inputs["zone_h"] = torch.ones_like(inputs["zone_h"])
    out = call(sk, op, inputs)
    assert torch.equal(out[4], inputs["h0"])
    assert torch.equal(out[0], inputs["h0"][1][:, None].expand(-1, 4, -1))


def test_forward_attention_moves_one_position_a_step(anywhere):
    """Where it stood a step before, or one on: nothing else has a weight to speak of."""
    inputs = place(decoder_inputs("attention_gru", normalization="forward"), anywhere.device)
    weights = call(sk, "attention_gru", inputs)[2]
    for t in range(5):
        reached = torch.arange(6, device=anywhere.device) <= t + 1
        assert (weights[:, t, ~reached] < 1e-4).all()
        assert (weights[:, t].sum(-1) - 1).abs().max() < 1e-12
