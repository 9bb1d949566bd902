"""The attention decoder: recurrence and attention over known inputs in one op, or one step at a time.

Shapes: B batch, S source, T target, N heads, L layers; widths: I input, M memory, H state, C context, F feed.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

import s2s_kernels as sk

from .attention import LocalAttention, score_arguments


class LoopState(NamedTuple):
    """What one step hands to the next; every tensor has the batch first."""

    cells: tuple[tuple[Tensor, ...], ...]  # of each layer (h,) or (h, c), each (B, H), the lowest first
    feed: Tensor  # (B, F)
    context: Tensor  # (B, C)
    weights: Tensor  # (B, S), with heads (B, N, S)
    step: Tensor  # (B,) integer, how many steps there were

    @property
    def h(self) -> Tensor:
        """(B, H), of the top layer."""
        return self.cells[-1][0]

    def flat(self) -> tuple[Tensor, ...]:
        """All tensors, those of the lowest layer first, as a search reorders them."""
        return (*(part for cell in self.cells for part in cell), *self[1:])


class LoopOutput(NamedTuple):
    states: Tensor  # (B, T, H), h_1 .. h_T of the top layer
    contexts: Tensor  # (B, T+1, C), c_0 .. c_T
    weights: Tensor  # (B, T+1, S), with heads (B, T+1, N, S)
    feeds: Tensor  # (B, T, F), f_1 .. f_T


def weights_of(cell):
    """A cell's four, as the ops take them."""
    return cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh


