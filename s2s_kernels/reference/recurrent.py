"""The loops over time that the GRU and the LSTM share: the plain sequence and the attention decoder.

A state is a tuple whose first tensor is h. ``step(gates_x, gates_h, state)`` returns the next state.
"""

import torch
from torch.nn.functional import linear

from .additive_attention import attend, valid_positions, zero_invalid


def stack_steps(tensors, like):
    """(B, T, H) of T tensors shaped as ``like``; T may be 0."""
    return torch.stack(tensors, 1) if tensors else like.unsqueeze(1)[:, :0]


def run_sequence(
    step, x, state, weight_ih, weight_hh, bias_ih, bias_hh, lengths, reverse, resets, reset_states, shown=1
):  # fmt: skip
    """Returns a list of the first ``shown`` tensors of the states, (B, T, H), zeros past each row's length; and each
    row's last valid state.

    reset_states: a tuple of (B, T, H), or None for zeros.
    """
    steps = range(x.shape[1])
    valid = valid_positions(len(steps), lengths, None)
    if resets is not None and valid is not None:
        resets = resets & valid
    gates_x = linear(zero_invalid(x, valid), weight_ih, bias_ih)
    states = [state] * len(steps)
    for t in reversed(steps) if reverse else steps:
        if resets is not None:
            begin = [0] * len(state) if reset_states is None else [s[:, t] for s in reset_states]
            state = tuple(torch.where(resets[:, t, None], a, b) for a, b in zip(begin, state, strict=True))
        new = step(gates_x[:, t], linear(state[0], weight_hh, bias_hh), state)
        states[t] = new
        if valid is not None:
            new = tuple(torch.where(valid[:, t, None], a, b) for a, b in zip(new, state, strict=True))
        state = new
    return [zero_invalid(stack_steps([s[i] for s in states], state[i]), valid) for i in range(shown)], state


def run_attention(
    step, x, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
    lengths, mask, w_feed, b_feed, first_feed,
):  # fmt: skip
    """c_t = attend(h_t); f_t = c_t or tanh(w_feed [h_t ; c_t] + b_feed); h_{t+1} = cell([x_t ; f_t], h_t).

    Returns states, contexts, weights, feeds and the last state.
    """
    valid = valid_positions(keys.shape[1], lengths, mask)
    keys, values = zero_invalid(keys, valid), zero_invalid(values, valid)

    def attend_and_feed(h):
        query = linear(h, w_query, b_query)
        if v.dim() == 2:
            query = query.unflatten(-1, v.shape)
        context, weights = attend(query, keys, values, v, valid)
        context = context.flatten(1)
        if w_feed is None:
            return context, weights, context
        return context, weights, torch.tanh(linear(torch.cat([h, context], -1), w_feed, b_feed))

    context, weights, feed = attend_and_feed(state[0])
    if first_feed is not None:
        feed = first_feed
    states, all_contexts, all_weights, all_feeds = [], [context], [weights], [feed]
    for x_t in x.unbind(1):
        gates_x = linear(torch.cat([x_t, feed], -1), weight_ih, bias_ih)
        state = step(gates_x, linear(state[0], weight_hh, bias_hh), state)
        context, weights, feed = attend_and_feed(state[0])
        states.append(state[0])
        all_contexts.append(context)
        all_weights.append(weights)
        all_feeds.append(feed)
    contexts = torch.stack(all_contexts, 1)
    # Without w_feed what was fed is the contexts themselves (but for a first_feed, which is the caller's).
    feeds = contexts if w_feed is None else torch.stack(all_feeds, 1)
    return stack_steps(states, state[0]), contexts, torch.stack(all_weights, 1), feeds, state
