"""What the two cells share: the grid of their kernels, and the form in which the recurrences use them."""

from collections.abc import Callable
from typing import NamedTuple

import triton
import triton.language as tl
from triton import cdiv

from .language import accumulation, launch

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


def start(kernel, like, H, *args):
    """One program for each TILE of each row of ``like``."""
    launch(kernel, (like.shape[0], cdiv(H, TILE)), *args, H, ACC=accumulation(like.dtype)[1], BH=TILE, num_warps=4)


def row_strides(*tensors):
    return [0 if x is None else x.stride(0) for x in tensors]
