"""The most probable token at every step."""

import torch

from .beam_search import SearchOutput, real
from .search import SearchDecoder


@torch.no_grad()
def greedy_search(*weights, bos, eos, max_length, forbidden=(), limits=None, return_weights=False, **options):
    """A row's score is the sum of its tokens' log probabilities, that of ``eos`` included.

    A row that comes to where no token has a probability above 0 (of NaN none has) has no output.
    """
    decoder = SearchDecoder(*weights, **options)
    rows = torch.arange(len(decoder.keys), device=decoder.keys.device)
    limits = torch.full_like(rows, max_length) if limits is None else limits
    tokens, going = torch.full_like(rows, bos), torch.ones_like(rows, dtype=torch.bool)
    ids, lengths, scores, looked = [], torch.zeros_like(rows), 0, []
    found = going
    for t in range(max_length + 1):
        logp, weights = decoder.step(tokens)
        logp = real(logp)
        free = logp.clone()
        free[:, list(forbidden)] = -torch.inf
        tokens = torch.where(going & (t < limits), free.argmax(-1), eos)
        scores = scores + torch.where(going, logp[rows, tokens], 0)
        found = found & (scores > -torch.inf)
        going = going & found
        looked.append(torch.where(going[:, None], weights, 0))
        going = going & (tokens != eos)
        lengths += going
        ids.append(tokens)
    ids = torch.where(found[:, None], torch.stack(ids, 1), eos)
    weights = torch.where(found[:, None, None], torch.stack(looked, 1), 0) if return_weights else logp.new_empty(0)
    return SearchOutput(ids, torch.where(found, lengths, 0), scores, weights)
