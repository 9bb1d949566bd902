"""The weights of a search in 8 bits, made once for any number of searches."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import check_tuple, dims, floating
from .reference.int8 import Int8Matrix, quantize_rows

# Of the arguments of a search, those in 8 bits, in the order in which the op takes them; the cells' follow.
MATRICES = ("w_query", "w_feed", "w_readout", "w_output")
CELL = ("weight_ih", "weight_hh")
MATRIX_ARGUMENTS = (*MATRICES, *CELL, "layers", "transition")
PANEL, GROUP = 16, 4  # of csrc/cpu/int8/int8.h
DEEPEST = 133_000


class QuantizedWeights(Mapping[str, Int8Matrix]):
    """What ``quantize`` returns: by the name of an argument, its integers (N, K) int8 and their scale (N,) float32.

    Names are ``w_query``, ``weight_ih``, ``weight_hh``, ``w_output``, ``w_feed``, ``w_readout``, and of further cells
    ``layers.0.weight_ih``, ``transition.weight_hh``, ...
    """

    def __init__(self, matrices: Mapping[str, Int8Matrix]) -> None:
        self._matrices = dict(matrices)
        self._packed: list[Tensor] | None = None

    def __getitem__(self, name: str) -> Int8Matrix:
        return self._matrices[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._matrices)

    def __len__(self) -> int:
        return len(self._matrices)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(matrix.shape)}" for name, matrix in self.items())
        return f"QuantizedWeights({shapes})"

    def tensors(self) -> dict[str, Tensor]:
        """Plain tensors by name, ``<name>`` int8 and ``<name>.scale`` float32, for ``safetensors.torch.save_file``."""
        return {f"{name}{end}": x for name, matrix in self.items() for end, x in zip(("", ".scale"), matrix)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "QuantizedWeights":
        """Of what ``tensors`` returned, from a file or not.

        Raises:
            ValueError, TypeError: a tensor or a scale that is missing, or has another shape or dtype.
        """
        found = {}
        for name, x in tensors.items():
            if name.endswith(".scale"):
                if name.removesuffix(".scale") not in tensors:
                    raise ValueError(f"tensors has {name!r}, but no {name.removesuffix('.scale')!r}, expected both")
                continue
            scale = tensors.get(f"{name}.scale")
            if scale is None:
                raise ValueError(f"tensors has {name!r}, but no '{name}.scale', expected both")
            dims(name, x, "N, K")
            for what, tensor, dtype in ((name, x, torch.int8), (f"{name}.scale", scale, torch.float32)):
                if tensor.dtype != dtype:
                    raise TypeError(f"{what} has dtype {tensor.dtype}, expected {dtype}")
            if scale.shape != x.shape[:1]:
                raise ValueError(f"{name}.scale has shape {tuple(scale.shape)}, expected (N,) = ({len(x)},)")
            found[name] = Int8Matrix(x, scale)
        return cls(found)

    def packed(self, scale: float = 1.0) -> list[Tensor]:
        """As the op ``decoder_search`` takes them: two tensors for each matrix. scale: of w_query."""
        packed = self._packed
        if packed is None:
            cells = ["", *(f"layers.{i}." for i in range(len(self))), "transition."]
            order = [*MATRICES, *(cell + end for cell in cells for end in CELL)]
            packed = [tensor for name in order if name in self for tensor in pack(self[name])]
            if not torch.compiler.is_compiling():
                self._packed = packed
        if scale == 1:
            return packed
        rows = packed[1].clone()
        rows[0] = (rows[0].view(torch.float32) * scale).view(torch.int32)
        return [packed[0], rows, *packed[2:]]

    def with_outputs(self, rows: Tensor) -> "QuantizedWeights":
        """The same with these rows of w_output alone; all else is packed once for both."""
        few = Int8Matrix(self["w_output"].integers[rows], self["w_output"].scale[rows])
        made, packed = QuantizedWeights({**self, "w_output": few}), self.packed()
        before = 2 * sum(name in self for name in MATRICES[: MATRICES.index("w_output")])
        made._packed = [*packed[:before], *pack(few), *packed[before + 2 :]]
        return made


def quantize(
    *,
    weight_ih: Tensor,
    weight_hh: Tensor,
    w_output: Tensor,
    w_query: Tensor | None = None,
    w_feed: Tensor | None = None,
    w_readout: Tensor | None = None,
    layers: Sequence[Sequence[Tensor | None]] = (),
    transition: Sequence[Tensor | None] | None = None,
) -> QuantizedWeights:
    """The matrices of a search in 8 bits, for the ``weights=`` of `greedy_search` and `beam_search`.

        packed = sk.quantize(w_query=w_query, weight_ih=weight_ih, weight_hh=weight_hh, w_output=w_output)
        found = sk.greedy_search(..., weights=packed)  # as weights="int8", which makes them in every call

    Each row of a matrix, an output's, becomes integers from -127 to 127, the largest one of the two, and a scale.

    Args:
        weight_ih, weight_hh, w_output, w_query, w_feed, w_readout, layers, transition: as in `beam_search`, (N, K) of
            any floating dtype; of the cells in ``layers`` and ``transition`` the first two tensors are read.

    Returns:
        QuantizedWeights, a mapping; its ``tensors()`` can be saved, and ``from_tensors`` reads them.

    Raises:
        ValueError, TypeError: a matrix that is none, named in the message.
    """
    single = (w_query, w_feed, w_readout, w_output, weight_ih, weight_hh)
    named = named_matrices(layers, transition, **dict(zip((*MATRICES, *CELL), single)))
    return QuantizedWeights({name: quantize_matrix(name, x) for name, x in named.items()})


def named_matrices(layers: Any = (), transition: Any = None, **single: Any) -> dict[str, Any]:
    """By their names here, those that are given."""
    named = {name: x for name, x in single.items() if x is not None or name in ("w_output", *CELL)}
    cells = [(f"layers.{i}", cell) for i, cell in enumerate(layers)]
    for name, cell in [*cells, *([] if transition is None else [("transition", transition)])]:
        check_tuple(name, cell, 4, "(weight_ih, weight_hh, bias_ih, bias_hh)")
        named |= {f"{name}.{end}": x for end, x in zip(CELL, cell)}
    return named


def quantize_matrix(name: str, x: Tensor) -> Int8Matrix:
    """x (N, K) in 8 bits."""
    inputs = dims(name, x, "N, K")[1]
    floating(name, x)
    if inputs > DEEPEST:  # the sums of more could pass 32 bits
        raise ValueError(f"{name} has {inputs} columns, expected at most {DEEPEST} in 8 bits")
    integers, scale = quantize_rows(x.detach().float())
    return Int8Matrix(integers.to(torch.int8), scale)


def pack(matrix: Int8Matrix) -> tuple[Tensor, Tensor]:
    """panels (P, K / 4, 16, 4) and outputs int32 (2, 16 P), as csrc/cpu/int8/layer.h says."""
    outputs, inputs = matrix.shape
    padded = torch.nn.functional.pad(matrix.integers, (0, -inputs % GROUP, 0, -outputs % PANEL))
    sizes = (padded.shape[0] // PANEL, PANEL, padded.shape[1] // GROUP, GROUP)
    panels = padded.view(sizes).transpose(1, 2).contiguous()
    rows = torch.stack([matrix.scale.view(torch.int32), -128 * matrix.integers.sum(1, dtype=torch.int32)])
    return panels, torch.nn.functional.pad(rows, (0, -outputs % PANEL))


def unpack(panels: Tensor, rows: Tensor, outputs: int, inputs: int) -> Int8Matrix:
    """The matrix (outputs, inputs) of what ``pack`` made."""
    integers = panels.transpose(1, 2).flatten(2).flatten(0, 1)
    return Int8Matrix(integers[:outputs, :inputs], rows[0, :outputs].contiguous().view(torch.float32))


def unpack_all(packed: Sequence[Tensor], weights: Sequence[Any], options: dict[str, Any]) -> tuple[list[Any], Any]:
    """The weights and options of ``reference.beam_search`` with the matrices that `QuantizedWeights.packed` made."""
    left = iter(packed)

    def take(x: Tensor | None) -> Int8Matrix | None:
        return None if x is None else unpack(next(left), next(left), *x.shape)

    def take_cell(cell: Sequence[Any]) -> list[Any]:
        return [take(cell[0]), take(cell[1]), *cell[2:]]

    state, keys, values, v, w_query, b_query, *cell, embedding, w_output, b_output = weights
    w_query = take(w_query)
    options = options | {name: take(options[name]) for name in ("w_feed", "w_readout")}
    w_output = take(w_output)
    weights = [state, keys, values, v, w_query, b_query, *take_cell(cell), embedding, w_output, b_output]
    options["layers"] = [take_cell(layer) for layer in options["layers"]]
    if options["transition"] is not None:
        options["transition"] = take_cell(options["transition"])
    return weights, options
