"""What a file of weights holds: which recurrent layers, by which convention, and what would be lost."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import onnx_in
from .files import read_arrays


class Found(NamedTuple):
    """A recurrent layer in a file."""

    path: str  # the prefix of its names
    what: str  # such as "GRU, 2 layers, bidirectional, 256 -> 512"
    convention: str  # of whom
    load: str  # the call that reads it
    lost: list[str]  # what differs, or has to be known beside the file


_ONE_BIAS = "one bias: it becomes bias_ih, bias_hh is zero, and both train"
_BEFORE = "not fused: a GRU that resets before its product"
_ACTIVATIONS = "activations are not in the file: sigmoid and tanh are taken"
_PADDLE_AGAIN = re.compile(r"(?:(.+)\.)?\d+\.(?:cell|cell_fw|cell_bw)")  # parameters of a sequence, listed twice
_FLAX = {"GRU": ("r", "z", "n"), "LSTM": ("i", "f", "g", "o")}


def inspect(path: Any) -> list[Found]:
    """The recurrent layers in an .onnx, .npz, .safetensors, .pt, .h5 or .keras file. Nothing in it is executed.

    Raises:
        ValueError: a file that cannot be read. ImportError: its format's package is not installed.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        return list(_nodes(path))
    if path.suffix in (".h5", ".hdf5", ".keras"):
        return list(_groups(_hdf5(path), path))
    return list(_groups(read_arrays(path), path))


def _nodes(path):
    graph = onnx_in._graph(str(path))
    for name, node in onnx_in.recurrent_nodes(graph).items():
        reason = onnx_in.refusal(node)
        attributes = {a.name: a for a in node.attribute}
        directions = "bidirectional" if attributes.get("direction") and attributes["direction"].s != b"forward" else ""
        before = node.op_type == "GRU" and not (
            "linear_before_reset" in attributes and attributes["linear_before_reset"].i
        )
        parts = [
            node.op_type,
            directions,
            f"hidden size {attributes['hidden_size'].i}",
            "resets before" if before else "",
        ]
        lost = [_BEFORE] if before else []
        yield Found(
            name,
            ", ".join(filter(None, parts)),
            "ONNX",
            f"onnx_layer({path.name!r}, {name!r})" if reason is None else "refused",
            lost if reason is None else [reason],
        )


