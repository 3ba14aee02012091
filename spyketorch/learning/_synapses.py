"""What a learning rule sees, and the factors of the standard rule."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spyketorch import _checks as check


@dataclass(frozen=True)
class Synapses:
    """What a rule sees: the k winners of one sample, 1 or more, and the synapses of their receptive fields.

    Attributes:
        features: int64 ``(k,)``, the winners' features.
        weight: ``(k, C, rows, columns)``, before the update.
        causal: bool, like ``weight``: the input fired no later than the winner.
        pre_times: like ``weight``: first-spike time of each input in time steps, T where it is silent.
        post_times: ``(k, 1, 1, 1)``: first-spike time of each winner.
        ltp, ltd: ``(k, 1, 1, 1)``: learning rates of each winner's feature.
        lower_bound, upper_bound: of the weights.
    """

    features: Tensor
    weight: Tensor
    causal: Tensor
    pre_times: Tensor
    post_times: Tensor
    ltp: Tensor
    ltd: Tensor
    lower_bound: float
    upper_bound: float


#: one factor of the weight change; broadcasts to the shape of ``Synapses.weight``
Factor = Callable[[Synapses], Tensor]


def causal_step(synapses: Synapses) -> Tensor:
    """Simplified STDP: LTP where the input fired no later than the winner, else LTD, whatever the time between."""
    return torch.where(synapses.causal, synapses.ltp, synapses.ltd)


def soft_bounds(synapses: Synapses) -> Tensor:
    """The stabilizer: (w - lower) * (upper - w), slow near the bounds, fastest between them."""
    return (synapses.weight - synapses.lower_bound) * (synapses.upper_bound - synapses.weight)


def given(name: str, factor: Factor, synapses: Synapses) -> Tensor:
    """What a factor makes of the synapses, which it must fit."""
    given, shape = factor(synapses), synapses.weight.shape
    if isinstance(given, int | float):
        return synapses.weight.new_full((), given)
    if not isinstance(given, Tensor) or given.is_complex() or not check.broadcasts(given.shape, shape):
        raise TypeError(
            f"`{name}` must return a number, or a tensor that fits (winners, features, rows, columns), here "
            f"{tuple(shape)}; got {check.describe(given)}"
        )
    return given
