import abc
import copy
import pickle
import unittest.mock
import warnings

import pytest
import torch
from helpers import Random
from torch import nn
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk

FUSED = {nn.GRU: sk.nn.GRU, nn.LSTM: sk.nn.LSTM, nn.GRUCell: sk.nn.GRUCell, nn.LSTMCell: sk.nn.LSTMCell}


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(5, 6, num_layers=2, bidirectional=True, batch_first=True, dropout=0.25)
        self.decoders = nn.ModuleList([nn.LSTM(12, 4, batch_first=True), nn.ModuleDict({"cell": nn.GRUCell(4, 3)})])
        self.last = nn.LSTMCell(3, 2, bias=False)
        self.head = nn.Linear(2, 2)

    def forward(self, x):
        x, _ = self.encoder(x)
        _, (h, _) = self.decoders[0](x)
        return self.head(self.last(self.decoders[1]["cell"](h[0]))[0])


def input_for(target, dtype=torch.float64):
    return Random(0).normal(3, 4, 5).to(target.device, dtype)


def test_swaps_in_place_and_back(anywhere):
    model = Model().to(anywhere.device).double().eval()
    x = input_for(anywhere)
    expected = model(x)
    parameters, modules, keys = list(model.parameters()), list(model.modules()), list(model.state_dict())
    kinds = [type(m) for m in modules]
    attributes = [set(m.__dict__) for m in modules]
    assert sk.convert(model) is model
    assert all(isinstance(m, FUSED.get(kind, kind)) for m, kind in zip(model.modules(), kinds, strict=True))
    assert [type(m) for m in model.modules()] == kinds  # they stand for their old classes,
    assert not any(type(m) is kind for m, kind in zip(model.modules(), kinds, strict=True) if kind in FUSED)
    assert torch.allclose(model(x), expected, rtol=0, atol=1e-13)
    assert sk.convert(model) is model  # nothing is left to do
    for undo in (False, True):
        if undo:
            assert sk.revert(model) is model
            assert all(type(m) is kind for m, kind in zip(model.modules(), kinds, strict=True))
            assert [set(m.__dict__) for m in modules] == attributes
            assert torch.equal(model(x), expected)
        assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert list(model.state_dict()) == keys
        assert not model.training


@pytest.mark.parametrize("kind", FUSED)
def test_root(kind):
    module = kind(5, 6)
    assert isinstance(sk.convert(module), FUSED[kind]) and isinstance(module, kind)
    assert type(sk.revert(module)) is kind


@pytest.mark.parametrize("kind", FUSED)
def test_checks_and_tables_by_type_go_on_finding_it(kind):
    others = set(FUSED) - {kind}
    module = sk.convert(kind(5, 6))
    assert type(module) == kind and kind == type(module) and not type(module) != kind  # noqa: E721, SIM202
    assert type(module) in {kind} and {kind: 1}[type(module)] == 1 and type(module) in [nn.Linear, kind]
    assert not any(type(module) == other or isinstance(module, other) for other in others)  # noqa: E721
    assert type(module) not in {*others, FUSED[kind], nn.Module}
    assert "converted" in repr(type(module)) and repr(module) == repr(kind(5, 6))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM])
def test_isinstance_in_a_compiled_function(kind):
    """Branches as JoeyNMT's and OpenNMT-py's decoders have them; other modules' refusal stays."""
    torch._dynamo.reset()

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(5, 6)

        def forward(self, x):
            if isinstance(self.rnn, (nn.LSTM, nn.RNN)):
                output, (h, c) = self.rnn(x)
                return output + c
            assert isinstance(self.rnn, nn.GRU) and type(self.rnn) == nn.GRU  # noqa: E721
            output, h = self.rnn(x)
            return output + h

    x, decoder = torch.randn(3, 2, 5), sk.convert(Decoder())
    compiled = torch.compile(decoder, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x), decoder(x), rtol=0, atol=1e-6)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
        torch.compile(kind(5, 6), fullgraph=True, backend="eager")(x)
    assert not torch._dynamo.config.allow_rnn
    torch._dynamo.reset()


