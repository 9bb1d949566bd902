"""What ``python -m benchmarks`` leaves behind when it cannot go on."""

import json

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import suites


def test_what_was_measured_is_kept(monkeypatch, tmp_path):
    keys = []

    def measure(run, *_):
        keys.append(run.key)
        if len(keys) == 3:
            raise RuntimeError("an illegal memory access\nwas encountered")
        return []

    monkeypatch.setattr(benchmarks, "measure_run", measure)
    with pytest.raises(SystemExit, match=r"Broke off at .*: RuntimeError: an illegal memory access$"):
        benchmarks.main(["--suite", "quick", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "quick.json").read_text())
    assert any(note.startswith("Broke off") for note in found["notes"])
    assert found["not_run"] == [run.key for run in suites.runs("quick", found["threads"])[2:]]
    assert found["not_run"][0] == keys[-1]
