"""The command ``s2s``."""

import functools
import inspect
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Literal, get_args, get_origin, get_type_hints

import typer
from tqdm import tqdm

from .config import Config
from .errors import S2SError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Attention RNN sequence-to-sequence models: train, translate, evaluate.",
)


def say(text):
    """Reports go to standard error; standard output holds results only."""
    print(text, file=sys.stderr, flush=True)


def with_config_options(command):
    """Gives a command one option per field of Config; it receives those that were set as ``options``."""
    signature = inspect.signature(command)
    kept = [p for p in signature.parameters.values() if p.name != "options"]
    hints = get_type_hints(Config)

    def parameter(field):
        kind = hints[field.name]
        flag = "--" + field.name.replace("_", "-")
        names = [f"{flag}/--no-{flag[2:]}"] if kind is bool else [flag]
        text = f"{field.metadata['help']} [{str(field.default).lower() if kind is bool else field.default}]"
        choices = "|".join(get_args(kind)) if get_origin(kind) is Literal else None
        info = typer.Option(*names, help=text, metavar=choices, show_default=False, rich_help_panel="Configuration")
        return inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[(str if get_origin(kind) is Literal else kind) | None, info],
        )

    added = [parameter(field) for field in fields(Config)]

    @functools.wraps(command)
    def wrapper(**arguments):
        options = {p.name: arguments.pop(p.name) for p in added}
        return command(**arguments, options={k: v for k, v in options.items() if v is not None})

    wrapper.__signature__ = signature.replace(parameters=kept + added)
    wrapper.__annotations__ = {p.name: p.annotation for p in kept + added}
    return wrapper


FilesArgument = Annotated[
    list[Path], typer.Argument(help="One tab-separated file, or two parallel files: source and target.")
]
ModelArgument = Annotated[Path, typer.Argument(help="A folder that s2s train wrote.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; auto takes a GPU if there is one.")]
BeamOption = Annotated[int, typer.Option(min=1, help="Width of the beam; 1 is greedy search.")]
PenaltyOption = Annotated[float, typer.Option(help="Exponent of the length penalty of beam search.")]


def pick_device(name):
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except Exception as error:
        raise S2SError(f"device {name!r} cannot be used ({str(error).splitlines()[0]}).") from None
    return name


