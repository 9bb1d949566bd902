#!/usr/bin/env bash
# ESPnet 202511: RNNEncoder with projections (use_projection, its default), more than one layer and dropout > 0 drops out
# in evaluation mode too: between its layers it calls F.dropout without training=. Neither eval() nor no_grad() changes
# that, so every transcription is of a random encoding; with use_projection=False two calls agree. VGGRNNEncoder, made of
# the same layers, does the same.
# Seen: with dropout 0.1 two calls in evaluation differ by up to 10 % of the largest element (VGGRNNEncoder 7 %).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps espnet==202511 typeguard==4.6.1
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder

torch.manual_seed(0)
torch.set_grad_enabled(False)
speech, lengths = torch.randn(2, 40, 16), torch.tensor([40, 30])
for kind in (RNNEncoder, VGGRNNEncoder):
    for projection, dropout in ((True, 0.1), (True, 0.0), (False, 0.1)):
        encoder = kind(input_size=16, use_projection=projection, num_layers=2, dropout=dropout).eval()
        first, second = (encoder(speech, lengths)[0] for _ in range(2))
        apart = ((first - second).abs().max() / first.abs().max()).item()
        print(f"{kind.__name__}, use_projection={projection}, dropout={dropout}: two calls differ by {apart:.2g}")
        assert apart > 0.01 if projection and dropout else apart == 0
PYTHON
echo "still so"
