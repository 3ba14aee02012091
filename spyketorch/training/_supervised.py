"""Decisions by supervised STDP."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.learning._supervised import Competition, SupervisedSTDP, check_competition
from spyketorch.models._network import Network
from spyketorch.readout._first_spike import FirstSpikeReadout
from spyketorch.training import _diagnosis as diagnosis
from spyketorch.training._lesson import FinalLesson, Following
from spyketorch.training._schedules import Decaying, Progress, Schedule, factors, told

_AT_ONCE = 500  # images between two looks at whether to stop
_KNOWN = 5000  # images that tell what inputs give on average


class _Pupil(nn.Module):
    """A rule and how far it is: what it has learned by now, and the weights that would be kept.

    The weights of the read-out are those that learn. ``recent`` are those after the last passes, whose mean is kept.
    """

    passes: Tensor
    rates: Tensor
    best: Tensor
    since: Tensor
    recent: Tensor
    kept: Tensor

    def __init__(self, readout: FirstSpikeReadout, rule: SupervisedSTDP, averaged: int) -> None:
        super().__init__()
        self.readout, self.rule = readout, rule
        for name, value in (("passes", 0), ("since", 0)):
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("rates", torch.zeros(2, dtype=torch.float64))
        self.register_buffer("best", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("recent", readout.weight.new_zeros(averaged, *readout.weight.shape))
        self.register_buffer("kept", readout.weight.detach().clone())

    def answer(self) -> Tensor:
        """The weights that would answer after this pass: the mean of those after the last ones."""
        number = int(self.passes) % len(self.recent)
        self.recent[number] = self.readout.weight
        self.passes += 1
        return self.recent[: int(self.passes)].mean(0)


@dataclass(frozen=True)
class Supervised(FinalLesson):
    """Decisions by supervised STDP, :class:`spyketorch.learning.SupervisedSTDP`; the last lesson.

    The network's ``readout`` must be a :class:`spyketorch.readout.FirstSpikeReadout`. The history tells of each epoch
    ``hits``, the share of right decisions while it learned; ``latency``, the mean time of the first neuron of each
    class, as a share of all time steps; and ``held_out``, the share of right decisions on images put aside.

    Args:
        epochs: passes over the images.
        step: share of an error in time that one image takes away, about, in the first epoch; it gives the rates (a, -a)
            by :meth:`spyketorch.readout.FirstSpikeReadout.gain`, whatever the number of inputs.
        rates: (LTP, LTD) of the first epoch, in place of ``step``.
        gap, bounds: as for :class:`spyketorch.learning.SupervisedSTDP`.
        competition: the same; None for none.
        covariance: depress each input by what it gives on average, which the first 5,000 images tell; False learns by
            the rule as it was published, and needs ``rates``, such as (0.5, -0.1) with a latency of 1.1.
        fade: share of the lift of the competition that each epoch leaves to the next.
        schedule: factors on the rates, renewed each epoch; the second one is not used.
        latency: when the neurons are to fire on average, as a share of all time steps, which gives their threshold, by
            :meth:`spyketorch.readout.FirstSpikeReadout.calibrate`; ramp neurons may fire after the last step.
        held_out: share of the images, drawn by chance, that are put aside.
        patience: stop after so many epochs that were no better on the images put aside, and keep the best. None learns
            all epochs and keeps the last.
        averaged: how many of the last epochs' weights are averaged.
    """

    epochs: int = 10
    step: float = 0.3
    rates: tuple[float, float] | None = None
    gap: float = 0.05
    bounds: tuple[float, float] = (0.0, 1.0)
    competition: Competition | None = field(default_factory=Competition)
    fade: float = 0.5
    covariance: bool = True
    schedule: Schedule = field(default_factory=lambda: Decaying(to=0.08))
    latency: float = 1.5
    held_out: float = 0.0
    patience: int | None = None
    averaged: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "averaged"):
            check.integer(getattr(self, name), name, 1)
        check.flag(self.covariance, "covariance")
        check.number(self.step, "step", 0)
        if self.rates is None and not self.covariance:
            raise check.fail("rates", "a pair (LTP, LTD) without `covariance`, such as (0.5, -0.1)", self.rates)
        if self.rates is not None and (not isinstance(self.rates, Sequence) or len(self.rates) != 2):
            raise check.fail("rates", "a pair (LTP, LTD), or None", self.rates)
        for rate in self.rates or ():
            check.number(rate, "rates")
        check.number(self.gap, "gap")
        check.span(self.bounds, "bounds")
        if not 0 <= check.number(self.fade, "fade") <= 1:
            raise check.fail("fade", "a share, 0..1", self.fade)
        check.callable_(self.schedule, "schedule")
        if check.number(self.latency, "latency") <= 0:
            raise check.fail("latency", "above 0", self.latency)
        check.share(self.held_out, "held_out")
        if self.patience is not None:
            check.integer(self.patience, "patience", 1)
            if self.held_out == 0:
                way = "`held_out=0.1` puts a tenth of the images aside"
                raise check.fail("patience", "None without images put aside", self.patience, way)
        factors(self.schedule, Progress(0, 1, 0, 1, 0))

    @property
    def passes(self) -> int:
        return self.epochs

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__dataclass_fields__)
        return f"Supervised({fields}, factors {told(self.schedule)})"

    def module(self, network: Network) -> FirstSpikeReadout:
        readout = network.readout
        if not isinstance(readout, FirstSpikeReadout):
            raise check.fail(
                "lessons",
                "without Supervised where the network's `readout` is no FirstSpikeReadout",
                self,
                "`network.readout = FirstSpikeReadout(shape, classes, per_class, time_steps=T)` gives it one, of the "
                "shape that `network.features(images[:1]).shape[1:]` has",
            )
        if self.competition is not None:
            check_competition(self.competition, readout.per_class)
        return readout

    def fits(self, module: FirstSpikeReadout, labels: Tensor | None) -> None:
        check.labels_within(labels, module.classes)
        if labels is not None:
            self._put_aside(len(labels))

    def rule(self, module: nn.Module) -> _Pupil:
        assert isinstance(module, FirstSpikeReadout)
        expected = torch.ones_like(module.weight[0]) if self.covariance else None  # known once images are
        how: dict[str, Any] = {"competition": self.competition, "expected": expected}
        rule = SupervisedSTDP(module, self.rates or (0.0, 0.0), self.gap, *self.bounds, **how)
        return _Pupil(module, rule, self.averaged)

    @torch.no_grad()
    def fit(self, rule: _Pupil, times: Tensor, labels: Tensor | None, follow: Following) -> None:
        assert labels is not None
        learned, aside = self._apart(len(times), follow)
        rows: list[dict[str, float]] = []
        if int(rule.passes) == 0:
            some = self._some(rule, times, learned[:_KNOWN])
            rule.readout.calibrate(some, self.latency)
            rule.rule.expect(rule.readout.expected(some, self.latency) if self.covariance else None)
            rate = self.step / rule.readout.gain(some, self.latency) if self.rates is None and self.step else 0.0
            rule.rates.copy_(torch.tensor(self.rates or (rate, -rate), dtype=torch.float64))
        for number in range(int(rule.passes), self.epochs):
            if self.patience is not None and int(rule.since) >= self.patience:
                break
            order = learned[torch.from_numpy(follow.random(number).permutation(len(learned)))]
            figures = {"hits": self._learn(rule, number, times, labels, order, follow)}
            figures |= self._judge(rule, times, labels, learned, aside)
            follow.passed(figures)
            rows.append(figures)
        rule.readout.weight.copy_(rule.kept)
        if rows:
            first = rule.readout.fire(self._some(rule, times, learned[:_AT_ONCE])).amin(1)
            unheard = 1 - float(check.wide(torch.isfinite(first)).mean())
            for text in diagnosis.taught_times(rows, labels[learned], unheard):
                follow.warn(text)

    def _apart(self, images: int, follow: Following) -> tuple[Tensor, Tensor]:
        """Images to learn and those put aside, in the order of the images; the same in each pass."""
        count = self._put_aside(images)
        drawn = torch.from_numpy(follow.random(self.epochs).permutation(images))
        return drawn[count:].sort().values, drawn[:count].sort().values

    def _put_aside(self, images: int) -> int:
        """How many images."""
        count = round(self.held_out * images)
        if count == images or (self.held_out > 0 and count == 0):
            raise check.fail("held_out", f"a share that puts some of the {images} images aside, not all", self.held_out)
        return count

    def _learn(
        self, rule: _Pupil, number: int, times: Tensor, labels: Tensor, order: Tensor, follow: Following
    ) -> float:
        """One epoch; the share of images that were decided right before they were learned."""
        teacher, device, right = rule.rule, rule.readout.weight.device, 0
        factor, _ = factors(self.schedule, Progress(number, self.epochs, 0, 1, 0))
        ltp, ltd = (factor * rule.rates).tolist()
        teacher.learning_rate = ltp, ltd
        if self.competition is not None:
            teacher.competition = self.competition._replace(lift=self.competition.lift * self.fade**number)
        teacher.relax()
        for some in torch.split(order, _AT_ONCE):
            answered = teacher.learn(times[some].to(device), labels[some].to(device))
            right += int((answered.classes == labels[some].to(device)).sum())
            follow.heard(len(some))
        return right / len(order)

    def _judge(self, rule: _Pupil, times: Tensor, labels: Tensor, learned: Tensor, aside: Tensor) -> dict[str, float]:
        """How the weights that would be kept now answer; they are kept where they are the best."""
        readout, learning, answer = rule.readout, rule.readout.weight.clone(), rule.answer()
        readout.weight.copy_(answer)
        first = readout(self._some(rule, times, learned[:_AT_ONCE]))
        figures, better = {"latency": float((1 - first).mean())}, True
        if len(aside):
            right = sum(self._right(rule, times, labels, some) for some in torch.split(aside, _AT_ONCE))
            figures["held_out"] = right / len(aside)
            better = self.patience is None or figures["held_out"] > float(rule.best)
            rule.since.fill_(0 if better else int(rule.since) + 1)
            rule.best.fill_(max(figures["held_out"], float(rule.best)))
        if better:
            rule.kept.copy_(answer)
        readout.weight.copy_(learning)
        return figures

    def _right(self, rule: _Pupil, times: Tensor, labels: Tensor, some: Tensor) -> int:
        decided = rule.readout(self._some(rule, times, some)).argmax(1).cpu()
        return int((decided == labels[some]).sum())

    @staticmethod
    def _some(rule: _Pupil, times: Tensor, some: Tensor) -> Tensor:
        return times[some].to(rule.readout.weight.device)
