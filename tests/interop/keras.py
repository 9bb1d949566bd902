"""Keras on JAX: GRU, LSTM, RNN of cells, Bidirectional; and what keras_layer refuses."""

import os

os.environ["KERAS_BACKEND"] = "jax"

import jax
import keras
import numpy as np

from s2s_kernels import weights

from .case import B, Case, H, I, T, cotangent, filled, inputs, random

PINS = [
    "keras==3.15.1",
    "absl-py==2.5.1",
    "h5py==3.16.0",
    "jax==0.10.2",
    "jaxlib==0.10.2",
    "namex==0.1.0",
    "opt_einsum==3.4.0",
    "optree==0.20.0",
    "scipy==1.17.1",
]

L = keras.layers


def about(layer):
    """What a stand-in needs, and the names of the layer's variables: {path: variable}."""
    kind = type(layer).__name__
    if kind == "Bidirectional":
        parts = {name: about(getattr(layer, name)) for name in ("forward_layer", "backward_layer")}
        meta = {"class": kind, "name": layer.name, "merge_mode": layer.merge_mode}
        meta |= {name: part for name, (part, _) in parts.items()}
        return meta, {f"{name}.{path}": x for name, (_, own) in parts.items() for path, x in own.items()}
    if kind == "StackedRNNCells":
        parts = [about(cell) for cell in layer.cells]
        variables = {f"cells.{i}.{path}": x for i, (_, own) in enumerate(parts) for path, x in own.items()}
        return {"class": kind, "name": layer.name, "cells": [part for part, _ in parts]}, variables
    if kind.endswith("Cell"):
        meta = {"class": kind, "name": layer.name, "use_bias": layer.use_bias}
        meta |= {name: getattr(layer, name).__name__ for name in ("activation", "recurrent_activation")}
        if kind == "GRUCell":
            meta["reset_after"] = layer.reset_after
        names = ("kernel", "recurrent_kernel", "bias") if layer.use_bias else ("kernel", "recurrent_kernel")
        return meta, {name: getattr(layer, name) for name in names}
    cell, own = about(layer.cell)
    meta = {"class": kind, "name": layer.name, "go_backwards": layer.go_backwards, "stateful": layer.stateful}
    return {**meta, "cell": cell}, {f"cell.{path}": x for path, x in own.items()}


def case(name, *layers, keep=False):
    x = inputs()
    model = keras.Sequential([keras.Input((T, I)), *layers])
    generator = random(len(name))
    for variable in model.trainable_variables:
        variable.assign(filled(variable.shape, generator))
    meta, variables = {"layers": []}, {}
    for i, layer in enumerate(layers):
        part, own = about(layer)
        meta["layers"].append(part)
        variables |= {f"{i}.{path}": value for path, value in own.items()}

    def run(values, x):
        return model.stateless_call(values, [v.value for v in model.non_trainable_variables], x)[0]

    values = [v.value for v in model.trainable_variables]
    output = np.asarray(run(values, x))
    weight = cotangent(output)
    found, dx = jax.grad(lambda values, x: (run(values, x) * weight).sum(), (0, 1))(values, x)
    by_variable = {v.path: g for v, g in zip(model.trainable_variables, found)}
    return Case(
        name,
        "keras",
        {path: np.asarray(v.value) for path, v in variables.items()},
        x,
        output,
        states(layers, x),
        meta,
        {"x": np.asarray(dx), **{path: np.asarray(by_variable[v.path]) for path, v in variables.items()}},
        weights.keras_layer(list(layers)),
        keep,
    )


