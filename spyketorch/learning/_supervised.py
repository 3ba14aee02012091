"""Supervised STDP: neurons are taught when to fire."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import neurons
from spyketorch._plasticity import Supervision
from spyketorch._state import CheckedState
from spyketorch.kernels import plain, serving


class Deciding(Protocol):
    """Neurons that decide by who fires first, :class:`spyketorch.readout.FirstSpikeReadout`."""

    time_steps: int
    classes: int
    per_class: int
    neuron: neurons.Responding

    @property
    def weight(self) -> Tensor: ...
    @property
    def horizon(self) -> float: ...
    def limit(self) -> Tensor: ...
    def _flat(self, times: Tensor) -> Tensor: ...


class Competition(NamedTuple):
    """Competition among the neurons of one class, so that they learn different images of it.

    Attributes:
        non_target: neurons of each class, the last of them, that are taught to fire late when they win for their own
            class, as those of other classes are; they hear what the others do not.
        lift: share of its threshold by which a target neuron that wins for its own class raises it, while learning;
            the other target neurons lower theirs as much in all, never below the threshold that decides.
    """

    non_target: int = 1
    lift: float = 0.0025


class Answered(NamedTuple):
    """What a read-out answered to samples, each before it was learned.

    Attributes:
        classes: decided, int64 ``(N,)``.
        winners: the neuron of each class that fired first, int64 ``(N, classes)``.
    """

    classes: Tensor
    winners: Tensor


class SupervisedSTDP(CheckedState):
    r"""Supervised STDP of neurons that decide by their first spikes: S2-STDP, with competition groups.

    Of each class the neuron that fires first learns, at time :math:`t_c`, from every sample. With the mean m of these
    times, C classes and a ``gap`` g, the right class is to fire at :math:`m - g T (C - 1) / C` and all others at
    :math:`m + g T / C`. With the error :math:`e_c = (t_c - \text{target}_c) / T`, which is positive where it is late,

    .. math:: \Delta w_i = e_c \, (\text{LTP} \; \varepsilon_i + \text{LTD} \; q_i), \qquad
        \varepsilon_i = \varepsilon(t_c - t_i)

    where :math:`\varepsilon` is the response of its kind of neuron, 1 for IntegrateAndFire and :math:`(t_c - t_i) / d`
    for Ramp, 0 for inputs that fired later or never, and :math:`q_i` what input i is ``expected`` to give: with LTD =
    -LTP a weight follows the covariance of its input and the error. Weights are clamped to the bounds; then each neuron
    that learned is scaled so that it keeps :math:`\sum_i q_i w_i`, and so its mean time.

    Without ``expected``, as published, LTD is that of inputs alone that did not help, silent ones too, and neurons keep
    the sum of their weights. (Ramp neurons then drift to inputs that rarely fire, at high rates or late thresholds.)

    A winner that does not fire counts as firing at the horizon of the read-out, and not in the mean; among those that
    fire at once, the larger potential at the horizon wins.

    Args:
        readout: the neurons, a :class:`spyketorch.readout.FirstSpikeReadout`.
        learning_rate: (LTP, LTD), such as (0.5, -0.5), or (0.5, -0.1) without ``expected``.
        gap: g, as a share of all time steps.
        lower_bound, upper_bound: of the weights.
        competition: among the neurons of each class, a :class:`Competition`; None for none.
        expected: q, ``(inputs,)``, from :meth:`spyketorch.readout.FirstSpikeReadout.expected`; None for the published
            rule.

    Attributes:
        lifted: threshold of each target neuron for samples of its own class, ``(neurons,)``; :meth:`relax` makes it
            that of the read-out again, as published at the start of each epoch.
        expected: q, 1 for each input where none was given.
        total: sum of weights, weighed by ``expected``, that each neuron keeps, ``(neurons,)``; that which it had when
            the rule was made.

    Example:
        >>> from spyketorch import readout
        >>> neurons = readout.FirstSpikeReadout((4, 3, 3), 2, per_class=2, time_steps=15)
        >>> rule = SupervisedSTDP(neurons)
        >>> times, labels = torch.randint(0, 16, (8, 4, 3, 3), dtype=torch.uint8), torch.randint(0, 2, (8,))
        >>> rule.learn(times, labels).classes.shape
        torch.Size([8])

    Reference:
        Goupy, Tirilly, Bilasco, *Paired competing neurons improving STDP supervised local learning in spiking neural
        networks*, arXiv 2308.02194, and *Neuronal competition groups with supervised STDP for spike-based
        classification*, arXiv 2410.17066; potentiation in proportion to the response: Attar, arXiv 2609.37047.
    """

    def __init__(
        self,
        readout: Deciding,
        learning_rate: Sequence[float] = (0.5, -0.1),
        gap: float = 0.05,
        lower_bound: float = 0.0,
        upper_bound: float = 1.0,
        *,
        competition: Competition | None = None,
        expected: Tensor | None = None,
    ) -> None:
        super().__init__()
        if not all(hasattr(readout, name) for name in ("weight", "limit", "horizon", "per_class", "neuron")):
            raise check.fail_type("readout", "a readout.FirstSpikeReadout", readout)
        self.readout = readout
        self.learning_rate = learning_rate  # type: ignore[assignment]  # __setattr__ takes any sequence
        self.gap = check.number(gap, "gap")
        self.lower_bound, self.upper_bound = check.bounds(lower_bound, upper_bound)
        self.competition = competition
        for name in ("expected", "total"):
            self.register_buffer(name, None)
        self.expect(expected)
        self.register_buffer("lifted", readout.limit().clone())

    expected: Tensor
    total: Tensor
    lifted: Tensor
    learning_rate: tuple[float, float]
    competition: Competition | None

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "learning_rate":
            if not isinstance(value, Sequence) or len(value) != 2:
                raise check.fail(name, "a pair (LTP, LTD)", value)
            value = tuple(check.number(rate, name) for rate in value)
        elif name == "competition" and value is not None:
            check_competition(value, self.readout.per_class)
        super().__setattr__(name, value)

    def expect(self, expected: Tensor | None) -> None:
        """Take what inputs are expected to give, or None for the published rule, and the sums of weights of now."""
        weight = self.readout.weight.detach()
        self.covariance = expected is not None
        if expected is None:
            expected = torch.ones_like(weight[0])
        elif check.tensor(expected, "expected").shape != weight.shape[1:] or not expected.is_floating_point():
            raise check.fail("expected", f"one number per input, ({weight.shape[1]},)", expected)
        check.finite(expected, "expected")
        self.expected = expected.detach().to(weight, copy=True)
        self.total = weight @ self.expected

    def relax(self) -> None:
        """Take the thresholds of the read-out for those of target neurons, too."""
        self.lifted.copy_(self.readout.limit())

    def learn(self, times: Tensor, labels: Tensor) -> Answered:
        """Learn samples in turn, each with the weights that the one before left.

        Args:
            times: first-spike times ``(N, *shape)``, as the read-out reads them.
            labels: class of each, integers ``(N,)``; they are looked at once per call.

        Raises:
            ValueError, TypeError: times or labels that do not fit the read-out; weights that are not finite.
        """
        readout: Any = self.readout
        flat, weight = readout._flat(times), readout.weight.data
        check.precise(weight, "readout.weight")
        check.same_device(flat, "times", weight, "readout.weight")
        check.same_device(self.lifted, "lifted", weight, "readout.weight")
        labels = check.labels(labels, len(flat), weight.device)
        check.labels_within(labels, readout.classes)
        check.finite_if_looked_at(weight, "readout.weight")
        reason = serving.why_not_compiled(readout.neuron, weight)
        if reason is None and check.free_to_read(flat):
            from spyketorch.kernels import deciding

            window, thresholds = (readout.time_steps, readout.horizon), (readout.limit(), self.lifted)
            sums = (self.expected, self.total)
            answered = deciding.learn(flat, labels, weight, readout.neuron, window, thresholds, sums, self._how())
        else:
            serving.say_slow(
                "`learn` runs in plain torch, many times slower than in compiled loops", weight, str(reason)
            )
            samples = zip(torch.split(flat, 1), torch.split(labels, 1), strict=True)
            answered = torch.stack([self._learn(one, label) for one, label in samples])
        return Answered(answered[:, 0], answered[:, 1:])

    def _how(self) -> Supervision:
        per_class, (non_target, lift) = self.readout.per_class, self.competition or Competition(0, 0.0)
        bounds = self.lower_bound, self.upper_bound
        return Supervision(*self.learning_rate, self.gap, non_target, lift, self.covariance, per_class, *bounds)

    def _learn(self, times: Tensor, right: Tensor) -> Tensor:
        """One sample (1, inputs) of a class (1,) in torch; the class decided, and the winner of each class."""
        readout, how, steps, horizon = self.readout, self._how(), self.readout.time_steps, self.readout.horizon
        weight, limit, neuron = readout.weight.data, readout.limit(), readout.neuron
        classes, per_class = readout.classes, readout.per_class
        number = torch.arange(len(weight), device=weight.device)
        target_neuron = number % per_class < per_class - how.non_target
        taught = target_neuron & (number // per_class == right)
        now = torch.where(taught, self.lifted, limit)
        fired, potential = (part[0] for part in plain.exact_fire(times, weight, now, steps, horizon, neuron))
        winners = _first(fired, potential, per_class)
        first = fired[winners]
        heard = torch.isfinite(first)
        mean = torch.where(heard, first, 0).sum() / heard.sum().clamp(min=1)
        mean = torch.where(heard.any(), mean, horizon) / steps
        early, late = mean - how.gap * (classes - 1) / classes, mean + how.gap / classes
        target = torch.where(taught[winners], early, late)
        when = first.clamp(max=horizon)
        error = (when / steps - target)[:, None]
        response = neuron.response(when[:, None] - times.to(when))
        helped = (response > 0) & (times < steps)
        idle = torch.zeros_like(error) if how.covariance else error * how.ltd
        change = torch.where(helped, error * how.ltp * response, idle)
        if how.covariance:
            change = change + error * how.ltd * self.expected
        weight[winners] = (weight[winners] + change).clamp(how.lower_bound, how.upper_bound)
        sums = weight[winners] @ self.expected
        weight[winners] *= torch.where(sums > 0, self.total[winners] / sums, 1)[:, None]
        if how.lift > 0:
            count = per_class - how.non_target
            earliest = torch.where(taught, fired, torch.inf)
            share = torch.where(number == earliest.argmin(), (count - 1) / count, torch.full_like(limit, -1 / count))
            moved = torch.maximum(self.lifted + how.lift * share * limit, limit)
            self.lifted.copy_(torch.where(taught & torch.isfinite(earliest).any(), moved, self.lifted))
        order = _first(first, potential[winners], classes)
        return torch.cat([order, winners])

    def extra_repr(self) -> str:
        return (
            f"learning_rate={self.learning_rate}, gap={self.gap}, competition={self.competition}, "
            f"covariance={self.covariance}, bounds=({self.lower_bound}, {self.upper_bound})"
        )


def check_competition(competition: Any, per_class: int) -> None:
    """A competition that so many neurons of a class can have."""
    if not isinstance(competition, Competition):
        raise check.fail_type("competition", "a learning.Competition, or None", competition)
    if not 0 <= check.integer(competition.non_target, "competition.non_target") < per_class:
        accepted = f"0..{per_class - 1}, as the read-out has {per_class} neurons per class"
        raise check.fail("competition.non_target", accepted, competition.non_target, "None is no competition")
    check.number(competition.lift, "competition.lift", 0)


def _first(fired: Tensor, potential: Tensor, group: int) -> Tensor:
    """Of each group of so many neurons the one that fires first, then that of the larger potential; their indices."""
    times, values = fired.view(-1, group), potential.view(-1, group)
    tied = times == times.amin(1, keepdim=True)
    best = torch.where(tied, values, -torch.inf).argmax(1)
    return best + torch.arange(len(times), device=times.device) * group
