import gc
import os
import sys
from functools import partial

import pytest
import torch

# On a GPU: deterministic algorithms need cuBLAS's workspace to be fixed, and float32 shall mean float32 for torch too.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
# Read when Triton's kernels are first seen: without a GPU they run in its interpreter, in tests/test_triton.py.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import search_tests
from exhaustive import pytest_addoption, pytest_collection_modifyitems  # noqa: F401
from fresh_context import pytest_runtest_call, pytest_runtest_logfinish, pytest_runtest_logreport  # noqa: F401
from helpers import set_threads, targets
from hypothesis import settings

import s2s_kernels as sk
from s2s_kernels import extension

# Until all tests are collected nothing is garbage, and what they are is none afterwards.
gc.disable()

# As many threads as a test asks for, on any machine.
if extension.built:
    extension._C.pretend_cores(64)

torch.backends.cudnn.allow_tf32 = False

# The same examples on every run: a failure is found again, and a pass means what it meant yesterday.
settings.register_profile("s2s", derandomize=True, deadline=None, database=None)
settings.load_profile("s2s")


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fresh memory holds NaN, so that an element which a kernel forgets to write shows."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=["libgomp", "own"])
def threads(request):
    """Sets the number of threads for one test, and of cores; once more without libgomp's."""
    yield partial(set_threads, own=request.param == "own")
    set_threads(0)


def run_on(request):
    target = request.param
    with sk.backend(target.backend):
        yield target


def marked(reference):
    """`-m gpu` is the lane of a machine with a GPU, `-m "not gpu"` all others."""
    return [pytest.param(t, marks=[pytest.mark.gpu] * (t.device == "cuda")) for t in targets(reference)]


@pytest.fixture(params=marked(reference=False), ids=str)
def kernel(request):
    """A device and a backend, now in force: each compiled backend there is."""
    yield from run_on(request)


@pytest.fixture(params=marked(reference=True), ids=str)
def anywhere(request):
    """A device and a backend, now in force: each there is, the reference included."""
    yield from run_on(request)


@pytest.fixture
def search_kernel(kernel, monkeypatch):
    """``kernel``, and the tensors of a search are on its device."""
    monkeypatch.setitem(search_tests.under_test, "device", kernel.device)
    return kernel


@pytest.fixture
def search_anywhere(anywhere, monkeypatch):
    """``anywhere``, and the tensors of a search are on its device."""
    monkeypatch.setitem(search_tests.under_test, "device", anywhere.device)
    return anywhere


@pytest.fixture
def launches(monkeypatch):
    """Asks for one launch, sets the emulated GPU, and counts its launches (None on a GPU)."""
    monkeypatch.setenv("S2S_CUDA_PERSISTENT", "1")

    def run(function, *, seed=0, multiprocessors=8, shared=227 << 10):
        emulation = sys.modules.get("cuda_emulation")
        if not emulation:
            return function(), None
        library = emulation.library()
        library.emulation_set(seed, multiprocessors, shared)
        before = library.emulation_launches_together()
        return function(), library.emulation_launches_together() - before

    return run


def pytest_report_header():
    gpu = "" if torch.cuda.is_available() else "; no CUDA device, so no test of one"
    return f"s2s_kernels: {', '.join(map(str, targets(reference=True)))}{gpu}"
