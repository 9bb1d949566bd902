"""Texts for a toolkit's own trainer to learn in a minute: the source's words backwards."""

import io
import json

import torch

from .case import FIXTURES, random

SENTENCES, STEPS = 200, 300


def sentences(count, seed):
    generator = random(seed)
    return [" ".join(f"w{i}" for i in generator.integers(12, size=generator.integers(2, 9))) for _ in range(count)]


def write(folder):
    """train, dev and test files in ``folder``, .src and .trg."""
    folder.mkdir(exist_ok=True)
    for part, count in (("train", 2000), ("dev", 20), ("test", SENTENCES)):
        texts = sentences(count, len(part))
        (folder / f"{part}.src").write_text("".join(f"{text}\n" for text in texts))
        (folder / f"{part}.trg").write_text("".join(f"{' '.join(text.split()[::-1])}\n" for text in texts))


def test(folder):
    """[source], [target] of the test file."""
    return tuple((folder / f"test.{side}").read_text().splitlines() for side in ("src", "trg"))


def scores(translator, sources, targets):
    """Log probabilities of the targets, in float64: a long text sums what float32 rounds at every token."""
    translator.model.double()
    found = [forced.score for forced in translator.force(list(zip(sources, targets)), attention=False)]
    translator.model.float()
    return found


def verdict(name, scores, expected, outputs):
    """(what was compared, "" or what is wrong): log probabilities, and {beam: (ours, theirs)} texts."""
    worst = max(abs(a - b) / max(abs(b), 1) for a, b in zip(scores, expected, strict=True))
    wrong = [] if worst <= 1e-5 else [f"log probabilities differ by {worst:.2g}"]
    counts = []
    for beam, (ours, theirs) in outputs.items():
        equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
        counts.append(f"beam {beam}: {equal} of {len(theirs)} equal")
        if equal < len(theirs):
            wrong.append(counts[-1])
    return f"{name}: log probabilities within {worst:.1e}, {', '.join(counts)}", "; ".join(wrong)


def keep(name, files, source, expected, outputs, count=20):
    """A model as a fixture of the tests: its files, {name: path or bytes}, and what its toolkit made of some texts."""
    place = FIXTURES / name
    place.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (place / file).write_bytes(content if isinstance(content, bytes) else content.read_bytes())
    (sources, targets), found = source, {str(beam): theirs[:count] for beam, (_, theirs) in outputs.items()}
    record = {"sources": sources[:count], "targets": targets[:count], "scores": expected[:count], "outputs": found}
    (place / "expected.json").write_text(json.dumps(record, indent=1) + "\n")


def serialised(checkpoint):
    """The bytes of a checkpoint."""
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()
