"""``s2s evaluate``."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from ..errors import S2SError
from ..files import check_output, write_output
from .lines import report_cuts
from .options import DeviceOption, FilesArgument, ModelArgument, pick_device, say, say_of_8_bits, with_search_options


@with_search_options
def evaluate(
    model: ModelArgument,
    files: FilesArgument,
    record: Annotated[Path | None, typer.Option(help="Add the scores to this .json record of the run.")] = None,
    ask: Annotated[list[str] | None, typer.Option(help="A text whose output goes into the record too.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the translations there too.")] = None,
    device: DeviceOption = "auto",
    options=None,
):
    """Score a model: BLEU and chrF by sacrebleu, with their signatures, exact match and perplexity."""
    if ask and not record:
        raise S2SError("--ask is given without --record, where its output would go.")
    for path in filter(None, (output, record)):
        check_output(path, files)
    from ..report.records import Clock, begin_record, evaluation_record, write_record

    clock = Clock()  # before torch is imported, which takes its time
    from ..report.evaluate import score
    from ..report.perplexity import perplexity
    from ..text.cleaning import target_text
    from ..text.pairs import read_pairs
    from ..translator import Translator

    translator = Translator.load(model, pick_device(device))
    say_of_8_bits(translator, options)
    begun = begin_record(record, model, translator.config) if record else None  # what is wrong with it is said now
    pairs = read_pairs(files, say, **translator.config.reading)
    with tqdm(total=len(pairs), disable=None, unit="line", leave=False) as bar:
        sources = [source for source, _ in pairs]
        outputs = translator.translate(sources, done=bar.update, cut=report_cuts(1), **asdict(options))
    if output:
        write_output(output, "".join(line + "\n" for line in outputs).encode())
    references = [target_text(target, translator.config) for _, target in pairs]
    scores = score(outputs, references)
    print(scores)
    limit = translator.source_limit(options.max_source_length)
    found = perplexity(translator.model, pairs, translator.source_vocab, translator.target_vocab, limit, say)
    print(found)
    if record:
        replies = translator.translate(ask or [], **asdict(options))
        data = " ".join(path.name for path in files)
        samples = list(zip(ask or [], replies))
        evaluation = evaluation_record(clock, data, references, str(options), scores, found, samples)
        write_record(record, begun, evaluation)
        say(f"record: {record}")
