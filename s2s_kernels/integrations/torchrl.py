"""TorchRL's GRUModule and LSTMModule on `s2s_kernels.gru` and `lstm`.

In recurrent mode TorchRL cuts a batch into its trajectories and pads them ("pad"), or steps through it ("scan"). Here
it stays whole: each layer is one op, whose state is reset where a trajectory begins. What TorchRL does around that, its
keys and its shapes, is TorchRL's own code; single steps run on ``s2s_kernels.nn``.

    from s2s_kernels.integrations import torchrl
    policy = torchrl.convert(policy)

TorchRL is not imported before.
"""

import warnings
from functools import cache

import torch
from torch import nn

from .. import convert as _convert
from .. import nn as fused
from .. import ops
from .. import revert as _revert
from ..ops.lstm import lstm_and_cells


def convert(module: nn.Module) -> nn.Module:
    """`s2s_kernels.convert`, and every GRUModule and LSTMModule in ``module`` runs a whole batch as one op a layer.

    In place, with the same parameters and keys; isinstance holds. Outputs and gradients are those of TorchRL's pad
    backend: a trajectory starts from the state that is stored at its first step. It does not matter which
    ``recurrent_backend`` the module was built with.

    Returns:
        The same ``module``, with a warning for each module that stays on TorchRL's own path: a subclass, one that is
        ``python_based``, bidirectional, or has dropout between its layers.

    Raises:
        TypeError: ``module`` is no nn.Module.
        RuntimeError: a TorchRL without the scan that this stands in for; it is made for 0.14.
    """
    kinds = _classes()
    _convert(module)
    for path, found in module.named_modules():
        if isinstance(found, tuple(kinds)) and not isinstance(found, _Whole):
            reason = _why_not(found, kinds)
            if reason is None:
                found.__class__ = kinds[type(found)]
            else:
                where = path or "the module"
                said = f"convert: {where} keeps its recurrent mode: {type(found).__name__}, {reason}"
                warnings.warn(said, stacklevel=2)
    return module


def revert(module: nn.Module) -> nn.Module:
    """Undoes `convert`, in place, and returns ``module``."""
    _revert(module)
    originals = {new: old for old, new in _classes().items()}
    for found in module.modules():
        if isinstance(found, _Whole):
            found.__class__ = originals[type(found)]
    return module


class _Whole:
    """A module that stands in for TorchRL's scan, which is handed the whole batch."""

    # A property comes before the instance's attribute, which stays what the user chose.
    recurrent_backend = property(lambda self: "scan", lambda self, name: self.__dict__.update(recurrent_backend=name))


class _WholeGRU(_Whole):
    def _gru_scan_with_resets(self, input, hidden_in, initial_hidden, is_init):
        """The outputs (B, T, H), and the states (B, T, layers, H) at the ends of trajectories, zeros elsewhere."""
        end, kept = _ends(is_init), []
        for layer, weights in enumerate(_layers(self.gru)):
            begin = hidden_in[:, :, layer]
            input, _ = ops.gru(input, begin[:, 0], *weights, resets=is_init, reset_states=begin)
            kept.append(_at(end, input))
        return input, torch.cat(kept, 2) if len(kept) > 1 else kept[0]


class _WholeLSTM(_Whole):
    def _lstm_scan_with_resets(self, input, hidden0_in, hidden1_in, hidden, is_init):
        """As the GRU's, and the cells as well."""
        end, kept = _ends(is_init), ([], [])
        for layer, weights in enumerate(_layers(self.lstm)):
            begin = [states[:, :, layer] for states in (hidden0_in, hidden1_in)]
            first = [states[:, 0] for states in begin]
            input, _, cells = lstm_and_cells(input, first, *weights, resets=is_init, reset_states=begin)
            for to, states in zip(kept, (input, cells), strict=True):
                to.append(_at(end, states))
        return input, *(torch.cat(states, 2) if len(states) > 1 else states[0] for states in kept)


@cache
def _classes():
    """By TorchRL's class, the one that a converted module gets."""
    from torchrl import __version__
    from torchrl.modules import GRUModule, LSTMModule

    made = {}
    for kind, whole, name in ((GRUModule, _WholeGRU, "FusedGRUModule"), (LSTMModule, _WholeLSTM, "FusedLSTMModule")):
        for method in vars(whole):
            if method.endswith("_scan_with_resets") and not hasattr(kind, method):
                raise RuntimeError(f"torchrl {__version__} has no {kind.__name__}.{method}, expected a 0.14")
        own = {"__module__": __name__, "__doc__": f"A `{kind.__name__}` that `convert` has converted."}
        made[kind] = type(name, (whole, kind), own)
    return made


def __getattr__(name):
    """The classes by their names, for pickle."""
    if name in ("FusedGRUModule", "FusedLSTMModule"):
        return next(kind for kind in _classes().values() if kind.__name__ == name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _why_not(module, kinds):
    if type(module) not in kinds:
        return "a subclass"
    rnn = module.gru if hasattr(module, "gru") else module.lstm
    if not isinstance(rnn, (fused.GRU, fused.LSTM)):
        return f"its {type(rnn).__name__} is not converted"
    if rnn.bidirectional:
        return "bidirectional"
    if rnn.dropout and rnn.num_layers > 1:
        return f"dropout = {rnn.dropout}"
    return None


def _layers(rnn):
    """The weights of each layer: weight_ih, weight_hh and, if there are any, bias_ih and bias_hh."""
    for names in rnn._all_weights:
        yield [getattr(rnn, name) for name in names]


def _ends(is_init):
    """(B, T, 1): where a trajectory ends, before the next begins or at the end of the batch."""
    return nn.functional.pad(is_init[:, 1:], (0, 1), value=True).unsqueeze(-1)


def _at(end, states):
    """States (B, T, 1, H), zeros elsewhere. (With a plain 0, torch would copy them to a common dtype.)"""
    return torch.where(end, states, states.new_zeros(())).unsqueeze(2)
