"""Recurrent layers and cells by configuration."""

import s2s_kernels as sk


def recurrent(config, input_size, hidden_size, layers, bidirectional=False):
    """The batch-first GRU or LSTM that ``config`` asks for, with its dropout between layers."""
    if config.cell == "lstm":
        kind = sk.nn.LSTM
    else:
        kind = sk.nn.GRU if config.gru_reset == "after" else sk.nn.ResetBeforeGRU
    dropout = config.dropout if layers > 1 else 0.0
    return kind(
        input_size, hidden_size, num_layers=layers, batch_first=True, dropout=dropout, bidirectional=bidirectional
    )


def cell(config, input_size, hidden_size):
    if config.cell == "lstm":
        return sk.nn.LSTMCell(input_size, hidden_size)
    return (sk.nn.GRUCell if config.gru_reset == "after" else sk.nn.ResetBeforeGRUCell)(input_size, hidden_size)
