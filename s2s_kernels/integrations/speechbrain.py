"""SpeechBrain 1.1: its AttentionalRNNDecoder, GRU or LSTM, with any of its three attentions, as one op.

The cell runs first, on dropout([x ; context]), from a context of zeros. A single step, as its greedy and beam search
take, is SpeechBrain's own, and so is the whole loop while a module in it has hooks.
"""

import torch
from torch import Tensor, nn

from . import loop, speech


class AttentionalRNNDecoder(loop.Loop):
    replaces = ("forward", "forward_step")

    def obstacle(self):
        if self.rnn_type not in ("gru", "lstm"):
            return f"rnn_type = {self.rnn_type}, expected gru or lstm"
        if self.attn_type not in _SOURCES:
            return f"attn_type = {self.attn_type}, expected {', '.join(_SOURCES)}"
        layers = {
            f"attn__{name}": nn.Conv1d if name == "conv_loc" else nn.Linear for name in _SOURCES[self.attn_type][1]
        }
        cells = {f"rnn__rnn_cells__{i}": nn.RNNCellBase for i in range(self.num_layers)}
        return loop.unlike(self, drop=nn.Dropout, rnn__dropout_layers=nn.ModuleList, **layers, **cells)

    def trial(self):
        cell = self.rnn.rnn_cells[0].weight_ih
        encoder = self.attn.key_linear if self.attn_type == "keyvalue" else self.attn.mlp_enc
        x, memory = speech.wave(cell, 2, 3, cell.shape[1] - self.attn_dim), speech.wave(cell, 2, 3, encoder.in_features)
        found = self(x, memory, torch.tensor([1.0, 2 / 3], device=cell.device))
        self.attn.reset()
        return found

    def forward(self, inp_tensor: Tensor, enc_states: Tensor, wav_len: Tensor) -> tuple[Tensor, Tensor]:
        if speech.watched(self):
            return super().forward(inp_tensor, enc_states, wav_len)
        self.attn.reset()
        rows, steps, size = inp_tensor.shape
        lengths = torch.round(enc_states.shape[1] * wav_len).long()
        of_input, *between = loop.draw_masks(
            steps,
            inp_tensor,
            (self.drop, (rows, size + self.attn_dim)),
            *((dropout, (rows, self.hidden_size)) for dropout in self.rnn.dropout_layers),
        )
        h0 = inp_tensor.new_zeros(self.num_layers, rows, self.hidden_size)
        make, _ = _SOURCES[self.attn_type]
        source, parts = make(self.attn, enc_states, lengths)
        out, _ = loop.attention_loop(
            inp_tensor if of_input is None else inp_tensor * of_input[..., :size],
            h0 if self.rnn_type == "gru" else (h0, h0),
            [loop.cell_weights(cell) for cell in self.rnn.rnn_cells],
            *source,
            lengths=lengths,
            first_feed=inp_tensor.new_zeros(rows, self.attn_dim),
            drop_fed=None if of_input is None else of_input[..., size:],
            drop_layers=loop.stack_masks(between),
            **parts,
        )
        contexts, weights = out.contexts[:, 1:], out.weights[:, 1:]
        if self.attn_type == "keyvalue":
            weights = weights.unsqueeze(2)
        return self.proj(torch.cat([contexts, out.states], dim=2)), weights


# keys, values, v, w_query and b_query of each attention, and its parts. A row's weights sum to one, so that the
# projection of a context is the context of projected values.


def _content(attention, memory, lengths):
    keys, values, query = attention.mlp_enc(memory), attention.mlp_out(memory), attention.mlp_dec
    source = keys, values, attention.mlp_attn.weight[0], query.weight, query.bias
    return source, {"scale": attention.scaling}


def _location(attention, memory, lengths):
    (*source, b_query), parts = _content(attention, memory, lengths)
    dense = attention.mlp_loc
    parts |= speech.location(dense.weight, attention.conv_loc.weight)
    parts["first_weights"] = speech.uniform(lengths, memory)
    return (*source, b_query + dense.bias), {**parts, "detach_location": True}


def _key_value(attention, memory, lengths):
    keys, values, query = attention.key_linear(memory), attention.value_linear(memory), attention.query_linear
    return (keys, values, None, query.weight, query.bias), {"scale": 1 / float(attention.scaling)}


_SOURCES = {
    "content": (_content, ("mlp_enc", "mlp_dec", "mlp_attn", "mlp_out")),
    "location": (_location, ("mlp_enc", "mlp_dec", "mlp_attn", "mlp_out", "conv_loc", "mlp_loc")),
    "keyvalue": (_key_value, ("key_linear", "query_linear", "value_linear")),
}


def convert(model: nn.Module) -> nn.Module:
    """Make each AttentionalRNNDecoder in ``model``, or ``model`` if it is one, run as one op; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no AttentionalRNNDecoder, or one that cannot be converted, and why: ``rnn_type="rnn"``, a
            subclass with a loop of its own, parts that were replaced or have hooks.
    """
    from speechbrain.nnet.RNN import AttentionalRNNDecoder as Original

    return loop.swap(model, {Original: AttentionalRNNDecoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, AttentionalRNNDecoder)
