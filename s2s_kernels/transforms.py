"""PyTorch's function transforms (torch.func.grad, vmap, jvp, ...) and forward-mode differentiation.

They differentiate and batch PyTorch's operators; of a kernel they know nothing. While one is at work, the public ops
run as the reference, which is made of these operators: right, in any order and combination, and slow.
"""

import torch
from torch.autograd import forward_ad


def at_work():
    """Whether a transform of torch.func, or a level of forward-mode differentiation, is around this call."""
    return torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0


# For torch.compile the answer is a constant: it guards on the transforms around a function already. (What
# torch.compiler.assume_constant_result does, without importing torch._dynamo, which takes seconds.)
at_work._dynamo_marked_constant = True
