"""The cases as pytest-benchmark tests: ``pytest benchmarks``, then ``--benchmark-compare`` across commits.

Only quick sizes. Each implementation and pass is a test of its own, and fails if it fails parity.
"""

import pytest
import torch

from . import parity
from .cases import Run


def pytest_collect_file(file_path, parent):
    if file_path.name.startswith("bench_") and file_path.suffix == ".py":
        return pytest.Module.from_parent(parent, path=file_path)
    return None


def pytest_generate_tests(metafunc):
    if "timed" not in metafunc.fixturenames:
        return
    found, ids = [], []
    for case in metafunc.module.CASES:
        if "quick" not in case.suites:
            continue
        run = Run(case, "cpu", torch.float32, torch.get_num_threads(), "quick")
        for implementation in run.implementations():
            for direction in case.passes:
                found.append((run, implementation, direction))
                ids.append(f"{case.name}-{implementation.name}-{direction}".replace(" ", ""))
    metafunc.parametrize("timed", found, ids=ids, indirect=True)


_parity = {}


@pytest.fixture
def timed(request, benchmark):
    """A function that checks one implementation and then times one pass of it."""
    from .steps import make_step

    run, implementation, direction = request.param

    def measure():
        if run.key not in _parity:
            _parity[run.key] = parity.check(run, run.implementations())
        problem = _parity[run.key].problems[implementation.name]
        assert problem is None, problem
        benchmark.group = f"{run.case.op} {run.case.name} {direction}"
        benchmark.pedantic(make_step(run, implementation, direction), rounds=10, warmup_rounds=2)

    return measure
