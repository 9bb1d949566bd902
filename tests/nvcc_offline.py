"""The .cu files compiled for GPUs that need not be there: once for all tests, and not again while nothing changes."""

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
from torch.utils import cpp_extension

ROOT = Path(__file__).parents[1]
KERNELS = sorted((ROOT / "csrc" / "cuda").rglob("*.cu"))
ARCHS = ("sm_80", "sm_90")
ROWS = [pytest.param("sm_80", marks=pytest.mark.exhaustive), "sm_90"]  # of tests
KEPT = ROOT / "build" / "nvcc-objects"
HOMES = [home for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda") if home]


def find(name, *folders):
    """The path of a program of the CUDA toolkit, or None."""
    folders = [*(f"{home}/bin" for home in HOMES), *folders]
    return next((found for folder in folders if (found := shutil.which(name, path=str(folder)))), shutil.which(name))


NVCC = find("nvcc")
# What setup.py compiles with, after what torch puts before it.
OURS = re.findall(r'flags\["nvcc"\] \+?= (\[.*?\])', (ROOT / "setup.py").read_text())
THEIRS = [
    flag for flag in cpp_extension.COMMON_NVCC_FLAGS if flag != "--expt-relaxed-constexpr"
]  # not needed, so it is said
FLAGS = [*THEIRS, *(flag for flags in OURS for flag in ast.literal_eval(flags))]
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
    r"(\d+) bytes spill loads",
    re.DOTALL,
)


class Kernel(NamedTuple):
    name: str  # mangled
    arch: str
    stack: int  # bytes of local memory
    stores: int  # bytes of spilled registers
    loads: int


@lru_cache(maxsize=1)
def version():
    return subprocess.run([NVCC, "--version"], capture_output=True, text=True).stdout


def digest(source):
    folder = next(parent for parent in source.parents if parent.name == "csrc")
    headers = [path for path in folder.rglob("*") if path.suffix in (".h", ".cuh") and "cpu" not in path.parts]
    texts = [f"{path.name}\0{path.read_text()}" for path in sorted([*headers, source])]
    return hashlib.sha256("\0".join([version(), *FLAGS, *texts]).encode()).hexdigest()[:20]


def compiled(source, arch, kept=KEPT):
    """The object file of ``source``, a path in a csrc/cuda, and what ptxas said; AssertionError where it does not
    compile."""
    kept.mkdir(parents=True, exist_ok=True)
    begin = f"{source.stem}-{arch}"
    made = kept / f"{begin}-{digest(source)}.o"
    with open(kept / f"{begin}.turn", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # another process may be at it
        if not made.exists():
            for old in kept.glob(f"{begin}-*"):
                old.unlink()
            part = made.with_suffix(".part.o")
            command = [NVCC, *FLAGS, f"-arch={arch}", "-Xptxas", "-v", "-c", str(source), "-o", str(part)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stderr
            made.with_suffix(".txt").write_text(done.stderr)
            part.replace(made)
    return made, made.with_suffix(".txt").read_text()


def kernels(log):
    """Every kernel of an object, by what ptxas said."""
    found = [Kernel(name, arch, *map(int, numbers)) for name, arch, *numbers in ENTRY.findall(log)]
    assert len(found) == log.count("Compiling entry function") > 0, log
    return found


def is_hot(name):
    """float64 is there to check gradients and may be slow."""
    return not re.search(r"_kernelI(Li\d+E)?d", name)


def disassembler():
    """cuobjdump, of the toolkit or of Triton's package, or None."""
    spec = find_spec("triton")
    return find("cuobjdump", *([Path(spec.origin).parent / "backends/nvidia/bin"] if spec else []))


def machine_code(made):
    """{name of a kernel: its instructions' names}, of an object file."""
    done = subprocess.run([disassembler(), "-sass", str(made)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    parts = re.split(r"\n\s*Function : (\w+)", done.stdout)[1:]
    instruction = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)")
    return {name: instruction.findall(text) for name, text in zip(parts[::2], parts[1::2], strict=True)}
