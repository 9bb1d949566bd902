"""Resets of the state inside a sequence: gru, lstm and the modules made of them, on every backend."""

from functools import partial

import helpers
import oracles
import pytest
import sequence_tests as shared
import torch
from helpers import (
    DTYPES,
    Target,
    assert_parity,
    assert_parity_when_drawn,
    call,
    is_float,
    leaves,
    negated,
    outputs_and_gradients,
    place,
    sequence_inputs,
    strided,
    transposed,
)
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk
from s2s_kernels import extension, reference, triton
from s2s_kernels.ops.lstm import lstm_and_cells

OPS = ("gru", "lstm")
FORMS = {
    "zeros": {"resets": "zeros"},
    "states": {"resets": "states"},
    "zeros, reverse": {"resets": "zeros", "reverse": True, "biases": "none"},
    "states, lengths": {"resets": "states", "lengths": torch.int64},
    "states, reverse, lengths": {"resets": "states", "reverse": True, "lengths": torch.int32, "biases": "hh"},
}
EACH = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
OP = pytest.mark.parametrize("op", OPS)


def inputs_of(op, form, **sizes):
    inputs = sequence_inputs(op, **({"B": 5, "T": 7} | sizes | form))
    if "lengths" in inputs:
        inputs["lengths"][1] = 0
    return inputs


@OP
@EACH
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_parity(kernel, op, form, dtype):
    assert_parity_when_drawn(op, partial(inputs_of, op, form), dtype, kernel)


@OP
@pytest.mark.parametrize(("B", "T", "I", "H"), shared.SIZES)
def test_sizes(kernel, op, B, T, I, H):
    assert_parity_when_drawn(op, partial(inputs_of, op, FORMS["states"], B=B, T=T, I=I, H=H), torch.float32, kernel)


@OP
@pytest.mark.parametrize("layout", [strided, transposed, negated])
def test_layouts(kernel, op, layout):
    inputs = inputs_of(op, FORMS["states"])
    inputs["resets"] = torch.stack([inputs["resets"], inputs["resets"]], -1)[..., 0]
    assert not inputs["resets"].is_contiguous()
    assert_parity(op, inputs, torch.float32, kernel, layout=layout)


@OP
@EACH
def test_numpy_loops(anywhere, op, form):
    inputs = inputs_of(op, form)
    found = call(sk, op, place(inputs, anywhere.device))
    arrays = {name: x.numpy() if isinstance(x, torch.Tensor) else x for name, x in inputs.items()}
    for y, expected in zip(found, oracles.sequence(op, arrays), strict=True):
        assert abs(y.cpu().numpy() - expected).max() <= 1e-13


@pytest.mark.exhaustive(every=3)
@OP
@EACH
def test_gradcheck(kernel, op, form):
    inputs = leaves(place(inputs_of(op, form, B=3, T=3, I=2, H=2), kernel.device))
    names = [name for name, x in inputs.items() if is_float(x)]

    def function(*tensors):
        return tuple(call(sk, op, inputs | dict(zip(names, tensors, strict=True))))

    tensors = [inputs[name] for name in names]
    assert torch.autograd.gradcheck(function, tensors)
    assert torch.autograd.gradgradcheck(function, tensors)


@OP
@EACH
def test_what_is_not_read(anywhere, op, form):
    """States where there is no reset, and resets past a row's length, NaN included."""
    inputs = place(inputs_of(op, form), anywhere.device)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    expected = outputs_and_gradients(sk, op, inputs, cotangents)
    read = inputs["resets"]
    if "lengths" in inputs:
        valid = torch.arange(read.shape[1], device=read.device) < inputs["lengths"][:, None]
        read = read & valid
        inputs |= {"resets": read | ~valid, "x": inputs["x"].masked_fill(~valid[..., None], torch.nan)}
    for name in ("reset_states", "reset_h", "reset_c"):
        if name in inputs:
            inputs[name] = inputs[name].masked_fill(~read[..., None], torch.nan)
    for name, x in outputs_and_gradients(sk, op, inputs, cotangents).items():
        assert torch.equal(x, expected[name]), name
        if name.startswith("d reset"):
            assert (x[~read] == 0).all() and (x[read] != 0).any()


