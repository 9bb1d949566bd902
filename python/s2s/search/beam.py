"""Beam search over a batch: length and coverage penalties, n best outputs."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..text.vocab import BOS, EOS
from .hypothesis import (
    AttentionHistory,
    Hypothesis,
    forbid_repeats,
    head_mean,
    hypotheses,
    never_an_output,
    steps_between_checks,
)


def length_factor(length: int, alpha: float) -> float:
    """lp(Y) = ((5 + |Y|) / 6)^alpha of Wu et al. 2016, by which log P is divided; |Y| counts </s>."""
    return ((5 + length) / 6) ** alpha


def coverage_term(attended: Tensor, valid: Tensor, beta: float) -> Tensor:
    """cp(X; Y) = beta * sum_i log(min(sum_j p_ij, 1)) of Wu et al. 2016, which is added to log P / lp(Y).

    attended (..., S) is the sum over the output, </s> included, of the weights; valid (..., S) says which positions
    are source. A position that was never looked at costs a large number instead of infinity, so that outputs stay
    comparable for models whose window leaves positions out.
    """
    tiny = torch.finfo(torch.float32).tiny
    return beta * attended.clamp(tiny, 1).log().masked_fill(~valid, 0).sum(-1)


@torch.no_grad()
def beam_search(
    model: Any,
    source: Tensor,
    lengths: Tensor,
    max_length: int,
    beam: int = 5,
    *,
    ending: str = "count",
    length_penalty: float = 0.0,
    coverage_penalty: float = 0.0,
    n_best: int = 1,
    no_repeat_ngram: int = 0,
    allow_unknown: bool = False,
    attention: bool = False,
) -> list[list[Hypothesis]]:
    """The outputs of the highest log P(Y | X) / lp(Y) + cp(X; Y) that a beam finds (Wu et al. 2016, equation 14).

    Every step extends each of a row's K prefixes by every token and keeps the most probable; one that ends with
    </s> goes to the finished ones, which the penalties rank. A row is done when K outputs have finished, or when no
    prefix can come to beat the last of its best n_best; with ``ending`` "best" in the second case alone. With "narrow"
    the K of a row becomes less by one with each output, until none is left.

    Args:
        model: has ``start(source, lengths)`` and ``step(tokens, state, memory)``, as Seq2Seq.
        source: (B, S) ids.
        lengths: (B,), how many of them are valid.
        max_length: most tokens of an output, </s> not counted; after as many only </s> can follow.
        beam: K.
        ending: "count", "best" or "narrow".
        length_penalty: alpha of lp, 0 for none; above 0 favours long outputs.
        coverage_penalty: beta of cp, 0 for none; above 0 favours outputs that looked at all of the source.
        n_best: how many outputs a row gets, at most K.
        no_repeat_ngram, allow_unknown: as in ``greedy``.
        attention: whether the Hypotheses get their attention weights.

    Returns:
        A list per row of up to n_best Hypotheses, best first.
    """
    batch, device, end = len(source), source.device, max_length + 1
    n_best = min(n_best, beam)
    memory, state = model.start(source, lengths)
    tokens = source.new_full((batch,), BOS)
    alive = torch.arange(batch, device=device)  # which row of the input each of the R rows is
    scores = torch.zeros(batch, 1, device=device)  # (R, K) of the prefixes; the first step has one, the empty one
    if coverage_penalty:
        valid = torch.arange(source.shape[1], device=device) < lengths[:, None]
        attended = torch.zeros(batch, 1, source.shape[1], device=device)
    # For every step, the prefixes that it made: their last token, and which prefix of the step before they continue.
    made = source.new_empty(2, end, batch, beam)
    # The K best finished outputs of a row: score, number of tokens, and which prefix was continued with </s>.
    done = torch.full((batch, beam), -torch.inf, device=device), *source.new_zeros(2, batch, beam)
    results = tuple(field.clone() for field in done)
    left, places = source.new_full((batch,), beam), torch.arange(2 * beam, device=device)  # of a beam that narrows
    history, check = AttentionHistory(), steps_between_checks(device)
    never = torch.tensor(never_an_output(allow_unknown), device=device)
    before = source.new_empty(batch, 0)  # with no_repeat_ngram, the tokens of every prefix

    for t in range(end):
        logp, weights, state = model.step(tokens, state, memory)
        if attention:
            history.append(weights, alive)
        if coverage_penalty:
            attended = attended + head_mean(weights).view(attended.shape)
        rows, width = scores.shape
        # 2K candidates: at most K of them end, so K to go on with are always among them.
        if t < max_length:
            logp.index_fill_(1, never, -torch.inf)
            if no_repeat_ngram:
                forbid_repeats(logp, before, no_repeat_ngram)
        gain, token = extensions(logp, 2 * beam, only_end=t == max_length)
        best, where = (scores[:, :, None] + gain.view(rows, width, -1)).flatten(1).topk(2 * beam)
        parent, token = where // (2 * beam), token.view(rows, -1).gather(1, where)
        ends = token == EOS
        if ending == "narrow":
            best = best.masked_fill(places >= left[:, None], -torch.inf)
            left = left - (ends & (best > -torch.inf)).sum(1)

        # Of the candidates that end, only those among the K best count, as a beam of K would keep them.
        from_prefix = parent[:, :beam]
        ended = best[:, :beam].masked_fill(~ends[:, :beam], -torch.inf) / length_factor(t + 1, length_penalty)
        if coverage_penalty:
            ended += coverage_term(attended, valid[:, None], coverage_penalty).gather(1, from_prefix)
        done = keep_best(done, (ended, torch.full_like(from_prefix, t), from_prefix))

        scores, chosen = best.masked_fill_(ends, -torch.inf).topk(beam)
        parent = parent.gather(1, chosen)
        made[0, t, alive], made[1, t, alive] = token, parent = token.gather(1, chosen), parent

        # What a prefix may still score: log P only falls, a larger lp brings it nearer to 0, and cp is at most 0.
        most = torch.maximum(*(scores[:, 0] / length_factor(n, length_penalty) for n in (t + 2, end)))
        finished = done[0][:, n_best - 1] >= most
        if ending != "best":  # of a beam that narrows this is when none is left
            finished |= (done[0] > -torch.inf).all(1)
        going = torch.arange(rows, device=device)
        if (t + 1) % check == 0 or t == max_length:
            going = (~finished).nonzero().squeeze(-1)
            if len(going) < rows:
                for field, result in zip(done, results):
                    result[alive[finished]] = field[finished]
            if len(going) == 0:
                break
        scores = scores.masked_fill_(finished[:, None], -torch.inf)  # frozen until it is taken out
        tokens, flat = token[going].flatten(), (going[:, None] * width + parent[going]).flatten()
        state = tuple(field[flat] for field in state)
        if no_repeat_ngram:
            before = torch.cat([before[flat], tokens[:, None]], 1)
        if coverage_penalty:
            attended = attended.flatten(0, 1)[flat].view(-1, beam, attended.shape[-1])
        if len(going) < rows or width < beam:
            memory = memory.rows(flat)  # a row's prefixes share its source, so only rows that leave change it
        if len(going) < rows:
            scores, alive, left = scores[going], alive[going], left[going]
            done = tuple(field[going] for field in done)
            if coverage_penalty:
                valid = valid[going]

    scores, *ends_at = (result[:, :n_best] for result in results)
    ids, path = trace_back(made[:, : t + 1], *ends_at)
    return hypotheses(ids, scores, history.read(path) if attention else None, lengths)


def extensions(logp, count, only_end):
    """The ``count`` best next tokens of each prefix, logp (R*K, V): log probabilities and tokens (R*K, count)."""
    if only_end:
        gain, token = logp[:, EOS : EOS + 1], torch.full_like(logp[:, :1], EOS, dtype=torch.long)
    else:
        gain, token = logp.topk(min(count, logp.shape[1]))
    missing = count - gain.shape[1]
    return (pad(gain, (0, missing), value=-torch.inf), pad(token, (0, missing))) if missing else (gain, token)


def keep_best(kept, new):
    """Of two tuples of (R, K) and (R, J), scores first, the K best entries of each row, best first."""
    both = [torch.cat(fields, 1) for fields in zip(kept, new)]
    scores, order = both[0].topk(kept[0].shape[1])
    return scores, *(field.gather(1, order) for field in both[1:])


def trace_back(made, count, prefix):
    """Follows outputs from their ends to their beginnings.

    Args:
        made: (2, T, B, K), for every step the token of each prefix that it made and which prefix that continues.
        count: (B, n), how many tokens an output has.
        prefix: (B, n), which prefix its last token, or the empty prefix, is.

    Returns:
        ids (B, n, T), </s> from an output's end on, and path (T, B, n), from which prefix each step went on.
    """
    (token, parent), count, at = made.cpu(), count.cpu(), prefix.cpu()
    ids, path = [], []
    for t in reversed(range(len(token))):
        inside = t < count
        ids.append(token[t].gather(1, at).where(inside, EOS))
        at = parent[t].gather(1, at).where(inside, at)
        path.append(at)
    return torch.stack(ids[::-1], -1), torch.stack(path[::-1])
