"""torch.compile refuses every instance of nn.GRU, nn.LSTM and nn.RNN, whose forward Dynamo cannot trace. The modules of
this package are such instances too, so that isinstance holds, but their forward is an op that it can trace: for them
alone, the refusal is lifted.

`torch._dynamo.config.allow_rnn` lifts it for all, and then unrolls the steps of the modules that are not ours. So the
flag is set only while Dynamo looks at one of ours. Where a future torch has moved what is patched here, these modules
break the graph, as torch.nn's do, and tests/test_compile.py fails.
"""

import importlib.abc
import importlib.util
import sys

_BUILDER = "torch._dynamo.variables.builder"
_ours = ()


def trace(*classes):
    """Lets torch.compile trace the modules of ``classes``. Imports nothing: torch._dynamo takes seconds."""
    global _ours
    _ours += classes
    if _BUILDER in sys.modules:
        _patch(sys.modules[_BUILDER])
    elif not any(isinstance(finder, _WhenImported) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WhenImported())


def _patch(builder):
    wrap = getattr(builder.VariableBuilder, "wrap_module", None)
    if wrap is None or hasattr(wrap, "refuses"):
        return

    def wrap_module(self, value):
        if not isinstance(value, _ours):
            return wrap(self, value)
        with builder.config.patch(allow_rnn=True):
            return wrap(self, value)

    wrap_module.refuses = wrap
    builder.VariableBuilder.wrap_module = wrap_module


class _WhenImported(importlib.abc.MetaPathFinder):
    """Patches the module right after its first import."""

    def find_spec(self, name, path=None, target=None):
        if name != _BUILDER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            _patch(module)

        spec.loader.exec_module = exec_module
        return spec
