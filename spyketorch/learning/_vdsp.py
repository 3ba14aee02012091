"""STDP by the potentials of the inputs."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._plasticity import Synapse, Thresholds, Twin
from spyketorch.learning._layer import Plastic
from spyketorch.learning._stdp import STDP
from spyketorch.learning._synapses import Synapses


class _VDSP(NamedTuple):
    """The compiled twin of :class:`VDSP`."""

    rest: float

    def change(self, synapse: Synapse) -> float:
        """As there."""
        share = (synapse.weight - synapse.lower_bound) / (synapse.upper_bound - synapse.lower_bound)
        if synapse.causal:
            return synapse.ltp * (1 - share)
        return synapse.ltd * share * (self.rest + (1 - self.rest) * synapse.pre_potential)


class VDSP(STDP):
    r"""Voltage-dependent synaptic plasticity: inputs that were silent are depressed by their potential.

    When a neuron fires, inputs that have fired are potentiated, and the others are depressed, the more the nearer their
    own potential is to their threshold: what is about to fire came too late, what is at rest says little. With the
    weight as a share u of its range, and the potential of the input as a share v of its threshold
    (:attr:`Synapses.pre_potentials`),

    .. math:: \Delta w = \text{LTP} \, (1 - u) \;\text{ where the input fired no later than the winner, else }\;
        \text{LTD} \, u \, (r + (1 - r) \, v)

    A synapse needs no memory of spike times for it, which is what the rule was made for. Hand on what silent inputs
    reached as ``input_potentials``; without, they count as charged by a constant current that makes them fire at T.

    Args:
        conv_layer, learning_rate, lower_bound, upper_bound, thresholds: as for :class:`STDP`.
        rest: r, 0..1, the share of LTD that meets an input at rest, whose potential is 0. With 0 nothing depresses it,
            and weights of inputs that are mostly at rest never fall; with 1 all silent inputs are depressed alike.

    Example:
        >>> from spyketorch import snn
        >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, time_steps=15)
        >>> rule = VDSP(layer, (0.1, -0.1))
        >>> times, reached = torch.full((8, 2, 9, 9), 15, dtype=torch.uint8), torch.rand(8, 2, 9, 9)
        >>> rule.learn(times, input_potentials=reached).shape
        torch.Size([8, 1, 3])

    Reference:
        Garg et al., *Voltage-dependent synaptic plasticity: unsupervised probabilistic Hebbian plasticity rule based on
        neurons membrane potential*, Frontiers in Neuroscience 16:983950, 2022; with one spike per neuron: Goupy et al.,
        *Unsupervised and efficient learning in sparsely activated convolutional spiking neural networks enabled by
        voltage-dependent synaptic plasticity*, Neuromorphic Computing and Engineering 3:014001, 2023. The idea is
        theirs; potentials as shares of a threshold, and steps that are linear in them, are ours.
    """

    def __init__(
        self,
        conv_layer: Plastic,
        learning_rate: Sequence[float] | Sequence[Sequence[float]] = (0.1, -0.1),
        lower_bound: float = 0,
        upper_bound: float = 1,
        *,
        rest: float = 0.0,
        thresholds: Thresholds | None = None,
    ) -> None:
        super().__init__(conv_layer, learning_rate, False, lower_bound, upper_bound, thresholds=thresholds)
        self.rest = check.number(rest, "rest")
        if not 0 <= self.rest <= 1:
            raise check.fail("rest", "a share within 0..1", rest)

    def change(self, synapses: Synapses) -> Tensor:
        share = (synapses.weight - synapses.lower_bound) / (synapses.upper_bound - synapses.lower_bound)
        depression = synapses.ltd * share * (self.rest + (1 - self.rest) * synapses.pre_potentials)
        return torch.where(synapses.causal, synapses.ltp * (1 - share), depression)

    def compiled(self) -> Twin | None:
        return _VDSP(self.rest)

    def extra_repr(self) -> str:
        bounds = f"({self.lower_bound}, {self.upper_bound})"
        return f"rest={self.rest}, bounds={bounds}, thresholds={self.thresholds}"
