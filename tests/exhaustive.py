"""The mark ``exhaustive``: which rows of the largest tests run without the option --exhaustive.

Hooks, for conftest.py to import.
"""

from collections import defaultdict
from zlib import crc32


def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true", help="every row of every test: make test-all, and CI")


def pytest_collection_modifyitems(config, items):
    """Without --exhaustive: of a test marked ``exhaustive(every=3)`` one of each three rows, of one marked so without a
    number none. Who names a row gets it.

    Files with long tests come first, or in the end one process would be in such a test and the others had nothing."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)
    if config.getoption("exhaustive") or any("::" in str(argument) for argument in config.args):
        return
    rows = defaultdict(list)
    for item in items:
        if item.get_closest_marker("exhaustive"):
            rows[item.nodeid.partition("[")[0]].append(item)
    left = {item for test, found in rows.items() for item in {*found} - {*chosen(test, found)}}
    if left:
        config.hook.pytest_deselected(items=[item for item in items if item in left])
        items[:] = [item for item in items if item not in left]


def chosen(test, rows):
    """The rows of a test that run; by its name and their order alone, so that every worker and run has the same."""
    every = [row.get_closest_marker("exhaustive").kwargs.get("every", 0) for row in rows]
    rows = [row for row, number in zip(rows, every) if number]
    kept = []
    for place, (row, number) in enumerate(zip(rows, filter(None, every))):
        # Which of so many rows it is differs from group to group, or most values would always meet the same others.
        group, within = divmod(place, number)
        if within == (crc32(f"{test} {group}".encode()) % number if group else 0):
            kept.append(row)
    return kept + lost(rows, kept)


def lost(rows, kept):
    """A row for each value of a parameter, a dtype say, that is in none of those kept though there is room for all."""
    more = []
    for name in rows[0].callspec.params if kept and hasattr(rows[0], "callspec") else ():
        values = {id(row): id(row.callspec.params[name]) for row in rows}  # the same objects in every row
        seen = {values[id(row)] for row in kept + more}
        if len({*values.values()}) > len(kept):
            continue
        for row in rows:
            if values[id(row)] not in seen:
                seen.add(values[id(row)])
                more.append(row)
    return more
