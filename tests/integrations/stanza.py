"""Stanza: the lemmatizer's Seq2SeqModel, the tagger, the dependency parser, the tokenizer and the character model."""

import torch
from stanza.models import lemmatizer, parser, tagger, tokenizer
from stanza.models.charlm import build_argparse as charlm_arguments
from stanza.models.common import seq2seq_constant
from stanza.models.common.char_model import CharacterLanguageModel
from stanza.models.common.loss import MixLoss
from stanza.models.common.seq2seq_model import Seq2SeqModel
from stanza.models.common.utils import initialize_forget_gate_bias
from stanza.models.common.vocab import CharVocab
from stanza.models.depparse.data import Dataset as ParserData
from stanza.models.depparse.model import GraphParser
from stanza.models.depparse.trainer import unpack_batch as unpack_parser_batch
from stanza.models.pos.data import Dataset as TaggerData
from stanza.models.pos.model import Tagger
from stanza.models.pos.trainer import unpack_batch as unpack_tagger_batch
from stanza.models.tokenization.model import Tokenizer
from stanza.utils.conll import CoNLL
from torch import nn

import s2s_kernels as sk
from s2s_kernels.integrations import stanza as integration

from .case import Case, Size

PINS = [
    "stanza==1.15.0",
    "emoji==2.16.0",
    "orjson==3.13.0",
    "protobuf==7.36.2",
    "requests==2.34.2",
    "certifi==2026.10.19.post1",
    "idna==3.20",
    "urllib3==2.8.0",
    "udtools==0.2.9",
    "udapi==0.5.2",
    "termcolor==3.3.0",
    "huggingface_hub==2.4.0",
]

LETTERS = "abcdefgh"


def arguments(build_argparse, **changed):
    """The defaults of its scripts, and what a case changes."""
    return {**vars(build_argparse().parse_args([])), **changed}


def without_zeros(model):
    """Its classifiers and first states begin as zeros, which would hide what is before them."""
    for p in model.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return model


def document(size: Size):
    """Random sentences with every column of a treebank; the first word is the root."""
    sentences = []
    for sentence in range(size.batch):
        lines = []
        for i in range(1, max(3, size.steps - sentence) + 1):
            word = "".join(LETTERS[j] for j in torch.randint(len(LETTERS), (4,)))
            upos = ("NOUN", "VERB", "ADJ")[i % 3]
            head, relation = (0, "root") if i == 1 else (int(torch.randint(1, i, ())), ("obj", "nsubj")[i % 2])
            number = ("Sing", "Plur")[i % 2]
            lines.append(f"{i}\t{word}\t{word[:3]}\t{upos}\t{upos[:2]}\tNumber={number}\t{head}\t{relation}\t_\t_")
        sentences.append("\n".join(lines))
    return CoNLL.conll2doc(input_str="\n\n".join(sentences) + "\n\n")


def sizes(size: Size):
    narrow = dict.fromkeys(("word_emb_dim", "tag_emb_dim", "char_emb_dim", "transformed_dim"), 8)
    return {**narrow, "hidden_dim": size.hidden, "char_hidden_dim": size.hidden, "num_layers": 2, "shorthand": "en_x"}


def pos_tagger(converted, **options):
    def make(size: Size) -> Case:
        args = arguments(
            tagger.build_argparse,
            **sizes(size),
            pretrain=False,
            charlm=None,
            word_cutoff=0,
            augment_nopunct=0.0,
            **options,
        )
        data = TaggerData(document(size), args, pretrain=None)
        batch = next(iter(data.to_loader(batch_size=size.batch)))
        (*inputs,), _, word_order, lengths, word_lengths, text = unpack_tagger_batch(batch, "cpu")

        def forward(model):
            return model(*inputs, word_order, lengths, word_lengths, text)

        def decode(model):
            with torch.no_grad():
                return forward(model)[1]

        return Case(
            model=without_zeros(Tagger(args, data.vocab)),
            outputs=lambda model: [forward(model)[0]],
            loss=lambda model: forward(model)[0],
            converted=converted,
            decode=decode,
        )

    return make


def dependency_parser(size: Size) -> Case:
    args = arguments(
        parser.build_argparse,
        **sizes(size),
        pretrain=False,
        charlm=None,
        word_cutoff=0,
        deep_biaff_hidden_dim=size.hidden,
        deep_biaff_output_dim=8,
    )
    doc = document(size)
    vocab = ParserData(doc, args, pretrain=None).vocab
    data = ParserData(doc, args, pretrain=None, vocab=vocab, evaluation=True)
    batch = next(iter(data.to_loader(batch_size=10**6)))
    (*inputs,), _, word_order, lengths, word_lengths, text = unpack_parser_batch(batch, "cpu")
    inputs = [*inputs, word_order, lengths, word_lengths, text]

    def outputs(model):
        scores, relations, _, *others = model.forward_scores(*inputs)
        return [scores, relations, *others]

    def decode(model):
        with torch.no_grad():
            return model.predict(*inputs)

    return Case(
        model=without_zeros(GraphParser(args, vocab)),
        outputs=outputs,
        loss=lambda model: model.loss(*inputs)[0],
        converted=3,
        decode=decode,
    )


