"""What a run of the benchmarks leaves behind: JSON, tables on the terminal, plots."""

import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import torch

import s2s_kernels as sk

from . import floors
from .cases import TRAINING
from .identity import ROOT, commit, processor, slug

__all__ = ["ROOT", "Report", "slug"]


def machine():
    """The hardware and the versions: whatever a reader needs to judge the numbers, nothing that names the host."""
    info = sk.info()
    found = {
        "cpu": info["devices"]["cpu"],
        "cores": os.cpu_count(),
        "cpu_capability": info["cpu_capability"],
        "gpu": None,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "s2s_kernels": sk.__version__,
        "extension": info["extension"],
        "backends": info["backends"],
    }
    if torch.cuda.is_available():
        found.update(gpu=torch.cuda.get_device_name(), cudnn=torch.backends.cudnn.version())
    return found


class OtherPrograms:
    """The share of the CPU that others use between its making and ``share()``; None where the system tells not.

    Not others are this process and those that it has waited for.
    """

    def __init__(self):
        self.begin = self._read()

    def _read(self):
        try:
            fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        except OSError:
            return None
        own = sum(os.times()[:4])
        idle = fields[3] + fields[4]  # idle and waiting for a disk
        return sum(fields), sum(fields) - idle, own * os.sysconf("SC_CLK_TCK")

    def share(self, running=0.0):
        """``running``: processor seconds since then of processes of ours that have not ended."""
        end = self._read()
        if self.begin is None or end is None:
            return None
        total, busy, own = (b - a for a, b in zip(self.begin, end, strict=True))
        own += running * os.sysconf("SC_CLK_TCK")
        return max(0.0, busy - own) / max(total, 1)


class Report:
    """Rows as they come in, with everything around them.

    ``load`` makes one of a file, so that tables and plots can be made again without measuring.
    """

    def __init__(self, suite, threads, description=None):
        self.data = {
            "machine": description or machine(),
            "suite": suite,
            "threads": threads,
            "commit": commit(),
            "date": datetime.now(timezone.utc).date().isoformat(),
            "seconds": None,
            "rates": [],
            "notes": [],
            "rows": [],
            "not_run": [],
        }

    @classmethod
    def load(cls, path):
        self = cls.__new__(cls)
        self.data = json.loads(Path(path).read_text(encoding="utf-8"))
        return self

    @property
    def rows(self):
        return self.data["rows"]

    def finish(self, seconds, not_run, load, usable=True):
        """Everything that is known only at the end; the floors are made of the fastest rates seen.

        usable: whether the machine can measure its rates once more.
        """
        if usable:
            floors.measure_again()
        floors.fill(self.rows)
        self.data.update(seconds=seconds, not_run=not_run, other_programs=load)
        if load is not None and load > 0.1:
            self.data["notes"].append(f"Other programs used {load:.0%} of the CPU meanwhile: the times are too long.")
        self.data["rates"] = [
            {
                "device": device,
                "dtype": str(dtype).removeprefix("torch."),
                "threads": threads,
                "gemm_gflops": rates.gemm / 1e9,
                "copy_gbytes": rates.copy / 1e9,
            }
            for (device, dtype, threads), rates in floors.rates().items()
        ]

    def keep(self, not_run, folder):
        """What is known so far, on disk: the program may be ended at any time."""
        floors.fill(self.rows)
        self.data["not_run"] = not_run
        self.save(folder)

    def save(self, folder):
        """JSON into ``folder``, whole or not at all; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.data['suite']}.json"
        part = path.with_suffix(".part")
        part.write_text(json.dumps(rounded(self.data), indent=1) + "\n", encoding="utf-8")
        return part.replace(path)

    def write(self, folder):
        """JSON and plots into ``folder``; returns the paths."""
        paths = [self.save(folder)]
        try:
            from . import plots
        except ImportError:
            print("No plots: matplotlib is not installed.")
            return paths
        return paths + plots.draw(self, folder)

    def print(self):
        described, threads = self.data["machine"], self.data["threads"]
        print(
            f"\n{described['gpu'] or processor(described)}, {described['cores']} cores, {threads} threads, ",
            end="",
        )
        print(f"torch {described['torch']}, commit {self.data['commit']}")
        for rate in self.data["rates"]:
            print(
                f"measured {rate['device']} {rate['dtype']}, {rate['threads']} threads: "
                f"GEMM {rate['gemm_gflops']:.0f} GFLOP/s, copy {rate['copy_gbytes']:.1f} GB/s"
            )
        print()
        print(text_table(self.rows))
        for note in self.data["notes"]:
            print(note)
        if self.data["not_run"]:
            print(f"Not run ({len(self.data['not_run'])}):", *self.data["not_run"], sep="\n  ")


def rounded(x):
    """``x`` with floats to five significant digits."""
    if isinstance(x, dict):
        return {k: rounded(v) for k, v in x.items()}
    if isinstance(x, list):
        return [rounded(v) for v in x]
    return float(f"{x:.5g}") if isinstance(x, float) else x


# --- rows as text -------------------------------------------------------------------------------------------


def milliseconds(spread):
    """The median, and half the distance between the quartiles."""
    return f"{number(spread['median'] * 1e3)} ± {number((spread['q3'] - spread['q1']) * 5e2)}"


def number(x):
    return f"{x:.3g}" if x < 100 else f"{x:.0f}"


def megabytes(row):
    size = row.get("peak_extra_bytes")
    if size is None:
        return ""
    return "< 1" if size < 1e6 else number(size / 1e6)


def ratio(row):
    """How many times longer than ours; empty for ours."""
    if "ratio" not in row or row["implementation"] == "s2s_kernels":
        return ""
    r = row["ratio"]
    return f"{r['median']:.2f} ({r['q1']:.2f} to {r['q3']:.2f})"


def cells(row):
    return [
        row["op"],
        row["case"],
        row["pass"] if row["device"] == "cpu" else f"{row['pass']}, {row['dtype']}",
        str(row["threads"]),
        row["implementation"],
        *outcome(row),
    ]


def outcome(row):
    """Time, ratio, floor and memory; or why there is none."""
    if "seconds" not in row:
        return [f"NO TIME, {row['parity'][:90]}", "", "", ""]
    above = row["floor"]["times_above"]
    return [milliseconds(row["seconds"]), ratio(row), number(above), megabytes(row)]


HEAD = ["op", "case", "pass", "threads", "implementation", "ms", "× ours", "× floor", "peak MB"]


def text_table(rows):
    """Aligned columns; a blank line between cases, and what repeats left out."""
    lines, previous = [HEAD], None
    for row in rows:
        line = cells(row)
        key = line[:4]
        lines.append(["", "", "", "", *line[4:]] if key == previous else line)
        previous = key
    return aligned(lines)


def aligned(lines):
    """Cells as columns; a long cell widens none."""
    widths = [max(len(line[i]) for line in lines if len(line[i]) < 60) for i in range(len(lines[0]))]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def pairs(rows, peer="eager", direction=TRAINING):
    """{(op, case, dtype, device, threads): (ours, peer)} of the rows that were timed."""
    found = {}
    for row in rows:
        if row["pass"] == direction and "seconds" in row:
            key = (row["op"], row["case"], row["dtype"], row["device"], row["threads"])
            found.setdefault(key, {})[row["implementation"]] = row
    return {k: (v["s2s_kernels"], v[peer]) for k, v in found.items() if "s2s_kernels" in v and peer in v}
