"""What training.json may hold: every number of it, checked before anything is made of it."""

import math

from ..errors import S2SError, shown
from ..model.config import Config

RECORD = {
    "step": (int, 1),
    "epoch": (int, 1),
    "seconds": (float, 0),
    "train_loss": (float, None),
    "valid_loss": (float, None),
    "lr": (float, 0),
    "tokens_per_second": (int, 0),
}


def check_numbers(numbers, path, form, oldest, newest) -> Config:
    """The Config in the training.json at ``path``. Raises S2SError with the field that is missing, of another type, or
    impossible beside the others."""
    if not isinstance(numbers, dict) or numbers.get("format") != form:
        raise S2SError(f"{path} is no training of this s2s.")
    version = numbers.get("version")
    if type(version) is not int or not oldest <= version <= newest:
        raise S2SError(
            f"{path} is a training of version {shown(version)}, but this s2s reads versions {oldest} to {newest}."
        )
    try:
        config = Config.from_dict(numbers.get("config"), version)
        _check_counts(numbers, config)
        _check_history(numbers)
        if numbers.get("notes") is not None:  # a Trainer of one's own need not have any
            check_run(numbers["notes"], "notes.")
    except S2SError as error:
        raise S2SError(f"{path}: {error}") from None
    return config


def need(values, name, kind, low=None, high=None, within=""):
    """The value of a field; S2SError if it is missing, no ``kind`` (float: any finite number) or out of its range."""
    if name not in values:
        raise S2SError(f"{within}{name} is missing.")
    value = values[name]
    number = type(value) in (int, float) and abs(value) < 1e300 if kind is float else type(value) is kind
    if not number:
        raise S2SError(f"{within}{name} is {shown(value)}, expected {NAMES[kind]}.")
    if (low is not None and value < low) or (high is not None and value > high):
        span = f"{low} or more" if high is None else f"from {low} to {high}"
        raise S2SError(f"{within}{name} is {shown(value)}, expected {span}.")
    return value


NAMES = {int: "a whole number", float: "a number", str: "text", list: "a list", dict: "fields and their values"}


def _check_counts(numbers, config):
    """Where the training is: the step follows from the epoch and the batches of it that are done."""
    data = need(numbers, "data", dict)
    need(data, "pairs", int, 1, within="data.")
    batches = need(data, "batches", int, 1, data["pairs"], within="data.")
    epoch = need(numbers, "epoch", int, 1, config.epochs)
    done = need(numbers, "done", int, 0, batches)
    step = need(numbers, "step", int, 0)
    expected = (epoch - 1) * -(-batches // config.accumulate) + -(-done // config.accumulate)
    if step != expected:
        raise S2SError(f"step is {shown(step)}, expected {expected} after {done} batches of epoch {epoch}.")
    for name in ("tokens", "bad"):
        need(numbers, name, int, 0)
    for name in ("seconds", "outside"):
        need(numbers, name, float, 0)
    need(numbers, "lr_factor", float, 0, 1)


def _check_history(numbers):
    history = need(numbers, "history", list)
    check_history(history)
    for i, record in enumerate(history):
        need(record, "epoch", int, 1, numbers["epoch"], within=f"history[{i}].")
    if history and history[-1]["step"] != numbers["step"]:
        raise S2SError(f"history ends at step {history[-1]['step']}, expected {numbers['step']}.")
    if not history and numbers["step"]:
        raise S2SError(f"history is empty after {numbers['step']} steps.")
    best = min((record["valid_loss"] for record in history), default=None)
    if numbers.get("best_loss", math.nan) != best:
        raise S2SError(f"best_loss is {shown(numbers.get('best_loss'))}, expected {best}, the least of the history.")


def check_history(history):
    """S2SError if a list is none of records of validations."""
    if not isinstance(history, list):
        raise S2SError(f"the history is {shown(history)}, expected a list.")
    last = 0
    for i, record in enumerate(history):
        if not isinstance(record, dict):
            raise S2SError(f"history[{i}] is {shown(record)}, expected fields and their values.")
        for name, (kind, low) in RECORD.items():
            need(record, name, kind, low, within=f"history[{i}].")
        if record["step"] <= last:
            raise S2SError(f"history[{i}].step is {record['step']}, expected more than {last}.")
        last = record["step"]


def check_run(run, within=""):
    """S2SError if it is no record of a run of training, see ``records``."""
    if not isinstance(run, dict):
        raise S2SError(f"{within.rstrip('.') or 'it'} is {shown(run)}, expected the record of a run.")
    need(run, "command", str, within=within)
    for name in ("seconds", "cpu_seconds"):
        need(run, name, float, 0, within=within)
    resumed = run.get("resumed", [])
    if not isinstance(resumed, list) or not all(type(command) is str for command in resumed):
        raise S2SError(f"{within}resumed is {shown(resumed)}, expected a list of commands.")
