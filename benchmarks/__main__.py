"""``python -m benchmarks``: measure, print a table, write JSON and plots."""

import argparse
import sys
import time
import traceback
from pathlib import Path

import torch

from . import goals, readme, report, suites
from .engine import measure_run
from .memory import Process

RESULTS = Path(__file__).parent / "results"
BUDGET = {"quick": 0.35, "cpu": 2.0, "gpu": 0.5, "goals": 0.4, "full": 3.0}  # seconds of timing for one pass of a case


def arguments(argv):
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--suite", choices=suites.SUITES, default="quick")
    parser.add_argument("--filter", default="", metavar="SUBSTR", help="only runs whose name has this in it")
    parser.add_argument("--max-seconds", type=float, default=0, help="stop after this time; 0 for no limit")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="folder to write to (default: benchmarks/results/<machine>)")
    parser.add_argument("--fresh", action="store_true", help="measure rows again that the suite busy has already")
    parser.add_argument("--list", action="store_true", help="only list what would run")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="write README.md and docs/benchmarks.md too, as python -m benchmarks.readme",
    )
    options = parser.parse_args(argv)
    if options.fresh and options.suite != "busy":
        parser.error(f"--fresh is of the suite busy, which goes on where it was; {options.suite} always begins anew")
    return options


def progress(runs):
    try:
        from tqdm import tqdm
    except ImportError:
        print("No progress bar: tqdm is not installed.")
        return runs, lambda run: print(run.key, flush=True)
    bar = tqdm(runs, unit="run", dynamic_ncols=True)
    return bar, lambda run: bar.set_postfix_str(run.key)


def prepare(options):
    torch.set_num_threads(options.threads)
    if options.suite in ("gpu", "goals", "full") and torch.cuda.is_available():
        # float32 means float32, for the peers and for the GEMMs between our kernels.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    elif options.suite in ("gpu", "goals"):
        sys.exit(f"The suite {options.suite} needs a CUDA device, and torch finds none here.")


def main(argv=None):
    options = arguments(argv)
    prepare(options)
    if options.suite == "busy":
        from .busy import run

        run.main(options)
        return readme.main([]) if options.publish and not options.list else None
    runs = [run for run in suites.runs(options.suite, options.threads) if options.filter in run.key]
    if not runs:
        sys.exit(f"No run of suite {options.suite} has {options.filter!r} in its name; --list shows all.")
    if options.list:
        print(*(run.key for run in runs), sep="\n")
        return
    # The goals are the first part of the suite gpu, and that is where the pages look for them.
    suite = "gpu" if options.suite == "goals" else options.suite
    begin, found, processes = time.monotonic(), report.Report(suite, options.threads), Process()
    out = options.out or RESULTS / report.slug(found.data["machine"], suite)
    others, note = report.OtherPrograms(), found.data["notes"].append
    if options.suite in ("cpu", "full") and not suites.native_bfloat16():
        note("No bfloat16 on the CPU: it has no instructions for it, and emulation would measure nothing.")
    if options.filter:
        note(f"Only runs with {options.filter!r} in their name.")
    bar, show = progress(runs)
    measured, broken = 0, None
    try:
        for run in bar:
            if options.max_seconds and time.monotonic() - begin > options.max_seconds:
                break
            show(run)
            found.rows.extend(measure_run(run, BUDGET[options.suite], processes))
            measured += 1
            found.keep([run.key for run in runs[measured:]], out)  # whatever comes next, this is known
    except KeyboardInterrupt:
        note("Interrupted.")
    except Exception as error:  # of the reference, or of a GPU that computes no more: what is measured is kept
        traceback.print_exc()
        broken = f"Broke off at {runs[measured].key}: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        note(broken)
    finally:
        processes.close()
        if hasattr(bar, "close"):
            bar.close()
    found.finish(time.monotonic() - begin, [run.key for run in runs[measured:]], others.share(), usable=not broken)
    found.print()
    print(*(f"wrote {path}" for path in found.write(out)), sep="\n")
    if suite == "gpu":
        (out / "goals.txt").write_text(goals.text(found.rows), encoding="utf-8")
        print(goals.text(found.rows), end="")
    if options.publish and not broken:
        readme.main([])
    failed = {row["op"] + " " + row["case"] for row in found.rows if is_ours(row) and "seconds" not in row}
    if broken:
        sys.exit(broken)
    if failed:
        sys.exit(f"No time for s2s_kernels, see above: {', '.join(sorted(failed))}")


def is_ours(row):
    return row["implementation"].startswith("s2s_kernels")


if __name__ == "__main__":
    main()
