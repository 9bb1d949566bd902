"""``s2s evaluate``."""

from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ..errors import S2SError
from .options import BeamOption, DeviceOption, FilesArgument, ModelArgument, PenaltyOption, pick_device, say


def evaluate(
    model: ModelArgument,
    files: FilesArgument,
    beam: BeamOption = 5,
    length_penalty: PenaltyOption = 0.0,
    output: Annotated[Path | None, typer.Option(help="Write the translations there too.")] = None,
    device: DeviceOption = "auto",
):
    """Score a model: BLEU and chrF by sacrebleu, with their signatures, and exact match."""
    from ..cleaning import target_text
    from ..evaluate import score
    from ..pairs import read_pairs
    from ..translator import Translator

    pairs = read_pairs(files, say)
    translator = Translator.load(model, pick_device(device))
    with tqdm(total=len(pairs), disable=None, unit="line", leave=False) as bar:
        outputs = translator.translate(
            [source for source, _ in pairs], beam=beam, length_penalty=length_penalty, done=bar.update
        )
    if output:
        try:
            output.write_text("".join(line + "\n" for line in outputs), encoding="utf-8")
        except OSError as error:
            raise S2SError(f"{output} cannot be written ({error.strerror}).") from None
    print(score(outputs, [target_text(target, translator.config) for _, target in pairs]))
