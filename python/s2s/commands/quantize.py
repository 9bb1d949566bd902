"""``s2s quantize``."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import S2SError
from .options import ModelArgument, say


def quantize(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="Folder for the model in 8 bits.")],
):
    """Write a model whose searches on a CPU multiply in 8 bits, as translate --quantize int8 does without a file."""
    from ..files import locked, read_json
    from ..model.checkpoint import WEIGHTS, load_checkpoint, save_checkpoint
    from ..search.fused_search import names_of_matrices, shape_reason
    from ..training.state import check_free

    found, *vocabularies = load_checkpoint(model)
    if why := shape_reason(found.config):
        raise S2SError(f"{model} cannot be searched in 8 bits: {why}.")
    names, history = names_of_matrices(found), model / "history.json"
    records = read_json(history) if history.is_file() else ()
    with locked(out):
        check_free(out)
        save_checkpoint(out, found, *vocabularies, records, in_8_bits=names)
    before, after = (f"{(folder / WEIGHTS).stat().st_size / 1e6:,.1f} MB" for folder in (model, out))
    say(f"{len(names)} matrices of {model} are in 8 bits in {out}: {after} instead of {before}")
