"""One stage: a command with a share of the time, shown as it runs, its log on disk line by line."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENDING = 8  # of a stage's seconds, for pytest and the benchmarks to write what they have; the last, to be killed
PASSED, BEFORE = "passed", "passed before, not run again"


@dataclass
class Stage:
    name: str
    command: list[str]  # "{seconds}" in a word: those in which it is to end by itself
    seconds: float  # its share of the time
    grows: bool = False  # takes what earlier stages have left of theirs
    needed: bool = False  # where it fails, nothing after it is run
    environment: dict[str, str] = field(default_factory=dict)
    made: Callable[[], bool] = lambda: True  # whether what it makes is there; else it runs again, whatever was recorded
    status: str = "not run"
    took: float = 0.0
    said: str = ""  # the last line of its output

    @property
    def passed(self):
        return self.status in (PASSED, BEFORE)

    def record(self):
        kept = {name: getattr(self, name) for name in ("name", "status", "said", "command")}
        return kept | {"seconds": round(self.took, 1), "log": f"{self.name}.log"}


def run(stage, folder, limit, show=print):
    """Runs it for ``limit`` seconds at most; then it is told to end, and soon after killed."""
    patience = min(ENDING, limit / 4)
    path = os.pathsep.join(filter(None, [str(ROOT), str(ROOT / "python"), os.environ.get("PYTHONPATH")]))
    begin, late = time.monotonic(), threading.Event()

    def stop():
        late.set()
        for sign, wait in ((signal.SIGINT, patience), (signal.SIGKILL, 0)):
            try:
                os.killpg(process.pid, sign)
            except ProcessLookupError:
                return
            ended.wait(wait)

    ended = threading.Event()
    with open(folder / f"{stage.name}.log", "w", encoding="utf-8", buffering=1) as log:
        process = subprocess.Popen(
            [word.replace("{seconds}", f"{max(1, limit - 2 * patience):.0f}") for word in stage.command],
            cwd=ROOT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **stage.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        timer = threading.Timer(limit - patience, stop)
        timer.daemon = True
        timer.start()
        for line in process.stdout:
            show(line, end="", flush=True)
            log.write(line)
            stage.said = line.strip() or stage.said
        process.wait()
        ended.set()
        timer.cancel()
    stage.took = time.monotonic() - begin
    if late.is_set():
        stage.status = f"cut after its {limit:.0f} s"
    else:
        stage.status = PASSED if process.returncode == 0 else f"failed with status {process.returncode}"
