"""Searches whose decoders have parts (docs/ops.md), against the reference and the scans with the same parts."""

import pytest
import torch
from helpers import strided
from search_tests import (
    BOS,
    EOS,
    FORMS,
    PAIR_FORMS,
    PART_FORMS,
    PART_NAMES,
    cast,
    check_parity,
    check_sixteen_bits,
    log_probability,
    run,
    search_inputs,
    teacher_forced,
)

import s2s_kernels as sk
from s2s_kernels import reference
from s2s_kernels.ops import decoder_search, registration
from s2s_kernels.ops.attention_decoder import INPUTS


def check(inputs, **options):
    options = {"beam": 4, "n_best": 3} | options
    check_parity("beam_search", inputs, **options)


@pytest.mark.parametrize("form", PART_FORMS.values(), ids=PART_FORMS.keys())
def test_greedy_parity(form, search_kernel):
    check_parity("greedy_search", search_inputs(**form))


def check_greedy(form):
    """Every token is the most probable one of the scan with the same parts that has read those before it."""
    inputs = search_inputs(**form)
    inputs["lengths"][1] = 0
    found = run(sk.greedy_search, inputs, return_weights=True)
    for b, length in enumerate(found.lengths.tolist()):
        ids = found.ids[b, :length].tolist()
        logp, weights = teacher_forced(inputs, b, ids)
        torch.testing.assert_close(found.weights[b, : length + 1], weights, rtol=1e-9, atol=1e-12)
        score = sum(logp[t, token] for t, token in enumerate([*ids, EOS]))
        assert found.scores[b].item() == pytest.approx(score.item(), rel=1e-9)
        logp[:, [0, BOS]] = -torch.inf
        free = logp[: 9 if length == 9 else length + 1]  # after nine tokens only the end can come
        assert free.argmax(-1).tolist() == [*ids, EOS][: len(free)]


@pytest.mark.parametrize("form", PART_FORMS.values(), ids=PART_FORMS.keys())
def test_parts_are_those_of_the_scans(form, search_anywhere):
    check_greedy(form)


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("form", PAIR_FORMS.values(), ids=PAIR_FORMS.keys())
def test_pairs_of_parts_are_those_of_the_scans(form, search_kernel):
    check_greedy(form)


@pytest.mark.parametrize("form", PART_FORMS.values(), ids=PART_FORMS.keys())
def test_parity(form, search_kernel):
    inputs = search_inputs(**form)
    inputs["lengths"][1] = 0
    check(inputs, coverage_penalty=0.3)


@pytest.mark.parametrize("form", PART_NAMES)
def test_sizes(form, search_kernel):
    """Rows for threads of their own, weights packed, long sources, blocks of logits."""
    check(search_inputs(**FORMS[form], B=40, seed=1))
    check(search_inputs(**FORMS[form], B=3, V=700, H=32, E=17, S=300, seed=2), beam=7, n_best=2)
    check(search_inputs(**FORMS[form], B=2, S=1))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("form", PART_NAMES)
def test_threads(form, count, search_kernel, threads):
    """With any number of threads the same outputs, and in every run the same bits."""
    inputs = cast(search_inputs(B=4, V=400, H=64, A=64, S=20, seed=4, **FORMS[form]), torch.Tensor.float)
    truth = run(reference.beam_search, cast(inputs, torch.Tensor.double))
    threads(count)
    found = [run(sk.beam_search, inputs, return_weights=True) for _ in range(2)]
    assert torch.equal(found[0].ids, truth.ids)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_masks_and_poison(search_kernel):
    """Nothing that stands at masked positions is read, the first weights' included."""
    inputs = search_inputs(**FORMS["c_h, location"])
    mask = torch.rand(5, 6) < 0.6
    mask[:, 0] = True
    inputs |= {"mask": mask}
    expected = run(sk.beam_search, inputs, return_weights=True)
    valid = mask & (torch.arange(6) < inputs["lengths"][:, None])
    poisoned = inputs | {name: inputs[name].masked_fill(~valid[..., None], torch.nan) for name in ("keys", "values")}
    poisoned["first_weights"] = inputs["first_weights"].masked_fill(~valid, torch.nan)
    for changed in (poisoned, cast(poisoned, strided)):
        found = run(sk.beam_search, changed, return_weights=True)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    check(inputs, coverage_penalty=0.4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [2, 30])
