"""Rows as the pages and pictures want them: by case, without what says nothing, what was disturbed marked."""

from .cases import FORWARD, TRAINING

OURS = "s2s_kernels"
PEERS = (
    "eager",
    "eager, CUDA graph",
    "torch.compile",
    "nn.GRU",
    "nn.LSTM",
    "TorchRL scan",
    "JoeyNMT",
)  # of ours in another form no page speaks
# Quartiles of a time or a ratio further apart than this share of its median are those of a machine with other work,
# or of too few rounds: the row is marked, and is none of those that the README shows.
SPREAD = 0.25
# What the README shows: the first MOST of these that were measured undisturbed.
MOST = 10
TELLING = [
    ("attention_gru", "P", "float32"),
    ("attention_gru", "C2", "float32"),
    ("attention_gru", "C2", "bfloat16"),
    ("attention_lstm", "C2", "float32"),
    ("additive_attention", "T queries", "float32"),
    ("additive_attention", "P", "float32"),
    ("gru", "C2", "float32"),
    ("lstm", "C2", "float32"),
    ("linear_cross_entropy", "P", "float32"),
    ("train_step", "P, Bahdanau", "float32"),
    ("search", "beam 5, B=32, H=256", "float32"),
    ("attention_gru", "C1", "float32"),
    ("attention_lstm", "P", "float32"),
    ("additive_attention", "C2", "float32"),
    ("gru", "P", "float32"),
    ("lstm", "P", "float32"),
    ("linear_cross_entropy", "C1", "float32"),
    ("search", "greedy, B=1, H=512", "float32"),
]


def cases(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """{(op, case, dtype, device, threads): {implementation: row}} of what was timed, ours and the peers.

    Of a case that trains it is forward and backward together, else the forward pass.
    """
    found: dict[tuple, dict] = {}
    for row in rows:
        if "seconds" in row and row["op"] != "scaling" and row["implementation"] in (OURS, *PEERS):
            key = (row["op"], row["case"], row["dtype"], row["device"], row["threads"])
            found.setdefault(key, {}).setdefault(row["pass"], {})[row["implementation"]] = row
    found = {key: passes.get(TRAINING) or passes[FORWARD] for key, passes in found.items()}
    return {key: case for key, case in found.items() if OURS in case and len(case) > 1}


def peers(case: dict[str, dict]) -> list[dict]:
    """The rows of a case's peers, in the order of PEERS."""
    return [case[name] for name in PEERS if name in case and "ratio" in case[name]]


def relative(spread: dict) -> float:
    return (spread["q3"] - spread["q1"]) / spread["median"]


def disturbed(ours: dict, row: dict) -> bool:
    """Whether what a peer's row says of it beside ``ours`` is not to be relied on."""
    return max(relative(x) for x in (ours["seconds"], row["seconds"], row["ratio"])) > SPREAD


def telling(rows: list[dict]) -> dict[tuple, dict[str, dict]]:
    """The cases that the README shows; where none of TELLING is there, as on a GPU, the first undisturbed ones."""
    quiet = {
        key: case for key, case in cases(rows).items() if not any(disturbed(case[OURS], row) for row in peers(case))
    }
    wanted = [key for name in TELLING for key in quiet if key[:3] == name]
    return {key: quiet[key] for key in list(wanted or quiet)[:MOST]}
