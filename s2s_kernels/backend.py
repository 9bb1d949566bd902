"""Which implementation of the ops runs: ``auto``, ``cpp``, ``cuda``, ``triton`` or ``reference``."""

import os
from contextlib import contextmanager

from . import extension

NAMES = ("auto", "cpp", "cuda", "triton", "reference")

_chosen = os.environ.get("S2S_BACKEND") or "auto"
if _chosen not in NAMES:
    raise ValueError(f"S2S_BACKEND is {_chosen!r}, expected one of {', '.join(NAMES)}")


@contextmanager
def backend(name):
    """Context manager: inside it every op runs on backend ``name``.

    Process-wide, like the environment variable ``S2S_BACKEND`` that sets the initial value. ``"auto"`` takes
    the fastest that can run a tensor's device. Any other name is a demand: an op that cannot honour it raises
    ``RuntimeError``, it never falls back.
    """
    if name not in NAMES:
        raise ValueError(f"backend is {name!r}, expected one of {', '.join(NAMES)}")
    global _chosen
    previous, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = previous


def available(device_type):
    """Backends that can run tensors of ``device_type``, fastest first."""
    compiled = {"cpu": ("cpp",) * extension.built, "cuda": ("cuda",) * extension.cuda}
    return (*compiled.get(device_type, ()), "reference")


def resolve(device_type):
    """The backend an op on ``device_type`` tensors runs on now; ``RuntimeError`` if the chosen one cannot."""
    can = available(device_type)
    if _chosen == "auto":
        return can[0]
    if _chosen not in can:
        raise RuntimeError(
            f"backend {_chosen!r} cannot run {device_type} tensors here; these can: auto, {', '.join(can)}"
        )
    return _chosen
