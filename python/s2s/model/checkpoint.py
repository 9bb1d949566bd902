"""A trained model as a folder: config.json, model.safetensors, the vocabularies. No pickle anywhere.

- config.json: format, version, every field of the Config, and the checksums of the others; see ``files``
- model.safetensors: the weights
- source.vocab, target.vocab: JSON for words and characters, else sentencepiece's own format; with
  ``shared_vocab`` there is only the first
- history.json: one record a validation

A checkpoint of ``s2s quantize`` has version 4, and in model.safetensors, for each matrix of a search, the integers
(N, K) int8 under its name and ``<name>.scale`` (N,) float32: the weight is their product.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from s2s_kernels.quantize import quantize_matrix

from ..errors import S2SError, shown
from ..files import AnyPath, read_bytes, read_json, read_set, save_set, to_json, write_file, writing
from ..text.vocab import AnyVocabulary, read_vocabulary
from .config import Config
from .seq2seq import Seq2Seq, outline

MANIFEST, WEIGHTS, VOCABULARIES = "config.json", "model.safetensors", ("source.vocab", "target.vocab")
# Fields of the Config that came with a version say so (config.option); version 1 had no checksums.
FORMAT, VERSION, WITHOUT_CHECKSUMS, IN_8_BITS = "s2s checkpoint", 4, 1, 5
SCALE = ".scale"


def save_checkpoint(
    folder: AnyPath,
    model: Seq2Seq,
    source_vocab: AnyVocabulary,
    target_vocab: AnyVocabulary,
    history: Sequence[dict[str, Any]] = (),
    in_8_bits: Collection[str] = (),
) -> None:
    """Writes the folder, in the place of the checkpoint that is there; at every moment one of the two is whole.

    ``in_8_bits``: names of the matrices to write so.
    """
    folder, config = Path(folder), model.config
    vocabularies = (source_vocab,) if config.shared_vocab else (source_vocab, target_vocab)
    weights = model.state_dict()
    for name in in_8_bits:
        weights[name], weights[name + SCALE] = quantize_matrix(name, weights[name])
    contents = {WEIGHTS: serialise(weights)}
    contents |= {name: vocab.to_bytes() for name, vocab in zip(VOCABULARIES, vocabularies)}
    version = IN_8_BITS if in_8_bits else VERSION
    save_set(folder, MANIFEST, {"format": FORMAT, "version": version, "config": config.to_dict()}, contents)
    with writing(folder):
        write_file(folder / "history.json", to_json(list(history)))


def serialise(tensors: dict[str, torch.Tensor]) -> bytes:
    """Tensors by name in safetensors' format."""
    # contiguous clones: safetensors refuses tensors that share memory, as tied embeddings do. And bytes rather than
    # its own files, whose errors are no OSErrors and which no other user may read.
    return save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


def deserialise(data: bytes, path: AnyPath) -> dict:
    """What ``serialise`` made bytes of; ``path`` names them in the S2SError if they are none."""
    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise S2SError(f"{path} cannot be read ({str(error).splitlines()[0]}).") from None


def read_config(folder: AnyPath) -> Config:
    """The Config of the model in a checkpoint folder. Raises S2SError if it is none."""
    path = Path(folder) / MANIFEST
    check_is_there(path, "checkpoint")
    return checked_config(read_json(path), path)


def check_is_there(path: AnyPath, kind: str) -> None:
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        raise S2SError(f"{path.parent} is no {kind}: it has no {path.name}.") from None
    except (OSError, ValueError):
        read_bytes(path)  # whose sentence it is


def checked_config(values: Any, path: AnyPath) -> Config:
    """The Config in a config.json, the whole of which is checked."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise S2SError(f"{path.parent} is no checkpoint of s2s.")
    version = values.get("version")
    if type(version) is not int or not WITHOUT_CHECKSUMS <= version <= IN_8_BITS:
        raise S2SError(
            f"{path.parent} is a checkpoint of version {shown(version)}, but this s2s reads versions "
            f"{WITHOUT_CHECKSUMS} to {IN_8_BITS}."
        )
    try:
        # A field that is missing is a default only where there was no such field yet; a new one needs a new version.
        return Config.from_dict(values.get("config"), version)
    except S2SError as error:
        raise S2SError(f"{path}: {error}") from None


def load_checkpoint(folder: AnyPath, device: torch.device | str = "cpu") -> tuple:
    """(model in eval mode, source vocabulary, target vocabulary). S2SError if any of it is missing or damaged."""
    folder, config = Path(folder), None

    def names(values):
        nonlocal config
        config = checked_config(values, folder / MANIFEST)
        return [WEIGHTS, *VOCABULARIES[: 1 if config.shared_vocab else 2]]

    check_is_there(folder / MANIFEST, "checkpoint")
    values = read_json(folder / MANIFEST)
    wanted = names(values)
    if values["version"] == WITHOUT_CHECKSUMS:
        contents = {name: read_bytes(folder / name) for name in wanted}
    else:
        _, contents = read_set(folder, MANIFEST, names)
    vocabularies = [read_vocabulary(config, contents[name], folder / name) for name in wanted[1:]]
    weights = deserialise(contents[WEIGHTS], folder / WEIGHTS)
    if values["version"] == IN_8_BITS:
        weights = wide(weights, folder / WEIGHTS)
    model = model_of(config, vocabularies[0], vocabularies[-1], weights, folder / WEIGHTS)
    model.in_8_bits = values["version"] == IN_8_BITS
    return model.to(torch.device(device)).eval(), vocabularies[0], vocabularies[-1]


def wide(weights: dict[str, torch.Tensor], path: AnyPath) -> dict[str, torch.Tensor]:
    """In float32 what is there in 8 bits."""
    found = {name: x for name, x in weights.items() if not name.endswith(SCALE)}
    for name in [name for name in weights if name not in found]:
        scale, x = weights[name], found.get(name.removesuffix(SCALE))
        fits = x is not None and x.dtype == torch.int8 and x.dim() == 2 and scale.shape == x.shape[:1]
        if not fits or scale.dtype != torch.float32:
            raise S2SError(f"{path} does not fit the model that it is for: {shown(name)} is of no matrix of 8 bits.")
        found[name.removesuffix(SCALE)] = x.float() * scale[:, None]
    return found


def model_of(
    config: Config, source_vocab: AnyVocabulary, target_vocab: AnyVocabulary, weights: dict[str, Any], path: Any
) -> Seq2Seq:
    """The Seq2Seq with these weights. Raises S2SError, before it takes memory, if they are not those of one."""
    sizes = len(source_vocab), len(target_vocab)
    check_tensors(weights, outline(config, *sizes).state_dict(), path)
    model = Seq2Seq(config, *sizes)
    model.load_state_dict(weights)
    return model


def check_tensors(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], path: AnyPath) -> None:
    """S2SError if the names, shapes or kinds of two dictionaries of tensors differ."""
    for name in [*expected, *found]:
        have, want = found.get(name), expected.get(name)
        if have is None or want is None:
            wrong = f"{name} is missing" if have is None else f"{shown(name)} is too many"
        elif have.shape != want.shape:
            wrong = f"{name} is {tuple(have.shape)}, expected {tuple(want.shape)}"
        elif have.is_floating_point() != want.is_floating_point():
            wrong = f"{name} is {have.dtype}, expected {want.dtype}"
        else:
            continue
        raise S2SError(f"{path} does not fit the model that it is for: {wrong}.")
