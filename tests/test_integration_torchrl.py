"""TorchRL's modules in recurrent mode, before and after the integration's convert, in TorchRL's own environment."""

import os
import subprocess

import pytest
from integrations import environment


@pytest.mark.slow
def test_torchrl():
    try:
        python = environment.prepare("torchrl")
    except environment.NotInstalled as error:
        pytest.skip(f"pip: {error}")
    paths = [str(environment.ROOT), str(environment.ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [python, "-m", "integrations.torchrl_resets"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "relative difference" in done.stdout and "is named" in done.stdout
    assert "the peer of the benchmarks" in done.stdout
