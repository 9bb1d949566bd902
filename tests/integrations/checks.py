"""The checks of one case: a model of a package as it is, against its twin after ``sk.convert`` or an integration's.

Each returns its cell of the table or raises ``Failed`` with it.
"""

import copy
import io
import math
import random
import sys
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

import s2s_kernels as sk
from s2s_kernels.integrations.loop import Loop
from s2s_kernels.library import RECURRENCES

from .case import CHECKED, TIMED
from .compare import Failed, compare

STEPS, RATE = 3, 1e-2
TIMINGS = 7
# What modules run is not all public: both directions are one op, and a decoder of parts is its forward half.
OPS = {*sk.ops.__all__, *RECURRENCES, "attention_decoder_forward"}
RECURRENT = (nn.RNNBase, nn.RNNCellBase)


def seed():
    random.seed(0)
    torch.manual_seed(0)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed(0)


def build(make, size=CHECKED, dtype=torch.float64):
    torch.set_default_dtype(dtype)
    seed()
    return make(size)


def figure(difference):
    return f"{difference:.0e}" if difference else "0"


def outputs(case, model):
    seed()
    model.eval()
    return case.outputs(model)


def decode(case, model):
    seed()
    model.eval()
    return case.decode(model)


def gradients(case, model):
    """The loss, and the gradient of every parameter by its name, None where it has none."""
    seed()
    model.train()
    model.zero_grad(set_to_none=True)
    loss = case.loss(model)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters()}
    model.zero_grad(set_to_none=True)
    return loss.detach(), found


def convert(case, model):
    """What it said: ``sk.convert`` its report, an integration nothing."""
    return sk.convert(model, report=True) if case.by is sk else case.by.convert(model) and None


class Ops:
    """Counts the calls of our ops: by the profiler, which disturbs nothing, as a dispatch mode would TorchRL's scan."""

    def __enter__(self):
        self.profile = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        self.profile.__enter__()
        return self

    def __exit__(self, *raised):
        self.profile.__exit__(*raised)
        events = {event.key.removeprefix("s2s_kernels::"): event.count for event in self.profile.key_averages()}
        self.calls = {name: count for name, count in events.items() if name in OPS}


class Pair:
    """A model as it is, its converted twin, and what ``convert`` said."""

    def __init__(self, make):
        self.case, self.plain = (lambda case: (case, case.model))(build(make))
        twin = build(make).model
        self.before = {path: type(module) for path, module in twin.named_modules()}
        self.report = convert(self.case, twin)
        self.converted = twin
        for name, p in self.plain.named_parameters():
            if not torch.equal(p, twin.get_parameter(name)):
                raise Failed(f"two builds of the case have another {name}: it is not seeded")


def alone(make):
    """The case itself, with nothing converted."""
    case = build(make)
    outputs(case, case.model)
    gradients(case, case.model)
    if case.decode:
        decode(case, case.model)


def converts(pair):
    return converts_modules(pair) if pair.case.by is sk else converts_loops(pair)


def converts_loops(pair):
    """The decoders are swapped, keep their type to isinstance, and the fused ops run."""
    loops = {path: m for path, m in pair.converted.named_modules() if isinstance(m, Loop)}
    if len(loops) != pair.case.converted:
        raise Failed(f"{len(loops)} decoders converted, expected {pair.case.converted}")
    for path, module in loops.items():
        if not isinstance(module, pair.before[path]):
            raise Failed(f"{path} is no {pair.before[path].__name__} any more")
    with Ops() as ops:
        gradients(pair.case, pair.converted)
    gradients(pair.case, pair.plain)  # for the same running statistics
    if not ops.calls:
        raise Failed("no fused op ran in a training step")
    names = ", ".join(sorted({type(module).__name__ for module in loops.values()}))
    return f"{names}: " + "; ".join(f"{name} × {calls}" for name, calls in sorted(ops.calls.items()))


