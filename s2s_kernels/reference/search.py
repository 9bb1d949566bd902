"""One step of an attention decoder in plain PyTorch, as the searches take it."""

import torch
from torch.nn.functional import linear

from .additive_attention import attend, valid_positions, zero_invalid
from .gru_step import gru_step
from .lstm_step import lstm_step


class SearchDecoder:
    """The decoder of ``ops.beam_search``, with ``copies`` rows for each row of the batch."""

    def __init__(
        self, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
        embedding, w_output, b_output=None, *, copies=1, lengths=None, mask=None, order="before",
        w_feed=None, b_feed=None, first_feed=None, readout="state", w_readout=None, b_readout=None,
    ):  # fmt: skip
        valid = valid_positions(keys.shape[1], lengths, mask)
        keys, values = zero_invalid(keys, valid), zero_invalid(values, valid)
        self.state, self.keys, self.values, self.feed = state, keys, values, first_feed
        self.v, self.query, self.embedding = v, (w_query, b_query), embedding
        self.input, self.hidden = (weight_ih, bias_ih), (weight_hh, bias_hh)
        self.feed_layer, self.readout_layer, self.output = (
            (w_feed, b_feed),
            (w_readout, b_readout),
            (w_output, b_output),
        )
        self.before, self.readout, self.fed = order == "before", readout, weight_ih.shape[1] > embedding.shape[1]
        self.valid = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device) if valid is None else valid
        self.take(torch.arange(len(keys), device=keys.device).repeat_interleave(copies))
        self.keys, self.values = (x.repeat_interleave(copies, 0) for x in (self.keys, self.values))
        self.valid = self.valid.repeat_interleave(copies, 0)
        if not self.before and self.feed is None:
            self.feed = self.make_feed(self.state[0], self.attend(self.state[0])[0])

    def take(self, rows):
        """State and feed of these rows."""
        self.state = tuple(x[rows] for x in self.state)
        self.feed = None if self.feed is None else self.feed[rows]

    def attend(self, h):
        """context (R, N * D) and weights (R, S), the mean over the heads."""
        query = linear(h, *self.query)
        if self.v.dim() == 2:
            query = query.unflatten(-1, self.v.shape)
        context, weights = attend(query, self.keys, self.values, self.v, self.valid)
        # (A mean over no heads would be 0/0.)
        return context.flatten(1), weights if weights.dim() == 2 else weights.sum(1) / max(1, weights.shape[1])

    def make_feed(self, h, context):
        if self.feed_layer[0] is None:
            return context
        return torch.tanh(linear(torch.cat([h, context], -1), *self.feed_layer))

    def step(self, tokens):
        """tokens (R,) -> log probabilities (R, V) of the next token and weights (R, S)."""
        x, feed = self.embedding[tokens], self.feed
        if self.before:
            context, weights = self.attend(self.state[0])
            feed, self.feed = context if feed is None else feed, None  # a given one is that of the first step
        gates_x = linear(torch.cat([x, feed], -1) if self.fed else x, *self.input)
        gates_h = linear(self.state[0], *self.hidden)
        if len(self.state) == 1:
            self.state = (gru_step(gates_x, gates_h, self.state[0]),)
        else:
            self.state = lstm_step(gates_x, gates_h, self.state[1])
        h = self.state[0]
        if not self.before:
            context, weights = self.attend(h)
            self.feed = self.make_feed(h, context)
        parts = {"state": [h], "state_context": [h, context], "state_context_input": [h, context, x]}
        features = self.feed if self.readout == "feed" else torch.cat(parts[self.readout], -1)
        if self.readout_layer[0] is not None:
            features = torch.tanh(linear(features, *self.readout_layer))
        wide = torch.float64 if h.dtype == torch.float64 else torch.float32
        return torch.log_softmax(linear(features, *self.output), -1, dtype=wide), weights.to(wide)
