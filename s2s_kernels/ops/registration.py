"""What every op registers in the same way: fakes, autocast, and the way from the public function to a backend."""

import torch
from torch.utils._pytree import tree_map

from .. import transforms
from ..backend import NAMES, is_auto, is_cpp, resolve
from ..recording import for_onnx

_library = torch.library.Library("s2s_kernels", "IMPL")


def cast_for_autocast(args, device_type):
    """``args`` with every floating tensor in autocast's dtype, when autocast is on for ``device_type``."""
    if not torch.is_autocast_enabled(device_type):
        return args
    dtype = torch.get_autocast_dtype(device_type)

    def cast(x):
        # float64 stays, as in torch's own autocast: who computes in it wants it.
        narrow = isinstance(x, torch.Tensor) and x.is_floating_point() and x.dtype != torch.float64
        return x.to(dtype) if narrow else x

    return tree_map(cast, args)


def fake(name):
    """Decorator: registers the shapes and dtypes of op ``name``'s results, for tracing."""
    return torch.library.register_fake(f"s2s_kernels::{name}")


def autocast(name):
    """Registers op ``name`` to run in autocast's dtype."""
    op = getattr(torch.ops.s2s_kernels, name).default
    for device_type, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):

        def run(*args, _device=device_type, _key=key, **kwargs):
            args, kwargs = cast_for_autocast((args, kwargs), _device)
            with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, _key))):
                return op(*args, **kwargs)

        _library.impl(name, run, key)


def refuse_batched_gradients(name):
    """Registers a sentence for ``torch.autograd.grad(is_grads_batched=True)``, which comes to the op's backward alone
    and knows of no lists of tensors."""

    def refuse(*args, **kwargs):
        raise NotImplementedError(
            f"s2s_kernels.{name} has no backward of batched gradients (is_grads_batched, vectorize); "
            "torch.func.jacrev and vmap have"
        )

    _library.impl(f"{name}_backward", refuse, "Batched")


def cast_and_call(function, device_type, *args, **kwargs):
    """``function`` in autocast's dtype, as an op runs."""
    args, kwargs = cast_for_autocast((args, kwargs), device_type)
    with torch.autocast(device_type, enabled=False):
        return function(*args, **kwargs)


def run(name, reference, device_type, *args, kernels=NAMES, **kwargs):
    """Runs op ``name`` on the backend in force: the registered op, or ``reference``.

    kernels: the backends that have a kernel; on the others the reference is all there is.
    """
    if device_type != "meta":  # which has shapes alone: those of the op's fake
        backend = resolve(device_type)
        if backend == "reference" or backend not in kernels or for_onnx():
            return cast_and_call(reference, device_type, *args, **kwargs)
    return getattr(torch.ops.s2s_kernels, name)(*args, **kwargs)


def run_transformed(name, reference, device_type, *args, **kwargs):
    """Runs op ``name`` while a function transform is at work."""
    if not is_auto() and resolve(device_type) != "reference":
        raise RuntimeError(
            f"backend {resolve(device_type)!r} cannot run {name} under torch.func or forward-mode differentiation; "
            "these can: auto, reference"
        )
    return cast_and_call(reference, device_type, *args, **kwargs)


def check_and_run(name, reference, check, first, *args, kernels=NAMES, differentiable=None, **kwargs):
    """``check(first, *args, **kwargs)``, then `run`.

    The CPU's kernels check what they read for themselves, in a fraction of the time: there, Python is asked only for
    the words of what they refuse.

    differentiable: what takes the reference's place under a function transform, where that has its own gradient.
    """
    refusal = None
    if (
        not torch.compiler.is_compiling()
        and type(first) is torch.Tensor
        and first.is_cpu
        and is_cpp()
        and not (torch._C._is_tracing() or torch._C._functorch.peek_interpreter_stack())
    ):
        try:
            return getattr(torch.ops.s2s_kernels, name).default(first, *args, **kwargs)
        except (TypeError, ValueError, RuntimeError) as error:  # forward-mode differentiation is refused too
            refusal = error
    check(first, *args, **kwargs)
    if transforms.at_work():
        return run_transformed(name, differentiable or reference, first.device.type, first, *args, **kwargs)
    if refusal is not None:
        raise refusal
    return run(name, reference, first.device.type, first, *args, kernels=kernels, **kwargs)


def gradients(inputs, needs):
    """Fake gradients: like each input where needed, else empty."""
    like = inputs[0]
    return tuple(x.new_empty(x.shape) if need else like.new_empty(0) for x, need in zip(inputs, needs, strict=True))
