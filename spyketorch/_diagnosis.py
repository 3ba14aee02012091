"""What can be told of a layer that learns: how far it is, and why it may get nowhere."""

import warnings
from dataclasses import dataclass

from torch import Tensor

from spyketorch import latency
from spyketorch._lessons import Lesson
from spyketorch.snn import SpikingConvolution


class TrainingWarning(UserWarning):
    """Why a network may not be learning, and what to change."""


@dataclass(frozen=True)
class Report:
    """A layer after its lesson.

    Attributes:
        layer: its number, from 1.
        convergence: mean of (w - lower) (upper - w) over (upper - lower)^2; 0.25 where all weights are undecided, 0
            where each is on a bound.
        silent: share of the images for which no neuron of the layer fires.
        spikes: output spikes per image.
        wins: how often each feature learned, ``(features,)``.
    """

    layer: int
    convergence: float
    silent: float
    spikes: float
    wins: Tensor

    @property
    def dead(self) -> int:
        """Features that never learned."""
        return int((self.wins == 0).sum())

    def __str__(self) -> str:
        return (
            f"layer {self.layer}: convergence {self.convergence:.3f}, {self.silent:.1%} of images silent, "
            f"{self.spikes:.0f} spikes per image, {self.dead} of {len(self.wins)} features never learned"
        )


def convergence(weight: Tensor, bounds: tuple[float, float]) -> float:
    lower, upper = bounds
    return float(((weight - lower) * (upper - weight)).mean() / (upper - lower) ** 2)


def warn_before(number: int, layer: SpikingConvolution, lesson: Lesson, times: Tensor) -> None:
    """Warn of what keeps a layer from learning, as a sample of its input shows."""

    def warn(text: str) -> None:
        warnings.warn(f"layer {number}: {text}", TrainingWarning, stacklevel=5)

    if bool((times == layer.time_steps).all()):
        warn(
            f"its input is silent on all of {len(times)} images. Look at what lies below: filter thresholds that are "
            "too high for images of that range (such as 0..1 instead of 0..255), or a layer that never fires."
        )
        return
    fired, _ = layer.respond(times, potentials=layer.threshold is None)
    if bool((fired == layer.time_steps).all()):
        highest = _highest(layer, times)
        limit = "0" if layer.threshold is None else f"{float(layer.threshold.min()):g}"
        warn(
            f"nothing fires: on {len(times)} images the largest potential is {highest:g}, the threshold {limit}. "
            "Lower the threshold, or raise weight_mean."
        )
    elif layer.threshold is not None and float((fired == 0).double().mean()) > 0.9:
        warn(
            "nearly every neuron fires at the first time step, so the order of spikes says nothing. Raise the "
            "threshold or lower weight_mean."
        )
    if lesson.use_stabilizer and convergence(layer.weight, lesson.bounds) < 1e-6:
        warn(
            f"weights start on their bounds {lesson.bounds}, where the stabilizer, (w - lower) * (upper - w), is 0 and "
            "nothing can change. Start between them (weight_mean=0.8), or set use_stabilizer=False."
        )


def warn_labels(number: int, labels: Tensor, classes: Tensor) -> None:
    """Warn of classes that no decision can name."""
    unknown = sorted(set(labels.tolist()) - set(classes.tolist()))
    if unknown:
        warnings.warn(
            f"layer {number}: no feature stands for the labels {str(unknown)[1:-1]:.60}, so all decisions on their "
            "images are wrong, and punished. Let labels and the `classes` of the network count from the same number.",
            TrainingWarning,
            stacklevel=4,
        )


def _highest(layer: SpikingConvolution, times: Tensor) -> float:
    """The largest potential that a layer reaches at the last step."""
    options = layer.geometry.options()
    _, potentials = latency.convolution_fire(times, layer.weight, None, time_steps=layer.time_steps, **options)
    return float(potentials.max())


def warn_after(number: int, wins: Tensor) -> None:
    """Warn where one feature did all the learning."""
    if len(wins) > 3 and wins.max() > 0.9 * wins.sum() > 0:
        warnings.warn(
            f"layer {number}: feature {int(wins.argmax())} won {wins.max() / wins.sum():.0%} of the time, so the "
            "others hardly learn. Give the weights more spread (weight_std), lower the learning rates, choose more "
            "winners with an inhibition radius (kwta), or let thresholds adapt (homeostasis=0.1).",
            TrainingWarning,
            stacklevel=4,
        )
