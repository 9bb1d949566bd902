"""How a GPU, which need not be here, would run a whole sequence as one launch: csrc/plan.h."""

from importlib import import_module
from typing import Any

from ..build_info import extension_problem

GATES = {"gru": 3, "lstm": 4, "attention_gru": 3, "attention_lstm": 4}
SIZES = ("B", "T", "H")
ATTENTION_SIZES = ("B", "T", "S", "H", "A")
DTYPES = ("float32", "float64", "bfloat16", "float16")
ARCHS = ("sm_80", "sm_90")
OPTIONS = {False: ("directions",), True: ()}
EXAMPLES = {False: "gru B=64 T=50 H=512", True: "attention_gru B=64 T=50 S=50 H=512 A=512"}


def is_attention(op: str) -> bool:
    return op.startswith("attention")


def plan(
    op: str,
    B: int,
    T: int,
    H: int,
    dtype: str = "bfloat16",
    arch: str = "sm_90",
    *,
    S: int = 0,
    A: int = 0,
    directions: int = 1,
) -> dict[str, Any]:
    """The plan, or ``refusal``: why there is none. Times are predicted, not measured. S and A: of a decoder;
    directions: of a sequence's layer, both at once.

    Raises:
        ValueError: an argument's value. RuntimeError: the extension is not built here.
    """
    for name, value, expected in (("op", op, tuple(GATES)), ("dtype", dtype, DTYPES), ("arch", arch, ARCHS)):
        if value not in expected:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(expected)}")
    for name, size in (("B", B), ("T", T), ("S", S), ("H", H), ("A", A)):
        if not 0 <= size < 2**31:
            raise ValueError(f"{name} is {size}, expected 0 to {2**31 - 1}")
    if directions not in ((1,) if is_attention(op) else (1, 2)):
        raise ValueError(f"directions is {directions!r}, expected 1{'' if is_attention(op) else ' or 2'}")
    try:
        extension = import_module("s2s_kernels._C")
    except ImportError as error:
        raise RuntimeError(f"a plan needs the compiled extension: {extension_problem(error)}") from None
    if is_attention(op):
        return dict(extension.plan_attention(GATES[op], B, T, S, H, A, dtype, arch))
    return dict(extension.plan(GATES[op], B, T, H, dtype, arch, directions))


def parse(words: list[str]) -> dict[str, Any]:
    """``gru B=64 T=50 H=512 [directions=2] [dtype=...] [arch=...]`` as the arguments of `plan`."""
    given: dict[str, Any] = {"op": words[0]}
    attention = is_attention(words[0])
    sizes, options = ATTENTION_SIZES if attention else SIZES, OPTIONS[attention]
    for word in words[1:]:
        name, sign, value = word.partition("=")
        if not sign or name not in (*sizes, *options, "dtype", "arch"):
            expected = ", ".join(f"{size}=" for size in (*sizes, *options, "dtype"))
            raise ValueError(f"{word!r} is no argument of a plan, expected {expected} or arch=")
        is_number = name in (*sizes, *options) and value.isdecimal() and value.isascii()
        given[name] = int(value) if is_number else value
    for name in sizes:
        if name not in given:
            raise ValueError(f"{name} is not given, expected as in: {EXAMPLES[attention]}")
        if not isinstance(given[name], int):
            raise ValueError(f"{name} is {given[name]!r}, expected an integer that is not negative")
    return given


def text(arguments: dict[str, Any], found: dict[str, Any]) -> str:
    arch, steps = arguments.get("arch", "sm_90"), arguments["T"]
    begin = f"{arch} ({found['multiprocessors']} multiprocessors): "
    if found["refusal"]:
        both = arguments.get("directions", 1) > 1
        instead = "each direction runs by itself" if both else "the loop of launches runs"
        return f"{begin}no plan, {instead}: {found['refusal']}"
    directions, groups, slices, tiles = (found[name] for name in ("directions", "groups", "slices", "tiles"))
    ways = f"{directions} directions x " if directions > 1 else ""
    barriers = "" if is_attention(arguments["op"]) else "; one barrier a group and step"
    lines = [
        f"{begin}{directions * groups * slices} blocks: {ways}{groups} groups x {slices} slices of 16 units; "
        f"{16 * tiles} rows a group{barriers}"
    ]
    for half in ("forward", "backward"):
        of = found[half]
        lines.append(
            f"  {half:<8}  {of['shared_bytes']:,} bytes of shared memory a block; {of['exchange_bytes']:,} exchanged, "
            f"{of['read_bytes']:,} read a block and step; predicted {of['step_us']:.2f} us a step, "
            f"{of['step_us'] * steps / 1000:.3f} ms"
        )
        if "barriers" in of:
            where = ", ".join(
                f"{what} {'in shared memory' if of[f'{what}_stay'] else 'read at every step'}"
                for what in ("values", "keys")
            )
            lines.append(f"            {of['barriers']} barriers a group and step; {where}")
    taken = "a measurement" if found["measured_faster"] else "no measurement yet"
    lines.append(f"  taken unasked: {taken} says that it is faster; S2S_CUDA_PERSISTENT=1 takes it")
    return "\n".join(lines)