@app.command()
@with_config_options
def train(
    files: FilesArgument,
    out: Annotated[Path, typer.Option(help="Folder for the trained model.")] = Path("runs/model"),
    valid: Annotated[
        list[Path] | None,
        typer.Option(help="Validation file, given twice if parallel; by default a share of the training data."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A .toml or .json file of these options.")] = None,
    device: DeviceOption = "auto",
    options=None,
):
    """Train a model on pairs of sentences."""
    settings = (Config.load(config) if config else Config()).updated(**options)
    from .data import Dataset, read_pairs, split_pairs

    pairs = read_pairs(files, say)
    if valid:
        train_pairs, valid_pairs = pairs, read_pairs(valid, say)
    else:
        train_pairs, valid_pairs = split_pairs(pairs, settings.valid_fraction, settings.split, settings.seed, say)
        if not train_pairs or not valid_pairs:
            raise S2SError(f"too few pairs ({len(pairs)}) to keep some for validation; give --valid.")
    from .checkpoint import save_checkpoint
    from .training import build_model, count_parameters
    from .training import train as run_training
    from .vocab import build_vocabularies

    device = pick_device(device)
    source_vocab, target_vocab = build_vocabularies(train_pairs, settings)
    sets = [Dataset(pairs, source_vocab, target_vocab, settings) for pairs in (train_pairs, valid_pairs)]
    too_long = sum(dataset.too_long for dataset in sets)
    if too_long:
        say(f"left out {too_long} pairs longer than {settings.max_length} tokens")
    model = build_model(settings, source_vocab, target_vocab, device)
    say(
        f"{len(sets[0]):,} pairs to train on, {len(sets[1]):,} to validate; vocabularies of "
        f"{len(source_vocab):,} and {len(target_vocab):,}; {count_parameters(model):,} parameters on {device}"
    )

    def save(model, history):
        save_checkpoint(out, model, source_vocab, target_vocab, history)

    # Fails now rather than after the first epoch if the folder cannot be written.
    save(model, [])
    history = run_training(model, *sets, on_best=save, say=say)
    save_checkpoint(out, model, source_vocab, target_vocab, history)
    best = min(history, key=lambda record: record["valid_loss"])
    say(f"best validation loss {best['valid_loss']:.4f} at step {best['step']}; saved in {out}")


@app.command()
def translate(
    model: ModelArgument,
    text: Annotated[list[str] | None, typer.Argument(help="What to translate.")] = None,
    file: Annotated[Path | None, typer.Option(help="Translate every line of a file.")] = None,
    beam: BeamOption = 5,
    length_penalty: PenaltyOption = 0.0,
    align: Annotated[
        Path | None,
        typer.Option(help="Write the attention of the first text as a picture (.png, .pdf, .svg)."),
    ] = None,
    device: DeviceOption = "auto",
):
    """Translate arguments, the lines of a file, or those of standard input: a line of output for each."""
    from .data import read_lines
    from .translator import Translator

    if text and file:
        raise S2SError("both texts and --file are given, expected one of them.")
    translator = Translator.load(model, pick_device(device))
    options = {"beam": beam, "length_penalty": length_penalty}
    first = None
    # Standard input is taken a screenful at a time, so that a pipe or a person soon sees output.
    for chunk in [text] if text else [read_lines(file)] if file else standard_input():
        first = first or chunk[0]
        with tqdm(total=len(chunk), disable=len(chunk) < 200 or None, unit="line", leave=False) as bar:
            for line in translator.translate(chunk, done=bar.update, **options):
                print(line)
        sys.stdout.flush()
    if align and first is not None:
        from .plot import plot_alignment

        plot_alignment(align, translator.align([first], **options)[0])
        say(f"alignment: {align}")


def standard_input(size=64):
    """The lines of standard input in lists of up to ``size``, one line at a time from a terminal."""
    size = 1 if sys.stdin.isatty() else size
    chunk = []
    try:
        for line in sys.stdin:
            chunk.append(line.rstrip("\n"))
            if len(chunk) == size:
                yield chunk
                chunk = []
    except UnicodeDecodeError:
        raise S2SError("standard input is not UTF-8 text.") from None
    if chunk:
        yield chunk


@app.command()
def evaluate(
    model: ModelArgument,
    files: FilesArgument,
    beam: BeamOption = 5,
    length_penalty: PenaltyOption = 0.0,
    output: Annotated[Path | None, typer.Option(help="Write the translations there too.")] = None,
    device: DeviceOption = "auto",
):
    """Score a model: BLEU and chrF by sacrebleu, with their signatures, and exact match."""
    from .data import read_pairs
    from .evaluate import score
    from .translator import Translator
    from .vocab import normalize

    pairs = read_pairs(files, say)
    translator = Translator.load(model, pick_device(device))
    with tqdm(total=len(pairs), disable=None, unit="line", leave=False) as bar:
        outputs = translator.translate(
            [source for source, _ in pairs], beam=beam, length_penalty=length_penalty, done=bar.update
        )
    if output:
        try:
            output.write_text("".join(line + "\n" for line in outputs), encoding="utf-8")
        except OSError as error:
            raise S2SError(f"{output} cannot be written ({error.strerror}).") from None
    print(score(outputs, [normalize(target) for _, target in pairs]))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the model and the picture.")] = Path("runs/demo"),
    seconds: Annotated[float | None, typer.Option(min=1, help="Most seconds of training.")] = None,
):
    """Learn English to Marathi dates, and measure the kernels."""
    from .demo import run_demo

    if not run_demo(out, seconds, say=functools.partial(print, flush=True)):
        raise typer.Exit(1)


def main(arguments=None):
    """Runs the command line; a user's error is one sentence on standard error and exit code 1."""
    # Read when torch is imported, which is later. Threads that spin while they wait gain nothing on idle
    # cores, and make a training step ten times slower as soon as another process wants one of them.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8")  # whatever the locale says; the texts are
    try:
        app(arguments)
    except S2SError as error:
        say(f"s2s: {error}")
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has gone, as head does; nothing more can be written, not even at exit.
        sys.stdout = None
        sys.exit(1)


if __name__ == "__main__":
    main()
