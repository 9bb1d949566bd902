"""Searches with weights in 8 bits, against the reference with the same integers."""

from types import SimpleNamespace

import pytest
import torch
from helpers import assert_within_rule, error, strided
from search_tests import EOS, FORMS, PART_FORMS, cast, run, search_inputs
from test_int8 import LANES

import s2s_kernels as sk
from s2s_kernels import extension, reference
from s2s_kernels.ops import decoder_search, registration
from s2s_kernels.quantize import CELL, MATRICES, quantize_matrix
from s2s_kernels.reference import int8

compiled = pytest.mark.skipif(not decoder_search.BACKENDS, reason="the compiled extension is not built here")
CLOSE = 2e-4  # of an integer: nearer to a half, float32 and float64 may round it differently


@pytest.fixture
def here(monkeypatch, anywhere):
    """The CPU's kernels and the reference; elsewhere weights in 8 bits are refused."""
    if anywhere.device != "cpu" and anywhere.backend != "reference":
        pytest.skip("no kernels for 8 bits on a GPU")
    import search_tests

    monkeypatch.setitem(search_tests.under_test, "device", anywhere.device)
    return anywhere


@pytest.fixture(params=LANES)
def lane(request):
    extension._C.pretend_int8_lane(request.param)
    yield request.param
    extension._C.pretend_int8_lane("")


def arguments(inputs):
    """Those of ``sk.quantize``."""
    names = (*MATRICES, *CELL, "layers", "transition")
    return {name: inputs[name] for name in names if inputs.get(name) is not None}


def narrowed(inputs):
    """The reference's: its matrices in 8 bits, all else as it is."""

    def cell(weights):
        return (*(quantize_matrix("w", w) for w in weights[:2]), *weights[2:])

    changed = {name: quantize_matrix(name, inputs[name]) for name in (*MATRICES, *CELL) if inputs.get(name) is not None}
    if "layers" in inputs:
        changed["layers"] = [cell(weights) for weights in inputs["layers"]]
    if "transition" in inputs:
        changed["transition"] = cell(inputs["transition"])
    return inputs | changed


def decided(monkeypatch, form, **options):
    """Inputs in float32, with what the reference finds of them in float64: the first that leave no number so near to
    the middle of two integers that rounding errors of float32 choose between them."""
    nearest = []

    def watched(x, quantize_rows=int8.quantize_rows):
        integers, scale = quantize_rows(x)
        exact = torch.where(scale[..., None] > 0, x / scale[..., None], 0)
        nearest.append((0.5 - (exact - integers).abs()).min().item())
        return integers, scale

    for seed in range(50):
        inputs = cast(search_inputs(**{"B": 2} | form, seed=seed), torch.Tensor.float)
        nearest.clear()
        with monkeypatch.context() as patch:
            patch.setattr(int8, "quantize_rows", watched)
            truth = run(reference.beam_search, narrowed(cast(inputs, torch.Tensor.double)), **options)
        assert len(nearest) > 8
        if min(nearest) > CLOSE:
            return inputs, truth
    raise AssertionError("every one of these inputs has a number near to the middle of two integers: take others")


def check(monkeypatch, form, **options):
    options = {"max_length": 3, "beam": 2, "n_best": 2, "return_weights": True} | options
    inputs, truth = decided(monkeypatch, form, **options)
    found = run(sk.beam_search, inputs, weights="int8", **options)
    eager = run(reference.beam_search, narrowed(inputs), **options)
    assert torch.equal(eager.ids, truth.ids), "these inputs decide nothing in float32: take others"
    assert torch.equal(found.ids, truth.ids) and torch.equal(found.lengths, truth.lengths)
    real = truth.scores > -torch.inf
    assert torch.equal(found.scores > -torch.inf, real)
    found, eager, truth = ({"scores": x.scores[real], "weights": x.weights} for x in (found, eager, truth))
    assert_within_rule([(found, {n: error(eager[n], truth[n]) for n in truth}, truth)], torch.float32, "beam_search")


@pytest.mark.exhaustive(every=2)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_parity(form, here, monkeypatch):
    check(monkeypatch, form)


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize("form", PART_FORMS.values(), ids=PART_FORMS.keys())
def test_parity_of_parts(form, here, monkeypatch):
    check(monkeypatch, form)


@pytest.mark.parametrize("scale", [0.5, -3])
@pytest.mark.parametrize("parts", [{}, {"score": "dot"}, {"score": "dot", "project": False}], ids=str)
def test_scale(parts, scale, here, monkeypatch):
    check(monkeypatch, {"readout": "state_context", "parts": parts | {"scale": scale}})


