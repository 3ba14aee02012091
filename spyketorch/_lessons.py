"""What a layer is taught, and how its learning rates change on the way."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _diagnosis as diagnosis
from spyketorch._diagnosis import Course
from spyketorch.learning import RSTDP, STDP
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
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
        doublings = min(_known(progress).seen // self.every, 1000)  # a float holds no more than 1023
        factor = min(2.0**doublings, self.limit)
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


def factors(schedule: Schedule, progress: Progress) -> tuple[float, float]:
    """What a schedule says."""
    found: Any = schedule(progress)
    if not isinstance(found, Sequence) or len(found) != 2:
        raise check.fail("schedule", "a function that gives two factors, of the rates of reward and punishment", found)
    return check.number(found[0], "schedule"), check.number(found[1], "schedule")


def told(schedule: Schedule) -> str:
    """What a schedule says on the way, which its ``repr`` may not tell."""
    shares = [(0.0, 1.0, 0.0), (0.6, 0.3, 0.1)]
    on_the_way = [Progress(seen, 10_000, *share) for seen in (0, 499, 500, 5000, 9999) for share in shares]
    return f"factors of {type(schedule).__qualname__}: {[factors(schedule, progress) for progress in on_the_way]}"


@contextmanager
def paced(rule: STDP, named: Sequence[float], factor: float) -> Iterator[float]:
    """The rates of a rule times a factor, for a while; gives the largest.

    Where they are those that a lesson names, these count in all their digits.
    """
    stored, features = rule._stored(), range(rule.conv_layer.out_channels)
    rates = [stored[f"{kind}_{feature}"].data for feature in features for kind in ("ltp", "ltd")]
    kept = rule._rates
    made, exact = kept.cpu(), torch.tensor(named, dtype=torch.float64, device="cpu")
    pairs = (factor * torch.where(exact.to(made.dtype) == made, exact, made.double())).tolist()
    try:
        if all(pair == pairs[0] for pair in pairs):
            rule.update_all_learning_rate(*pairs[0])
        else:
            for feature, pair in enumerate(pairs):
                rule.update_learning_rate(feature, *pair)
        yield max(abs(rate) for pair in pairs for rate in pair)
    finally:
        torch._foreach_copy_(rates, list(kept.flatten().unbind()))


# Lessons


class Period(NamedTuple):
    """Some images, which a layer learns before its schedule is asked again.

    Attributes:
        times: first-spike times that the layer gets, ``(N, C, H, W)``, beside it, in the order they are learned in.
        labels: class of each, ``(N,)``, beside them; None where the trainer has none.
        classes: of the network's deciding features, ``(features,)``; None where it has none.
        progress: how far the lesson is, and how the last period went.
        random: what the lesson draws from, seeded by the run, the epoch and the images learned, so that a run that is
            resumed draws the same.
    """

    times: Tensor
    labels: Tensor | None
    classes: Tensor | None
    progress: Progress
    random: np.random.Generator


class Learned(NamedTuple):
    """What came of a period.

    Attributes:
        winners: of each image, (feature, row, column), int64 ``(N, k, 3)``, rows of -1 for none. Their features count
            as having learned; an image whose first row is none counts as silent.
        right: bool ``(N,)``, which images were decided right; None where the lesson decides nothing.
        figures: further numbers of the period, for the history, by name.
        warnings: why the network may not be learning, and what to change; texts that differ in numbers alone are told
            once.
    """

    winners: Tensor
    right: Tensor | None = None
    figures: Mapping[str, float] = MappingProxyType({})
    warnings: Sequence[str] = ()


@runtime_checkable
class Lesson(Protocol):
    """What a layer is taught: settings, a rule that learns, and how it learns one period of images.

    :class:`spyketorch.training.Trainer` knows no more of a lesson than this. What changes while it learns is state of
    the layer, or in ``rule``, whose ``state_dict`` is saved; the lesson itself stays as it is, best as a frozen
    dataclass, whose ``repr`` tells a checkpoint one from another. Those that inherit from this class write :meth:`rule`
    and :meth:`learn`, and what else is not as here. :func:`spyketorch.testing.check_lesson` holds them to it.

    Attributes:
        epochs: passes over the images.
        period: images that are learned between two checkpoints.
        needs_labels: whether it learns from labels.
    """

    needs_labels: ClassVar[bool] = False

    if TYPE_CHECKING:  # to be read alone, as the fields of a frozen dataclass

        @property
        def epochs(self) -> int:
            return 1

        @property
        def period(self) -> int:
            return 500
    else:
        epochs: int = 1
        period: int = 500

    @abstractmethod
    def rule(self, stage: Stage) -> nn.Module:
        """What learns, made anew for a stage; its ``state_dict`` holds all that changes with what it learned."""

    @abstractmethod
    def learn(self, rule: Any, period: Period) -> Learned:
        """Learn one period of images with the rule that :meth:`rule` made."""

    def fits(self, network: Network, number: int) -> None:
        """Raise a ValueError where stage ``number`` of the network cannot have this lesson."""

    def identity(self) -> str:
        """What tells this lesson from others beside its ``repr``, such as what its schedule says."""
        return ""

    @property
    def learns_threshold(self) -> bool:
        """Whether the layer's thresholds are learned, as its weights are."""
        return False

    def prepared(self, layer: SpikingConvolution) -> AbstractContextManager[None]:
        """The layer as it is while it learns, such as with another threshold; what is said before is said of that."""
        return nullcontext()

    def before(self, layer: SpikingConvolution) -> Iterable[str]:
        """What will keep the layer from learning, beside what keeps any."""
        return ()

    def after(self, layer: SpikingConvolution, course: Course) -> Iterable[str]:
        """What went wrong, beside a layer that has fallen silent; by default that few features learned."""
        return diagnosis.winners(course)

    def hints(self, layer: SpikingConvolution, size: Sequence[int]) -> Iterable[str]:
        """What is no fault, but may explain a result, of a layer that sees maps of that size."""
        return ()


