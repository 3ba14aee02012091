"""The compiled loops on a layer: who wins, and what is learned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from torch import Tensor

from spyketorch._convolution import Geometry
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch.kernels import memory
from spyketorch.kernels.arrays import channels_last
from spyketorch.kernels.loops import last_step, layout
from spyketorch.kernels.loops import learn as loops
from spyketorch.kernels.loops.layout import Array
from spyketorch.kernels.parallel import in_parallel


class Engine:
    """A layer as the loops see it, for inputs of one size, with the weights as they stand."""

    def __init__(self, layer: loops.ByClock | loops.AtLastStep, features: int, operations: int) -> None:
        self.layer = layer
        self._features, self._operations = features, operations

    def sync(self) -> None:
        """Take over weights that were changed by others."""
        if loops.sync(self.layer.weight, self.layer.laid_out) < 0:
            raise ValueError("`weight` must be finite everywhere; it holds NaN or infinite values")

    def find(self, times: Tensor, choice: Choice, active: Array | None = None) -> loops.Found:
        """The winners of images (N, C, H, W), of those features that are active (N, features)."""
        found = self._nothing(len(times), choice)
        if active is None:
            active = np.ones((len(times), self._features), np.bool_)
        work = partial(loops.find, channels_last(times), self.layer, choice, active, found)
        in_parallel(len(times), work, self._operations)
        return found

    def learn(
        self,
        times: Tensor,
        choice: Choice,
        rates: Tensor,
        bounds: tuple[float, float],
        stabilizer: bool,
        teacher: Teacher | None,
    ) -> Tensor:
        """Learn images (N, C, H, W) in turn; gives the winners."""
        if teacher is None:
            nobody, everybody = np.empty(0, np.int64), np.ones((len(times), self._features), np.bool_)
            teacher = Teacher(nobody, nobody, 0, everybody, 1)
        else:
            teacher = teacher.arrays()
        rule = loops.Rule(rates.numpy(), np.array(bounds, self.layer.weight.dtype), stabilizer)
        found = self._nothing(len(times), choice)
        loops.learn(channels_last(times), self.layer, choice, rule, teacher, found, False)
        return torch.from_numpy(found.winners)

    @staticmethod
    def _nothing(images: int, choice: Choice) -> loops.Found:
        return loops.Found(np.full((images, choice.kwta, 3), -1), np.zeros((images, choice.kwta), np.int64))


@contextmanager
def engine(
    weight: Tensor, threshold: Tensor | None, steps: int, shape: Geometry, size: Sequence[int]
) -> Iterator[Engine]:
    """An engine of a layer for maps of some rows and columns; what it learns is written to the weight."""
    stored = weight.detach().contiguous()
    own, features, (rows, columns) = stored.numpy(), len(stored), size
    inputs, out = own.shape[1] * shape.groups, shape.output_size(rows, columns)
    operations = inputs * rows * columns * own[:, 0].size
    window = layout.window((rows, columns), out, shape)
    layer: loops.ByClock | loops.AtLastStep
    if threshold is None:
        with memory.lent(stored, "bytes", lambda: last_step.to_bytes(own)) as compact:
            layer = loops.AtLastStep(own, compact, steps, window)
            yield _synced(layer, features, operations)
    else:
        with memory.lent(stored, inputs, lambda: layout.to_rows(own, inputs)) as laid_out:
            limit = np.full(layout.lanes(features), np.inf, own.dtype)
            limit[:features] = threshold.numpy()
            taps = layout.reach((rows, columns), out, shape)
            yield _synced(loops.ByClock(own, laid_out, limit, steps, window, taps), features, operations)
    if stored.data_ptr() != weight.data_ptr():
        weight.copy_(stored)


def _synced(layer: loops.ByClock | loops.AtLastStep, features: int, operations: int) -> Engine:
    made = Engine(layer, features, operations)
    made.sync()
    return made
