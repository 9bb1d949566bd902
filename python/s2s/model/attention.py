"""Where the decoder looks: score functions and windows, all called as ``s2s_kernels.nn.AdditiveAttention`` is.

Shapes: B batch, S source, T queries, N heads; widths: H query, M memory, A score.
"""

from typing import Any

import torch
from torch import Tensor, nn

import s2s_kernels as sk

from .config import Config


class DotAttention(nn.Module):
    """Luong et al. (2015), eq. 8: score = h . k ("dot"), or h . W k ("general"); weights = softmax(score).

    ``general`` has a W for each head; its keys W k are made once a source. Three batched products and a softmax.
    """

    def __init__(self, query_size: int, key_size: int, num_heads: int = 1, general: bool = False) -> None:
        super().__init__()
        self.query_size, self.num_heads = query_size, num_heads
        self.key_layer = nn.Linear(key_size, num_heads * query_size, bias=False) if general else None

    def project_keys(self, memory: Tensor) -> Tensor:
        """Keys (B, S, H), with heads (B, S, N, H), of a memory (B, S, M)."""
        if self.key_layer is None:
            return memory
        keys = self.key_layer(memory)
        return keys if self.num_heads == 1 else keys.unflatten(-1, (self.num_heads, self.query_size))

    def forward(
        self,
        query: Tensor,
        memory: Tensor | None,
        values: Tensor | None = None,
        *,
        keys: Tensor | None = None,
        lengths: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Arguments and results as ``sk.nn.AdditiveAttention``; every row needs a position that it may attend."""
        values = memory if values is None else values
        keys = self.project_keys(memory) if keys is None else keys
        if query.dim() == 2:
            bias = None if bias is None else bias[:, None]
            context, weights = self(query[:, None], None, values, keys=keys, lengths=lengths, bias=bias)
            return context.squeeze(1), weights.squeeze(1)
        source, heads = keys.shape[1], self.num_heads
        scores = query @ keys.reshape(len(keys), source * heads, query.shape[-1]).mT  # (B, T, S * N)
        scores = scores.unflatten(-1, (source, heads)).mT  # (B, T, N, S)
        if bias is not None:
            scores = scores + (bias if bias.dim() == 3 else bias[:, None])[:, :, None]
        if lengths is not None:
            outside = torch.arange(source, device=keys.device) >= lengths[:, None]
            scores = scores.masked_fill(outside[:, None, None], -torch.inf)
        weights = torch.softmax(scores, -1)
        context = (weights.flatten(1, 2) @ values).unflatten(1, weights.shape[1:3])
        return (context.squeeze(2), weights.squeeze(2)) if heads == 1 else (context, weights)


class LocalAttention(nn.Module):
    """Local attention of Luong et al. (2015), section 3.2: the score counts within ``width`` of a centre p only.

    ``local-m``: p = t, the step itself; a target far longer than its source stays at the last source position.
    ``local-p``: p = S sigmoid(v_p . tanh(W_p h)), S the row's length, and the weights are multiplied by
    exp(-(s - p)^2 / (2 sigma^2)) with sigma = width / 2. They are not normalised again, so they add up to less
    than 1, as in the paper. Positions count from 0.
    """

    def __init__(self, score: nn.Module, width: int, query_size: int, position_size: int | None = None) -> None:
        super().__init__()
        self.score, self.width, self.num_heads = score, width, score.num_heads
        self.predictive = position_size is not None
        if self.predictive:
            self.position_layer = nn.Linear(query_size, position_size, bias=False)
            self.position_v = nn.Linear(position_size, 1, bias=False)

    def project_keys(self, memory: Tensor) -> Tensor:
        return self.score.project_keys(memory)

    def forward(
        self,
        query: Tensor,
        memory: Tensor,
        values: Tensor | None = None,
        *,
        position: Any,
        keys: Tensor | None = None,
        lengths: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As ``sk.nn.AdditiveAttention``, with the step ``position`` (B,) of the query or of the first of T."""
        values = memory if values is None else values
        keys = self.project_keys(memory) if keys is None else keys
        source = values.shape[1]
        ends = position.new_full((len(values),), source) if lengths is None else lengths
        if query.dim() == 3:
            ends = ends[:, None]
        if self.predictive:
            centre = ends * torch.sigmoid(self.position_v(torch.tanh(self.position_layer(query))).squeeze(-1))
        else:
            if query.dim() == 3:
                position = position[:, None] + torch.arange(query.shape[1], device=position.device)
            centre = torch.minimum(position, ends - 1 + self.width).to(query.dtype)
        distance = torch.arange(source, device=values.device) - centre[..., None]  # (B, [T,] S)
        window = torch.zeros_like(distance).masked_fill(distance.abs() > self.width, -torch.inf).to(values.dtype)
        if not self.predictive:
            return self.score(query, None, values, keys=keys, lengths=lengths, bias=window)
        # The score's own context is of no use here, so it gets one column to make it from.
        _, weights = self.score(query, None, values[..., :1], keys=keys, lengths=lengths, bias=window)
        nearness = torch.exp(-2 * (distance / self.width) ** 2)
        weights = weights * (nearness if self.num_heads == 1 else nearness.unsqueeze(-2))
        return torch.einsum("b...s,bsd->b...d", weights, values), weights


def score_arguments(attention: nn.Module, keys: Tensor) -> dict[str, Any]:
    """What the ops of decoders are given of a DotAttention or an ``sk.nn.AdditiveAttention``, by their names."""
    if not isinstance(attention, DotAttention):
        query = attention.query_layer
        return {"v": attention.score_vector(), "w_query": query.weight, "b_query": query.bias, "score": "additive"}
    w_query = None
    if keys.dim() == 4:
        # Each head has keys of its own, and all are asked by the same query.
        size = keys.shape[-1]
        w_query = torch.eye(size, dtype=keys.dtype, device=keys.device).repeat(keys.shape[2], 1)
    return {"v": None, "w_query": w_query, "b_query": None, "score": "dot"}


def build_attention(config: Config) -> nn.Module | None:
    """The module that ``config`` asks for; None where nothing is attended to (``none``, ``fixed``)."""
    query, memory, heads = config.query_size, config.memory_size, config.attention_heads
    if not config.attends:
        return None
    if config.attention in ("dot", "general"):
        score = DotAttention(query, memory, heads, general=config.attention == "general")
    else:
        # Luong's concat, v . tanh(W [h ; k]), is additive attention whose two matrices stand side by side in W.
        bias = config.attention == "additive" and config.attention_bias
        score = sk.nn.AdditiveAttention(
            query, memory, config.attention_size, heads, normalize=config.normalize_attention, bias=bias
        )
    if config.attention_window == "global":
        return score
    size = config.attention_size if config.attention_window == "local-p" else None
    return LocalAttention(score, config.window_size, query, size)
