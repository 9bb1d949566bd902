"""The ops once more, as scalar or numpy float64 loops written from the papers: they share nothing with the
reference but the argument names, so that the reference is tested too."""

import math

import numpy as np


def attention(query, keys, values, v, valid=None, bias=None):
    """Context and weights of one query, head and row: query (A,), keys (S, A), values (S, D), v (A,)."""
    source, size = keys.shape
    scores = []
    for s in range(source):
        score = sum(v[a] * math.tanh(query[a] + keys[s, a]) for a in range(size))
        scores.append(score + (0.0 if bias is None else bias[s]))
    weights = softmax(scores, [True] * source if valid is None else valid)
    return weighted(weights, values), weights


def softmax(scores, valid):
    """Weights of the valid positions, zeros at the others."""
    allowed = [s for s in range(len(scores)) if valid[s]]
    weights = np.zeros(len(scores))
    if allowed:
        highest = max(scores[s] for s in allowed)
        total = math.fsum(math.exp(scores[s] - highest) for s in allowed)
        for s in allowed:
            weights[s] = math.exp(scores[s] - highest) / total
    return weights


def weighted(weights, values):
    """Their sum, of the positions that have a weight."""
    return sum((w * x for w, x in zip(weights, values, strict=True) if w != 0), np.zeros(values.shape[1]))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru_step(gates_x, gates_h, h):
    size = h.shape[-1]
    x, g = gates_x.reshape(3, size), gates_h.reshape(3, size)
    r, z = sigmoid(x[0] + g[0]), sigmoid(x[1] + g[1])
    n = np.tanh(x[2] + r * g[2])
    return (1 - z) * n + z * h


def lstm_step(gates_x, gates_h, c):
    i, f, g, o = (gates_x + gates_h).reshape(4, c.shape[-1])
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def cell(op, a, x, h, c):
    """One step of one row from the weights in ``a``; returns h, c (c is None for a GRU)."""
    return layer(op, *(a.get(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")), x, h, c)


def layer(op, weight_ih, weight_hh, bias_ih, bias_hh, x, h, c):
    gates_x, gates_h = weight_ih @ x, weight_hh @ h
    gates_x = gates_x if bias_ih is None else gates_x + bias_ih
    gates_h = gates_h if bias_hh is None else gates_h + bias_hh
    return lstm_step(gates_x, gates_h, c) if "lstm" in op else (gru_step(gates_x, gates_h, h), None)


def sequence(op, a):
    """gru or lstm, row by row: output, h_n (and c_n)."""
    batch, steps, _ = a["x"].shape
    output = np.zeros((batch, steps, a["h0"].shape[1]))
    begin = ("reset_h", "reset_c") if op == "lstm" else ("reset_states", "none")
    last = []
    for b in range(batch):
        length = steps if a.get("lengths") is None else int(a["lengths"][b])
        h, c = a["h0"][b], a["c0"][b] if "c0" in a else None
        for t in reversed(range(length)) if a.get("reverse") else range(length):
            if "resets" in a and a["resets"][b, t]:
                h, c = (a[name][b, t] if name in a else 0 * a["h0"][b] for name in begin)
            h, c = cell(op, a, a["x"][b, t], h, c)
            output[b, t] = h
        last.append((h, c))
    h_n, c_n = (list(state) for state in zip(*last, strict=True))
    return [output, np.stack(h_n)] + ([np.stack(c_n)] if "c0" in a else [])
