"""What a GPU has to show, in bfloat16: the goals, and a report's rows held against them. No goal is a claim."""

from dataclasses import dataclass

from .cases import FORWARD, TRAINING

# The cases that the goals are about, the most telling first; after them the same ops at other sizes.
CASES = (
    ("attention_gru", "P"),
    ("gru", "P"),
    ("gru", "P, H=1024"),
    ("additive_attention", "P, T queries"),
    ("search", "greedy, B=64, H=512"),
    ("search", "greedy, B=1, H=512"),
    ("train_step", "P, Bahdanau"),
    ("attention_gru", "C2"),
    ("attention_gru", "Q"),
    ("gru", "C2"),
    ("gru", "Q"),
    ("attention_lstm", "P"),
    ("lstm", "P"),
    ("additive_attention", "C2, T queries"),
    ("additive_attention", "Q, T queries"),
    ("attention_lstm", "C2"),
    ("attention_lstm", "Q"),
    ("lstm", "C2"),
    ("lstm", "Q"),
)
# Ours in the form that is there and fastest in; the loop; the others.
LOOP, ONE = ("s2s_kernels, cuda",), ("s2s_kernels, cuda, one launch",)
OURS = ("s2s_kernels", *LOOP, *ONE, "s2s_kernels, cuda, a step replayed")
NARROW, NARROW_EAGER = ("s2s_kernels, bfloat16",), ("eager, bfloat16",)  # a search in float32 is another's case
EAGER, GRAPH, CUDNN = ("eager",), ("eager, CUDA graph",), ("nn.GRU",)


def place(run):
    """Where a run stands among those that the goals are about; None: no goal is about it."""
    dtype = "torch.float32" if run.case.op == "search" else "torch.bfloat16"
    key = (run.case.op, run.case.name)
    return CASES.index(key) if key in CASES and str(run.dtype) == dtype else None


@dataclass(frozen=True)
class Goal:
    text: str
    op: str
    case: str
    direction: str
    ours: tuple[str, ...]  # the fastest of these
    peer: tuple[str, ...] | None  # None: a time of ours
    least: float | None = None  # how many times as long the peer takes
    most: float | None = None  # milliseconds, or of memory a share

    def measured(self, rows):
        """What is held against the goal, or None."""
        field = (lambda row: row["peak_extra_bytes"]) if self.text.startswith("extra memory") else seconds
        found = {}
        for row in rows:
            if (row["op"], row["case"], row["pass"], row["device"]) == (self.op, self.case, self.direction, "cuda"):
                narrow = self.op == "search" or row["dtype"] == "bfloat16"
                if narrow and "seconds" in row and ("peak_extra_bytes" in row or field is seconds):
                    found[row["implementation"]] = field(row)
        ours = min((found[name] for name in self.ours if name in found), default=None)
        if self.peer is None:
            return None if ours is None else ours * 1e3
        peer = min((found[name] for name in self.peer if name in found), default=None)
        if None in (ours, peer):
            return None
        return ours / peer if self.most is not None else peer / ours

    def reached(self, x):
        return x >= self.least if self.least is not None else x <= self.most

    def wanted(self):
        if self.least is not None:
            return f">= {self.least:g} x"
        return f"<= {self.most:g}" + (" ms" if self.peer is None else " x")


def seconds(row):
    return row["seconds"]["median"]


SCAN, ATTENTION = ("attention_gru", "P"), ("additive_attention", "P, T queries")
GOALS = (
    Goal("decoder scan forward", *SCAN, FORWARD, OURS, None, most=0.4),
    Goal("decoder scan forward, of eager", *SCAN, FORWARD, OURS, EAGER, least=15),
    Goal("decoder scan forward, of eager in a CUDA graph", *SCAN, FORWARD, OURS, GRAPH, least=3),
    Goal("decoder scan forward, one launch of the loop", *SCAN, FORWARD, ONE, LOOP, least=3),
    Goal("decoder scan forward + backward", *SCAN, TRAINING, OURS, None, most=1.1),
    Goal("decoder scan forward + backward, of eager", *SCAN, TRAINING, OURS, EAGER, least=10),
    Goal("gru, H = 512, of cuDNN", "gru", "P", TRAINING, OURS[1:], CUDNN, least=1.5),
    Goal("gru, H = 1024, of cuDNN", "gru", "P, H=1024", TRAINING, OURS[1:], CUDNN, least=1.5),
    Goal("attention of T queries, forward", *ATTENTION, FORWARD, OURS, None, most=0.04),
    Goal("attention of T queries, forward, of eager", *ATTENTION, FORWARD, OURS, EAGER, least=8),
    Goal("greedy search, B = 1", "search", "greedy, B=1, H=512", FORWARD, NARROW, NARROW_EAGER, least=15),
    Goal("greedy search, B = 64", "search", "greedy, B=64, H=512", FORWARD, NARROW, NARROW_EAGER, least=6),
    Goal("extra memory of a training step", "train_step", "P, Bahdanau", TRAINING, OURS, EAGER, most=0.6),
)


def text(rows):
    """A line a goal: what is wanted, what was measured."""
    lines = [["goal", "wanted", "measured", ""]]
    for goal in GOALS:
        x = goal.measured(rows)
        said = ["not measured", ""] if x is None else [f"{x:.3g}", "reached" if goal.reached(x) else "NOT REACHED"]
        lines.append([goal.text, goal.wanted(), *said])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join("  ".join(f"{x:<{w}}" for x, w in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)
