"""Cells of JAX: Flax linen and nnx, Haiku, Equinox, from their parameters as nested dictionaries of arrays; and back.

No JAX is needed: ``jax.device_get(params)`` gives numpy arrays, and JAX's own are taken too. Where a tree says nothing
of the activations, they are taken to be sigmoid and tanh.

- Flax: one Dense a gate; only a GRU's n has a recurrent bias.
- Haiku: its GRU resets before the product and weighs the **candidate** with z, not the old state, so z changes its
  sign here; its LSTM is ordered i, g, f, o and adds 1 to f when it runs.
- Equinox: torch.nn's order, one bias, and bias_n within the reset.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from .layout import Cell, array, cell_module, cells_of, one_bias, reorder, require, sequence_module, tensor

_FLAX = {"gru": ("r", "z", "n"), "lstm": ("i", "f", "g", "o")}


def cells(trees: Any, read: Callable[[Any], Cell]) -> list[list[Cell]]:
    """Of one tree; of a list, a layer each; of a pair (forward, backward) in a layer, both directions."""
    layers = trees if isinstance(trees, list) else [trees]
    if not layers:
        raise ValueError("tree is an empty list, expected a tree for each layer")
    return [[read(one) for one in (x if isinstance(x, tuple) else (x,))] for x in layers]


def _module(trees, read, as_cell):
    return cell_module(read(trees)) if as_cell else sequence_module(cells(trees, read))


def _leaf(tree, *path):
    """The array there, out of a Param, a Variable or a dictionary {"value": ...}."""
    for name in path:
        tree = _get(tree, name)
        if tree is None:
            return None
    if isinstance(tree, Mapping) and set(tree) == {"value"}:
        return tree["value"]
    return tree


def _get(tree, name):
    return tree.get(name) if isinstance(tree, Mapping) else getattr(tree, name, None)


def _unwrapped(tree, has):
    """The first tree within ``tree`` that has one of the names ``has``."""
    while isinstance(tree, Mapping) and not any(name in tree for name in has):
        inner = [name for name in tree if isinstance(tree[name], Mapping)]
        if len(inner) != 1:
            raise ValueError(
                f"tree holds {', '.join(sorted(map(str, tree))) or 'nothing'}, expected the parameters of one cell"
            )
        tree = tree[inner[0]]
    return tree


def flax_layer(tree: Any, *, as_cell: bool = False) -> nn.Module:
    """Our module for a Flax cell, linen or nnx: GRUCell, LSTMCell, OptimizedLSTMCell.

    Args:
        tree: ``variables["params"]`` of linen, ``nnx.to_pure_dict(nnx.state(cell))`` of nnx, those of an RNN around
            the cell, or of a Bidirectional (its ``merge_fn`` must be the default, which concatenates); or a list, one
            layer each, in which a pair is (forward, backward).
        as_cell: return a cell instead of a sequence.

    Raises:
        ValueError: another cell, such as MGUCell, or shapes that do not fit.
    """
    return cell_module(flax_cell(tree)) if as_cell else sequence_module(flax_cells(tree))


def flax_cells(tree: Any) -> list[list[Cell]]:
    return cells(_bidirectional(tree) if isinstance(tree, Mapping) else tree, flax_cell)


def _bidirectional(tree):
    names = [name for name in ("forward_rnn", "backward_rnn") if name in tree]
    if len(names) == 2:
        return [(tree["forward_rnn"], tree["backward_rnn"])]
    if len(tree) == 1 and isinstance(inner := next(iter(tree.values())), Mapping) and "forward_rnn" in inner:
        return _bidirectional(inner)
    return tree


def flax_cell(tree: Any) -> Cell:
    tree = _unwrapped(tree, ("ir", "hr", "ii", "hi", "dense_i", "dense_h", "hn", "ih", "i"))
    if _get(tree, "dense_i") is not None:
        return _nnx_dense(tree)
    if _get(tree, "if_") is not None:
        tree = {**tree, "if": tree["if_"]}  # nnx, whose attributes may not be Python's words
    kinds = [kind for kind, gates in _FLAX.items() if all(_leaf(tree, f"h{g}", "kernel") is not None for g in gates)]
    if not kinds:
        raise ValueError(f"tree holds {', '.join(sorted(tree))}, expected the parts of Flax' GRUCell or LSTMCell")
    kind, gates = kinds[0], _FLAX[kinds[0]]
    size = tensor("kernel", _leaf(tree, "h" + gates[0], "kernel"), None, None).shape[0]
    weights = []
    for side in "ih":
        kernels = [
            tensor(f"{side}{gate}.kernel", _leaf(tree, side + gate, "kernel"), size if side == "h" else None, size)
            for gate in gates
        ]
        weights.append(torch.cat(kernels, 1).T)
    biases = []
    for side in "ih":
        found = [_leaf(tree, side + gate, "bias") for gate in gates]
        if all(bias is None for bias in found):
            biases.append(None)
            continue
        zeros = weights[0].new_zeros(size)
        biases.append(
            torch.cat([zeros if b is None else tensor(f"{side}{g}.bias", b, size) for g, b in zip(gates, found)])
        )
    return Cell(kind, *weights, *_first(biases))


def _first(biases):
    """An LSTM's one bias, which Flax has on the side of the state, in the place where every source's one bias is."""
    return biases if biases[0] is not None else (biases[1], None)


def _nnx_dense(tree):
    """nnx' GRUCell and OptimizedLSTMCell: one Linear for all gates of the input, one for those of the state; the
    GRU's bias is the input's, the LSTM's is the state's."""
    recurrent = tensor("dense_h.kernel", _leaf(tree, "dense_h", "kernel"), None, None)
    size = recurrent.shape[0]
    kind = {3 * size: "gru", 4 * size: "lstm"}.get(recurrent.shape[1])
    if kind is None:
        raise ValueError(
            f"dense_h.kernel has shape {tuple(recurrent.shape)}, expected (H, 3H) of a GRU or (H, 4H) of an LSTM"
        )
    width = recurrent.shape[1]
    kernel = tensor("dense_i.kernel", _leaf(tree, "dense_i", "kernel"), None, width)
    biases = [_leaf(tree, name, "bias") for name in ("dense_i", "dense_h")]
    biases = [None if b is None else tensor("bias", b, width) for b in biases]
    return Cell(kind, kernel.T, recurrent.T, *_first(biases))


def haiku_layer(tree: Any, *, as_cell: bool = False) -> nn.Module:
    """Our module for Haiku's GRU or LSTM: ``ResetBeforeGRU`` or ``LSTM``.

    Args:
        tree: the parameters {"gru": {"w_i", "w_h", "b"}} or {"lstm/linear": {"w", "b"}}, or the inner dictionary; a
            list of such trees, one layer each, in which a pair is (forward, backward).
        as_cell: return a cell instead of a sequence.
    """
    return _module(tree, haiku_cell, as_cell)


def haiku_cell(tree: Any) -> Cell:
    tree = _unwrapped(tree, ("w_i", "w"))
    if _get(tree, "w_i") is not None:
        recurrent = tensor("w_h", _get(tree, "w_h"), None, None)
        size = recurrent.shape[0]
        tensor("w_h", recurrent, size, 3 * size)
        blocks = (tensor("w_i", _get(tree, "w_i"), None, 3 * size), recurrent, tensor("b", _get(tree, "b"), 3 * size))
        # The old state's weight, 1 - sigmoid(z), is sigmoid(-z).
        kernel, recurrent, bias = (torch.cat([r, -z, a], -1) for z, r, a in (block.chunk(3, -1) for block in blocks))
        return Cell("gru", kernel.T, recurrent.T, bias, None, "before")
    bias = tensor("b", _get(tree, "b"), None)
    size = bias.shape[0] // 4
    kernel = tensor("w", _get(tree, "w"), None, 4 * size)
    i, g, f, o = bias.chunk(4)
    weights = reorder(kernel, (0, 2, 1, 3)).T.split([kernel.shape[0] - size, size], 1)
    return Cell("lstm", *weights, torch.cat([i, f + 1, g, o]), None)


def equinox_layer(module: Any, *, as_cell: bool = False) -> nn.Module:
    """Our module for Equinox' GRUCell or LSTMCell.

    Args:
        module: the cell itself, or its arrays by name; a list of them, one layer each, in which a pair is (forward,
            backward).
        as_cell: return a cell instead of a sequence.
    """
    return _module(module, equinox_cell, as_cell)


def equinox_cell(module: Any) -> Cell:
    recurrent = tensor("weight_hh", _get(module, "weight_hh"), None, None)
    size = recurrent.shape[1]
    kind = {3 * size: "gru", 4 * size: "lstm"}.get(recurrent.shape[0])
    if kind is None:
        raise ValueError(f"weight_hh has shape {tuple(recurrent.shape)}, expected (3H, H) or (4H, H)")
    kernel = tensor("weight_ih", _get(module, "weight_ih"), recurrent.shape[0], None)
    bias, bias_n = _get(module, "bias"), _get(module, "bias_n")
    bias = None if bias is None else tensor("bias", bias, recurrent.shape[0])
    if bias_n is not None:
        bias_n = tensor("bias_n", bias_n, size)
        bias_n = torch.cat([bias_n.new_zeros(2 * size), bias_n])
    return Cell(kind, kernel, recurrent, bias, bias_n)


def to_flax(module: nn.Module) -> list[Any]:
    """The weights of a GRU, LSTM or cell as the parameters of linen's GRUCell or LSTMCell (OptimizedLSTMCell), one
    tree for each layer; with two directions a pair of trees.

    What ``flax_layer`` read comes back to the bit. Flax has one bias a gate, for a GRU's n two: others are added.

    Raises ValueError for a ``ResetBeforeGRU``, which Flax has not.
    """
    trees = [tuple(_flax_tree(cell) for cell in layer) for layer in cells_of(module)]
    return [tree if len(tree) == 2 else tree[0] for tree in trees]


def _flax_tree(cell):
    require(cell, "Flax", reset="after")
    gates, size = _FLAX[cell.kind], cell.sizes[1]
    tree = {}
    for side, weight in zip("ih", (cell.weight_ih, cell.weight_hh)):
        for gate, block in zip(gates, weight.split(size)):
            tree[side + gate] = {"kernel": array(block.T)}
    if cell.kind == "lstm":  # the recurrent side has the bias
        bias = one_bias(cell)
        bias = bias if bias is not None else cell.weight_hh.new_zeros(4 * size)
        for gate, block in zip(gates, bias.split(size)):
            tree["h" + gate]["bias"] = array(block)
        return tree
    zeros = cell.weight_hh.new_zeros(3 * size)
    bias_ih, bias_hh = (zeros if b is None else b for b in (cell.bias_ih, cell.bias_hh))
    sums, separate = (bias_ih + bias_hh).split(size), (bias_ih.split(size)[2], bias_hh.split(size)[2])
    for gate, block in zip(gates, (*sums[:2], separate[0])):
        tree["i" + gate]["bias"] = array(block)
    tree["hn"]["bias"] = array(separate[1])
    return tree
