"""What ``s2s train --explain`` says is what runs: the ops that the dispatcher sees in a training step and a search."""

import re

import pytest
import torch
from test_s2s_model import ROWS, SMALL, VARIANTS
from torch.utils._python_dispatch import TorchDispatchMode

import s2s_kernels as sk
from s2s.config import Config
from s2s.data import make_batch
from s2s.explain import explain, table
from s2s.model import Seq2Seq
from s2s.search import SearchOptions, search
from s2s_kernels.backend import available

OPS = ("additive_attention", "attention_gru", "attention_lstm", "beam_search", "gru_step", "lstm_step", "gru", "lstm")
OPS += ("linear_cross_entropy",)


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
    """The ops that these rows name."""
    words = {word for row in rows for word in re.findall(r"\w+", row.runs)}
    return words & set(OPS)


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
        fused = any(row.part == "decoding, greedy or beam" and row.runs == "beam_search" for row in rows)
        assert ("beam_search" in watch.seen) == fused, table(rows)


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

    code, out, _ = run("--preset", "luong", "--feed", "attentional", "--explain")
    assert not code and "a loop of lstm_step and two matmuls and a softmax" in out
    assert "not one op: 'general' attention is fed back to the cell, and the fused scan scores additively" in out
    code, out, _ = run("--explain")
    assert not code and "attention_gru" in out and not any(tmp_path.iterdir())
    code, _, err = run()
    assert code == 1 and "no file given" in err
