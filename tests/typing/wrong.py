"""Calls that type checkers refuse: one fault a line that says so, and no others."""

import torch

import s2s
import s2s_kernels as sk

x = torch.zeros(2, 3)

sk.additive_attention(1, "two")  # wrong
sk.gru(x, x, x)  # wrong
sk.gru_step(x, x, None)  # wrong
sk.lstm(x, x[0, 0].item(), x, x)  # wrong
sk.attention_gru(x, x, x, x, x, x, x, x, x, score="cosine")  # wrong
sk.linear_cross_entropy(x, x, None, [1, 2])  # wrong
sk.greedy_search(x, bos=1, eos="two", max_length=3)  # wrong
sk.nn.AttentionGRU(3, 5, 7, 4, feed="sigmoid")  # wrong
sk.no_such_op(x)  # wrong
sk.convert("model")  # wrong
s2s.no_such_name()  # wrong
s2s.Config(cell="rnn")  # wrong
s2s.load(1)  # wrong
s2s.Trainer(None, [], [])  # wrong
