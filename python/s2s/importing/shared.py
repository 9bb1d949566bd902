"""What the importers share: checkpoints read without their pickles, vocabularies in our order, weights by our names."""

import pickle
from pathlib import Path

import torch

from ..errors import S2SError, shown
from ..model.checkpoint import model_of
from ..text.vocab import SPECIALS, Vocabulary
from ..translator import Translator


def load_checkpoint(path, allowed=()) -> dict:
    """The dictionary in a torch checkpoint; only tensors, plain values and the classes ``allowed`` come to life."""
    try:
        with torch.serialization.safe_globals(list(allowed)):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = next(
            (line.strip() for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line), ""
        )
        raise S2SError(f"{path} cannot be read without executing its pickle{f' ({named})' if named else ''}.") from None
    except (OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        raise S2SError(f"{path} cannot be read ({str(error).splitlines()[0].rstrip('.')}).") from None
    if not isinstance(found, dict):
        raise S2SError(f"{path} holds a {type(found).__name__}, expected a checkpoint's dictionary.")
    return found


def parse_yaml(text, name, expected, plain=False) -> dict:
    """The mapping in a text of YAML, read from ``name``; ``expected``: what it should hold, for the message. plain:
    all scalars are strings, a key ``no`` too."""
    try:
        import yaml
    except ImportError:
        raise S2SError(f"PyYAML is not installed, which {name} needs: pip install pyyaml.") from None
    try:
        found = yaml.load(text, Loader=yaml.BaseLoader) if plain else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise S2SError(f"{name} is no valid YAML ({str(error).splitlines()[0]}).") from None
    if not isinstance(found, dict):
        raise S2SError(f"{name} holds a {type(found).__name__}, expected {expected}.")
    return found


def refuse(wrong, name, value, expected):
    """S2SError for an option of the other toolkit that has no counterpart here."""
    if wrong:
        raise S2SError(f"{name} is {shown(value)}, expected {expected}: s2s has no such form.")


class Tokens:
    """The tokens of a vocabulary that is ordered otherwise, in our order: padding, unknown, begin, end, the others.

    Args:
        tokens: by their ids there.
        specials: the tokens there for ours, in our order.
        name: of the vocabulary, for messages.
    """

    def __init__(self, tokens, specials, name):
        places = {token: i for i, token in enumerate(tokens)}
        missing = [token for token in specials if token not in places]
        if missing:
            raise S2SError(f"{name} has no {missing[0]!r}.")
        first = [places[token] for token in specials]
        self.order = torch.tensor(first + [i for i in range(len(tokens)) if i not in first])
        self.tokens = SPECIALS + [tokens[i] for i in self.order[len(first) :].tolist()]
        if len(set(self.tokens)) < len(self.tokens):
            raise S2SError(f"{name} has a token twice.")

    def vocabulary(self, end=False):
        return Vocabulary(self.tokens, "space", end)

    def rows(self, name, weight):
        """The rows of an embedding or an output layer in our order."""
        if weight.shape[0] < len(self.order):
            raise S2SError(f"{name} has {weight.shape[0]} rows, expected {len(self.order)}, one a token.")
        return weight.float()[self.order]


def renamed(weights, old, new):
    """All whose names begin with ``old``, with ``new`` in its place."""
    return {new + name[len(old) :]: x.float() for name, x in weights.items() if name.startswith(old)}


def need(weights, name, path):
    if name not in weights:
        raise S2SError(f"{path} has no {name}.")
    return weights[name].float()


def decoder_names(config):
    """Where our decoder keeps its attention, its recurrence and the layer under its features."""
    if config.feeds_attention:
        feed = "decoder.scan.feed_layer." if config.feed == "attentional" else "decoder.readout_layer."
        return "decoder.scan.attention.", "decoder.scan.cell.", feed
    return "decoder.attention.", "decoder.rnn.", "decoder.readout_layer."


def translator(config, weights, source, target, path) -> Translator:
    """A Translator of these weights, each of which must have a place; biases that were not there are zeros."""
    if "output.bias" not in weights:
        weights["output.bias"] = torch.zeros(len(target))
    return Translator(model_of(config, source, target, weights, Path(path)), source, target)
