"""The main job of ``make demo``: English to Marathi dates, learnt in about two minutes on two cores.

    python -m s2s.demo [--out FOLDER] [--seconds N]

It trains a character-level model on CLDR's own dates, scores it on dates and strings it never saw, draws an
alignment, and times the same training step on the reference and on the compiled kernels.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from .errors import S2SError
from .files import AnyPath
from .model.presets import configure

GOOD = 0.95  # the exact match below which the demo counts as failed

CONFIG = configure(path="dates").updated(max_seconds=140.0)


def time_training_steps(config, data, source_vocab, target_vocab, repeats=7):
    """The same training steps on the reference and on the compiled kernels, taken in turn.

    Each backend has its own model with the same initial values and sees the same batches. Returns
    {backend: (median seconds, [loss])}, the reference first.
    """
    import s2s_kernels as sk

    from .training.trainer import build_model, build_optimizer, train_step

    batches = data.batches(0)
    chosen = [data.load(batches[i * len(batches) // (repeats + 1)]) for i in range(repeats + 1)]
    names = ("reference", "auto")
    models = {name: build_model(config, source_vocab, target_vocab) for name in names}
    optimizers = {name: build_optimizer(models[name], config) for name in names}
    seconds, losses = {name: [] for name in names}, {name: [] for name in names}
    for i, batch in enumerate(chosen):
        for name in names if i % 2 else names[::-1]:
            with sk.backend(name):
                start = time.perf_counter()
                loss = train_step(models[name], optimizers[name], batch).item()
                seconds[name].append(time.perf_counter() - start)
            losses[name].append(loss)
    # The first step of each pays for warming up.
    return {name: (statistics.median(seconds[name][1:]), losses[name]) for name in names}


def report_speed(timings, say):
    """Prints both columns and returns the ratio of the medians."""
    (slow, slow_losses), (fast, fast_losses) = timings["reference"], timings["auto"]
    say(f"{'':14}{'reference':>12}{'compiled':>12}")
    say(f"{'ms a step':14}{1000 * slow:12.1f}{1000 * fast:12.1f}   median of {len(slow_losses) - 1}, in turn")
    for i in range(0, len(slow_losses), 3):
        say(f"{f'loss, step {i + 1}':14}{slow_losses[i]:12.4f}{fast_losses[i]:12.4f}")
    apart = max(abs(a - b) for a, b in zip(slow_losses, fast_losses, strict=True))
    if apart > 5e-4:
        raise S2SError(f"the two backends disagree: their losses are {apart:.2g} apart.")
    return slow / fast


def run_demo(
    out: AnyPath = "runs/demo",
    seconds: float | None = None,
    say: Callable[[str], object] = print,
    show_bar: bool | None = None,
) -> bool:
    """Runs the demo, whose last line is for machines; returns whether the model learnt."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # said below, in the demo's own words
        import s2s_kernels.extension as extension

    from .report.evaluate import score
    from .report.plot import plot_alignment
    from .text.data import Dataset
    from .text.dates import make_dates
    from .text.vocab import build_vocabularies
    from .training.trainer import build_model, count_parameters, train
    from .translator import Translator

    start = time.monotonic()
    out = Path(out)
    config = CONFIG if seconds is None else CONFIG.updated(max_seconds=float(seconds))
    data = make_dates(train=64_000)
    say(
        f"English to Marathi dates from CLDR: {len(data.formats)} formats, {len(data.train):,} pairs to "
        f"train on, {len(data.test):,} held out whose date and whose English string training never sees"
    )
    if data.dropped:
        say(f"left out, as they contradict another format: {', '.join(data.dropped)}")
    source_vocab, target_vocab = build_vocabularies(data.train, config)
    train_set, valid_set = (Dataset(p, source_vocab, target_vocab, config) for p in (data.train, data.valid))
    model = build_model(config, source_vocab, target_vocab)
    say(
        f"bidirectional {config.cell.upper()}, attention decoder, {count_parameters(model):,} parameters, "
        f"{torch.get_num_threads()} threads, at most {config.max_seconds:.0f} s of training"
    )
    translator = Translator(model, source_vocab, target_vocab)

    def learnt(model, record):
        """Whether every validation pair is right."""
        model.eval()
        exact = translator.evaluate(data.valid).exact_match if record["valid_loss"] < 0.01 else 0.0
        model.train()
        return exact == 1.0

    history = train(model, train_set, valid_set, stop=learnt, show_bar=show_bar, say=say)
    translator.save(out / "model", history)
    say(f"trained in {history[-1]['seconds']:.0f} s, {history[-1]['step']} steps; saved in {out / 'model'}")

    outputs = translator.translate([source for source, _ in data.test])
    scores = score(outputs, [target for _, target in data.test])
    say(f"\nheld out:\n{scores}\n")
    ranked = sorted(zip(data.test, outputs, strict=True), key=lambda row: -len(row[0][0]))
    for (source, target), output in ranked[:: len(ranked) // 5][:5]:
        say(f"  {source:30} {output:32} {'right' if output == target else f'wrong: {target}'}")
    picture = out / "alignment.png"
    plot_alignment(picture, translator.align([ranked[0][0][0]])[0], "English", "Marathi")
    say(f"\nwhere the decoder looked: {picture}\n")

    if extension.built:
        speedup = report_speed(time_training_steps(config, train_set, source_vocab, target_vocab), say)
        say(f"the compiled kernels are {speedup:.2f} times as fast")
    else:
        speedup = 1.0
        say("the compiled extension is not built (make setup builds it), so there is no speed to compare")
    say(f"the demo took {time.monotonic() - start:.0f} s")
    good = scores.exact_match >= GOOD
    if not good:
        say(f"the model did not learn: exact match {scores.exact_match:.3f} is under {GOOD}")
    say(f"demo: exact_match={scores.exact_match:.3f} bleu={scores.bleu:.1f} speedup={speedup:.1f} alignment={picture}")
    return good


if __name__ == "__main__":
    import sys

    from .cli import main

    main(["demo", *sys.argv[1:]])
