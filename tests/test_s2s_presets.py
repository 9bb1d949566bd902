"""Every preset against the formulas of its system: logits, the gradient of every parameter, and single steps, in
float64; and every preset learns."""

import functools

import preset_oracles as oracles
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.utils._pytree import tree_leaves

from s2s import S2SError
from s2s import tensorflow_weights as foreign
from s2s.model import Seq2Seq
from s2s.model.presets import PRESETS, RECIPES, configure, recipes
from s2s.text.data import Dataset, make_batch
from s2s.text.dates import make_dates
from s2s.text.vocab import build_vocabularies
from s2s.training import build_model, train, validation_loss
from s2s.translator import Translator

E, H, A, R, V = 5, 6, 7, 4, 9
SIZES = {"embedding_size": E, "encoder_size": H, "hidden_size": H, "attention_size": A, "readout_size": R}
ROWS = [([4, 5, 6, 7, 8], [4, 5, 6]), ([8, 4], [7, 7, 8, 5, 4, 6]), ([5], [6])]


# --- the systems' parameters in the model's names: differentiable, so that gradients flow back to the former ------


def paper_cell(p, new_by_z):
    """Order r, z, n; where z is the share of the new state, sigmoid(-x) = 1 - sigmoid(x) turns it around."""
    sign = -1 if new_by_z else 1
    return {
        f"weight_{short}": torch.cat([p[f"{w}_r"], sign * p[f"{w}_z"], p[w]]) for short, w in (("ih", "W"), ("hh", "U"))
    }


CELLS = {
    "keras, after": (*oracles.keras_gru(True), lambda p: foreign.keras_gru(**p)),
    "keras, before": (*oracles.keras_gru(False), lambda p: foreign.keras_gru(**p)),
    "tf1": (*oracles.tf1_gru(), lambda p: foreign.tf1_gru(**p)),
    "tf1 lstm": (*oracles.tf1_lstm(), lambda p: foreign.tf1_lstm(**p)),
    "cho": (*oracles.paper_gru(False), functools.partial(paper_cell, new_by_z=False)),
    "bahdanau": (*oracles.paper_gru(True), functools.partial(paper_cell, new_by_z=True)),
    "keras lstm": (*oracles.keras_lstm(), lambda p: foreign.keras_lstm(**p)),
}


def named(prefix, weights, suffix=""):
    return {f"{prefix}.{name}{suffix}": weight for name, weight in weights.items()}


def embeddings(p):
    return {"encoder.embedding.weight": p["encoder_embedding"], "embedding.weight": p["embedding"]}


def map_keras_dialogue(p, cell):
    decoder = cell(p["decoder"])
    memory, y = decoder["weight_ih"].split([H, E], 1)  # Keras' model feeds [c;y], this one [y;c]
    decoder["weight_ih"] = torch.cat([y, memory], 1)
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["encoder"]), "_l0"),
        **named("decoder.scan.cell", decoder),
        "decoder.scan.attention.query_layer.weight": p["W2"].T,
        "decoder.scan.attention.query_layer.bias": p["b1"] + p["b2"],
        "decoder.scan.attention.key_layer.weight": p["W1"].T,
        "decoder.scan.attention.v": p["V"][:, 0],
        "output.weight": p["dense"].T,
        "output.bias": p["dense_bias"],
    }


def map_tf_basic(p, cell):
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["encoder"]), "_l0"),
        **named("decoder.rnn", cell(p["decoder"]), "_l0"),
        "output.weight": p["W"].T,
        "output.bias": p["b"],
    }


def map_tf_attention(p, cell):
    decoder = cell(p["decoder"])
    # linear([input, attns]) goes into the input weights.
    decoder["bias_ih"] = decoder["bias_ih"] + decoder["weight_ih"] @ p["Linear_bias"]
    decoder["weight_ih"] = decoder["weight_ih"] @ p["Linear"].T
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["encoder"]), "_l0"),
        **named("decoder.scan.cell", decoder),
        "decoder.scan.attention.query_layer.weight": p["Attention"].mT.flatten(0, 1),
        "decoder.scan.attention.query_layer.bias": p["Attention_bias"].flatten(),
        "decoder.scan.attention.key_layer.weight": p["AttnW"].mT.flatten(0, 1),
        "decoder.scan.attention.v": p["AttnV"].squeeze(0),
        "decoder.readout_layer.weight": p["AttnOutputProjection"].T,
        "decoder.readout_layer.bias": p["AttnOutputProjection_bias"],
        "output.weight": p["projection"].T,
        "output.bias": p["projection_bias"],
    }


