#!/usr/bin/env bash
# ESPnet 202511: RNNEncoder returns states and takes them as prev_states, to go on where it stopped. As it is by default, a
# bidirectional LSTM with projections, it raises on its own states: it zeroes those of the backward direction
# in place, and a layer's states are a tuple. In its other bidirectional forms that zeroing goes into the caller's tensors,
# so that the states are not those that were returned once they have been used.
# Seen: "'tuple' object does not support item assignment"; with a GRU, or with use_projection=False, the backward states
# are 0 after the call.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/pip" install -q --no-deps espnet==202511 typeguard==4.6.1
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from espnet2.asr.encoder.rnn_encoder import RNNEncoder
from torch.utils._pytree import tree_leaves

torch.manual_seed(0)
torch.set_grad_enabled(False)
speech, lengths = torch.randn(2, 12, 8), torch.tensor([12, 10])
for rnn in ("lstm", "gru"):
    for projection in (True, False):
        encoder = RNNEncoder(8, rnn_type=rnn, use_projection=projection, num_layers=2, hidden_size=6).eval()
        states = encoder(speech, lengths)[2]
        backward = [state[1::2] for state in tree_leaves(states)]
        assert all(state.any() for state in backward)
        try:
            encoder(speech, lengths, states)
        except TypeError as error:
            said = str(error)
            assert said == "'tuple' object does not support item assignment" and (rnn, projection) == ("lstm", True)
        else:
            said = "backward states are 0 after the call"
            assert not any(state.any() for state in backward) and (rnn, projection) != ("lstm", True)
        print(f"{rnn}, use_projection={projection}: {said}")
PYTHON
echo "still so"
