"""OpenNMT-py 3.5: its recurrent models, which attend after the cell.

The attentional vector is tanh(W [context ; h]), with mlp attention W [context ; h] + b without tanh. The decoder's
states are the encoder's last ones, layer by layer; the bridge, a relu over pairs of them, has no counterpart.
"""

from argparse import Namespace

import torch

from ..errors import S2SError
from ..model.config import Config
from ..translator import Translator
from .shared import Tokens, decoder_names, load_checkpoint, need, refuse, renamed, translator

SPECIALS = ["<blank>", "<unk>", "<s>", "</s>"]


def import_opennmt(checkpoint) -> Translator:
    """The Translator of an OpenNMT-py checkpoint (.pt).

    Texts are tokens between spaces: the transforms of its training (subwords, case) are the caller's.
    ``translate(texts, allow_unknown=True)`` may write <unk>, as OpenNMT-py's own search does.

    Args:
        checkpoint: the file; its options are a plain argparse.Namespace, and nothing else of its pickle is executed.

    Raises:
        S2SError: a file that cannot be read, a form that s2s lacks, by the name of its option.
    """
    found = load_checkpoint(checkpoint, [Namespace])
    missing = [name for name in ("model", "generator", "vocab", "opt") if found.get(name) is None]
    if missing:
        raise S2SError(f"{checkpoint} has no {missing[0]}, which OpenNMT-py's checkpoints have.")
    options, vocabularies, weights = vars(found["opt"]), found["vocab"], found["model"]
    config = configuration(options)
    source, target = (Tokens(list(vocabularies[side]), SPECIALS, f"vocab[{side!r}]") for side in ("src", "tgt"))
    made = _weights(config, weights, found["generator"], source, target, checkpoint)
    return translator(config, made, source.vocabulary(), target.vocabulary(), checkpoint)


def configuration(options) -> Config:
    """Our Config of OpenNMT-py's model options; S2SError for what has no counterpart."""
    option = options.get
    refuse(option("encoder_type") not in ("rnn", "brnn"), "encoder_type", option("encoder_type"), "'rnn' or 'brnn'")
    refuse(option("decoder_type") != "rnn", "decoder_type", option("decoder_type"), "'rnn'")
    refuse(option("rnn_type") not in ("LSTM", "GRU"), "rnn_type", option("rnn_type"), "'LSTM' or 'GRU'")
    for name in ("bridge", "copy_attn", "coverage_attn", "lambda_coverage", "position_encoding", "feat_merge_size"):
        value = option(name)
        refuse(value not in (None, False, 0, 0.0, -1), name, value, "it off")
    kind, feeding, layers = option("global_attention"), bool(option("input_feed", 1)), option("dec_layers")
    refuse(kind not in ("dot", "general", "mlp"), "global_attention", kind, "'dot', 'general' or 'mlp'")
    function = option("global_attention_function", "softmax")
    refuse(function != "softmax", "global_attention_function", function, "'softmax'")
    refuse(kind == "mlp" and feeding, "input_feed", 1, "0 with global_attention 'mlp', which is fed back without tanh")
    refuse(feeding and layers > 1, "dec_layers", layers, "1 with input_feed")
    refuse(option("enc_layers") != layers, "dec_layers", layers, f"{option('enc_layers')}, as enc_layers")
    widths = option("src_word_vec_size"), option("tgt_word_vec_size")
    refuse(widths[0] != widths[1], "tgt_word_vec_size", widths[1], f"{widths[0]}, as src_word_vec_size")
    both = option("encoder_type") == "brnn" or bool(option("brnn"))
    hidden = option("dec_hid_size")
    dropout = option("dropout", 0.0)
    return Config(
        tokens="space",
        vocab_size=0,
        cell=option("rnn_type").lower(),
        embedding_size=widths[0],
        encoder_size=option("enc_hid_size") // (2 if both else 1),
        encoder_layers=layers,
        bidirectional=both,
        hidden_size=hidden,
        decoder_layers=layers,
        attention={"mlp": "additive"}.get(kind, kind),
        attention_size=hidden,
        order="after",
        feed="attentional" if feeding else "none",
        initial_state="last",
        readout="linear" if kind == "mlp" else "tanh",
        readout_size=hidden,
        dropout=float(dropout[0] if isinstance(dropout, list) else dropout),
    )


def _weights(config, weights, generator, source, target, path):
    attention, recurrence, features = decoder_names(config)
    made = renamed(weights, "encoder.rnn.", "encoder.rnn.")
    table = "embeddings.make_embedding.emb_luts.0.weight"
    made["encoder.embedding.weight"] = source.rows("the source embedding", need(weights, f"encoder.{table}", path))
    made["embedding.weight"] = target.rows("the target embedding", need(weights, f"decoder.{table}", path))
    made["output.weight"] = target.rows("generator", need(generator, "weight", path))
    if "bias" in generator:
        made["output.bias"] = target.rows("generator", generator["bias"])
    if config.feeds_attention:  # a stack of cells, of which there is one
        made |= renamed(weights, "decoder.rnn.layers.0.", recurrence)
    else:
        made |= renamed(weights, "decoder.rnn.", recurrence)
    joined = need(weights, "decoder.attn.linear_out.weight", path)
    context, state = joined.split([config.context_size, config.hidden_size], 1)
    made[f"{features}weight"] = torch.cat([state, context], 1)
    made[f"{features}bias"] = weights.get("decoder.attn.linear_out.bias", joined.new_zeros(len(joined))).float()
    if config.attention == "general":
        made[f"{attention}key_layer.weight"] = need(weights, "decoder.attn.linear_in.weight", path).T.contiguous()
    if config.attention == "additive":
        made |= renamed(weights, "decoder.attn.linear_context.", f"{attention}key_layer.")
        made |= renamed(weights, "decoder.attn.linear_query.", f"{attention}query_layer.")
        made[f"{attention}v"] = need(weights, "decoder.attn.v.weight", path)[0]
    return made
