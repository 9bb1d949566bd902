"""Swap the recurrent modules of an existing model for the fused ones, and back.

A module is swapped by its class alone (stand_in.py): it stays the same object, and checks and tables by type go on
finding it: ``type(m) == nn.GRU``, ``quantize_dynamic(model, {nn.LSTM})``. (``type(m) is nn.GRU`` does not hold.)
A subclass gets the fused forward as the next one after its own, where its ``super().forward`` finds it.
"""

import inspect
import warnings
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from torch import nn

from . import nn as fused
from .stand_in import bare_class, check_module, rebase, restore, stand_in

_FUSED = {nn.GRU: fused.GRU, nn.LSTM: fused.LSTM, nn.GRUCell: fused.GRUCell, nn.LSTMCell: fused.LSTMCell}
# What a subclass may have of its own. Everything else that torch.nn's forward calls, ours would not.
_MAY_DEFINE = {
    *("__init__", "forward", "extra_repr", "reset_parameters", "flatten_parameters", "_apply"),
    *("__setattr__", "__getstate__", "__setstate__", "_replicate_for_data_parallel"),
    *("__module__", "__doc__", "__annotations__", "__constants__", "__jit_unused_properties__"),
    *("__dict__", "__weakref__", "__static_attributes__", "__firstlineno__"),
}
_ADDED = {"__reduce__", "__reduce_ex__", "__prepare_scriptable__"}  # by which copies and torch.jit find their way


class ConversionReport(NamedTuple):
    """What `convert` did; printing it gives a list to read."""

    converted: list  # of (path, name of the class): modules that now run on the fused kernels
    left: list  # of (path, name of the class, reason): recurrent modules that stay as they are

    def __str__(self):
        lines = [f"{_modules(self.converted)} on the fused kernels now{':' if self.converted else '.'}"]
        width = max((len(path) for path, *_ in self.converted + self.left), default=0)
        lines += [f"  {path:{width}}  {kind}" for path, kind in self.converted]
        if self.left:
            lines.append(f"{_modules(self.left)} as before:")
            lines += [f"  {path:{width}}  {kind}: {reason}" for path, kind, reason in self.left]
        return "\n".join(lines)


def _modules(rows):
    return "1 module runs" if len(rows) == 1 else f"{len(rows)} modules run"


def convert(model: nn.Module, *, report: bool = False) -> nn.Module | ConversionReport:
    """Make every nn.GRU, nn.LSTM, nn.GRUCell and nn.LSTMCell in ``model`` run on the fused kernels, in place.

    The modules stay the very same objects, still are what they were to isinstance and ``==``, and keep their
    parameters, hooks, parametrisations, state_dict keys and training flag, so optimizers, references from elsewhere
    and checkpoints go on working. Subclasses whose forward calls ``super().forward`` are converted too. What has no
    fused counterpart stays as it is and is named: nn.RNN, an LSTM with ``proj_size``, a forward of its own.

    Args:
        model: an nn.Module; it may itself be one of the four.
        report: return a ConversionReport, without warnings, instead of the model.

    Returns:
        The same ``model``, with a warning for each module that stays; or the report.

    Raises:
        TypeError: ``model`` is no nn.Module.
    """
    check_module(model)
    done, left = [], []
    for path, module in model.named_modules():
        path, kind = path or "the model", module._get_name()
        if isinstance(module, tuple(_FUSED.values())) or not _is_recurrent(module):
            continue
        reason = _why_not(module)
        if reason is None:
            try:
                rebase(module, _converted)
            except Exception as error:  # of a metaclass or of __init_subclass__, which is other people's code
                reason = f"its class cannot be derived from: {type(error).__name__}: {error}"
        if reason is None:
            done.append((path, kind))
        else:
            left.append((path, kind, reason))
    if report:
        return ConversionReport(done, left)
    for path, kind, reason in left:
        warnings.warn(f"convert: {path} stays as it is: {kind}, {reason}", stacklevel=2)
    return model


def revert(model: nn.Module) -> nn.Module:
    """Undo ``convert`` in place and return ``model``; the ``convert`` of s2s_kernels.integrations too.

    Modules that were built as fused ones stay fused.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: something has derived a class of its own from a converted module's since; nothing is changed then.
    """
    return restore(model)


def _is_recurrent(module):
    """torch.nn's, and by the name that all of them give the weights of the state, other libraries' too."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    return isinstance(module, (nn.RNNBase, nn.RNNCellBase)) or any(name.startswith("weight_hh") for name in names)


def _why_not(module):
    """Why ``module`` has no fused counterpart; None when it has."""
    kind = bare_class(module)
    of_torch = next((base for base in kind.__mro__ if base in _FUSED), None)
    if of_torch is None:
        return "neither GRU nor LSTM of torch.nn"
    if getattr(module, "proj_size", 0) != 0:
        return f"proj_size = {module.proj_size}"
    if "forward" in module.__dict__:
        return "its forward is an attribute of its own"
    ours, theirs = _names(_FUSED[of_torch], __package__), _names(of_torch, nn.GRU.__module__)
    attributes = {*module.__dict__, *module._parameters, *module._buffers, *module._modules}
    for name in sorted((ours - theirs - _MAY_DEFINE) & attributes):
        return f"it has an attribute {name}"
    for base in takewhile(lambda base: base is not of_torch, kind.__mro__):
        if base.__module__.startswith("torch.nn.modules"):
            continue
        for name in sorted((ours | theirs | _ADDED) & {*vars(base)} - _MAY_DEFINE):
            return f"a subclass with its own {name}"
        if "forward" in vars(base) and not _calls_super_forward(vars(base)["forward"]):
            return "a subclass whose forward does not call super().forward"
    return None


def _names(kind, package):
    """What the classes of ``package`` that ``kind`` is made of define."""
    return set().union(*(vars(base) for base in kind.__mro__ if base.__module__.startswith(package)))


def _calls_super_forward(function):
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code is not None and {"super", "forward"} <= set(code.co_names)


@cache
def _converted(kind):
    """The class of converted modules that were of the class ``kind``."""
    if kind in _FUSED:
        bases = (_FUSED[kind],)
    else:
        bases = (kind, _converted(next(base for base in kind.__mro__ if base in _FUSED)))
    own = {}
    if issubclass(kind, nn.RNNCellBase):
        own["qconfig"] = property(None, _refuse_qconfig, lambda self: None)
    return stand_in(kind, bases, (_converted, kind), **own)


def _refuse_qconfig(self, qconfig):
    """torch.ao.quantization takes cells up by ``type(m) is nn.GRUCell``, of sequences by a table of types."""
    if qconfig is not None:
        raise RuntimeError(
            "torch.ao.quantization cannot quantize a converted cell: call s2s_kernels.revert(model) before it"
        )
