"""Cells of JAX under lax.scan: Flax linen and nnx, Haiku, Equinox."""

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import numpy as np
from flax import nnx

from s2s_kernels import weights

from .case import B, Case, H, I, cotangent, filled, inputs, random

PINS = [
    "flax==0.12.8",
    "dm-haiku==0.0.17",
    "equinox==0.13.8",
    "absl-py==2.5.1",
    "aiofiles==25.1.0",
    "etils==1.15.0",
    "humanize==4.17.0",
    "jax==0.10.2",
    "jaxlib==0.10.2",
    "jaxtyping==0.3.11",
    "jmp==0.0.4",
    "msgpack==1.2.4",
    "opt_einsum==3.4.0",
    "optax==0.2.8",
    "orbax-checkpoint==0.12.8",
    "prometheus_client==0.26.0",
    "psutil==7.2.2",
    "scipy==1.17.1",
    "simplejson==4.3.0",
    "tensorstore==0.1.86",
    "treescope==0.1.10",
    "uvloop==0.23.0",
    "wadler_lindig==0.1.8",
    "zipp==4.1.2",
]
VERSIONS = {"flax": PINS[0], "haiku": PINS[1], "equinox": PINS[2]}


def flat(tree, prefix=""):
    """{"a.b": array} of nested dictionaries, lists and pairs."""
    if isinstance(tree, tuple):
        tree = {"forward": tree[0], "backward": tree[1]}
    if isinstance(tree, list):
        tree = {str(i): one for i, one in enumerate(tree)}
    if not isinstance(tree, dict):
        return {prefix: np.asarray(tree)}
    return {name: x for key, one in tree.items() for name, x in flat(one, f"{prefix}.{key}" if prefix else key).items()}


def case(name, source, params, run, real, keep=False):
    """``run(params, x)`` -> output (B, T, D), [h, c] each (L*D, B, H); ``real(params)`` -> our module."""
    generator, x = random(len(name)), inputs()
    params = jax.tree.map(lambda p: filled(p.shape, generator), params)
    output, states = run(params, x)
    weight = cotangent(np.asarray(output))
    found, dx = jax.grad(lambda p, x: (run(p, x)[0] * weight).sum(), (0, 1))(params, x)
    return Case(
        name,
        source,
        flat(params),
        x,
        np.asarray(output),
        [np.asarray(s) for s in states],
        gradients={"x": np.asarray(dx), **flat(found)},
        real=real(params),
        keep=keep,
    )


def h_first(carry):
    """[h, c] of Flax' (c, h), [h] of a GRU's."""
    return [carry[1], carry[0]] if isinstance(carry, tuple) else [carry]


def linen(name, cell, keep=False, layers=1, wrapper=False):
    kinds = [nn.RNN(cell(), return_carry=True) for _ in range(layers)]
    x = inputs()
    params = []
    for rnn in kinds:
        params.append(rnn.init(jax.random.key(1), x)["params"])
        _, x = rnn.apply({"params": params[-1]}, x)

    def run(params, x):
        last = []
        for rnn, tree in zip(kinds, params):
            carry, x = rnn.apply({"params": tree}, x)
            last.append(h_first(carry))
        return x, [np.stack(kind) if not isinstance(kind[0], jax.core.Tracer) else kind for kind in zip(*last)]

    made = params if layers > 1 else params[:1]
    return case(f"linen {name}", "flax", made, run, lambda params: weights.flax_layer(params), keep)


def linen_bidirectional(name, cell, keep=False):
    both = nn.Bidirectional(nn.RNN(cell()), nn.RNN(cell()), return_carry=True)
    tree = both.init(jax.random.key(1), inputs())["params"]

    def run(tree, x):
        carries, output = both.apply({"params": tree}, x)
        last = [h_first(carry) for carry in carries]
        return output, [kind if isinstance(kind[0], jax.core.Tracer) else np.stack(kind) for kind in zip(*last)]

    return case(f"linen Bidirectional {name}", "flax", tree, run, weights.flax_layer, keep)


def of_nnx(name, kind, keep=False):
    cell = kind(I, H, rngs=nnx.Rngs(0))
    graph, state, rest = nnx.split(cell, nnx.Param, ...)
    tree = nnx.to_pure_dict(state)

    def run(tree, x):
        own = jax.tree.map(lambda v: v, state)
        nnx.replace_by_pure_dict(own, tree)
        rnn = nnx.RNN(nnx.merge(graph, own, rest), return_carry=True)
        carry, output = rnn(x)
        return output, [s[None] for s in h_first(carry)]

    def real(tree):
        return weights.flax_layer(tree)

    return case(f"nnx {name}", "flax", tree, run, real, keep)


