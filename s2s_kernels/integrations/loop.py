"""What the integrations share: decoders swapped by class, their weights by name, dropout drawn as the loop draws it.

An integration is a class derived from ``Loop`` for each decoder class of its package, which overrides the method that
holds the loop, and two functions::

    class Decoder(Loop):
        replaces = ("forward", "_step")          # what the original does there, ours does in another way

        def obstacle(self): ...                  # the option that we cannot run, in words; or None
        def trial(self): ...                     # tensors: the decoder called on a small batch

        def forward(self, ...): ...              # super().forward is the package's own

    def convert(model):
        from package import Original
        return swap(model, {Original: Decoder})

    def revert(model):
        return restore(model, Decoder)

The swapped module keeps its parameters: ours hands them to the ops as they are, so that gradients land in them and the
state_dict is what it was. Its parts (cells, projections, dropouts) stay too, for the package's own steps of decoding.
"""

from functools import cache

import torch
from torch import nn

from .. import ops
from ..stand_in import bare_class, check_module, original, rebase, restore, stand_in

# --- swapping


class Loop:
    """Stands before a package's decoder class in the class of a converted decoder."""

    replaces = ("forward",)

    def obstacle(self) -> str | None:
        """Why this decoder, not converted yet, cannot be: the package's option and its value; None if it can."""

    def trial(self):
        """Tensors that the decoder gives for a small batch, before and after the swap; None: no trial."""


def swap(model: nn.Module, loops: dict) -> nn.Module:
    """Give each decoder in ``model`` the loop of its class, in place; all or none.

    Args:
        model: an nn.Module, or the decoder itself; what is converted already stays so.
        loops: {class of the package: Loop}.

    Returns:
        The same ``model``.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no such decoder, or one that cannot be converted; the message names it and the option.
    """
    check_module(model)
    found = []
    for path, module in model.named_modules():
        kind = next((kind for kind in loops if isinstance(module, kind)), None)
        if kind is not None and not isinstance(module, Loop):
            found.append((path or "the model", module, loops[kind], _obstacle(module, kind, loops[kind])))
    if not found and not any(isinstance(module, tuple(loops.values())) for module in model.modules()):
        names = " or ".join(kind.__name__ for kind in loops)
        raise ValueError(f"the {type(model).__name__} has no {names}: expected a model with one")
    for path, module, _, reason in found:
        if reason is not None:
            raise ValueError(f"{path} ({type(module).__name__}) cannot be converted: {reason}")
    done = []
    try:
        for path, module, loop, _ in found:
            before = _try(module, loop)
            rebase(module, lambda kind, loop=loop: _looped(kind, loop))
            done.append(module)
            _compare(path, before, _try(module, loop))
    except Exception:
        for module in done:
            rebase(module, original)
        raise
    return model


@cache
def _looped(kind, loop):
    """The class of a decoder that was of the class ``kind``, with its loop."""
    return stand_in(kind, (loop, kind), (_looped, kind, loop))


def _obstacle(module, kind, loop):
    if "forward" in vars(module):
        return "its forward is an attribute of its own"
    own = bare_class(module)
    for base in own.__mro__[: own.__mro__.index(kind)]:
        for name in loop.replaces:
            if name in vars(base):
                return f"{base.__name__} has its own {name}"
    return loop.obstacle(module)


@torch.no_grad()
def _try(module, loop):
    """The trial in evaluation and, dropout and all, in training; leaves no trace in attributes, buffers and seeds.

    On a GPU in evaluation alone: cuDNN has random numbers of its own for the dropout between layers.
    """
    attributes = {m: vars(m).copy() for m in module.modules()}
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    devices = {p.device.type for p in module.parameters()} - {"cpu"}
    found = []
    with torch.random.fork_rng([]):
        for training in (False,) if devices else (False, True):
            torch.default_generator.manual_seed(0)
            module.train(training)
            found.append(loop.trial(module))
    for m, before in attributes.items():
        vars(m).clear()
        vars(m).update(before)
    for name, b in module.named_buffers():
        b.copy_(buffers[name])
    return found


def _compare(path, before, after):
    """Far from rounding: it is to find another formula, of another version of the package for one."""
    for mode, ours, theirs in zip(("evaluation", "training"), after, before):
        for a, b in zip(ours or (), theirs or (), strict=True):
            a, b = a.double(), b.double()
            allowed = max(torch.finfo(t.dtype).eps ** 0.5 for t in (ours[0], theirs[0]))
            if a.shape != b.shape or not (a - b).abs().max() <= allowed * b.abs().max().clamp(min=1e-3):
                raise ValueError(
                    f"{path} cannot be converted: in {mode} it gives other numbers for a small batch than the decoder "
                    "that this integration is made for"
                )


# --- checks of parts


def unlike(module: nn.Module, **parts: type | tuple) -> str | None:
    """Why a part (``attention__query=nn.Linear``: module.attention.query) is not of a class that we know."""
    for name, kind in parts.items():
        path = name.replace("__", ".")
        part = module.get_submodule(path)
        if not isinstance(part, kind):
            names = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            return f"{path} is a {type(part).__name__}, expected a {names}"
        for sub, m in part.named_modules(prefix=path):
            if m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks:
                return f"{sub} has a hook, and would not be called any more"
    return None


