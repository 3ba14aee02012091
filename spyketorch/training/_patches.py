"""Learning from one place of each image, where a neuron drawn by chance looks, in place of the whole map."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spyketorch import latency
from spyketorch.snn import SpikingConvolution


class Patches(NamedTuple):
    """What one neuron of each feature sees of each image.

    Attributes:
        times: ``(N, C, kernel rows, kernel columns)``.
        places: row and column of the neuron, int64 ``(N, 2)``.
    """

    times: Tensor
    places: Tensor

    def named(self, winners: Tensor) -> Tensor:
        """Winners ``(N, k, 3)`` among the neurons that see the patches, by where these are in the layer."""
        exists = winners[..., :1] >= 0
        return torch.where(
            exists, torch.cat([winners[..., :1], self.places[:, None].expand_as(winners[..., 1:])], 2), winners
        )


def drawn(times: Tensor, layer: SpikingConvolution, random: "np.random.Generator") -> Patches:
    """One patch of each image; what padding adds is silent."""
    shape, count = layer.geometry, len(times)
    sizes = shape.output_size(*times.shape[-2:])
    places = torch.from_numpy(np.stack([random.integers(size, size=count) for size in sizes], 1)).to(times.device)
    rows, columns = shape.padding
    around = latency.pad(times, (columns, columns, rows, rows), layer.time_steps) if rows or columns else times
    neurons = torch.nn.functional.pad(places, (1, 0))  # of the first feature; asked for the inputs of all groups
    channel, row, column = shape.receptive_fields(neurons, layer.in_channels)
    image = torch.arange(count, device=times.device).view(-1, 1, 1, 1)
    channels, height, width = around.shape[1:]
    cells = ((image * channels + channel) * height + row) * width + column  # faster than four indices
    return Patches(around.take(cells), places)


@contextmanager
def seen_alone(layer: SpikingConvolution) -> Iterator[None]:
    """The layer with one neuron per feature, which sees a whole patch."""
    padding, dilation = layer.padding, layer.dilation
    try:
        layer.padding, layer.dilation = (0, 0), (1, 1)
        yield
    finally:
        layer.padding, layer.dilation = padding, dilation
