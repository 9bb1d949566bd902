"""Which tiles the Triton kernels of additive attention run in."""

import json
from itertools import product

import pytest
import torch

from s2s_kernels.triton import tiles
from s2s_kernels.triton.tiles import KERNELS, MANY_CONTEXTS, MANY_SCORES, ONE_QUERY, Tiles, choose, shape_class

P = (50, 50, 512, 1024)  # T, S, A, D
LIKE_P = "many queries, medium source, wide, 16 bits"
ROW = {"architecture": "9.0", "kernel": "scores", "shape": LIKE_P, "T": 4, "S": 32, "A": 64, "D": 64, "warps": 8}


@pytest.fixture
def table(monkeypatch, tmp_path):
    """Puts text, or rows, into the place of tiles.json."""
    path = tmp_path / "tiles.json"
    monkeypatch.setattr(tiles, "TABLE", path)

    def put(content):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        forget()

    def forget():
        choose.cache_clear()
        tiles.measured.cache_clear()

    forget()
    yield put
    monkeypatch.undo()
    forget()


def test_without_a_table_the_default(table):
    for architecture, dtype in product((None, "8.0", "9.0"), (torch.float16, torch.bfloat16, torch.float32)):
        found = [choose(kernel, architecture, *P, dtype) for kernel in KERNELS]
        assert found == [MANY_CONTEXTS, MANY_SCORES, MANY_CONTEXTS, MANY_CONTEXTS, MANY_SCORES, ONE_QUERY]
        assert {choose(kernel, architecture, 1, *P[1:], dtype) for kernel in KERNELS} == {ONE_QUERY}


def test_a_measured_row_wins_over_the_default(table):
    table([ROW])
    measured = Tiles(4, 32, 64, 64, 8)
    assert choose("scores", "9.0", *P, torch.bfloat16) == choose("scores", "9.0", *P, torch.float16) == measured
    others = [choose("scores", x, *P, torch.bfloat16) for x in (None, "8.0", "12.0")]
    others += [choose("query_backward", "9.0", *P, torch.bfloat16), choose("scores", "9.0", *P, torch.float32)]
    others.append(choose("scores", "9.0", 50, 65, *P[2:], torch.bfloat16))
    assert set(others) == {MANY_SCORES}


def test_tiles_are_no_wider_than_what_they_cover(table):
    table([ROW | {"A": 512, "shape": "many queries, medium source, narrow, 16 bits"}])
    assert choose("scores", "9.0", 50, 50, 70, 20, torch.bfloat16) == Tiles(4, 32, 128, 32, 8)
    assert choose("attend", None, 1, 50, 1, 1, torch.float32)[2:4] == (32, 32)
    assert choose("attend", None, 1, 50, 512, 512, torch.float64)[2:4] == (32, 32)


def test_classes_of_shapes():
    def changed(**sizes):
        return shape_class(**{"T": 50, "S": 50, "A": 512, "D": 1024, "dtype": torch.bfloat16} | sizes)

    assert changed() == LIKE_P
    assert [changed(T=T).split(", ")[0] for T in (1, 2, 8, 9)] == [tiles.SHAPES[0][i] for i in (0, 1, 1, 2)]
    assert [changed(S=S).split(", ")[1] for S in (1, 32, 33, 64, 65)] == [tiles.SHAPES[1][i] for i in (0, 0, 1, 1, 2)]
    assert [changed(A=A, D=64).split(", ")[2] for A in (512, 513)] == ["narrow", "wide"]
    assert changed(dtype=torch.float16) == LIKE_P and changed(dtype=torch.float32) == LIKE_P.replace("16", "32")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[{", "is not JSON"),
        ("{}", "holds a dict, expected a list of rows"),
        ([ROW, "9.0"], "has the row 9.0, expected architecture, kernel, shape"),
        ([ROW | {"kernel": "score"}], "has the row .*'score'"),
        ([ROW | {"shape": "many queries"}], "has the row"),
        ([ROW | {"architecture": 9.0}], "has the row"),
        ([ROW | {"S": 24}], "has the row .*'S': 24.* powers of two"),
        ([ROW | {"warps": True}], "has the row"),
        ([ROW | {"stages": 2}], "has the row"),
        ([{"kernel": "scores"}], "has the row"),
    ],
)
def test_a_broken_table_is_named(table, content, complaint):
    table(content)
    with pytest.raises(ValueError, match=rf"tiles\.json {complaint}"):
        choose("scores", "9.0", *P, torch.bfloat16)


def test_what_is_written_is_read(tmp_path):
    path, rows = tmp_path / "tiles.json", {("9.0", "scores", LIKE_P): Tiles(4, 32, 64, 64, 8)}
    for table in ({}, rows, rows | {("8.0", "attend", LIKE_P): ONE_QUERY}):
        tiles.write(table, path)
        assert tiles.read(path) == table
    assert tiles.read(tmp_path / "none.json") == {}


def test_the_table_that_is_shipped():
    assert all(kernel in KERNELS for _, kernel, _ in tiles.read(tiles.TABLE))


def test_only_a_gpu_is_asked_and_once(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or (9, 0))
    tiles.architecture_of.cache_clear()
    assert [tiles.architecture_of(torch.device(x)) for x in ("cpu", "meta")] == [None, None] and not asked
    devices = [torch.device("cuda", i) for i in (0, 1, 0, 1)]
    assert [tiles.architecture_of(device) for device in devices] == ["9.0"] * 4 and asked == devices[:2]
    tiles.architecture_of.cache_clear()
