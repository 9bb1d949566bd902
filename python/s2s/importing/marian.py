"""Marian 1.12: its models of type s2s, with the decoder of Nematus: two GRU cells a step, the attention between them.

The first cell's candidate has its bias outside the reset gate, as the encoder's has, the second one's inside it. The
first state is made of the mean of the encoder's outputs, the first input is a vector of zeros, and a source ends with
</s>, which is attended to.
"""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..errors import S2SError
from ..files import AnyPath
from ..model.config import Config
from ..text.pairs import read_text
from ..text.vocab import SPECIALS, Vocabulary
from ..translator import Translator
from .shared import need, parse_yaml, refuse, translator

# What these options say of a model that is a Config of ours, "" being what an older version leaves out.
ONLY = {
    "type": ("s2s",),
    "enc-type": ("bidirectional",),
    "enc-cell": ("gru",),
    "enc-cell-depth": (1,),
    "enc-depth": (1,),
    "dec-cell": ("gru",),
    "dec-cell-base-depth": (2,),
    "dec-depth": (1,),
    "skip": (False, ""),
    "layer-normalization": (False, ""),
    "right-left": (False, ""),
    "lemma-dim-emb": (0, ""),
    "ulr": (False, ""),
}
NEVER = -1e9  # a logit whose probability is 0: of our tokens that Marian does not have


def import_marian(model: AnyPath, vocab: AnyPath | Sequence[AnyPath]) -> Translator:
    """The Translator of a Marian model (.npz) of type s2s.

    Texts are tokens between spaces, as the vocabulary has them. ``translate(texts, allow_unknown=True)`` may write
    <unk>, as ``marian decode --allow-unk`` does; without it neither does.

    Args:
        model: the file, in which Marian keeps the options of the model too.
        vocab: the file of both vocabularies, or a pair of source's and target's: .yml or .json with an id for each
            token, or a token a line.

    Raises:
        S2SError: a file that cannot be read, an option that has no counterpart here (by its name), PyYAML is not
            installed.
    """
    path = Path(model)
    arrays, options = read_model(path)
    for name, values in ONLY.items():
        value = options.get(name, "")
        refuse(value not in values, name, value, repr(values[0]))
    files = vocab if isinstance(vocab, (tuple, list)) else (vocab, vocab)
    if len(files) != 2:
        raise S2SError(f"vocab has {len(files)} files, expected one or a pair.")
    source, target = (Tokens(Path(file)) for file in files)
    tied = bool(options.get("tied-embeddings") or options.get("tied-embeddings-all"))
    weights = {name: torch.from_numpy(x).float() for name, x in arrays.items()}
    size, hidden = options["dim-emb"], options["dim-rnn"]
    config = Config(
        tokens="space",
        vocab_size=0,
        cell="gru",
        embedding_size=size,
        encoder_size=hidden,
        bidirectional=True,
        hidden_size=hidden,
        attention="additive",
        attention_size=2 * hidden,
        order="between",
        initial_state="mean",
        readout="tanh_input",
        readout_size=size,
        tied_embeddings=tied,
        dropout=0.0,
    )
    made = _weights(weights, source, target, tied, path)
    return translator(config, made, source.vocabulary(end=True), target.vocabulary(), path)


def read_model(path):
    """(arrays by name, options) of a .npz that Marian wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise S2SError(f"{path} cannot be read as .npz ({reason}).") from None
    options = arrays.pop("special:model.yml", None)
    if options is None:
        raise S2SError(f"{path} has no special:model.yml, in which Marian keeps a model's options.")
    text = options.tobytes().rstrip(b"\0").decode("utf-8", "replace")
    return arrays, parse_yaml(text, f"special:model.yml of {path}", "Marian's options")


class Tokens:
    """A vocabulary of Marian's in our order: padding and begin, which it has not, stand before and between."""

    def __init__(self, path):
        ids = read_vocabulary(path)
        for token in ("</s>", "<unk>"):
            if token not in ids:
                raise S2SError(f"{path} has no {token!r}.")
        if sorted(ids.values()) != list(range(len(ids))):
            raise S2SError(f"{path} has no token for each id from 0 to {len(ids) - 1}.")
        clash = next((token for token in ("<pad>", "<s>") if token in ids), None)
        if clash:
            raise S2SError(f"{path} has a token {clash!r}, which s2s keeps for itself.")
        own = (ids["<unk>"], ids["</s>"])
        others = sorted((i, token) for token, i in ids.items() if i not in own)
        # None: a row that Marian does not have.
        self.order = [None, own[0], None, own[1], *(i for i, _ in others)]
        self.tokens = SPECIALS + [token for _, token in others]

    def vocabulary(self, end=False):
        return Vocabulary(self.tokens, "space", end)

    def rows(self, name, x, missing=0.0):
        """The rows of x (V, ...) in our order, those that are not there ``missing``."""
        known = [i for i in self.order if i is not None]
        if len(x) < len(known):
            raise S2SError(f"{name} has {len(x)} rows, expected {len(known)}, one a token.")
        made = x.new_full((len(self.order), *x.shape[1:]), missing)
        made[torch.tensor([i is not None for i in self.order])] = x[known]
        return made


