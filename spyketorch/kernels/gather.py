"""The operators on a CPU without numba: each input spike adds its row of weights once, which torch gathers.

Maps are laid out (rows, columns, features), and weights (places, features): a *row* for each place of a receptive
field, which is a kernel row, a kernel column and an input feature. The spikes of one time step in one receptive field
are a bag, whose rows ``torch.embedding_bag`` adds in the order of their places. So a potential costs one addition per
input spike, for all time steps together, where a convolution adds silent inputs too, at each step anew; and it is the
same to the bit in any batch and on any number of threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spyketorch._convolution import WORTH_THREADS, Geometry, conv2d, torch_threads
from spyketorch._winners import Choice
from spyketorch.kernels import memory
from spyketorch.kernels.arrays import Array, channels_first, channels_last
from spyketorch.kernels.layers import Spiking

_PLACES = 2**19  # places of receptive fields that are looked at together: their indices take up to 12 MB


class Rows(NamedTuple):
    """Weights as they are gathered: those ``known``, and for each group of features its rows (places, features)."""

    known: Array
    groups: list[Array]

    @classmethod
    def of(cls, weight: Array, groups: int) -> "Rows":
        return cls(weight.copy(), [_rows(part) for part in np.split(weight, groups)])

    def sync(self, weight: Array) -> None:
        """Take over the features whose weights are not those known."""
        if np.array_equal(weight, self.known):
            return
        outputs = len(weight) // len(self.groups)
        for feature in np.flatnonzero((weight != self.known).reshape(len(weight), -1).any(1)).tolist():
            self.known[feature] = weight[feature]
            self.groups[feature // outputs][:, feature % outputs] = _rows(weight[feature : feature + 1])[:, 0]


class ByClock(NamedTuple):
    """A layer with a threshold: ``limit`` (features,) is the potential above which a neuron fires."""

    rows: list[Array]
    limit: Array
    time_steps: int
    shape: Geometry

    def potentials(self, times: Array) -> Iterator[tuple[int, Array]]:
        """(time step, potentials (N, rows, columns, features)) of ``times`` (N, rows, columns, C), step after step.

        The potentials are the same array, added to. Steps at which none changes may be left out.
        """
        inputs, outputs = times.shape[3] // len(self.rows), self.rows[0].shape[1]
        fields = [self._receptive_fields(times[..., g * inputs : (g + 1) * inputs]) for g in range(len(self.rows))]
        n, height, width = fields[0].shape[:3]
        potentials = np.zeros((n, height, width, len(self.limit)), self.limit.dtype)
        some = max(1, _PLACES // (n * width * len(self.rows[0])))  # output rows, all of them but in large maps
        for step in self._steps(times):
            for g, (rows, field) in enumerate(zip(self.rows, fields, strict=True)):
                for i in range(0, height, some):
                    places = field[:, i : i + some].reshape(-1, len(rows))
                    into = potentials[:, i : i + some, :, g * outputs : (g + 1) * outputs]
                    into += _sums(places == step, rows).reshape(into.shape)
            yield step, potentials

    def _steps(self, times: Array) -> Iterator[int]:
        """Those at which potentials may change; and the first one, at which a negative threshold is crossed."""
        if self.time_steps <= 64:
            return iter(range(self.time_steps))
        return iter([0, *(t for t in np.unique(times).tolist() if 0 < t < self.time_steps)])

    def _receptive_fields(self, times: Array) -> Array:
        """(N, rows, columns, kernel rows, kernel columns, C), silent outside of the map; a view of large maps."""
        shape, (n, height, width, channels) = self.shape, times.shape
        top, left = shape.padding
        padded = np.full((n, height + 2 * top, width + 2 * left, channels), self.time_steps, times.dtype)
        padded[:, top : top + height, left : left + width] = times
        image, row, column, channel = padded.strides
        steps = (row * shape.stride[0], column * shape.stride[1], row * shape.dilation[0], column * shape.dilation[1])
        size = (n, *shape.output_size(height, width), *shape.kernel_size, channels)
        fields = np.lib.stride_tricks.as_strided(padded, size, (image, *steps, channel), writeable=False)
        return np.ascontiguousarray(fields) if fields.size <= _PLACES else fields


def _rows(weight: Array) -> Array:
    """Weights (features, C, kernel rows, kernel columns) as (places, features)."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)))


def _sums(spikes: Array, rows: Array) -> Array:
    """The sum of the rows where there is a spike, for each of (bags, places): (bags, features)."""
    found = np.flatnonzero(spikes)
    starts = torch.from_numpy(np.searchsorted(found, np.arange(0, spikes.size, len(rows))))
    alone = len(found) * rows.shape[1] < WORTH_THREADS
    with torch_threads(1) if alone else nullcontext():
        bags = torch.embedding_bag(torch.from_numpy(rows), torch.from_numpy(found % len(rows)), starts, mode=0)
    sums: Array = bags[0].numpy()
    return sums


