"""``python -m s2s`` is ``s2s``."""

from .cli import main

main()
