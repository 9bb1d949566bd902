"""Compiles for a GPU that need not be there every kernel that the ops start, as they start it.

    python tests/triton_offline.py 90
    python tests/triton_offline.py 90 bfloat16    # additive attention in all tiles that `make tune` tries, in one dtype

The ops run on tensors of device "meta", at the sizes and in the dtypes below, with a `launch` that compiles and does
not launch. Prints a JSON list: kernel, dtype, bytes of shared memory, registers, bytes of spills and of local memory,
loads of 16 bytes.
"""

import contextlib
import io
import json
import re
import sys
import tempfile
from importlib import import_module
from itertools import product

import torch
import triton
from helpers import OUTPUTS, example
from search_tests import NAMES, SEARCH, search_inputs
from torch.utils._pytree import tree_map
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks import tune
from s2s_kernels import triton as ours
from s2s_kernels.triton import additive_attention, attention_kernels, tiles

POINTERS = {
    torch.int32: "*i32",
    torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16",
    torch.int64: "*i64", torch.uint8: "*u8", torch.bool: "*i1",
}  # fmt: skip


class Compiler:
    """Stands in for `launch`."""

    def __init__(self, arch):
        self.target, self.found = GPUTarget("cuda", arch, 32), {}

    def __call__(self, kernel, grid, *args, **constants):
        names = kernel.arg_names
        given = dict(zip(names, args, strict=False)) | {n: constants.pop(n) for n in names if n in constants}
        signature, constexprs, attributes = {}, {}, {}
        for i, (name, x) in enumerate(given.items()):
            # As Triton specialises them at a launch: what is aligned, and what is 1.
            free = kernel.params[i].do_not_specialize
            aligned = isinstance(x, torch.Tensor) or (type(x) is int and x % 16 == 0 and not free)
            if isinstance(x, torch.Tensor):
                signature[name] = POINTERS[x.dtype]
            elif type(x) is int and (x != 1 or free) and i < len(args):
                signature[name] = "i32"
            else:
                signature[name], constexprs[i,] = "constexpr", x
                aligned = False
            if aligned:
                attributes[i,] = [["tt.divisibility", 16]]
        what = (kernel.__name__, str(signature), str(constexprs), str(attributes), str(constants))
        if what not in self.found:
            source = ASTSource(kernel, signature, constexprs, attributes)
            log = io.StringIO()
            with contextlib.redirect_stdout(log):
                made = triton.compile(source, target=self.target, options=constants | {"enable_fp_fusion": True})
            log = log.getvalue()
            self.found[what] = {
                "kernel": kernel.__name__,
                "dtypes": ",".join(sorted({kind for kind in signature.values() if kind[0] == "*"})),
                "shared": made.metadata.shared,
                "registers": int(re.search(r"Used (\d+) registers", log)[1]),
                "spills": sum(map(int, re.findall(r"(\d+) bytes spill", log))),
                "stack": sum(map(int, re.findall(r"(\d+) bytes stack frame", log))),
                "wide": len(re.findall(r"ld\.global[\w.]*\.v4\.b32|cp\.async[\w.]* .*, 0x10", made.asm["ptx"])),
            }


SCAN = {"B": 64, "T": 2, "S": 50, "I": 512, "H": 512, "A": 512, "D": 1024}
SEARCHED = {"S": 50, "H": 512, "A": 512, "D": 1024, "E": 512, "V": 32000}
# Sizes that take each of the ways an op has.
SIZES = {
    "additive_attention": [
        {"B": 64, "S": 50, "A": 512, "D": 1024, "lengths": torch.int64},
        {"B": 4, "S": 50, "A": 512, "D": 1024, "mask": True, "bias": 2},
        {"B": 64, "T": 50, "S": 50, "A": 512, "D": 1024, "lengths": torch.int64},
    ],
    "attention_gru": [SCAN | {"lengths": torch.int64}, SCAN | {"F": 512, "first": True, "mask": True, "B": 4}],
    "attention_lstm": [SCAN | {"lengths": torch.int64}, SCAN | {"F": 512, "first": True, "mask": True, "B": 4}],
    "gru_step": [{"B": 64, "H": 512}],
    "lstm_step": [{"B": 64, "H": 512}],
    "gru": [{"B": 64, "T": 4, "I": 512, "H": 512}, {"B": 64, "T": 4, "I": 512, "H": 512, "lengths": torch.int64}],
    "lstm": [{"B": 64, "T": 4, "I": 512, "H": 512}, {"B": 64, "T": 4, "I": 512, "H": 512, "lengths": torch.int64}],
    "beam_search": [
        {"B": 1, "beam": 1, **SEARCHED},
        {"B": 64, "beam": 5, "coverage_penalty": 0.2, "return_weights": True, "lstm": True, **SEARCHED},
        {"B": 8, "beam": 16, "order": "after", "F": 512, "readout": "feed", "lengths": False, **SEARCHED},
    ],
}


