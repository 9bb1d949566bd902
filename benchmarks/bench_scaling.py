"""How the attention decoder grows with each size, and with threads: everything else as in C2."""

from dataclasses import replace

from . import bench_attention_gru
from .cases import SHAPES, TRAINING

SIZES = {
    "B": (1, 2, 4, 8, 16, 32, 64, 128),
    "S": (5, 12, 25, 50, 100, 200),
    "T": (5, 12, 25, 50, 100),
    "H": (64, 128, 256, 512, 1024),
}
BOTH_DTYPES = ("B=", "T=")  # on a CPU: rows and steps in bfloat16 too


def case(axis, size):
    shape = SHAPES["C2"]._replace(**{axis: size})
    made = bench_attention_gru.case(f"{axis}={size}", {"cpu", "gpu"}, shape, op="scaling")
    everyone = tuple(i for i in made.implementations if i.name in ("s2s_kernels", "eager"))
    return replace(made, implementations=everyone, passes=(TRAINING,))


CASES = [case(axis, size) for axis, sizes in SIZES.items() for size in sizes]
CASES.append(replace(case("T", 5), name="T=5, quick", suites={"quick"}))


def test_scaling(timed):
    timed()