def of_haiku(name, kind, keep=False):
    def unroll(x):
        core = kind(H)
        output, state = hk.dynamic_unroll(core, x.swapaxes(0, 1), core.initial_state(x.shape[0]))
        return output.swapaxes(0, 1), state

    forward = hk.without_apply_rng(hk.transform(unroll))
    params = forward.init(jax.random.key(0), inputs())

    def run(params, x):
        output, state = forward.apply(params, x)
        return output, [s[None] for s in (state if isinstance(state, tuple) else (state,))]

    return case(f"Haiku {name}", "haiku", params, run, weights.haiku_layer, keep)


def of_equinox(name, kind, keep=False, **options):
    cell = kind(I, H, key=jax.random.key(0), **options)
    names = [n for n in ("weight_ih", "weight_hh", "bias", "bias_n") if getattr(cell, n, None) is not None]

    def put(params):
        return eqx.tree_at(lambda c: [getattr(c, n) for n in names], cell, [params[n] for n in names])

    def run(params, x):
        own = put(params)

        def one(x):
            zero = jax.numpy.zeros(H)
            first = zero if kind is eqx.nn.GRUCell else (zero, zero)

            def step(state, x_t):
                state = own(x_t, state)
                return state, state if kind is eqx.nn.GRUCell else state[0]

            return jax.lax.scan(step, first, x)

        state, output = jax.vmap(one)(x)
        return output, [s[None] for s in (state if isinstance(state, tuple) else (state,))]

    params = {n: getattr(cell, n) for n in names}
    return case(f"Equinox {name}", "equinox", params, run, lambda params: weights.equinox_layer(put(params)), keep)


def cases():
    yield linen("GRUCell", lambda: nn.GRUCell(H), keep=True)
    yield linen("LSTMCell", lambda: nn.LSTMCell(H), keep=True)
    yield linen("OptimizedLSTMCell", lambda: nn.OptimizedLSTMCell(H))
    yield linen("2 GRUCells", lambda: nn.GRUCell(H), layers=2)
    yield linen_bidirectional("GRUCell", lambda: nn.GRUCell(H), keep=True)
    yield linen_bidirectional("LSTMCell", lambda: nn.LSTMCell(H))
    yield of_nnx("GRUCell", nnx.GRUCell, keep=True)
    yield of_nnx("LSTMCell", nnx.LSTMCell, keep=True)
    yield of_nnx("OptimizedLSTMCell", nnx.OptimizedLSTMCell, keep=True)
    yield of_haiku("GRU", hk.GRU, keep=True)
    yield of_haiku("LSTM", hk.LSTM, keep=True)
    yield of_equinox("GRUCell", eqx.nn.GRUCell, keep=True)
    yield of_equinox("GRUCell without bias", eqx.nn.GRUCell, use_bias=False)
    yield of_equinox("LSTMCell", eqx.nn.LSTMCell, keep=True)
    yield of_equinox("LSTMCell without bias", eqx.nn.LSTMCell, use_bias=False)


def refused(cell):
    x = inputs()
    carry = cell.initialize_carry(jax.random.key(0), x[:, 0].shape)
    tree = cell.init(jax.random.key(0), carry, x[:, 0])["params"]
    try:
        weights.flax_layer(tree)
    except ValueError as error:
        return "" if "expected the parts of Flax' GRUCell or LSTMCell" in str(error) else f"says {error}"
    return "is not refused"


def back(cell):
    carry = cell.initialize_carry(jax.random.key(0), (B, I))
    generator = random(7)
    tree = jax.tree.map(
        lambda p: filled(p.shape, generator), cell.init(jax.random.key(0), carry, inputs()[:, 0])["params"]
    )
    (made,) = weights.to_flax(weights.flax_layer(tree))
    same = jax.tree.structure(made) == jax.tree.structure(tree) and all(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(made), jax.tree.leaves(tree))
    )
    return "" if same else "other bits"


def checks():
    yield "linen MGUCell is refused", refused(nn.MGUCell(H))
    yield "linen SimpleCell is refused", refused(nn.SimpleCell(H))
    for cell in (nn.GRUCell(H), nn.LSTMCell(H), nn.OptimizedLSTMCell(H)):
        yield f"to_flax: {type(cell).__name__}, to the bit", back(cell)
