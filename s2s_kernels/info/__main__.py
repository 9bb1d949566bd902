import argparse
import json
import sys

from . import info, table
from .plan import ARCHS, parse, plan, text

parser = argparse.ArgumentParser(prog="python -m s2s_kernels.info", description=info.__doc__)
parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
parser.add_argument(
    "--plan",
    nargs="+",
    metavar=("OP", "NAME=VALUE"),
    help="how a GPU would run a sequence or a decoder as one launch, as in: gru B=64 T=50 H=512 dtype=bfloat16 "
    "arch=sm_90, or: attention_gru B=64 T=50 S=50 H=512 A=512",
)
chosen = parser.parse_args()
if chosen.plan:
    try:
        asked = parse(chosen.plan)
        found = {arch: plan(**(asked | {"arch": arch})) for arch in ([asked["arch"]] if "arch" in asked else ARCHS)}
    except (ValueError, RuntimeError) as error:
        sys.exit(f"s2s_kernels.info: {error}")
    if chosen.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(text(asked | {"arch": arch}, made) for arch, made in found.items()))
else:
    report = info()
    print(json.dumps(report, indent=2) if chosen.json else table(report))
