#!/usr/bin/env bash
# PyTorch 2.13.0 (2.14.1 the same), torch.autocast("cpu", bfloat16) around float32 modules: what an RNN returns, and so what
# a concatenation or a loss behind it is handed, depends on the kind, on packing, on a cell or a sequence, and for nn.GRU on
# whether the initial state is given, even when it is the zeros that are the default:
#   nn.RNN bfloat16 throughout; nn.LSTM bfloat16, but float32 for a PackedSequence and for nn.LSTMCell; nn.GRU
#   float32 throughout; yet nn.GRU and nn.GRUCell behind an nn.Linear bfloat16 without a state, float32 with float32 zeros.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

x, found = torch.randn(5, 3, 4), {}


def first(result):
    while isinstance(result, tuple) and not isinstance(result, torch.Tensor):
        result = result[0]
    return str(result.dtype).removeprefix("torch.")


with torch.autocast("cpu", torch.bfloat16):
    for kind in ("RNN", "LSTM", "GRU"):
        module = getattr(nn, kind)(4, 6)
        found[kind, "sequence"] = first(module(x))
        found[kind, "packed"] = first(module(pack_padded_sequence(x, [5, 4, 2])))
        found[kind, "cell"] = first(getattr(nn, f"{kind}Cell")(4, 6)(x[0]))
    behind = nn.Linear(4, 4)(x)
    found["GRU", "behind a Linear"] = first(nn.GRU(4, 6)(behind))
    found["GRU", "behind a Linear, zeros given"] = first(nn.GRU(4, 6)(behind, torch.zeros(1, 3, 6)))
    found["GRU", "cell behind a Linear"] = first(nn.GRUCell(4, 6)(behind[0]))
    found["GRU", "cell behind a Linear, zeros given"] = first(nn.GRUCell(4, 6)(behind[0], torch.zeros(3, 6)))
for (kind, how), dtype in found.items():
    print(f"{kind:5} {how:35} {dtype}")
b, f = "bfloat16", "float32"
assert list(found.values()) == [b, b, b, b, f, f, f, f, f, b, f, b, f]
PYTHON
echo "still so"
