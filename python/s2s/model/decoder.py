"""The decoder: recurrence, attention and readout, over known inputs or one step at a time.

Shapes: B batch, S source, T target, N heads; widths: E embedding, M memory, H state, C context, R features.
"""

from typing import Any

import torch
from torch import Tensor, nn

import s2s_kernels as sk

from .attention import LocalAttention, build_attention
from .attention_loop import AttentionLoop
from .config import Config
from .encoder import Memory, States
from .recurrent import cell, recurrent


def loop_reason(config: Config) -> str | None:
    """Why a recurrence through the attention has to be a loop of steps; None if it is one op, or no recurrence runs
    through the attention."""
    if not config.feeds_attention:
        return None
    if config.gru_before:
        return "a GRU that resets before its product is not in the op, which resets after it"
    if config.attention_window != "global":
        return f"a {config.attention_window} window is fed back to the cell, and the op has no window"
    return None


def parts_of(config: Config, layers: int) -> list[str]:
    """What an op with this attention and so many layers is given beside the plain decoder; see docs/ops.md."""
    parts = {
        "dot scores": config.attention in ("dot", "general"),
        "a query from [c;h]": config.asks_with_c,
        f"{layers} layers": layers > 1,
        "a second cell": config.two_cells,
    }
    return [name for name, given in parts.items() if given]


def readout_layer(config: Config) -> nn.Linear | None:
    """The Linear of the readouts that have one, or None."""
    width = config.hidden_size + config.context_size
    # With the attentional vector fed, the loop has made tanh(W [s;c]).
    if config.readout in ("tanh", "linear") and config.feed != "attentional":
        return nn.Linear(width, config.readout_size)
    if config.readout == "tanh_input":
        return nn.Linear(width + config.embedding_size, config.readout_size)
    if config.readout == "maxout":
        return nn.Linear(width + config.embedding_size, 2 * config.readout_size)
    return None


