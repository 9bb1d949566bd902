"""The CPU kernels for older instruction sets: parity again, each level in a process of its own."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from helpers import OUTPUTS, assert_parity_of_draws, call, example, outputs_and_gradients, place

import s2s_kernels as sk
from s2s_kernels import extension

LEVELS = ["baseline", "avx2", "avx512", "avx512_bf16", "amx_bf16"]
FORMS = [
    ("additive_attention", {"T": 4, "S": 19, "A": 33, "D": 31, "lengths": torch.int64, "bias": 3}),
    ("additive_attention", {"N": 2, "A": 65, "mask": True}),
    ("additive_attention", {"A": 33, "scale": 100.0}),
    ("gru_step", {"H": 37}),
    ("lstm_step", {"H": 37}),
    ("gru", {"H": 33, "lengths": torch.int64}),
    ("lstm", {"H": 70, "I": 19, "reverse": True}),
    ("attention_gru", {"S": 19, "A": 33, "H": 37, "F": 9, "first": True, "lengths": torch.int64}),
    ("attention_lstm", {"N": 2, "A": 17, "H": 19, "mask": True}),
]


@pytest.mark.parametrize(("op", "form"), FORMS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_at_the_level_in_force(kernel, op, form, dtype):
    assert_parity_of_draws(op, [example(op, seed=seed, **form) for seed in range(4)], dtype, kernel)


@pytest.mark.parametrize("B", [1, 15, 16, 17, 31, 33, 70])
@pytest.mark.parametrize(("I", "H"), [(1, 5), (32, 31), (63, 33), (300, 64), (34, 100)])
def test_edges_of_tiles(kernel, B, I, H):
    """Of products: 12 rows, or 16 and 32, and 32 columns; pairs, and 16 of them; 128 rows of a gradient's sum."""
    draws = [example("gru", B=B, T=3, I=I, H=H, seed=seed) for seed in range(4)]
    assert_parity_of_draws("gru", draws, torch.bfloat16, kernel)


SIXTEEN_BITS = [torch.bfloat16, torch.float16]


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
@pytest.mark.parametrize("dtype", SIXTEEN_BITS, ids=str)
def test_every_number_of_16_bits(dtype):
    """Read as it is, infinity and NaN included; gradients rounded to the nearest, ties to even."""
    numbers = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)
    query, v = torch.zeros(1, 2, dtype=dtype), torch.zeros(2, dtype=dtype)
    keys, values = torch.zeros(1, 1, 2, dtype=dtype), numbers.view(1, 1, -1).clone().requires_grad_()
    context, _ = sk.additive_attention(query, keys, values, v)  # one position, so its weight is 1
    (grad,) = torch.autograd.grad(context, values, numbers[None])
    for same in (context, grad[0]):
        torch.testing.assert_close(same[0], numbers, rtol=0, atol=0, equal_nan=True)

    finite = numbers[numbers.isfinite()]
    query, keys = finite.new_zeros(len(finite), 1), finite.new_zeros(len(finite), 2, 1).requires_grad_()
    _, weights = sk.additive_attention(query, keys, keys.detach(), finite.new_full((1,), 1.5))
    (grad,) = torch.autograd.grad(weights, keys, torch.stack([finite, -finite], -1))
    expected = (0.75 * finite.float()).to(dtype)
    torch.testing.assert_close(grad.squeeze(-1), torch.stack([expected, -expected], -1), rtol=0, atol=0)


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
def test_a_gradient_past_the_largest_number_of_16_bits():
    query, v = torch.zeros(1, 1, dtype=torch.float16), torch.full((1,), 4.0, dtype=torch.float16)
    keys, values = (torch.zeros(1, 2, 1, dtype=torch.float16, requires_grad=True) for _ in range(2))
    _, weights = sk.additive_attention(query, keys, values, v)
    (grad,) = torch.autograd.grad(weights, keys, torch.tensor([[6e4, -6e4]], dtype=torch.float16))
    assert grad.flatten().tolist() == [torch.inf, -torch.inf]


