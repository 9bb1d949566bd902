"""Whether a package's model gives the same after ``sk.convert``: nests of tensors, numbers and anything else."""

import torch
from torch.utils._pytree import tree_flatten

TOLERANCE = 1e-10  # of the largest element, in float64


class Failed(Exception):
    """A check found a difference; the message is the cell of the table."""


def compare(what, before, after, scale=0.0):
    """The largest difference of any two floating tensors, relative to the largest element of the first of them.

    Args:
        what: a name for messages.
        before, after: nests of tensors, NumPy arrays, numbers and values that compare with ``==``.
        scale: differences are relative to this where a tensor's elements are smaller.

    Raises:
        Failed: where structure, shape, dtype, whether gradients flow, or values differ.
    """
    (ours, structure), (others, other) = tree_flatten(before), tree_flatten(after)
    if structure != other:
        raise Failed(f"{what}: the structure differs")
    names = [what] if len(ours) == 1 else [f"{what}[{i}]" for i in range(len(ours))]
    return max((_compare(name, tensor(a), tensor(b), scale) for name, a, b in zip(names, ours, others)), default=0.0)


def tensor(leaf):
    if isinstance(leaf, float):
        return torch.tensor(leaf, dtype=torch.float64)
    return torch.from_numpy(leaf) if type(leaf).__module__ == "numpy" and leaf.ndim else leaf


def _compare(name, a, b, scale):
    if not isinstance(a, torch.Tensor):
        if a != b:
            raise Failed(f"{name}: {a!r} is {b!r} after convert")
        return 0.0
    for quality in ("shape", "dtype", "requires_grad"):
        if getattr(a, quality) != getattr(b, quality):
            raise Failed(f"{name}: {quality} {getattr(a, quality)} is {getattr(b, quality)} after convert")
    a, b = a.detach(), b.detach()
    if not a.is_floating_point():
        if not torch.equal(a, b):
            raise Failed(f"{name}: {int((a != b).sum())} of {a.numel()} elements differ")
        return 0.0
    finite = a.isfinite()
    if not torch.equal(special(a), special(b)):
        raise Failed(f"{name}: other elements are infinite or NaN after convert")
    a, b = a[finite], b[finite]
    if a.numel() == 0:
        return 0.0
    error = float((a - b).abs().max()) / max(float(a.abs().max()), scale, 1e-300)
    if error > TOLERANCE:
        raise Failed(f"{name}: differs by {error:.1e} of its largest element")
    return error


def special(x):
    """NaN and the infinities as numbers, everything else 0."""
    return x.masked_fill(x.isfinite(), 0).nan_to_num(nan=0.5, posinf=1, neginf=-1)
