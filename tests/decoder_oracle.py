"""The attention decoder with all its parts as numpy float64 loops over rows, heads and positions."""

import math

import numpy as np
from oracles import layer, sigmoid, softmax, weighted


def scan(op, a):
    """attention_gru or attention_lstm: states, contexts, weights, feeds, h_n (and c_n)."""
    rows = [Row(op, a, b).run() for b in range(len(a["x"]))]
    outputs = [np.stack(part) for part in zip(*rows, strict=True)]
    if "layers[0][0]" in a:
        outputs[4:] = [x.swapaxes(0, 1) for x in outputs[4:]]  # (L, B, H)
    elif outputs[4:]:
        outputs[4:] = [x[:, 0] for x in outputs[4:]]
    if a["keys"].ndim == 3:
        outputs[2] = outputs[2][:, :, 0]
    return outputs


class Row:
    """Row b of the batch."""

    def __init__(self, op, a, b):
        self.op, self.a, self.b = op, a, b
        many = 1
        while f"layers[{many - 1}][0]" in a:
            many += 1
        self.transition = [a.get(f"transition[{i}]") for i in range(4)] if "transition[0]" in a else None
        self.layers = [[a.get(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]]
        self.layers += [[a[f"layers[{i}][{j}]"] for j in range(4)] for i in range(many - 1)]
        self.h = [(a["h0"][i, b] if many > 1 else a["h0"][b]) for i in range(many)]
        self.c = [None] * many
        if "c0" in a:
            self.c = [(a["c0"][i, b] if many > 1 else a["c0"][b]) for i in range(many)]
        keys, values = a["keys"][b], a["values"][b]
        self.keys = keys[:, None] if keys.ndim == 2 else keys
        source, heads = self.keys.shape[:2]
        self.values = np.repeat(values[:, None], heads, 1) if values.ndim == 2 else values
        self.valid = [True] * source if a.get("mask") is None else list(a["mask"][b])
        if a.get("lengths") is not None:
            self.valid = [ok and s < int(a["lengths"][b]) for s, ok in enumerate(self.valid)]
        first = a.get("first_weights")
        self.last = np.zeros(source) if first is None else np.where(self.valid, first[b], 0)
        self.total = self.last
        self.aligned = np.array([1.0] + [0.0] * (source - 1))[:source]

    def factors(self, name, t, layer=None):
        """1 where the mask is not given."""
        mask = self.a.get(name)
        if mask is None:
            return 1.0
        return mask[layer, self.b, t] if layer is not None and mask.ndim == 4 else mask[self.b, t]

    def run(self):
        a, b = self.a, self.b
        states, contexts, weights, feeds = [], [], [], []
        steps = a["x"].shape[1]
        for t in range(steps + 1):
            context, weight = self.attend(t)
            fed = self.feed(t, context)
            if self.transition and t:
                fed_in = fed * self.factors("drop_fed", t - 1)
                self.h[0], self.c[0] = layer(self.op, *self.transition, fed_in, self.h[0], self.c[0])
                states.append(self.h[0])
            if t == 0 and a.get("first_feed") is not None:
                fed = a["first_feed"][b]
            elif t or not self.transition:
                self.last, self.total, self.aligned = weight[0], self.total + weight[0], weight[0]
            contexts.append(context)
            weights.append(weight)
            feeds.append(fed)
            if self.transition and t < steps:
                self.step(t, a["x"][b, t])
            elif t < steps:
                self.step(t, np.concatenate([a["x"][b, t], fed * self.factors("drop_fed", t)]))
                states.append(self.h[-1])
        feeds = contexts if a.get("w_feed") is None else feeds
        outputs = [states, contexts, weights, feeds, self.h, *([self.c] if self.c[0] is not None else [])]
        return [np.stack(y) for y in outputs]

    def step(self, t, x):
        for i, weights in enumerate(self.layers):
            old = self.h[i], self.c[i]
            new = layer(self.op, *weights, x, *old)
            found = []
            for name, before, after in zip("hc", old, new, strict=True):
                if after is not None:
                    zone = self.a.get(f"zone_{name}")
                    after = after * self.factors(f"drop_{name}", t, i)
                    if zone is not None:
                        share = self.factors(f"zone_{name}", t, i)
                        after = share * before + (1 - share) * after
                found.append(after)
            self.h[i], self.c[i] = found
            if i + 1 < len(self.layers):
                mask = self.a.get("drop_layers")
                x = self.h[i] if mask is None else self.h[i] * mask[i, self.b, t]

    def attend(self, t):
        a = self.a
        source, heads, size = self.keys.shape
        state = self.h[-1] if a.get("query", "h") == "h" else np.concatenate([self.c[-1], self.h[-1]])
        asked = state * self.factors("drop_query", t)
        if a.get("w_query") is not None:
            asked = a["w_query"] @ asked + (0 if a.get("b_query") is None else a["b_query"])
        asked = asked.reshape(heads, size)
        contexts, weights = [], []
        for n in range(heads):
            scores = [self.score(asked[n], n, s) for s in range(source)]
            weight = self.normalize(scores)
            dropped = weight
            if a.get("drop_weights") is not None:
                mask = a["drop_weights"][self.b, t]
                dropped = weight * np.where(self.valid, mask if mask.ndim == 1 else mask[n], 0)
            contexts.append(weighted(dropped, self.values[:, n]))
            weights.append(weight)
        return np.concatenate(contexts), np.stack(weights)

    def score(self, asked, n, s):
        a = self.a
        if not self.valid[s]:
            return 0.0  # softmax does not read it
        if a.get("score", "additive") == "dot":
            found = math.fsum(q * k for q, k in zip(asked, self.keys[s, n], strict=True))
        else:
            v = a["v"] if a["v"].ndim == 1 else a["v"][n]
            key = self.keys[s, n] + self.located(s)
            found = math.fsum(v_a * math.tanh(q + k) for v_a, q, k in zip(v, asked, key, strict=True))
        if a.get("b_score") is not None:
            found += a["b_score"][n if len(a["b_score"]) > 1 else 0]
        return a.get("scale", 1.0) * found

    def located(self, s):
        """The convolution of the history at position s."""
        kernel = self.a.get("w_location")
        if kernel is None:
            return 0.0
        history = {"previous": [self.last], "cumulative": [self.total], "both": [self.last, self.total]}
        found = np.zeros(kernel.shape[0])
        for channel, weights in enumerate(history[self.a.get("location", "previous")]):
            for k in range(kernel.shape[2]):
                at = s + k - kernel.shape[2] // 2
                if 0 <= at < len(weights):
                    found = found + kernel[:, channel, k] * weights[at]
        return found if self.a.get("w_dense") is None else self.a["w_dense"] @ found

    def normalize(self, scores):
        kind = self.a.get("normalization", "softmax")
        if kind == "sigmoid":
            shares = np.array([1 / (1 + math.exp(-e)) if ok else 0.0 for e, ok in zip(scores, self.valid, strict=True)])
        elif kind == "forward":
            before = self.aligned
            moved = [0.0, *before[:-1]][: len(before)]
            shares = softmax(scores, self.valid)
            shares = np.array([(p / 2 + m / 2 + 1e-8) * w for p, m, w in zip(before, moved, shares, strict=True)])
        else:
            return softmax(scores, self.valid)
        return shares / shares.sum() if shares.sum() > 0 else shares

    def feed(self, t, context):
        a = self.a
        if a.get("w_feed") is None:
            return context
        kind, h = a.get("feed", "tanh"), self.h[-1]
        read = h if kind == "gate" else np.concatenate([h, context])
        made = a["w_feed"] @ (read * self.factors("drop_attended", t))
        made = made + (0 if a.get("b_feed") is None else a["b_feed"])
        return {"tanh": np.tanh, "linear": lambda x: x, "gate": lambda x: sigmoid(x) * context}[kind](made)
