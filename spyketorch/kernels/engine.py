"""The compiled loops on a layer: who wins, and what is learned."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numba.core.errors import NumbaError
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry
from spyketorch._plasticity import Plasticity
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch.kernels import memory
from spyketorch.kernels._by_type import current
from spyketorch.kernels.arrays import channels_last
from spyketorch.kernels.loops import last_step, layout
from spyketorch.kernels.loops import learn as loops
from spyketorch.kernels.loops.layout import Array
from spyketorch.kernels.parallel import in_parallel


def _of(number: type, part: Any) -> Any:
    """A named tuple whose fractions are of the weights' type."""
    return current(type(part)(*(number(value) if isinstance(value, float) else value for value in part)))


class Engine:
    """A layer as the loops see it, for inputs of one size, with the weights as they stand."""

    def __init__(self, layer: loops.Layer, operations: int) -> None:
        self.layer = layer
        self._operations = operations  # of one image, about

    def find(self, times: Tensor, choice: Choice, active: Array | None = None) -> loops.Found:
        """The winners of images (N, C, H, W), of those features that are active (N, features)."""
        found = self._nothing(len(times), choice)
        if active is None:
            active = np.ones((len(times), len(self.layer.weight)), np.bool_)
        self._find(channels_last(times), choice, active, found)
        return found

    def learn(self, times: Tensor, choice: Choice, rule: Plasticity, teacher: Teacher | None, minibatch: int) -> Tensor:
        """Learn images (N, C, H, W) in turn, of which ``minibatch`` are decided together; gives the winners."""
        if teacher is None:
            nobody, everybody = np.empty(0, np.int64), np.ones((len(times), len(self.layer.weight)), np.bool_)
            teacher = Teacher(nobody, nobody, 0, everybody, 1)
        else:
            teacher = teacher.arrays()
        number = self.layer.weight.dtype.type
        thresholds = loops.Fixed() if rule.thresholds is None else rule.thresholds
        compiled = loops.Rule(
            rule.rates.numpy(), np.array(rule.bounds, number), _of(number, rule.twin), _of(number, thresholds)
        )
        images, found = channels_last(times), self._nothing(len(times), choice)
        try:
            if minibatch == 1:
                loops.learn(images, self.layer, choice, compiled, teacher, found, False)
            else:
                for begin in range(0, len(images), minibatch):
                    some = slice(begin, begin + minibatch)
                    part = loops.Found(found.winners[some], found.post[some])
                    self._find(images[some], choice, teacher.active[some], part)
                    taught = teacher._replace(labels=teacher.labels[some], active=teacher.active[some])
                    loops.learn(images[some], self.layer, choice, compiled, taught, part, True)
        except NumbaError as error:
            raise TypeError(
                f"`change` of {type(rule.twin).__qualname__}, and `adapt` of {type(thresholds).__qualname__}, must be "
                "plain code on numbers that numba compiles; without a `compiled` twin the rule runs in torch; numba "
                f"says: {str(error).strip()}"
            ) from error
        return torch.from_numpy(found.winners)

    @property
    def threshold(self) -> Array:
        """The threshold of each feature, which learning may have moved."""
        assert isinstance(self.layer, loops.ByClock)
        return self.layer.threshold[: len(self.layer.weight)]

    @staticmethod
    def _nothing(images: int, choice: Choice) -> loops.Found:
        return loops.Found(np.full((images, choice.kwta, 3), -1), np.zeros((images, choice.kwta), np.int64))

    def _find(self, images: Array, choice: Choice, active: Array, found: loops.Found) -> None:
        in_parallel(len(images), partial(loops.find, images, self.layer, choice, active, found), self._operations)


@contextmanager
def engine(
    weight: Tensor, threshold: Tensor | None, steps: int, shape: Geometry, size: Sequence[int], name: str = "weight"
) -> Iterator[Engine]:
    """An engine of a layer for maps of some rows and columns; what it learns is written to the weight.

    Raises:
        ValueError: the weight, of that name to the caller, is not finite.
    """
    stored = weight.detach().contiguous()
    own, features, (rows, columns) = stored.numpy(), len(stored), size
    inputs, out = own.shape[1] * shape.groups, shape.output_size(rows, columns)
    operations = inputs * rows * columns * own[:, 0].size
    window = layout.window((rows, columns), out, shape)
    layer: loops.Layer
    if threshold is None:
        with memory.lent(stored, "bytes", lambda: last_step.to_bytes(_finite(own, name))) as compact:
            layer = loops.AtLastStep(own, compact, steps, window)
            _sync(layer, name)
            yield Engine(layer, operations)
    else:
        with memory.lent(stored, inputs, lambda: layout.to_rows(own, inputs)) as laid_out:
            limit = np.full(layout.lanes(features), np.inf, own.dtype)
            limit[:features] = threshold.numpy()
            taps = layout.reach((rows, columns), out, shape)
            layer = loops.ByClock(own, laid_out, limit, steps, window, taps)
            _sync(layer, name)
            yield Engine(layer, operations)
    if stored.data_ptr() != weight.data_ptr():
        weight.copy_(stored)


def _sync(layer: loops.Layer, name: str) -> None:
    if loops.sync(layer.weight, layer.laid_out) < 0:
        _finite(layer.weight, name)


def _finite(weight: Array, name: str) -> Array:
    check.finite(torch.from_numpy(weight), name)
    return weight
