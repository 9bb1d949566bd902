"""A training as ``s2s train`` runs it: in one process or several, the first of which says and writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from ..errors import S2SError
from .options import say


@dataclass
class Work:
    """What a training is made with, whatever it is trained on."""

    out: Path
    device: str
    processes: Any
    clock: Any
    write_curves: Any  # a function of a record, or None
    samples: int
    keep: int
    draw: bool  # curves.png in the end

    def tell(self, text):
        if self.processes.first:
            say(text)

    def read(self, files, valid, settings, chosen):
        """(pairs to train on, pairs to validate on), and the Config for them.

        ``chosen``: the fields that the user has set, None where none is to be changed.
        """
        from ..training.fitting import fitting, measure, said

        processes = self.processes
        parts = processes.agree(lambda: read_parts(files, valid, settings, self.tell))
        if chosen is not None:
            fields = processes.share(lambda: fitting(measure(parts[0]), settings, chosen))
            settings = settings.updated(**fields)
            if fields:
                self.tell(f"chosen for {len(parts[0]):,} pairs: {said(fields)}")
        return parts, settings

    def run(self, parts, settings, state=None):
        """Trains; ``state``: what to go on from."""
        import torch

        from ..text.data import Dataset
        from ..text.pairs import counted
        from ..text.vocab import build_vocabularies
        from ..training.state import restore, save_state
        from ..training.trainer import Trainer, build_model, count_parameters

        processes, tell, out = self.processes, self.tell, self.out
        torch.set_float32_matmul_precision(settings.matmul_precision)
        if state:
            vocabularies = state.vocabularies
            model = processes.agree(lambda: state.model(self.device))
            model.config = settings
        else:
            # An update is of a batch of each process, and stays so when another number of them goes on.
            size = processes.size
            settings = settings.updated(
                batch_size=settings.batch_size * size, batch_tokens=settings.batch_tokens * size
            )
            vocabularies = processes.share(lambda: build_vocabularies(parts[0], settings))
            model = processes.agree(lambda: build_model(settings, *vocabularies, self.device))
        before = state and state.numbers["notes"]
        self.clock.go_on(before)
        sets = processes.agree(lambda: [Dataset(part, *vocabularies, settings) for part in parts])
        processes.same([dataset.checksum() for dataset in sets], "pairs")
        for part, dataset in zip(parts, sets):
            if lost := dataset.too_long:
                longer = f"{counted(len(lost), 'pair')} longer than {settings.max_length} tokens"
                tell(f"{part.name}: left out {longer} (line {part.shown(lost)})")
        several = (
            f"; {processes.size} processes, {settings.batch_size} pairs to an update" if processes.size > 1 else ""
        )
        tell(
            f"{len(sets[0]):,} pairs to train on, {len(sets[1]):,} to validate; vocabularies of "
            f"{len(vocabularies[0]):,} and {len(vocabularies[1]):,}; {count_parameters(model):,} parameters on "
            f"{self.device}{several}"
        )
        writer = Writer(self, parts, len(sets[0]), vocabularies, before)
        trainer = processes.agree(
            lambda: Trainer(
                model, *sets, on_best=writer.best, stop=writer.validated, say=tell, state=out, processes=processes
            )
        )
        writer.trainer = trainer
        if state:
            processes.agree(lambda: restore(trainer, state))
            tell(f"going on at step {trainer.step}, in epoch {trainer.epoch}")
        else:
            trainer.notes = writer.record(model)
            save_state(trainer, out)  # fails now rather than after the first epoch if the folder cannot be written
        try:
            history = trainer.run()
        except KeyboardInterrupt:
            history = []
        if trainer.interrupted:
            tell(interruption(trainer, out))
            raise typer.Exit(130)
        if processes.first:
            writer.best(model, history)
            if self.draw:
                writer.draw_curves()
            say(ending(trainer, out))


class Writer:
    """What the first process writes at validations and in the end."""

    def __init__(self, work, parts, pairs, vocabularies, before):
        from .samples import Samples

        self.work, self.pairs, self.vocabularies, self.before = work, pairs, vocabularies, before
        self.samples = Samples(parts[1], work.samples, vocabularies)
        self.trainer = None

    def record(self, model):
        from ..report.records import training_record

        return training_record(self.work.clock, self.pairs, model, self.before, self.work.processes.size)

    def best(self, model, history):
        """The best model so far."""
        from ..files import to_json, write_file, writing
        from ..model.checkpoint import save_checkpoint

        save_checkpoint(self.work.out, model, *self.vocabularies, history)
        with writing(self.work.out):
            write_file(self.work.out / "run.json", to_json(self.record(model)))

    def validated(self, model, found):
        """A Trainer's ``stop`` that never stops."""
        from ..model.checkpoint import save_checkpoint
        from ..training.kept import keep

        # Also when it is not the best so far: its time was used, and --resume goes on from it.
        self.trainer.notes = self.record(model)
        self.samples.show(model, self.trainer.say)
        if self.work.keep > 1:
            history = self.trainer.history
            keep(
                self.work.out,
                self.work.keep,
                found,
                lambda path: save_checkpoint(path, model, *self.vocabularies, history),
            )
        if self.work.write_curves:
            self.work.write_curves(found)

    def draw_curves(self):
        """curves.png in the folder of the model."""
        from ..report.curves import draw_curves, read_run

        try:
            draw_curves(self.work.out / "curves.png", [read_run(self.work.out)])
        except ModuleNotFoundError as error:
            say(f"no curves.png was drawn: {error.name} is not installed")


def ending(trainer, out):
    """What the training has come to, and whether more of it would help."""
    history = trainer.history
    best = min(history, key=lambda record: record["valid_loss"])
    text = f"best validation loss {best['valid_loss']:.4f} at step {best['step']}; saved in {out}"
    config = trainer.config
    falling = config.lr_schedule in ("plateau", "constant") and best is history[-1] and trainer.bad == 0
    if falling and trainer.epoch > config.epochs:
        text += f"\nstill improving: the same command with --resume --epochs {2 * config.epochs} goes on"
    return text


def interruption(trainer, out):
    """What Ctrl-C leaves, and how to go on."""
    if not trainer.history:
        return f"s2s: interrupted at step {trainer.step}, before the first validation: nothing is kept yet."
    best = min(trainer.history, key=lambda record: record["valid_loss"])["step"]
    return (
        f"s2s: interrupted at step {trainer.step}; the model of step {best} is in {out}, and the same command with "
        f"--resume goes on from step {trainer.history[-1]['step']}."
    )


def read_parts(files, valid, settings, say):
    """(pairs to train on, pairs to validate on)."""
    from ..text.cleaning import source_text
    from ..text.pairs import PairFile, split_pairs

    pairs = PairFile(files, say, **settings.reading)
    if valid:
        return pairs, PairFile(valid, say, **settings.reading)

    def key(source):
        return source_text(source, settings)

    parts = split_pairs(pairs, settings.valid_fraction, settings.split, settings.seed, say, key)
    if not all(parts):
        raise S2SError(f"too few pairs ({len(pairs)}) to keep some for validation; give --valid.")
    return parts
