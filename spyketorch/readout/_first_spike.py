"""A read-out whose neurons decide by who fires first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from spyketorch import _checks as check
from spyketorch import neurons
from spyketorch.kernels import operators
from spyketorch.readout._maps import OfMaps

_PATIENCE = 4  # times T: how long is waited for neurons whose potential goes on rising


class FirstSpikeReadout(OfMaps):
    r"""Neurons that each hear all first spikes of the last stage; the class of the one that fires first is decided.

    A neuron of weights w that heard inputs at times :math:`t_i` has the potential

    .. math:: V(t) = \sum_i w_i \, \varepsilon(t - t_i)

    with the response :math:`\varepsilon` of its kind of neuron: for :class:`spyketorch.neurons.Ramp` the time since the
    input over d, for :class:`spyketorch.neurons.IntegrateAndFire` 1. From step to step the potential moves in a
    straight line, and it fires where that crosses the threshold, between two steps. A ramp goes on rising after the
    last step, and may fire up to 4 T.

    Args:
        shape: of the maps that are read, (features, rows, columns).
        classes: how many.
        per_class: neurons of each class; neuron f belongs to class ``f // per_class``.
        threshold: in units of the potential, a number or one per neuron. None: the mean potential that the untrained
            neurons would reach at time T, were half of all inputs to fire, evenly over all steps;
            :class:`spyketorch.training.Supervised` finds it from images.
        neuron: of :mod:`spyketorch.neurons`, or of one's own with a ``response``; None for ``Ramp(time_steps)``.
        weight_mean, weight_std: of the normal distribution that weights are drawn from.
        time_steps: T, how many there are.

    Shape:
        First-spike times ``(N, features, rows, columns)`` to scores ``(N, classes)``: 1 - t / T of the first neuron of
        each class to fire, so that the largest score is the decision. Where none of them fires, scores go on falling
        with what is missing of the threshold.

    Example:
        >>> readout = FirstSpikeReadout((128, 6, 6), 10, per_class=5, time_steps=15)
        >>> times = torch.randint(0, 16, (3, 128, 6, 6), dtype=torch.uint8)
        >>> readout(times).shape
        torch.Size([3, 10])
        >>> readout.fire(times).shape
        torch.Size([3, 50])

    Reference:
        Goupy, Tirilly, Bilasco, arXiv 2308.02194 and 2410.17066; ramp neurons: Attar, arXiv 2609.37047.
    """

    threshold: Tensor
    neuron: neurons.Responding

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        per_class: int = 1,
        threshold: float | Sequence[float] | np.ndarray | Tensor | None = None,
        *,
        time_steps: int,
        neuron: neurons.Responding | None = None,
        weight_mean: float = 0.3,
        weight_std: float = 0.01,
    ) -> None:
        super().__init__(shape, time_steps)
        self.classes, self.per_class = check.integer(classes, "classes", 2), check.integer(per_class, "per_class", 1)
        count = self.classes * self.per_class
        check.storable((count, self.inputs), "classes", classes)
        self.neuron = neurons.Ramp(self.time_steps) if neuron is None else neuron
        mean, spread = check.number(weight_mean, "weight_mean"), check.number(weight_std, "weight_std", 0)
        self.weight = Parameter(torch.empty(count, self.inputs).normal_(mean, spread), requires_grad=False)
        self.register_buffer("threshold", torch.empty(count))
        if threshold is None:
            ages = torch.arange(self.time_steps, dtype=torch.float64, device="cpu")
            response = self.neuron.response(self.time_steps - ages)
            threshold = mean * self.inputs * float(torch.as_tensor(response).mean()) / 2
        self.threshold = threshold  # type: ignore[assignment]  # __setattr__ takes what the argument may be

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "threshold" and "weight" in self._parameters:
            count = len(self.weight)
            value = check.per_feature(value, name, count, self.weight).expand(count).clone()
            if check.readable(value) and not bool((value > 0).all()):
                raise check.fail(name, "above 0", value)
        elif name == "neuron":
            value = neurons._checked(value)
            if not isinstance(value, neurons.Responding):
                accepted = "a neuron with a `response`, such as neurons.Ramp(15) or neurons.IntegrateAndFire()"
                raise check.fail_type("neuron", accepted, value)
        super().__setattr__(name, value)

    @property
    def horizon(self) -> float:
        """The latest time at which a neuron may fire, in steps; 4 T where it goes on rising without input, else T."""
        steps = float(self.time_steps)
        rises = self.neuron.response(2 * steps) > self.neuron.response(steps)
        return _PATIENCE * steps if rises else steps

    def limit(self) -> Tensor:
        """The threshold of each neuron, ``(classes * per_class,)``."""
        return self.threshold.to(self.weight)

    @torch.no_grad()
    def expected(self, times: Tensor, latency: float) -> Tensor:
        """What an input of weight 1 gives to the potential until some time, on average, ``(inputs,)``.

        Args:
            times: first-spike times ``(N, *shape)`` of some images.
            latency: the time, as a share of all time steps; it may be later than the last.
        """
        return self._moment(self._counts(times), latency, 1).to(self.weight)

    def _counts(self, times: Tensor) -> tuple[Tensor, int]:
        """How many of the images each input fires in at each step, (T, inputs), and how many images there are."""
        flat = self._flat(times)
        return torch.stack([(flat == t).sum(0) for t in range(self.time_steps)]), len(flat)

    def _moment(self, counted: tuple[Tensor, int], latency: float, power: int) -> Tensor:
        """The mean of a power of what each input gives until some time, (inputs,)."""
        (counts, images), until = counted, check.number(latency, "latency") * self.time_steps
        found = torch.zeros(counts.shape[1], dtype=check.widest(counts.device), device=counts.device)
        for t, count in enumerate(counts):
            found += float(self.neuron.response(until - t)) ** power * count
        return found / images

    @torch.no_grad()
    def gain(self, times: Tensor, latency: float) -> float:
        r"""The share of an error in time that one image takes away, on average, at a rate of 1 by the covariance rule.

        .. math:: \sum_i \operatorname{var}(x_i) \Big/ \Big( \bar w \, \frac{d}{d\tau} \sum_i \bar x_i \Big)

        with what inputs give to the potential until the time :math:`\tau T`, :math:`x_i`, and the mean weight.

        Args:
            times, latency: as for :meth:`expected`.
        """
        counted, around = self._counts(times), 0.5 / self.time_steps
        early, late = (self._moment(counted, latency + shift, 1).sum() for shift in (-around, around))
        slope = float(check.wide(self.weight).mean()) * float(late - early) / (2 * around)
        variance = float((self._moment(counted, latency, 2) - self._moment(counted, latency, 1) ** 2).sum())
        if not (slope > 0 and variance > 0):
            accepted = "a time at which potentials rise, and differ from image to image, on these `times`"
            raise check.fail("latency", accepted, latency)
        return variance / slope

    @torch.no_grad()
    def calibrate(self, times: Tensor, latency: float) -> None:
        """Give all neurons the threshold that they would reach at a time, on average, had each the mean of all weights.

        Args:
            times, latency: as for :meth:`expected`.
        """
        threshold = check.wide(self.weight).mean() * check.wide(self.expected(times, latency)).sum()
        if not float(threshold) > 0:
            accepted = "a time by which inputs of these `times` have added to the potential"
            way = "where none of them fires, none will do: lower the thresholds before, as `training.calibrate` does"
            raise check.fail("latency", accepted, latency, way)
        self.threshold = threshold

    def fire(self, times: Tensor) -> Tensor:
        """When each neuron fires, in steps and between them, ``(N, classes * per_class)``; inf for never."""
        return self._respond(times)[0]

    def _respond(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """(exact times, potentials at the horizon)."""
        return operators.exact_fire(
            self._heard(times), self.weight, self.limit(), self.time_steps, self.horizon, self.neuron
        )

    def forward(self, times: Tensor) -> Tensor:
        fired, potential = self._respond(times)
        missing = self.horizon + self.time_steps * (1 - potential / self.limit())
        late = torch.where(torch.isfinite(fired), fired, missing)
        return (1 - late / self.time_steps).view(-1, self.classes, self.per_class).amax(2)

    def extra_repr(self) -> str:
        return (
            f"inputs={self.inputs}, classes={self.classes}, per_class={self.per_class}, "
            f"time_steps={self.time_steps}, neuron={self.neuron}"
        )
