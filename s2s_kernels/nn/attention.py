"""Additive attention with its parameters."""

import math

import torch
from torch import nn

from .. import ops


class AdditiveAttention(nn.Module):
    """Bahdanau attention: weights = softmax(v . tanh(W_q query + b + W_k memory)); context = weights @ values.

    The parameters are ``query_layer`` (W_q, b), ``key_layer`` (W_k; a bias there would repeat b) and ``v``,
    (A,) or with heads (N, A).

    Args:
        query_size: width of the query, such as a decoder's state.
        key_size: width of the memory that is attended, such as an encoder's output.
        attention_size: A, the width of one head's score.
        num_heads: N; each head has its own projections, weights and context.
        normalize: v becomes g v / ||v|| with a learned g per head (weight normalisation), as in TensorFlow's
            ``BahdanauAttention(normalize=True)``, whose bias is this module's b.
        bias: whether the query projection has the bias b.
    """

    def __init__(
        self,
        query_size,
        key_size,
        attention_size,
        num_heads=1,
        normalize=False,
        bias=True,
        *,
        device=None,
        dtype=None,
    ):
        super().__init__()
        factory = {"device": device, "dtype": dtype}
        self.query_size, self.key_size = query_size, key_size
        self.attention_size, self.num_heads = attention_size, num_heads
        self.query_layer = nn.Linear(query_size, num_heads * attention_size, bias=bias, **factory)
        self.key_layer = nn.Linear(key_size, num_heads * attention_size, bias=False, **factory)
        shape = (attention_size,) if num_heads == 1 else (num_heads, attention_size)
        self.v = nn.Parameter(torch.empty(shape, **factory))
        if normalize:
            self.g = nn.Parameter(torch.empty(shape[:-1], **factory))
        else:
            self.register_parameter("g", None)
        self._reset_v()

    def _reset_v(self):
        bound = 1 / math.sqrt(self.attention_size)
        nn.init.uniform_(self.v, -bound, bound)  # as the nn.Linear(A, 1) that v stands for
        if self.g is not None:
            nn.init.constant_(self.g, bound)

    def reset_parameters(self):
        self.query_layer.reset_parameters()
        self.key_layer.reset_parameters()
        self._reset_v()

    def extra_repr(self):
        text = f"{self.query_size}, {self.key_size}, {self.attention_size}"
        if self.num_heads != 1:
            text += f", num_heads={self.num_heads}"
        if self.g is not None:
            text += ", normalize=True"
        if self.query_layer.bias is None:
            text += ", bias=False"
        return text

    def score_vector(self):
        """The v of the equation, normalised if so constructed: (A,), with heads (N, A)."""
        if self.g is None:
            return self.v
        return self.g[..., None] * nn.functional.normalize(self.v, dim=-1)

    def _split_heads(self, x):
        return x if self.num_heads == 1 else x.unflatten(-1, (self.num_heads, self.attention_size))

    def project_keys(self, memory):
        """Keys (B, S, A), with heads (B, S, N, A), of a memory (B, S, key_size): once a source, not once a step."""
        return self._split_heads(self.key_layer(memory))

    def forward(self, query, memory, values=None, *, keys=None, lengths=None, mask=None, bias=None):
        """Attend with one query a row or with T.

        Args:
            query: (B, query_size) or (B, T, query_size).
            memory: (B, S, key_size); None is allowed when ``keys`` and ``values`` are given.
            values: (B, S, D); the memory itself when None.
            keys: what ``project_keys(memory)`` returned; made here when None.
            lengths: (B,) integer, how many source positions are valid.
            mask: (B, S) bool, True where a position may be attended; given with ``lengths``, both must hold.
            bias: (B, S) or (B, T, S), added to the score.

        Returns:
            context (B, D) or (B, T, D) and weights (B, S) or (B, T, S); with N heads N comes before the last
            dimension of both. A row with no valid position gets zeros.

        Raises:
            ValueError, TypeError: a wrong shape, dtype or device, named in the message.
        """
        if memory is None and (keys is None or values is None):
            raise ValueError("memory is None, expected a tensor unless both keys and values are given")
        if keys is None:
            keys = self.project_keys(memory)
        return ops.additive_attention(
            self._split_heads(self.query_layer(query)),
            keys,
            memory if values is None else values,
            self.score_vector(),
            lengths=lengths,
            mask=mask,
            bias=bias,
        )


class DotAttention(nn.Module):
    """Luong attention of one head: the score is query . key, where the keys are the memory itself, or W_k memory with
    ``general``. `AttentionGRU` and `AttentionLSTM` are made with it for ``score="dot"`` and ``"general"``.

    Args:
        query_size: width of the query and of the keys.
        key_size: width of the memory; that of the query without ``general``.
    """

    query_layer = None  # the query is the state

    def __init__(self, query_size, key_size, general=False, *, device=None, dtype=None):
        super().__init__()
        if not general and key_size != query_size:
            raise ValueError(f"key_size is {key_size}, expected {query_size} as the query: 'general' projects the keys")
        self.query_size, self.key_size, self.key_layer = query_size, key_size, None
        if general:
            self.key_layer = nn.Linear(key_size, query_size, bias=False, device=device, dtype=dtype)

    def reset_parameters(self):
        if self.key_layer is not None:
            self.key_layer.reset_parameters()

    def extra_repr(self):
        return f"{self.query_size}, {self.key_size}"

    def score_vector(self):
        return None

    def project_keys(self, memory):
        """Keys (B, S, query_size) of a memory (B, S, key_size)."""
        return memory if self.key_layer is None else self.key_layer(memory)
