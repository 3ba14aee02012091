"""The answers of finished layers to all images: computed once, kept in memory or in files."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import spyketorch
from spyketorch._files import atomic
from spyketorch._progress import progress_bar
from spyketorch.models import Network

_BATCH = 500  # images answered at once


class Answers:
    """First-spike times that each stage of a network gets for all images.

    Those asked for last are kept, so that the next stage's take one step more. Past ``memory_limit`` bytes they go to a
    memory-mapped file in ``directory``, whose name holds a hash of all that they depend on; a later run finds it there.

    Args:
        network: whose stages are finished, up to the one that is asked for.
        images: ``(N, C, H, W)``, as its encoder takes them.
        directory: of the files; None keeps all in memory.
        memory_limit: bytes that the answers to one stage may take in memory.
        progress: whether to show a bar; None shows one where tqdm is installed.
    """

    def __init__(
        self, network: Network, images: Tensor, directory: Path | None, memory_limit: float, progress: bool | None
    ) -> None:
        self.network, self.images, self.progress = network, images, progress
        self.directory, self.memory_limit = directory, memory_limit
        self._images = digest(images)
        self._stage, self._times = -1, images  # -1 is before the encoder

    def __call__(self, stage: int) -> Tensor:
        """The times that ``stage`` gets, ``(N, C, H, W)``; those of the last one are asked for by their number."""
        for number in range(stage, self._stage, -1):  # an earlier run may have left some
            path = self._path(number)
            if path is not None and path.exists():
                self._stage, self._times = number, _open(path, len(self.images))
                break
        if self._stage < stage:
            self._times = self._compute(stage)
            self._stage = stage
        return self._times

    def _compute(self, stage: int) -> Tensor:
        parts = [self.network.encoder, *self.network.stages][self._stage + 1 : stage + 1]
        source, device = self._times, self.network.stages[0].layer.weight.device

        def answer(start: int) -> Tensor:
            times = source[start : start + _BATCH].to(device)
            for part in parts:
                times = part(times)
            return times.cpu()

        first = answer(0)
        shape, path = (len(source), *first.shape[1:]), self._path(stage)
        with progress_bar(f"answers of layer {stage}" if stage else "encoding", len(source), self.progress) as bar:

            def fill(answers: Tensor) -> Tensor:
                for start in range(0, len(source), _BATCH):
                    some = answer(start) if start else first
                    answers[start : start + len(some)] = some
                    bar.update(len(some))
                return answers

            if path is None or first[0].nbytes * len(source) <= self.memory_limit:
                return fill(torch.empty(shape, dtype=first.dtype))
            with atomic(path) as unfinished:
                file = np.lib.format.open_memmap(unfinished, mode="w+", dtype=first.numpy().dtype, shape=shape)
                fill(torch.from_numpy(file))
                file.flush()
        return _open(path, len(source))

    def _path(self, stage: int) -> Path | None:
        """The file, named by all that the answers depend on."""
        if self.directory is None:
            return None
        parts = [spyketorch.__version__, self._images, *identity(self.network, stage)]
        parts += [digest(below.layer.weight) for below in self.network.stages[:stage]]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return self.directory / f"answers-{stage}-{key}.npy"


def identity(network: Network, stages: int) -> list[str]:
    """The encoder and the first stages in words and hashes, without the weights."""
    parts = [repr(network.encoder), digest(*network.encoder.buffers())]
    for stage in network.stages[:stages]:
        threshold = stage.layer.limit()
        parts += [repr(stage), "no threshold" if threshold is None else digest(threshold)]
    return parts


def digest(*tensors: Tensor) -> str:
    """A hash of shapes, types and values."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return found.hexdigest()[:16]


def _open(path: Path, images: int) -> Tensor:
    """A stored file, mapped into memory; an error where it is not whole."""
    try:
        file = np.load(path, mmap_mode="c")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); delete it, and it is computed anew") from error
    if file.ndim != 4 or len(file) != images or file.dtype not in (np.uint8, np.int16):
        raise ValueError(f"{str(path)!r} holds {file.shape} {file.dtype}, not {images} maps of times; delete it")
    return torch.from_numpy(file)
