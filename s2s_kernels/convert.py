"""Swap the recurrent modules of an existing model for the fused ones, and back.

A module is swapped by its class alone: it stays the same object, with the same parameters, hooks and attributes. The
class that it gets derives from the one that it had, so isinstance holds, and is equal to it, so that checks and tables
by type go on finding it: ``type(m) == nn.GRU``, ``quantize_dynamic(model, {nn.LSTM})``. (``type(m) is nn.GRU`` does
not hold.) A subclass gets the fused forward as the next one after its own, where its ``super().forward`` finds it.
"""

import inspect
import warnings
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from . import nn as fused

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
    _check(model)
    done, left = [], []
    for path, module in model.named_modules():
        path, kind = path or "the model", module._get_name()
        if isinstance(module, tuple(_FUSED.values())) or not _is_recurrent(module):
            continue
        reason = _why_not(module)
        if reason is None:
            try:
                _rebase(module, _converted)
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
    """Undo ``convert`` in place and return ``model``. Modules that were built as fused ones stay fused.

    Raises:
        TypeError: ``model`` is no nn.Module.
        ValueError: something has derived a class of its own from a converted module's since; nothing is changed then.
    """
    _check(model)
    found = [(path, m) for path, m in model.named_modules() if any(map(_original, type(m).__mro__))]
    for path, module in found:
        if _original(_bare_class(module)) is None:
            raise ValueError(
                f"{path or 'the model'} is a {type(module).__name__}, a class derived from the converted one since: "
                "expected that to be undone first"
            )
    for _, module in found:
        _rebase(module, _original)
    return model


def _check(model):
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module")


def _is_recurrent(module):
    """torch.nn's, and by the name that all of them give the weights of the state, other libraries' too."""
    names = [name for name, _ in module.named_parameters(recurse=False)]
    return isinstance(module, (nn.RNNBase, nn.RNNCellBase)) or any(name.startswith("weight_hh") for name in names)


def _why_not(module):
    """Why ``module`` has no fused counterpart; None when it has."""
    kind = _bare_class(module)
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


# --- classes


class _StandsFor(type):
    """The metaclass of converted modules' classes: equal to the class that a module had before."""

    def __eq__(cls, other):
        return cls is other or (other is _original(cls) and other is not None)

    def __hash__(cls):
        return type.__hash__(_original(cls) or cls)

    def __repr__(cls):
        original = _original(cls)
        return type.__repr__(cls) if original is None else f"{original!r} converted by s2s_kernels"


def _original(kind):
    """The class that a converted module had before; None for any other class."""
    return kind.__dict__.get("_converted_from")


def _bare_class(module):
    """The class of a module before torch.nn.utils.parametrize derived one for this module alone."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def _rebase(module, other):
    """Gives ``module`` the class ``other`` makes of its own, under its parametrisations."""
    kind = type(module)
    new = other(_bare_class(module))
    if is_parametrized(module):
        own = {name: x for name, x in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        new = type(kind.__name__, (new,), own)
    module.__class__ = new


@cache
def _converted(original):
    """The class of converted modules that were ``original``."""
    if original in _FUSED:
        bases = (_FUSED[original],)
    else:
        bases = (original, _converted(next(base for base in original.__mro__ if base in _FUSED)))
    meta = type(original)
    meta = _StandsFor if issubclass(_StandsFor, meta) else type("_StandsFor", (_StandsFor, meta), {})
    own = {
        "__module__": original.__module__,  # where torch.fx and others look for what is torch.nn's
        "__qualname__": original.__qualname__,
        "__doc__": original.__doc__,
        "__reduce_ex__": _reduce,
        "__prepare_scriptable__": _refuse_script,
        "_converted_from": original,
    }
    if issubclass(original, nn.RNNCellBase):
        own["qconfig"] = property(None, _refuse_qconfig, lambda self: None)
    return meta(original.__name__, bases, own)


def _reduce(self, protocol):
    """For copy and pickle, which cannot find the class by its name."""
    _, _, *state = object.__reduce_ex__(self, max(protocol, 2))
    return _empty, (_original(type(self)),), *state


def _empty(original):
    kind = _converted(original)
    return kind.__new__(kind)


def _refuse_script(self):
    raise RuntimeError(
        "torch.jit.script cannot compile a converted module: call s2s_kernels.revert(model) before it "
        "(torch.jit.trace takes it as it is)"
    )


def _refuse_qconfig(self, qconfig):
    """torch.ao.quantization takes cells up by ``type(m) is nn.GRUCell``, of sequences by a table of types."""
    if qconfig is not None:
        raise RuntimeError(
            "torch.ao.quantization cannot quantize a converted cell: call s2s_kernels.revert(model) before it"
        )
