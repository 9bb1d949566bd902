"""Every preset's system once more, one row at a time in torch float64, from the papers' formulas, in their names and
layouts. Nothing of s2s or s2s_kernels is used here. Each system is

- ``parameters(r, sizes, ...)``: random parameters by the system's own names,
- a function of parameters, source ids and input ids that returns logits (T, V).

Where a system feeds its own outputs, only the first input id counts.
"""

import math

import torch

tanh, sigmoid = torch.tanh, torch.sigmoid


def softmax(scores):
    powers = torch.exp(scores - scores.max())
    return powers / powers.sum()


def attend(scores, memory):
    return softmax(torch.stack(scores)) @ torch.stack(memory)


# --- cells: (random parameters, one step); x and h are vectors ----------------------------------------------------


def keras_gru(after):
    """Keras' documentation: blocks z, r, h; ``after`` is its reset_after."""

    def parameters(r, inputs, size):
        return {
            "kernel": r(inputs, 3 * size),
            "recurrent_kernel": r(size, 3 * size),
            "bias": r(2, 3 * size) if after else r(3 * size),
        }

    def step(p, x, h):
        n = len(h)
        W, U, b = p["kernel"], p["recurrent_kernel"], p["bias"]
        b_x, b_h = (b[0], b[1]) if after else (b, torch.zeros_like(b))
        z = sigmoid(x @ W[:, :n] + b_x[:n] + h @ U[:, :n] + b_h[:n])
        r = sigmoid(x @ W[:, n : 2 * n] + b_x[n : 2 * n] + h @ U[:, n : 2 * n] + b_h[n : 2 * n])
        inner = r * (h @ U[:, 2 * n :] + b_h[2 * n :]) if after else (r * h) @ U[:, 2 * n :]
        return z * h + (1 - z) * tanh(x @ W[:, 2 * n :] + b_x[2 * n :] + inner)

    return parameters, step


def tf1_gru():
    """TensorFlow 1's GRUCell: [r, u] from [x, h], the candidate from [x, r h]."""

    def parameters(r, inputs, size):
        return {
            "gates_kernel": r(inputs + size, 2 * size),
            "gates_bias": r(2 * size),
            "candidate_kernel": r(inputs + size, size),
            "candidate_bias": r(size),
        }

    def step(p, x, h):
        r, u = sigmoid(torch.cat([x, h]) @ p["gates_kernel"] + p["gates_bias"]).split(len(h))
        c = tanh(torch.cat([x, r * h]) @ p["candidate_kernel"] + p["candidate_bias"])
        return u * h + (1 - u) * c

    return parameters, step


def tf1_lstm():
    """TensorFlow 1's BasicLSTMCell: i, j, f, o from [x, h], a forget bias of 1; state (h, c)."""

    def parameters(r, inputs, size):
        return {"kernel": r(inputs + size, 4 * size), "bias": r(4 * size)}

    def step(p, x, state):
        h, c = state
        i, j, f, o = (torch.cat([x, h]) @ p["kernel"] + p["bias"]).split(len(h))
        c = c * sigmoid(f + 1.0) + sigmoid(i) * tanh(j)
        return tanh(c) * sigmoid(o), c

    return parameters, step


def paper_gru(new_by_z):
    """Cho et al. (2014), eq. 5 to 8; Bahdanau et al. (2015), appendix A.1, where z is the share of the new state."""

    def parameters(r, inputs, size):
        return {f"W{gate}": r(size, inputs) for gate in ("", "_r", "_z")} | {
            f"U{gate}": r(size, size) for gate in ("", "_r", "_z")
        }

    def step(p, x, h):
        r = sigmoid(p["W_r"] @ x + p["U_r"] @ h)
        z = sigmoid(p["W_z"] @ x + p["U_z"] @ h)
        new = tanh(p["W"] @ x + p["U"] @ (r * h))
        return (1 - z) * h + z * new if new_by_z else z * h + (1 - z) * new

    return parameters, step


