"""Features by STDP."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spyketorch import _checks as check
from spyketorch.learning._stdp import STDP
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.snn import SpikingConvolution
from spyketorch.training import _diagnosis as diagnosis
from spyketorch.training._by_stdp import check_settings, decided, layer_of, paced
from spyketorch.training._diagnosis import Course
from spyketorch.training._lesson import Learned, Lesson, Period, wins, with_threshold
from spyketorch.training._schedules import Doubling, Schedule, factors, told


@dataclass(frozen=True)
class Unsupervised(Lesson):
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
        check_settings(self, "rates")
        check.integer(self.minibatch, "minibatch", 1)
        if not 0 <= check.number(self.homeostasis, "homeostasis") < 1:
            raise check.fail("homeostasis", "a share of at least 0 and below 1", self.homeostasis)
        if self.threshold is not None:
            check.number(self.threshold, "threshold")
        if self.homeostasis and self.threshold is not None:
            raise check.fail("threshold", "None with homeostasis, which moves the layer's own", self.threshold)

    def rule(self, stage: Stage) -> STDP:
        return STDP(layer_of(stage), self.rates, self.use_stabilizer, *self.bounds)

    def learn(self, rule: STDP, period: Period) -> Learned:
        layer: Any = rule.conv_layer
        factor, _ = factors(self.schedule, period.progress)
        with paced(rule, self.rates, factor) as rate, self.prepared(layer):
            fast = tuple(diagnosis.too_fast(rate, layer.weight, self.bounds, self.use_stabilizer))
            winners = rule.learn(
                period.times,
                self.kwta,
                self.inhibition_radius,
                pointwise_inhibition=self.pointwise_inhibition,
                minibatch=self.minibatch,
            )
        if self.homeostasis:
            layer.threshold = self._moved(layer.threshold, wins(winners, layer.out_channels))
        return Learned(winners, None, decided(layer.weight, self.bounds, self.use_stabilizer), fast)

    def _moved(self, threshold: Tensor, wins: Tensor) -> Tensor:
        """Higher thresholds of features that win more than their part, lower ones of the others."""
        wins = wins.to(threshold)
        surplus = wins * len(wins) / wins.sum().clamp(min=1) - 1
        return threshold * (1 + self.homeostasis * surplus.clamp(max=1))

    def fits(self, network: Network, number: int) -> None:
        if self.homeostasis and network.stages[number].layer.threshold is None:
            raise ValueError("`homeostasis` needs a layer with a threshold; this one fires at the last time step")

    def identity(self) -> str:
        return told(self.schedule)

    @property
    def learns_threshold(self) -> bool:
        return self.homeostasis > 0

    def prepared(self, layer: SpikingConvolution) -> AbstractContextManager[None]:
        return nullcontext() if self.threshold is None else with_threshold(layer, self.threshold)

    def before(self, layer: SpikingConvolution) -> Iterator[str]:
        if self.use_stabilizer:
            yield from diagnosis.on_bounds(layer.weight, self.bounds)
        yield from diagnosis.signs("rates", self.rates, (1, -1))

    def after(self, layer: SpikingConvolution, course: Course) -> Iterator[str]:
        yield from diagnosis.winners(course)
        yield from diagnosis.hasty(course, self.kwta)
        yield from diagnosis.alike(course, layer.weight)
