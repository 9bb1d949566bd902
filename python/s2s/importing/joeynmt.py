"""JoeyNMT 2.3: its recurrent models, which attend after the cell with its new top state.

The attentional vector is tanh(W [h ; context] + b), fed back or not. An LSTM's first h and c are the same, made of the
encoder's h alone, and all layers begin alike. A source ends with </s>, which is attended to.
"""

from pathlib import Path

from ..errors import S2SError
from ..files import AnyPath
from ..model.config import Config
from ..text.pairs import read_lines, read_text
from ..translator import Translator
from .shared import Tokens, decoder_names, load_checkpoint, need, parse_yaml, refuse, renamed, translator

LEVELS = ("word", "bpe")


def import_joeynmt(folder: AnyPath, checkpoint: str = "best.ckpt") -> Translator:
    """The Translator of a JoeyNMT model folder.

    Texts are tokens between spaces, as the model was trained on: lower-cased, tokenized and in subwords by the caller.
    ``translate(texts, allow_unknown=True)`` may write <unk>, as JoeyNMT's own search does.

    Args:
        folder: with config.yaml, src_vocab.txt, trg_vocab.txt and the checkpoint, of which no pickle is executed.
        checkpoint: its file name.

    Raises:
        S2SError: a file that cannot be read, a form that s2s lacks (by its name), PyYAML is not installed.
    """
    folder = Path(folder)
    settings = parse_yaml(read_text(path := folder / "config.yaml"), path, "JoeyNMT's configuration")
    path = folder / checkpoint
    weights = load_checkpoint(path).get("model_state")
    if not isinstance(weights, dict):
        raise S2SError(f"{path} has no model_state, which JoeyNMT's checkpoints have.")
    model, data = settings.get("model") or {}, settings.get("data") or {}
    marks = data.get("special_symbols") or {}
    specials = [marks.get(f"{name}_token", usual) for name, usual in DEFAULTS.items()]
    for side in ("src", "trg"):
        level = (data.get(side) or {}).get("level", "word")
        refuse(level not in LEVELS, f"data.{side}.level", level, " or ".join(LEVELS))
    source, target = (
        Tokens(read_lines(folder / f"{side}_vocab.txt"), specials, f"{side}_vocab.txt") for side in ("src", "trg")
    )
    config = configuration(model)
    made = _weights(config, model, weights, source, target, path)
    return translator(config, made, source.vocabulary(end=True), target.vocabulary(), path)


DEFAULTS = {"pad": "<pad>", "unk": "<unk>", "bos": "<s>", "eos": "</s>"}


def configuration(model) -> Config:
    """Our Config of the section ``model`` of JoeyNMT's configuration; S2SError for what has no counterpart."""
    encoder, decoder = model.get("encoder") or {}, model.get("decoder") or {}
    for side, part in (("encoder", encoder), ("decoder", decoder)):
        kind = part.get("type", "recurrent")
        refuse(kind != "recurrent", f"model.{side}.type", kind, "'recurrent'")
    refuse(not encoder.get("bidirectional", True), "model.encoder.bidirectional", False, "True")
    cells = encoder.get("rnn_type", "gru"), decoder.get("rnn_type", "gru")
    refuse(cells[0] != cells[1] or cells[0] not in ("gru", "lstm"), "model.decoder.rnn_type", cells[1], f"{cells[0]!r}")
    widths = [(part.get("embeddings") or {}).get("embedding_dim") for part in (encoder, decoder)]
    refuse(
        widths[0] != widths[1], "model.decoder.embeddings.embedding_dim", widths[1], f"{widths[0]}, as the encoder's"
    )
    attention = {"bahdanau": "additive", "luong": "general"}.get(name := decoder.get("attention", "bahdanau"))
    refuse(attention is None, "model.decoder.attention", name, "'bahdanau' or 'luong'")
    feeding, layers = decoder.get("input_feeding", True), decoder.get("num_layers", 1)
    refuse(feeding and layers > 1, "model.decoder.num_layers", layers, "1 with input_feeding")
    hidden, start = decoder["hidden_size"], decoder.get("init_hidden", "bridge")
    first = {"bridge": "hidden", "last": "copy"}.get(start, "zeros")
    return Config(
        tokens="space",
        vocab_size=0,
        cell=cells[0],
        embedding_size=widths[0],
        encoder_size=encoder["hidden_size"],
        encoder_layers=encoder.get("num_layers", 1),
        bidirectional=True,
        hidden_size=hidden,
        decoder_layers=layers,
        attention=attention,
        attention_size=hidden,
        attention_bias=False,
        order="after",
        feed="attentional" if feeding else "none",
        initial_state=first,
        readout="tanh",
        readout_size=hidden,
        dropout=float(decoder.get("dropout", 0.0)),
    )


def _weights(config, model, weights, source, target, path):
    attention, recurrence, features = decoder_names(config)
    made = renamed(weights, "encoder.rnn.", "encoder.rnn.")
    scale = config.embedding_size**0.5
    for side, name, tokens in (("encoder", "src", source), ("decoder", "trg", target)):
        scaled = ((model.get(side) or {}).get("embeddings") or {}).get("scale", False)
        table = tokens.rows(f"{name}_embed", need(weights, f"{name}_embed.lut.weight", path))
        made["encoder.embedding.weight" if name == "src" else "embedding.weight"] = table * scale if scaled else table
    made["output.weight"] = target.rows("output_layer", need(weights, "decoder.output_layer.weight", path))
    suffix = "_l0" if config.feeds_attention else ""  # our scan has a cell, without a layer's number
    for name, x in renamed(weights, "decoder.rnn.", recurrence).items():
        made[name.removesuffix(suffix)] = x
    made |= renamed(weights, "decoder.att_vector_layer.", features)
    made |= renamed(weights, "decoder.attention.key_layer.", f"{attention}key_layer.")
    if config.attention == "additive":
        made |= renamed(weights, "decoder.attention.query_layer.", f"{attention}query_layer.")
        made[f"{attention}v"] = need(weights, "decoder.attention.energy_layer.weight", path)[0]
    if config.initial_state == "hidden":
        for i in range(config.decoder_layers * config.states_per_layer):
            made |= renamed(weights, "decoder.bridge_layer.", f"bridge.layers.{i}.")
    return made
