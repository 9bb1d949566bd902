"""ESPnet 202511: the RNNDecoder of its speech recognition and translation, and the decoder of Tacotron 2.

Both attend first, with the first layer's last state. Above the first layer nothing runs through the attention: these
layers come after the op. ``score``, ``inference`` and ``calculate_all_attentions`` are ESPnet's own, and so is the
whole loop while a module in it has hooks: ESPnet's trainer puts some there for its plots of attention weights.
"""

import random
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from . import loop, speech

# --- attentions: keys, values, v, w_query and b_query; the parts; the layer that projects a context, or None

SCALE = 2.0  # of the scores, the default of the modules' forward, which no decoder changes


def _additive(attention, memory, lengths):
    query, v = attention.mlp_dec, attention.gvec
    keys = attention.pre_compute_enc_h  # there when the module itself took the first step
    source = attention.mlp_enc(memory) if keys is None else keys, memory, v.weight[0], query.weight, query.bias
    return source, {"scale": SCALE, "b_score": v.bias}, None


def _location(attention, memory, lengths):
    source, parts, _ = _additive(attention, memory, lengths)
    parts |= speech.location(attention.mlp_att.weight, attention.loc_conv.weight)
    return source, {**parts, "first_weights": speech.uniform(lengths, memory)}, None


def _coverage_location(attention, memory, lengths):
    source, parts, _ = _location(attention, memory, lengths)
    return source, {**parts, "location": "cumulative"}, None


def _coverage(attention, memory, lengths):
    (*source, _), parts, _ = _additive(attention, memory, lengths)
    history = {"w_location": attention.wvec.weight.unsqueeze(2), "location": "cumulative"}
    history["first_weights"] = speech.uniform(lengths, memory)
    return (*source, attention.wvec.bias), {**parts, **history}, None


def _multi_head(attention, memory, lengths):
    keys, values = (torch.stack([f(memory) for f in layers], 2) for layers in (attention.mlp_k, attention.mlp_v))
    v, b_score = (torch.cat([getattr(f, name) for f in attention.gvec]) for name in ("weight", "bias"))
    w_query, b_query = (torch.cat([getattr(f, name) for f in attention.mlp_q]) for name in ("weight", "bias"))
    parts = {"scale": attention.scaling, "b_score": b_score}
    return (keys, values, v, w_query, b_query), parts, attention.mlp_o


_SOURCES = {
    "AttAdd": _additive,
    "AttLoc": _location,
    "AttCov": _coverage,
    "AttCovLoc": _coverage_location,
    "AttMultiHeadAdd": _multi_head,
}


def _unlike(decoder, path, expected):
    """Why the attention at ``path`` is none of ``expected``, or not as ESPnet builds it."""
    attention = decoder.get_submodule(path)
    if type(attention).__name__ not in expected:
        return f"its attention is {type(attention).__name__}, expected {' or '.join(expected)}"
    leaves = [name for name, layer in attention.named_modules() if name and not [*layer.children()]]
    kinds = {name: nn.Conv2d if name.startswith("loc_conv") else nn.Linear for name in leaves}
    return loop.unlike(decoder, **{f"{path}.{name}".replace(".", "__"): kind for name, kind in kinds.items()})


# --- recognition


