"""Weights of 8 bits in the model layer: as an option of a search, and as a checkpoint."""

import json

import pytest
import torch
from safetensors.torch import load_file
from test_s2s_cli import exit_code
from test_s2s_cli_search import SMALL, WORDS, save

import s2s
from s2s.errors import S2SError
from s2s.model.checkpoint import WEIGHTS
from s2s.model.presets import PRESETS
from s2s.search import SearchOptions, search
from s2s.search.fused_search import config_reason, search_backend
from s2s_kernels.quantize import quantize_matrix

TEXTS = [f"{a} {b}" for a in WORDS for b in WORDS]
fused = pytest.mark.skipif(search_backend("cpu") != "cpp", reason="the compiled extension is not built here")


def scores(translator, **options):
    return torch.tensor([best[0].score for best in translator.candidates(TEXTS, **options)])


def texts_of(translator, **options):
    return [[best.text for best in row] for row in translator.candidates(TEXTS, beam=3, n_best=2, **options)]


@fused
@pytest.mark.parametrize("preset", PRESETS)
def test_every_model_translates_in_8_bits(preset, tmp_path):
    """Those whose search is one op in 8 bits, the others in float32."""
    sizes = {name: size for name, size in SMALL.items() if name not in PRESETS[preset].fields}
    translator = s2s.load(save(tmp_path / "model", **PRESETS[preset].fields | sizes | {"tokens": "word"}))
    exact, narrow = scores(translator, beam=2), scores(translator, beam=2, quantize="int8")
    if config_reason(translator.config, "cpu"):
        assert torch.equal(exact, narrow)
    else:
        assert not torch.equal(exact, narrow)
        assert (exact - narrow).abs().median() < 0.1


@fused
@pytest.mark.parametrize(
    "options", [{}, {"tied_embeddings": True}, {"attention": "general", "attention_heads": 2}], ids=str
)
def test_a_checkpoint_in_8_bits(options, tmp_path, capsys):
    before, out = save(tmp_path / "model", **options), tmp_path / "narrow"
    files = {path.name: path.read_bytes() for path in before.iterdir()}
    assert exit_code("quantize", before, "--out", out) == 0
    assert "matrices" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in before.iterdir()} == files
    wide, narrow = s2s.load(before), s2s.load(out)
    found = scores(narrow, beam=2)
    torch.testing.assert_close(found, scores(wide, beam=2, quantize="int8"), rtol=1e-5, atol=1e-5)
    assert not torch.equal(found, scores(wide, beam=2))
    assert texts_of(narrow) == texts_of(wide, quantize="int8")

    tensors, weights = load_file(out / WEIGHTS), wide.model.state_dict()
    in_8_bits = {name for name, x in tensors.items() if x.dtype == torch.int8}
    assert ("output.weight" in in_8_bits) == ("tied_embeddings" not in options)
    assert tensors.keys() - weights.keys() == {f"{name}.scale" for name in in_8_bits}
    for name, x in weights.items():
        if name in in_8_bits:
            expected = quantize_matrix(name, x)
            assert torch.equal(tensors[name], expected.integers)
            assert torch.equal(tensors[f"{name}.scale"], expected.scale)
        else:
            assert torch.equal(tensors[name], x)
    assert (out / WEIGHTS).stat().st_size < (before / WEIGHTS).stat().st_size


@fused
def test_the_command(tmp_path, capsys):
    model = save(tmp_path / "model")
    assert exit_code("translate", model, *TEXTS, "--quantize", "int8") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == s2s.load(model).translate(TEXTS, beam=5, length_penalty=1.0, quantize="int8")
    assert exit_code("quantize", model, "--out", model) == 1
    assert "holds a model" in capsys.readouterr().err
    window = save(tmp_path / "window", attention_window="local-m")
    assert exit_code("quantize", window, "--out", tmp_path / "none") == 1
    assert "cannot be searched in 8 bits: a search as one op has no local-m window." in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    assert exit_code("translate", window, "ab", "--quantize", "int8") == 0
    assert "the weights stay float32, not int8: a search as one op has no local-m window." in capsys.readouterr().err
    assert exit_code("translate", model, "ab", "--quantize", "int4") == 1
    assert "int4" in capsys.readouterr().err


@fused
def test_changed_weights_are_packed_again(tmp_path):
    translator = s2s.load(save(tmp_path / "model"))
    before = scores(translator, quantize="int8")
    assert torch.equal(before, scores(translator, quantize="int8"))
    with torch.no_grad():
        translator.model.output.weight.mul_(0.5)
    assert not torch.equal(before, scores(translator, quantize="int8"))


@fused
def test_damage(tmp_path):
    out = tmp_path / "narrow"
    assert exit_code("quantize", save(tmp_path / "model"), "--out", out) == 0
    manifest = json.loads((out / "config.json").read_text())
    assert manifest["version"] == 5
    (out / "config.json").write_text(json.dumps(manifest | {"version": 4}))
    with pytest.raises(S2SError, match=r"is torch\.int8, expected torch\.float32|is too many"):
        s2s.load(out)
    tensors = load_file(out / WEIGHTS)
    from s2s.model.checkpoint import serialise, wide

    assert serialise(wide(tensors, out))
    for wrong in (
        {"output.weight": torch.zeros(3, 4)},
        {"output.weight.scale": torch.zeros(2)},
        {"x.scale": torch.ones(2)},
    ):
        with pytest.raises(S2SError, match="is of no matrix of 8 bits"):
            wide(tensors | wrong, out)


def test_a_gpu_is_refused(tmp_path):
    model = s2s.load(save(tmp_path / "model")).model
    source, lengths = torch.zeros(1, 3, dtype=torch.long, device="meta"), torch.tensor([3])
    with pytest.raises(S2SError, match="quantize is 'int8' on meta, expected the CPU"):
        search(model, source, lengths, SearchOptions(quantize="int8"))
