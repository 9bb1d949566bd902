"""attention_gru and attention_lstm as one launch (csrc/cuda/persistent_attention), held to the rule in several
divisions of the work and orders of the blocks: in the emulation, where test_cuda_emulation.py runs this file, and on
a GPU."""

import sys

import pytest
import torch
from helpers import (
    OUTPUTS,
    assert_parity,
    assert_parity_in_one_launch,
    call,
    is_float,
    leaves,
    outputs_and_gradients,
    place,
    scan_inputs,
)

import s2s_kernels as sk

emulation = sys.modules.get("cuda_emulation")
pytestmark = pytest.mark.skipif(
    not (emulation or torch.cuda.is_available()), reason="needs a GPU; test_cuda_emulation.py runs it in the emulation"
)
OPS = ("attention_gru", "attention_lstm")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SIZES = {"B": 3, "T": 3, "S": 7, "I": 5, "H": 32, "A": 32, "D": 6}
# Name: multiprocessors of the emulated GPU, and what is computed. H = 32 is two slices of 16 units.
CASES = {
    "one tile": (2, {}),
    "two groups, lengths, narrow keys": (8, {"B": 18, "T": 2, "A": 16, "S": 5, "lengths": torch.int64}),
    "uneven tiles, mask, no biases": (
        4, {"B": 40, "T": 2, "S": 3, "mask": True, "lengths": torch.int32, "biases": "none", "b_query": False},
    ),
    "parts of keys, first feed": (8, {"B": 2, "H": 64, "A": 48, "S": 9, "first": True}),
    "one step, one position": (4, {"B": 1, "T": 1, "S": 1, "H": 48, "A": 16, "D": 1}),
}  # fmt: skip


def made(op, **form):
    return scan_inputs(op, **(SIZES | form))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_parity(launches, kernel, op, dtype, case, seed):
    multiprocessors, form = CASES[case]
    inputs = made(op, **form, seed=seed)
    assert_parity_in_one_launch(launches, op, inputs, dtype, kernel, seed, multiprocessors)


def at_least(op, H, dtype):
    """Shared memory that a block takes where no value and no key stays in it, with one tile of rows."""
    gates, states = (3, 1) if op == "attention_gru" else (4, 2)
    columns = 16 * (gates + 1)
    return columns * H * dtype.itemsize + 4 * (4 * 16 * columns + 256 * (states + gates))


# Values take more than there is room for; so do keys of 8 rows a slice, backward too, where a block takes less; of two
# rows they stay.
READ = {"nothing stays": ({"B": 16, "S": 70, "T": 2}, 0), "keys stay": ({"S": 20}, 2 * 20 * 32 * 4)}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", READ)
def test_what_does_not_fit_is_read_at_every_step(launches, kernel, op, dtype, case):
    form, more = READ[case]
    inputs = made(op, **form, lengths=torch.int64, mask=True)
    least = at_least(op, 32, dtype)
    run = lambda shared: launches(
        lambda: assert_parity(op, inputs, dtype, kernel), seed=5, multiprocessors=2, shared=shared
    )
    assert run(least + more)[1] in (None, 2)
    if more:
        assert run(least - 1)[1] in (None, 0)  # no plan


@pytest.mark.parametrize("op", OPS)
def test_a_long_source(launches, kernel, op):
    """Of more positions than there are sums of a product, in whose place their weights lie otherwise."""
    inputs = made(op, B=1, T=1, S=400, H=16, A=16, lengths=torch.int32)
    assert launches(lambda: assert_parity(op, inputs, torch.bfloat16, kernel))[1] in (None, 2)


