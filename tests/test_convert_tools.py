"""PyTorch's own tools on a model, before `convert` and after: what worked goes on working."""

import copy
import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from helpers import Random
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrize import remove_parametrizations
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk

KINDS = [nn.GRU, nn.LSTM, nn.GRUCell, nn.LSTMCell]


def weight(kind):
    return "weight_hh" if kind.__name__.endswith("Cell") else "weight_hh_l0"


def input_for(kind, dtype=torch.float64):
    return Random(0).normal(*((3, 5) if kind.__name__.endswith("Cell") else (4, 3, 5))).to(dtype)


def outputs(module, x):
    return [y.detach() for y in tree_leaves(module(x)) if isinstance(y, torch.Tensor)]


def assert_same(found, expected, tolerance=1e-13):
    for x, y in zip(found, expected, strict=True):
        assert x.shape == y.shape and torch.allclose(x, y, rtol=0, atol=tolerance)


def weight_norm(module, name):
    parametrizations.weight_norm(module, name)


def spectral_norm(module, name):
    parametrizations.spectral_norm(module, name)


def old_weight_norm(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(module, name)


def old_spectral_norm(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.spectral_norm(module, name)


def pruned(module, name):
    prune.l1_unstructured(module, name, 0.3)


def dropped(module, name):
    """As WeightDrop has it: the parameter under another name, and a tensor made of it in its place."""
    raw = module._parameters.pop(name)
    module.register_parameter(f"{name}_raw", nn.Parameter(raw.detach()))

    def before(module, _):
        setattr(module, name, getattr(module, f"{name}_raw") * 0.5)

    module.register_forward_pre_hook(before)


WAYS = [weight_norm, spectral_norm, old_weight_norm, old_spectral_norm, pruned, dropped]


def change(module):
    """What training does to the parameters, whatever they are called."""
    with torch.no_grad():
        for i, x in enumerate(module.parameters()):
            x.add_(Random(i).normal(*x.shape, scale=0.1).to(x.dtype))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_parametrised_weights(kind, way, order):
    """convert before or after, then a change, then revert: at every point the numbers of a module left alone."""
    module = kind(5, 6).double()
    alone, x = copy.deepcopy(module), input_for(kind)
    for step in {"before": (way, sk.convert), "after": (sk.convert, way)}[order]:
        torch.manual_seed(1)  # of spectral_norm's vectors
        step(module, weight(kind)) if step is way else step(module)
    torch.manual_seed(1)
    way(alone, weight(kind))
    module.eval(), alone.eval()
    fused = {nn.GRU: sk.nn.GRU, nn.LSTM: sk.nn.LSTM, nn.GRUCell: sk.nn.GRUCell, nn.LSTMCell: sk.nn.LSTMCell}[kind]
    assert isinstance(module, fused)
    for then in (lambda _: None, change):
        then(module), then(alone)
        assert_same(outputs(module, x), outputs(alone, x))
    assert list(module.state_dict()) == list(alone.state_dict())
    if way not in (old_weight_norm, old_spectral_norm, dropped, pruned):  # whose computed weights are no leaves
        assert_same(outputs(copy.deepcopy(module), x), outputs(alone, x))
    assert sk.revert(module) is module and not isinstance(module, fused)
    assert all(torch.equal(a, b) for a, b in zip(outputs(module, x), outputs(alone, x), strict=True))
    change(module), change(alone)
    assert_same(outputs(sk.convert(module), x), outputs(alone, x))
    if way is weight_norm:
        for m in (module, alone):
            remove_parametrizations(m, weight(kind))
        assert_same(outputs(module, x), outputs(alone, x))
        assert type(sk.revert(module)) is kind


@pytest.mark.parametrize("kind", KINDS)
def test_meta_device(kind):
    for module in (sk.convert(kind(5, 6, device="meta")), sk.convert(kind(5, 6)).to("meta")):
        found = tree_leaves(module(input_for(kind, torch.float32).to("meta")))
        expected = tree_leaves(kind(5, 6)(input_for(kind, torch.float32)))
        assert [(y.shape, y.dtype, y.device.type) for y in found] == [(y.shape, y.dtype, "meta") for y in expected]


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_output_may_be_viewed_and_changed(kind, batch_first, bidirectional):
    """As nn.GRU's; ours also where nn.LSTM's is saved for backward."""
    module = kind(5, 6, batch_first=batch_first, bidirectional=bidirectional).double()
    x, gradients = input_for(kind), []
    for step in (sk.revert, sk.convert):
        output = step(module)(x)[0]
        if step is sk.revert and kind is nn.LSTM:
            output = output.clone()
        output *= 2
        if not batch_first:
            output.view(-1, output.shape[-1])[0].zero_()
        gradients.append(torch.autograd.grad(output.square().sum(), list(module.parameters())))
    assert_same(*gradients, 1e-12)
    assert module.eval()(x)[0].mul_(2).sum().backward() is None
    assert module(x[:, 0])[0].mul_(2).requires_grad  # unbatched


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_seed_drops_the_same_units(kind, packed):
    torch.use_deterministic_algorithms(False)
    module = kind(5, 6, num_layers=3, dropout=0.4, bidirectional=True).double()
    x, found = input_for(kind), []
    if packed:
        x = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 4, 1]), enforce_sorted=False)
    for step in (sk.revert, sk.convert):
        torch.manual_seed(3)
        found.append(outputs(step(module), x))
    assert_same(*found)


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
@pytest.mark.parametrize("form", [{}, {"batch_first": True}, {"batch_first": True, "bidirectional": True}], ids=str)
def test_dropout_of_the_output_draws_the_same(kind, form):
    """It draws in the order of memory, which torch.nn's output has by time, with batch_first too."""
    torch.use_deterministic_algorithms(False)
    module, x, found = kind(5, 6, **form).double(), input_for(kind), []
    for step in (sk.revert, sk.convert):
        output = step(module)(x)[0]
        torch.manual_seed(3)
        found.append([nn.functional.dropout(output, 0.5).detach()])
    assert_same(*found)