def converts_modules(pair):
    """Everything recurrent is swapped or named, keeps its type to isinstance, and the fused ops run."""
    case, report = pair.case, pair.report
    named = {path for path, *_ in [*report.converted, *report.left]}
    for path, module in pair.converted.named_modules():
        if isinstance(module, RECURRENT) and (path or "the model") not in named:
            raise Failed(f"{path} ({type(module).__name__}) is neither converted nor named")
        if not isinstance(module, pair.before[path]):
            raise Failed(f"{path} is no {pair.before[path].__name__} any more")
    swapped, left = len(report.converted), len(report.left)
    if (swapped, left) != (case.converted, case.left):
        raise Failed(f"{swapped} converted and {left} left, expected {case.converted} and {case.left}")
    with Ops() as ops:
        outputs(case, pair.converted)
    if swapped and not ops.calls:
        raise Failed("no fused op ran in the forward pass")
    text = f"{swapped} of {swapped + left}"
    for kind, reason in dict.fromkeys((kind, reason) for _, kind, reason in report.left):
        text += f"; stays: {kind}, {reason}"
    return text + "".join(f"; {name} × {calls}" for name, calls in sorted(ops.calls.items()))


def refuses(make):
    case = build(make)
    before = {path: type(module) for path, module in case.model.named_modules()}
    try:
        case.by.convert(case.model)
    except ValueError as error:
        if case.refused not in str(error):
            raise Failed(f"refused for another reason: {error}") from None
        if any(type(m) is not before[path] for path, m in case.model.named_modules()):
            raise Failed("refused, but something is converted") from None
        return f"refused: {error}"
    raise Failed("it was converted, expected a ValueError")


def outputs_equal(pair):
    worst = compare("output", outputs(pair.case, pair.plain), outputs(pair.case, pair.converted))
    return figure(worst)


def gradients_equal(pair):
    """Relative to the largest element of a parameter's gradient, or a thousandth of the largest of all."""
    (loss, plain), (its_loss, converted) = (gradients(pair.case, m) for m in (pair.plain, pair.converted))
    worst = compare("loss", loss, its_loss)
    if plain.keys() != converted.keys():
        raise Failed("the names of the parameters differ")
    missing = [name for name in plain if (plain[name] is None) != (converted[name] is None)]
    if missing:
        raise Failed(f"gradient of {missing[0]} is there only {'before' if converted[missing[0]] is None else 'after'}")
    present = [name for name in plain if plain[name] is not None]
    if not present:
        raise Failed("no parameter has a gradient")
    scale = 1e-3 * max(float(plain[name].abs().max()) for name in present)
    for name in present:
        worst = max(worst, compare(f"gradient of {name}", plain[name], converted[name], scale))
    return f"{figure(worst)} ({len(present)})"


def train(case, model):
    seed()
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=RATE)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = case.loss(model)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def trains(make):
    pair = Pair(make)
    plain, converted = train(pair.case, pair.plain), train(pair.case, pair.converted)
    if len(set(plain)) == 1:
        raise Failed("the loss does not change, even without convert")
    worst = compare("loss", plain, converted)
    return figure(worst)


def initializes(make):
    """The package's initialiser gives both twins the same bits, and others than before."""
    pair = Pair(make)
    before = {name: p.clone() for name, p in pair.plain.named_parameters()}
    after = []
    for model in (pair.plain, pair.converted):
        seed()
        pair.case.initialize(model)
        after.append({name: p.detach() for name, p in model.named_parameters()})
    changed = [name for name, p in after[0].items() if not torch.equal(p, before[name])]
    if not changed:
        raise Failed("the initialiser changes nothing, even without convert")
    for name, p in after[0].items():
        if not torch.equal(p, after[1][name]):
            raise Failed(f"{name} differs after the initialiser")
    compare("output", outputs(pair.case, pair.plain), outputs(pair.case, pair.converted))
    return f"{len(changed)} of {len(before)} parameters"


def through_file(value, weights_only):
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


DUPLICATES = {"pickle": lambda model: through_file(model, weights_only=False), "deepcopy": copy.deepcopy}


def can(action, model):
    """Whether the package's own, unconverted model can do this at all."""
    try:
        action(model)
    except Exception:  # whatever a package's __reduce__ raises
        return False
    return True


