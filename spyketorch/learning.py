r"""Learning rules: STDP and reward-modulated STDP.

For each winner and each of its synapses, a rule changes the weight by

.. math:: \Delta w = \text{rate}(t_{pre}, t_{post}) \cdot \text{weight dependence}(w) \cdot \text{modulation}

Each factor is a plain function of :class:`Synapses` and can be replaced on its own:

    >>> import torch
    >>> from spyketorch import snn
    >>> def fading(s):  # potentiation fades with the time between the two spikes
    ...     return torch.where(s.causal, s.ltp * torch.exp((s.pre_times - s.post_times) / 5), s.ltd)
    >>> rule = snn.STDP(snn.Convolution(6, 30, 5), (0.004, -0.003), rate=fading)

References:
    Kheradpisheh et al., *STDP-based spiking deep convolutional neural networks for object recognition*, Neural Networks
    99:56-67, 2018. Mozafari et al., *Bio-inspired digit recognition using reward-modulated spike-timing-dependent
    plasticity in deep convolutional networks*, Pattern Recognition 94:87-95, 2019.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from spyketorch import _checks as check
from spyketorch import _on_times
from spyketorch import functional as sf
from spyketorch._convolution import learnable
from spyketorch._plasticity import Plasticity as Plasticity
from spyketorch._plasticity import Response as Response
from spyketorch._plasticity import Synapse as Synapse
from spyketorch._plasticity import Thresholds as Thresholds
from spyketorch._plasticity import Twin as Twin
from spyketorch._state import CheckedState
from spyketorch._teacher import Teacher
from spyketorch.functional import Winner

if TYPE_CHECKING:
    from spyketorch.snn import Convolution

#: winners of one sample: (feature, row, column) tuples, or an int64 tensor (k, 3) with rows of -1 for none
Winners = Sequence[Winner] | Tensor
#: the same for a batch: one list per sample, or a tensor (N, k, 3)
BatchWinners = Sequence[Sequence[Winner]] | Tensor
#: what a layer makes of a wave: (potentials, output spikes), thresholded and inhibited as its user likes
Respond = Callable[[Tensor], tuple[Tensor, Tensor]]
#: the outcome of a sample, from its index in the batch and its winners: > 0 reward, < 0 punishment, 0 neither
Judge = Callable[[int, list[Winner]], float]


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


class Simplified(NamedTuple):
    """The compiled twin of the standard rule: :func:`causal_step`, and with a stabilizer :func:`soft_bounds`."""

    stabilizer: bool

    def change(self, synapse: Synapse) -> float:
        """In the order of operations of the dense rule."""
        rate = synapse.ltp if synapse.causal else synapse.ltd
        if self.stabilizer:
            return rate * ((synapse.weight - synapse.lower_bound) * (synapse.upper_bound - synapse.weight))
        return rate


class TargetTime(NamedTuple):
    r"""Thresholds that move until each feature fires at a wanted time, and wins as often as the others.

    After each sample that a neuron answers to at step t, with T steps and F features,

    .. math:: \theta_f \leftarrow \theta_f - \epsilon (t / T - \text{target}), \quad
        \theta_{\text{winner}} \leftarrow \theta + \epsilon, \quad
        \theta_{\text{others}} \leftarrow \theta - \epsilon / (F - 1)

    for each winner, but never below ``floor``. Where over a quarter of the inputs fired and nobody answered, all
    thresholds fall by ``rate`` (1 - target), so that a layer that fell silent answers again. Winners are those farthest
    above their threshold.

    Attributes:
        target: the wanted time of the first spike, as a share of all time steps, 0..1.
        rate: epsilon, in units of the threshold.
        floor: least threshold.

    Reference:
        Falez et al., *Multi-layered spiking neural network with target timestamp threshold adaptation and STDP*, IJCNN
        2019.
    """

    target: float = 0.75
    rate: float = 1.0
    floor: float = 2.0

    @property
    def excess(self) -> bool:
        """Winners are ranked by how far they are above their threshold."""
        return True

    def adapt(self, threshold: Any, response: Response) -> None:
        """As above."""
        features = len(threshold)
        if len(response.winners) == 0 and response.heard > 0.25:
            for f in range(features):
                threshold[f] = max(threshold[f] - self.rate * (1 - self.target), self.floor)
        for k in range(len(response.winners)):
            late = response.post_times[k] / response.time_steps - self.target
            for f in range(features):
                share = self.rate if f == response.winners[k, 0] else -self.rate / max(features - 1, 1)
                threshold[f] = max(threshold[f] - self.rate * late + share, self.floor)


def _given(name: str, factor: Factor, synapses: Synapses) -> Tensor:
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


def _one(stored: dict[str, Any], name: str) -> Tensor:
    """A rate, as a tensor (1,); one may have been written over its ``data``."""
    rate: Tensor = stored[name]
    if rate.numel() != 1:
        raise check.fail(name, "one number", rate)
    return rate if rate.ndim == 1 else rate.reshape(1)


def _names(features: Sequence[int]) -> tuple[str, ...]:
    """Of the rates of features, LTP and LTD in turn."""
    return _names_of_all(len(features)) if isinstance(features, range) else _of_each(features)


def _of_each(features: Iterable[int]) -> tuple[str, ...]:
    return tuple(name for i in features for name in (f"ltp_{i}", f"ltd_{i}"))


@cache
def _names_of_all(count: int) -> tuple[str, ...]:
    return _of_each(range(count))


def _known(stored: dict[str, Any], feature: int) -> tuple[np.ndarray, np.ndarray]:
    """The rates of a feature, where they can be read."""
    return _one(stored, f"ltp_{feature}").data.numpy(), _one(stored, f"ltd_{feature}").data.numpy()


def _adaptable(layer: Any, thresholds: Any) -> None:
    """A layer with a threshold for each feature, that the thresholds given may move."""
    if not isinstance(thresholds, Thresholds) or not hasattr(thresholds, "_fields"):
        raise check.fail_type("thresholds", "None, or a NamedTuple with `excess` and `adapt`", thresholds)
    if getattr(layer, "threshold", None) is None:
        raise check.fail_type("conv_layer", "a layer with a threshold, as `thresholds` moves it", layer)
    layer.threshold = layer.limit()


def _check_layer(layer: Any) -> None:
    if not all(hasattr(layer, name) for name in ("weight", "in_channels", "out_channels", "geometry")):
        raise check.fail_type("conv_layer", "an snn.Convolution, or a module with its attributes", layer)


def _rate_pairs(learning_rate: Any, features: int, name: str) -> list[tuple[float, float]]:
    """One checked (LTP, LTD) pair per feature, copied from what a caller may write."""

    def rates(pair: Any) -> tuple[float, float]:
        if not isinstance(pair, Sequence | Tensor) or (isinstance(pair, Tensor) and pair.ndim == 0) or len(pair) != 2:
            raise check.fail(
                name, f"a pair (LTP, LTD), or a list of {features} of them, one per feature", learning_rate
            )
        return check.number(pair[0], name), check.number(pair[1], name)

    if isinstance(learning_rate, Sequence) and learning_rate and isinstance(learning_rate[0], Sequence):
        if len(learning_rate) != features:
            raise check.fail(
                name, f"a pair (LTP, LTD), or a list of {features} of them, one per feature", learning_rate
            )
        return [rates(pair) for pair in learning_rate]
    return [rates(learning_rate)] * features


#: of the methods of a rule, those that decide nothing of what is learned, and those that learning from times calls
_NEUTRAL = frozenset(
    ("update_learning_rate", "update_all_learning_rate", "learn", "online", "minibatch", "extra_repr", "why_not")
)
_OF_TIMES = frozenset(("change", "compiled", "adapt", "_learn_times", "_update", "_fields"))


@cache
def _methods(base: Any) -> dict[str, None]:
    """The names of the methods of a rule that decide what is learned, in order."""
    kinds = reversed([kind for kind in base.__mro__ if kind.__module__ != nn.Module.__module__ and kind is not object])
    methods = (name for kind in kinds for name, method in vars(kind).items() if isinstance(method, FunctionType))
    own = (name for name in methods if name not in _NEUTRAL and not hasattr(nn.Module, name))
    return dict.fromkeys(["__call__", "forward", *own])


def _replaced(rule: nn.Module, base: type[nn.Module]) -> list[str]:
    """The methods of ``base`` in whose place a subclass, or the object itself, has its own; hooks count as forward."""
    hooks = ["forward"] if rule._forward_hooks or rule._forward_pre_hooks else []
    names = _methods(base)  # type: ignore[arg-type]
    if type(rule) is not base:
        return hooks + [
            name for name in names if name in vars(rule) or getattr(type(rule), name) is not getattr(base, name)
        ]
    return hooks if names.keys().isdisjoint(vars(rule)) else hooks + [name for name in names if name in vars(rule)]


class _Rates(Sequence[tuple[Tensor, Tensor]]):
    """The rates of a rule, a (LTP, LTD) pair of one-element Parameters per feature, as a list that may be written to.

    It holds nothing: the Parameters ``ltp_i`` and ``ltd_i`` of the rule are the state, and the only one. An item may be
    replaced by a pair of numbers or tensors (a Parameter itself takes the place).
    """

    def __init__(self, rule: "STDP") -> None:
        self._rule = rule

    def __len__(self) -> int:
        return self._rule.conv_layer.out_channels

    @overload
    def __getitem__(self, feature: int) -> tuple[Tensor, Tensor]: ...
    @overload
    def __getitem__(self, feature: slice) -> list[tuple[Tensor, Tensor]]: ...
    def __getitem__(self, feature: int | slice) -> Any:
        if isinstance(feature, slice):
            return [self[i] for i in range(*feature.indices(len(self)))]
        feature, stored = self._place(feature), self._rule._stored()
        return stored[f"ltp_{feature}"], stored[f"ltd_{feature}"]

    def __setitem__(self, feature: int, pair: Sequence[Any]) -> None:
        feature = self._place(feature)
        if not isinstance(pair, Sequence | Tensor) or len(pair) != 2:
            raise check.fail("learning_rate[i]", "a pair (LTP, LTD)", pair)
        weight = self._rule.conv_layer.weight
        for value in pair:
            check.representable(value, "learning_rate[i]", weight.dtype)
        for name, value in zip(("ltp", "ltd"), pair, strict=True):
            if not isinstance(value, Parameter):
                one = torch.as_tensor(value, dtype=weight.dtype, device=weight.device).detach().reshape(1)
                value = Parameter(one, requires_grad=False)
            setattr(self._rule, f"{name}_{feature}", value)

    def _place(self, feature: Any) -> int:
        place = check.integer(feature, "feature")
        if not -len(self) <= place < len(self):
            raise IndexError(f"`feature` must lie in 0..{len(self) - 1}; got {feature}")
        return place % len(self)

    def __repr__(self) -> str:
        return repr(list(self))


class STDP(CheckedState):
    r"""Spike-timing-dependent plasticity of a convolutional layer.

    For each winner (f, y, x) and each synapse of f: the rate is LTP where the input fired no later than the winner,
    else LTD (silent inputs too), and

    .. math:: w \leftarrow w + \text{rate} \cdot (w - \text{lower}) (\text{upper} - w)

    or ``w += rate`` without stabilizer. Then the whole weight is clamped to the bounds. All updates of a call are
    computed from the weights before it.

    Args:
        conv_layer: the layer that learns; any module with the attributes of :class:`spyketorch.snn.Convolution`.
        learning_rate: one (LTP, LTD) pair, or a list of pairs, one per feature; copied.
        use_stabilizer: scale changes by (w - lower) (upper - w).
        lower_bound, upper_bound: of the weights. These settings and factors are checked when they are assigned, too.
        rate: replaces :func:`causal_step`, the rate as a function of the timing.
        weight_dependence: replaces :func:`soft_bounds` (or, without stabilizer, 1).
        modulation: a further factor, such as a per-synapse mask or noise; none by default.
        thresholds: how the thresholds of the layer, which has one per feature then, adapt after each sample, such as
            :class:`TargetTime`; None leaves them as they are.

    A subclass may override :meth:`change`, and :meth:`compiled` beside it.

    Example:
        >>> from spyketorch import snn, functional as sf
        >>> conv = snn.Convolution(6, 30, 5)
        >>> stdp = STDP(conv, (0.004, -0.003))
        >>> wave = torch.ones(15, 6, 28, 28)
        >>> spikes, potentials = sf.fire(conv(wave), 15, return_thresholded_potentials=True)
        >>> stdp(wave, potentials, spikes, kwta=5, inhibition_radius=3)
    """

    rate: Factor
    weight_dependence: Factor | None
    modulation: Factor | None
    thresholds: Thresholds | None = None

    def __init__(
        self,
        conv_layer: "Convolution",
        learning_rate: Sequence[float] | Sequence[Sequence[float]],
        use_stabilizer: bool = True,
        lower_bound: float = 0,
        upper_bound: float = 1,
        *,
        rate: Factor = causal_step,
        weight_dependence: Factor | None = None,
        modulation: Factor | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        super().__init__()
        _check_layer(conv_layer)
        self.conv_layer = conv_layer
        self.use_stabilizer = use_stabilizer
        self.lower_bound, self.upper_bound = check.bounds(lower_bound, upper_bound)
        given = {"rate": rate, "weight_dependence": weight_dependence, "modulation": modulation}
        for name, factor in given.items():
            if factor not in (causal_step, None) or not hasattr(type(self), name):  # a subclass may have it as a method
                setattr(self, name, factor)
        if thresholds is not None:
            self.thresholds = thresholds
        self.learning_rate = _rate_pairs(learning_rate, conv_layer.out_channels, "learning_rate")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("lower_bound", "upper_bound"):
            value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
            check.number(value, name)
            other = {"lower_bound": -math.inf, "upper_bound": math.inf, **vars(self), name: value}
            check.ordered(other["lower_bound"], other["upper_bound"])
        elif name == "use_stabilizer":
            value = check.flag(value, name)
        elif name in ("rate", "weight_dependence", "modulation") and (value is not None or name == "rate"):
            check.callable_(value, name)
        elif name == "thresholds" and value is not None:
            _adaptable(self.conv_layer, value)
        elif name.startswith(("ltp_", "ltd_")) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise check.fail(name, "a Parameter of one number", value)
        super().__setattr__(name, value)

    @property
    def learning_rate(self) -> _Rates:
        """Per feature the pair of one-element Parameters ``ltp_i`` and ``ltd_i``, as a list.

        They are the only state: what is written to them, or assigned in their place, is in use.
        """
        return _Rates(self)

    @learning_rate.setter
    def learning_rate(self, pairs: Sequence[Any]) -> None:
        rates = self.learning_rate
        if pairs is not rates and isinstance(pairs, Sequence) and pairs and not isinstance(pairs[0], Sequence):
            pairs = [pairs] * len(rates)
        if not isinstance(pairs, Sequence) or len(pairs) != len(rates):
            accepted = f"a pair (LTP, LTD), or a list of {len(rates)} of them, one per feature"
            raise check.fail("learning_rate", accepted, pairs)
        for feature, pair in enumerate(list(pairs)):
            rates[feature] = pair

    def _stored(self) -> dict[str, Any]:
        """Where the Parameters are; replicas of DataParallel have them as plain attributes."""
        return {**vars(self), **self._parameters} if vars(self).get("_is_replica") else self._parameters

    @property
    def _rates(self) -> Tensor:
        """All rates as they stand, ``(features, 2)``."""
        return self._rates_of(range(self.conv_layer.out_channels))

    def _rates_of(self, features: Sequence[int]) -> Tensor:
        stored, names = self._stored(), _names(features)
        rates = [stored[name] for name in names]
        if any(rate.ndim != 1 for rate in rates):
            rates = [_one(stored, name) for name in names]
        together = torch.cat(rates) if rates else self.conv_layer.weight.new_empty(0)
        if len(together) != len(names):
            together = torch.cat([_one(stored, name) for name in names])  # which names the one that is wrong
        return together.detach().view(-1, 2)

    def update_learning_rate(self, feature: int, ap: float, an: float) -> None:
        """Set the rates of one feature: ``ap`` for LTP, ``an`` for LTD."""
        features = len(self.learning_rate)
        if not 0 <= check.integer(feature, "feature") < features:
            raise IndexError(f"`feature` must lie in 0..{features - 1}; got {feature}")
        for rate, name, value in zip(self.learning_rate[feature], ("ap", "an"), (ap, an), strict=True):
            check.representable(value, name, rate.dtype)
            rate.data.fill_(check.number(value, name))

    def update_all_learning_rate(self, ap: float, an: float) -> None:
        """Set the rates of all features: ``ap`` for LTP, ``an`` for LTD."""
        for feature in range(len(self.learning_rate)):
            self.update_learning_rate(feature, ap, an)

    # the rule

    def forward(
        self,
        input_spikes: Tensor,
        potentials: Tensor | None,
        output_spikes: Tensor,
        winners: Winners | BatchWinners | None = None,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        return_update: bool = False,
    ) -> Tensor | None:
        """Update the weights of the layer.

        The samples of a batch are applied in order, each on the weights that the one before left. As the caller
        computed all potentials beforehand this is a mini-batch; for exact online order see :meth:`online`.

        Args:
            input_spikes: what the layer saw, padded as the layer saw it: ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
            potentials: thresholded potentials of the layer, from which winners are chosen; not looked at (may be None)
                where winners are given.
            output_spikes: the spike wave of the layer, of the same shape as ``potentials``.
            winners: (feature, row, column) tuples, an integer tensor ``(k, 3)`` or a list of its rows, -1 for none; an
                empty one of any type is no winner; for a batch a list per sample or ``(N, k, 3)``. None:
                :func:`spyketorch.functional.get_k_winners` chooses them.
            kwta, inhibition_radius: for that choice.
            return_update: return the change of the weight.

        Returns:
            None, or the change of the whole weight, clamping included.

        Raises:
            ValueError, TypeError, IndexError: on tensors or winners that do not fit the layer.
        """
        weight = learnable(self.conv_layer)
        self._check_waves(input_spikes, output_spikes)
        if winners is None:
            winners = self._choose(potentials, output_spikes, kwta, inhibition_radius)
        before = weight.clone() if check.flag(return_update, "return_update") else None
        for sample in self._samples(input_spikes, output_spikes, winners):
            self._learn(*sample)
        return None if before is None else weight - before

    def online(
        self, input_spikes: Tensor, respond: Respond, kwta: int = 1, inhibition_radius: int = 0
    ) -> list[list[Winner]]:
        """Learn a batch in exact online order: each sample meets the weights that the one before left.

        Args:
            input_spikes: ``(N, T, C, H, W)``.
            respond: the layer's answer to one wave ``(T, C, H, W)``: (potentials, output spikes).
            kwta, inhibition_radius: as in :func:`spyketorch.functional.get_k_winners`.

        Returns:
            The winners of each sample.

        Example:
            >>> from spyketorch import snn, functional as sf
            >>> conv = snn.Convolution(2, 4, 3)
            >>> def respond(wave):
            ...     spikes, potentials = sf.fire(conv(wave), 5, return_thresholded_potentials=True)
            ...     return sf.pointwise_inhibition(potentials), spikes
            >>> winners = STDP(conv, (0.004, -0.003)).online(torch.ones(8, 15, 2, 9, 9), respond, kwta=2)
            >>> len(winners)
            8
        """
        return _online(self, input_spikes, respond, kwta, inhibition_radius)

    def minibatch(
        self, input_spikes: Tensor, respond: Respond, kwta: int = 1, inhibition_radius: int = 0
    ) -> list[list[Winner]]:
        """Learn a batch from one forward pass: ``respond`` answers the whole batch with the weights as they stand, then
        the samples' updates are applied in order, each on the weights so far. A batch of one is exactly online.

        Arguments and result are those of :meth:`online`; ``respond`` gets ``(N, T, C, H, W)``.
        """
        return _minibatch(self, input_spikes, respond, kwta, inhibition_radius)

    def get_pre_post_ordering(self, input_spikes: Tensor, output_spikes: Tensor, winners: Winners) -> list[Tensor]:
        """Which inputs of each winner fired no later than it.

        Decided by comparing sums over time, input >= output, whatever the tensors hold.

        Returns:
            One bool tensor ``(C, rows, columns)`` per winner, True where the rate is LTP.
        """
        self._check_waves(input_spikes, output_spikes)
        pre, post = self._spike_counts(input_spikes, output_spikes, self._index(winners, input_spikes, output_spikes))
        return list((pre >= post).unbind(0))

    def _choose(self, potentials: Any, spikes: Tensor, kwta: int, radius: int) -> Winners | BatchWinners:
        check.same_shape(check.potentials(potentials, "potentials"), "potentials", spikes, "output_spikes")
        choose = sf.get_k_winners if potentials.device.type == "cpu" else sf.k_winners  # no wait for other devices
        return choose(potentials, kwta, radius, spikes)

    def _check_waves(self, input_spikes: Tensor, output_spikes: Tensor) -> None:
        layer = self.conv_layer
        weight = layer.weight
        self._check_wave(input_spikes, "input_spikes", layer.in_channels, weight)
        self._check_wave(output_spikes, "output_spikes", layer.out_channels, weight)
        if input_spikes.shape[:-4] != output_spikes.shape[:-4]:
            raise ValueError(
                "`input_spikes` and `output_spikes` must both be one sample, or batches of the same size; got "
                f"{check.describe(input_spikes)} and {check.describe(output_spikes)}"
            )

    @staticmethod
    def _check_wave(wave: Tensor, name: str, features: int, weight: Tensor) -> None:
        check.same_device(check.spikes(wave, name), name, weight, "conv_layer.weight")
        if wave.shape[-3] != features:
            raise check.fail(name, f"a wave of {features} features, as conv_layer has them", wave)

    def _samples(self, input_spikes: Tensor, output_spikes: Tensor, winners: Any) -> list[tuple[Tensor, Tensor, Any]]:
        """(input, output, winners) of each sample, all winners checked before anything is learned."""
        input_spikes, output_spikes = input_spikes.detach(), output_spikes.detach()
        if input_spikes.ndim == 4:
            return [(input_spikes, output_spikes, self._index(winners, input_spikes, output_spikes))]
        if not isinstance(winners, Sequence | Tensor) or len(winners) != len(input_spikes):
            raise check.fail("winners", f"one list of winners per sample, {len(input_spikes)}", winners)
        return [
            (wave, spikes, self._index(chosen, wave, spikes))
            for wave, spikes, chosen in zip(input_spikes, output_spikes, winners, strict=True)
        ]

    def _index(self, winners: Any, input_spikes: Tensor, output_spikes: Tensor) -> list[Winner] | Tensor:
        """The winners of one sample that exist, checked; on a device that would have to be waited for, its tensor."""
        layer = self.conv_layer
        if isinstance(winners, list | tuple) and winners and isinstance(winners[0], Tensor) and winners[0].ndim:
            winners = _stacked(winners)
        if isinstance(winners, Tensor) and winners.numel() == 0:
            winners = []
        if isinstance(winners, Tensor):
            check.same_device(winners, "winners", layer.weight, "conv_layer.weight")
            if winners.is_floating_point() or winners.is_complex() or winners.dtype == torch.bool:
                raise check.fail_type("winners", "an integer tensor of shape (k, 3)", winners)
            if winners.ndim != 2 or winners.shape[1] != 3:
                raise check.fail("winners", "an integer tensor of shape (k, 3)", winners)
            if winners.device.type != "cpu" or not check.readable(winners):
                return winners.to(torch.int64)
            winners = [row for row in winners.tolist() if max(row) >= 0]
        elif not isinstance(winners, Sequence | np.ndarray) or isinstance(winners, str):
            raise check.fail_type("winners", "a list of (feature, row, column), or a tensor (k, 3)", winners)
        rows = [_winner(winner) for winner in winners]
        height, width = layer.geometry.output_size(*input_spikes.shape[-2:])
        limits = layer.out_channels, min(height, output_spikes.shape[-2]), min(width, output_spikes.shape[-1])
        for row in rows:
            feature, y, x = row
            if not (0 <= feature < limits[0] and 0 <= y < limits[1] and 0 <= x < limits[2]):
                raise self._outside(row, limits, input_spikes)
        return rows

    @staticmethod
    def _outside(winner: Sequence[int], limits: tuple[int, ...], input_spikes: Tensor) -> IndexError:
        return IndexError(
            f"`winners` must be (feature, row, column) below {limits}, the neurons that the layer has for "
            f"{check.describe(input_spikes)}; got {list(winner)}"
        )

    # what a rule is

    def change(self, synapses: Synapses) -> Tensor:
        """The change of each weight of the winners, ``(k, C, rows, columns)``, before the weights are clamped.

        A subclass may override it. Unless it overrides :meth:`compiled` too it runs in torch, after winners that are
        found by the compiled loops.
        """
        change = _given("rate", self.rate, synapses)
        for name, factor in (("weight_dependence", self._dependence()), ("modulation", self.modulation)):
            if factor is not None:
                change = change * _given(name, factor, synapses)
        return change

    def compiled(self) -> Twin | None:
        """The twin of :meth:`change` for the compiled loops; None where there is none for the rule as it is now."""
        return Simplified(self._dependence() is not None)

    def adapt(self, response: Response) -> None:
        """Let the thresholds of the layer follow its answer to one sample."""
        if self.thresholds is not None:
            layer: Any = self.conv_layer
            moved = layer.threshold.detach().cpu().numpy()
            self.thresholds.adapt(moved, response)
            layer.threshold.copy_(torch.from_numpy(moved))

    def why_not(self, times: Tensor, kwta: int = 1, inhibition_radius: int = 0, **options: Any) -> str | None:
        """Why :meth:`learn` with these arguments leaves the compiled loops, in a sentence; None where it does not.

        Example:
            >>> from spyketorch import snn
            >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, time_steps=15)
            >>> rule = STDP(layer, (0.004, -0.003), modulation=lambda synapses: 0.5)
            >>> rule.why_not(torch.zeros(8, 2, 9, 9, dtype=torch.uint8))
            'the rule has its own modulation'
        """
        return _on_times.back_end(self._task(times, kwta, inhibition_radius, **options))[1]

    def why_not_compiled(self) -> str | None:
        """Why there is no compiled twin of this rule, or None where there is."""
        own = self._own()
        if own:
            return f"the rule has its own {', '.join(own)}"
        return None if self.compiled() is not None else "the rule has no `compiled` twin"

    def _plasticity(self, features: Sequence[int] | None = None) -> Plasticity:
        """What the compiled loops learn by, with the rates of some features, or of all."""
        return _plasticity(self, self, features)

    # what is not the standard rule

    def _dependence(self) -> Factor | None:
        """The weight dependence in use."""
        if self.weight_dependence is None and self.use_stabilizer:
            return soft_bounds
        return self.weight_dependence

    def _own(self) -> list[str]:
        """What this rule has in place of the standard rule's: factors and methods, of its class or set later."""
        vouched = next(kind for kind in type(self).__mro__ if "compiled" in vars(kind))  # for all that it inherits
        own = ["adapt"] if getattr(vouched, "adapt", None) is not STDP.adapt else []
        if self.rate is not causal_step:
            own.append("rate")
        if self._dependence() not in (None, soft_bounds):
            own.append("weight_dependence")
        if self.modulation is not None:
            own.append("modulation")
        return own + _replaced(self, vouched)

    def _on_waves(self) -> bool:
        """Whether this rule's own methods are those that learn from waves."""
        return not _OF_TIMES.issuperset(_replaced(self, STDP))

    @contextmanager
    def _scaled(self, factor: Tensor) -> Iterator[None]:
        """Rates times a factor, for a while."""
        rates = [rate.data for pair in self.learning_rate for rate in pair]
        kept = [rate.clone() for rate in rates]
        torch._foreach_mul_(rates, factor)
        try:
            yield
        finally:
            for rate, before in zip(rates, kept, strict=True):
                rate.copy_(before)

    def _pair(self) -> "tuple[STDP, STDP]":
        """The rules after reward and after punishment."""
        return self, self

    def _padded(self, input: Tensor, value: float) -> Tensor:
        rows, columns = self.conv_layer.geometry.padding
        return fn.pad(input, (columns, columns, rows, rows), value=value) if rows or columns else input

    def _fields(self, input: Tensor, index: Tensor, padding_value: float) -> Tensor:
        """A map (C, H, W) under the receptive fields of the winners, (k, C, rows, columns)."""
        shape = self.conv_layer.geometry
        return self._padded(input, padding_value)[shape.receptive_fields(index, input.shape[0] // shape.groups)]

    def _spike_counts(
        self, input_spikes: Tensor, output_spikes: Tensor, winners: list[Winner] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums over time of the inputs of each winner, and of each winner: the larger, the earlier."""
        counts = _count(input_spikes)
        if isinstance(winners, Tensor):
            feature, row, column = winners.clamp(min=0).unbind(1)
            return self._fields(counts, winners, 0), _count(output_spikes[:, feature, row, column]).view(-1, 1, 1, 1)
        if not winners:
            return counts.new_empty(0, *self.conv_layer.weight.shape[1:]), counts.new_empty(0, 1, 1, 1)
        shape, counts = self.conv_layer.geometry, self._padded(counts, 0)
        pre = [counts[shape.receptive_field(winner, counts.shape[0] // shape.groups)] for winner in winners]
        post = _count(output_spikes)[torch.tensor(winners).unbind(1)]
        return torch.stack(pre), post.view(-1, 1, 1, 1)

    def _learn(
        self,
        input_spikes: Tensor,
        output_spikes: Tensor,
        winners: list[Winner] | Tensor,
        rates: Tensor | None = None,
    ) -> None:
        """Update the weights by one sample; ``rates`` (features, 2) replaces the rule's own."""
        if not isinstance(winners, Tensor):  # of two winners of one feature the last counts, as in the original
            winners = list({winner[0]: winner for winner in winners}.values())
            if check.free_to_read(self.conv_layer.weight) and self._standard():
                self._learn_standard(input_spikes, output_spikes, winners, rates)
                return
        elif self._own() and check.readable(winners):
            winners = [(f, y, x) for f, y, x in winners.tolist() if f >= 0]
        pre, post = self._spike_counts(input_spikes, output_spikes, winners)
        causal, ordering = pre >= post, self.get_pre_post_ordering
        if len(winners) and getattr(ordering, "__func__", None) is not STDP.get_pre_post_ordering:  # a subclass's own
            causal = torch.stack(list(ordering(input_spikes, output_spikes, winners))).to(torch.bool)
        if not isinstance(winners, Tensor):
            winners = torch.tensor(winners, dtype=torch.int64, device=pre.device).view(-1, 3)
        post = len(output_spikes) - post
        self._update(winners, causal, len(input_spikes) - pre, post, rates)
        self._clamp()
        self._adapt(input_spikes[-1] != 0, winners, post.flatten().long(), len(input_spikes))

    def _standard(self) -> bool:
        """Whether this rule is the standard one in all that it does."""
        return type(self).change is STDP.change and self.thresholds is None and not self._own()

    def _learn_standard(
        self, input_spikes: Tensor, output_spikes: Tensor, winners: list[Winner], rates: Tensor | None
    ) -> None:
        """The same for the standard rule."""
        shape, channels = self.conv_layer.geometry, self.conv_layer.weight.shape[1]
        counts = self._padded(_count(input_spikes), 0).numpy()
        outputs = (output_spikes.float() if output_spikes.dtype in _HALF else output_spikes).numpy()
        causal = []
        for winner in winners:
            feature, row, column = winner
            post = sum(wave := outputs[:, feature, row, column].tolist())
            if not _SPIKES.issuperset(wave):  # a sum of real numbers depends on what stands beside it
                post = _count(output_spikes).numpy()[winner]
            causal.append(counts[shape.receptive_field(winner, channels)] >= post)
        self._update_standard(winners, causal, rates)
        self.conv_layer.weight.data.clamp_(self.lower_bound, self.upper_bound)

    def _update_standard(self, winners: list[Winner], causal: list[Any], rates: Tensor | None) -> None:
        """:meth:`_update` of the standard rule, whose arithmetic numpy does with less ado than torch, to the bit."""
        stabilized, weights = self._dependence() is not None, self.conv_layer.weight.data.numpy()
        stored = self._stored()
        pairs = [_known(stored, feature) if rates is None else rates[feature].numpy() for feature, *_ in winners]
        for ltp, ltd in pairs:
            if not math.isfinite((ltp + ltd).item()):
                raise check.fail("learning_rate", "finite everywhere", (ltp.item(), ltd.item()))
        for (feature, *_), earlier, (ltp, ltd) in zip(winners, causal, pairs, strict=True):
            own = weights[feature]
            change = np.where(earlier, ltp, ltd)
            if stabilized:
                change = change * ((own - self.lower_bound) * (self.upper_bound - own))
            own += change.astype(own.dtype, copy=False)

    def _learn_times(
        self, times: Tensor, post: Tensor, index: Tensor, time_steps: int, rates: Tensor | None = None
    ) -> None:
        """:meth:`_learn` on first-spike times (C, H, W) and those of winners (k,); their weights alone are clamped."""
        if check.free_to_read(index) or (check.readable(index) and self._own()):  # rows of -1 are seen by no rule
            exists = index[:, 0] >= 0
            index, post = index[exists], post[exists]
        if check.free_to_read(self.conv_layer.weight) and self._standard():
            shape, inputs = self.conv_layer.geometry, self._padded(times, time_steps).numpy()
            winners: list[Winner] = [(f, y, x) for f, y, x in index.tolist()]
            fields = [inputs[shape.receptive_field(winner, len(inputs) // shape.groups)] for winner in winners]
            causal = [field <= step for field, step in zip(fields, post.tolist(), strict=True)]
            self._update_standard(winners, causal, rates)
            for feature, *_ in winners:
                self.conv_layer.weight.data[feature].clamp_(self.lower_bound, self.upper_bound)
            return
        pre, after = self._fields(times, index, time_steps).long(), post.view(-1, 1, 1, 1)
        self._update(index, pre <= after, pre, after, rates)
        self._adapt(times < time_steps, index, post, time_steps)

    def _adapt(self, heard: Tensor, index: Tensor, post: Tensor, time_steps: int) -> None:
        """Tell :meth:`adapt` what the layer made of a sample, of whose inputs ``heard`` fired."""
        if self.thresholds is None and "adapt" not in _replaced(self, STDP):
            return
        exists = index[:, 0] >= 0
        winners, steps = (part.cpu().numpy() for part in (index[exists], post[exists]))
        self.adapt(Response(winners, steps, float(heard.double().mean()), time_steps))

    def _update(self, index: Tensor, causal: Tensor, pre: Tensor, post: Tensor, rates: Tensor | None) -> None:
        weight = self.conv_layer.weight.data
        if len(index):
            features = index[:, 0].clamp(min=0)
            if rates is not None:
                pairs = rates[features]
            else:  # of those that learn alone, where they are known
                pairs = self._rates_of(features.tolist()) if check.free_to_read(index) else self._rates[features]
            ltp, ltd = pairs.view(-1, 2, 1, 1, 1).unbind(1)
            synapses = Synapses(
                features=features,
                weight=weight[features],
                causal=causal,
                pre_times=pre,
                post_times=post,
                ltp=ltp,
                ltd=ltd,
                lower_bound=self.lower_bound,
                upper_bound=self.upper_bound,
            )
            change = self.change(synapses)
            if not check.free_to_read(index):  # where it is, winners that do not exist have been left out
                change = torch.where((index[:, 0] >= 0).view(-1, 1, 1, 1), change, 0)
            if check.free_to_read(change) and math.isnan(change.sum()) and bool(change.isnan().any()):
                raise ValueError(
                    "`rate`, `weight_dependence` and `modulation` must give changes of the weight that are numbers; "
                    f"their product is NaN for features {features.tolist()}: look for 0 / 0 and for NaN among the rates"
                )
            change = change.to(weight.dtype).expand_as(synapses.weight)
            if check.free_to_read(index):  # of the CPU's ways the one that wakes no threads
                weight[features] = (synapses.weight + change).clamp_(self.lower_bound, self.upper_bound)
            else:  # winners that do not exist stand for feature 0
                weight.index_add_(0, features, change)

    def _clamp(self) -> None:
        """Keep all weights within the bounds."""
        self.conv_layer.weight.data.clamp_(self.lower_bound, self.upper_bound)

    # first-spike times

    def learn(
        self,
        times: Tensor,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        pointwise_inhibition: bool = True,
        minibatch: int = 1,
    ) -> Tensor:
        """Learn a chunk of samples, given as first-spike times, in exact online order.

        For each sample the layer answers, neurons inhibit each other, winners are chosen, and the weights are updated;
        the next sample meets the new weights. On a CPU with numba the whole chunk is one call, which stops each sample
        at its last winner; elsewhere, and for a rule with code of your own, it is a loop in torch. Where a data set is
        cut into chunks makes no difference. On a GPU the loop of the standard rule never waits for the device.

        A rule with factors or methods of its own (of a subclass, or set later) runs them: factors and ``_update`` on
        times; for all other methods, ``forward`` among them, each sample is turned into waves.

        Args:
            times: input of the layer, which must be an :class:`spyketorch.snn.SpikingConvolution`, ``(N, C, H, W)``.
            kwta, inhibition_radius: as in :func:`spyketorch.latency.k_winners`.
            pointwise_inhibition: let one feature survive at each position before winners are chosen.
            minibatch: samples that answer with the same weights, before their updates are applied in order; 1 is
                exactly online. Larger ones run in torch, and suit a GPU.

        Returns:
            The winners, int64 ``(N, k, 3)``, as of :func:`spyketorch.latency.k_winners`.

        Example:
            >>> from spyketorch import snn
            >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, time_steps=15)
            >>> winners = STDP(layer, (0.004, -0.003)).learn(torch.zeros(8, 2, 9, 9, dtype=torch.uint8), kwta=2)
            >>> winners.shape
            torch.Size([8, 2, 3])
        """
        return _on_times.learn(self._task(times, kwta, inhibition_radius, pointwise_inhibition, minibatch))

    def _task(
        self, times: Tensor, kwta: int, radius: int, pointwise_inhibition: bool = True, minibatch: int = 1
    ) -> _on_times.Task:
        choice = (kwta, radius, check.flag(pointwise_inhibition, "pointwise_inhibition"))
        return _on_times.task(self, _on_times.checked(self, times), choice, minibatch, None)

    def extra_repr(self) -> str:
        return f"use_stabilizer={self.use_stabilizer}, bounds=({self.lower_bound}, {self.upper_bound})"


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
        >>> from spyketorch import snn
        >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, weight_mean=0.5, time_steps=15)
        >>> rule = MultiplicativeSTDP(layer, thresholds=TargetTime(0.75, rate=0.5))
        >>> rule.learn(torch.zeros(8, 2, 9, 9, dtype=torch.uint8)).shape
        torch.Size([8, 1, 3])

    Reference:
        Querlioz et al., *Immunity to device variations in a spiking neural network with memristive nanodevices*, IEEE
        Transactions on Nanotechnology 12:288-295, 2013; with target times: Falez et al., IJCNN 2019.
    """

    def __init__(
        self,
        conv_layer: "Convolution",
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


class RSTDP(nn.Module):
    """Reward-modulated STDP: one rule for rewarded samples and one for punished ones.

    A rewarded sample is learned like :class:`STDP`; a punished one with rates of opposite sign (anti-STDP), so that the
    winner forgets what it answered to.

    Args:
        conv_layer: the layer that learns.
        reward_rate: (LTP, LTD) pair for rewarded samples, or a list of pairs, such as (0.004, -0.003).
        punishment_rate: the same for punished samples, such as (-0.004, 0.0005).
        use_stabilizer, lower_bound, upper_bound, rate, weight_dependence, modulation: as for :class:`STDP`.

    Attributes:
        reward, punishment: the two :class:`STDP` rules; their learning rates are live.

    Example:
        >>> from spyketorch import snn, functional as sf
        >>> conv = snn.Convolution(250, 200, 5)
        >>> rstdp = RSTDP(conv, (0.004, -0.003), (-0.004, 0.0005))
        >>> wave = torch.ones(15, 250, 5, 5)
        >>> spikes, potentials = sf.fire(conv(wave), return_thresholded_potentials=True)
        >>> rstdp(wave, potentials, spikes, outcomes=-1)
    """

    def __init__(
        self,
        conv_layer: "Convolution",
        reward_rate: Sequence[float] | Sequence[Sequence[float]],
        punishment_rate: Sequence[float] | Sequence[Sequence[float]],
        use_stabilizer: bool = False,
        lower_bound: float = 0.2,
        upper_bound: float = 0.8,
        *,
        rate: Factor = causal_step,
        weight_dependence: Factor | None = None,
        modulation: Factor | None = None,
    ) -> None:
        super().__init__()
        _check_layer(conv_layer)
        for name, pair in (("reward_rate", reward_rate), ("punishment_rate", punishment_rate)):
            _rate_pairs(pair, conv_layer.out_channels, name)
        factors: dict[str, Any] = {"rate": rate, "weight_dependence": weight_dependence, "modulation": modulation}
        self.reward = STDP(conv_layer, reward_rate, use_stabilizer, lower_bound, upper_bound, **factors)
        self.punishment = STDP(conv_layer, punishment_rate, use_stabilizer, lower_bound, upper_bound, **factors)

    def forward(
        self,
        input_spikes: Tensor,
        potentials: Tensor | None,
        output_spikes: Tensor,
        outcomes: float | Sequence[float] | Tensor,
        winners: Winners | BatchWinners | None = None,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        return_update: bool = False,
    ) -> Tensor | None:
        """Update the weights of the layer by the outcome of each sample.

        Args:
            outcomes: one number per sample: above 0 reward, below 0 punishment, 0 leaves the sample out; its magnitude
                scales the rates.
            input_spikes, potentials, output_spikes, winners, kwta, inhibition_radius, return_update: as for
                :meth:`STDP.forward`.
        """
        rule = self.reward
        weight = learnable(rule.conv_layer)
        rule._check_waves(input_spikes, output_spikes)
        values = _outcomes(outcomes, input_spikes, weight)
        if winners is None:
            winners = rule._choose(potentials, output_spikes, kwta, inhibition_radius)
        before = weight.clone() if check.flag(return_update, "return_update") else None
        samples = rule._samples(input_spikes, output_spikes, winners)
        own = rule._on_waves() or self.punishment._on_waves()
        for i, (outcome, (wave, spikes, index)) in enumerate(zip(values, samples, strict=True)):
            rule, rates = self._judged(outcome)
            if not own:
                if isinstance(index, Tensor):  # on a device that is not waited for
                    index = torch.where(outcome == 0, -1, index)
                rule._learn(wave, spikes, index if isinstance(index, Tensor) or outcome != 0 else [], rates)
            elif outcome != 0:
                one = potentials[i] if isinstance(potentials, Tensor) and potentials.ndim == 5 else potentials
                with rule._scaled(outcome.abs()):
                    rule(wave, one, spikes, index)
            else:
                weight.clamp_(rule.lower_bound, rule.upper_bound)
        return None if before is None else weight - before

    def _judged(self, outcome: Tensor) -> tuple[STDP, Tensor | None]:
        """The rule of an outcome, and its rates where they are not simply the rule's own."""
        # Reward and punishment of an own rule may differ in more than rates, so that the outcome has to be read.
        if check.free_to_read(outcome) or self._own():
            value = float(outcome)
            rule = self.reward if value > 0 else self.punishment
            return rule, None if abs(value) == 1 else rule._rates * outcome.abs()
        return self.reward, torch.where(outcome > 0, self.reward._rates, self.punishment._rates) * outcome.abs()

    def _learn_times(self, times: Tensor, post: Tensor, index: Tensor, time_steps: int, outcome: Tensor) -> None:
        rule, rates = self._judged(outcome)
        rule._learn_times(times, post, torch.where(outcome == 0, -1, index), time_steps, rates)

    def _pair(self) -> tuple[STDP, STDP]:
        return self.reward, self.punishment

    def _plasticity(self, features: Sequence[int] | None = None) -> Plasticity:
        """What the compiled loops learn by, with the rates of some features, or of all."""
        return _plasticity(*self._pair(), features)

    def why_not_compiled(self) -> str | None:
        """Why there is no compiled twin of this rule, or None where there is."""
        own = self._own()
        return f"the rule has its own {', '.join(own)}" if own else self.reward.why_not_compiled()

    def why_not(self, times: Tensor, labels: Tensor, classes: Tensor, *choice: Any, **options: Any) -> str | None:
        """Why :meth:`learn` with these arguments leaves the compiled loops, in a sentence; None where it does not."""
        return _on_times.back_end(self._task(times, labels, classes, *choice, **options))[1]

    def _own(self) -> list[str]:
        """As of :class:`STDP`; and where the two rules differ in more than their rates."""
        kinds = [
            (rule.lower_bound, rule.upper_bound, rule._dependence(), repr(rule.compiled())) for rule in self._pair()
        ]
        return (
            _replaced(self, RSTDP)
            + [
                f"{name}.{part}"
                for name, rule in zip(("reward", "punishment"), self._pair(), strict=True)
                for part in rule._own()
            ]
            + (["bounds or stabilizer"] if kinds[0] != kinds[1] else [])
        )

    def _on_waves(self) -> bool:
        return not _OF_TIMES.issuperset(_replaced(self, RSTDP)) or any(rule._on_waves() for rule in self._pair())

    def learn(
        self,
        times: Tensor,
        labels: Tensor,
        classes: Tensor,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        pointwise_inhibition: bool = False,
        correction: str | None = None,
        active: Tensor | None = None,
        minibatch: int = 1,
    ) -> Tensor:
        """Learn a chunk of samples, given as first-spike times, in exact online order, as :meth:`STDP.learn`.

        The first winner decides: the class of its feature is right, and rewarded, or wrong, and punished. Samples
        without a winner teach nothing.

        With a ``correction`` only mistakes teach: a wrong decision is punished as ever, and the sample is decided again
        without the features of that class ("guess": until the answer is right, which is rewarded) or with those of the
        right class alone ("teach"). What is known already is then not reinforced any further.

        Args:
            times: input of the layer, an :class:`spyketorch.snn.SpikingConvolution`, ``(N, C, H, W)``.
            labels: class of each sample, integers ``(N,)``.
            classes: class of each feature, integers ``(features,)``; for "guess" they are looked at once per call, so
                that a GPU is waited for where they are a tensor there.
            kwta, inhibition_radius, pointwise_inhibition: as there.
            correction: None as published, "guess" or "teach".
            active: bool ``(N, features)``, False for features that drop out of a sample: they neither win nor inhibit.
            minibatch: as there.

        Returns:
            The winners, int64 ``(N, k, 3)``; ``classes[winners[:, 0, 0]]`` are the decisions where it is not -1.

        Example:
            >>> from spyketorch import snn
            >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=None, time_steps=15)
            >>> rule = RSTDP(layer, (0.004, -0.003), (-0.004, 0.0005))
            >>> times, labels = torch.zeros(2, 2, 3, 3, dtype=torch.uint8), torch.tensor([0, 1])
            >>> rule.learn(times, labels, classes=torch.tensor([0, 0, 1, 1])).shape
            torch.Size([2, 1, 3])
        """
        choice = (kwta, inhibition_radius, pointwise_inhibition)
        return _on_times.learn(self._task(times, labels, classes, *choice, correction, active, minibatch))

    def _task(
        self,
        times: Tensor,
        labels: Tensor,
        classes: Tensor,
        kwta: int = 1,
        radius: int = 0,
        pointwise_inhibition: bool = False,
        correction: str | None = None,
        active: Tensor | None = None,
        minibatch: int = 1,
    ) -> _on_times.Task:
        choice = (kwta, radius, check.flag(pointwise_inhibition, "pointwise_inhibition"))
        times, features = _on_times.checked(self.reward, times), self.reward.conv_layer.out_channels
        teacher = Teacher.of(times, features, labels, classes, correction, active)
        return _on_times.task(self, times, choice, minibatch, teacher)

    def online(
        self, input_spikes: Tensor, respond: Respond, judge: Judge, kwta: int = 1, inhibition_radius: int = 0
    ) -> list[list[Winner]]:
        """Learn a batch in exact online order, as :meth:`STDP.online`.

        Args:
            judge: the outcome of a sample, from its index in the batch and its winners.
        """
        return _online(self, input_spikes, respond, kwta, inhibition_radius, judge)

    def minibatch(
        self, input_spikes: Tensor, respond: Respond, judge: Judge, kwta: int = 1, inhibition_radius: int = 0
    ) -> list[list[Winner]]:
        """Learn a batch from one forward pass, as :meth:`STDP.minibatch`; ``judge`` as for :meth:`online`."""
        return _minibatch(self, input_spikes, respond, kwta, inhibition_radius, judge)


def _plasticity(reward: STDP, punishment: STDP, features: Sequence[int] | None) -> Plasticity:
    """With the rates of some features, or of all."""
    count, twin = reward.conv_layer.out_channels, reward.compiled()
    assert twin is not None
    known = range(count) if features is None else features
    own = reward._rates_of(known).numpy()
    rates = np.zeros((2, count, 2), own.dtype)
    rates[0, known] = own
    rates[1, known] = own if punishment is reward else punishment._rates_of(known).numpy()
    if not math.isfinite(rates.sum()):
        check.finite(torch.from_numpy(rates), "learning_rate")
    return Plasticity(rates, (reward.lower_bound, reward.upper_bound), twin, reward.thresholds)


_HALF = (torch.float16, torch.bfloat16)
_SPIKES = frozenset((0, 1))


def _count(wave: Tensor) -> Tensor:
    """The sum over time, exact for spikes of any type."""
    return wave.sum(0, dtype=torch.float32 if wave.dtype in _HALF else None)


def _stacked(winners: Sequence[Any]) -> Tensor:
    """Rows of a tensor of winners, as one."""
    if not all(isinstance(row, Tensor) and row.shape == (3,) for row in winners):
        raise check.fail("winners", "a list of (feature, row, column), or a tensor (k, 3)", winners)
    return torch.stack(list(winners))


def _winner(winner: Any) -> Winner:
    if type(winner) is tuple and [type(i) for i in winner] == [int, int, int]:
        return winner
    if not isinstance(winner, Sequence | np.ndarray) or isinstance(winner, str) or len(winner) != 3:
        raise check.fail("winners", "a list of (feature, row, column)", winner)
    feature, row, column = (check.integer(i, "winners") for i in winner)
    return feature, row, column


def _outcomes(outcomes: Any, input_spikes: Tensor, weight: Tensor) -> Tensor:
    """Outcomes as one number per sample beside the weight and of its type."""
    if not isinstance(outcomes, Tensor):
        given = outcomes if isinstance(outcomes, Sequence) and not isinstance(outcomes, str) else [outcomes]
        values = torch.tensor([check.number(value, "outcomes") for value in given])
    else:
        values = outcomes
    samples = len(input_spikes) if input_spikes.ndim == 5 else 1
    if values.dtype == torch.bool or values.is_complex():
        raise check.fail_type("outcomes", "numbers: above 0 reward, below 0 punishment, 0 neither", outcomes)
    if values.numel() != samples:
        raise check.fail("outcomes", f"one number per sample, {samples}", outcomes)
    if check.free_to_read(values):
        check.finite(values, "outcomes")
    return values.to(weight).view(samples)


def _answer(respond: Respond, wave: Tensor) -> tuple[Tensor, Tensor]:
    answer = respond(wave)
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise check.fail_type("respond", "a function that returns (potentials, output_spikes)", answer)
    return answer[0], answer[1]


def _check_loop(input_spikes: Tensor, respond: Respond, judge: Judge | None) -> None:
    if check.wave(input_spikes, "input_spikes").ndim != 5:
        raise check.fail("input_spikes", "a batch of shape (N, T, C, H, W)", input_spikes)
    check.callable_(respond, "respond")
    if judge is not None:
        check.callable_(judge, "judge")


def _online(
    rule: STDP | RSTDP, input_spikes: Tensor, respond: Respond, kwta: int, radius: int, judge: Judge | None = None
) -> list[list[Winner]]:
    _check_loop(input_spikes, respond, judge)
    history: list[list[Winner]] = []
    for i, wave in enumerate(input_spikes):
        potentials, spikes = _answer(respond, wave)
        winners: list[Winner] = sf.get_k_winners(potentials, kwta, radius, spikes)
        verdict = () if judge is None else (judge(i, winners),)
        rule(wave, potentials, spikes, *verdict, winners=winners)
        history.append(winners)
    return history


def _minibatch(
    rule: STDP | RSTDP, input_spikes: Tensor, respond: Respond, kwta: int, radius: int, judge: Judge | None = None
) -> list[list[Winner]]:
    _check_loop(input_spikes, respond, judge)
    potentials, spikes = _answer(respond, input_spikes)
    history: list[list[Winner]] = sf.get_k_winners(potentials, kwta, radius, spikes)
    verdict = () if judge is None else ([judge(i, winners) for i, winners in enumerate(history)],)
    rule(input_spikes, potentials, spikes, *verdict, winners=history)
    return history
