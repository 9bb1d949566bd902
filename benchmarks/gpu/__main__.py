"""``python -m benchmarks.gpu``, or ``make gpu``: build, smoke, benchmarks, tests, sanitizers, Triton, in this order.

A failed build or smoke ends it at once, so that the time left buys a second try; any other stage that fails or is cut
stops no other. Stages that have passed on these sources, this GPU and this torch are not run again, but for a build
that is not there. Needs no network and no virtual environment, only a Python whose torch has CUDA.
"""

import time

BEGUN = time.monotonic()  # before torch is imported, which takes long on a fresh machine

import argparse  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from .. import identity  # noqa: E402
from . import machine  # noqa: E402
from .shot import Record, shoot  # noqa: E402
from .stage import ROOT  # noqa: E402
from .stages import WHOLE, stages  # noqa: E402


def main(argv=None, begun=None):
    """The seconds count from ``begun``, by time.monotonic; without it from now."""
    begun = time.monotonic() if begun is None else begun
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--again", action="store_true", help="run stages that have passed before, too")
    parser.add_argument("--seconds", type=float, default=WHOLE, help="for everything together (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: benchmarks/results/<GPU>)")
    options = parser.parse_args(argv)
    why = machine.problem()
    if why:
        sys.exit(why)
    about = machine.description()
    folder = (options.out or ROOT / "benchmarks" / "results" / identity.slug(about, "gpu")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found = stages(folder, machine.architecture(), machine.find_sanitizer(), machine.processes())
    record = Record(folder, {"sources": identity.sources(), **about})
    wrong = shoot(found, record, begun + options.seconds, options.again, commit=identity.commit())
    if wrong:
        sys.exit(f"make gpu: {wrong}.")


if __name__ == "__main__":
    main(begun=BEGUN)
