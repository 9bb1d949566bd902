import copy
import pickle
import warnings

import pytest
import torch
from helpers import Random
from torch import nn

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
    assert [type(m) for m in model.modules()] == [FUSED.get(kind, kind) for kind in kinds]
    assert torch.allclose(model(x), expected, rtol=0, atol=1e-13)
    assert sk.convert(model) is model  # nothing is left to do
    for undo in (False, True):
        if undo:
            assert sk.revert(model) is model
            assert [type(m) for m in model.modules()] == kinds
            assert [set(m.__dict__) for m in modules] == attributes
            assert torch.equal(model(x), expected)
        assert all(a is b for a, b in zip(model.modules(), modules, strict=True))
        assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
        assert list(model.state_dict()) == keys
        assert not model.training


@pytest.mark.parametrize("kind", FUSED)
def test_root(kind):
    module = kind(5, 6)
    assert type(sk.convert(module)) is FUSED[kind]
    assert type(sk.revert(module)) is kind


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
    assert model[0] is model[1] is shared and type(shared) is sk.nn.GRU
    shared(torch.randn(2, 3, 5))
    assert calls == [1]


def test_what_has_no_counterpart_stays_with_a_warning():
    class Mine(nn.GRU):
        def forward(self, input, hx=None):
            return super().forward(2 * input, hx)

    model = nn.ModuleDict({"a": nn.LSTM(5, 6, proj_size=2), "b": nn.Sequential(Mine(5, 6)), "c": nn.GRU(5, 6)})
    with pytest.warns(UserWarning) as caught:
        sk.convert(model)
    messages = [str(w.message) for w in caught]
    assert len(messages) == 2
    assert "a stays as it is" in messages[0] and "proj_size = 2" in messages[0]
    assert "b.0 stays as it is" in messages[1] and "Mine" in messages[1]
    assert [type(m) for m in (model["a"], model["b"][0], model["c"])] == [nn.LSTM, Mine, sk.nn.GRU]


def test_modules_that_were_fused_before_stay_fused():
    model = nn.ModuleList([sk.nn.GRU(5, 6), nn.GRU(5, 6), sk.nn.LSTMCell(5, 6)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sk.revert(sk.convert(model))
    assert [type(m) for m in model] == [sk.nn.GRU, nn.GRU, sk.nn.LSTMCell]


def test_a_copy_of_a_converted_model_reverts_too():
    model = sk.convert(Model())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin.encoder) is sk.nn.GRU
        assert type(sk.revert(twin).encoder) is nn.GRU
    assert type(model.encoder) is sk.nn.GRU


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
