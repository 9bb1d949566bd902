"""gru and lstm as one launch (csrc/cuda/persistent.cuh), held to the rule in several divisions of the work and orders
of the blocks: in the emulation, where test_cuda_emulation.py runs this file, and on a GPU."""

import sys

import pytest
import torch
from helpers import (
    OUTPUTS,
    assert_parity,
    assert_parity_in_one_launch,
    call,
    outputs_and_gradients,
    place,
    sequence_inputs,
)

import s2s_kernels as sk

emulation = sys.modules.get("cuda_emulation")
pytestmark = pytest.mark.skipif(
    not (emulation or torch.cuda.is_available()), reason="needs a GPU; test_cuda_emulation.py runs it in the emulation"
)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
# Name: multiprocessors of the emulated GPU, and what is computed. H = 32 is two slices of 16 units.
CASES = {
    "one tile": (2, {"B": 3, "T": 4, "H": 32}),
    "two groups, reverse lengths": (8, {"B": 18, "T": 4, "H": 48, "reverse": True, "lengths": torch.int64}),
    "deeper than the warps are many": (10, {"B": 2, "T": 2, "H": 160}),
    "uneven tiles, no bias": (4, {"B": 40, "T": 3, "H": 32, "biases": "none", "lengths": torch.int32}),
}
# Of both directions, which take as many again.
BOTH = {
    "one tile": (4, {"B": 3, "T": 4, "H": 32}),
    "two groups each, lengths": (12, {"B": 18, "T": 4, "H": 48, "lengths": torch.int64}),
    "deeper than the warps are many": (20, {"B": 2, "T": 2, "H": 160}),
    "uneven tiles, no bias": (8, {"B": 40, "T": 3, "H": 32, "biases": "none", "lengths": torch.int32}),
}


EVERY = [(op, case) for op in ("gru", "lstm") for case in CASES.items()]
EVERY += [(op, case) for op in ("gru_bidirectional", "lstm_bidirectional") for case in BOTH.items()]


@pytest.mark.parametrize(("op", "case"), [pytest.param(op, case, id=f"{op}-{name}") for op, (name, case) in EVERY])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_parity(launches, kernel, op, dtype, case, seed):
    multiprocessors, form = case
    inputs = sequence_inputs(op, **form, seed=seed)
    assert_parity_in_one_launch(launches, op, inputs, dtype, kernel, seed, multiprocessors)


@pytest.mark.parametrize("op", ["gru_bidirectional", "lstm_bidirectional"])
def test_one_launch_is_two_launches(launches, kernel, op):
    """To the bit, and two it is where not all blocks of both would run at once."""
    inputs = place(sequence_inputs(op, B=18, T=3, H=32, lengths=torch.int64), kernel.device, torch.bfloat16)
    cotangents = [torch.ones_like(y) for y in call(sk, op, inputs)]
    one, two = (
        launches(lambda: outputs_and_gradients(sk, op, inputs, cotangents), multiprocessors=count) for count in (4, 3)
    )
    assert (one[1], two[1]) in ((None, None), (2, 4))
    assert all(torch.equal(one[0][name], two[0][name]) for name in one[0])


@pytest.mark.parametrize("op", ["gru", "lstm", "gru_bidirectional", "lstm_bidirectional"])
def test_same_bits_in_any_order_and_division(launches, kernel, op):
    inputs = place(sequence_inputs(op, B=33, T=3, H=32), kernel.device, torch.bfloat16)
    cotangents = [torch.ones_like(y) for y in call(sk, op, inputs)]
    found = []
    for seed, multiprocessors in ((0, 4), (1, 8), (2, 12)) if "bidirectional" in op else ((0, 2), (1, 4), (2, 6)):
        made, _ = launches(
            lambda: outputs_and_gradients(sk, op, inputs, cotangents), seed=seed, multiprocessors=multiprocessors
        )
        found.append(made)
    assert set(OUTPUTS[op]) < found[0].keys()
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in other)


LOOPS = {
    "float64": ({}, torch.float64),
    "H is no multiple of 16": ({"H": 40}, torch.float32),
    "resets": ({"resets": "zeros"}, torch.bfloat16),
    "too few multiprocessors": ({"H": 160}, torch.bfloat16),
    "T is 0": ({"T": 0}, torch.bfloat16),
}


@pytest.mark.parametrize("case", LOOPS)
def test_without_a_plan_the_loop_runs(launches, kernel, case):
    form, dtype = LOOPS[case]
    inputs = sequence_inputs("lstm", **({"B": 3, "T": 2, "H": 32} | form))
    if "resets" in form:
        function = lambda: call(sk, "lstm", place(inputs, kernel.device, dtype))
    else:
        function = lambda: assert_parity("lstm", inputs, dtype, kernel)
    assert launches(function)[1] in (None, 0)


@pytest.mark.parametrize("value", ["0", "", None])
def test_taken_only_when_asked_for(launches, monkeypatch, kernel, value):
    """There is no measurement yet that says it is faster."""
    if value is None:
        monkeypatch.delenv("S2S_CUDA_PERSISTENT")
    else:
        monkeypatch.setenv("S2S_CUDA_PERSISTENT", value)
    inputs = place(sequence_inputs("gru", B=3, T=2, H=32), kernel.device, torch.float32)
    assert launches(lambda: call(sk, "gru", inputs))[1] in (None, 0)
