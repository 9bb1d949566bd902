"""TorchRL's GRUModule and LSTMModule on their scan backend, where torchrl is importable; one direction, one layer.

It is made for batches in which rows begin anew; here each row is a single sequence that begins at zero.
"""

from importlib.util import find_spec

import torch

from .cases import Prepared

NAME = "TorchRL scan"
STATES = {"gru": ("recurrent_state",), "lstm": ("recurrent_state_h", "recurrent_state_c")}


def available(implementation):
    """``(implementation,)`` where torchrl is installed, else nothing."""
    return () if find_spec("torchrl") is None else (implementation,)


def module(op, inputs, hidden):
    from torchrl.modules import GRUModule, LSTMModule

    kind = {"gru": GRUModule, "lstm": LSTMModule}[op]
    return kind(inputs, hidden, in_key="x", out_key="output", recurrent_backend="scan", default_recurrent_mode=True)


def layer(made, op, x):
    """(output (B, T, H), (h,) or (h, c) of the last step) of a module over x (B, T, I)."""
    from tensordict import TensorDict

    is_init = torch.zeros(*x.shape[:2], 1, dtype=torch.bool, device=x.device)
    found = made(TensorDict({"x": x, "is_init": is_init}, x.shape[:2]))
    return found["output"], tuple(found["next", name][:, -1, 0] for name in STATES[op])


def prepare(op, directions, names):
    """``prepare`` of both directions, as peers.recurrent has it: one module each, the second over x backwards."""

    def both(inputs):
        x = inputs["x"].detach().clone().requires_grad_()
        hidden, leaves, modules = inputs["weight_hh"].shape[1], {"x": x}, []
        for end in directions:
            made = module(op, x.shape[-1], hidden).to(x.device, x.dtype)
            modules.append(made)
            for name in names:
                leaf = leaves[name + end] = getattr(getattr(made, op), f"{name}_l0")
                with torch.no_grad():
                    leaf.copy_(inputs[name + end])

        def run():
            forward, first = layer(modules[0], op, x)
            backward, last = layer(modules[1], op, x.flip(1))
            states = (torch.stack(pair) for pair in zip(first, last, strict=True))
            return torch.cat([forward, backward.flip(1)], -1), *states

        return Prepared(run, leaves)

    return both
