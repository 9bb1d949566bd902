#!/usr/bin/env bash
# PyTorch 2.13.0 (2.14.1 the same): gradients of each sample, vmap(grad(...)) over functional_call, of nn.RNN, nn.GRU and
# nn.LSTM and of their cells fail on a CPU when the initial state is left out, with an error about shapes that
# names no state: the zeros that the module makes are not batched, and are written into in place. With
# batched zeros as the initial state the very same call is right. Without grad it is the other way round for the
# sequences: vmap of the forward pass alone has no rule for aten::gru, whatever state is given.
# Seen: "output with shape [3, 6] doesn't match the broadcast shape [4, 3, 6]" (gates of an LSTM: 24 for 6), and
# "Batching rule not implemented for aten::gru.input".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/venv/bin/python" -W ignore - <<'PYTHON'
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

torch.manual_seed(0)


def outcome(function, *args, in_dims):
    try:
        return vmap(function, in_dims=in_dims)(*args)
    except RuntimeError as error:
        return str(error).splitlines()[0]


for kind in ("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"):
    cell = kind.endswith("Cell")
    module = getattr(nn, kind)(5, 6).double()
    weights = {name: w.detach() for name, w in module.named_parameters()}
    samples = torch.randn(4, 3, 5) if cell else torch.randn(4, 7, 3, 5)
    samples = samples.double()
    zeros = torch.zeros(4, 3, 6) if cell else torch.zeros(4, 1, 3, 6)
    state = (zeros.double(),) * 2 if kind.startswith("LSTM") else zeros.double()

    def loss(weights, x, *state):
        output = functional_call(module, weights, (x, *state))
        output = output[0] if isinstance(output, tuple) else output
        return output.square().sum()

    without = outcome(grad(loss), weights, samples, in_dims=(None, 0))
    given = outcome(grad(loss), weights, samples, state, in_dims=(None, 0, 0))
    print(f"{kind}: no state: {without!r}; batched zeros: {'right' if isinstance(given, dict) else given!r}")
    assert isinstance(without, str) and "doesn't match the broadcast shape" in without
    for i in range(4):
        first = tuple(s[i] for s in state) if isinstance(state, tuple) else state[i]
        one = grad(loss)(weights, samples[i], first)
        assert all(torch.allclose(given[name][i], one[name], rtol=0, atol=1e-12) for name in weights)
    if not cell:
        forward = outcome(loss, weights, samples, state, in_dims=(None, 0, 0))
        print(f"  forward alone: {forward!r}")
        assert isinstance(forward, str) and "Batching rule not implemented" in forward
PYTHON
echo "still so"
