"""Every choice of a model and of its training, in one dataclass."""

import math
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ..errors import S2SError, shown
from ..files import AnyPath, parse_json, read_bytes, to_json, write_file, writing
from .combinations import check_combinations

# What a value may be at most, so that a slip of the finger is a sentence and not a machine out of memory.
WIDEST = 65_536  # a layer
LONGEST = 100_000  # tokens of a text
LARGEST = 1_000_000_000  # any other whole number
LARGEST_SEED = 2**63 - 1


def option(default: Any, help: str, low: float | None = None, high: float | None = None, since: int = 2) -> Any:
    """A field with what the command line says about it and the range its value must lie in.

    A whole number is at most LARGEST where nothing else is said, a fraction always finite. ``since``: the version of
    a checkpoint or a training that has it; with its default, a model is what it was before.
    """
    if high is None and type(default) is int:
        high = LARGEST
    return field(default=default, metadata={"help": help, "low": low, "high": high, "since": since})


@dataclass(frozen=True)
class Config:
    """Immutable, and checked when made. ``config.updated(lr=1e-3)`` makes a changed copy.

    Raises:
        S2SError: a value of the wrong type or out of its range, or choices that contradict each other.
    """

    # Text
    tokens: Literal["word", "char", "space", "sentencepiece"] = option(
        "word", "What a token is; space: what stands between spaces, as another program split it."
    )
    columns: str = option("1,2", "Columns of source and target in a tab-separated file.")
    turns: int = option(
        1,
        "Above 1: lines are dialogues, an empty one between two, and a source is so many turns, the last ones, which "
        "s2s chat keeps too.",
        1,
        1000,
        since=4,
    )
    cleaning: Literal["none", "seed", "fixed", "detokenize"] = option(
        "none",
        "As the English to Marathi seed: lower case, no digits, and (fixed) no punctuation, which seed keeps; or "
        "(detokenize) no spaces around punctuation.",
    )
    vocab_size: int = option(8000, "Most tokens in a vocabulary, 0 for no limit.", 0, 10_000_000)
    min_count: int = option(1, "A word seen less often becomes <unk>.", 1)
    shared_vocab: bool = option(False, "One vocabulary for both languages.")
    lowercase: bool = option(False, "Lower-case the source.")
    max_length: int = option(100, "Longer pairs are left out of training; output stops there.", 1, LONGEST)
    valid_fraction: float = option(0.05, "Share kept to validate on, if no such data is given.", 0, 0.5)
    split: Literal["source", "row"] = option("source", "Split by distinct source, or by row (leaks).")

    # Encoder
    cell: Literal["gru", "lstm"] = option("gru", "Cell of encoder and decoder.")
    gru_reset: Literal["after", "before"] = option(
        "after", "Reset gate after the recurrent product (torch, cuDNN, Keras) or before it (Cho, TensorFlow 1)."
    )
    embedding_size: int = option(256, "Width of the embeddings.", 1, WIDEST)
    encoder_size: int = option(256, "Width of one direction of the encoder.", 1, WIDEST)
    encoder_layers: int = option(1, "Layers of the encoder.", 1, 64)
    bidirectional: bool = option(True, "Read the source both ways.")

    # Decoder
    hidden_size: int = option(256, "Width of the decoder's state.", 1, WIDEST)
    decoder_layers: int = option(1, "Layers of the decoder.", 1, 64)
    attention: Literal["additive", "dot", "general", "concat", "none", "fixed"] = option(
        "additive",
        "Score: v tanh(W s + U h + b), s h, s W h, v tanh(W [s;h]); or no context, or the same at every step (Cho).",
    )
    attention_size: int = option(256, "Width of the score of one head.", 1, WIDEST)
    attention_heads: int = option(1, "Heads, each with its own weights and context.", 1, 1024)
    attention_bias: bool = option(True, "The b of the additive score.")
    attention_query: Literal["h", "state"] = option(
        "h", "What asks: the cell's output, or its whole state, which of an LSTM is [c;h] (TensorFlow 1).", since=3
    )
    attention_layer: Literal["auto", "lowest", "top"] = option(
        "auto",
        "The decoder layer that asks and is fed the answer; auto: the lowest with feed=context, else the top.",
        since=3,
    )
    normalize_attention: bool = option(False, "Weight normalisation of the score vector v.")
    attention_window: Literal["global", "local-m", "local-p"] = option(
        "global", "Look everywhere, or near the step's own position, or near a predicted one (Luong)."
    )
    window_size: int = option(10, "A local window reaches so far to either side.", 1)
    order: Literal["before", "after", "between"] = option(
        "before",
        "Attention before the cell (Bahdanau), after it (Luong, TensorFlow), or between two cells, the second of which "
        "is fed (Nematus, Marian).",
    )
    feed: Literal["context", "attentional", "none"] = option(
        "context", "What the next step is fed: the context, Luong's attentional vector, nothing."
    )
    initial_state: Literal["bridge", "backward", "mean", "hidden", "last", "copy", "zeros"] = option(
        "bridge",
        "First state: tanh(Linear(last encoder state)), of its backward half, of the outputs' mean, of h for an LSTM's "
        "c too; that state itself, its h (or h's forward half) for every layer and c; zeros.",
    )
    first_context: Literal["auto", "attend", "zeros"] = option(
        "auto",
        "Fed to the first step: zeros, or attended with the initial state; auto: attend if order=before.",
    )
    readout: Literal["state", "state_context", "state_context_input", "linear", "tanh", "tanh_input", "maxout"] = (
        option(
            "tanh",
            "What the output layer reads: s, [s;c], [s;c;y], W [s;c], tanh(W [s;c]), tanh(W [s;c;y]), "
            "maxout(W [s;c;y]).",
        )
    )
    readout_size: int = option(256, "Width of the linear, tanh or maxout readout.", 1, WIDEST)
    tied_embeddings: bool = option(False, "Output layer and target embedding share their weights.")

    # Training
    dropout: float = option(0.2, "On embeddings, between layers and on the readout.", 0, 0.95)
    loop_dropout: float = option(
        0.0, "Dropout on what is fed back, and on [s;c] under the attentional vector that is.", 0, 0.95, since=3
    )
    sampling: Literal["never", "constant", "linear", "inverse_sigmoid"] = option(
        "never", "Feed the model's own previous output in training: how often, over the run (Bengio 2015)."
    )
    sampling_probability: float = option(1.0, "The most such steps, as a share of all.", 0, 1)
    sampling_steps: int = option(
        10_000, "Updates until a linear schedule is there; the k of 1 - k / (k + exp(update / k)).", 1
    )
    sampling_choice: Literal["best", "random"] = option(
        "best", "The model's own output is its most probable token, or drawn from its distribution."
    )
    label_smoothing: float = option(0.0, "Label smoothing.", 0, 0.95)
    lr: float = option(1e-3, "Adam's learning rate.", 0)
    lr_schedule: Literal["constant", "linear", "cosine", "plateau"] = option(
        "plateau", "Constant, falling to 0 over the run, or halved when validation stops improving."
    )
    warmup: int = option(0, "Steps in which the learning rate rises to lr.", 0)
    clip: float = option(1.0, "Largest norm of the gradient, 0 for no clipping.", 0)
    ema: float = option(
        0.0, "Decay of the moving average of the weights, which then is the model; 0 for none.", 0, 0.99999
    )
    matmul_precision: Literal["highest", "high", "medium"] = option(
        "highest", "torch.set_float32_matmul_precision: TF32 or bfloat16 products, where the device has them."
    )
    accumulate: int = option(1, "Batches whose gradients make one update.", 1)
    precision: Literal["float32", "bfloat16"] = option(
        "float32", "Compute in bfloat16 where autocast deems it safe; the weights stay float32."
    )
    batch_size: int = option(64, "Most pairs in a batch.", 1)
    batch_tokens: int = option(0, "Most target tokens in a batch, padding included; 0 for no limit.", 0)
    epochs: int = option(20, "Most passes over the training data.", 1)
    max_seconds: float = option(0.0, "Stop after this time, 0 for no limit.", 0)
    eval_every: int = option(0, "Steps between validations, 0 for one an epoch.", 0)
    patience: int = option(5, "Stop after this many validations without improvement, 0 for never.", 0)
    seed: int = option(1, "Seed of everything random.", 0, LARGEST_SEED)

    def __post_init__(self) -> None:
        check_fields(self)
        check_combinations(self)

    @property
    def states_per_layer(self) -> int:
        return 1 if self.cell == "gru" else 2

    @property
    def gru_before(self) -> bool:
        """Whether the cell is the GRU that no fused kernel has."""
        return self.cell == "gru" and self.gru_reset == "before"

    @property
    def attends(self) -> bool:
        """Whether there is an attention, which chooses another context at every step."""
        return self.attention not in ("none", "fixed")

    @property
    def feeds_attention(self) -> bool:
        """Whether the recurrence runs through the attention."""
        return self.attends and self.feed != "none"

    @property
    def two_cells(self) -> bool:
        """Whether a step has two cells, with the attention between them."""
        return self.order == "between"

    @property
    def loop_layers(self) -> int:
        """Decoder layers through which the attention is fed back; those above them are a sequence of their own."""
        lowest = self.attention_layer == "lowest" or (self.attention_layer == "auto" and self.feed == "context")
        return 1 if lowest else self.decoder_layers

    @property
    def asks_with_c(self) -> bool:
        return self.attention_query == "state" and self.cell == "lstm"

    @property
    def query_size(self) -> int:
        """Width of what the attention is asked with."""
        return self.hidden_size * (2 if self.asks_with_c else 1)

    @property
    def memory_size(self) -> int:
        """Width of the encoder's output, which the decoder attends to."""
        return self.encoder_size * (2 if self.bidirectional else 1)

    @property
    def context_size(self) -> int:
        return 0 if self.attention == "none" else self.memory_size * self.attention_heads

    @property
    def features_size(self) -> int:
        """Width of what the output layer reads."""
        return {
            "state": self.hidden_size,
            "state_context": self.hidden_size + self.context_size,
            "state_context_input": self.hidden_size + self.context_size + self.embedding_size,
        }.get(self.readout, self.readout_size)

    @property
    def first_feed_zeros(self) -> bool:
        return self.first_context == "zeros" or (self.first_context == "auto" and self.order == "after")

    @property
    def reading(self) -> dict:
        """How a PairFile reads this model's data; double quotes have a meaning where the seed reads a file."""
        source, target = self.columns.split(",")
        return {"quotes": self.cleaning == "seed", "columns": (int(source), int(target)), "turns": self.turns}

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict, version: int = 1) -> "Config":
        """Raises S2SError on a name that is no field, and on a field that is missing though this version has it."""
        made = cls(**_known(values))
        missing = [f.name for f in fields(cls) if f.metadata["since"] <= version and f.name not in values]
        if missing:
            raise S2SError(f"{missing[0]} is missing.")
        return made

    def updated(self, **changes: Any) -> "Config":
        """A copy with these fields changed; raises S2SError on a name that is no field."""
        return replace(self, **_known(changes))

    def save(self, path: AnyPath) -> None:
        with writing(path):
            write_file(path, to_json(self.to_dict()))

    @classmethod
    def load(cls, path: AnyPath) -> "Config":
        """From a .toml or .json file whose top level has fields as keys."""
        return cls.from_dict(read_mapping(path))


