"""OpenNMT-py 3.5: its InputFeedRNNDecoder, LSTM or GRU, with dot, general or mlp attention, as one op.

The cell runs first, on [word ; what the last step gave, dropped out]. What a step gives is W [context ; h] + b: through
a tanh after dot and general attention, without one after mlp. ``coverage_attn`` is only a sum of the weights (it never
reaches the attention), and ``copy_attn`` looks at the outputs alone: both are made after the loop. A single step, as
its beam search takes, is OpenNMT-py's own.
"""

import torch
from torch import nn
from torch.nn.functional import linear

from . import loop


class InputFeedRNNDecoder(loop.Loop):
    replaces = ("forward", "_run_forward_pass")

    def obstacle(self):
        if not self.attentional:
            return "global_attention = none"
        if self.context_gate is not None:
            return f"context_gate is a {type(self.context_gate).__name__}, expected none"
        for name in ("attn", "copy_attn"):
            attention = getattr(self, name)
            if attention is not None and attention.attn_func != "softmax":
                return f"global_attention_function = {attention.attn_func}, expected softmax"
        cells = {f"rnn__layers__{i}": (nn.LSTMCell, nn.GRUCell) for i in range(len(self.rnn.layers))}
        found = loop.unlike(self, dropout=nn.Dropout, rnn__dropout=nn.Dropout, attn__linear_out=nn.Linear, **cells)
        if found is None and self.copy_attn is not None:
            found = loop.unlike(self, copy_attn__linear_out=nn.Linear)
        return found

    def trial(self):
        rows, source, steps = 2, 3, 2
        weight = self.attn.linear_out.weight
        memory = torch.sin(torch.arange(rows * source * self.hidden_size)).view(rows, source, -1).to(weight)
        words = torch.arange(rows * steps, device=weight.device).view(rows, steps, 1) % 2
        words = words.expand(-1, -1, len(self.embeddings.emb_luts))  # one of each feature
        lengths = torch.tensor([2, 3], device=weight.device)
        first = memory[:, 0].expand(len(self.rnn.layers), rows, -1)
        state, self.state = self.state, {"hidden": (first, first), "input_feed": memory[None, :, 1], "coverage": None}
        if isinstance(self.rnn.layers[0], nn.GRUCell):
            self.state["hidden"] = (first,)
        try:
            outputs, attention = self(words, memory, lengths)
            return [outputs, *self.state["hidden"], *attention.values()]
        finally:
            self.state = state

    def _run_forward_pass(self, tgt, enc_out, src_len=None):
        if tgt.shape[1] == 1:
            return super()._run_forward_pass(tgt, enc_out, src_len=src_len)
        words, hidden = self.embeddings(tgt), self.state["hidden"]
        rows, steps, _ = words.shape
        of_layer = self.rnn.dropout, (rows, self.hidden_size)
        *between, of_output = loop.draw_masks(
            steps, words, *[of_layer] * (len(hidden[0]) - 1), (self.dropout, (rows, self.hidden_size))
        )
        attention, out_layer = self.attn, self.attn.linear_out
        width = enc_out.shape[2]
        out, last = loop.attention_loop(
            words,
            hidden if len(hidden) == 2 else hidden[0],
            [loop.cell_weights(cell) for cell in self.rnn.layers],
            *_keys(attention, enc_out),
            lengths=src_len,
            w_feed=torch.cat([out_layer.weight[:, width:], out_layer.weight[:, :width]], 1),  # theirs is of [c ; h]
            b_feed=out_layer.bias,
            first_feed=self.state["input_feed"][0],
            feed="linear" if attention.attn_type == "mlp" else "tanh",
            # A step is fed what the one before gave, and the first what is given, which has been dropped out already.
            drop_fed=None if of_output is None else loop.one_before(of_output[:, :-1]),
            drop_layers=loop.stack_masks(between),
        )
        outputs = loop.masked(out.feeds[:, 1:], of_output).contiguous()
        return last if len(hidden) == 2 else (last,), outputs, self._attentions(out.weights[:, 1:], outputs, enc_out)

    def _attentions(self, weights, outputs, memory):
        """Everything (T, B, S), as its forward stacks what a loop has listed; contiguous, since its losses view it."""
        found = {"std": weights.transpose(0, 1).contiguous()}
        if self._coverage:
            so_far = self.state["coverage"]
            found["coverage"] = found["std"].cumsum(0) if so_far is None else found["std"].cumsum(0) + so_far
        if self.copy_attn is not None:
            keys, memory, v, w_query, b_query = _keys(self.copy_attn, memory)
            queries = outputs if w_query is None else linear(outputs, w_query, b_query)
            found["copy"] = loop.attend(queries, keys, memory, v)[1].transpose(0, 1).contiguous()
        elif self._reuse_copy_attn:
            found["copy"] = found["std"]
        return found


def _keys(attention, memory):
    """keys, values, v, w_query, b_query of its GlobalAttention."""
    if attention.attn_type == "dot":
        return memory, memory, None, None, None
    if attention.attn_type == "general":
        return memory, memory, None, attention.linear_in.weight, attention.linear_in.bias
    query = attention.linear_query
    return attention.linear_context(memory), memory, attention.v.weight[0], query.weight, query.bias


def convert(model: nn.Module) -> nn.Module:
    """Make the input feeding decoder in ``model``, an onmt NMTModel or its decoder, run as one op; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no InputFeedRNNDecoder (``input_feed = 0`` has no loop: sk.convert is all it needs), or one
            that cannot be converted, and why: ``context_gate``, ``global_attention = none``,
            ``global_attention_function = sparsemax``, a subclass with a step of its own, parts replaced or with hooks.
    """
    from onmt.decoders.decoder import InputFeedRNNDecoder as Original

    return loop.swap(model, {Original: InputFeedRNNDecoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, InputFeedRNNDecoder)
