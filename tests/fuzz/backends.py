"""The backends that can run here, and how one is put in force."""

import functools
import shutil
import sys
from contextlib import contextmanager

import torch

import s2s_kernels as sk
from s2s_kernels import extension, triton


def available():
    """By name, those that can run. Without a GPU csrc/cuda runs in the emulation of tests/emulation, and Triton's
    kernels in its interpreter: both slowly."""
    found = ["cpp"] if extension.built else []
    emulated = extension.built and sys.platform == "linux" and shutil.which("c++")
    if extension.cuda if torch.cuda.is_available() else emulated:
        found.append("cuda")
    if triton.runs_on("cuda" if torch.cuda.is_available() else "cpu"):
        found.append("triton")
    return [*found, "reference"]


def is_slow(backend):
    return backend in ("cuda", "triton") and not torch.cuda.is_available()


@functools.cache
def emulation():
    """From here on csrc/cuda stands in the place of the CPU's kernels, in this process."""
    import cuda_emulation

    return cuda_emulation.install()


@contextmanager
def in_force(backend):
    """The device to run on. Fresh memory holds NaN."""
    device, name = "cpu", backend
    if torch.cuda.is_available() and backend != "cpp":
        device = "cuda"
    elif backend == "cuda":
        emulation()
        name = "cpp"
    torch.use_deterministic_algorithms(True)
    try:
        with sk.backend(name):
            yield device
    finally:
        torch.use_deterministic_algorithms(False)
