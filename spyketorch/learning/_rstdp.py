"""STDP by reward and punishment."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch._plasticity import Inputs, Plasticity
from spyketorch._teacher import Teacher
from spyketorch.functional import Winner
from spyketorch.learning import _on_times, _on_waves
from spyketorch.learning._layer import Plastic, check_layer
from spyketorch.learning._rates import rate_pairs
from spyketorch.learning._replaced import OF_TIMES, replaced
from spyketorch.learning._stdp import STDP, plasticity_of
from spyketorch.learning._synapses import Factor, as_option, causal_step
from spyketorch.learning._winners import BatchWinners, Judge, Respond, Winners, outcomes_of


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
        conv_layer: Plastic,
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
        check_layer(conv_layer)
        for name, pair in (("reward_rate", reward_rate), ("punishment_rate", punishment_rate)):
            rate_pairs(pair, conv_layer.out_channels, name)
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
        input_potentials: Tensor | None = None,
    ) -> Tensor | None:
        """Update the weights of the layer by the outcome of each sample.

        Args:
            outcomes: one number per sample: above 0 reward, below 0 punishment, 0 leaves the sample out; its magnitude
                scales the rates.
            input_spikes, potentials, output_spikes, winners, kwta, inhibition_radius, return_update, input_potentials:
                as for :meth:`STDP.forward`.
        """
        rule = self.reward
        self.punishment._learnable()
        weight = rule._learnable()
        rule._check_waves(input_spikes, output_spikes)
        values = outcomes_of(outcomes, input_spikes, weight)
        if winners is None:
            winners = rule._choose(potentials, output_spikes, kwta, inhibition_radius)
        before = weight.clone() if check.flag(return_update, "return_update") else None
        samples = rule._samples(input_spikes, output_spikes, winners, input_potentials)
        own = rule._on_waves() or self.punishment._on_waves()
        for i, (outcome, (wave, spikes, index, told)) in enumerate(zip(values, samples, strict=True)):
            rule, rates = self._judged(outcome)
            if not own:
                if isinstance(index, Tensor):  # on a device that is not waited for
                    index = torch.where(outcome == 0, -1, index)
                learning = index if isinstance(index, Tensor) or outcome != 0 else []
                rule._learn(wave, spikes, learning, told, rates)
            elif outcome != 0:
                one = potentials[i] if isinstance(potentials, Tensor) and potentials.ndim == 5 else potentials
                with rule._scaled(outcome.abs()):
                    rule(wave, one, spikes, index, **as_option(told))
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

    def _learn_times(self, sample: Inputs, post: Tensor, index: Tensor, time_steps: int, outcome: Tensor) -> None:
        rule, rates = self._judged(outcome)
        rule._learn_times(sample, post, torch.where(outcome == 0, -1, index), time_steps, rates)
        if len({(one.lower_bound, one.upper_bound) for one in self._pair()}) > 1:
            rule._clamp()  # within bounds of its own

    def _pair(self) -> tuple[STDP, STDP]:
        return self.reward, self.punishment

    def _plasticity(self, features: Sequence[int] | None = None) -> Plasticity:
        """What the compiled loops learn by, with the rates of some features, or of all."""
        return plasticity_of(*self._pair(), features)

    def _why_not_compiled(self) -> str | None:
        """Why there is no compiled twin of this rule, or None where there is."""
        own = self._own()
        return f"the rule has its own {', '.join(own)}" if own else self.reward._why_not_compiled()

    def why_not(self, times: Tensor, labels: Tensor, classes: Tensor, *choice: Any, **options: Any) -> str | None:
        """Why :meth:`learn` with these arguments leaves the compiled loops, in a sentence; None where it does not."""
        return _on_times.back_end(self._task(times, labels, classes, *choice, **options))[1]

    def _own(self) -> list[str]:
        """As of :class:`STDP`; and where the two rules differ in more than their rates."""
        kinds = [
            (rule.lower_bound, rule.upper_bound, rule._dependence(), repr(rule.compiled())) for rule in self._pair()
        ]
        return (
            replaced(self, RSTDP)
            + [
                f"{name}.{part}"
                for name, rule in zip(("reward", "punishment"), self._pair(), strict=True)
                for part in rule._own()
            ]
            + (["bounds or stabilizer"] if kinds[0] != kinds[1] else [])
        )

    def _on_waves(self) -> bool:
        return not OF_TIMES.issuperset(replaced(self, RSTDP)) or any(rule._on_waves() for rule in self._pair())

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
        input_potentials: Tensor | None = None,
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
            minibatch, input_potentials: as there.

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
        task = self._task(times, labels, classes, *choice, correction, active, minibatch, input_potentials)
        return _on_times.learn(task)

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
        input_potentials: Tensor | None = None,
    ) -> _on_times.Task:
        choice = (kwta, radius, check.flag(pointwise_inhibition, "pointwise_inhibition"))
        inputs = _on_times.checked(self.reward, times, input_potentials)
        features = self.reward.conv_layer.out_channels
        teacher = Teacher.of(inputs.times, features, labels, classes, correction, active)
        return _on_times.task_of(self, inputs, choice, minibatch, teacher)

    def online(
        self,
        input_spikes: Tensor,
        respond: Respond,
        judge: Judge,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        input_potentials: Tensor | None = None,
    ) -> list[list[Winner]]:
        """Learn a batch in exact online order, as :meth:`STDP.online`.

        Args:
            judge: the outcome of a sample, from its index in the batch and its winners.
        """
        inputs, choice = Inputs(input_spikes, input_potentials), (kwta, inhibition_radius)
        return _on_waves.online(self, inputs, respond, choice, judge)

    def minibatch(
        self,
        input_spikes: Tensor,
        respond: Respond,
        judge: Judge,
        kwta: int = 1,
        inhibition_radius: int = 0,
        *,
        input_potentials: Tensor | None = None,
    ) -> list[list[Winner]]:
        """Learn a batch from one forward pass, as :meth:`STDP.minibatch`; ``judge`` as for :meth:`online`."""
        inputs, choice = Inputs(input_spikes, input_potentials), (kwta, inhibition_radius)
        return _on_waves.minibatch(self, inputs, respond, choice, judge)
