"""What "auto" leaves to cuDNN on a GPU. Without one torch's GRU and LSTM on the CPU stand in for cuDNN's, which tests
all that is made of them; a call on tensors without memory tests that torch takes what they are handed."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from helpers import DTYPES, Target, assert_parity, call, leaves, place, sequence_inputs
from sequence_tests import FORMS, assert_same, flat, pair
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import s2s_kernels as sk
from s2s_kernels import cudnn, reference

CASES = [("gru", name) for name in FORMS] + [("lstm", name) for name in FORMS if "lengths" not in name]
SIZES = [(3, 5, 7, 11), (1, 1, 1, 1), (17, 9, 8, 33)]
KINDS = ("GRU", "LSTM")


def stand_in(
    x, weights, stride, buffer, h0, c0, mode, hidden, projection, layers, batch_first, dropout, train, *rest
):  # fmt: skip
    """torch._cudnn_rnn on the CPU."""
    assert (stride, hidden, projection, layers) == (len(weights), h0.shape[2], 0, 1)
    assert torch.equal(buffer, flat_weights(weights, stride, x.shape[2], mode, hidden, 0, 1, True, False))
    assert batch_first and dropout == 0 and rest == (False, [], None) and h0.is_contiguous()
    assert train == (torch.is_grad_enabled() and any(y.requires_grad for y in (x, h0, *weights)))
    options = (len(weights) == 4, 1, 0.0, train, False, True)
    if mode == 3:
        assert c0 is None
        return *torch.gru(x, h0, weights, *options), None, None, None
    return *torch.lstm(x, (h0, c0), weights, *options), None, None


def flat_weights(weights, stride, inputs, mode, hidden, projection, layers, batch_first, bidirectional):
    """torch._cudnn_rnn_flatten_weight on the CPU."""
    assert (stride, projection, layers, batch_first, bidirectional) == (len(weights), 0, 1, True, False)
    assert weights[0].shape == ({3: 3, 2: 4}[mode] * hidden, inputs)
    return torch.cat([w.detach().flatten() for w in weights])


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """cuDNN's, or the CPU with the stand-in, and no determinism asked for."""
    deterministic = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    if request.param == "cpu":
        monkeypatch.setattr(cudnn, "takes", lambda x: True)
        monkeypatch.setattr(torch, "_cudnn_rnn", stand_in)
        monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", flat_weights)
    elif not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    yield request.param
    torch.use_deterministic_algorithms(deterministic)


# How the stand-in rounds says nothing of cuDNN: on the CPU only the formulas are tested.
ROUNDED = [pytest.param("cuda", dtype, marks=pytest.mark.gpu) for dtype in DTYPES]


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), *ROUNDED], ids=str, indirect=["device"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(("op", "form"), CASES, ids=str)
def test_parity(device, op, form, sizes, dtype):
    inputs = sequence_inputs(op, **dict(zip("BTIH", sizes, strict=True)) | FORMS[form])
    assert_parity(op, inputs, dtype, Target(device, "cudnn"))


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_without_a_step_and_padding_that_holds_nan(device, reverse):
    inputs = place(sequence_inputs("gru", B=4, T=5, lengths=torch.int64, reverse=reverse), device)
    inputs["lengths"] = torch.tensor([5, 0, 2, 1], device=device)
    past = torch.arange(5, device=device) >= inputs["lengths"][:, None]
    poisoned = leaves(inputs | {"x": inputs["x"].masked_fill(past[..., None], torch.nan)})
    inputs = leaves(inputs)
    names = [name for name, x in inputs.items() if isinstance(x, torch.Tensor) and x.requires_grad]
    found, expected = call(sk, "gru", poisoned), call(reference, "gru", inputs)
    for y, z in zip(found, expected, strict=True):
        torch.testing.assert_close(y, z, rtol=0, atol=1e-13)
    assert torch.equal(found[1][1], poisoned["h0"][1])
    cotangents = [torch.randn_like(y) for y in expected]
    found = torch.autograd.grad(found, [poisoned[name] for name in names], cotangents)
    expected = torch.autograd.grad(expected, [inputs[name] for name in names], cotangents)
    for name, y, z in zip(names, found, expected, strict=True):
        torch.testing.assert_close(y, z, rtol=0, atol=1e-12, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True, "bias": False}], ids=str)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_is_one_call(device, kind, batch_first, options, monkeypatch):
    monkeypatch.setattr(sk.ops, kind.lower(), None)  # not a layer and direction at a time
    theirs, ours = pair(kind, Target(device, "cudnn"), batch_first=batch_first, **options)
    x = torch.randn(4, 3, 5, dtype=torch.float64, device=device, requires_grad=True)
    states = torch.randn(2, len(ours._all_weights), 4 if batch_first else 3, 6, dtype=torch.float64, device=device)
    hx = states[0] if kind == "GRU" else (states[0], states[1])
    for given in (None, hx):
        assert_same(flat(ours(x, given)), flat(theirs(x, given)))
    assert_same(flat(ours(x[0])), flat(theirs(x[0])))


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_sequence(device, kind, monkeypatch):
    monkeypatch.setattr(sk.ops, kind.lower(), None)
    theirs, ours = pair(kind, Target(device, "cudnn"), bidirectional=True)
    x = torch.randn(7, 3, 5, dtype=torch.float64, device=device)
    packed = pack_padded_sequence(x, torch.tensor([2, 7, 4]), enforce_sorted=False)
    hx = torch.randn(2, 2, 3, 6, dtype=torch.float64, device=device)
    for given in (None, hx[0] if kind == "GRU" else (hx[0], hx[1])):
        (found, last), (expected, right) = ours(packed, given), theirs(packed, given)
        assert isinstance(found, PackedSequence)
        assert_same(flat((found.data, last)), flat((expected.data, right)))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_in_evaluation(device, kind):
    """Which torch.nn's refuses with cuDNN; and there dropout is off."""
    theirs, ours = pair(kind, Target(device, "cudnn"), num_layers=2, dropout=0.5)
    theirs, ours = theirs.cpu().eval(), ours.eval()
    x = torch.randn(4, 3, 5, dtype=torch.float64)
    grads = []
    for module, y in ((theirs, x), (ours, x.to(device))):
        y.requires_grad_()
        grads.append(torch.autograd.grad(module(y)[0].sum(), [y, *module.parameters()]))
    for expected, found in zip(*grads, strict=True):
        torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_of_modules(device, kind):
    module = getattr(sk.nn, kind)(5, 6).to(device)
    with pytest.raises(TypeError, match=r"weight_ih has dtype torch\.float32, expected torch\.float64 as x"):
        hx = torch.zeros(1, 3, 6, dtype=torch.float64, device=device)
        module(torch.randn(2, 3, 5, dtype=torch.float64, device=device), hx if kind == "GRU" else (hx, hx))


