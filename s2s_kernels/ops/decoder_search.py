"""The op behind `beam_search` and `greedy_search` with parts: for both cells and all that a search can use of what
docs/ops.md names. It takes them as the attention decoder does (attention_decoder.py), with the embedding as its x."""

import torch

from .. import reference
from ..checks import of_ops
from . import registration
from .attention_decoder import INPUTS, MASKS, PARTS, arguments, pack
from .lazy_values import register_plain_values
from .search_checks import check

NAME = "decoder_search"
# A search has no dropout and no gradient.
WITHOUT = dict.fromkeys(MASKS) | {"detach_location": False}
PARTS = {name: value for name, value in PARTS.items() if name not in WITHOUT}
PLAIN = tuple(PARTS.values())
OUTPUT_LAYERS = ("w_output", "b_output", "w_readout", "b_readout")
OPTIONS = (
    "order", "readout", "bos", "eos", "max_length", "beam", "n_best", "length_penalty", "coverage_penalty",
    "forbidden", "limits", "return_weights",
)  # fmt: skip
_compiled = torch._C._dispatch_has_kernel_for_dispatch_key(f"s2s_kernels::{NAME}", "CPU")
BACKENDS = ("cpp",) if _compiled else ()


def search(
    state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, *output, **given
):
    """``output``: w_output and b_output; ``given``: the parts and all options, by name."""
    cell = (keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    given |= WITHOUT | dict(zip(INPUTS[3:], cell)) | dict(zip(OUTPUT_LAYERS, output))
    inputs, form = pack(embedding, state, given)
    rest = (given[name] for name in (*OUTPUT_LAYERS, *OPTIONS))
    where = keys.device.type
    return registration.run(NAME, run, where, inputs, given["lengths"], given["mask"], form, *rest, kernels=BACKENDS)


def named(inputs, lengths, mask, form, *rest):
    """The weights of a search, and all else by name, from what the op takes."""
    _, states, given = arguments(inputs, form)
    given = {name: x for name, x in given.items() if name not in WITHOUT}
    given |= zip((*OUTPUT_LAYERS, *OPTIONS), rest, strict=True)
    weights = [given.pop(name) for name in (*INPUTS[3 : INPUTS.index("w_feed")], "x", "w_output", "b_output")]
    return (states, *weights), given | {"lengths": lengths, "mask": mask}


def run(*args):
    weights, options = named(*args)
    return reference.beam_search(*weights, **options)


def check_op(*args):
    weights, options = named(*args)
    check(*weights, **options)


of_ops[NAME] = check_op


def empty_outputs(keys, *, max_length, n_best=1, return_weights=False, **_):
    found, steps = (keys.shape[0], n_best), max_length + 1
    wide = torch.float64 if keys.dtype == torch.float64 else torch.float32
    return (
        keys.new_empty((*found, steps), dtype=torch.int64),
        keys.new_empty(found, dtype=torch.int64),
        keys.new_empty(found, dtype=wide),
        keys.new_empty((*found, steps, keys.shape[1]) if return_weights else 0, dtype=wide),
    )


@registration.fake(NAME)
def _(*args):
    weights, options = named(*args)
    check(*weights, **options)
    return empty_outputs(weights[1], **options)


register_plain_values(NAME)
registration.autocast(NAME)
