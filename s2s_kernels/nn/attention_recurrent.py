"""The attention decoder with its parameters: a whole sequence in one call, or one step at a time."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from .. import ops
from ..checks import check_choice, check_integer
from ..ops.decoder_checks import FEEDS, LOCATIONS, NORMALIZATIONS
from ..quantize import QuantizedWeights, quantize
from ..reference import AttentionGRUOutput, AttentionLSTMOutput, SearchOutput, decoder
from ..reference.additive_attention import valid_positions, zero_invalid
from .attention import AdditiveAttention, DotAttention
from .cells import GRUCell, LSTMCell


class AttentionGRUState(NamedTuple):
    """What one decoding step hands to the next. Every field has the batch first, so that a beam search reorders
    with ``AttentionGRUState(*(field[order] for field in state))``."""

    h: Tensor  # (B, H), with layers (B, L, H)
    feed: Tensor  # (B, F), what the next step is fed
    context: Tensor  # (B, N*D), attended with h
    weights: Tensor  # (B, S), with N heads (B, N, S)
    past: Tensor  # (B, P, S), what the next attention reads of the weights so far; P = 0 where it reads nothing


class AttentionLSTMState(NamedTuple):
    """As ``AttentionGRUState``, with the LSTM's c."""

    h: Tensor  # (B, H), with layers (B, L, H)
    c: Tensor  # (B, H), with layers (B, L, H)
    feed: Tensor  # (B, F)
    context: Tensor  # (B, N*D)
    weights: Tensor  # (B, S), with N heads (B, N, S)
    past: Tensor  # (B, P, S)