@pytest.mark.parametrize("form", ["bahdanau", "luong", "dot, layers", "no feeding, lstm"])
def test_every_lane_finds_the_same_bits(form, lane):
    """At sizes with rows for threads of their own, with few, with blocks of logits and columns past a panel's end."""
    for sizes in ({"B": 40, "seed": 1}, {"B": 3, "V": 700, "H": 64, "E": 17, "seed": 2}, {"B": 1, "V": 70, "seed": 3}):
        inputs = cast(search_inputs(**FORMS[form] | sizes), torch.Tensor.float)
        found = run(sk.beam_search, inputs, weights="int8", return_weights=True, n_best=2)
        extension._C.pretend_int8_lane("baseline")
        expected = run(sk.beam_search, inputs, weights="int8", return_weights=True, n_best=2)
        extension._C.pretend_int8_lane(lane)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
        truth = run(reference.beam_search, narrowed(inputs), n_best=2)
        same = (found.ids == truth.ids).flatten(1).all(1)
        assert same.float().mean() > 0.9  # an integer may be rounded otherwise in the reference's float32
        torch.testing.assert_close(found.scores[same], truth.scores[same], rtol=2e-2, atol=2e-2)


@compiled
@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads(count, threads):
    inputs = cast(search_inputs(B=4, V=400, H=64, A=64, S=20, seed=4, readout="state_context"), torch.Tensor.float)
    expected = run(sk.beam_search, inputs, weights="int8")
    threads(count)
    found = [run(sk.beam_search, inputs, weights="int8", return_weights=True) for _ in range(2)]
    assert torch.equal(found[0].ids, expected.ids)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("form", ["luong", "dot, layers", "gate, forward"])
def test_packed_once(form, here):
    inputs = cast(search_inputs(**FORMS[form], seed=1), torch.Tensor.float)
    packed = sk.quantize(**arguments(inputs))
    expected = run(sk.greedy_search, inputs, weights="int8", return_weights=True)
    shapes = inputs | {"w_output": torch.full_like(inputs["w_output"], torch.nan)}
    for given in (inputs, shapes, cast(inputs, strided)):  # of the matrices only the shapes count
        for _ in range(2):
            found = run(sk.greedy_search, given, weights=packed, return_weights=True)
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(expected.scores, run(sk.greedy_search, inputs).scores)


