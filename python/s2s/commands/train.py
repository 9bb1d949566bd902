"""``s2s train``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import S2SError
from ..presets import configure
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
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Print what each part would run on, and why not on a fused op; no training."),
    ] = False,
    tensorboard: Annotated[Path | None, typer.Option(help="Write curves for TensorBoard to this folder.")] = None,
    device: DeviceOption = "auto",
    options=None,
):
    """Train a model on pairs of sentences. Options change the file, which changes the preset."""
    from ..records import Clock, read_json, training_record

    clock, before = Clock(), None  # before torch is imported, which takes its time
    if resume and (preset or config):
        raise S2SError("--resume goes on with the configuration in --out, expected no --preset and no --config.")
    settings = None if resume else configure(preset, config, options)
    device = pick_device(device)
    if explain:
        from ..checkpoint import read_config
        from ..explain import explain as explained
        from ..explain import table

        print(table(explained(read_config(out) if resume else settings, device)))
        return
    if not files:
        raise S2SError("no file given, expected one tab-separated file or two parallel ones.")
    import torch

    from ..checkpoint import load_checkpoint, save_checkpoint, write_json
    from ..cleaning import source_text
    from ..data import Dataset
    from ..pairs import PairFile, counted, split_pairs

    write_curves = curves(tensorboard) if tensorboard else None
    if resume:
        model, source_vocab, target_vocab = load_checkpoint(out, device)
        settings = model.config = model.config.updated(**options)
        before = read_json(out / "run.json")
        clock = Clock(before)
    pairs = PairFile(files, say, **settings.reading)
    if valid:
        train_pairs, valid_pairs = pairs, PairFile(valid, say, **settings.reading)
    else:

        def key(source):
            return source_text(source, settings)

        train_pairs, valid_pairs = split_pairs(pairs, settings.valid_fraction, settings.split, settings.seed, say, key)
        if not train_pairs or not valid_pairs:
            raise S2SError(f"too few pairs ({len(pairs)}) to keep some for validation; give --valid.")
    from ..training import Trainer, build_model, count_parameters
    from ..training_state import load_state, save_state
    from ..vocab import build_vocabularies

    torch.set_float32_matmul_precision(settings.matmul_precision)
    if not resume:
        source_vocab, target_vocab = build_vocabularies(train_pairs, settings)
        model = build_model(settings, source_vocab, target_vocab, device)
    parts = (train_pairs, valid_pairs)
    sets = [Dataset(part, source_vocab, target_vocab, settings) for part in parts]
    for part, dataset in zip(parts, sets):
        if lost := dataset.too_long:
            longer = f"{counted(len(lost), 'pair')} longer than {settings.max_length} tokens"
            say(f"{part.name}: left out {longer} (line {part.shown(lost)})")
    say(
        f"{len(sets[0]):,} pairs to train on, {len(sets[1]):,} to validate; vocabularies of "
        f"{len(source_vocab):,} and {len(target_vocab):,}; {count_parameters(model):,} parameters on {device}"
    )

    def save(model, history):
        save_checkpoint(out, model, source_vocab, target_vocab, history)
        save_record()

    def save_record():
        write_json(out / "run.json", training_record(clock, len(sets[0]), model, before))

    def validated(model, record):
        """A Trainer's ``stop`` that never stops."""
        save_record()  # also when it is not the best so far: its time was used, and --resume goes on from it
        if write_curves:
            write_curves(record)

    trainer = Trainer(model, *sets, on_best=save, stop=validated, say=say, state=out)
    if resume:
        load_state(trainer, out)
        say(f"going on at step {trainer.step}")
    else:
        # Fails now rather than after the first epoch if the folder cannot be written.
        save(model, [])
        save_state(trainer, out)
    history = trainer.run()
    save(model, history)
    best = min(history, key=lambda record: record["valid_loss"])
    say(f"best validation loss {best['valid_loss']:.4f} at step {best['step']}; saved in {out}")


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
