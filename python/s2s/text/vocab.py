"""Text to ids and back: words, characters or sentencepiece, all with the same four special ids."""

import io
import json
import unicodedata
from collections import Counter
from functools import lru_cache
from itertools import chain, pairwise

from ..errors import S2SError, shown
from ..files import parse_json, read_bytes, write_file, writing
from .cleaning import source_text, target_text
from .pairs import watched

PAD, UNK, BOS, EOS = range(4)
SPECIALS = ["<pad>", "<unk>", "<s>", "</s>"]
SAMPLE = 4_000_000  # sentences, drawn at random, are enough to make pieces of, and all that must fit into memory
KINDS = ("word", "char", "space")
JOINER = "￭"  # marks the side on which a punctuation token had no space, so that words() can be undone


def is_punctuation(character):
    # Not str.isalnum or \w: in Devanagari and other scripts vowel signs are neither, yet belong to the word.
    return unicodedata.category(character)[0] in "PS"


def words(text):
    """Words and punctuation marks; an apostrophe within a word stays in it."""
    return [token for part in text.replace(JOINER, "").split() for token in words_of(part)]


def words_of(text):
    """The tokens of a text without white space."""
    # Few and short parts make most of a text, and this loop is slow; long ones would only fill the memory.
    return _known_words_of(text) if len(text) <= 64 else _words_of(text)


def _words_of(text):
    tokens, start = [], None  # start: of the word that goes on
    for i, character in enumerate(text):
        if is_punctuation(character) and not (
            start is not None and character in "'’" and text[i + 1 : i + 2].isalpha()  # within a word
        ):
            if start is not None:
                tokens.append(text[start:i])
                start = None
            tokens.append(JOINER + character if i else character)
        elif start is None:
            if tokens:  # a word right after a punctuation mark
                tokens[-1] += JOINER
            start = i
    if start is not None:
        tokens.append(text[start:])
    return tokens


_known_words_of = lru_cache(1 << 16)(_words_of)


def join_words(tokens):
    """The text that words() split, white space normalised."""
    text = "".join(tokens[:1])
    for before, after in pairwise(tokens):
        glued = (len(before) > 1 and before.endswith(JOINER)) or (len(after) > 1 and after.startswith(JOINER))
        text += after if glued else " " + after
    return text.replace(JOINER, "")


class Saved:
    """What can be a file of its own."""

    def save(self, path):
        with writing(path):
            write_file(path, self.to_bytes())

    @classmethod
    def load(cls, path):
        return cls.from_bytes(read_bytes(path), path)


class Vocabulary(Saved):
    """Tokens and their ids. ``encode`` and ``decode`` leave <s> and </s> to the caller.

    Args:
        tokens: by id.
        kind: "word", "char" or "space".
        end: texts end with </s>, as sources of models of other programs do.
    """

    def __init__(self, tokens, kind, end=False):
        self.tokens, self.kind, self.end = tokens, kind, end
        self.ids = {token: i for i, token in enumerate(tokens)}

    @classmethod
    def build(cls, texts, kind, size=0, min_count=1):
        """From training texts, the most frequent first; kind is "word", "char" or "space"."""
        split = cls([], kind).split
        counts = Counter(token for text in texts for token in split(text))
        for special in SPECIALS:
            counts.pop(special, None)
        # Ties are broken by the token itself, so that the order does not depend on the order of the texts.
        ranked = sorted((-n, token) for token, n in counts.items() if n >= min_count)
        tokens = SPECIALS + [token for _, token in ranked]
        return cls(tokens[:size] if size else tokens, kind)

    def __len__(self):
        return len(self.tokens)

    def split(self, text):
        """The tokens of a text as they stand in it, unknown ones too: one for each of ``encode``."""
        tokens = self._split(text)
        return [*tokens, SPECIALS[EOS]] if self.end and tokens else tokens

    def _split(self, text):
        return words(text) if self.kind == "word" else text.split() if self.kind == "space" else list(text)

    def encode(self, text):
        ids = [self.ids.get(token, UNK) for token in self._split(text)]
        if self.kind == "space":  # where </s> may stand in a text, and means nothing
            ids = [UNK if i in (PAD, BOS, EOS) else i for i in ids]
        return [*ids, EOS] if self.end and ids else ids

    def pieces(self, ids):
        """One printable string per id."""
        return [self.tokens[i] for i in ids]

    def decode(self, ids):
        tokens = self.pieces(i for i in ids if i not in (PAD, BOS, EOS))
        return join_words(tokens) if self.kind == "word" else (" " if self.kind == "space" else "").join(tokens)

    def to_bytes(self):
        """A JSON file."""
        values = {"kind": self.kind, "tokens": self.tokens} | ({"end": True} if self.end else {})
        return (json.dumps(values, ensure_ascii=False, indent=0) + "\n").encode()

    @classmethod
    def from_bytes(cls, data, path, kind=None):
        """What ``to_bytes`` made; S2SError, with the name of the file, if it is no vocabulary of this kind."""
        values = parse_json(data, path)
        tokens, found = (values.get("tokens"), values.get("kind")) if isinstance(values, dict) else (None, None)
        if not isinstance(tokens, list) or tokens[: len(SPECIALS)] != SPECIALS or found not in KINDS:
            raise S2SError(f"{path} is no vocabulary of words or characters.")
        if kind not in (None, found):
            raise S2SError(f"{path} is a vocabulary of kind {found!r}, expected {kind!r}.")
        for i, token in enumerate(tokens):
            if type(token) is not str or not is_text(token):
                raise S2SError(f"{path}: token {i} is {shown(token)}, expected text.")
        if len(set(tokens)) < len(tokens):
            raise S2SError(f"{path} has a token twice.")
        return cls(tokens, found, values.get("end") is True)


