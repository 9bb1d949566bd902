"""The command ``s2s``, also ``python -m s2s``."""

import sys


def main() -> None:
    try:
        start()
    except KeyboardInterrupt:  # wherever it comes, while modules are loaded too
        sys.exit(130)


def start():
    try:
        from .cli import main as run
    except ModuleNotFoundError as error:
        sys.exit(f's2s: the command needs {error.name}, of the extra s2s: pip install "s2s_kernels[s2s]"')
    run()


if __name__ == "__main__":
    main()
