"""Thresholds that fit the data: from what share of the neurons is to fire, or when the first of an image does."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency, neurons
from spyketorch.data._source import Images, Source, sourced
from spyketorch.models._batches import batch_size
from spyketorch.models._images import looked_at
from spyketorch.models._network import Network
from spyketorch.snn import SpikingConvolution
from spyketorch.training._diagnosis import TrainingWarning

_IMAGES = 1000  # that are looked at
_MOST = 2**25  # potentials that are looked at; of more, as many that are evenly spread


class Calibration(NamedTuple):
    """A layer whose threshold was set.

    Attributes:
        layer: its number, from 1.
        before, after: its threshold, a tensor ``()`` or ``(features,)``.
        share: of the neurons that fire now.
        places: share of the places at which a feature fires.
        first: when the first neuron of an image fires, the median, as a share of the time steps; 1 is silent.
        silent: share of the images in which none does.
    """

    layer: int
    before: Tensor
    after: Tensor
    share: float
    places: float
    first: float
    silent: float

    def __str__(self) -> str:
        return (
            f"layer {self.layer}: threshold {_span(self.before)} -> {_span(self.after)}, {self.share:.1%} of the "
            f"neurons fire, at {self.places:.1%} of the places, the first after {self.first:.0%} of the time steps; "
            f"{self.silent:.1%} of images silent"
        )


Target = float | Sequence[float | None]


def calibrate(
    network: Network,
    images: Images,
    *,
    share: Target | None = None,
    places: Target | None = None,
    first: Target | None = None,
) -> list[Calibration]:
    """Set the threshold of each layer, from the image up, so that it fires as much, or as early, as wanted.

    The threshold lies half-way between the two potentials that it has to part: it is found exactly, without a search.
    Weights stay as they are; after a layer has learned, other potentials arise, so calibrate anew what should answer
    as much as before. Layers in which only the last time step counts (``threshold=None``), which decide, are left.

    Args:
        network: whose layers are set. Features that have thresholds of their own keep the ratio of them.
        images: as its encoder takes them, in any of the forms of :meth:`Trainer.fit`; of more than 1000 so many are
            taken that are evenly spread, so that all classes of a sorted data set are among them.
        share: how many of the neurons fire, 0..1, on average. Give one of these three: a number for all layers, or a
            list of one per stage, None for those that stay.
        places: at how many of an image's places a feature fires, 0..1.
        first: when the first neuron of an image fires, as a share of the time steps: half of the images have a spike by
            then. Layers fire after what they hear, so a list names later times for later layers.

    Returns:
        What came of each layer that was set; ``print`` tells it in a line.

    Warns:
        TrainingWarning: a target that no threshold meets, as too few neurons hear anything, or too many hear the same.

    Example:
        >>> from spyketorch import models
        >>> network, images = models.kheradpisheh2018(), torch.rand(8, 1, 28, 28) * 255
        >>> found = calibrate(network, images, share=[0.1, 0.05])
        >>> [round(layer.share, 2) for layer in found]
        [0.1, 0.05]
    """
    if not isinstance(network, Network):
        raise check.fail_type("network", "a models.Network", network)
    network._ready()
    kind, targets = _targets(network, {"share": share, "places": places, "first": first})
    source = sourced(images)
    with torch.no_grad(), looked_at(network.images, source.at_hand, stacklevel=4):
        parts = [network._encode(part) for part in _spread(network, source)]
        found = []
        for number, (stage, target) in enumerate(zip(network.stages, targets, strict=True), 1):
            if target is not None:
                found.append(_set(stage.layer, parts, _KINDS[kind], target, number))
                _judge(found[-1], kind, target, 1 / stage.layer.time_steps)
            if any(later is not None for later in targets[number:]):
                parts = [stage(times) for times in parts]
    return found


def _spread(network: Network, source: Source) -> Iterator[Tensor]:
    """Some hundred images, of all parts of the data set, beside the network."""
    device, seen = network.device, 0
    step = -(-(source.count or 1) // _IMAGES)
    for part in source.chunks(batch_size(network, source.head)):
        some = part[-seen % step :: step]
        seen += len(part)
        if len(some):
            yield some.to(device)


class _Kind(NamedTuple):
    """A target: which potentials are looked at, by which step, and how many of them are to be above the threshold."""

    of: Callable[[Tensor], Tensor]
    by: Callable[[float, int], int]
    wanted: Callable[[float, int], int]


_KINDS = {
    "share": _Kind(lambda p: p.flatten(), lambda target, steps: steps - 1, lambda target, n: round(target * n)),
    "places": _Kind(
        lambda p: p.amax(1).flatten(), lambda target, steps: steps - 1, lambda target, n: round(target * n)
    ),
    "first": _Kind(
        lambda p: p.flatten(1).amax(1),
        lambda target, steps: min(int(target * steps), steps - 1),
        lambda target, n: -(-n // 2),
    ),
}


def _targets(network: Network, given: dict[str, Any]) -> tuple[str, list[float | None]]:
    """Which one is given, and its value for each stage."""
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        raise ValueError(
            f"calibrate needs one of `share`, `places` and `first`, such as share=0.1; got {named or 'none'}"
        )
    ((name, value),) = named.items()
    thresholds = [stage.layer.threshold for stage in network.stages]
    several = isinstance(value, Sequence) and not isinstance(value, str)
    wished = [*value] if several else [None if limit is None else value for limit in thresholds]
    targets = [None if target is None else check.number(target, name) for target in wished]
    accepted = f"a number, or a list of one per stage, {len(thresholds)}, None for those that stay"
    if len(targets) != len(thresholds):
        raise check.fail(name, accepted, value)
    for number, (target, limit) in enumerate(zip(targets, thresholds, strict=True), 1):
        if target is not None and not 0 < target <= 1:
            raise check.fail(name, "a share above 0, at most 1", target)
        if target is not None and limit is None:
            raise check.fail(name, f"None for stage {number}, which fires at the last time step", value)
    if all(target is None for target in targets):
        raise check.fail("network", "one with a layer that has a threshold", network)
    return name, targets


def _set(layer: SpikingConvolution, parts: list[Tensor], kind: _Kind, target: float, number: int) -> Calibration:
    """Set the threshold of one layer, by the times that it gets."""
    limit, before = layer.limit(), layer.threshold
    assert limit is not None and before is not None
    alike = bool(limit.min() == limit.max()) or bool(limit.min() <= 0)
    before, unit = before.clone(), None if alike else limit.view(-1, 1, 1)
    step, values = kind.by(target, layer.time_steps), []
    for times in parts:
        peaks = _peaks(layer, times, step)
        values.append(kind.of(peaks if unit is None else peaks / unit))
    total = sum(map(len, values))
    thinned = torch.cat([some[:: -(-total // _MOST)] for some in values])
    threshold = _parting(thinned, kind.wanted(target, len(thinned)))
    if threshold is not None:
        layer.threshold = threshold if unit is None else threshold * limit  # type: ignore[assignment]
    fires = [layer(times) for times in parts]
    spikes = torch.cat([check.wide((fired < layer.time_steps).flatten(1)).mean(1) for fired in fires])
    places = torch.cat([check.wide((fired < layer.time_steps).any(1).flatten(1)).mean(1) for fired in fires])
    earliest = torch.cat([check.wide(fired.flatten(1).amin(1)) for fired in fires]).sort().values
    return Calibration(
        layer=number,
        before=before,
        after=torch.as_tensor(layer.threshold).clone(),
        share=float(spikes.mean()),
        places=float(places.mean()),
        first=float(earliest[(len(earliest) - 1) // 2]) / layer.time_steps,
        silent=float(check.wide(spikes == 0).mean()),
    )


def _peaks(layer: SpikingConvolution, times: Tensor, step: int) -> Tensor:
    """The largest potential of each neuron up to a time step, at least 0."""
    options, steps = layer.geometry.options(), layer.time_steps
    if neurons._stands_still(layer.neuron) and bool((layer.weight >= 0).all()):  # it never falls
        heard = torch.where(times <= step, times, steps)
        return latency.convolution_fire(heard, layer.weight, None, time_steps=steps, **options)[1]
    peaks = []
    for some in times:
        heard = sf.convolution(latency.to_wave(some, steps, layer.weight.dtype), layer.weight, **options)
        peaks.append(neurons.potentials(heard, layer.neuron)[: step + 1].amax(0))
    return torch.stack(peaks).clamp(min=0)


def _parting(values: Tensor, count: int) -> float | None:
    """A number that ``count`` of the values are above, or as nearly so many as equal values let; None where all are 0.

    It lies half-way between the values that it parts, so that no rounding of a sum moves one to its other side.
    """
    values = values[values > 0]
    if not len(values):
        return None
    count = min(max(count, 1), len(values))
    at = values.kthvalue(len(values) - count + 1).values
    higher, lower = values[values > at], values[values < at]
    if len(higher) and count - len(higher) < len(values) - len(lower) - count:
        return _between(at, higher.amin())
    return _between(lower.amax() if len(lower) else torch.zeros_like(at), at)


def _between(low: Tensor, high: Tensor) -> float:
    middle = ((check.wide(low) + check.wide(high)) / 2).to(low.dtype)
    return float(middle if middle < high else low)


def _judge(found: Calibration, kind: str, target: float, step: float) -> None:
    """Warn where a target is missed by more than a tenth of it, or a step."""
    reached: float = getattr(found, kind)
    if kind == "first":
        missed = not target - 2 * step < reached <= target
        way = "a later time" if reached > target else "an earlier time"
        text = f"half of its images have a spike by {reached:.0%} of the time steps"
    else:
        missed, way = abs(reached - target) > 0.1 * target, "another share"
        text = f"{reached:.1%} of its {'neurons fire' if kind == 'share' else 'places have a spike'}"
    if missed:
        warnings.warn(
            f"layer {found.layer}: no threshold meets {kind}={target:g}: with the nearest {text}, as too few neurons "
            f"hear enough, or too many the same. Look at what lies below it, or take {way}.",
            TrainingWarning,
            stacklevel=3,
        )


def _span(threshold: Tensor) -> str:
    low, high = float(threshold.min()), float(threshold.max())
    return f"{low:.4g}" if low == high else f"{low:.4g}..{high:.4g}"
