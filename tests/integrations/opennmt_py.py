"""OpenNMT-py: build_model from its options, LossCompute over truncated steps as its trainer has them, Translator."""

from collections import Counter
from types import SimpleNamespace

import onmt.opts
import pyonmttok
import torch
from onmt.constants import DefaultTokens
from onmt.model_builder import build_base_model
from onmt.translate import GNMTGlobalScorer, Translator
from onmt.utils.loss import LossCompute
from onmt.utils.parse import ArgumentParser
from torch import nn

import s2s_kernels as sk
from s2s_kernels.integrations import opennmt_py as integration

from .case import Case, Size

PACKAGE = "onmt"
# Its transforms, spaCy and fastText among them, are all imported with it.
PINS = [
    "opennmt-py==3.5.1",
    "pyonmttok==1.38.1",
    "configargparse==1.9.0",
    "pyahocorasick==2.3.1",
    "fasttext-wheel==0.9.2",
    "rapidfuzz==3.14.6",
    "spacy==3.8.18",
    "blis==1.3.4",
    "catalogue==2.0.10",
    "certifi==2026.10.19.post1",
    "charset-normalizer==3.5.3",
    "click==8.5.1",
    "cloudpathlib==0.26.0",
    "confection==1.3.4",
    "cymem==2.0.16",
    "flask==3.1.3",
    "anyio==4.16.0",
    "blinker==1.9.0",
    "h11==0.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "idna==3.20",
    "itsdangerous==2.2.0",
    "werkzeug==3.1.9",
    "murmurhash==1.0.16",
    "preshed==3.0.15",
    "pybind11==3.1.0",
    "requests==2.34.2",
    "six==1.17.0",
    "smart_open==9.0.2",
    "spacy-legacy==3.0.12",
    "spacy-loggers==1.0.5",
    "srsly==2.5.6",
    "thinc==8.3.14",
    "urllib3==2.8.0",
    "waitress==3.0.2",
    "wasabi==1.1.3",
    "weasel==1.0.1",
    "wrapt==2.5.2",
]

SPECIAL = [DefaultTokens.UNK, DefaultTokens.PAD, DefaultTokens.BOS, DefaultTokens.EOS]


def vocabularies(words):
    built = pyonmttok.build_vocab_from_tokens(
        Counter({f"w{i}": 1 for i in range(words)}), maximum_size=0, minimum_frequency=1, special_tokens=SPECIAL
    )
    return {"src": built, "tgt": built, "decoder_start_token": DefaultTokens.BOS, "data_task": "seq2seq"}


def batch(size: Size, words):
    pad, bos, eos = (SPECIAL.index(x) for x in (DefaultTokens.PAD, DefaultTokens.BOS, DefaultTokens.EOS))
    lengths = torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=2).flip(0)  # shortest first
    source = torch.full((size.batch, size.steps, 1), pad)
    target = torch.full((size.batch, size.steps + 1, 1), pad)
    for row, length in enumerate(lengths.tolist()):
        source[row, :length, 0] = torch.randint(len(SPECIAL), words, (length,))
        target[row, 1:length, 0] = torch.randint(len(SPECIAL), words, (length - 1,))
        target[row, 0], target[row, length] = bos, eos
    return {"src": source, "srclen": lengths, "tgt": target}


def copying(data, words=6):
    """What its copy generator reads: a vocabulary of each source, its words in it, and the target's."""
    ids = data["src"][:, :, 0] % words
    tokens = Counter({f"w{i}": words - i for i in range(words)})
    built = pyonmttok.build_vocab_from_tokens(tokens, special_tokens=[DefaultTokens.UNK])
    data["src_ex_vocab"] = [built] * len(ids)
    data["src_map"] = nn.functional.one_hot(ids, len(built)).to(torch.get_default_dtype())
    data["alignment"] = data["tgt"][:, :, 0] % len(built)


def options(size: Size, *flags):
    parser = ArgumentParser(description="train.py")
    onmt.opts.model_opts(parser)
    onmt.opts._add_train_general_opts(parser)
    onmt.opts.distributed_opts(parser)
    width = str(size.hidden)
    common = ["--word_vec_size", width, "--hidden_size", width, "--dropout", "0.2", "--param_init", "0.3"]
    found, _ = parser.parse_known_args([*common, *flags])
    ArgumentParser.update_model_opts(found)
    ArgumentParser.validate_model_opts(found)
    return found


