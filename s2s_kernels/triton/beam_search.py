"""Greedy and beam search: a step is the decoder's products and kernels on the host, and then three of the search.

All memory is there before the first step, and no step waits for the host. Rows that are done stay in the products
(their number is the host's) and leave all other kernels; whether any goes on is asked every few steps, of what the GPU
knew a few steps before, so that it never runs out of work. On a GPU the second step is captured in a CUDA graph, which
is then replayed for all others: once a call, since a graph holds the addresses of a call's weights and memory, and
because capturing costs no more than two steps started from here. The graph has not run on a GPU yet, no test without
one reaches it, and S2S_CUDA_GRAPH=0 does without.
"""

import os
from functools import cache
from threading import get_ident
from warnings import warn

import torch
from triton import cdiv, next_power_of_2

from . import search_kernels as kernels
from .additive_attention import Source, attend
from .attention_recurrence import by_head, feed_kernel
from .cell import row_strides, start
from .gru_step import GRU
from .language import launch
from .lstm_step import LSTM
from .recurrence import is_wide, linear_out

# Steps between two questions whether all are done, each of which is answered at the next one: 4 to 7 steps run that
# nobody needs, and at least as many are queued while the host waits for an answer.
ASK = 4
WORTH_CAPTURING = 8  # of longer searches
TILE = 256  # elements of a row


def joined(*layers):
    """One layer that does what these do to the same rows: (weight, bias or None)."""
    biases = None
    if any(bias is not None for _, bias in layers):
        biases = torch.cat([w.new_zeros(w.shape[0]) if bias is None else bias for w, bias in layers])
    return torch.cat([weight for weight, _ in layers]), biases


@cache
def capturing_stream(stream, thread):
    """Where a thread captures what ``stream`` is to run: not another stream each time, as cuBLAS keeps workspace for
    each."""
    return torch.cuda.Stream(stream.device)


