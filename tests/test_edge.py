"""Edges that every op shares: empty rows, garbage where nothing may be read, empty batches, odd layouts."""

import helpers
import pytest
import torch
from helpers import (
    DTYPES,
    OUTPUTS,
    Random,
    assert_parity,
    attention_inputs,
    call,
    example,
    leaves,
    outputs_and_gradients,
    place,
    scan_inputs,
    sequence_inputs,
)

import s2s_kernels as sk

SCANS = ["attention_gru", "attention_lstm"]
SEQUENCES = ["gru", "lstm"]
GARBAGE = [float("nan"), float("inf"), -float("inf"), 3e4]


def with_empty_rows(op, form):
    """Row 1 has length 0, row 2 (when there is a mask) nothing allowed."""
    inputs = example(op, lengths=torch.int64, mask=True, **form)
    inputs["lengths"][1] = 0
    inputs["mask"][2] = False
    return inputs


def cotangents_for(inputs, op, dtype):
    r = Random(2)
    return [r.normal(*y.shape).to(dtype) for y in call(helpers.reference, op, place(inputs))]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", [{}, {"T": 3, "bias": 3}, {"T": 2, "N": 2, "bias": 2}], ids=str)
def test_attention_of_an_empty_row(anywhere, dtype, form):
    inputs = with_empty_rows("additive_attention", form)
    found = assert_parity("additive_attention", inputs, dtype, anywhere)
    for name in ("context", "weights", "d query", "d keys", "d values"):
        assert (found[name][1:3] == 0).all(), name
        assert (found[name][0] != 0).any(), name


