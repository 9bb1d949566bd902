"""The tables of docs/reliability.md, each between `<!-- NAME -->` and `<!-- /NAME -->`, as the command that made it
writes it."""

import os
import re
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks

from benchmarks.readme import markdown  # noqa: E402
from benchmarks.report import commit, machine  # noqa: E402

PAGE = ROOT / "docs" / "reliability.md"


def write(name, said, head, lines):
    """Replaces what stands between the markers of ``name``: what was done, where and when, and a table."""
    text = PAGE.read_text(encoding="utf-8")
    here = machine()
    where = f"{here['cpu']}, {os.cpu_count()} cores; torch {torch.__version__}; commit {commit() or 'unknown'}"
    body = f"{said} {where}, {time.strftime('%Y-%m-%d')}.\n\n{markdown(head, lines)}"
    text, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", lambda m: f"{m[1]}\n{body}\n\n{m[2]}", text, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"{PAGE.name} has {count} parts <!-- {name} -->, expected one")
    PAGE.write_text(text, encoding="utf-8")
