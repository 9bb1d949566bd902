"""Tensors whose values are not what lies in their memory: negated views, as the imaginary part of a conjugate is one,
and the zeros without memory of forward-mode AD.

The dispatcher makes plain ones of them before a kernel sees them, but not where they stand in lists of optional
tensors, as in the halves of the recurrences. There this does; a call without such a tensor never comes here.
"""

import torch
from torch.utils._pytree import tree_map

_library = torch.library.Library("s2s_kernels", "IMPL")


def plain(x):
    if not isinstance(x, torch.Tensor):
        return x
    return (
        torch.zeros(x.shape, dtype=x.dtype, device=x.device) if x._is_zerotensor() else x.resolve_conj().resolve_neg()
    )


def register_plain_values(name):
    """Registers op ``name`` to get plain tensors."""
    op = getattr(torch.ops.s2s_kernels, name).default

    def run(*args):
        with torch._C._AutoDispatchBelowAutograd():  # where the call came from
            return op(*tree_map(plain, args))

    for key in ("Negative", "Conjugate", "ZeroTensor"):
        _library.impl(name, run, key)
