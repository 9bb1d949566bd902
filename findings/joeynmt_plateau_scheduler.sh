#!/usr/bin/env bash
# JoeyNMT 2.3.0 with PyTorch 2.13.0: `scheduling: "plateau"` raises before the first update, since its builder gives
# ReduceLROnPlateau the argument verbose, which is gone:
#   TypeError: ReduceLROnPlateau.__init__() got an unexpected keyword argument 'verbose'
# "exponential" works.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 pyyaml==6.0.3 packaging==26.3 importlib_metadata==8.7.0 \
	sacrebleu==2.6.0 sentencepiece==0.2.3 subword-nmt==0.3.8 tensorboard==2.20.0 pandas==2.3.3 tqdm==4.70.1 matplotlib==3.11.2
"$work/venv/bin/pip" install -q --no-deps joeynmt==2.3.0
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from joeynmt.builders import build_scheduler

for name in ("plateau", "exponential"):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(1))])
    try:
        build_scheduler({"scheduling": name}, optimizer=optimizer, scheduler_mode="min")
        said = "works"
    except TypeError as error:
        said = f"TypeError: {error}"
    print(f"{name}: {said}")
    assert ("verbose" in said) == (name == "plateau"), said
PYTHON
echo "still so"
