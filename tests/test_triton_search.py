"""Greedy and beam search on Triton's kernels, in its interpreter, on tiny shapes."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers import strided
from search_tests import (
    EOS,
    FORMS,
    SPECIAL,
    cast,
    check_parity,
    check_sixteen_bits,
    check_spoiled,
    run,
    search_inputs,
)
from torch import library

import s2s_kernels as sk
from s2s_kernels import triton

pytestmark = [
    pytest.mark.skipif(
        not triton.runs_on("cpu"), reason="Triton is not installed, or runs on this machine's GPU and is tested there"
    ),
    pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered"),  # numpy's, of -inf
]
FLOAT, DOUBLE = {"dtypes": (torch.float32,)}, {"dtypes": (torch.float64,)}


@pytest.fixture(autouse=True)
def interpreted():
    with sk.backend("triton"):
        yield


def check(inputs, **options):
    check_parity("beam_search", inputs, **FLOAT | {"beam": 2, "n_best": 2, "max_length": 3} | options)


def ending(inputs, by=5):
    """Some outputs end before others."""
    inputs["b_output"][EOS] += by
    return inputs


@pytest.mark.exhaustive(every=2)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_beam(form):
    check(search_inputs(B=2, **form), length_penalty=0.8, coverage_penalty=0.4)


@pytest.mark.exhaustive(every=2)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_greedy(form):
    check_parity("greedy_search", search_inputs(B=2, **form), max_length=3, **DOUBLE)


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize(
    "options",
    [
        {"beam": 4, "n_best": 3, "max_length": 6, "return_weights": False},
        {"beam": 8, "n_best": 5, "length_penalty": -0.5, "max_length": 2},
        {"beam": 3, "n_best": 1, "coverage_penalty": 0.5, "return_weights": False, "max_length": 4},
    ],
    ids=str,
)
def test_options(options):
    inputs = ending(search_inputs(B=3, V=5 if options["beam"] == 8 else 23, readout="state_context", N=2))
    check(inputs, **DOUBLE | options)
    assert len(run(sk.beam_search, inputs, **options).lengths.unique()) > 1


def test_lengths_limits_and_the_end():
    inputs = search_inputs(B=4)
    inputs["lengths"] = torch.tensor([0, 6, 3, 1])
    check(inputs, limits=torch.tensor([0, 1, 3, 2], dtype=torch.int32), coverage_penalty=0.3)
    check(inputs, max_length=0)
    inputs["b_output"][EOS] = -100
    check(inputs, n_best=1)


@pytest.mark.parametrize("beam", [1, 3])
def test_a_vocabulary_in_parts(beam):
    inputs = search_inputs(B=2, V=4500)
    check(inputs, beam=beam, n_best=1, max_length=2)
    check(cast(inputs, lambda x: torch.round(x * 4) / 4), beam=beam, n_best=1, max_length=2)  # some logits are equal
    check(search_inputs(B=33, V=9000, S=2), beam=2, n_best=1, max_length=0)  # many rows: fewer and larger parts


def test_equal_tokens_come_in_their_order():
    inputs = search_inputs(B=2, V=4500, lengths=False)
    inputs["w_output"][:], inputs["b_output"][:] = 0, 0
    found = run(sk.beam_search, inputs, n_best=3, beam=3, max_length=2)
    assert found.ids.tolist() == [[[EOS, EOS, EOS], [2, EOS, EOS], [2, 2, EOS]]] * 2
    inputs["b_output"][[2500, 130, 4499]] = 1
    assert (run(sk.greedy_search, inputs, max_length=2).ids[:, :2] == 130).all()
    assert run(sk.beam_search, inputs, n_best=3, beam=3, max_length=1).ids[0, :, 0].tolist() == [130, 2500, 4499]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("form", ["bahdanau", "luong, made feed, lstm"])
def test_sixteen_bits(dtype, form):
    inputs = search_inputs(B=2, scale=16.0, **FORMS[form])  # a decided model: no rounding chooses between its outputs
    check_sixteen_bits(inputs, dtype, exact=False, beam=2, max_length=3)


def test_layouts_masks_and_poison():
    inputs = search_inputs(B=3, readout="state_context", order="after", F=4)
    mask = torch.rand(3, 6) < 0.6
    mask[:, 0] = True
    inputs |= {"mask": mask}
    check(inputs, coverage_penalty=0.4)
    options = {"max_length": 2, "beam": 2, "return_weights": True}
    expected = run(sk.beam_search, inputs, **options)
    valid = mask & (torch.arange(6) < inputs["lengths"][:, None])
    poisoned = inputs | {name: inputs[name].masked_fill(~valid[..., None], torch.nan) for name in ("keys", "values")}
    found = run(sk.beam_search, poisoned, **options)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    for a, b in zip(run(sk.beam_search, cast(poisoned, strided), **options), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)  # products of strided weights sum in another order


def test_nan_weights_end():
    inputs = search_inputs(B=2)
    inputs["w_output"].fill_(torch.nan)
    found = run(sk.beam_search, inputs, max_length=2)
    assert not (found.scores > -torch.inf).any() and (found.ids == EOS).all()


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("name", ["embedding", "b_output", "v"])
def test_weights_that_are_no_numbers(name, value):
    check_spoiled(name, value, beam=2, n_best=2, coverage_penalty=0.3, max_length=2)


def test_nan_that_only_the_penalty_reads():
    inputs = search_inputs(B=2, order="after", fed=False, readout="state", lengths=False)
    inputs["v"].fill_(torch.nan)
    found = run(sk.beam_search, inputs, coverage_penalty=0.3, beam=2, max_length=1)
    assert (found.scores == -torch.inf).all() and (found.ids == EOS).all()


def test_no_rows_and_no_source():
    inputs = search_inputs(B=2, lengths=False)
    none = inputs | {name: inputs[name][:0] for name in ("keys", "values")} | {"state": (inputs["state"][0][:0],)}
    found = run(sk.beam_search, none, n_best=2, return_weights=True)
    assert [tuple(x.shape) for x in found] == [(0, 2, 10), (0, 2), (0, 2), (0, 2, 10, 6)]
    check(inputs | {name: inputs[name][:, :0] for name in ("keys", "values")})


@pytest.mark.parametrize("form", ["state alone", "tensorflow, initial attention", "luong, made feed, lstm"])
def test_steps_are_replays_of_the_second(form, monkeypatch):
    """What a CUDA graph does: products and launches recorded once, arguments and all, make all other steps."""
    from s2s_kernels.triton import additive_attention, beam_search, cell

    replays = []

    def capture(search):
        recorded = []

        def record(function):
            return lambda *args, **constants: recorded.append(partial(function, *args, **constants)) or args[-1]

        with monkeypatch.context() as patch:
            for module in (additive_attention, beam_search, cell):
                patch.setattr(module, "launch", record(module.launch))
            patch.setattr(beam_search, "linear_out", record(beam_search.linear_out))
            search.step()
        return SimpleNamespace(replay=lambda: replays.append([call() for call in recorded]))

    monkeypatch.setattr(beam_search, "WORTH_CAPTURING", 2)
    monkeypatch.setattr(beam_search.Search, "can_capture", lambda search: True)
    monkeypatch.setattr(beam_search.Search, "capture", capture)
    inputs = search_inputs(B=2, **FORMS[form])
    inputs["b_output"][EOS] = -50
    check(inputs, coverage_penalty=0.4)
    assert len(replays) == 3


def test_a_capture_that_fails_leaves_plain_launches(monkeypatch):
    """And what went wrong first is said, not what the end of the capture makes of it."""
    from s2s_kernels.triton import beam_search

    class Graph:
        capturing = False

        def capture_begin(self, **options):
            Graph.capturing = True

        def capture_end(self):
            Graph.capturing = False
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    def step(search, plain=beam_search.Search.step):
        if Graph.capturing:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        plain(search)

    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "stream", lambda side: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(beam_search, "capturing_stream", lambda *_: stream)
    monkeypatch.setattr(beam_search, "WORTH_CAPTURING", 2)
    monkeypatch.setattr(beam_search.Search, "can_capture", lambda search: True)
    monkeypatch.setattr(beam_search.Search, "step", step)
    with pytest.warns(UserWarning, match=r"runs a launch at a time: CUDA error: operation not permitted"):
        check(search_inputs(B=2, **FORMS["state alone"]))


def test_opcheck():
    inputs = cast(search_inputs(B=1, order="after", F=8, readout="feed"), torch.Tensor.float)
    inputs["state"] = list(inputs["state"])
    options = {"beam": 2, "max_length": 1, "return_weights": True}
    op = torch.ops.s2s_kernels.beam_search.default
    run(lambda *args, **kwargs: library.opcheck(op, args, kwargs), inputs, **options)


def test_torch_ops_are_checked():
    inputs = cast(search_inputs(B=1), torch.Tensor.float)
    inputs |= {"state": list(inputs["state"]), "w_output": inputs["w_output"][:, :-1]}
    with pytest.raises(ValueError, match="w_output has shape"):
        run(torch.ops.s2s_kernels.beam_search, inputs)


def test_a_model_uses_it():
    """`s2s` decodes on it, as `--explain` says."""
    from s2s.model.config import Config
    from s2s.report.explain import explain

    assert [row.backend for row in explain(Config()) if row.runs == "beam_search"] == ["triton"]
