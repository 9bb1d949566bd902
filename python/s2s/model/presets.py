"""Named systems of the literature, each a set of Config's fields.

A preset fixes what a system computes and how it is trained. Widths and layers stay options, and so does the GRU:
with ``gru_reset="before"`` its cell is, to the letter, that of Cho, Bahdanau and TensorFlow 1.
"""

from pathlib import Path
from typing import Any, NamedTuple

from ..errors import S2SError
from ..files import AnyPath
from ..text.pairs import read_text
from .config import Config, read_mapping

RECIPES = Path(__file__).with_name("recipes")


class Preset(NamedTuple):
    summary: str
    fields: dict


_PLAIN = {"bidirectional": False, "dropout": 0.0, "lr_schedule": "constant"}
_KERAS = _PLAIN | {"initial_state": "last", "clip": 0.0}
_TENSORFLOW = _PLAIN | {"initial_state": "last", "clip": 5.0}

PRESETS = {
    "keras-dialogue": Preset(
        "GRU encoder, additive attention before a GRU decoder fed [c;y], logits from the state alone",
        _KERAS | {"readout": "state"},
    ),
    "tf-basic": Preset(
        "basic_rnn_seq2seq with loop_function: no attention, fed its own previous output in training too",
        _TENSORFLOW | {"attention": "none", "readout": "state", "sampling": "constant"},
    ),
    "tf-attention": Preset(
        "embedding_attention_seq2seq: attention after the cell, fed back, linear output projection",
        _TENSORFLOW | {"order": "after", "readout": "linear", "attention_query": "state"},
    ),
    "lstm-marathi": Preset(
        "LSTM-256 encoder and decoder, attention over the decoder's outputs, softmax of [s;c]",
        _KERAS
        | {
            "cell": "lstm",
            "encoder_size": 256,
            "hidden_size": 256,
            "order": "after",
            "feed": "none",
            "readout": "state_context",
            "cleaning": "seed",
            "split": "row",
            "valid_fraction": 0.3,
            "batch_size": 64,
            "vocab_size": 0,
        },
    ),
    "cho": Preset(
        "Cho et al. (2014): the same context c = tanh(V h) at every step, maxout of s, y and c",
        _PLAIN | {"attention": "fixed", "readout": "maxout"},
    ),
    "bahdanau": Preset(
        "Bahdanau et al. (2015): bidirectional GRU, additive attention before the cell, maxout of s, y and c",
        {
            "attention_bias": False,
            "initial_state": "backward",
            "readout": "maxout",
            "dropout": 0.0,
        },
    ),
    "nematus": Preset(
        "Sennrich et al. (2017), Marian's s2s: two GRU cells a step, attention between them, tanh of s, y and c",
        {
            "order": "between",
            "initial_state": "mean",
            "readout": "tanh_input",
            "dropout": 0.0,
        },
    ),
    "luong": Preset(
        "Luong et al. (2015): attention after an LSTM, tanh(W [s;c]); any score, any window, --feed attentional",
        {
            "cell": "lstm",
            "bidirectional": False,
            "attention": "general",
            "order": "after",
            "feed": "none",
            "initial_state": "last",
            "readout": "tanh",
            "clip": 5.0,
        },
    ),
}


def preset_fields(name: str) -> dict:
    if name not in PRESETS:
        raise S2SError(f"there is no preset {name!r}, expected one of {', '.join(PRESETS)}.")
    return PRESETS[name].fields


def recipes() -> dict[str, str]:
    """Names of the recipes, with the first line of each: what it is for."""
    files = sorted(RECIPES.glob("*.toml"))
    return {file.stem: read_text(file).partition("\n")[0].removeprefix("# ") for file in files}


def recipe_path(path: AnyPath) -> Path:
    """A file goes first; a folder does not, as a model is often named like its recipe."""
    path, recipe = Path(path), RECIPES / f"{path}.toml"
    if recipe.exists() and not path.is_file():
        return recipe
    if not path.exists():
        raise S2SError(
            f"{path} does not exist, and there is no recipe of this name, expected one of {', '.join(recipes())}."
        )
    return path


def configure(preset: str | None = None, path: AnyPath | None = None, options: dict[str, Any] | None = None) -> Config:
    """The Config of a preset, changed by a .toml or .json file, changed by options; each may be left out.

    Instead of a file, ``path`` may be the name of a recipe that comes with the package, such as multi30k-de-en.
    The file may name a preset of its own as ``preset = "bahdanau"``, which counts unless one is given here.

    Raises:
        S2SError: no such preset, a file that cannot be read, or what Config refuses.
    """
    values = dict(read_mapping(recipe_path(path))) if path else {}
    own = values.pop("preset", None)
    name = preset or own
    return Config.from_dict((preset_fields(name) if name else {}) | values | (options or {}))
