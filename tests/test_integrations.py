"""The checks of ``make integrations``: that they find what is wrong, and three of the packages for real."""

import copy
import subprocess
import sys

import pytest
import torch
from integrations import environment, page, rows
from integrations.case import Case
from integrations.compare import Failed, compare
from torch import nn

import s2s_kernels as sk


@pytest.fixture(autouse=True)
def default_dtype():
    yield
    torch.set_default_dtype(torch.float32)


def make(size):
    """A model as a package would have it: its own class around a GRU, its loss and its search."""
    model = nn.ModuleDict({"rnn": nn.GRU(size.hidden, size.hidden, batch_first=True)})
    x = torch.randn(size.batch, size.steps, size.hidden)

    def initialize(model):
        for p in model["rnn"].parameters():
            nn.init.uniform_(p, -0.5, 0.5)

    return Case(
        model=model,
        outputs=lambda model: [*model["rnn"](x)],
        loss=lambda model: model["rnn"](x)[0].square().mean(),
        converted=1,
        decode=lambda model: model["rnn"](x)[0].argmax(-1),
        initialize=initialize,
    )


def failed():
    """The columns that fail for ``make``."""
    cells = rows.row("a GRU", make, "torch", times=False)["cells"]
    return {name for name, (passed, _) in cells.items() if not passed}


def test_a_model_that_convert_takes_passes():
    cells = rows.row("a GRU", make, "torch")["cells"]
    assert all(passed for passed, _ in cells.values()), cells
    assert list(cells) == list(rows.checks.COLUMNS)
    assert cells["converts"][1].startswith("1 of 1; gru")


def broken(monkeypatch, change):
    """``sk.convert`` followed by ``change`` of the model."""
    convert = sk.convert

    def converted(model, **options):
        found = convert(model, **options)
        change(model)
        return found

    monkeypatch.setattr(sk, "convert", converted)


def scaled(factor):
    def change(model):
        model["rnn"].register_forward_hook(lambda module, args, out: (out[0] * factor, out[1]))

    return change


def test_a_small_error_is_found(monkeypatch):
    broken(monkeypatch, scaled(1 + 1e-9))
    assert {"outputs", "gradients", "trains", "saves"} <= failed()


def test_a_gradient_that_is_lost_is_found(monkeypatch):
    def change(model):
        model["rnn"].weight_hh_l0.register_hook(torch.zeros_like)

    broken(monkeypatch, change)
    assert failed() == {"gradients", "trains"}


def test_a_parameter_made_anew_is_found(monkeypatch):
    def change(model):
        model["rnn"].bias_hh_l0 = nn.Parameter(model["rnn"].bias_hh_l0.detach().clone())

    broken(monkeypatch, change)
    assert failed() == {"reverts"}


def test_a_module_that_nobody_names_is_found(monkeypatch):
    broken(monkeypatch, lambda model: model.update({"other": nn.LSTM(2, 2)}))
    assert "converts" in failed()


def test_a_case_that_fails_by_itself_is_not_blamed_on_convert(monkeypatch):
    def fails(size):
        case = make(size)
        case.loss = lambda model: model["rnn"](torch.ones(1, 2, 3))[0].sum()
        return case

    cells = rows.row("wrong size", fails, "torch")["cells"]
    assert list(cells) == ["converts"] and cells["converts"][1].startswith("unconverted: RuntimeError: input.size(-1)")


def test_pip_that_fails_is_a_reason(monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "pins", lambda *_: ["not a requirement"])
    with pytest.raises(environment.NotInstalled, match="not a requirement"):
        environment.prepare("nothing")
    assert not (environment.build("nothing") / "stamp").exists()


def test_the_page(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    cells = {"converts": (True, "1 of 1"), "outputs": (False, "a | b")}
    rows = [{"case": "small", "note": "noted", "cells": cells}]
    records = [
        {"package": "one", "pin": "one==1", "rows": rows, "reason": "", "failed": True},
        {"package": "two", "pin": "two==2", "rows": [], "reason": "skipped: pip: no", "failed": False},
    ]
    text = page.write(records).read_text()
    assert "| one==1 | small | 1 of 1 | **fails**: a \\| b | " in text and "| noted |" in text
    assert text.count("\n| two==2 |") == 1 and "| skipped: pip: no |" in text


x = torch.tensor([1.0, -2.0, float("nan"), float("inf")])
EQUAL = [x, [x.long(), 1.5, "a"], {"a": x.numpy(), "b": None}, (), x[:0]]
DIFFERENT = [
    (x, x * torch.tensor([1 + 1e-6, 1, 1, 1])),
    (x, x.double()),
    (x, x[:3]),
    (x, x.abs()),
    (x, torch.where(x.isnan(), x.new_tensor(float("inf")), x)),
    (x, x * torch.tensor([1, 1, 1, -1])),
    (x, x.clone().requires_grad_()),
    ([x], [x, x]),
    ([x], (x,)),
    (1.5, 1.5 + 1e-9),
    (["a", 1], ["a", 2]),
    (x[:1].long(), x[:1].long() + 1),
]


@pytest.mark.parametrize("one", EQUAL)
def test_equal(one):
    assert compare("it", one, copy.deepcopy(one)) == 0


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different(one, other):
    with pytest.raises(Failed, match="it"):
        compare("it", one, other)


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "tests.integrations", *arguments],
        cwd=environment.ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_package_that_is_not_there_is_named():
    done = command("nopackage")
    assert done.returncode == 2 and "no integration named nopackage: there are " in done.stderr


def test_pins_are_exact():
    names = environment.packages()
    assert "joeynmt" in names
    for name in names:
        assert all(pin.count("==") == 1 for pin in environment.pins(name)), name
    assert command("--list").stdout.startswith(f"{names[0]}: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "package", ["torchrl", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("joeynmt", "stanza"))]
)
def test_package(package):
    done = command(package, "--no-times")
    if "skipped: pip: " in done.stdout:
        pytest.skip(done.stdout.partition("skipped: ")[2].strip())
    assert done.returncode == 0, done.stdout + done.stderr
