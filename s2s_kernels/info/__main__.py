import argparse
import json

from . import info, table

parser = argparse.ArgumentParser(prog="python -m s2s_kernels.info", description=info.__doc__)
parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
report = info()
print(json.dumps(report, indent=2) if parser.parse_args().json else table(report))
