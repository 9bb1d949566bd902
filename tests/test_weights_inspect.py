"""``python -m s2s_kernels.weights inspect``: every convention by name, and one sentence for what is none."""

import numpy as np
import onnx
import pytest
import torch
from interop import case as recorded
from torch import nn

import s2s_kernels as sk
from s2s_kernels import weights
from s2s_kernels.weights.__main__ import main
from s2s_kernels.weights.inspect import inspect


def recorded_cases():
    for path in sorted(recorded.FIXTURES.glob("*.npz")):
        for case in recorded.load(path.stem) if path.stem not in ("tf1", "flashrnn") else ():  # arrays without names
            yield pytest.param(case, id=f"{path.stem}: {case.name}")


@pytest.mark.parametrize("case", list(recorded_cases()))
def test_the_convention_of_a_file_is_named(case, tmp_path):
    """The arrays of a framework, in a file: as many layers and directions as there were states, each of its kind."""
    suffix = ".pt" if case.source == "haste" else ".npz"
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({name: torch.from_numpy(x) for name, x in case.weights.items()}, path)
    else:
        np.savez(path, **case.weights)
    found = inspect(path)
    name = {"keras": "Keras", "mlx": "MLX", "paddle": "torch.nn or Paddle"}.get(case.source, case.source.title())
    assert found and all(one.convention.startswith(name) for one in found)
    kind = "GRU" if len(case.states) == 1 else "LSTM"
    assert all(one.what.startswith(kind) and one.what.endswith(f"-> {recorded.H}") for one in found)
    count = len(found) if case.source != "paddle" else (4 if "2 layers, bidirectional" in found[0].what else 1)
    assert count == len(case.states[0])
    if "reset before" in case.name and "without bias" not in case.name:
        assert all("resets before its product" in one.what for one in found)


def test_a_torch_model_and_what_it_is_not(tmp_path, capsys):
    model = nn.ModuleDict(
        {"encoder": nn.LSTM(4, 6, 2, bidirectional=True), "cell": nn.GRUCell(3, 5), "out": nn.Linear(3, 3)}
    )
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert main(["inspect", str(tmp_path / "model.pt")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "encoder: LSTM, 2 layers, bidirectional, 4 -> 6"
    assert (
        "paddle_layer('model.pt', prefix='encoder')" in said and "cell: GRUCell, 3 -> 5" in said and "out" not in said
    )
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    assert main(["inspect", str(tmp_path / "other.pt")]) == 0
    assert "no recurrent layer that s2s_kernels.weights knows" in capsys.readouterr().out


def test_the_call_that_it_names_loads(tmp_path):
    model = nn.ModuleDict({"encoder": nn.GRU(4, 6, 2)})
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = weights.paddle_layer(tmp_path / "model.pt", prefix="encoder")
    assert torch.equal(loaded.weight_hh_l1, model["encoder"].weight_hh_l1)


def test_a_graph_and_what_would_be_lost(tmp_path, capsys):
    model = weights.to_onnx(sk.nn.ResetBeforeGRU(4, 6))
    onnx.save(model, tmp_path / "good.onnx")
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("clip", 2.0))
    onnx.save(model, tmp_path / "clipped.onnx")
    assert main(["inspect", str(tmp_path / "good.onnx"), str(tmp_path / "clipped.onnx")]) == 0
    good, clipped = capsys.readouterr().out.split("clipped.onnx\n")
    assert "GRU, hidden size 6, resets before" in good and "onnx_layer('good.onnx', 'GRU_0')" in good
    assert "not fused: a GRU that resets before its product" in good
    assert "refused" in clipped and "clip 2, expected none" in clipped


@pytest.mark.parametrize("name", ["missing.npz", "damaged.safetensors", "damaged.pt", "damaged.onnx", "damaged.npz"])
def test_a_file_that_is_none_is_one_sentence(tmp_path, name, capsys):
    if name.startswith("damaged"):
        (tmp_path / name).write_bytes(b"damaged, surely" * 5)
    assert main(["inspect", str(tmp_path / name)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and name in said.err and said.err.count("\n") == 1