class AttentionLoop(nn.Module):
    """A stack of cells that an attention is fed to, which is asked by the top one.

        c_t = attend(h_t);  f_t = c_t or tanh(W_f [h_t ; c_t] + b_f);  h_{t+1} = cells([x_t ; f_t], h_t)

    With a transition, a second cell, c_{t+1} = attend(u);  h_{t+1} = transition(f_{t+1}, u)  for u = cell(x_t, h_t).

    Over known inputs it is one call of ``sk.attention_gru`` or ``sk.attention_lstm``, with whatever parts it takes,
    if ``one_op``; else a loop of the steps that decoding takes.

    Args:
        cells: GRUCells or LSTMCells, the lowest over [x ; feed], the others over the one below.
        attention: called as ``sk.nn.AdditiveAttention``.
        context_size: C = N M.
        feed_size: F, width of Luong's attentional vector; None: the context is fed.
        order: "before" or "after"; says which step of a local window h_t belongs to.
        query: "h", or "c_h" for [c ; h] of an LSTM.
        dropout: between the cells; loop_dropout: on what is fed back, and on [h_t ; c_t] under W_f.
        transition: the cell over the feed; the one of ``cells`` then reads x alone.
        one_op: whether the ops can run this attention and these cells.
    """

    def __init__(
        self,
        cells,
        attention,
        context_size,
        feed_size=None,
        order="before",
        *,
        query="h",
        dropout=0.0,
        loop_dropout=0.0,
        transition=None,
        one_op=True,
    ):
        super().__init__()
        self.cell, *above = cells
        self.cells_above, self.transition = nn.ModuleList(above), transition
        self.attention, self.order, self.query, self.one_op = attention, order, query, one_op
        self.dropout, self.loop_dropout = dropout, loop_dropout
        self.lstm = isinstance(self.cell, sk.nn.LSTMCell)
        self.feed_size = context_size if feed_size is None else feed_size
        self.attended_size = self.cell.hidden_size + context_size
        self.feed_layer = None if feed_size is None else nn.Linear(self.attended_size, feed_size)

    @property
    def cells(self):
        return [self.cell, *self.cells_above]

    def project_keys(self, memory):
        return self.attention.project_keys(memory)

    def states(self, flat):
        """((h,) or (h, c) of each layer, the rest) of a tuple that begins with them, flat."""
        size, count = 2 if self.lstm else 1, len(self.cells)
        return tuple(flat[i * size : (i + 1) * size] for i in range(count)), tuple(flat[count * size :])

    def state(self, flat):
        """(LoopState, the rest) of a tuple that begins with what ``LoopState.flat`` returned."""
        cells, rest = self.states(flat)
        return LoopState(cells, *rest[:4]), rest[4:]

    def masks(self, like, steps):
        """Factors of dropout, by their names in the op: for as many steps, and for what the state before them looks
        at. None in evaluation."""
        batch, size, above = len(like), self.cell.hidden_size, len(self.cells_above)
        wanted = {
            "drop_fed": (self.loop_dropout, (batch, steps, self.feed_size)),
            "drop_attended": (self.loop_dropout if self.feed_layer else 0.0, (batch, steps + 1, self.attended_size)),
            "drop_layers": (self.dropout if above else 0.0, (above, batch, steps, size)),
        }
        return {name: dropout(like.new_ones(shape), p) for name, (p, shape) in wanted.items() if p and self.training}

    def _look(self, cells, step, memory, keys, lengths, feed=None, drop=None):
        """The LoopState of these cells; the feed is made of them unless it is given, with factors (B, H + C)."""
        h, options = cells[-1][0], {}
        if isinstance(self.attention, LocalAttention):
            # h_t chooses output t if it attends before the cell, output t - 1 if after it.
            options["position"] = step if self.order == "before" else (step - 1).clamp(min=0)
        asking = torch.cat([cells[-1][1], h], -1) if self.query == "c_h" else h
        context, weights = self.attention(asking, None, memory, keys=keys, lengths=lengths, **options)
        context = context.flatten(1)
        if feed is None:
            feed = context
            if self.feed_layer is not None:
                attended = torch.cat([h, context], -1)
                feed = torch.tanh(self.feed_layer(attended if drop is None else attended * drop))
        return LoopState(cells, feed, context, weights, step)

    def _advance(self, x, state, memory, keys, lengths, masks, t):
        """The LoopState after the input x (B, I), with the factors of step t."""
        cells = []
        if self.transition is None:
            x = torch.cat([x, self._fed(state.feed, masks, t)], -1)
        for i, (cell, old) in enumerate(zip(self.cells, state.cells, strict=True)):
            if i and "drop_layers" in masks:
                x = x * masks["drop_layers"][i - 1, :, t]
            cells.append(self._run_cell(cell, x, old))
            x = cells[-1][0]
        drop = masks["drop_attended"][:, t + 1] if "drop_attended" in masks else None
        state = self._look(tuple(cells), state.step + 1, memory, keys, lengths, drop=drop)
        if self.transition is None:
            return state
        fed = self._fed(state.feed, masks, t)
        return state._replace(cells=(self._run_cell(self.transition, fed, state.cells[0]),))

    def _run_cell(self, cell, x, old):
        return tuple(cell(x, old)) if self.lstm else (cell(x, old[0]),)

    @staticmethod
    def _fed(feed, masks, t):
        return feed * masks["drop_fed"][:, t] if "drop_fed" in masks else feed

    def start(self, cells, memory, *, keys, lengths=None, first_feed=None, masks=None):
        """The LoopState before the first ``step``, from (h_0,) or (h_0, c_0) of each layer."""
        masks = self.masks(cells[0][0], 0) if masks is None else masks
        step = torch.zeros(len(memory), dtype=torch.long, device=memory.device)
        drop = masks["drop_attended"][:, 0] if "drop_attended" in masks else None
        return self._look(cells, step, memory, keys, lengths, first_feed, drop)

    def step(self, x, state, memory, *, keys, lengths=None):
        """The LoopState after the input x (B, I)."""
        return self._advance(x, state, memory, keys, lengths, self.masks(x, 1), 0)

    def forward(self, x, cells, memory, *, keys, lengths=None, first_feed=None):
        """x (B, T, I), first states as in ``start`` -> LoopOutput."""
        run = self._run_op if self.one_op else self._run_steps
        return run(x, cells, memory, keys, lengths, first_feed, self.masks(x, x.shape[1]))

    def _run_steps(self, x, cells, memory, keys, lengths, first_feed, masks):
        states = [self.start(cells, memory, keys=keys, lengths=lengths, first_feed=first_feed, masks=masks)]
        for t, x_t in enumerate(x.unbind(1)):
            states.append(self._advance(x_t, states[-1], memory, keys, lengths, masks, t))
        h, contexts, weights, feeds = (
            torch.stack([getattr(state, name) for state in states], 1) for name in ("h", "context", "weights", "feed")
        )
        return LoopOutput(h[:, 1:], contexts, weights, feeds[:, 1:])

    def _run_op(self, x, cells, memory, keys, lengths, first_feed, masks):
        kinds = [torch.stack(kind) if self.cells_above else kind[0] for kind in zip(*cells, strict=True)]
        states, contexts, weights, feeds, *_ = (sk.attention_lstm if self.lstm else sk.attention_gru)(
            x,
            kinds if self.lstm else kinds[0],
            keys,
            memory,
            lengths=lengths,
            first_feed=first_feed,
            **self.arguments(keys),
            **masks,
        )
        return LoopOutput(states, contexts, weights, feeds[:, 1:])

    def arguments(self, keys):
        """What the ops of decoders and of searches with them are given of this module, by their names."""
        made = score_arguments(self.attention, keys) | weights_of_cells([weights_of(cell) for cell in self.cells])
        if self.feed_layer is not None:
            made |= {"w_feed": self.feed_layer.weight, "b_feed": self.feed_layer.bias}
        if self.transition is not None:
            made["transition"] = weights_of(self.transition)
        return made | {"query": self.query}


def weights_of_cells(layers):
    """The same of the weights of each layer, the lowest first."""
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return dict(zip(names, layers[0], strict=True)) | {"layers": tuple(layers[1:])}