class SentencePieceVocabulary(Saved):
    """A sentencepiece model with the same ids for padding, unknown, begin and end."""

    kind = "sentencepiece"

    def __init__(self, model):
        import sentencepiece

        self.model = model  # the serialised model, bytes
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def build(cls, texts, size):
        import sentencepiece

        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts),
                model_writer=model,
                vocab_size=size,
                hard_vocab_limit=False,
                input_sentence_size=SAMPLE,
                model_type="unigram",
                normalization_rule_name="identity",  # texts are normalised already; nmt_nfkc takes joiners out of words
                character_coverage=1.0,
                pad_id=PAD,
                unk_id=UNK,
                bos_id=BOS,
                eos_id=EOS,
                minloglevel=2,
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].rstrip(". ")
            raise S2SError(f"sentencepiece cannot make {size} pieces of this text ({reason}).") from None
        return cls(model.getvalue())

    def __len__(self):
        return self.processor.get_piece_size()

    def split(self, text):
        """The pieces of a text as they stand in it, unknown ones too: one for each of ``encode``."""
        return self.processor.encode(text, out_type=str)

    def encode(self, text):
        return self.processor.encode(text)

    def pieces(self, ids):
        return [self.processor.id_to_piece(int(i)) for i in ids]

    def decode(self, ids):
        return self.processor.decode([int(i) for i in ids if i not in (PAD, BOS, EOS)])

    def to_bytes(self):
        """A file in sentencepiece's own format."""
        return self.model

    @classmethod
    def from_bytes(cls, data, path):
        """What ``to_bytes`` made; S2SError, with the name of the file, if it is none."""
        try:
            made = cls(data)
            specials = [made.processor.id_to_piece(i) for i in range(min(len(made), len(SPECIALS)))]
        except RuntimeError:
            raise S2SError(f"{path} is no sentencepiece model.") from None
        if specials != SPECIALS:
            raise S2SError(f"{path} is a sentencepiece model of another kind: it begins with {shown(specials)}.")
        return made


def read_vocabulary(config, data, path):
    """The vocabulary in the bytes of a file, of the kind that the Config says."""
    if config.tokens == "sentencepiece":
        return SentencePieceVocabulary.from_bytes(data, path)
    return Vocabulary.from_bytes(data, path, config.tokens)


def is_text(text):
    """Whether UTF-8 can write it: a file name or JSON may bring half a surrogate pair, which is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def build_vocabularies(pairs, config):
    """(source, target) vocabularies of training pairs; one object twice with ``config.shared_vocab``."""

    def build(texts):
        if config.tokens == "sentencepiece":
            return SentencePieceVocabulary.build(texts, config.vocab_size)
        return Vocabulary.build(texts, config.tokens, config.vocab_size, config.min_count)

    def walk():
        return watched(pairs, "counting words", len(pairs))

    def sources():
        return (source_text(text, config) for text, _ in walk())

    def targets():
        return (target_text(text, config) for _, text in walk())

    if config.shared_vocab:
        return (build(chain(sources(), targets())),) * 2
    return build(sources()), build(targets())