@pytest.mark.parametrize("biases", ["both", "none", "hh"])
@pytest.mark.parametrize("op", ["gru", "lstm"])
def test_torch_takes_the_call(op, biases, monkeypatch):
    monkeypatch.setattr(cudnn, "takes", lambda x: True)
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", flat_weights)  # not there for such tensors
    made = call(sk, op, place(sequence_inputs(op, biases=biases), "meta", torch.bfloat16))
    assert [y.shape for y in made] == [(3, 5, 11)] + [(3, 11)] * (len(made) - 1)
    assert all(y.dtype == torch.bfloat16 for y in made)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_weights_lie_in_one_piece(kind, dtype):
    """Where they do not, torch warns that it copies them; and autocast is in its own dtype."""
    torch.use_deterministic_algorithms(False)
    x = torch.randn(3, 5, 8, device="cuda")
    module = getattr(sk.nn, kind)(8, 16, num_layers=2, bidirectional=True).cuda()
    lengths = torch.tensor([5, 3, 1, 4, 2], device="cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        module.to(dtype)(x.to(dtype))
        module.float()
        with torch.autocast("cuda", dtype):
            assert all(module(x, lengths=given)[0].dtype == dtype for given in (None, lengths))


# --- when ---------------------------------------------------------------------------------------------------


@pytest.fixture
def on_gpu(monkeypatch):
    """`takes` as it would answer for a tensor of this dtype on a GPU with cuDNN."""
    torch.use_deterministic_algorithms(False)
    monkeypatch.setattr(torch, "cudnn_is_acceptable", lambda x: True)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91900)
    cudnn._computes_bfloat16.cache_clear()
    yield lambda dtype=torch.float16: cudnn.takes(SimpleNamespace(is_cuda=True, dtype=dtype))
    cudnn._computes_bfloat16.cache_clear()


def test_takes(on_gpu, monkeypatch):
    assert on_gpu()
    assert not cudnn.takes(torch.zeros(1)) and not cudnn.takes("no tensor")
    with sk.backend("reference"):
        assert not on_gpu()
    monkeypatch.setattr(torch, "cudnn_is_acceptable", lambda x: False)
    assert not on_gpu()


def test_takes_none_where_bits_are_promised(on_gpu):
    torch.use_deterministic_algorithms(True)
    assert not on_gpu()


def test_takes_bfloat16_where_it_can(on_gpu, monkeypatch):
    assert on_gpu(torch.bfloat16)
    cudnn._computes_bfloat16.cache_clear()
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91200)
    assert not on_gpu(torch.bfloat16)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device_type: device_type == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda device_type: torch.bfloat16)
    assert not on_gpu(torch.float16)
    assert on_gpu(torch.float64)  # which autocast leaves


@pytest.mark.parametrize(
    ("cudnns", "products", "taken"),
    [
        ("tf32", "none", False),
        ("tf32", "ieee", False),
        ("tf32", "tf32", True),
        ("ieee", "ieee", True),
        ("none", "tf32", True),
    ],
)
def test_float32_is_as_precise_as_products_are(on_gpu, monkeypatch, cudnns, products, taken):
    monkeypatch.setattr(torch.backends.cudnn, "rnn", SimpleNamespace(fp32_precision=cudnns))
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(fp32_precision=products))
    assert on_gpu(torch.float32) == taken
