"""Greedy and beam search as one op, ``sk.beam_search``, for the models that it can run."""

from typing import Any

import torch
from torch import Tensor

import s2s_kernels as sk
from s2s_kernels.backend import resolve
from s2s_kernels.quantize import named_matrices

from ..model.attention import score_arguments
from ..model.attention_loop import weights_of_cells
from ..model.config import Config
from ..model.decoder import parts_of
from ..model.seq2seq import Seq2Seq
from ..text.vocab import BOS, EOS
from .hypothesis import Hypothesis, hypotheses, never_an_output
from .int8 import matrices, packed_weights
from .options import SearchOptions

# What is under the tanh; the others are called alike.
READOUTS = {"tanh": "state_context", "tanh_input": "state_context_input"}


def search_backend(device_type: str) -> str:
    """What a search as one op would run on; the reference is no faster than the steps one by one."""
    try:
        return resolve(device_type)
    except RuntimeError:  # the backend in force cannot run this device
        return "reference"


def config_reason(config: Config, device_type: str) -> str | None:
    """Why the steps of a search run one by one for every model of this Config; None if they can be one op."""
    backend = search_backend(device_type)
    if backend == "reference":
        return "no backend that is in force here has a search as one op"
    why = shape_reason(config)
    if why is None and backend != "cpp" and (parts := parts_of(config, config.decoder_layers)):
        return f"with {' and '.join(parts)}, the {backend} backend has single steps alone"
    return why


def shape_reason(config: Config) -> str | None:
    """Why no backend at all has a search of such a model as one op."""
    if not config.attends:
        return f"a search as one op attends, and this attention is {config.attention!r}"
    if config.attention_window != "global":
        return f"a search as one op has no {config.attention_window} window"
    if config.gru_before:
        return "a search as one op has no GRU that resets before its product"
    if config.feeds_attention and config.decoder_layers > config.loop_layers:
        return "a search as one op feeds its attention to the lowest of the layers and asks with the top one"
    if config.readout in ("linear", "maxout"):
        return f"a search as one op has no {config.readout} readout"
    return None


def step_reason(model: Any, device_type: str, options: SearchOptions) -> str | None:
    """Why the steps of this search run one by one; None if they are one op."""
    if not isinstance(model, Seq2Seq):
        return f"a {type(model).__name__} is no Seq2Seq"
    if options.sample:
        return "sampling draws from every step's probabilities"
    if options.ending != "count" and options.beam > 1:
        return f"a search as one op ends by the count of its outputs, not by {options.ending!r}"
    if options.no_repeat_ngram:
        return "repeats are looked for between the steps"
    if model.training:
        return "the model is in training mode, with its dropout"
    return config_reason(model.config, device_type)


def decoder_weights(model: Seq2Seq, keys: Tensor) -> dict[str, Any]:
    """The weights that ``sk.beam_search`` takes, and what kind of decoder they are of, by its names."""
    decoder = model.decoder
    if model.config.feeds_attention:
        weights = decoder.scan.arguments(keys)
    else:
        weights = score_arguments(decoder.attention, keys) | weights_of_cells(decoder.rnn.all_weights)
    if decoder.readout_layer is not None:
        weights |= {"w_readout": decoder.readout_layer.weight, "b_readout": decoder.readout_layer.bias}
    weights |= {"w_output": model.output.weight, "b_output": model.output.bias}
    return weights | {"embedding": model.embedding.weight}


@torch.no_grad()
def names_of_matrices(model: Seq2Seq) -> list[str]:
    """Those of a Seq2Seq's parameters that its searches multiply in 8 bits, but for one that is an embedding too."""
    device = model.embedding.weight.device
    keys = model.encode(torch.tensor([[EOS]], device=device), torch.tensor([1], device=device))[0].keys
    used = {id(x) for x in named_matrices(**matrices(decoder_weights(model, keys))).values()}
    used.discard(id(model.embedding.weight))
    return [name for name, x in model.named_parameters() if id(x) in used]


@torch.no_grad()
def fused_search(
    model: Seq2Seq, source: Tensor, lengths: Tensor, options: SearchOptions, max_length: int, attention: bool = False
) -> list[list[Hypothesis]]:
    """What ``greedy`` and ``beam_search`` return, for a model and options with no ``step_reason``."""
    memory, states = model.encode(source, lengths)
    decoder, config = model.decoder, model.config
    weights = decoder_weights(model, memory.keys)
    if options.quantize == "int8" or (model.in_8_bits and search_backend(source.device.type) == "cpp"):
        weights["weights"] = packed_weights(model, weights)
    first_feed = None
    if config.feeds_attention and config.first_feed_zeros:
        first_feed = states[0].new_zeros(len(source), decoder.scan.feed_size)
    kinds = [states[i :: config.states_per_layer] for i in range(config.states_per_layer)]
    found = sk.beam_search(
        [torch.stack(kind) if config.decoder_layers > 1 else kind[0] for kind in kinds],
        memory.keys,
        memory.values,
        bos=BOS,
        eos=EOS,
        forbidden=never_an_output(options.allow_unknown),
        max_length=max_length,
        beam=options.beam,
        n_best=options.n_best,
        length_penalty=options.length_penalty,
        coverage_penalty=options.coverage_penalty,
        lengths=memory.lengths,
        order="before" if config.two_cells else config.order,
        first_feed=first_feed,
        readout="feed" if config.feed == "attentional" else READOUTS.get(config.readout, config.readout),
        return_weights=attention,
        **weights,
    )
    looked = found.weights.float() if attention else None
    return hypotheses(found.ids, found.scores, looked, lengths)
