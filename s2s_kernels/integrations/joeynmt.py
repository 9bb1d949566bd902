"""JoeyNMT 2.3: its RecurrentDecoder, GRU or LSTM, with Bahdanau's or Luong's attention, as one op.

The cell runs first, on emb_dropout([word ; attentional vector]); the attentional vector of the next step is
tanh(W hidden_dropout([h ; context]) + b). Without input feeding nothing returns, so that the recurrence comes first and
then one attention with all queries. A single step, as its greedy and beam search take, is JoeyNMT's own.
"""

import torch
from torch import Tensor, nn

from . import loop


class RecurrentDecoder(loop.Loop):
    replaces = ("forward", "_forward_step")

    def obstacle(self):
        from joeynmt.attention import BahdanauAttention, LuongAttention

        if self.input_feeding and self.activation is not torch.tanh and not isinstance(self.activation, nn.Tanh):
            name = getattr(self.activation, "__name__", type(self.activation).__name__)
            return f"activation = {name}: the attentional vector that is fed back must be a tanh"
        dropouts = {"emb_dropout": nn.Dropout, "hidden_dropout": nn.Dropout}
        if not isinstance(self.attention, (BahdanauAttention, LuongAttention)):
            return f"attention is a {type(self.attention).__name__}, expected bahdanau or luong"
        return loop.unlike(self, rnn=(nn.GRU, nn.LSTM), attention=nn.Module, att_vector_layer=nn.Linear, **dropouts)

    def trial(self):
        rows, source, steps = 2, 3, 2
        weight = self.att_vector_layer.weight
        width = weight.shape[1] - self.hidden_size
        memory = torch.sin(torch.arange(rows * source * width)).view(rows, source, width).to(weight)
        words = torch.cos(torch.arange(rows * steps * self.emb_size)).view(rows, steps, self.emb_size).to(weight)
        mask = (torch.arange(source) < torch.tensor([[3], [2]])).unsqueeze(1).to(weight.device)
        logits, hidden, weights, vectors = self(words, memory, memory[:, 0], mask, steps)
        return [logits, *(hidden if isinstance(hidden, tuple) else [hidden]), weights, vectors]

    def forward(
        self,
        trg_embed: Tensor,
        encoder_output: Tensor,
        encoder_hidden: Tensor,
        src_mask: Tensor,
        unroll_steps: int,
        hidden: Tensor | None = None,
        prev_att_vector: Tensor | None = None,
        **kwargs,
    ):
        if unroll_steps == 1:
            return super().forward(
                trg_embed, encoder_output, encoder_hidden, src_mask, unroll_steps, hidden, prev_att_vector, **kwargs
            )
        if hidden is None and encoder_hidden is not None:
            hidden = self._init_hidden(encoder_hidden)
        else:
            hidden = _swap_batch(hidden)
        self._check_shapes_input_forward(
            trg_embed=trg_embed,
            encoder_output=encoder_output,
            encoder_hidden=encoder_hidden,
            src_mask=src_mask,
            hidden=hidden,
            prev_att_vector=prev_att_vector,
        )
        words, mask = trg_embed[:, :unroll_steps], src_mask[:, 0] > 0
        run = self._run_feeding if self.input_feeding else self._run_plain
        vectors, hidden, weights = run(words, prev_att_vector, encoder_output, mask, hidden)
        return self.output_layer(vectors), _swap_batch(hidden), weights, vectors

    def _run_feeding(self, words, first, memory, mask, hidden):
        rows, size = len(words), words.shape[2]
        of_input, *between, of_attended = self._masks(words, self.rnn_input_size, memory.shape[2])
        if of_input is not None:
            words = words * of_input[..., :size]
        out, hidden = loop.attention_loop(
            words,
            hidden,
            loop.all_weights(self.rnn),
            *self._keys(memory),
            mask=mask,
            w_feed=self.att_vector_layer.weight,
            b_feed=self.att_vector_layer.bias,
            first_feed=words.new_zeros(rows, self.hidden_size) if first is None else first[:, 0],
            drop_attended=loop.one_before(of_attended),
            drop_fed=None if of_input is None else of_input[..., size:],
            drop_layers=loop.stack_masks(between),
        )
        return out.feeds[:, 1:].contiguous(), hidden, out.weights[:, 1:].contiguous()

    def _run_plain(self, words, first, memory, mask, hidden):
        of_input, *between, of_attended = self._masks(words, self.rnn_input_size, memory.shape[2])
        words = loop.masked(words, of_input)
        states, hidden = loop.recurrence(words, hidden, loop.all_weights(self.rnn), between)
        keys, values, v, w_query, b_query = self._keys(memory)
        queries = states if w_query is None else nn.functional.linear(states, w_query, b_query)
        contexts, weights = loop.attend(queries, keys, values, v, mask)
        attended = loop.masked(torch.cat([states, contexts], dim=2), of_attended)
        return self.activation(self.att_vector_layer(attended)), hidden, weights

    def _masks(self, words, input_size, width):
        rows, steps, _ = words.shape
        between = [(loop.between_layers(self.rnn), (rows, self.hidden_size))] * (self.num_layers - 1)
        return loop.draw_masks(
            steps,
            words,
            (self.emb_dropout, (rows, input_size)),
            *between,
            (self.hidden_dropout, (rows, self.hidden_size + width)),
        )

    def _keys(self, memory):
        """keys, values, v, w_query, b_query."""
        attention = self.attention
        keys = attention.key_layer(memory)
        if not hasattr(attention, "query_layer"):
            return keys, memory, None, None, None
        query, energy = attention.query_layer, attention.energy_layer
        return keys, memory, energy.weight[0], query.weight, query.bias


def _swap_batch(hidden):
    """(L, B, H) from (B, L, H) and back, of each of a pair."""
    if isinstance(hidden, tuple):
        return tuple(map(_swap_batch, hidden))
    return hidden.transpose(0, 1).contiguous()


def convert(model: nn.Module) -> nn.Module:
    """Make the recurrent decoder in ``model``, a joeynmt Model or its decoder, run as one op; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no RecurrentDecoder, or one that cannot be converted, and why: an ``activation`` that is
            not tanh with input feeding, a subclass with a step of its own, parts that were replaced or have hooks.
    """
    from joeynmt.decoders import RecurrentDecoder as Original

    return loop.swap(model, {Original: RecurrentDecoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, RecurrentDecoder)
