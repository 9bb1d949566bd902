"""What every source is turned into: one ``Cell`` for each layer and direction, in torch.nn's layout; and modules of it.

Shapes: I input size, H hidden size, G gates (3 of a GRU: r, z, n; 4 of an LSTM: i, f, g, o).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import nn as fused

GATES = {"gru": 3, "lstm": 4}
NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Cell(NamedTuple):
    """The weights of one layer in one direction; both biases are None where the source has none."""

    kind: str  # "gru" or "lstm"
    weight_ih: Tensor  # (G*H, I)
    weight_hh: Tensor  # (G*H, H)
    bias_ih: Tensor | None  # (G*H,)
    bias_hh: Tensor | None  # (G*H,)
    reset: str = "after"  # a GRU's reset gate is applied after its recurrent product, or "before" it

    @property
    def sizes(self):
        return self.weight_ih.shape[1], self.weight_hh.shape[1]


def tensor(name: str, array: Any, *shape: int | None) -> Tensor:
    """``array`` as a tensor of that shape, None standing for any size; tensors stay what they are, gradients and all.

    Takes what numpy can read, among it JAX's, Keras', MLX' and Paddle's arrays, bfloat16 included.
    """
    made = array if isinstance(array, Tensor) else _copy(name, array)
    if not made.is_floating_point():
        raise TypeError(f"{name} has dtype {made.dtype}, expected a floating one")
    fits = made.dim() == len(shape) and all(want in (None, size) for want, size in zip(shape, made.shape))
    if not fits:
        expected = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{name} has shape {tuple(made.shape)}, expected ({expected}{',' if len(shape) == 1 else ''})")
    return made


def _copy(name, array):
    import numpy as np

    if callable(getattr(array, "numpy", None)):  # Keras' variables and Paddle's tensors, which may be on a device
        array = array.numpy()
    try:
        array = np.array(array)  # a copy: what JAX hands out may not be written to
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name} is a {type(array).__name__}, expected an array ({error})") from None
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype.kind != "f":
        raise TypeError(f"{name} has dtype {array.dtype}, expected a floating one")
    return torch.from_numpy(array)


def reorder(x: Tensor, order, dim: int = -1) -> Tensor:
    """The blocks of dimension ``dim`` in another order."""
    blocks = x.chunk(len(order), dim)
    return torch.cat([blocks[i] for i in order], dim)


def state_dict(cell: Cell, suffix: str = "") -> dict[str, Tensor]:
    """What a cell (suffix "") or a layer of a sequence ("_l0", "_l0_reverse") loads; without biases no keys of them."""
    values = zip(NAMES, (cell.weight_ih, cell.weight_hh, *both_biases(cell)))
    return {name + suffix: value for name, value in values if value is not None}


def both_biases(cell):
    bias_ih, bias_hh = cell.bias_ih, cell.bias_hh
    if bias_ih is None and bias_hh is None:
        return None, None
    return (
        torch.zeros_like(bias_hh) if bias_ih is None else bias_ih,
        torch.zeros_like(bias_ih) if bias_hh is None else bias_hh,
    )


def cell_module(cell: Cell) -> nn.Module:
    """A GRUCell, ResetBeforeGRUCell or LSTMCell of ``s2s_kernels.nn`` with these weights."""
    types = {"gru": fused.GRUCell if cell.reset == "after" else fused.ResetBeforeGRUCell, "lstm": fused.LSTMCell}
    made = types[cell.kind](*cell.sizes, bias=_has_bias(cell), dtype=cell.weight_ih.dtype)
    made.load_state_dict(_checked(cell, ""))
    return made


def sequence_module(layers: list[list[Cell]]) -> nn.Module:
    """A batch-first GRU, ResetBeforeGRU or LSTM of ``s2s_kernels.nn``: for each layer its one or two directions.

    Raises ValueError where no such module is what the layers are.
    """
    first = layers[0][0]
    size, directions = first.sizes[1], len(layers[0])
    for i, layer in enumerate(layers):
        for cell in layer:
            for name, found, expected in (
                ("a cell of kind", (cell.kind, cell.reset), (first.kind, first.reset)),
                ("hidden size", cell.sizes[1], size),
                ("dtype", cell.weight_ih.dtype, first.weight_ih.dtype),
                ("input size", cell.sizes[0], first.sizes[0] if i == 0 else size * directions),
            ):
                if found != expected:
                    raise ValueError(
                        f"layer {i} has {name} {found}, expected {expected} as the layers of one module have: load the "
                        "layers one by one"
                    )
        if len(layer) != directions:
            raise ValueError(f"layer {i} has {len(layer)} directions, expected {directions} as the first layer")
    types = {"gru": fused.GRU if first.reset == "after" else fused.ResetBeforeGRU, "lstm": fused.LSTM}
    bias = any(_has_bias(cell) for layer in layers for cell in layer)
    made = types[first.kind](
        *first.sizes,
        num_layers=len(layers),
        bias=bias,
        batch_first=True,
        bidirectional=directions == 2,
        dtype=first.weight_ih.dtype,
    )
    weights = {}
    for i, layer in enumerate(layers):
        for cell, direction in zip(layer, ("", "_reverse")):
            if bias and not _has_bias(cell):
                cell = cell._replace(bias_ih=cell.weight_hh.new_zeros(cell.weight_hh.shape[0]))
            weights |= _checked(cell, f"_l{i}{direction}")
    made.load_state_dict(weights)
    return made


def _checked(cell, suffix):
    """The state_dict, its shapes in agreement."""
    (inputs, size), gates = cell.sizes, GATES[cell.kind]
    shapes = {"weight_ih": (gates * size, inputs), "weight_hh": (gates * size, size)}
    weights = state_dict(cell, suffix)
    return {
        name: tensor(name, value, *shapes.get(name.removesuffix(suffix), (gates * size,)))
        for name, value in weights.items()
    }


def _has_bias(cell):
    return cell.bias_ih is not None or cell.bias_hh is not None


def cells_of(module: nn.Module) -> list[list[Cell]]:
    """The cells of a torch.nn (or ``s2s_kernels.nn``) GRU, LSTM, GRUCell or LSTMCell, layer by layer.

    Raises:
        TypeError: another module. ValueError: an LSTM with projections.
    """
    kinds = {"lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell)}
    kind = next((kind for kind, types in kinds.items() if isinstance(module, types)), None)
    if kind is None:
        raise TypeError(f"module is a {type(module).__name__}, expected a GRU, LSTM, GRUCell or LSTMCell")
    if getattr(module, "proj_size", 0):
        raise ValueError(f"module has proj_size {module.proj_size}, expected 0")
    reset = "before" if isinstance(module, (fused.ResetBeforeGRU, fused.ResetBeforeGRUCell)) else "after"

    def read(suffix):
        return Cell(kind, *(_detached(getattr(module, name + suffix, None)) for name in NAMES), reset)

    if isinstance(module, nn.RNNCellBase):
        return [[read("")]]
    directions = ("", "_reverse") if module.bidirectional else ("",)
    return [[read(f"_l{i}{direction}") for direction in directions] for i in range(module.num_layers)]


def _detached(parameter):
    return None if parameter is None else parameter.detach()


def one_bias(cell: Cell) -> Tensor | None:
    """The sum of the two biases, for a form that has one; to the bit bias_ih where bias_hh is zero."""
    bias_ih, bias_hh = both_biases(cell)
    return None if bias_ih is None else bias_ih + bias_hh


def require(cell: Cell, form: str, reset: str | None = None):
    """ValueError if ``form`` has no such GRU."""
    if reset is not None and cell.kind == "gru" and cell.reset != reset:
        raise ValueError(f"module is a GRU that resets {cell.reset} its product, expected {reset}: so does {form}")


def array(x: Tensor):
    """A numpy array of a tensor, bfloat16 as ml_dtypes has it where that is installed."""
    x = x.detach().cpu().contiguous()
    if x.dtype == torch.bfloat16:
        raise TypeError("module has dtype torch.bfloat16, which numpy has not: expected float32, float64 or float16")
    return x.numpy().copy()
