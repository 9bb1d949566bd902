"""docs/results.md, made of the records of runs in docs/runs.

    python -m benchmarks.text_results           # writes the page
    python -m benchmarks.text_results --check   # fails if the page is not what the records say

``s2s evaluate MODEL FILES --record docs/runs/NAME.json`` makes a record.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

from s2s.model.presets import RECIPES
from s2s.text.pairs import counted

DOCS = Path(__file__).parents[1] / "docs"
HEAD = """# Results on text

Made by `python -m benchmarks.text_results` from the records in [runs](runs); every number is from a run of the commands
below, in which files are named without their folders and SOURCE and TARGET are the locales of the record. BLEU and chrF
are sacrebleu's, on the references of the files named as they are, or cleaned where the configuration has a cleaning;
the data are not part of the project. Perplexity is given twice: of a token of the model's own vocabulary, and of a
word, which is what white space separates; `</s>` counts as one more of either. That of a word compares models of
different tokens, but only where as much of the text is known to them: "unknown" is the share of the tokens that are
`<unk>`, of which a model need not foretell more than that. Time is that of the whole training command, vocabularies and
validation included; processor time is what it had of that, on all its threads together. Where that is well under the
number of threads times the first, other work ran on the machine.

"""
COLUMNS = ["record", "data", "search", "BLEU", "chrF", "exact", "perplexity of a token", "of a word", "unknown"]
COLUMNS += ["parameters", "epochs", "time", "threads", "processor time"]
ROWS_OF_CURVE = 8
PARTS = {  # of the time of a training, which training_time takes apart
    "reading": "vocabularies, text as numbers",
    "batches": "waiting for the next one",
    "encoder": "embedding and recurrence",
    "scan": "decoder: embedding, keys, attention, recurrence, readout",
    "loss": "output layer and cross entropy",
    "optimizer": "clipping, Adam, moving average",
    "validation": "loss of the validation pairs, checkpoint and state saved",
}
ONCE = ("reading", "validation")  # or each time, not in every update
COLUMNS_OF_TIME = ("part", "", "ms, of an update or each time", "s, of the whole training", "share")


def load_records(folder):
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def table(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", r"\|") for cell in line) + " |\n" for line in lines)


def minutes(seconds):
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


def rows_of(name, record):
    training, curve = record["training"], record["curve"]
    for found in record["evaluations"]:
        yield [
            f"[{name}](#{name})",
            found["data"],
            found["search"],
            f"{found['bleu']:.2f}",
            f"{found['chrf']:.2f}",
            f"{found['exact_match']:.4f}",
            f"{found['perplexity']:.2f}",
            f"{found['word_perplexity']:.2f}" if "word_perplexity" in found else "",
            f"{found['unknown']:.2%}" if "unknown" in found else "",
            f"{training['parameters'] / 1e6:.1f} M",
            curve[-1]["epoch"],
            minutes(training["seconds"]),
            training["machine"]["threads"],
            minutes(training["cpu_seconds"]),
        ]


def prepared_by(command):
    """The commands that the recipe of a training says its data are made with."""
    words = shlex.split(command)
    recipe = RECIPES / f"{words[words.index('--config') + 1]}.toml" if "--config" in words else RECIPES
    comments = recipe.read_text(encoding="utf-8").splitlines() if recipe.is_file() else []
    commands = [line.removeprefix("# ") for line in comments if line.startswith("# s2s ")]
    return [made for made in commands if not made.startswith("s2s train ")]


def section(name, record):
    training, machine = record["training"], record["training"]["machine"]
    commands = [*prepared_by(training["command"]), training["command"], *training.get("resumed", [])]
    commands += [found["command"] for found in record["evaluations"]]
    settings = ", ".join(f"{key} = {json.dumps(value)}" for key, value in record["config"].items())
    signatures = {found[f"{kind}_signature"] for found in record["evaluations"] for kind in ("bleu", "chrf")}
    text = f"## {name}\n\n```sh\n" + "".join(command + "\n" for command in commands) + "```\n\n"
    text += (
        f"{training['date']}, {', '.join(machine['devices'].values())}, {counted(machine['threads'], 'thread')}, torch "
        f"{machine['torch']}, backend {', '.join(machine['backends'].values())}; seed {record['seed']}; "
        f"{training['pairs']:,} pairs; {minutes(training['seconds'])}, {minutes(training['cpu_seconds'])} of processor "
        f"time.\n\nConfiguration where it is not the default: {settings}.\n\n"
        f"Signatures: {', '.join(sorted(signatures))}.\n\n"
    )
    curve = record["curve"]
    step = max(1, -(-len(curve) // ROWS_OF_CURVE))
    kept = curve[::-1][::step][::-1]  # the last is always there
    text += table(
        ("epoch", "update", "seconds", "training loss", "validation loss"),
        [
            [r["epoch"], r["step"], f"{r['seconds']:.0f}", f"{r['train_loss']:.3f}", f"{r['valid_loss']:.3f}"]
            for r in kept
        ],
    )
    if "time" in record:
        text += f"\n{what_took_time(record['time'])}\n\n" + table(COLUMNS_OF_TIME, rows_of_time(record["time"]))
    samples = [(found["search"], *sample) for found in record["evaluations"] for sample in found["samples"]]
    if samples:
        text += "\n" + table(("search", "input", "output"), samples)
    return text + "\n"


def rows_of_time(record):
    """(part, what it is, milliseconds an update or each time, seconds of the whole training, share) of a record."""
    whole = {part: seconds * record["times"][part] for part, seconds in record["seconds"].items()}
    for part, what in PARTS.items():
        each = record["seconds"][part] / (1 if part in ONCE else record["updates"])
        yield part, what, f"{1e3 * each:,.1f}", f"{whole[part]:,.0f}", f"{whole[part] / sum(whole.values()):.0%}"


def what_took_time(record):
    """What the table of ``rows_of_time`` is of."""
    machine = record["machine"]
    rate = record["tokens"] / sum(seconds for part, seconds in record["seconds"].items() if part not in ONCE)
    return (
        f"Where the time goes (`python -m benchmarks.training_time`), of {record['updates']} updates at "
        f"{rate:,.0f} target tokens a second: {', '.join(machine['devices'].values())} ({machine['cpu_capability']}), "
        f"{counted(machine['threads'], 'thread')}."
    )


def ratios(records):
    """For references that several records share: the best BLEU over that of each other, by one tokenizer."""
    best = {}
    for name, record in records.items():
        for found in record["evaluations"]:
            if "references" not in found:
                continue
            shared = found["data"], found["count"], found["references"], found["bleu_signature"]
            scores = best.setdefault(shared, {})
            scores[name] = max(found["bleu"], scores.get(name, 0.0))
    text = ""
    for (data, count, *_), scores in best.items():
        first = max(scores, key=scores.get)
        for name in sorted(set(scores) - {first}):
            if scores[name] > 0:
                times = scores[first] / scores[name]
                text += f"On {data} ({count:,} pairs), {first} has {times:.2f} times the BLEU of {name}.\n\n"
    return text


def page(records):
    rows = [row for name, record in records.items() for row in rows_of(name, record)]
    text = HEAD + table(COLUMNS, rows) + "\n" + ratios(records)
    return (text + "".join(section(name, record) for name, record in records.items())).rstrip() + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    path = DOCS / "results.md"
    text = page(load_records(DOCS / "runs"))
    if parser.parse_args().check:
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is not what docs/runs says: run python -m benchmarks.text_results")
    else:
        path.write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
