"""The loss over the vocabulary without keeping the logits, in plain PyTorch."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Logits at a time: 4 MB of float32, which a CPU's cache keeps from one product to the next; a GPU's time would go into
# the launches of so little work, so there 256 MB.
CHUNK, GPU_CHUNK = 1 << 20, 1 << 26


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The sum of F.cross_entropy(F.linear(features, weight, bias), targets), a chunk of rows at a time.

    The gradients are made along with the loss, so that no (N, V) tensor is ever kept.
    """
    return _LinearCrossEntropy.apply(features, weight, bias, targets, label_smoothing)


def logits_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """The same with the (N, V) logits in memory and PyTorch's own gradients, of any order."""
    logits = torch.nn.functional.linear(features, weight, bias)
    logits = logits.to(torch.promote_types(features.dtype, torch.float32))
    return torch.nn.functional.cross_entropy(logits, targets.long(), reduction="sum", label_smoothing=label_smoothing)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, weight, bias, targets, smoothing):
        wide = torch.promote_types(features.dtype, torch.float32)
        learning = any(ctx.needs_input_grad)
        size, inputs = weight.shape[0], (features, weight) if bias is None else (features, weight, bias)
        loss = torch.zeros((), dtype=wide, device=features.device)
        grads = [torch.zeros_like(tensor, dtype=wide) for tensor in inputs] if learning else []
        rows = max(1, (GPU_CHUNK if features.is_cuda else CHUNK) // max(1, size))
        for start in range(0, len(features), rows):
            part, target = features[start : start + rows], targets[start : start + rows, None].long()
            logits = torch.nn.functional.linear(part, weight, bias).to(wide)
            expected = (1 - smoothing) * logits.gather(1, target)
            if smoothing:
                expected += smoothing * logits.mean(1, keepdim=True)
            # In place from here on: from logits to their exponentials, and on to their gradient.
            top = logits.amax(1, keepdim=True)
            total = logits.sub_(top).exp_().sum(1, keepdim=True)
            loss += (total.log() + top - expected).sum()
            if learning:
                grad = logits.div_(total).sub_(smoothing / size)
                grad.scatter_add_(1, target, torch.full_like(total, smoothing - 1))
                if bias is not None:
                    grads[2] += grad.sum(0)
                grad = grad.to(features.dtype)
                grads[0][start : start + rows] = grad @ weight
                grads[1] += grad.t() @ part
        ctx.save_for_backward(*(g.to(t.dtype) for g, t in zip(grads, inputs)))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):
        grads = [grad * grad_loss for grad in ctx.saved_tensors]
        return *grads, *[None] * (5 - len(grads))