def map_lstm_marathi(p, cell):
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["encoder"]), "_l0"),
        **named("decoder.rnn", cell(p["decoder"]), "_l0"),
        "decoder.attention.query_layer.weight": p["W"].T,
        "decoder.attention.query_layer.bias": p["b"],
        "decoder.attention.key_layer.weight": p["U"].T,
        "decoder.attention.v": p["V"],
        "output.weight": p["dense"].T,
        "output.bias": p["dense_bias"],
    }


def map_cho(p, cell):
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["encoder"]), "_l0"),
        **named("decoder.rnn", cell(p["decoder"]), "_l0"),
        "summary.weight": p["V"],
        "bridge.layers.0.weight": p["V_prime"],
        "decoder.readout_layer.weight": torch.cat([p["O_h"], p["O_c"], p["O_y"]], 1),
        "output.weight": p["G"],
    }


def map_bahdanau(p, cell):
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["forward"]), "_l0"),
        **named("encoder.rnn", cell(p["backward"]), "_l0_reverse"),
        **named("decoder.scan.cell", cell(p["decoder"])),
        "bridge.layers.0.weight": p["W_s"],
        "decoder.scan.attention.query_layer.weight": p["W_a"],
        "decoder.scan.attention.key_layer.weight": p["U_a"],
        "decoder.scan.attention.v": p["v_a"],
        "decoder.readout_layer.weight": torch.cat([p["U_o"], p["C_o"], p["V_o"]], 1),
        "output.weight": p["W_o"],
    }


def map_nematus(p, cell):
    return {
        **embeddings(p),
        **named("encoder.rnn", cell(p["forward"]), "_l0"),
        **named("encoder.rnn", cell(p["backward"]), "_l0_reverse"),
        **named("decoder.scan.cell", cell(p["first"])),
        **named("decoder.scan.transition", cell(p["second"])),
        "bridge.layers.0.weight": p["W_init"],
        "bridge.layers.0.bias": p["b_init"],
        "decoder.scan.attention.query_layer.weight": p["U_a"],
        "decoder.scan.attention.query_layer.bias": p["b_a"],
        "decoder.scan.attention.key_layer.weight": p["W_a"],
        "decoder.scan.attention.v": p["v_a"],
        "decoder.readout_layer.weight": torch.cat([p["U_t1"], p["U_t3"], p["U_t2"]], 1),
        "decoder.readout_layer.bias": p["b_t"],
        "output.weight": p["V_o"],
        "output.bias": p["b_o"],
    }


def map_luong(p, cell, score, window, feeding):
    attention = "decoder.scan.attention" if feeding else "decoder.attention"
    inner = attention if window == "global" else attention + ".score"
    c, h = p["W_c"].split(H, 1)
    names = {
        **embeddings(p),
        **named("encoder.rnn", cell(p["encoder"]), "_l0"),
        **named("decoder.scan.cell" if feeding else "decoder.rnn", cell(p["decoder"]), "" if feeding else "_l0"),
        "decoder.scan.feed_layer.weight" if feeding else "decoder.readout_layer.weight": torch.cat([h, c], 1),
        "output.weight": p["W_s"],
    }
    if score == "general":
        names[f"{inner}.key_layer.weight"] = p["W_a"]
    elif score == "concat":
        query, key = p["W_concat"].split(H, 1)
        names |= {f"{inner}.query_layer.weight": query, f"{inner}.key_layer.weight": key, f"{inner}.v": p["v_a"]}
    if window == "local-p":
        names |= {f"{attention}.position_layer.weight": p["W_p"], f"{attention}.position_v.weight": p["v_p"][None]}
    return names


def case(preset, oracle, parameters, mapping, cell, options, **choices):
    """A test case: what to build, what to hold it against. ``choices`` go to the oracle."""
    kind, step, to_torch = CELLS[cell]
    if cell == "tf1 lstm":
        options = options | {"cell": "lstm"}
    elif cell != "keras lstm" and cell != "keras, after":
        options = options | {"gru_reset": "before"}
    return preset, options, functools.partial(oracle, **choices), lambda r: parameters(r, kind), step, mapping, to_torch


