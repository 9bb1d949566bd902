"""Runs in the process that a sanitizer watches: python -m sanitized KIND SEED COUNT, KIND one of fuzz.hunt's."""

import sys
import warnings

from fuzz.hunt import run

from s2s_kernels import extension

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    assert extension.built, "the extension that is watched was not loaded"
    kind, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    begun = []
    for case, error in run(kind, "cpp", seed, count, begun.append):
        sys.exit(f"{case!r}: {error}")
    print(f"{len(begun)} passed")
