"""Recurrent layers and cells by configuration."""

import s2s_kernels as sk

from .config import Config


def recurrent(
    config: Config, input_size: int, hidden_size: int, layers: int, bidirectional: bool = False
) -> sk.nn.GRU | sk.nn.LSTM:
    """The batch-first GRU or LSTM that ``config`` asks for, with its dropout between layers."""
    if config.cell == "lstm":
        kind = sk.nn.LSTM
    else:
        kind = sk.nn.GRU if config.gru_reset == "after" else sk.nn.ResetBeforeGRU
    dropout = config.dropout if layers > 1 else 0.0
    return kind(
        input_size, hidden_size, num_layers=layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
    )


def cell(config: Config, input_size: int, hidden_size: int) -> sk.nn.GRUCell | sk.nn.LSTMCell:
    if config.cell == "lstm":
        return sk.nn.LSTMCell(input_size, hidden_size)
    return (sk.nn.GRUCell if config.gru_reset == "after" else sk.nn.ResetBeforeGRUCell)(input_size, hidden_size)
