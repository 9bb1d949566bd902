"""The files that a reader of the pages has: a few sentences in German and English, whole and in parts."""

import itertools
import shutil
from pathlib import Path

TRAINED = Path(__file__).parents[1] / "interop" / "fixtures"  # by other toolkits

NOUNS = {
    "der Hund": "the dog",
    "eine Katze": "a cat",
    "das Kind": "the child",
    "ein Mann": "a man",
    "die Frau": "the woman",
}
VERBS = {"sieht": "sees", "hört": "hears", "malt": "paints", "sucht": "seeks"}
PLACES = {"": "", " im Park": " in the park", " zu Hause": " at home"}


def pairs() -> list[tuple[str, str]]:
    """(German, English) of every subject, verb, object and place there is."""
    found = []
    for subject, verb, thing, place in itertools.product(NOUNS, VERBS, NOUNS, PLACES):
        german = f"{subject} {verb} {thing}{place} ."
        found.append((german, f"{NOUNS[subject]} {VERBS[verb]} {NOUNS[thing]}{PLACES[place]} ."))
    return found[::3] + found[1::3] + found[2::3]


def fill(folder: Path) -> None:
    """Writes them into ``folder``."""

    def write(name, rows):
        (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")

    rows = pairs()
    parts = {"train": rows[:120], "val": rows[120:150], "test": rows[150:180]}
    write("pairs.tsv", parts["train"])
    for name, part in parts.items():
        write(f"{name}.tsv", part)
        write(f"{name}.de", [row[:1] for row in part])
        write(f"{name}.en", [row[1:] for row in part])
    write("mar.txt", [(english, german, "CC-BY") for german, english in parts["train"]])
    write("in.txt", [row[:1] for row in parts["test"][:5]])
    dialogue = "hello\thi\nhow are you\twell\n\n"
    (folder / "dialogues.tsv").write_text(dialogue + dialogue.replace("hello", "good day").replace("well", "fine"))
    shutil.copytree(TRAINED / "joeynmt", folder / "models" / "rnn")
    shutil.copy(TRAINED / "opennmt_py" / "model.pt", folder / "model_step_10000.pt")
    for name in ("model.npz", "vocab.yml"):
        shutil.copy(TRAINED / "marian" / name, folder)
