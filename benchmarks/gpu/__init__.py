"""``make gpu``: everything that a machine with a GPU can say about this checkout, in nine minutes and one folder."""

from .machine import problem

__all__ = ["problem"]