def on_meta(op, dtype, **sizes):
    inputs = search_inputs(**sizes) if op == "beam_search" else example(op, **sizes)

    def move(x):
        return x.to("meta", dtype if x.is_floating_point() else None) if isinstance(x, torch.Tensor) else x

    return tree_map(move, inputs)


def attention(module, inputs):
    order = ("query", "keys", "values", "v")
    options = [inputs.get(name) for name in ("lengths", "mask", "bias")]
    context, weights = module.additive_attention(**inputs)
    needs = [True] * 4 + [options[2] is not None]
    module.additive_attention_backward(context, None, *(inputs[name] for name in order), weights, *options, needs)


def step(op, module, inputs):
    outputs = getattr(module, op)(**inputs)
    getattr(module, f"{op}_backward")(*(outputs if op == "lstm_step" else [outputs]), *inputs.values())


def recurrence(op, module, inputs):
    options = [inputs.pop(name, None) for name in ("lengths", "mask")]
    order = ["x", "h0", *(["c0"] if "lstm" in op else []), *SOURCE * op.startswith("attention"), *CELL]
    order += ["w_feed", "b_feed", "first_feed"] * op.startswith("attention")
    inputs = [inputs.get(name) for name in order]
    outputs = getattr(module, f"{op}_forward")(inputs, *options, False, True)
    count = len(OUTPUTS[op])
    needs = [x is not None for x in inputs]
    getattr(module, f"{op}_backward")(outputs[:count], inputs, *options, False, outputs, needs)


OPTIONS = ("beam", "coverage_penalty", "return_weights")  # of a search, beside its tensors
SOURCE, CELL = ("keys", "values", "v", "w_query", "b_query"), ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def run(op, module, inputs):
    """Forward and backward, where there is one."""
    if op == "additive_attention":
        attention(module, inputs)
    elif op == "beam_search":
        options = {name: x for name, x in inputs.items() if name not in NAMES} | SEARCH | {"max_length": 1}
        module.beam_search(*(inputs[name] for name in NAMES), **options)
    else:
        (step if op.endswith("step") else recurrence)(op, module, inputs)


def run_all(compiler):
    """Every op, as users start it."""
    for op, all_sizes in SIZES.items():
        module = import_module(f"{ours.__name__}.{op}")
        for name in list(sys.modules):
            if name.startswith(ours.__name__) and hasattr(sys.modules[name], "launch"):
                sys.modules[name].launch = compiler
        for sizes, dtype in product(all_sizes, (torch.bfloat16, torch.float32)):
            own = {name: x for name, x in sizes.items() if name in OPTIONS}
            made = on_meta(op, dtype, **{name: x for name, x in sizes.items() if name not in OPTIONS})
            run(op, module, made | own)


def run_candidates(compiler, dtype):
    """Each kernel of additive attention once in each of the tiles that `make tune` tries."""
    made = set()
    for sizes in SIZES["additive_attention"]:
        inputs = on_meta("additive_attention", dtype, **sizes)
        for kernel in tiles.KERNELS:
            for tried in tune.candidates(kernel, sizes.get("T", 1))[1:]:

                def launch(function, *args, what=(kernel, tried), **constants):
                    if function is getattr(attention_kernels, f"{what[0]}_kernel") and what not in made:
                        made.add(what)
                        compiler(function, *args, **constants)

                additive_attention.choose, additive_attention.launch = tune.chooser(kernel, tried), launch
                attention(additive_attention, inputs)


def main(arch, dtype=None):
    knobs.nvidia.dump_ptxas_log = True
    compiler = Compiler(int(arch))
    with tempfile.TemporaryDirectory() as folder:  # a cached kernel would not show its registers
        knobs.cache.dir = folder
        if dtype is None:
            run_all(compiler)
        else:
            run_candidates(compiler, getattr(torch, dtype))
    print(json.dumps(list(compiler.found.values())))


if __name__ == "__main__":
    main(*sys.argv[1:])