def test_an_optimizer_made_before_goes_on(anywhere):
    model = Model().to(anywhere.device).double().eval()
    twin = copy.deepcopy(model)
    optimizers = [torch.optim.Adam(m.parameters(), 0.01) for m in (model, twin)]
    sk.convert(model)
    x = input_for(anywhere)
    for _ in range(3):
        for m, optimizer in zip((model, twin), optimizers, strict=True):
            optimizer.zero_grad()
            m(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_hooks_and_shared_modules_stay():
    shared = nn.GRU(5, 5)
    model = nn.ModuleList([shared, shared])
    calls = []
    shared.register_forward_hook(lambda *_: calls.append(1))
    sk.convert(model)
    assert model[0] is model[1] is shared and isinstance(shared, sk.nn.GRU)
    shared(torch.randn(2, 3, 5))
    assert calls == [1]


class Doubled(nn.GRU):
    """Only adds to the forward of nn.GRU, an argument among it."""

    def __init__(self, *args, factor=2, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor

    def forward(self, input, hx=None, extra=0):
        output, h_n = super().forward(self.factor * input, hx)
        return output + extra, h_n


class Plain(nn.LSTM):
    pass


class Abstract(abc.ABC, nn.RNNBase):
    @abc.abstractmethod
    def name(self):
        pass

    def forward(self, x, hx=None, lengths=None):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        return super().forward(packed, hx)


class Concrete(Abstract, nn.LSTM):
    def name(self):
        return "concrete"


class Cell(nn.LSTMCell):
    def forward(self, input, hx=None):
        h, c = super().forward(input, hx)
        return h.tanh(), c


@pytest.mark.parametrize("kind", [Doubled, Plain, Concrete, Cell])
def test_subclasses_that_call_super_are_converted(kind):
    module = kind(5, 6).double()
    x = Random(0).normal(*((3, 5) if kind is Cell else (4, 3, 5)))
    more = {"lengths": torch.tensor([4, 2, 3])} if kind is Concrete else {}
    expected = tree_leaves(module(x, **more))
    report = sk.convert(module, report=True)
    assert report.converted == [("the model", kind.__name__)] and not report.left
    calls = []
    with unittest.mock.patch.object(sk.nn.recurrent.Recurrent, "_forward", autospec=True) as fused:
        fused.side_effect = lambda *args, **kwargs: calls.append(1) or original(*args, **kwargs)
        found = tree_leaves(module(x, **more))
    assert calls or kind is Cell
    for twin in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert isinstance(twin, kind) and type(twin) == kind and twin.__dict__.keys() == module.__dict__.keys()  # noqa: E721
        for y, expect in zip(tree_leaves(twin(x, **more)), expected, strict=True):
            assert torch.is_tensor(y) and torch.allclose(y, expect, rtol=0, atol=1e-13)
    assert len(found) == len(expected)
    assert type(sk.revert(module)) is kind
    assert all(torch.equal(y, expect) for y, expect in zip(tree_leaves(module(x, **more)), expected, strict=True))


original = sk.nn.recurrent.Recurrent._forward


class OwnForward(nn.GRU):
    def forward(self, input, hx=None):
        return input, hx


class OwnCheck(nn.GRU):
    def check_input(self, input, batch_sizes):
        pass


class Registered(nn.GRU):
    known = {}  # noqa: RUF012

    def __init_subclass__(cls):
        if cls.__name__ in Registered.known:
            raise ValueError(f"{cls.__name__} is registered already")
        Registered.known[cls.__name__] = cls


class OfRegistered(Registered):
    pass


class OwnLayer(nn.GRU):
    def _layer(self):
        pass


def test_what_has_no_counterpart_stays_and_is_named():
    by_hand = nn.GRU(5, 6)
    by_hand.forward = by_hand.forward
    taken = nn.GRU(5, 6)
    taken._layer = nn.Linear(2, 2)
    model = nn.ModuleDict(
        {
            "projection": nn.LSTM(5, 6, proj_size=2),
            "elman": nn.Sequential(nn.RNN(5, 6)),
            "cell": nn.RNNCell(5, 6),
            "own": OwnForward(5, 6),
            "check": OwnCheck(5, 6),
            "layer": OwnLayer(5, 6),
            "registered": OfRegistered(5, 6),
            "hand": by_hand,
            "taken": taken,
            "quantizable": torch.ao.nn.quantizable.LSTM(5, 6),
            "script": torch.jit.script(nn.GRU(5, 6)),
            "fine": nn.GRU(5, 6),
        }
    )
    reasons = {
        "projection": "proj_size = 2",
        "elman.0": "neither GRU nor LSTM",
        "cell": "neither GRU nor LSTM",
        "own": "does not call super().forward",
        "check": "its own check_input",
        "layer": "its own _layer",
        "registered": "cannot be derived from: ValueError: OfRegistered is registered already",
        "hand": "its forward is an attribute",
        "taken": "it has an attribute _layer",
        "script": "neither GRU nor LSTM",
    }
    kinds = [type(m) for m in model.modules()]
    with pytest.warns(UserWarning) as caught:
        sk.convert(model)
    messages = [str(w.message) for w in caught]
    assert len(messages) == len(reasons)
    for (path, reason), message in zip(reasons.items(), messages, strict=True):
        assert message.startswith(f"convert: {path} stays as it is: ") and reason in message
    assert all(type(m) is kind for m, kind in zip(model.modules(), kinds, strict=True) if m is not model["fine"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = sk.convert(sk.revert(model), report=True)
    assert report.converted == [("fine", "GRU")]
    assert [(path, reason in why) for (path, _, why), reason in zip(report.left, reasons.values(), strict=True)] == [
        (path, True) for path in reasons
    ]
    text = str(report)
    assert text.startswith("1 module runs on the fused kernels now:\n  fine") and "10 modules run as before:" in text
    assert str(sk.convert(nn.Linear(2, 2), report=True)) == "0 modules run on the fused kernels now."


def test_modules_that_were_fused_before_stay_fused():
    model = nn.ModuleList([sk.nn.GRU(5, 6), nn.GRU(5, 6), sk.nn.LSTMCell(5, 6)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sk.revert(sk.convert(model))
    assert [type(m) for m in model] == [sk.nn.GRU, nn.GRU, sk.nn.LSTMCell]


def test_a_copy_of_a_converted_model_reverts_too():
    model = sk.convert(Model())
    for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert isinstance(twin.encoder, sk.nn.GRU)
        sk.revert(sk.convert(twin))
        assert type(twin.encoder) is nn.GRU
        sk.convert(twin)
    assert isinstance(model.encoder, sk.nn.GRU)


def test_a_class_derived_since_is_not_reverted():
    model = sk.convert(nn.ModuleList([nn.GRU(5, 6), nn.GRU(5, 6)]))
    model[1].__class__ = type("Sharded", (type(model[1]),), {})
    with pytest.raises(ValueError, match=r"1 is a Sharded, a class derived from the converted one since"):
        sk.revert(model)
    assert isinstance(model[0], sk.nn.GRU)  # nothing was changed


def test_moves_and_new_weights_after_conversion(anywhere):
    model = sk.convert(Model()).to(anywhere.device).double().eval()
    model.load_state_dict({name: 2 * x for name, x in model.state_dict().items()})
    x = input_for(anywhere)
    found = model(x)
    assert torch.allclose(found, sk.revert(model)(x), rtol=0, atol=1e-13)


def test_not_a_module():
    for function in (sk.convert, sk.revert):
        with pytest.raises(TypeError, match="model is a list"):
            function([nn.GRU(5, 6)])
