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
from spyketorch._plasticity import Inputs, Plasticity
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch.kernels import memory
from spyketorch.kernels._by_type import current
from spyketorch.kernels.arrays import channels_last
from spyketorch.kernels.layers import Spiking
from spyketorch.kernels.loops import clock, last_step, layout
from spyketorch.kernels.loops import learn as loops
from spyketorch.kernels.loops.layout import Array
from spyketorch.kernels.parallel import in_parallel
from spyketorch.neurons import _INTEGRATE_AND_FIRE, Neuron, _stands_still


def _of(number: type, part: Any) -> Any:
    """A named tuple whose fractions are of the weights' type."""
    return current(type(part)(*(number(value) if isinstance(value, float) else value for value in part)))


_SHORTEST, _LONGEST = 16, 512  # runs of images that are decided ahead
_NOTHING = last_step.room_ahead(0, 0)
_WORTH_ROWS = 4_000_000  # additions, below which sharing out one image costs more than it saves

_unfit: dict[type, str] = {}


def why_not_compiled(neuron: Neuron) -> str | None:
    """Why numba does not compile the step of a neuron, or None where it does."""
    made = _of(np.float32, neuron)
    if type(made) not in _unfit:
        try:
            clock.one_step(made, np.zeros(1, np.float32))
            return None
        except NumbaError as error:
            said = str(error).strip().splitlines()[0]
            _unfit[type(made)] = f"numba does not compile `step` of the neuron {type(neuron).__qualname__} ({said})"
    return _unfit[type(made)]