def lemmas(by=sk, refused="", **options):
    def make(size: Size) -> Case:
        special, letters = len(seq2seq_constant.VOCAB_PREFIX), 20
        args = arguments(
            lemmatizer.build_argparse,
            vocab_size=special + letters,
            pos_vocab_size=6,
            hidden_dim=size.hidden,
            emb_dim=8,
            pos_dim=8,
            num_layers=2,
            **options,
            max_dec_len=10,
        )
        model = Seq2SeqModel(args)
        criterion = MixLoss(args["vocab_size"], args["alpha"])
        source = torch.randint(special, args["vocab_size"], (size.batch, size.steps))
        lengths = torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=3)
        source[torch.arange(size.steps) >= lengths[:, None]] = 0
        target = torch.randint(special, args["vocab_size"], (size.batch, size.steps))
        target_in = nn.functional.pad(target, (1, 0), value=seq2seq_constant.SOS_ID)
        target_out = nn.functional.pad(target, (0, 1), value=seq2seq_constant.EOS_ID)
        pos = torch.randint(1, args["pos_vocab_size"], (size.batch,))
        edits = torch.randint(args["num_edit"], (size.batch,))

        def forward(model):
            return model(source, source.eq(seq2seq_constant.PAD_ID), target_in, pos)

        def loss(model):
            log_probabilities, edit_logits = forward(model)
            return criterion(log_probabilities.view(-1, args["vocab_size"]), target_out.view(-1), edit_logits, edits)

        def decode(model):
            with torch.no_grad():
                mask = source.eq(seq2seq_constant.PAD_ID)
                return [model.predict(source, mask, pos=pos, beam_size=beam) for beam in (1, 4)]

        return Case(
            model=model,
            outputs=lambda model: [*forward(model)],
            loss=loss,
            converted=2 if by is sk else 1,
            by=by,
            refused=refused,
            decode=decode,
            initialize=lambda model: initialize_forget_gate_bias(model.encoder),
        )

    return make


def tokens(size: Size) -> Case:
    args = arguments(tokenizer.build_argparse, feat_dim=5, hierarchical=True, use_mwt=True)
    model = Tokenizer(args, len(LETTERS), emb_dim=8, hidden_dim=size.hidden, dropout=0.3, feat_dropout=0.05)
    letters = torch.randint(1, len(LETTERS), (size.batch, size.steps))
    features = torch.rand(size.batch, size.steps, args["feat_dim"])
    labels = torch.randint(5, (size.batch, size.steps))
    lengths = torch.arange(size.steps, size.steps - size.batch, -1).clamp(min=3)
    labels[torch.arange(size.steps) >= lengths[:, None]] = -1
    criterion = nn.CrossEntropyLoss(ignore_index=-1)
    return Case(
        model=model,
        outputs=lambda model: [model(letters, features, lengths)],
        loss=lambda model: criterion(model(letters, features, lengths).view(-1, 5), labels.view(-1)),
        converted=2,
    )


def characters(size: Size) -> Case:
    vocab = {"char": CharVocab([[*LETTERS, "\n", " "]])}
    args = arguments(charlm_arguments, char_emb_dim=8, char_hidden_dim=size.hidden)
    model = without_zeros(CharacterLanguageModel(args, vocab))
    data = torch.randint(4, len(vocab["char"]), (size.batch, 2 * size.steps))
    lengths = [size.steps] * size.batch
    criterion = nn.CrossEntropyLoss()

    def halves(model):
        """The second half with the hidden state of the first, as in its training."""
        hidden, found = None, []
        for half in data.split(size.steps, dim=1):
            output, hidden, decoded = model(half, lengths, hidden)
            found += [output, decoded]
        return [*found, *hidden]

    return Case(
        model=model,
        outputs=halves,
        loss=lambda model: criterion(halves(model)[3][:, :-1].flatten(0, 1), data[:, size.steps + 1 :].flatten()),
        converted=1,
        decode=lambda model: model.build_char_representation([["abc", "de"], ["fghab"]]),
    )


CASES = {
    "lemmatizer, LSTM, dot attention, copy": lemmas(copy=True),
    "whole loop: lemmatizer, copy": lemmas(integration, copy=True),
    "whole loop: lemmatizer, no copy, no part of speech": lemmas(integration, copy=False, pos=False),
    "whole loop: lemmatizer, attention mlp": lemmas(
        integration, copy=True, attn_type="mlp", refused="attn_type is that of a BasicAttention, expected soft"
    ),
    "tagger, highway LSTM": pos_tagger(3),
    "tagger, highway LSTM of cells (recurrent dropout)": pos_tagger(5, rec_dropout=0.2),
    "dependency parser, highway LSTM": dependency_parser,
    "tokenizer, hierarchical": tokens,
    "character language model": characters,
}
