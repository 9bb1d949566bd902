"""Autocast: every op computes in autocast's dtype, gradients come back in each input's own."""

import pytest
import torch
from helpers import OUTPUTS, call, example, is_float, leaves, place

import s2s_kernels as sk

OPS = [
    ("additive_attention", {"T": 3, "bias": 3}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64}),
    ("lstm", {}),
    ("gru_bidirectional", {}),
    ("lstm_bidirectional", {"lengths": torch.int64}),
    ("attention_gru", {"F": 4}),
    ("attention_lstm", {"first": True}),
]


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_equals_a_cast(anywhere, op, form, dtype):
    inputs = leaves(place(example(op, **form), anywhere.device, torch.float32))
    with torch.autocast(anywhere.device, dtype):
        found = call(sk, op, inputs)
    narrow = leaves(place(inputs, anywhere.device, dtype))
    expected = call(sk, op, narrow)
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == dtype and torch.equal(x, y)
    cotangents = [torch.randn_like(y) for y in expected]
    wanted = [name for name, x in inputs.items() if is_float(x)]
    gradients = torch.autograd.grad(found, [inputs[name] for name in wanted], cotangents)
    for x, y in zip(
        gradients, torch.autograd.grad(expected, [narrow[name] for name in wanted], cotangents), strict=True
    ):
        assert x.dtype == torch.float32 and torch.equal(x, y.float())


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
def test_mixed_dtypes(anywhere, op, form):
    """Under autocast the activations are narrow and the weights are not."""
    inputs = place(example(op, **form), anywhere.device, torch.float32)
    for name in ("x", "keys", "values", "gates_x"):
        if name in inputs:
            inputs[name] = inputs[name].bfloat16()
    with torch.autocast(anywhere.device, torch.bfloat16):
        outputs = call(sk, op, inputs)
    assert all(y.dtype == torch.bfloat16 for y in outputs)


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
def test_disabled_inside(anywhere, op, form):
    inputs = place(example(op, **form), anywhere.device, torch.float32)
    with torch.autocast(anywhere.device, torch.bfloat16), torch.autocast(anywhere.device, enabled=False):
        found = call(sk, op, inputs)
    for x, y in zip(found, call(sk, op, inputs), strict=True):
        assert x.dtype == torch.float32 and torch.equal(x, y)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_modules(anywhere, kind):
    ours = getattr(sk.nn, kind)(5, 6, num_layers=2, bidirectional=True).to(anywhere.device)
    x = torch.randn(4, 3, 5, device=anywhere.device)
    exact = ours(x)[0]
    with torch.autocast(anywhere.device, torch.bfloat16):
        output, _ = ours(x)
        assert output.dtype == torch.bfloat16
    assert (output - exact).abs().max() < 0.02 * exact.abs().max()
    output.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in ours.parameters())


@pytest.mark.parametrize("kind", ["AttentionGRU", "AttentionLSTM"])
def test_decoder(anywhere, kind):
    decoder = getattr(sk.nn, kind)(5, 6, 7, 8, num_heads=2, feed_size=4).to(anywhere.device)
    x, h, memory = (torch.randn(3, *shape, device=anywhere.device) for shape in ((4, 5), (6,), (5, 7)))
    start = h if kind == "AttentionGRU" else (h, h)
    with torch.autocast(anywhere.device, torch.bfloat16):
        out = decoder(x, start, memory)
        state = decoder.step(x[:, 0], decoder.start(start, memory), memory)
    assert OUTPUTS[f"attention_{kind[9:].lower()}"] == out._fields
    assert all(y.dtype == torch.bfloat16 for y in out)
    assert (state.h - out.states[:, 0]).abs().max() < 0.02
    out.states.float().square().sum().backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in decoder.parameters())
