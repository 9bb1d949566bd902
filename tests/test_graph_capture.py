"""On a GPU every op, forward and backward, can be captured in a CUDA graph: nothing waits for the host."""

import pytest
import torch
from helpers import call, example, leaves, place

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
