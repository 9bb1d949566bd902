"""Argument checks that every backend shares: a bad argument is named before anything runs."""

import os
import sys
from fractions import Fraction
from numbers import Real

import torch

# By op: the check of what a backend is handed, for those that read memory without one. The public functions have
# checked already; `torch.ops` lets anything through. Filled by s2s_kernels.ops.
of_ops = {}

LARGEST = sys.float_info.max  # of all finite numbers
DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def dense(name, tensor, form=None):
    """``tensor`` must be one whose elements lie in memory by strides."""
    expected = "a torch.Tensor" if form is None else f"a torch.Tensor of shape ({form})"
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected {expected}")
    if tensor.is_nested:
        raise TypeError(f"{name} is a nested tensor, expected {expected} that is padded")
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}, expected {expected} of layout torch.strided")


def dims(name, tensor, *forms):
    """The shape of ``tensor``, which must have one of ``forms``, such as ``"B, T, I"``."""
    dense(name, tensor)
    shape = tensor.shape
    for form in forms:
        if len(shape) == form.count(",") + 1:
            return shape
    raise ValueError(f"{name} has shape {tuple(shape)}, expected ({') or ('.join(forms)})")


def floating(name, tensor):
    """The first tensor sets dtype and device for all the others."""
    if tensor.dtype not in DTYPES:
        raise TypeError(f"{name} has dtype {tensor.dtype}, expected float32, float64, bfloat16 or float16")


def expect(name, tensor, form, shape, like, like_name):
    """``tensor`` must have ``shape`` (spelt ``form`` in the message) and the dtype and device of ``like``."""
    dense(name, tensor, form)
    if tensor.shape != shape:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected ({form}) = {tuple(shape)}")
    if tensor.device != like.device:
        raise ValueError(f"{name} is on {tensor.device}, expected {like.device} as {like_name}")
    # Under autocast the op casts all of them to one dtype itself.
    if tensor.dtype != like.dtype and not torch.is_autocast_enabled(like.device.type):
        raise TypeError(f"{name} has dtype {tensor.dtype}, expected {like.dtype} as {like_name}")


def optional(name, tensor, form, shape, like, like_name):
    if tensor is not None:
        expect(name, tensor, form, shape, like, like_name)


def check_lengths(lengths, batch, limit, like, limit_name, name="lengths", form="B"):
    """``lengths`` is (B,), spelt ``form`` in the message, integer, 0..limit.

    Values on a GPU are read only when S2S_CHECK=1: it synchronises.
    """
    if lengths is None:
        return
    dims(name, lengths, form)
    if lengths.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TypeError(f"{name} has dtype {lengths.dtype}, expected an integer type")
    if lengths.shape[0] != batch:
        raise ValueError(f"{name} has shape {tuple(lengths.shape)}, expected ({form}) = ({batch},)")
    if lengths.device != like.device:
        raise ValueError(f"{name} is on {lengths.device}, expected {like.device}")
    if torch.compiler.is_compiling() or type(lengths) is not torch.Tensor or lengths.is_meta:
        return  # no values while tracing (fake tensors are a subclass); the CPU kernels check when they run
    if torch._C._functorch.is_functorch_wrapped_tensor(lengths):
        return  # nor under vmap; the reference, which runs there, takes what is too long as the limit
    readable = lengths.device.type == "cpu" or os.environ.get("S2S_CHECK") == "1"
    if readable and batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= limit):
        wrong = next(n for n in lengths.tolist() if not 0 <= n <= limit)
        raise ValueError(f"{name} holds {wrong}, expected values from 0 to {limit_name} = {limit}")


def check_mask(mask, batch, source, like, name="mask", form="B, S", meaning="may be attended"):
    if mask is None:
        return
    dims(name, mask, form)
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} has dtype {mask.dtype}, expected torch.bool (True = {meaning})")
    if mask.shape != (batch, source):
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, expected ({form}) = {(batch, source)}")
    if mask.device != like.device:
        raise ValueError(f"{name} is on {mask.device}, expected {like.device}")


def check_flag(name, value):
    if not isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected True or False")


def check_number(name, value, least=-LARGEST, most=LARGEST):
    """A finite number; True and False are none."""
    # (To torch.compile a number that may change is an int or a float, but no Real.)
    if isinstance(value, bool) or not isinstance(value, (int, float, Real)):
        raise TypeError(f"{name} is a {type(value).__name__}, expected a number")
    # (Numbers of numpy would take the bounds for their own, which may be too narrow.)
    number = value if isinstance(value, (int, float, Fraction)) else float(value)
    if not least <= number <= most:  # nor is NaN
        expected = f"a number from {least} to {most}" if most < LARGEST else "a finite number"
        expected += f", {least} or more" if least > -LARGEST and most == LARGEST else ""
        raise ValueError(f"{name} is {value}, expected {expected}")


def check_integer(name, value, least, most=None):
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a {type(value).__name__}, expected an int")
    if value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {value}, expected {least} {'or more' if most is None else f'to {most}'}")


def check_choice(name, value, choices):
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {value!r}, expected {' or '.join(map(repr, choices))}")


def check_tuple(name, value, size=None, form="a tuple or list"):
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"{name} is a {type(value).__name__}, expected {form}")
    if size is not None and len(value) != size:
        raise ValueError(f"{name} has {len(value)} elements, expected the {size} of {form}")


def refuse(condition, message):
    """A combination of arguments that means nothing."""
    if condition:
        raise ValueError(message)
