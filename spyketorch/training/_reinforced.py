"""Decisions by reward-modulated STDP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from spyketorch import _checks as check
from spyketorch.learning._rstdp import RSTDP
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.snn import SpikingConvolution
from spyketorch.training import _diagnosis as diagnosis
from spyketorch.training._by_stdp import check_settings, decided, layer_of, paced
from spyketorch.training._diagnosis import Course
from spyketorch.training._lesson import Learned, Lesson, Period
from spyketorch.training._schedules import Adaptive, Schedule, factors, told


@dataclass(frozen=True)
class Reinforced(Lesson):
    """Decisions by R-STDP: the first winner names the class and is rewarded or punished.

    Args:
        kwta, inhibition_radius, pointwise_inhibition, correction: as in :meth:`spyketorch.learning.RSTDP.learn`.
        reward, punishment: (LTP, LTD) of right and of wrong decisions.
        dropout: share of the features that sit out each image, chosen anew.
        schedule, bounds, use_stabilizer, epochs, period, minibatch: as for :class:`Unsupervised`.
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
    minibatch: int = 1
    needs_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_settings(self, "reward", "punishment")
        check.integer(self.minibatch, "minibatch", 1)
        check.share(self.dropout, "dropout")
        check.correction(self.correction)

    def rule(self, stage: Stage) -> RSTDP:
        return RSTDP(layer_of(stage), self.reward, self.punishment, self.use_stabilizer, *self.bounds)

    def learn(self, rule: RSTDP, period: Period) -> Learned:
        times, labels, classes, progress, random = period
        assert labels is not None and classes is not None
        layer: Any = rule.reward.conv_layer
        active = None
        if self.dropout:
            stays = random.random((len(times), layer.out_channels)) >= self.dropout
            active = torch.from_numpy(stays).to(times.device)
        reward, punishment = factors(self.schedule, progress)
        with (
            paced(rule.reward, self.reward, reward) as rate,
            paced(rule.punishment, self.punishment, punishment) as other,
        ):
            warned = [*diagnosis.too_fast(max(rate, other), layer.weight, self.bounds, self.use_stabilizer)]
            warned += diagnosis.narrow(layer, times.shape[-2:])
            winners = rule.learn(
                times,
                labels,
                classes,
                self.kwta,
                self.inhibition_radius,
                pointwise_inhibition=self.pointwise_inhibition,
                correction=self.correction,
                active=active,
                minibatch=self.minibatch,
            )
        first = winners[:, 0, 0]
        right = (classes[first.clamp(min=0)] == labels) & (first >= 0)
        return Learned(winners, right, decided(layer.weight, self.bounds, self.use_stabilizer), warned)

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
