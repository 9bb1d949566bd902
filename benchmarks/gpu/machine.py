"""The machine that ``make gpu`` runs on: whether it can, and what is there."""

import os
import shutil
import subprocess
import sys


def problem(who="make gpu"):
    """Why this machine cannot run ``who``, in one sentence; None where it can."""
    try:
        import torch
    except ImportError:
        return f"{who} needs a torch with CUDA, and {sys.executable} has no torch."
    if torch.version.cuda is None:
        return f"{who} needs a torch with CUDA, and torch {torch.__version__} of {sys.executable} is built without."
    if not torch.cuda.is_available():
        return f"{who} needs an NVIDIA GPU, and torch finds none here."
    return None


def architecture():
    import torch

    return "{}.{}".format(*torch.cuda.get_device_capability())


def description():
    """What a stage's result holds for, beside the sources."""
    import torch

    return {"gpu": torch.cuda.get_device_name(), "torch": str(torch.__version__), "cuda": torch.version.cuda}


def processes():
    """Of the tests: a core each, and a gigabyte of the GPU's memory."""
    import torch

    room = torch.cuda.mem_get_info()[0] >> 30 if torch.cuda.is_available() else 16
    return max(1, min(16, os.cpu_count() or 1, room))


def find_sanitizer():
    """Its command and options, or an empty list."""
    from torch.utils.cpp_extension import CUDA_HOME

    found = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path=f"{CUDA_HOME}/bin")
    if not found:
        return []
    # Kernels of torch and cuBLAS would take all the time there is; with calls that fail libraries ask what there is.
    said = subprocess.run([found, "--help"], capture_output=True, text=True).stdout
    ours = [[option, "kns=s2s"] for option in ("--kernel-name", "--kernel-regex") if option in said][:1]
    return [found, "--report-api-errors", "no", *(ours[0] if ours else [])]
