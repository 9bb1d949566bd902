"""Which implementation of the ops runs: ``auto``, ``cpp``, ``cuda``, ``triton`` or ``reference``."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import extension, triton

NAMES = ("auto", "cpp", "cuda", "triton", "reference")

_chosen = os.environ.get("S2S_BACKEND") or "auto"
if _chosen not in NAMES:
    raise ValueError(f"S2S_BACKEND is {_chosen!r}, expected one of {', '.join(NAMES)}")


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Context manager: inside it every op runs on backend ``name``.

    Process-wide, like the environment variable ``S2S_BACKEND`` that sets the initial value. ``"auto"`` takes
    the fastest that can run a tensor's device. Any other name is a demand: an op that cannot honour it raises
    ``RuntimeError``, it never falls back.
    """
    if name not in NAMES:
        raise ValueError(f"backend is {name!r}, expected one of {', '.join(NAMES)}")
    global _chosen
    previous, _chosen = _chosen, name
    _put_in_front()
    try:
        yield
    finally:
        _chosen = previous
        _put_in_front()


def available(device_type: str) -> tuple[str, ...]:
    """Backends that can run tensors of ``device_type``, fastest first."""
    return tuple(_available(device_type))


def _available(device_type: str) -> Iterator[str]:
    # One by one, as a GPU is asked for what it can only where Triton's turn comes.
    if device_type == "cpu" and extension.built:
        yield "cpp"
    if device_type == "cuda" and extension.cuda:
        yield "cuda"
    if triton.runs_on(device_type):
        yield "triton"
    yield "reference"


def is_auto() -> bool:
    """Whether the choice of a backend is left to this package."""
    return _chosen == "auto"


def is_cpp() -> bool:
    """Whether CPU tensors run on the compiled kernels: `resolve("cpu") == "cpp"`, in a fraction of the time."""
    return extension.built and (_chosen == "auto" or _chosen == "cpp")


def resolve(device_type: str) -> str:
    """The backend an op on ``device_type`` tensors runs on now; ``RuntimeError`` if the chosen one cannot."""
    can = _available(device_type)
    if is_auto():
        return next(can)
    can = list(can)
    if _chosen not in can:
        raise RuntimeError(
            f"backend {_chosen!r} cannot run {device_type} tensors here; these can: auto, {', '.join(can)}"
        )
    return _chosen


# The dispatcher has one kernel an op and device. Triton's stand on CUDA where no compiled ones do; they stand in
# front of compiled ones, and on the CPU when interpreted, as long as they are the chosen backend.
_front = None
_compiled_for_cuda = [
    name for name in triton.OPS if torch._C._dispatch_has_kernel_for_dispatch_key(f"s2s_kernels::{name}", "CUDA")
]


def _put_in_front() -> None:
    global _front
    wanted = _chosen == "triton"
    if wanted and _front is None:
        _front = torch.library.Library("s2s_kernels", "IMPL")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Warning only once for all operators")
            for device_type, names in (("cpu", triton.OPS), ("cuda", _compiled_for_cuda)):
                if triton.runs_on(device_type):
                    triton.register(_front, device_type.upper(), names)
    elif not wanted and _front is not None:
        _front._destroy()
        _front = None


_library = torch.library.Library("s2s_kernels", "IMPL")
triton.register(_library, "CUDA", [name for name in triton.OPS if name not in _compiled_for_cuda])
_put_in_front()
