"""The second derivative: ops that make gradients are differentiated by way of the reference.

The kernels have one derivative. Where the gradients are to be differentiated in their turn (``create_graph=True``) they
are made in PyTorch's operators, which have all others: from the op's inputs, as slow and large as eager code.
"""

import torch
from torch.utils._pytree import tree_leaves

_library = torch.library.Library("s2s_kernels", "IMPL")


def register(name, replay):
    """Registers the autograd of op ``name``_backward.

    replay: of that op's arguments makes ``(function, inputs, needs, grads)``: ``function(*inputs)`` are the outputs of
    op ``name``, ``grads`` their gradients or None, and ``needs`` says which inputs' gradients the op returns.
    """
    op = getattr(torch.ops.s2s_kernels, f"{name}_backward").default

    def run(keyset, *args):
        recorded = any(isinstance(x, torch.Tensor) and x.requires_grad for x in tree_leaves(args))
        if recorded and torch.is_grad_enabled():
            made = gradients(*replay(*args))
            return made if op._schema.returns[0].type.kind() == "ListType" else tuple(made)
        with torch._C._AutoDispatchBelowAutograd():
            return op.redispatch(keyset & torch._C._after_autograd_keyset, *args)

    _library.impl(f"{name}_backward", run, "Autograd", with_keyset=True)


def gradients(function, inputs, needs, grads, create_graph=True):
    """One gradient an input, empty where it is not needed."""
    like = inputs[0]
    with torch.autocast(like.device.type, enabled=False):
        # Aliases: an input may have been made of another, whose own gradient is not to go through it.
        inputs = [_alias(x) if need else x for x, need in zip(inputs, needs, strict=True)]
        used = [(y, g) for y, g in zip(function(*inputs), grads, strict=True) if g is not None and y.requires_grad]
        outputs, cotangents = zip(*used, strict=True)
        wanted = [x for x, need in zip(inputs, needs, strict=True) if need]
        options = {"create_graph": create_graph, "allow_unused": True, "materialize_grads": True}
        found = iter(torch.autograd.grad(outputs, wanted, cotangents, **options))
    return [next(found) if need else like.new_empty(0) for need in needs]


def _alias(x):
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
