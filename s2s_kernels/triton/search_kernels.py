"""The kernels of a search, which follow the logits of each step: what is chosen, and what the next step starts from.

Rows are pairs (b, j) of a sentence and one of its K prefixes. The vocabulary is cut into parts: `candidates_kernel`
leaves of each part its softmax sums and its best tokens, best first, and `select_kernel` merges those lists for each
sentence. The number of the step is in memory, so that the same launches make every step. A sentence that is done does
nothing in any of them.
"""

import triton
import triton.language as tl

from .language import store

# What changes from call to call is left general: each of these that is 1, or divides by 16 or not, would otherwise
# compile a kernel of its own.
GENERAL = ("B", "S", "T", "n_best", "logits_r", "eos")


def kernel(function):
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return triton.jit(function, do_not_specialize=[name for name in names if name in GENERAL])


@kernel
def candidates_kernel(
    logits, forbidden, limits, step, alive, most, total, values, tokens, logits_r, V, K, M, eos,
    ACC: tl.constexpr, BV: tl.constexpr,
):  # fmt: skip
    """Of one part of a row: the largest logit and sum exp(logit - it), and the M best tokens that may follow."""
    r, part, parts = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    b = r // K
    if tl.load(alive + b) != 0:
        v = part * BV + tl.arange(0, BV)
        x = tl.load(logits + r * logits_r + v, mask=v < V, other=-float("inf")).to(ACC)
        highest = tl.max(x, 0)
        shift = tl.where(highest == -float("inf"), 0.0, highest)
        tl.store(most + r * parts + part, highest)
        tl.store(total + r * parts + part, tl.sum(tl.exp(x - shift), 0))
        allowed = x == x  # a NaN is in the sum, and so in every score, and is never a maximum
        if forbidden is not None:
            allowed = allowed & (tl.load(forbidden + v, mask=v < V, other=1) == 0)
        at_limit = tl.load(step) >= tl.load(limits + b)
        x = tl.where(tl.where(at_limit, (v == eos) & (x == x), allowed), x, -float("inf"))
        first = (r * parts + part) * M
        for m in range(M):
            best = tl.max(x, 0)
            token = tl.min(tl.where(x == best, v, 2147483647), 0)
            tl.store(values + first + m, best)
            tl.store(tokens + first + m, token)
            x = tl.where(v == token, -float("inf"), x)


@kernel
def look_kernel(
    weights, history, step, alive, lengths, mask, attended, attended_next, coverage, B, S, N, K,
    ACC: tl.constexpr, BS: tl.constexpr,
):  # fmt: skip
    """Where a row looks, the mean over its heads; the sum over its steps, and sum_s log(min(sum, 1)) of it."""
    r = tl.program_id(0).to(tl.int64)
    b = r // K
    if tl.load(alive + b) != 0:
        t = tl.load(step).to(tl.int64)
        length = S
        if lengths is not None:
            length = tl.minimum(tl.load(lengths + b).to(tl.int32), S)
        terms = tl.zeros([BS], ACC)
        for first in range(0, S, BS):
            s = first + tl.arange(0, BS)
            looked = tl.zeros([BS], ACC)
            for n in range(N):
                looked += tl.load(weights + (r * N + n) * S + s, mask=s < S, other=0)
            looked = looked / tl.maximum(N, 1)
            if history is not None:
                tl.store(history + (t * B * K + r) * S + s, looked, mask=s < S)
            if attended is not None:
                looked += tl.load(attended + r * S + s, mask=s < S, other=0)
                tl.store(attended_next + r * S + s, looked, mask=s < S)
                valid = s < length
                if mask is not None:
                    valid = valid & (tl.load(mask + b * S + s, mask=valid, other=0) != 0)
                # The smallest float32 stands for what was never looked at. (tl.maximum would lose a NaN.)
                looked = tl.where(looked < 1.1754943508222875e-38, 1.1754943508222875e-38, looked)
                looked = tl.where(looked > 1.0, 1.0, looked)
                terms += tl.where(valid, tl.log(looked), 0.0)
        if attended is not None:
            tl.store(coverage + r, tl.sum(terms, 0))


