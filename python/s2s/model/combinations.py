"""Choices of a Config that contradict each other, each refused in one sentence that says what was expected."""

import re
from typing import Any

from ..errors import S2SError, shown


def refuse(wrong: object, message: str) -> None:
    if wrong:
        raise S2SError(message)


def check_combinations(c: Any) -> None:
    """Raises S2SError if fields of the Config ``c``, each of them valid, make no sense together."""
    check_text(c)
    (check_attention if c.attends else check_no_attention)(c)
    check_recurrence(c)
    check_states(c)
    check_training(c)


def check_text(c: Any) -> None:
    refuse(
        not re.fullmatch("[1-9][0-9]{0,8},[1-9][0-9]{0,8}", c.columns),
        f"columns is {shown(c.columns)}, expected two numbers, the first column being 1, such as '1,2'.",
    )
    refuse(
        c.tokens == "sentencepiece" and c.vocab_size == 0,
        "vocab_size is 0, expected the size of the sentencepiece vocabulary.",
    )


def check_attention(c: Any) -> None:
    kind = c.attention
    refuse(
        c.feed != "context" and c.order != "after",
        f"feed is {c.feed!r} with order {c.order!r}, expected 'context': a cell that attends first is "
        "fed what it attended to (or choose order 'after').",
    )
    refuse(
        c.normalize_attention and kind not in ("additive", "concat"),
        f"normalize_attention is set with attention {kind!r}, expected 'additive' or 'concat', which have a v.",
    )
    asking = f"[c;h] {c.query_size} wide" if c.asks_with_c else f"hidden_size {c.hidden_size}"
    refuse(
        kind == "dot" and c.query_size != c.memory_size,
        f"attention is 'dot' with {asking}, expected {c.memory_size}, the width of "
        "the encoder's output (or choose 'general').",
    )
    refuse(
        kind == "dot" and c.attention_heads > 1,
        f"attention_heads is {c.attention_heads} with attention 'dot', expected 1: without weights all heads "
        "are the same (or choose 'general').",
    )


ONLY_WITH_ATTENTION = {
    "attention_heads": 1,
    "attention_window": "global",
    "normalize_attention": False,
    "attention_query": "h",
    "attention_layer": "auto",
}


def check_no_attention(c: Any) -> None:
    kind = c.attention
    for name, only in ONLY_WITH_ATTENTION.items():
        value = getattr(c, name)
        refuse(value != only, f"{name} is {value!r} with attention {kind!r}, expected {only!r}.")
    refuse(
        c.feed == "attentional",
        f"feed is 'attentional' with attention {kind!r}, expected 'context' or 'none'.",
    )
    refuse(
        kind == "none" and c.readout in ("state_context", "state_context_input"),
        f"readout is {c.readout!r} with attention 'none', expected one without a context.",
    )


def check_recurrence(c: Any) -> None:
    refuse(
        c.gru_reset == "before" and c.cell != "gru",
        f"gru_reset is 'before' with cell {c.cell!r}, expected cell 'gru'.",
    )
    refuse(
        c.feed == "attentional" and c.readout != "tanh",
        f"feed is 'attentional' with readout {c.readout!r}, expected 'tanh', which is that vector.",
    )
    refuse(
        c.feed == "attentional" and c.attention_layer == "lowest" and c.decoder_layers > 1,
        f"attention_layer is 'lowest' with feed 'attentional' and decoder_layers {c.decoder_layers}, expected 'top', "
        "of which the vector is made that the output layer reads.",
    )
    refuse(
        c.two_cells and not c.feeds_attention,
        f"order is 'between' with attention {c.attention!r}, expected 'before' or 'after', as the second cell is fed "
        "what the attention found.",
    )
    refuse(
        c.two_cells and c.loop_layers > 1,
        f"order is 'between' with attention_layer 'top' and decoder_layers {c.decoder_layers}, expected 'lowest', the "
        "layer that has two cells.",
    )
    refuse(
        c.two_cells and c.first_context != "auto",
        f"first_context is {c.first_context!r} with order 'between', expected 'auto', as every step is fed its own.",
    )
    refuse(
        c.attends and c.feed == "none" and c.attention_layer == "lowest",
        "attention_layer is 'lowest' with feed 'none', expected 'top', as no layer is fed what was attended to.",
    )
    refuse(
        c.attends and c.feed == "none" and c.asks_with_c,
        "attention_query is 'state' with feed 'none' and cell 'lstm', expected 'h', the only state that is there "
        "once all steps have run.",
    )
    refuse(
        c.loop_dropout > 0 and not c.feeds_attention,
        f"loop_dropout is {c.loop_dropout}, expected 0.0, as no attention is fed back.",
    )
    refuse(
        c.first_context != "auto" and not c.feeds_attention,
        f"first_context is {c.first_context!r}, expected 'auto', as no attention is fed to the first step.",
    )


def check_states(c: Any) -> None:
    """The decoder's first state, and what the output layer shares."""
    layers = 1 if c.attention == "fixed" else c.encoder_layers
    refuse(
        c.initial_state == "last" and c.memory_size != c.hidden_size,
        f"initial_state is 'last' with hidden_size {c.hidden_size}, expected {c.memory_size}, "
        "the width of the encoder's last state (or choose 'bridge').",
    )
    refuse(
        c.initial_state == "last" and c.decoder_layers > layers,
        f"initial_state is 'last' with decoder_layers {c.decoder_layers}, expected at most {layers}, "
        "the states there are (or choose 'bridge').",
    )
    widths = sorted({c.memory_size, c.encoder_size})
    refuse(
        c.initial_state == "copy" and c.hidden_size not in widths,
        f"initial_state is 'copy' with hidden_size {c.hidden_size}, expected {' or '.join(map(str, widths))}, the "
        "width of the encoder's last state or of its forward half.",
    )
    refuse(
        c.initial_state == "backward" and not (c.bidirectional and c.attention != "fixed"),
        "initial_state is 'backward', which needs a bidirectional encoder and an attention other than 'fixed'.",
    )
    refuse(
        c.initial_state == "mean" and c.attention == "fixed",
        "initial_state is 'mean' with attention 'fixed', expected another: the first state is made of the summary.",
    )
    refuse(
        c.tied_embeddings and c.features_size != c.embedding_size,
        f"tied_embeddings needs a readout as wide as embedding_size {c.embedding_size}, but it is {c.features_size}.",
    )


def check_training(c: Any) -> None:
    refuse(c.lr == 0, "lr is 0, expected more.")
    refuse(
        c.sampling != "never" and c.sampling_probability == 0,
        f"sampling_probability is 0.0 with sampling {c.sampling!r}, expected more (or choose 'never').",
    )
