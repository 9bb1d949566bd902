"""s2s_kernels.weights against what the frameworks computed (recorded by ``make interop``); refusals; round trips."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from interop import case as recorded
from interop import compare
from torch import nn

import s2s_kernels as sk
from s2s_kernels import weights

RECORDED = [
    pytest.param(case, id=f"{path.stem}: {case.name}")
    for path in sorted(recorded.FIXTURES.glob("*.npz"))
    for case in recorded.load(path.stem)
]
I, H = recorded.I, recorded.H


@pytest.mark.parametrize("case", RECORDED)
def test_outputs_states_and_gradients_are_the_frameworks(case):
    outputs, gradients = compare.check(case)
    assert outputs <= compare.OUTPUTS
    assert gradients is not None and gradients <= compare.GRADIENTS


def test_every_source_is_recorded():
    assert {case.values[0].source for case in RECORDED} >= set(compare.SOURCES) - {
        "onnx"
    }  # tests/test_weights_onnx.py runs it


def randoms(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def keras(kind="GRU", **attributes):
    """A stand-in for a Keras layer; attributes of its cell are given as cell_<name>."""
    gates = 3 if kind == "GRU" else 4
    cell = {
        "class": f"{kind}Cell",
        "name": "cell",
        "use_bias": True,
        "activation": "tanh",
        "recurrent_activation": "sigmoid",
        "reset_after": True,
    }
    cell |= {name.removeprefix("cell_"): x for name, x in attributes.items() if name.startswith("cell_")}
    layer = {"class": kind, "name": "encoder", "go_backwards": False, "stateful": False}
    layer |= {name: x for name, x in attributes.items() if not name.startswith("cell_")}
    arrays = {
        "cell.kernel": randoms(I, gates * H),
        "cell.recurrent_kernel": randoms(H, gates * H),
        "cell.bias": randoms(2, 3 * H) if kind == "GRU" and cell["reset_after"] else randoms(gates * H),
    }
    return compare.standin({**layer, "cell": cell}, arrays)


@pytest.mark.parametrize(
    "layer, message",
    [
        (keras(cell_activation="relu"), "cell' has activation '<lambda>', expected 'tanh'"),
        (keras(cell_recurrent_activation="tanh"), "cell' has recurrent_activation 'tanh', expected 'sigmoid'"),
        (keras(go_backwards=True), "GRU 'encoder' has go_backwards=True, expected False"),
        ([], "layer is empty"),
        ([keras(), keras("LSTM")], "layer 1 has a cell of kind ('lstm', 'after'), expected ('gru', 'after')"),
        ([keras(), keras(cell_reset_after=False)], "layer 1 has a cell of kind ('gru', 'before')"),
        ([keras(), keras()], "layer 1 has input size 4, expected 6"),
    ],
)
def test_what_keras_would_compute_otherwise_is_refused(layer, message):
    with pytest.raises(ValueError) as error:
        weights.keras_layer(layer)
    assert message in str(error.value)


def test_a_keras_layer_that_is_not_built_is_refused():
    layer = keras()
    del layer.cell.kernel
    with pytest.raises(ValueError, match="no weights yet"):
        weights.keras_layer(layer)


@pytest.mark.parametrize("layer", [nn.GRU(2, 3), SimpleNamespace(cell=SimpleNamespace())])
def test_no_keras_layer_is_a_type_error(layer):
    with pytest.raises(TypeError, match="expected"):
        weights.keras_layer(layer)


def test_what_is_not_carried_over_is_said():
    layer = keras(stateful=True, cell_dropout=0.2)
    with pytest.warns(UserWarning) as said:
        weights.keras_layer(layer)
    assert [str(w.message) for w in said] == [
        "GRU 'encoder' is stateful; here the states are handed on by the caller",
        "GRUCell 'cell' has dropout=0.2, which is not carried over",
    ]


def test_a_keras_layer_without_bias_has_none():
    gru = weights.keras_layer(keras(cell_use_bias=False))
    assert gru.bias is False and not hasattr(gru, "bias_ih_l0")


@pytest.mark.parametrize("kind, type_", [("GRU", sk.nn.GRUCell), ("LSTM", sk.nn.LSTMCell)])
def test_a_keras_cell_is_a_cell(kind, type_):
    layer = keras(kind)
    cell, rnn = weights.keras_layer(layer.cell), weights.keras_layer(layer)
    assert type(cell) is type_
    x = torch.randn(2, 1, I)
    found = cell(x[:, 0])
    torch.testing.assert_close(found if kind == "GRU" else found[0], rnn(x)[0][:, 0])


# Out and in again.


def same_bits(one, other):
    for name, x in other.state_dict().items():
        assert torch.equal(one.state_dict()[name], x), name


def of_one_bias(module):
    """As a source with one bias gives it: the second is zero, but for a GRU's n within the reset."""
    with torch.no_grad():
        for name, x in module.named_parameters():
            if name.startswith("bias_hh"):
                x[: 2 * module.hidden_size if isinstance(module, nn.GRU) else None] = 0
    return module


