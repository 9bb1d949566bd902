"""A search among some of the tokens: the same search, of a smaller vocabulary."""

import torch

from ..checks import dims, refuse


def tokens_of(shortlist, vocab, eos, like):
    """What a shortlist holds, checked: read on the host, once a search."""
    size = dims("shortlist", shortlist, "K")[0]
    if shortlist.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"shortlist has dtype {shortlist.dtype}, expected torch.int64 or torch.int32")
    refuse(shortlist.device != like.device, f"shortlist is on {shortlist.device}, expected {like.device} as keys")
    found = shortlist.tolist()
    wrong = [token for token in found if not 0 <= token < vocab]
    refuse(wrong, f"shortlist holds {wrong[:1]}, expected tokens from 0 to {vocab - 1}")
    rising = all(found[i] < found[i + 1] for i in range(size - 1))
    refuse(not rising, "shortlist is not in ascending order, each token once, expected that")
    refuse(eos not in found, f"shortlist has no eos = {eos}, without which no output could end")
    return found


def shortened(shortlist, found, embedding, w_output, b_output, options):
    """The embedding, output layer and options of the search among these tokens. bos, which may be none of them, is
    read after them."""
    place = {token: i for i, token in enumerate(found)}
    rows = torch.cat([shortlist, shortlist.new_tensor([options["bos"]])])
    options = options | {
        "bos": len(found),
        "eos": place[options["eos"]],
        "forbidden": tuple(place[token] for token in options["forbidden"] if token in place),
    }
    return embedding[rows], w_output[shortlist], None if b_output is None else b_output[shortlist], options
