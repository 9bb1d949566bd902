"""Beam search with length and coverage penalties."""

from typing import NamedTuple

import torch
from torch import Tensor

from .search import SearchDecoder


class SearchOutput(NamedTuple):
    ids: Tensor  # (B, n, max_length + 1) int64, eos from the end on; greedy search has no dimension n
    lengths: Tensor  # (B, n) int64, tokens before eos
    scores: Tensor  # (B, n), -inf where there are fewer outputs
    weights: Tensor  # (B, n, max_length + 1, S), zero past the end, the mean over the heads; empty if not asked for


def best(x, count):
    """The ``count`` largest of each row and where they are; of equals the first."""
    values, order = torch.sort(x, dim=-1, descending=True, stable=True)
    return values[:, :count], order[:, :count]


def take(x, index):
    """x (B, K, ...), index (B, J) -> (B, J, ...)."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]


def real(scores):
    """NaN, of NaN or infinite weights, as -inf: nothing that can be found."""
    return torch.where(scores > -torch.inf, scores, -torch.inf)


def length_factor(length, alpha, like):
    """Infinite, or zero, where the penalty is that large."""
    length = torch.as_tensor(length, dtype=torch.float64, device=like.device)
    return (((5 + length) / 6) ** float(alpha)).to(like.dtype)


@torch.no_grad()
def beam_search(
    *weights, bos, eos, max_length, beam=5, n_best=1, length_penalty=0.0, coverage_penalty=0.0, forbidden=(),
    limits=None, return_weights=False, **options,
):  # fmt: skip
    """log P / lp + cp with lp = ((5 + |Y|) / 6)^alpha and cp = beta sum_s log(min(sum_t weights_ts, 1))."""
    decoder = SearchDecoder(*weights, copies=beam, **options)
    device, size = decoder.keys.device, decoder.keys.shape[1]
    batch, steps = len(decoder.keys) // beam, max_length + 1
    first = torch.arange(batch, device=device)[:, None] * beam
    limits = first.new_full((batch,), max_length) if limits is None else limits
    wide = torch.float64 if decoder.keys.dtype == torch.float64 else torch.float32
    tokens = first.new_full((batch * beam,), bos)
    scores = torch.full((batch, beam), -torch.inf, dtype=wide, device=device)
    done = scores, torch.zeros_like(scores, dtype=torch.long), first.new_full((batch, beam, steps), eos)
    done += (torch.zeros(batch, beam, steps, size, dtype=wide, device=device),)
    ids, looked = done[2:]
    scores = scores.clone()
    scores[:, 0] = 0  # the others are copies of the same, empty prefix

    for t in range(steps):
        logp, attended = decoder.step(tokens)
        looked = looked.clone()
        looked[:, :, t] = attended.view(batch, beam, size)
        free, ending = logp.clone(), torch.full_like(logp, -torch.inf)
        free[:, list(forbidden)] = -torch.inf
        ending[:, eos] = logp[:, eos]
        logp = torch.where((limits == t).repeat_interleave(beam)[:, None], ending, free)
        found, where = best(real(scores[:, :, None] + logp.view(batch, beam, logp.shape[1])).flatten(1), 2 * beam)
        parent, token = where // logp.shape[1], where % logp.shape[1]
        ends = token == eos

        # Of the candidates that end only those among the K best count; of 2K, K that go on are among them.
        ended = torch.where(ends, found, -torch.inf)[:, :beam] / length_factor(t + 1, length_penalty, scores)
        if coverage_penalty:
            coverage = looked.sum(2).clamp(torch.finfo(torch.float32).tiny, 1).log()
            valid = decoder.valid.view(batch, beam, size)
            ended = ended + float(coverage_penalty) * take(torch.where(valid, coverage, 0).sum(-1), parent[:, :beam])
        ended = real(ended)
        order = best(torch.cat([done[0], ended], 1), beam)[1]
        ended = ended, torch.full_like(parent, t)[:, :beam], take(ids, parent[:, :beam]), take(looked, parent[:, :beam])
        done = tuple(take(torch.cat(pair, 1), order) for pair in zip(done, ended, strict=True))

        scores, chosen = best(torch.where(ends, -torch.inf, found), beam)
        parent, token = parent.gather(1, chosen), token.gather(1, chosen)
        ids, looked = take(ids, parent), take(looked, parent)
        ids[:, :, t] = token
        tokens = token.flatten()
        decoder.take((first + parent).flatten())
        # What a prefix may still score: log P only falls, a larger penalty brings it nearer to 0, and cp is no gain.
        most = torch.maximum(*(scores[:, 0] / length_factor(n, length_penalty, scores) for n in (t + 2, limits + 1)))
        over = (limits == t) | (done[0] > -torch.inf).all(1) | (done[0][:, n_best - 1] >= most)
        scores = torch.where(over[:, None], -torch.inf, scores)

    scores, lengths, ids, looked = (x[:, :n_best] for x in done)
    return SearchOutput(ids, lengths, scores, looked if return_weights else scores.new_empty(0))
