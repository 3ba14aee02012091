"""Features by STDP."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from spyketorch import _checks as check
from spyketorch._identity import Content, users_own
from spyketorch._plasticity import Thresholds
from spyketorch.learning._layer import check_thresholds
from spyketorch.learning._multiplicative import MultiplicativeSTDP
from spyketorch.learning._stdp import STDP
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.snn import SpikingConvolution
from spyketorch.training import _diagnosis as diagnosis
from spyketorch.training._by_stdp import check_settings, decided, layer_of, paced
from spyketorch.training._diagnosis import Course
from spyketorch.training._lesson import Learned, Lesson, Period, wins, with_threshold
from spyketorch.training._patches import drawn, seen_alone
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
        thresholds: how thresholds, one per feature, adapt after each sample, such as
            :class:`spyketorch.learning.TargetTime`, whose rate follows the ``schedule`` as the others do; None leaves
            them. They are learned, and saved, as the weights are.
        steepness: short for ``plasticity=partial(MultiplicativeSTDP, steepness=...)``.
        patches: learn from one window of each image, where a neuron drawn by chance looks, in place of the whole map:
            a layer is learned in seconds.
        answering: the share of the thresholds it has learned that the layer answers with after the lesson: below 1 more
            neurons answer.
        plasticity: the rule in place of :class:`spyketorch.learning.STDP`: a class of such rules, as
            :class:`spyketorch.learning.VDSP`, or a ``functools.partial`` of one that holds further settings. It is
            called with the layer, the rates, the bounds and ``thresholds=``; ``use_stabilizer`` is for STDP alone.
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
    thresholds: Thresholds | None = None
    steepness: float | None = None
    patches: bool = False
    answering: float = 1.0
    plasticity: Callable[..., STDP] | None = None

    def __post_init__(self) -> None:
        check_settings(self, "rates")
        check.integer(self.minibatch, "minibatch", 1)
        check.share(self.homeostasis, "homeostasis")
        if self.threshold is not None:
            check.number(self.threshold, "threshold")
        check.flag(self.patches, "patches")
        if self.thresholds is not None:
            check_thresholds(self.thresholds)
        if self.steepness is not None:
            check.number(self.steepness, "steepness")
        if self.plasticity is not None:
            check.callable_(self.plasticity, "plasticity")
            if self.steepness is not None:
                raise check.fail("steepness", "None with `plasticity`, which has settings of its own", self.steepness)
        if self.homeostasis and self.thresholds is not None:
            raise check.fail("homeostasis", "0 with `thresholds`, which move the same", self.homeostasis)
        if self.learns_threshold and self.threshold is not None:
            way = "thresholds" if self.thresholds is not None else "homeostasis"
            raise check.fail("threshold", f"None with `{way}`, which moves the layer's own", self.threshold)
        if check.number(self.answering, "answering") <= 0:
            raise check.fail("answering", "a share above 0", self.answering)
        if self.answering != 1 and not self.learns_threshold:
            way = "give `layer.threshold` another value after learning"
            raise check.fail("answering", "1 without `thresholds` or `homeostasis`", self.answering, way)

    def rule(self, stage: Stage) -> STDP:
        lower, upper = self.bounds
        limits = {"lower_bound": lower, "upper_bound": upper, "thresholds": self.thresholds}
        made = self._makes(layer_of(stage), self.rates, **limits)
        if not isinstance(made, STDP):
            raise check.fail_type("plasticity", "None, or what makes a learning.STDP", made)
        return made

    @property
    def _makes(self) -> Callable[..., STDP]:
        """What makes the rule."""
        if self.plasticity is not None:
            return self.plasticity
        if self.steepness is not None:
            return partial(MultiplicativeSTDP, steepness=self.steepness)
        return partial(STDP, use_stabilizer=self.use_stabilizer)

    @property
    def _stabilized(self) -> bool:
        """Whether weights decide for a bound."""
        return self.use_stabilizer and self.steepness is None and self.plasticity is None

    def learn(self, rule: STDP, period: Period) -> Learned:
        layer: Any = rule.conv_layer
        factor, _ = factors(self.schedule, period.progress)
        with paced(rule, self.rates, factor) as rate, self.prepared(layer):
            fast = tuple(diagnosis.too_fast(rate, layer.weight, self.bounds, self._stabilized))
            times, winners = self._taught(rule, period)
        figures = decided(layer.weight, self.bounds, self._stabilized)
        if self.homeostasis:
            layer.threshold = self._moved(layer.threshold, wins(winners, layer.out_channels))
        if self.thresholds is not None:
            blank = 0.25 if self.patches else 0.0  # of the inputs of a patch; images are rarely so full
            figures |= {"unanswered": diagnosis.unanswered(times < layer.time_steps, winners, blank)}
        if self.answering != 1 and period.progress.seen + len(winners) >= period.progress.total:
            layer.threshold = layer.threshold * self.answering
        return Learned(winners, None, figures, fast)

    def _taught(self, rule: STDP, period: Period) -> tuple[Tensor, Tensor]:
        """What the rule has learned from, and the winners."""
        layer: Any = rule.conv_layer
        patches = drawn(period.times, layer, period.random) if self.patches else None
        times = period.times if patches is None else patches.times
        with nullcontext() if patches is None else seen_alone(layer):
            winners = rule.learn(
                times,
                self.kwta,
                self.inhibition_radius,
                pointwise_inhibition=self.pointwise_inhibition,
                minibatch=self.minibatch,
            )
        return times, winners if patches is None else patches.named(winners)

    def _moved(self, threshold: Tensor, wins: Tensor) -> Tensor:
        """Higher thresholds of features that win more than their part, lower ones of the others."""
        wins = wins.to(threshold)
        surplus = wins * len(wins) / wins.sum().clamp(min=1) - 1
        return threshold * (1 + self.homeostasis * surplus.clamp(max=1))

    def fits(self, network: Network, number: int) -> None:
        if self.learns_threshold and network.stages[number].layer.threshold is None:
            way = "thresholds" if self.thresholds is not None else "homeostasis"
            raise ValueError(f"`{way}` needs a layer with a threshold; this one fires at the last time step")

    def identity(self) -> str:
        named = {"thresholds": type(self.thresholds), "plasticity": getattr(self.plasticity, "func", self.plasticity)}
        own = {name: part for name, part in named.items() if getattr(self, name) is not None and users_own(part)}
        return told(self.schedule) + "".join(f"\ncode of {name} {Content()(part)[:16]}" for name, part in own.items())

    @property
    def learns_threshold(self) -> bool:
        return self.homeostasis > 0 or self.thresholds is not None

    def prepared(self, layer: SpikingConvolution) -> AbstractContextManager[None]:
        return nullcontext() if self.threshold is None else with_threshold(layer, self.threshold)

    def before(self, layer: SpikingConvolution) -> Iterator[str]:
        if self._stabilized:
            yield from diagnosis.on_bounds(layer.weight, self.bounds)
        yield from diagnosis.signs("rates", self.rates, (1, -1))

    def after(self, layer: SpikingConvolution, course: Course) -> Iterator[str]:
        yield from diagnosis.winners(course)
        yield from diagnosis.hasty(course, self.kwta)
        yield from diagnosis.undecided(course)
        yield from diagnosis.alike(course, layer.weight)
