"""Haste's GRU and LSTM on the CPU, from its source distribution; the CUDA library that it builds is not needed."""

import importlib.util
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import torch

from s2s_kernels import weights

from .case import Case, H, I, cotangent, filled, inputs, random

PINS = ["setuptools==84.2.1"]
VERSIONS = {"haste": "haste_pytorch==0.5.0rc0"}


def package():
    """haste_pytorch, its library an empty module."""
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--retries", "1", "-q"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, VERSIONS["haste"]], check=True)
    with tarfile.open("haste_pytorch-0.5.0rc0.tar.gz") as file:
        file.extractall(filter="data")
    place = Path("haste_pytorch-0.5.0rc0/frameworks/pytorch/__init__.py")
    sys.modules["haste_pytorch_lib"] = ModuleType("haste_pytorch_lib")
    spec = importlib.util.spec_from_file_location(
        "haste_pytorch", place, submodule_search_locations=[str(place.parent)]
    )
    module = sys.modules["haste_pytorch"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def case(name, kind, keep=False, layers=1):
    generator = random(len(name))
    stack = [kind(I if i == 0 else H, H, batch_first=True) for i in range(layers)]
    with torch.no_grad():
        for parameter in (p for layer in stack for p in layer.parameters()):
            parameter.copy_(torch.from_numpy(filled(parameter.shape, generator)))
    x = torch.from_numpy(inputs()).requires_grad_()
    output, last = x, []
    for layer in stack:
        output, states = layer(output)
        last.append(states if isinstance(states, (tuple, list)) else [states])
    (output * torch.from_numpy(cotangent(output.detach().numpy()))).sum().backward()
    named = {f"{i}.{n}": p for i, layer in enumerate(stack) for n, p in layer.named_parameters()}
    return Case(
        name,
        "haste",
        {n: p.detach().numpy() for n, p in named.items()},
        inputs(),
        output.detach().numpy(),
        [torch.cat(kind).detach().numpy() for kind in zip(*last)],
        gradients={"x": x.grad.numpy(), **{n: p.grad.numpy() for n, p in named.items()}},
        real=weights.haste_layer(stack),
        keep=keep,
    )


def cases():
    haste = package()
    yield case("GRU", haste.GRU, keep=True)
    yield case("LSTM", haste.LSTM, keep=True)
    yield case("2 GRUs", haste.GRU, layers=2)
    yield case("2 LSTMs", haste.LSTM, layers=2)


def refused(layer, says):
    try:
        weights.haste_layer(layer)
    except ValueError as error:
        return "" if says in str(error) else f"says {error}"
    return "is not refused"


def checks():
    import haste_pytorch as haste

    yield "zoneout is refused", refused(haste.GRU(I, H, zoneout=0.1), "zoneout 0.1")
    yield "LayerNormGRU is refused", refused(haste.LayerNormGRU(I, H), "expected the kernel")
    lengths, layer = torch.tensor([5, 2, 3]), haste.GRU(I, H, batch_first=True)
    x = torch.from_numpy(inputs())
    _, expected = layer(x, lengths=lengths)
    _, found = weights.haste_layer(layer)(x, lengths=lengths)
    worst = (found - expected).abs().max().item()
    yield "last states at lengths", "" if worst <= 2e-6 else f"differ by {worst:.2g}"
