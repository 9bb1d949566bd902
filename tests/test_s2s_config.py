"""s2s.Config: what it accepts, what it says about the rest, and how it is stored."""

import json
import sys
from dataclasses import fields
from importlib.util import find_spec

import pytest

from s2s import Config, S2SError

TOML = "tomllib" if find_spec("tomllib") else "tomli"


def test_the_default_is_valid_and_survives_json(tmp_path):
    config = Config(lr=1, cell="lstm")
    assert config.lr == 1.0 and type(config.lr) is float
    config.save(tmp_path / "c.json")
    assert Config.load(tmp_path / "c.json") == config
    assert set(json.loads((tmp_path / "c.json").read_text())) == {f.name for f in fields(Config)}


def test_toml(tmp_path):
    pytest.importorskip(TOML, reason="TOML needs Python 3.11 or tomli")
    path = tmp_path / "c.toml"
    path.write_text('cell = "lstm"\nhidden_size = 32\nlr = 0.01\nbidirectional = false\n')
    config = Config.load(path)
    assert (config.cell, config.hidden_size, config.lr, config.bidirectional) == ("lstm", 32, 0.01, False)
    assert config.updated(hidden_size=64).hidden_size == 64 and config.hidden_size == 32


@pytest.mark.parametrize("there", [True, False])
def test_toml_before_python_had_it(tmp_path, monkeypatch, there):
    """On Python 3.10 it is tomli, and without that a sentence."""
    tomllib = pytest.importorskip(TOML, reason="TOML needs Python 3.11 or tomli")
    monkeypatch.setattr("s2s.model.config.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tomli", tomllib if there else None)
    path = tmp_path / "c.toml"
    path.write_text('cell = "lstm"\n')
    if there:
        assert Config.load(path).cell == "lstm"
    else:
        with pytest.raises(
            S2SError, match=r"c\.toml cannot be read: TOML needs Python 3\.11 or newer, or pip install tomli\."
        ):
            Config.load(path)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"cell": "rnn"}, "cell is 'rnn', expected one of gru, lstm."),
        ({"hidden_size": 0}, "hidden_size is 0, expected 1 or more."),
        ({"hidden_size": 2.5}, "hidden_size is 2.5, expected an int."),
        ({"hidden_size": True}, "hidden_size is True, expected an int."),
        ({"bidirectional": "yes"}, "bidirectional is 'yes', expected a bool."),
        ({"dropout": 1.0}, "dropout is 1.0, expected from 0 to 0.95."),
        ({"dropout": float("nan")}, "dropout is nan, expected from 0 to 0.95."),
        ({"lr": 0}, "lr is 0, expected more."),
        ({"hiden_size": 3}, "there is no option 'hiden_size'; did you mean 'hidden_size'?"),
        ({"xyzzy": 3}, "there is no option 'xyzzy'."),
        ({"feed": "attentional"}, "feed is 'attentional' with order 'before', expected 'context'"),
        ({"feed": "attentional", "order": "after", "readout": "state"}, "expected 'tanh'"),
        ({"initial_state": "last"}, "initial_state is 'last' with hidden_size 256, expected 512"),
        ({"tied_embeddings": True, "readout_size": 100}, "tied_embeddings needs a readout as wide as"),
        ({"tokens": "sentencepiece", "vocab_size": 0}, "vocab_size is 0"),
        ({"cell": "lstm", "gru_reset": "before"}, "gru_reset is 'before' with cell 'lstm', expected cell 'gru'."),
        (
            {"attention": "cosine"},
            "attention is 'cosine', expected one of additive, dot, general, concat, none, fixed.",
        ),
        ({"attention": "none", "attention_heads": 2}, "attention_heads is 2 with attention 'none', expected 1."),
        ({"attention": "fixed", "attention_window": "local-m"}, "attention_window is 'local-m' with attention 'fixed'"),
        ({"attention": "none", "normalize_attention": True}, "normalize_attention is True with attention 'none'"),
        ({"attention": "none", "feed": "attentional"}, "feed is 'attentional' with attention 'none'"),
        ({"attention": "none", "readout": "state_context"}, "expected one without a context"),
        ({"attention": "dot"}, "attention is 'dot' with hidden_size 256, expected 512"),
        ({"attention": "dot", "hidden_size": 512, "attention_heads": 4}, "attention_heads is 4 with attention 'dot'"),
        ({"attention": "general", "normalize_attention": True}, "expected 'additive' or 'concat', which have a v."),
        ({"window_size": 0}, "window_size is 0, expected 1 or more."),
        ({"feed": "none"}, "feed is 'none' with order 'before', expected 'context'"),
        ({"feed": "attentional", "order": "between"}, "feed is 'attentional' with order 'between', expected 'context'"),
        ({"attention": "fixed", "order": "between"}, "order is 'between' with attention 'fixed', expected 'before'"),
        (
            {"order": "between", "decoder_layers": 2, "attention_layer": "top"},
            "order is 'between' with attention_layer 'top' and decoder_layers 2, expected 'lowest'",
        ),
        ({"order": "between", "first_context": "zeros"}, "first_context is 'zeros' with order 'between'"),
        ({"attention": "fixed", "initial_state": "mean"}, "initial_state is 'mean' with attention 'fixed'"),
        (
            {"feed": "attentional", "order": "after", "decoder_layers": 2, "attention_layer": "lowest"},
            "attention_layer is 'lowest' with feed 'attentional' and decoder_layers 2, expected 'top'",
        ),
        (
            {"feed": "none", "order": "after", "attention_layer": "lowest"},
            "attention_layer is 'lowest' with feed 'none'",
        ),
        ({"attention": "none", "attention_layer": "top"}, "attention_layer is 'top' with attention 'none'"),
        ({"attention": "none", "attention_query": "state"}, "attention_query is 'state' with attention 'none'"),
        (
            {"cell": "lstm", "feed": "none", "order": "after", "attention_query": "state"},
            "attention_query is 'state' with feed 'none' and cell 'lstm', expected 'h'",
        ),
        (
            {"attention": "dot", "cell": "lstm", "hidden_size": 512, "attention_query": "state"},
            "attention is 'dot' with [c;h] 1024 wide, expected 512",
        ),
        ({"feed": "none", "order": "after", "loop_dropout": 0.1}, "loop_dropout is 0.1, expected 0.0"),
        ({"attention": "fixed", "loop_dropout": 0.1}, "loop_dropout is 0.1, expected 0.0"),
        ({"initial_state": "last", "hidden_size": 512, "decoder_layers": 2}, "decoder_layers 2, expected at most 1"),
        ({"attention": "none", "first_context": "zeros"}, "first_context is 'zeros', expected 'auto'"),
        ({"sampling": "linear", "sampling_probability": 0}, "sampling_probability is 0.0 with sampling 'linear'"),
        ({"initial_state": "backward", "bidirectional": False}, "needs a bidirectional encoder"),
    ],
)
def test_a_bad_value_is_named(values, message):
    with pytest.raises(S2SError) as error:
        Config.from_dict(values)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name, text", [("c.json", "{"), ("c.toml", "cell = gru"), ("c.json", "[1]")])
def test_a_file_that_cannot_be_read(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(S2SError, match=name):
        Config.load(tmp_path / name)
    with pytest.raises(S2SError, match="does not exist"):
        Config.load(tmp_path / "no.toml")
