"""One step of an attention decoder in plain PyTorch, as the searches take it."""

import torch
from torch.nn.functional import linear

from .additive_attention import valid_positions, zero_invalid
from .decoder import Source, attend, before_the_first, find_feed, find_history, find_query
from .gru import step as gru_step
from .lstm import step as lstm_step


class SearchDecoder:
    """The decoder of ``ops.beam_search``, with ``copies`` rows for each row of the batch. A dot score is one without
    ``v``."""

    def __init__(
        self, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh,
        embedding, w_output, b_output=None, *, copies=1, lengths=None, mask=None, order="before",
        w_feed=None, b_feed=None, first_feed=None, readout="state", w_readout=None, b_readout=None, layers=(),
        transition=None, query="h", score="additive", scale=1.0, b_score=None, normalization="softmax", w_location=None,
        w_dense=None, location="previous", first_weights=None, feed="tanh",
    ):  # fmt: skip
        valid = valid_positions(keys.shape[1], lengths, mask)
        keys, values = zero_invalid(keys, valid), zero_invalid(values, valid)
        self.valid = torch.ones(keys.shape[:2], dtype=torch.bool, device=keys.device) if valid is None else valid
        self.state = list(zip(*state, strict=True)) if layers else [tuple(state)]
        self.cells, self.transition = [(weight_ih, weight_hh, bias_ih, bias_hh), *layers], transition
        self.cell = gru_step if len(state) == 1 else lstm_step
        self.weights, self.location = before_the_first(keys, valid, first_weights), location
        self.query, self.feed_layer = (query, w_query, b_query), (feed, w_feed, b_feed)
        self.readout_layer, self.output, self.embedding = (w_readout, b_readout), (w_output, b_output), embedding
        self.before, self.readout, self.fed = order == "before", readout, weight_ih.shape[1] > embedding.shape[1]
        self.feed, self.keys = first_feed, keys
        rows = torch.arange(len(keys), device=keys.device).repeat_interleave(copies)
        self.take(rows)
        self.keys, values, self.valid = keys[rows], values[rows], self.valid[rows]
        self.source = Source(self.keys, values, self.valid, v, scale, b_score, normalization, w_location, w_dense)
        if not self.before and self.fed and self.feed is None:
            self.feed = self.make_feed(self.attend())

    def take(self, rows):
        """State, feed and earlier weights of these rows."""
        self.state = [tuple(x[rows] for x in layer) for layer in self.state]
        self.feed = None if self.feed is None else self.feed[rows]
        self.weights = tuple(x[rows] for x in self.weights)

    def attend(self, counted=True):
        """The context (R, N * D) of the state. counted: whether later steps know of where it looked."""
        last, total, aligned = self.weights
        history = None if self.source.w_location is None else find_history(last, total, self.location)
        query = find_query(self.state[-1], *self.query, self.keys)
        context, weights = attend(self.source, query, history, aligned, None)
        # (A mean over no heads would be 0/0.)
        self.looked = weights if weights.dim() == 2 else weights.sum(1) / max(1, weights.shape[1])
        if counted:
            self.weights = self.looked, total + self.looked, self.looked
        return context.flatten(1)

    def make_feed(self, context):
        return find_feed(self.state[-1][0], context, *self.feed_layer)

    def step(self, tokens):
        """tokens (R,) -> log probabilities (R, V) of the next token and weights (R, S)."""
        x, feed = self.embedding[tokens], self.feed
        if self.transition is not None:
            self.run_cell(0, x, self.cells[0])
            context = self.attend()
            h = self.run_cell(0, self.make_feed(context), self.transition)
            return self.outputs(h, context, x)
        if self.before:
            context = self.attend(counted=feed is None)  # a given one is that of the first step
            feed, self.feed = self.make_feed(context) if feed is None else feed, None
        inputs = torch.cat([x, feed], -1) if self.fed else x
        for i, weights in enumerate(self.cells):
            inputs = h = self.run_cell(i, inputs, weights)
        if not self.before:
            context = self.attend()
            self.feed = self.make_feed(context)
        return self.outputs(h, context, x)

    def run_cell(self, i, inputs, weights):
        """The new h of layer i."""
        w_input, w_hidden, b_input, b_hidden = weights
        of_state = linear(self.state[i][0], w_hidden, b_hidden)
        self.state[i] = self.cell(linear(inputs, w_input, b_input), of_state, self.state[i])
        return self.state[i][0]

    def outputs(self, h, context, x):
        parts = {"state": [h], "state_context": [h, context], "state_context_input": [h, context, x]}
        features = self.feed if self.readout == "feed" else torch.cat(parts[self.readout], -1)
        if self.readout_layer[0] is not None:
            features = torch.tanh(linear(features, *self.readout_layer))
        wide = torch.float64 if h.dtype == torch.float64 else torch.float32
        return torch.log_softmax(linear(features, *self.output), -1, dtype=wide), self.looked.to(wide)