class RNNDecoder(loop.Loop):
    replaces = ("forward", "rnn_forward", "zero_state")

    def obstacle(self):
        if self.num_encs != 1:
            return f"num_encs = {self.num_encs}, expected 1"
        if self.sampling_probability:
            return f"sampling_probability = {self.sampling_probability}, expected 0"
        cells = {f"decoder__{i}": nn.RNNCellBase for i in range(self.dlayers)}
        reasons = (_unlike(self, f"att_list.{i}", _SOURCES) for i in range(len(self.att_list)))
        return next(filter(None, reasons), None) or loop.unlike(self, dropout_dec=nn.ModuleList, **cells)

    def trial(self):
        cell = self.decoder[0].weight_ih
        memory = speech.wave(cell, 2, 3, cell.shape[1] - self.dunits)
        words = torch.arange(6, device=cell.device).view(2, 3) % self.odim
        before = random.getstate()
        found = [self(memory, [3, 2], words, torch.tensor([3, 2]), i)[0] for i in range(len(self.att_list))]
        random.setstate(before)
        for attention in self.att_list:
            attention.reset()
        return found

    def forward(self, hs_pad, hlens, ys_in_pad, ys_in_lens, strm_idx=0):
        if speech.watched(self):
            return super().forward(hs_pad, hlens, ys_in_pad, ys_in_lens, strm_idx)
        from espnet.nets.pytorch_backend.nets_utils import make_pad_mask

        attention = self.att_list[min(strm_idx, len(self.att_list) - 1)]
        attention.reset()
        rows, steps = ys_in_pad.shape
        for _ in range(1, steps):
            random.random()  # as its loop does, so that who draws next gets the same numbers
        x = self.dropout_emb(self.embed(ys_in_pad))
        of_query, *of_outputs = loop.draw_masks(
            steps, x, *((dropout, (rows, self.dunits)) for dropout in (self.dropout_dec[0], *self.dropout_dec))
        )
        lengths = torch.as_tensor(hlens, device=hs_pad.device)
        source, parts, project = _SOURCES[type(attention).__name__](attention, hs_pad, lengths)
        (weight_ih, *weights), *above = map(loop.cell_weights, self.decoder)
        if project is not None:  # no bias: the projection of what is fed goes into the weights of the cell
            of_words, of_contexts = weight_ih.tensor_split([self.dunits], 1)
            weight_ih = torch.cat([of_words, of_contexts @ project.weight], 1)
        h0 = x.new_zeros(1, rows, self.dunits)
        state = h0 if self.dtype == "gru" else (h0, h0)
        out, _ = loop.attention_loop(
            x,
            state,
            [(weight_ih, *weights)],
            *source,
            lengths=lengths,
            # Nobody reads what the last state would attend to.
            drop_query=None if of_query is None else pad(of_query, (0, 0, 0, 1)),
            **parts,
        )
        z = loop.masked(out.states, of_outputs[0])
        for layer, of_output in zip(above, of_outputs[1:], strict=True):
            z, _ = loop.recurrence(z, state, [layer])
            z = loop.masked(z, of_output)
        if self.context_residual:
            contexts = out.contexts[:, :-1]
            z = torch.cat([z, contexts if project is None else project(contexts)], 2)
        z = self.output(z)
        return z.masked_fill_(make_pad_mask(ys_in_lens, z, 1), 0), ys_in_lens


# --- Tacotron 2


