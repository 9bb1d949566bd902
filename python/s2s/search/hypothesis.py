"""What a search returns, and what greedy search, sampling and beam search share."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import S2SError
from ..text.vocab import BOS, EOS, PAD, UNK


class Hypothesis(NamedTuple):
    """One output of a search."""

    ids: list[int]  # T tokens, without <s> and </s>
    score: float  # log probability of ids and </s>, with the penalties of a beam search
    weights: Tensor | None  # (T + 1, S): where each token, and </s>, looked; heads averaged; None unless asked for


def hypotheses(ids: Tensor, scores: Tensor, weights: Tensor | None, lengths: Tensor) -> list[list[Hypothesis]]:
    """Hypotheses of ids (B, n, T) that have </s> each, scores (B, n), weights (B, n, T, S) or None, lengths (B,).

    Those of score -inf are left out: there were not so many. S2SError where a row has none.
    """
    results = []
    for b, (rows, row_scores, size) in enumerate(zip(ids.tolist(), scores.tolist(), lengths.tolist(), strict=True)):
        results.append([])
        for i, (row, score) in enumerate(zip(rows, row_scores, strict=True)):
            if score > -torch.inf:
                end = row.index(EOS)
                looked = None if weights is None else weights[b, i, : end + 1, :size].clone()
                results[-1].append(Hypothesis(row[:end], score, looked))
        if not results[-1]:
            raise S2SError("the model's probabilities are no numbers (NaN), as after a training that diverged.")
    return results


def need_attention(model: Any) -> None:
    """S2SError if the model has no attention weights: its steps return None for them."""
    kind = model.config.attention
    if not model.config.attends:
        raise S2SError(
            f"this model has no attention weights (its attention is {kind!r}), which alignments, a coverage penalty "
            "and the replacing of unknown words need."
        )


def head_mean(weights: Tensor) -> Tensor:
    """(B, S) float32 of weights (B, S) or, with heads, (B, N, S)."""
    return (weights if weights.dim() == 2 else weights.mean(1)).float()


def never_an_output(allow_unknown: bool) -> tuple[int, ...]:
    """The tokens that no output has: padding and <s>, and <unk> unless it is allowed."""
    return (PAD, BOS) if allow_unknown else (PAD, BOS, UNK)


def forbid_repeats(logp: Tensor, before: Tensor, size: int) -> Tensor:
    """Every token that would make ``size`` tokens a second time those of before (B, T) ruled out in place in log
    probabilities (B, V)."""
    start = before.shape[1] - size + 1  # of the tokens that would be the beginning of such a repeat
    if start < 1:
        return logp
    windows = before.unfold(1, size, 1)
    same = (windows[..., :-1] == before[:, None, start:]).all(-1)
    return logp.scatter_add_(
        1, windows[..., -1], torch.zeros_like(same, dtype=logp.dtype).masked_fill_(same, -torch.inf)
    )


def steps_between_checks(device: torch.device) -> int:
    """After how many steps the finished rows are looked for and taken out of the batch.

    That needs a number on the host, for which a GPU has to be waited for, so there it is not done at every step.
    It changes no result: a finished row that is still in the batch is frozen.
    """
    return 1 if device.type == "cpu" else 8


class AttentionHistory:
    """The weights of every step as the model made them; nothing is copied until a path through them is read."""

    def __init__(self) -> None:
        self.steps = []

    def append(self, weights: Tensor, alive: Tensor) -> None:
        """weights (R*K, [N,] S) of a step whose R rows are the rows ``alive`` (R,) of the input."""
        self.steps.append((head_mean(weights), alive))

    def read(self, path: Tensor) -> Tensor:
        """The weights along paths, path (T, B, n) saying from which of a row's K prefixes each step was made.

        Returns (B, n, T, S) on the CPU, zeros where a row was no longer in the batch.
        """
        path = path.cpu()
        steps, batch, count = path.shape
        found = torch.zeros(batch, count, steps, self.steps[0][0].shape[-1])
        for t, (weights, alive) in enumerate(self.steps[:steps]):
            alive = alive.cpu()
            weights = weights.cpu().view(len(alive), -1, weights.shape[-1])
            found[alive, :, t] = weights[torch.arange(len(alive))[:, None], path[t, alive]]
        return found
