"""What ``s2s train --explain`` says is what runs: the ops that the dispatcher sees in a training step and a search."""

import re

import pytest
import torch
from test_s2s_model import ROWS, SMALL, VARIANTS
from torch.utils._python_dispatch import TorchDispatchMode

import s2s_kernels as sk
from s2s.model import Seq2Seq
from s2s.model.config import Config
from s2s.report.explain import explain, table
from s2s.search import SearchOptions, search
from s2s.text.data import make_batch
from s2s_kernels.backend import available

OPS = ("additive_attention", "attention_gru", "attention_lstm", "beam_search", "gru_step", "lstm_step", "gru", "lstm")
OPS += ("linear_cross_entropy", "attention_decoder", "gru_bidirectional", "lstm_bidirectional")


class Watch(TorchDispatchMode):
    """Collects the names of the ops of s2s_kernels that run inside it."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if name.startswith("s2s_kernels."):
            base = re.sub("_(forward|backward)$", "", name.split(".")[1])
            self.seen.add(base)
        return function(*args, **(kwargs or {}))


def named(rows):
    """The ops that these rows name; with parts, both decoders are one that the dispatcher sees."""
    texts = [re.sub(r"attention_(gru|lstm) with", "attention_decoder with", row.runs) for row in rows]
    return {word for text in texts for word in re.findall(r"\w+", text)} & set(OPS)


@pytest.mark.skipif("cpp" not in available("cpu"), reason="the ops are seen in the dispatcher, and none is built")
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_it_names_the_ops_that_run(options):
    for sampling in ({}, {"sampling": "constant"}):
        config = Config(**SMALL | options | sampling)
        rows = explain(config)
        model, batch = Seq2Seq(config, 10, 10), make_batch(ROWS)
        training = [row for row in rows if not row.part.startswith("decoding")]
        if sampling:  # the whole sequence at once does not run then
            training = [row for row in training if row.part.startswith(("encoder", "loss")) or "outputs" in row.part]
        with Watch() as watch:
            model.loss(batch, sampling=1.0 if sampling else 0.0).backward()
        assert watch.seen == named(training), table(rows)
        memory, state = model.start(batch.source, batch.source_lengths)
        with torch.no_grad(), Watch() as watch:
            model.step(batch.inputs[:, 0], state, memory)
        assert watch.seen == named(row for row in rows if row.part in ("decoding", "decoding by sampling")), table(rows)
        with Watch() as watch:
            search(model.eval(), batch.source, batch.source_lengths, SearchOptions(beam=2, max_length=2))
        # With parts, the search is another op to the dispatcher.
        seen = [row.runs.replace("beam_search with", "decoder_search with") for row in rows if "greedy" in row.part]
        expected = {name for text in seen for name in ("beam_search", "decoder_search") if name in text}
        assert watch.seen & {"beam_search", "decoder_search"} == expected, table(rows)


@pytest.mark.skipif("cpp" not in available("cpu"), reason="the ops are seen in the dispatcher, and none is built")
@pytest.mark.parametrize(
    "options, parts",
    [
        ({}, []),
        ({"loop_dropout": 0.3}, ["dropout inside"]),
        ({"dropout": 0.3}, []),
        ({"dropout": 0.3, "decoder_layers": 2}, []),
        ({"dropout": 0.3, "decoder_layers": 2, "attention_layer": "top"}, ["2 layers", "dropout inside"]),
        ({"attention": "general", "attention_query": "state"}, ["dot scores"]),
        (
            {"attention": "general", "attention_query": "state", "cell": "lstm"},
            ["dot scores", "a query from [c;h]"],
        ),
    ],
)
def test_it_names_the_parts_of_the_decoder(options, parts):
    """Dropout is there in training alone, and the decoder is the plain one without."""
    config = Config(**SMALL | options)
    (row,) = [row for row in explain(config) if row.part == "decoder with attention"]
    assert row.runs == f"attention_{config.cell}" + (f" with {', '.join(parts)}" if parts else "") and not row.why
    model, batch = Seq2Seq(config, 10, 10), make_batch(ROWS)
    with Watch() as watch:
        model.loss(batch).backward()
    assert ("attention_decoder" in watch.seen) == bool(parts) != (f"attention_{config.cell}" in watch.seen)
    with Watch() as watch:
        model.eval()(batch.source, batch.source_lengths, batch.inputs)
    assert ("attention_decoder" in watch.seen) == bool(set(parts) - {"dropout inside"})


def test_every_loop_has_a_reason_and_every_op_a_backend():
    for options in VARIANTS.values():
        for row in explain(Config(**SMALL | options)):
            assert bool(row.why) == ("loop" in row.runs or "single" in row.runs), row
            assert bool(named([row])) == (row.backend.split(" and ")[0] == available("cpu")[0] or "cpp" in row.backend)
    with sk.backend("reference"):
        assert {row.backend for row in explain(Config())} == {"reference", "torch"}


def test_the_command_prints_it_and_trains_nothing(capsys, tmp_path, monkeypatch):
    from s2s.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["train", *arguments])
        out, err = capsys.readouterr()
        return end.value.code, out, err

    luong = ("--preset", "luong", "--feed", "attentional", "--explain")
    code, out, _ = run(*luong, "--encoder-layers", "2", "--decoder-layers", "2", "--loop-dropout", "0.2")
    assert not code and "attention_lstm with dot scores, 2 layers, dropout inside" in out
    code, out, _ = run("--preset", "tf-attention", "--cell", "lstm", "--explain")
    assert not code and "attention_lstm with a query from [c;h]" in out
    code, out, _ = run(*luong, "--attention-window", "local-m")
    assert not code and "a loop of lstm_step and two matmuls and a softmax" in out
    assert "not one op: a local-m window is fed back to the cell, and the op has no window" in out
    code, out, _ = run("--explain")
    assert not code and "attention_gru" in out and not any(tmp_path.iterdir())
    code, _, err = run()
    assert code == 1 and "no file given" in err