@compiled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits(dtype):
    """All between the products is float32 there too."""
    inputs = cast(search_inputs(**FORMS["bahdanau"], seed=1), lambda x: x.to(dtype))
    found, expected = (
        run(sk.beam_search, x, weights="int8", return_weights=True) for x in (inputs, cast(inputs, torch.Tensor.float))
    )
    assert all(torch.equal(a.to(b.dtype), b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", ["w_output", "weight_hh", "embedding"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_what_is_no_number_ends_its_prefixes(name, value, here):
    inputs = cast(search_inputs(readout="state_context", lengths=False), torch.Tensor.float)
    inputs[name][5, 2] = value
    found, truth = run(sk.beam_search, inputs, weights="int8"), run(reference.beam_search, narrowed(inputs))
    assert torch.equal(found.ids, truth.ids) and torch.equal(found.lengths, truth.lengths)
    assert (found.scores == -torch.inf).all() == (name != "embedding")


MODULES = [{"num_heads": 2, "feed_size": 8}, {"score": "general", "num_layers": 2, "feed": "linear", "feed_size": 8}]


@pytest.mark.parametrize("form", MODULES, ids=str)
def test_the_modules_search(form, here):
    torch.manual_seed(0)
    decoder = sk.nn.AttentionGRU(input_size=6, hidden_size=11, key_size=5, attention_size=7, **form)
    hidden, layers = decoder.hidden_size, (decoder.num_layers,) if decoder.layers else ()
    embedding, output = torch.nn.Embedding(20, 6), torch.nn.Linear(9, 20)
    readout = torch.nn.Linear(hidden + decoder.context_size, 9)
    memory, h = torch.randn(3, 4, 5), torch.randn(*layers, 3, hidden)
    decoder, embedding, output, readout, memory, h = (
        x.to(here.device) for x in (decoder, embedding, output, readout, memory, h)
    )
    options = {"bos": 1, "eos": 3, "max_length": 6, "readout": "state_context", "readout_layer": readout}
    options |= {"order": "after"}
    found = decoder.beam_search(h, memory, embedding, output, weights="int8", **options)
    packed = decoder.quantize(output, readout)
    again = decoder.beam_search(h, memory, embedding, output, weights=packed, **options)
    assert torch.equal(found.ids, again.ids) and torch.equal(found.scores, again.scores)
    assert not torch.equal(found.scores, decoder.beam_search(h, memory, embedding, output, **options).scores)


@pytest.mark.parametrize(
    "weights, kind, message",
    [
        ("int4", ValueError, "weights is 'int4', expected 'int8', what s2s_kernels.quantize returned, or None"),
        (8, ValueError, "weights is a int, expected 'int8'"),
        ({"w_readout": None}, ValueError, "weights has no w_readout, which the search is given"),
        ({"w_feed": torch.zeros(3, 3)}, ValueError, "weights has w_feed, which the search is not given"),
        ({"w_query": torch.zeros(7, 10)}, ValueError, r"weights has w_query of shape \(7, 10\), expected \(7, 11\)"),
    ],
    ids=str,
)
def test_wrong_weights(weights, kind, message, here):
    inputs = cast(search_inputs(**FORMS["bahdanau"]), torch.Tensor.float)
    if isinstance(weights, dict):
        weights = sk.quantize(**arguments(inputs) | weights)
    for search in (sk.beam_search, sk.greedy_search):
        with pytest.raises(kind, match=message):
            run(search, inputs, weights=weights)


def test_float64_is_refused(here):
    with pytest.raises(TypeError, match=r"weights is in 8 bits with keys of torch\.float64"):
        run(sk.beam_search, search_inputs(), weights="int8")


def test_a_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(decoder_search, "resolve", lambda kind: "cuda")
    like = SimpleNamespace(dtype=torch.float32, device=torch.device("cuda:0"))
    with pytest.raises(ValueError, match="weights is in 8 bits with keys on cuda:0, expected the CPU"):
        decoder_search.in_8_bits("int8", like)


@compiled
def test_the_op_checks_for_itself(monkeypatch):
    handed = []
    monkeypatch.setattr(registration, "run", lambda name, reference, where, *args, kernels: handed.append(args))
    with pytest.raises(TypeError):
        run(sk.beam_search, cast(search_inputs(**FORMS["bahdanau"]), torch.Tensor.float), weights="int8")
    (*args, packed), op = handed[0], torch.ops.s2s_kernels.decoder_search
    assert len(op(*args, packed)) == 4
    for i, x in enumerate(packed):
        for wrong in (x[1:], x.long(), x.transpose(0, 1), x.unsqueeze(0)):
            with pytest.raises((ValueError, TypeError)):
                op(*args, [*packed[:i], wrong, *packed[i + 1 :]])
    for wrong in (packed[:-1], packed[:2], [], [*packed, *packed[:2]]):
        with pytest.raises(ValueError, match="packed has"):
            op(*args, wrong)
    exact = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in args]
    exact[0] = [None if x is None else x.double() for x in args[0]]
    with pytest.raises(TypeError, match="packed is given with weights of float64"):
        op(*exact, packed)


@compiled
def test_opcheck_compile_and_autocast(monkeypatch):
    inputs = cast(search_inputs(**FORMS["dot, layers"]), torch.Tensor.float)
    packed = sk.quantize(**arguments(inputs))
    expected = run(sk.beam_search, inputs, weights="int8")
    for weights in ("int8", packed):
        made = torch.compile(
            lambda x, w=weights: run(sk.beam_search, x, weights=w), fullgraph=True, backend="aot_eager"
        )
        assert torch.equal(made(inputs).ids, expected.ids)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = run(sk.beam_search, inputs, weights=packed)
    near = run(sk.beam_search, cast(inputs, torch.Tensor.bfloat16), weights=packed)
    assert all(torch.equal(a, b) for a, b in zip(found, near, strict=True))
    op, given = torch.ops.s2s_kernels.decoder_search.default, []
    monkeypatch.setattr(
        registration, "run", lambda name, reference, where, *args, kernels: given.append(args) or op(*args)
    )
    run(sk.beam_search, inputs, weights=packed, return_weights=True, n_best=2)
    torch.library.opcheck(op, given[0])


def test_nothing_is_spoiled_by_the_rows_beside(here):
    """A sentence's outputs are those that it has alone."""
    inputs = cast(search_inputs(B=6, readout="state_context", R=7), torch.Tensor.float)
    inputs["b_output"][EOS] += 1
    together = run(sk.greedy_search, inputs, weights="int8")
    for b in range(6):
        one = inputs | {name: inputs[name][b : b + 1] for name in ("keys", "values", "lengths")}
        one["state"] = tuple(x[b : b + 1] for x in inputs["state"])
        assert torch.equal(run(sk.greedy_search, one, weights="int8").ids[0], together.ids[b])
