"""A process of `make fuzz`: python -m fuzz.worker KIND BACKEND SEED COUNT. Prints a line of JSON for what it has done
and for each fault; the case that is running stands in the file named by the last argument, for who finds us dead."""

import json
import sys
import warnings
from pathlib import Path

import torch

from .hunt import run


def main(kind, backend, start, count, at):
    warnings.simplefilter("ignore")
    at, begun = Path(at), 0

    def say(**what):
        print(json.dumps(what), flush=True)

    def begin(case):
        nonlocal begun
        begun += 1
        at.write_text(repr(case))
        if begun % 20 == 0:
            say(done=20)

    for case, error in run(kind, backend, int(start), int(count), begin, torch.cuda.is_available()):
        say(fault=repr(case), why=f"{type(error).__name__}: {error}")
    say(done=begun % 20)


if __name__ == "__main__":
    main(*sys.argv[1:])
