"""What a run was: the machine, the command, the time, the curve and the scores, as JSON that can be published."""

import datetime
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from ..errors import S2SError, shown
from ..files import read_json, to_json, write_output
from ..model.config import Config
from ..text.pairs import fingerprint
from ..training.state_numbers import check_history, check_run


def command_line() -> str:
    """This process's ``s2s`` command, absolute paths cut down to their names."""
    words = [Path(word).name if os.path.isabs(word) else word for word in sys.argv[1:]]
    return shlex.join(["s2s", *words])


def machine() -> dict:
    import s2s_kernels as sk

    info = sk.info()
    kept = ("s2s_kernels", "torch", "python", "cpu_capability", "threads", "devices", "backends")
    return {name: info[name] for name in kept}


class Clock:
    """Seconds since it was made, on the wall and of the processors: on a machine shared with other work the second
    is less than the number of threads times the first."""

    def __init__(self, before: dict[str, Any] | None = None) -> None:
        """``before``: what another clock read, to go on from."""
        self.wall, self.processor = time.monotonic(), time.process_time()
        self.date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        self.go_on(before)

    def go_on(self, before: dict[str, Any] | None) -> None:
        """As if it had been made as long ago as another clock read; None for no other."""
        if before:
            self.wall -= before["seconds"]
            self.processor -= before["cpu_seconds"]

    def read(self) -> dict:
        return {
            "date": self.date,
            "seconds": round(time.monotonic() - self.wall, 2),
            "cpu_seconds": round(time.process_time() - self.processor, 2),
        }


def training_record(clock, pairs, model, before=None, processes=1) -> dict:
    """Of a run of ``s2s train``; kept in the checkpoint as run.json. ``before``: that of the run it goes on with."""
    commands = {"command": command_line()}
    if before:
        commands = {"command": before["command"], "resumed": [*before.get("resumed", []), command_line()]}
    return {
        **commands,
        **clock.read(),
        "pairs": pairs,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **({"processes": processes} if processes > 1 else {}),
        "machine": machine(),
    }


def evaluation_record(clock, data, references, search, scores, perplexity, samples) -> dict:
    """Of a run of ``s2s evaluate``; ``data`` names what was translated, ``search`` says how. Of the references a
    fingerprint is kept: scores compare where it is the same."""
    scores = scores._asdict() | perplexity._asdict()
    text = "\n".join(references)
    return {
        "command": command_line(),
        **clock.read(),
        "data": data,
        "references": f"{fingerprint(text):016x}",
        "search": search,
        **{name: round(value, 4) if isinstance(value, float) else value for name, value in scores.items()},
        "samples": samples,
        "machine": machine(),
    }


SAME = ("data", "count", "search")  # an evaluation of which these are the same replaces the one before


def begin_record(path, model, config) -> dict:
    """The record in ``path`` of the checkpoint ``model``, or a new one where there is none or one of another training.
    What else a record of this training holds stays in it.

    Raises S2SError if the files that it is made of are none.
    """
    path, model = Path(path), Path(model)
    training, curve = read_json(model / "run.json"), read_json(model / "history.json")
    for check, value, source in ((check_run, training, "run.json"), (check_history, curve, "history.json")):
        try:
            check(value)
        except S2SError as error:
            raise S2SError(f"{model / source}: {error}") from None
    defaults = Config().to_dict()
    record = {
        "training": training,
        "config": {name: value for name, value in config.to_dict().items() if value != defaults[name]},
        "seed": config.seed,
        "curve": curve,
        "evaluations": [],
    }
    if os.path.exists(path):
        old = read_json(path)
        if not isinstance(old, dict):
            raise S2SError(f"{path} is {shown(old)}, expected the record of a run.")
        if old.get("training") == training:
            record = old | record | {"evaluations": old.get("evaluations")}
            if not isinstance(old.get("evaluations"), list) or not all(
                isinstance(found, dict) and set(SAME) <= set(found) for found in old["evaluations"]
            ):
                raise S2SError(f"{path}: evaluations is {shown(old.get('evaluations'))}, expected a list of records.")
    return record


def write_record(path, record, evaluation):
    """Adds an evaluation to a record that ``begin_record`` made, and writes it."""
    kept = [found for found in record["evaluations"] if any(found[name] != evaluation[name] for name in SAME)]
    write_output(path, to_json({**record, "evaluations": [*kept, evaluation]}))
