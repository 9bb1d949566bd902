"""Encoder, attention decoder and loss, made of ``s2s_kernels.nn``.

The decoder runs in two ways that agree: ``forward`` over known targets, one op for the whole sequence, and
``step`` one token at a time for search.

Shapes: B batch, S source, T target, N heads; widths: E embedding, M memory, H state, R features.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

import s2s_kernels as sk

from ..errors import S2SError
from ..text.data import Batch
from ..text.vocab import PAD
from .config import Config
from .decoder import Decoder
from .encoder import Bridge, Encoder, Memory, States


class Seq2Seq(nn.Module):
    """The whole model.

    Args:
        config: a Config.
        source_size, target_size: sizes of the two vocabularies.
    """

    def __init__(self, config: Config, source_size: int, target_size: int) -> None:
        super().__init__()
        self.config = config
        self.in_8_bits = False  # whether its weights were of 8 bits in the file that they come from
        self.encoder = Encoder(source_size, config)
        if config.attention == "fixed":
            self.summary = nn.Linear(config.memory_size, config.memory_size)
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

    def _initialise(self) -> None:
        # nn.Embedding's N(0, 1) saturates the gates it feeds; this is the scale of the other inputs.
        for embedding in (self.encoder.embedding, self.embedding):
            nn.init.normal_(embedding.weight, std=embedding.embedding_dim**-0.5)
            with torch.no_grad():
                embedding.weight[PAD].zero_()

    def encode(self, source: Tensor, lengths: Tensor) -> tuple[Memory, States]:
        """source (B, S), lengths (B,) -> Memory and the decoder's first state, a tuple of (B, H).

        With attention='fixed' the context of every step is Cho's summary of the source, c = tanh(V h_S), and the
        first state is made from it: tanh(V' c) with a bridge.
        """
        outputs, states = self.encoder(source, lengths)
        values, summary = self.dropout(outputs), None
        if self.config.attention == "fixed":
            summary = torch.tanh(self.summary(states[0][-1]))
            states = (summary[None],) * len(states)
        memory = Memory(values, self.decoder.project_keys(values), lengths, summary)
        return memory, self.bridge(states, outputs, lengths)

    def forward(self, source: Tensor, lengths: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """source (B, S), lengths (B,), known inputs (B, T) -> features (B, T, R), weights (B, T, [N,] S) or None."""
        memory, states = self.encode(source, lengths)
        features, weights = self.decoder(self.dropout(self.embedding(inputs)), states, memory)
        return self.dropout(features), weights

    def forward_sampled(
        self, source: Tensor, lengths: Tensor, inputs: Tensor, probability: float
    ) -> tuple[Tensor, Tensor | None]:
        """As ``forward``, but each input after the first is, with this probability and in each row by itself, the
        model's own previous output: scheduled sampling of Bengio et al. (2015), and with probability 1 what
        TensorFlow's ``feed_previous`` does. A loop of single steps; no gradient runs through the choice."""
        memory, states = self.encode(source, lengths)
        state, tokens = self.decoder.start(states, memory), inputs[:, 0]
        features, weights = [], []
        for t in range(inputs.shape[1]):
            feature, looked, state = self.decoder.step(self.dropout(self.embedding(tokens)), state, memory)
            features.append(self.dropout(feature))
            weights.append(looked)
            if t + 1 < inputs.shape[1]:
                own = self._choose(features[-1].detach())
                mine = torch.rand(len(tokens), device=tokens.device) < probability
                tokens = torch.where(mine, own, inputs[:, t + 1])
        return torch.stack(features, 1), None if weights[0] is None else torch.stack(weights, 1)

    @torch.no_grad()
    def _choose(self, features: Tensor) -> Tensor:
        """Tokens (B,) for features (B, R), as ``config.sampling_choice`` says."""
        logits = self.output(features)
        if self.config.sampling_choice == "best":
            return logits.argmax(-1)
        return torch.multinomial(torch.softmax(logits.float(), -1), 1).squeeze(-1)

    def loss(self, batch: Batch, label_smoothing: float = 0.0, sampling: float = 0.0) -> Tensor:
        """Sum over the batch's target tokens of the negative log likelihood; ``batch.tokens`` of them.

        ``sampling``: the probability that an input is the model's own output, see ``forward_sampled``.
        """
        arguments = (batch.source, batch.source_lengths, batch.inputs)
        features, _ = self.forward_sampled(*arguments, sampling) if sampling else self(*arguments)
        # Padding never reaches the output layer, the largest product of the step.
        real = (batch.outputs != PAD).flatten().nonzero().squeeze(-1)
        features = features.flatten(0, 1).index_select(0, real)
        targets = batch.outputs.flatten().index_select(0, real)
        return sk.linear_cross_entropy(features, self.output.weight, self.output.bias, targets, label_smoothing)

    def start(self, source: Tensor, lengths: Tensor) -> tuple[Memory, Any]:
        """source (B, S), lengths (B,) -> Memory and the decoding state for ``step``."""
        memory, states = self.encode(source, lengths)
        return memory, self.decoder.start(states, memory)

    def step(self, tokens: Tensor, state: Any, memory: Memory) -> tuple[Tensor, Tensor | None, Any]:
        """tokens (B,) -> float32 log probabilities (B, V) of the next, weights (B, [N,] S) or None, next state."""
        features, weights, state = self.decoder.step(self.dropout(self.embedding(tokens)), state, memory)
        return torch.log_softmax(self.output(self.dropout(features)).float(), -1), weights, state


class _NoValues(TorchFunctionMode):
    """Initial values are not computed: on meta tensors that would only import half of torch."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in ("normal_", "uniform_", "zero_", "fill_", "ones_"):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def outline(config: Config, source_size: int, target_size: int) -> Seq2Seq:
    """A Seq2Seq that has shapes and takes no memory. S2SError if its weights are more than can be counted."""
    try:
        with torch.device("meta"), _NoValues():
            return Seq2Seq(config, source_size, target_size)
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        raise S2SError("no memory can hold a model of these sizes.") from None