class Decoder(nn.Module):
    """The configuration decides what runs.

    - The attention is fed back to the cell: an ``AttentionLoop``, which is one op unless ``loop_reason`` gives a
      reason.
    - It is not: a GRU or LSTM over all steps, and then one batched attention with T queries.
    - There is none (``none``, ``fixed``): a GRU or LSTM over all steps.

    Where the attention is fed and asked by the lowest layer, as in Wu et al. (2016), those above it are a GRU or LSTM
    over all steps; else the top one asks.

    Its ``state`` is a tuple of tensors with the batch first: what the loop hands on, or the states of the layers,
    then those of the layers above, then the step where a local window needs it.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.lstm = config, config.cell == "lstm"
        self.dropout = nn.Dropout(config.dropout)  # between the loop and the layers above
        if config.feeds_attention:
            self.scan = self._loop()
            above = config.decoder_layers - config.loop_layers
            if above:
                self.rnn = recurrent(config, config.hidden_size, config.hidden_size, above)
        else:
            fixed = config.memory_size if config.attention == "fixed" and config.feed == "context" else 0
            self.rnn = recurrent(config, config.embedding_size + fixed, config.hidden_size, config.decoder_layers)
            self.attention = build_attention(config)
        self.readout_layer = readout_layer(config)

    def _loop(self):
        config, size, reason = self.config, self.config.hidden_size, loop_reason(self.config)
        feed_size = config.readout_size if config.feed == "attentional" else None
        fed = config.context_size if feed_size is None else feed_size
        inputs = config.embedding_size + (0 if config.two_cells else fed)
        # One seed keeps making one model: this was sk.nn.AttentionGRU, which drew an attention that was then replaced.
        replaced = config.attention in ("additive", "concat") and reason is None and config.loop_layers == 1
        if replaced:
            first = sk.nn.AdditiveAttention(size, config.memory_size, config.attention_size, config.attention_heads)
        loop = AttentionLoop(
            [cell(config, size if i else inputs, size) for i in range(config.loop_layers)],
            first if replaced else build_attention(config),
            config.context_size,
            feed_size,
            config.order,
            query="c_h" if config.asks_with_c else "h",
            dropout=config.dropout,
            loop_dropout=config.loop_dropout,
            transition=cell(config, fed, size) if config.two_cells else None,
            one_op=reason is None,
        )
        if replaced:
            loop.attention = build_attention(config)
        return loop

    def project_keys(self, memory: Tensor) -> Tensor:
        """What the decoder needs of a memory (B, S, M), made once a source."""
        module = self.scan if self.config.feeds_attention else self.attention
        return memory if module is None else module.project_keys(memory)

    # The layers of ``self.rnn``: states go in and out as a flat tuple of (B, H), all of one layer together.

    def _run_layers(self, x, states, dropout=None):
        """x (B, T, .) -> top layer's outputs (B, T, H) and the new states; x itself where there are no layers."""
        if not states:
            return x, ()
        if dropout is not None:
            x = dropout(x)
        kinds = [torch.stack(states[i :: 2 if self.lstm else 1]) for i in range(2 if self.lstm else 1)]
        outputs, new = self.rnn(x, tuple(kinds) if self.lstm else kinds[0])
        kinds = new if self.lstm else (new,)
        return outputs, tuple(kind[i] for i in range(len(kinds[0])) for kind in kinds)

    def _features(self, states, contexts, inputs):
        """What the output layer reads, (..., R), from tensors that agree in all but the last dimension: s, [s;c],
        [s;c;y], W [s;c], tanh(W [s;c]), tanh(W [s;c;y]), or Cho's maxout of W [s;c;y], the larger of
        each two neighbours."""
        kind = self.config.readout
        if kind == "state":
            return states
        parts = [states] if contexts is None else [states, contexts]
        if kind in ("state_context_input", "tanh_input", "maxout"):
            parts.append(inputs)
        both = torch.cat(parts, -1)
        if self.readout_layer is None:
            return both
        both = self.readout_layer(both)
        if kind == "maxout":
            return both.unflatten(-1, (-1, 2)).amax(-1)
        return torch.tanh(both) if kind in ("tanh", "tanh_input") else both

    def _first_feed(self, h):
        return h.new_zeros(h.shape[0], self.scan.feed_size) if self.config.first_feed_zeros else None

    def _look(self, h, memory, step):
        """(contexts (B, T, C) or None, weights (B, T, [N,] S) or None) for h (B, T, H), the first at ``step``."""
        if self.attention is None:
            summary = memory.summary
            return None if summary is None else summary[:, None].expand(-1, h.shape[1], -1), None
        options = {"position": step} if self._local else {}
        contexts, weights = self.attention(h, None, memory.values, keys=memory.keys, lengths=memory.lengths, **options)
        return contexts.flatten(2), weights

    @property
    def _local(self):
        return not self.config.feeds_attention and isinstance(self.attention, LocalAttention)

    def _plain(self, inputs, states, memory, step):
        """Without feeding: features (B, T, R), weights and new states from inputs (B, T, E)."""
        x = inputs
        if memory.summary is not None and self.config.feed == "context":
            x = torch.cat([inputs, memory.summary[:, None].expand(-1, inputs.shape[1], -1)], -1)
        h, states = self._run_layers(x, states)
        contexts, weights = self._look(h, memory, step)
        return self._features(h, contexts, inputs), weights, states

    def forward(self, inputs: Tensor, states: States, memory: Memory) -> tuple[Tensor, Tensor | None]:
        """inputs (B, T, E), first states -> features (B, T, R) and weights (B, T, S), with heads (B, T, N, S), None
        without an attention."""
        config = self.config
        if not config.feeds_attention:
            step = memory.lengths.new_zeros(len(inputs)) if self._local else None
            return self._plain(inputs, states, memory, step)[:2]
        cells, above = self.scan.states(states)
        options = {"keys": memory.keys, "lengths": memory.lengths, "first_feed": self._first_feed(states[0])}
        out = self.scan(inputs, cells, memory.values, **options)
        read = slice(None, -1) if config.order == "before" else slice(1, None)
        if config.feed == "attentional":
            return out.feeds, out.weights[:, read]
        h, _ = self._run_layers(out.states, above, self.dropout)
        return self._features(h, out.contexts[:, read], inputs), out.weights[:, read]

    def start(self, states: States, memory: Memory) -> Any:
        """The state before the first ``step``: a tuple of tensors with the batch first."""
        if not self.config.feeds_attention:
            return (*states, memory.lengths.new_zeros(len(memory.lengths))) if self._local else states
        cells, above = self.scan.states(states)
        options = {"keys": memory.keys, "lengths": memory.lengths, "first_feed": self._first_feed(states[0])}
        return (*self.scan.start(cells, memory.values, **options).flat(), *above)

    def step(self, inputs: Tensor, state: Any, memory: Memory) -> tuple[Tensor, Tensor | None, Any]:
        """inputs (B, E), state of start() or step() -> features (B, R), weights (B, [N,] S) or None, new state."""
        config = self.config
        if not config.feeds_attention:
            *states, step = state if self._local else (*state, None)
            features, weights, states = self._plain(inputs[:, None], tuple(states), memory, step)
            new = states if step is None else (*states, step + 1)
            return features[:, 0], None if weights is None else weights[:, 0], new
        old, above = self.scan.state(state)
        new = self.scan.step(inputs, old, memory.values, keys=memory.keys, lengths=memory.lengths)
        read = old if config.order == "before" else new
        if config.feed == "attentional":
            return new.feed, read.weights, new.flat()
        h, above = self._run_layers(new.h[:, None], above, self.dropout)
        return self._features(h[:, 0], read.context, inputs), read.weights, (*new.flat(), *above)
