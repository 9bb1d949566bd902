"""Outputs drawn at random from the model's distribution, or from its likelier part."""

import torch
from torch import Tensor

from .greedy_search import follow
from .hypothesis import Hypothesis


def sample(
    model,
    source: Tensor,
    lengths: Tensor,
    max_length: int,
    random: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    no_repeat_ngram: int = 0,
    allow_unknown: bool = False,
    attention: bool = False,
) -> list[list[Hypothesis]]:
    """n outputs a row, each token drawn from p^(1 / temperature), normalised, of the tokens that are left.

    Args:
        model, source, lengths, max_length, no_repeat_ngram, allow_unknown, attention: as in ``greedy``.
        random: (B, n, max_length + 1) numbers from [0, 1), as ``uniform`` makes them: one a token, so that a row's
            outputs depend on its own numbers only, whatever else is in the batch.
        temperature: above 1 more even, below 1 more like greedy search.
        top_k: only the k most probable tokens can be drawn, 0 for all.
        top_p: only the most probable tokens that together have at least this probability (Holtzman et al. 2020,
            nucleus sampling), after temperature and top_k.

    Returns:
        A list per row of n Hypotheses, the most probable first; their scores are the log probabilities that the
        model gives, whatever the temperature.
    """
    random = random.to(source.device)

    def choose(logp, alive, t):
        return draw(logp, random[:, :, t].flatten()[alive], temperature, top_k, top_p)

    common = {"no_repeat_ngram": no_repeat_ngram, "allow_unknown": allow_unknown, "attention": attention}
    return follow(model, source, lengths, max_length, choose, copies=random.shape[1], **common)


def uniform(count, n, max_length, generator=None) -> Tensor:
    """(count, n, max_length + 1) numbers for ``sample``, the same on every device for the same torch.Generator.

    Each row is drawn by itself, so 64 rows and then 36 more get the numbers of 100 rows at once.
    """
    return torch.rand(count, n, max_length + 1, generator=generator, dtype=torch.float64)


def draw(logp, random, temperature=1.0, top_k=0, top_p=1.0) -> Tensor:
    """A token (B,) from log probabilities (B, V) by numbers (B,) from [0, 1): the inverse of the cumulative sum."""
    tokens = None
    if top_k or top_p < 1:
        logp, tokens = logp.topk(min(top_k, logp.shape[1]) or logp.shape[1])
    # In float64: over thousands of tokens a float32 sum is wrong by more than the rarest token's probability.
    cumulative = torch.softmax(logp.double() / temperature, -1).cumsum(-1)
    total = cumulative[:, -1:].contiguous()
    if top_p < 1:
        last = (cumulative < top_p * total).sum(-1, keepdim=True)  # the first that reaches top_p is kept
        total = cumulative.gather(1, last)
    chosen = torch.searchsorted(cumulative, random[:, None] * total, right=True)
    # A product that rounds up to the total would choose the token after the last, and a NaN one that does not exist.
    chosen = torch.minimum(chosen, torch.searchsorted(cumulative, total)).clamp_(max=cumulative.shape[1] - 1)
    return (chosen if tokens is None else tokens.gather(1, chosen)).squeeze(1)
