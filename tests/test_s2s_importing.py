"""Models of JoeyNMT, OpenNMT-py and Marian, trained by them (``make interop``), give here what they gave there."""

import io
import json
import shutil
from argparse import Namespace

import numpy as np
import pytest
import torch
import yaml
from interop import reversal
from interop.case import FIXTURES

import s2s
from s2s import S2SError
from s2s.importing import joeynmt, marian, opennmt
from s2s.model.config import Config
from s2s.text.vocab import EOS, UNK, Vocabulary

KINDS = {
    "joeynmt": lambda: s2s.import_joeynmt(FIXTURES / "joeynmt"),
    "marian": lambda: s2s.import_marian(FIXTURES / "marian" / "model.npz", FIXTURES / "marian" / "vocab.yml"),
    "opennmt_py": lambda: s2s.import_opennmt(FIXTURES / "opennmt_py" / "model.pt"),
}


@pytest.fixture(params=KINDS)
def imported(request):
    translator = KINDS[request.param]()
    translator.theirs = {"allow_unknown": True, "ending": "best"}  # as these toolkits search
    if request.param == "marian":
        translator.theirs = {"ending": "narrow"}
    return translator, json.loads((FIXTURES / request.param / "expected.json").read_text())


def test_scores_and_outputs_are_the_toolkits(imported):
    translator, expected = imported
    found = reversal.scores(translator, expected["sources"], expected["targets"])
    near = 1e-5 if translator.theirs["ending"] == "narrow" else 1e-6  # Marian's are float32, in six digits
    assert found == pytest.approx(expected["scores"], rel=near, abs=near)
    for beam, outputs in expected["outputs"].items():
        options = {"beam": int(beam), "max_length": 20, **translator.theirs}
        assert translator.translate(expected["sources"], **options) == outputs


def test_an_imported_model_is_saved_and_loaded(imported, tmp_path):
    translator, expected = imported
    translator.save(tmp_path)
    again = s2s.load(tmp_path)
    assert again.translate(expected["sources"][:5]) == translator.translate(expected["sources"][:5])


def test_space_tokens_and_an_end():
    vocabulary = Vocabulary(["<pad>", "<unk>", "<s>", "</s>", "a", "b,"], "space", end=True)
    assert vocabulary.encode("a  b, c") == [4, 5, UNK, EOS] and vocabulary.split("a b,") == ["a", "b,", "</s>"]
    assert vocabulary.encode("") == [] and vocabulary.encode("</s> <pad>") == [UNK, UNK, EOS]
    assert vocabulary.decode([4, 5, EOS]) == "a b,"
    again = Vocabulary.from_bytes(vocabulary.to_bytes(), "file")
    assert again.end and again.kind == "space" and again.encode("a") == [4, EOS]


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("encoder.type", "transformer", "model.encoder.type is 'transformer', expected 'recurrent'"),
        ("encoder.bidirectional", False, "model.encoder.bidirectional is False, expected True"),
        ("decoder.rnn_type", "gru", "model.decoder.rnn_type is 'gru', expected 'lstm'"),
        ("decoder.attention", "other", "model.decoder.attention is 'other', expected 'bahdanau' or 'luong'"),
        ("decoder.num_layers", 2, "model.decoder.num_layers is 2, expected 1 with input_feeding"),
        ("decoder.embeddings", {"embedding_dim": 8}, "embedding_dim is 8, expected 16, as the encoder's"),
    ],
)
def test_a_form_of_joeynmt_that_we_lack_is_named(path, value, message):
    model = yaml.safe_load((FIXTURES / "joeynmt" / "config.yaml").read_text())["model"]
    side, name = path.split(".")
    model[side] = {**model[side], name: value}
    with pytest.raises(S2SError) as error:
        joeynmt.configuration(model)
    assert message in str(error.value) and str(error.value).endswith("s2s has no such form.")


