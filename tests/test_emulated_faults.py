"""What the emulation of CUDA is there to find, planted once each: in small kernels (tests/emulation/programs/) and in
copies of the persistent ones. What is as written passes; with its fault, it fails and says so."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "cuda-emulation-programs"
INCLUDE = Path(torch.__file__).parent / "include"
ADDRESS = "-fsanitize=address"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the emulation switches fibers as Linux does"),
    pytest.mark.skipif(not shutil.which("c++"), reason="no C++ compiler to build the emulation with"),
]


def texts(planted):
    """Everything that a program is made of, by its path; planted: (file, text, what stands there instead)."""
    files = [*(ROOT / "csrc").glob("plan*")]
    for folder in ("csrc/math", "csrc/cuda", "tests/emulation"):
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file()]
    found = {str(path.relative_to(ROOT)): path.read_text() for path in sorted(files)}
    if planted:
        file, text, instead = planted
        assert found[file].count(text) == 1, f"{file} has {found[file].count(text)} times {text!r}"
        found[file] = found[file].replace(text, instead)
    return found


def compiled(source, texts, flags):
    """The object of one source, kept in build/: most faults leave all but one as it is."""
    if "/programs/" in source:
        used = texts
    else:  # nothing but headers, of which none is a kernel's
        used = {path: text for path, text in texts.items() if path == source or path.endswith(".h")}
    command = ["c++", "-std=c++20", "-O0", "-g1", "-U_FORTIFY_SOURCE", "-Wno-attributes", *flags, f"-I{INCLUDE}"]
    made = FOLDER / f"{hashlib.sha256(repr((source, command, sorted(used.items()))).encode()).hexdigest()[:20]}.o"
    if made.exists():
        return made
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        for path, text in used.items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text)
        command += ["-c", Path(source).name, "-o", f"{folder}/made"]
        place = (Path(folder) / source).parent
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        os.replace(f"{folder}/made", made)
    return made


def build(program, *flags, planted=None):
    """The program of tests/emulation/programs, kept in build/."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = texts(planted)
    sources = [f"tests/emulation/{name}.cpp" for name in (f"programs/{program}", "fibers", "memory")]
    objects = [compiled(source, found, flags) for source in [*sources, "csrc/plan.cpp", "csrc/plan_attention.cpp"]]
    made = FOLDER / hashlib.sha256(repr(objects).encode()).hexdigest()[:20]
    if not made.exists():
        beside = f"{made}-{os.getpid()}"
        subprocess.run(["c++", *flags, *objects, "-o", beside], check=True, timeout=600)
        os.replace(beside, made)
    return made


def run(program, *arguments):
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


KERNELS = {
    "no barrier": r"race: block \d+ \(thread \d+\) reads exchanged element \d+, which nobody wrote in this launch",
    "no release": r"race: block (\d) .* reads .*, which block (?!\1)\d .* wrote with no release and acquire in between",
    "early release": r"race: block (\d) .* reads .*, which block (?!\1)\d .* wrote with no release and acquire",
    "no acquire": r"race: block (\d) .* reads .*, which block (?!\1)\d .* wrote with no release and acquire",
    "one buffer": r"race: block (\d) .* writes .*, which block (?!\1)\d .* read with no release and acquire",
    "absent block": r"deadlock: of block 0, 255 wait for __syncthreads; of block 0, 1 wait for the group's barrier",
    "divergent warp": "deadlock: of block 1, 224 wait for __syncthreads; of block 1, 32 wait for what never comes",
    "shared memory": "a wrong result",
    "no block barrier": "a wrong result",
    "not written": r"race: .* reads exchanged element \d+, which nobody wrote in this launch",
    "neighbour thread": "race: ",
    "wrong lane": "shuffle: lane 16 asks for lane 0, which is not there",
    "outside the mask": r"a shuffle: lane \d+ is not there: it calls with a mask without itself",
    "returned lane": "__syncwarp: lane 5 is not there: it has returned, but is in the mask",
    "fragments": "a wrong result",
    "out of bounds": "AddressSanitizer: heap-buffer-overflow",
    "past shared memory": "AddressSanitizer: heap-buffer-overflow",
}


