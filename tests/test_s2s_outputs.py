"""Files that a command is asked to write: whole or not at all, and never over what they are made of."""

import os
import resource
import subprocess
import sys

import pytest
import trained_folder
from trained_folder import contents

from s2s import S2SError
from s2s.files import check_output, write_output

pairs, trained, command = trained_folder.pairs, trained_folder.trained, trained_folder.command  # fixtures

# Each command with a file that it writes.
COMMANDS = [
    ("prepare {pairs} --out {out}", "test.tsv"),
    ("dates de fr --train 200 --valid 20 --test 30 --out {out}", "test.tsv"),
    ("evaluate {model} {pairs} --beam 1 --output {out}/said.txt", "said.txt"),
    ("evaluate {model} {pairs} --beam 1 --record {out}/record.json", "record.json"),
    ("align {model} as hz --out {out}/page.html", "page.html"),
    ("align {model} as hz --out {out}/table.txt", "table.txt"),
    ("align {model} as --out {out}/picture.png", "picture.png"),
    ("curves {model} --out {out}/curves.svg", "curves.svg"),
]


def words(line, **names):
    return [word.format(**names) for word in line.split()]


@pytest.mark.parametrize("line, name", COMMANDS, ids=[" ".join(line.split()[:1] + [name]) for line, name in COMMANDS])
def test_on_a_full_disk_the_old_file_stays(line, name, command, pairs, trained, tmp_path):
    """EFBIG stands for ENOSPC; then, with room, the new one takes its place."""
    old = b"{}" if name.endswith(".json") else b"mine\n"
    (tmp_path / name).write_bytes(old)
    arguments = words(line, pairs=pairs, model=trained, out=tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, limits[1]))
    try:
        code, err = command(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1 and err.splitlines()[-1].startswith("s2s: ")
    assert err.endswith("cannot be written (File too large).\n") and "Traceback" not in err
    assert contents(tmp_path) == {name: old}
    assert command(*arguments)[0] == 0
    assert (tmp_path / name).read_bytes() != old and not list(tmp_path.glob("*.partial"))


def test_what_stops_the_writing_leaves_the_old_file(tmp_path):
    def parts():
        yield b"new\n"
        raise KeyboardInterrupt

    (tmp_path / "file").write_text("old\n")
    with pytest.raises(KeyboardInterrupt):
        write_output(tmp_path / "file", parts())
    assert contents(tmp_path) == {"file": b"old\n"}


def test_links_devices_and_new_folders(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_output(tmp_path / "link", b"new\n")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == b"new\n"
    for path in ("/dev/null", "/dev/stdout"):
        check_output(path)
        write_output(path, b"")
    assert not os.path.isfile("/dev/null")
    write_output(tmp_path / "a/b/c", [b"1", b"2"])
    assert (tmp_path / "a/b/c").read_bytes() == b"12"


def test_standard_output_is_written_on(tmp_path):
    """Where it is a file, what was printed before stays, and what is printed after follows."""
    code = "from s2s.files import write_output; print('a'); write_output('/dev/stdout', b'b\\n'); print('c')"
    with (tmp_path / "file").open("wb") as file:
        subprocess.run([sys.executable, "-c", code], stdout=file, check=True)
    assert (tmp_path / "file").read_text() == "a\nb\nc\n"


@pytest.mark.parametrize("same", ["file", "link", "hard", "./x/../file"])
def test_what_is_read_is_not_written_over(tmp_path, same):
    (tmp_path / "file").write_text("mine\n")
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("file")
    os.link(tmp_path / "file", tmp_path / "hard")
    with pytest.raises(S2SError, match="is what is read, and would be written over; choose another name"):
        check_output(tmp_path / same, ["missing", tmp_path / "file"])
    check_output(tmp_path / "other", [tmp_path / "file"])


def test_prepare_keeps_the_file_that_it_reads(command, pairs, tmp_path):
    (tmp_path / "train.tsv").write_bytes(before := pairs.read_bytes())
    code, err = command("prepare", tmp_path / "train.tsv", "--out", tmp_path)
    said = "is what is read, and would be written over; choose another name."
    assert code == 1 and err == f"s2s: {tmp_path}/train.tsv {said}\n"
    assert contents(tmp_path) == {"train.tsv": before}


def test_a_result_that_cannot_be_written_is_said_before_the_work(command, pairs, trained, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("s2s.translator.Translator.load", None)  # so that any work would be an error of another kind
    for line in ("evaluate {model} {pairs} --output {out}", "align {model} as --out {out}.html"):
        code, err = command(*words(line, model=trained, pairs=pairs, out=tmp_path / "file/x"))
        assert code == 1 and err.endswith("cannot be written (Not a directory).\n") and len(err.splitlines()) == 1
