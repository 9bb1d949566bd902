"""Marian: models that its own trainer has trained for some steps, read by s2s.import_marian."""

import subprocess
import sys
from pathlib import Path

import s2s
from s2s.errors import S2SError

from . import reversal
from .reversal import STEPS

PINS = ["pymarian==1.12.31"]
KEPT = "tied embeddings"
TRAINING = {
    "type": "s2s",
    "dim-emb": 16,
    "dim-rnn": 24,
    "after-batches": STEPS,
    "mini-batch": 32,
    "maxi-batch": 10,
    "learn-rate": 0.01,
    "seed": 1,
}


def run(command, **options):
    """What one of Marian's commands prints, a line each."""
    arguments = [command, "--cpu-threads", "1", "--workspace", "200", "--quiet"]
    for name, value in options.items():
        values = [] if value is True else value if isinstance(value, list) else [value]
        arguments += [f"--{name}", *map(str, values)]
    code = "import sys, _pymarian; sys.exit(_pymarian.main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def trained(name, **options):
    """The folder of a model after STEPS steps: model.npz and vocab.yml."""
    folder = Path(name.replace(" ", "_").replace(",", ""))
    reversal.write(folder)
    (folder / "model.npz").unlink(missing_ok=True)  # or it would go on with it
    tokens = ["</s>", "<unk>", *(f"w{i}" for i in range(12))]
    (folder / "vocab.yml").write_text("".join(f'"{token}": {i}\n' for i, token in enumerate(tokens)))
    texts = [folder / f"train.{side}" for side in ("src", "trg")]
    given = {**TRAINING, "model": folder / "model.npz", "vocabs": [folder / "vocab.yml"] * 2, "train-sets": texts}
    run("train", **given | options)
    return folder


def compared(name, **options):
    folder = trained(name, **options)
    ours = s2s.import_marian(folder / "model.npz", folder / "vocab.yml")
    sources, references = reversal.test(folder)
    vocabularies = [folder / "vocab.yml"] * 2
    texts = [folder / f"test.{side}" for side in ("src", "trg")]
    expected = run("score", model=folder / "model.npz", vocabs=vocabularies, **{"train-sets": texts, "mini-batch": 1})
    expected = [float(line) for line in expected]
    scores, outputs = reversal.scores(ours, sources, references), {}
    for beam in (1, 5):
        given = {"beam-size": beam, "input": texts[0], "max-length-factor": 10, "quiet-translation": True}
        found = run("decode", models=folder / "model.npz", vocabs=vocabularies, **given)
        outputs[beam] = ours.translate(sources, beam=beam, ending="narrow", max_length=50), found
    if name == KEPT:
        files = {file: folder / file for file in ("model.npz", "vocab.yml")}
        reversal.keep("marian", files, (sources, references), expected, outputs)
    return reversal.verdict(name, scores, expected, outputs)


def refused(name, option, **options):
    """A form that s2s lacks: the message names the option."""
    folder = trained(name, **options | {"after-batches": 1})
    try:
        s2s.import_marian(folder / "model.npz", folder / "vocab.yml")
    except S2SError as error:
        return f"{name} is refused", "" if str(error).startswith(f"{option} is ") else str(error)
    return f"{name} is refused", "it is read"


def cases():
    return []


def checks():
    yield compared("GRU, conditional decoder")
    yield compared("tied embeddings", **{"tied-embeddings": True})
    yield compared("all embeddings tied, no output bias", **{"tied-embeddings-all": True, "output-omit-bias": True})
    yield refused("layer normalization", "layer-normalization", **{"layer-normalization": True})
    yield refused("LSTM", "enc-cell", **{"enc-cell": "lstm", "dec-cell": "lstm"})
    yield refused("a third cell", "dec-cell-base-depth", **{"dec-cell-base-depth": 3})
    yield refused("two layers", "enc-depth", **{"enc-depth": 2, "dec-depth": 2})
    yield refused("skip connections", "skip", skip=True)
    yield refused("from right to left", "right-left", **{"right-left": True})