@pytest.mark.parametrize("op", SCANS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", [{}, {"F": 5, "N": 2}, {"first": True}], ids=str)
def test_scan_of_an_empty_row(anywhere, op, dtype, form):
    found = assert_parity(op, with_empty_rows(op, form), dtype, anywhere)
    for name in ("contexts", "weights", "d keys", "d values"):
        assert (found[name][1:3] == 0).all(), name
        assert (found[name][0] != 0).any(), name


@pytest.mark.parametrize("op", ["additive_attention", *SCANS])
def test_all_rows_empty(anywhere, op):
    inputs = example(op, lengths=torch.int64)
    inputs["lengths"][:] = 0
    found = assert_parity(op, inputs, torch.float32, anywhere)
    for name in ("d keys", "d values", "d v"):
        assert (found[name] == 0).all(), name


@pytest.mark.parametrize("op", SEQUENCES)
@pytest.mark.parametrize("reverse", [False, True])
def test_sequence_of_length_0(anywhere, op, reverse):
    """The state stays what it was, and so does its gradient."""
    inputs = sequence_inputs(op, lengths=torch.int64, reverse=reverse)
    inputs["lengths"][1] = 0
    found = assert_parity(op, inputs, torch.float32, anywhere)
    assert torch.equal(found["h_n"][1].cpu(), inputs["h0"][1].float())
    assert (found["output"][1] == 0).all() and (found["d x"][1] == 0).all()


def assert_no_leak(op, clean, dirty, dtype, target):
    """Garbage at positions that do not count changes no bit of any output or gradient."""
    dirty, clean = place(dirty, target.device, dtype), place(clean, target.device, dtype)
    cotangents = cotangents_for(place(clean, "cpu"), op, dtype)
    expected = outputs_and_gradients(sk, op, clean, cotangents)
    for name, x in outputs_and_gradients(sk, op, dirty, cotangents).items():
        assert x.isfinite().all(), name
        assert torch.equal(x, expected[name]), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("form", [{}, {"T": 3, "bias": 3}, {"T": 2, "N": 2, "bias": 2}, {"bias": 2}, {"T": 5}], ids=str)
def test_garbage_at_masked_positions(anywhere, dtype, garbage, form):
    clean = with_empty_rows("additive_attention", form)
    dirty = {name: x.clone() for name, x in clean.items()}
    masked = ~(clean["mask"] & (torch.arange(7) < clean["lengths"][:, None]))
    for name in ("keys", "values"):
        dirty[name][masked] = garbage
    if "bias" in dirty:
        dirty["bias"].movedim(-1, 1)[masked] = garbage
    assert_no_leak("additive_attention", clean, dirty, dtype, anywhere)


@pytest.mark.parametrize("op", SCANS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("form", [{}, {"F": 5, "N": 2}], ids=str)
def test_scan_with_garbage_at_masked_positions(anywhere, op, dtype, garbage, form):
    clean = with_empty_rows(op, form)
    masked = ~(clean["mask"] & (torch.arange(6) < clean["lengths"][:, None]))
    dirty = {name: x.clone() for name, x in clean.items()}
    dirty["keys"][masked], dirty["values"][masked] = garbage, garbage
    assert_no_leak(op, clean, dirty, dtype, anywhere)


@pytest.mark.parametrize("op", SEQUENCES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("size", [{}, {"B": 7, "T": 7, "I": 7, "H": 7}], ids=str)
def test_garbage_past_the_length(anywhere, op, dtype, garbage, reverse, size):
    """Of the second size PyTorch's own product of bfloat16 lets a row reach the one before it."""
    clean = sequence_inputs(op, lengths=torch.int64, reverse=reverse, **size)
    clean["lengths"][1] = 0
    dirty = clean | {"x": clean["x"].clone()}
    past = torch.arange(clean["x"].shape[1]) >= clean["lengths"][:, None]
    dirty["x"][past] = garbage
    assert_no_leak(op, clean, dirty, dtype, anywhere)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_bias_of_minus_infinity(anywhere, dtype):
    """A hard window, written as a bias; a row where nothing is left is an empty row."""
    inputs = attention_inputs(B=3, S=7, T=2, bias=3)
    inputs["bias"][0, :, ::2] = -float("inf")
    inputs["bias"][1, 0] = -float("inf")
    found = assert_parity("additive_attention", inputs, dtype, anywhere)
    assert (found["weights"][0, :, ::2] == 0).all() and (found["weights"][0, :, 1::2] > 0).all()
    assert (found["weights"][1, 0] == 0).all() and (found["context"][1, 0] == 0).all()


EMPTY = [
    ("additive_attention", {}),
    ("additive_attention", {"T": 2, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64}),
    ("lstm", {"reverse": True}),
    ("attention_gru", {"lengths": torch.int64, "F": 4}),
    ("attention_lstm", {"N": 2, "mask": True}),
]


@pytest.mark.parametrize(("op", "form"), EMPTY, ids=str)
def test_batch_of_0(anywhere, op, form):
    inputs = example(op, B=0, **form)
    found = outputs_and_gradients(
        sk, op, place(inputs, anywhere.device, torch.float32), cotangents_for(inputs, op, None)
    )
    truth = outputs_and_gradients(helpers.reference, op, place(inputs), cotangents_for(inputs, op, None))
    for name, x in truth.items():
        assert found[name].shape == x.shape, name
        assert (found[name] == 0).all(), name  # the gradients of the weights: nothing was summed


OPS = [
    ("additive_attention", {"bias": 2}),
    ("additive_attention", {"T": 3, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64, "reverse": True}),
    ("lstm", {"lengths": torch.int64}),
    ("attention_gru", {"lengths": torch.int64, "F": 4, "first": True}),
    ("attention_lstm", {"N": 2, "mask": True, "first": True}),
]


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", [helpers.strided, helpers.transposed, helpers.negated])
def test_layouts(kernel, op, form, dtype, layout):
    inputs = example(op, **form)
    for name in ("lengths", "mask"):
        if name in inputs:
            inputs[name] = torch.stack([inputs[name], inputs[name]], -1)[..., 0]
            assert not inputs[name].is_contiguous()
    assert_parity(op, inputs, dtype, kernel, layout=layout)


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
def test_strided_and_broadcast_cotangents(anywhere, op, form):
    inputs = leaves(place(example(op, **form), anywhere.device))
    wanted = [x for x in inputs.values() if helpers.is_float(x)]
    plain = [g.to(anywhere.device) for g in cotangents_for(inputs, op, torch.float64)]

    def gradients(cotangents):
        return torch.autograd.grad(call(sk, op, inputs), wanted, cotangents, allow_unused=True)

    for layout in (helpers.strided, helpers.transposed, helpers.negated):
        for x, y in zip(gradients(plain), gradients([layout(g) for g in plain]), strict=True):
            assert torch.equal(x, y)
    ones = [torch.ones_like(g) for g in plain]
    broadcast = [torch.ones((), dtype=g.dtype, device=g.device).expand(g.shape) for g in plain]
    for x, y in zip(gradients(ones), gradients(broadcast), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("op", ["gru", "lstm", "attention_gru", "attention_lstm", "additive_attention"])
def test_negative_views(anywhere, op):
    """One argument at a time, lengths as well; and zeros without memory, which forward-mode AD makes."""
    inputs = place(example(op, lengths=torch.int64), anywhere.device)
    expected = call(sk, op, inputs)
    for name, x in inputs.items():
        if isinstance(x, torch.Tensor):
            for y, z in zip(call(sk, op, inputs | {name: helpers.negated(x)}), expected, strict=True):
                assert torch.equal(y, z), name
    name = "h0" if "h0" in inputs else "v"
    expected = call(sk, op, inputs | {name: torch.zeros_like(inputs[name])})
    zeros = torch._efficientzerotensor(inputs[name].shape, dtype=torch.float64, device=anywhere.device)
    for y, z in zip(call(sk, op, inputs | {name: zeros}), expected, strict=True):
        assert torch.equal(y, z)


def test_broadcast_inputs(anywhere):
    """One memory for all rows, expanded and not copied, as a beam search makes it."""
    inputs = place(attention_inputs(B=4), anywhere.device)
    for name in ("keys", "values"):
        inputs[name] = inputs[name][:1].expand_as(inputs[name])
    copied = {name: x.contiguous() for name, x in inputs.items()}
    for x, y in zip(call(sk, "additive_attention", inputs), call(sk, "additive_attention", copied), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
def test_inputs_stay_as_they_were(anywhere, op, form):
    inputs = leaves(place(example(op, **form), anywhere.device))
    before = {name: x.clone() for name, x in inputs.items() if isinstance(x, torch.Tensor)}
    sum(y.sum() for y in call(sk, op, inputs)).backward()
    for name, x in before.items():
        assert torch.equal(inputs[name], x), name


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_without_gradients_the_same_bits(anywhere, op, form, dtype):
    """Nothing is saved for a backward pass then, but nothing else changes."""
    inputs = place(example(op, **form), anywhere.device, dtype)
    plain = call(sk, op, inputs)
    recorded = call(sk, op, leaves(inputs))
    with torch.no_grad():
        unrecorded = call(sk, op, leaves(inputs))
    for x, y, z in zip(plain, recorded, unrecorded, strict=True):
        assert not x.requires_grad and y.requires_grad and not z.requires_grad
        assert torch.equal(x, y) and torch.equal(x, z)


@pytest.mark.parametrize("op", [*SEQUENCES, *SCANS])
def test_zero_steps(anywhere, op):
    inputs = place(example(op, T=0), anywhere.device)
    found = dict(zip(OUTPUTS[op], call(sk, op, inputs), strict=True))
    assert found["output" if op in SEQUENCES else "states"].shape == (3, 0, 11)
    assert torch.equal(found["h_n"], inputs["h0"])
    if op in SCANS:
        context, _ = sk.additive_attention(
            torch.nn.functional.linear(inputs["h0"], inputs["w_query"], inputs["b_query"]),
            *(inputs[name] for name in ("keys", "values", "v")),
        )
        assert torch.allclose(found["contexts"][:, 0], context, rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int8, torch.uint8])
def test_narrow_lengths(anywhere, dtype):
    for op in ("additive_attention", "gru", "attention_lstm"):
        inputs = place(example(op, lengths=torch.int64), anywhere.device)
        expected = call(sk, op, inputs)
        for x, y in zip(call(sk, op, inputs | {"lengths": inputs["lengths"].to(dtype)}), expected, strict=True):
            assert torch.equal(x, y)


def test_scan_prefix(anywhere):
    """The first steps of a scan do not depend on the later ones."""
    inputs = place(scan_inputs("attention_gru", T=6), anywhere.device)
    whole = call(sk, "attention_gru", inputs)
    part = call(sk, "attention_gru", inputs | {"x": inputs["x"][:, :2]})
    assert torch.allclose(whole[0][:, :2], part[0], rtol=0, atol=1e-14)
    assert torch.allclose(whole[2][:, :3], part[2], rtol=0, atol=1e-14)
