"""Learning from first-spike times in torch: sample after sample, on any device, without a wait for it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency, neurons
from spyketorch._plasticity import Inputs
from spyketorch._winners import Choice
from spyketorch.learning._synapses import as_option
from spyketorch.learning._task import Task, answer


class Decided(NamedTuple):
    """Winners ``(n, kwta, 3)``, the steps ``post`` ``(n, kwta)`` at which they fired, and all neurons' first spikes.

    These are None where the search does not look at every neuron.
    """

    winners: Tensor
    post: Tensor
    fired: Tensor | None = None

    def of(self, i: int) -> "Decided":
        """Those of one sample."""
        return Decided(self.winners[i], self.post[i], None if self.fired is None else self.fired[i])


def walk(task: Task, decide: Callable[[Tensor, Tensor | None, bool], Decided], teach: Callable[..., None]) -> Tensor:
    """The loop over samples in torch, without a wait for their device.

    ``decide`` takes times, the features that take part, and whether it decided on the same sample just before.
    """
    layer, times, teacher = task.layer, task.times, task.teacher
    history = []
    for i in range(len(times)):
        sample = task.sample(i)
        if i % task.minibatch == 0:
            together = decide_together(task, decide, slice(i, i + task.minibatch))
        decided = together.of(i % task.minibatch)
        history.append(decided.winners)
        if teacher is None:
            teach(task, sample, decided, None)
            continue
        allowed, label = teacher.active[i], teacher.labels[i]
        for turn in range(teacher.turns):
            if turn:
                decided = decide(sample.times[None], allowed[None], True).of(0)
            first = decided.winners[:1, 0]  # with its axis: an index of no axis would be read
            named, exists = teacher.classes[first.clamp(min=0)], first >= 0
            right, wrong = exists & (named == label), exists & (named != label)
            known = teacher.correction > 0 and turn == 0  # what is right at once is not reinforced any further
            outcome = (torch.zeros_like(right) if known else right).to(layer.weight) - wrong.to(layer.weight)
            teach(task, sample, decided, outcome)
            others = teacher.classes != named if teacher.correction == 1 else teacher.classes == label
            allowed = allowed & others & wrong  # nobody is left to answer again where there was no mistake
            if check.free_to_read(allowed) and not bool(allowed.any()):
                break
    return torch.stack(history)


def decide_together(task: Task, decide: Callable[[Tensor, Tensor | None, bool], Decided], part: slice) -> Decided:
    """What is decided with the same weights, shared out; all neurons' first spikes where the rule looks at them."""
    times, active = task.times[part], None if task.teacher is None else task.teacher.active[part]

    def some(rows: slice) -> list[Tensor]:
        winners, post, fired = decide(times[rows], None if active is None else active[rows], False)
        return [winners, post] if fired is None or not task.rule._on_waves() else [winners, post, fired]

    return Decided(*task.processes.spread(some, len(times)))


def choose(fired: Tensor, potentials: Tensor, layer: Any, choice: Choice) -> Decided:
    """Winners among answers ``(n, features, rows, columns)``."""
    steps = layer.time_steps
    if choice.excess:
        potentials = potentials - layer.limit().view(-1, 1, 1)
    if choice.inhibit:
        fired, potentials = latency.pointwise_inhibition(fired, potentials, time_steps=steps)
    winners = latency.k_winners(fired, potentials, choice.kwta, choice.radius, time_steps=steps)
    feature, row, column = winners.clamp(min=0).unbind(-1)
    sample = torch.arange(len(fired), device=fired.device)[:, None]
    return Decided(winners, fired[sample, feature, row, column].long(), fired)


def in_torch(task: Task) -> Callable[[Tensor, Tensor | None, bool], Decided]:
    """The search for winners among a layer's answers."""

    def decide(times: Tensor, active: Tensor | None, again: bool) -> Decided:
        fired, potentials = answer(task.layer, times)
        if active is not None:
            fired = torch.where(active.view(*active.shape, 1, 1), fired, task.layer.time_steps)
        return choose(fired, potentials, task.layer, task.choice)

    return decide


def teach(task: Task, sample: Inputs, decided: Decided, outcome: Tensor | None) -> None:
    given = () if outcome is None else (outcome,)
    task.rule._learn_times(sample, decided.post, decided.winners, task.layer.time_steps, *given)


def teach_and_clamp(task: Task, sample: Inputs, decided: Decided, outcome: Tensor | None) -> None:
    teach(task, sample, decided, outcome)
    task.layer.weight.data.clamp_(*task.bounds())


def teach_on_waves(task: Task, sample: Inputs, decided: Decided, outcome: Tensor | None) -> None:
    """For a rule with a ``forward`` of its own: what a loop on waves would call it with."""
    layer, weight, steps = task.layer, task.layer.weight, task.layer.time_steps
    assert decided.fired is not None
    wave, spikes = (latency.to_wave(x, steps, weight.dtype) for x in (sample.times, decided.fired))
    heard = sf.convolution(wave, weight, **layer.geometry.options())
    potentials = torch.where(spikes > 0, neurons.potentials(heard, task.neuron), 0)
    existing = [tuple(winner) for winner in decided.winners.tolist() if winner[0] >= 0]
    judged = () if outcome is None else (float(outcome),)
    task.rule(wave, potentials, spikes, *judged, existing, **as_option(sample.potentials))
