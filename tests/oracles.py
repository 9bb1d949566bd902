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
    allowed = [s for s in range(source) if valid is None or valid[s]]
    weights, context = np.zeros(source), np.zeros(values.shape[1])
    if not allowed:
        return context, weights
    highest = max(scores[s] for s in allowed)
    total = math.fsum(math.exp(scores[s] - highest) for s in allowed)
    for s in allowed:
        weights[s] = math.exp(scores[s] - highest) / total
        context += weights[s] * values[s]
    return context, weights


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
    gates_x, gates_h = a["weight_ih"] @ x, a["weight_hh"] @ h
    if a.get("bias_ih") is not None:
        gates_x = gates_x + a["bias_ih"]
    if a.get("bias_hh") is not None:
        gates_h = gates_h + a["bias_hh"]
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


def scan(op, a):
    """attention_gru or attention_lstm, row by row: states, contexts, weights, feeds, h_n (and c_n)."""
    rows = []
    heads = a["v"].ndim == 2
    v = a["v"] if heads else a["v"][None]
    for b in range(len(a["x"])):
        keys = a["keys"][b] if heads else a["keys"][b][:, None]
        values = a["values"][b]
        source = len(values)
        valid = [True] * source if a.get("mask") is None else list(a["mask"][b])
        if a.get("lengths") is not None:
            valid = [ok and s < int(a["lengths"][b]) for s, ok in enumerate(valid)]
        values = np.where(np.array(valid)[:, None], values, 0)

        def attend(h, keys=keys, values=values, valid=valid):
            query = a["w_query"] @ h + (0 if a.get("b_query") is None else a["b_query"])
            pairs = [attention(q, keys[:, n], values, v[n], valid) for n, q in enumerate(query.reshape(v.shape))]
            context = np.concatenate([c for c, _ in pairs])
            feed = context
            if a.get("w_feed") is not None:
                feed = a["w_feed"] @ np.concatenate([h, context])
                feed = np.tanh(feed + (0 if a.get("b_feed") is None else a["b_feed"]))
            return context, np.stack([w for _, w in pairs]), feed

        h, c = a["h0"][b], a["c0"][b] if "c0" in a else None
        attended = [attend(h)]
        feed = attended[0][2] if a.get("first_feed") is None else a["first_feed"][b]
        feeds, states = [feed], []
        for x in a["x"][b]:
            h, c = cell(op, a, np.concatenate([x, feed]), h, c)
            attended.append(attend(h))
            feed = attended[-1][2]
            states.append(h)
            feeds.append(feed)
        contexts, weights, _ = (np.stack(part) for part in zip(*attended, strict=True))
        # Without w_feed the feeds are the contexts; a first_feed is then the caller's own.
        feeds = contexts if a.get("w_feed") is None else np.stack(feeds)
        rows.append([np.stack(states), contexts, weights if heads else weights[:, 0], feeds, h, c])
    outputs = [list(part) for part in zip(*rows, strict=True)]
    return [np.stack(part) for part in (outputs if "c0" in a else outputs[:-1])]
