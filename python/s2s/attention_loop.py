"""The attention decoder as a loop of single steps, for what the fused scan cannot do."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .attention import LocalAttention


class LoopGRUState(NamedTuple):
    """What one step hands to the next; every field has the batch first."""

    h: Tensor  # (B, H)
    feed: Tensor  # (B, F)
    context: Tensor  # (B, N*D)
    weights: Tensor  # (B, S), with heads (B, N, S)
    step: Tensor  # (B,) integer, how many steps there were


class LoopLSTMState(NamedTuple):
    h: Tensor
    c: Tensor  # (B, H)
    feed: Tensor
    context: Tensor
    weights: Tensor
    step: Tensor


class LoopOutput(NamedTuple):
    states: Tensor  # (B, T, H), h_1 .. h_T
    contexts: Tensor  # (B, T+1, N*D), c_0 .. c_T
    weights: Tensor  # (B, T+1, S), with heads (B, T+1, N, S)
    feeds: Tensor  # (B, T+1, F)
    state: NamedTuple  # the last


class AttentionLoop(nn.Module):
    """``sk.nn.AttentionGRU`` and ``AttentionLSTM`` with any attention and any cell; same parameter names and calls.

        c_t = attend(h_t);  f_t = c_t or tanh(W_f [h_t ; c_t] + b_f);  h_{t+1} = cell([x_t ; f_t], h_t)

    Args:
        cell: a GRUCell or LSTMCell over [x ; feed].
        attention: called as ``sk.nn.AdditiveAttention``.
        context_size: N*D.
        feed_size: F, width of Luong's attentional vector; None: the context is fed.
        order: "before" or "after"; says which step of a local window h_t belongs to.
    """

    def __init__(self, cell, attention, context_size, feed_size=None, order="before"):
        super().__init__()
        self.cell, self.attention, self.order = cell, attention, order
        self.feed_size = context_size if feed_size is None else feed_size
        self.feed_layer = None if feed_size is None else nn.Linear(cell.hidden_size + context_size, feed_size)

    def project_keys(self, memory):
        return self.attention.project_keys(memory)

    def _state(self, states, step, memory, keys, lengths, feed=None):
        h, options = states[0], {}
        if isinstance(self.attention, LocalAttention):
            # h_t chooses output t if it attends before the cell, output t - 1 if after it.
            options["position"] = step if self.order == "before" else (step - 1).clamp(min=0)
        context, weights = self.attention(h, None, memory, keys=keys, lengths=lengths, **options)
        context = context.flatten(1)
        if feed is None:
            feed = context
            if self.feed_layer is not None:
                feed = torch.tanh(self.feed_layer(torch.cat([h, context], -1)))
        kind = LoopGRUState if len(states) == 1 else LoopLSTMState
        return kind(*states, feed, context, weights, step)

    def start(self, state, memory, *, keys, lengths=None, first_feed=None):
        """The state before the first ``step``, from h_0 or (h_0, c_0)."""
        states = state if isinstance(state, tuple) else (state,)
        step = torch.zeros(len(memory), dtype=torch.long, device=memory.device)
        return self._state(states, step, memory, keys, lengths, first_feed)

    def step(self, x, state, memory, *, keys, lengths=None):
        """The state after the input x (B, I)."""
        x = torch.cat([x, state.feed], -1)
        lstm = isinstance(state, LoopLSTMState)
        states = self.cell(x, (state.h, state.c)) if lstm else (self.cell(x, state.h),)
        return self._state(states, state.step + 1, memory, keys, lengths)

    def forward(self, x, state, memory, *, keys, lengths=None, first_feed=None):
        """x (B, T, I) -> LoopOutput."""
        states = [self.start(state, memory, keys=keys, lengths=lengths, first_feed=first_feed)]
        for x_t in x.unbind(1):
            states.append(self.step(x_t, states[-1], memory, keys=keys, lengths=lengths))
        columns = {
            name: torch.stack([getattr(state, name) for state in states], 1)
            for name in ("h", "context", "weights", "feed")
        }
        return LoopOutput(columns["h"][:, 1:], columns["context"], columns["weights"], columns["feed"], states[-1])
