"""Read-outs of integers, which decide as every runtime does; docs/integer.md says how."""

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch.export._file import Weights
from spyketorch.readout._maps import OfMaps

NEVER = 2**31 - 1  # the time of a neuron that does not fire
PARTS = 256  # of a step


class IntegerFirstSpike(OfMaps):
    """A :class:`spyketorch.readout.FirstSpikeReadout` of integers: times in 256ths of a step, by integer division.

    Args:
        weight: integers ``(neurons, inputs)`` of ``bits`` bits; neuron k stands for the class ``k // per_class``.
        threshold: integers of 0 or more, one for each neuron.
        ramp: whether neurons rise by what they heard before, else they are what they heard.

    Shape:
        Times ``(N, *shape)`` to scores ``(N, classes)``, float64: how early the first neuron of each class fires, from
        0 down, in steps; below those of all that fire where none of a class does, by what is missing.
    """

    weight: Tensor
    threshold: Tensor

    def __init__(
        self, shape: tuple[int, ...], weight: Tensor, threshold: Tensor, *, per_class: int, ramp: bool, time_steps: int
    ) -> None:
        super().__init__(shape, time_steps)
        self.register_buffer("weight", weight.to(torch.int32))
        self.register_buffer("threshold", threshold.to(torch.int32))
        self.per_class, self.ramp = per_class, ramp

    def fire(self, times: Tensor) -> Tensor:
        """When each neuron fires, in 256ths of a step, ``(N, neurons)``, int64; 2147483647 for never."""
        return self._respond(times)[0]

    def _respond(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """(times, what the potentials have above the thresholds at the end)."""
        flat, exact = self._flat(times), check.widest(self.weight.device)
        weight, threshold = self.weight.to(exact).T, self.threshold.to(torch.int64)
        heard = potential = torch.zeros(flat.shape[0], len(threshold), dtype=torch.int64, device=flat.device)
        fired = torch.full_like(heard, NEVER)
        for t in range(4 * self.time_steps + 1 if self.ramp else self.time_steps):
            before, was = heard, potential
            if t < self.time_steps:
                heard = heard + ((flat == t).to(exact) @ weight).round().to(torch.int64)
            potential = potential + before if self.ramp else heard
            within = PARTS * (threshold - was) // (potential - was).clamp(min=1)
            fires = (fired == NEVER) & (potential > threshold)
            fired = torch.where(fires, PARTS * (t - 1) + within, fired)
        return fired, potential - threshold

    def describe(self, weights: Callable[..., dict[str, Any]], keep: Callable[..., str]) -> dict[str, Any]:
        """Its row of the description."""
        told = weights("decision", _whole(self.weight), 4 * self.time_steps if self.ramp else 1)
        threshold = keep("decision.threshold", self.threshold, np.int32)
        return {"op": "first spike", **told, "threshold": threshold, "per_class": self.per_class, "ramp": self.ramp}

    @classmethod
    def read(cls, told: dict[str, Any], tensors: dict[str, np.ndarray], shape: tuple[int, ...], steps: int) -> Self:
        """The read-out of such a row."""
        weight, threshold = (torch.from_numpy(tensors[told[name]]) for name in ("weight", "threshold"))
        options = {"per_class": told["per_class"], "ramp": bool(told["ramp"])}
        return cls(shape, weight, threshold, time_steps=steps, **options)

    def forward(self, times: Tensor) -> Tensor:
        fired, above = self._respond(times)
        never = -(4 * self.time_steps + 1) + above.double() / 2**32
        scores = torch.where(fired < NEVER, fired.double() / -PARTS, never)
        return scores.view(-1, len(self.threshold) // self.per_class, self.per_class).amax(2)

    def extra_repr(self) -> str:
        classes = len(self.threshold) // self.per_class
        return f"inputs={self.inputs}, classes={classes}, per_class={self.per_class}, ramp={self.ramp}"


class IntegerLinear(OfMaps):
    """A :class:`spyketorch.readout.LinearReadout` of integers.

    Args:
        weight: integers ``(classes, inputs)``.
        bias: integers, one for each class.

    Shape:
        Times ``(N, *shape)`` to scores ``(N, classes)``, integers in float64.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, shape: tuple[int, ...], weight: Tensor, bias: Tensor, *, time_steps: int) -> None:
        super().__init__(shape, time_steps)
        self.register_buffer("weight", weight.to(torch.int32))
        self.register_buffer("bias", bias.to(torch.int32))

    def describe(self, weights: Callable[..., dict[str, Any]], keep: Callable[..., str]) -> dict[str, Any]:
        """Its row of the description."""
        told = weights("decision", _whole(self.weight), self.time_steps, self.bias.cpu().numpy())
        return {"op": "linear", **told, "bias": keep("decision.bias", self.bias, np.int32)}

    @classmethod
    def read(cls, told: dict[str, Any], tensors: dict[str, np.ndarray], shape: tuple[int, ...], steps: int) -> Self:
        """The read-out of such a row."""
        weight, bias = (torch.from_numpy(tensors[told[name]]) for name in ("weight", "bias"))
        return cls(shape, weight, bias, time_steps=steps)

    def forward(self, times: Tensor) -> Tensor:
        exact = check.widest(self.weight.device)
        early = self.time_steps - self._flat(times).to(exact)
        return (early @ self.weight.to(exact).T).round() + self.bias

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}, classes={len(self.bias)}"


def _whole(weight: Tensor) -> Weights:
    return Weights.fewest(weight.cpu().numpy())