@kernel
def select_kernel(
    most, total, values, tokens, coverage, coverage_penalty, factors, limits, step, alive, remaining,
    scores, next_tokens, origins, path_tokens, path_parents, ended, ended_parents,
    T, K, M, C, parts, eos, n_best,
    ACC: tl.constexpr, BK: tl.constexpr, BP: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """The next prefixes of sentence b, and its outputs that end here.

    Each part of each prefix is a list of candidates, best first. One after another the best of the lists' heads is
    taken, of equal ones that of the better prefix, then of the larger logit, then of the lower token.
    """
    b = tl.program_id(0).to(tl.int64)
    if tl.load(alive + b) != 0:
        t = tl.load(step)
        j, p = tl.arange(0, BK), tl.arange(0, BP)
        lists = (b * K + j)[:, None] * parts + p[None, :]
        inside = (j < K)[:, None] & (p < parts)[None, :]
        # log softmax(x) = x - row_most - log_total
        part_most = tl.load(most + lists, mask=inside, other=-float("inf"))
        row_most = tl.max(part_most, 1)
        shift = tl.where(row_most == -float("inf"), 0.0, row_most)
        part_total = tl.load(total + lists, mask=inside, other=0)
        log_total = tl.log(tl.sum(part_total * tl.exp(part_most - shift[:, None]), 1))
        before = tl.load(scores + b * K + j, mask=j < K, other=-float("inf"))

        at = tl.zeros([BK, BP], tl.int32)
        heads = tl.load(values + lists * M, mask=inside, other=-float("inf"))
        new_scores = tl.full([BK], -float("inf"), ACC)
        new_tokens = tl.full([BK], eos, tl.int32)
        new_parents = tl.zeros([BK], tl.int32)
        new_ended = tl.full([BK], -float("inf"), ACC)
        new_ended_parents = tl.zeros([BK], tl.int32)
        here_factor = tl.load(factors + t + 1)
        going = 0
        for i in range(C):
            heads_of_rows = tl.max(heads, 1)
            candidates = before + ((heads_of_rows - shift) - log_total)
            candidates = tl.where((candidates == candidates) & (j < K), candidates, -float("inf"))
            score = tl.max(candidates, 0)
            parent = tl.min(tl.where(candidates == score, j, BK), 0)
            here = (heads == heads_of_rows[:, None]) & (j == parent)[:, None]
            part = tl.min(tl.min(tl.where(here, p[None, :], BP), 1), 0)
            here = (j == parent)[:, None] & (p == part)[None, :]
            rank = tl.sum(tl.sum(tl.where(here, at, 0), 1), 0)
            real = score > -float("inf")
            token = tl.load(tokens + ((b * K + parent) * parts + part) * M + rank, mask=real, other=0)
            ends = real & (token == eos)
            # Of the candidates that end only those among the K best count; of 2K, K that go on are among them.
            output = score / here_factor
            if coverage is not None:
                output += tl.load(coverage_penalty) * tl.load(coverage + b * K + parent, mask=real, other=0)
            counts = j == tl.where(ends & (output == output), i, -1)
            new_ended = tl.where(counts, output, new_ended)
            new_ended_parents = tl.where(counts, parent, new_ended_parents)
            goes = j == tl.where(real & (token != eos), going, -1)
            new_scores = tl.where(goes, score, new_scores)
            new_tokens = tl.where(goes, token, new_tokens)
            new_parents = tl.where(goes, parent, new_parents)
            going += (real & (token != eos)).to(tl.int32)
            at += here.to(tl.int32)
            heads = tl.where(
                here, tl.load(values + lists * M + at, mask=here & inside & (at < M), other=-float("inf")), heads
            )

        # What a prefix may still score: log P only falls, a larger penalty brings it nearer to 0, and cp is no gain.
        limit = tl.load(limits + b)
        best = tl.max(new_scores, 0)
        bound = tl.maximum(best / tl.load(factors + t + 2), best / tl.load(factors + limit + 1))
        found = tl.sum((new_ended > -float("inf")).to(tl.int32), 0)
        better = tl.sum(((new_ended > -float("inf")) & (new_ended >= bound)).to(tl.int32), 0)
        ended += b * T * K
        ended_parents += b * T * K
        for first in range(0, t * K, BE):
            e = first + tl.arange(0, BE)
            x = tl.load(ended + e, mask=e < t * K, other=-float("inf"))
            found += tl.sum((x > -float("inf")).to(tl.int32), 0)
            better += tl.sum(((x > -float("inf")) & (x >= bound)).to(tl.int32), 0)
        over = (t >= limit) | (going == 0) | (found >= K) | (better >= n_best)
        if over:
            tl.store(alive + b, 0)
            tl.atomic_add(remaining, -1)
        tl.debug_barrier()  # every thread has read what is written now
        row = b * K + j
        tl.store(scores + row, new_scores, mask=j < K)
        tl.store(next_tokens + row, new_tokens, mask=j < K)
        tl.store(origins + row, b.to(tl.int32) * K + new_parents, mask=j < K)
        tl.store(path_tokens + (b * T + t) * K + j, new_tokens, mask=j < K)
        tl.store(path_parents + (b * T + t) * K + j, new_parents, mask=j < K)
        tl.store(ended + t * K + j, new_ended, mask=j < K)
        tl.store(ended_parents + t * K + j, new_ended_parents, mask=j < K)


@triton.jit
def copy(source, to, inside):
    store(to, tl.load(source, mask=inside, other=0), inside)


@kernel
def advance_kernel(
    tokens, origins, step, alive, embedding, h_next, h, operand, c_next, c, feed, attended_next, attended,
    inputs, features, embedding_v, inputs_r, feed_r, features_r, K, H, E, F, S, BH: tl.constexpr,
):  # fmt: skip
    """What each row of the next step starts from: its token's embedding, and all else of the row that it goes on from.

    inputs: (R, E + F), what the cell reads. features: where the readout reads the embedding, or None.
    """
    r, j = tl.program_id(0).to(tl.int64), tl.program_id(1) * BH + tl.arange(0, BH)
    if (tl.program_id(0) == 0) & (tl.program_id(1) == 0):
        tl.store(step, tl.load(step) + 1)
    if tl.load(alive + r // K) != 0:
        token, origin = tl.load(tokens + r).to(tl.int64), tl.load(origins + r).to(tl.int64)
        copy(h_next + origin * H + j, h + r * H + j, j < H)
        if operand is not None:
            copy(h_next + origin * H + j, operand + r * H + j, j < H)
        if c is not None:
            copy(c_next + origin * H + j, c + r * H + j, j < H)
        copy(embedding + token * embedding_v + j, inputs + r * inputs_r + j, j < E)
        if features is not None:
            copy(embedding + token * embedding_v + j, features + r * features_r + j, j < E)
        if feed is not None:
            copy(feed + origin * feed_r + j, inputs + r * inputs_r + E + j, j < F)
        if attended is not None:
            copy(attended_next + origin * S + j, attended + r * S + j, j < S)


@kernel
def read_kernel(path_tokens, path_parents, prefixes, ends, history, ids, weights, n_best, B, T, K, S, BS: tl.constexpr):
    """One output, from its last prefix back to the first. ends: the step of its eos, -1 of none."""
    o = tl.program_id(0).to(tl.int64)
    b = o // n_best
    prefix, end = tl.load(prefixes + o).to(tl.int32), tl.load(ends + o).to(tl.int32)
    for i in range(end + 1):
        t = end - i
        if i > 0:
            at = (b * T + t) * K + prefix
            tl.store(ids + o * T + t, tl.load(path_tokens + at).to(tl.int64))
            prefix = tl.load(path_parents + at)
        if history is not None:
            for first in range(0, S, BS):
                s = first + tl.arange(0, BS)
                copy(
                    history + ((t.to(tl.int64) * B + b) * K + prefix) * S + s, weights + (o * T + t) * S + s, s < S
                )  # fmt: skip
