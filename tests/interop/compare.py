"""A case against our module: outputs, last states and, in the framework's own coordinates, gradients."""

from types import SimpleNamespace

import numpy as np
import onnx
import torch
from torch.func import functional_call

from s2s_kernels import weights
from s2s_kernels.weights import flashrnn, haste, jax_trees, keras, layout, mlx, paddle, tf1

from .case import cotangent

OUTPUTS, GRADIENTS = 2e-6, 1e-5  # relative to the largest element: float32 on both sides, summed in another order


def nested(values, split="."):
    """{"a.b": x} as {"a": {"b": x}}; where all keys of a level are numbers it is a list, "0/f" and "0/b" a pair."""
    tree = {}
    for name, value in values.items():
        *path, last = name.split(split)
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return _lists(tree)


def _lists(tree):
    if not isinstance(tree, dict):
        return tree
    tree = {name: _lists(value) for name, value in tree.items()}
    if set(tree) == {"forward", "backward"}:
        return (tree["forward"], tree["backward"])
    if tree and all(name.isdigit() for name in tree):
        return [tree[name] for name in sorted(tree, key=int)]
    return tree


# Keras' layers are objects: stand-ins that have what the reader looks at.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {"tanh": np.tanh, "sigmoid": sigmoid, "relu": lambda x: np.maximum(x, 0)}


def standin(meta, arrays, prefix=""):
    """``meta``: {"class", "name", attributes, and the layers within it by the name of their attribute}."""
    layer = type(meta["class"], (SimpleNamespace,), {})()
    for name, value in meta.items():
        if isinstance(value, dict):
            value = standin(value, arrays, f"{prefix}{name}.")
        elif isinstance(value, list):
            value = [standin(one, arrays, f"{prefix}{name}.{i}.") for i, one in enumerate(value)]
        elif name.endswith("activation"):
            value = FUNCTIONS[value]
        setattr(layer, name, value)
    for name, value in arrays.items():
        if name.startswith(prefix) and "." not in name[len(prefix) :]:
            setattr(layer, name[len(prefix) :], value)
    return layer


def _keras(arrays, meta):
    return [standin(one, arrays, f"{i}.") for i, one in enumerate(meta["layers"])]


def _flashrnn(arrays, meta):
    return (*(arrays.get(name) for name in ("recurrent", "bias", "weight_ih", "bias_ih")), meta["function"])


def _tf1(arrays, meta):
    made = (tf1.tf1_gru if meta["cell"] == "gru" else tf1.tf1_lstm)(**arrays)
    reset = "before" if meta["cell"] == "gru" else "after"
    return [[layout.Cell(meta["cell"], *(made[name] for name in layout.NAMES), reset)]]


# By source: the public function on arrays, and the cells of it, differentiable.
SOURCES = {
    "keras": (
        lambda arrays, meta: weights.keras_layer(_keras(arrays, meta)),
        lambda arrays, meta: keras.cells(_keras(arrays, meta)),
    ),
    "flax": (
        lambda arrays, meta: weights.flax_layer(nested(arrays)),
        lambda arrays, meta: jax_trees.flax_cells(nested(arrays)),
    ),
    "haiku": (
        lambda arrays, meta: weights.haiku_layer(nested(arrays)),
        lambda arrays, meta: jax_trees.cells(nested(arrays), jax_trees.haiku_cell),
    ),
    "equinox": (
        lambda arrays, meta: weights.equinox_layer(nested(arrays)),
        lambda arrays, meta: jax_trees.cells(nested(arrays), jax_trees.equinox_cell),
    ),
    "mlx": (
        lambda arrays, meta: weights.mlx_layer(nested(arrays)),
        lambda arrays, meta: mlx.cells(nested(arrays)),
    ),
    "paddle": (lambda arrays, meta: weights.paddle_layer(arrays), lambda arrays, meta: paddle.cells(arrays)),
    "flashrnn": (
        lambda arrays, meta: weights.flashrnn_layer(*_flashrnn(arrays, meta)[:-1], function=meta["function"]),
        lambda arrays, meta: flashrnn.cells(*_flashrnn(arrays, meta)),
    ),
    "haste": (
        lambda arrays, meta: weights.haste_layer(nested(arrays)),
        lambda arrays, meta: haste.cells(nested(arrays)),
    ),
    "onnx": (lambda arrays, meta: weights.onnx_layer(onnx.load_from_string(arrays["model"].tobytes())), None),
    "tf1": (lambda arrays, meta: layout.sequence_module(_tf1(arrays, meta)), _tf1),
}


def flat_states(states):
    return list(states) if isinstance(states, tuple) else [states]


def difference(found, expected):
    """The largest, relative to the largest element, or to 1 where that is less."""
    expected = torch.from_numpy(np.array(expected))
    if found.shape != expected.shape:
        raise ValueError(f"shape {tuple(found.shape)}, not {tuple(expected.shape)}")
    found, expected = found.detach().double(), expected.double()
    return ((found - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def outputs(case, module):
    """The largest difference of the output and the last states."""
    with torch.no_grad():
        output, states = module(torch.from_numpy(case.x.copy()))
    pairs = [(output, case.output), *zip(flat_states(states), case.states, strict=True)]
    return max(difference(found, expected) for found, expected in pairs)


def gradients(case, module):
    """The largest difference of the framework's gradients and ours, carried back through the conversion."""
    if not case.gradients:
        return None
    leaves = {name: torch.from_numpy(x.copy()).requires_grad_() for name, x in case.weights.items()}
    x = torch.from_numpy(case.x.copy()).requires_grad_()
    state = {}
    for i, layer in enumerate(SOURCES[case.source][1](leaves, case.meta)):
        for cell, direction in zip(layer, ("", "_reverse")):
            state |= layout.state_dict(cell, f"_l{i}{direction}")
    output, _ = functional_call(module, state, (x,))
    names = [name for name in case.gradients if name != "x"]
    loss = (output * torch.from_numpy(cotangent(case.output))).sum()
    found = torch.autograd.grad(loss, [x, *(leaves[name] for name in names)], allow_unused=True)
    expected = [case.gradients["x"], *(case.gradients[name] for name in names)]
    return max(difference(one, other) for one, other in zip(found, expected, strict=True) if one is not None)


def check(case):
    """(difference of outputs, of gradients or None); a module of the framework's own object is compared too."""
    module = SOURCES[case.source][0](case.weights, case.meta)
    found = outputs(case, module)
    if case.real is not None:
        found = max(found, outputs(case, case.real))
    return found, gradients(case, module)
