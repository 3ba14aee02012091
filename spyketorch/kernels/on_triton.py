"""Whether Triton's kernel serves, and how it is launched. Triton is imported where it is, and not before."""

import importlib.metadata
import os
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch.kernels.layers import Spiking

LEAST = 3, 7  # before, Triton knows no named tuples within what is compiled in
_ACROSS = 4096  # neurons that inhibit each other, that a program looks at together
_NEURONS = 16, 16  # positions and features that a program takes at a time: few, so that all multiprocessors have some
_STEPS = 16  # time steps that it takes at a time
_SPIKES = 512  # inputs of a neuron, at all these steps, that it takes at a time


class Tile(NamedTuple):
    """What a program takes at a time of the neurons of a group, and of the inputs of each; powers of two."""

    positions: int
    steps: int
    features: int
    inputs: int


class Across(NamedTuple):
    """The same where neurons inhibit each other, with all features."""

    positions: int
    features: int


class Tiles(NamedTuple):
    """How many there are of all positions, of the features of a group, and across."""

    positions: int
    features: int
    across: int


class Sizes(NamedTuple):
    """The sizes of a layer and of its maps, which are compiled in: all index arithmetic is by constants.

    Attributes:
        geometry, time_steps: of the layer.
        inputs: (features of a group, rows, columns), with the padding.
        outputs: (features, rows, columns).
        image: inputs of all groups.
        positions: neurons of a feature.
        neurons: of all features.
        synapses: of a neuron.
        tile, across, tiles: how programs share out the neurons.
    """

    geometry: Geometry
    time_steps: int
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]
    image: int
    positions: int
    neurons: int
    synapses: int
    tile: Tile
    across: Across
    tiles: Tiles

    @classmethod
    def of(cls, times: Tensor, layer: Spiking) -> "Sizes":
        """Of a layer, and a padded batch of what it hears."""
        (features, channels, *_), shape, (height, width) = layer.weight.shape, layer.shape, times.shape[2:]
        rows, columns = shape._replace(padding=(0, 0)).output_size(height, width)
        positions, every = rows * columns, _power_of_2(features)
        at_once, synapses = min(_power_of_2(layer.time_steps), _STEPS), layer.weight[:1].numel()
        inputs = min(_SPIKES // at_once, max(16, _power_of_2(synapses)))
        tile, across = Tile(_NEURONS[0], at_once, _NEURONS[1], inputs), Across(max(1, _ACROSS // every), every)
        of_features = -(-shape.features_per_group // tile.features)
        return cls(
            shape,
            layer.time_steps,
            (channels, height, width),
            (features, rows, columns),
            times[:1].numel(),
            positions,
            features * positions,
            synapses,
            tile,
            across,
            Tiles(-(-positions // tile.positions), of_features, -(-positions // across.positions)),
        )


class Answer(NamedTuple):
    """What all programs see: first spikes and potentials there (features, rows, columns), and how often they met."""

    fired: Any
    potentials: Any
    met: Any


class Online(NamedTuple):
    """The standard rule: rates (2, features, 2) after reward and after punishment, and the bounds of the weights.

    ``stabilized`` is 1 or 0: Triton 3.7 interprets no bool.
    """

    rates: Tensor
    lower: float
    upper: float
    stabilized: int


def why_not(weight: Tensor) -> str | None:
    """Why Triton's kernel does not serve a layer of these weights, or None where it does."""
    if weight.dtype != torch.float32:
        return f"Triton's kernel adds float32, not {weight.dtype}"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"  # as Triton itself asks: it runs on the CPU, for tests
    if not check.readable(weight) or weight.device.type != ("cpu" if interpreted else "cuda"):
        return f"the layer is on {weight.device}"
    return _why_not_installed()


@cache
def _why_not_installed() -> str | None:
    try:
        version = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return "Triton is not installed, which `pip install triton` does"
    known = tuple(int(part) for part in version.split(".")[:2])
    return None if known >= LEAST else f"Triton {version} is older than {'.'.join(map(str, LEAST))}"


def learn(times: Tensor, layer: Spiking, choice: Choice, rule: Online, teacher: Teacher | None) -> Tensor:
    """The winners (N, kwta, 3) of samples, each learned before the next one is met; the weights change."""
    from spyketorch.kernels import _triton as kernels

    weight, limit = layer.weight.contiguous(), layer.limit
    if limit is None:  # one step, in which all is heard
        times, limit = (times >= layer.time_steps).to(torch.uint8), weight.new_zeros(len(weight))
        layer = layer._replace(time_steps=1)
    times = _padded(times, layer)
    sizes = Sizes.of(times, layer)
    labels = times.new_zeros(len(times), dtype=torch.int64) if teacher is None else teacher.labels
    classes = labels.new_zeros(len(weight)) if teacher is None else teacher.classes
    active = labels.new_ones((len(times), len(weight)), dtype=torch.bool) if teacher is None else teacher.active
    winners = labels.new_full((len(times), choice.kwta, 3), -1)
    fired = times.new_empty(sizes.outputs, dtype=torch.int32)
    with _on(times):
        kernels.walk[(min(_tiles(sizes), _at_once(times.device)),)](
            times,
            len(times),
            weight,
            limit.contiguous(),
            Teacher(labels.contiguous(), classes.contiguous(), 0, active.contiguous(), 1),
            rule,
            Answer(fired, weight.new_empty(sizes.outputs), labels.new_zeros(1)),
            winners,
            sizes,
            choice,
            launch_cooperative_grid=True,
            num_warps=max(4, sizes.tile.positions * sizes.tile.steps // 32),  # a row of all products for each thread
            enable_fp_fusion=False,  # products and sums are rounded each, as torch's are
        )
    if weight is not layer.weight:
        layer.weight.copy_(weight)
    return winners


def _padded(times: Tensor, layer: Spiking) -> Tensor:
    """With silent neurons around, so that inputs of all neurons are somewhere, and in order."""
    rows, columns = layer.shape.padding
    return fn.pad(times, (columns, columns, rows, rows), value=layer.time_steps).contiguous()


def _power_of_2(count: int) -> int:
    """The smallest that is no smaller."""
    return 1 << (count - 1).bit_length()


def _tiles(sizes: Sizes) -> int:
    """Of all neurons of a layer."""
    return sizes.tiles.positions * sizes.tiles.features * sizes.geometry.groups


def _at_once(device: torch.device) -> int:
    """How many programs run at once: one on each multiprocessor; Triton's interpreter runs one after the other."""
    return 1 if device.type == "cpu" else int(torch.cuda.get_device_properties(device).multi_processor_count)


def _on(times: Tensor) -> AbstractContextManager[Any]:
    """Launches go to the device of these times."""
    return torch.cuda.device(times.device) if times.is_cuda else nullcontext()