class Decoder:
    """One step of the decoder for B * K rows, in memory of its own.

    ``row`` (R, H + N*D + E) is where a step leaves [h ; c ; E y], so that all that reads them reads columns of it;
    ``inputs`` (R, E + F) is what the cell reads, and ``fed`` what the next step is fed, or None.
    """

    def __init__(
        self, state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, w_output,
        b_output, *, copies, lengths, mask, order, w_feed, b_feed, first_feed, readout, w_readout, b_readout, bos,
    ):  # fmt: skip
        self.source = source = Source(keys, values, v, lengths, mask)
        self.cell, (self.B, self.H), self.K = (GRU, LSTM)[len(state) - 1], state[0].shape, copies
        self.E, self.R, self.N, context = embedding.shape[1], self.B * copies, source.N, source.N * source.D
        self.F = weight_ih.shape[1] - self.E
        self.before, self.first_feed = order == "before", first_feed
        self.embedding, self.input, self.output = embedding.contiguous(), (weight_ih, bias_ih), (w_output, b_output)
        gates, query = (weight_hh, bias_hh), (w_query, b_query)
        # With attention before the cell both read the same h.
        self.of_state = joined(gates, query) if self.before else gates
        self.query, self.feed_layer, self.readout_layer = query, (w_feed, b_feed), (w_readout, b_readout)

        def rows(*shape, like=keys):
            return like.new_empty(self.R, *shape)

        narrow = not is_wide(keys)
        wide = source.empty(0)
        self.inputs, self.row = rows(self.E + self.F), rows(self.H + context + self.E)
        self.h, self.context, self.x = self.row.split([self.H, context, self.E], 1)
        self.state = [self.spread(x.to(wide.dtype)) for x in state]
        self.next = [rows(self.H, like=wide) for _ in state]
        self.operand = self.spread(state[0]) if narrow else self.state[0]
        self.copied = self.operand if narrow else None
        self.products = rows(self.of_state[0].shape[0])
        self.queries = self.products[:, gates[0].shape[0] :] if self.before else rows(w_query.shape[0])
        self.gates_x, self.logits = rows(weight_ih.shape[0]), rows(w_output.shape[0])
        self.weights, self.scores = (source.empty(self.B, copies, source.N, source.S) for _ in range(2))
        self.attentional = None if w_feed is None else rows(w_feed.shape[0])
        # A context that is read at once goes straight to the cell; one of the step before comes with its row.
        self.read_context = self.by_sentence(self.inputs[:, self.E :]) if self.before and self.F else None
        self.fed = None
        if not self.before and self.F:
            self.fed = self.context if w_feed is None else self.attentional
        width = {"state": self.H, "state_context": self.H + context}.get(readout, self.row.shape[1])
        self.features = self.attentional if readout == "feed" else self.row[:, :width]
        self.hidden = None if w_readout is None else rows(w_readout.shape[0])
        self.reads_input = readout == "state_context_input"

        self.inputs[:, : self.E] = embedding[bos]
        self.x.copy_(embedding[bos].expand(self.R, self.E))
        if self.fed is not None:
            if first_feed is None:
                self.h.copy_(self.operand)
                self.attend_to(linear_out(self.h, *query, self.queries))
            self.inputs[:, self.E :] = self.fed if first_feed is None else self.spread(first_feed)

    def spread(self, x):
        """A copy of each row of x (B, X) for every prefix of its sentence."""
        copies = x.unsqueeze(1).expand(-1, self.K, -1)
        return copies.clone(memory_format=torch.contiguous_format).flatten(0, 1)

    def by_sentence(self, x):
        """(R, N * X) as (B, K, N, X)."""
        return by_head(x.unflatten(0, (self.B, self.K)), self.N)

    def tanh_layer(self, x, layer, out):
        linear_out(x, *layer, out)
        start(feed_kernel, out, out.shape[1], out, out, None, *row_strides(out, out, None))

    def attend_to(self, queries):
        """The context of these queries, and what is fed with w_feed."""
        attend(
            self.by_sentence(queries), self.source, None, self.scores, self.weights, None,
            self.by_sentence(self.context), self.read_context,
        )  # fmt: skip
        if self.attentional is not None:
            self.tanh_layer(self.row[:, : self.H + self.context.shape[1]], self.feed_layer, self.attentional)

    def step(self):
        linear_out(self.operand, *self.of_state, self.products)
        if self.before:
            self.attend_to(self.queries)
            if self.first_feed is not None:  # once, in the first step
                self.inputs[:, self.E :], self.first_feed = self.spread(self.first_feed), None
        linear_out(self.inputs, *self.input, self.gates_x)
        self.cell.forward(self.gates_x, self.products[:, : self.gates_x.shape[1]], self.state, self.next, self.h)
        if not self.before:
            self.attend_to(linear_out(self.h, *self.query, self.queries))
        features = self.features
        if self.hidden is not None:
            self.tanh_layer(features, self.readout_layer, self.hidden)
            features = self.hidden
        linear_out(features, *self.output, self.logits)


