"""FlashRNN's vanilla backend: LSTM and GRU, one head and several."""

import torch
from flashrnn import flashrnn

from s2s_kernels import weights

from .case import Case, H, I, cotangent, filled, inputs, random

PINS = ["flashrnn==1.0.8"]


def case(name, function, heads=1, keep=False):
    gates = 4 if function == "lstm" else 3
    generator, size = random(len(name)), H // heads
    shapes = {
        "recurrent": (gates, heads, size, size),
        "bias": (4, heads, size),
        "weight_ih": (gates * H, I),
        "bias_ih": (gates * H,),
    }
    values = {n: torch.from_numpy(filled(shape, generator)).requires_grad_() for n, shape in shapes.items()}
    x = torch.from_numpy(inputs()).requires_grad_()
    Wx = torch.nn.functional.linear(x, values["weight_ih"], values["bias_ih"])
    Wx = Wx.unflatten(-1, (gates, heads, size))
    found, last = flashrnn(
        Wx, values["recurrent"], values["bias"], function=function, backend="vanilla", dtype="float32"
    )
    output = found[0].flatten(-2)  # (states, B, T, heads, D)
    (output * torch.from_numpy(cotangent(output.detach().numpy()))).sum().backward()
    arrays = {n: p.detach().numpy() for n, p in values.items()}
    return Case(
        name,
        "flashrnn",
        arrays,
        inputs(),
        output.detach().numpy(),
        [s[:, -1].flatten(-2)[None].detach().numpy() for s in last],
        {"function": function},
        {"x": x.grad.numpy(), **{n: p.grad.numpy() for n, p in values.items()}},
        weights.flashrnn_layer(*(arrays[n] for n in shapes), function=function),
        keep,
    )


def cases():
    yield case("lstm", "lstm", keep=True)
    yield case("lstm, 3 heads", "lstm", 3)
    yield case("gru", "gru", keep=True)
    yield case("gru, 2 heads", "gru", 2, keep=True)