def states(layers, x):
    """The last states: of each layer and direction, h (and c) together."""
    found = []
    for layer in layers:
        for one in (layer.forward_layer, layer.backward_layer) if hasattr(layer, "forward_layer") else (layer,):
            one.return_state = True
            _, *last = one(x)
            one.return_state = False
            flat = [s for group in last for s in (group if isinstance(group, (list, tuple)) else [group])]
            size = 2 if "LSTM" in (type(one).__name__ + str([type(c).__name__ for c in cells(one)])) else 1
            found += [[np.asarray(s) for s in flat[i : i + size]] for i in range(0, len(flat), size)]
        x = layer(x)
    return [np.stack(kind) for kind in zip(*found)]


def cells(layer):
    return getattr(layer.cell, "cells", [layer.cell])


def cases():
    def seq(**options):
        return dict(return_sequences=True, **options)

    yield case("GRU", L.GRU(H, **seq()), keep=True)
    yield case("GRU, reset before", L.GRU(H, **seq(reset_after=False)), keep=True)
    yield case("LSTM", L.LSTM(H, **seq()), keep=True)
    yield case("GRU without bias", L.GRU(H, **seq(use_bias=False)))
    yield case("GRU, reset before, without bias", L.GRU(H, **seq(use_bias=False, reset_after=False)), keep=True)
    yield case("LSTM without bias", L.LSTM(H, **seq(use_bias=False)))
    yield case("RNN of GRUCell", L.RNN(L.GRUCell(H), return_sequences=True))
    yield case("RNN of 2 LSTMCells", L.RNN([L.LSTMCell(H), L.LSTMCell(H)], return_sequences=True), keep=True)
    yield case(
        "RNN of 3 GRUCells, reset before",
        L.RNN([L.GRUCell(H, reset_after=False) for _ in range(3)], return_sequences=True),
    )
    yield case("Bidirectional GRU", L.Bidirectional(L.GRU(H, **seq())), keep=True)
    yield case("Bidirectional LSTM", L.Bidirectional(L.LSTM(H, **seq())))
    yield case("2 GRUs", L.GRU(H, **seq()), L.GRU(H, **seq()))
    yield case("2 Bidirectional LSTMs", L.Bidirectional(L.LSTM(H, **seq())), L.Bidirectional(L.LSTM(H, **seq())))


def refused(layer, says, shape=(B, T, I)):
    layer.build(shape)
    try:
        weights.keras_layer(layer)
    except ValueError as error:
        return "" if says in str(error) else f"says {error}"
    return "is not refused"


def back(layer):
    layer.build((B, T, I))
    generator = random(3)
    layer.set_weights([filled(w.shape, generator) for w in layer.get_weights()])
    (made,) = weights.to_keras(weights.keras_layer(layer))
    same = all(np.array_equal(a, b) for a, b in zip(made, layer.get_weights(), strict=True))
    layer.set_weights(made)
    return "" if same else "other bits"


def checks():
    backwards = L.Bidirectional(L.RNN([L.GRUCell(H), L.GRUCell(H)], return_sequences=True))
    for name, layer, says in [
        ("hard_sigmoid", L.GRU(H, recurrent_activation="hard_sigmoid"), "recurrent_activation 'hard_sigmoid'"),
        ("relu", L.LSTM(H, activation="relu"), "activation 'relu'"),
        ("go_backwards", L.GRU(H, go_backwards=True), "go_backwards=True"),
        ("merge_mode", L.Bidirectional(L.GRU(H), merge_mode="sum"), "merge_mode 'sum'"),
        ("two cells both ways", backwards, "runs 2 cells in each direction"),
        ("cells of two widths", L.RNN([L.GRUCell(H), L.GRUCell(H + 1)]), "hidden size 7, expected 6"),
    ]:
        yield f"{name} is refused", refused(layer, says)
    for name, layer in [
        ("GRU", L.GRU(H)),
        ("GRU, reset before", L.GRU(H, reset_after=False)),
        ("LSTM", L.LSTM(H)),
        ("GRU without bias", L.GRU(H, use_bias=False)),
        ("Bidirectional LSTM", L.Bidirectional(L.LSTM(H))),
    ]:
        yield f"to_keras: {name}, to the bit", back(layer)