def check_fields(made: Any) -> None:
    """Whether every field of a dataclass made of ``option`` has its type and is in its range; S2SError if not."""
    for name, kind in get_type_hints(type(made)).items():
        object.__setattr__(made, name, _checked(name, kind, getattr(made, name)))
    for f in fields(made):
        value, low, high = getattr(made, f.name), f.metadata["low"], f.metadata["high"]
        if low is not None and not (low <= value and value < math.inf and (high is None or value <= high)):
            open_end = high is None or (type(value) is int and value < low)  # the other end is not what is wrong
            span = f"{low} or more" if open_end else f"from {low} to {high}"
            if value == math.inf and high is None:
                span = "a finite number"
            raise S2SError(f"{f.name} is {shown(value)}, expected {span}.")


def _known(values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise S2SError(f"the configuration is {shown(values)}, expected fields and their values.")
    names = [f.name for f in fields(Config)]
    for name in values:
        if name not in names:
            import difflib

            near = difflib.get_close_matches(name[:99], names, 1)
            raise S2SError(f"there is no option {shown(name)}{f'; did you mean {near[0]!r}?' if near else '.'}")
    return values


def _checked(name: str, kind: Any, value: Any) -> Any:
    """value as kind, int to float allowed."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise S2SError(f"{name} is {shown(value)}, expected one of {', '.join(get_args(kind))}.")
        return value
    if kind is float and type(value) is int:
        return float(max(min(value, 2**1023), -(2**1023)))  # what is beyond is refused all the same
    if type(value) is not kind:
        raise S2SError(f"{name} is {shown(value)}, expected {'an' if kind is int else 'a'} {kind.__name__}.")
    return value


def read_mapping(path: AnyPath) -> dict:
    """The dictionary in a .toml or .json file."""
    path = Path(path)
    values = (_parse_toml if path.suffix == ".toml" else parse_json)(read_bytes(path), path)
    if not isinstance(values, dict):
        raise S2SError(f"{path} holds a {type(values).__name__}, expected fields and their values.")
    return values


def _parse_toml(data: bytes, path: Path) -> dict[str, Any]:
    name = "tomllib" if find_spec("tomllib") else "tomli"  # the same, before it came with Python
    try:
        return import_module(name).loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise S2SError(f"{path} is not UTF-8 text.") from None
    except ModuleNotFoundError:
        raise S2SError(f"{path} cannot be read: TOML needs Python 3.11 or newer, or pip install tomli.") from None
    except RecursionError:
        raise S2SError(f"{path} is no valid TOML (nested too deep).") from None
    except ValueError as error:
        raise S2SError(f"{path} is no valid TOML ({error}).") from None
