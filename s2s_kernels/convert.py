"""Swap the recurrent modules of an existing model for the fused ones, and back."""

import warnings

from torch import nn

from . import nn as fused

_FUSED = {nn.GRU: fused.GRU, nn.LSTM: fused.LSTM, nn.GRUCell: fused.GRUCell, nn.LSTMCell: fused.LSTMCell}
_MARK = "_s2s_converted_from"


def convert(model):
    """Make every nn.GRU, nn.LSTM, nn.GRUCell and nn.LSTMCell in ``model`` run on the fused kernels, in place.

    The modules stay the very same objects and keep their parameters, hooks, state_dict keys and training flag, so
    optimizers, references from elsewhere and checkpoints go on working. What has no fused counterpart stays as it
    is, with a warning that names it: an LSTM with ``proj_size``, and instances of subclasses of the four, whose own
    ``forward`` or parametrisation would be lost.

    Args:
        model: an nn.Module; it may itself be one of the four.

    Returns:
        The same ``model``.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module")
    for path, module in model.named_modules():
        original = type(module)
        if not isinstance(module, tuple(_FUSED)) or original in _FUSED.values():
            continue
        if original not in _FUSED:
            _warn_left(path, original, "a subclass")
            continue
        if getattr(module, "proj_size", 0) != 0:
            _warn_left(path, original, f"with proj_size = {module.proj_size}")
            continue
        # Both classes keep the same attributes, so that changing the class is all that it takes.
        module.__class__ = _FUSED[original]
        setattr(module, _MARK, original)
    return model


def _warn_left(path, kind, why):
    message = f"convert: {path or 'the model'} stays as it is: {kind.__name__}, {why}, has no fused counterpart"
    warnings.warn(message, stacklevel=3)


def revert(model):
    """Undo ``convert`` in place and return ``model``. Modules that were built as fused ones stay fused."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module")
    for module in model.modules():
        original = module.__dict__.pop(_MARK, None)
        if original is None:
            continue
        module.__class__ = original
    return model