class Search:
    """What is chosen from the decoder's logits, step after step."""

    def __init__(
        self, decoder, *, eos, max_length, n_best, length_penalty, coverage_penalty, forbidden, limits, keep_weights
    ):
        self.decoder, self.eos, self.n_best, self.T = decoder, eos, n_best, max_length + 1
        B, K, R, S, V = decoder.B, decoder.K, decoder.R, decoder.source.S, decoder.logits.shape[1]
        exact, device = decoder.source.empty, decoder.logits.device

        def integers(*shape, value=0):
            return torch.full(shape, value, dtype=torch.int32, device=device)

        # Of 2K candidates K go on; a single prefix is done when its best one ends.
        self.C = min(2 * K, K * V) if K > 1 else 1
        self.M, self.BV = min(self.C, V), 2048 if R < 64 else 8192  # few rows: more parts, to fill a GPU
        self.BV = min(self.BV, max(128, next_power_of_2(V)))
        self.parts = cdiv(V, self.BV)
        self.most, self.total = exact(R, self.parts), exact(R, self.parts)
        self.values, self.tokens = exact(R, self.parts, self.M), integers(R, self.parts, self.M)
        self.forbidden = None
        if forbidden:
            self.forbidden = torch.zeros(V, dtype=torch.uint8, device=device)
            for token in forbidden:  # one launch each, where an index from the host would wait for the GPU
                self.forbidden[token].fill_(1)
        self.limits = integers(B, value=max_length) if limits is None else limits.clamp(0, max_length).int()
        lengths = torch.arange(max_length + 3, dtype=torch.float64, device=device)
        self.factors = (((5 + lengths) / 6) ** length_penalty).to(exact(0).dtype)
        self.step_number, self.alive, self.remaining = integers(1), integers(B, value=1), integers(1, value=B)
        self.prefix_scores = exact(B, K).fill_(-torch.inf)
        self.prefix_scores[:, 0] = 0  # the others are copies of the same, empty prefix
        self.next_tokens, self.origins = integers(R), integers(R)
        self.path_tokens, self.path_parents, self.ended_parents = (integers(B, self.T, K) for _ in range(3))
        self.ended = exact(B, self.T, K).fill_(-torch.inf)
        self.history = exact(self.T, R, S) if keep_weights else None
        self.attended = self.attended_next = self.coverage = self.coverage_penalty = None
        if coverage_penalty:
            self.attended, self.attended_next = exact(R, S).zero_(), exact(R, S)
            self.coverage, self.coverage_penalty = exact(R), exact(1).fill_(coverage_penalty)

    def step(self):
        d, source = self.decoder, self.decoder.source
        accumulation = {"ACC": source.accumulation}
        d.step()
        launch(
            kernels.candidates_kernel, (d.R, self.parts),
            d.logits, self.forbidden, self.limits, self.step_number, self.alive, self.most, self.total, self.values,
            self.tokens, d.logits.stride(0), d.logits.shape[1], d.K, self.M, self.eos,
            BV=self.BV, num_warps=8 if self.BV > 2048 else 4, **accumulation,
        )  # fmt: skip
        if self.history is not None or self.attended is not None:
            launch(
                kernels.look_kernel, (d.R,),
                d.weights, self.history, self.step_number, self.alive, source.lengths, source.mask, self.attended,
                self.attended_next, self.coverage, d.B, source.S, d.N, d.K, BS=128, num_warps=4, **accumulation,
            )  # fmt: skip
        launch(
            kernels.select_kernel, (d.B,),
            self.most, self.total, self.values, self.tokens, self.coverage, self.coverage_penalty, self.factors,
            self.limits, self.step_number, self.alive, self.remaining, self.prefix_scores, self.next_tokens,
            self.origins, self.path_tokens, self.path_parents, self.ended, self.ended_parents,
            self.T, d.K, self.M, self.C, self.parts, self.eos, self.n_best,
            BK=next_power_of_2(d.K), BP=next_power_of_2(self.parts), BE=128, num_warps=4, **accumulation,
        )  # fmt: skip
        widest = max(d.H, d.E, d.F, source.S if self.attended is not None else 0)
        c_next, c = (d.next[1], d.state[1]) if len(d.state) == 2 else (None, None)
        launch(
            kernels.advance_kernel, (d.R, cdiv(widest, TILE)),
            self.next_tokens, self.origins, self.step_number, self.alive, d.embedding, d.next[0], d.state[0],
            d.copied, c_next, c, d.fed, self.attended_next, self.attended, d.inputs, d.x if d.reads_input else None,
            d.embedding.stride(0), d.inputs.stride(0), 0 if d.fed is None else d.fed.stride(0), d.row.stride(0),
            d.K, d.H, d.E, d.F, source.S, BH=TILE, num_warps=4,
        )  # fmt: skip

    def run(self):
        done = AllDone(self.remaining)
        step = self.step
        for t in range(self.T):
            if t % ASK == 0 and done():
                break
            if t == 1 and self.T > WORTH_CAPTURING and self.can_capture():
                graph = self.capture()
                step = step if graph is None else graph.replay
            step()

    def can_capture(self):
        cuda = self.remaining.is_cuda and not torch.cuda.is_current_stream_capturing()
        return cuda and self.decoder.B > 0 and os.environ.get("S2S_CUDA_GRAPH") != "0"

    def capture(self):
        """A CUDA graph of one step but the first, which has compiled and loaded all that it starts. (torch.cuda.graph
        would synchronise and empty the cache of memory.) None where that fails, which is said: nothing has run then."""
        graph, first = torch.cuda.CUDAGraph(), None
        side = capturing_stream(torch.cuda.current_stream(), get_ident())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            try:
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self.step()
                except RuntimeError as error:
                    first = error
                    raise
                finally:
                    graph.capture_end()
            except RuntimeError as error:  # after one of a step, the end's says only that the capture is of no use
                warn(
                    "s2s_kernels: a search could not be captured in a CUDA graph and runs a launch at a time: "
                    f"{first or error}",
                    stacklevel=2,
                )
                graph = None
        torch.cuda.current_stream().wait_stream(side)
        return graph

    def read(self):
        """ids, lengths, scores and weights of the best outputs; of equal ones those that ended first."""
        d, (B, S) = self.decoder, (self.decoder.B, self.decoder.source.S)
        scores, where = torch.sort(self.ended.flatten(1), dim=1, descending=True, stable=True)
        scores, where = scores[:, : self.n_best].contiguous(), where[:, : self.n_best]
        found = scores > -torch.inf
        ends = torch.where(found, where // d.K, -1)
        prefixes = self.ended_parents.flatten(1).gather(1, where)
        ids = torch.full((B, self.n_best, self.T), self.eos, device=scores.device)
        weights = scores.new_zeros((B, self.n_best, self.T, S) if self.history is not None else 0)
        launch(
            kernels.read_kernel, (B * self.n_best,),
            self.path_tokens, self.path_parents, prefixes, ends, self.history, ids, weights, self.n_best, B, self.T,
            d.K, S, BS=128, num_warps=4,
        )  # fmt: skip
        return ids, torch.where(found, ends, 0), scores, weights


class AllDone:
    """Whether no sentence goes on, as it was when this was asked the time before: of a GPU there is no waiting for
    an answer, as what was launched since keeps it busy. While a graph is captured nobody can know."""

    def __init__(self, remaining):
        self.remaining, self.copy = remaining, None
        self.event = torch.cuda.Event() if remaining.is_cuda else None

    def __call__(self):
        if self.event is None:
            return self.remaining.device.type == "cpu" and not self.remaining.item()
        if torch.cuda.is_current_stream_capturing():
            return False
        if self.copy is None:
            self.copy = torch.empty(1, dtype=self.remaining.dtype, pin_memory=True)
        else:
            self.event.synchronize()
            if not self.copy.item():
                return True
        self.copy.copy_(self.remaining, non_blocking=True)
        self.event.record()
        return False


def beam_search(
    state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, w_output, b_output,
    *, bos, eos, max_length, beam=5, n_best=1, length_penalty=0.0, coverage_penalty=0.0, forbidden=(), limits=None,
    lengths=None, mask=None, order="before", w_feed=None, b_feed=None, first_feed=None, readout="state",
    w_readout=None, b_readout=None, return_weights=False,
):  # fmt: skip
    decoder = Decoder(
        state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, w_output, b_output,
        copies=beam, lengths=lengths, mask=mask, order=order, w_feed=w_feed, b_feed=b_feed, first_feed=first_feed,
        readout=readout, w_readout=w_readout, b_readout=b_readout, bos=bos,
    )  # fmt: skip
    search = Search(
        decoder, eos=eos, max_length=max_length, n_best=n_best, length_penalty=length_penalty,
        coverage_penalty=coverage_penalty, forbidden=forbidden, limits=limits, keep_weights=return_weights,
    )  # fmt: skip
    search.run()
    return search.read()
