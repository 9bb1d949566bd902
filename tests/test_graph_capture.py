"""On a GPU every op, forward and backward, can be captured in a CUDA graph: nothing waits for the host."""

from functools import partial

import pytest
import torch
from helpers import call, example, leaves, place
from search_tests import FORMS, cast, run, search_inputs, under_test

import s2s_kernels as sk
from s2s_kernels.backend import available

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
OPS = [
    ("additive_attention", {"T": 3, "lengths": torch.int64, "mask": True, "bias": 3}),
    ("additive_attention", {"N": 2, "S": 40}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64, "reverse": True}),
    ("lstm", {"lengths": torch.int64}),
    ("attention_gru", {"F": 4, "first": True, "lengths": torch.int64}),
    ("attention_lstm", {"mask": True}),
]


@pytest.fixture(params=["cuda", "triton"])
def backend(request):
    if request.param not in available("cuda"):
        pytest.skip(f"the backend {request.param} cannot run CUDA tensors here")
    with sk.backend(request.param):
        yield


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_replay(backend, op, form, dtype):
    inputs = leaves(place(example(op, **form), "cuda", dtype))
    wanted = [x for x in inputs.values() if isinstance(x, torch.Tensor) and x.requires_grad]

    def both():
        outputs = call(sk, op, inputs)
        return [*outputs, *torch.autograd.grad(outputs, wanted, [torch.ones_like(y) for y in outputs])]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        both()  # what is compiled or allocated once
        torch.cuda.set_sync_debug_mode("error")
        try:
            both()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    with torch.no_grad():
        for x in wanted:
            x.copy_(torch.randn_like(x))
    graph.replay()
    for found, expected in zip(captured, both(), strict=True):
        assert torch.equal(found, expected)


@pytest.fixture(params=["cuda", "triton"])
def search(request, monkeypatch):
    """A search of 20 steps on a backend, its inputs on the GPU; call it with a dtype and a form."""
    if request.param not in available("cuda"):
        pytest.skip(f"the backend {request.param} cannot run CUDA tensors here")
    monkeypatch.setitem(under_test, "device", "cuda")

    def make(dtype, form):
        inputs = cast(
            search_inputs(B=3, scale=16.0, **FORMS[form]), partial(torch.Tensor.to, device="cuda", dtype=dtype)
        )
        inputs["lengths"] = inputs["lengths"].cuda()
        # `run` brings what it returns to the CPU: the outputs stay in this list.
        found = []
        run(lambda *args, **kwargs: found.append((args, kwargs)), inputs, max_length=19, beam=3, return_weights=True)
        (args, options), *_ = found
        return lambda: sk.beam_search(*args, **options)

    make.backend = request.param
    with sk.backend(request.param):
        yield make


SEARCHES = [(torch.float32, "bahdanau"), (torch.bfloat16, "luong, made feed, lstm"), (torch.float16, "state alone")]


@pytest.mark.parametrize(("dtype", "form"), SEARCHES, ids=str)
def test_a_search_replays_its_second_step(search, dtype, form, monkeypatch):
    """The same bits as a launch at a time, and no wait for the host."""
    op, replays, replay = search(dtype, form), [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(graph) or replay(graph))
    with monkeypatch.context() as patch:
        patch.setenv("S2S_CUDA_GRAPH", "0")
        expected = op()
    assert not replays
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = op()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert replays or search.backend == "cuda"  # C++ replays what Python does not see
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(("dtype", "form"), SEARCHES, ids=str)
def test_a_search_in_a_graph_of_the_caller(search, dtype, form):
    op = search(dtype, form)
    expected, graph = op(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = op()
    graph.replay()
    for a, b in zip(captured, expected, strict=True):
        assert torch.equal(a, b)
