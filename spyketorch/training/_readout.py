"""Decisions by a linear read-out."""

from dataclasses import dataclass

from torch import Tensor

from spyketorch import _checks as check
from spyketorch.models._network import Network
from spyketorch.readout._linear import LinearReadout
from spyketorch.training._lesson import FinalLesson, Following


@dataclass(frozen=True)
class Readout(FinalLesson):
    """Decisions by a linear read-out of the last stage, the last lesson; the network's ``readout`` must be one.

    Args:
        penalty, iterations: as in :meth:`spyketorch.readout.LinearReadout.fit`.
    """

    penalty: float = 1e-3
    iterations: int = 100

    def __post_init__(self) -> None:
        check.number(self.penalty, "penalty", 0)
        check.integer(self.iterations, "iterations", 1)

    @property
    def passes(self) -> int:
        return self.iterations

    def module(self, network: Network) -> LinearReadout:
        if not isinstance(network.readout, LinearReadout):
            raise check.fail(
                "lessons",
                "without Readout where the network's `readout` is no LinearReadout",
                self,
                "`network.readout = LinearReadout(shape, classes, time_steps=T)` gives it one, of the shape that "
                "`network.features(images[:1]).shape[1:]` has",
            )
        return network.readout

    def fits(self, module: LinearReadout, labels: Tensor | None) -> None:
        check.labels_within(labels, len(module.bias))

    def fit(self, rule: LinearReadout, times: Tensor, labels: Tensor | None, follow: Following) -> None:
        assert labels is not None

        def tell(objective: float) -> None:
            follow.heard(len(times), f"objective {objective:.4f}")

        rule.fit(times, labels, penalty=self.penalty, iterations=self.iterations, tell=tell)