@OP
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_crosses_a_reset(anywhere, op, reverse):
    """Neither a value nor a gradient: each part is a sequence of its own."""
    inputs = place(inputs_of(op, {"resets": "states", "reverse": reverse}, T=6), anywhere.device)
    inputs["resets"] = torch.zeros_like(inputs["resets"])
    inputs["resets"][:, 2 if reverse else 3] = True
    states = [inputs.pop(name) for name in ("reset_states", "reset_h", "reset_c") if name in inputs]
    names = ("h0", "c0")[: len(states)]
    made = leaves(
        inputs | dict(zip(("reset_h", "reset_c") if op == "lstm" else ("reset_states",), states, strict=True))
    )
    whole = call(sk, op, made)
    plain = {name: x for name, x in inputs.items() if name != "resets"}
    first, second = (slice(3, None), slice(3)) if reverse else (slice(3), slice(3, None))
    begin = {name: s[:, 2 if reverse else 3] for name, s in zip(names, states, strict=True)}
    for part, start in ((first, {}), (second, begin)):
        output = call(sk, op, plain | start | {"x": inputs["x"][:, part]})[0]
        assert torch.allclose(whole[0][:, part], output, rtol=0, atol=1e-14)
    grads = torch.autograd.grad(whole[0][:, second].sum(), [made["x"], *(made[name] for name in names)])
    assert (grads[0][:, first] == 0).all() and (grads[0][:, second] != 0).all()
    assert all((g == 0).all() for g in grads[1:])


@OP
def test_no_reset_changes_no_bit(anywhere, op):
    inputs = place(inputs_of(op, FORMS["states, lengths"]), anywhere.device)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    none = outputs_and_gradients(sk, op, inputs | {"resets": torch.zeros_like(inputs["resets"])}, cotangents)
    names = ("resets", "reset_states", "reset_h", "reset_c")
    plain = {name: x for name, x in inputs.items() if name not in names}
    for name, x in outputs_and_gradients(sk, op, plain, cotangents).items():
        assert torch.equal(x, none[name]), name


@OP
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits(anywhere, op, dtype, threads):
    threads(2)
    inputs = place(inputs_of(op, FORMS["states"], B=9, T=20, H=40), anywhere.device, dtype)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    once, again = (outputs_and_gradients(sk, op, inputs, cotangents) for _ in range(2))
    assert all(torch.equal(x, again[name]) for name, x in once.items())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("resets", ["zeros", "states"])
def test_cells(anywhere, monkeypatch, resets, dtype):
    """What an LSTM's resets replace is an output too, by the same rule."""
    cells_by_the_rule(anywhere, monkeypatch, resets, dtype)


def cells_by_the_rule(target, monkeypatch, resets, dtype):
    monkeypatch.setitem(helpers.OUTPUTS, "lstm_and_cells", (*helpers.OUTPUTS["lstm"], "cells"))
    monkeypatch.setattr(sk, "lstm_and_cells", lstm_and_cells, raising=False)
    monkeypatch.setattr(reference, "lstm_and_cells", partial(reference.lstm, cells=True), raising=False)
    inputs = inputs_of("lstm", {"resets": resets})
    for use in (None, ["cells"]):
        assert_parity("lstm_and_cells", inputs, dtype, target, use=use)
    inputs = place(inputs, target.device, dtype)
    for x, y in zip(call(sk, "lstm_and_cells", inputs), call(sk, "lstm_and_cells", leaves(inputs)), strict=True):
        assert torch.equal(x, y) and y.requires_grad and not x.requires_grad


