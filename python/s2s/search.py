"""Greedy and beam search, batched; rows that are finished leave the batch."""

from typing import NamedTuple

import torch
from torch import Tensor

from .vocab import BOS, EOS, PAD


class Hypothesis(NamedTuple):
    ids: list[int]  # without <s> and </s>
    score: float  # log probability of ids and </s>, divided by the length penalty
    weights: Tensor | None  # (len(ids) + 1, S): where each token, and </s>, looked; heads averaged


def head_mean(weights):
    """(B, S) of weights (B, S) or, with heads, (B, N, S)."""
    return weights if weights.dim() == 2 else weights.mean(1)


def forbid(logp):
    """Padding and <s> are never an output."""
    logp[:, PAD] = logp[:, BOS] = -torch.inf
    return logp


@torch.no_grad()
def greedy(model, source: Tensor, lengths: Tensor, max_length: int) -> list[Hypothesis]:
    """The most probable token at every step. Returns one Hypothesis a row; max_length counts no </s>."""
    batch, size = source.shape
    memory, state = model.start(source, lengths)
    tokens = source.new_full((batch,), BOS)
    alive = torch.arange(batch, device=source.device)  # which row of the input each row is
    ids = source.new_full((batch, max_length + 1), EOS)
    scores = torch.zeros(batch, device=source.device)
    history = torch.zeros(batch, max_length + 1, size, device=source.device)
    for t in range(max_length + 1):
        logp, weights, state = model.step(tokens, state, memory)
        if t < max_length:
            best, tokens = forbid(logp).max(-1)
        else:  # no room for another token
            best, tokens = logp[:, EOS], torch.full_like(tokens, EOS)
        ids[alive, t] = tokens
        scores[alive] += best
        history[alive, t] = head_mean(weights).float()
        going = (tokens != EOS).nonzero().squeeze(-1)
        if len(going) == 0:
            break
        if len(going) < len(tokens):
            tokens, alive, memory = tokens[going], alive[going], memory.rows(going)
            state = tuple(field[going] for field in state)
    return [hypothesis(*row) for row in zip(ids.tolist(), scores.tolist(), history, lengths.tolist(), strict=True)]


def hypothesis(ids, score, weights, source_length):
    end = ids.index(EOS)
    weights = None if weights is None else weights[: end + 1, :source_length].clone()
    return Hypothesis(ids[:end], score, weights)


def length_penalty(length, alpha):
    """Wu et al. 2016; length counts </s>."""
    return ((5 + length) / 6) ** alpha


@torch.no_grad()
def beam_search(
    model,
    source: Tensor,
    lengths: Tensor,
    max_length: int,
    beam: int = 5,
    alpha: float = 0.0,
    n_best: int = 1,
) -> list[list[Hypothesis]]:
    """The hypotheses of the highest log probability / length_penalty(length, alpha) that a beam finds.

    Every step extends each of the beam's K prefixes by every token and keeps the best; one that ends goes to
    the finished ones. A row is done when K have finished, or when no prefix can still beat its best n_best.

    Args:
        model: has ``start(source, lengths)`` and ``step(tokens, state, memory)``, as Seq2Seq.
        source: (B, S); lengths: (B,).
        max_length: most tokens of an output, </s> not counted; at the limit only </s> can follow.
        beam: K.
        alpha: the length penalty's exponent, 0 for none.
        n_best: how many hypotheses a row gets, at most K.

    Returns:
        A list per row of up to n_best Hypotheses, best first.
    """
    batch, size = source.shape
    device, k, length = source.device, beam, max_length + 1
    n_best = min(n_best, k)
    memory, state = model.start(source, lengths)
    # Row b's K prefixes are rows b*K .. b*K + K-1. At first they are the same, so all but one are ruled out.
    repeat = torch.arange(batch, device=device).repeat_interleave(k)
    memory, state = memory.rows(repeat), tuple(field[repeat] for field in state)
    tokens = source.new_full((batch * k,), BOS)
    scores = torch.full((batch, k), -torch.inf, device=device)
    scores[:, 0] = 0
    ids = source.new_full((batch, k, length), EOS)
    history = torch.zeros(batch, k, length, size, device=device)
    done_scores = torch.full((batch, k), -torch.inf, device=device)
    done_ids, done_history = ids.clone(), history.clone()
    alive, results = torch.arange(batch, device=device), [None] * batch

    for t in range(length):
        rows = len(alive)
        logp, weights, state = model.step(tokens, state, memory)
        vocab = logp.shape[-1]
        if t == max_length:
            ending = logp[:, EOS].clone()
            logp.fill_(-torch.inf)
            logp[:, EOS] = ending
        history[:, :, t] = head_mean(weights).float().view(rows, k, size)
        total = (scores[..., None] + forbid(logp).view(rows, k, vocab)).flatten(1)
        # 2K candidates: at most K of them end, so K to go on with are always among them.
        best, where = total.topk(min(2 * k, total.shape[1]), -1)
        parent, token = where // vocab, where % vocab
        ends = token == EOS

        # Of the candidates that end, only those among the K best count, as a beam of K would keep them.
        ended = torch.where(ends, best, -torch.inf)[:, :k] / length_penalty(t + 1, alpha)
        merged, order = torch.cat([done_scores, ended], 1).topk(k, -1)
        done_scores = merged
        done_ids = take(torch.cat([done_ids, take(ids, parent[:, :k])], 1), order)
        done_history = take(torch.cat([done_history, take(history, parent[:, :k])], 1), order)

        scores, chosen = best.masked_fill(ends, -torch.inf).topk(k, -1)
        parent, token = parent.gather(1, chosen), token.gather(1, chosen)
        ids, history = take(ids, parent), take(history, parent)
        ids[:, :, t] = token

        # What a prefix may still score: log p only falls, and a larger penalty brings it nearer to 0.
        most = torch.maximum(*(scores[:, 0] / length_penalty(n, alpha) for n in (t + 1, length)))
        finished = (done_scores > -torch.inf).all(1) | (done_scores[:, n_best - 1] >= most)
        finished |= scores[:, 0] == -torch.inf
        for i in finished.nonzero().squeeze(-1).tolist():
            b = int(alive[i])
            rows_of = zip(done_ids[i].tolist(), done_scores[i].tolist(), done_history[i], strict=True)
            results[b] = [
                hypothesis(row, score, looked, int(lengths[b]))
                for row, score, looked in list(rows_of)[:n_best]
                if score > -torch.inf
            ]
        going = (~finished).nonzero().squeeze(-1)
        if len(going) == 0:
            break
        alive, scores, ids, history = alive[going], scores[going], ids[going], history[going]
        done_scores, done_ids, done_history = done_scores[going], done_ids[going], done_history[going]
        flat = (going[:, None] * k + parent[going]).flatten()
        memory, state = memory.rows(flat), tuple(field[flat] for field in state)
        tokens = token[going].flatten()
    return results


def take(x, index):
    """x (B, K, ...) and index (B, J) -> (B, J, ...): row b's entries index[b]."""
    return x[torch.arange(len(x), device=x.device)[:, None], index]
