"""After a CUDA error that stays, every later call of the process fails: a test that leaves one behind ends its process,
so that the next test begins with a fresh context. pytest-xdist replaces the worker; without it, the session ends.

Hooks, for conftest.py to import.
"""

import os
import sys

import pytest

STATUS = 70
lost = None  # what the context died of


def error():
    """What the GPU says of all that was launched so far; None: nothing is wrong."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except Exception as found:
        return (str(found).splitlines() or [type(found).__name__])[0]
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """An error that nobody has waited for is this test's, not the next one's."""
    global lost
    try:
        return (yield)
    finally:
        lost = lost or error()
        if lost and sys.exc_info()[0] is None:
            pytest.fail(f"the GPU computes nothing more in this process: {lost}", pytrace=False)


@pytest.hookimpl(trylast=True)  # after whoever sends the report to the terminal
def pytest_runtest_logreport(report):
    global lost
    if not report.failed or os.environ.get("PYTEST_XDIST_WORKER") is None:
        return
    lost = lost or error()
    if lost:
        os._exit(STATUS)


def pytest_runtest_logfinish(nodeid):
    if lost:
        pytest.exit(f"after {nodeid} the GPU computes nothing more in this process: {lost}", STATUS)
