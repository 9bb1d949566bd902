"""Weights of other frameworks against the frameworks: ``python -m tests.interop [source ...] [--list]``.

Each source's framework is installed, pinned, in an environment of its own under ``build/interop``; its layers are run
there and compared with our modules of the same weights. When all were named, or none, docs/interop.md gets the table;
with ``--write`` it gets those named and what the others' last runs found. The arrays that ``make test`` compares with
go to ``tests/interop/fixtures``. Exits 1 if anything differed.
"""

import argparse
import json
import sys
from pathlib import Path

from .. import pages
from ..integrations import environment

HERE = Path(__file__).parent
SOURCES = environment.packages(HERE)
SECONDS = 1800


def arguments(argv):
    parser = argparse.ArgumentParser("python -m tests.interop", description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", metavar="source", help=f"of: {', '.join(SOURCES)}; all if none")
    parser.add_argument("--list", action="store_true", help="list sources and their pins, and stop")
    parser.add_argument("--write", action="store_true", help="write docs/interop.md from every source's last results")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="time limit of a source (%(default)s)")
    options = parser.parse_args(argv)
    unknown = [name for name in options.sources if name not in SOURCES]
    if unknown:
        parser.error(f"no source named {unknown[0]}: there are {', '.join(SOURCES)}")
    return options


def compare(source, options):
    """A record: the source, its pin, its rows or the reason why there are none."""
    record = {"source": source, "pin": environment.pins(source, HERE)[0], "rows": [], "reason": ""}
    try:
        result, record["reason"] = environment.run(source, {}, options.seconds, HERE)
    except environment.NotInstalled as error:
        record["reason"] = f"skipped: pip: {error}"
        return record
    if result:
        record["rows"] = json.loads(result.read_text())
    return record


def last(source):
    """The record of a source's last run."""
    result = environment.build(source, HERE) / "result.json"
    rows = json.loads(result.read_text()) if result.exists() else []
    return {
        "source": source,
        "pin": environment.pins(source, HERE)[0],
        "rows": rows,
        "reason": "" if rows else "not run",
    }


def wrong(record):
    skipped = record["reason"].startswith("skipped: ")
    return not skipped and (not record["rows"] or any(row["wrong"] for row in record["rows"]))


def text(record):
    lines = [f"  {record['reason']}"] if record["reason"] else []
    for row in record["rows"]:
        numbers = [f"{key} {row[key]:.1e}" for key in ("outputs", "gradients") if row[key] is not None]
        lines.append(f"  {'FAIL' if row['wrong'] else 'ok  '} {row['case']}: {row['wrong'] or ', '.join(numbers)}")
    return "\n".join(lines)


def largest(rows, key):
    found = [row[key] for row in rows if row[key] is not None]
    return f"{max(found):.1e}" if found else ""


def table(records):
    lines = ["| source | tried | outputs | gradients | configurations |", "| --- | --- | --- | --- | --- |"]
    for record in records:
        for version in dict.fromkeys(row["version"] for row in record["rows"]) or [""]:
            rows = [row for row in record["rows"] if row["version"] == version]
            failed = [f"**{row['case']}: {row['wrong']}**" for row in rows if row["wrong"]]
            tried = "; ".join(failed or [row["case"] for row in rows]) or record["reason"]
            cells = [
                version or record["pin"],
                str(len(rows)),
                largest(rows, "outputs"),
                largest(rows, "gradients"),
                tried,
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv=None):
    options = arguments(argv)
    sources = options.sources or SOURCES
    if options.list:
        for source in sources:
            print(f"{source}: {' '.join(environment.pins(source, HERE))}")
        return 0
    records = []
    for source in sources:
        print(f"{source}: {environment.pins(source, HERE)[0]}", flush=True)
        records.append(record := compare(source, options))
        print(text(record), flush=True)
    if options.write or set(sources) == set(SOURCES):
        records += [last(source) for source in SOURCES if source not in sources]
        records.sort(key=lambda record: record["source"])
        pages.write("interop.md", "table", table(records))
        print("Wrote docs/interop.md")
    failed = [record["source"] for record in records if wrong(record)]
    if failed:
        print(f"Failed: {', '.join(failed)}; the output is in build/interop/<source>/log", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
