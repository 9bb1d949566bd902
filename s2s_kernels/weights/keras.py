"""Keras 3 (and 2): GRU, LSTM, their cells, RNN([cells]) and Bidirectional, read from the layer itself; and back.

Keras orders a GRU's gates z, r, h and an LSTM's i, f, c, o, and multiplies from the right: kernels are (I, G*H). Its
GRU has two biases, (2, 3H), with ``reset_after=True``, the default, and one without.

What stays different: after a mask Keras repeats the last valid output where ``lengths`` gives zeros (the states are
the same), and where Keras has one bias torch.nn has two, which both train.
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from .layout import (
    Cell,
    array,
    both_biases,
    cell_module,
    cells_of,
    one_bias,
    reorder,
    sequence_module,
    state_dict,
    tensor,
)

_ORDER = (1, 0, 2)  # of z, r, h to r, z, n, and back


def keras_gru(kernel: Any, recurrent_kernel: Any, bias: Any = None, *, suffix: str = "") -> dict[str, Tensor]:
    """The state_dict of a GRU or GRUCell from ``layer.get_weights()``, differentiable in tensors.

    Args:
        kernel: (I, 3H); recurrent_kernel: (H, 3H).
        bias: (2, 3H) with ``reset_after=True``, for a GRU that resets after its product, as torch.nn's; (3H,) with
            ``reset_after=False``, for ``s2s_kernels.nn.ResetBeforeGRU``; None without: the biases are zeros then.
        suffix: "_l0" names them for the first layer of a sequence.
    """
    cell = _gru(kernel, recurrent_kernel, bias)
    return state_dict(_with_bias(cell), suffix)


def keras_lstm(kernel: Any, recurrent_kernel: Any, bias: Any = None, *, suffix: str = "") -> dict[str, Tensor]:
    """The state_dict of an LSTM or LSTMCell from ``layer.get_weights()``: kernel (I, 4H), recurrent_kernel (H, 4H),
    bias (4H,) or None, for which the biases are zeros."""
    return state_dict(_with_bias(_lstm(kernel, recurrent_kernel, bias)), suffix)


def _with_bias(cell):
    return cell if cell.bias_ih is not None else cell._replace(bias_ih=cell.weight_hh.new_zeros(len(cell.weight_hh)))


def _matrices(kernel, recurrent_kernel, gates):
    recurrent = tensor("recurrent_kernel", recurrent_kernel, None, None)
    size = recurrent.shape[0]
    tensor("recurrent_kernel", recurrent, size, gates * size)
    return tensor("kernel", kernel, None, gates * size), recurrent, size


def _gru(kernel, recurrent_kernel, bias, reset_after=None):
    """``reset_after`` None: by the bias, if there is one."""
    kernel, recurrent, size = _matrices(kernel, recurrent_kernel, 3)
    biases = (None, None)
    if bias is not None:
        single = len(bias.shape) == 1 if reset_after is None else not reset_after
        bias = tensor("bias", bias, *((3 * size,) if single else (2, 3 * size)))
        biases = (bias, None) if single else bias.unbind(0)
        reset_after = not single
    weights = (reorder(kernel, _ORDER).T, reorder(recurrent, _ORDER).T)
    biases = (None if b is None else reorder(b, _ORDER) for b in biases)
    return Cell("gru", *weights, *biases, "before" if reset_after is False else "after")


def _lstm(kernel, recurrent_kernel, bias):
    kernel, recurrent, size = _matrices(kernel, recurrent_kernel, 4)
    return Cell("lstm", kernel.T, recurrent.T, None if bias is None else tensor("bias", bias, 4 * size), None)


def keras_layer(layer: Any) -> nn.Module:
    """Our module for a Keras layer, with its weights.

    >>> gru = sk.weights.keras_layer(model.get_layer("encoder"))
    >>> output, h_n = gru(x)  # batch first, as Keras; always the whole sequence and the last states

    Args:
        layer: a built GRU, LSTM, GRUCell, LSTMCell, RNN of such a cell or of several, or a Bidirectional that
            concatenates; or a list of such layers, one above the other, which become one module.

    Returns:
        ``s2s_kernels.nn.GRU``, ``LSTM`` or, with ``reset_after=False``, ``ResetBeforeGRU``; for a cell the cell.

    Raises:
        TypeError: another layer.
        ValueError: what ours would compute otherwise: other activations, ``go_backwards``, another ``merge_mode``,
            a Bidirectional around several cells, layers of different widths.
    """
    return cell_module(_cell(layer)) if _is_cell(layer) else sequence_module(cells(layer))


def cells(layer: Any) -> list[list[Cell]]:
    """Those of ``keras_layer``'s sequences, differentiable where the layer holds tensors."""
    if not isinstance(layer, (list, tuple)):
        return _layers(layer)
    if not layer:
        raise ValueError("layer is empty, expected Keras layers")
    return [directions for one in layer for directions in _layers(one)]


