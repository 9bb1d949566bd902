"""What a model is: its configuration, its presets and recipes, its modules, its checkpoint."""

from typing import TYPE_CHECKING

from ..lazy import names_from

if TYPE_CHECKING:
    from .config import Config
    from .seq2seq import Seq2Seq
else:
    __getattr__ = names_from(__name__, {"Config": "config", "Seq2Seq": "seq2seq"})

__all__ = ["Config", "Seq2Seq"]
