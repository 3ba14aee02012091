"""Networks of integers in C: programs made of ``runtimes/spyketorch.h``, for this machine and for a microcontroller."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from spyketorch.export._c_table import c_table
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork, read

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")
_SOURCES = ("spyketorch.h", "refuse.h", "host.c", "cortex_m/main.c", "cortex_m/flash.ld")


def to_c(path: str | os.PathLike[str], folder: str | os.PathLike[str], *, unpack: bool = True) -> None:
    """Write a network of integers as sources in C99, for any processor with integers of 32 bits.

    They are the table of the network, ``model.h``; the runtime, ``spyketorch.h``, which allocates nothing, calls no
    library and knows no floats; ``refuse.h``, which looks whether a table can be trusted; and two programs of them:
    ``host.c``, which reads images and writes what a runtime gives, and ``cortex_m``, on a microcontroller.

    Args:
        path: the file of a network, of :func:`save`.
        folder: for the sources; made if it is not there.
        unpack: give each weight 16 bits, in rows of a multiple of 16, for processors that add many at once; otherwise
            weights keep their bits, for small memories.

    Raises:
        NotAnIntegerNetwork: a file that cannot be trusted, in one sentence.

    Example:
        >>> import pathlib, spyketorch, tempfile
        >>> shipped = pathlib.Path(spyketorch.__file__).parent / "weights" / "digits.safetensors"
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> to_c(shipped, folder)
        >>> sorted(file.name for file in folder.iterdir())
        ['cortex_m', 'host.c', 'model.h', 'refuse.h', 'spyketorch.h']
    """
    table, target = c_table(path, unpack), Path(folder)
    (target / "cortex_m").mkdir(parents=True, exist_ok=True)
    (target / "model.h").write_text(table, encoding="ascii")
    for name in _SOURCES:
        (target / name).write_bytes((resources.files("spyketorch.export") / "runtimes" / name).read_bytes())


class C:
    """``runtimes/spyketorch.h`` behind the table of a network, as a program of this machine."""

    name = "C99"
    optimise = "-O2"
    unpack = True

    def why_not(self) -> str | None:
        """What this machine lacks."""
        return None if _compiler() else "there is no C compiler on this machine (`cc`, `gcc`, `clang`, or `$CC`)"

    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """The traces of images ``(N, C, H, W)`` of bytes."""
        given = _checked(path, images)
        with self._built(path, "-DSPK_TRACED") as program:
            return self._run(program, given)

    def seconds(self, path: str | os.PathLike[str], images: np.ndarray) -> float:
        """Time of a processor, in seconds for each image, of the program without traces, with all that it reads.

        Few images are gone through several times, as that time is told in hundredths of a second.
        """
        rounds = -(-2000 // len(images))
        given = _checked(path, images) * rounds
        with self._built(path) as program:
            before = os.times().children_user
            self._run(program, given)
            return (os.times().children_user - before) / (rounds * len(images))

    @contextmanager
    def _built(self, path: str | os.PathLike[str], *options: str) -> Iterator[Path]:
        """The program of a network, in a folder that is gone afterwards."""
        with tempfile.TemporaryDirectory() as folder:
            to_c(path, folder, unpack=self.unpack)
            _call([*_compiler(), *STRICT, self.optimise, *options, "host.c", "-o", "model"], cwd=folder)
            yield Path(folder) / "model"

    def _run(self, program: Path, images: bytes) -> bytes:
        return _call([program], NotAnIntegerNetwork, input=images)


class CortexM:
    """The same on a Cortex-M3 that qemu emulates, weights packed as in the file."""

    name = "Cortex-M"

    def why_not(self) -> str | None:
        """What this machine lacks."""
        missing = [name for name in ("arm-none-eabi-gcc", "qemu-system-arm") if shutil.which(name) is None]
        return f"there is no `{missing[0]}` on this machine" if missing else None

    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """The traces of images ``(N, C, H, W)`` of bytes."""
        given = _checked(path, images)
        with self._built(path, "-DSPK_TRACED") as program:
            return self._run(program, given)

    def size(self, path: str | os.PathLike[str]) -> tuple[int, int]:
        """(flash, ram) in bytes, of the program without traces: code and weights; maps, an image and 1 kB of stack."""
        with self._built(path) as program:
            text, data, bss = map(int, _call(["arm-none-eabi-size", program]).split()[6:9])
        return text + data, data + bss

    def instructions(self, path: str | os.PathLike[str], images: np.ndarray) -> float:
        """How many the processor carries out for an image, without its trace, in the mean (within 40)."""
        given = _checked(path, images)
        with self._built(path, "-DSPK_COUNTED") as program:
            self._run(program, given, "-icount", "shift=0")  # an instruction in a nanosecond
            ticks = np.fromfile(program.parent / "ticks", "<u4")
        return 40 * float(ticks.mean())  # of a clock of 25 MHz

    @contextmanager
    def _built(self, path: str | os.PathLike[str], *options: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            to_c(path, folder, unpack=False)
            machine = ["-mcpu=cortex-m3", "-mthumb", "-Os", "-ffreestanding", "-nostdlib", "-Tcortex_m/flash.ld", "-I."]
            files = ["cortex_m/main.c", "-lgcc", "-o", "model.elf"]
            _call(["arm-none-eabi-gcc", *STRICT, *machine, *options, *files], cwd=folder)
            yield Path(folder) / "model.elf"

    def _run(self, program: Path, images: bytes, *options: str) -> bytes:
        (program.parent / "images").write_bytes(images)
        emulator = ["qemu-system-arm", "-M", "mps2-an385", "-display", "none", "-monitor", "none", "-serial", "none"]
        command = [*emulator, "-semihosting", *options, "-kernel", program]
        _call(command, NotAnIntegerNetwork, cwd=program.parent)
        return (program.parent / "traces").read_bytes()


def _compiler() -> list[str]:
    """The command of a C compiler; none, if this machine has none."""
    named = os.environ.get("CC", "").split()
    found = [name for name in ("cc", "gcc", "clang") if shutil.which(name)]
    return named or found[:1]


def _checked(path: str | os.PathLike[str], images: np.ndarray) -> bytes:
    shape = tuple(read(path)[0]["image"])
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise NotAnIntegerNetwork(
            f"images are bytes (N, {', '.join(map(str, shape))}), not {images.dtype} {images.shape}"
        )
    return images.tobytes()


def _call(command: Sequence[Any], refuses: type[Exception] = RuntimeError, **settings: Any) -> bytes:
    """What a command writes; what it refuses is raised in its own words."""
    run = subprocess.run([*map(os.fspath, command)], capture_output=True, **settings)
    if run.returncode:
        raise refuses((run.stderr or run.stdout).decode(errors="replace").strip())
    return bytes(run.stdout)
