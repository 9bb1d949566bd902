"""The ops as Triton kernels: for CUDA tensors where the compiled extension has no CUDA kernels, of an op or at all.

Triton is slow to import: that waits for the first call. With TRITON_INTERPRET=1 the kernels run on the CPU, slowly,
element by element of a grid: for tests.
"""

import os
from importlib import import_module
from importlib.util import find_spec

import torch

from ..checks import of_ops

installed = find_spec("triton") is not None
interpreted = os.environ.get("TRITON_INTERPRET") == "1"

# What a backend implements, as in csrc/ops.h: the dispatcher's name of an op, and the file here that has it.
OPS = {
    name + half: "bidirectional" if name.endswith("bidirectional") else name
    for name, halves in {
        "additive_attention": ("", "_backward"),
        "gru_step": ("", "_backward"),
        "lstm_step": ("", "_backward"),
        "gru": ("_forward", "_backward"),
        "lstm": ("_forward", "_backward"),
        "gru_bidirectional": ("_forward", "_backward"),
        "lstm_bidirectional": ("_forward", "_backward"),
        "attention_gru": ("_forward", "_backward"),
        "attention_lstm": ("_forward", "_backward"),
        "attention_decoder": ("_forward", "_backward"),
        "beam_search": ("",),
    }.items()
    for half in halves
}


def runs_on(device_type):
    """Whether Triton is installed and can run on the devices of that type. torch.compile traces this."""
    if interpreted or not installed:
        return installed and device_type == "cpu"
    if device_type != "cuda" or torch.version.cuda is None or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_properties().major >= 8


def implementation(name):
    """Op ``name``, as the dispatcher calls it."""

    def run(*args, **kwargs):
        if name in of_ops:
            of_ops[name](*args, **kwargs)
        function = getattr(import_module(f"{__name__}.{OPS[name]}"), name)
        tensors = args[0] if isinstance(args[0], list) else args
        device = next(x.device for x in tensors if x is not None)
        if device.type == "cpu" or device.index == torch.cuda.current_device():
            return function(*args, **kwargs)
        with torch.cuda.device(device):  # Triton launches on the current one
            return function(*args, **kwargs)

    return run


def register(library, key, names):
    """Puts these ops into the dispatcher."""
    for name in names:
        library.impl(name, implementation(name), key)