@runtime_checkable
class FinalLesson(Protocol):
    """What is learned after the layers, from what the last one passes on for all images at once: a read-out.

    Attributes:
        passes: over the images, at most.
        needs_labels: whether it learns from labels.
    """

    needs_labels: ClassVar[bool] = True

    if TYPE_CHECKING:

        @property
        def passes(self) -> int:
            return 1
    else:
        passes: int = 1

    @abstractmethod
    def module(self, network: Network) -> nn.Module:
        """The part of the network that learns; a ValueError where it has none."""

    @abstractmethod
    def fit(self, module: Any, times: Tensor, labels: Tensor | None, tell: Callable[[float], None]) -> None:
        """Fit it to first-spike times ``(N, C, H, W)``; ``tell`` is called after each pass, with what it reached."""


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

    @property
    def learns_threshold(self) -> bool:
        return self.homeostasis > 0

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
        return Learned(winners, None, _figures(self, layer), fast)

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


@dataclass(frozen=True)
class Reinforced(Lesson):
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
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self, "reward", "punishment")
        if not 0 <= check.number(self.dropout, "dropout") < 1:
            raise check.fail("dropout", "a share of at least 0 and below 1", self.dropout)
        check.correction(self.correction)

    def rule(self, stage: Stage) -> RSTDP:
        return RSTDP(_layer(stage), self.reward, self.punishment, self.use_stabilizer, *self.bounds)

    def learn(self, rule: RSTDP, period: Period) -> Learned:
        times, labels, classes, progress, random = period
        assert labels is not None and classes is not None
        layer = rule.reward.conv_layer
        active = None
        if self.dropout:
            stays = random.random((len(times), layer.out_channels)) >= self.dropout
            active = torch.from_numpy(stays).to(times.device)
        reward, punishment = factors(self.schedule, progress)
        with (
            paced(rule.reward, self.reward, reward) as rate,
            paced(rule.punishment, self.punishment, punishment) as other,
        ):
            fast = tuple(diagnosis.too_fast(max(rate, other), layer.weight, self.bounds, self.use_stabilizer))
            winners = rule.learn(
                times,
                labels,
                classes,
                self.kwta,
                self.inhibition_radius,
                pointwise_inhibition=self.pointwise_inhibition,
                correction=self.correction,
                active=active,
            )
        first = winners[:, 0, 0]
        right = (classes[first.clamp(min=0)] == labels) & (first >= 0)
        return Learned(winners, right, _figures(self, layer), fast)

    def fits(self, network: Network, number: int) -> None:
        classes = network.classes
        if classes is None or len(classes) != network.stages[number].layer.out_channels:
            way = "" if classes is not None else "give `Network(..., classes=...)`, the class of each of its features"
            raise check.fail("lessons", "Reinforced for the layer alone whose features have `classes`", self, way)
        if network.readout is None:
            network._deciding()

    def identity(self) -> str:
        return told(self.schedule)

    def before(self, layer: SpikingConvolution) -> Iterator[str]:
        if self.use_stabilizer:
            yield from diagnosis.on_bounds(layer.weight, self.bounds)
        yield from diagnosis.signs("reward", self.reward, (1, -1))
        yield from diagnosis.signs("punishment", self.punishment, (-1, 1))

    def after(self, layer: SpikingConvolution, course: Course) -> Iterator[str]:
        yield from diagnosis.deciding(course)
        yield from diagnosis.chance(course)

    def hints(self, layer: SpikingConvolution, size: Sequence[int]) -> Iterator[str]:
        return diagnosis.window(layer, size)


@dataclass(frozen=True)
class Readout(FinalLesson):
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

    @property
    def passes(self) -> int:
        return self.iterations

    def module(self, network: Network) -> LinearReadout:
        if not isinstance(network.readout, LinearReadout):
            raise check.fail("lessons", "without Readout where the network's `readout` is no LinearReadout", self)
        return network.readout

    def fit(self, module: LinearReadout, times: Tensor, labels: Tensor | None, tell: Callable[[float], None]) -> None:
        assert labels is not None
        module.fit(times, labels, penalty=self.penalty, iterations=self.iterations, tell=tell)


def _layer(stage: Stage) -> SpikingConvolution:
    if not isinstance(stage, Stage):
        raise check.fail_type("stage", "a models.Stage", stage)
    return stage.layer


def _check(lesson: Unsupervised | Reinforced, *rates: str) -> None:
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


def _figures(lesson: Unsupervised | Reinforced, layer: Any) -> dict[str, float]:
    """What the history holds of the weights: how far they have decided, where a stabilizer lets them."""
    return {"convergence": diagnosis.convergence(layer.weight, lesson.bounds)} if lesson.use_stabilizer else {}


def wins(winners: Tensor, features: int) -> Tensor:
    """How often each feature won."""
    won = winners[..., 0].flatten()
    return torch.zeros(features, dtype=torch.int64, device=won.device).index_add_(
        0, won.clamp(min=0), (won >= 0).long()
    )


@contextmanager
def with_threshold(layer: Any, threshold: float | None) -> Iterator[None]:
    """The layer with another threshold than its own."""
    own, layer.threshold = layer.threshold, threshold
    try:
        yield
    finally:
        layer.threshold = own
