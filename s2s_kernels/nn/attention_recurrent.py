"""The attention decoder with its parameters: a whole sequence in one call, or one step at a time."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from .attention import AdditiveAttention
from .cells import GRUCell, LSTMCell


class AttentionGRUState(NamedTuple):
    """What one decoding step hands to the next. Every field has the batch first, so that a beam search reorders
    with ``AttentionGRUState(*(field[order] for field in state))``."""

    h: Tensor  # (B, H)
    feed: Tensor  # (B, F), what the next step is fed
    context: Tensor  # (B, N*D), attended with h
    weights: Tensor  # (B, S), with N heads (B, N, S)


class AttentionLSTMState(NamedTuple):
    """As ``AttentionGRUState``, with the LSTM's c."""

    h: Tensor  # (B, H)
    c: Tensor  # (B, H)
    feed: Tensor  # (B, F)
    context: Tensor  # (B, N*D)
    weights: Tensor  # (B, S), with N heads (B, N, S)


class _AttentionRecurrent(nn.Module):
    """c_t = attend(h_t); f_t = c_t or tanh(W_f [h_t ; c_t] + b_f); h_{t+1} = cell([x_t ; f_t], h_t)."""

    _cell_type = None

    def __init__(
        self,
        input_size,
        hidden_size,
        key_size,
        attention_size,
        num_heads=1,
        feed_size=None,
        bias=True,
        *,
        normalize=False,
        device=None,
        dtype=None,
    ):
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.input_size, self.hidden_size, self.key_size = input_size, hidden_size, key_size
        self.attention_size, self.num_heads = attention_size, num_heads
        self.context_size = num_heads * key_size
        self.feed_size = self.context_size if feed_size is None else feed_size
        self.attention = AdditiveAttention(
            hidden_size, key_size, attention_size, num_heads, normalize=normalize, bias=bias, **factory
        )
        self.cell = self._cell_type(input_size + self.feed_size, hidden_size, bias, **factory)
        self.feed_layer = None
        if feed_size is not None:
            self.feed_layer = nn.Linear(hidden_size + self.context_size, feed_size, bias=bias, **factory)

    def reset_parameters(self):
        for module in (self.attention, self.cell, self.feed_layer):
            if module is not None:
                module.reset_parameters()

    def project_keys(self, memory):
        """Keys (B, S, A), with heads (B, S, N, A), of a memory (B, S, key_size); for ``start`` and ``step``."""
        return self.attention.project_keys(memory)

    def _scan(self, op, x, state, memory, keys, lengths, mask, first_feed):
        cell, query, feed = self.cell, self.attention.query_layer, self.feed_layer
        if keys is None:
            keys = self.project_keys(memory)
        return op(
            x,
            state,
            keys,
            memory,
            self.attention.score_vector(),
            query.weight,
            query.bias,
            cell.weight_ih,
            cell.weight_hh,
            cell.bias_ih,
            cell.bias_hh,
            lengths=lengths,
            mask=mask,
            w_feed=None if feed is None else feed.weight,
            b_feed=None if feed is None else feed.bias,
            first_feed=first_feed,
        )

    def beam_search(self, state, memory, embedding, output, **options):
        """Outputs of a model of this decoder, an embedding and an output layer: `s2s_kernels.beam_search`.

            found = decoder.beam_search(h0, memory, embedding, output, bos=1, eos=2, max_length=50, lengths=lengths,
                                        readout="state_context", readout_layer=readout)
            found.ids  # (B, n_best, max_length + 1)

        Args:
            state: h_0 (B, H), for an LSTM (h_0, c_0).
            memory: (B, S, D).
            embedding: nn.Embedding (V, I); output: nn.Linear of the features to V logits.
            keys: what ``project_keys(memory)`` returned; made here when None.
            readout_layer: nn.Linear under the tanh of the features, or None.
            options: those of `s2s_kernels.beam_search`, but for the weights.

        Returns:
            SearchOutput: ids (B, n_best, max_length + 1), lengths and scores (B, n_best), weights.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        return self._search(ops.beam_search, state, memory, embedding, output, **options)

    def greedy_search(self, state, memory, embedding, output, **options):
        """As ``beam_search``, by `s2s_kernels.greedy_search`: no dimension n_best, and none of a beam's options."""
        return self._search(ops.greedy_search, state, memory, embedding, output, **options)

    def _search(self, op, state, memory, embedding, output, *, keys=None, readout_layer=None, **options):
        cell, query, feed = self.cell, self.attention.query_layer, self.feed_layer
        return op(
            state,
            self.project_keys(memory) if keys is None else keys,
            memory,
            self.attention.score_vector(),
            query.weight,
            query.bias,
            cell.weight_ih,
            cell.weight_hh,
            cell.bias_ih,
            cell.bias_hh,
            embedding.weight,
            output.weight,
            output.bias,
            w_feed=None if feed is None else feed.weight,
            b_feed=None if feed is None else feed.bias,
            w_readout=None if readout_layer is None else readout_layer.weight,
            b_readout=None if readout_layer is None else readout_layer.bias,
            **options,
        )

    def _attend(self, h, memory, keys, lengths, mask, feed=None):
        """(feed, context, weights) for the state h; the feed is made from h unless given."""
        context, weights = self.attention(h, memory, keys=keys, lengths=lengths, mask=mask)
        if self.num_heads > 1:
            context = context.flatten(1)
        if feed is None:
            feed = context
            if self.feed_layer is not None:
                feed = torch.tanh(self.feed_layer(torch.cat([h, context], -1)))
        return feed, context, weights