def _name(layer):
    return f"{type(layer).__name__} {getattr(layer, 'name', '')!r}"


def _is_cell(layer):
    return type(layer).__name__ in ("GRUCell", "LSTMCell")


def _layers(layer, backwards=False):
    """[[Cell of each direction]] of a layer."""
    if hasattr(layer, "forward_layer") and hasattr(layer, "backward_layer"):
        if layer.merge_mode != "concat":
            raise ValueError(f"{_name(layer)} has merge_mode {layer.merge_mode!r}, expected 'concat'")
        forward, backward = _layers(layer.forward_layer), _layers(layer.backward_layer, backwards=True)
        if len(forward) > 1:
            raise ValueError(
                f"{_name(layer)} runs {len(forward)} cells in each direction, expected one: torch.nn's layers see both "
                "directions of the layer below"
            )
        return [[forward[0][0], backward[0][0]]]
    if getattr(layer, "go_backwards", False) != backwards:
        raise ValueError(
            f"{_name(layer)} has go_backwards={layer.go_backwards}, expected {backwards}: only the backward layer of a "
            "Bidirectional runs backwards here"
        )
    if getattr(layer, "stateful", False):
        warnings.warn(f"{_name(layer)} is stateful; here the states are handed on by the caller", stacklevel=4)
    cell = getattr(layer, "cell", None)
    if cell is None:
        raise TypeError(
            f"layer is a {type(layer).__name__}, expected a Keras GRU, LSTM, GRUCell, LSTMCell, RNN or Bidirectional"
        )
    return [[_cell(one)] for one in getattr(cell, "cells", [cell])]


def _cell(cell):
    if not _is_cell(cell):
        raise TypeError(f"{_name(cell)} is a {type(cell).__name__}, expected a GRUCell or LSTMCell of Keras")
    if not hasattr(cell, "kernel"):
        raise ValueError(f"{_name(cell)} has no weights yet, expected a layer that is built: call it once")
    _check_function(cell, "activation", torch.tanh)
    _check_function(cell, "recurrent_activation", torch.sigmoid)
    for name in ("dropout", "recurrent_dropout"):
        if getattr(cell, name, 0):
            warnings.warn(f"{_name(cell)} has {name}={getattr(cell, name)}, which is not carried over", stacklevel=5)
    weights = (cell.kernel, cell.recurrent_kernel, cell.bias if cell.use_bias else None)
    return _gru(*weights, cell.reset_after) if type(cell).__name__ == "GRUCell" else _lstm(*weights)


def _check_function(cell, name, expected):
    """By what the function computes: there are many names for one, and a user may have made his own."""
    import numpy as np

    function, x = getattr(cell, name), np.linspace(-4, 4, 17, dtype=np.float32)
    found = tensor(name, function(x), 17)
    if not torch.allclose(found, expected(torch.from_numpy(x)).to(found.dtype), rtol=0, atol=1e-6):
        raise ValueError(
            f"{_name(cell)} has {name} {getattr(function, '__name__', function)!r}, expected {expected.__name__!r}"
        )


def to_keras(module: nn.Module) -> list[list]:
    """The weights of a GRU, LSTM or cell for Keras, one list for each layer, each for ``set_weights`` of a GRU or
    LSTM, with two directions of a Bidirectional: kernel, recurrent_kernel and bias, of forward and then backward.

    >>> for layer, weights in zip(keras_layers, sk.weights.to_keras(lstm)):
    ...     layer.set_weights(weights)

    What ``keras_layer`` read comes back to the bit. A ``ResetBeforeGRU`` needs ``reset_after=False``, others True. A
    form with one bias gets the sum of the two.
    """
    return [[x for cell in layer for x in _arrays(cell)] for layer in cells_of(module)]


def _arrays(cell):
    order = _ORDER if cell.kind == "gru" else range(4)
    if cell.kind == "gru" and cell.reset == "after":
        bias = None if cell.bias_ih is None else torch.stack(both_biases(cell))
    else:
        bias = one_bias(cell)
    tensors = (cell.weight_ih.T, cell.weight_hh.T, bias)
    return [array(reorder(x, order)) for x in tensors if x is not None]
