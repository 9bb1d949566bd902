"""The loss over a vocabulary: the output layer, its softmax and cross-entropy, and their gradients, in one op."""

import torch
from torch import Tensor

from .. import reference
from ..checks import check_lengths, check_number, dims, expect, floating, optional
from . import registration, second_derivative


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Sum over the rows of the cross-entropy of ``softmax(features @ weight.T + bias)`` and the targets.

    The gradients are made along with the loss, a chunk of rows at a time, so no (N, V) tensor is ever kept, where
    ``F.cross_entropy`` of ``F.linear`` keeps several and passes over them many times. For backward only the
    gradients are saved.

    Args:
        features: (N, R).
        weight: (V, R).
        bias: (V,) or None.
        targets: (N,), integers from 0 to V - 1.
        label_smoothing: e, from 0 to 1; the target distribution is then (1 - e) one-hot + e / V.

    Returns:
        A scalar, float64 for float64, else float32.

    With the same number of threads the same bits in every run; with another the last digit may differ, as threads share
    the words and their sums are added.

    float32, float64, bfloat16 or float16, ``features``, ``weight`` and ``bias`` the same. The kernel is for the CPU;
    elsewhere, whatever the backend, the products are PyTorch's.

    Raises:
        ValueError, TypeError: an argument's shape, dtype, device or value, before anything runs.
    """
    if type(label_smoothing) is not float:  # the dispatcher takes booleans and tensors for numbers
        check_number("label_smoothing", label_smoothing, 0, 1)
        label_smoothing = float(label_smoothing)
    args = (features, weight, bias, targets, label_smoothing)
    options = {"kernels": ("cpp",), "differentiable": reference.logits_cross_entropy}
    return registration.check_and_run("linear_cross_entropy", reference.linear_cross_entropy, check, *args, **options)


def check(features, weight, bias, targets, label_smoothing=0.0):
    rows, width = dims("features", features, "N, R")
    floating("features", features)
    words = dims("weight", weight, "V, R")[0]
    expect("weight", weight, "V, R", (words, width), features, "features")
    optional("bias", bias, "V", (words,), features, "features")
    if targets is None:
        raise TypeError("targets is None, expected a torch.Tensor of shape (N)")
    check_lengths(targets, rows, words - 1, features, "V - 1", "targets", "N")
    check_number("label_smoothing", label_smoothing, 0, 1)


@registration.fake("linear_cross_entropy_forward")
def _(features, weight, bias, targets, label_smoothing, needs):
    check(features, weight, bias, targets, label_smoothing)
    wide = torch.promote_types(features.dtype, torch.float32)
    return features.new_empty((), dtype=wide), *registration.gradients((features, weight, bias), needs)


@registration.fake("linear_cross_entropy_backward")
def _(grad_loss, features, weight, bias, targets, label_smoothing, grad_features, grad_weight, grad_bias):
    return tuple(grad.new_empty(grad.shape) for grad in (grad_features, grad_weight, grad_bias))


def replay(grad_loss, features, weight, bias, targets, label_smoothing, *grads):
    def loss(features, weight, bias):
        return (reference.logits_cross_entropy(features, weight, bias, targets, label_smoothing),)

    return loss, [features, weight, bias], [grad.numel() > 0 for grad in grads], [grad_loss]


second_derivative.register("linear_cross_entropy", replay)
registration.autocast("linear_cross_entropy")
