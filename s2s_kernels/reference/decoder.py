"""The attention decoder: one loop over time with the parts that docs/ops.md names, each left out where it is not given.

A state is a tuple whose first tensor is h. ``step(gates_x, gates_h, state)`` returns the next state,
``attend(source, query, history, previous, drop)`` a context (B, [N,] D) and weights (B, [N,] S).
"""

from typing import Any, NamedTuple

import torch
from torch.nn.functional import conv1d, linear, logsigmoid, pad

from .additive_attention import normalize, valid_positions, zero_invalid
from .recurrent import stack_steps


class Source(NamedTuple):
    """What a decoder attends to, and how: ``zero_invalid`` has been through keys and values."""

    keys: Any
    values: Any
    valid: Any
    v: Any
    scale: float
    b_score: Any
    normalization: str
    w_location: Any
    w_dense: Any


def located(source, history):
    """The keys with what the convolution makes of the history (B, C, S)."""
    if history is None or not source.keys.numel():  # of nothing there is no convolution
        return source.keys
    found = conv1d(history, source.w_location, padding=source.w_location.shape[-1] // 2).transpose(1, 2).contiguous()
    return source.keys + (found if source.w_dense is None else linear(found, source.w_dense))


def attend(source, query, history, previous, drop):
    """One step of attention. history: (B, C, S) or None; previous: the weights before, of "forward" alone."""
    keys, n = located(source, history), "n" if query.dim() == 3 else ""
    if source.v is None:
        scores = torch.einsum(f"b{n}a,bs{n}a->b{n}s", query, keys)
    else:
        scores = torch.einsum(f"bs{n}a,{n}a->b{n}s", torch.tanh(query.unsqueeze(1) + keys), source.v)
    if source.b_score is not None:
        scores = scores + source.b_score[:, None]
    scores = float(source.scale) * scores
    if source.normalization == "sigmoid":
        scores = logsigmoid(scores)  # whose softmax is sigmoid(e) over its sum, without 0/0
    weights = normalize(scores, source.valid)
    if source.normalization == "forward":
        weights = move_forward(previous, weights)
    own = n if source.values.dim() == 4 else ""  # values of each head's own
    return torch.einsum(f"b{n}s,bs{own}d->b{n}d", dropped(weights, drop), source.values), weights


def move_forward(previous, weights):
    """(stay + move + 1e-8) * weights over its sum, each a half of the weights before; in 16 bits 1e-8 would be 0."""
    wide = torch.promote_types(weights.dtype, torch.float32)
    moved = pad(previous, (1, 0))[:, : previous.shape[1]]
    product = (0.5 * previous.to(wide) + 0.5 * moved.to(wide) + 1e-8) * weights.to(wide)
    total = product.sum(1, keepdim=True)
    return (product / total.masked_fill(total == 0, 1)).to(weights.dtype)  # zeros where nothing may be attended


def before_the_first(keys, valid, first_weights):
    """The weights before the first and the sum of all so far, which the location reads, and what "forward" starts
    from."""
    last = keys.new_zeros(keys.shape[:2]) if first_weights is None else zero_invalid(first_weights, valid)
    first = torch.arange(keys.shape[1], device=keys.device) == 0
    return last, last, first.to(keys.dtype).expand(keys.shape[:2])


def find_history(last, total, location):
    return torch.stack({"previous": [last], "cumulative": [total], "both": [last, total]}[location], 1)


def find_query(state, query, w_query, b_query, keys, drop=None):
    """Of the top layer's state, as ``keys`` want it."""
    q = dropped(torch.cat([state[1], state[0]], -1) if query == "c_h" else state[0], drop)
    q = q if w_query is None else linear(q, w_query, b_query)
    return q.unflatten(-1, keys.shape[2:]) if keys.dim() == 4 else q


def find_feed(h, context, feed, w_feed, b_feed, drop=None):
    if w_feed is None:
        return context
    fed = linear(dropped(h if feed == "gate" else torch.cat([h, context], -1), drop), w_feed, b_feed)
    return {"linear": lambda: fed, "tanh": fed.tanh, "gate": lambda: fed.sigmoid() * context}[feed]()


def carry(new, old, drop, zone):
    """What a cell's new state becomes under dropout and zoneout."""
    new = new if drop is None else new * drop
    return new if zone is None else zone * old + (1 - zone) * new


def at(mask, t, layer=None):
    """``mask`` at step t, and of a layer where each has its own."""
    if mask is None:
        return None
    return mask[:, t] if layer is None or mask.dim() == 3 else mask[layer, :, t]


def dropped(x, mask):
    return x if mask is None else x * mask


def run_decoder(
    step, x, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih=None, bias_hh=None,
    *, attend=attend, lengths=None, mask=None, w_feed=None, b_feed=None, first_feed=None, layers=(), query="h",
    score="additive", scale=1.0, b_score=None, normalization="softmax", w_location=None, w_dense=None,
    location="previous", transition=None,
    first_weights=None, detach_location=False, feed="tanh", drop_query=None, drop_weights=None, drop_attended=None,
    drop_fed=None, drop_layers=None, drop_h=None, drop_c=None, zone_h=None, zone_c=None,
):  # fmt: skip
    """Returns states, contexts, weights, feeds and the last state. A dot score is one without ``v``.

    With a ``transition`` the state that asks is what the first cell made of x alone; the second is fed then."""
    valid = valid_positions(keys.shape[1], lengths, mask)
    keys, values = zero_invalid(keys, valid), zero_invalid(values, valid)
    if drop_weights is not None and valid is not None:
        at_source = valid[:, None, None] if drop_weights.dim() == 4 else valid[:, None]
        drop_weights = torch.where(at_source, drop_weights, 0)
    source = Source(keys, values, valid, v, scale, b_score, normalization, w_location, w_dense)
    cells = [(weight_ih, weight_hh, bias_ih, bias_hh), *layers]
    state = list(zip(*state, strict=True)) if layers else [tuple(state)]
    carried = ((drop_h, zone_h), (drop_c, zone_c))
    last, total, aligned = before_the_first(keys, valid, first_weights)

    all_states, all_contexts, all_weights, all_feeds = [], [], [], []
    for t in range(x.shape[1] + 1):
        asked = find_query(state[-1], query, w_query, b_query, keys, at(drop_query, t))
        history = None if w_location is None else find_history(last, total, location)
        history = history.detach() if detach_location and history is not None else history
        context, weights = attend(source, asked, history, aligned, at(drop_weights, t))
        context = context.flatten(1)
        fed = find_feed(state[-1][0], context, feed, w_feed, b_feed, at(drop_attended, t))
        if t == 0 and (first_feed is not None or transition is not None):
            # The decoder attends after its cell: what h_0 looks at is no part of it.
            fed = fed if first_feed is None else first_feed
        else:
            last, total, aligned = weights, total + weights if w_location is not None else total, weights
        all_contexts.append(context)
        all_weights.append(weights)
        all_feeds.append(fed)
        if transition is not None and t:
            w_input, w_hidden, b_input, b_hidden = transition
            inputs = dropped(fed, at(drop_fed, t - 1))
            state[0] = step(linear(inputs, w_input, b_input), linear(state[0][0], w_hidden, b_hidden), state[0])
            all_states.append(state[0][0])
        if t == x.shape[1]:
            break
        inputs = x[:, t] if transition is not None else torch.cat([x[:, t], dropped(fed, at(drop_fed, t))], -1)
        for i, (w_input, w_hidden, b_input, b_hidden) in enumerate(cells):
            new = step(linear(inputs, w_input, b_input), linear(state[i][0], w_hidden, b_hidden), state[i])
            state[i] = tuple(
                carry(a, b, at(drop, t, i), at(zone, t, i)) for a, b, (drop, zone) in zip(new, state[i], carried)
            )
            inputs = dropped(state[i][0], at(drop_layers, t, i) if i + 1 < len(cells) else None)
        if transition is None:
            all_states.append(state[-1][0])

    top = state[-1][0]
    contexts = torch.stack(all_contexts, 1)
    # Without w_feed what was fed is the contexts themselves (but for a first_feed, which is the caller's).
    feeds = contexts if w_feed is None else torch.stack(all_feeds, 1)
    state = [torch.stack(parts) for parts in zip(*state, strict=True)] if layers else state[0]
    return stack_steps(all_states, top), contexts, torch.stack(all_weights, 1), feeds, state