MODULES = {
    "gru": lambda: sk.nn.GRU(I, H, 2, batch_first=True),
    "bidirectional lstm": lambda: of_one_bias(sk.nn.LSTM(I, H, 2, batch_first=True, bidirectional=True)),
    "gru without bias": lambda: sk.nn.GRU(I, H, bias=False, batch_first=True),
    "float64": lambda: of_one_bias(sk.nn.LSTM(I, H, batch_first=True)).double(),
}


@pytest.mark.parametrize("name", MODULES)
def test_to_keras_and_back_to_the_bit(name):
    module = MODULES[name]()
    gates = 3 if isinstance(module, nn.GRU) else 4
    layers = []
    for arrays in weights.to_keras(module):
        directions, size = 2 if module.bidirectional else 1, 3 if module.bias else 2
        parts = []
        for d in range(directions):
            kernel, recurrent, *bias = arrays[d * size : (d + 1) * size]
            assert recurrent.shape == (H, gates * H)
            part = keras("GRU" if gates == 3 else "LSTM", cell_use_bias=bool(bias), go_backwards=d == 1)
            part.cell.kernel, part.cell.recurrent_kernel, part.cell.bias = kernel, recurrent, bias[0] if bias else None
            parts.append(part)
        both = SimpleNamespace(merge_mode="concat", forward_layer=parts[0], backward_layer=parts[-1])
        layers.append(both if directions == 2 else parts[0])
    same_bits(weights.keras_layer(layers), module)


@pytest.mark.parametrize("name", MODULES)
def test_to_flax_and_back_to_the_bit(name):
    module = MODULES[name]()
    if isinstance(module, nn.GRU) and module.bias:
        of_one_bias(module)
    trees = weights.to_flax(module)
    if module.bias:
        same_bits(weights.flax_layer(trees), module)
    else:  # Flax has no cell without bias
        x = torch.randn(2, 3, I)
        assert torch.equal(weights.flax_layer(trees)(x)[0], module(x)[0])
    copied = weights.to_flax(weights.flax_layer(copy.deepcopy(trees)))
    assert str(copied) == str(trees)


def test_two_biases_become_one_with_the_same_numbers():
    lstm, x = sk.nn.LSTM(I, H, batch_first=True), torch.randn(2, 3, I)
    torch.testing.assert_close(weights.flax_layer(weights.to_flax(lstm))(x)[0], lstm(x)[0])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: weights.to_flax(sk.nn.ResetBeforeGRU(2, 3)), "resets before its product, expected after"),
        (lambda: weights.to_keras(nn.LSTM(2, 3, proj_size=2)), "module has proj_size 2, expected 0"),
    ],
)
def test_what_has_no_form_there_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_another_module_is_a_type_error():
    with pytest.raises(TypeError, match="module is a RNN, expected a GRU"):
        weights.to_keras(nn.RNN(2, 3))


