"""torch.ops.s2s_kernels in Python, for an installation without the compiled extension: what csrc/ops.cpp and
csrc/autograd.cpp register, so that Triton's kernels, torch.compile and autograd find the same ops there.

The tests hold these schemas against the compiled ones.
"""

from functools import partial

import torch
from torch.autograd.function import Function

from . import transforms

_CELL = "Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih=None, Tensor? bias_hh=None, *, "
_OPTIONS = "Tensor? lengths=None, bool reverse=False, Tensor? resets=None, "
_SOURCE = "Tensor keys, Tensor values, Tensor v, Tensor w_query, Tensor? b_query, "
_BOTH = "Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, "
_REVERSE = (
    "Tensor weight_ih_reverse, Tensor weight_hh_reverse, Tensor? bias_ih_reverse=None, "
    "Tensor? bias_hh_reverse=None, *, Tensor? lengths=None) -> (Tensor output, Tensor h_n"
)
_SCAN = (
    "Tensor? lengths=None, Tensor? mask=None, Tensor? w_feed=None, Tensor? b_feed=None, "
    "Tensor? first_feed=None) -> (Tensor states, Tensor contexts, Tensor weights, Tensor feeds, "
)
RECURRENCES = {
    "gru": f"(Tensor x, Tensor h0, {_CELL}{_OPTIONS}Tensor? reset_states=None) -> (Tensor output, Tensor h_n)",
    "lstm": f"(Tensor x, Tensor[] state, {_CELL}{_OPTIONS}Tensor[]? reset_states=None) -> "
    "(Tensor output, Tensor h_n, Tensor c_n)",
    "gru_bidirectional": f"(Tensor x, Tensor h0, {_BOTH}Tensor h0_reverse, {_REVERSE})",
    "lstm_bidirectional": f"(Tensor x, Tensor[] state, {_BOTH}Tensor[] state_reverse, {_REVERSE}, Tensor c_n)",
    "attention_gru": f"(Tensor x, Tensor h0, {_SOURCE}{_CELL}{_SCAN}Tensor h_n)",
    "attention_lstm": f"(Tensor x, Tensor[] state, {_SOURCE}{_CELL}{_SCAN}Tensor h_n, Tensor c_n)",
}
PUBLIC_OUTPUTS = {"gru": 2, "lstm": 3, "attention_gru": 5, "attention_lstm": 6, "attention_decoder": 6}
PUBLIC_OUTPUTS |= {"gru_bidirectional": 2, "lstm_bidirectional": 3}
# What has the forward-mode derivative of an op, where that is not public.
PUBLIC_NAMES = {
    "gru_bidirectional": "nn.GRU has",
    "lstm_bidirectional": "nn.LSTM has",
    "attention_decoder": "attention_gru and attention_lstm have",
}


def public_outputs(name, inputs):
    """Of the halves: an LSTM's with resets have one more than the op."""
    return PUBLIC_OUTPUTS[name] + (name == "lstm" and inputs > 7)


SCHEMAS = [
    "additive_attention(Tensor query, Tensor keys, Tensor values, Tensor v, *, Tensor? lengths=None, "
    "Tensor? mask=None, Tensor? bias=None) -> (Tensor context, Tensor weights)",
    "additive_attention_backward(Tensor? grad_context, Tensor? grad_weights, Tensor query, Tensor keys, "
    "Tensor values, Tensor v, Tensor weights, Tensor? lengths, Tensor? mask, Tensor? bias, bool[5] needs) -> "
    "(Tensor, Tensor, Tensor, Tensor, Tensor)",
    "gru_step(Tensor gates_x, Tensor gates_h, Tensor h) -> Tensor",
    "gru_step_backward(Tensor grad_h, Tensor gates_x, Tensor gates_h, Tensor h) -> (Tensor, Tensor, Tensor)",
    "lstm_step(Tensor gates_x, Tensor gates_h, Tensor c) -> (Tensor h, Tensor c)",
    "lstm_step_backward(Tensor? grad_h, Tensor? grad_c, Tensor gates_x, Tensor gates_h, Tensor c) -> (Tensor, Tensor)",
    f"beam_search(Tensor[] state, {_SOURCE}Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh, "
    "Tensor embedding, Tensor w_output, Tensor? b_output, *, int bos, int eos, int max_length, int beam=5, "
    "int n_best=1, float length_penalty=0.0, float coverage_penalty=0.0, int[] forbidden=[], Tensor? limits=None, "
    "Tensor? lengths=None, Tensor? mask=None, str order='before', Tensor? w_feed=None, Tensor? b_feed=None, "
    "Tensor? first_feed=None, str readout='state', Tensor? w_readout=None, Tensor? b_readout=None, "
    "bool return_weights=False) -> (Tensor ids, Tensor lengths, Tensor scores, Tensor weights)",
    "linear_cross_entropy(Tensor features, Tensor weight, Tensor? bias, Tensor targets, float label_smoothing=0.0) "
    "-> Tensor",
    "linear_cross_entropy_forward(Tensor features, Tensor weight, Tensor? bias, Tensor targets, "
    "float label_smoothing, bool[3] needs) -> (Tensor loss, Tensor, Tensor, Tensor)",
    "linear_cross_entropy_backward(Tensor grad_loss, Tensor features, Tensor weight, Tensor? bias, "
    "Tensor targets, float label_smoothing, Tensor grad_features, Tensor grad_weight, Tensor grad_bias) -> "
    "(Tensor, Tensor, Tensor)",
    *(name + schema for name, schema in RECURRENCES.items()),
    *(
        name + "_forward(Tensor?[] inputs, Tensor? lengths, Tensor? mask, bool reverse, bool save) -> Tensor[]"
        for name in RECURRENCES
    ),
    *(
        name + "_backward(Tensor?[] grads, Tensor?[] inputs, Tensor? lengths, Tensor? mask, bool reverse, "
        "Tensor[] outputs, bool[] needs) -> Tensor[]"
        for name in RECURRENCES
    ),
]

