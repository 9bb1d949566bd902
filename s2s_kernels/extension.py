"""Loads the compiled library ``s2s_kernels._C`` and says, once, when it cannot."""

import warnings

import torch  # its libraries must be loaded before ours

from . import library
from .info import build_mismatch, extension_problem

try:
    from . import _C
except ImportError as error:
    _C = None
    problem = f"the compiled extension cannot be used ({extension_problem(error)})"
    problem += "; on the CPU every op runs on the slow reference backend until: pip install --no-build-isolation ."
else:
    problem = build_mismatch()

if problem:
    warnings.warn(f"s2s_kernels: {problem}", RuntimeWarning, stacklevel=2)

built = _C is not None
# Whether it was built with the CUDA kernels; what stands in the dispatcher is what can run.
cuda = built and torch._C._dispatch_has_kernel_for_dispatch_key("s2s_kernels::gru_forward", "CUDA")
# The compiled library registers the ops; without it they are registered from Python.
ops = None if built else library.define()
decoder = library.define_decoder()
