"""sk.nn against torch.nn: the same parameters, the same numbers."""

import copy
import io
import pickle

import pytest
import torch
from helpers import Random
from sequence_tests import assert_same, flat, pair
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

import s2s_kernels as sk

KINDS = ["GRU", "LSTM"]
FORMS = [
    {},
    {"batch_first": True},
    {"num_layers": 2, "bias": False},
    {"bidirectional": True, "batch_first": True},
    {"num_layers": 3, "bidirectional": True},
]


def states_for(kind, target, *shape, dtype=torch.float64):
    r = Random(5)
    h = r.normal(*shape).to(target.device, dtype)
    return h if kind == "GRU" else (h, r.normal(*shape).to(target.device, dtype))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("given_state", [False, True])
def test_outputs_and_gradients(anywhere, kind, form, dtype, given_state):
    theirs, ours = pair(kind, anywhere, dtype, **form)
    x = Random(0).normal(4, 3, 5).to(anywhere.device, dtype).requires_grad_()
    batch = 4 if form.get("batch_first") else 3
    directions = 1 + form.get("bidirectional", False)
    hx = None
    if given_state:
        hx = states_for(kind, anywhere, directions * form.get("num_layers", 1), batch, 6, dtype=dtype)
    expected, found = flat(theirs(x, hx)), flat(ours(x, hx))
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    assert_same(found, expected, tolerance)
    cotangents = [Random(i).normal(*y.shape).to(y.device, dtype) for i, y in enumerate(expected)]
    assert_same(
        torch.autograd.grad(found, [x, *ours.parameters()], cotangents),
        torch.autograd.grad(expected, [x, *theirs.parameters()], cotangents),
        10 * tolerance,
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
def test_unbatched(anywhere, kind, form):
    theirs, ours = pair(kind, anywhere, **form)
    x = Random(0).normal(4, 5).to(anywhere.device)
    assert_same(flat(ours(x)), flat(theirs(x)))
    hx = states_for(kind, anywhere, 4 if form else 1, 6)
    assert_same(flat(ours(x, hx)), flat(theirs(x, hx)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [{}, {"num_layers": 2, "bidirectional": True, "batch_first": True}], ids=str)
@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("given_state", [False, True])
def test_packed(anywhere, kind, form, enforce_sorted, given_state):
    theirs, ours = pair(kind, anywhere, **form)
    lengths = torch.tensor([7, 4, 4, 1] if enforce_sorted else [4, 1, 7, 4])
    batch_first = form.get("batch_first", False)
    x = Random(0).normal(4, 7, 5).to(anywhere.device).requires_grad_()

    def pack():
        rows = x if batch_first else x.transpose(0, 1)
        return pack_padded_sequence(rows, lengths, batch_first=batch_first, enforce_sorted=enforce_sorted)

    hx = states_for(kind, anywhere, 4 if form else 1, 4, 6) if given_state else None
    expected, found = theirs(pack(), hx), ours(pack(), hx)
    assert torch.equal(found[0].batch_sizes, expected[0].batch_sizes)
    for name in ("sorted_indices", "unsorted_indices"):
        mine, its = getattr(found[0], name), getattr(expected[0], name)
        assert mine is its is None or torch.equal(mine, its)
    expected, found = (flat((result[0].data, result[1])) for result in (expected, found))
    assert_same(found, expected)
    assert_same(
        torch.autograd.grad(sum(y.square().sum() for y in found), [x, *ours.parameters()]),
        torch.autograd.grad(sum(y.square().sum() for y in expected), [x, *theirs.parameters()]),
        1e-12,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_packed_list(anywhere, kind):
    theirs, ours = pair(kind, anywhere, bidirectional=True)
    rows = [Random(n).normal(n, 5).to(anywhere.device) for n in (2, 5, 1)]
    packed = pack_sequence(rows, enforce_sorted=False)
    for x, y in zip(pad_packed_sequence(ours(packed)[0]), pad_packed_sequence(theirs(packed)[0]), strict=True):
        assert torch.allclose(x, y, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_are_packing_without_packing(anywhere, kind, batch_first):
    theirs, ours = pair(kind, anywhere, num_layers=2, bidirectional=True, batch_first=batch_first)
    x = Random(0).normal(4, 7, 5).to(anywhere.device)
    lengths = torch.tensor([3, 6, 1, 6])  # none is full: packing needs total_length
    past = torch.arange(7) >= lengths[:, None]
    x[past.to(x.device)] = float("nan")
    x = x if batch_first else x.transpose(0, 1)
    packed = pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    output, states = theirs(packed)
    output, _ = pad_packed_sequence(output, batch_first=batch_first, total_length=7)
    assert_same(flat(ours(x, lengths=lengths.to(x.device))), flat((output, states)))


@pytest.mark.parametrize("kind", [*KINDS, "GRUCell", "LSTMCell"])
def test_same_parameters(kind):
    """Names, shapes, order, and the initial values of the same seed."""
    forms = [{}, {"bias": False}, {"device": "meta"}, {"dtype": torch.bfloat16}]
    if kind in KINDS:
        forms += [{"num_layers": 2, "bidirectional": True, "dropout": 0.5}]
    for form in forms:
        torch.manual_seed(3)
        theirs = getattr(torch.nn, kind)(5, 6, **form)
        torch.manual_seed(3)
        ours = getattr(sk.nn, kind)(5, 6, **form)
        assert repr(ours) == repr(theirs)
        for (name, x), (its_name, y) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert name == its_name and x.shape == y.shape and x.dtype == y.dtype and x.device == y.device
            assert x.is_meta or torch.equal(x, y)
    theirs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(3,), ()], ids=["batched", "unbatched"])
def test_cells(anywhere, kind, bias, shape):
    theirs, ours = pair(kind, anywhere, bias=bias)
    x = Random(1).normal(*shape, 5).to(anywhere.device).requires_grad_()
    for hx in (None, states_for(kind[:-4], anywhere, *shape, 6)):
        expected, found = theirs(x, hx), ours(x, hx)
        expected, found = ([y] if kind == "GRUCell" else list(y) for y in (expected, found))
        assert_same(found, expected)
        assert_same(
            torch.autograd.grad(sum(y.square().sum() for y in found), [x, *ours.parameters()]),
            torch.autograd.grad(sum(y.square().sum() for y in expected), [x, *theirs.parameters()]),
        )


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_between_layers_in_training(anywhere, kind):
    theirs, ours = pair(kind, anywhere, num_layers=2, dropout=1.0)
    x = Random(0).normal(4, 3, 5).to(anywhere.device)
    with torch.backends.cudnn.flags(enabled=False):  # it would divide by 1 - dropout
        assert_same(flat(ours(x)), flat(theirs(x)))  # all of the first layer's output is dropped
    assert_same(flat(ours.eval()(x)), flat(theirs.eval()(x)))
    half = sk.nn.GRU(5, 64, num_layers=2, dropout=0.5).to(anywhere.device)
    x = x.float()
    assert not torch.equal(half(x)[0], half(x)[0])
    half.eval()
    assert torch.equal(half(x)[0], half(x)[0])


def modules():
    yield from (getattr(sk.nn, kind)(5, 6, num_layers=2, bidirectional=True) for kind in KINDS)
    yield from (getattr(sk.nn, kind)(5, 6) for kind in ("GRUCell", "LSTMCell"))
    yield sk.nn.AdditiveAttention(5, 6, 4, num_heads=2, normalize=True)
    yield sk.nn.AttentionGRU(5, 6, 7, 8)
    yield sk.nn.AttentionLSTM(5, 6, 7, 8, num_heads=2, feed_size=3)


@pytest.mark.parametrize("module", list(modules()), ids=lambda m: type(m).__name__)
def test_copies(module):
    """deepcopy, pickle, save and load, .to, and a fresh draw of the parameters."""
    saved = io.BytesIO()
    torch.save(module.state_dict(), saved)
    saved.seek(0)
    fresh = copy.deepcopy(module)
    fresh.reset_parameters()
    names = [name for name, x in module.named_parameters() if name.rpartition(".")[2] not in ("g",)]
    assert not any(torch.equal(fresh.get_parameter(name), module.get_parameter(name)) for name in names)
    fresh.load_state_dict(torch.load(saved))
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), fresh):
        assert repr(twin) == repr(module)
        for x, y in zip(module.parameters(), twin.parameters(), strict=True):
            assert x is not y and torch.equal(x, y)
    assert all(x.dtype == torch.float64 for x in copy.deepcopy(module).to(torch.float64).parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_read_when_they_are_used(anywhere, kind):
    """functional_call, assignment and parametrisation all reach the kernels."""
    theirs, ours = pair(kind, anywhere)
    x = Random(0).normal(4, 3, 5).to(anywhere.device)
    doubled = {name: 2 * w.detach() for name, w in ours.named_parameters()}
    found = torch.func.functional_call(ours, doubled, (x,))
    theirs.load_state_dict(doubled)
    assert_same(flat(found), flat(theirs(x)))
    ours.weight_hh_l0 = torch.nn.Parameter(theirs.weight_hh_l0.detach().clone())
    theirs.load_state_dict(ours.state_dict())
    assert_same(flat(ours(x)), flat(theirs(x)))
    torch.nn.utils.parametrizations.weight_norm(ours, "weight_hh_l0")
    assert_same(flat(ours(x)), flat(theirs(x)))
    ours.flatten_parameters()


@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_errors(kind):
    if torch.__version__ >= "2.10":  # since then torch.nn's
        with pytest.raises(ValueError, match="input_size"):
            getattr(sk.nn, kind)(0, 6)
    module = getattr(sk.nn, kind)(5, 6)
    for shape in ((5,), (2, 3, 4, 5)):
        with pytest.raises(ValueError, match=r"input has \d dimensions"):
            module(torch.randn(shape))
    with pytest.raises(ValueError, match=r"input has shape \(2, 3, 4\).*input_size = 5"):
        module(torch.randn(2, 3, 4))
    x = torch.randn(2, 3, 5)
    wrong = torch.randn(2, 3, 6)
    with pytest.raises(ValueError, match=r"hx has shape \(2, 3, 6\), expected .* \(1, 3, 6\)"):
        module(x, wrong if kind == "GRU" else (wrong, wrong))
    with pytest.raises(TypeError, match="hx"):
        module(x, (wrong,))
    with pytest.raises(TypeError, match="dtype"):
        module(x.double())
    with pytest.raises(ValueError, match="lengths"):
        module(x[:, 0], lengths=torch.tensor([1]))
    with pytest.raises(ValueError, match="lengths"):
        module(pack_sequence([x[:, 0]]), lengths=torch.tensor([1]))
    with pytest.raises(ValueError, match="lengths"):
        module(x, lengths=torch.tensor([1, 2, 3]))


def test_projections_are_refused():
    with pytest.raises(ValueError, match="proj_size is 3"):
        sk.nn.LSTM(5, 6, proj_size=3)


@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell"])
def test_cell_errors(kind):
    cell = getattr(sk.nn, kind)(5, 6)
    with pytest.raises(ValueError, match="input has 3 dimensions"):
        cell(torch.randn(2, 3, 5))
    with pytest.raises(ValueError, match="input_size = 5"):
        cell(torch.randn(3, 4))
    wrong = torch.randn(2, 6)
    with pytest.raises(ValueError, match="hx"):
        cell(torch.randn(3, 5), wrong if kind == "GRUCell" else (wrong, wrong))
