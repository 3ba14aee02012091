"""What a learning rule sees, and the factors of the standard rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check


class Timing(NamedTuple):
    """When both sides of the synapses of some winners fired, as :class:`Synapses` tells it."""

    causal: Tensor
    pre_times: Tensor
    post_times: Tensor
    reached: Tensor | float


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
        reached: like ``weight``: what each input that stayed silent reached by the end, as a share of its threshold,
            0..1, and 1 for the others; simply 1 where nobody told.
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
    reached: Tensor | float = 1.0

    @property
    def pre_potentials(self) -> Tensor:
        r"""Like ``weight``: potential of each input when the winner fired, as a share of its threshold, 0..1.

        It is 1 where the input is causal; the others are taken to rise evenly to what they reach, as neurons that a
        constant current charges,

        .. math:: \text{reached} \cdot (t_{\text{post}} + 1) / (t_{\text{pre}} + 1)

        so that one that fires later reaches its threshold then. Of one that stays silent, T is its time, and where
        nobody told what it reached it counts as one that would have fired at T.
        """
        rising = self.reached * (self.post_times + 1) / (self.pre_times + 1)
        return torch.where(self.causal, 1, rising).to(self.weight)


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


def shares(potentials: Any, shape: Sequence[int], weight: Tensor) -> Tensor | None:
    """What was told of the potentials of inputs of some shape, checked, in the type of the weight."""
    if potentials is None:
        return None
    told = check.tensor(potentials, "input_potentials").detach()
    if not told.is_floating_point() or told.shape != shape:
        accepted = f"None, or a floating tensor of shape {tuple(shape)}, a share of the threshold for each input"
        raise check.fail("input_potentials", accepted, potentials)
    check.same_device(told, "input_potentials", weight, "conv_layer.weight")
    if check.looks_at(told) and told.numel():
        low, high = torch.aminmax(told)
        if not (low >= 0 and high <= 1):
            raise check.fail("input_potentials", "shares of the threshold, within 0..1", potentials)
    return told.to(weight.dtype)


def as_option(potentials: Tensor | None) -> dict[str, Tensor]:
    """What was told, for the call of a rule that need not know of it where nothing was."""
    return {} if potentials is None else {"input_potentials": potentials}