class AtLastStep(NamedTuple):
    """A layer in which only the last time step counts: most inputs have fired by then, so it is one convolution."""

    weight: Tensor
    limit: Array
    time_steps: int
    shape: Geometry

    def potentials(self, times: Array) -> Iterator[tuple[int, Array]]:
        """As of a layer with a threshold."""
        return self.answered(channels_first(times)).potentials(times)

    def answered(self, times: Tensor) -> "Answered":
        """The layer, with what these images (N, C, H, W) make of it."""
        potentials = last_potentials(times, self.weight, self.time_steps, self.shape)
        return Answered(channels_last(potentials), self.limit, self.time_steps, self.shape)


class Answered(NamedTuple):
    """A layer in which only the last time step counts, and its potentials (N, rows, columns, features) there."""

    last: Array
    limit: Array
    time_steps: int
    shape: Geometry

    def potentials(self, times: Array) -> Iterator[tuple[int, Array]]:
        """As they are known, whatever the times."""
        yield self.time_steps - 1, self.last


Layer = ByClock | AtLastStep | Answered


@contextmanager
def layer(spiking: Spiking) -> Iterator[Layer]:
    """A layer with the weights as they stand; its rows are kept from call to call."""
    weight, threshold, time_steps, shape = spiking
    stored = weight.detach().contiguous()
    if threshold is None:
        yield AtLastStep(stored, stored.new_zeros(len(stored)).numpy(), time_steps, shape)
        return
    own = stored.numpy()
    with memory.lent(stored, ("gathered", shape.groups), lambda: Rows.of(own, shape.groups)) as rows:
        rows.sync(own)
        yield ByClock(rows.groups, threshold.numpy(), time_steps, shape)


def convolution_fire(times: Tensor, spiking: Spiking, want_values: bool) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there), channels last."""
    source, (weight, _, time_steps, shape) = channels_last(times), spiking
    size = (len(source), *shape.output_size(*source.shape[1:3]), len(weight))
    fired, values = np.full(size, time_steps, source.dtype), weight.new_zeros(size if want_values else 0).numpy()
    at_once = max(1, _PLACES // (size[1] * size[2] * weight[0].numel()))
    with layer(spiking) as gathered:
        for i in range(0, len(source), at_once):
            some = slice(i, i + at_once)
            for step, potentials in gathered.potentials(source[some]):
                now = (potentials > gathered.limit) & (fired[some] == time_steps)
                np.copyto(fired[some], step, where=now)
                if want_values:
                    np.copyto(values[some], potentials, where=now)
    return channels_first(fired), channels_first(values) if want_values else torch.from_numpy(values)


def last_potentials(times: Tensor, weight: Tensor, time_steps: int, shape: Geometry) -> Tensor:
    """Potentials at the last time step: each image by itself and on one thread, so that all add in the same order."""
    frames = (times < time_steps).to(weight.dtype).contiguous()
    with torch_threads(1):
        return torch.cat([conv2d(frame, weight.detach(), shape) for frame in torch.split(frames, 1)])


def find(times: Tensor, layer: Layer, choice: Choice, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The winners (N, kwta, 3) of images (N, C, H, W), and the steps (N, kwta) at which they fired.

    Rows of -1 where there are fewer. ``active`` (N, features) says which features take part.
    """
    winners, post = np.full((len(times), choice.kwta, 3), -1), np.zeros((len(times), choice.kwta), np.int64)
    everybody = np.ones(len(layer.limit), np.bool_)
    for i, image in enumerate(channels_last(times)):
        _search(image, layer, choice, everybody if active is None else active[i].numpy(), winners[i], post[i])
    return torch.from_numpy(winners), torch.from_numpy(post)


def _search(image: Array, layer: Layer, choice: Choice, active: Array, winners: Array, post: Array) -> None:
    """Fill the winners of an image (rows, columns, C); steps after the last one are not looked at."""
    height, width = layer.shape.output_size(*image.shape[:2])
    silent, taken = np.tile(active, (height * width, 1)), 0
    for step, maps in layer.potentials(image[None]):
        potentials = maps.reshape(silent.shape)
        now = (potentials > layer.limit) & silent
        strength = potentials - layer.limit if choice.excess else potentials
        if choice.inhibit:  # the strongest that fires at a place silences all there; of equals the lowest feature
            place = np.flatnonzero(now) // len(active)
            place = place[np.diff(place, prepend=-1) > 0]
            feature = np.where(now[place], strength[place], -np.inf).argmax(1)
            silent[place] = False
        else:
            place, feature = np.nonzero(now)
            silent &= ~now
        strength = strength[place, feature]
        neurons = np.stack((feature, place // width, place % width), 1)
        free = strength > 0
        for winner in winners[:taken]:
            free &= _not_silenced(neurons, winner, choice.radius)
        while taken < len(winners) and free.any():
            equal = np.flatnonzero(free & (strength == strength[free].max()))
            winners[taken], post[taken] = neurons[equal[np.lexsort(neurons[equal].T[::-1])[0]]], step
            free &= _not_silenced(neurons, winners[taken], choice.radius)
            taken += 1
        if taken == len(winners):
            return


def _not_silenced(neurons: Array, winner: Array, radius: int) -> Array:
    """Which of the neurons (feature, row, column) a winner leaves to win."""
    far = np.abs(neurons - winner)
    near = (far[:, 1:] <= radius).all(1) & (radius > 0)
    left: Array = (far[:, 0] > 0) & ~near
    return left
