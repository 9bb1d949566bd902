"""What every part of a configuration runs on, and why not in one fused op where it does not."""

from collections.abc import Iterable
from typing import NamedTuple

import torch

from s2s_kernels.backend import resolve

from ..errors import S2SError
from ..model.config import Config
from ..model.decoder import loop_reason, parts_of
from ..search.fused_search import config_reason, search_backend


class Row(NamedTuple):
    part: str
    runs: str  # the ops of s2s_kernels or the functions of torch
    backend: str  # cpp, cuda, triton, reference; torch
    why: str  # why it is no fused op of the whole sequence; empty where it is


RESETS_FIRST = "a GRU that resets before its product has no fused kernel: its product waits for the gate"


def explain(config: Config, device: torch.device | str = "cpu") -> list[Row]:
    """One Row for each part of a model of this Config, in the order of a training step, decoding last.

    Raises:
        S2SError: the backend that was asked for cannot run on ``device``.
    """
    try:
        backend = resolve(torch.device(device).type)
    except RuntimeError as error:
        raise S2SError(f"{error}.") from None
    fed, cell, reason = config.feeds_attention, config.cell, loop_reason(config)
    step, step_backend = (f"{cell}_step", backend) if not config.gru_before else ("GRU step", "torch")
    attention, attention_backend = _attention(config, backend)

    def layers(part, count, both_directions=False):
        if config.gru_before:
            return Row(part, f"{count * (1 + both_directions)} x a loop of GRU steps", "torch", RESETS_FIRST)
        return Row(part, f"{count} x {cell}{'_bidirectional' if both_directions else ''}", backend, "")

    rows = [layers("encoder", config.encoder_layers, config.bidirectional)]
    rows.append(Row("embeddings, projections, readout", "linear", "torch", ""))
    if not fed:
        rows.append(layers("decoder", config.decoder_layers))
        if config.attends:
            rows.append(Row("attention", f"{attention}, all queries at once", attention_backend, ""))
        elif config.attention == "fixed":
            rows.append(Row("context", "one tanh(linear) a source", "torch", ""))
    elif reason:
        where = " and ".join(dict.fromkeys([step_backend, attention_backend]))
        rows.append(Row("decoder with attention", f"a loop of {step} and {attention}", where, reason))
    else:
        rows.append(Row("decoder with attention", *_decoder(config, backend)))
    above = config.decoder_layers - config.loop_layers if fed else 0
    if above:
        rows.append(layers("decoder layers above", above))
    own = backend if backend in ("cpp", "reference") else "torch"
    rows.append(Row("loss over the vocabulary", "linear_cross_entropy", own, ""))
    single = _single_steps(config, backend, step, step_backend, attention, attention_backend, above)
    if config.sampling != "never":
        rows.append(Row("decoder, fed its own outputs", *single, "each input is chosen by the output before it"))
    kind = torch.device(device).type
    decoding, one_by_one = "decoding", config_reason(config, kind)
    if one_by_one is None:
        parts = parts_of(config, config.decoder_layers)
        search = f"beam_search with {', '.join(parts)}" if parts else "beam_search"
        rows.append(Row("decoding, greedy or beam", search, search_backend(kind), ""))
        decoding, one_by_one = "decoding by sampling", "it draws each input from the probabilities of the step before"
    rows.append(Row(decoding, *single, one_by_one))
    return rows


def _attention(config, backend):
    """What scores: (name, backend)."""
    if config.attention in ("dot", "general"):
        return "two matmuls and a softmax", "torch"
    return "additive_attention", backend


def _decoder(config, backend):
    """(what runs, where, why it is no kernel of its own) when the whole recurrence is one op."""
    op, parts = f"attention_{config.cell}", decoder_parts(config)
    if parts:
        op = f"{op} with {', '.join(parts)}"
    if parts and backend in ("cuda", "triton"):
        return f"{op}, a loop of {config.cell}_step", backend, f"with parts, the {backend} backend has steps alone"
    return op, backend, ""


def decoder_parts(config: Config) -> list[str]:
    """What the decoder's op is given beside the plain decoder; see docs/ops.md."""
    dropped = config.loop_dropout > 0 or (config.dropout > 0 and config.loop_layers > 1)
    return [*parts_of(config, config.loop_layers), *(["dropout inside"] if dropped else [])]


def _single_steps(config, backend, step, step_backend, attention, attention_backend, above):
    """(what runs, where) when a token goes through the decoder alone."""
    sequence = ("GRU step", "torch") if config.gru_before else (config.cell, backend)
    parts = [(step, step_backend)] if config.feeds_attention else [sequence]
    if config.attends:
        parts.append((attention, attention_backend))
    if above:
        parts.append(sequence)
    places = dict.fromkeys(place for _, place in parts)
    return f"single steps of {', '.join(dict.fromkeys(name for name, _ in parts))}", " and ".join(places)


def table(rows: Iterable[Row]) -> str:
    """Aligned lines of the rows; the reason stands on a line of its own."""
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = []
    for row in rows:
        lines.append(f"{row.part:<{widths[0]}}  {row.runs:<{widths[1]}}  {row.backend}")
        if row.why:
            lines.append(f"{'':<{widths[0]}}    not one op: {row.why}")
    return "\n".join(lines)