class _AttentionRecurrent(nn.Module):
    """c_t = attend(h_t); f_t = c_t or tanh(W_f [h_t ; c_t] + b_f); h_{t+1} = cell([x_t ; f_t], h_t)."""

    _cell_type: type[GRUCell] | type[LSTMCell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        key_size: int,
        attention_size: int,
        num_heads: int = 1,
        feed_size: int | None = None,
        bias: bool = True,
        *,
        normalize: bool = False,
        score: Literal["additive", "dot", "general"] = "additive",
        num_layers: int = 1,
        location: Literal["previous", "cumulative", "both"] | None = None,
        location_size: int = 1,
        normalization: Literal["softmax", "sigmoid", "forward"] = "softmax",
        feed: Literal["tanh", "linear", "gate"] = "tanh",
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_choice("score", score, ("additive", "dot", "general"))
        check_integer("num_layers", num_layers, 1)
        check_choice("normalization", normalization, NORMALIZATIONS)
        check_choice("feed", feed, FEEDS)
        if location is not None:
            check_choice("location", location, LOCATIONS)
            check_integer("location_size", location_size, 1)
            if location_size % 2 == 0:
                raise ValueError(f"location_size is {location_size}, expected an odd number")
        if num_heads > 1 and (score != "additive" or location is not None or normalization == "forward"):
            raise ValueError(f"num_heads is {num_heads}, expected 1 with a dot score, location or forward attention")
        if score != "additive" and (normalize or location is not None):
            raise ValueError(f"score is {score!r} with normalize or location, expected 'additive'")
        factory = {"device": device, "dtype": dtype}
        self.input_size, self.hidden_size, self.key_size = input_size, hidden_size, key_size
        self.attention_size, self.num_heads, self.num_layers = attention_size, num_heads, num_layers
        self.location, self.normalization, self.feed = location, normalization, feed
        self.context_size = num_heads * key_size
        if feed == "gate" and feed_size not in (None, self.context_size):
            raise ValueError(f"feed_size is {feed_size}, expected {self.context_size} as the context that is gated")
        self.feed_size = self.context_size if feed_size is None else feed_size
        if score == "additive":
            self.attention = AdditiveAttention(
                hidden_size, key_size, attention_size, num_heads, normalize=normalize, bias=bias, **factory
            )
        else:
            self.attention = DotAttention(hidden_size, key_size, score == "general", **factory)
        self.cell = self._cell_type(input_size + self.feed_size, hidden_size, bias, **factory)
        self.layers = nn.ModuleList(
            self._cell_type(hidden_size, hidden_size, bias, **factory) for _ in range(num_layers - 1)
        )
        self.location_layer = self.feed_layer = None
        if location is not None:
            self.location_layer = nn.Conv1d(
                LOCATIONS[location], attention_size, location_size, padding="same", bias=False, **factory
            )
        if feed_size is not None or feed != "tanh":
            read = hidden_size if feed == "gate" else hidden_size + self.context_size
            self.feed_layer = nn.Linear(read, self.feed_size, bias=bias, **factory)

    def reset_parameters(self) -> None:
        for module in (self.attention, self.cell, *self.layers, self.location_layer, self.feed_layer):
            if module is not None:
                module.reset_parameters()

    def _parts(self) -> dict[str, Any]:
        """The parts of docs/ops.md that this decoder has."""
        parts = {}
        if self.attention.score_vector() is None:
            parts["score"] = "dot"
        if self.layers:
            parts["layers"] = [(c.weight_ih, c.weight_hh, c.bias_ih, c.bias_hh) for c in self.layers]
        if self.location is not None:
            parts |= {"location": self.location, "w_location": self.location_layer.weight}
        if self.normalization != "softmax":
            parts["normalization"] = self.normalization
        if self.feed != "tanh":
            parts["feed"] = self.feed
        return parts

    def project_keys(self, memory: Tensor) -> Tensor:
        """Keys (B, S, A), with heads (B, S, N, A), of a memory (B, S, key_size); for ``start`` and ``step``."""
        return self.attention.project_keys(memory)

    def _scan(
        self,
        op: Callable[..., Any],
        x: Tensor,
        state: Any,
        memory: Tensor,
        keys: Tensor | None,
        lengths: Tensor | None,
        mask: Tensor | None,
        first_feed: Tensor | None,
        parts: dict[str, Any],
    ) -> Any:
        cell, query, feed = self.cell, self.attention.query_layer, self.feed_layer
        if keys is None:
            keys = self.project_keys(memory)
        return op(
            x,
            state,
            keys,
            memory,
            self.attention.score_vector(),
            None if query is None else query.weight,
            None if query is None else query.bias,
            cell.weight_ih,
            cell.weight_hh,
            cell.bias_ih,
            cell.bias_hh,
            lengths=lengths,
            mask=mask,
            w_feed=None if feed is None else feed.weight,
            b_feed=None if feed is None else feed.bias,
            first_feed=first_feed,
            **self._parts(),
            **parts,
        )

    def beam_search(
        self,
        state: Tensor | Sequence[Tensor],
        memory: Tensor,
        embedding: nn.Embedding,
        output: nn.Linear,
        **options: Any,
    ) -> SearchOutput:
        """Outputs of a model of this decoder, an embedding and an output layer: `s2s_kernels.beam_search`.

            found = decoder.beam_search(h0, memory, embedding, output, bos=1, eos=2, max_length=50, lengths=lengths,
                                        readout="state_context", readout_layer=readout)
            found.ids  # (B, n_best, max_length + 1)

        Args:
            state: h_0 (B, H), for an LSTM (h_0, c_0); with layers (L, B, H).
            memory: (B, S, D).
            embedding: nn.Embedding (V, I); output: nn.Linear of the features to V logits.
            keys: what ``project_keys(memory)`` returned; made here when None.
            readout_layer: nn.Linear under the tanh of the features, or None.
            options: those of `s2s_kernels.beam_search`, but for the weights and what the constructor has chosen.

        Returns:
            SearchOutput: ids (B, n_best, max_length + 1), lengths and scores (B, n_best), weights.

        Raises:
            ValueError, TypeError: a wrong argument, named in the message.
        """
        return self._search(ops.beam_search, state, memory, embedding, output, **options)

    def greedy_search(
        self,
        state: Tensor | Sequence[Tensor],
        memory: Tensor,
        embedding: nn.Embedding,
        output: nn.Linear,
        **options: Any,
    ) -> SearchOutput:
        """As ``beam_search``, by `s2s_kernels.greedy_search`: no dimension n_best, and none of a beam's options."""
        return self._search(ops.greedy_search, state, memory, embedding, output, **options)

    def quantize(self, output: nn.Linear, readout_layer: nn.Linear | None = None) -> QuantizedWeights:
        """The matrices of a search in 8 bits, for the ``weights=`` of ``beam_search`` and ``greedy_search``.

        Args:
            output, readout_layer: those of the search.

        Returns:
            QuantizedWeights, see `s2s_kernels.quantize`. A later change of the weights does not come into it.
        """
        cell, query, feed = self.cell, self.attention.query_layer, self.feed_layer
        return quantize(
            w_query=None if query is None else query.weight,
            weight_ih=cell.weight_ih,
            weight_hh=cell.weight_hh,
            w_feed=None if feed is None else feed.weight,
            w_readout=None if readout_layer is None else readout_layer.weight,
            w_output=output.weight,
            layers=self._parts().get("layers", ()),
        )

    def _search(
        self,
        op: Callable[..., SearchOutput],
        state: Tensor | Sequence[Tensor],
        memory: Tensor,
        embedding: nn.Embedding,
        output: nn.Linear,
        *,
        keys: Tensor | None = None,
        readout_layer: nn.Linear | None = None,
        **options: Any,
    ) -> SearchOutput:
        cell, query, feed = self.cell, self.attention.query_layer, self.feed_layer
        return op(
            state,
            self.project_keys(memory) if keys is None else keys,
            memory,
            self.attention.score_vector(),
            None if query is None else query.weight,
            None if query is None else query.bias,
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
            **self._parts(),
            **options,
        )

    def _start(
        self,
        state: Sequence[Tensor],
        memory: Tensor,
        lengths: Tensor | None,
        mask: Tensor | None,
        first_feed: Tensor | None,
        keys: Tensor | None,
        first_weights: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """The fields of a state after (B, H) tensors, with layers (L, B, H)."""
        state = [x.transpose(0, 1) for x in state] if self.layers else state
        rows = [] if self.location is None else [memory.new_zeros(memory.shape[:2])] * 2
        if first_weights is not None:
            rows = [zero_invalid(first_weights, valid_positions(memory.shape[1], lengths, mask))] * len(rows)
        if self.normalization == "forward":
            rows.append((torch.arange(memory.shape[1], device=memory.device) == 0).to(memory).expand(len(memory), -1))
        past = torch.stack(rows, 1) if rows else memory.new_empty(len(memory), 0, memory.shape[1])
        return *state, *self._attend(state[0], memory, keys, lengths, mask, past, first_feed)

    def _step(
        self, x: Tensor, state: Any, memory: Tensor, lengths: Tensor | None, mask: Tensor | None, keys: Tensor | None
    ) -> tuple[Tensor, ...]:
        """The fields of the next state."""
        x, old = torch.cat([x, state.feed], -1), state[: len(state) - 4]
        if not self.layers:
            new = self.cell(x, old if len(old) == 2 else old[0])
            new = new if len(old) == 2 else (new,)
        else:
            made = []
            for cell, *parts in zip((self.cell, *self.layers), *(part.unbind(1) for part in old), strict=True):
                after = cell(x, tuple(parts) if len(parts) == 2 else parts[0])
                made.append(after if len(parts) == 2 else (after,))
                x = made[-1][0]
            new = tuple(torch.stack(part, 1) for part in zip(*made, strict=True))
        return *new, *self._attend(new[0], memory, keys, lengths, mask, state.past)

    def _attend(
        self,
        h: Tensor,
        memory: Tensor,
        keys: Tensor | None,
        lengths: Tensor | None,
        mask: Tensor | None,
        past: Tensor,
        feed: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(feed, context, weights, past) for the state h; the feed is made from h unless given."""
        h = h[:, -1] if self.layers else h
        v = self.attention.score_vector()
        if v is not None and not past.shape[1] and self.normalization == "softmax":
            context, weights = self.attention(h, memory, keys=keys, lengths=lengths, mask=mask)
        else:
            context, weights = self._attend_by_parts(h, memory, keys, lengths, mask, past, v)
        if self.num_heads > 1:
            context = context.flatten(1)
        if feed is not None:
            return feed, context, weights, past  # what the first state looks at is then no part of the decoder
        rows = [] if self.location is None else [weights, past[:, 1] + weights]
        rows += [weights] if self.normalization == "forward" else []
        past = torch.stack(rows, 1) if rows else past
        return self._make_feed(h, context), context, weights, past

    def _attend_by_parts(
        self,
        h: Tensor,
        memory: Tensor,
        keys: Tensor | None,
        lengths: Tensor | None,
        mask: Tensor | None,
        past: Tensor,
        v: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        valid = valid_positions(memory.shape[1], lengths, mask)
        keys = zero_invalid(self.project_keys(memory) if keys is None else keys, valid)
        w_location, history = None, None
        if self.location is not None:
            w_location = self.location_layer.weight
            history = past[:, {"previous": slice(0, 1), "cumulative": slice(1, 2), "both": slice(0, 2)}[self.location]]
        values = zero_invalid(memory, valid)
        source = decoder.Source(keys, values, valid, v, 1.0, None, self.normalization, w_location, None)
        query = h
        if self.attention.query_layer is not None:
            query = self.attention._split_heads(self.attention.query_layer(h))
        return decoder.attend(source, query, history, past[:, -1] if past.shape[1] else None, None)

    def _make_feed(self, h: Tensor, context: Tensor) -> Tensor:
        if self.feed_layer is None:
            return context
        fed = self.feed_layer(h if self.feed == "gate" else torch.cat([h, context], -1))
        return {"tanh": fed.tanh, "linear": lambda: fed, "gate": lambda: fed.sigmoid() * context}[self.feed]()


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

    Parts of docs/ops.md:
        score: "additive", "dot" (the keys are the memory) or "general" (they are projected): ``attention`` is then a
            ``DotAttention``, attention_size is not read.
        num_layers: L; those above the first are ``layers``, and states are (L, B, H).
        location: "previous", "cumulative" or "both": ``location_layer``, a Conv1d of odd ``location_size``, over the
            weights so far.
        normalization: "softmax", "sigmoid" or "forward".
        feed: "tanh", "linear" or "gate", of ``feed_layer``.
    """

    _cell_type = GRUCell

    def forward(
        self,
        x: Tensor,
        h0: Tensor,
        memory: Tensor,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        first_feed: Tensor | None = None,
        keys: Tensor | None = None,
        **parts: Any,
    ) -> AttentionGRUOutput:
        """The decoder over T known inputs (teacher forcing), differentiable in everything.

        Args:
            x: (B, T, I).
            h0: (B, H).
            memory: (B, S, D).
            lengths: (B,) integer, how many positions of the memory are valid.
            mask: (B, S) bool, True where a position may be attended; given with ``lengths``, both must hold.
            first_feed: (B, F), the feed of the first step; made from h0 when None.
            keys: what ``project_keys(memory)`` returned; made here when None.
            parts: what docs/ops.md has for one call: factors of dropout and zoneout, first_weights, scale, ...

        Returns:
            AttentionGRUOutput: states (B, T, H) h_1..h_T; contexts (B, T+1, N*D) c_0..c_T; weights (B, T+1, S),
            with heads (B, T+1, N, S); feeds (B, T+1, F) f_0..f_T (contexts itself without a feed_size); h_n (B, H).

        Raises:
            ValueError, TypeError: a wrong shape, dtype or device, named in the message.
        """
        return self._scan(ops.attention_gru, x, h0, memory, keys, lengths, mask, first_feed, parts)

    def start(
        self,
        h0: Tensor,
        memory: Tensor,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        first_feed: Tensor | None = None,
        keys: Tensor | None = None,
        first_weights: Tensor | None = None,
    ) -> AttentionGRUState:
        """The AttentionGRUState before the first ``step``; arguments as in ``forward``."""
        return AttentionGRUState(*self._start((h0,), memory, lengths, mask, first_feed, keys, first_weights))

    def step(
        self,
        x: Tensor,
        state: AttentionGRUState,
        memory: Tensor,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> AttentionGRUState:
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
        return AttentionGRUState(*self._step(x, state, memory, lengths, mask, keys))


class AttentionLSTM(_AttentionRecurrent):
    """An attention decoder with an LSTM cell: ``s2s_kernels.attention_lstm`` with its parameters.

    All as ``AttentionGRU``, except that a state is (h, c), the query is made from h, and outputs have ``c_n``.
    """

    _cell_type = LSTMCell

    def forward(
        self,
        x: Tensor,
        state: Sequence[Tensor],
        memory: Tensor,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        first_feed: Tensor | None = None,
        keys: Tensor | None = None,
        **parts: Any,
    ) -> AttentionLSTMOutput:
        """As ``AttentionGRU.forward`` with state = (h_0, c_0), each (B, H). Returns an AttentionLSTMOutput."""
        return self._scan(ops.attention_lstm, x, state, memory, keys, lengths, mask, first_feed, parts)

    def start(
        self,
        state: Sequence[Tensor],
        memory: Tensor,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        first_feed: Tensor | None = None,
        keys: Tensor | None = None,
        first_weights: Tensor | None = None,
    ) -> AttentionLSTMState:
        """The AttentionLSTMState before the first ``step``, from state = (h_0, c_0)."""
        return AttentionLSTMState(*self._start(state, memory, lengths, mask, first_feed, keys, first_weights))

    def step(
        self,
        x: Tensor,
        state: AttentionLSTMState,
        memory: Tensor,
        *,
        lengths: Tensor | None = None,
        mask: Tensor | None = None,
        keys: Tensor | None = None,
    ) -> AttentionLSTMState:
        """As ``AttentionGRU.step``, with an AttentionLSTMState."""
        return AttentionLSTMState(*self._step(x, state, memory, lengths, mask, keys))
