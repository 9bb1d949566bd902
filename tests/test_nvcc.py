"""Every .cu file compiled for GPUs that need not be there: no error, no warning, no register spilled to memory.

But for float64, which is there to check gradients and may be slow."""

import ast
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import torch
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[1]
KERNELS = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
NVCC = next(
    (
        found
        for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
        if home and (found := shutil.which("nvcc", path=f"{home}/bin"))
    ),
    shutil.which("nvcc"),
)
# What setup.py compiles with, after what torch puts before it.
OURS = re.findall(r'flags\["nvcc"\] \+?= (\[.*?\])', (ROOT / "setup.py").read_text())
THEIRS = [
    flag for flag in cpp_extension.COMMON_NVCC_FLAGS if flag != "--expt-relaxed-constexpr"
]  # not needed, so it is said
FLAGS = [*THEIRS, *(flag for flags in OURS for flag in ast.literal_eval(flags))]

pytestmark = pytest.mark.skipif(NVCC is None, reason="no nvcc here")


@pytest.mark.slow
@pytest.mark.parametrize("arch", [pytest.param("sm_80", marks=pytest.mark.exhaustive), "sm_90"])
@pytest.mark.parametrize("source", KERNELS, ids=lambda path: path.name)
def test_compiles_without_spills(source, arch, tmp_path):
    command = [NVCC, *FLAGS, f"-arch={arch}", "-Xptxas", "-v", "-c", str(source), "-o", str(tmp_path / "out.o")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    found = re.findall(
        r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads",
        done.stderr,
        re.DOTALL,
    )
    assert len(found) == done.stderr.count("Compiling entry function") > 0, done.stderr
    assert {target for _, target, _, _ in found} == {arch}
    hot = [(name, spills) for name, _, *spills in found if not re.search(r"_kernelI(Li\d+E)?d", name)]
    assert hot and (len(hot) < len(found) or source.stem.startswith("persistent"))
    assert [name for name, spills in hot if spills != ["0", "0"]] == []


def test_no_torch_header_in_a_kernel():
    """nvcc takes most of a minute over torch's headers."""
    for path in (ROOT / "csrc" / "cuda").glob("*.cu*"):
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
