"""``python -m benchmarks.training_time``: where the time of a training goes.

    python -m benchmarks.training_time train.de train.en --valid val.de --valid val.en --config multi30k-de-en

trains as ``s2s train`` does for some updates, validates, saves, and prints a table. The parts of an update follow one
another, forward and backward, so each begins where a hook of PyTorch's says that the one before it has ended. On a CPU:
a GPU's work ends later than the call. ``--record docs/runs/NAME.json`` keeps the table in the record of such a run.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from s2s.commands.work import read_parts
from s2s.errors import S2SError
from s2s.files import read_json, to_json, write_output
from s2s.model.checkpoint import save_checkpoint
from s2s.model.presets import configure
from s2s.report.records import machine
from s2s.text.data import Dataset
from s2s.text.vocab import build_vocabularies
from s2s.training.trainer import Trainer, build_model

from .text_results import COLUMNS_OF_TIME, PARTS, rows_of_time, what_took_time

WARMUP = 10  # updates that are not counted


class Watched(Trainer):
    """A Trainer that knows what its time was spent on: ``spent``, seconds by part, of ``updates``."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.updates, self.counted = 0, 0
        self.begin()
        encoder, decoder, loss = self.model.encoder, self.model.decoder, self.model.loss

        def watched_loss(*batch):
            found = loss(*batch)
            self.end("loss")
            return found

        def at_gradient(tensor, part):
            if tensor.requires_grad:  # not in a validation
                tensor.register_hook(lambda gradient: self.end(part))

        def encoded(module, inputs, output):
            self.end("encoder")
            at_gradient(output[0], "scan")

        def decoded(module, inputs, output):
            self.end("scan")
            at_gradient(output[0], "loss")

        self.model.loss = watched_loss
        encoder.register_forward_hook(encoded)
        decoder.register_forward_hook(decoded)
        for parameter in encoder.parameters():
            parameter.register_post_accumulate_grad_hook(lambda parameter: self.end("encoder"))

    def begin(self):
        """Nothing was spent yet."""
        self.spent, self.last = dict.fromkeys(PARTS, 0.0), time.perf_counter()

    def end(self, part):
        """What was done since the last call is a part of this one."""
        now = time.perf_counter()
        self.spent[part] += now - self.last
        self.last = now

    def _run_step(self, batches):
        if self.step <= WARMUP:
            self.updates, self.counted = 0, self.tokens
            self.begin()
        else:
            self.end("batches")
        super()._run_step(batches)
        self.end("optimizer")
        self.updates += 1

    def _validate(self, epoch):
        update = self.spent
        self.begin()  # its parts are those of an update
        over = super()._validate(epoch)
        self.end("validation")
        self.spent = update | {"validation": sum(self.spent.values())}
        return over


def measure(files, valid, config, updates):
    """The record of so many updates and a validation of a training by ``config``, a Config.

    S2SError where ``s2s train`` has one, or with scheduled sampling, whose loop of steps has no such parts.
    """
    if config.sampling != "never":
        raise S2SError(f'sampling is "{config.sampling}", whose steps cannot be told apart, expected "never".')
    began = time.perf_counter()
    torch.set_float32_matmul_precision(config.matmul_precision)
    parts = read_parts(files, valid, config, print)
    vocabularies = build_vocabularies(parts[0], config)
    sets = [Dataset(part, *vocabularies, config) for part in parts]
    model = build_model(config.updated(eval_every=updates), *vocabularies)
    reading = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        trainer = Watched(
            model,
            *sets,
            stop=lambda model, record: True,
            on_best=lambda model, history: save_checkpoint(folder, model, *vocabularies, history),
            state=folder,
        )
        trainer.run()
    steps = trainer.total_steps
    times = {"reading": 1, "validation": steps / config.eval_every if config.eval_every else config.epochs}
    return {
        "machine": machine(),
        "updates": trainer.updates,
        "tokens": trainer.tokens - trainer.counted,
        "seconds": {part: round(found, 4) for part, found in (trainer.spent | {"reading": reading}).items()},
        "times": {part: times.get(part, steps / trainer.updates) for part in PARTS},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--valid", action="append", type=Path)
    parser.add_argument("--config", help="a file or a recipe")
    parser.add_argument("--updates", type=int, default=100, help="how many to run, after a few that do not count")
    parser.add_argument("--record", type=Path, help="the record of a run, docs/runs/NAME.json, to keep the table in")
    options = parser.parse_args()
    try:
        record = read_json(options.record) if options.record else None
        found = measure(options.files, options.valid, configure(None, options.config), options.updates + WARMUP)
        print(what_took_time(found))
        for line in (COLUMNS_OF_TIME, *rows_of_time(found)):
            print(f"{line[0]:12}{line[1]:58}", *(f"{cell:>30}" for cell in line[2:]), sep="")
        if record is not None:
            write_output(options.record, to_json({**record, "time": found}))
    except S2SError as error:
        sys.exit(f"training_time: {error}")


if __name__ == "__main__":
    main()
