"""One path for each row: the most probable token at every step, or whatever else chooses it."""

import torch
from torch import Tensor

from ..text.vocab import BOS, EOS
from .hypothesis import (
    AttentionHistory,
    Hypothesis,
    forbid_repeats,
    hypotheses,
    never_an_output,
    steps_between_checks,
)


def greedy(
    model,
    source: Tensor,
    lengths: Tensor,
    max_length: int,
    *,
    no_repeat_ngram: int = 0,
    allow_unknown: bool = False,
    attention: bool = False,
) -> list[Hypothesis]:
    """The most probable token at every step.

    Args:
        model: has ``start(source, lengths)`` and ``step(tokens, state, memory)``, as Seq2Seq.
        source: (B, S) ids.
        lengths: (B,), how many of them are valid.
        max_length: most tokens of an output, </s> not counted; after as many only </s> can follow.
        no_repeat_ngram: no output has the same so many tokens in a row twice; 0 for no such limit.
        allow_unknown: whether outputs may have <unk> in them.
        attention: whether the Hypotheses get their attention weights.

    Returns:
        One Hypothesis a row, whose score is the log probability.
    """

    def choose(logp, *_):
        return logp.argmax(-1)

    common = {"no_repeat_ngram": no_repeat_ngram, "allow_unknown": allow_unknown, "attention": attention}
    return [best for (best,) in follow(model, source, lengths, max_length, choose, **common)]


@torch.no_grad()
def follow(
    model, source, lengths, max_length, choose, *, no_repeat_ngram, allow_unknown, attention, copies=1
) -> list[list[Hypothesis]]:
    """``copies`` paths for each row, with every token chosen by ``choose(logp (R, V), alive (R,), t) -> (R,)``.

    ``alive`` says which path each of the R is, of the B * copies there are: those of row b come one after the
    other. The Hypotheses of a row are sorted by their score, the log probability.
    """
    batch, device = len(source), source.device
    memory, state = model.start(source, lengths)
    alive = torch.arange(batch * copies, device=device)
    if copies > 1:
        memory, state = memory.rows(alive // copies), tuple(field[alive // copies] for field in state)
    tokens, history = source.new_full((batch * copies,), BOS), AttentionHistory()
    ids = source.new_full((batch * copies, max_length + 1), EOS)
    scores = torch.zeros(batch * copies, device=device)
    over = torch.zeros(batch * copies, dtype=torch.bool, device=device)
    never = torch.tensor(never_an_output(allow_unknown), device=device)
    check = steps_between_checks(device)
    for t in range(max_length + 1):
        logp, weights, state = model.step(tokens, state, memory)
        if t < max_length:
            logp.index_fill_(1, never, -torch.inf)
            if no_repeat_ngram:
                forbid_repeats(logp, ids[alive, :t], no_repeat_ngram)
            tokens = choose(logp, alive, t)
        else:  # no room for another token
            tokens = torch.full_like(tokens, EOS)
        ids[alive, t] = tokens  # what follows the first </s> is cut off at the end
        gain = logp.gather(1, tokens[:, None]).squeeze(1)
        scores.index_add_(0, alive, gain.masked_fill_(over, 0.0).float())
        if attention:
            history.append(weights, alive)
        over |= tokens == EOS
        if (t + 1) % check == 0:
            going = (~over).nonzero().squeeze(-1)
            if len(going) == 0:
                break
            if len(going) < len(tokens):
                tokens, alive, over, memory = tokens[going], alive[going], over[going], memory.rows(going)
                state = tuple(field[going] for field in state)
    looked = None
    if attention:
        looked = history.read(torch.zeros(len(history.steps), batch * copies, 1, dtype=torch.long))
        looked = looked.view(batch, copies, *looked.shape[2:])
    found = hypotheses(ids.view(batch, copies, -1), scores.view(batch, copies), looked, lengths)
    return [sorted(row, key=lambda best: -best.score) for row in found]
