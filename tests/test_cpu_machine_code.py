"""The compiler's code of CPU kernels: sums that a loop makes stay in registers."""

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not (platform.machine() == "x86_64" and shutil.which("g++") and shutil.which("objdump")),
    reason="needs g++ and objdump, for x86-64",
)
FLAGS = ["-std=c++20", "-O3", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-wrapv", "-fopenmp"]  # of setup.py
LANES = {"avx512_vnni": "vpdpbusd", "avx_vnni": "vpdpbusd", "avx2": "vpmaddwd"}
TO_STACK = re.compile(r"vmov\w+\s+%[xyz]mm\d+,.*\(%r[sb]p\)")


def functions(listing):
    """{name: [(address, instruction)]}"""
    found, body = {}, None
    for line in listing.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            body = found.setdefault(head[1], [])
        elif body is not None and (one := re.match(r"\s+([0-9a-f]+):\s+(.*)", line)):
            body.append((int(one[1], 16), one[2]))
    return found


def loops(body):
    """The instructions of each: from where a jump goes back to."""
    for address, text in body:
        jump = re.match(r"j\w+\s+([0-9a-f]+)", text)
        if jump and body[0][0] <= (to := int(jump[1], 16)) < address:
            yield [text for at, text in body if to <= at <= address]


@pytest.mark.parametrize("lane", LANES)
def test_sums_of_products_in_8_bits_stay_in_registers(tmp_path, lane):
    """At the most one store for four products: with one for each, a tile takes twice the time."""
    product = LANES[lane]
    source = ROOT / "csrc" / "cpu" / "int8" / f"{lane}.cpp"
    folders = [f"-I{ROOT / 'csrc'}", *(f"-isystem{path}" for path in include_paths())]
    subprocess.run(["g++", *FLAGS, *folders, "-c", source, "-o", tmp_path / "lane.o"], check=True)
    command = ["objdump", "-d", "--no-show-raw-insn", "-C", tmp_path / "lane.o"]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seen = 0
    for name, body in functions(listing).items():
        turns = [loop for loop in loops(body) if any(product in text for text in loop)]
        if "tile<" not in name or not turns:
            continue
        turn, seen = min(turns, key=len), seen + 1
        products, stores = (sum(map(bool, found)) for found in zip(*((product in t, TO_STACK.match(t)) for t in turn)))
        assert 4 * stores <= products, f"{name}: {stores} stores to the stack for {products} products in a turn"
    assert seen > 2