@pytest.mark.skipif("S2S_CPU_CAPABILITY" not in os.environ, reason="no level is asked for")
def test_the_level_that_is_asked_for():
    assert extension._C.cpu_capability() == os.environ["S2S_CPU_CAPABILITY"]


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
@pytest.mark.parametrize(
    "level", [*LEVELS[:2], *(pytest.param(level, marks=pytest.mark.exhaustive) for level in LEVELS[2:-1])]
)
def test_lower(level):
    in_force = extension._C.cpu_capability()
    if in_force not in LEVELS[LEVELS.index(level) + 1 :]:
        pytest.skip(f"{in_force} is in force: the other tests run at this level, or this CPU has not got it")
    root = Path(__file__).parent.parent
    environment = os.environ | {"S2S_CPU_CAPABILITY": level}
    environment["PYTHONPATH"] = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])

    files = (__file__, str(Path(__file__).with_name("test_beam_search.py")))
    chosen = "test_at_the_level_in_force and cpu-cpp or 16_bits or asked_for"
    chosen += " or test_beam_search and (test_sizes or test_sixteen_bits)"
    command = [sys.executable, "-m", "pytest", "-q", "-rfEp", "-p", "no:cacheprovider", *files, "-k", chosen]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=300)
    said = re.sub(r"^PASSED .*\n", "", done.stdout, flags=re.MULTILINE)[-4000:] + done.stderr[-2000:]
    assert done.returncode == 0, said
    passed = Counter(re.findall(r"^PASSED tests/(\w+)", done.stdout, re.MULTILINE))
    assert passed["test_cpu_capability"] == len(FORMS) * 3 + len(SIXTEEN_BITS) + 2 and passed["test_beam_search"], said


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
@pytest.mark.parametrize("op", ["gru", "lstm"])
@pytest.mark.parametrize("H, I", [(36, 34), (36, 33), (35, 34), (36, 0)])
def test_matrices_of_bfloat16_wherever_they_lie(op, H, I):
    """A row of an even number is read as pairs where it lies; not one that begins at an odd place."""
    inputs = place(example(op, B=9, H=H, I=I), dtype=torch.bfloat16)
    expected = call(sk, op, inputs)
    for name in ("x", "weight_ih", "weight_hh"):
        apart = inputs[name].new_empty(inputs[name].numel() + 1)[1:].view_as(inputs[name])
        apart.detach().copy_(inputs[name].detach())
        for form in (apart, inputs[name].mT.contiguous().mT):
            for found, wanted in zip(call(sk, op, {**inputs, name: form}), expected, strict=True):
                torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
@pytest.mark.parametrize("op", ["gru", "lstm", "attention_gru", "attention_lstm", "linear_cross_entropy"])
def test_products_of_float32_are_as_exact_as_torch_is_told_to_make_them(op):
    if op == "linear_cross_entropy":
        generator = torch.Generator().manual_seed(0)
        features, weight = (torch.randn(n, 33, generator=generator, requires_grad=True) for n in (40, 101))

        def run():
            loss = sk.linear_cross_entropy(features, weight, None, torch.arange(40))
            return {"loss": loss.detach(), "d weight": torch.autograd.grad(loss, weight)[0]}

    else:
        inputs = place(example(op, B=9, H=33), dtype=torch.float32)
        cotangents = [torch.ones_like(x) for x in call(sk, op, inputs)]
        assert len(cotangents) == len(OUTPUTS[op])

        def run():
            return outputs_and_gradients(sk, op, inputs, cotangents)

    with sk.backend("cpp"):
        exact = run()
        torch.set_float32_matmul_precision("medium")
        try:
            rounded = run()
        finally:
            torch.set_float32_matmul_precision("highest")
        again = run()
    differ = [name for name, x in exact.items() if not torch.equal(x, rounded[name])]
    assert bool(differ) == (extension._C.cpu_capability() in LEVELS[LEVELS.index("avx512_bf16") :])
    for name, x in exact.items():
        torch.testing.assert_close(again[name], x, rtol=0, atol=0)
        torch.testing.assert_close(rounded[name], x, rtol=0, atol=2**-5 * float(x.abs().max()))
