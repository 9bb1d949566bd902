#!/usr/bin/env bash
# OpenNMT-py 3.5.1 with PyTorch 2.6 or newer (here 2.13.0): it cannot read the checkpoints that it writes. onmt_translate, and
# all that calls its load_checkpoint, has torch.load read a dictionary with an argparse.Namespace in it, which the default
# since 2.6, weights_only=True, refuses:
#   UnpicklingError: Unsupported global: GLOBAL argparse.Namespace was not an allowed global by default
# torch.serialization.add_safe_globals([argparse.Namespace]) before it helps.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 pyonmttok==1.38.1 configargparse==1.9.0 pyyaml==6.0.3 tqdm==4.70.1
"$work/venv/bin/pip" install -q --no-deps opennmt-py==3.5.1
cd "$work"
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import argparse
import pickle

import torch
from onmt.models.model_saver import load_checkpoint

torch.save({"model": {}, "generator": {}, "vocab": {}, "opt": argparse.Namespace(rnn_type="LSTM")}, "model.pt")
try:
    load_checkpoint("model.pt")
    raise SystemExit("it is read")
except pickle.UnpicklingError as error:
    said = next(line.strip() for line in str(error).splitlines() if "GLOBAL" in line)
    print(said[:90])
    assert "argparse.Namespace" in said
torch.serialization.add_safe_globals([argparse.Namespace])
assert load_checkpoint("model.pt")["opt"].rnn_type == "LSTM"
PYTHON
echo "still so"
