#!/usr/bin/env bash
# SpeechBrain 1.1.2: of the three attentions of AttentionalRNNDecoder "keyvalue" gives its weights as (batch, 1, source)
# where "content" and "location" give (batch, source), and so the decoder's are of four dimensions instead of three; beam
# search with using_max_attn_shift=True takes its peak over the 1 and raises.
# Seen: weights (2, 3, 1, 7) instead of (2, 3, 7); "The size of tensor a (7) must match the size of tensor b (8) at
# non-singleton dimension 1", 7 the source's length and 8 the number of beams of the batch.
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
from speechbrain.decoders.seq2seq import S2SRNNBeamSearcher
from speechbrain.nnet.embedding import Embedding
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.RNN import AttentionalRNNDecoder

torch.manual_seed(0)
torch.set_grad_enabled(False)
encoded, lengths = torch.randn(2, 7, 4), torch.ones(2)
for attention in ("content", "location", "keyvalue"):
    sizes = {"hidden_size": 4, "attn_dim": 4, "num_layers": 1, "enc_dim": 4, "input_size": 3}
    decoder = AttentionalRNNDecoder("gru", attention, channels=2, kernel_size=3, **sizes).eval()
    weights = decoder(torch.randn(2, 3, 3), encoded, lengths)[1]
    search = S2SRNNBeamSearcher(
        embedding=Embedding(10, embedding_dim=3),
        decoder=decoder,
        linear=Linear(10, input_size=4),
        bos_index=0,
        eos_index=1,
        min_decode_ratio=0,
        max_decode_ratio=1,
        beam_size=4,
        using_max_attn_shift=True,
        max_attn_shift=2,
    )
    try:
        search(encoded, lengths)
        said = "runs"
    except RuntimeError as error:
        said = str(error)
    print(f"{attention}: weights {tuple(weights.shape)}, search {said}")
    if attention == "keyvalue":
        assert weights.shape == (2, 3, 1, 7) and "tensor a (7) must match the size of tensor b (8)" in said
    else:
        assert weights.shape == (2, 3, 7) and said == "runs"
PYTHON
echo "still so"
