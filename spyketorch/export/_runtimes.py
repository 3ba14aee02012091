"""What runs a network of integers: this library, NumPy, C, JavaScript, a microcontroller."""

import os
import subprocess
import sys
from importlib import resources
from typing import Protocol

import numpy as np
import torch

from spyketorch import latency
from spyketorch.export._network import load
from spyketorch.export._readouts import IntegerFirstSpike
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork
from spyketorch.learning._task import answer
from spyketorch.models._network import Network


class Runtime(Protocol):
    """What runs a network of integers from its file.

    Attributes:
        name: as it is called.
    """

    name: str

    def why_not(self) -> str | None:
        """What this machine lacks for it, or None."""
        ...

    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """The traces of images ``(N, C, H, W)`` of bytes, one behind the other, as the page of the format says.

        Raises:
            NotAnIntegerNetwork: a file that it refuses.
        """
        ...


class Library:
    """This library's own engine."""

    name = "spyketorch"

    def why_not(self) -> str | None:
        """Nothing is missing."""
        return None

    @torch.no_grad()
    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """As of every :class:`Runtime`."""
        network, given = load(path), torch.from_numpy(images.copy())
        return b"".join(_trace(network, some) for some in network.batches(given))


def _trace(network: Network, images: torch.Tensor) -> bytes:
    times = network.encoder(images)
    parts = [times]
    for stage in network.stages:
        given, (times, potentials) = times, answer(stage.layer, times)
        parts.append(times)
        if stage.inhibit:
            times, _ = latency.pointwise_inhibition(times, potentials, time_steps=stage.layer.time_steps)
            parts.append(times)
        if stage.pool is not None:
            times = stage.pool(times)
            parts.append(times)
        if stage.shortcut is not None:
            parts.append(stage.shortcut(given))
            times = torch.cat([times, parts[-1]], 1)
    if network.readout is None:
        stage = network.stages[-1]
        answers = stage.layer.winners(given, pointwise_inhibition=stage.inhibit)[:, 0]
    elif isinstance(network.readout, IntegerFirstSpike):
        answers = network.readout.fire(times)
    else:
        answers = network.readout(times)
    rows = [part.flatten(1).to(torch.uint8).numpy() for part in parts]
    numbers = torch.cat([answers.to(torch.int32), network(images)[:, None].to(torch.int32)], 1)
    rows.append(np.ascontiguousarray(numbers.numpy().astype("<i4")).view(np.uint8))
    return np.concatenate(rows, 1).tobytes()


class Reference:
    """``runtimes/reference.py``, by a Python of its own that has NumPy and nothing of this library."""

    name = "NumPy"

    def why_not(self) -> str | None:
        """Nothing is missing."""
        return None

    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """As of every :class:`Runtime`."""
        with resources.as_file(resources.files("spyketorch.export") / "runtimes") as folder:
            return run([sys.executable, "-E", "-s", str(folder / "reference.py"), os.fspath(path)], images)


class Command:
    """Any program that reads images and writes traces.

    Args:
        words: of the command line, such as ``["./digits"]``.
    """

    def __init__(self, words: list[str]) -> None:
        self.name, self.words = " ".join(words), words

    def why_not(self) -> str | None:
        """What is missing shows when it is run."""
        return None

    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """As of every :class:`Runtime`; the program knows its network."""
        return run(self.words, images)


def run(command: list[str], images: np.ndarray) -> bytes:
    """What a program writes of images; what it refuses is refused with its last line."""
    done = subprocess.run(command, input=images.tobytes(), capture_output=True)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"{command[0]} failed without a word"]
        raise NotAnIntegerNetwork(lines[-1].removeprefix("reading.NotAnIntegerNetwork: "))
    return done.stdout
