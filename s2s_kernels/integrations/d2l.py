"""Dive into Deep Learning (d2l 1.0): the decoder that its chapter on Bahdanau attention writes, as one op.

d2l has its base class alone, d2l.AttentionDecoder; the reader writes the rest. Converted is any class derived from it
with the book's parts, ``attention`` (d2l.AdditiveAttention or DotProductAttention), ``embedding``, ``rnn`` and
``dense``, that gives for a small batch what the book's gives: it attends with the top state first, to what the encoder
gave, and its rnn runs on [context ; word]. A single step, as ``predict_step`` takes, is its own.

The scores of padding are -1e6 there, so that a row of length 0 has the same weight everywhere.
"""

import math
from weakref import WeakKeyDictionary

import torch
from torch import nn

from . import loop

# Of a decoder's last call. The reader's class has them in an attribute of its own, whose name we do not know.
_WEIGHTS = WeakKeyDictionary()


class AttentionDecoder(loop.Loop):
    replaces = ()  # the reader's class has its own, which the trial compares with ours

    def obstacle(self):
        from d2l import torch as d2l

        kinds = {
            "attention": (d2l.AdditiveAttention, d2l.DotProductAttention),
            "embedding": nn.Embedding,
            "rnn": (nn.GRU, nn.LSTM),
            "dense": nn.Linear,
        }
        for name in kinds:
            if not isinstance(getattr(self, name, None), nn.Module):
                return f"it has no {name}, as the book's decoder has"
        for name, p in self.named_parameters():
            if nn.parameter.is_lazy(p):
                return f"{name} has no shape yet: call the model once before"
        if self.rnn.batch_first or self.rnn.bidirectional:
            return "its rnn is batch_first or bidirectional, which the book's is not"
        return loop.unlike(self, attention__dropout=nn.Dropout, **kinds)

    def trial(self):
        rows, source, steps = 2, 3, 2
        weight, size = self.rnn.weight_hh_l0, self.rnn.hidden_size
        width = self.rnn.input_size - self.embedding.embedding_dim
        memory = torch.sin(torch.arange(rows * source * width)).view(rows, source, width).to(weight)
        hidden = torch.cos(torch.arange(self.rnn.num_layers * rows * size)).view(-1, rows, size).to(weight)
        hidden = (hidden, hidden.flip(0)) if isinstance(self.rnn, nn.LSTM) else hidden
        words = torch.arange(rows * steps, device=weight.device).view(rows, steps) % self.embedding.num_embeddings
        logits, (_, hidden, _) = self(words, [memory, hidden, torch.tensor([3, 2], device=weight.device)])
        return [logits, *(hidden if isinstance(hidden, tuple) else [hidden]), torch.stack([*self.attention_weights])]

    @property
    def attention_weights(self):
        return _WEIGHTS[self] if self in _WEIGHTS else super().attention_weights

    def forward(self, X, state):
        memory, hidden, lengths = state
        if X.shape[1] == 1 or (lengths is not None and lengths.dim() != 1):
            _WEIGHTS.pop(self, None)
            return super().forward(X, state)
        words = self.embedding(X)
        (rows, steps, _), (_, positions, width) = words.shape, memory.shape
        between = [(loop.between_layers(self.rnn), (rows, self.rnn.hidden_size))] * (self.rnn.num_layers - 1)
        of_weights, *between = loop.draw_masks(steps, words, (self.attention.dropout, (rows, positions)), *between)
        if of_weights is not None:  # the op attends once more, with the last state, which nothing reads
            of_weights = torch.cat([of_weights, torch.ones_like(of_weights[:, :1])], 1)
        source, mask, scale = self._source(memory, lengths)
        (weight_ih, *others), *above = loop.all_weights(self.rnn)
        weight_ih = torch.cat([weight_ih[:, width:], weight_ih[:, :width]], 1)  # theirs is of [context ; word]
        out, hidden = loop.attention_loop(
            words,
            hidden,
            [(weight_ih, *others), *above],
            *source,
            mask=mask,
            scale=scale,
            drop_weights=of_weights,
            drop_layers=loop.stack_masks(between),
        )
        _WEIGHTS[self] = [*out.weights[:, :-1].unsqueeze(2).unbind(1)]
        return self.dense(out.states), [memory, hidden, lengths]

    def _source(self, memory, lengths):
        """(keys, values, v, w_query, b_query), mask and scale."""
        attention = self.attention
        if hasattr(attention, "W_k"):
            keys, v, w_query, scale = attention.W_k(memory), attention.w_v.weight[0], attention.W_q.weight, 1.0
        else:
            keys, v, w_query, scale = memory, None, None, 1 / math.sqrt(self.rnn.hidden_size)
        mask = None
        if lengths is not None:
            mask = torch.arange(memory.shape[1], device=memory.device) < lengths[:, None]
            empty = ~mask.any(1, keepdim=True)
            mask = mask | empty
            keys = keys.masked_fill(empty[..., None], 0)  # the same score everywhere, as filled scores are
        return (keys, memory, v, w_query, None), mask, scale


def convert(model: nn.Module) -> nn.Module:
    """Make the decoder in ``model``, a d2l.Seq2Seq or a decoder with attention, run as one op; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no d2l.AttentionDecoder, or one that is not the book's: parts of other names or kinds, or
            another result for a small batch; or its lazy layers have no shapes yet.
    """
    from d2l import torch as d2l

    return loop.swap(model, {d2l.AttentionDecoder: AttentionDecoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, AttentionDecoder)
