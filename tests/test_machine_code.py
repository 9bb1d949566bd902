"""What ptxas makes of the kernels that read rows and make products, for GPUs that need not be there.

Rows of global memory are read 16 bytes at a time, nothing lies in local memory, and products of 16 bits are the tensor
cores'. The cells' kernels are not among them: a thread has an element, and a warp's loads lie side by side as they are.
Nor does anybody ask for 16-byte loads of shared memory: a lane's part of the right operand is 8 bytes, of which a
warp's 256 fill all banks for two cycles, as 512 would for four.
"""

import re
import shutil

import pytest
from nvcc_offline import KERNELS, NVCC, ROOT, ROWS, compiled, disassembler, is_hot, kernels, machine_code

# File: the kernels in it that must read 16 bytes at a time, and those whose products are the tensor cores'.
VECTORS = r"_kernelI(f|6__half|13__nv_bfloat16)Li[48]E"  # whose rows are aligned
ONE_LAUNCH, SIXTEEN_BITS = r"persistent_\w+_kernel", r"ILi\dE(6__half|13__nv_bfloat16)E"
FILES = {
    "additive_attention_forward.cu": (VECTORS, None),
    "additive_attention_backward.cu": (VECTORS, None),
    "additive_attention_source_backward.cu": (VECTORS, None),
    "persistent_forward.cu": (ONE_LAUNCH, SIXTEEN_BITS),
    "persistent_backward.cu": (ONE_LAUNCH, SIXTEEN_BITS),
    "persistent_attention_forward.cu": (ONE_LAUNCH, SIXTEEN_BITS),
    "persistent_attention_backward.cu": (ONE_LAUNCH, SIXTEEN_BITS),
}
LOAD = re.compile(r"LDG\..*\b128\b")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NVCC is None, reason="no nvcc here"),
    pytest.mark.skipif(NVCC is not None and disassembler() is None, reason="no cuobjdump here"),
]


def problems(source, arch, **options):
    """What is missing or too much in the machine code of a file, a line a kernel."""
    made, log = compiled(source, arch, **options)
    code, (rows, products) = machine_code(made), FILES[source.name]
    assert code.keys() == {kernel.name for kernel in kernels(log)}
    found, seen = [], 0
    for name, instructions in code.items():
        if not is_hot(name):
            continue
        seen += 1
        local = [x for x in instructions if x.startswith(("LDL", "STL"))]
        if local:
            found.append(f"{name}: {len(local)} accesses of local memory")
        if re.search(rows, name) and not any(map(LOAD.match, instructions)):
            found.append(f"{name}: no load of 16 bytes")
        if products and re.search(products, name) and not any(x.startswith("HMMA") for x in instructions):
            found.append(f"{name}: no product on the tensor cores")
    assert seen and any(re.search(rows, name) for name in code)
    return found


@pytest.mark.parametrize("arch", ROWS)
@pytest.mark.parametrize("name", FILES)
def test_machine_code(name, arch):
    (source,) = (path for path in KERNELS if path.name == name)
    assert problems(source, arch) == []


def test_a_kernel_without_all_that_is_found_out(tmp_path):
    """Rows read 4 bytes at a time, sums in place of products, an array that a number known at run time indexes."""
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc", ignore=shutil.ignore_patterns("cpu", "*.cpp"))
    narrow = " ".join(f"ld.global.cg.s32 %{i}, [%4 + {4 * i}];" for i in range(4))
    give, kept = "block.give(step, tile, i, grad_gates_h[i]);", "kept[(step + i) % 64]"
    planted = {
        "cooperative.cuh": (re.escape("ld.global.cg.v4.s32 {%0, %1, %2, %3}, [%4];"), narrow),
        "tile.cuh": (r'"mma\.sync[^;]*;"', '"add.f32 %0, %0, %1;"'),
        "persistent_backward.cu": (
            re.escape(give),
            f"{{ volatile float kept[64]; {kept} = grad_gates_h[i]; {give.replace('grad_gates_h[i]', kept)} }}",
        ),
    }
    for name, (text, instead) in planted.items():
        path = tmp_path / "csrc" / "cuda" / name
        changed, count = re.subn(text, lambda _, instead=instead: instead, path.read_text())
        assert count
        path.write_text(changed)
    found = problems(tmp_path / "csrc/cuda/persistent_backward.cu", "sm_90", kept=tmp_path / "made")
    assert {line.partition(": ")[2].lstrip("0123456789 ") for line in found} == {
        "accesses of local memory",
        "no load of 16 bytes",
        "no product on the tensor cores",
    }
