"""What the pages of docs/ say of the code: work of the ops, variables of the environment; and the notebooks run."""

import importlib
import json
import re
from pathlib import Path

import helpers
import pytest
import torch

import s2s_kernels as sk

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NO_OPS = {"backend", "convert", "info", "nn", "quantize", "QuantizedWeights", "revert", "weights", "__version__"}
OPS = sorted(set(sk.__all__) - NO_OPS)
TRAINED = [name for name in OPS if not name.endswith("_search")]


def test_every_op_has_a_page_in_the_site():
    site = (ROOT / "mkdocs.yml").read_text()
    assert {path.stem for path in (DOCS / "ops").glob("*.md")} == {*OPS}
    pages = [*DOCS.rglob("*.md"), *(DOCS / "notebooks").glob("*.ipynb")]
    for page in pages:
        assert f": {page.relative_to(DOCS)}\n" in site, f"{page} is not in mkdocs.yml"
    for name in OPS:
        assert f"\n::: s2s_kernels.{name}\n" in (DOCS / "ops" / f"{name}.md").read_text()


def formula(op, words):
    """What a page says behind ``words``, as an expression."""
    text = (DOCS / "ops" / f"{op}.md").read_text()
    (found,) = re.findall(rf"{words}:\s+`([^`]*)`", text)
    return found


def sizes(dims):
    return {"T": dims.get("T", dims.get("S", 1)), "I": dims.get("E"), **dims}


@pytest.mark.parametrize("op", [name for name in TRAINED if not name.endswith("_step")])
def test_the_work_of_an_op(op):
    """The floating-point operations are those that the benchmarks count; they have two directions of a sequence."""
    directions = 2 if op in ("gru", "lstm") else 1
    for case in importlib.import_module(f"benchmarks.bench_{op}").CASES:
        dims = sizes(case.dims) | ({"T": case.dims["S"]} if directions == 2 else {})
        if op == "additive_attention":
            dims["T"] = case.dims.get("T", 1)
        assert eval(formula(op, "Matrix products of a forward pass"), dims) * directions == case.flops


def test_the_work_of_a_search():
    from benchmarks import bench_search

    for case in bench_search.CASES:
        fed = case.dims["H"] if "beam 5" in case.name else case.dims["D"]
        dims = sizes(case.dims) | {"F": fed, "steps": case.dims["T"]}
        assert eval(formula("beam_search", "Elements read"), dims) == case.bytes


DIMS = {"B": 2, "S": 3, "T": 4, "I": 5, "H": 6, "A": 7, "D": 8, "N": 9, "R": 10, "V": 11}
INPUTS = {
    "additive_attention": lambda d: helpers.attention_inputs(B=d["B"], S=d["S"], A=d["A"], D=d["D"], T=d["T"]),
    **{name: lambda d, n=name: helpers.step_inputs(n, B=d["B"], H=d["H"]) for name in ("gru_step", "lstm_step")},
    **{
        name: lambda d, n=name: helpers.sequence_inputs(n, B=d["B"], T=d["T"], I=d["I"], H=d["H"])
        for name in ("gru", "lstm")
    },
    **{
        name: lambda d, n=name: helpers.scan_inputs(n, **{k: d[k] for k in "BSTIHAD"})
        for name in ("attention_gru", "attention_lstm")
    },
    "linear_cross_entropy": lambda d: {
        "features": torch.randn(d["N"], d["R"]),
        "weight": torch.randn(d["V"], d["R"]),
        "bias": torch.randn(d["V"]),
        "targets": torch.arange(d["N"]),
    },
}


@pytest.mark.parametrize("op", TRAINED)
def test_the_elements_of_an_op(op):
    """Every input read once, every output written once; feeds are the contexts again."""
    inputs = INPUTS[op](DIMS)
    read = sum(x.numel() for x in helpers.tree_leaves(inputs) if isinstance(x, torch.Tensor) and x.is_floating_point())
    if op == "linear_cross_entropy":
        outputs = [sk.linear_cross_entropy(**inputs)]
    else:
        outputs = {x.data_ptr(): x for x in helpers.call(sk, op, inputs)}.values()
    assert eval(formula(op, "Elements read and written at least once"), dict(DIMS)) == read + sum(
        x.numel() for x in outputs
    )


def test_the_variables_of_the_environment():
    """docs/environment.md has each that the package, the kernels or the build reads."""
    read = re.compile(r"(?:environ(?:\.get\(|\[)|getenv\()\"(S2S_\w+)\"")
    files = [ROOT / "setup.py", *(ROOT / "s2s_kernels").rglob("*.py"), *(ROOT / "python").rglob("*.py")]
    files += [path for path in (ROOT / "csrc").rglob("*") if path.suffix in (".cpp", ".h", ".cu", ".cuh")]
    found = {name for path in files for name in read.findall(path.read_text(encoding="utf-8"))}
    assert len(found) >= 6
    assert found == set(re.findall(r"^\| `(S2S_\w+)`", (DOCS / "environment.md").read_text(), re.MULTILINE))


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((DOCS / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook(path, tmp_path, monkeypatch):
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"] and cell["execution_count"] is None, "outputs are not committed"
            exec(compile("".join(cell["source"]), f"{path.name}, {cell['id']}", "exec"), names)
    pyplot.close("all")
    {"translate": translated, "attention": lambda names: None, "decoder": reversed_digits}[path.stem](names)


def translated(names):
    assert names["translator"].evaluate(names["valid_pairs"]).exact_match > 0.9


def reversed_digits(names):
    assert names["right"] > 0.9
