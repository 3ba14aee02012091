"""The operators on a CPU without numba: each input spike adds its row of weights once, which torch gathers.

Maps are laid out (rows, columns, features), and weights (places, features): a *row* for each place of a receptive
field, which is a kernel row, a kernel column and an input feature. The spikes of one time step in one receptive field
are a bag, whose rows ``torch.embedding_bag`` adds in the order of their places. So a potential costs one addition per
input spike, for all time steps together, where a convolution adds silent inputs too, at each step anew; and it is the
same to the bit in any batch and on any number of threads.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spyketorch._convolution import WORTH_THREADS, Geometry, torch_threads
from spyketorch.kernels.arrays import Array, channels_first, channels_last

_PLACES = 2**19  # places of receptive fields that are looked at together: their indices take up to 12 MB


class Layer(NamedTuple):
    """A layer as it is gathered from: of each group its input and output features, and its rows of weights.

    ``limit`` (features,) is the potential above which a neuron fires; without a threshold it is 0, and only the
    ``last_step`` counts.
    """

    groups: list[tuple[slice, slice, Tensor]]
    limit: Array
    last_step: bool
    time_steps: int
    shape: Geometry

    @classmethod
    def of(cls, weight: Tensor, threshold: Tensor | None, time_steps: int, shape: Geometry) -> "Layer":
        rows = _rows(weight)
        inputs, outputs = weight.shape[1], shape.features_per_group
        firsts = [(g * inputs, g * outputs) for g in range(shape.groups)]
        groups = [(slice(i, i + inputs), slice(o, o + outputs)) for i, o in firsts]
        limit = weight.new_zeros(len(weight)) if threshold is None else threshold
        parts = [(i, o, rows[:, o].contiguous()) for i, o in groups]
        return cls(parts, limit.numpy(), threshold is None, time_steps, shape)

    def parts(self, times: Array) -> list[slice]:
        """Images (N, rows, columns, C) that are answered together."""
        rows, columns = self.shape.output_size(*times.shape[1:3])
        some = max(1, _PLACES // (rows * columns * len(self.groups[0][2])))
        return [slice(i, i + some) for i in range(0, len(times), some)]

    def potentials(self, times: Array) -> Iterator[tuple[int, Array]]:
        """(time step, potentials (N, rows, columns, features)) of ``times`` (N, rows, columns, C), step after step.

        The potentials are the same array, added to. Steps at which none changes may be left out.
        """
        fields = [self._receptive_fields(times[..., inputs]) for inputs, _, _ in self.groups]
        (n, height, width), kind = fields[0].shape[:3], self.limit.dtype
        potentials = np.zeros((n, height, width, len(self.limit)), kind)
        for step in self._steps(times):
            for (_, outputs, rows), field in zip(self.groups, fields, strict=True):
                some = max(1, _PLACES // (n * width * len(rows)))  # output rows, all of them but in large maps
                for i in range(0, height, some):
                    places = field[:, i : i + some].reshape(-1, len(rows))
                    spikes = places < self.time_steps if self.last_step else places == step
                    into = potentials[:, i : i + some, :, outputs]
                    into += _sums(spikes, rows).reshape(into.shape)
            yield step, potentials

    def _steps(self, times: Array) -> Iterator[int]:
        """Those at which potentials may change; and the first one, at which a negative threshold is crossed."""
        if self.last_step:
            return iter((self.time_steps - 1,))
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


def _rows(weight: Tensor) -> Tensor:
    """Weights (features, C, kernel rows, kernel columns) as (places, features)."""
    return weight.detach().permute(2, 3, 1, 0).reshape(-1, len(weight))


def _sums(spikes: Array, rows: Tensor) -> Array:
    """The sum of the rows where there is a spike, for each of (bags, places): (bags, features)."""
    found = np.flatnonzero(spikes)
    starts = np.searchsorted(found, np.arange(0, spikes.size, len(rows)))
    alone = len(found) * rows.shape[1] < WORTH_THREADS
    with torch_threads(1) if alone else nullcontext():
        bags = torch.embedding_bag(rows, torch.from_numpy(found % len(rows)), torch.from_numpy(starts), mode=0)
    return bags[0].numpy()


def convolution_fire(
    times: Tensor, weight: Tensor, threshold: Tensor, time_steps: int, shape: Geometry, want_values: bool
) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there), channels last."""
    layer, source = Layer.of(weight, threshold, time_steps, shape), channels_last(times)
    size = (len(source), *shape.output_size(*source.shape[1:3]), len(weight))
    fired, values = np.full(size, time_steps, source.dtype), np.zeros(size if want_values else 0, layer.limit.dtype)
    for some in layer.parts(source):
        for step, potentials in layer.potentials(source[some]):
            now = (potentials > layer.limit) & (fired[some] == time_steps)
            np.copyto(fired[some], step, where=now)
            if want_values:
                np.copyto(values[some], potentials, where=now)
    return channels_first(fired), channels_first(values) if want_values else torch.from_numpy(values)


def last_potentials(times: Tensor, weight: Tensor, time_steps: int, shape: Geometry) -> Tensor:
    """Potentials at the last time step, channels last."""
    layer, source = Layer.of(weight, None, time_steps, shape), channels_last(times)
    parts = [potentials for some in layer.parts(source) for _, potentials in layer.potentials(source[some])]
    return channels_first(np.concatenate(parts))
