"""The tables of docs/reliability.md, each between `<!-- NAME -->` and `<!-- /NAME -->`, as the command that made it
writes it."""

import os
import sys
import time
from pathlib import Path

import pages
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks

from benchmarks.readme import markdown  # noqa: E402
from benchmarks.report import commit, machine  # noqa: E402


def write(name, said, head, lines):
    """Replaces what stands between the markers of ``name``: what was done, where and when, and a table."""
    here = machine()
    where = f"{here['cpu']}, {os.cpu_count()} cores; torch {torch.__version__}; commit {commit() or 'unknown'}"
    part = f"\n{said} {where}, {time.strftime('%Y-%m-%d')}.\n\n{markdown(head, lines)}\n\n"
    pages.write("reliability.md", name, part)
