"""Argument checks that every backend shares: a bad argument is named before anything runs."""

import os

import torch

# By op: the check of what a backend is handed, for those that read memory without one. The public functions have
# checked already; `torch.ops` lets anything through. Filled by s2s_kernels.ops.
of_ops = {}

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def dims(name, tensor, *forms):
    """The shape of ``tensor``, which must have one of ``forms``, such as ``"B, T, I"``."""
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected a torch.Tensor")
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
    if not isinstance(tensor, torch.Tensor):
        raise TypeError(f"{name} is a {type(tensor).__name__}, expected a torch.Tensor of shape ({form})")
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


def check_mask(mask, batch, source, like):
    if mask is None:
        return
    dims("mask", mask, "B, S")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask has dtype {mask.dtype}, expected torch.bool (True = may be attended)")
    if mask.shape != (batch, source):
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected (B, S) = {(batch, source)}")
    if mask.device != like.device:
        raise ValueError(f"mask is on {mask.device}, expected {like.device}")
