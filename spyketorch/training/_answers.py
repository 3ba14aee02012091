"""The answers of finished layers to all images: computed once, kept in memory or in files."""

import io
import itertools
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import spyketorch
from spyketorch._common_memory import Rows
from spyketorch._files import DamagedFile, atomic, load, save
from spyketorch._identity import Content, code_of, digest, hashed, hooks, its_own, lines, settings, unhooked
from spyketorch._processes import ALONE, Processes
from spyketorch._progress import progress_bar
from spyketorch.data._source import Source
from spyketorch.models._batches import batch_size
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.snn import SpikingConvolution

_BATCH = 500  # images read at once
_SAMPLE = 10  # images whose answers name a file

#: passes parts on, as they come, until something stops them
Heed = Callable[[Iterable[Tensor]], Iterator[Tensor]]


class Answers:
    """First-spike times that each stage of a network gets for all images.

    Those asked for last are kept, so that the next stage's take one step more, and the images are read once. Past
    ``memory_limit`` bytes they go to a memory-mapped file in ``directory``, whose name holds a hash of all that they
    depend on; a later run finds it there, and beside it what a pass over the images told.

    Several processes each answer a part of each batch; all get all answers, which those of one machine keep but once.
    The first one writes the files, which the others map from there.

    Args:
        network: whose stages are finished, up to the one that is asked for.
        images: as its encoder takes them.
        directory: of the files; None keeps all in memory.
        memory_limit: bytes that the answers to one stage may take in memory.
        progress: whether to show a bar; None shows one where tqdm is installed.
        heed: what all that is answered passes through, so that it can be stopped.
        processes: among which the images are shared out.
    """

    def __init__(
        self,
        network: Network,
        images: Source,
        directory: Path | None,
        memory_limit: float,
        progress: bool | None,
        heed: Heed = iter,
        processes: Processes = ALONE,
    ) -> None:
        self.network, self.images, self.progress, self.heed = network, images, progress, heed
        self.directory, self.memory_limit, self.processes = directory, memory_limit, processes
        self._stage = -1  # before the encoder
        self._times: Tensor | None = None
        self._note = self._noted()

    def __call__(self, stage: int) -> Tensor:
        """The times that ``stage`` gets, ``(N, C, H, W)``; those of the last one are asked for by their number."""
        for number in range(stage, self._stage, -1):  # an earlier run may have left some
            path = self._path(number)
            if path is not None and self.processes.told(path.exists) and self.images.identity is not None:
                self._stage, self._times = number, self._open(path, number)
                break
        if self._times is None or self._stage < stage:
            self._times = self._compute(stage)
            self._stage = stage
        return self._times

    def _noted(self) -> Path | None:
        """The file of what a pass over the images tells, which is read, where an earlier run has left it."""
        if self.directory is None or self.images.name in (None, self.images.identity):
            return None
        path = self.directory / f"images-{str(self.images.name)[:16]}.pt"
        try:
            told = self.processes.told(lambda: load(path) if path.exists() else None)
            if told is not None and self.images.identity is None:
                self.images.recall(**told)
        except (DamagedFile, TypeError) as error:
            raise ValueError(
                f"{str(path)!r} tells of no images ({error}); delete it, and they are read anew"
            ) from error
        return path

    def _compute(self, stage: int) -> Tensor:
        steps: list[Callable[[Tensor], Tensor]] = [self.network._encode]
        steps += self.network.stages
        parts = steps[self._stage + 1 : stage + 1]
        size, count = batch_size(self.network, self.images.head) * self.processes.count, len(self.images)
        chunks = self.heed(self.images.chunks(size) if self._times is None else torch.split(self._times, size))
        device = self.network.device

        def answer(images: Tensor, rows: slice) -> list[Tensor]:
            times = images[rows].to(device)
            for part in parts:
                times = part(times)
            return [times.cpu()]

        head = next(chunks)
        first = answer(head, self.processes.part(len(head)))  # tells what all will be

        def batches() -> Iterator[tuple[int, Callable[[slice], list[Tensor]]]]:
            yield len(head), lambda _: first
            for images in chunks:
                yield len(images), partial(answer, images)

        one, path = first[0][0], self._path(stage)
        with progress_bar(f"answers of layer {stage}" if stage else "encoding", count, self.progress) as bar:
            if path is None or one.nbytes * count <= self.memory_limit:
                rows = Rows(self.processes, (count, *one.shape), one.dtype)
                for number, work in batches():
                    rows.add(number, work)
                    bar.update(number)
                kept = rows.whole()
            else:

                def answers() -> Iterator[Tensor]:
                    for number, work in batches():
                        yield self.processes.spread(work, number)[0]
                        bar.update(number)

                if self.processes.first:
                    self._write(path, (count, *one.shape), one.numpy().dtype, answers())
                else:
                    deque(answers(), maxlen=0)
                self.processes.told(lambda: None)  # it is written
                kept = self._open(path, stage)
        if self._note is not None and self.processes.first:
            save({"identity": self.images.identity, "labels": self.images.labels}, self._note)
        return kept

    def _path(self, stage: int) -> Path | None:
        """The file, named by all that the answers depend on.

        Modules of the user's own may depend on what no module tells: a sample of their answers counts too.
        """
        if self.directory is None:
            return None
        sample = self.images.head[:_SAMPLE].to(self.network.device)
        name = self.images.name or self.images.identity or "to be read"
        parts = [spyketorch.__version__, name, *identity(self.network, stage), *detail(self.network, stage)]
        parts += [digest(below.layer.weight) for below in self.network.stages[:stage]]
        parts += [digest(self.network.features(sample, stage))]
        return self.directory / f"answers-{stage}-{hashed(*parts)[:16]}.npy"

    def _write(self, path: Path, shape: tuple[int, ...], dtype: np.dtype, parts: Iterator[Tensor]) -> None:
        """A ``.npy`` file, and a checksum behind it; written in order, as a full disk is an error then, not a crash."""
        head = io.BytesIO()
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(head, header)
        with atomic(path) as unfinished, unfinished.open("wb") as file:
            checksum = 0
            for content in itertools.chain([head.getvalue()], (part.contiguous().numpy().tobytes() for part in parts)):
                checksum = zlib.crc32(content, checksum)
                file.write(content)
            file.write(checksum.to_bytes(4, "little"))

    def _open(self, path: Path, stage: int) -> Tensor:
        """A stored file, mapped into memory; an error where it is not whole."""
        steps = self.network.time_steps
        try:
            times = np.load(path, mmap_mode="c")
            whole = path.stat().st_size == times.offset + times.nbytes + 4
            with path.open("rb") as file:
                checksum = zlib.crc32(file.read(times.offset))
                file.seek(-4, 2)
                stored = int.from_bytes(file.read(), "little")
        except (ValueError, EOFError, OSError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} is damaged ({error}); delete it, and it is computed anew") from error
        whole = (
            whole
            and times.ndim == 4
            and len(times) == len(self.images)
            and times.dtype in (np.uint8, np.int16, np.int32)
        )
        highest = lowest = 0
        for part in np.split(times, range(_BATCH, len(times), _BATCH)) if whole else ():
            checksum = zlib.crc32(part.tobytes(), checksum)
            highest, lowest = max(highest, int(part.max(initial=0))), min(lowest, int(part.min(initial=0)))
        if not whole or checksum != stored or lowest < 0 or highest > steps:
            raise ValueError(
                f"{str(path)!r} is damaged, or no times up to {steps} that layer {stage + 1} gets of "
                f"{len(self.images)} images; delete it, and it is computed anew"
            )
        return torch.from_numpy(times)


