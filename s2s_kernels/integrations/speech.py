"""What the decoders of the speech packages share beyond ``loop``: location, carried states, hooks inside the loop."""

import math

import torch
from torch import Tensor, nn

from .. import ops
from ..reference.additive_attention import valid_positions
from . import loop


def wave(like: Tensor, *shape: int) -> Tensor:
    """Numbers for a trial."""
    return torch.sin(torch.arange(math.prod(shape))).view(shape).to(like)


def watched(module: nn.Module) -> bool:
    """Whether anything inside ``module`` has a hook: then its package's own loop has to run, which calls it."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(part, name) for part in module.modules() if part is not module for name in hooks)


def location(dense: Tensor, convolution: Tensor) -> dict[str, Tensor]:
    """The parts that a convolution (F, C, [1,] K) of the history and the dense layer (A, F) after it are."""
    return {"w_location": convolution.flatten(2), "w_dense": dense}


def uniform(lengths: Tensor, like: Tensor) -> Tensor:
    """(B, S): 1/n at each of a row's n valid positions; ``like`` (B, S, ...) has dtype and size."""
    return valid_positions(like.shape[1], lengths, None).to(like) / lengths.clamp(min=1).unsqueeze(1).to(like)


def lstm(x: Tensor, cell: nn.LSTMCell, **parts: Tensor | None) -> Tensor:
    """(B, T, H) of an LSTM from a state of zeros, with ``drop_h``, ``zone_h``, ... of docs/ops.md on what it carries.

    With parts it is an attention decoder without a source: what it attends to, and is fed, has no elements.
    """
    weights = loop.cell_weights(cell)
    batch, size = len(x), cell.hidden_size
    state = x.new_zeros(2, batch, size).unbind()
    if all(part is None for part in parts.values()):
        return ops.lstm(x, state, *weights)[0]
    nothing = x.new_zeros(batch, 1, 0)
    source = x.new_zeros(batch, 1, 1), nothing, x.new_zeros(1), x.new_zeros(1, size), None
    return ops.attention_lstm(x, state, *source, *weights, **parts).states
