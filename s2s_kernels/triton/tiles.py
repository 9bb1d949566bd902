"""Which tiles the kernels of additive attention run in: a table's row where a GPU was measured, else one default."""

import json
import re
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch


class Tiles(NamedTuple):
    """Tiles of queries, source positions, attention elements and value columns, and warps."""

    T: int
    S: int
    A: int
    D: int
    warps: int


KERNELS = ("attend", "scores", "softmax_context", "grad_weights", "query_backward", "keys_backward")

# For every architecture, chosen by what fits in registers: a program holds a tile of T * S * A (or S * D) elements.
ONE_QUERY = Tiles(1, 16, 128, 128, 4)
MANY_SCORES = Tiles(8, 16, 32, 64, 4)
MANY_CONTEXTS = Tiles(16, 32, 32, 64, 4)

# Rows that `make tune` measured. None has been yet, so there is no such file and the defaults are all there is.
# Not triton.autotune(cache_results=True): its keys are exact sizes, so that a user's call would wait at every new T or
# S, and the interpreter cannot.
TABLE = Path(__file__).with_name("tiles.json")
ROW = ("architecture", "kernel", "shape", *Tiles._fields)
SHAPES = (
    ("one query", "few queries", "many queries"),
    ("short source", "medium source", "long source"),
    ("narrow", "wide"),
    ("16 bits", "32 bits"),  # float64 is there to check gradients, and has no rows
)


def shape_class(T, S, A, D, dtype):
    """What the rows of the table are for, such as "one query, short source, narrow, 16 bits"."""
    queries, source, width, _ = SHAPES
    queries, source, width = queries[(T > 1) + (T > 8)], source[(S > 32) + (S > 64)], width[max(A, D) > 512]
    return f"{queries}, {source}, {width}, {8 * dtype.itemsize} bits"


def default(kernel, T, dtype):
    if T == 1 or kernel == "keys_backward":
        return ONE_QUERY
    if kernel in ("scores", "query_backward"):
        return MANY_SCORES
    return ONE_QUERY if dtype == torch.float64 else MANY_CONTEXTS


def fit(tiles, A, D, dtype):
    """Tiles no wider than what they cover, and of float64, whose registers are twice as wide, a quarter."""
    a, d = (tiles.A // 4, tiles.D // 4) if dtype == torch.float64 else (tiles.A, tiles.D)
    least = 32  # smaller ones would only be more kernels to compile
    return tiles._replace(A=min(a, max(least, power_of_two(A))), D=min(d, max(least, power_of_two(D))))


def power_of_two(n):
    """The next one."""
    return 1 << (n - 1).bit_length()


@lru_cache(maxsize=4096)
def choose(kernel, architecture, T, S, A, D, dtype):
    """The tiles of one launch. architecture: as from `architecture_of`."""
    tiles = default(kernel, T, dtype)
    if architecture is not None:
        tiles = measured().get((architecture, kernel, shape_class(T, S, A, D, dtype)), tiles)
    return fit(tiles, A, D, dtype)


@cache
def architecture_of(device):
    """The compute capability, such as "9.0"; None of what is no GPU."""
    return "{}.{}".format(*torch.cuda.get_device_capability(device)) if device.type == "cuda" else None


@cache
def measured():
    return read(TABLE)


def read(path):
    """{(architecture, kernel, class of shapes): Tiles}; empty where there is no such file."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path} holds a {type(rows).__name__}, expected a list of rows")
    for row in rows:
        if not is_row(row):
            raise ValueError(f"{path} has the row {row}, expected {', '.join(ROW)}, the last five powers of two")
    return {tuple(row[name] for name in ROW[:3]): Tiles(*(row[name] for name in Tiles._fields)) for row in rows}


def is_row(row):
    if not isinstance(row, dict) or row.keys() != set(ROW):
        return False
    architecture, kernel, shape, *sizes = (row[name] for name in ROW)
    if not isinstance(architecture, str) or not re.fullmatch(r"\d+\.\d+", architecture):
        return False
    powers = all(type(n) is int and n > 0 and n & (n - 1) == 0 for n in sizes)
    return powers and kernel in KERNELS and shape in map(", ".join, product(*SHAPES))


def write(table, path):
    """What `read` reads, a row a line."""
    rows = [json.dumps(dict(zip(ROW, (*key, *tiles), strict=True))) for key, tiles in sorted(table.items())]
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")
