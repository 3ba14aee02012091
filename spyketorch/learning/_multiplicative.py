"""STDP whose steps shrink towards the bounds."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._plasticity import Synapse, Thresholds, Twin
from spyketorch.learning._layer import Plastic
from spyketorch.learning._stdp import STDP
from spyketorch.learning._synapses import Synapses


class _Multiplicative(NamedTuple):
    """The compiled twin of :class:`MultiplicativeSTDP`."""

    steepness: float

    def change(self, synapse: Synapse) -> float:
        """As there."""
        share = (synapse.weight - synapse.lower_bound) / (synapse.upper_bound - synapse.lower_bound)
        if synapse.causal:
            return synapse.ltp * math.exp(-self.steepness * share)
        return synapse.ltd * math.exp(self.steepness * (share - 1))


class MultiplicativeSTDP(STDP):
    r"""STDP whose steps shrink towards the bound that they go to, by exponentials of the weight.

    With the weight as a share u of its range, 0 at the lower bound and 1 at the upper,

    .. math:: \Delta w = \text{LTP} \; e^{-\beta u} \;\text{ where the input fired no later than the winner, else }\;
        \text{LTD} \; e^{\beta (u - 1)}

    Args:
        conv_layer, learning_rate, lower_bound, upper_bound: as for :class:`STDP`.
        steepness: beta; 0 makes all steps equal.
        thresholds: as for :class:`STDP`; the rule was published with :class:`TargetTime`.

    Example:
        >>> from spyketorch import learning, snn
        >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, weight_mean=0.5, time_steps=15)
        >>> rule = MultiplicativeSTDP(layer, thresholds=learning.TargetTime(0.75, rate=0.5))
        >>> rule.learn(torch.zeros(8, 2, 9, 9, dtype=torch.uint8)).shape
        torch.Size([8, 1, 3])

    Reference:
        Querlioz et al., *Immunity to device variations in a spiking neural network with memristive nanodevices*, IEEE
        Transactions on Nanotechnology 12:288-295, 2013; with target times: Falez et al., IJCNN 2019.
    """

    def __init__(
        self,
        conv_layer: Plastic,
        learning_rate: Sequence[float] | Sequence[Sequence[float]] = (0.1, -0.1),
        lower_bound: float = 0,
        upper_bound: float = 1,
        *,
        steepness: float = 1.0,
        thresholds: Thresholds | None = None,
    ) -> None:
        super().__init__(conv_layer, learning_rate, False, lower_bound, upper_bound, thresholds=thresholds)
        self.steepness = check.number(steepness, "steepness")

    def change(self, synapses: Synapses) -> Tensor:
        share = (synapses.weight - synapses.lower_bound) / (synapses.upper_bound - synapses.lower_bound)
        potentiation = synapses.ltp * torch.exp(-self.steepness * share)
        return torch.where(synapses.causal, potentiation, synapses.ltd * torch.exp(self.steepness * (share - 1)))

    def compiled(self) -> Twin | None:
        return _Multiplicative(self.steepness)

    def extra_repr(self) -> str:
        bounds = f"({self.lower_bound}, {self.upper_bound})"
        return f"steepness={self.steepness}, bounds={bounds}, thresholds={self.thresholds}"
