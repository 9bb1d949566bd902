"""What no test runs, and why: the one table of it. tests/test_snippets.py refuses a row that fits nothing."""

from typing import NamedTuple

INDEX = "needs a package index, and minutes; `make dist` and tests/test_packaging.py do it"
TARGET = "a target of the Makefile: minutes, and it works on the checkout; .ci/run and people run them"
MACHINES = "needs two machines of eight GPUs; tests/test_s2s_processes.py has two processes of one machine"
RECORDED = "minutes of training on data that are not part of the project; the page is made of the records of such runs"
KERAS = "needs Keras, which is not among the requirements; `make interop` has it"
JOEY = "needs JoeyNMT, which is not among the requirements; `make integrations` has it"


class Row(NamedTuple):
    page: str  # as a path from the root, or an ending
    text: str  # which a shell command begins with, or a python block has
    reason: str


TABLE = [
    Row("README.md", "pip install", INDEX),
    Row("README.md", "make ", TARGET),
    Row("README.md", "import joeynmt", JOEY),
    Row("README.md", "keras_layer", KERAS),
    Row("docs/install.md", "pip install", INDEX),
    Row("docs/drop-in.md", "import joeynmt", JOEY),
    Row("docs/models.md", "keras_layer", KERAS),
    Row("docs/training.md", "torchrun --nnodes 2", MACHINES),
    Row("docs/results.md", "s2s ", RECORDED),
]


def reason(page: str, text: str, language: str = "sh") -> str | None:
    """Why a command or a block of a page is not run; None where it is."""
    for row in TABLE:
        if row.page == page and (text.startswith(row.text) if language == "sh" else row.text in text):
            return row.reason
    return None
