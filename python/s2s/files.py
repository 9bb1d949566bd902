"""Files that are there whole or not at all, whatever stops the process, and the errors of files in one sentence.

Several files that belong together are saved as a set: a manifest, JSON with the checksums of the others, is renamed
into its place when all of them are on the disk. Until then the set of before counts, from then on the new one.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import S2SError

AnyPath = str | os.PathLike[str]
Content = bytes | Iterable[bytes]  # of a file: all of it, or one part after the other

PARTIAL, NEW = ".partial", ".new"  # being written; complete, but not yet in its place


def open_file(path: AnyPath) -> BinaryIO:
    """A file opened for reading bytes, or one clear sentence."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise S2SError(f"{path} does not exist.") from None
    except IsADirectoryError:
        raise S2SError(f"{path} is a folder, expected a file.") from None
    except OSError as error:
        raise cannot("read", path, error) from None
    except ValueError as error:  # a NUL in the name
        raise S2SError(f"{str(path)!r} cannot be read ({error}).") from None


def check_regular(path: AnyPath) -> None:
    """S2SError for what can be read only once, or for ever: a pipe, a terminal, a device."""
    try:
        kind = os.stat(path).st_mode
    except (OSError, ValueError):
        return  # open_file says it better
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        name = "pipe" if stat.S_ISFIFO(kind) else "socket" if stat.S_ISSOCK(kind) else "device"
        raise S2SError(f"{path} is a {name}, expected a file.")


def read_bytes(path: AnyPath) -> bytes:
    """The whole of a regular file. S2SError if there is none or it cannot be read."""
    check_regular(path)
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise cannot("read", path, error) from None


def cannot(verb: str, path: AnyPath, error: OSError) -> S2SError:
    """The sentence for an OSError: ``verb`` is "read" or "written"."""
    return S2SError(f"{path} cannot be {verb} ({error.strerror or error}).")


@contextlib.contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Within it an OSError is one sentence about ``path``."""
    try:
        yield
    except OSError as error:
        raise cannot("written", path, error) from None


# JSON


def parse_json(data: bytes, path: AnyPath) -> Any:
    """What a JSON file holds; ``path`` names it in the S2SError if it is no such file."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise S2SError(f"{path} is not UTF-8 text.") from None
    except RecursionError:
        raise S2SError(f"{path} is no valid JSON (nested too deep).") from None
    except ValueError as error:
        raise S2SError(f"{path} is no valid JSON ({error}).") from None


def read_json(path: AnyPath) -> Any:
    return parse_json(read_bytes(path), path)


def to_json(value: object) -> bytes:
    # A file name that is no UTF-8 holds halves of surrogate pairs; written as \\udcff they are JSON again.
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


# One file


def write_file(path: AnyPath, data: Content) -> None:
    """In the place of the file there is, once all of it is on the disk. Raises OSError, the old file untouched."""
    path = Path(path)
    partial = path.with_name(path.name + PARTIAL)
    write_through(partial, data)
    os.replace(partial, path)
    sync_folder(path.parent)


def write_through(path: AnyPath, data: Content) -> None:
    """A file on the disk, not only in the system's memory; a part of it is no use and taken away again."""
    try:
        with open(path, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):  # the error that brought us here is the one to tell
            os.unlink(path)
        raise


