"""``python -m benchmarks.readme``: writes the tables of README.md and of pages of docs/, and draws their pictures.

All of it from the committed results. A part stands between ``<!-- benchmarks:NAME -->`` and ``<!-- /benchmarks -->``;
NAME is a kind and a suite: a table (``short-cpu``, ``speed-gpu``, ``memory-cpu``, ``end-to-end-cpu``, ``beside-busy``,
``scores-bits``), ``pictures`` and ``pictures-all``, or a phrase of PHRASES. README.md shows the machine that was
measured last, the pages of docs/ each.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from . import phrases
from .report import ROOT, Report
from .suites import SUITES
from .tables import TABLES, markdown, table

__all__ = ["markdown"]
PAGES = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md", ROOT / "docs" / "decoding.md")
MARKED = re.compile(r"(<!-- benchmarks:([a-z0-9-]+) -->)(\n?).*?(<!-- /benchmarks -->)", re.DOTALL)
NONE = "Not yet measured."
PHRASES = {"decoder": phrases.decoder, "slower": phrases.slower, "claims": phrases.beside}
SHORT = "README.md"  # shows one machine
ALT = {
    "telling": "How many times as long others take, of the cases that matter",
    "ratio": "How many times as long others take, all cases",
    "growth": "Time and speed-up of the attention decoder for every batch size, length and width",
    "share": "Time beside busy processes and in one process with other runtimes, over a fair share of the machine",
    "beside": "Time beside busy processes",
}
DETAILED = {"ratio", "beside"}  # not in README.md


def reports(results, suite):
    """{path: Report} of every machine, the last measured first."""
    found = {path: Report.load(path) for path in sorted(results.glob(f"*/{suite}.json"))}
    return dict(sorted(found.items(), key=lambda item: item[1].data["date"], reverse=True))


def part(name, page, results):
    """The text between the markers of ``name``. Raises KeyError if there is no such part."""
    kind, _, suite = name.rpartition("-")
    found = reports(results, suite)
    if page.name == SHORT:
        found = dict(list(found.items())[:1])
    if kind in TABLES:
        parts = [table(kind, report) for report in found.values()]
    elif kind in ("pictures", "pictures-all"):
        parts = [pictures(path, page, kind == "pictures-all") for path in found]
    elif kind in PHRASES:
        parts = [PHRASES[kind](report) for report in found.values()]
    else:
        raise KeyError(name)
    return "\n\n".join(filter(None, parts)) or NONE


def pictures(path, page, everything):
    """Links to those that lie beside the results; the telling ones, or all."""
    found = sorted(path.parent.glob(f"{path.stem}-*.png"), key=lambda p: list(ALT).index(kind_of(path, p)))
    wanted = found if everything else [p for p in found if kind_of(path, p) not in DETAILED]
    return "\n\n".join(f"![{ALT[kind_of(path, p)]}]({os.path.relpath(p, page.parent)})" for p in wanted)


def kind_of(path, picture):
    return picture.stem.removeprefix(f"{path.stem}-").split("-")[0]


def fill(text, page, results):
    def inside(match):
        space = "\n" if match[3] else ""  # a phrase within a line stays within it
        return f"{match[1]}{space}{space}{part(match[2], page, results)}{space}{space}{match[4]}"

    return MARKED.sub(inside, text)


def redraw(results):
    from . import plots

    for path in sorted(results.glob("*/*.json")):
        if path.stem in SUITES:
            plots.draw(Report.load(path), path.parent)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__.split("\n\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--check", action="store_true", help="fail if a table is not what the results say")
    options = parser.parse_args(argv)
    if not options.check:
        redraw(options.results)
    for page in PAGES:
        before = page.read_text(encoding="utf-8")
        try:
            after = fill(before, page, options.results)
        except KeyError as error:
            sys.exit(f"{page.name} asks for {error}, expected pictures, {', '.join([*TABLES, *PHRASES])} with a suite.")
        if options.check and after != before:
            sys.exit(f"{page.name} is not up to date: run python -m benchmarks.readme")
        if not options.check:
            page.write_text(after, encoding="utf-8")
            print(f"{len(MARKED.findall(before))} parts of {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
