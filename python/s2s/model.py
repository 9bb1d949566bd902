"""Encoder, attention decoder and loss, made of ``s2s_kernels.nn``.

The decoder runs in two ways that agree: ``forward`` over known targets, one op for the whole sequence, and
``step`` one token at a time for search.

Shapes: B batch, S source, T target, N heads; widths: E embedding, M memory, H state, A attention, R features.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import s2s_kernels as sk

from .vocab import PAD


class Memory(NamedTuple):
    """An encoded source. All fields have the batch first, so that search can take rows of them."""

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A), with heads (B, S, N, A)
    lengths: Tensor  # (B,)

    def rows(self, index):
        return Memory(*(field[index] for field in self))


class Encoder(nn.Module):
    """Embedding and a GRU or LSTM, in one direction or both."""

    def __init__(self, vocab_size, config):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(config.dropout)
        self.rnn = (sk.nn.GRU if config.cell == "gru" else sk.nn.LSTM)(
            config.embedding_size,
            config.encoder_size,
            num_layers=config.encoder_layers,
            batch_first=True,
            dropout=config.dropout if config.encoder_layers > 1 else 0.0,
            bidirectional=config.bidirectional,
        )

    def forward(self, source, lengths):
        """source (B, S) -> outputs (B, S, M), zero past each length, and the last layer's last states,
        a tuple of (B, M): (h,) for a GRU, (h, c) for an LSTM."""
        outputs, states = self.rnn(self.dropout(self.embedding(source)), lengths=lengths)
        directions = 2 if self.rnn.bidirectional else 1
        states = states if isinstance(states, tuple) else (states,)
        return outputs, tuple(torch.cat(tuple(state[-directions:]), -1) for state in states)


class Bridge(nn.Module):
    """The decoder's first state, a tuple of (B, H), from the encoder's last, a tuple of (B, M)."""

    def __init__(self, config):
        super().__init__()
        self.kind, self.hidden_size = config.initial_state, config.hidden_size
        if self.kind == "bridge":
            count = 1 if config.cell == "gru" else 2
            self.layers = nn.ModuleList(nn.Linear(config.memory_size, config.hidden_size) for _ in range(count))

    def forward(self, states):
        if self.kind == "bridge":
            return tuple(torch.tanh(layer(state)) for layer, state in zip(self.layers, states, strict=True))
        if self.kind == "zeros":
            return tuple(state.new_zeros(state.shape[0], self.hidden_size) for state in states)
        return states


class Decoder(nn.Module):
    """The recurrence with its attention and readout; ``config.feed`` decides which ops that takes.

    With feeding the recurrence runs through the attention and is one scan (``sk.nn.AttentionGRU`` or LSTM);
    without, it is a plain GRU or LSTM and then one batched attention with T queries.
    """

    def __init__(self, config):
        super().__init__()
        self.order, self.feed, self.readout = config.order, config.feed, config.readout
        self.zeros_first = config.first_feed_zeros
        gru = config.cell == "gru"
        if self.feed == "none":
            recurrent = sk.nn.GRU if gru else sk.nn.LSTM
            self.rnn = recurrent(config.embedding_size, config.hidden_size, batch_first=True)
            self.attention = sk.nn.AdditiveAttention(
                config.hidden_size,
                config.memory_size,
                config.attention_size,
                config.attention_heads,
                normalize=config.normalize_attention,
            )
        else:
            self.scan = (sk.nn.AttentionGRU if gru else sk.nn.AttentionLSTM)(
                config.embedding_size,
                config.hidden_size,
                config.memory_size,
                config.attention_size,
                num_heads=config.attention_heads,
                feed_size=config.readout_size if self.feed == "attentional" else None,
                normalize=config.normalize_attention,
            )
        if self.readout == "tanh" and self.feed != "attentional":
            self.readout_layer = nn.Linear(config.hidden_size + config.context_size, config.readout_size)

    def project_keys(self, memory):
        return (self.attention if self.feed == "none" else self.scan).project_keys(memory)

    def _features(self, states, contexts, inputs, feeds):
        """What the output layer reads, (..., R), from tensors that agree in all but the last dimension."""
        if self.readout == "state":
            return states
        if self.feed == "attentional":
            return feeds  # tanh(W [s; c]) was made by the scan
        if self.readout == "state_context_input":
            return torch.cat([states, contexts, inputs], -1)
        both = torch.cat([states, contexts], -1)
        return both if self.readout == "state_context" else torch.tanh(self.readout_layer(both))

    def _scan_state(self, states):
        return states[0] if len(states) == 1 else states

    def _first_feed(self, states):
        return states[0].new_zeros(states[0].shape[0], self.scan.feed_size) if self.zeros_first else None

    def _attend(self, h, memory):
        """context (B, T, N*M) and weights for queries h (B, T, H)."""
        context, weights = self.attention(h, memory.values, keys=memory.keys, lengths=memory.lengths)
        return (context if context.dim() == 3 else context.flatten(2)), weights

    def forward(self, inputs, states, memory):
        """inputs (B, T, E) -> features (B, T, R) and weights (B, T, S), with heads (B, T, N, S)."""
        if self.feed == "none":
            h, _ = self.rnn(inputs, self._rnn_state(states))
            contexts, weights = self._attend(h, memory)
            return self._features(h, contexts, inputs, None), weights
        out = self.scan(
            inputs,
            self._scan_state(states),
            memory.values,
            keys=memory.keys,
            lengths=memory.lengths,
            first_feed=self._first_feed(states),
        )
        read = slice(None, -1) if self.order == "before" else slice(1, None)
        return (
            self._features(out.states, out.contexts[:, read], inputs, out.feeds[:, 1:]),
            out.weights[:, read],
        )

    def start(self, states, memory):
        """The state before the first ``step``: a tuple of tensors with the batch first."""
        if self.feed == "none":
            return states
        state = self.scan.start(
            self._scan_state(states),
            memory.values,
            keys=memory.keys,
            lengths=memory.lengths,
            first_feed=self._first_feed(states),
        )
        return tuple(state)

    def step(self, inputs, state, memory):
        """inputs (B, E), state of start() or step() -> features (B, R), weights (B, [N,] S), new state."""
        if self.feed == "none":
            h, new = self.rnn(inputs[:, None], self._rnn_state(state))
            contexts, weights = self._attend(h, memory)
            features = self._features(h, contexts, inputs[:, None], None)
            new = new if isinstance(new, tuple) else (new,)
            return features[:, 0], weights[:, 0], tuple(s.squeeze(0) for s in new)
        kind = sk.nn.AttentionGRUState if len(state) == 4 else sk.nn.AttentionLSTMState
        old = kind(*state)
        new = self.scan.step(inputs, old, memory.values, keys=memory.keys, lengths=memory.lengths)
        read = old if self.order == "before" else new
        return self._features(new.h, read.context, inputs, new.feed), read.weights, tuple(new)

    def _rnn_state(self, states):
        states = tuple(state[None].contiguous() for state in states)
        return states[0] if len(states) == 1 else states


class Seq2Seq(nn.Module):
    """The whole model.

    Args:
        config: a Config.
        source_size, target_size: sizes of the two vocabularies.
    """

    def __init__(self, config, source_size, target_size):
        super().__init__()
        self.config = config
        self.encoder = Encoder(source_size, config)
        self.bridge = Bridge(config)
        self.embedding = nn.Embedding(target_size, config.embedding_size, padding_idx=PAD)
        self.decoder = Decoder(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.features_size, target_size)
        if config.shared_vocab:
            self.encoder.embedding = self.embedding
        self._initialise()
        if config.tied_embeddings:
            self.output.weight = self.embedding.weight

    def _initialise(self):
        # nn.Embedding's N(0, 1) saturates the gates it feeds; this is the scale of the other inputs.
        for embedding in (self.encoder.embedding, self.embedding):
            nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
            with torch.no_grad():
                embedding.weight[PAD].zero_()

    def encode(self, source, lengths):
        """source (B, S), lengths (B,) -> Memory and the decoder's first state, a tuple of (B, H)."""
        values, states = self.encoder(source, lengths)
        values = self.dropout(values)
        return Memory(values, self.decoder.project_keys(values), lengths), self.bridge(states)

    def forward(self, source, lengths, inputs):
        """source (B, S), lengths (B,), known inputs (B, T) -> features (B, T, R), weights (B, T, [N,] S)."""
        memory, states = self.encode(source, lengths)
        features, weights = self.decoder(self.dropout(self.embedding(inputs)), states, memory)
        return self.dropout(features), weights

    def loss(self, batch, label_smoothing=0.0):
        """Sum over the batch's target tokens of the negative log likelihood; ``batch.tokens`` of them."""
        features, _ = self(batch.source, batch.source_lengths, batch.inputs)
        # Padding never reaches the output layer, the largest product of the step.
        real = (batch.outputs != PAD).flatten().nonzero().squeeze(-1)
        logits = self.output(features.flatten(0, 1).index_select(0, real))
        targets = batch.outputs.flatten().index_select(0, real)
        return cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="sum")

    def start(self, source, lengths):
        """source (B, S), lengths (B,) -> Memory and the decoding state for ``step``."""
        memory, states = self.encode(source, lengths)
        return memory, self.decoder.start(states, memory)

    def step(self, tokens, state, memory):
        """tokens (B,) -> log probabilities (B, V) of the next token, weights (B, [N,] S), next state."""
        features, weights, state = self.decoder.step(self.dropout(self.embedding(tokens)), state, memory)
        return torch.log_softmax(self.output(self.dropout(features)).float(), -1), weights, state
