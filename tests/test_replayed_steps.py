"""The attention decoder with S2S_CUDA_GRAPH=1: of the loops forward and backward one step is captured, and replayed
with its number in memory. The emulation counts replays, where test_cuda_emulation.py runs this file; on a GPU a CUDA
graph's are made."""

import sys

import pytest
import torch
from helpers import assert_parity, call, outputs_and_gradients, place, scan_inputs

import s2s_kernels as sk

emulation = sys.modules.get("cuda_emulation")
pytestmark = pytest.mark.skipif(
    not (emulation or torch.cuda.is_available()), reason="needs a GPU; test_cuda_emulation.py runs it in the emulation"
)
T = 10
# Forward all but the first step, and the last context, which no cell follows; backward all but these and one more.
REPLAYS = (T - 1) + (T - 2)
FORMS = {
    "contexts are fed": {},
    "a split source, lengths": {"S": 40, "lengths": torch.int64},
    "heads, a mask": {"N": 2, "mask": True},
    "feeds, the caller's first": {"F": 9, "first": True},
    "feeds": {"F": 8, "D": 8, "A": 16, "lengths": torch.int64},
    "the caller's first context": {"first": True},
}


def replays(function, captures=True):
    if not emulation:
        return function(), None
    library = emulation.library()
    library.emulation_captures(captures)
    before = library.emulation_replays()
    try:
        return function(), library.emulation_replays() - before
    finally:
        library.emulation_captures(True)


@pytest.mark.parametrize("op", ["attention_gru", "attention_lstm"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_replays_are_the_steps(monkeypatch, kernel, op, dtype, form):
    monkeypatch.setenv("S2S_CUDA_GRAPH", "1")
    inputs = scan_inputs(op, T=T, **FORMS[form])
    _, count = replays(lambda: assert_parity(op, inputs, dtype, kernel))
    assert count in (None, REPLAYS)


@pytest.mark.parametrize("op", ["attention_gru", "attention_lstm"])
def test_without_a_capture_the_loop_runs(monkeypatch, kernel, op):
    """Where none is asked for, where it fails, and where the steps are few; and all results are the same."""
    inputs = place(scan_inputs(op, T=T, F=5), kernel.device, torch.bfloat16)
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    found, counts = [], []
    for value, captures in (("1", True), ("1", False), ("0", True), ("", True)):
        monkeypatch.setenv("S2S_CUDA_GRAPH", value)
        made, count = replays(lambda: outputs_and_gradients(sk, op, inputs, cotangents), captures)
        found.append(made)
        counts.append(count)
    assert counts in ([None] * 4, [REPLAYS, 0, 0, 0])
    if emulation:  # a library may sum in another order where rows lie apart
        assert all(torch.equal(x, other[name]) for other in found[1:] for name, x in found[0].items())
    monkeypatch.setenv("S2S_CUDA_GRAPH", "1")
    short = place(scan_inputs(op, T=4), kernel.device, torch.bfloat16)
    cotangents = [torch.randn_like(y) for y in call(sk, op, short)]
    assert replays(lambda: outputs_and_gradients(sk, op, short, cotangents))[1] in (None, 0)
