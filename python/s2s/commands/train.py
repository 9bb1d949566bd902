"""``s2s train``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import S2SError
from ..model.presets import configure
from .options import DeviceOption, pick_device, say, with_config_options


@with_config_options
def train(
    files: Annotated[
        list[Path] | None, typer.Argument(help="One tab-separated file, or two parallel files: source and target.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the trained model.")] = Path("runs/model"),
    valid: Annotated[
        list[Path] | None,
        typer.Option(help="Validation file, given twice if parallel; by default a share of the training data."),
    ] = None,
    preset: Annotated[str | None, typer.Option(help="A named system; s2s presets lists them.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A .toml or .json file of these options, or a recipe; s2s presets lists them.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the training in --out, from its last validation.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Train anew where a model is, which stays until the first validation."),
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print what each part would run on, and why not on a fused op; no training."),
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Write curves for TensorBoard to this folder.")] = None,
    device: DeviceOption = "auto",
    options=None,
):
    """Train a model on pairs of sentences. Options change the file, which changes the preset."""
    from ..report.records import Clock

    clock = Clock()  # before torch is imported, which takes its time
    if resume and (preset or config or overwrite):
        refused = "--overwrite" if overwrite else "--preset and no --config"
        raise S2SError(f"--resume goes on with what is in --out, its configuration too, expected no {refused}.")
    settings = None if resume else configure(preset, config, options)
    device = pick_device(device)
    if explain:
        from ..model.checkpoint import read_config
        from ..report.explain import explain as explained
        from ..report.explain import table

        print(table(explained(read_config(out) if resume else settings, device)))
        return
    if not files:
        raise S2SError("no file given, expected one tab-separated file or two parallel ones.")
    from ..files import locked
    from ..training.state import check_free, check_there, finish_state, read_state

    write_curves = curves(tensorboard) if tensorboard else None
    if resume:
        check_there(out)  # before the folder is made
    with locked(out):
        if resume:
            finish_state(out)
            state = read_state(out)
            run(files, valid, out, state.config.updated(**options), device, write_curves, clock, state)
        else:
            if not overwrite:
                check_free(out)
            run(files, valid, out, settings, device, write_curves, clock)


def run(files, valid, out, settings, device, write_curves, clock, state=None):
    """Trains in the folder ``out``; ``state``: what to go on from."""
    import torch

    from ..files import to_json, write_file, writing
    from ..model.checkpoint import save_checkpoint
    from ..report.records import training_record
    from ..text.data import Dataset
    from ..text.pairs import counted
    from ..text.vocab import build_vocabularies
    from ..training.state import restore, save_state
    from ..training.trainer import Trainer, build_model, count_parameters

    parts = read_parts(files, valid, settings)
    torch.set_float32_matmul_precision(settings.matmul_precision)
    if state:
        source_vocab, target_vocab = state.vocabularies
        model = state.model(device)
        model.config = settings
    else:
        source_vocab, target_vocab = build_vocabularies(parts[0], settings)
        model = build_model(settings, source_vocab, target_vocab, device)
    before = state and state.numbers["notes"]
    clock.go_on(before)
    sets = [Dataset(part, source_vocab, target_vocab, settings) for part in parts]
    for part, dataset in zip(parts, sets):
        if lost := dataset.too_long:
            longer = f"{counted(len(lost), 'pair')} longer than {settings.max_length} tokens"
            say(f"{part.name}: left out {longer} (line {part.shown(lost)})")
    say(
        f"{len(sets[0]):,} pairs to train on, {len(sets[1]):,} to validate; vocabularies of "
        f"{len(source_vocab):,} and {len(target_vocab):,}; {count_parameters(model):,} parameters on {device}"
    )

    def record():
        return training_record(clock, len(sets[0]), model, before)

    def save(model, history):
        save_checkpoint(out, model, source_vocab, target_vocab, history)
        with writing(out):
            write_file(out / "run.json", to_json(record()))

    def validated(model, found):
        """A Trainer's ``stop`` that never stops."""
        trainer.notes = record()  # also when it is not the best so far: its time was used, and --resume goes on from it
        if write_curves:
            write_curves(found)

    trainer = Trainer(model, *sets, on_best=save, stop=validated, say=say, state=out)
    if state:
        restore(trainer, state)
        say(f"going on at step {trainer.step}, in epoch {trainer.epoch}")
    else:
        trainer.notes = record()
        save_state(trainer, out)  # fails now rather than after the first epoch if the folder cannot be written
    history = trainer.run()
    save(model, history)
    best = min(history, key=lambda record: record["valid_loss"])
    say(f"best validation loss {best['valid_loss']:.4f} at step {best['step']}; saved in {out}")


def read_parts(files, valid, settings):
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


def curves(folder):
    """A function that writes each record of a validation for TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise S2SError("--tensorboard needs TensorBoard: pip install tensorboard.") from None
    writer = SummaryWriter(str(folder))

    def write(record):
        for name, value in record.items():
            if name not in ("step", "epoch"):
                writer.add_scalar(name, value, record["step"])
        writer.flush()

    return write
