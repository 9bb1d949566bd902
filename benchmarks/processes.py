"""Tokens a second of training in two processes of one thread beside one: python -m benchmarks.processes

    [--rounds 3] [--steps 20] [--batch-size 64] [--processes 2]

One process has the batch of one, the two have one each. The rounds alternate; what is printed is the median of each.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WARM = 4  # steps before the clock starts
WORDS, LENGTHS = 8000, (6, 20)  # as in captions


def sentence(draw):
    return " ".join(f"w{draw.randrange(WORDS)}" for _ in range(draw.randint(*LENGTHS)))


def worker(options):
    """Trains in this process; the first of all prints what it measured."""
    import time

    import torch

    from s2s.model.config import Config
    from s2s.text.data import Dataset
    from s2s.text.vocab import build_vocabularies
    from s2s.training.processes import joined
    from s2s.training.trainer import Trainer, build_model

    with joined("cpu", 60) as processes:
        draw = random.Random(1)
        size = options.batch_size * processes.size
        pairs = [(sentence(draw), sentence(draw)) for _ in range(size * (WARM + options.steps))]
        config = Config(tokens="space", shared_vocab=True, tied_embeddings=True, batch_size=size, epochs=1)
        vocabularies = build_vocabularies(pairs, config)
        data = Dataset(pairs, *vocabularies, config)
        model = build_model(config, *vocabularies)
        trainer = Trainer(model, data, data, show_bar=False, processes=processes)
        model.train()
        for step, indices in enumerate(data.batches(1)):
            if step == WARM:
                start, before = time.perf_counter(), trainer.tokens
            trainer._run_step(trainer._load([indices]))
        seconds = time.perf_counter() - start
        if processes.first:
            rate = (trainer.tokens - before) / seconds
            print(json.dumps({"rate": rate, "step": seconds / options.steps, "threads": torch.get_num_threads()}))


def measure(count, options) -> dict:
    """What a worker prints, of so many processes."""
    command = [sys.executable, "-W", "ignore"]
    if count > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "benchmarks.processes", "--worker"]
    command += ["--steps", str(options.steps), "--batch-size", str(options.batch_size)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'python'}", "OMP_NUM_THREADS": "1"}
    environment |= {"OMP_WAIT_POLICY": "passive", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"processes: {count} of them failed: {done.stderr[-1500:]}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.processes", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=64, help="pairs, of each process")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    rates = {1: [], options.processes: []}
    for number in range(options.rounds):
        for count in list(rates)[:: -1 if number % 2 else 1]:
            rates[count].append(measure(count, options)["rate"])
            print(f"{count} of one thread: {rates[count][-1]:,.0f} tokens/s", flush=True)
    alone, together = (statistics.median(rates[count]) for count in rates)
    print(f"{options.processes} processes, batches of {options.batch_size}: {together / alone:.2f} times one")


if __name__ == "__main__":
    main()
