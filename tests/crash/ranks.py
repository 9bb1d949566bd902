"""Trainings of two processes under torchrun --max-restarts, of which one is killed again and again.

    python -m tests.crash.ranks [--kills 20] [--seed 1] [--write]

Each kill is a kill -9 of a random process at a random moment, every other one while the processes start. The training
must end by itself as one that nothing happened to: the same bits in every file.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .. import pages
from .trial import TINY, contents

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 2
START = 2.5  # seconds that a process takes until it trains, about
OPTIONS = {**TINY, "dropout": 0.2, "ema": 0.9, "eval-every": 10, "epochs": 250, "patience": 0}


def torchrun(folder, out, restarts):
    options = [str(word) for name, value in OPTIONS.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command += [str(PROCESSES), "--max-restarts", str(restarts)]
    command += ["-m", "s2s", "train", "pairs.tsv", "--no-curves", "--out", out]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}", "OMP_NUM_THREADS": "1"}
    said = open(folder / f"{out}.log", "wb")  # noqa: SIM115 (the process goes on writing to it)
    return subprocess.Popen([*command, *options], cwd=folder, env=environment, stdout=said, stderr=said)


def workers(agent):
    """The ids of the processes that torchrun has started."""
    found = []
    for task in Path(f"/proc/{agent.pid}/task").glob("*/children"):
        try:
            found += map(int, task.read_text().split())
        except OSError:
            continue  # a thread that has ended
    return sorted(found)


def saved(folder):
    """When the training there was saved last."""
    try:
        return os.stat(folder / "training.json").st_mtime_ns
    except FileNotFoundError:
        return 0


def one_training(folder, out, kills) -> int:
    """Kills up to so many times; returns how often. RuntimeError if the training does not end well."""
    agent, done, seen = torchrun(folder, out, kills), 0, set()
    while done < kills and agent.poll() is None:
        now = workers(agent)
        if len(now) < PROCESSES or seen & set(now):
            time.sleep(0.05)  # torchrun has yet to start them anew
            continue
        seen |= set(now)
        if done % 2:  # in the start, or once more was saved
            before = saved(folder / out)
            while saved(folder / out) == before and agent.poll() is None:
                time.sleep(0.02)
        time.sleep(random.uniform(0, START))
        try:
            os.kill(random.choice(now), signal.SIGKILL)
        except ProcessLookupError:
            continue  # the training has ended in the meantime
        done += 1
    if code := agent.wait(timeout=600):
        said = (folder / f"{out}.log").read_text()
        ours = [line for line in said.splitlines() if line.startswith("s2s: ")]
        raise RuntimeError("\n".join([f"exit code {code} after {done} kills", *ours, said[-2000:]]))
    return done


def kill(folder, kills) -> int:
    """All the kills, in as many trainings as it takes; returns how many were recovered from."""
    rows = [f"{a}{b}\t{b}{a}\n" for a in "abcdefg" for b in "stuvwx"]
    (folder / "pairs.tsv").write_text("".join(rows))
    one_training(folder, "whole", 0)
    expected, recovered = contents(folder / "whole"), 0
    for number in range(kills):
        if recovered < kills:
            done = one_training(folder, f"out{number}", kills - recovered)
            found = contents(folder / f"out{number}")
            if found != expected:
                wrong = [name for name in expected if found.get(name) != expected[name]]
                raise RuntimeError(f"after {done} kills {', '.join(wrong)} differ from a training without any")
            recovered += done
            print(f"{recovered} of {kills} kills recovered", file=sys.stderr, flush=True)
    return recovered


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.crash.ranks", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write the result to docs/reliability.md")
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        try:
            recovered = kill(Path(folder), options.kills)
        except RuntimeError as error:
            sys.exit(f"ranks: {error}")
    text = f"{recovered} of {options.kills} killed processes recovered from, to the bit."
    print(text)
    if options.write:
        pages.write("reliability.md", "ranks", f"\n{text}\n\n")


if __name__ == "__main__":
    main()
