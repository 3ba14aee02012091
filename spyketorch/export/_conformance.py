"""What every runtime must give: images with all first spikes and decisions, and how those of a runtime differ."""

import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spyketorch import _checks as check
from spyketorch import _files
from spyketorch.export._file import safetensors
from spyketorch.export._runtimes import Reference, Runtime
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork, opened, read
from spyketorch.export.runtimes.reference import parts

_FORMAT = "spyketorch conformance set"


class Layout(NamedTuple):
    """Where the parts lie in a trace of a network.

    Attributes:
        names, shapes: of the maps of times, in order.
        answers: how many integers follow, without the decision.
    """

    names: list[str]
    shapes: list[tuple[int, ...]]
    answers: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> "Layout":
        """That of the network of a file."""
        model = about, _ = read(path)
        times, answer, _ = parts(model, np.zeros(about["image"], np.uint8))
        names = ["encoder"]
        for number, stage in enumerate(about["stages"]):
            has = {"layer": True, "inhibit": stage["inhibit"], "pool": stage["pool"], "shortcut": stage["shortcut"]}
            names += [f"stages.{number}.{part}" for part, there in has.items() if there]
        return cls(names, [part.shape for part in times], len(answer))

    @property
    def times(self) -> int:
        """Of one image, bytes."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def size(self) -> int:
        """Of the trace of one image, bytes."""
        return self.times + 4 * (self.answers + 1)


class Traces(NamedTuple):
    """What came of images: all times ``(N, bytes)``, answers ``(N, A)`` and decisions ``(N,)``."""

    times: np.ndarray
    answers: np.ndarray
    decisions: np.ndarray

    @classmethod
    def of(cls, data: bytes, layout: Layout, images: int) -> "Traces":
        """From the bytes of traces.

        Raises:
            NotAnIntegerNetwork: more or fewer bytes than those images give.
        """
        if len(data) != images * layout.size:
            raise NotAnIntegerNetwork(f"{images} images should give {images * layout.size} bytes, not {len(data)}")
        rows = np.frombuffer(data, np.uint8).reshape(images, layout.size)
        numbers = np.ascontiguousarray(rows[:, layout.times :]).view("<i4")
        return cls(rows[:, : layout.times], numbers[:, :-1], numbers[:, -1])


class Difference(NamedTuple):
    """How traces differ from those that are right.

    Attributes:
        images, times: how many there are.
        decisions, answers, spikes: how many differ: of the decisions, of the images' answers, of the times.
        first: the part in which the first differs, or None.
    """

    images: int
    times: int
    decisions: int
    answers: int
    spikes: int
    first: str | None

    def __bool__(self) -> bool:
        return bool(self.decisions or self.answers or self.spikes)

    def __str__(self) -> str:
        decisions = f"{self.images} decisions, {self.decisions} differ"
        said = f"{decisions}; {self.times:,} spike times, {self.spikes:,} differ"
        return said + (f", first in {self.first}" if self.first else "")


def difference(found: Traces, right: Traces, layout: Layout) -> Difference:
    """Of what a runtime gave and what is right."""
    unlike = (found.times != right.times).any(0)
    ends = np.cumsum([int(np.prod(shape)) for shape in layout.shapes])
    first = layout.names[int(np.searchsorted(ends, unlike.argmax(), "right"))] if unlike.any() else None
    return Difference(
        len(right.decisions),
        right.times.size,
        int((found.decisions != right.decisions).sum()),
        int((found.answers != right.answers).any(1).sum()),
        int((found.times != right.times).sum()),
        first,
    )


class ConformanceSet(NamedTuple):
    """Images ``(N, C, H, W)`` of bytes and what the reference makes of them, of one network.

    Attributes:
        network: crc32 of its file.
    """

    network: int
    images: np.ndarray
    right: Traces

    @classmethod
    def make(cls, path: str | os.PathLike[str], images: np.ndarray, runtime: Runtime | None = None) -> "ConformanceSet":
        """What a runtime makes of images of bytes; without one the reference, NumPy."""
        data = (runtime or Reference()).trace(path, images)
        return cls(_crc(path), images, Traces.of(data, Layout.of(path), len(images)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to one file of safetensors: ``images``, ``times``, ``answers`` and ``decisions``."""
        tensors = {"images": self.images, **self.right._asdict()}
        data = safetensors({"format": _FORMAT, "version": 1, "network": self.network}, tensors)
        with _files.atomic(check.file(path, "path")) as part:
            part.write_bytes(data)

    @classmethod
    def load(cls, path: str | os.PathLike[str], network: str | os.PathLike[str]) -> "ConformanceSet":
        """The set of a file, of the network of another.

        Raises:
            NotAnIntegerNetwork: another file, or that of another network.
        """
        try:
            about, tensors = opened(path)
            if about["format"] != _FORMAT:
                raise ValueError(f"its format is {about['format']!r}")
            found = cls(about["network"], tensors.pop("images"), Traces(**tensors))
        except OSError:
            raise
        except Exception as error:  # whatever a damaged description leads to
            raise NotAnIntegerNetwork(f"{os.fspath(path)!r} holds no conformance set: {error}") from error
        if found.network != _crc(network):
            raise NotAnIntegerNetwork(f"{os.fspath(path)!r} is the conformance set of another network; make it anew")
        return found

    def check(self, runtime: Runtime, path: str | os.PathLike[str]) -> Difference:
        """How what a runtime makes of the images differs."""
        layout = Layout.of(path)
        found = Traces.of(runtime.trace(path, self.images), layout, len(self.images))
        return difference(found, self.right, layout)


def _crc(path: str | os.PathLike[str]) -> int:
    return zlib.crc32(Path(path).read_bytes())
