"""What was built, for which machines, and what will run here: ``s2s_kernels.info()``.

A package, so that ``python -m s2s_kernels.info`` works even when ``s2s_kernels`` has imported this already.
"""

import json
from functools import cache
from importlib import import_module
from pathlib import Path

__all__ = ["build_mismatch", "extension_problem", "info"]


@cache
def _built():
    """What the build wrote down; empty where nothing was ever built."""
    try:
        return json.loads(Path(__file__).parents[1].joinpath("_build_info.json").read_text())
    except (OSError, ValueError):
        return {}


def build_mismatch() -> str | None:
    """One sentence if the extension was built against another torch than the one that runs, else None."""
    import torch

    built, running = _built().get("torch"), str(torch.__version__)
    if not built or built.split(".")[:2] == running.split(".")[:2]:
        return None
    return (
        f"s2s_kernels was built against torch {built} but runs with torch {running}: rebuild it from "
        "its sources with pip install --no-build-isolation --no-deps --force-reinstall ."
    )


def extension_problem(error: ImportError) -> str:
    """Why the extension cannot be imported: the build's note, another torch, or the loader's own words."""
    lines = str(error).splitlines() or [""]
    unbuilt = "it is not built" if "cannot import name" in lines[0] or "No module" in lines[0] else None
    return _built().get("problem") or build_mismatch() or unbuilt or lines[0]


def info() -> dict:
    """The package's version and build, this machine's devices, and the backend that each will use."""
    import platform

    import torch

    from ..version import __version__

    built, extension, why = _built(), None, None
    try:
        extension = import_module("s2s_kernels._C")
    except ImportError as error:
        why = extension_problem(error)
    devices = {"cpu": _cpu_name()}
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        devices[f"cuda:{i}"] = f"{torch.cuda.get_device_name(i)} (sm_{major}{minor})"
    return {
        "s2s_kernels": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": str(torch.__version__),
        "extension": extension is not None,
        "extension_problem": why,
        "built_with_torch": built.get("torch"),
        "compiler": built.get("compiler"),
        "cuda": built.get("cuda"),
        "cuda_archs": built.get("cuda_archs"),
        "triton": _version("triton"),
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "cpu_capability": extension.cpu_capability() if extension else None,
        "threads": torch.get_num_threads(),
        "cores": extension.cores() if extension else None,
        "devices": devices,
        "backends": {kind: _backend(kind) for kind in dict.fromkeys(name.split(":")[0] for name in devices)},
    }


def _version(package):
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name():
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _backend(device_type):
    # By import, because s2s_kernels.backend names the context manager.
    try:
        return import_module("s2s_kernels.backend").resolve(device_type)
    except RuntimeError as error:  # S2S_BACKEND asks for what this device cannot run
        return f"none: {error}"


def table(report):
    """The report as aligned lines, a nested dict as one line an entry."""
    rows = []
    for key, value in report.items():
        label = key if key == "s2s_kernels" else key.replace("_", " ")
        if isinstance(value, dict):
            rows += [(f"{label.removesuffix('s')} {name}", text) for name, text in value.items()]
        elif isinstance(value, bool):
            rows.append((label, "yes" if value else "no"))
        elif value is not None:
            rows.append((label, value))
    width = max(len(label) for label, _ in rows)
    return "\n".join(f"{label:<{width}}  {value}" for label, value in rows)
