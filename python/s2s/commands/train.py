"""``s2s train``."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from ..errors import S2SError
from ..launch import restarts
from ..model.presets import configure
from .options import OUTPUT, DeviceOption, pick_device, with_config_options


@with_config_options
def train(
    files: Annotated[
        list[Path] | None, typer.Argument(help="One tab-separated file, or two parallel files: source and target.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the trained model.", rich_help_panel=OUTPUT)] = Path(
        "runs/model"
    ),
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
    samples: Annotated[
        int,
        typer.Option(
            min=0,
            max=1000,
            metavar="<int>",
            help="How many validation pairs to translate at each validation, to look at.",
            rich_help_panel=OUTPUT,
        ),
    ] = 0,
    keep: Annotated[
        int,
        typer.Option(
            min=1,
            max=1000,
            metavar="<int>",
            help="How many of the best checkpoints to keep, for s2s average.",
            rich_help_panel=OUTPUT,
        ),
    ] = 1,
    no_curves: Annotated[
        bool, typer.Option("--no-curves", help="Do not draw curves.png in the end.", rich_help_panel=OUTPUT)
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="Write curves for TensorBoard to this folder.", rich_help_panel=OUTPUT)
    ] = None,
    device: DeviceOption = "auto",
    peer_timeout: Annotated[
        float,
        typer.Option(
            min=1,
            max=1e6,
            metavar="<float>",
            help="Seconds until a process that does not answer counts as gone, under torchrun.",
        ),
    ] = 600,
    options=None,
):
    """Train a model on pairs of sentences: options change the file, which changes the preset; without those what is
    not given fits the size of the data. With torchrun -m s2s train ... on several processors or machines."""
    from ..report.records import Clock

    clock = Clock()  # before torch is imported, which takes its time
    if resume and (preset or config or overwrite):
        refused = "--overwrite" if overwrite else "--preset and no --config"
        raise S2SError(f"--resume goes on with what is in --out, its configuration too, expected no {refused}.")
    settings = None if resume else configure(preset, config, options)
    chosen = None if resume or preset or config else set(options)
    device = pick_device(device)
    if explain:
        from ..model.checkpoint import read_config
        from ..report.explain import explain as explained
        from ..report.explain import table

        print(table(explained(read_config(out) if resume else settings, device)))
        return
    if not files:
        raise S2SError("no file given, expected one tab-separated file or two parallel ones.")
    from ..training.processes import joined
    from .work import Work

    with ExitStack() as stack:
        processes = stack.enter_context(joined(device, peer_timeout))
        write_curves = processes.agree(lambda: curves(tensorboard) if tensorboard and processes.first else None)
        state = processes.share(lambda: begin(stack, out, resume, overwrite))
        if state:
            # Of a command that torchrun has started once more the options are in there already.
            settings = state.config.updated(**options) if resume else state.config
            chosen = None
        work = Work(out, device, processes, clock, write_curves, samples, keep, not no_curves)
        work.run(*work.read(files, valid, settings, chosen), state)


def begin(stack, out, resume, overwrite):
    """Locks the folder ``out`` until the ``stack`` ends; returns the State to go on from, None for a new training."""
    from ..files import locked
    from ..training.state import check_free, check_there, finish_state, read_state

    if resume:
        check_there(out)  # before the folder is made
    stack.enter_context(locked(out))
    if resume or restarts():
        finish_state(out)
    if resume:
        return read_state(out)
    if restarts() and (state := own_state(out)):
        return state
    if not overwrite:
        check_free(out)


def own_state(out):
    """The State that this very command has left in the folder, before torchrun started it once more; else None."""
    from ..report.records import command_line
    from ..training.state import read_state

    try:
        state = read_state(out)
    except S2SError:
        return None  # nothing was saved yet, or what stands there is not ours
    notes = state.numbers["notes"] or {}
    return state if command_line() in (notes.get("command"), *notes.get("resumed", [])) else None


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