@pytest.mark.parametrize("op", OPS)
def test_same_bits_in_any_order_and_division(launches, kernel, op):
    inputs = place(made(op, B=33, T=2), kernel.device, torch.bfloat16)
    cotangents = [torch.ones_like(y) for y in call(sk, op, inputs)]
    found = []
    for seed, multiprocessors in ((0, 2), (1, 4), (2, 6)):
        results, _ = launches(
            lambda: outputs_and_gradients(sk, op, inputs, cotangents), seed=seed, multiprocessors=multiprocessors
        )
        found.append(results)
    assert set(OUTPUTS[op]) < found[0].keys()
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in other)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("stays", [True, False])
def test_what_does_not_count_may_hold_anything(launches, kernel, op, stays):
    """Rows without a position, and NaN where nobody may look: as zeros there."""
    S, shared = 20, 227 << 10 if stays else at_least(op, 32, torch.bfloat16)
    inputs = place(made(op, S=S, mask=True, lengths=torch.int64), kernel.device, torch.bfloat16)
    inputs["lengths"][1] = 0
    inputs["mask"][2] = False
    counts = inputs["mask"] & (torch.arange(S, device=kernel.device) < inputs["lengths"][:, None])
    found = []
    for hidden in (0.0, torch.nan):
        for name in ("keys", "values"):
            inputs[name] = inputs[name].masked_fill(~counts[..., None], hidden)
        results, count = launches(
            lambda: outputs_and_gradients(sk, op, inputs, [torch.ones_like(y) for y in call(sk, op, inputs)]),
            multiprocessors=2,
            shared=shared,
        )
        assert count is None or count > 0
        assert all(x.isfinite().all() for x in results.values())
        found.append(results)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not found[0]["contexts"][1:].any() and found[0]["contexts"][0].any()


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("use", [("states",), ("weights",), ("contexts", "h_n")], ids=str)
def test_parity_of_a_loss_of_some_outputs(launches, kernel, op, use):
    """Where no gradient of an output reaches the scores but through the states, or that alone does."""
    inputs = made(op, mask=True, first=True)
    _, count = launches(lambda: assert_parity(op, inputs, torch.bfloat16, kernel, use=use), multiprocessors=2)
    assert count in (None, 2)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("halves", ["01", "10"])
def test_either_half_alone(launches, monkeypatch, kernel, op, halves):
    """The other is the loop of launches: they save and read the same."""
    inputs = leaves(place(made(op, lengths=torch.int64), kernel.device, torch.float32))
    wanted = [x for x in inputs.values() if is_float(x)]

    def gradients(forward, backward):
        monkeypatch.setenv("S2S_CUDA_PERSISTENT", forward)
        outputs = call(sk, op, inputs)
        monkeypatch.setenv("S2S_CUDA_PERSISTENT", backward)
        return torch.autograd.grad([y.sum() + (y * y).sum() for y in outputs], wanted)

    expected, _ = launches(lambda: gradients("0", "0"))
    found, count = launches(lambda: gradients(*halves))
    assert count in (None, 1)
    assert all(torch.allclose(x, y, rtol=1e-4, atol=1e-4) for x, y in zip(found, expected, strict=True))


def test_keys_that_no_16_bytes_begin_at(launches, kernel):
    inputs = place(made("attention_gru"), kernel.device, torch.bfloat16)
    found = []
    for offset in (0, 1):
        memory = torch.empty(inputs["keys"].numel() + 1, device=kernel.device, dtype=torch.bfloat16)
        keys = memory[offset : offset + inputs["keys"].numel()].view(inputs["keys"].shape)
        keys.copy_(inputs["keys"])
        cotangents = [torch.ones_like(y) for y in call(sk, "attention_gru", inputs)]
        run = lambda keys=keys, to=cotangents: outputs_and_gradients(sk, "attention_gru", inputs | {"keys": keys}, to)
        results, count = launches(run)
        assert count in (None, 2)
        found.append(results)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


LOOPS = {
    "float64": ({}, torch.float64),
    "H is no multiple of 16": ({"H": 40}, torch.float32),
    "A is no multiple of 16": ({"A": 20}, torch.float32),
    "A is larger than H": ({"A": 48}, torch.float32),
    "w_feed": ({"F": 6}, torch.bfloat16),
    "heads": ({"N": 2, "A": 16}, torch.bfloat16),
    "no source": ({"S": 0}, torch.bfloat16),
    "too few multiprocessors": ({"H": 160}, torch.bfloat16),
    "T is 0": ({"T": 0}, torch.bfloat16),
}


@pytest.mark.parametrize("case", LOOPS)
def test_without_a_plan_the_loop_runs(launches, kernel, case):
    form, dtype = LOOPS[case]
    inputs = made("attention_lstm", **form)
    assert launches(lambda: assert_parity("attention_lstm", inputs, dtype, kernel))[1] in (None, 0)


@pytest.mark.parametrize("value", ["0", "", None])
def test_taken_only_when_asked_for(launches, monkeypatch, kernel, value):
    """There is no measurement yet that says it is faster."""
    if value is None:
        monkeypatch.delenv("S2S_CUDA_PERSISTENT")
    else:
        monkeypatch.setenv("S2S_CUDA_PERSISTENT", value)
    inputs = place(made("attention_gru"), kernel.device, torch.float32)
    assert launches(lambda: call(sk, "attention_gru", inputs))[1] in (None, 0)