# --- weights


def cell_weights(module: nn.Module, layer: int | None = None):
    """(weight_ih, weight_hh, bias_ih, bias_hh) of a cell, or of a layer of an nn.GRU or nn.LSTM; biases or None."""
    suffix = "" if layer is None else f"_l{layer}"
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return tuple(getattr(module, name + suffix, None) for name in names)


def all_weights(module: nn.Module):
    """`cell_weights` of each layer of an nn.GRU or nn.LSTM."""
    return [cell_weights(module, layer) for layer in range(module.num_layers)]


# --- dropout


def draw_masks(steps: int, like: torch.Tensor, *parts):
    """The factors of dropout in a loop, drawn in the loop's order, so that one seed gives the same as the loop.

    Args:
        steps: how many.
        like: a tensor of the dtype and device of what is dropped out.
        parts: (dropout, shape) in the order in which a step calls them: the package's own module, and the shape of what
            it is called with, batch first.

    Returns:
        One tensor a part, with the steps as the second dimension; None where nothing is dropped out.
    """
    parts = [None if _keeps(dropout) else (dropout, like.new_ones(shape)) for dropout, shape in parts]
    drawn = [[] for _ in parts]
    with torch.no_grad():
        for _ in range(steps) if any(parts) else ():
            for part, found in zip(parts, drawn):
                if part is not None:
                    dropout, ones = part
                    found.append(dropout(ones))
    return [torch.stack(found, 1) if found else None for found in drawn]


def _keeps(dropout):
    return isinstance(dropout, nn.Dropout) and not (dropout.training and dropout.p > 0)


def between_layers(rnn: nn.Module) -> nn.Dropout:
    """The dropout of an nn.GRU or nn.LSTM between its layers, as a module."""
    return nn.Dropout(rnn.dropout).train(rnn.training)


def stack_masks(masks):
    """(L-1, B, T, H) of a list of masks between layers; None when there are none, or nothing is dropped out."""
    return torch.stack(masks) if masks and masks[0] is not None else None


def one_before(mask: torch.Tensor | None) -> torch.Tensor | None:
    """(B, T + 1, ...) from (B, T, ...): ones for the step before the first."""
    return None if mask is None else torch.cat([torch.ones_like(mask[:, :1]), mask], 1)


def masked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else x * mask


# --- the loop


def attention_loop(x, state, layers, keys, values, v, w_query, b_query, **parts):
    """`sk.attention_gru`, or `sk.attention_lstm` where the state is a pair, on what packages have.

    Args:
        x: (B, T, I).
        state: (L, B, H), or a pair of them; L may be 1.
        layers: `cell_weights` of each layer, the columns of the first's weight_ih in the order [x | feed].
        keys, values, v, w_query, b_query: as the op has them; dot scores where v is None.
        parts: the keyword arguments of docs/ops.md.

    Returns:
        What the op returns, and the last state as ``state``.
    """
    lstm = isinstance(state, tuple)
    first, *above = layers
    if not above:
        state = tuple(s[0] for s in state) if lstm else state[0]
    op, score = ops.attention_lstm if lstm else ops.attention_gru, "additive" if v is not None else "dot"
    source = keys, values, v, w_query, b_query
    out = op(x, state, *source, *first, layers=tuple(above), score=score, **parts)
    last = (out.h_n, out.c_n) if lstm else out.h_n
    if not above:
        last = tuple(s[None] for s in last) if lstm else last[None]
    return out, last


# --- decoders that feed nothing back: the recurrence first, then one attention with T queries


def recurrence(x, state, layers, masks=()):
    """The layers one after another, as nn.GRU and nn.LSTM run them.

    Args:
        x: (B, T, I).
        state: (L, B, H), or a pair of them for an LSTM.
        layers: `cell_weights` of each layer.
        masks: dropout between layers, (B, T, H) or None each.

    Returns:
        (B, T, H) of the last layer and the last state, as ``state``.
    """
    lstm = isinstance(state, tuple)
    last = []
    for layer, weights in enumerate(layers):
        first = tuple(s[layer] for s in state) if lstm else state[layer]
        x, end = (ops.lstm if lstm else ops.gru)(x, first, *weights)
        last.append(end)
        if layer + 1 < len(layers) and masks:
            x = masked(x, masks[layer])
    return x, tuple(map(torch.stack, zip(*last))) if lstm else torch.stack(last)


def attend(query, keys, values, v=None, mask=None):
    """Context (B, T, D) and weights (B, T, S) of T queries; ``v`` None: dot scores. Rows without a source get zeros."""
    if v is not None:
        return ops.additive_attention(query, keys, values, v, mask=mask)
    scores = query @ keys.transpose(1, 2)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], -torch.inf)
        empty = ~mask.any(1)[:, None, None]
        weights = scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    else:
        weights = scores.softmax(-1)
    return weights @ values, weights


__all__ = [
    "Loop",
    "all_weights",
    "attend",
    "attention_loop",
    "between_layers",
    "cell_weights",
    "draw_masks",
    "masked",
    "one_before",
    "recurrence",
    "restore",
    "stack_masks",
    "swap",
    "unlike",
]
