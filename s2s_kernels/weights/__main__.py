"""``python -m s2s_kernels.weights inspect FILE ...``: what files of weights hold, and how they are loaded."""

import argparse
import sys

from .inspect import report


def main(argv=None) -> int:
    parser = argparse.ArgumentParser("python -m s2s_kernels.weights", description="Weights of other frameworks.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("inspect", help="say what files hold, by which convention, and what would be lost")
    command.add_argument("file", nargs="+", help="an .onnx, .npz, .safetensors, .pt, .h5 or .keras file")
    options = parser.parse_args(argv)
    for file in options.file:
        try:
            text = report(file)
        except (ValueError, ImportError) as error:
            print(str(error).splitlines()[0], file=sys.stderr)
            return 1
        print(text if len(options.file) == 1 else f"{file}\n" + "\n".join(f"  {line}" for line in text.splitlines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