# What the parts of an attention decoder run as, for both cells; see s2s_kernels/ops/attention_decoder.py. These are
# registered from here with the extension too.
DECODER = "attention_decoder"
_DECODER = "Tensor?[] inputs, Tensor? lengths, Tensor? mask, int[] form"
DECODER_SCHEMAS = [
    f"{DECODER}({_DECODER}) -> Tensor[]",
    f"{DECODER}_forward({_DECODER}, bool save) -> Tensor[]",
    f"{DECODER}_backward(Tensor?[] grads, {_DECODER}, Tensor[] outputs, bool[] needs) -> Tensor[]",
    # The searches with parts; see s2s_kernels/ops/decoder_search.py.
    f"decoder_search({_DECODER}, Tensor w_output, Tensor? b_output, Tensor? w_readout, Tensor? b_readout, "
    "str order, str readout, int bos, int eos, int max_length, int beam, int n_best, float length_penalty, "
    "float coverage_penalty, int[] forbidden, Tensor? limits, bool return_weights, Tensor[]? packed=None) -> "
    "(Tensor ids, Tensor lengths, Tensor scores, Tensor weights)",
]


def _op(name):
    return getattr(torch.ops.s2s_kernels, name).default


def _below(name, keyset, *args, **kwargs):
    """The op without autograd."""
    with torch._C._AutoDispatchBelowAutograd():
        return _op(name).redispatch(keyset & torch._C._after_autograd_keyset, *args, **kwargs)


class AdditiveAttention(Function):
    @staticmethod
    def forward(ctx, below, query, keys, values, v, lengths, mask, bias):
        context, weights = below(query, keys, values, v, lengths=lengths, mask=mask, bias=bias)
        ctx.save_for_backward(query, keys, values, v, weights, lengths, mask, bias)
        ctx.set_materialize_grads(False)
        return context, weights

    @staticmethod
    def backward(ctx, grad_context, grad_weights):
        if grad_context is None and grad_weights is None:
            return (None,) * 8
        needs = [ctx.needs_input_grad[i] for i in (1, 2, 3, 4, 7)]
        made = _op("additive_attention_backward")(grad_context, grad_weights, *ctx.saved_tensors, needs)
        *grads, bias = (grad if need else None for grad, need in zip(made, needs, strict=True))
        return None, *grads, None, None, bias


class GruStep(Function):
    @staticmethod
    def forward(ctx, below, *inputs):
        ctx.save_for_backward(*inputs)
        return below(*inputs)

    @staticmethod
    def backward(ctx, grad):
        return None, *_op("gru_step_backward")(grad, *ctx.saved_tensors)


class LstmStep(Function):
    @staticmethod
    def forward(ctx, below, *inputs):
        ctx.save_for_backward(*inputs)
        ctx.set_materialize_grads(False)
        return below(*inputs)

    @staticmethod
    def backward(ctx, grad_h, grad_c):
        if grad_h is None and grad_c is None:
            return (None,) * 4
        gates, c = _op("lstm_step_backward")(grad_h, grad_c, *ctx.saved_tensors)
        return None, gates, gates, c


class Recurrence(Function):
    @staticmethod
    def forward(ctx, below, name, lengths, mask, option, *inputs):
        outputs = below(list(inputs), lengths, mask, option, True)
        # Of both directions the public outputs are made of the others, which backward reads.
        kept = outputs[PUBLIC_OUTPUTS[name] :] if name.endswith("bidirectional") else outputs
        ctx.save_for_backward(lengths, mask, *inputs, *kept)
        ctx.name, ctx.option, ctx.count = name, option, len(inputs)
        ctx.mark_non_differentiable(*outputs[public_outputs(name, len(inputs)) :])
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx, *grads):
        grads = list(grads[: public_outputs(ctx.name, ctx.count)])
        lengths, mask, *saved = ctx.saved_tensors
        inputs, outputs, needs = saved[: ctx.count], saved[ctx.count :], list(ctx.needs_input_grad[5:])
        if all(grad is None for grad in grads):
            return (None,) * (5 + ctx.count)
        made = _op(f"{ctx.name}_backward")(grads, inputs, lengths, mask, ctx.option, outputs, needs)
        return *(None,) * 5, *(grad if need else None for grad, need in zip(made, needs, strict=True))