@OP
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(anywhere, op, dtype):
    inputs = place(inputs_of(op, FORMS["states"]), anywhere.device, torch.float32)
    with torch.autocast(anywhere.device, dtype):
        found = call(sk, op, inputs)
    for x, y in zip(found, call(sk, op, place(inputs, anywhere.device, dtype)), strict=True):
        assert x.dtype == dtype and torch.equal(x, y)


@pytest.mark.exhaustive(every=3)
@OP
@EACH
def test_compile(kernel, op, form):
    torch._dynamo.reset()
    inputs = leaves(place(inputs_of(op, form, T=3), kernel.device))
    wanted = [x for x in inputs.values() if is_float(x)]

    def function(inputs):
        return sum((0.5 * y).square().sum() for y in call(sk, op, inputs))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for x, y in zip(*(torch.autograd.grad(f(inputs), wanted) for f in (compiled, function)), strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-13)
    torch._dynamo.reset()


@OP
def test_transforms(anywhere, op):
    """torch.func.grad over a vmap of the resets, which only the reference can."""
    with sk.backend("auto"):
        inputs = place(inputs_of(op, FORMS["states"], T=4), anywhere.device)
        resets = torch.stack([inputs["resets"], ~inputs["resets"]])

        def loss(x, resets):
            return call(sk, op, inputs | {"x": x, "resets": resets})[0].square().sum()

        found = torch.func.vmap(torch.func.grad(loss), (None, 0))(inputs["x"], resets)
        for i, r in enumerate(resets):
            x = inputs["x"].clone().requires_grad_()
            assert torch.allclose(found[i], torch.autograd.grad(loss(x, r), x)[0], rtol=0, atol=1e-13)