def cases():
    for cell in ("keras, after", "keras, before"):
        parameters = lambda r, cell: oracles.keras_dialogue_parameters(r, cell, E, H, A, V)
        yield case("keras-dialogue", oracles.keras_dialogue, parameters, map_keras_dialogue, cell, {})
    for cell in ("keras, after", "tf1"):
        parameters = lambda r, cell: oracles.tf_basic_parameters(r, cell, E, H, V)
        yield case("tf-basic", oracles.tf_basic, parameters, map_tf_basic, cell, {})
    for cell in ("keras, after", "tf1", "tf1 lstm"):
        for heads in (1, 2):
            for choices in (
                {},
                {"initial_state_attention": True},
                {"feed_previous": True},
                {"initial_state_attention": True, "feed_previous": True},
            ):
                lstm = cell == "tf1 lstm"
                parameters = lambda r, cell, heads=heads, lstm=lstm: oracles.tf_attention_parameters(
                    r, cell, E, H, V, heads, lstm
                )
                options = {"attention_heads": heads, "attention_size": H, "readout_size": H}
                if choices.get("initial_state_attention"):
                    options["first_context"] = "attend"
                if choices.get("feed_previous"):
                    options["sampling"] = "constant"
                oracle = functools.partial(oracles.tf_attention, lstm=lstm)
                yield case("tf-attention", oracle, parameters, map_tf_attention, cell, options, **choices)
    parameters = lambda r, cell: oracles.lstm_marathi_parameters(r, cell, E, H, A, V)
    yield case("lstm-marathi", oracles.lstm_marathi, parameters, map_lstm_marathi, "keras lstm", {})
    for cell in ("keras, after", "cho"):
        parameters = lambda r, cell: oracles.cho_parameters(r, cell, E, H, R, V)
        yield case("cho", oracles.cho, parameters, map_cho, cell, {})
    for cell in ("keras, after", "bahdanau"):
        parameters = lambda r, cell: oracles.bahdanau_parameters(r, cell, E, H, A, R, V)
        yield case("bahdanau", oracles.bahdanau, parameters, map_bahdanau, cell, {})
    for cell in ("keras, after", "cho"):
        parameters = lambda r, cell: oracles.nematus_parameters(r, cell, E, H, A, R, V)
        yield case("nematus", oracles.nematus, parameters, map_nematus, cell, {})
    for score in ("dot", "general", "concat"):
        for window, width in (("global", None), ("local-m", 1), ("local-p", 2)):
            for feeding in (False, True):
                options = {"attention": score, "attention_window": window, "feed": "attentional" if feeding else "none"}
                if width:
                    options["window_size"] = width
                yield case(
                    "luong",
                    functools.partial(oracles.luong, D=width),
                    lambda r, cell, feeding=feeding: oracles.luong_parameters(r, cell, E, H, A, R, V, feeding),
                    functools.partial(map_luong, score=score, window=window, feeding=feeding),
                    "keras lstm",
                    options,
                    score=score,
                    window=window,
                    feeding=feeding,
                )


class Logits(nn.Module):
    """(B, T, V) of a batch, over known targets or its own outputs, in one call or in single steps."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch, how):
        model = self.model
        arguments = batch.source, batch.source_lengths, batch.inputs
        if how == "whole":
            return model.output(model(*arguments)[0])
        if how == "own outputs":
            return model.output(model.forward_sampled(*arguments, 1.0)[0])
        memory, state = model.start(batch.source, batch.source_lengths)
        features = []
        for tokens in batch.inputs.unbind(1):
            feature, _, state = model.decoder.step(model.embedding(tokens), state, memory)
            features.append(feature)
        return model.output(torch.stack(features, 1))


def theirs(model, weights):
    """The whole state of Logits(model): the system's weights, and zero for the biases that it has not."""
    names = dict(model.named_parameters())
    rest = set(names) - set(weights)
    assert set(weights) <= set(names) and all("bias" in name for name in rest)
    weights = weights | {name: torch.zeros_like(names[name]) for name in rest}
    return {f"model.{name}": weight for name, weight in weights.items()}


def name_of(found):
    options = ", ".join(f"{value}" for value in found[1].values())
    return f"{found[0]} {options}".strip()