def _attention_autograd(keyset, *args, lengths=None, mask=None, bias=None):
    return AdditiveAttention.apply(partial(_below, "additive_attention", keyset), *args, lengths, mask, bias)


def _gru_step_autograd(keyset, *args):
    return GruStep.apply(partial(_below, "gru_step", keyset), *args)


def _lstm_step_autograd(keyset, *args):
    return LstmStep.apply(partial(_below, "lstm_step", keyset), *args)


def _recurrence_autograd(name, keyset, inputs, lengths, mask, option, save):
    """option: ``reverse``, or the ``form`` of an attention decoder."""
    below = partial(_below, f"{name}_forward", keyset)
    if not save:
        if transforms.at_work():  # nothing would be differentiated forward: refused, not silently zero
            public = PUBLIC_NAMES.get(name, f"{name} has")
            raise NotImplementedError(
                f"torch.ops.s2s_kernels.{name} has no forward-mode derivative; s2s_kernels.{public}"
            )
        return below(inputs, lengths, mask, option, save)
    return list(Recurrence.apply(below, name, lengths, mask, option, *inputs))


def _decoder(inputs, lengths, mask, form):
    """The decoder on top of its forward half, which saves what backward wants when something will run backward."""
    save = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
    return _op(f"{DECODER}_forward")(inputs, lengths, mask, form, save)[: PUBLIC_OUTPUTS[DECODER]]


def _both_directions(name, x, state, *args, lengths=None):
    args = [*args, *[None] * (9 - len(args))]  # the dispatcher leaves out what has its default
    pairs = {"state": state, "state_reverse": args[4]}
    for what, given in pairs.items():
        if "lstm" in name and len(given) != 2:
            raise ValueError(f"{what} has {len(given)} tensors, expected a pair (h0, c0)")
    first, second = (given if "lstm" in name else [given] for given in pairs.values())
    inputs = [x, *first, *args[:4], *second, *args[5:]]
    save = torch.is_grad_enabled() and any(y is not None and y.requires_grad for y in inputs)
    return tuple(_op(f"{name}_forward")(inputs, lengths, None, False, save)[: PUBLIC_OUTPUTS[name]])


def _recurrence(name, x, state, *args, lengths=None, mask=None, reverse=False, resets=None, reset_states=None, **feed):
    """The public op on top of its forward half, which saves what backward wants when something will run backward."""
    states = state if isinstance(state, (list, tuple)) else [state]
    if len(states) != (2 if "lstm" in name else 1):
        raise ValueError(f"state has {len(states)} tensors, expected a pair (h0, c0)")
    scan = name.startswith("attention")
    args = [*args, *[None] * ((9 if scan else 4) - len(args))]  # the dispatcher leaves out what has its default
    inputs = [x, *states, *args]
    if scan:
        inputs += [feed.get(key) for key in ("w_feed", "b_feed", "first_feed")]
    if resets is not None:
        given = reset_states if isinstance(reset_states, (list, tuple)) else [reset_states] * len(states)
        inputs += [resets, *given]
    elif reset_states is not None:
        raise ValueError("reset_states is given, but resets is None, expected both or neither")
    save = torch.is_grad_enabled() and any(y is not None and y.requires_grad for y in inputs)
    return tuple(_op(f"{name}_forward")(inputs, lengths, mask, reverse, save)[: PUBLIC_OUTPUTS[name]])


def define():
    """Defines the ops; the library that holds them must be kept."""
    library = torch.library.Library("s2s_kernels", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    for name, autograd in (
        ("additive_attention", _attention_autograd),
        ("gru_step", _gru_step_autograd),
        ("lstm_step", _lstm_step_autograd),
        *((f"{name}_forward", partial(_recurrence_autograd, name)) for name in RECURRENCES),
    ):
        library.impl(name, autograd, "Autograd", with_keyset=True)
    for name in RECURRENCES:
        public = _both_directions if name.endswith("bidirectional") else _recurrence
        library.impl(name, partial(public, name), "CompositeImplicitAutograd")
    return library


def define_decoder():
    """Defines what has no schema in the compiled extension; the library that holds it must be kept."""
    library = torch.library.Library("s2s_kernels", "FRAGMENT")
    for schema in DECODER_SCHEMAS:
        library.define(schema)
    library.impl(f"{DECODER}_forward", partial(_recurrence_autograd, DECODER), "Autograd", with_keyset=True)
    library.impl(DECODER, _decoder, "CompositeImplicitAutograd")
    return library
