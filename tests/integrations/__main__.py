"""``sk.convert`` tried on models of public packages: ``python -m tests.integrations [package ...] [--list]``.

Each package is installed in an environment of its own under ``build/integrations`` and its cases are checked there
in a process of their own. Exits 1 if a check failed. When all packages were named, or none, the table is written to
``docs/integrations.md``.
"""

import argparse
import json
import sys

from . import environment, page

PACKAGES = environment.packages()
SECONDS = 1800  # more than 600 for the slowest, on two slow cores


def arguments(argv):
    parser = argparse.ArgumentParser("python -m tests.integrations", description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", metavar="package", help=f"of: {', '.join(PACKAGES)}; all if none")
    parser.add_argument("--list", action="store_true", help="list packages and their pins, and stop")
    parser.add_argument("--case", action="append", default=[], help="only the case of this name; may be repeated")
    parser.add_argument("--no-times", dest="times", action="store_false", help="leave out the times")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="time limit of a package (%(default)s)")
    options = parser.parse_args(argv)
    options.packages = [name.replace("-", "_") for name in options.packages]
    unknown = [name for name in options.packages if name not in PACKAGES]
    if unknown:
        parser.error(f"no integration named {unknown[0]}: there are {', '.join(PACKAGES)}")
    return options


def try_package(package, options):
    """A record: the package, its pin, its rows or the reason why there are none, and whether that is a failure."""
    record = {"package": package, "pin": environment.pins(package)[0], "rows": [], "reason": "", "failed": False}
    try:
        result, record["reason"] = environment.run(
            package, {"cases": options.case, "times": options.times}, options.seconds
        )
    except environment.NotInstalled as error:
        record["reason"] = f"skipped: pip: {error}"
        return record
    if result:
        record["rows"] = json.loads(result.read_text())
    cells = [passed for row in record["rows"] for passed, _ in row["cells"].values()]
    record["failed"] = not cells or not all(cells)
    return record


def main(argv=None):
    options = arguments(argv)
    packages = options.packages or PACKAGES
    if options.list:
        for package in packages:
            print(f"{package}: {' '.join(environment.pins(package))}")
        return 0
    records = []
    for package in packages:
        print(f"{package}: {environment.pins(package)[0]}", flush=True)
        records.append(record := try_package(package, options))
        print(page.text(record), flush=True)
    if set(packages) == set(PACKAGES) and not options.case:
        print(f"Wrote {page.write(records).relative_to(environment.ROOT)}")
    failed = [record["package"] for record in records if record["failed"]]
    if failed:
        print(f"Failed: {', '.join(failed)}; the output is in build/integrations/<package>/log", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
