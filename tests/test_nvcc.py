"""Every .cu file compiled for GPUs that need not be there: no error, no warning, no register spilled to memory.

But for float64, which is there to check gradients and may be slow."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from nvcc_offline import KERNELS, NVCC, ROOT, ROWS, compiled, is_hot, kernels

pytestmark = pytest.mark.skipif(NVCC is None, reason="no nvcc here")


@pytest.mark.slow
@pytest.mark.parametrize("arch", ROWS)
@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.name)
def test_compiles_without_spills(source, arch):
    _, log = compiled(source, arch)
    assert "warning" not in log, log
    found = kernels(log)
    assert {kernel.arch for kernel in found} == {arch}
    hot = [kernel for kernel in found if is_hot(kernel.name)]
    assert hot and (len(hot) < len(found) or source.stem.startswith("persistent"))
    assert [kernel for kernel in hot if any((kernel.stack, kernel.stores, kernel.loads))] == []


def test_no_torch_header_in_a_kernel():
    """nvcc takes most of a minute over torch's headers."""
    for path in (ROOT / "csrc" / "cuda").rglob("*.cu*"):
        included = re.findall(r"#include [<\"]([^>\"]+)", path.read_text())
        assert not [name for name in included if name.startswith(("ATen", "c10", "torch"))], path.name


def test_the_file_with_torch_s_cuda_headers(tmp_path):
    """stream.cpp is all of csrc/cuda that the emulation does not compile."""
    headers = Path(torch.__file__).parent / "include"
    cuda = Path(NVCC).resolve().parents[1] / "include"
    if not (headers / "c10" / "cuda" / "CUDAStream.h").exists() or not (cuda / "cuda_runtime_api.h").exists():
        pytest.skip("the headers of this torch or of the CUDA toolkit are not there")
    command = ["c++", "-std=c++20", "-fsyntax-only", f"-I{headers}", f"-I{cuda}", f"-I{sysconfig.get_path('include')}"]
    if not (headers / "c10" / "cuda" / "impl" / "cuda_cmake_macros.h").exists():  # a torch built without CUDA
        command.append("-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE")
    done = subprocess.run([*command, str(ROOT / "csrc/cuda/stream.cpp")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
