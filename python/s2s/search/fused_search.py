"""Greedy and beam search as one op, ``sk.beam_search``, for the models that it can run."""

from typing import Any

import torch
from torch import Tensor

import s2s_kernels as sk
from s2s_kernels.backend import resolve

from ..model.config import Config
from ..model.seq2seq import Seq2Seq
from ..text.vocab import BOS, EOS
from .hypothesis import Hypothesis, hypotheses, never_an_output
from .options import SearchOptions

READOUTS = {"tanh": "state_context"}  # what is under the tanh; the others are called alike


def search_backend(device_type: str) -> str:
    """What a search as one op would run on; the reference is no faster than the steps one by one."""
    try:
        return resolve(device_type)
    except RuntimeError:  # the backend in force cannot run this device
        return "reference"


def config_reason(config: Config, device_type: str) -> str | None:
    """Why the steps of a search run one by one for every model of this Config; None if they can be one op."""
    if search_backend(device_type) == "reference":
        return "no backend that is in force here has a search as one op"
    if config.attention not in ("additive", "concat"):
        return f"a search as one op scores additively, and this attention is {config.attention!r}"
    if config.attention_window != "global":
        return f"a search as one op has no {config.attention_window} window"
    if config.asks_with_c:
        return "a search as one op is asked with h, and this attention with [c;h]"
    if config.gru_before:
        return "a search as one op has no GRU that resets before its product"
    if config.decoder_layers > 1:
        return f"a search as one op has one decoder layer, not {config.decoder_layers}"
    if config.readout in ("linear", "maxout"):
        return f"a search as one op has no {config.readout} readout"
    return None


def step_reason(model: Any, device_type: str, options: SearchOptions) -> str | None:
    """Why the steps of this search run one by one; None if they are one op."""
    if not isinstance(model, Seq2Seq):
        return f"a {type(model).__name__} is no Seq2Seq"
    if options.sample:
        return "sampling draws from every step's probabilities"
    if options.no_repeat_ngram:
        return "repeats are looked for between the steps"
    if model.training:
        return "the model is in training mode, with its dropout"
    return config_reason(model.config, device_type)


@torch.no_grad()
def fused_search(
    model: Seq2Seq, source: Tensor, lengths: Tensor, options: SearchOptions, max_length: int, attention: bool = False
) -> list[list[Hypothesis]]:
    """What ``greedy`` and ``beam_search`` return, for a model and options with no ``step_reason``."""
    memory, states = model.encode(source, lengths)
    decoder, config = model.decoder, model.config
    if config.feeds_attention:
        scan = decoder.scan
        module, feed_layer, cell = scan.attention, scan.feed_layer, scan.cell
        cell = (cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
    else:
        module, feed_layer, rnn = decoder.attention, None, decoder.rnn
        cell = (rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0, rnn.bias_hh_l0)
    layers = {"feed": feed_layer, "readout": decoder.readout_layer}
    weights = {f"w_{name}": layer.weight for name, layer in layers.items() if layer is not None}
    weights |= {f"b_{name}": layer.bias for name, layer in layers.items() if layer is not None}
    first_feed = None
    if config.feeds_attention and config.first_feed_zeros:
        first_feed = states[0].new_zeros(len(source), decoder.scan.feed_size)
    found = sk.beam_search(
        tuple(states),
        memory.keys,
        memory.values,
        module.score_vector(),
        module.query_layer.weight,
        module.query_layer.bias,
        *cell,
        model.embedding.weight,
        model.output.weight,
        model.output.bias,
        bos=BOS,
        eos=EOS,
        forbidden=never_an_output(options.allow_unknown),
        max_length=max_length,
        beam=options.beam,
        n_best=options.n_best,
        length_penalty=options.length_penalty,
        coverage_penalty=options.coverage_penalty,
        lengths=memory.lengths,
        order=config.order,
        first_feed=first_feed,
        readout="feed" if config.feed == "attentional" else READOUTS.get(config.readout, config.readout),
        return_weights=attention,
        **weights,
    )
    looked = found.weights.float() if attention else None
    return hypotheses(found.ids, found.scores, looked, lengths)
