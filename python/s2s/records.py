"""What a run was: the machine, the command, the time, the curve and the scores, as JSON that can be published."""

import datetime
import json
import os
import shlex
import sys
import time
from pathlib import Path

from .config import Config, read_mapping
from .errors import S2SError
from .pairs import fingerprint, read_text


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

    def __init__(self, before=None):
        """``before``: what another clock read, to go on from."""
        before = before or {"seconds": 0, "cpu_seconds": 0}
        self.wall = time.monotonic() - before["seconds"]
        self.processor = time.process_time() - before["cpu_seconds"]
        self.date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()

    def read(self) -> dict:
        return {
            "date": self.date,
            "seconds": round(time.monotonic() - self.wall, 2),
            "cpu_seconds": round(time.process_time() - self.processor, 2),
        }


def training_record(clock, pairs, model, before=None) -> dict:
    """Of a run of ``s2s train``; kept in the checkpoint as run.json. ``before``: that of the run it goes on with."""
    commands = {"command": command_line()}
    if before:
        commands = {"command": before["command"], "resumed": [*before.get("resumed", []), command_line()]}
    return {
        **commands,
        **clock.read(),
        "pairs": pairs,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
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


def write_record(path, model, config, evaluation):
    """Adds an evaluation of the checkpoint ``model`` to the record in ``path``.

    A record is of one training: one of another training is written over. An evaluation of the same data by the same
    search replaces the one before.
    """
    path, model = Path(path), Path(model)
    defaults = Config().to_dict()
    record = {
        "training": read_json(model / "run.json"),
        "config": {name: value for name, value in config.to_dict().items() if value != defaults[name]},
        "seed": config.seed,
        "curve": read_json(model / "history.json"),
        "evaluations": [],
    }
    if path.exists():
        old = read_mapping(path)
        if old.get("training") == record["training"]:
            same = ("data", "count", "search")
            record["evaluations"] = [e for e in old["evaluations"] if any(e[n] != evaluation[n] for n in same)]
    record["evaluations"].append(evaluation)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise S2SError(f"{path} cannot be written ({error.strerror}).") from None


def read_json(path):
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise S2SError(f"{path} is no valid JSON ({error}).") from None
