#!/usr/bin/env bash
# SpeechBrain 1.1.2: lengths are relative, float32, and its recurrent encoders (RNN, LSTM, GRU) make frames of them by
# truncation (pack_padded_sequence in nnet/RNN.py), so that a row whose product falls just short of a whole number loses
# its last frame: its output there is zeros, its last state is that of the frame before, and a row of one frame raises. Its
# AttentionalRNNDecoder rounds, and so attends to that frame of zeros.
# Seen, with the lengths of its own PaddedBatch: of the 19,900 rows of k frames beside one of n, k < n <= 200, 816, the
# first (13, 22); among them 23 with k = 1, from n = 41 on, with "Length of all samples has to be greater than 0".
# torchaudio, which the package imports, has no wheel on PyPI that loads without CUDA; nothing here calls it, and an empty
# module stands in for it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps speechbrain==1.1.2 hyperpyyaml==1.2.3 ruamel.yaml==0.19.1 scipy==1.17.1 \
    packaging==25.0 pyyaml==6.0.3 tqdm==4.67.1 requests==2.34.2 huggingface_hub==2.4.0
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

torchaudio = ModuleType("torchaudio")
torchaudio.__spec__ = ModuleSpec("torchaudio", None)
torchaudio.__version__ = "2.11.0"
sys.modules["torchaudio"] = torchaudio

import torch
from speechbrain.dataio.batch import PaddedBatch
from speechbrain.nnet.RNN import GRU, LSTM, RNN, AttentionalRNNDecoder

torch.manual_seed(0)
torch.set_grad_enabled(False)


def batch(*frames):
    """Padded rows of so many frames, and their relative lengths."""
    return PaddedBatch([{"x": torch.ones(k, 1)} for k in frames]).x


encoder, lost, raised = GRU(hidden_size=1, input_size=1), [], []
for n in range(2, 201):
    rows = range(n, 1, -1)
    x, lengths = batch(*rows)
    frames = encoder(x, lengths=lengths)[0].ne(0).any(2).sum(1).tolist()
    lost += [(k, n) for k, found in zip(rows, frames) if found == k - 1]
    assert all(found in (k, k - 1) for k, found in zip(rows, frames))
    x, lengths = batch(n, 1)
    try:
        encoder(x, lengths=lengths)
    except RuntimeError as error:
        assert "Length of all samples has to be greater than 0" in str(error)
        raised.append((1, n))
print(f"of {199 * 200 // 2} rows {len(lost)} lose a frame and {len(raised)} raise: first {lost[0]} and {raised[0]}")
assert (len(lost), len(raised), lost[0], raised[0]) == (793, 23, (13, 22), (1, 41))

x, lengths = batch(22, 13)
for kind in (RNN, LSTM, GRU):
    encoder = kind(hidden_size=2, input_size=1)
    output, state = encoder(x, lengths=lengths)
    alone, _ = encoder(x[1:, :13])
    _, before = encoder(x[1:, :12])
    state, before = (s[0] if kind is LSTM else s for s in (state, before))
    print(f"{kind.__name__}: frame 13 of 13: {output[1, 12].tolist()}; without padding {alone[0, 12].tolist()}")
    assert not output[1, 12].any() and alone[0, 12].any() and torch.allclose(output[1, :12], alone[0, :12], atol=1e-6)
    assert torch.allclose(state[:, 1], before[:, 0], atol=1e-6)

decoder = AttentionalRNNDecoder("gru", "content", hidden_size=4, attn_dim=4, num_layers=1, enc_dim=2, input_size=3)
_, weights = decoder(torch.randn(2, 1, 3), output, lengths)
print(f"attention to frames 12, 13 and 14: {weights[1, 0, 11:14].tolist()}")
assert weights[1, 0, 12] > 0.01 and weights[1, 0, 13] == 0
PYTHON
echo "still so"