@pytest.mark.parametrize("row", KERNELS)
def test_a_fault_in_a_small_kernel(row):
    program = build("faults", *([ADDRESS] if "Address" in KERNELS[row] else []))
    assert run(program, row, "right") == (0, "")
    status, said = run(program, row)
    assert status != 0 and re.search(KERNELS[row], said), said


def test_fragments_are_where_ptx_says():
    """The tables of "Matrix Fragments for mma.m16n8k16 with floating point type": lane and register to row, column."""
    expected = set()
    for lane in range(32):
        group, thread = lane >> 2, lane % 4
        for i in range(8):
            row = group if i < 2 or 4 <= i < 6 else group + 8
            expected.add(("a", lane, i, row, thread * 2 + (i & 1) + (8 if i >= 4 else 0)))
        for i in range(4):
            expected.add(("b", lane, i, thread * 2 + (i & 1) + (8 if i >= 2 else 0), group))
            expected.add(("c", lane, i, group + (8 if i >= 2 else 0), thread * 2 + (i & 1)))
    status, said = run(build("faults"), "places")
    found = [line.split() for line in said.splitlines()]
    assert status == 0 and len(found) == 32 * 16
    assert {(matrix, *map(int, numbers)) for matrix, *numbers in found} == expected


CUDA = "csrc/cuda/"
UNORDERED, LOOP_END = "race: .*with no ", "    block.barrier.arrive();\n  }"
# Name: the file, what is taken out of it, what stands there instead, what is said; with AddressSanitizer or not.
PERSISTENT = {
    "no release": (CUDA + "cooperative.cuh", "release_add(arrived, 1)", "atomicAdd(arrived, 1u)", UNORDERED),
    "no acquire": (CUDA + "cooperative.cuh", "acquire(arrived) - expected", "*arrived - expected", UNORDERED),
    "released before all have written": (
        CUDA + "cooperative.cuh", "void arrive() {\n    __syncthreads();", "void arrive() {", UNORDERED,
    ),
    "read before all know": (CUDA + "cooperative.cuh", "    }\n    __syncthreads();", "    }", "race: "),
    "forward: a step without its barrier": (
        CUDA + "persistent_forward.cu", "    block.barrier.wait();\n", "", "race: ",
    ),
    "forward: nobody arrives": (
        CUDA + "persistent_forward.cu", LOOP_END, "    block.barrier.expected += block.slices;\n  }",
        r"deadlock: .*wait for the group's barrier",
    ),
    "backward: a step without its barrier": (
        CUDA + "persistent_backward.cu", "    block.barrier.wait();\n", "", "race: ",
    ),
    "one buffer for all steps": (CUDA + "persistent_block.cuh", "(step % 2 * tiles", "(0 * tiles", UNORDERED),
    "sums read before they are written": (
        CUDA + "persistent_block.cuh", "tile));\n    __syncthreads();", "tile));", "a wrong state|other bits",
    ),
    "sums written over while they are read": (
        CUDA + "persistent_block.cuh", "if (tile > 0) __syncthreads();", "", "a wrong state|other bits",
    ),
    "registers of a fragment exchanged": (
        CUDA + "tile.cuh", "k / 8 * 4 + row / 8 * 2", "k / 8 * 2 + row / 8 * 4", "a wrong state",
    ),
    "a row that is not there": (
        CUDA + "persistent_backward.cu", "if (b < a.batch) backward", "backward", "heap-buffer-overflow",
    ),
    "shared memory too small": ("csrc/plan.cpp", "4 * (kWarps", "3 * (kWarps", "heap-buffer-overflow"),
    "exchanged memory too small": (
        "csrc/plan.cpp", "plan.groups * 2 * operand", "plan.groups * operand", "heap-buffer-overflow",
    ),
    "exchanged memory of one direction": (
        "csrc/plan.cpp", "plan.directions * plan.groups", "plan.groups", "heap-buffer-overflow",
    ),
    "both directions in the same exchanged memory": (
        CUDA + "persistent_block.cuh", "static_cast<int64_t>(all) * 2", "static_cast<int64_t>(group) * 2", "race: ",
    ),
    "one flag for both directions": (CUDA + "persistent_block.cuh", "d.arrived + all", "d.arrived + group", "race: "),
    "forward: the reverse direction without its barrier": (
        CUDA + "persistent_forward.cu", "    block.barrier.wait();\n",
        "    if (block.direction == 0) block.barrier.wait();\n", "race: ",
    ),
    "backward: the reverse direction without its barrier": (
        CUDA + "persistent_backward.cu", "    block.barrier.wait();\n",
        "    if (block.direction == 0) block.barrier.wait();\n", "race: ",
    ),
    "forward: the weights of the other direction": (
        CUDA + "persistent_forward.cu", "const T*>(of.weight)", "const T*>(p.of[0].weight)", "a wrong state|other bits",
    ),
    "backward: the weights of the other direction": (
        CUDA + "persistent_backward.cu", "const T*>(of.weight)", "const T*>(p.of[0].weight)", "other bits",
    ),
    "both directions read forwards": (
        CUDA + "persistent_forward.cu", "of.reverse ?", "p.of[0].reverse ?", "a wrong state|other bits",
    ),
}  # fmt: skip


