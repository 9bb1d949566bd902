"""Shows that an installed wheel works away from its sources. `make dist` runs it in an empty environment."""

import json
import sys

import torch

import s2s_kernels as sk

assert sk.__file__.startswith(sys.prefix), f"{sk.__file__} is not the installed package"
report = sk.info()
print(json.dumps(report, indent=2))
assert report["extension"] and report["backends"]["cpu"] == "cpp", "the wheel has no compiled extension"

torch.manual_seed(0)
shapes = {"query": (3, 8), "keys": (3, 5, 8), "values": (3, 5, 6), "v": (8,)}
grads = {}
for backend in ("cpp", "reference"):
    torch.manual_seed(0)
    inputs = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    with sk.backend(backend):
        context, weights = sk.additive_attention(**inputs, lengths=torch.tensor([5, 2, 3]))
        (context.sin().sum() + weights.sin().sum()).backward()
    grads[backend] = [context, weights, *(tensor.grad for tensor in inputs.values())]
torch.testing.assert_close(grads["cpp"], grads["reference"])
print("additive_attention: the wheel's forward and backward agree with the reference.")
