"""JoeyNMT's RNN model (Kreutzer et al. 2019) on the parameters of ours, where joeynmt is importable.

Its RecurrentEncoder and RecurrentDecoder with input feeding compute what ``s2s`` does with order "after" and feed
"attentional". Two of its layers have no bias where ours do; they are given one, so that both are the same function.
"""

from importlib.util import find_spec
from types import SimpleNamespace

import torch
from torch import nn

PAD, UNK, BOS, EOS = range(4)
NAMES = {
    "encoder.embedding.": "src_embed.lut.",
    "bridge.layers.0.": "decoder.bridge_layer.",
    "embedding.": "trg_embed.lut.",
    "decoder.scan.attention.query_layer.": "decoder.attention.query_layer.",
    "decoder.scan.attention.key_layer.": "decoder.attention.key_layer.",
    "decoder.scan.attention.v": "decoder.attention.energy_layer.weight",
    "decoder.scan.feed_layer.": "decoder.att_vector_layer.",
    "decoder.scan.cell.weight_ih": "decoder.rnn.weight_ih_l0",
    "decoder.scan.cell.weight_hh": "decoder.rnn.weight_hh_l0",
    "decoder.scan.cell.bias_ih": "decoder.rnn.bias_ih_l0",
    "decoder.scan.cell.bias_hh": "decoder.rnn.bias_hh_l0",
    "output.": "decoder.output_layer.",
}


def available(implementation):
    """``(implementation,)`` where joeynmt is installed, else nothing."""
    return () if find_spec("joeynmt") is None else (implementation,)


def its_name(name):
    for ours, its in NAMES.items():
        if name.startswith(ours):
            return its + name.removeprefix(ours)
    return name


class Model(nn.Module):
    """JoeyNMT's model; ``leaves``: its parameters by the names of ours."""

    def __init__(self, settings, inputs):
        from joeynmt.decoders import RecurrentDecoder
        from joeynmt.embeddings import Embeddings
        from joeynmt.encoders import RecurrentEncoder
        from joeynmt.model import Model as JoeyModel

        super().__init__()
        vocab, width = inputs["embedding.weight"].shape
        special = {"pad_index": PAD, "unk_index": UNK, "bos_index": BOS, "eos_index": EOS, "sep_index": None}
        words = SimpleNamespace(specials=[], lang_tags=[], **special)
        encoder = RecurrentEncoder(hidden_size=settings.encoder_size, emb_size=width, bidirectional=True)
        decoder = RecurrentDecoder(
            rnn_type="gru",
            emb_size=width,
            hidden_size=settings.hidden_size,
            encoder=encoder,
            attention="bahdanau",
            vocab_size=vocab,
            init_hidden="bridge",
            input_feeding=True,
        )
        for layer in (decoder.attention.query_layer, decoder.output_layer):
            layer.bias = nn.Parameter(torch.zeros(layer.out_features))
        source, target = (Embeddings(width, vocab_size=vocab, padding_idx=PAD) for _ in range(2))
        self.model = JoeyModel(encoder, decoder, source, target, words, words)
        self.model.loss_function = ("crossentropy", 0.0)
        self.to(inputs["embedding.weight"])
        named = dict(self.model.named_parameters())
        self.leaves = {name: named.pop(its_name(name)) for name, x in inputs.items() if x.is_floating_point()}
        assert not named, f"parameters without a value: {', '.join(named)}"
        with torch.no_grad():
            for name, p in self.leaves.items():
                p.copy_(inputs[name].reshape(p.shape))

    def loss(self, batch):
        return self.model(
            return_type="loss",
            src=batch.source,
            src_length=batch.source_lengths,
            src_mask=(batch.source != PAD).unsqueeze(1),
            trg_input=batch.inputs,
            trg=batch.outputs,
            trg_mask=(batch.outputs != PAD).unsqueeze(1),
        )[0]


def build(settings, inputs):
    return Model(settings, inputs)


def search(T, beam):
    """JoeyNMT's own greedy or beam search for T tokens, from the encoder on."""

    def run(model, source, lengths):
        from joeynmt.search import beam_search, greedy

        model, mask = model.model, (source != PAD).unsqueeze(1)
        output, hidden, _, _ = model(return_type="encode", src=source, src_length=lengths, src_mask=mask)
        encoded = {"encoder_output": output, "encoder_hidden": hidden, "src_mask": mask, "max_output_length": T}
        if beam == 1:
            return greedy(model=model, **encoded)[0]
        return beam_search(model=model, beam_size=beam, alpha=-1, **encoded)[0]

    return run