OPENNMT = {
    "encoder_type": "brnn", "decoder_type": "rnn", "rnn_type": "LSTM", "global_attention": "general", "input_feed": 1,
    "enc_layers": 1, "dec_layers": 1, "src_word_vec_size": 8, "tgt_word_vec_size": 8, "enc_hid_size": 6,
    "dec_hid_size": 6,
}  # fmt: skip


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("encoder_type", "transformer", "encoder_type is 'transformer', expected 'rnn' or 'brnn'"),
        ("decoder_type", "cnn", "decoder_type is 'cnn', expected 'rnn'"),
        ("rnn_type", "SRU", "rnn_type is 'SRU', expected 'LSTM' or 'GRU'"),
        ("bridge", True, "bridge is True, expected it off"),
        ("copy_attn", True, "copy_attn is True, expected it off"),
        ("global_attention_function", "sparsemax", "global_attention_function is 'sparsemax', expected 'softmax'"),
        ("global_attention", "mlp", "input_feed is 1, expected 0 with global_attention 'mlp'"),
        ("tgt_word_vec_size", 9, "tgt_word_vec_size is 9, expected 8"),
        ("enc_layers", 2, "dec_layers is 1, expected 2, as enc_layers"),
    ],
)
def test_a_form_of_opennmt_that_we_lack_is_named(name, value, message):
    opennmt.configuration(OPENNMT)
    with pytest.raises(S2SError) as error:
        opennmt.configuration({**OPENNMT, name: value})
    assert message in str(error.value)


class Harm:
    def __reduce__(self):
        return print, ("executed",)


def test_no_pickle_is_executed(tmp_path, capsys):
    torch.save({"model": Harm(), "opt": Namespace()}, tmp_path / "model.pt")
    with pytest.raises(S2SError, match="cannot be read without executing its pickle"):
        s2s.import_opennmt(tmp_path / "model.pt")
    shutil.copytree(FIXTURES / "joeynmt", tmp_path / "joeynmt")
    torch.save({"model_state": Harm()}, tmp_path / "joeynmt" / "best.ckpt")
    with pytest.raises(S2SError, match="cannot be read without executing its pickle"):
        s2s.import_joeynmt(tmp_path / "joeynmt")
    assert capsys.readouterr().out == ""


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(S2SError, match="nothing"):
        s2s.import_joeynmt(tmp_path / "nothing")
    torch.save({"model": {}}, tmp_path / "model.pt")
    with pytest.raises(S2SError, match=r"model\.pt has no generator"):
        s2s.import_opennmt(tmp_path / "model.pt")
    shutil.copytree(FIXTURES / "joeynmt", tmp_path / "joeynmt")
    checkpoint = torch.load(tmp_path / "joeynmt" / "best.ckpt", weights_only=True)
    del checkpoint["model_state"]["trg_embed.lut.weight"]
    torch.save(checkpoint, tmp_path / "joeynmt" / "best.ckpt")
    with pytest.raises(S2SError, match=r"has no trg_embed\.lut\.weight"):
        s2s.import_joeynmt(tmp_path / "joeynmt")


