"""A model's weights in 8 bits, made once for all its searches."""

from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

import s2s_kernels as sk
from s2s_kernels.quantize import MATRIX_ARGUMENTS, QuantizedWeights, named_matrices

_packed: WeakKeyDictionary[nn.Module, tuple[Any, QuantizedWeights]] = WeakKeyDictionary()


def matrices(weights: dict[str, Any]) -> dict[str, Any]:
    """Of the arguments of a search those that ``sk.quantize`` takes."""
    return {name: weights[name] for name in MATRIX_ARGUMENTS if weights.get(name) is not None}


def packed_weights(model: nn.Module, weights: dict[str, Any]) -> QuantizedWeights:
    """``weights`` are the model's arguments of a search; made again when one of its parameters has changed."""
    given = matrices(weights)
    key = [(name, *state(x)) for name, x in named_matrices(**given).items() if isinstance(x, nn.Parameter)]
    known = _packed.get(model)
    if known is None or known[0] != key:
        known = _packed[model] = key, sk.quantize(**given)
    return known[1]


def state(x: Tensor) -> tuple[int, int]:
    """What changes when a tensor's numbers do."""
    return x.data_ptr(), 0 if x.is_inference() else x._version
