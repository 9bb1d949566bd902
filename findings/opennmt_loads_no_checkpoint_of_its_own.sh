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
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps opennmt-py==3.5.1 \
    annotated-doc==0.0.7 annotated-types==0.8.0 anyio==4.16.0 blinker==1.9.0 blis==1.3.4 \
    catalogue==2.0.10 certifi==2026.10.19.post1 charset-normalizer==3.5.3 click==8.5.1 cloudpathlib==0.26.0 \
    colorama==0.4.6 confection==1.3.4 configargparse==1.9.0 cymem==2.0.16 fasttext-wheel==0.9.2 flask==3.1.3 \
    h11==0.16.0 httpcore==1.0.9 httpx==0.28.1 idna==3.20 itsdangerous==2.2.0 lxml==6.1.3 murmurhash==1.0.16 \
    packaging==25.0 portalocker==4.4.2 preshed==3.0.15 pyahocorasick==2.3.1 pybind11==3.1.0 pydantic-core==2.50.5 \
    pydantic==2.14.4 pyonmttok==1.38.1 pyyaml==6.0.3 rapidfuzz==3.14.6 regex==2026.7.19 requests==2.34.2 \
    sacrebleu==2.6.0 shellingham==1.5.4 six==1.17.0 smart_open==9.0.2 spacy-legacy==3.0.12 spacy-loggers==1.0.5 \
    spacy==3.8.18 srsly==2.5.6 tabulate==0.10.0 thinc==8.3.14 tqdm==4.67.1 typer==0.29.2 typing-inspection==0.4.5 \
    urllib3==2.8.0 waitress==3.0.2 wasabi==1.1.3 weasel==1.0.1 werkzeug==3.1.9 wrapt==2.5.2
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
