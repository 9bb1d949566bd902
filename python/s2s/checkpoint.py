"""A trained model as a folder: config.json, model.safetensors, the vocabularies. No pickle anywhere.

- config.json: format, version and every field of the Config
- model.safetensors: the weights
- source.vocab, target.vocab: JSON for words and characters, else sentencepiece's own format; with
  ``shared_vocab`` there is only the first
- history.json: one record a validation
"""

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from .config import Config, read_mapping
from .errors import S2SError
from .model import Seq2Seq
from .vocab import SentencePieceVocabulary, Vocabulary

FORMAT, VERSION = "s2s checkpoint", 1


def save_checkpoint(folder, model, source_vocab, target_vocab, history=()):
    """Writes the folder; each file appears whole or not at all, config.json last."""
    folder = Path(folder)
    config = model.config
    vocabularies = {"source": source_vocab}
    if not config.shared_vocab:
        vocabularies["target"] = target_vocab
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for side, vocab in vocabularies.items():
            write(folder / f"{side}.vocab", vocab.save)
        # contiguous clones: safetensors refuses tensors that share memory, as tied embeddings do.
        weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        write(folder / "model.safetensors", lambda path: save_file(weights, path))
        write_json(folder / "history.json", list(history))
        write_json(folder / "config.json", {"format": FORMAT, "version": VERSION, "config": config.to_dict()})
    except OSError as error:
        raise S2SError(f"{folder} cannot be written ({error.strerror}).") from None


def write(path, save):
    partial = path.with_name(path.name + ".partial")
    save(partial)
    os.replace(partial, path)


def write_json(path, value):
    text = json.dumps(value, indent=1, ensure_ascii=False) + "\n"
    write(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def read_config(folder) -> Config:
    """The Config of the model in a checkpoint folder. Raises S2SError if it is none."""
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise S2SError(f"{folder} is no checkpoint: it has no config.json.")
    values = read_mapping(folder / "config.json")
    if values.get("format") != FORMAT:
        raise S2SError(f"{folder} is no checkpoint of s2s.")
    if values.get("version") != VERSION:
        raise S2SError(
            f"{folder} is a checkpoint of version {values.get('version')}, but this s2s reads version {VERSION}."
        )
    try:
        return Config.from_dict(values.get("config", {}))
    except S2SError as error:
        raise S2SError(f"{folder / 'config.json'}: {error}") from None


def load_checkpoint(folder, device="cpu") -> tuple:
    """(model in eval mode, source vocabulary, target vocabulary)."""
    folder, config = Path(folder), read_config(folder)
    kind = SentencePieceVocabulary if config.tokens == "sentencepiece" else Vocabulary
    source_vocab = kind.load(folder / "source.vocab")
    target_vocab = source_vocab if config.shared_vocab else kind.load(folder / "target.vocab")
    model = Seq2Seq(config, len(source_vocab), len(target_vocab))
    path = folder / "model.safetensors"
    try:
        model.load_state_dict(load_file(path))
    except FileNotFoundError:
        raise S2SError(f"{path} does not exist.") from None
    except (SafetensorError, OSError) as error:
        raise S2SError(f"{path} cannot be read ({error}).") from None
    except RuntimeError:
        raise S2SError(f"{path} does not fit the model that {folder / 'config.json'} describes.") from None
    return model.to(torch.device(device)).eval(), source_vocab, target_vocab
