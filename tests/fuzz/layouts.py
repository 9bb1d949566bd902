"""Ways for the same values to lie in memory. Each makes, of a tensor, one of the same shape that lies so; `repeated`
and `overlapping` change the values to such as can."""

import torch
from helpers import negated, strided, transposed


def plain(x):
    return x.clone()


def offset(x):
    """A view that begins one element into memory, which is NaN around it."""
    memory = torch.full((x.numel() + 2,), float("nan"), dtype=x.dtype, device=x.device)
    view = memory[1:-1].view(x.shape)
    return view.copy_(x)


def expanded(x):
    """One memory for all of the first dimension."""
    return x[:1].clone().expand(x.shape)


def overlapping(x):
    """Each step of the first dimension begins one element after the one before."""
    if x.dim() < 2 or not x.numel():
        return plain(x)
    inner = x[0].contiguous().flatten()
    memory = inner.repeat(1 + len(x) // len(inner) + 1)  # as long as it need be
    return memory.as_strided(x.shape, (1, *x[0].contiguous().stride()))


LAYOUTS = {f.__name__: f for f in (plain, strided, transposed, negated, offset, expanded, overlapping)}
# Those after which the values are others: the inputs are made so from the beginning.
CHANGE = ("expanded", "overlapping")


class InTurn:
    """The layout of each tensor that comes, one name after the other and from the first again."""

    def __init__(self, names):
        self.names, self.at = names, 0

    def __call__(self, x):
        name = self.names[self.at % len(self.names)]
        self.at += 1
        return LAYOUTS[name](x)
