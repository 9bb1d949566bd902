"""The loss over the vocabulary, the largest products of a training step, without keeping the logits."""

import torch
from torch.autograd.function import once_differentiable

CHUNK = 1 << 20  # logits at a time: 4 MB of float32, which a cache keeps from one product to the next


def linear_cross_entropy(features, weight, bias, targets, label_smoothing=0.0):
    """Sum over the rows of the cross-entropy of ``softmax(features @ weight.T + bias)`` and the targets.

    The gradients are made along with the loss, a chunk of rows at a time, so no (N, V) tensor is ever kept, where
    ``F.cross_entropy`` of ``F.linear`` keeps several and passes over them many times. For backward only the
    gradients are saved.

    Args:
        features: (N, R).
        weight: (V, R).
        bias: (V,).
        targets: (N,), integers from 0 to V - 1.
        label_smoothing: e; the target distribution is then (1 - e) one-hot + e / V.

    Returns:
        A scalar, float32 or wider, once differentiable. Under autocast the products are of its dtype.
    """
    return _LinearCrossEntropy.apply(features, weight, bias, targets, label_smoothing)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features, weight, bias, targets, smoothing):
        device = features.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        wide = torch.promote_types(features.dtype, torch.float32)
        learning = any(ctx.needs_input_grad)
        size = weight.shape[0]
        loss = torch.zeros((), dtype=wide, device=features.device)
        grads = [torch.zeros_like(tensor, dtype=wide) for tensor in (features, weight, bias)] if learning else []
        with torch.autocast(device, enabled=False):
            x, w, b = (tensor.to(narrow) for tensor in (features, weight, bias))
            rows = max(1, CHUNK // size)
            for start in range(0, len(x), rows):
                part, target = x[start : start + rows], targets[start : start + rows, None]
                logits = torch.addmm(b, part, w.t()).to(wide)
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
                    grads[2] += grad.sum(0)
                    grad = grad.to(narrow)
                    grads[0][start : start + rows] = grad @ w
                    grads[1] += grad.t() @ part
        ctx.save_for_backward(*(g.to(t.dtype) for g, t in zip(grads, (features, weight, bias))))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):
        return *(grad * grad_loss for grad in ctx.saved_tensors), None, None
