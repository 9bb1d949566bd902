"""The table of the integrations, on the terminal and as ``docs/integrations.md``."""

import platform

import torch

import s2s_kernels as sk

from .environment import ROOT

COLUMNS = {
    "converts": "converts",
    "outputs": "outputs",
    "gradients": "gradients",
    "trains": "trains",
    "saves": "saves and loads",
    "reverts": "reverts",
    "initializes": "its initialiser",
    "decodes": "its search",
    "time": "training step",
}
HEAD = """# Public packages, converted

Made by `make integrations`, which installs each package in an environment of its own and tries `sk.convert` on models
that its public classes build, called as its own training and decoding code calls them. A "whole loop" is converted by
the package's module of `s2s_kernels.integrations` instead ([drop-in.md](drop-in.md)): its decoder, and nothing else.

| column | what was compared: the model as it is, and its twin after the conversion |
| --- | --- |
| converts | modules that were swapped, of all recurrent ones; what stays, and why; fused ops of one forward pass |
| outputs, its search | float64; the largest difference, relative to the tensor's largest element; at most 1e-10 |
| gradients | of every parameter (how many), relative to its largest element or 1e-3 of the largest of all gradients |
| trains | three steps of Adam, dropout and all, from the same seed; the same, of the losses |
| saves and loads | state_dict to and from an unconverted twin, through a file; the model pickled and copied |
| reverts | the types, attributes and parameter objects as before, and the same bits |
| its initialiser | the package's own, run after the conversion: the same bits, others than before |
| training step | float32, hidden size 256, batch 32, 25 steps: before → after (ratio); with a whole loop the model's \
other recurrent modules are converted by `sk.convert` as well, its search is timed too, and both with one thread |
"""


def cell(row, name):
    if name not in row["cells"]:
        return ""
    passed, text = row["cells"][name]
    return text if passed else f"**fails**: {text}"


def text(record):
    """The lines of one package for the terminal."""
    if not record["rows"]:
        return f"  {record['reason']}"
    lines = []
    for row in record["rows"]:
        lines.append(f"  {row['case']}" + (f" ({row['note']})" if row["note"] else ""))
        for name, (passed, said) in row["cells"].items():
            lines.append(f"    {'ok  ' if passed else 'FAIL'} {COLUMNS[name]}: {said}")
    return "\n".join(lines)


def escape(said):
    return str(said).replace("|", "\\|").replace("\n", " ")


def write(records):
    """Write the page and return its path."""
    head = ["package", "case", *COLUMNS.values(), "notes"]
    lines = [head, ["---"] * len(head)]
    for record in records:
        for row in record["rows"]:
            lines.append([record["pin"], row["case"], *(cell(row, name) for name in COLUMNS), row["note"]])
        if not record["rows"]:
            lines.append([record["pin"], "", *([""] * len(COLUMNS)), record["reason"]])
    table = "\n".join("| " + " | ".join(escape(x) for x in line) + " |" for line in lines)
    cpu = sk.info()["devices"]["cpu"]
    versions = (
        f"{cpu}, {torch.get_num_threads()} threads; Python {platform.python_version()}, torch {torch.__version__}"
    )
    path = ROOT / "docs" / "integrations.md"
    path.write_text(f"{HEAD}\n{versions}.\n\n{table}\n")
    return path
