#!/usr/bin/env bash
# Opacus 1.6.0: DPGRU, DPLSTM and DPRNN, its stand-ins for PyTorch's layers in training with differential privacy, take
# PyTorch's argument `dropout`, warn as PyTorch does that it is between layers and wants more than one, and do something
# else with it: every layer, the last and an only one too, drops out parts of its state in every step, with a new mask,
# and goes on from what is left. torch.nn drops out only what one layer hands to the next. A model trained privately with
# the settings of its twin is another model, and an LSTM's h_n has zeros where its c_n has none.
# Seen: without dropout the two agree to rounding; with dropout=0.5, in training, half of the outputs of one layer, of
# the last of two, and of h_n are zero, none of torch.nn's; a state is gone after a few steps that would last for twenty.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6 scipy==1.16.3
"$work/venv/bin/pip" install -q opt-einsum==3.4.0
"$work/venv/bin/pip" install -q --no-deps opacus==1.6.0
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from opacus.layers import DPGRU, DPLSTM, DPRNN
from torch import nn

torch.manual_seed(0)
x = torch.randn(50, 20, 3)


def zeros(tensor):
    return (tensor == 0).double().mean().item()


for ordinary, private in ((nn.RNN, DPRNN), (nn.GRU, DPGRU), (nn.LSTM, DPLSTM)):
    for layers in (1, 2):
        one = ordinary(3, 16, layers, batch_first=True, dropout=0.5)
        two = private(3, 16, layers, batch_first=True, dropout=0.5)
        two.load_state_dict(one.state_dict())
        with torch.no_grad():
            assert torch.allclose(one.eval()(x)[0], two.eval()(x)[0], atol=1e-6), "they agree in evaluation"
            (a, a_n), (b, b_n) = one.train()(x), two.train()(x)
        if isinstance(b_n, tuple):
            assert zeros(b_n[1]) == 0, "c stays whole"
        a_n, b_n = (found[0] if isinstance(found, tuple) else found for found in (a_n, b_n))
        print(f"{private.__name__}, {layers} layer(s): zeros of outputs {zeros(b):.2f}, of h_n {zeros(b_n):.2f}; "
              f"{ordinary.__name__}: {zeros(a):.2f} and {zeros(a_n):.2f}")
        assert zeros(a) == zeros(a_n) == 0 and 0.45 < zeros(b) < 0.55 and 0.45 < zeros(b_n) < 0.55

# A GRU whose update gate is closed keeps its state for ever; this one, of one layer, loses it.
layers = nn.GRU(1, 64, batch_first=True), DPGRU(1, 64, batch_first=True, dropout=0.5)
with torch.no_grad():
    for parameter in layers[0].parameters():
        parameter.zero_()
    layers[0].bias_ih_l0[64:128] = 50
    layers[1].load_state_dict(layers[0].state_dict())
    kept, lost = (layer.train()(torch.zeros(1, 20, 1), torch.ones(1, 1, 64))[1] for layer in layers)
print(f"states of 1 that nothing changes, 20 steps later: nn.GRU {kept.mean():.2f}, DPGRU {(lost != 0).sum()} of 64 left")
assert torch.equal(kept, torch.ones_like(kept)) and (lost != 0).sum() <= 2
PYTHON
