"""Some seconds of `make fuzz`: the same cases in every run. And that it finds what is wrong."""

import sys

import pytest
import torch
from fuzz import hunt
from fuzz import searches as searches_module
from fuzz.backends import available
from fuzz.cases import Case, cases
from fuzz.searches import SearchCase, searches
from fuzz.wrong import Wrong, all_wrong

from s2s_kernels import reference

# Not csrc/cuda in its emulation, which would stay in this process: tests/test_cuda_emulation.py runs it.
COUNTS = {"cpp": (80, 20), "triton": (8, 2), "reference": (15, 5)}
BACKENDS = [name for name in available() if name in COUNTS]


@pytest.fixture(autouse=True)
def as_before(threads):
    yield
    torch.use_deterministic_algorithms(False)


def assert_none(strategy, count):
    for case, error in hunt.hunt(strategy, 0, count, lambda case: None, derandomize=True):
        raise AssertionError(f"{case!r}: {error}") from error


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls(backend):
    assert_none(cases(backend, {"triton": 4}.get(backend, 20)), COUNTS[backend][0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_searches(backend):
    assert_none(searches(backend, 4 if backend == "triton" else 20), COUNTS[backend][1])


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "triton"])
@pytest.mark.filterwarnings("ignore:(The PyTorch API of nested|Sparse CSR)")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_wrong_arguments(backend):
    for case in list(all_wrong(backend))[:: 41 if backend == "cpp" else 97]:
        case.run()


def test_a_wrong_number_is_found(monkeypatch):
    """And made small, as a case whose repr runs it."""
    right = reference.lstm_step

    def wrong(gates_x, gates_h, c):
        h, c = right(gates_x, gates_h, c)
        return h + (1e-3 if len(h) > 2 else 0), c

    monkeypatch.setattr(reference, "lstm_step", wrong)
    of_steps = cases(BACKENDS[0], 9).filter(lambda case: case.op == "lstm_step")
    if BACKENDS[0] == "reference":
        pytest.skip("the reference stands in for the kernels, and both are wrong")
    [(case, error)] = hunt.hunt(of_steps, 0, 50, lambda case: None, derandomize=True)
    assert "lstm_step torch." in str(error) and "h: error" in str(error)
    # Hypothesis draws numbers of whatever modules are loaded too, and so from case to case makes it less or more small.
    assert 2 < case.form["B"] < 9
    again = eval(repr(case), {"Case": Case})
    with pytest.raises(AssertionError, match="h: error"):
        again.run()
    monkeypatch.undo()
    again.run()


def test_an_error_without_a_name_is_found(monkeypatch):
    def refuse(*_, **__):
        raise ValueError("something is wrong, expected better")

    monkeypatch.setattr(sys.modules["s2s_kernels.ops.gru_step"], "check", refuse)
    with pytest.raises(AssertionError, match="is not named"):
        Wrong("gru_step", 0, "h", "a text", "reference").run()


def test_a_search_that_is_not_the_best_is_found(monkeypatch):
    options = {"beam": 60, "n_best": 5, "max_length": 2, "length_penalty": 0.7, "coverage_penalty": 0.0}
    case = SearchCase("beam_search", BACKENDS[0], "bahdanau", {"B": 1, "V": 6, "scale": 2.0}, options)
    case.run()
    right = searches_module.exhaustive
    monkeypatch.setattr(searches_module, "exhaustive", lambda inputs, b, longest, *_: right(inputs, b, longest, 0.8))
    with pytest.raises(AssertionError, match="row 0, output"):
        case.run()
