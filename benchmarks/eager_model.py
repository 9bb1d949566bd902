"""The encoder-decoder of the end-to-end benchmarks in eager PyTorch, with the parameters of ``s2s.model.Seq2Seq``.

Its names are the same, so that one state_dict fits both. nn.GRU encodes (cuDNN on a GPU), the decoder is the loop of
``peers.attention_scan``, and search steps through nn.GRUCell.
"""

import torch
from torch import nn
from torch.nn import functional as F

from . import peers


class Memory:
    """An encoded source; ``rows`` as search wants it."""

    def __init__(self, values, keys, valid):
        self.values, self.keys, self.valid = values, keys, valid

    def rows(self, index):
        return Memory(self.values[index], self.keys[index], self.valid[index])


class Encoder(nn.Module):
    def __init__(self, vocab_size, config):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_size, padding_idx=0)
        self.rnn = nn.GRU(config.embedding_size, config.encoder_size, batch_first=True, bidirectional=True)

    def forward(self, source, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(source), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        packed, h = self.rnn(packed)
        output, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=source.shape[1])
        return output, torch.cat([h[0], h[1]], -1)


class Bridge(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(config.memory_size, config.hidden_size)])

    def forward(self, h):
        return torch.tanh(self.layers[0](h))


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.query_layer = nn.Linear(config.hidden_size, config.attention_size)
        self.key_layer = nn.Linear(config.memory_size, config.attention_size, bias=False)
        self.v = nn.Parameter(torch.empty(config.attention_size))


class Scan(nn.Module):
    def __init__(self, config):
        super().__init__()
        fed = config.readout_size if config.feed == "attentional" else config.memory_size
        self.attention = Attention(config)
        self.cell = nn.GRUCell(config.embedding_size + fed, config.hidden_size)
        self.feed_layer = None
        if config.feed == "attentional":
            self.feed_layer = nn.Linear(config.hidden_size + config.memory_size, fed)


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.scan = Scan(config)
        if config.feed != "attentional":
            self.readout_layer = nn.Linear(config.hidden_size + config.memory_size, config.readout_size)


class EagerSeq2Seq(nn.Module):
    """A bidirectional GRU encoder, a bridge, an attention GRU decoder and a tanh readout.

    Args:
        config: an ``s2s.Config`` with order "before" and feed "context" (Bahdanau), or order "after" and feed
            "attentional" (Luong's input feeding).
    """

    def __init__(self, config, source_size, target_size):
        super().__init__()
        self.config, self.fed = config, config.feed == "attentional"
        self.encoder = Encoder(source_size, config)
        self.bridge = Bridge(config)
        self.embedding = nn.Embedding(target_size, config.embedding_size, padding_idx=0)
        self.decoder = Decoder(config)
        self.output = nn.Linear(config.readout_size, target_size)

    def encode(self, source, lengths):
        values, h = self.encoder(source, lengths)
        valid = torch.arange(source.shape[1], device=source.device) < lengths[:, None]
        return Memory(values, self.decoder.scan.attention.key_layer(values), valid), self.bridge(h)

    def forward(self, source, lengths, inputs):
        memory, h = self.encode(source, lengths)
        scan = self.decoder.scan
        attention, cell, feed = scan.attention, scan.cell, {}
        if self.fed:
            feed = {
                "w_feed": scan.feed_layer.weight,
                "b_feed": scan.feed_layer.bias,
                "first_feed": h.new_zeros(h.shape[0], scan.feed_layer.out_features),
            }
        states, contexts, _, feeds, _ = peers.attention_scan(
            lambda gates_x, gates_h, state: (peers.gru_step(gates_x, gates_h, *state),),
            self.embedding(inputs),
            (h,),
            memory.keys,
            memory.values,
            attention.v,
            attention.query_layer.weight,
            attention.query_layer.bias,
            cell.weight_ih,
            cell.weight_hh,
            cell.bias_ih,
            cell.bias_hh,
            valid=memory.valid,
            **feed,
        )
        if self.fed:
            return feeds[:, 1:]
        return torch.tanh(self.decoder.readout_layer(torch.cat([states, contexts[:, :-1]], -1)))

    def loss(self, batch):
        """Sum of the negative log likelihood over the tokens that are no padding."""
        features = self(batch.source, batch.source_lengths, batch.inputs)
        real = (batch.outputs != 0).flatten().nonzero().squeeze(-1)
        logits = self.output(features.flatten(0, 1).index_select(0, real))
        return F.cross_entropy(logits, batch.outputs.flatten().index_select(0, real), reduction="sum")

    # One step at a time, as ``s2s.search`` calls it.

    def _attend(self, h, memory):
        attention = self.decoder.scan.attention
        return peers.attend(attention.query_layer(h), memory.keys, memory.values, attention.v, memory.valid)

    def start(self, source, lengths):
        memory, h = self.encode(source, lengths)
        if self.fed:
            return memory, (h, h.new_zeros(h.shape[0], self.decoder.scan.feed_layer.out_features))
        return memory, (h, *self._attend(h, memory))

    def step(self, tokens, state, memory):
        logits, weights, state = self.logits(tokens, state, memory)
        return torch.log_softmax(logits.float(), -1), weights, state

    def logits(self, tokens, state, memory):
        """As ``step``, before the softmax."""
        scan, x = self.decoder.scan, self.embedding(tokens)
        h = scan.cell(torch.cat([x, state[1]], -1), state[0])
        context, weights = self._attend(h, memory)
        if self.fed:
            features = torch.tanh(scan.feed_layer(torch.cat([h, context], -1)))
            state = (h, features)
        else:
            features = torch.tanh(self.decoder.readout_layer(torch.cat([h, state[1]], -1)))
            weights, state = state[2], (h, context, weights)
        return self.output(features), weights, state
