"""Every Triton kernel compiled for GPUs that need not be there (lane "triton offline")."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHARED_MEMORY = {80: 163 << 10, 90: 227 << 10}  # what one program may have
# Kernels that read rows 16 bytes at a time. Not scores and query_backward, whose tiles for many queries leave a lane
# 4 bytes of a row, nor those of cells and feeds, whose programs read what lies side by side an element at a time.
WIDE = {"attend_kernel", "grad_weights_kernel", "keys_backward_kernel", "softmax_context_kernel", "candidates_kernel"}


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed"),
]


def compiled(arch, *what):
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    done = subprocess.run(
        [sys.executable, HERE / "triton_offline.py", str(arch), *what],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kernels = json.loads(done.stdout)
    for kernel in kernels:
        print("{kernel:24} {dtypes:20} shared {shared:6} registers {registers:3} spills {spills}".format(**kernel))
        assert kernel["shared"] <= SHARED_MEMORY[arch], kernel
        assert kernel["spills"] == kernel["stack"] == 0, kernel
        assert what or kernel["wide"] or kernel["kernel"] not in WIDE, kernel
    return len(kernels)


@pytest.mark.parametrize("arch", [90, pytest.param(80, marks=pytest.mark.exhaustive)])
def test_compiles(arch):
    """At the sizes of a real model, as the ops start them: shared memory fits, and no register is spilled."""
    assert compiled(arch)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("arch", "dtype"), [(80, "float32"), (90, "float32"), (90, "bfloat16")])
def test_tiles_that_the_tuner_may_choose(arch, dtype):
    """Each of six kernels for one query and, of those that have other tiles then, for many."""
    assert compiled(arch, dtype) == (6 + 4) * 5
