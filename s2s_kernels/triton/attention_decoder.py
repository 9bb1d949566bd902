"""The attention decoder with its parts, on CUDA too: the reference's loop on top of the ops that make one step.

Those run on the backend in force; what is around them is PyTorch's. Backward runs the loop again and differentiates it,
so nothing is saved. There each attention with its own keys is checkpointed: memory does not grow with S*A*T.
"""

import torch
from torch.utils.checkpoint import checkpoint

from ..ops import attention_decoder, second_derivative
from ..ops.recurrence import saved_like
from ..reference import decoder

_ops = torch.ops.s2s_kernels


def gru_step(gates_x, gates_h, state):
    return (_ops.gru_step(gates_x, gates_h, state[0]),)


def lstm_step(gates_x, gates_h, state):
    return _ops.lstm_step(gates_x, gates_h, state[1])


def attend(source, query, history, previous, drop):
    """The reference's step of attention, as the op where that has all it takes."""
    fused = source.v is not None and source.normalization == "softmax" and drop is None and source.values.dim() == 3
    step = attend_fused if fused else decoder.attend
    if not torch.is_grad_enabled() or (fused and history is None):
        return step(source, query, history, previous, drop)
    options = {"use_reentrant": False, "preserve_rng_state": False}
    return checkpoint(step, source, query, history, previous, drop, **options)


def attend_fused(source, query, history, previous, drop):
    """A softmax does not see b_score."""
    keys = decoder.located(source, history)
    return _ops.additive_attention(query, keys, source.values, source.v, mask=source.valid)


STEPS = {3: gru_step, 4: lstm_step}


def run(inputs, lengths, mask, form):
    return attention_decoder.run(inputs, lengths, mask, form, steps=STEPS, attend=attend)


def autograd_again():
    """A kernel runs below autograd; within this, operators are recorded again."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor", "ADInplaceOrView"):
        excluded = excluded.remove(getattr(torch._C.DispatchKey, key))
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded)


def attention_decoder_forward(inputs, lengths, mask, form, save):
    with torch.no_grad():
        outputs = run(inputs, lengths, mask, form)
    if not inputs[0].shape[1]:  # without a step the last state is the first, but no output is an input
        outputs = [y.clone(memory_format=torch.contiguous_format) for y in outputs]
    return outputs + [saved_like(inputs[0], 0, False) for _ in range(11)]


def attention_decoder_backward(grads, inputs, lengths, mask, form, outputs, needs):
    def function(*inputs):
        return run(inputs, lengths, mask, form)

    with autograd_again(), torch.enable_grad():
        return second_derivative.gradients(function, inputs, needs, grads, create_graph=False)
