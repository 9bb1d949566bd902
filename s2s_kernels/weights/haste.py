"""Haste: GRU and LSTM, Keras' orientation, ordered z, r, h and i, g, f, o.

What stays different: Haste leaves the outputs past ``lengths`` as they come, ours are zeros (the states are equal).
"""

from typing import Any

from torch import nn

from .files import read_arrays, under
from .layout import Cell, reorder, sequence_module, tensor


def haste_layer(source: Any, *, prefix: str = "") -> nn.Module:
    """Our GRU or LSTM, batch first, for Haste's.

    Args:
        source: the haste_pytorch layer, or its state_dict, in which zoneout does not show; a list, one layer each.
        prefix: which part of a state_dict.

    Raises:
        ValueError: a layer with zoneout, which mixes the states in evaluation too; a layer-normalised one.
    """
    return sequence_module(cells(source, prefix))


def cells(source: Any, prefix: str = "") -> list[list[Cell]]:
    return [[_cell(one, prefix)] for one in (source if isinstance(source, list) else [source])]


def _cell(source, prefix):
    if isinstance(source, nn.Module):
        if getattr(source, "zoneout", 0):
            raise ValueError(f"source has zoneout {source.zoneout}, expected 0: Haste applies it in evaluation too")
        source = source.state_dict()
    arrays = under(read_arrays(source), prefix)
    unknown = set(arrays) - {"kernel", "recurrent_kernel", "bias", "recurrent_bias"}
    if unknown or not {"kernel", "recurrent_kernel", "bias"} <= set(arrays):
        raise ValueError(
            f"source holds {', '.join(arrays)}, expected the kernel, recurrent_kernel and bias of Haste's GRU or LSTM"
        )
    kind = "gru" if "recurrent_bias" in arrays else "lstm"
    gates, order = (3, (1, 0, 2)) if kind == "gru" else (4, (0, 2, 1, 3))
    recurrent = tensor("recurrent_kernel", arrays["recurrent_kernel"], None, None)
    width = gates * recurrent.shape[0]
    matrices = (tensor("kernel", arrays["kernel"], None, width), tensor("recurrent_kernel", recurrent, None, width))
    biases = (arrays.get("bias"), arrays.get("recurrent_bias"))
    return Cell(
        kind,
        *(reorder(x, order).T for x in matrices),
        *(None if b is None else reorder(tensor("bias", b, width), order) for b in biases),
    )
