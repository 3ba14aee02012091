"""A layer as operators take it, whatever answers in its place."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spyketorch._convolution import Geometry


class Spiking(NamedTuple):
    """A layer: weight, the threshold of each feature, T, and its geometry.

    Without a threshold only the last time step counts, where every positive potential fires.
    """

    weight: Tensor
    limit: Tensor | None
    time_steps: int
    shape: Geometry

    def flat(self) -> tuple[Any, ...]:
        """As the arguments of an operator."""
        return self.weight, self.limit, self.time_steps, *self.shape.options().values()

    def room(self, times: Tensor, dtype: torch.dtype) -> Tensor:
        """Maps (N, features, rows, columns) for the answer to these times, channels last."""
        size = (times.shape[0], self.weight.shape[0], *self.shape.output_size(*times.shape[2:]))
        return torch.empty(size, dtype=dtype, device=times.device, memory_format=torch.channels_last)

    def groups(self) -> Iterator[tuple[slice, slice, "Spiking"]]:
        """(input features, output features, what is a layer by itself) of each group."""
        inputs, outputs, alone = self.weight.shape[1], self.shape.features_per_group, self.shape._replace(groups=1)
        for g in range(self.shape.groups):
            own = slice(g * outputs, (g + 1) * outputs)
            limit = None if self.limit is None else self.limit[own]
            layer = Spiking(self.weight[own], limit, self.time_steps, alone)
            yield slice(g * inputs, (g + 1) * inputs), own, layer
