"""STDP, the standard rule and what others are made from."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch._convolution import conv2d, learnable
from spyketorch._plasticity import Inputs, Plasticity, Response, Synapse, Thresholds, Twin
from spyketorch._state import CheckedState
from spyketorch.functional import Winner
from spyketorch.learning import _on_times, _on_waves
from spyketorch.learning._layer import Plastic, adaptable, check_layer
from spyketorch.learning._rates import Rates, known, names, one, rate_pairs
from spyketorch.learning._replaced import OF_TIMES, replaced
from spyketorch.learning._synapses import Factor, Synapses, Timing, causal_step, given, shares, soft_bounds
from spyketorch.learning._thresholds import in_torch
from spyketorch.learning._winners import BatchWinners, Respond, Winners, stacked, winner_of

HALF = (torch.float16, torch.bfloat16)
SPIKES = frozenset((0, 1))


class Simplified(NamedTuple):
    """The compiled twin of the standard rule: :func:`causal_step`, and with a stabilizer :func:`soft_bounds`."""

    stabilizer: bool

    def change(self, synapse: Synapse) -> float:
        """In the order of operations of the dense rule."""
        rate = synapse.ltp if synapse.causal else synapse.ltd
        if self.stabilizer:
            return rate * ((synapse.weight - synapse.lower_bound) * (synapse.upper_bound - synapse.weight))
        return rate


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
        conv_layer: Plastic,
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
        check_layer(conv_layer)
        self.conv_layer = conv_layer
        self.use_stabilizer = use_stabilizer
        self.lower_bound, self.upper_bound = check.bounds(lower_bound, upper_bound)
        given = {"rate": rate, "weight_dependence": weight_dependence, "modulation": modulation}
        for name, factor in given.items():
            if factor not in (causal_step, None) or not hasattr(type(self), name):  # a subclass may have it as a method
                setattr(self, name, factor)
        if thresholds is not None:
            self.thresholds = thresholds
        self.learning_rate = rate_pairs(learning_rate, conv_layer.out_channels, "learning_rate")

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
            adaptable(self.conv_layer, value)
        elif name.startswith(("ltp_", "ltd_")) and not (isinstance(value, Tensor) and value.numel() == 1):
            raise check.fail(name, "a Parameter of one number", value)
        super().__setattr__(name, value)

    @property
    def learning_rate(self) -> Rates:
        """Per feature the pair of one-element Parameters ``ltp_i`` and ``ltd_i``, as a list.

        They are the only state: what is written to them, or assigned in their place, is in use.
        """
        return Rates(self)

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
        stored, wanted = self._stored(), names(features)
        rates = [stored[name] for name in wanted]
        if any(rate.ndim != 1 for rate in rates):
            rates = [one(stored, name) for name in wanted]
        together = torch.cat(rates) if rates else self.conv_layer.weight.new_empty(0)
        if len(together) != len(wanted):
            together = torch.cat([one(stored, name) for name in wanted])  # which names the one that is wrong
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
        stored, wanted = self._stored(), names(range(self.conv_layer.out_channels))
        for kind, name, value in ((0, "ap", ap), (1, "an", an)):
            rates = [stored[rate] for rate in wanted[kind::2]]
            check.representable(value, name, rates[0].dtype)
            with torch.no_grad():
                torch._foreach_zero_(rates)
                torch._foreach_add_(rates, check.number(value, name))

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
        input_potentials: Tensor | None = None,
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
            input_potentials: what each input that stayed silent reached by the end, as a share of its threshold, 0..1:
                one number for each input, a tensor of the shape of the input less its time steps. It is what rules
                that look at :attr:`Synapses.pre_potentials` know beside the spikes; None where it is not known.

        Returns:
            None, or the change of the whole weight, clamping included.

        Raises:
            ValueError, TypeError, IndexError: on tensors or winners that do not fit the layer.
        """
        weight = self._learnable()
        self._check_waves(input_spikes, output_spikes)
        if winners is None:
            winners = self._choose(potentials, output_spikes, kwta, inhibition_radius)
        before = weight.clone() if check.flag(return_update, "return_update") else None
        for sample in self._samples(input_spikes, output_spikes, winners, input_potentials):
            self._learn(*sample)
        return None if before is None else weight - before

    def online(
        self,
        input_spikes: Tensor,
        respond: Respond,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        input_potentials: Tensor | None = None,
    ) -> list[list[Winner]]:
        """Learn a batch in exact online order: each sample meets the weights that the one before left.

        Args:
            input_spikes: ``(N, T, C, H, W)``.
            respond: the layer's answer to one wave ``(T, C, H, W)``: (potentials, output spikes).
            kwta, inhibition_radius: as in :func:`spyketorch.functional.get_k_winners`.
            input_potentials: ``(N, C, H, W)``, as for :meth:`forward`.

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
        return _on_waves.online(self, Inputs(input_spikes, input_potentials), respond, (kwta, inhibition_radius))

    def minibatch(
        self,
        input_spikes: Tensor,
        respond: Respond,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        input_potentials: Tensor | None = None,
    ) -> list[list[Winner]]:
        """Learn a batch from one forward pass: ``respond`` answers the whole batch with the weights as they stand, then
        the samples' updates are applied in order, each on the weights so far. A batch of one is exactly online.

        Arguments and result are those of :meth:`online`; ``respond`` gets ``(N, T, C, H, W)``.
        """
        return _on_waves.minibatch(self, Inputs(input_spikes, input_potentials), respond, (kwta, inhibition_radius))

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
        choose = sf.get_k_winners if check.free_to_read(potentials) else sf.k_winners
        return choose(potentials, kwta, radius, spikes)

    def _learnable(self) -> Tensor:
        """The weight that changes; the rates must be where it is."""
        weight = learnable(self.conv_layer)
        check.same_device(one(self._stored(), "ltp_0"), "learning_rate", weight, "conv_layer.weight")
        return weight

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

    def _samples(
        self, input_spikes: Tensor, output_spikes: Tensor, winners: Any, potentials: Any
    ) -> list[tuple[Tensor, Tensor, Any, Tensor | None]]:
        """(input, output, winners, inputs' potentials) of each sample, all checked before anything is learned."""
        input_spikes, output_spikes = input_spikes.detach(), output_spikes.detach()
        told = shares(potentials, (*input_spikes.shape[:-4], *input_spikes.shape[-3:]), self.conv_layer.weight)
        if input_spikes.ndim == 4:
            return [(input_spikes, output_spikes, self._index(winners, input_spikes, output_spikes), told)]
        if not isinstance(winners, Sequence | Tensor) or len(winners) != len(input_spikes):
            raise check.fail("winners", f"one list of winners per sample, {len(input_spikes)}", winners)
        return [
            (wave, spikes, self._index(chosen, wave, spikes), None if told is None else told[i])
            for i, (wave, spikes, chosen) in enumerate(zip(input_spikes, output_spikes, winners, strict=True))
        ]

    def _index(self, winners: Any, input_spikes: Tensor, output_spikes: Tensor) -> list[Winner] | Tensor:
        """The winners of one sample that exist, checked; on a device that would have to be waited for, its tensor."""
        layer = self.conv_layer
        if isinstance(winners, list | tuple) and winners and isinstance(winners[0], Tensor) and winners[0].ndim:
            winners = stacked(winners)
        if isinstance(winners, Tensor) and winners.numel() == 0:
            winners = []
        if isinstance(winners, Tensor):
            check.same_device(winners, "winners", layer.weight, "conv_layer.weight")
            if winners.is_floating_point() or winners.is_complex() or winners.dtype == torch.bool:
                raise check.fail_type("winners", "an integer tensor of shape (k, 3)", winners)
            if winners.ndim != 2 or winners.shape[1] != 3:
                raise check.fail("winners", "an integer tensor of shape (k, 3)", winners)
            if not check.free_to_read(winners):
                return winners.to(torch.int64)
            winners = [row for row in winners.tolist() if max(row) >= 0]
        elif not isinstance(winners, Sequence | np.ndarray) or isinstance(winners, str):
            raise check.fail_type("winners", "a list of (feature, row, column), or a tensor (k, 3)", winners)
        rows = [winner_of(winner) for winner in winners]
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
        change = given("rate", self.rate, synapses)
        for name, factor in (("weight_dependence", self._dependence()), ("modulation", self.modulation)):
            if factor is not None:
                change = change * given(name, factor, synapses)
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

    def _why_not_compiled(self) -> str | None:
        """Why there is no compiled twin of this rule, or None where there is."""
        own = self._own()
        if own:
            return f"the rule has its own {', '.join(own)}"
        return None if self.compiled() is not None else "the rule has no `compiled` twin"

    def _plasticity(self, features: Sequence[int] | None = None) -> Plasticity:
        """What the compiled loops learn by, with the rates of some features, or of all."""
        return plasticity_of(self, self, features)

    # what is not the standard rule

    def _dependence(self) -> Factor | None:
        """The weight dependence in use."""
        if self.weight_dependence is None and self.use_stabilizer:
            return soft_bounds
        return self.weight_dependence

    def _own(self) -> list[str]:
        """What this rule has in place of the standard rule's: factors and methods, of its class or set later."""
        kind, own = type(self), []
        vouched = (
            STDP if kind is STDP else next(k for k in kind.__mro__ if "compiled" in vars(k))
        )  # for what it inherits
        if vouched is not STDP and getattr(vouched, "adapt", None) is not STDP.adapt:
            own.append("adapt")
        if self.rate is not causal_step:
            own.append("rate")
        if self._dependence() not in (None, soft_bounds):
            own.append("weight_dependence")
        if self.modulation is not None:
            own.append("modulation")
        return own + replaced(self, vouched)

    def _on_waves(self) -> bool:
        """Whether this rule's own methods are those that learn from waves."""
        return not OF_TIMES.issuperset(replaced(self, STDP))

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
        shape, padded, channels = self.conv_layer.geometry, self._padded(input, padding_value), len(input)
        if not check.free_to_read(index) or not len(index):
            return padded[shape.receptive_fields(index, channels // shape.groups)]
        places, values = index.clamp(min=0).tolist(), padded.numpy()  # slices, which torch takes one index at a time
        return torch.from_numpy(np.stack([values[shape.receptive_field(p, channels // shape.groups)] for p in places]))

    def _spike_counts(
        self, input_spikes: Tensor, output_spikes: Tensor, winners: list[Winner] | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sums over time of the inputs of each winner, and of each winner: the larger, the earlier."""
        counts = count(input_spikes)
        if isinstance(winners, Tensor):
            feature, row, column = winners.clamp(min=0).unbind(1)
            return self._fields(counts, winners, 0), count(output_spikes[:, feature, row, column]).view(-1, 1, 1, 1)
        if not winners:
            return counts.new_empty(0, *self.conv_layer.weight.shape[1:]), counts.new_empty(0, 1, 1, 1)
        shape, counts = self.conv_layer.geometry, self._padded(counts, 0)
        pre = [counts[shape.receptive_field(winner, counts.shape[0] // shape.groups)] for winner in winners]
        post = count(output_spikes)[torch.tensor(winners).unbind(1)]
        return torch.stack(pre), post.view(-1, 1, 1, 1)

    def _learn(
        self,
        input_spikes: Tensor,
        output_spikes: Tensor,
        winners: list[Winner] | Tensor,
        potentials: Tensor | None = None,
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
        reached = self._reached(pre > 0, winners, potentials)
        self._update(winners, Timing(causal, len(input_spikes) - pre, post, reached), rates)
        self._clamp()
        self._adapt(input_spikes[-1] != 0, winners, post.flatten().long(), len(input_spikes))

    def _standard(self) -> bool:
        """Whether this rule is the standard one in all that it does."""
        return type(self).change is STDP.change and self.thresholds is None and not self._own()

    def _learn_standard(
        self, input_spikes: Tensor, output_spikes: Tensor, winners: list[Winner], rates: Tensor | None
    ) -> None:
        """The same for the standard rule."""
        layer = self.conv_layer
        weight, shape = layer.weight.data, layer.geometry
        channels, counts = weight.shape[1], self._padded(count(input_spikes), 0).numpy()
        outputs = (output_spikes.float() if output_spikes.dtype in HALF else output_spikes).numpy()
        causal = []
        for winner in winners:
            feature, row, column = winner
            post = sum(wave := outputs[:, feature, row, column].tolist())
            if not SPIKES.issuperset(wave):  # a sum of real numbers depends on what stands beside it
                post = count(output_spikes).numpy()[winner]
            causal.append(counts[shape.receptive_field(winner, channels)] >= post)
        self._update_standard(weight, winners, causal, rates)
        weight.clamp_(self.lower_bound, self.upper_bound)

    def _update_standard(self, weight: Tensor, winners: list[Winner], causal: list[Any], rates: Tensor | None) -> None:
        """:meth:`_update` of the standard rule, whose arithmetic numpy does with less ado than torch, to the bit."""
        stabilized, weights, stored = self._dependence() is not None, weight.numpy(), self._stored()
        pairs = [known(stored, feature) if rates is None else rates[feature].numpy() for feature, *_ in winners]
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
        self, sample: Inputs, post: Tensor, index: Tensor, time_steps: int, rates: Tensor | None = None
    ) -> None:
        """:meth:`_learn` on first-spike times (C, H, W) and those of winners (k,); their weights alone are clamped."""
        times: Tensor = sample.times
        if check.free_to_read(index) or (check.readable(index) and self._own()):  # rows of -1 are seen by no rule
            exists = index[:, 0] >= 0
            index, post = (index, post) if bool(exists.all()) else (index[exists], post[exists])
        if check.free_to_read(self.conv_layer.weight) and self._standard():
            shape, inputs = self.conv_layer.geometry, self._padded(times, time_steps).numpy()
            winners: list[Winner] = [(f, y, x) for f, y, x in index.tolist()]
            fields = [inputs[shape.receptive_field(winner, len(inputs) // shape.groups)] for winner in winners]
            causal = [field <= step for field, step in zip(fields, post.tolist(), strict=True)]
            weight = self.conv_layer.weight.data
            self._update_standard(weight, winners, causal, rates)
            for feature, *_ in winners:
                weight[feature].clamp_(self.lower_bound, self.upper_bound)
            return
        pre, after = self._fields(times, index, time_steps).long(), post.view(-1, 1, 1, 1)
        reached = self._reached(pre < time_steps, index, sample.potentials)
        self._update(index, Timing(pre <= after, pre, after, reached), rates)
        self._adapt(times < time_steps, index, post, time_steps)

    def _adapt(self, heard: Tensor, index: Tensor, post: Tensor, time_steps: int) -> None:
        """Let thresholds follow what the layer made of a sample, of whose inputs ``heard`` fired."""
        own = "adapt" in replaced(self, STDP)
        if self.thresholds is None and not own:
            return
        exists, move = index[:, 0] >= 0, None if own else in_torch(self.thresholds)
        most = self._most_heard(heard, exists)
        if move is not None:
            layer: Any = self.conv_layer
            check.same_device(layer.threshold, "conv_layer.threshold", layer.weight, "conv_layer.weight")
            move(layer.threshold, Response(index, post, most, time_steps))
            return
        winners, steps = (part.cpu().numpy() for part in (index[exists], post[exists]))
        self.adapt(Response(winners, steps, float(most), time_steps))

    def _most_heard(self, heard: Tensor, exists: Tensor) -> Tensor:
        """The largest share of what a neuron sees of inputs (C, H, W) that fired; 1 where a winner exists."""
        shape, weight = self.conv_layer.geometry, self.conv_layer.weight
        if check.free_to_read(exists) and bool(exists.any()):
            return torch.ones((), device=exists.device)
        windows = torch.ones_like(weight[:: shape.features_per_group], dtype=torch.float32)
        most = check.wide(conv2d(heard[None].to(windows), windows, shape).amax())
        return torch.where(exists.any(), 1, most / torch.full_like(most, windows[0].numel()))

    def _reached(self, fired: Tensor, index: Tensor, potentials: Tensor | None) -> Tensor | float:
        """What the inputs of the winners reached, as :class:`Synapses` tells it; beyond the edge there is nobody."""
        return 1.0 if potentials is None else torch.where(fired, 1, self._fields(potentials, index, 0))

    def _update(self, index: Tensor, timing: Timing, rates: Tensor | None) -> None:
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
                causal=timing.causal,
                pre_times=timing.pre_times,
                post_times=timing.post_times,
                ltp=ltp,
                ltd=ltd,
                lower_bound=self.lower_bound,
                upper_bound=self.upper_bound,
                reached=timing.reached,
            )
            change = self.change(synapses)
            if not check.free_to_read(index):  # where it is, winners that do not exist have been left out
                change = torch.where((index[:, 0] >= 0).view(-1, 1, 1, 1), change, 0)
            if check.looks_at(change) and math.isnan(change.sum()) and bool(change.isnan().any()):
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
        input_potentials: Tensor | None = None,
    ) -> Tensor:
        """Learn a chunk of samples, given as first-spike times, in exact online order.

        For each sample the layer answers, neurons inhibit each other, winners are chosen, and the weights are updated;
        the next sample meets the new weights. On a CPU with numba the whole chunk is one call, which stops each sample
        at its last winner; elsewhere, and for a rule with code of your own, it is a loop in torch. Where a data set is
        cut into chunks makes no difference. On a GPU the rules of this module never wait for the device, nor does
        :class:`TargetTime`; a rule with factors of its own, which see winners that exist alone, and thresholds that say
        nothing of tensors (:class:`ThresholdsInTorch`) do, once a sample.

        A rule with factors or methods of its own (of a subclass, or set later) runs them: factors and ``_update`` on
        times; for all other methods, ``forward`` among them, each sample is turned into waves.

        Args:
            times: input of the layer, which must be an :class:`spyketorch.snn.SpikingConvolution`, ``(N, C, H, W)``.
            kwta, inhibition_radius: as in :func:`spyketorch.latency.k_winners`.
            pointwise_inhibition: let one feature survive at each position before winners are chosen.
            minibatch: samples that answer with the same weights, before their updates are applied in order; 1 is
                exactly online. Larger ones run in torch, and suit a GPU.
            input_potentials: ``(N, C, H, W)``, as for :meth:`forward`.

        Returns:
            The winners, int64 ``(N, k, 3)``, as of :func:`spyketorch.latency.k_winners`.

        Example:
            >>> from spyketorch import snn
            >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=5, time_steps=15)
            >>> winners = STDP(layer, (0.004, -0.003)).learn(torch.zeros(8, 2, 9, 9, dtype=torch.uint8), kwta=2)
            >>> winners.shape
            torch.Size([8, 2, 3])
        """
        choice = (kwta, inhibition_radius, pointwise_inhibition)
        return _on_times.learn(self._task(times, *choice, minibatch, input_potentials))

    def _task(
        self,
        times: Tensor,
        kwta: int,
        radius: int,
        pointwise_inhibition: bool = True,
        minibatch: int = 1,
        input_potentials: Tensor | None = None,
    ) -> _on_times.Task:
        choice = (kwta, radius, check.flag(pointwise_inhibition, "pointwise_inhibition"))
        return _on_times.task_of(self, _on_times.checked(self, times, input_potentials), choice, minibatch, None)

    def extra_repr(self) -> str:
        return f"use_stabilizer={self.use_stabilizer}, bounds=({self.lower_bound}, {self.upper_bound})"


def plasticity_of(reward: STDP, punishment: STDP, features: Sequence[int] | None) -> Plasticity:
    """With the rates of some features, or of all."""
    count, twin = reward.conv_layer.out_channels, reward.compiled()
    assert twin is not None
    known = range(count) if features is None else features
    rates = np.zeros((2, count, 2), reward.conv_layer.weight.detach().numpy().dtype)
    if len(known):
        rates[0, known] = reward._rates_of(known).numpy()
        rates[1, known] = rates[0, known] if punishment is reward else punishment._rates_of(known).numpy()
    if not math.isfinite(rates.sum()):
        check.finite(torch.from_numpy(rates), "learning_rate")
    return Plasticity(rates, (reward.lower_bound, reward.upper_bound), twin, reward.thresholds)


def count(wave: Tensor) -> Tensor:
    """The sum over time, exact for spikes of any type."""
    return wave.sum(0, dtype=torch.float32 if wave.dtype in HALF else None)