def keras_lstm():
    """Blocks i, f, c, o; state (h, c)."""

    def parameters(r, inputs, size):
        return {"kernel": r(inputs, 4 * size), "recurrent_kernel": r(size, 4 * size), "bias": r(4 * size)}

    def step(p, x, state):
        h, c = state
        i, f, g, o = (x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"]).split(len(h))
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    return parameters, step


def matrices(r, **shapes):
    return {name: r(*shape) for name, shape in shapes.items()}


# --- systems ------------------------------------------------------------------------------------------------------


def keras_dialogue(p, gru, source, inputs):
    h, outputs = torch.zeros_like(p["V"][:, 0])[: len(p["W2"])], []
    for token in source:
        h = gru(p["encoder"], p["encoder_embedding"][token], h)
        outputs.append(h)
    logits = []
    for token in inputs:
        scores = [(tanh(y @ p["W1"] + p["b1"] + h @ p["W2"] + p["b2"]) @ p["V"] + p["bV"])[0] for y in outputs]
        x = torch.cat([attend(scores, outputs), p["embedding"][token]])
        h = gru(p["decoder"], x, h)
        logits.append(h @ p["dense"] + p["dense_bias"])
    return torch.stack(logits)


def keras_dialogue_parameters(r, cell, E, H, A, V):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "encoder": cell(r, E, H),
        "decoder": cell(r, H + E, H),
        **matrices(r, W1=(H, A), b1=(A,), W2=(H, A), b2=(A,), V=(A, 1), bV=(1,)),
        **matrices(r, dense=(H, V), dense_bias=(V,)),
    }


def tf_basic(p, gru, source, inputs, feed_previous=True):
    h = torch.zeros(len(p["W"]), dtype=torch.float64)
    for token in source:
        h = gru(p["encoder"], p["encoder_embedding"][token], h)
    logits = []
    for i, token in enumerate(inputs):
        if feed_previous and i > 0:
            token = int(logits[-1].argmax())
        h = gru(p["decoder"], p["embedding"][token], h)
        logits.append(h @ p["W"] + p["b"])
    return torch.stack(logits)


def tf_basic_parameters(r, cell, E, H, V):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "encoder": cell(r, E, H),
        "decoder": cell(r, E, H),
        **matrices(r, W=(H, V), b=(V,)),
    }


def tf_attention(p, cell, source, inputs, lstm=False, initial_state_attention=False, feed_previous=False):
    """``attention_decoder``: linear([input, attns]) into the cell, attention over the new state,
    linear([output, attns]), and then the output projection. The state of an LSTM asks as the tuple (c, h) that it is,
    its parts one after the other."""
    size = p["AttnV"].shape[1]
    zeros = torch.zeros(size, dtype=torch.float64)
    state, states = (zeros, zeros) if lstm else zeros, []
    for token in source:
        state = cell(p["encoder"], p["encoder_embedding"][token], state)
        states.append(state[0] if lstm else state)

    def attention(state):
        query, heads = torch.cat([state[1], state[0]]) if lstm else state, []
        for W, v, U, b in zip(p["AttnW"], p["AttnV"], p["Attention"], p["Attention_bias"]):
            heads.append(attend([v @ tanh(W.T @ y + U.T @ query + b) for y in states], states))
        return torch.cat(heads)

    attns = torch.zeros(size * len(p["AttnV"]), dtype=torch.float64)
    if initial_state_attention:
        attns = attention(state)
    logits = []
    for i, token in enumerate(inputs):
        if feed_previous and i > 0:
            token = int(logits[-1].argmax())
        x = torch.cat([p["embedding"][token], attns]) @ p["Linear"] + p["Linear_bias"]
        state = cell(p["decoder"], x, state)
        attns = attention(state)
        output = torch.cat([state[0] if lstm else state, attns]) @ p["AttnOutputProjection"]
        output = output + p["AttnOutputProjection_bias"]
        logits.append(output @ p["projection"] + p["projection_bias"])
    return torch.stack(logits)


def tf_attention_parameters(r, cell, E, H, V, heads, lstm=False):
    Q = 2 * H if lstm else H
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "encoder": cell(r, E, H),
        "decoder": cell(r, E, H),
        **matrices(r, AttnW=(heads, H, H), AttnV=(heads, H), Attention=(heads, Q, H), Attention_bias=(heads, H)),
        **matrices(r, Linear=(E + heads * H, E), Linear_bias=(E,)),
        **matrices(r, AttnOutputProjection=(H + heads * H, H), AttnOutputProjection_bias=(H,)),
        **matrices(r, projection=(H, V), projection_bias=(V,)),
    }


