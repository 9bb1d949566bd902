"""Both directions of a layer as one op: it is two calls of gru or lstm; and the modules that run it."""

import pytest
import sequence_tests as shared
import torch
from helpers import DTYPES, call, is_float, leaves, outputs_and_gradients, place, sequence_inputs

import s2s_kernels as sk
from s2s_kernels import reference

OPS = ("gru_bidirectional", "lstm_bidirectional")
FORMS = {name: shared.FORMS[name] for name in ("plain", "no bias", "bias_hh", "lengths", "one step")}
SIZES = [(1, 9, 5, 70), (7, 5, 3, 33), (16, 4, 3, 19), (60, 3, 3, 5)]


class TwoCalls:
    """The op as two calls of sk.gru or sk.lstm."""

    @staticmethod
    def gru_bidirectional(*args, **kwargs):
        return reference.gru_bidirectional(*args, **kwargs, op=sk.gru)

    @staticmethod
    def lstm_bidirectional(*args, **kwargs):
        return reference.lstm_bidirectional(*args, **kwargs, op=sk.lstm)


def assert_two_calls(op, inputs):
    cotangents = [torch.randn_like(y) for y in call(sk, op, inputs)]
    found, expected = (outputs_and_gradients(module, op, inputs, cotangents) for module in (sk, TwoCalls))
    for name, x in expected.items():
        assert torch.equal(found[name], x), name


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_is_two_calls(anywhere, op, dtype, form):
    assert_two_calls(op, place(sequence_inputs(op, **FORMS[form]), anywhere.device, dtype))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize(("B", "T", "I", "H"), SIZES)
def test_is_two_calls_in_any_threads(kernel, threads, op, count, B, T, I, H):
    threads(count)
    inputs = sequence_inputs(op, B=B, T=T, I=I, H=H, lengths=torch.int64)
    for dtype in (torch.float32, torch.bfloat16):
        assert_two_calls(op, place(inputs, kernel.device, dtype))


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_parity(kernel, op, dtype, form):
    shared.parity(op, kernel, dtype, **FORMS[form])


@pytest.mark.parametrize("op", OPS)
def test_gradcheck(kernel, op):
    shared.gradcheck(op, kernel, {"lengths": torch.int64})


@pytest.mark.parametrize("op", OPS)
def test_an_output_may_be_changed_in_place(kernel, op):
    """As that of torch.nn, for which backward keeps what it reads elsewhere."""
    inputs = leaves(place(sequence_inputs(op), kernel.device))
    wanted = [x for x in inputs.values() if is_float(x)]
    outputs = call(sk, op, inputs)
    expected = torch.autograd.grad([2 * y for y in outputs], wanted, [torch.ones_like(y) for y in outputs])
    outputs = [y.mul_(2) for y in call(sk, op, inputs)]
    found = torch.autograd.grad(outputs, wanted, [torch.ones_like(y) for y in outputs])
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
@pytest.mark.parametrize("layers", [1, 2])
def test_the_modules_run_it(monkeypatch, kernel, kind, layers):
    """In both directions; not with resets, nor the GRU that has no kernel."""
    module = getattr(sk.nn, kind)(5, 6, layers, bidirectional=True, batch_first=True).to(kernel.device)
    monkeypatch.setattr(sk.nn.GRU, "_layer", None)
    monkeypatch.setattr(sk.nn.LSTM, "_layer", None)
    x = torch.randn(3, 4, 5, device=kernel.device)
    output, last = module(x, lengths=torch.tensor([4, 1, 3], device=kernel.device))
    assert output.shape == (3, 4, 12) and (last[0] if kind == "LSTM" else last).shape == (2 * layers, 3, 6)
    with pytest.raises(TypeError):  # the _layer that is not there
        module(x, resets=torch.zeros(3, 4, dtype=torch.bool, device=kernel.device))


@pytest.mark.parametrize("op", OPS)
def test_messages_name_the_direction(anywhere, op):
    inputs = place(sequence_inputs(op), anywhere.device)
    for name in ("weight_hh_reverse", "bias_ih_reverse", "h0_reverse"):
        with pytest.raises(ValueError, match=f"^{name} has shape "):
            call(sk, op, inputs | {name: inputs[name][1:]})
