"""The table of where the time of a training goes."""

import itertools
import time

import pytest

from benchmarks import text_results, training_time
from s2s.errors import S2SError
from s2s.model.config import Config


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for name, count in (("train", 400), ("valid", 20)):
        lines = (f"{i % 7} {i % 11} {i % 13}\t{i % 13} {i % 11}\n" for i in range(count))
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    sizes = dict.fromkeys(("embedding_size", "encoder_size", "hidden_size", "attention_size", "readout_size"), 8)
    config = Config(**sizes, tied_embeddings=True, shared_vocab=True, batch_size=8, epochs=3)
    began, ended = time.perf_counter(), []

    class Watched(training_time.Watched):
        def end(self, part):
            super().end(part)
            ended.append(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_time, "Watched", Watched)
        record = training_time.measure([folder / "train.tsv"], [folder / "valid.tsv"], config, 30)
    return record, time.perf_counter() - began, ended


def test_the_parts_are_the_whole(measured):
    record, whole, _ = measured
    assert set(record["seconds"]) == set(text_results.PARTS)
    assert all(seconds > 0 for seconds in record["seconds"].values()) and sum(record["seconds"].values()) < whole


def test_parts_follow_one_another(measured):
    """Forward, backward in the opposite order, and the next update; a validation has only the first half of it."""
    changes = [part for part, _ in itertools.groupby(measured[2])]
    update = ["encoder", "scan", "loss", "scan", "encoder", "optimizer"]
    first = training_time.WARMUP + 1
    assert changes[: first * len(update)] == first * update
    assert changes[first * len(update) :] == 19 * ["batches", *update] + 3 * update[:3] + ["validation"]


def test_a_whole_training_is_reckoned_from_its_updates(measured):
    record = measured[0]
    assert record["updates"] == 20
    assert record["tokens"] == 20 * 8 * 3  # two words and </s>
    times = record["times"]
    assert times["reading"] == 1 and times["validation"] == 3
    assert times["scan"] == times["loss"] == 3 * 50 / 20


def test_table():
    record = {
        "machine": {"devices": {"cpu": "A CPU"}, "cpu_capability": "avx2", "threads": 1},
        "updates": 10,
        "tokens": 600,
        "seconds": dict.fromkeys(text_results.PARTS, 0.5),
        "times": dict.fromkeys(text_results.PARTS, 4.0) | {"reading": 1, "validation": 2},
    }
    rows = {row[0]: row[2:] for row in text_results.rows_of_time(record)}
    assert rows["scan"] == ("50.0", "2", "17%")  # 0.5 s of 10 updates, four times as many in all; 11.5 s
    assert rows["validation"] == ("500.0", "1", "9%")
    said = text_results.what_took_time(record)
    assert "of 10 updates at 240 target tokens a second: A CPU (avx2), 1 thread." in said


def test_what_cannot_be_taken_apart(tmp_path, monkeypatch):
    with pytest.raises(S2SError, match=r'sampling is "linear", .* expected "never"'):
        training_time.measure([tmp_path / "train.tsv"], None, Config(sampling="linear"), 30)
    monkeypatch.setattr("sys.argv", ["training_time", str(tmp_path / "none.tsv")])
    with pytest.raises(SystemExit, match=r"^training_time: .*none.tsv"):
        training_time.main()
