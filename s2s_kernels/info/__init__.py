"""What was built, for which machines, and what will run here: ``s2s_kernels.info()``.

A package, so that ``python -m s2s_kernels.info`` works even when ``s2s_kernels`` has imported this already.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from ..backend import resolve
from ..build_info import built, extension_problem

__all__ = ["info", "table"]


def info() -> dict[str, Any]:
    """The package's version and build, this machine's devices, and the backend that each will use."""
    import platform

    import torch

    from ..version import __version__

    about, extension, why = built(), None, None
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
        "built_with_torch": about.get("torch"),
        "compiler": about.get("compiler"),
        "cuda": about.get("cuda"),
        "cuda_archs": about.get("cuda_archs"),
        "triton": _version("triton"),
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "cpu_capability": extension.cpu_capability() if extension else None,
        "cpu_int8": extension.int8_lanes()[0] if extension else None,
        "threads": torch.get_num_threads(),
        "cores": extension.cores() if extension else None,
        "devices": devices,
        "backends": {kind: _backend(kind) for kind in dict.fromkeys(name.split(":")[0] for name in devices)},
    }


def _version(package: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    import platform

    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _backend(device_type: str) -> str:
    try:
        return resolve(device_type)
    except RuntimeError as error:  # S2S_BACKEND asks for what this device cannot run
        return f"none: {error}"


def table(report: dict[str, Any]) -> str:
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