@pytest.mark.parametrize("found", [pytest.param(found, id=name_of(found)) for found in cases()])
def test_a_preset_is_its_system(found):
    preset, options, oracle, parameters, step, mapping, to_torch = found
    config = configure(preset, options=SIZES | {"dropout": 0.0} | options)
    model, batch = Seq2Seq(config, V, V).double().eval(), make_batch(ROWS)
    p = parameters(oracles.randoms())
    expected = [oracle(p, step, source, inputs) for source, inputs in with_start(batch)]

    leaves = tree_leaves(p)
    probes = [torch.randn_like(logits) for logits in expected]
    loss = sum((probe * logits).sum() for probe, logits in zip(probes, expected))
    gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
    for how in ("own outputs",) if config.sampling == "constant" else ("whole", "steps"):
        logits = functional_call(Logits(model), theirs(model, mapping(p, to_torch)), (batch, how))
        rows = [row[: len(logits)] for row, logits in zip(logits, expected)]
        for row, logits in zip(rows, expected):
            torch.testing.assert_close(row, logits, rtol=1e-11, atol=1e-12)
        loss = sum((probe * logits).sum() for probe, logits in zip(probes, rows))
        ours = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        for mine, expected_gradient in zip(ours, gradients):
            torch.testing.assert_close(mine, expected_gradient, rtol=1e-10, atol=1e-11)


def with_start(batch):
    """(source ids, input ids) of each row, <s> first."""
    for i, (source, target) in enumerate(ROWS):
        yield source, batch.inputs[i, : len(target) + 1].tolist()


# --- and all of them learn ----------------------------------------------------------------------------------------

WIDTHS = {"encoder_size": 48, "hidden_size": 48, "attention_size": 32, "readout_size": 32, "embedding_size": 16}


@pytest.fixture(scope="module")
def dates():
    """Two formats of Marathi dates: (training, validation, test) pairs."""
    numeric = lambda pairs: [pair for pair in pairs if pair[0].count("/") == 2 and " " not in pair[0]]
    return [numeric(part) for part in make_dates(train=20_000, valid=400, test=400)[:3]]


@pytest.mark.exhaustive(every=3)
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_learns(name, dates):
    """Some three hundred updates on real dates; those that look at the source word by word then know them all."""
    options = {"tokens": "char", "lr": 1e-2, "max_length": 40, "epochs": 5, "batch_size": 32, "lr_schedule": "linear"}
    options["cleaning"] = "none"  # it would take the digits out
    config = configure(name, options=WIDTHS | options)
    vocabularies = build_vocabularies(dates[0], config)
    train_set, valid_set = (Dataset(part, *vocabularies, config) for part in dates[:2])
    model = build_model(config, *vocabularies)
    before = validation_loss(model, valid_set)
    history = train(model, train_set, valid_set, show_bar=False, say=lambda text: None)
    assert history[-1]["step"] < 350
    assert validation_loss(model, valid_set) < 0.6 * before
    scores = Translator(model, *vocabularies).evaluate(dates[2])
    if name in ("keras-dialogue", "tf-attention", "lstm-marathi", "bahdanau", "nematus"):
        assert scores.exact_match > 0.9 and scores.count == len(dates[2]) > 20


# --- how a preset is asked for ------------------------------------------------------------------------------------


def test_options_change_a_file_and_a_file_changes_a_preset(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text('preset = "luong"\nattention = "dot"\nhidden_size = 32\nencoder_size = 32\n')
    config = configure(None, path, {"cell": "gru"})
    assert (config.cell, config.attention, config.feed, config.hidden_size) == ("gru", "dot", "none", 32)
    assert configure("bahdanau", path, {"attention": "additive"}).readout == "maxout"
    assert configure() == configure(options={})
    with pytest.raises(S2SError, match="there is no preset 'bahdanou', expected one of keras-dialogue, tf-basic"):
        configure("bahdanou")


def test_the_command_lists_them(capsys, tmp_path):
    from s2s.cli import main

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["presets", *arguments])
        assert not end.value.code
        return capsys.readouterr().out

    names = [line.split()[0] for line in run().splitlines() if not line.startswith("   ")]  # without what is wrapped
    assert names == ["--preset", *PRESETS, "--config", *recipes()]
    for name in (*PRESETS, *recipes()):  # what it prints is a file that means the same
        path = tmp_path / "p.toml"
        path.write_text(run(name))
        assert configure(None, path) == (configure(name) if name in PRESETS else configure(None, name))


@pytest.mark.parametrize("name", recipes())
def test_recipes_are_found_by_name(name, tmp_path, monkeypatch):
    config = configure(None, name)
    assert config == configure(None, RECIPES / f"{name}.toml") and config != configure()
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a model may have its name
    assert configure(None, name) == config
    (tmp_path / name).rmdir()
    (tmp_path / name).write_text("{}")  # a file goes first
    assert configure(None, name) == configure()