def saves(make):
    """state_dict to and fro, through a file too; the whole model pickled and copied where it could be before."""
    pair = Pair(make)
    case, plain, converted = pair.case, pair.plain, pair.converted
    if list(plain.state_dict()) != list(converted.state_dict()):
        raise Failed("the keys of the state_dict differ")
    # Copied before the first forward pass: a package may keep a tensor of it, which stops deepcopy.
    copies, done = [], ["state_dict"]
    for name, duplicate in DUPLICATES.items():
        if can(duplicate, plain):
            copies.append((name, duplicate(converted)))
        else:
            done.append(f"no {name} before either")
    truth = outputs(case, plain)
    fresh = Pair(make)
    for p in [*fresh.plain.parameters(), *fresh.converted.parameters()]:
        p.data.fill_(math.nan)
    case.load(fresh.plain, through_file(converted.state_dict(), weights_only=True))
    case.load(fresh.converted, through_file(plain.state_dict(), weights_only=True))
    compare("output after load_state_dict", truth, outputs(case, fresh.plain))
    compare("output after load_state_dict", truth, outputs(case, fresh.converted))
    for name, twin in copies:
        with Ops() as ops:
            found = outputs(case, twin)
            if case.by is not sk:  # a decoder may run its loop in evaluation
                gradients(case, twin)
        compare(f"output after {name}", truth, found)
        if case.converted and not ops.calls:
            raise Failed(f"no fused op ran after {name}")
        done.append(name)
    return ", ".join(done)


def reverts(make):
    """Types, parameters and attributes are what they were, and the outputs are so bit for bit."""
    model = (case := build(make)).model
    truth = outputs(case, model)
    before = {path: (type(m), sorted(vars(m))) for path, m in model.named_modules()}
    parameters = dict(model.named_parameters())
    convert(case, model)
    outputs(case, model)
    case.by.revert(model)
    for path, module in model.named_modules():
        kind, names = before[path]
        if type(module) is not kind:
            raise Failed(f"{path} is a {type(module).__name__}, not a {kind.__name__}")
        if sorted(vars(module)) != names:
            raise Failed(f"{path} has other attributes: {', '.join(sorted({*vars(module)} ^ {*names}))}")
    after = dict(model.named_parameters())
    if list(after) != list(parameters) or any(after[name] is not p for name, p in parameters.items()):
        raise Failed("the parameters are other objects")
    found = outputs(case, model)
    if any(not torch.equal(a, b) for a, b in zip(tree_leaves(truth), tree_leaves(found))):
        raise Failed("the outputs have other bits")
    return "yes"


def decodes(pair):
    worst = compare("decode", decode(pair.case, pair.plain), decode(pair.case, pair.converted))
    return figure(worst)


def times(make):
    """Seconds before and after convert: medians of alternating runs in float32, of a training step and of a search;
    of a whole loop, with the other recurrent modules converted as well, with one thread too."""
    twins = [build(make, TIMED, torch.float32) for _ in range(2)]
    convert(twins[1], twins[1].model)
    if twins[1].by is not sk:
        sk.convert(twins[1].model)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in [before] if twins[0].by is sk else [before, 1]:
            torch.set_num_threads(threads)
            text = faster(twins, gradients)
            if twins[0].decode and twins[0].by is not sk:
                text += f", search {faster(twins, decode)}"
            found.append(text)
    finally:
        torch.set_num_threads(before)
    return "; one thread: ".join(found)


def faster(twins, run):
    seconds = [[], []]
    for i in range(TIMINGS + 1):
        for case, found in zip(twins, seconds):
            begin = perf_counter()
            run(case, case.model)
            if i:
                found.append(perf_counter() - begin)
    before, after = (median(x) for x in seconds)
    return f"{1e3 * before:.0f} → {1e3 * after:.0f} ms ({before / after:.2f})"


# A check takes the pair that all may share, or builds models of its own since it changes them.
COLUMNS = {
    "converts": (converts, True),
    "outputs": (outputs_equal, True),
    "gradients": (gradients_equal, True),
    "trains": (trains, False),
    "saves": (saves, False),
    "reverts": (reverts, False),
    "initializes": (initializes, False),
    "decodes": (decodes, True),
    "time": (times, False),
}
