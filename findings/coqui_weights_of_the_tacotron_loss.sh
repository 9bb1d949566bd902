#!/usr/bin/env bash
# coqui-tts 0.28.0, terms of TacotronLoss that are turned off or weighted: decoder_loss_alpha and postnet_loss_alpha at 0,
# which the configuration documents as the way to disable a term, raise an UnboundLocalError, since the term is then not
# computed and still added; stopnet=False raises a RuntimeError, since zeros(1) is then added to a scalar in place; and
# decoder_ssim_alpha only turns its term on, which is then weighted by postnet_ssim_alpha.
# Seen, with the decoder's SSIM term s and the postnet's p, the other terms being the same: decoder_ssim_alpha=1 and
# postnet_ssim_alpha=0 add 0 instead of s; 0.25 and 1 add s + p instead of s / 4 + p.
# "cannot access local variable 'decoder_loss' where it is not associated with a value" (Python 3.10 words it otherwise);
# "output with shape [] doesn't match the broadcast shape [1]".
# torchaudio and torchcodec, which the package imports, have no wheels on PyPI that load without CUDA; nothing here calls
# them, and empty modules stand in for them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps coqui-tts==0.28.0 coqui-tts-trainer==0.4.0 coqpit-config==0.2.5 \
    anyascii==0.3.3 librosa==0.11.0 cffi==2.1.1 decorator==5.3.1 joblib==1.6.0 lazy-loader==0.6 llvmlite==0.50.0 \
    msgpack==1.2.4 numba==0.68.1 pooch==1.9.0 scipy==1.17.1 soundfile==0.14.0 packaging==25.0 pyyaml==6.0.3 tqdm==4.67.1
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

for name in ("torchaudio", "torchcodec"):
    sys.modules[name] = ModuleType(name)
    sys.modules[name].__spec__ = ModuleSpec(name, None)

import torch
from TTS.tts.configs.tacotron_config import TacotronConfig
from TTS.tts.layers.losses import TacotronLoss

torch.manual_seed(0)
mel, linear, frames = torch.rand(2, 32, 80), torch.rand(2, 32, 513), torch.tensor([32, 30])
predicted, stop = (torch.rand(2, 32, 513), torch.rand(2, 32, 80)), (torch.zeros(2, 32), torch.zeros(2, 32), frames)


def losses(**options):
    """All terms of the loss, with those off that ``options`` do not turn on."""
    ssim, diff = ("decoder_ssim_alpha", "postnet_ssim_alpha"), ("decoder_diff_spec_alpha", "postnet_diff_spec_alpha")
    loss = TacotronLoss(TacotronConfig(**{**dict.fromkeys((*ssim, *diff, "ga_alpha"), 0.0), **options}))
    return loss(*predicted, mel, linear, *stop, None, frames, None, None, None, None, None)


without = losses()["loss"].item()
for decoder, postnet in ((1.0, 0.0), (0.25, 1.0)):
    terms = losses(decoder_ssim_alpha=decoder, postnet_ssim_alpha=postnet)
    s, p = (terms.get(f"{part}_ssim_loss", torch.zeros(())).item() for part in ("decoder", "postnet"))
    added = terms["loss"].item() - without
    right = decoder * s + postnet * p
    print(f"weights {decoder} and {postnet} of {s:.4f} and {p:.4f} should add {right:.4f}, add {added:.4f}")
    assert abs(added - postnet * (s + p)) < 1e-5 and s > 0.1

for name, value, kind, message in (
    ("decoder_loss_alpha", 0.0, UnboundLocalError, "'decoder_loss'"),
    ("postnet_loss_alpha", 0.0, UnboundLocalError, "'postnet_loss'"),
    ("stopnet", False, RuntimeError, "doesn't match the broadcast shape [1]"),
):
    try:
        losses(**{name: value})
    except kind as error:
        print(f"{name}={value}: {error}")
        assert message in str(error)
    else:
        raise AssertionError(f"{name}={value} works")
PYTHON
echo "still so"
