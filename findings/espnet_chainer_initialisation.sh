#!/usr/bin/env bash
# ESPnet 202511: initialize(model, "chainer"), one of the choices of --init, sets "forget biases" of 1 by position, the
# second quarter of every bias of every recurrent module, which is an LSTM's forget gate and nobody else's. A GRU, whose
# biases are in three parts, gets them in the last quarter of its reset gate and the first half of its update gate; nn.RNN
# in the second quarter of its units. And nn.LSTM and nn.GRU have two biases that are added, both set, and so 2, where their
# cells, with one set, have 1.
# Seen, sums of both biases by gate, 8 units: nn.LSTM forget 2 x 8; nn.LSTMCell forget 1 x 8; nn.GRU reset 0 x 6, 2 x 2
# and update 2 x 4, 0 x 4; nn.GRUCell the same with 1; nn.RNN 0 0 2 2 0 0 0 0.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps espnet==202511 typeguard==4.6.1
"$work/venv/bin/python" -W ignore - <<'PYTHON'
from espnet2.torch_utils.initialize import initialize
from torch import nn

GATES = {"LSTM": ["input", "forget", "cell", "output"], "GRU": ["reset", "update", "new"], "RNN": ["state"]}
found = {}
for kind in ("LSTM", "LSTMCell", "GRU", "GRUCell", "RNN", "RNNCell"):
    model = nn.ModuleDict({"rnn": getattr(nn, kind)(3, 8)})
    initialize(model, "chainer")
    bias = sum(p.detach() for name, p in model.named_parameters() if "bias" in name)
    for gate, part in zip(GATES[kind.removesuffix("Cell")], bias.split(8)):
        found[kind, gate] = part.int().tolist()
        if part.any():
            print(f"nn.{kind}: {gate} {found[kind, gate]}")
expected = {
    ("LSTM", "forget"): [2] * 8,
    ("LSTMCell", "forget"): [1] * 8,
    ("GRU", "reset"): [0] * 6 + [2] * 2,
    ("GRU", "update"): [2] * 4 + [0] * 4,
    ("GRUCell", "reset"): [0] * 6 + [1] * 2,
    ("GRUCell", "update"): [1] * 4 + [0] * 4,
    ("RNN", "state"): [0, 0, 2, 2, 0, 0, 0, 0],
    ("RNNCell", "state"): [0, 0, 1, 1, 0, 0, 0, 0],
}
assert all(values == expected.get(key, [0] * 8) for key, values in found.items()) and expected.keys() <= found.keys()
PYTHON
echo "still so"
