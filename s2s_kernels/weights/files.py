"""Arrays by name from a file, without running anything that is in it: no pickle is executed."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


def read_arrays(source: Any) -> dict[str, Any]:
    """{name: array} of a dictionary, nested ones flattened with dots, or of an .npz, .safetensors, .pt or .pth file.

    Raises:
        ValueError: a file that is none of these, is damaged, or holds what only a pickle could make.
        ImportError: a file whose package is not installed.
    """
    if isinstance(source, Mapping):
        return dict(_flat(source))
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    readers = {".npz": _npz, ".safetensors": _safetensors}
    reader = readers.get(path.suffix, _torch)
    try:
        return dict(_flat(reader(path)))
    except (OSError, KeyError, RuntimeError, EOFError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error)}") from None


def _first_line(error):
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _npz(path):
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error)}") from None


def _safetensors(path):
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read: {_first_line(error)}") from None


def _torch(path):
    import pickle

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = [line for line in str(error).splitlines() if "GLOBAL" in line or "Unsupported" in line]
        reason = named[0].strip() if named else "it is no file of torch.save"
        raise ValueError(f"{path} cannot be read without executing its pickle: {reason}") from None
    if not isinstance(found, Mapping):
        raise ValueError(f"{path} holds a {type(found).__name__}, expected tensors by name")
    return found


def _flat(values, prefix=""):
    for name, value in values.items():
        name = f"{prefix}{name}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        else:
            yield name, value


def under(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Those whose names begin with ``prefix`` and a dot, without it; all for "". ValueError if there are none."""
    if not prefix:
        return dict(arrays)
    found = {name[len(prefix) + 1 :]: x for name, x in arrays.items() if name.startswith(f"{prefix}.")}
    if not found:
        raise ValueError(
            f"prefix is {prefix!r}, expected one of the names in the source: {', '.join(list(arrays)[:8])}"
        )
    return found
