"""Rows that several processes make together, in memory that those of one machine have in common."""

import mmap
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from spyketorch._convolution import torch_threads
from spyketorch._processes import Processes


class Rows:
    """Rows of a tensor, of which each process makes a part, and all get all.

    Processes of one machine write them to memory that they have in common, and send nothing. Where they are on several,
    or the system has no such memory (it is Linux's), each sends its part to all.

    Args:
        processes: that make them.
        shape: of all rows.
        dtype: of their elements.
    """

    def __init__(self, processes: Processes, shape: Sequence[int], dtype: torch.dtype) -> None:
        self.processes, self.shape, self.dtype, self._count = processes, tuple(shape), dtype, 0
        self._file = _common_file(processes, torch.Size(shape).numel() * dtype.itemsize)
        self._rows = torch.empty(self.shape, dtype=dtype) if self._file is None else self._mapped(mmap.ACCESS_WRITE)

    def add(self, count: int, work: Callable[[slice], Sequence[Tensor]]) -> None:
        """The next rows, so many: ``work`` makes those of a part, counted from the first of them."""
        place = self._rows[self._count : self._count + count]
        if self._file is None:
            self._keep(place, self.processes.spread(work, count)[0])
        else:
            mine = self.processes.part(count)  # who has a row in common writes the same
            self._keep(place[mine], work(mine)[0])
        self._count += count

    def whole(self) -> Tensor:
        """All of them, once each process has added its parts; what is written there later stays in this process."""
        if self._count != len(self._rows):
            raise ValueError(f"{len(self._rows)} rows were announced, and {self._count} came")
        if self._file is not None:
            self.processes.told(lambda: None)  # all have
            self._rows = self._mapped(mmap.ACCESS_COPY)
            os.close(self._file)
            self._file = None
        return self._rows

    @staticmethod
    def _keep(place: Tensor, made: Tensor) -> None:
        with torch_threads(1):  # see _on_one_thread
            place.copy_(made)

    def _mapped(self, access: int) -> Tensor:
        assert self._file is not None
        return torch.frombuffer(mmap.mmap(self._file, 0, access=access), dtype=self.dtype).view(self.shape)


def _common_file(processes: Processes, size: int) -> int | None:
    """A file of so many bytes in memory, open in all processes; None where that cannot be."""
    if processes.count == 1 or size == 0:
        return None
    file = _new_file(size) if processes.first else None
    machine, path = processes.told(lambda: (_machine(), f"/proc/{os.getpid()}/fd/{file}"))
    if not processes.first and machine is not None and machine == _machine():
        with suppress(OSError):
            file = os.open(path, os.O_RDWR)
    if processes.any(file is None):
        if file is not None:
            os.close(file)
        return None
    return file


def _new_file(size: int) -> int | None:
    """Such a file, whose bytes are there; None where memory does not suffice, or the system has no such files."""
    if not hasattr(os, "memfd_create"):
        return None
    file = os.memfd_create("spyketorch")
    try:
        os.posix_fallocate(file, 0, size)  # an error here, and not a crash when they are written
    except OSError:
        os.close(file)
        return None
    return file


def _machine() -> tuple[str, str] | None:
    """What processes have in common that see each other's files in memory: a machine since it started, a container."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"), str(
            Path("/proc/self/ns/pid").readlink()
        )
    except OSError:
        return None