@pytest.mark.parametrize("form", PART_NAMES)
def test_sixteen_bits(form, dtype, batch, search_kernel, pytestconfig):
    inputs = search_inputs(B=batch, H=40, E=35, V=90, seed=6, **FORMS[form])
    if search_kernel.backend != "cpp" or pytestconfig.pluginmanager.hasplugin("cuda_emulation"):
        pytest.skip("the reference runs, which rounds every product to 16 bits")
    check_sixteen_bits(inputs, dtype, exact=True)


@pytest.mark.parametrize(
    "sizes",
    [
        {"F": 5, "readout": "state"},
        {"F": 5, "readout": "state_context", "first": True},
        {"F": 5, "readout": "state_context", "lstm": True, "parts": {"feed": "linear"}},
    ],
    ids=str,
)
def test_a_feed_layer_before_the_cell(sizes, search_anywhere):
    inputs = search_inputs(**sizes)
    check(inputs)
    found = run(sk.greedy_search, inputs)
    for b, length in enumerate(found.lengths.tolist()):
        logp, _ = log_probability(inputs, b, found.ids[b, :length].tolist())
        assert found.scores[b].item() == pytest.approx(logp, rel=1e-9)


@pytest.mark.parametrize("scale", [0.5, 3])
@pytest.mark.parametrize("parts", [{"b_score": 1}, {"score": "dot"}, {"score": "dot", "project": False}], ids=str)
def test_scale(parts, scale, search_anywhere):
    check(search_inputs(readout="state_context", parts=parts | {"scale": scale}))


# Of parts, with arguments that are right otherwise.
WRONG_PARTS = [
    ({}, {"score": "dot"}, ValueError, "v is given with score 'dot', expected None"),
    ({}, {"score": "cosine"}, ValueError, "score is 'cosine', expected 'additive' or 'dot'"),
    ({}, {"query": "c_h"}, ValueError, "query is 'c_h' for a GRU"),
    ({}, {"scale": torch.inf}, ValueError, "scale is inf, expected a finite number"),
    ({}, {"scale": True}, TypeError, "scale is a bool, expected a number"),
    ({}, {"normalization": "none"}, ValueError, "normalization is 'none'"),
    ({}, {"feed": "gate"}, ValueError, "feed is 'gate' without w_feed, expected both"),
    ({}, {"location": "both"}, ValueError, "location is 'both' without w_location"),
    ({}, {"first_weights": torch.zeros(5, 6).double()}, ValueError, "first_weights is given without w_location"),
    ({}, {"w_location": torch.zeros(7, 1, 2).double()}, ValueError, r"w_location has shape \(7, 1, 2\), .*odd"),
    ({}, {"b_score": torch.zeros(2).double()}, ValueError, r"b_score has shape \(2,\), expected \(1\)"),
    ({}, {"values": torch.zeros(5, 6, 1, 5).double()}, ValueError, r"values has shape \(5, 6, 1, 5\)"),
    ({}, {"layers": 3}, TypeError, "layers is a int, expected a tuple or list"),
    ({}, {"layers": [()]}, ValueError, r"h0 has shape \(5, 11\), expected \(L, B, H\)"),
    ({"L": 2}, {"layers": ((None,) * 4,)}, TypeError, r"layers\[0\]\[0\] is a NoneType, expected a torch.Tensor"),
    ({"L": 2}, {"layers": ((None,) * 3,)}, ValueError, r"layers\[0\] has 3 elements"),
    ({"K": 3}, {"w_location": torch.zeros(7, 1, 3)}, TypeError, "w_location has dtype torch.float32, .* as h0"),
    ({"score": "dot"}, {"w_query": None}, ValueError, "b_query is given without w_query"),
    ({"N": 2}, {"normalization": "forward"}, ValueError, "normalization is 'forward' with heads"),
    ({"transition": True}, {"order": "after"}, ValueError, "order is 'after' with a transition, expected 'before'"),
    ({"transition": True}, {"first_feed": torch.zeros(5, 5).double()}, ValueError, "first_feed is given with a trans"),
    (
        {"transition": True},
        {"transition": (None,) * 4},
        TypeError,
        r"transition\[0\] is a NoneType, expected a torch.Tensor",
    ),
]


