"""One kind of training, and what must hold after everything that can happen to it."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import s2s
from s2s.errors import S2SError

from . import child

TINY = {
    "tokens": "char", "embedding-size": 4, "encoder-size": 4, "hidden-size": 8, "attention-size": 4, "readout-size": 4,
    "lr": 0.01, "batch-size": 8, "valid-fraction": 0.2, "epochs": 1, "eval-every": 3,
}  # fmt: skip

KINDS = {
    "plain": "",
    "ema, accumulate": "--ema 0.9 --accumulate 2 --eval-every 2",
    "plateau": "--lr 1 --clip 0 --patience 0 --eval-every 2",
    "scheduled sampling": "--sampling linear --sampling-steps 4 --sampling-choice random --dropout 0.3",
    "over another model": "--overwrite --seed 5",
}
CLOCK = ("seconds", "tokens_per_second", "outside", "notes")  # what differs from run to run


class Broken(Exception):
    """What must hold does not."""


@dataclass
class Trial:
    """A kind of training in ``place``, a folder of our own."""

    name: str
    place: Path
    reference: child.Result = None
    expected: dict = None
    counts: dict = field(default_factory=dict)  # of each fault

    def __post_init__(self):
        self.place.mkdir(parents=True)
        self.pairs, self.out, self.before = self.place / "pairs.tsv", self.place / "out", self.place / "before"
        rows = [f"{a}{b}\t{b}{a}\n" for a in "abcdefg" for b in "stuvwx"]
        self.pairs.write_text("".join(rows))
        child.warm(self.arguments(self.place / "warm", *KINDS[self.name].split()))
        if "--overwrite" in KINDS[self.name]:
            other = child.run(self.arguments(self.before, "--hidden-size", 6), self.before)
            self.require(other.code == 0, other, "the model that stands there")
        self.reference = self.train()
        self.require(self.reference.code == 0, self.reference, "the training that nothing happens to")
        self.expected = contents(self.out)

    def train(self, **happens) -> child.Result:
        """Anew in a fresh folder."""
        shutil.rmtree(self.out, ignore_errors=True)
        if self.before.exists():
            shutil.copytree(self.before, self.out)
        return self.again(**happens)

    def again(self, **happens):
        return child.run(self.arguments(self.out, *KINDS[self.name].split()), self.out, **happens)

    def arguments(self, out, *more):
        options = [str(word) for name, value in TINY.items() for word in (f"--{name}", value)]
        return ["train", self.pairs, "--out", out, "--no-curves", *options, *more]

    def resume(self, **happens):
        return child.run(["train", self.pairs, "--out", self.out, "--no-curves", "--resume"], self.out, **happens)

    def require(self, right, result, what):
        if not right:
            raise Broken(f"{self.name}: {what}: exit code {result.code}: {result.said.strip()[-1500:]}")

    def one_sentence(self, result, what):
        """It failed, and said so in one sentence at the end."""
        last = result.said.rstrip().splitlines()[-1:] or [""]
        self.require(result.code == 1 and last[0].startswith("s2s: "), result, what)
        self.require("Traceback" not in result.said, result, what)

    def survived(self, what, calls=()):
        """After a fault: the model is whole, and the training goes on to the bit or is refused in one sentence.

        ``calls``: those that were made, if they are known: what was saved by them must be there.
        """
        made = [call for call in calls if call.name == "rename"]
        try:
            s2s.load(self.out).translate("ab", max_length=2)
        except S2SError as error:
            if (
                self.before.exists()
                or child.Call("rename", "config.json") in made
                or "is no checkpoint" not in str(error)
            ):
                raise Broken(f"{self.name}: {what}: the model is lost: {error}") from None
        result = self.resume()
        if result.code and not (self.out / "training.json").exists():
            self.one_sentence(result, f"{what}, resumed")
            if child.Call("rename", "training.json") in made:
                raise Broken(f"{self.name}: {what}: the training is lost: {result.said}")
            result = self.again()
        elif self.before.exists() and result.code == 0 and self.resumed_the_one_before():
            result = self.again()
        self.require(result.code == 0, result, f"{what}, resumed")
        self.compare(what)

    def resumed_the_one_before(self):
        """Killed before it saved anything, the training that is resumed is that of the model that stood there."""
        return json.loads((self.out / "config.json").read_text())["config"]["hidden_size"] == 6

    def compare(self, what):
        """The folder is that of the training that nothing happened to."""
        found = contents(self.out)
        if found.keys() != self.expected.keys():
            raise Broken(f"{self.name}: {what}: the folder has {sorted(found)}, expected {sorted(self.expected)}")
        for file, value in self.expected.items():
            if found[file] != value:
                raise Broken(f"{self.name}: {what}: {file} differs from that of the training that nothing happened to")


def contents(folder):
    """The files, without what the clock says."""
    return {path.name: without_clock(path) for path in folder.iterdir() if path.name != "run.json"}


def without_clock(path):
    if path.suffix != ".json":
        return path.read_bytes()

    def strip(value):
        if isinstance(value, dict):
            return {name: strip(other) for name, other in value.items() if name not in CLOCK}
        return [strip(other) for other in value] if isinstance(value, list) else value

    return strip(json.loads(path.read_text()))
