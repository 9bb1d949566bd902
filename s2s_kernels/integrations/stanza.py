"""Stanza 1.15: the LSTMAttention of its lemmatizer (Seq2SeqModel), attention "soft", without a loop.

Nothing returns from its attention to its cell: the LSTM runs over the whole word as one op, and then one attention with
all queries. The scores of padding are -1e12, not -inf, and the log of the weights is an output (its copy gate reads
it), so that they are PyTorch's here. A single step, as its greedy and beam search take, is Stanza's own.
"""

import torch
from torch import nn

from . import loop


class LSTMAttention(loop.Loop):
    def obstacle(self):
        from stanza.models.common.seq2seq_modules import SoftDotAttention

        if not isinstance(self.attention_layer, SoftDotAttention):
            return f"attn_type is that of a {type(self.attention_layer).__name__}, expected soft"
        linears = dict.fromkeys(("attention_layer__linear_in", "attention_layer__linear_out"), nn.Linear)
        return loop.unlike(self, lstm_cell=nn.LSTMCell, attention_layer=nn.Module, **linears)

    def trial(self):
        rows, source, steps = 2, 3, 2
        weight = self.lstm_cell.weight_hh
        memory = torch.sin(torch.arange(rows * source * self.hidden_size)).view(rows, source, -1).to(weight)
        x = torch.cos(torch.arange(rows * steps * self.input_size)).view(rows, steps, -1).to(weight)
        x = x if self.batch_first else x.transpose(0, 1)
        padding = torch.tensor([[False, False, False], [False, False, True]], device=weight.device)
        outputs, state, weights = self(x, (memory[:, 0], memory[:, 1]), memory, padding, return_logattn=True)
        return [outputs, *state, weights.exp()]

    def forward(self, input, hidden, ctx, ctx_mask=None, return_logattn=False):
        x = input if self.batch_first else input.transpose(0, 1)
        if x.shape[1] == 1:
            return super().forward(input, hidden, ctx, ctx_mask, return_logattn)
        from stanza.models.common.seq2seq_constant import INFINITY_NUMBER

        state = tuple(s[None] for s in hidden)
        states, last = loop.recurrence(x, state, [loop.cell_weights(self.lstm_cell)])
        attention = self.attention_layer
        scores = attention.linear_in(states) @ ctx.transpose(1, 2)
        if ctx_mask is not None:
            scores = scores.masked_fill(ctx_mask[:, None], -INFINITY_NUMBER)
        log_weights = scores.log_softmax(-1)
        contexts = log_weights.exp() @ ctx
        outputs = attention.linear_out(torch.cat([contexts, states], -1)).tanh()
        found = (outputs, log_weights) if self.batch_first else (outputs.transpose(0, 1), log_weights.transpose(0, 1))
        last = tuple(s[0] for s in last)
        return (found[0], last, found[1]) if return_logattn else (found[0], last)


def convert(model: nn.Module) -> nn.Module:
    """Make the decoder in ``model``, a stanza Seq2SeqModel or its LSTMAttention, run as one op; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no LSTMAttention, or one that cannot be converted, and why: another ``attn_type`` than soft,
            a subclass with a forward of its own, parts that were replaced or have hooks.
    """
    from stanza.models.common.seq2seq_modules import LSTMAttention as Original

    return loop.swap(model, {Original: LSTMAttention})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, LSTMAttention)