def read_vocabulary(path) -> dict:
    """{token: id}."""
    if path.suffix == ".spm":
        raise S2SError(f"{path} is a sentencepiece model, expected its pieces as .yml, .json or a token a line.")
    text = read_text(path)
    if path.suffix in (".yml", ".yaml", ".json"):
        found = parse_yaml(text, path, "an id for each token", plain=True)  # which JSON is too
        try:
            return {token: int(i) for token, i in found.items()}
        except (ValueError, TypeError):
            raise S2SError(f"{path} is no vocabulary, expected an id for each token.") from None
    return {token: i for i, token in enumerate(text.splitlines())}


def _weights(weights, source, target, tied, path):
    def get(name):
        return need(weights, name, path)

    made, shared = {}, weights.get("Wemb")
    for side, tokens, name in (("encoder", source, "encoder.embedding"), ("decoder", target, "embedding")):
        table = shared if shared is not None else get(f"{side}_Wemb")
        made[f"{name}.weight"] = tokens.rows(f"{side}_Wemb", table)
    for direction, suffix in (("bi", "_l0"), ("bi_r", "_l0_reverse")):
        made |= _cell(get, f"encoder_{direction}", "encoder.rnn.", suffix)
    made["bridge.layers.0.weight"] = get("decoder_ff_state_W").T.contiguous()
    made["bridge.layers.0.bias"] = get("decoder_ff_state_b")[0]
    made |= _cell(get, "decoder_cell1", "decoder.scan.cell.")
    made |= _cell(get, "decoder_cell2", "decoder.scan.transition.", inside=True)
    attention = "decoder.scan.attention."
    made[f"{attention}v"] = get("decoder_U_att")[:, 0]
    made[f"{attention}query_layer.weight"] = get("decoder_W_comb_att").T.contiguous()
    made[f"{attention}query_layer.bias"] = get("decoder_b_att")[0]
    made[f"{attention}key_layer.weight"] = get("decoder_Wc_att").T.contiguous()
    # W0 of the input, W1 of the state, W2 of the context.
    under_tanh = [get(f"decoder_ff_logit_l1_W{i}") for i in (1, 2, 0)]
    made["decoder.readout_layer.weight"] = torch.cat(under_tanh).T.contiguous()
    made["decoder.readout_layer.bias"] = sum(get(f"decoder_ff_logit_l1_b{i}")[0] for i in range(3))
    if tied:
        made["output.weight"] = made["embedding.weight"]
    elif "decoder_ff_logit_l2_Wt" in weights:
        made["output.weight"] = target.rows("decoder_ff_logit_l2_Wt", get("decoder_ff_logit_l2_Wt"))
    else:  # of older versions
        made["output.weight"] = target.rows("decoder_ff_logit_l2_W", get("decoder_ff_logit_l2_W").T)
    bias = weights.get("decoder_ff_logit_l2_b")
    bias = torch.zeros(1, len(made["output.weight"])) if bias is None else bias
    made["output.bias"] = target.rows("decoder_ff_logit_l2_b", bias[0], NEVER)
    return made


def _cell(get, name, prefix, suffix="", inside=False):
    """The GRU cell ``name`` with the bias of its candidate outside or inside the reset gate."""
    gates, candidate = get(f"{name}_b")[0], get(f"{name}_bx")[0]
    zeros = torch.zeros_like
    first, second = (zeros(candidate), candidate) if inside else (candidate, zeros(candidate))
    return {
        f"{prefix}weight_ih{suffix}": torch.cat([get(f"{name}_W"), get(f"{name}_Wx")], 1).T.contiguous(),
        f"{prefix}weight_hh{suffix}": torch.cat([get(f"{name}_U"), get(f"{name}_Ux")], 1).T.contiguous(),
        f"{prefix}bias_ih{suffix}": torch.cat([gates, first]),
        f"{prefix}bias_hh{suffix}": torch.cat([zeros(gates), second]),
    }
