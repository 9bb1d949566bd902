"""What the two cells share: the grid of their kernels, and the form in which the recurrences use them."""

from collections.abc import Callable
from typing import NamedTuple

import triton
import triton.language as tl
from triton import cdiv

from .language import accumulation, launch, store

TILE = 128  # elements of one row: small, since a step has few


class Cell(NamedTuple):
    """A cell saves 4H numbers a step: r, z, n and h's part of n, or i, f, g, o.

    Its backward lays their gradients out so that x's gates are the first ``gates`` * H and h's the last: of a GRU
    those of x are then n, r, z, the order of the weights rolled by one.
    """

    gates: int
    forward: Callable
    backward: Callable

    def to_gradients_order(self, weight):
        """Rows of weight_ih as x's gates stand in their gradients."""
        return weight.roll(weight.shape[0] // 3, 0) if self.gates == 3 else weight

    def to_weights_order(self, weight):
        return weight.roll(-(weight.shape[0] // 3), 0) if self.gates == 3 else weight


@triton.jit
def row_of(H, BH):
    """The row of this program, its elements, and which of those there are."""
    j = tl.program_id(1) * BH + tl.arange(0, BH)
    return tl.program_id(0).to(tl.int64), j, j < H


@triton.jit
def load_four(saved, H, inside):
    """What a step saved: the rows' elements of four blocks of H."""
    first, second = tl.load(saved, mask=inside, other=0), tl.load(saved + H, mask=inside, other=0)
    return first, second, tl.load(saved + 2 * H, mask=inside, other=0), tl.load(saved + 3 * H, mask=inside, other=0)


@triton.jit
def store_four(to, first, second, third, fourth, H, inside):
    store(to, first, inside)
    store(to + H, second, inside)
    store(to + 2 * H, third, inside)
    store(to + 3 * H, fourth, inside)


@triton.jit
def load_or_zero(x, at, inside, ACC: tl.constexpr, BH: tl.constexpr):
    """Of a tensor that may be None."""
    if x is None:
        return tl.zeros([BH], ACC)
    else:
        return tl.load(x + at, mask=inside, other=0).to(ACC)


def start(kernel, like, H, *args):
    """One program for each TILE of each row of ``like``."""
    launch(kernel, (like.shape[0], cdiv(H, TILE)), *args, H, ACC=accumulation(like.dtype)[1], BH=TILE, num_warps=4)


def row_strides(*tensors):
    return [0 if x is None else x.stride(0) for x in tensors]
