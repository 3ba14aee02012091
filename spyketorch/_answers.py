"""The answers of finished layers to all images: computed once, kept in memory or in files."""

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import spyketorch
from spyketorch._files import atomic
from spyketorch._progress import progress_bar
from spyketorch.models import Network

_BATCH = 500  # images answered at once
_SAMPLE = 10  # images whose answers name a file


class Answers:
    """First-spike times that each stage of a network gets for all images.

    Those asked for last are kept, so that the next stage's take one step more. Past ``memory_limit`` bytes they go to a
    memory-mapped file in ``directory``, whose name holds a hash of all that they depend on; a later run finds it there.

    Args:
        network: whose stages are finished, up to the one that is asked for.
        images: ``(N, C, H, W)``, as its encoder takes them.
        name: of the images, a text with their hash.
        directory: of the files; None keeps all in memory.
        memory_limit: bytes that the answers to one stage may take in memory.
        progress: whether to show a bar; None shows one where tqdm is installed.
    """

    def __init__(
        self,
        network: Network,
        images: Tensor,
        name: str,
        directory: Path | None,
        memory_limit: float,
        progress: bool | None,
    ) -> None:
        self.network, self.images, self.name, self.progress = network, images, name, progress
        self.directory, self.memory_limit = directory, memory_limit
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

            def answers() -> Iterator[Tensor]:
                for start in range(0, len(source), _BATCH):
                    yield answer(start) if start else first
                    bar.update(min(_BATCH, len(source) - start))

            if path is None or first[0].nbytes * len(source) <= self.memory_limit:
                kept = torch.empty(shape, dtype=first.dtype)
                for place, some in zip(torch.split(kept, _BATCH), answers(), strict=True):
                    place.copy_(some)
                return kept
            _write(path, shape, first.numpy().dtype, answers())
        return _open(path, len(source))

    def _path(self, stage: int) -> Path | None:
        """The file, named by all that the answers depend on.

        Modules of the user's own may depend on what no module tells: a sample of their answers counts too.
        """
        if self.directory is None:
            return None
        sample = self.images[:_SAMPLE].to(self.network.stages[0].layer.weight.device)
        parts = [spyketorch.__version__, self.name, *identity(self.network, stage)]
        parts += [digest(below.layer.weight) for below in self.network.stages[:stage]]
        parts += [digest(self.network.features(sample, stage))]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        return self.directory / f"answers-{stage}-{key}.npy"


def identity(network: Network, stages: int) -> list[str]:
    """The encoder and the first stages in words and hashes, without the weights."""
    parts = [str([stage.layer.weight.dtype for stage in network.stages]), repr(network.encoder)]
    parts += [f"values in the encoder: {_values(network.encoder)}"]
    for number, stage in enumerate(network.stages[:stages], 1):
        threshold = stage.layer.limit()
        parts += [repr(stage), f"thresholds {number}: {'none' if threshold is None else digest(threshold)}"]
        for module in (stage.pool, stage.shortcut):
            parts += [] if module is None else [f"values behind layer {number}: {_values(module)}"]
    return parts


def _values(module: nn.Module) -> str:
    return digest(*module.parameters(), *module.buffers())


def digest(*tensors: Tensor) -> str:
    """A hash of shapes, types and values."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def _write(path: Path, shape: tuple[int, ...], dtype: np.dtype, parts: Iterator[Tensor]) -> None:
    """A ``.npy`` file, and a checksum behind it; written in order, as a full disk is an error then, not a crash."""
    with atomic(path) as unfinished, unfinished.open("wb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        checksum = 0
        for part in parts:
            values = part.contiguous().numpy().tobytes()
            checksum = zlib.crc32(values, checksum)
            file.write(values)
        file.write(checksum.to_bytes(4, "little"))


def _open(path: Path, images: int) -> Tensor:
    """A stored file, mapped into memory; an error where it is not whole."""
    try:
        file = np.load(path, mmap_mode="c")
        with path.open("rb") as raw:
            raw.seek(-4, 2)
            whole = int.from_bytes(raw.read(), "little") == zlib.crc32(file)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error}); delete it, and it is computed anew") from error
    if not whole or file.ndim != 4 or len(file) != images or file.dtype not in (np.uint8, np.int16, np.int32):
        raise ValueError(f"{str(path)!r} is damaged, or no answers to {images} images; delete it, it is computed anew")
    return torch.from_numpy(file)
