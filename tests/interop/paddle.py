"""Paddle on its CPU: nn.GRU and nn.LSTM, layers and directions; its cells."""

import numpy as np
import paddle
import torch

from s2s_kernels import weights

from .case import Case, H, I, cotangent, filled, inputs, random

PINS = [
    "paddlepaddle==3.3.1",
    "anyio==4.16.0",
    "certifi==2026.10.19.post1",
    "h11==0.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "idna==3.20",
    "opt-einsum==3.3.0",
]


def fill(layer, seed):
    generator = random(seed)
    for parameter in layer.parameters():
        parameter.set_value(filled(tuple(parameter.shape), generator))


def case(name, kind, keep=False, **options):
    layer, x = kind(I, H, **options), paddle.to_tensor(inputs(), stop_gradient=False)
    fill(layer, len(name))
    output, states = layer(x)
    states = states if isinstance(states, tuple) else (states,)
    (output * paddle.to_tensor(cotangent(output.numpy()))).sum().backward()
    named = {n: p for n, p in layer.named_parameters() if "cell" not in n}  # each is there twice
    if set(named) != {n for n in layer.state_dict() if "cell" not in n}:
        raise RuntimeError("Paddle names its parameters otherwise")
    gradients = {n: p.grad.numpy() for n, p in named.items() if p.grad is not None}
    return Case(
        name,
        "paddle",
        {n: p.numpy() for n, p in layer.state_dict().items()},
        inputs(),
        output.numpy(),
        [s.numpy() for s in states],
        gradients={"x": x.grad.numpy(), **gradients},
        real=weights.paddle_layer(layer.state_dict()),
        keep=keep,
    )


def cases():
    for kind in (paddle.nn.GRU, paddle.nn.LSTM):
        name = kind.__name__
        yield case(name, kind, keep=True)
        yield case(f"2-layer {name}", kind, num_layers=2)
        yield case(
            f"bidirectional 2-layer {name}", kind, num_layers=2, direction="bidirect", keep=kind is paddle.nn.LSTM
        )


def cell(kind):
    theirs = kind(I, H)
    fill(theirs, 5)
    ours = weights.paddle_layer(theirs.state_dict())
    x, h = inputs()[:, 0], inputs(1, size=H)[:, 0]
    lstm = kind is paddle.nn.LSTMCell
    _, new = theirs(paddle.to_tensor(x), (paddle.to_tensor(h),) * 2 if lstm else paddle.to_tensor(h))
    state = torch.from_numpy(h)
    found = ours(torch.from_numpy(x), (state, state) if lstm else state)
    pairs = zip(found, new) if lstm else [(found, new)]
    worst = max(np.abs(a.detach().numpy() - b.numpy()).max() for a, b in pairs)
    return "" if worst <= 2e-6 else f"differs by {worst:.2g}"


def refused(layer, says):
    try:
        weights.paddle_layer(layer.state_dict())
    except ValueError as error:
        return "" if says in str(error) else f"says {error}"
    return "is not refused"


def checks():
    yield "GRUCell", cell(paddle.nn.GRUCell)
    yield "LSTMCell", cell(paddle.nn.LSTMCell)
    yield "SimpleRNN is refused", refused(paddle.nn.SimpleRNN(I, H), "expected (3H, H)")
    yield "LSTM with projections is refused", refused(paddle.nn.LSTM(I, H, proj_size=3), "weight_ho")
