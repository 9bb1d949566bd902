"""Beam search against the reference, an exhaustive search, and the other ways to lay out the same work."""

import pytest
import torch
from helpers import strided
from search_tests import (
    EOS,
    FORMS,
    PART_NAMES,
    SEARCH,
    SPECIAL,
    SPOILED,
    cast,
    check_parity,
    check_sixteen_bits,
    check_spoiled,
    exhaustive,
    run,
    search_inputs,
)

import s2s_kernels as sk
from s2s_kernels import extension, reference

OPTIONS = {
    "n best": {"beam": 4, "n_best": 3},
    "penalties": {"beam": 3, "length_penalty": 0.8, "coverage_penalty": 0.4},
    "beam wider than the vocabulary": {"beam": 30, "n_best": 5, "length_penalty": -0.5},
    "one": {"beam": 1},
}


def check(inputs, **options):
    options = {"beam": 4, "n_best": 3} | options
    check_parity("beam_search", inputs, **options | {"n_best": min(options["n_best"], options["beam"])})


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_parity(form, options, search_anywhere):
    check(search_inputs(**form), **options)


@pytest.mark.parametrize(
    "sizes",
    [
        {"B": 40, "seed": 1},  # rows for threads of their own, weights packed
        {"B": 3, "V": 700, "H": 32, "E": 17, "seed": 2},  # several blocks of logits, not all of them full
        {"B": 1, "V": 300},
        {"B": 2, "S": 1},
        {"B": 2, "V": 4, "seed": 3},
    ],
    ids=str,
)
def test_sizes(sizes, search_kernel):
    check(search_inputs(readout="state_context", R=9, **sizes))
    check(search_inputs(readout="state_context", order="after", lstm=True, **sizes), beam=7, n_best=2)


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("alpha, beta", [(0.0, 0.0), (0.7, 0.0), (-0.5, 0.3), (1.2, 1.0)])
@pytest.mark.parametrize("form", ["bahdanau", "lstm", "luong", "luong, made feed, lstm", "no feeding", *PART_NAMES])
def test_a_wide_beam_is_exhaustive(form, alpha, beta, search_anywhere):
    inputs = search_inputs(B=3, V=6, scale=2.0, **FORMS[form])
    options = {"length_penalty": alpha, "coverage_penalty": beta, "max_length": 3}
    found = run(sk.beam_search, inputs, beam=60, n_best=5, **options)
    for b in range(3):
        best = exhaustive(inputs, b, 3, alpha, beta)[:5]
        for i, (score, ids) in enumerate(best):
            assert found.ids[b, i].tolist() == ids + [EOS] * (4 - len(ids))
            assert found.lengths[b, i] == len(ids)
            assert found.scores[b, i].item() == pytest.approx(score, rel=1e-9)


def test_fewer_outputs_than_asked_for(search_anywhere):
    """Of at most one token there are </s> and four others."""
    found = run(sk.beam_search, search_inputs(V=7, B=2), beam=12, n_best=9, max_length=1, return_weights=True)
    assert (found.scores > -torch.inf).sum(1).tolist() == [5, 5]
    assert (found.ids[:, 5:] == EOS).all() and not found.lengths[:, 5:].any() and not found.weights[:, 5:].any()


def test_lengths_limits_and_the_end(search_anywhere):
    inputs = search_inputs()
    inputs["lengths"] = torch.tensor([0, 6, 3, 1, 0])
    check(inputs)
    check(inputs, limits=torch.tensor([0, 1, 9, 4, 2], dtype=torch.int32), beam=2, n_best=1)
    check(inputs, max_length=0)
    check(inputs, max_length=1)
    for bias, expected in ((100.0, 0), (-100.0, 9)):  # all end at the first step, or at the limit
        inputs["b_output"][EOS] = bias
        check(inputs, n_best=1)
        assert (run(sk.beam_search, inputs).lengths == expected).all()