def lstm_marathi(p, lstm, source, inputs):
    zeros = torch.zeros(len(p["W"]), dtype=torch.float64)
    state, memory = (zeros, zeros), []
    for token in source:
        state = lstm(p["encoder"], p["encoder_embedding"][token], state)
        memory.append(state[0])
    logits = []
    for token in inputs:
        state = lstm(p["decoder"], p["embedding"][token], state)
        scores = [tanh(y @ p["U"] + state[0] @ p["W"] + p["b"]) @ p["V"] for y in memory]
        logits.append(torch.cat([state[0], attend(scores, memory)]) @ p["dense"] + p["dense_bias"])
    return torch.stack(logits)


def lstm_marathi_parameters(r, cell, E, H, A, V):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "encoder": cell(r, E, H),
        "decoder": cell(r, E, H),
        **matrices(r, U=(H, A), W=(H, A), b=(A,), V=(A,), dense=(2 * H, V), dense_bias=(V,)),
    }


def cho(p, gru, source, inputs):
    """Appendix A.1: c = tanh(V h_N), h'_0 = tanh(V' c), and the maximum of two linear maps of h', y and c."""
    h = torch.zeros(len(p["V"]), dtype=torch.float64)
    for token in source:
        h = gru(p["encoder"], p["encoder_embedding"][token], h)
    c = tanh(p["V"] @ h)
    h, logits = tanh(p["V_prime"] @ c), []
    for token in inputs:
        y = p["embedding"][token]
        h = gru(p["decoder"], torch.cat([y, c]), h)
        s = p["O_h"] @ h + p["O_y"] @ y + p["O_c"] @ c
        logits.append(p["G"] @ torch.maximum(s[0::2], s[1::2]))
    return torch.stack(logits)


def cho_parameters(r, cell, E, H, R, V):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "encoder": cell(r, E, H),
        "decoder": cell(r, E + H, H),
        **matrices(r, V=(H, H), V_prime=(H, H)),
        **matrices(r, O_h=(2 * R, H), O_y=(2 * R, E), O_c=(2 * R, H), G=(V, R)),
    }


def both_ways(p, gru, source, size):
    """The annotations [->h ; <-h] of the source, and the <-h by themselves."""
    words, forward, backward = [p["encoder_embedding"][token] for token in source], [], []
    h = torch.zeros(size, dtype=torch.float64)
    for x in words:
        h = gru(p["forward"], x, h)
        forward.append(h)
    h = torch.zeros(size, dtype=torch.float64)
    for x in reversed(words):
        h = gru(p["backward"], x, h)
        backward.insert(0, h)
    annotations = [torch.cat(pair) for pair in zip(forward, backward)]
    return annotations, backward


def bahdanau(p, gru, source, inputs):
    """Appendix A: annotations of both directions, s_0 = tanh(W_s <-h_1), deep output over s_i."""
    annotations, backward = both_ways(p, gru, source, len(p["W_s"]))
    s, logits = tanh(p["W_s"] @ backward[0]), []
    for token in inputs:
        y = p["embedding"][token]
        c = attend([p["v_a"] @ tanh(p["W_a"] @ s + p["U_a"] @ h) for h in annotations], annotations)
        s = gru(p["decoder"], torch.cat([y, c]), s)
        t = p["U_o"] @ s + p["V_o"] @ y + p["C_o"] @ c
        logits.append(p["W_o"] @ torch.maximum(t[0::2], t[1::2]))
    return torch.stack(logits)


def bahdanau_parameters(r, cell, E, H, A, R, V):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "forward": cell(r, E, H),
        "backward": cell(r, E, H),
        "decoder": cell(r, E + 2 * H, H),
        **matrices(r, W_s=(H, H), W_a=(A, H), U_a=(A, 2 * H), v_a=(A,)),
        **matrices(r, U_o=(2 * R, H), V_o=(2 * R, E), C_o=(2 * R, 2 * H), W_o=(V, R)),
    }