def identity(network: Network, stages: int) -> list[str]:
    """The encoder and the first stages in words and hashes, without the weights: what 0.1 knew of them."""
    parts = [str([stage.layer.weight.dtype for stage in network.stages]), repr(network.encoder)]
    parts += [f"values in the encoder: {_values(network.encoder)}"]
    for number, stage in enumerate(network.stages[:stages], 1):
        threshold = stage.layer.limit()
        parts += [repr(stage), f"thresholds {number}: {'none' if threshold is None else digest(threshold)}"]
        for module in (stage.pool, stage.shortcut):
            parts += [] if module is None else [f"values behind layer {number}: {_values(module)}"]
    return parts


def detail(network: Network, stages: int) -> list[str]:
    """What the encoder and the first stages are made of."""
    found = settings(network.encoder, "encoder")
    for number, stage in enumerate(network.stages[:stages]):
        found |= settings(stage, f"stages.{number}")
    return lines(found)


@torch.no_grad()
def sampled(network: Network, images: Tensor) -> list[str]:
    """What no module tells: answers of modules of the user's own, and of those with hooks, to some images.

    The answers of stages depend on weights that are learned; of them the code counts.
    """
    images = images[:_SAMPLE].to(network.device)
    times = network.encoder(images)
    behind = [part for stage in network.stages for part in (stage.pool, stage.shortcut) if part is not None]
    found = []
    for module, given in [(network.encoder, images), *((part, times) for part in behind)]:
        own = any(map(its_own, module.modules()))
        if own or hooks(module):
            try:
                answers = module(given), module(given)
                if not own and _is_left_by_hooks(module, given, answers[0]):
                    continue
            except Exception:  # made for other features than the encoder's
                continue
            alike = torch.equal(*answers)  # not random
            found.append(f"answers of {type(module).__name__} to a sample: {digest(answers[0]) if alike else 'random'}")
    for number, stage in enumerate(network.stages):
        given, times = times, stage(times)
        own_kinds = [kind for kind in map(type, (stage, stage.layer)) if kind not in (Stage, SpikingConvolution)]
        found += [f"code of stages.{number}, {kind.__name__}: {Content()(kind)[:16]}" for kind in own_kinds]
        if hooks(stage) and not _is_left_by_hooks(stage, given, times):
            found.append(f"hooks in stages.{number}: {[code_of(hook) for hook in hooks(stage)]}")
    return found


def _is_left_by_hooks(module: nn.Module, given: Tensor, answer: Tensor) -> bool:
    """Whether hooks do but look on."""
    with unhooked(module):
        return torch.equal(module(given), answer)


def _values(module: nn.Module) -> str:
    return digest(*module.parameters(), *module.buffers())