class Tacotron2Decoder(loop.Loop):
    replaces = ("forward", "_zero_state")

    def obstacle(self):
        from espnet.nets.pytorch_backend.tacotron2.decoder import Prenet, ZoneOutCell

        if self.prenet is not None and not isinstance(self.prenet, Prenet):
            return f"prenet is a {type(self.prenet).__name__}, expected a Prenet"
        kinds = [ZoneOutCell if hasattr(cell, "zoneout_rate") else nn.LSTMCell for cell in self.lstm]
        return _unlike(self, "att", ["AttLoc"]) or loop.unlike(self, **{f"lstm__{i}": k for i, k in enumerate(kinds)})

    def trial(self):
        if self.prenet is not None and not self.training:
            self.prenet.dropout_rate = 0.0  # it drops out in evaluation too
        like = self.feat_out.weight
        memory = speech.wave(like, 2, 3, self.att.mlp_enc.in_features)
        found = self(memory, [3, 2], speech.wave(like, 2, 3 * self.reduction_factor, self.odim))
        self.att.reset()
        return found

    def forward(self, hs: Tensor, hlens: Tensor, ys: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if speech.watched(self):
            return super().forward(hs, hlens, ys)
        ys = ys[:, self.reduction_factor - 1 :: self.reduction_factor]
        hlens = [int(n) for n in hlens]
        rows, steps, _ = ys.shape
        (of_prenet, zones), cells = self._draw(hs, steps), [getattr(cell, "cell", cell) for cell in self.lstm]
        x = torch.cat([hs.new_zeros(rows, 1, self.odim), ys[:, :-1]], 1)
        for layer, mask in zip(self.prenet.prenet if self.prenet is not None else (), of_prenet, strict=True):
            x = loop.masked(layer(x), mask)

        # The first history is uniform, and no part of the sum of the others: its own module takes the first step.
        self.att.reset()
        h0 = hs.new_zeros(1, rows, cells[0].hidden_size)
        first_context, first_weights = self.att(hs, hlens, h0[0], None)
        lengths = torch.as_tensor(hlens, device=hs.device)
        source, parts, _ = _location(self.att, hs, lengths)
        parts["first_weights"] = first_weights
        weight_ih, *weights = loop.cell_weights(cells[0])
        of_contexts, of_frames = weight_ih.tensor_split([hs.shape[2]], 1)
        out, _ = loop.attention_loop(
            x,
            (h0, h0),
            [(torch.cat([of_frames, of_contexts], 1), *weights)],
            *source,
            lengths=lengths,
            first_feed=first_context,
            location="cumulative" if self.cumulate_att_w else "previous",
            **zones[0],
            **parts,
        )
        z = out.states
        for cell, zone in zip(cells[1:], zones[1:], strict=True):
            z = speech.lstm(z, cell, **zone)
        contexts = torch.cat([first_context.unsqueeze(1), out.contexts[:, 1:-1]], 1)
        weights = torch.cat([first_weights.unsqueeze(1), out.weights[:, 1:-1]], 1)
        if self.use_concate:
            z = torch.cat([z, contexts], 2)
        # Of a step: (odim, r).
        before = self.feat_out(z).unflatten(2, (self.odim, -1)).transpose(1, 2).flatten(2)
        after = before if self.postnet is None else before + self.postnet(before)
        before, after = before.transpose(1, 2), after.transpose(1, 2)
        if self.output_activation_fn is not None:
            before, after = self.output_activation_fn(before), self.output_activation_fn(after)
        return after, before, self.prob_out(z).flatten(1), weights

    def _draw(self, like, steps):
        """Masks of the prenet's layers, and zone_h and zone_c of each LSTM, as the loop draws them."""
        rows = len(like)
        prenet = [] if self.prenet is None else self.prenet.prenet
        drops = [(nn.Dropout(self.prenet.dropout_rate), (rows, layer[0].out_features)) for layer in prenet]
        zones = []
        for cell in self.lstm:
            zoneout = partial(_zoneout, cell) if hasattr(cell, "zoneout_rate") else nn.Dropout(0.0)
            zones += 2 * [(zoneout, (rows, cell.hidden_size))]
        masks = loop.draw_masks(steps, like, *drops, *zones)
        of_prenet, zones = masks[: len(prenet)], masks[len(prenet) :]
        return of_prenet, [{"zone_h": h, "zone_c": c} for h, c in zip(zones[::2], zones[1::2], strict=True)]


def _zoneout(cell, ones):
    """The share of the old state that stays: 0 or 1 in training."""
    return torch.empty_like(ones).bernoulli_(cell.zoneout_rate) if cell.training else ones * cell.zoneout_rate


def convert(model: nn.Module) -> nn.Module:
    """Make each RNNDecoder, and each decoder of a Tacotron2, in ``model`` run as one op; in place.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: it has no such decoder, or one that cannot be converted, and why: several encoders, a
            ``sampling_probability``, an attention other than add, location, coverage, coverage_location and
            multi_head_add (of a Tacotron2, than location), parts that were replaced or have hooks.
    """
    from espnet.nets.pytorch_backend.tacotron2.decoder import Decoder as Synthesizer
    from espnet2.asr.decoder.rnn_decoder import RNNDecoder as Recognizer

    return loop.swap(model, {Recognizer: RNNDecoder, Synthesizer: Tacotron2Decoder})


def revert(model: nn.Module) -> nn.Module:
    """Undo `convert` in place; see `sk.revert`."""
    return loop.restore(model, (RNNDecoder, Tacotron2Decoder))