@pytest.mark.exhaustive(every=3)
@pytest.mark.skipif(not extension.built, reason="the ops are registered by the compiled extension, not built here")
@OP
@EACH
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck(kernel, op, form, grad):
    inputs = place(inputs_of(op, form), kernel.device, torch.float32)
    inputs = leaves(inputs) if grad else inputs
    state = [inputs["h0"], inputs["c0"]] if op == "lstm" else inputs["h0"]
    cell = (inputs[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    options = {name: inputs[name] for name in ("lengths", "reverse", "resets", "reset_states") if name in inputs}
    if "reset_h" in inputs:
        options["reset_states"] = [inputs["reset_h"], inputs["reset_c"]]
    torch.library.opcheck(getattr(torch.ops.s2s_kernels, op).default, (inputs["x"], state, *cell), options)


@OP
def test_errors(anywhere, op):
    inputs = place(inputs_of(op, FORMS["states"]), anywhere.device, torch.float32)
    states = ("reset_h", "reset_c") if op == "lstm" else ("reset_states",)

    def refused(change, error, match):
        with pytest.raises(error, match=match):
            call(sk, op, inputs | change)

    resets = inputs["resets"]
    refused({"resets": resets[:, 1:]}, ValueError, r"resets has shape \(5, 6\), expected \(B, T\) = \(5, 7\)")
    refused({"resets": resets[..., None]}, ValueError, r"resets has shape .*expected \(B, T\)")
    refused({"resets": resets.float()}, TypeError, "resets has dtype torch.float32, expected torch.bool")
    refused({"resets": resets.tolist()}, TypeError, "resets is a list, expected a torch.Tensor")
    refused({"resets": resets.to("meta")}, ValueError, "resets is on meta")
    refused({"resets": None}, ValueError, "reset_states is given, but resets is None, expected both or neither")
    for i, name in enumerate(states):
        said, x = f"reset_states\\[{i}\\]" if op == "lstm" else "reset_states", inputs[name]
        refused({name: x[:, 0]}, ValueError, rf"^{said} has shape \(5, 11\), expected \(B, T, H\) = \(5, 7, 11\)")
        refused({name: x[1:]}, ValueError, rf"^{said} has shape")
        refused({name: x.double()}, TypeError, rf"^{said} has dtype torch.float64, expected torch.float32")
        refused({name: x.tolist()}, TypeError, rf"^{said} is a list")
        refused({name: x.to("meta")}, ValueError, rf"^{said} is on meta")
        if op == "lstm":
            refused({name: None}, TypeError, rf"^{said} is a NoneType")
    if op == "lstm":
        args = (inputs["x"], (inputs["h0"], inputs["c0"]), inputs["weight_ih"], inputs["weight_hh"])
        for wrong in (inputs["reset_h"], (inputs["reset_h"],)):
            with pytest.raises(TypeError, match=r"reset_states is a .*expected a pair \(h, c\) of tensors"):
                sk.lstm(*args, resets=resets, reset_states=wrong)


@pytest.mark.skipif(not extension.built, reason="the checks before memory are in the compiled extension")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@OP
def test_what_a_backward_op_is_handed(op, dtype):
    inputs = list(place(inputs_of(op, FORMS["states"]), dtype=dtype).values())
    forward, backward = (getattr(torch.ops.s2s_kernels, f"{op}_{half}") for half in ("forward", "backward"))
    outputs = forward(inputs, None, None, False, True)
    grads, needs = [torch.ones_like(x) for x in outputs[: 4 if op == "lstm" else 2]], [True] * len(inputs)
    made = backward(grads, inputs, None, None, False, outputs, needs)
    assert [x.shape for x in made] == [x.shape if is_float(x) else (0,) for x in inputs]
    for i, x in enumerate(outputs):
        for wrong in (x[:1], strided(x)) if x.numel() else ():
            with pytest.raises(ValueError, match=r"has (shape|strides)"):
                backward(grads, inputs, None, None, False, [*outputs[:i], wrong, *outputs[i + 1 :]], needs)
    for i in range(len(grads)):
        with pytest.raises(ValueError, match=r"the gradient of \w+ has shape"):
            backward([*grads[:i], grads[i][:1], *grads[i + 1 :]], inputs, None, None, False, outputs, needs)
    for wrong in (inputs[:-1], [*inputs[:-1], inputs[-1][1:]]):
        with pytest.raises(ValueError, match=r"(inputs has \d+ tensors|reset_states has shape)"):
            forward(wrong, None, None, False, True)


@pytest.mark.exhaustive(every=3)
@pytest.mark.skipif(not triton.runs_on("cpu"), reason="Triton is not installed, or runs on this machine's GPU")
@OP
@EACH
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_triton(op, form, dtype):
    with sk.backend("triton"):
        assert_parity(op, inputs_of(op, form, T=4), dtype, Target("cpu", "triton"))


@pytest.mark.exhaustive(every=3)
@pytest.mark.skipif(not triton.runs_on("cpu"), reason="Triton is not installed, or runs on this machine's GPU")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cells_on_triton(monkeypatch, dtype):
    with sk.backend("triton"):
        cells_by_the_rule(Target("cpu", "triton"), monkeypatch, "states", dtype)


def module_inputs(target, kind, layers, batch_first=True):
    """A module, x, resets and states for all of its layers, by the layout of batch_first."""
    r = helpers.Random(4)
    resets = torch.rand(4, 9, generator=r.generator) < 0.3
    x, states = r.normal(4, 9, 5), [r.normal(layers, 4, 9, 6) for _ in range(2 if kind == "LSTM" else 1)]
    hx = [r.normal(layers, 4, 6) for _ in states]
    if not batch_first:
        x, resets, states = x.transpose(0, 1), resets.t(), [s.transpose(1, 2) for s in states]
    return [y.to(target.device) for y in (x, resets)], [tuple(y.to(target.device) for y in s) for s in (hx, states)]


def one_or_pair(states):
    return states if len(states) == 2 else states[0]


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_module_equals_torch_by_parts(anywhere, kind, batch_first):
    """Two layers of torch.nn's, run over each row from one reset to the next."""
    theirs, ours = shared.pair(kind, anywhere, num_layers=2, batch_first=batch_first)
    (x, resets), (hx, states) = module_inputs(anywhere, kind, 2, batch_first)
    output, last = ours(x, one_or_pair(hx), resets=resets, reset_states=one_or_pair(states))
    if not batch_first:
        x, resets, output, states = (
            x.transpose(0, 1),
            resets.t(),
            output.transpose(0, 1),
            [s.transpose(1, 2) for s in states],
        )
    theirs.batch_first = True
    for b in range(4):
        now = [s[:, b : b + 1].contiguous() for s in hx]
        for t in range(9):
            if resets[b, t]:
                now = [s[:, b : b + 1, t].contiguous() for s in states]
            expected, now = theirs(x[b : b + 1, t : t + 1], one_or_pair(now))
            now = list(now) if kind == "LSTM" else [now]
            assert torch.allclose(output[b, t], expected[0, 0], rtol=0, atol=1e-13)
        for y, z in zip(last if kind == "LSTM" else [last], now, strict=True):
            assert torch.allclose(y[:, b : b + 1], z, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_module_with_two_directions(anywhere, kind):
    _, ours = shared.pair(kind, anywhere, batch_first=True, bidirectional=True)
    (x, resets), (hx, states) = module_inputs(anywhere, kind, 2)
    lengths = torch.tensor([9, 4, 0, 7], device=anywhere.device)
    output, last = ours(x, one_or_pair(hx), lengths=lengths, resets=resets, reset_states=one_or_pair(states))
    op = getattr(sk, kind.lower())
    for d, names in enumerate(ours._all_weights):
        weights = [getattr(ours, name) for name in names]
        options = {"resets": resets, "reset_states": one_or_pair([s[d] for s in states]), "lengths": lengths}
        expected, end = op(x, one_or_pair([s[d] for s in hx]), *weights, reverse=d == 1, **options)
        assert torch.equal(output[..., 6 * d : 6 * d + 6], expected)
        for y, z in zip(last if kind == "LSTM" else [last], end if kind == "LSTM" else [end], strict=True):
            assert torch.equal(y[d], z)
    zeros, _ = ours(x, one_or_pair(hx), resets=resets)
    same, _ = ours(x, one_or_pair(hx), resets=resets, reset_states=one_or_pair([torch.zeros_like(s) for s in states]))
    assert torch.equal(zeros, same)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_module_errors(anywhere, kind):
    _, ours = shared.pair(kind, anywhere, num_layers=2, batch_first=True)
    (x, resets), (_, states) = module_inputs(anywhere, kind, 2)
    given = one_or_pair(states)
    with pytest.raises(ValueError, match=r"reset_states has shape .*expected \(num_layers \* directions, batch, steps"):
        ours(x, resets=resets, reset_states=one_or_pair([s[:1] for s in states]))
    with pytest.raises(TypeError, match="reset_states is a"):
        ours(x, resets=resets, reset_states=[given])
    with pytest.raises(ValueError, match="reset_states is given, but resets is None"):
        ours(x, reset_states=given)
    for wrong in (resets[:, 1:], resets[0]):
        with pytest.raises(ValueError, match="resets has shape"):
            ours(x, resets=wrong)
    with pytest.raises(ValueError, match="resets is given, expected None with unbatched input"):
        ours(x[0], resets=resets[0])
    packed = torch.nn.utils.rnn.pack_sequence([x[0]])
    with pytest.raises(ValueError, match="resets is given, expected None with a PackedSequence"):
        ours(packed, resets=resets)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_export_of_a_module(kernel, kind):
    _, ours = shared.pair(kind, kernel, num_layers=2, batch_first=True)
    (x, resets), (_, states) = module_inputs(kernel, kind, 2)
    options = {"resets": resets, "reset_states": one_or_pair(states)}
    program = torch.export.export(ours, (x,), options)
    for y, z in zip(tree_leaves(program.module()(x, **options)), tree_leaves(ours(x, **options)), strict=True):
        assert torch.allclose(y, z, rtol=0, atol=1e-14)
