"""The op behind `beam_search` and `greedy_search` with parts: for both cells and all that a search can use of what
docs/ops.md names. It takes them as the attention decoder does (attention_decoder.py), with the embedding as its x."""

import torch

from .. import reference
from ..backend import resolve
from ..checks import of_ops, refuse
from ..quantize import QuantizedWeights, named_matrices, quantize, unpack_all
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
    state, keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh, embedding, *output, packed=None,
    **given,
):  # fmt: skip
    """``output``: w_output and b_output; ``given``: the parts and all options, by name; ``packed``: see `in_8_bits`."""
    cell = (keys, values, v, w_query, b_query, weight_ih, weight_hh, bias_ih, bias_hh)
    given |= WITHOUT | dict(zip(INPUTS[3:], cell)) | dict(zip(OUTPUT_LAYERS, output))
    into_query = given["score"] == "dot" and w_query is not None  # where `pack` multiplies the scale into the matrix
    inputs, form = pack(embedding, state, given)
    rest = [given[name] for name in (*OUTPUT_LAYERS, *OPTIONS)]
    rest.append(None if packed is None else packed.packed(float(given["scale"]) if into_query else 1.0))
    where = keys.device.type
    return registration.run(NAME, run, where, inputs, given["lengths"], given["mask"], form, *rest, kernels=BACKENDS)


def in_8_bits(weights, like, *, layers=(), transition=None, **matrices):
    """The QuantizedWeights that ``weights`` of a search says, for its matrices; ``like``: its keys."""
    if not isinstance(weights, QuantizedWeights) and weights != "int8":
        said = repr(weights) if isinstance(weights, str) else f"a {type(weights).__name__}"
        raise ValueError(f"weights is {said}, expected 'int8', what s2s_kernels.quantize returned, or None")
    if like.dtype == torch.float64:
        raise TypeError("weights is in 8 bits with keys of torch.float64, expected float32, bfloat16 or float16")
    kind = like.device.type
    if kind not in ("cpu", "meta") and resolve(kind) != "reference":
        raise ValueError(
            f"weights is in 8 bits with keys on {like.device}, expected the CPU, where the kernels for it are, or "
            "s2s_kernels.backend('reference')"
        )
    if not isinstance(weights, QuantizedWeights):
        return quantize(layers=layers, transition=transition, **matrices)
    given = named_matrices(layers, transition, **matrices)
    for name in [*given, *weights]:
        have, want = weights.get(name), given.get(name)
        refuse(have is None, f"weights has no {name}, which the search is given")
        refuse(want is None, f"weights has {name}, which the search is not given")
        refuse(
            have.shape != want.shape,
            f"weights has {name} of shape {tuple(have.shape)}, expected {tuple(want.shape)} as {name}",
        )
        where = have.integers.device
        refuse(where != like.device, f"weights has {name} on {where}, expected {like.device} as keys")
    return weights


def named(inputs, lengths, mask, form, *rest):
    """The weights of a search, and all else by name, from what the op takes."""
    _, states, given = arguments(inputs, form)
    given = {name: x for name, x in given.items() if name not in WITHOUT}
    given |= zip((*OUTPUT_LAYERS, *OPTIONS, "packed"), rest)  # of which the dispatcher leaves out what is None
    weights = [given.pop(name) for name in (*INPUTS[3 : INPUTS.index("w_feed")], "x", "w_output", "b_output")]
    return (states, *weights), given | {"lengths": lengths, "mask": mask}


def run(*args):
    weights, options = named(*args)
    packed = options.pop("packed", None)
    if packed is not None:
        weights, options = unpack_all(packed, weights, options)
    return reference.beam_search(*weights, **options)


def check_op(*args):
    weights, options = named(*args)
    options.pop("packed", None)
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
    check_op(*args)
    weights, options = named(*args)
    return empty_outputs(weights[1], **options)


register_plain_values(NAME)
registration.autocast(NAME)
