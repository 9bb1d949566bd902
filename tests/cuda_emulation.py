"""Runs the CUDA kernels on the CPU, without CUDA: csrc/cuda compiled by the host's compiler over tests/emulation.

As a pytest plugin (``-p cuda_emulation``) it puts them in the place of the CPU's kernels for the whole session, so
that every test of an op on the CPU is then a test of csrc/cuda.
"""

import ctypes
import fcntl
import os
import sys
import warnings
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
CUDA = "csrc/cuda"
# Compiled as one source each: torch's headers take longer than all that is behind them.
TOGETHER = {
    "attention": [
        "csrc/arguments.cpp", "csrc/checks.cpp", "csrc/plan.cpp", "csrc/plan_attention.cpp",
        f"{CUDA}/additive_attention_host.cpp", f"{CUDA}/gru_step.cpp",
    ],
    "decoder": [
        f"{CUDA}/attention_recurrence.cpp", f"{CUDA}/beam_search_host.cpp",
        f"{CUDA}/lstm_step.cpp", f"{CUDA}/persistent_host.cpp",
        f"{CUDA}/persistent_attention/persistent_attention_host.cpp",
    ],
    "sequence": [f"{CUDA}/recurrence.cpp", "tests/emulation/registry.cpp"],
}  # fmt: skip
# What is not in the emulation: of a real GPU.
LEFT_OUT = [f"{CUDA}/stream.cpp", f"{CUDA}/registry.cpp"]
FOLDER = ROOT / "build" / f"cuda-emulation-torch{torch.__version__}"


def sources():
    """The files to compile; of those of TOGETHER, one that includes them."""
    found = [*(ROOT / "tests" / "emulation").glob("*.cpp"), *(ROOT / CUDA).rglob("*.cpp")]
    apart = {str(path.relative_to(ROOT)) for path in found} - {*LEFT_OUT}
    made = []
    for name, files in TOGETHER.items():
        apart -= {*files}
        made.append(FOLDER / f"{name}.cpp")
        text = "".join(f'#include "{ROOT / file}"\n' for file in files)
        if not made[-1].exists() or made[-1].read_text() != text:
            made[-1].write_text(text)
    return sorted(map(str, [*made, *(ROOT / file for file in apart)]))


def build():
    """Compiles what changed and loads it as torch.ops.s2s_kernels_emulated."""
    from torch.utils import cpp_extension

    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with open(FOLDER / "turn", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        (FOLDER / "lock").unlink(missing_ok=True)  # of a build that was killed: torch would wait for it forever
        cpp_extension.load(
            "cuda_emulation",
            sources(),
            extra_cflags=["-O1", "-std=c++20", "-fvisibility=hidden", "-U_FORTIFY_SOURCE", "-Wno-attributes"],
            build_directory=str(FOLDER),
            is_python_module=False,
        )


def library():
    """What tests set and count: the order of blocks, the multiprocessors, launches (tests/emulation/registry.cpp)."""
    made = ctypes.CDLL(str(FOLDER / "cuda_emulation.so"))
    for count in (made.emulation_launches, made.emulation_launches_together, made.emulation_replays):
        count.restype = ctypes.c_int64
    return made


def install():
    """Puts them in the place of the CPU's kernels; they stay as long as the result lives."""
    from s2s_kernels import triton  # (registers the ops that get other kernels here)
    from s2s_kernels.backend import NAMES
    from s2s_kernels.ops import attention_decoder

    build()
    ops = [str(name) for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU")]
    ops = [name.split("::")[1] for name in ops if name.startswith("s2s_kernels_emulated::")]
    emulated = torch.library.Library("s2s_kernels_emulated", "DEF")
    library = torch.library.Library("s2s_kernels", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a kernel is replaced is the purpose
        for op in ops:
            schema = getattr(torch.ops.s2s_kernels, op).default._schema
            emulated.define(str(schema).removeprefix("s2s_kernels::"))
            library.impl(op, getattr(torch.ops.s2s_kernels_emulated, op).default, "CPU")
        # On CUDA the decoder with parts is composed of these.
        triton.register(library, "CPU", [name for name, op in triton.OPS.items() if op == attention_decoder.NAME])
        attention_decoder.COMPOSED.add("cpu")
        attention_decoder.BACKENDS = NAMES
    return emulated, library


def pytest_configure(config):
    # oneDNN's products of bfloat16 on a CPU with AMX let NaN in the memory behind a row into it; cuBLAS, for which
    # they stand here, does not.
    torch.backends.mkldnn.set_flags(False)
    config.cuda_emulation = install()


def pytest_report_header():
    return "s2s_kernels: the CPU's kernels are csrc/cuda, emulated"
