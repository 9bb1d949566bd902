"""Random calls of every op on every backend, held to the tolerance rule, and wrong ones, held to a message that names
what is wrong: `make fuzz`.

A failing case is printed as Python that runs it again, and it is a `Case` of cases.py, a `SearchCase` of searches.py or
a `Wrong` of wrong.py.
"""

import os

import torch

# Read when Triton's kernels are first seen: without a GPU they run in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
