"""torch.compile(fullgraph=True), forward and backward, and torch.export."""

import pytest
import torch
from helpers import call, example, is_float, leaves, place

import s2s_kernels as sk
from s2s_kernels import triton
from s2s_kernels.backend import resolve

OPS = [
    ("additive_attention", {"T": 3, "N": 2, "lengths": torch.int64, "mask": True, "bias": 3}),
    ("gru_step", {}),
    ("lstm_step", {}),
    ("gru", {"lengths": torch.int64}),
    ("lstm", {"reverse": True}),
    ("gru_bidirectional", {"lengths": torch.int64}),
    ("lstm_bidirectional", {}),
    ("attention_gru", {"F": 4, "first": True, "lengths": torch.int64}),
    ("attention_lstm", {"mask": True}),
]

# What a user sees at every compilation, and can do nothing about.
pytestmark = pytest.mark.filterwarnings("error:Dynamo detected a call to a `functools.lru_cache`")


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def close(found, expected, tolerance=1e-13):
    for x, y in zip(found, expected, strict=True):
        assert torch.allclose(x, y, rtol=0, atol=tolerance * max([1.0, *y.abs().flatten().tolist()]))


@pytest.mark.parametrize(("op", "form"), OPS, ids=str)
def test_every_op_in_one_graph(kernel, op, form):
    inputs = leaves(place(example(op, **form), kernel.device))
    wanted = [x for x in inputs.values() if is_float(x)]

    def function(inputs):
        return sum((0.5 * y).square().sum() for y in call(sk, op, inputs))

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    close(torch.autograd.grad(compiled(inputs), wanted), torch.autograd.grad(function(inputs), wanted))


@pytest.mark.skipif(torch.version.cuda is not None, reason="the other tests ask a real GPU, where there is one")
def test_the_choice_of_a_backend_on_a_gpu(monkeypatch):
    """It is traced with the op, so what it asks of a GPU must be what torch.compile can answer."""
    gpu = object.__new__(torch.cuda._CudaDeviceProperties)
    gpu.major = 9
    monkeypatch.setattr(triton, "installed", True)
    monkeypatch.setattr(triton, "interpreted", False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", torch.compiler.is_dynamo_compiling)  # not for Dynamo's own use
    answers = {"_lazy_init": None, "device_count": 1, "_get_device_index": 0, "_get_device_properties": gpu}
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer, raising=False)
    compiled = torch.compile(lambda x: (x, resolve("cuda")), fullgraph=True, backend="eager")
    assert compiled(torch.zeros(1))[1] == "triton"


class Translator(torch.nn.Module):
    """An encoder, a decoder scan and a readout, as a user would write them."""

    def __init__(self, kind):
        super().__init__()
        self.encoder = getattr(sk.nn, kind)(5, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.decoder = getattr(sk.nn, f"Attention{kind}")(5, 6, 12, 8)
        self.readout = torch.nn.Linear(6 + 12, 9)

    def forward(self, source, lengths, target):
        memory, state = self.encoder(source, lengths=lengths)
        state = (state[0][0], state[1][0]) if isinstance(state, tuple) else state[0]
        out = self.decoder(target, state, memory, lengths=lengths)
        return self.readout(torch.cat([out.states, out.contexts[:, :-1]], -1))


def translator_inputs(target, batch=3, source=7, steps=4, dtype=torch.float64):
    return (
        torch.randn(batch, source, 5, dtype=dtype).to(target.device),
        torch.randint(1, source + 1, (batch,)).to(target.device),
        torch.randn(batch, steps, 5, dtype=dtype).to(target.device),
    )


def gradients(model, function, inputs):
    return torch.autograd.grad(function(*inputs).square().sum(), list(model.parameters()))


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_a_model_with_dynamic_shapes(kernel, kind):
    """One compilation serves every batch, source and target size."""
    if kernel.backend == "reference":
        pytest.skip("the reference's loop is unrolled, and compiled again, for each length")
    model = Translator(kind).to(kernel.device).double()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for sizes in ((3, 7, 4), (4, 5, 6), (2, 9, 3)):
            inputs = translator_inputs(kernel, *sizes)
            close([compiled(*inputs)], [model(*inputs)])
            close(gradients(model, compiled, inputs), gradients(model, model, inputs), 1e-12)


def test_inductor(kernel):
    """Through the default compiler, with the pointwise work around the ops fused."""
    module = sk.nn.GRU(5, 6, bidirectional=True, batch_first=True).to(kernel.device)
    x = torch.randn(3, 4, 5, device=kernel.device)

    def function(x):
        output, h_n = module(torch.tanh(x))
        return torch.relu(output).sum() + h_n.square().sum()

    compiled = torch.compile(function, fullgraph=True)
    parameters = list(module.parameters())
    close([compiled(x)], [function(x)], 1e-6)
    close(torch.autograd.grad(compiled(x), parameters), torch.autograd.grad(function(x), parameters), 1e-6)


def test_a_decoding_step(kernel):
    decoder = sk.nn.AttentionLSTM(5, 6, 7, 8, num_heads=2, feed_size=4).to(kernel.device)
    memory, x, h = (torch.randn(3, *shape, device=kernel.device) for shape in ((5, 7), (5,), (6,)))
    keys = decoder.project_keys(memory)
    state = decoder.start((h, h), memory, keys=keys)
    step = torch.compile(decoder.step, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        close(step(x, state, memory, keys=keys), decoder.step(x, state, memory, keys=keys), 1e-6)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("strict", [False, True])
def test_export(kernel, kind, strict):
    model = Translator(kind).to(kernel.device).double().eval()
    dynamic = {"source": {0: torch.export.Dim.AUTO}, "lengths": {0: torch.export.Dim.AUTO}, "target": None}
    dynamic["target"] = {0: torch.export.Dim.AUTO}
    program = torch.export.export(model, translator_inputs(kernel), dynamic_shapes=dynamic, strict=strict)
    inputs = translator_inputs(kernel, batch=5)
    close([program.module()(*inputs)], [model(*inputs)])


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
def test_cells(kernel, kind):
    cell = getattr(sk.nn, kind)(5, 6).to(kernel.device)
    x = torch.randn(3, 5, device=kernel.device)
    compiled = torch.compile(cell, fullgraph=True, backend="aot_eager")
    found, expected = compiled(x), cell(x)
    close(*([y] if kind == "GRUCell" else y for y in (found, expected)), 1e-6)


def test_autocast_inside_a_graph(kernel):
    inputs = place(example("attention_gru", F=4), kernel.device, torch.float32)

    def function(inputs):
        with torch.autocast(kernel.device, torch.bfloat16):
            return call(sk, "attention_gru", inputs)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for x, y in zip(compiled(inputs), function(inputs), strict=True):
        assert x.dtype == y.dtype == torch.bfloat16
        assert (x - y).abs().max() <= 0.02 * y.abs().max()
