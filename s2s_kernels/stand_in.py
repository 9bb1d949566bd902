"""Classes that stand for others: how a module is swapped for another by its class alone, and back.

A module that gets such a class stays the same object, with the same parameters, hooks and attributes. The class derives
from the one that the module had, so isinstance holds, and is equal to it, so that checks and tables by type go on
finding it. Copies and pickles name the original, so that they need nothing that is not importable.
"""

from torch import nn
from torch.nn.utils.parametrize import is_parametrized


class StandsFor(type):
    """The metaclass of the classes of swapped modules: equal to the class that a module had before."""

    def __eq__(cls, other):
        return cls is other or (other is original(cls) and other is not None)

    def __hash__(cls):
        return type.__hash__(original(cls) or cls)

    def __repr__(cls):
        kind = original(cls)
        return type.__repr__(cls) if kind is None else f"{kind!r} converted by s2s_kernels"


def original(kind):
    """The class that a swapped module had before; None for any other class."""
    return kind.__dict__.get("_converted_from")


def bare_class(module):
    """The class of a module before torch.nn.utils.parametrize derived one for this module alone."""
    return type(module).__bases__[0] if is_parametrized(module) else type(module)


def rebase(module, other):
    """Gives ``module`` the class ``other`` makes of its own, under its parametrisations."""
    kind = type(module)
    new = other(bare_class(module))
    if is_parametrized(module):
        own = {name: x for name, x in vars(kind).items() if name not in ("__dict__", "__weakref__")}
        new = type(kind.__name__, (new,), own)
    module.__class__ = new


def check_module(model):
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}, expected a torch.nn.Module")


def restore(model, kinds=nn.Module):
    """Gives the modules of ``model`` that are of ``kinds`` and stand for others their classes back; returns it."""
    check_module(model)
    found = [(path, m) for path, m in model.named_modules() if any(map(original, type(m).__mro__))]
    found = [(path, module) for path, module in found if isinstance(module, kinds)]
    for path, module in found:
        if original(bare_class(module)) is None:
            raise ValueError(
                f"{path or 'the model'} is a {type(module).__name__}, a class derived from the converted one since: "
                "expected that to be undone first"
            )
    for _, module in found:
        rebase(module, original)
    return model


def stand_in(kind, bases, remake, **own):
    """A class of ``bases`` that stands for ``kind``; ``remake``, a function and its arguments, gives it once more."""
    meta = type(kind)
    meta = StandsFor if issubclass(StandsFor, meta) else type("StandsFor", (StandsFor, meta), {})
    own = {
        "__module__": kind.__module__,  # where torch.fx and others look for what is torch.nn's
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        "__reduce_ex__": _reduce,
        "__prepare_scriptable__": _refuse_script,
        "_converted_from": kind,
        "_remake": remake,
        **own,
    }
    return meta(kind.__name__, bases, own)


def _reduce(self, protocol):
    """For copy and pickle, which cannot find the class by its name."""
    _, _, *state = object.__reduce_ex__(self, max(protocol, 2))
    return _empty, type(self)._remake, *state


def _empty(remake, *arguments):
    kind = remake(*arguments)
    return kind.__new__(kind)


def _refuse_script(self):
    raise RuntimeError(
        "torch.jit.script cannot compile a converted module: call s2s_kernels.revert(model) before it "
        "(torch.jit.trace takes it as it is)"
    )
