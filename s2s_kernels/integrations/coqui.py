"""coqui-tts 0.28: the decoder of Tacotron 2 as one op and an LSTM.

The attention LSTM runs first, from a context of zeros, and reads what its own dropout leaves of the state, as the query
does. The LSTM above it runs through no attention: it comes after the op. Inference is coqui's own, and so is the whole
loop while a module in it has hooks, or in evaluation with a window or a mask of forward attention.
"""

import torch
from torch import Tensor, nn

from . import loop, speech


class Tacotron2Decoder(loop.Loop):
    replaces = ("forward", "decode", "_init_states", "_parse_outputs")

    def obstacle(self):
        from TTS.tts.layers.tacotron.attentions import OriginalAttention

        attention = self.attention
        if not isinstance(attention, OriginalAttention):
            return f"attention_type: attention is a {type(attention).__name__}, expected an OriginalAttention"
        if attention.forward_attn:
            return "use_forward_attn = True, whose first weights are 1e-7 past the first position: expected False"
        if attention.norm not in ("softmax", "sigmoid"):
            return f"attention_norm = {attention.norm}, expected softmax or sigmoid"
        names = ("query_layer", "inputs_layer", "v")
        layers = {f"attention__{name}__linear_layer": nn.Linear for name in names}
        if attention.location_attention:
            layers["attention__location_layer__location_conv1d"] = nn.Conv1d
            layers["attention__location_layer__location_dense__linear_layer"] = nn.Linear
        return loop.unlike(self, attention_rnn=nn.LSTMCell, decoder_rnn=nn.LSTMCell, stopnet=nn.Sequential, **layers)

    def trial(self):
        self.prenet.dropout_at_inference = False
        like = self.attention_rnn.weight_ih
        memory = speech.wave(like, 2, 3, self.encoder_embedding_dim)
        mask = torch.tensor([[True, True, True], [True, True, False]], device=like.device)
        return self(memory, speech.wave(like, 2, 2 * self.r, self.frame_channels), mask)

    def forward(self, inputs: Tensor, memories: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        if speech.watched(self) or (self.attention.windowing and not self.training):
            return super().forward(inputs, memories, mask)
        go = self.get_go_frame(inputs).unsqueeze(0)
        frames = self.prenet(self._update_memory(torch.cat([go, self._reshape_memory(memories)])))
        x = frames[:-1].transpose(0, 1)
        rows, steps, _ = x.shape
        width = self.decoder_rnn_dim + self.linear_projection.linear_layer.out_features
        drops = [nn.Dropout(p).train(self.training) for p in (self.p_attention_dropout, self.p_decoder_dropout)]
        of_query, of_cell, of_hidden, of_stop = loop.draw_masks(
            steps,
            x,
            (drops[0], (rows, self.query_dim)),
            (drops[0], (rows, self.query_dim)),
            (drops[1], (rows, self.decoder_rnn_dim)),
            (self.stopnet[0], (rows, width)),
        )
        h0 = x.new_zeros(1, rows, self.query_dim)
        out, _ = loop.attention_loop(
            x,
            (h0, h0),
            [loop.cell_weights(self.attention_rnn)],
            *self._source(inputs),
            mask=mask,
            first_feed=x.new_zeros(rows, inputs.shape[2]),
            drop_h=of_query,
            drop_c=of_cell,
            **self._parts(),
        )
        contexts, weights = out.contexts[:, 1:], out.weights[:, 1:]
        hidden = speech.lstm(torch.cat([out.states, contexts], 2), self.decoder_rnn, drop_h=of_hidden)
        found = self.linear_projection(torch.cat([hidden, contexts], 2))
        stop = torch.cat([hidden, found], 2)
        stop = loop.masked(stop.detach() if self.separate_stopnet else stop, of_stop)
        stop = self.stopnet[1](stop).squeeze(2)
        found = found[..., : self.r * self.frame_channels].contiguous().view(rows, -1, self.frame_channels)
        return found.transpose(1, 2), weights, stop

    def _source(self, memory):
        """keys, values, v, w_query and b_query."""
        attention = self.attention
        v, query = attention.v.linear_layer, attention.query_layer.linear_layer
        return attention.preprocess_inputs(memory), memory, v.weight[0], query.weight, query.bias

    def _parts(self):
        attention = self.attention
        parts = {"b_score": attention.v.linear_layer.bias, "normalization": attention.norm}
        if attention.location_attention:
            layer = attention.location_layer
            dense, convolution = layer.location_dense.linear_layer.weight, layer.location_conv1d.weight
            parts |= speech.location(dense, convolution) | {"location": "both"}
        return parts


def convert(model: nn.Module) -> nn.Module:
    """Make each decoder of a Tacotron2 in ``model`` run as one op and an LSTM; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no such decoder, or one that cannot be converted, and why: ``attention_type`` other than
            original, ``use_forward_attn``, parts that were replaced or have hooks.
    """
    from TTS.tts.layers.tacotron.tacotron2 import Decoder

    return loop.swap(model, {Decoder: Tacotron2Decoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, Tacotron2Decoder)
