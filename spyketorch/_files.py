"""Files that are whole or not there at all, that tell when they are damaged, and that one writer owns at a time."""

import glob
import hashlib
import io
import os
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

_SEAL = b"spyketorch sha256 "
_SEALED = len(_SEAL) + 64  # bytes at the end of a file: those, and the checksum in hexadecimal digits
_PAUSES = [0.05] * 40 if os.name == "nt" else []  # seconds between tries to move a file
_END = b"PK\5\6"  # where the last record of a zip archive begins, 22 bytes from the end of one without a comment


@contextmanager
def atomic(target: Path, *, lasting: bool = True) -> Iterator[Path]:
    """A path beside ``target`` to write to; moved into place when the block ends well, removed when it does not.

    What is moved into place is on the disk before, so that a power cut leaves the old file or the new one. That takes
    milliseconds; without ``lasting`` a power cut may leave a damaged file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if lasting:
        sweep(target.parent.glob(f".{glob.escape(target.name)}.*.part"))
    file, part = _beside(target)
    try:
        yield part
        umask = os.umask(0)
        os.umask(umask)
        part.chmod(0o666 & ~umask)  # mkstemp made it private
        if lasting:
            os.fsync(file.fileno())
        if os.name == "nt":  # which moves no open file
            file.close()
        _move(part, target)
        if lasting:
            _sync(target.parent)
    finally:
        if os.name == "nt":
            file.close()
        part.unlink(missing_ok=True)
        file.close()


def _beside(target: Path) -> tuple[IO[Any], Path]:
    """A new file beside another, locked, so that nobody takes it for what a killed writer left."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        file, part = os.fdopen(handle, "rb+"), Path(name)
        if _lock(file) and part.exists():
            return file, part
        file.close()  # it was swept away before it was locked


def _move(part: Path, target: Path) -> None:
    """Into place of what is there; Windows refuses while another process reads that, which takes a moment."""
    for pause in _PAUSES:
        try:
            part.replace(target)
            return
        except PermissionError:
            time.sleep(pause)
    part.replace(target)


def _sync(folder: Path) -> None:
    """The folder's list of files, on the disk; Windows has no way to ask for it."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems refuse
            os.fsync(handle)
    finally:
        os.close(handle)


def _lock(file: IO[Any]) -> bool:
    """Whether the file is ours alone now, until it is closed or the process ends, however it ends."""
    try:
        if os.name == "nt":
            file.seek(2**30)  # a place that nobody reads or writes: Windows guards the bytes that are locked
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """The folder is this run's alone within the block; an error where another run has it, of which nothing is touched.

    Raises:
        BlockingIOError: another run has it.
    """
    with (folder / ".lock").open("ab") as file:
        if not _lock(file):
            raise BlockingIOError(
                f"another run that is still going owns the folder {str(folder)!r}: wait for its end, or choose another"
            )
        yield


def sweep(parts: Iterable[Path]) -> None:
    """Delete the unfinished files of writers that were killed; those of living writers are locked, and stay."""
    for part in parts:
        with suppress(OSError):
            with part.open("rb+") as file:
                dead = _lock(file)
            if dead:
                part.unlink()


# files of torch


class DamagedFile(ValueError):
    """A file whose content is not what was written; the message names it."""


def save(content: Any, target: Path, *, lasting: bool = True) -> None:
    """A file that :func:`load` reads, and ``torch.load``: its checksum is the comment of the zip archive."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = bytearray(buffer.getbuffer())
    data[-2:] = _SEALED.to_bytes(2, "little")  # the length of the comment
    data += _SEAL + hashlib.sha256(data).hexdigest().encode()
    with atomic(target, lasting=lasting) as part:
        part.write_bytes(data)


def load(path: Path | Traversable) -> Any:
    """What :func:`save` wrote, or torch, on the CPU. Nothing in it is executed, nothing larger than the file is made.

    Raises:
        FileNotFoundError: no such file.
        DamagedFile: another checksum than was written, or no such file of torch.
    """
    data = path.read_bytes()
    try:
        _check_archive(data)
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        _check_sizes(content, len(data))
    except Exception as error:  # torch raises many types
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DamagedFile(f"{str(path)!r} is damaged, or no such file ({reason})") from error
    return content


def _check_archive(data: bytes) -> None:
    """A test of the whole archive: torch looks at no checksum."""
    sealed = data[-_SEALED:].startswith(_SEAL)
    if sealed and data[-_SEALED:] != _SEAL + hashlib.sha256(data[:-_SEALED]).hexdigest().encode():
        raise ValueError("its checksum is another")
    if not sealed and (data[-22:-18] != _END or data[-2:] != b"\0\0"):
        raise ValueError("it is no archive of torch, or cut off")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        if any(member.compress_type for member in members) or sum(member.file_size for member in members) > len(data):
            raise ValueError("it holds more than its size")
        if not sealed and archive.testzip() is not None:  # written by 0.1, or by torch alone
            raise ValueError("the checksum of a part is another")


def _check_sizes(content: Any, room: int) -> None:
    """No more elements than there are bytes: a few bytes may stand for very many, by repetition."""
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, Tensor) and (
            value.is_meta or (value.layout is torch.strided and value.numel() * value.element_size() > room)
        ):
            raise ValueError("it holds more than its size")
        if seen + len(waiting) > room:
            raise ValueError("it holds more than its size")
