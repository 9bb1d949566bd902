"""The ops where the extension is not compiled: registered from Python, on Triton or the reference."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from s2s_kernels import extension, library, triton

HERE = Path(__file__).parent


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
@pytest.mark.parametrize("schema", library.SCHEMAS, ids=lambda schema: schema.split("(")[0])
def test_schemas_are_those_of_the_extension(schema):
    parsed = torch._C.parse_schema(f"s2s_kernels::{schema}")
    assert parsed == getattr(torch.ops.s2s_kernels, schema.split("(")[0]).default._schema


@pytest.mark.skipif(not triton.runs_on("cpu"), reason="needs Triton's interpreter, which a machine without a GPU uses")
def test_triton():
    """A part of test_triton.py, in a process that has no extension."""
    forms = "float32 and (plain or heads or 3-19-1.0) or opcheck and attention or outside and additive"
    forms += " or both_directions"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "without_extension", "-p", "no:cacheprovider"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    done = subprocess.run(
        [*command, HERE / "test_triton.py", "-k", forms], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout and "skipped" not in done.stdout