def test_rows_leave_when_they_are_done(search_kernel):
    """Rows that end at different times find what they find alone."""
    inputs = search_inputs(B=30, R=9, readout="state_context")
    inputs["b_output"][EOS] += 2
    together = run(sk.beam_search, inputs, n_best=2, max_length=20, return_weights=True)
    assert len(together.lengths.unique()) > 6
    for b in range(30):
        rows = ("keys", "values", "lengths")
        one = inputs | {name: inputs[name][b : b + 1] for name in rows} | {"state": (inputs["state"][0][b : b + 1],)}
        alone = run(sk.beam_search, one, n_best=2, max_length=20, return_weights=True)
        assert torch.equal(alone.ids[0], together.ids[b])
        torch.testing.assert_close(alone.scores[0], together.scores[b], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone.weights[0], together.weights[b], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("batch", [1, 4, 20])
def test_threads(batch, count, search_kernel, threads):
    """Rows of their own, or columns: with any number of threads the same outputs, and in every run the same bits."""
    inputs = cast(search_inputs(B=batch, V=400, H=64, A=64, S=20, seed=4), torch.Tensor.float)
    truth = run(reference.beam_search, cast(inputs, torch.Tensor.double))
    threads(count)
    found = [run(sk.beam_search, inputs, return_weights=True) for _ in range(2)]
    assert torch.equal(found[0].ids, truth.ids)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("batch", [2, 30])
def test_sixteen_bits(dtype, batch, search_kernel, pytestconfig):
    inputs = search_inputs(B=batch, H=40, E=35, V=90, R=33, readout="state_context", seed=6)
    exact = search_kernel.backend == "cpp" and not pytestconfig.pluginmanager.hasplugin("cuda_emulation")
    options = {}
    if not exact:  # a decided model and few steps: no rounding chooses between its outputs
        inputs["w_output"] *= 4
        options = {"beam": 2, "max_length": 3}
    check_sixteen_bits(inputs, dtype, exact=exact, **options)


def test_equal_tokens_come_in_their_order(search_anywhere):
    inputs = search_inputs(V=200, H=24, lengths=False)
    inputs["w_output"][:], inputs["b_output"][:] = 0, 0
    found = run(sk.beam_search, inputs, n_best=3, beam=3, max_length=2)
    assert found.ids.tolist() == [[[EOS, EOS, EOS], [2, EOS, EOS], [2, 2, EOS]]] * 5


def test_layouts_masks_and_poison(search_kernel):
    inputs = search_inputs(readout="state_context", order="after", F=4)
    mask = torch.rand(5, 6) < 0.6
    mask[:, 0] = True
    inputs |= {"mask": mask}
    expected = run(sk.beam_search, inputs, return_weights=True)
    valid = mask & (torch.arange(6) < inputs["lengths"][:, None])
    poisoned = inputs | {name: inputs[name].masked_fill(~valid[..., None], torch.nan) for name in ("keys", "values")}
    for changed in (poisoned, cast(poisoned, strided)):
        found = run(sk.beam_search, changed, return_weights=True)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not expected.weights.masked_select(~valid[:, None, None]).any()
    check(inputs, coverage_penalty=0.4)


def test_nan_weights_end(search_anywhere):
    """Nothing is found, and nothing breaks."""
    inputs = search_inputs()
    inputs["w_output"].fill_(torch.nan)
    for search in (sk.beam_search, sk.greedy_search):
        found = run(search, inputs, return_weights=True)
        assert (found.scores == -torch.inf).all() and (found.ids == EOS).all()
        assert not found.lengths.any() and not found.weights.any()


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("name", SPOILED)
def test_weights_that_are_no_numbers(name, value, search_anywhere):
    check_spoiled(name, value, beam=3, n_best=3, coverage_penalty=0.3)
    check_spoiled(name, value, "greedy_search")


def test_weights_that_are_no_numbers_where_only_the_penalty_reads_them(search_anywhere):
    """NaN attention that no logit follows from: the outputs' scores are NaN, so there are none."""
    inputs = search_inputs(order="after", fed=False, readout="state", lengths=False)
    inputs["v"].fill_(torch.nan)
    assert (run(sk.beam_search, inputs).scores > -torch.inf).all()
    found = run(sk.beam_search, inputs, coverage_penalty=0.3)
    assert (found.scores == -torch.inf).all() and (found.ids == EOS).all()


def test_no_rows(search_anywhere):
    inputs = search_inputs(B=2)
    inputs |= {name: inputs[name][:0] for name in ("keys", "values", "lengths")} | {"state": (inputs["state"][0][:0],)}
    found = run(sk.beam_search, inputs, n_best=2, return_weights=True)
    assert [tuple(x.shape) for x in found] == [(0, 2, 10), (0, 2), (0, 2), (0, 2, 10, 6)]


def test_no_gradient(search_anywhere):
    inputs = cast(search_inputs(), lambda x: x.requires_grad_())
    assert not any(x.requires_grad for x in run(sk.beam_search, inputs, return_weights=True))


WRONG = {
    "state": [((), ValueError, "state has 0 tensors"), (torch.zeros(5, 11), TypeError, "float32")],
    "keys": [(torch.zeros(5, 6, 8).double(), ValueError, r"keys has shape \(5, 6, 8\)")],
    "embedding": [(torch.zeros(22, 6).double(), ValueError, r"embedding has shape \(22, 6\)")],
    "w_output": [(torch.zeros(23, 12).double(), ValueError, r"w_output has shape \(23, 12\), .*\(23, 11\)")],
    "order": [("between", ValueError, "order is 'between', expected 'before' or 'after'")],
    "readout": [("all", ValueError, "readout is 'all'"), ("feed", ValueError, "readout is 'feed' without w_feed")],
    "w_feed": [(torch.zeros(5, 15).double(), ValueError, r"w_feed has shape \(5, 15\), expected .* \(5, 16\)")],
    "b_readout": [(torch.zeros(5).double(), ValueError, "b_readout is given without w_readout")],
    "eos": [(23, ValueError, "eos is 23, expected 0 to 22"), ("x", TypeError, "eos is a str")],
    "bos": [(-1, ValueError, "bos is -1"), (2**40, ValueError, "bos is 1099511627776")],
    "forbidden": [((0, 99), ValueError, "forbidden is 99"), (("a",), TypeError, "forbidden is a str")],
    "max_length": [(-1, ValueError, "max_length is -1, expected 0 or more"), (2.0, TypeError, "max_length is a float")],
    "limits": [(torch.full((5,), 10), ValueError, "limits holds 10, expected values from 0 to max_length = 9")],
    "lengths": [(torch.full((5,), 7), ValueError, "lengths holds 7")],
    "beam": [
        (0, ValueError, "beam is 0, expected 1 or more"),
        (10**9, ValueError, r"beam is 1000000000 and max_length is 9, expected B \* beam \* \(max_length \+ 1\) below"),
    ],
    "n_best": [(6, ValueError, "n_best is 6, expected 1 to 5"), (0, ValueError, "n_best is 0")],
    "coverage_penalty": [
        (-0.1, ValueError, "coverage_penalty is -0.1, expected a finite number, 0 or more"),
        (torch.inf, ValueError, "coverage_penalty is inf, expected a finite number"),
    ],
    "length_penalty": [
        (torch.nan, ValueError, "length_penalty is nan, expected a finite number"),
        (-torch.inf, ValueError, "length_penalty is -inf, expected a finite number"),
        ("1.0", TypeError, "length_penalty is a str, expected a number"),
    ],
}


# What the dispatcher makes a number of, or has other words for.
WRONG_IN_PYTHON = {
    "bos": [(True, TypeError, "bos is a bool, expected an int"), (10**30, ValueError, f"bos is {10**30}")],
    "eos": [(True, TypeError, "eos is a bool, expected an int")],
    "beam": [(True, TypeError, "beam is a bool, expected an int")],
    "forbidden": [
        (None, TypeError, "forbidden is a NoneType, expected a sequence of tokens"),
        ((False,), TypeError, "forbidden is a bool"),
    ],
    "length_penalty": [(True, TypeError, "length_penalty is a bool"), (1j, TypeError, "length_penalty is a complex")],
    "return_weights": [(1, TypeError, "return_weights is 1, expected True or False")],
}
ALL_WRONG = [(name, *case) for wrong in (WRONG, WRONG_IN_PYTHON) for name, cases in wrong.items() for case in cases]


@pytest.mark.parametrize("name, value, kind, message", ALL_WRONG, ids=str)
def test_wrong_arguments(name, value, kind, message, search_anywhere, monkeypatch):
    monkeypatch.setenv("S2S_CHECK", "1")  # on a GPU lengths and limits are read only then
    inputs = search_inputs()
    options = {"beam": 5}
    (inputs if name in inputs else options)[name] = value
    with pytest.raises(kind, match=message):
        run(sk.beam_search, inputs, **options)


def test_torch_ops_checks_for_itself(search_kernel, monkeypatch):
    monkeypatch.setenv("S2S_CHECK", "1")
    if search_kernel.backend == "reference":
        pytest.skip("only the ops of kernels stand in front of raw memory")
    for name, cases in WRONG.items():
        for value, *_ in cases:
            inputs, options = search_inputs(), {"beam": 5}
            (inputs if name in inputs else options)[name] = value
            with pytest.raises((ValueError, TypeError, RuntimeError)):
                run(torch.ops.s2s_kernels.beam_search, inputs, **options)
    with pytest.raises((ValueError, TypeError), match="w_feed is given with order 'before'"):
        run(torch.ops.s2s_kernels.beam_search, search_inputs(F=5))


@pytest.mark.skipif(not extension.built, reason="the op is registered by the compiled extension, not built here")
@pytest.mark.parametrize("form", ["bahdanau", "luong, made feed, lstm"])
def test_opcheck_and_compile(form):
    inputs = cast(search_inputs(**FORMS[form]), torch.Tensor.float)
    options = {name: x for name, x in inputs.items() if name in ("order", "readout", "lengths") or name[1:2] == "_"}
    options = {name: x for name, x in options.items() if name not in ("w_query", "b_query", "w_output", "b_output")}
    names = ("state", "keys", "values", "v", "w_query", "b_query", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    args = [list(inputs["state"]), *(inputs[name] for name in (*names[1:], "embedding", "w_output", "b_output"))]
    op = torch.ops.s2s_kernels.beam_search.default
    torch.library.opcheck(op, args, options | SEARCH | {"return_weights": True, "n_best": 2})
    compiled = torch.compile(lambda x: run(sk.beam_search, x), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(inputs).ids, run(sk.beam_search, inputs).ids)


def test_autocast(search_anywhere):
    inputs = cast(search_inputs(), torch.Tensor.float)
    with torch.autocast(search_anywhere.device, dtype=torch.bfloat16):
        found = run(sk.beam_search, inputs)
    expected = run(sk.beam_search, cast(inputs, torch.Tensor.bfloat16))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_empty_source(search_kernel):
    check(cast(search_inputs(S=1, lengths=False), lambda x: x[:, :0] if x.dim() == 3 else x))
