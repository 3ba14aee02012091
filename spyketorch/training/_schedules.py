"""How learning rates change on the way."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spyketorch import _checks as check


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
class Decaying:
    """From the full rates at the start to ``to`` times the rates at the end, by the same share in each epoch.

    0.0076 is that of 30 epochs, each of which leaves 0.85.
    """

    to: float = 0.01

    def __post_init__(self) -> None:
        if check.number(self.to, "to") <= 0:
            raise check.fail("to", "above 0, as no share that is left ends there; Fading does", self.to)

    def __call__(self, progress: Progress) -> tuple[float, float]:
        factor = self.to ** (_known(progress).seen / progress.total)
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