# Arrays and files.


class Foreign:
    """As JAX's and MLX' arrays: no numpy array, but numpy can read it."""

    def __init__(self, x):
        self.x = x

    def __array__(self, dtype=None, copy=None):
        return self.x


def test_arrays_of_other_libraries_and_bfloat16():
    import ml_dtypes

    tree = {
        n: Foreign(randoms(*s)) for n, s in [("Wx", (3 * H, I)), ("Wh", (3 * H, H)), ("b", (3 * H,)), ("bhn", (H,))]
    }
    gru = weights.mlx_layer(tree)
    assert torch.equal(gru.weight_ih_l0, torch.from_numpy(tree["Wx"].x))
    half = weights.mlx_layer({n: x.x.astype(ml_dtypes.bfloat16) for n, x in tree.items()})
    assert half.weight_ih_l0.dtype == torch.bfloat16
    assert torch.equal(half.weight_ih_l0, gru.weight_ih_l0.bfloat16())


@pytest.mark.parametrize(
    "change, message",
    [
        ({"Wh": randoms(5 * H, H)}, r"Wh has shape \(30, 6\), expected \(3H, H\)"),
        ({"Wx": randoms(2 * H, I)}, r"Wx has shape \(12, 4\), expected \(18, any\)"),
        ({"bhn": randoms(2 * H)}, r"bhn has shape \(12,\), expected \(6,\)"),
    ],
)
def test_wrong_shapes_are_named(change, message):
    tree = {"Wx": randoms(3 * H, I), "Wh": randoms(3 * H, H), "b": randoms(3 * H), "bhn": randoms(H)}
    with pytest.raises(ValueError, match=message):
        weights.mlx_layer({**tree, **change})


def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="Wh has dtype int64, expected a floating one"):
        weights.mlx_layer({"Wx": randoms(3 * H, I), "Wh": np.ones((3 * H, H), dtype=np.int64)})


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_files_and_their_parts(tmp_path, suffix):
    arrays = {n: randoms(*s) for n, s in [("Wx", (3 * H, I)), ("Wh", (3 * H, H)), ("b", (3 * H,)), ("bhn", (H,))]}
    named, path = {f"net.rnn.{n}": x for n, x in arrays.items()} | {"other": randoms(2)}, tmp_path / f"file{suffix}"
    if suffix == ".npz":
        np.savez(path, **named)
    elif suffix == ".pt":
        torch.save({n: torch.from_numpy(x) for n, x in named.items()}, path)
    else:
        from safetensors.numpy import save_file

        save_file(named, path)
    same_bits(weights.mlx_layer(path, prefix="net.rnn"), weights.mlx_layer(arrays))
    with pytest.raises(ValueError, match="prefix is 'rnn', expected one of the names in the source: net"):
        weights.mlx_layer(path, prefix="rnn")


class Harm:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_no_pickle_is_executed_and_damage_is_a_sentence(tmp_path, suffix, capsys):
    path = tmp_path / f"file{suffix}"
    if suffix == ".npz":
        np.savez(path, a=np.array([Harm()], dtype=object))
    else:
        torch.save({"a": Harm()}, path)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"file{suffix} cannot be read") as error:
            weights.mlx_layer(path)
        assert "\n" not in str(error.value)
        path.write_bytes(b"damaged" * 9)
    assert capsys.readouterr().out == ""


def test_a_reset_before_gru_is_traced_as_what_it_is():
    gru, x = sk.nn.ResetBeforeGRU(I, H, batch_first=True), torch.randn(2, 5, I)
    expected = gru(x)[0]
    assert not torch.allclose(nn.GRU.forward(gru, x)[0], expected)
    torch.testing.assert_close(torch.jit.trace(gru, (x,))(x)[0], expected)