def sync_folder(folder: AnyPath) -> None:
    """New names are on the disk when their folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Files that a user has asked for


def check_output(path: AnyPath, sources: Iterable[AnyPath] = ()) -> None:
    """S2SError, before any work, if the result would be written over a file that it is made of, or cannot be at all."""
    for source in sources:
        with contextlib.suppress(OSError):  # one of the two is not there
            if os.path.samefile(path, source):
                raise S2SError(f"{path} is what is read, and would be written over; choose another name.")
    if os.path.isdir(path):
        raise S2SError(f"{path} is a folder, expected a file to write.")
    if special(path):
        return
    folder = next(folder for folder in Path(path).absolute().parents if os.path.lexists(folder))
    code = errno.ENOTDIR if not folder.is_dir() else 0 if os.access(folder, os.W_OK) else errno.EACCES
    if code:
        raise cannot("written", path, OSError(code, os.strerror(code)))


def write_output(path: AnyPath, data: Content) -> None:
    """A file in the place of the old one, which stays if anything goes wrong. S2SError if it cannot be written."""
    with writing(path):
        if special(path):
            sys.stdout.flush()
            here = os.path.samestat(os.stat(path), os.fstat(1))  # a file behind it would be cut if it were opened anew
            with open(os.dup(1) if here else path, "wb") as file:
                file.writelines([data] if isinstance(data, bytes) else data)
            return
        path = Path(os.path.realpath(path))  # a link stays one
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, data)


def special(path: AnyPath) -> bool:
    """Whether it is there and can only be written to as it is: a pipe, /dev/stdout whatever stands behind it."""
    return os.path.exists(path) and (not os.path.isfile(path) or os.path.abspath(path).startswith(("/dev/", "/proc/")))


# A set of files


def save_set(folder: AnyPath, manifest: str, values: dict[str, Any], contents: dict[str, bytes]) -> None:
    """The files ``contents`` {name: bytes}, and ``values`` with their checksums as the manifest, all or none of them.

    Raises S2SError, the set of before untouched.
    """
    folder = Path(folder)
    new = {name: folder / (name + NEW) for name in contents}
    partial = folder / (manifest + PARTIAL)
    files = {name: {"bytes": len(data), "sha256": checksum(data)} for name, data in contents.items()}
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        finish_save(folder, manifest, contents)
        try:
            for name, data in contents.items():
                write_through(new[name], data)
            sync_folder(folder)
            write_through(partial, to_json({**values, "files": files}))
            os.replace(partial, folder / manifest)  # from here on the new ones count
        except OSError:
            for path in new.values():
                path.unlink(missing_ok=True)
            raise
        sync_folder(folder)
        for name, path in new.items():
            os.replace(path, folder / name)
        sync_folder(folder)


def finish_save(folder: Path, manifest: str, names: Iterable[str]) -> None:
    """Renames what a save that was stopped after its manifest has left; else the next would write over it."""
    if not (folder / manifest).exists():
        return
    try:
        files = listed(read_json(folder / manifest), folder / manifest)
    except S2SError:
        return  # a set that cannot be read: nothing of it can be kept
    for name in names:
        if name in files and fits(folder / (name + NEW), files[name]) is not None:
            os.replace(folder / (name + NEW), folder / name)


def read_set(folder, manifest, names):
    """(the manifest's values, {name: bytes} of its files).

    ``names(values)`` checks the values and returns the names to read. Raises S2SError if a file is not the one that
    was saved: damaged, or of another set.
    """
    folder = Path(folder)
    while True:
        values = read_json(folder / manifest)
        wanted = names(values)
        try:
            return values, {name: read_listed(folder, manifest, values, name) for name in wanted}
        except S2SError:
            if read_json(folder / manifest) == values:  # and no training has saved anew in the meantime
                raise


def read_listed(folder, manifest, values, name) -> bytes:
    path, entry = folder / name, listed(values, folder / manifest).get(name)
    if entry is None:
        raise S2SError(f"{folder / manifest} has no checksum of {name}.")
    for candidate in (path, folder / (name + NEW)):
        if (data := fits(candidate, entry)) is not None:
            return data
    read_bytes(path)  # the sentence for a file that is not there, or may not be read
    raise S2SError(f"{path} cannot be read: it is damaged, or not the file that {manifest} beside it was saved with.")


def listed(values, path):
    """The ``files`` of a manifest, each entry checked."""
    files = values.get("files") if isinstance(values, dict) else None
    if not isinstance(files, dict):
        raise S2SError(f"{path} has no checksums (files).")
    for name, entry in files.items():
        right = isinstance(entry, dict) and type(entry.get("bytes")) is int and type(entry.get("sha256")) is str
        if not right:
            raise S2SError(f"{path}: files.{name} is no size (bytes) and checksum (sha256).")
    return files


def fits(path, entry):
    """The bytes of the file if they are those of the entry, else None; another size shows without reading it."""
    try:
        if os.path.getsize(path) != entry["bytes"]:
            return None
        data = read_bytes(path)
    except (OSError, S2SError):
        return None
    return data if checksum(data) == entry["sha256"] else None


def checksum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# One writer


@contextlib.contextmanager
def locked(folder: AnyPath) -> Iterator[None]:
    """The only training in this folder while it lasts. The lock ends with the process, however that ends.

    Raises S2SError if there is another, or the folder cannot be made.
    """
    folder = Path(folder)
    made = [path for path in (folder, *folder.parents) if not os.path.exists(path)]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise S2SError(f"{folder} is in use: another training writes there.") from None
        except OSError as error:  # a file system without locks
            raise S2SError(f"{folder} cannot be locked ({error.strerror}); choose another --out.") from None
        yield
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty, as is usual
            for path in made:
                path.rmdir()
