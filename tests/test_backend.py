"""The choice of a backend."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import call, example, leaves, place

import s2s_kernels as sk
from s2s_kernels import extension

ROOT = Path(__file__).parent.parent


def result():
    return call(sk, "gru_step", leaves(example("gru_step")))[0].grad_fn.name()


def test_nests_and_restores():
    with sk.backend("reference"):
        inside = result()
        with sk.backend("auto"):
            fastest = result()
        assert result() == inside
        with pytest.raises(KeyError), sk.backend("auto"):
            raise KeyError
        assert result() == inside
    assert (fastest == inside) == (not extension.built)


@pytest.mark.skipif(not extension.built, reason="the compiled extension is not built here")
def test_auto_is_cpp_on_the_cpu():
    with sk.backend("cpp"):
        compiled = result()
    with sk.backend("auto"):
        assert result() == compiled


def test_an_unknown_name():
    with pytest.raises(ValueError, match="backend is 'fast', expected one of auto, cpp, cuda, triton, reference"):
        sk.backend("fast").__enter__()


def test_a_demand_that_cannot_be_met_raises():
    """It never falls back: who asks for a backend wants to know."""
    with sk.backend("cuda"), pytest.raises(RuntimeError, match="backend 'cuda' cannot run cpu tensors"):
        result()


@pytest.mark.parametrize("op", ["additive_attention", "gru", "lstm", "lstm_step", "attention_gru", "attention_lstm"])
def test_every_op_obeys(op):
    with sk.backend("cuda"), pytest.raises(RuntimeError, match="cuda"):
        call(sk, op, place(example(op)))


def python(code, **environment):
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)


def test_environment():
    code = "from s2s_kernels.backend import resolve; print(resolve('cpu'))"
    assert python(code, S2S_BACKEND="reference").stdout.strip() == "reference"
    assert python(code, S2S_BACKEND="").stdout.strip() == ("cpp" if extension.built else "reference")
    failed = python(code, S2S_BACKEND="fast")
    assert failed.returncode != 0 and "S2S_BACKEND is 'fast'" in failed.stderr


def test_functions_whose_modules_have_their_names():
    """Importing s2s_kernels.convert or .info first does not hide the functions of those names."""
    code = "import s2s_kernels.convert, s2s_kernels.info, s2s_kernels.backend, s2s_kernels as sk; "
    code += "assert all(callable(f) for f in (sk.convert, sk.revert, sk.info, sk.backend))"
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_info_says_what_runs():
    info = sk.info()
    assert info["torch"] == torch.__version__
    assert info["extension"] == extension.built
    assert info["backends"]["cpu"] == ("cpp" if extension.built else "reference")
    with sk.backend("reference"):
        assert sk.info()["backends"]["cpu"] == "reference"
