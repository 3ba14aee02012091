"""What a decision costs: spikes and additions of an image, and the neurons that decide."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spyketorch.models import Network


class Cost(NamedTuple):
    """Of a network.

    Attributes:
        deciding: neurons that stand for a class: of the last layer, at all its places, or of a read-out, in which a
            linear one has one for each class, that does not spike.
        spikes: of an image, of the encoder and of all layers below those neurons, up to the decision. Poolings pass
            spikes on, they make none.
        additions: of an image, up to the decision: each spike adds the weights of all synapses that it reaches. Filters
            of the encoder are not counted, nor is the growth of ramps, one addition for each neuron and time step.
    """

    deciding: int
    spikes: float
    additions: float


def windows(layer: Any, size: tuple[int, int]) -> Tensor:
    """In how many windows of a layer each place of its input is, (rows, columns) of them."""
    counts = torch.zeros(size)
    for rows in _rows(layer, size, 0):
        for columns in _rows(layer, size, 1):
            counts[rows[:, None], columns] += 1
    return counts


def _rows(layer: Any, size: tuple[int, int], axis: int) -> list[Tensor]:
    """The rows that each window sees, or the columns, without those of the padding."""
    reach = torch.arange(layer.kernel_size[axis]) * layer.dilation[axis] - layer.padding[axis]
    seen = [reach + k * layer.stride[axis] for k in range(layer.output_size(*size)[axis])]
    return [places[(places >= 0) & (places < size[axis])] for places in seen]


def decided(readout: nn.Module | None, times: Tensor) -> Tensor:
    """Up to which step an image is heard, ``(N,)``: to its first spike by a read-out that fires, else to the end."""
    fire = getattr(readout, "fire", None)
    return torch.full((len(times),), math.inf) if fire is None else fire(times).amin(1)


@torch.no_grad()
def cost(network: Network, images: Tensor) -> Cost:
    """The mean over some images."""
    deciding, spikes, additions = 0, 0.0, 0.0
    silent = network.stages[0].layer.time_steps
    for some in network.batches(images):
        parts = [*network.parts(some)]
        until = decided(network.readout, parts[-1].times).view(-1, 1, 1, 1)

        def heard(times: Tensor, until: Tensor = until) -> Tensor:
            return (times < silent) & (times <= until)

        last, given = parts[0].times, parts[0].times
        layers = [part for part in parts if hasattr(part.module, "respond")]
        spikes += float(heard(given).sum())
        for part in parts[1:]:
            layer: Any = part.module
            if hasattr(layer, "respond"):
                reached = windows(layer, tuple(last.shape[-2:])) * layer.out_channels / layer.groups
                additions += float((heard(last) * reached).sum(dtype=torch.float64))
                if network.readout is not None or part is not layers[-1]:
                    spikes += float(heard(part.times).sum())
            last = part.times
        deciding = math.prod(last.shape[1:])
        if network.readout is not None:
            weight: Any = network.readout.weight
            deciding = len(weight)
            additions += float(heard(last).sum()) * deciding
    return Cost(deciding, spikes / len(images), additions / len(images))
