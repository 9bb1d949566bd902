"""Runs in the process that a sanitizer watches: python -m sanitized KIND SEED COUNT, KIND one of fuzz.hunt's.

Whether the numbers are right is not judged: compiled so, they are summed in another order.
"""

import sys
import warnings
from typing import NamedTuple

from fuzz import hunt
from fuzz.wrong import all_wrong

from s2s_kernels import extension


class Watched(NamedTuple):
    case: object

    def run(self):
        try:
            self.case.run()
        except AssertionError as error:
            if "> 2 *" not in str(error):
                raise


def main(kind, start, count):
    warnings.simplefilter("ignore")
    if not extension.built:
        sys.exit("the extension that is to be watched cannot be loaded")
    if kind == "wrong":
        wrong = list(all_wrong("cpp"))
        for case in wrong:
            case.run()
        print(f"{len(wrong)} passed")
        return
    strategy = (hunt.cases if kind == "calls" else hunt.searches)("cpp", hunt.largest(kind, "cpp", False))
    begun = []
    for case, error in hunt.hunt(strategy.map(Watched), start, count, begun.append):
        sys.exit(f"{case!r}: {error}")
    print(f"{len(begun)} passed")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