class Engine:
    """A layer as the loops see it, for inputs of one size, with the weights as they stand."""

    def __init__(self, layer: loops.Layer, operations: int) -> None:
        self.layer = layer
        self.learned = False
        self._operations = operations  # of one image, about

    def find(self, images: Array, choice: Choice, active: Array | None = None) -> loops.Found:
        """The winners of images (N, rows, columns, C), of those features that are active (N, features)."""
        found = self._nothing(images, choice)
        if active is None:
            active = np.ones((len(images), len(self.layer.weight)), np.bool_)
        in_parallel(len(images), partial(loops.find, images, self.layer, choice, active, found), self._operations)
        return found

    def fire(self, images: Array, fired: Array, values: Array) -> None:
        """First-spike times of images (N, rows, columns, C), and potentials then where ``values`` has room.

        One image, too, is shared out among threads: by rows. As each part sorts the spikes of its images anew, few
        images are cut into few parts.
        """
        assert isinstance(self.layer, loops.ByClock)
        rows, spikes = fired.shape[1], np.count_nonzero(images < self.layer.steps)
        work, additions = partial(self.layer.fire, images, fired, values), spikes * self.layer.weight[:, 0].size
        count, parts = len(images) * rows, min(len(images), 4)
        in_parallel(count, work, additions // max(count, 1), parts_per_thread=parts, worth=_WORTH_ROWS)

    def learn(
        self, inputs: Inputs, choice: Choice, rule: loops.Rule, teacher: Teacher, found: loops.Found | None = None
    ) -> loops.Found:
        """Learn images (N, rows, columns, C) in turn; gives the winners, which may have been ``found`` before."""
        decided, self.learned, images = found is not None, True, inputs.times
        found = found or self._nothing(images, choice)
        several = len(images) > _SHORTEST and torch.get_num_threads() > 1
        try:
            if isinstance(self.layer, loops.AtLastStep) and several and not decided and _stand(teacher):
                self._learn_ahead(inputs, self.layer, choice, rule, teacher, found)
            else:
                loops.learn(inputs, self.layer, choice, rule, teacher, found, decided, _NOTHING)
        except NumbaError as error:
            raise TypeError(
                f"`change` of {_name(rule.twin)}, and `adapt` of {_name(rule.thresholds)}, must be plain code on "
                "numbers that numba compiles; without a `compiled` twin the rule runs in torch; numba says: "
                f"{str(error).strip()}"
            ) from error
        return found

    def _learn_ahead(
        self,
        inputs: Inputs,
        layer: loops.AtLastStep,
        choice: Choice,
        rule: loops.Rule,
        teacher: Teacher,
        found: loops.Found,
    ) -> None:
        """Learn images in turn, of which runs are decided together, ahead, on all threads, and then checked.

        A run gets longer while few decisions have to be made anew, and shorter where many have; where half of them
        have, some images are learned without.
        """
        room, length, begin, alone = last_step.room_ahead(_LONGEST, len(layer.weight)), _SHORTEST, 0, False
        while begin < len(inputs.times):
            some = slice(begin, min(begin + length, len(inputs.times)))
            given, part, taught = inputs.of_some(some), found.of_some(some), teacher.of_some(some)
            if not alone:
                layer.laid_out.rise[:] = 0
                work = partial(loops.find_ahead, given.times, layer, choice, taught.active, part, room)
                in_parallel(len(given.times), work, self._operations, parts_per_thread=1)
            anew = loops.learn(given, layer, choice, rule, taught, part, False, _NOTHING if alone else room)
            begin = some.stop
            if alone or 2 * anew >= length:
                length, alone = _SHORTEST, not alone
            elif anew <= 2:
                length = min(2 * length, _LONGEST)
            elif anew > 6:
                length = max(length // 2, _SHORTEST)

    def clamp(self, lower: float, upper: float) -> None:
        """Keep all weights within bounds; at no cost where they are known to lie there."""
        self.learned = True
        number = self.layer.weight.dtype.type
        loops.clamp(self.layer, number(lower), number(upper))

    def rule(self, plasticity: Plasticity) -> loops.Rule:
        """A rule as the loops take it."""
        number = self.layer.weight.dtype.type
        thresholds = loops.Fixed() if plasticity.thresholds is None else plasticity.thresholds
        bounds = np.array(plasticity.bounds, number)
        return loops.Rule(plasticity.rates, bounds, _of(number, plasticity.twin), _of(number, thresholds))

    def told(self, potentials: Tensor | None) -> Array:
        """What was told of the inputs' potentials, as the loops take it."""
        return np.empty((0, 0, 0, 0), self.layer.weight.dtype) if potentials is None else channels_last(potentials)

    @property
    def threshold(self) -> Array:
        """The threshold of each feature, which learning may have moved."""
        assert isinstance(self.layer, loops.ByClock)
        return self.layer.threshold[: len(self.layer.weight)]

    @staticmethod
    def _nothing(images: Array, choice: Choice) -> loops.Found:
        count = len(images)
        return loops.Found(np.full((count, choice.kwta, 3), -1), np.zeros((count, choice.kwta), np.int64))


def _stand(teacher: Teacher) -> bool:
    """Whether decisions that are made ahead often stand: not where every image teaches."""
    return teacher.correction > 0


def _name(part: Any) -> str:
    return type(part).__mro__[1].__qualname__ if type(part).__mro__[1] is not tuple else type(part).__qualname__


@contextmanager
def engine(
    layer: Spiking, size: Sequence[int], name: str = "weight", neuron: Neuron = _INTEGRATE_AND_FIRE
) -> Iterator[Engine]:
    """An engine of a layer for maps of some rows and columns; what it learns is written to the weight.

    Raises:
        ValueError: the weight, of that name to the caller, is not finite.
    """
    weight, threshold, steps, shape = layer
    stored = weight.detach().contiguous()
    own, features, (rows, columns) = stored.numpy(), len(stored), size
    inputs, out = own.shape[1] * shape.groups, shape.output_size(rows, columns)
    operations = inputs * rows * columns * own[:, 0].size
    window = layout.window((rows, columns), out, shape)
    if threshold is None and _stands_still(neuron):
        with memory.lent(stored, "bytes", lambda: last_step.to_bytes(_finite(own, name))) as compact:
            made = Engine(loops.AtLastStep(own, compact, steps, window), operations)
            _sync(made.layer, name)
            yield made
    else:
        with memory.lent(stored, inputs, lambda: layout.to_rows(own, inputs)) as laid_out:
            limit = np.full(layout.lanes(features), np.inf, own.dtype)
            limit[:features] = 0 if threshold is None else threshold.numpy()
            opens = steps - 1 if threshold is None else 0
            taps = layout.reach((rows, columns), out, shape)
            known = _of(own.dtype.type, neuron)
            made = Engine(loops.ByClock(known, own, laid_out, limit, opens, steps, window, taps), operations)
            _sync(made.layer, name)
            yield made
    if made.learned and stored.data_ptr() != weight.data_ptr():  # a copy, as the weight is not contiguous
        weight.copy_(stored)


def _sync(layer: loops.Layer, name: str) -> None:
    if loops.sync(layer.weight, layer.laid_out) < 0:
        _finite(layer.weight, name)


def _finite(weight: Array, name: str) -> Array:
    check.finite(torch.from_numpy(weight), name)
    return weight
