"""What the kernels share and Triton's language has not: activations, rounding on store, the positions that count."""

import torch
import triton
import triton.language as tl

from . import interpreted

INTERPRETED = tl.constexpr(interpreted)


@triton.jit
def tanh(x):
    """To the last digits at both ends: see csrc/math/activation.h, whose polynomial this is.

    Not libdevice's, which the interpreter lacks, nor 2 sigmoid(2x) - 1, which loses the digits of a small x.
    """
    s = x * x
    if x.dtype == tl.float64:
        denominator = s / 21.0 + 19.0  # a continued fraction: x / (1 + s / (3 + s / (5 + ...)))
        for k in tl.static_range(9):
            denominator = (17.0 - 2 * k) + s / denominator
        small = x / denominator
    else:
        p = s * -0.00552862461 + 0.0204833065
        p = p * s - 0.0536929645
        p = p * s + 0.133308997
        p = p * s - 0.333332629
        small = x + x * s * p
    e = tl.exp(-2.0 * tl.abs(x))
    large = 1.0 - 2.0 * e / (1.0 + e)
    return tl.where(s < 0.4225, small, tl.where(x < 0, -large, large))


@triton.jit
def cut_to_tf32(x, added=0):
    """float32 without its last 13 bits."""
    return ((x.to(tl.int32, bitcast=True) + added) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def nearest_tf32(x):
    return cut_to_tf32(x, 0x1000)


@triton.jit
def dot(a, b, sums, PRECISION):
    """tl.dot. Of tf32 tensor cores read no more than its bits, which cuts off a float32 that was not rounded before.

    So does the interpreter, for the tests to judge it.
    """
    if INTERPRETED and PRECISION == "tf32":
        a, b = cut_to_tf32(a), cut_to_tf32(b)
    return tl.dot(a, b, sums, input_precision=PRECISION)


@triton.jit
def tanh_of_score(x, keys):
    """tanh, from bfloat16 keys as one instruction: its relative error of 2^-11 is a quarter of one rounding of theirs.

    The interpreter makes as large an error, so that the tests judge it.
    """
    if keys.dtype.element_ty != tl.bfloat16:
        return tanh(x)
    elif INTERPRETED:
        return nearest_tf32(tanh(x))
    else:
        return tl.inline_asm_elementwise("tanh.approx.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1)


@triton.jit
def sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def store(pointer, x, mask):
    """tl.store, rounded to nearest even: the interpreter only cuts a bfloat16 off."""
    if INTERPRETED and pointer.dtype.element_ty == tl.bfloat16:
        bits = x.to(tl.float32).to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
        x = bits.to(tl.float32, bitcast=True)
    tl.store(pointer, x.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def source_length(lengths, b, S):
    """How far the valid positions of row b may reach; whatever a GPU's lengths hold, within 0..S."""
    if lengths is None:
        return S
    else:
        return tl.minimum(tl.maximum(tl.load(lengths + b).to(tl.int32), 0), S)


@triton.jit
def valid_positions(mask, b, s, length, S):
    """Which of positions s of row b may be attended."""
    valid = s < length
    if mask is not None:
        valid = valid & (tl.load(mask + b * S + s, mask=valid, other=0) != 0)
    return valid


def accumulation(dtype):
    """The dtype of torch, and Triton's, that sums are kept in."""
    return (torch.float64, tl.float64) if dtype == torch.float64 else (torch.float32, tl.float32)


def launch(kernel, grid, *args, **constants):
    """Starts a kernel unless there is nothing to do. Fused multiply-adds round once, not twice: they are wanted."""
    if 0 not in grid:
        kernel[grid](*args, **constants, enable_fp_fusion=True)