def translate(model, vocabs, data, beam):
    scorer = GNMTGlobalScorer(alpha=0.6, beta=0.0, length_penalty="wu", coverage_penalty="none")
    topk = {} if beam > 1 else {"random_sampling_topk": 1}
    translator = Translator(
        model, vocabs, beam_size=beam, max_length=9, global_scorer=scorer, dump_beam="", report_score=False, **topk
    )
    # Without attention: its searches index that of the input feeding decoder, (T, B, S), as if it were (B, T, S).
    found = translator.translate_batch(data, attn_debug=False)
    return found["predictions"], found["scores"]


def case(*flags, converted, note="", by=sk, refused=""):
    def make(size: Size) -> Case:
        opt = options(size, *flags)
        vocabs = vocabularies(40)
        model = build_base_model(opt, vocabs)
        for p in model.parameters():  # as build_model does it, which makes the model float32 after it
            nn.init.uniform_(p, -opt.param_init, opt.param_init)
        data = batch(size, len(vocabs["tgt"]))
        if opt.copy_attn:
            copying(data)

        def forward(model):
            found = []
            for carried in (False, True):  # from the encoder's state, then from the decoder's own, as in truncated BPTT
                out, attention = model(data["src"], data["tgt"], data["srclen"], bptt=carried)
                found += [out, *attention.values(), *model.decoder.state["hidden"]]
                found += [] if opt.copy_attn else [model.generator(out)]
                model.decoder.detach_state()
            return found

        def loss(model):
            out, attention = model(data["src"], data["tgt"], data["srclen"])
            compute = LossCompute.from_opts(opt, model, vocabs["tgt"])
            return compute(data, out, attention)[0] / size.batch

        def load(model, state):
            if opt.copy_attn:  # its own one asks for the generator's weights by a name that they do not have
                return nn.Module.load_state_dict(model, state)
            parts = SimpleNamespace(model={}, generator={})
            for name, value in state.items():
                name, inside = (name, False) if not name.startswith("generator.") else (name[10:], True)
                (parts.generator if inside else parts.model)[name] = value.clone()
            model.load_state_dict(vars(parts), precision=torch.get_default_dtype())

        return Case(
            model=model,
            outputs=forward,
            loss=loss,
            converted=converted,
            decode=None if opt.copy_attn else lambda model: [translate(model, vocabs, data, beam) for beam in (1, 4)],
            load=load,
            by=by,
            refused=refused,
            note=note,
        )

    return make


RNN = ("--encoder_type", "rnn", "--decoder_type", "rnn")
CASES = {
    "LSTM, input feeding, 2 layers": case(*RNN, "--rnn_type", "LSTM", "--layers", "2", converted=3),
    "GRU, input feeding, mlp attention": case(
        *RNN, "--rnn_type", "GRU", "--layers", "1", "--global_attention", "mlp", converted=2
    ),
    "GRU, brnn, no input feeding, bridge": case(
        "--encoder_type",
        "brnn",
        "--decoder_type",
        "rnn",
        "--rnn_type",
        "GRU",
        "--layers",
        "2",
        "--input_feed",
        "0",
        "--bridge",
        converted=2,
    ),
    "LSTM, brnn, no input feeding": case(
        "--encoder_type",
        "brnn",
        "--decoder_type",
        "rnn",
        "--rnn_type",
        "LSTM",
        "--layers",
        "2",
        "--input_feed",
        "0",
        converted=2,
    ),
}


def loop(rnn, attention, layers, *flags, refused=""):
    sizes = ("--rnn_type", rnn, "--layers", str(layers), "--global_attention", attention)
    return case(*RNN, *sizes, *flags, converted=1, by=integration, refused=refused)


CASES |= {
    "whole loop: LSTM, general, 2 layers": loop("LSTM", "general", 2),
    "whole loop: GRU, mlp": loop("GRU", "mlp", 1),
    "whole loop: LSTM, dot, coverage": loop("LSTM", "dot", 1, "--coverage_attn", "--lambda_coverage", "0.5"),
    "whole loop: GRU, mlp, 3 layers, copy attention": loop("GRU", "mlp", 3, "--copy_attn", "--copy_attn_type", "mlp"),
    "whole loop: LSTM, general, reused copy attention": loop("LSTM", "general", 1, "--copy_attn", "--reuse_copy_attn"),
    "whole loop: context gate": loop(
        "LSTM", "general", 1, "--context_gate", "both", refused="context_gate is a BothCon"
    ),
    "whole loop: sparsemax": loop(
        "LSTM", "general", 1, "--global_attention_function", "sparsemax", refused="function = sparsemax"
    ),
    "whole loop: no attention": loop("GRU", "none", 1, refused="global_attention = none"),
    "whole loop: no input feeding": loop("GRU", "mlp", 1, "--input_feed", "0", refused="has no InputFeedRNNDecoder"),
}