@pytest.mark.parametrize("kind", ["hidden", "copy"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_first_states_of_h_alone(kind, cell):
    from s2s.model.encoder import Bridge

    sizes = {"encoder_size": 6, "hidden_size": 6, "decoder_layers": 2, "encoder_layers": 2}
    config = Config(cell=cell, initial_state=kind, attention="additive", **sizes)
    states = tuple(torch.randn(2, 3, 12) for _ in range(config.states_per_layer))
    bridge = Bridge(config)
    found = bridge(states, None, None)
    assert len(found) == 2 * len(states)
    for i, state in enumerate(found):
        h = states[0][-1]
        expected = torch.tanh(bridge.layers[i](h)) if kind == "hidden" else h[:, :6]
        torch.testing.assert_close(state, expected)


def test_a_copy_needs_a_width_that_fits():
    with pytest.raises(S2SError, match="initial_state is 'copy' with hidden_size 7, expected 6 or 12"):
        Config(initial_state="copy", encoder_size=6, hidden_size=7)


def marian_files(tmp_path, options=None, arrays=None):
    """A copy of Marian's fixture with other options, or arrays, None for one that is left out."""
    with np.load(FIXTURES / "marian" / "model.npz") as file:
        made = {name: file[name] for name in file.files} | (arrays or {})
    text = made["special:model.yml"].tobytes().rstrip(b"\0").decode() if "special:model.yml" in made else ""
    settings = yaml.safe_load(text) | (options or {})
    made["special:model.yml"] = np.frombuffer(yaml.safe_dump(settings).encode() + b"\0", np.int8)
    np.savez(tmp_path / "model.npz", **{name: x for name, x in made.items() if x is not None})
    return tmp_path / "model.npz", FIXTURES / "marian" / "vocab.yml"


@pytest.mark.parametrize(
    "options, message",
    [
        ({"type": "transformer"}, "type is 'transformer', expected 's2s'"),
        ({"enc-cell": "lstm"}, "enc-cell is 'lstm', expected 'gru'"),
        ({"dec-depth": 2}, "dec-depth is 2, expected 1"),
        ({"dec-cell-base-depth": 4}, "dec-cell-base-depth is 4, expected 2"),
        ({"layer-normalization": True}, "layer-normalization is True, expected False"),
        ({"skip": True}, "skip is True, expected False"),
        ({"right-left": True}, "right-left is True, expected False"),
    ],
)
def test_a_form_of_marian_that_we_lack_is_named(tmp_path, options, message):
    with pytest.raises(S2SError) as error:
        s2s.import_marian(*marian_files(tmp_path, options))
    assert str(error.value) == f"{message}: s2s has no such form."


def test_broken_files_of_marian(tmp_path):
    model, vocabulary = marian_files(tmp_path, arrays={"decoder_cell2_bx": None})
    with pytest.raises(S2SError, match="has no decoder_cell2_bx"):
        s2s.import_marian(model, vocabulary)
    (tmp_path / "other.npz").write_bytes(b"nothing")
    with pytest.raises(S2SError, match=r"other\.npz cannot be read as \.npz"):
        s2s.import_marian(tmp_path / "other.npz", vocabulary)
    stream = io.BytesIO()
    np.savez(stream, x=np.ones(3))
    (tmp_path / "plain.npz").write_bytes(stream.getvalue())
    with pytest.raises(S2SError, match=r"has no special:model\.yml"):
        s2s.import_marian(tmp_path / "plain.npz", vocabulary)


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("v.yml", "a: 0\n<unk>: 1\n", "has no '</s>'"),
        ("v.yml", "</s>: 0\n<unk>: 1\na: 3\n", "has no token for each id from 0 to 2"),
        ("v.yml", "</s>: 0\n<unk>: one\n", "is no vocabulary, expected an id for each token"),
        ("v.yml", "- a\n", "holds a list, expected an id for each token"),
        ("v.txt", "</s>\n<unk>\n<s>\n", "has a token '<s>', which s2s keeps for itself"),
        ("v.spm", "x", "is a sentencepiece model, expected its pieces"),
    ],
)
def test_vocabularies_of_marian_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(S2SError) as error:
        s2s.import_marian(FIXTURES / "marian" / "model.npz", tmp_path / name)
    assert message in str(error.value)


def test_a_vocabulary_of_marian_keeps_every_token(tmp_path):
    """To yaml-cpp, which Marian reads with, no and 1 are texts."""
    (tmp_path / "v.yml").write_text("</s>: 0\n<unk>: 1\nno: 2\n1: 4\nnull: 3\n")
    (tmp_path / "v.txt").write_text("</s>\n<unk>\nno\nnull\n1\n")
    for name in ("v.yml", "v.txt"):
        assert marian.Tokens(tmp_path / name).tokens[4:] == ["no", "null", "1"]