def test_attributes_and_hooks():
    module = sk.convert(nn.LSTM(5, 6, num_layers=2, bidirectional=True))
    module.flatten_parameters()
    assert [[w.shape for w in ws] for ws in module.all_weights] == [
        [w.shape for w in ws] for ws in nn.LSTM(5, 6, num_layers=2, bidirectional=True).all_weights
    ]
    assert all(a is b for a, b in zip(module._flat_weights, module.parameters(), strict=True))
    called = []
    module.register_forward_pre_hook(lambda m, x: called.append("pre"))
    module.register_forward_hook(lambda m, x, y: called.append("forward"))
    module.register_full_backward_hook(lambda m, x, y: called.append("backward"))
    module(input_for(nn.LSTM, torch.float32).requires_grad_())[0].sum().backward()
    assert called == ["pre", "forward", "backward"]
    module.check_forward_args(torch.randn(4, 3, 5), (torch.zeros(4, 3, 6),) * 2, None)


@pytest.mark.parametrize("kind", KINDS)
def test_saving_and_loading(kind):
    module, x = sk.convert(kind(5, 6)), input_for(kind, torch.float32)
    saved = io.BytesIO()
    torch.save(module.state_dict(), saved)
    saved.seek(0)
    plain = kind(5, 6)
    plain.load_state_dict(torch.load(saved, weights_only=True))
    assert_same(outputs(plain, x), outputs(module, x), 1e-6)
    module.load_state_dict(plain.state_dict())
    whole = io.BytesIO()
    torch.save(module, whole)
    whole.seek(0)
    assert all(torch.equal(a, b) for a, b in zip(outputs(torch.load(whole, weights_only=False), x), outputs(module, x)))