ATTENTION = CUDA + "persistent_attention/persistent_attention_"
FORWARD, BACKWARD, PLAN = ATTENTION + "forward.cu", ATTENTION + "backward.cu", "csrc/plan_attention.cpp"
SOURCE, BLOCK = CUDA + "persistent_attention/source_block.cuh", CUDA + "persistent_block.cuh"
DECODER = {
    "forward: no wait for the state": (FORWARD, "    block.barrier.wait();  // for the state\n", "", "race: "),
    "forward: no wait for the queries": (FORWARD, "    block.barrier.wait();  // for the queries\n", "", "race: "),
    "forward: no wait for the scores": (FORWARD, "    block.barrier.wait();  // for the scores\n", "", "race: "),
    "forward: queries never released": (
        FORWARD, "break;\n    block.barrier.arrive();", "break;\n    block.barrier.expected += block.slices;",
        "deadlock: .*wait for the group's barrier",
    ),
    "forward: released before all have written": (
        FORWARD, "block.product.partial);\n    block.barrier.arrive();",
        "block.product.partial);\n    if (threadIdx.x == 0) release_add(block.barrier.arrived, 1);"
        "\n    block.barrier.expected += block.slices;", UNORDERED,
    ),
    "forward: a part of the scores left out": (FORWARD, "part < source.s.parts", "part < 1", "a wrong state"),
    "forward: softmax of a lane's own": (FORWARD, "    total = warp_sum(total);\n", "", "a wrong state"),
    "forward: weights written over while they are read": (
        FORWARD, "if (tile > 0) __syncthreads();", "", "a wrong state|other bits",
    ),
    "forward: sums added before they are there": (
        CUDA + "tile.cuh", "    __syncthreads();\n    if (warp < places)", "    if (warp < places)",
        "a wrong state|other bits",
    ),
    "keys in shared memory of another row": (
        SOURCE, "keys + item.number * s.source", "keys + 0 * s.source", "a wrong|other bits",
    ),
    "values in shared memory of another tile": (
        SOURCE, "values[((row * gates + gate)", "values[((row % kTile * gates + gate)", "a wrong state|other bits",
    ),
    "values that do not count kept": (SOURCE, "b < batch && is_valid(b, at);", "b < batch;", "a wrong state"),
    "backward: no wait for the gates": (
        BACKWARD, "      block.barrier.wait();  // for the gradients of the gates\n", "", "race: ",
    ),
    "backward: no wait for the queries": (
        BACKWARD, "    block.barrier.wait();  // for the gradients of the queries\n", "", "race: ",
    ),
    "backward: queries never released": (
        BACKWARD, "p.has_first));\n    block.barrier.arrive();",
        "p.has_first));\n    block.barrier.expected += block.slices;", "deadlock: .*wait for the group's barrier",
    ),
    "backward: one buffer for all steps": (BLOCK, "(step % 2 * tiles", "(0 * tiles", UNORDERED),
    "backward: a slice's part left out": (BACKWARD, "slice < source.slices", "slice < 1", "a wrong gradient"),
    "backward: softmax without its mean": (BACKWARD, "double(grads[i]) - mean", "double(grads[i])", "a wrong gradient"),
    "backward: rows that are not there": (BACKWARD, "source.first_row + row >= a.batch &&", "false &&", "nobody wrote"),
    "backward: sums of a warp left out": (
        BACKWARD, "is_fed && k < kWarps; k++", "is_fed && k < 1; k++", "a wrong gradient",
    ),
    "a block's shared memory too small": (PLAN, "fits(items * s", "fits((items - 1) * s", "heap-buffer-overflow"),
    "scores exchanged in too little": (PLAN, "b.exchange(scores)", "b.exchange(scores / 2)", "heap-buffer-overflow"),
    "parts exchanged in too little": (PLAN, "b.rows * parts)", "b.rows / 2 * parts)", "heap-buffer-overflow"),
}  # fmt: skip
PROGRAMS = {"persistent": PERSISTENT, "persistent_attention": DECODER}


