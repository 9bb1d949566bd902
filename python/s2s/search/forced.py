"""Scores and attention weights of outputs that are given."""

import torch
from torch.nn.functional import cross_entropy

from ..text.vocab import PAD
from .hypothesis import Hypothesis, head_mean, need_attention


@torch.no_grad()
def force(model, batch, attention=False) -> list[Hypothesis]:
    """Hypotheses of a Batch's targets, as if a search had found them: score log P(Y, </s> | X), by teacher forcing.

    Args:
        model: a Seq2Seq.
        batch: a Batch of B pairs.
        attention: whether the Hypotheses get their attention weights (T + 1, S).

    Raises:
        S2SError: attention asked of a model that has no weights.
    """
    if attention:
        need_attention(model)
    features, weights = model(batch.source, batch.source_lengths, batch.inputs)
    logits = model.output(features).float().flatten(0, 1)
    loss = cross_entropy(logits, batch.outputs.flatten(), ignore_index=PAD, reduction="none")
    scores = -loss.view(batch.outputs.shape).sum(1)
    if attention:
        weights = head_mean(weights.flatten(0, 1)).view(*batch.outputs.shape, -1).cpu()
    results = []
    counts = (batch.outputs != PAD).sum(1)
    for b, (ids, score, count, size) in enumerate(
        zip(batch.outputs.tolist(), scores.tolist(), counts.tolist(), batch.source_lengths.tolist())
    ):
        looked = weights[b, :count, :size].clone() if attention else None
        results.append(Hypothesis(ids[: count - 1], score, looked))
    return results
