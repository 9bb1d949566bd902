"""One row of the plan: everybody in turn, beside a load."""

import time

from .. import report
from .load import LOAD, load
from .rows import names, spread_of
from .server import Server

ROUNDS, SECONDS = 3, 0.25


class Servers:
    """Processes by name, each started when it is asked for, and anew when it has ended."""

    def __init__(self, threads):
        self.threads, self.running = threads, {}

    def __getitem__(self, name):
        if name not in self.running or not self.running[name].process.is_alive():
            self.running[name] = Server(self.threads)
        return self.running[name]

    def close(self):
        for server in self.running.values():
            server.close()


def measure(row, busy, together, servers):
    """Rows of the report: each implementation's times, in turn."""
    begin, where = time.monotonic(), {name: servers["all" if together else name] for name in names(row)}
    times, why, first, last = {name: [] for name in where}, {}, {}, {}
    for name, server in where.items():
        if isinstance(found := server.ask(row, name, 0.0), str):
            why[name] = found
        else:
            first[server] = found[1]
    order = [name for name in where if name not in why]
    others = report.OtherPrograms()
    with load(busy):
        for _ in range(ROUNDS):
            for name in order:
                if isinstance(found := where[name].ask(row, name, SECONDS), str):
                    why[name] = found
                    continue
                times[name].append(found[0])
                last[where[name]] = found[1]
            order = [name for name in order[1:] + order[:1] if name not in why]
    used = sum(end - first[server] for server, end in last.items())  # pools that spin between the calls included
    share, taken, rows = others.share(used), time.monotonic() - begin, []
    for name in where:
        found = {"op": row, "busy": busy, "one_process": together, "implementation": name, "load": LOAD}
        if name in why:
            found["problem"] = why[name]
        else:
            found["seconds"], found["unsteady"] = spread_of(times[name])
        rows.append(found | {"others": share, "took": taken})
    return rows
