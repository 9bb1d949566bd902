"""cuDNN's GRU and LSTM, by way of torch: what "auto" takes on a GPU for a whole sequence.

cuDNN runs the steps of a sequence, and the layers and directions of a stack, from inside; ours are started one by one.
Until a measurement says where ours are faster, it has every sequence that it can compute as precisely, but for those
of torch.compile, which cannot trace it, and of `torch.use_deterministic_algorithms`, as it promises no bits.
"""

from functools import cache

import torch
from torch import _VF

from . import transforms
from .backend import is_auto

_MODES = {"GRU": 3, "LSTM": 2}  # cudnnRNNMode_t


def takes_stack(x):
    """Whether "auto" leaves all layers of a module to one call of cuDNN's: not under autocast, where torch would run it
    in float16 whatever autocast's dtype is."""
    return takes(x) and not torch.is_autocast_enabled("cuda")


def takes(x):
    """Whether "auto" leaves a recurrence over ``x`` to cuDNN."""
    if not getattr(x, "is_cuda", False) or torch.compiler.is_compiling() or not is_auto():
        return False
    if transforms.at_work():
        return False
    if torch.are_deterministic_algorithms_enabled() or not torch.cudnn_is_acceptable(x):
        return False
    dtype = x.dtype
    if dtype != torch.float64 and torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    if dtype == torch.bfloat16:
        return _computes_bfloat16()
    # By default cuDNN may round float32 to tf32, and the products of our kernels may not.
    precision = torch.backends.cudnn.rnn.fp32_precision
    return dtype != torch.float32 or precision != "tf32" or torch.backends.cuda.matmul.fp32_precision == "tf32"


@cache
def _computes_bfloat16():
    torch_version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return torch_version >= (2, 10) and torch.backends.cudnn.version() >= 91300  # of both the first that do


def gru(x, h0, *weights, lengths=None, reverse=False):
    """The op `gru`: (output, h_n)."""
    if lengths is None:
        return _layer(x, (h0,), *weights, reverse=reverse)
    # cuDNN runs on to the end of the padding; what it makes there is left out.
    time, lengths = torch.arange(x.shape[1], device=x.device), lengths.long().clamp(0, x.shape[1])[:, None]
    valid, last = (time < lengths)[..., None], (lengths - 1).clamp(min=0)[..., None]
    x = torch.where(valid, x, 0)
    if reverse:  # each row's valid steps; the same order puts them back
        order = torch.where(valid, lengths[..., None] - 1 - time[:, None], time[:, None])
        x = x.take_along_dim(order, 1)
    output, _ = _layer(x, (h0,), *weights)
    h_n = torch.where(lengths > 0, output.take_along_dim(last, 1)[:, 0], h0)
    output = torch.where(valid, output, 0)
    return output.take_along_dim(order, 1) if reverse else output, h_n


def lstm(x, state, *weights, reverse=False):
    """The op `lstm` without lengths: (output, (h_n, c_n)). (Of cells cuDNN gives none but the last of all.)"""
    output, *last = _layer(x, state, *weights, reverse=reverse)
    return output, tuple(last)


def _layer(x, states, weight_ih, weight_hh, bias_ih, bias_hh, reverse=False):
    """The output and the last states of one layer and direction."""
    weights = [weight_ih, weight_hh]
    if bias_ih is not None or bias_hh is not None:  # both or none
        weights += [weight_ih.new_zeros(weight_ih.shape[0]) if b is None else b for b in (bias_ih, bias_hh)]
    h0, c0, *_ = [state[None].contiguous() for state in states] + [None]
    # Mode, hidden size, no projection, one layer, batch first.
    form = (_MODES["GRU" if c0 is None else "LSTM"], h0.shape[2], 0, 1, True)
    with torch.no_grad():  # torch.gru would copy them too, and warn at that
        in_one_piece = torch._cudnn_rnn_flatten_weight(
            [w.detach() for w in weights], len(weights), x.shape[2], *form, False
        )
    output, *last = torch._cudnn_rnn(
        x.flip(1) if reverse else x, weights, len(weights), in_one_piece, h0, c0, *form,
        0.0, _needs_gradient(x, *states, *weights), False, [], None,
    )  # fmt: skip
    return output.flip(1) if reverse else output, *(state[0] for state in last[: len(states)])


def stack(module, x, states, weights, batch_sizes=None):
    """(output, states) of all layers and directions of a torch.nn module over x (B, T, I), or over a PackedSequence's
    data and batch_sizes."""
    run, hx = (_VF.gru, states[0].contiguous()) if len(states) == 1 else (_VF.lstm, [s.contiguous() for s in states])
    dropout = float(module.dropout) if module.training else 0.0
    train = module.training or _needs_gradient(x, *states, *weights)
    options = (module.bias, module.num_layers, dropout, train, module.bidirectional)
    if batch_sizes is None:
        output, *last = run(x, hx, weights, *options, True)
    else:
        output, *last = run(x, batch_sizes, hx, weights, *options)
    return output, tuple(last)


def flatten(module):
    """Puts the weights of a torch.nn module in one piece, where torch.nn's own flatten_parameters does not: it leaves
    bfloat16 out, and then copies all weights in every call."""
    weights = module._flat_weights
    if len(weights) != len(module._flat_weights_names) or not all(isinstance(w, torch.Tensor) for w in weights):
        return
    if not (all(w.is_cuda and w.dtype == torch.bfloat16 for w in weights) and _computes_bfloat16()):
        return
    if len({w.data_ptr() for w in weights}) == len(weights):
        with torch.cuda.device_of(weights[0]), torch.no_grad():
            torch._cudnn_rnn_flatten_weight(
                weights, 4 if module.bias else 2, module.input_size, _MODES[module.mode],
                module.hidden_size, 0, module.num_layers, module.batch_first, module.bidirectional,
            )  # fmt: skip


def _needs_gradient(*tensors):
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