@pytest.mark.parametrize("parts, wrong, kind, message", WRONG_PARTS, ids=lambda x: str(x)[:40])
def test_wrong_parts(parts, wrong, kind, message, search_anywhere):
    inputs = search_inputs(parts=parts, N=parts.get("N")) | wrong
    for search in (sk.beam_search, sk.greedy_search):
        with pytest.raises(kind, match=message):
            run(search, inputs)


def test_a_feed_is_read_after_the_cell(search_anywhere):
    with pytest.raises(ValueError, match="readout is 'feed' with order 'before', expected order 'after'"):
        run(sk.beam_search, search_inputs(F=5) | {"readout": "feed"})


def test_what_a_search_has_not(search_anywhere):
    for name in ("drop_query", "zone_h", "detach_location"):
        with pytest.raises(TypeError, match=name):
            run(sk.beam_search, search_inputs(), **{name: None})


@pytest.mark.skipif(not decoder_search.BACKENDS, reason="the compiled extension, which has the op, is not built here")
def test_the_op_of_parts_checks_for_itself(monkeypatch):
    """Every tensor of one column less, and every choice that there is not, before any is read."""
    handed = []
    monkeypatch.setattr(registration, "run", lambda name, reference, where, *args, kernels: handed.append(args))
    inputs = search_inputs(**FORMS["c_h, location"])
    with pytest.raises(TypeError):
        run(sk.beam_search, inputs)
    (inputs, lengths, mask, form, *rest), op = handed[0], torch.ops.s2s_kernels.decoder_search
    assert len(op(inputs, lengths, mask, form, *rest)) == 4
    for i, x in enumerate(inputs):
        if x is not None:
            for wrong in (x[..., :-1].contiguous(), x.float(), x.unsqueeze(0)):
                changed = [*inputs[:i], wrong, *inputs[i + 1 :]]
                with pytest.raises((ValueError, TypeError)):
                    op(changed, lengths, mask, form, *rest)
    for i in range(len(form)):
        if i != 5:  # whether gradients go through the history
            with pytest.raises((ValueError, TypeError)):
                op(inputs, lengths, mask, [*form[:i], 9, *form[i + 1 :]], *rest)
    for wrong in (inputs[:-1], inputs[:5], []):
        with pytest.raises(ValueError):
            op(wrong, lengths, mask, form, *rest)
    masked = [*inputs[: INPUTS.index("drop_query")], inputs[1], *inputs[INPUTS.index("drop_query") + 1 :]]
    with pytest.raises((ValueError, TypeError), match="a search has none"):
        op(masked, lengths, mask, form, *rest)
    for i, wrong in ((0, rest[0][:, :-1]), (4, "between"), (5, "all"), (6, -1), (8, -1), (9, 0), (10, 99), (13, [99])):
        with pytest.raises((ValueError, TypeError)):
            op(inputs, lengths, mask, form, *rest[:i], wrong, *rest[i + 1 :])


@pytest.mark.skipif(not decoder_search.BACKENDS, reason="the compiled extension, which has the op, is not built here")
@pytest.mark.parametrize("form", PART_NAMES)
def test_opcheck_and_compile(form, monkeypatch):
    inputs = cast(search_inputs(**FORMS[form]), torch.Tensor.float)
    compiled = torch.compile(lambda x: run(sk.beam_search, x), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(inputs).ids, run(sk.beam_search, inputs).ids)
    op = torch.ops.s2s_kernels.decoder_search.default
    given = []
    monkeypatch.setattr(
        registration, "run", lambda name, reference, where, *args, kernels: given.append(args) or op(*args)
    )
    run(sk.beam_search, inputs, return_weights=True, n_best=2)
    torch.library.opcheck(op, given[0])


@pytest.mark.parametrize("form", PART_NAMES)
def test_autocast(form, search_anywhere):
    inputs = cast(search_inputs(**FORMS[form]), torch.Tensor.float)
    with torch.autocast(search_anywhere.device, dtype=torch.bfloat16):
        found = run(sk.beam_search, inputs)
    expected = run(sk.beam_search, cast(inputs, torch.Tensor.bfloat16))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