@pytest.mark.parametrize("kind", KINDS)
def test_functional_call(kind):
    module, x = kind(5, 6).double(), input_for(kind)
    weights = {name: 0.5 * w.detach() for name, w in module.named_parameters()}
    expected = [y.detach() for y in tree_leaves(torch.func.functional_call(module, weights, (x,)))]
    sk.convert(module)
    assert_same([y.detach() for y in tree_leaves(torch.func.functional_call(module, weights, (x,)))], expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_jit_trace_runs_without_this_package(kind, tmp_path):
    module, x = sk.convert(nn.Sequential(kind(5, 6))).eval(), input_for(kind, torch.float32)
    traced = torch.jit.trace(module, x)
    assert_same(tree_leaves(traced(x)), outputs(module, x), 1e-6)
    assert "s2s_kernels" not in str(traced.inlined_graph)
    traced.save(tmp_path / "traced.pt")
    code = f"import torch; print(type(torch.jit.load({str(tmp_path / 'traced.pt')!r})(torch.ones{tuple(x.shape)})))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_jit_script_says_what_to_do(kind):
    model = nn.Sequential(kind(5, 6))
    with pytest.raises(RuntimeError, match=r"torch.jit.script cannot .* call s2s_kernels.revert\(model\)"):
        torch.jit.script(sk.convert(model))
    torch.jit.script(sk.revert(model))


def through_onnx(model, inputs, path, dynamo):
    """The outputs of ONNX Runtime."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript, which PyTorch's exporters need, is not installed")
    torch.use_deterministic_algorithms(False)  # in which the exporter cannot work
    torch.onnx.export(model, inputs, str(path), dynamo=dynamo, verbose=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [x.name for x in session.get_inputs()]
    return session.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})


EXPORTERS = pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
@EXPORTERS
def test_onnx_export(kind, dynamo, tmp_path):
    form = {} if kind.__name__.endswith("Cell") else {"num_layers": 2, "bidirectional": True}
    model, x = sk.convert(nn.Sequential(kind(5, 6, **form))).eval(), input_for(kind, torch.float32)
    for y, expected in zip(through_onnx(model, (x,), tmp_path / "model.onnx", dynamo), outputs(model, x), strict=True):
        assert np.allclose(y, expected, rtol=0, atol=1e-6)


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = sk.nn.AttentionLSTM(5, 6, 7, 4, num_heads=2, feed_size=3)

    def forward(self, x, h, memory):
        return self.decoder(x, (h, h), memory).states


@pytest.mark.filterwarnings("ignore")
@EXPORTERS
def test_onnx_export_of_an_op(dynamo, tmp_path):
    """As the reference, its steps one after another."""
    model, inputs = Decoder().eval(), tuple(Random(1).normal(*s).float() for s in ((2, 3, 5), (2, 6), (2, 4, 7)))
    (found,) = through_onnx(model, inputs, tmp_path / "model.onnx", dynamo)
    assert np.allclose(found, model(*inputs).detach(), rtol=0, atol=1e-6)


def test_lengths_cannot_be_recorded():
    module = sk.nn.GRU(5, 6)
    with pytest.raises(ValueError, match="lengths is given"):
        torch.jit.trace(lambda x: module(x, lengths=torch.tensor([4, 4, 4]))[0], input_for(nn.GRU, torch.float32))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_quantize_dynamic(kind):
    """Nothing was quantised, and nothing said so."""
    if not {"fbgemm", "onednn", "x86"} & set(torch.backends.quantized.supported_engines):
        pytest.skip("this build of PyTorch has no quantised kernels for a CPU")
    model, x = nn.Sequential(kind(5, 6)).eval(), input_for(kind, torch.float32)

    def quantize(model, *kinds):
        return torch.ao.quantization.quantize_dynamic(model, set(kinds), dtype=torch.qint8)

    expected = quantize(model, kind)
    sk.convert(model)
    if kind in (nn.GRUCell, nn.LSTMCell):  # which PyTorch looks for with `is`, later
        with pytest.raises(RuntimeError, match=r"call s2s_kernels.revert\(model\) before it"):
            quantize(model, kind)
        quantize(model, nn.Linear)
        sk.revert(model)
    found = quantize(model, kind)
    assert type(found[0]) is type(expected[0]) and "quantized" in type(found[0]).__module__
    assert all(torch.equal(a, b) for a, b in zip(outputs(found, x), outputs(expected, x), strict=True))


def test_symbolic_trace_has_it_as_a_leaf():
    model = sk.convert(nn.Sequential(nn.Linear(5, 5), nn.GRU(5, 6)))
    traced = torch.fx.symbolic_trace(model)
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_module", "call_module", "output"]
    x = input_for(nn.GRU, torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(outputs(traced, x), outputs(model, x), strict=True))


def test_data_parallel_replicas():
    module = sk.convert(nn.GRU(5, 6))
    replica = module._replicate_for_data_parallel()
    replica._parameters = dict(module._parameters)
    x = input_for(nn.GRU, torch.float32)
    assert type(replica) is type(module) and all(
        torch.equal(a, b) for a, b in zip(outputs(replica, x), outputs(module, x), strict=True)
    )