def _hdf5(path):
    """Keras' weights: layers/NAME/cell/vars/0, 1, 2, which are kernel, recurrent_kernel and bias."""
    import io
    import zipfile

    try:
        import h5py
    except ImportError:
        raise ImportError(f"h5py is not installed, which {path.suffix} files need: pip install h5py") from None
    names, found = {"0": "kernel", "1": "recurrent_kernel", "2": "bias"}, {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            *parts, last = name.split("/")
            if parts[-1:] == ["vars"]:
                parts, last = parts[:-1], names.get(last, last)
            found[".".join((*parts, last))] = item[()]

    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                file = io.BytesIO(archive.read("model.weights.h5"))
        else:
            file = path
        with h5py.File(file) as opened:
            opened.visititems(visit)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    return found


class _Group(NamedTuple):
    """Arrays that share their name up to its last part."""

    prefix: str
    shapes: dict[str, tuple]  # by the last part
    groups: dict[str, dict]  # all of the file
    path: Path

    @property
    def arguments(self):
        return repr(self.path.name) + (f", prefix={self.prefix!r}" if self.prefix else "")

    def beside(self, name):
        """The shapes of a group next to this one."""
        outer = self.prefix.rpartition(".")[0]
        return self.groups.get(f"{outer}.{name}" if outer else name, {})

    def found(self, kind, inputs, size, convention, load, lost=(), extra=""):
        what = ", ".join(filter(None, (kind, extra, f"{inputs} -> {size}")))
        return Found(self.prefix, what, convention, load, list(lost))


def _kind(gates, size):
    """By the size of the recurrent matrix; None is neither."""
    return {3 * size: "GRU", 4 * size: "LSTM"}.get(gates)


def _torch(group):
    """torch.nn's names, which are Paddle's and, of cells, Equinox'."""
    shapes = group.shapes
    first = "weight_hh_l0" if "weight_hh_l0" in shapes else "weight_hh"
    if first not in shapes or first.replace("hh", "ih") not in shapes:
        return None
    (gates, size), inputs = shapes[first], shapes[first.replace("hh", "ih")][1]
    kind = _kind(gates, size)
    if kind is None:
        return None
    if "bias" in shapes:
        return group.found(f"{kind}Cell", inputs, size, "Equinox", "equinox_layer(module)", [_ONE_BIAS])
    layers = sum(name.startswith("weight_hh_l") and not name.endswith("_reverse") for name in shapes)
    extra = [f"{layers} layers" if layers > 1 else "", "bidirectional" if f"{first}_reverse" in shapes else ""]
    load = f"torch.nn's load_state_dict, or paddle_layer({group.arguments})"
    kind = kind if layers else f"{kind}Cell"
    return group.found(kind, inputs, size, "torch.nn or Paddle", load, extra=", ".join(filter(None, extra)))


def _mlx(group):
    if not {"Wx", "Wh"} <= set(group.shapes):
        return None
    (gates, size), inputs = group.shapes["Wh"], group.shapes["Wx"][1]
    kind = _kind(gates, size)
    return kind and group.found(kind, inputs, size, "MLX", f"mlx_layer({group.arguments})", [_ONE_BIAS])


def _keras(group):
    """Haste's names are Keras', but for the second bias; its files are torch's."""
    shapes = group.shapes
    if not {"kernel", "recurrent_kernel"} <= set(shapes):
        return None
    (size, gates), inputs = shapes["recurrent_kernel"], shapes["kernel"][0]
    kind = _kind(gates, size)
    if kind is None:
        return None
    if "recurrent_bias" in shapes or group.path.suffix in (".pt", ".pth"):
        lost = ["zoneout is not in the file: it must have been 0"]
        return group.found(kind, inputs, size, "Haste", f"haste_layer({group.arguments})", lost)
    bias, lost, extra = shapes.get("bias"), [_ACTIVATIONS], ""
    if kind == "LSTM":
        lost.append(_ONE_BIAS)
    elif bias is None:
        lost.append("without a bias its reset_after is not in the file")
    elif len(bias) == 1:
        extra = "resets before its product"
        lost.append(_BEFORE)
    load = f"keras_layer(layer), or keras_{kind.lower()}(kernel, recurrent_kernel, bias)"
    return group.found(kind, inputs, size, "Keras", load, lost, extra)


def _haiku(group):
    shapes = group.shapes
    if {"w_i", "w_h", "b"} <= set(shapes):
        inputs, size = shapes["w_i"][0], shapes["w_h"][0]
        return group.found("GRU", inputs, size, "Haiku", "haiku_layer(params)", [_BEFORE, _ONE_BIAS])
    if set(shapes) == {"w", "b"} and group.prefix.endswith("lstm.linear"):
        size = shapes["b"][0] // 4
        return group.found("LSTM", shapes["w"][0] - size, size, "Haiku", "haiku_layer(params)", [_ONE_BIAS])
    return None


def _flax(group):
    outer, _, gate = group.prefix.rpartition(".")
    if "kernel" not in group.shapes:
        return None
    size, gates = group.shapes["kernel"]
    if gate == "dense_h" and "kernel" in group.beside("dense_i"):
        kind, inputs, form = _kind(gates, size), group.beside("dense_i")["kernel"][0], "Flax nnx"
    else:
        kind = next((kind for kind, own in _FLAX.items() if gate == f"h{own[-1]}" and _has_all(group, own)), None)
        inputs, form = group.beside(f"i{gate[1:]}").get("kernel", (0,))[0], "Flax"
    lost = [_ACTIVATIONS, _ONE_BIAS]
    found = kind and group.found(f"{kind}Cell", inputs, size, form, "flax_layer(params)", lost)
    return found and found._replace(path=outer)


def _has_all(group, gates):
    names = (f"{side}{gate}" for side in "ih" for gate in gates)
    return all("kernel" in (group.beside(name) or group.beside(f"{name}_")) for name in names)  # nnx has "if_"


def _groups(arrays, path) -> Iterator[Found]:
    groups = defaultdict(dict)
    for name, x in arrays.items():
        if hasattr(x, "shape"):
            prefix, _, last = name.replace("/", ".").rpartition(".")
            groups[prefix][last] = tuple(x.shape)
    groups = dict(groups)
    for prefix, shapes in groups.items():
        again = _PADDLE_AGAIN.fullmatch(prefix)
        if again and "weight_hh_l0" in groups.get(again[1] or "", {}):
            continue
        group = _Group(prefix, shapes, groups, path)
        found = next(filter(None, (recognise(group) for recognise in (_torch, _mlx, _keras, _haiku, _flax))), None)
        if found is not None:
            yield found


def report(path: Any) -> str:
    """What ``inspect`` found, to read."""
    lines = []
    for found in inspect(path):
        lines.append(f"{found.path or '(top)'}: {found.what}")
        lines.append(f"    {found.convention}; {found.load}")
        lines += [f"    {lost}" for lost in found.lost]
    return "\n".join(lines) or f"{path}: no recurrent layer that s2s_kernels.weights knows"
