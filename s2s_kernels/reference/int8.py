"""Products in 8 bits: each row of an input and each row of a weight, an output's, as integers and a scale."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

LARGEST = 127
SMALLEST = 2.0**-100  # a row without a number as large is all zeros: 127 over less would be infinite


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """x (..., K) to integers from -127 to 127 of its dtype, and scales (...): NaN where a row is not all finite."""
    largest = x.abs().amax(-1) if x.shape[-1] else x.new_zeros(x.shape[:-1])
    finite = largest.isfinite()
    seen = finite & (largest >= SMALLEST)
    # (127 / x is 127 times the reciprocal to torch, rounded twice.)
    inverse = torch.where(seen, torch.full_like(largest, LARGEST) / torch.where(seen, largest, 1), 0)
    integers = torch.round(torch.nan_to_num(x * inverse[..., None], 0, 0, 0))
    return integers, torch.where(seen, largest / LARGEST, torch.where(finite, 0.0, torch.nan))


class Int8Matrix(NamedTuple):
    """A weight (N, K) in 8 bits, in the place of a tensor in ``torch.nn.functional.linear``."""

    integers: Tensor  # (N, K) int8
    scale: Tensor  # (N,) float32, what an integer of a row stands for

    @property
    def shape(self) -> torch.Size:
        return self.integers.shape

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Tensor:
        if function is not linear:
            return NotImplemented
        return int8_linear(*args, **(kwargs or {}))


def int8_linear(x: Tensor, weight: Int8Matrix, bias: Tensor | None = None) -> Tensor:
    """float(sum of the integers' products) * (scale of x's row * the output's scale) + bias, in float32 at least."""
    wide = torch.promote_types(x.dtype, torch.float32)
    integers, scale = quantize_rows(x.to(wide))
    # In float64 the sums of integers are exact, in whatever order they are made.
    sums = torch.matmul(integers.double(), weight.integers.double().t())
    y = sums.to(wide) * (scale[..., None] * weight.scale.to(wide))
    return (y if bias is None else y + bias).to(x.dtype)
