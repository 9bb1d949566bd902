"""``s2s evaluate``."""

import math
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
    record: Annotated[Path | None, typer.Option(help="Add the scores to this .json record of the run.")] = None,
    ask: Annotated[list[str] | None, typer.Option(help="A text whose output goes into the record too.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the translations there too.")] = None,
    device: DeviceOption = "auto",
):
    """Score a model: BLEU and chrF by sacrebleu, with their signatures, exact match and perplexity."""
    if ask and not record:
        raise S2SError("--ask is given without --record, where its output would go.")
    from ..cleaning import target_text
    from ..data import Dataset
    from ..evaluate import score
    from ..pairs import read_pairs
    from ..records import Clock, evaluation_record, write_record
    from ..training import validation_loss
    from ..translator import Translator

    clock = Clock()
    translator = Translator.load(model, pick_device(device))
    pairs = read_pairs(files, say, **translator.config.reading)
    with tqdm(total=len(pairs), disable=None, unit="line", leave=False) as bar:
        outputs = translator.translate(
            [source for source, _ in pairs], beam=beam, length_penalty=length_penalty, done=bar.update
        )
    if output:
        try:
            output.write_text("".join(line + "\n" for line in outputs), encoding="utf-8")
        except OSError as error:
            raise S2SError(f"{output} cannot be written ({error.strerror}).") from None
    scores = score(outputs, [target_text(target, translator.config) for _, target in pairs])
    print(scores)
    dataset = Dataset(pairs, translator.source_vocab, translator.target_vocab, translator.config)
    if dataset.too_long:
        say(f"perplexity is without {dataset.too_long} pairs longer than {translator.config.max_length} tokens")
    perplexity = math.exp(validation_loss(translator.model, dataset)) if len(dataset) else math.nan
    print(f"perplexity {perplexity:.3f} of a target token, </s> included")
    if record:
        replies = translator.translate(ask or [], beam=beam, length_penalty=length_penalty)
        data = " ".join(path.name for path in files)
        search = "greedy" if beam == 1 else f"beam {beam}, length penalty {length_penalty:g}"
        evaluation = evaluation_record(clock, data, search, scores, perplexity, list(zip(ask or [], replies)))
        write_record(record, model, translator.config, evaluation)
        say(f"record: {record}")
