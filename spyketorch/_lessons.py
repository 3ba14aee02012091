"""What a layer is taught, and how its learning rates change on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spyketorch import _checks as check
from spyketorch.learning import RSTDP, STDP
from spyketorch.models import Stage
from spyketorch.snn import SpikingConvolution

# Learning rates over time


@dataclass(frozen=True)
class Progress:
    """Where a lesson stands, and how the last period went.

    Attributes:
        seen: images learned so far, all epochs together.
        total: images of the whole lesson.
        hits, misses, silent: shares of the last period's images that were decided right, wrong, not at all.
    """

    seen: int
    total: int
    hits: float = 0.0
    misses: float = 1.0
    silent: float = 0.0


def _known(progress: Progress) -> Progress:
    if not isinstance(progress, Progress):
        raise check.fail_type("progress", "a training.Progress", progress)
    return progress


class Schedule(Protocol):
    """Factors on the learning rates of reward (or plain STDP) and of punishment, from the state of the lesson alone."""

    def __call__(self, progress: Progress) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Constant:
    """Rates as given."""

    def __call__(self, progress: Progress) -> tuple[float, float]:
        return 1.0, 1.0


@dataclass(frozen=True)
class Doubling:
    """Start slowly, so that features part, then double every ``every`` images up to ``limit`` times the rates.

    The published networks go from an LTP rate of 0.004 to 0.15, a factor of 37.5.
    """

    every: int = 500
    limit: float = 37.5

    def __post_init__(self) -> None:
        check.integer(self.every, "every", 1)
        check.number(self.limit, "limit")

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factor = min(2.0 ** (_known(progress).seen // self.every), self.limit)
        return factor, factor


@dataclass(frozen=True)
class Fading:
    """From the full rates at the start to ``to`` times the rates at the end, in a straight line."""

    to: float = 0.05

    def __post_init__(self) -> None:
        check.number(self.to, "to")

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factor = 1 - (1 - self.to) * _known(progress).seen / progress.total
        return factor, factor


@dataclass(frozen=True)
class Adaptive:
    """Rewards count more the more mistakes there are, punishments the more hits: shares of the last period.

    Mozafari et al. 2018, equations 4 and 5. ``floor`` is the least factor.
    """

    floor: float = 0.0

    def __post_init__(self) -> None:
        check.number(self.floor, "floor")

    def __call__(self, progress: Progress) -> tuple[float, float]:
        return max(_known(progress).misses, self.floor), max(progress.hits, self.floor)


@dataclass(frozen=True)
class Combined:
    """The product of several schedules, such as ``Combined((Adaptive(), Fading()))``."""

    schedules: tuple[Schedule, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.schedules, Sequence) or not all(map(callable, self.schedules)):
            raise check.fail_type("schedules", "a tuple of schedules", self.schedules)

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factors = [schedule(progress) for schedule in self.schedules]
        return math.prod(f[0] for f in factors), math.prod(f[1] for f in factors)


# Lessons


@dataclass(frozen=True)
class Unsupervised:
    """Features by STDP, without labels.

    Args:
        kwta, inhibition_radius, pointwise_inhibition: who learns, as in :meth:`spyketorch.learning.STDP.learn`.
        rates: (LTP, LTD).
        schedule: factors on the rates, renewed each period. Where a subclass makes a ``rule`` of its own, they multiply
            the rates that it was made with, one pair per feature or for all.
        bounds, use_stabilizer: as for :class:`spyketorch.learning.STDP`.
        epochs: passes over the images.
        period: images between two looks at the schedule, and between two checkpoints.
        minibatch: images that answer with the same weights before their updates are applied in order. 1 is exactly
            online. Larger ones suit a GPU; what they cost in accuracy is in docs/training.md.
        homeostasis: how far thresholds move, as a share, for a feature that wins twice its part of the time; features
            that win less get lower ones, and the ``state_dict`` of the network holds them. 0 keeps them as they are.
        threshold: of the layer while it learns; None for its own. A lower one makes features of the few first inputs,
            which answer more selectively at the threshold of their own.
    """

    kwta: int = 1
    inhibition_radius: int = 0
    pointwise_inhibition: bool = True
    rates: tuple[float, float] = (0.004, -0.003)
    schedule: Schedule = field(default_factory=Doubling)
    bounds: tuple[float, float] = (0.0, 1.0)
    use_stabilizer: bool = True
    epochs: int = 1
    period: int = 500
    minibatch: int = 1
    homeostasis: float = 0.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        _check(self, "rates")
        check.integer(self.minibatch, "minibatch", 1)
        if not 0 <= check.number(self.homeostasis, "homeostasis") < 1:
            raise check.fail("homeostasis", "a share of at least 0 and below 1", self.homeostasis)
        if self.threshold is not None:
            check.number(self.threshold, "threshold")
        if self.homeostasis and self.threshold is not None:
            raise check.fail("threshold", "None with homeostasis, which moves the layer's own", self.threshold)

    def rule(self, stage: Stage) -> STDP:
        return STDP(_layer(stage), self.rates, self.use_stabilizer, *self.bounds)


@dataclass(frozen=True)
class Reinforced:
    """Decisions by R-STDP: the first winner names the class and is rewarded or punished.

    Args:
        kwta, inhibition_radius, pointwise_inhibition, correction: as in :meth:`spyketorch.learning.RSTDP.learn`.
        reward, punishment: (LTP, LTD) of right and of wrong decisions.
        dropout: share of the features that sit out each image, chosen anew.
        schedule, bounds, use_stabilizer, epochs, period: as for :class:`Unsupervised`.
    """

    kwta: int = 1
    inhibition_radius: int = 0
    pointwise_inhibition: bool = False
    correction: str | None = None
    reward: tuple[float, float] = (0.004, -0.003)
    punishment: tuple[float, float] = (-0.004, 0.0005)
    schedule: Schedule = field(default_factory=Adaptive)
    dropout: float = 0.0
    bounds: tuple[float, float] = (0.2, 0.8)
    use_stabilizer: bool = False
    epochs: int = 1
    period: int = 500

    def __post_init__(self) -> None:
        _check(self, "reward", "punishment")
        if not 0 <= check.number(self.dropout, "dropout") < 1:
            raise check.fail("dropout", "a share of at least 0 and below 1", self.dropout)
        check.correction(self.correction)

    def rule(self, stage: Stage) -> RSTDP:
        return RSTDP(_layer(stage), self.reward, self.punishment, self.use_stabilizer, *self.bounds)


@dataclass(frozen=True)
class Readout:
    """Decisions by a linear read-out of the last stage, the last lesson; the network's ``readout`` must be one.

    Args:
        penalty, iterations: as in :meth:`spyketorch.readout.LinearReadout.fit`.
    """

    penalty: float = 1e-3
    iterations: int = 100

    def __post_init__(self) -> None:
        if check.number(self.penalty, "penalty") < 0:
            raise check.fail("penalty", "0 or more", self.penalty)
        check.integer(self.iterations, "iterations", 1)


Lesson = Unsupervised | Reinforced


def _layer(stage: Stage) -> SpikingConvolution:
    if not isinstance(stage, Stage):
        raise check.fail_type("stage", "a models.Stage", stage)
    return stage.layer


def _check(lesson: Lesson, *rates: str) -> None:
    """What would fail when the layer's turn comes, perhaps hours later, or never end."""
    for name, minimum in (("kwta", 1), ("inhibition_radius", 0), ("epochs", 1), ("period", 1)):
        check.integer(getattr(lesson, name), name, minimum)
    for name in rates:
        pair = getattr(lesson, name)
        if not isinstance(pair, Sequence) or len(pair) != 2:
            raise check.fail(name, "a pair (LTP, LTD)", pair)
        for rate in pair:
            check.number(rate, name)
    for name in ("pointwise_inhibition", "use_stabilizer"):
        check.flag(getattr(lesson, name), name)
    check.span(lesson.bounds, "bounds")
    check.callable_(lesson.schedule, "schedule")
