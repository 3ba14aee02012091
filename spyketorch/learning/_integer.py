"""STDP of weights that are integers of a few bits."""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._plasticity import Synapse, Thresholds, Twin
from spyketorch.functional import Winner
from spyketorch.learning._layer import Plastic
from spyketorch.learning._multiplicative import MultiplicativeSTDP
from spyketorch.learning._synapses import Synapses, Timing
from spyketorch.learning._winners import Respond

MOST_BITS = 8

# SplitMix64, with a sign, as torch has no integers of 64 bits without; its shifts are those of Steele et al.
GOLDEN, MIX1, MIX2 = (n - 2**64 for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
HIGH34, HIGH37, HIGH33, HIGH32 = ((1 << bits) - 1 for bits in (34, 37, 33, 32))  # what a shift leaves
HALF, WHOLE = 2**31, 2.0**32  # of what random numbers are shares of


def mixed(key: int, count: Tensor) -> Tensor:
    """The random numbers of 32 bits that stand at some counts, int64, in the sequence of a key."""
    z = key + count * GOLDEN
    z = (z ^ ((z >> 30) & HIGH34)) * MIX1
    z = (z ^ ((z >> 27) & HIGH37)) * MIX2
    return ((z ^ ((z >> 31) & HIGH33)) >> 32) & HIGH32


@lru_cache
def _shares(count: int, steepness: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is left of a rate at each of so many steps; kept, as sending it anew would wait for the device."""
    return torch.from_numpy(np.exp(-steepness * (np.arange(count) / (count - 1)))).to(dtype).to(device)


class _Integer(NamedTuple):
    """The compiled twin of :class:`IntegerSTDP`.

    Attributes:
        updates: int64 (features,), of each so far.
        steps: what is left of a rate at each weight from the lowest on.
        lowest: weight, as an integer.
        levels: 2^bits.
        shape: (channels, rows, columns) of a feature's weight.
        key: of the random numbers.
        stochastic: whether there are any.
    """

    updates: np.ndarray
    steps: np.ndarray
    lowest: int
    levels: int
    shape: tuple[int, int, int]
    key: int
    stochastic: bool

    def change(self, synapse: Synapse) -> float:
        """As there."""
        feature, channel, row, column = synapse.feature, synapse.channel, synapse.row, synapse.column
        if channel == 0 and row == 0 and column == 0:  # the first synapse of an update
            self.updates[feature] += 1
        chance = HALF
        if self.stochastic:
            channels, rows, columns = self.shape
            count = self.updates[feature] * len(self.updates) + feature
            count = ((count * channels + channel) * rows + row) * columns + column
            z = self.key + count * GOLDEN
            z = (z ^ ((z >> 30) & HIGH34)) * MIX1
            z = (z ^ ((z >> 27) & HIGH37)) * MIX2
            chance = ((z ^ ((z >> 31) & HIGH33)) >> 32) & HIGH32
        top = len(self.steps) - 1
        weight = min(max(int(synapse.weight * self.levels) - self.lowest, 0), top)
        step = synapse.ltp * self.steps[weight] if synapse.causal else synapse.ltd * self.steps[top - weight]
        share = math.floor(min(max(float(step), -1.0), 1.0) * self.levels * WHOLE)
        return ((share + chance) >> 32) / self.levels


class IntegerSTDP(MultiplicativeSTDP):
    r"""STDP of weights n / 2^bits, n = 0 .. 2^bits - 1, whose changes are integers, too: as hardware learns.

    The change is that of :class:`MultiplicativeSTDP`, times 2^bits, rounded to one of the two integers beside it, by
    chance: to each the more often the nearer it is, so that the mean of many changes is the real one, however small.

    .. math:: n \leftarrow \min(\max(n + \lfloor 2^{\text{bits}} \, \Delta w + r \rfloor, 0), 2^{\text{bits}} - 1),
        \quad r \text{ uniform in } [0, 1)

    With one bit it is STDP of binary synapses, which flip with a probability. What the layer holds is rounded in the
    same way before anything is learned, and whenever it was written to since.

    The random numbers depend on ``seed``, on the synapse, and on how often its feature has learned so far, which the
    ``state_dict`` keeps: they are the same in all ways to learn, in any chunks, and in a run that was resumed.

    Args:
        conv_layer, learning_rate, thresholds: as for :class:`STDP`. Rates are shares of the range of weights, as ever:
            with 4 bits 0.1 is 1.6 steps of the 16, with one bit the probability that a synapse flips is 0.2.
        lower_bound, upper_bound: of the weights, within 0..1; the multiples of 2^-bits between them are used, of 1 the
            largest below it.
        bits: of each weight, 1 to 8. Files of integer networks have 1, 2, 4 or 8.
        steepness: as for :class:`MultiplicativeSTDP`, u is n / (2^bits - 1); 0 makes all steps equal.
        seed: of the random numbers, 0 or more. None rounds to the nearest integer, without them: changes below half a
            step are lost.

    Attributes:
        updates: int64 ``(features,)``, how often each has learned.

    Example:
        >>> from spyketorch import learning, snn
        >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, weight_mean=0.5, time_steps=15)
        >>> rule = IntegerSTDP(layer, (0.1, -0.1), bits=2)
        >>> _ = rule.learn(torch.randint(0, 16, (50, 2, 9, 9), dtype=torch.uint8))
        >>> (layer.weight * 4).unique().tolist()
        [0.0, 1.0, 2.0, 3.0]

    Reference:
        Stochastic rounding: Gupta et al., *Deep learning with limited numerical precision*, ICML 2015,
        arXiv 1502.02551. STDP of few bits: Pfeil et al., *Is a 4-bit synaptic weight resolution enough?*, Frontiers in
        Neuroscience 6:90, 2012; Yousefzadeh et al., *On practical issues for stochastic STDP hardware with 1-bit
        synaptic weights*, Frontiers in Neuroscience 12:665, 2018. Random numbers: Steele et al., *Fast splittable
        pseudorandom number generators*, OOPSLA 2014, counted instead of drawn in turn.
    """

    updates: Tensor

    def __init__(
        self,
        conv_layer: Plastic,
        learning_rate: Sequence[float] | Sequence[Sequence[float]] = (0.1, -0.1),
        lower_bound: float = 0,
        upper_bound: float = 1,
        *,
        bits: int = 8,
        steepness: float = 1.0,
        seed: int | None = 0,
        thresholds: Thresholds | None = None,
    ) -> None:
        self._bits = check.integer(bits, "bits", 1)
        if self.bits > MOST_BITS:
            raise check.fail("bits", f"1 to {MOST_BITS}", bits)
        super().__init__(
            conv_layer, learning_rate, lower_bound, upper_bound, steepness=steepness, thresholds=thresholds
        )
        self.seed = None if seed is None else check.integer(seed, "seed", 0)
        if seed is not None and seed >= 2**63:
            raise check.fail("seed", "None, or 0 or more and below 2^63", seed)
        counted = torch.zeros(conv_layer.out_channels, dtype=torch.int64, device=conv_layer.weight.device)
        self.register_buffer("updates", counted)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("lower_bound", "upper_bound"):
            given, levels = getattr(self, name), 2**self.bits
            if not 0 <= given <= 1:
                raise check.fail(name, "within 0..1, as these weights have no sign", value)
            inside = math.ceil(given * levels) if name == "lower_bound" else math.floor(min(given * levels, levels - 1))
            super().__setattr__(name, inside / levels)

    @property
    def bits(self) -> int:
        """Of each weight; chosen when the rule is made."""
        return self._bits

    def learn(self, times: Tensor, *choice: Any, **options: Any) -> Tensor:
        """As :meth:`STDP.learn`."""
        self.round_weight()
        return super().learn(times, *choice, **options)

    def online(self, input_spikes: Tensor, respond: Respond, *choice: Any, **options: Any) -> list[list[Winner]]:
        """As :meth:`STDP.online`."""
        self.round_weight()
        return super().online(input_spikes, respond, *choice, **options)

    def minibatch(self, input_spikes: Tensor, respond: Respond, *choice: Any, **options: Any) -> list[list[Winner]]:
        """As :meth:`STDP.minibatch`."""
        self.round_weight()
        return super().minibatch(input_spikes, respond, *choice, **options)

    def round_weight(self) -> None:
        """Round the weights of the layer, by chance, where they are no integers or outside of the bounds.

        All ways to learn begin with it.
        """
        weight, levels, bounds = self.conv_layer.weight.data, 2**self.bits, (self.lower_bound, self.upper_bound)
        check.finite_if_looked_at(weight, "conv_layer.weight")
        if check.free_to_read(weight) and torch.equal(weight, (weight * levels).floor_().div_(levels).clamp_(*bounds)):
            return
        features = torch.arange(len(weight), device=weight.device)
        number = self._rounded(weight.clamp(*bounds), features, torch.zeros_like(features))
        weight.copy_((number.to(weight.dtype) / levels).clamp_(*bounds))

    def change(self, synapses: Synapses) -> Tensor:
        weight, features = synapses.weight, synapses.features
        steps, lowest, levels = self._steps(), self._lowest, 2**self.bits
        number = ((weight * levels).long() - lowest).clamp(0, len(steps) - 1)
        share = torch.where(
            synapses.causal, synapses.ltp * steps[number], synapses.ltd * steps[len(steps) - 1 - number]
        )
        change = self._rounded(share.clamp(-1, 1), features, self.updates[features])
        return change.to(weight.dtype).div_(levels)

    def compiled(self) -> Twin | None:
        if not check.free_to_read(self.updates):
            return None  # numpy has no view of them
        shape: Any = tuple(self.conv_layer.weight.shape[1:])
        chance = self._key(), self.seed is not None
        return _Integer(self.updates.numpy(), self._steps().numpy(), self._lowest, 2**self.bits, shape, *chance)

    def extra_repr(self) -> str:
        return f"bits={self.bits}, seed={self.seed}, {super().extra_repr()}"

    @property
    def _lowest(self) -> int:
        return int(self.lower_bound * 2**self.bits)

    def _steps(self) -> Tensor:
        """What is left of LTP at each weight from the lowest on, and of LTD at each from the highest down."""
        count, weight = int(self.upper_bound * 2**self.bits) - self._lowest + 1, self.conv_layer.weight
        make = _shares if check.readable(weight) else _shares.__wrapped__  # what is fake is not kept
        return make(count, self.steepness, weight.dtype, weight.device)

    def _key(self) -> int:
        """Where in all random numbers those of the seed begin."""
        return ((self.seed or 0) * MIX1 + 2**63) % 2**64 - 2**63

    def _rounded(self, weight: Tensor, features: Tensor, updates: Tensor) -> Tensor:
        """Weights (k, C, rows, columns), or their changes, of features (k,) in integers, by chance."""
        places = math.prod(weight.shape[1:])
        own = (updates * len(self.updates) + features).view(-1, 1, 1, 1)
        count = own * places + torch.arange(places, device=weight.device).view(weight.shape[1:])
        chance = HALF if self.seed is None else mixed(self._key(), count)
        wide = weight.to(check.widest(weight.device)) * (2**self.bits * WHOLE)
        number: Tensor = (wide.floor().long() + chance) >> 32
        return number

    def _update(self, index: Tensor, timing: Timing, rates: Tensor | None) -> None:
        self.round_weight()
        self.updates.index_add_(0, index[:, 0].clamp(min=0), (index[:, 0] >= 0).long())
        super()._update(index, timing, rates)
