#!/usr/bin/env bash
# PyTorch 2.13.0 (2.14.1 the same) on a CPU with AMX: in a product of bfloat16 matrices, and so in nn.Linear, whose inner size
# is odd, a NaN or an infinity in one row makes the row before it NaN too: its last element is multiplied in a
# pair with the next row's first, by zero. What is padding, or masked, or another sentence of the batch then reaches
# a result that it has no part in. Even sizes, float16, float32, and bfloat16 without oneDNN are right.
# Seen, with NaN in row 9 of 17: rows 8 and 9 for inner sizes 5, 33 and 65; row 9 alone for 4, 32 and 64.
# On a CPU without AMX there is nothing to see, and the script says so.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys

import torch

with open("/proc/cpuinfo") as cpu:
    if "amx_bf16" not in cpu.read():
        print("this CPU has no AMX: nothing to see")
        sys.exit()
torch.manual_seed(0)


def rows_hit(size, value, dtype=torch.bfloat16):
    x, w = torch.randn(17, size).to(dtype), torch.randn(64, size).to(dtype)
    x[9] = value
    product = torch.nn.functional.linear(x, w)
    assert torch.equal(product.isfinite(), (x @ w.t()).isfinite())
    return [i for i in range(17) if not product[i].isfinite().all()]


for size in (4, 5, 32, 33, 64, 65):
    found = {str(value): rows_hit(size, value) for value in (float("nan"), float("inf"))}
    print(f"inner size {size}: rows that are not finite: {found}")
    assert all(rows == ([8, 9] if size % 2 else [9]) for rows in found.values())
    for dtype in (torch.float16, torch.float32):
        assert rows_hit(size, float("nan"), dtype) == [9]
    with torch.backends.mkldnn.flags(enabled=False):
        assert rows_hit(size, float("nan")) == [9]
PYTHON
echo "still so"
