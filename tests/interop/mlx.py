"""MLX on its CPU: nn.GRU and nn.LSTM."""

import tempfile
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from s2s_kernels import weights

from .case import Case, H, I, cotangent, filled, inputs, random

PINS = ["mlx==0.32.4", "mlx-cpu==0.32.4"]


def case(name, kind, keep=False, layers=1, **options):
    generator, x = random(len(name)), inputs()
    stack = [kind(I if i == 0 else H, H, **options) for i in range(layers)]
    for layer in stack:
        layer.update({n: mx.array(filled(p.shape, generator)) for n, p in layer.parameters().items()})

    def run(values, x):
        last = []
        for layer, own in zip(stack, values):
            layer.update(own)
            found = layer(x)
            x, *rest = found if isinstance(found, tuple) else (found,)
            last.append([x[:, -1], *(c[:, -1] for c in rest)])
        return x, [mx.stack(list(one)) for one in zip(*last)]

    values = [dict(layer.parameters()) for layer in stack]
    output, states = run(values, mx.array(x))
    weight = mx.array(cotangent(np.array(output)))
    d_values, dx = mx.grad(lambda v, x: (run(v, x)[0] * weight).sum(), (0, 1))(values, mx.array(x))
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{i}.safetensors") for i in range(layers)]
        for layer, own, file in zip(stack, values, files):
            layer.update(own)
            layer.save_weights(file)
        real = weights.mlx_layer(files)
    return Case(
        name,
        "mlx",
        {f"{i}.{n}": np.array(p) for i, own in enumerate(values) for n, p in own.items()},
        x,
        np.array(output),
        [np.array(s) for s in states],
        gradients={
            "x": np.array(dx),
            **{f"{i}.{n}": np.array(p) for i, own in enumerate(d_values) for n, p in own.items()},
        },
        real=real,
        keep=keep,
    )


def cases():
    yield case("GRU", nn.GRU, keep=True)
    yield case("GRU without bias", nn.GRU, bias=False)
    yield case("2 GRUs", nn.GRU, layers=2)
    yield case("LSTM", nn.LSTM, keep=True)
    yield case("LSTM without bias", nn.LSTM, bias=False)
    yield case("3 LSTMs", nn.LSTM, layers=3)