@pytest.mark.exhaustive(every=2)
@pytest.mark.parametrize("flags", [[], [ADDRESS]], ids=["plain", "AddressSanitizer"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_persistent_kernels_as_they_are(program, flags):
    assert run(build(program, *flags)) == (0, "")


@pytest.mark.exhaustive(every=8)
@pytest.mark.parametrize(("program", "row"), [(name, row) for name, rows in PROGRAMS.items() for row in rows])
def test_a_fault_in_the_persistent_kernels(program, row):
    *planted, expected = PROGRAMS[program][row]
    flags = [ADDRESS] if "overflow" in expected else []
    status, said = run(build(program, *flags, planted=planted))
    assert status != 0 and re.search(expected, said), said


FORWARD, COOPERATIVE = CUDA + "additive_attention_forward.cu", CUDA + "cooperative.cuh"
ATTENTION_BACKWARD = CUDA + "additive_attention_backward.cu"
# Of sources that blocks share, forward and backward: the same columns as above.
TURNS = {
    "a turn that orders nothing": (COOPERATIVE, "take_turn(arrived)", "atomicAdd(arrived, 1u)", UNORDERED),
    "a turn taken before all have written": (
        COOPERATIVE, "block_memory<Turn>();\n  __syncthreads();", "block_memory<Turn>();\n", UNORDERED,
    ),
    "the first block combines": (
        COOPERATIVE, "static_cast<unsigned>(members) - 1;", "0u;", "race: .*which nobody wrote",
    ),
    "a counter that is not set back": (COOPERATIVE, "if (turn.last) *arrived = 0;", "", "wrong "),
}  # fmt: skip
SPLIT_SOURCES = {
    "attention": TURNS | {
        "scales read before they are written": (
            FORWARD, "mine / total;\n  }\n  __syncthreads();", "mine / total;\n  }", "a wrong context|wrong weights",
        ),
    },
    "attention_backward": TURNS | {
        "means read before they are written": (
            ATTENTION_BACKWARD, "i * 2 + 1);\n  }\n  __syncthreads();", "i * 2 + 1);\n  }", "wrong ",
        ),
        "shifts read before they are written": (
            ATTENTION_BACKWARD, "mean_of(sum, mass);\n  }\n  __syncthreads();", "mean_of(sum, mass);\n  }", "wrong ",
        ),
        "scores that keep their split's mean": (
            ATTENTION_BACKWARD, "double(w[s]) * memory.shift[k])", "0)", "wrong scores' gradients",
        ),
        "a query's gradient that keeps them": (
            ATTENTION_BACKWARD, "memory.shift[k] * double(read", "0 * double(read", "a wrong query's gradient",
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("program", SPLIT_SOURCES)
def test_split_sources_as_they_are(program):
    assert run(build(program, ADDRESS)) == (0, "")


@pytest.mark.exhaustive(every=4)
@pytest.mark.parametrize(("program", "row"), [(name, row) for name, rows in SPLIT_SOURCES.items() for row in rows])
def test_a_fault_where_blocks_share_a_source(program, row):
    *planted, expected = SPLIT_SOURCES[program][row]
    status, said = run(build(program, planted=planted))
    assert status != 0 and re.search(expected, said), said
