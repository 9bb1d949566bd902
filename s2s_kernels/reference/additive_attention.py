"""Additive (Bahdanau) attention: score, mask, softmax and context."""

import torch


def valid_positions(size, lengths, mask):
    """(B, size) bool, True where a position counts; None when every position does."""
    if lengths is None:
        return mask
    valid = torch.arange(size, device=lengths.device) < lengths[:, None]
    return valid if mask is None else valid & mask


def zero_invalid(x, valid):
    """Zeros in place of whatever x (B, S, ...) holds at invalid positions, NaN and inf included.

    It comes before any product, so that nothing leaks forward (0 * NaN) or backward (0 * inf).
    """
    return x if valid is None else torch.where(valid.reshape(valid.shape + (1,) * (x.dim() - 2)), x, 0)


def normalize(scores, valid):
    """softmax of scores (B, ..., S) over the valid positions."""
    if valid is not None:
        valid = valid.reshape(len(valid), *(1,) * (scores.dim() - 2), valid.shape[1])
        scores = scores.masked_fill(~valid, -torch.inf)
    # A row where nothing may be attended would be 0/0: it gets zero weights instead, and zero gradients.
    empty = (scores == -torch.inf).all(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(empty, 0), -1).masked_fill(empty, 0)


def attend(query, keys, values, v, valid=None, bias=None):
    """One head or N, one query or T, over keys and values that zero_invalid has been through."""
    if v.dim() == 1:
        context, weights = attend(query.unsqueeze(-2), keys.unsqueeze(-2), values, v[None], valid, bias)
        return context.squeeze(-2), weights.squeeze(-2)
    if query.dim() == 3:
        bias = None if bias is None else bias.unsqueeze(1)
        context, weights = attend(query.unsqueeze(1), keys, values, v, valid, bias)
        return context.squeeze(1), weights.squeeze(1)
    scores = torch.einsum("btsna,na->btns", torch.tanh(query[:, :, None] + keys[:, None]), v)
    if bias is not None:
        scores = scores + (bias if bias.dim() == 3 else bias[:, None])[:, :, None]
    weights = normalize(scores, valid)
    return torch.einsum("btns,bsd->btnd", weights, values), weights


def additive_attention(query, keys, values, v, *, lengths=None, mask=None, bias=None):
    """weights = softmax(v . tanh(query + keys) + bias); context = weights @ values."""
    valid = valid_positions(keys.shape[1], lengths, mask)
    if bias is not None and valid is not None:
        bias = torch.where(valid if bias.dim() == 2 else valid[:, None], bias, 0)
    return attend(query, zero_invalid(keys, valid), zero_invalid(values, valid), v, valid, bias)
