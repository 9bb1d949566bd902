"""The source, read once: its encoding and the decoder's first state.

Shapes: B batch, S source, L layers; widths: E embedding, M memory, H state of the decoder.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..text.vocab import PAD
from .config import Config
from .recurrent import recurrent

States = tuple[Tensor, ...]  # of a GRU (h,), of an LSTM (h, c)


class Memory(NamedTuple):
    """An encoded source. All fields have the batch first, so that search can take rows of them."""

    values: Tensor  # (B, S, M)
    keys: Tensor  # (B, S, A), with heads (B, S, N, A); the values themselves where nothing is projected
    lengths: Tensor  # (B,)
    summary: Tensor | None = None  # (B, M), with attention='fixed': the context of every step

    def rows(self, index: Tensor) -> "Memory":
        return Memory(*(None if field is None else field[index] for field in self))


class Encoder(nn.Module):
    """Embedding and a GRU or LSTM, in one direction or both."""

    def __init__(self, vocab_size: int, config: Config) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_size, padding_idx=PAD)
        self.dropout = nn.Dropout(config.dropout)
        self.rnn = recurrent(
            config,
            config.embedding_size,
            config.encoder_size,
            config.encoder_layers,
            bidirectional=config.bidirectional,
        )

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, States]:
        """source (B, S) -> outputs (B, S, M), zero past each length, and every layer's last states, a tuple of
        (L, B, M): (h,) for a GRU, (h, c) for an LSTM. Both directions stand side by side in M."""
        outputs, states = self.rnn(self.dropout(self.embedding(source)), lengths=lengths)
        states = states if isinstance(states, tuple) else (states,)
        directions = 2 if self.rnn.bidirectional else 1
        return outputs, tuple(torch.cat([s[d::directions] for d in range(directions)], -1) for s in states)


LINEAR = ("bridge", "backward", "mean", "hidden")  # first states that have weights


class Bridge(nn.Module):
    """The decoder's first state from the encoder's last.

    ``bridge``: tanh(Linear(the top layer's last state)), one Linear for each state of each decoder layer.
    ``backward``: the same of the backward direction alone, as Bahdanau et al. (2015), whose ``s_0 =
    tanh(W_s h_1)`` reads the state that has just seen the first word. ``mean``: of the mean of the encoder's outputs
    over the source, as Nematus and Marian. ``hidden``: of h alone, for an LSTM's c as
    well. ``last``: the states of the top layers as they are. ``copy``: the top layer's h, or its forward half where
    that is as wide as the decoder, for every layer and for c as well. ``zeros``. JoeyNMT has ``hidden`` and ``copy``.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.kind, self.hidden_size, self.decoder_layers = (
            config.initial_state,
            config.hidden_size,
            config.decoder_layers,
        )
        self.backward_from = config.encoder_size if self.kind == "backward" else 0
        if self.kind in LINEAR:
            width, count = config.memory_size - self.backward_from, config.decoder_layers * config.states_per_layer
            self.layers = nn.ModuleList(nn.Linear(width, config.hidden_size) for _ in range(count))

    def forward(self, states: States, outputs: torch.Tensor, lengths: torch.Tensor) -> States:
        """states: a tuple of (L, B, M), outputs (B, S, M), lengths (B,) -> a tuple of (B, H), all states of the lowest
        layer first."""
        if self.kind == "copy":
            h = states[0][-1, :, : self.hidden_size]
            return (h,) * (self.decoder_layers * len(states))
        if self.kind == "mean":
            mean = outputs.sum(1) / lengths[:, None].clamp(min=1)  # outputs are zero past each length
            return tuple(torch.tanh(layer(mean)) for layer in self.layers)
        if self.kind in LINEAR:
            tops = [state[-1, :, self.backward_from :] for state in states[: 1 if self.kind == "hidden" else None]]
            return tuple(torch.tanh(layer(tops[i % len(tops)])) for i, layer in enumerate(self.layers))
        picked = [state[i] for i in range(-self.decoder_layers, 0) for state in states] if self.kind == "last" else []
        return tuple(picked) or tuple(
            state.new_zeros(state.shape[1], self.hidden_size) for _ in range(self.decoder_layers) for state in states
        )
