"""What torchrun tells a process about itself; nothing here needs torch."""

import os


def launched() -> bool:
    """Whether this process is one of several that train together."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """The number of this process among them; the first is 0, and speaks for all."""
    return int(os.environ.get("RANK", "0")) if launched() else 0


def local_rank() -> int:
    """Its number on this machine."""
    return int(os.environ.get("LOCAL_RANK", "0")) if launched() else 0


def restarts() -> int:
    """How often torchrun has started this command before, since one of its processes has ended (``--max-restarts``)."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
