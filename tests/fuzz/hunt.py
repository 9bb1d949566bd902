"""One kind of cases on one backend: runs them, and says how many and which failed."""

from hypothesis import HealthCheck, Phase, given, seed, settings

from .cases import cases
from .searches import searches
from .wrong import all_wrong

KINDS = ("calls", "searches", "wrong")
# The largest size of a case: kernels that run element by element on a CPU take minutes for more.
LARGEST = {"calls": {"cpp": 70, "reference": 20, "cuda": 13, "triton": 5}, "searches": {"triton": 5}}
LARGEST_OF_SEARCHES = 40


def largest(kind, backend, on_gpu):
    if on_gpu:
        return 70
    return LARGEST[kind].get(backend, 13 if backend == "cuda" else LARGEST_OF_SEARCHES)


def hunt(strategy, start, count, begin, derandomize=False):
    """Runs ``count`` cases. Calls ``begin(case)`` before each one; yields (case, error), shrunk, of the first that
    fails."""
    last = []

    @settings(
        max_examples=count,
        derandomize=derandomize,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(strategy)
    def one(case):
        begin(case)
        try:
            case.run()
        except Exception as error:
            last[:] = [(case, error)]
            raise

    try:
        (one if derandomize else seed(start)(one))()
    except Exception:
        if not last:
            raise
        yield last[0]


def run(kind, backend, start, count, begin, on_gpu=False):
    """(case, error) of what fails among ``count`` cases of a kind; of the wrong arguments all whose number is ``start``
    modulo ``count``."""
    if kind == "wrong":
        for case in list(all_wrong(backend))[start::count]:
            begin(case)
            try:
                case.run()
            except Exception as error:
                yield case, error
    else:
        strategy = (cases if kind == "calls" else searches)(backend, largest(kind, backend, on_gpu))
        yield from hunt(strategy, start, count, begin)