class AttentionGRU(_AttentionRecurrent):
    """An attention decoder with a GRU cell: ``s2s_kernels.attention_gru`` with its parameters.

        c_t = attend(h_t);  f_t = c_t or tanh(W_f [h_t ; c_t] + b_f);  h_{t+1} = gru([x_t ; f_t], h_t)

    The parameters are those of ``attention`` (AdditiveAttention), ``cell`` (GRUCell over [x ; feed]) and, with a
    ``feed_size``, ``feed_layer`` (Linear over [h ; c]), so each loads from the state_dict of such a layer.

    Args:
        input_size: I, width of the decoder's input (the embedding).
        hidden_size: H.
        key_size: D, width of the memory; it is also what the contexts are made of.
        attention_size: A.
        num_heads: N; contexts are N*D wide.
        feed_size: F, width of Luong's attentional vector, which is then what each step is fed. None: the context.
        bias: whether the query projection, the cell and the feed layer have biases.
        normalize: weight normalisation of the score vector, see ``AdditiveAttention``.
    """

    _cell_type = GRUCell

    def forward(self, x, h0, memory, *, lengths=None, mask=None, first_feed=None, keys=None):
        """The decoder over T known inputs (teacher forcing), differentiable in everything.

        Args:
            x: (B, T, I).
            h0: (B, H).
            memory: (B, S, D).
            lengths: (B,) integer, how many positions of the memory are valid.
            mask: (B, S) bool, True where a position may be attended; given with ``lengths``, both must hold.
            first_feed: (B, F), the feed of the first step; made from h0 when None.
            keys: what ``project_keys(memory)`` returned; made here when None.

        Returns:
            AttentionGRUOutput: states (B, T, H) h_1..h_T; contexts (B, T+1, N*D) c_0..c_T; weights (B, T+1, S),
            with heads (B, T+1, N, S); feeds (B, T+1, F) f_0..f_T (contexts itself without a feed_size); h_n (B, H).

        Raises:
            ValueError, TypeError: a wrong shape, dtype or device, named in the message.
        """
        return self._scan(ops.attention_gru, x, h0, memory, keys, lengths, mask, first_feed)

    def start(self, h0, memory, *, lengths=None, mask=None, first_feed=None, keys=None):
        """The AttentionGRUState before the first ``step``; arguments as in ``forward``."""
        return AttentionGRUState(h0, *self._attend(h0, memory, keys, lengths, mask, first_feed))

    def step(self, x, state, memory, *, lengths=None, mask=None, keys=None):
        """One step of decoding; T of them equal one ``forward``.

            keys = decoder.project_keys(memory)
            state = decoder.start(h0, memory, keys=keys, lengths=lengths)
            while decoding:
                state = decoder.step(embedding(token), state, memory, keys=keys, lengths=lengths)
                token = readout(state.h, state.context)

        Args:
            x: (B, I), one input a row.
            state: from ``start`` or the previous ``step``.
            memory, lengths, mask, keys: as in ``forward``; give ``keys`` so that they are not made every step.

        Returns:
            AttentionGRUState: h_{t+1}, and the feed, context and weights made from it.
        """
        h = self.cell(torch.cat([x, state.feed], -1), state.h)
        return AttentionGRUState(h, *self._attend(h, memory, keys, lengths, mask))


class AttentionLSTM(_AttentionRecurrent):
    """An attention decoder with an LSTM cell: ``s2s_kernels.attention_lstm`` with its parameters.

    All as ``AttentionGRU``, except that a state is (h, c), the query is made from h, and outputs have ``c_n``.
    """

    _cell_type = LSTMCell

    def forward(self, x, state, memory, *, lengths=None, mask=None, first_feed=None, keys=None):
        """As ``AttentionGRU.forward`` with state = (h_0, c_0), each (B, H). Returns an AttentionLSTMOutput."""
        return self._scan(ops.attention_lstm, x, state, memory, keys, lengths, mask, first_feed)

    def start(self, state, memory, *, lengths=None, mask=None, first_feed=None, keys=None):
        """The AttentionLSTMState before the first ``step``, from state = (h_0, c_0)."""
        h, c = state
        return AttentionLSTMState(h, c, *self._attend(h, memory, keys, lengths, mask, first_feed))

    def step(self, x, state, memory, *, lengths=None, mask=None, keys=None):
        """As ``AttentionGRU.step``, with an AttentionLSTMState."""
        h, c = self.cell(torch.cat([x, state.feed], -1), (state.h, state.c))
        return AttentionLSTMState(h, c, *self._attend(h, memory, keys, lengths, mask))