def nematus(p, gru, source, inputs):
    """Sennrich et al. (2017), section 4: s_0 of the mean annotation, s'_i = GRU_1(y, s), c_i = ATT(C, s'_i),
    s_i = GRU_2(s'_i, c_i), and t = tanh(s U_t1 + y U_t2 + c U_t3)."""
    annotations, _ = both_ways(p, gru, source, len(p["W_init"]))
    s, logits = tanh(p["W_init"] @ (sum(annotations) / len(annotations)) + p["b_init"]), []
    for token in inputs:
        y = p["embedding"][token]
        s = gru(p["first"], y, s)
        c = attend([p["v_a"] @ tanh(p["U_a"] @ s + p["W_a"] @ h + p["b_a"]) for h in annotations], annotations)
        s = gru(p["second"], c, s)
        logits.append(p["V_o"] @ tanh(p["U_t1"] @ s + p["U_t2"] @ y + p["U_t3"] @ c + p["b_t"]) + p["b_o"])
    return torch.stack(logits)


def nematus_parameters(r, cell, E, H, A, R, V):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "forward": cell(r, E, H),
        "backward": cell(r, E, H),
        "first": cell(r, E, H),
        "second": cell(r, 2 * H, H),
        **matrices(r, W_init=(H, 2 * H), b_init=(H,), U_a=(A, H), W_a=(A, 2 * H), b_a=(A,), v_a=(A,)),
        **matrices(r, U_t1=(R, H), U_t2=(R, E), U_t3=(R, 2 * H), b_t=(R,), V_o=(V, R), b_o=(V,)),
    }


def luong(p, lstm, source, inputs, score="general", window="global", feeding=False, D=None):
    """Section 3: alignments from h_t, c_t, the attentional vector tanh(W_c [c_t ; h_t]), and (3.3) its feeding."""
    zeros = torch.zeros(len(p["W_a"]), dtype=torch.float64)
    state, memory = (zeros, zeros), []
    for token in source:
        state = lstm(p["encoder"], p["encoder_embedding"][token], state)
        memory.append(state[0])
    S, logits = len(memory), []
    vector = torch.zeros(len(p["W_c"]), dtype=torch.float64)
    for t, token in enumerate(inputs):
        x = p["embedding"][token]
        state = lstm(p["decoder"], torch.cat([x, vector]) if feeding else x, state)
        h = state[0]
        scores = {
            "dot": lambda k, h=h: h @ k,
            "general": lambda k, h=h: h @ (p["W_a"] @ k),
            "concat": lambda k, h=h: p["v_a"] @ tanh(p["W_concat"] @ torch.cat([h, k])),
        }[score]
        centre, near = t, range(S)
        if window == "local-p":
            centre = S * sigmoid(p["v_p"] @ tanh(p["W_p"] @ h))
        if window != "global":
            near = [s for s in range(S) if abs(s - float(torch.as_tensor(centre).detach())) <= D]
        if not near:  # far past the end of the source, where the paper says nothing: its last word
            near = [S - 1]
        weights = softmax(torch.stack([scores(memory[s]) for s in near]))
        if window == "local-p":
            sigma = D / 2
            weights = torch.stack([w * torch.exp(-((s - centre) ** 2) / (2 * sigma**2)) for w, s in zip(weights, near)])
        c = weights @ torch.stack([memory[s] for s in near])
        vector = tanh(p["W_c"] @ torch.cat([c, h]))
        logits.append(p["W_s"] @ vector)
    return torch.stack(logits)


def luong_parameters(r, cell, E, H, A, R, V, feeding=False):
    return {
        "encoder_embedding": r(V, E),
        "embedding": r(V, E),
        "encoder": cell(r, E, H),
        "decoder": cell(r, E + (R if feeding else 0), H),
        **matrices(r, W_a=(H, H), v_a=(A,), W_concat=(A, 2 * H), W_p=(A, H), v_p=(A,)),
        **matrices(r, W_c=(R, 2 * H), W_s=(V, R)),
    }


def randoms(seed=0):
    """r(*shape): normal numbers scaled by the last dimension's root, tracked by autograd."""
    generator = torch.Generator().manual_seed(seed)

    def r(*shape):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        return (x / math.sqrt(shape[-1])).requires_grad_()

    return r
