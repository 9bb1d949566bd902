"""docTR 1.1: the SARDecoder of its SAR, without a loop in training, and with one projection of the image in decoding.

Its cell is applied twice a step, as two layers of the same weights; nothing returns from the attention to them. In
training both layers run as one op each over the whole word, and then one attention with all queries. In evaluation it
feeds back its own letters: that loop stays, step by step, but the convolution of the image is made once and not in
every step, and the attention is one op.
"""

import torch
from torch import nn
from torch.nn.functional import linear

from .. import ops
from . import loop


class SARDecoder(loop.Loop):
    def obstacle(self):
        convolutions = ("feat_conv", "state_conv", "attention_projector")
        parts = dict.fromkeys((f"attention_module__{name}" for name in convolutions), nn.Conv2d)
        parts["attention_module"] = nn.Module
        return loop.unlike(self, lstm_cell=nn.LSTMCell, output_dense=nn.Linear, dropout=nn.Dropout, **parts)

    def trial(self):
        rows, height, width = 2, 2, 3
        weight = self.attention_module.feat_conv.weight
        channels = weight.shape[1]
        image = torch.sin(torch.arange(rows * channels * height * width)).view(rows, channels, height, width)
        whole = torch.cos(torch.arange(rows * self.lstm_cell.input_size)).view(rows, -1)
        letters = torch.arange(rows * self.max_length, device=weight.device).view(rows, -1)
        return [self(image.to(weight), whole.to(weight), letters % min(3, self.embed_tgt.num_embeddings))]

    def forward(self, features, holistic, gt=None):
        source = self._source(features)
        teach = gt is not None and self.training
        logits = self._teach(source, holistic, gt) if teach else self._spell(source, holistic)
        return logits[:, 1:]  # what the image alone gave has no letter

    def _source(self, features):
        """keys, values, v and w_query of its attention over all places of the image."""
        attention = self.attention_module
        keys, values = (x.flatten(2).transpose(1, 2) for x in (attention.feat_conv(features), features))
        return keys, values, attention.attention_projector.weight.flatten(), attention.state_conv.weight.flatten(1)

    def _teach(self, source, holistic, gt):
        keys, values, v, w_query = source
        blank = holistic.new_zeros(len(holistic), 1, self.vocab_size + 1)
        symbols = torch.cat([blank, self.embed_tgt(gt[:, : self.max_length - 1])], 1)
        x = torch.cat([holistic[:, None], self.embed(symbols)], 1)
        first = values.new_zeros(2, len(values), values.shape[2])
        states, _ = loop.recurrence(x, (first, first), [loop.cell_weights(self.lstm_cell)] * 2)
        glimpses, _ = loop.attend(linear(states, w_query), keys, values, v)
        attended = torch.cat([states, glimpses], 2)
        (mask,) = loop.draw_masks(attended.shape[1], attended, (self.dropout, attended[:, 0].shape))
        return self.output_dense(loop.masked(attended, mask))

    def _spell(self, source, holistic):
        keys, values, v, w_query = source
        below = above = (values.new_zeros(len(values), values.shape[2]),) * 2
        found = []
        for t in range(self.max_length + 1):
            if t == 0:
                symbol = holistic
            elif t == 1:
                symbol = self.embed(holistic.new_zeros(len(holistic), self.vocab_size + 1))
            else:
                symbol = self.embed(self.embed_tgt(found[-1].argmax(-1)))
            below = self.lstm_cell(symbol, below)
            above = self.lstm_cell(below[0], above)
            glimpse, _ = ops.additive_attention(linear(above[0], w_query), keys, values, v)
            found.append(self.output_dense(self.dropout(torch.cat([above[0], glimpse], 1))))
        return torch.stack(found, 1)


def convert(model: nn.Module) -> nn.Module:
    """Make the decoder in ``model``, a docTR SAR or its SARDecoder, run on the fused ops; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no SARDecoder, or one that cannot be converted, and why: a subclass with a forward of its
            own, parts that were replaced or have hooks.
    """
    from doctr.models.recognition.sar.pytorch import SARDecoder as Original

    return loop.swap(model, {Original: SARDecoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, SARDecoder)
