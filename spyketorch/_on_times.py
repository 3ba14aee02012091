"""Learning from first-spike times: one sample after the other, each on the weights that the one before left.

:func:`learn` hands a chunk to the compiled loops where they do exactly what the rule and the layer would do; everything
else is walked in torch, on any device.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency
from spyketorch._convolution import Geometry, layer_geometry, learnable, torch_threads
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch._winners import choice as winner_choice
from spyketorch.kernels import gather, operators
from spyketorch.kernels.arrays import channels_last

if TYPE_CHECKING:
    from spyketorch.kernels.engine import Engine
    from spyketorch.learning import RSTDP, STDP


def checked(rule: "STDP", times: Any) -> Tensor:
    """A batch of times, of which the layer of a rule can learn."""
    layer = rule.conv_layer
    if not hasattr(layer, "respond"):
        raise check.fail_type("conv_layer", "an snn.SpikingConvolution, to learn from first-spike times", layer)
    batch = check.times(times, "times")
    if batch.ndim != 4:
        raise check.fail("times", "a batch of shape (N, C, H, W)", times)
    return batch


def _own_answer(layer: Any) -> list[str]:
    """The methods of the standard layer in whose place this one has its own."""
    return layer._own() if hasattr(layer, "_own") else ["respond"]


def answer(layer: Any, times: Tensor) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there) of a layer, its hooks and whatever else it has of its own included."""
    answered: tuple[Tensor, Tensor] = layer._heard(times) if hasattr(layer, "_heard") else layer.respond(times)
    return answered


class Task(NamedTuple):
    """A chunk of samples to learn: by which rule, in which layer, from which times, and how."""

    rule: "STDP | RSTDP"
    layer: Any
    times: Tensor
    shape: Geometry
    choice: Choice
    teacher: Teacher | None
    minibatch: int

    def engine(self) -> AbstractContextManager["Engine"]:
        """The compiled loops on the layer."""
        from spyketorch.kernels.engine import engine

        weight, limit, size = self.layer.weight.data, self.layer.limit(), self.times.shape[2:]
        return engine(weight, limit, self.layer.time_steps, self.shape, size, "conv_layer.weight")

    def why_not_standard(self) -> str | None:
        """What the layer has in place of the standard answer, or None where that is its own."""
        own = _own_answer(self.layer)
        return f"the layer has its own {', '.join(own)}" if own else None

    def why_not_searched(self) -> str | None:
        """Why the compiled loops do not find the winners, or None where they do."""
        search = self.layer.weight, self.layer.threshold, self.shape, self.choice
        return self.why_not_standard() or operators.why_no_search(*search)

    def bounds(self) -> tuple[float, float]:
        """Of the weights."""
        rule = self.rule._pair()[0]
        return rule.lower_bound, rule.upper_bound

    def is_short(self) -> bool:
        """Whether it pays to read the rates of the winners alone, once they are known."""
        known = self.teacher is None or self.teacher.correction == 0
        return known and self.minibatch == 1 and 4 * len(self.times) * self.choice.kwta < self.layer.out_channels


class BackEnd(Protocol):
    """A way to learn: ``why_not`` says in a sentence why it does not serve a task, or None where it does."""

    slow: str

    def why_not(self, task: Task) -> str | None: ...

    def learn(self, task: Task) -> Tensor: ...


class InLoops:
    """All of it in the compiled loops."""

    slow = ""

    def why_not(self, task: Task) -> str | None:
        """The rule needs a compiled twin, the layer the standard search."""
        reasons = [task.rule.why_not_compiled(), task.why_not_searched()]
        return " and ".join(filter(None, reasons)) or None

    def learn(self, task: Task) -> Tensor:
        """Thresholds that moved are the layer's afterwards."""
        images, choice, size, few = channels_last(task.times), task.choice, task.minibatch, task.is_short()
        plasticity = task.rule._plasticity([] if few else None)
        teacher = task.teacher.arrays() if task.teacher else Teacher.nobody(len(images), task.layer.out_channels)
        with task.engine() as loops:
            rule, winners = loops.rule(plasticity), []
            if size == 1 and not few:
                winners.append(loops.learn(images, choice, rule, teacher).winners)
            else:
                for part in (slice(i, i + size) for i in range(0, len(images), size)):
                    found = loops.find(images[part], choice, teacher.active[part])
                    if few:
                        features = [f for f in found.winners[0, :, 0].tolist() if f >= 0]
                        rule = loops.rule(task.rule._plasticity(features))
                    winners.append(loops.learn(images[part], choice, rule, teacher.of_some(part), found).winners)
            if plasticity.thresholds is not None:
                task.layer.threshold.copy_(torch.from_numpy(loops.threshold))
        return torch.from_numpy(np.concatenate(winners))


class WinnersInLoops:
    """Winners in the compiled loops, with the weights and thresholds that the rule's own code in torch left."""

    slow = "`learn` finds winners in the compiled loops but updates weights in plain torch, several times slower"

    def why_not(self, task: Task) -> str | None:
        """The rule must learn from times, the layer have the standard search."""
        return "the rule learns from waves" if task.rule._on_waves() else task.why_not_searched()

    def learn(self, task: Task) -> Tensor:
        """Each sample finds what the one before has changed, wherever that is; clamping waits until then."""
        bounds, begun = task.bounds(), False

        def decide(times: Tensor, active: Tensor | None, again: bool) -> Decided:
            nonlocal begun
            with task.engine() as loops:
                if begun:
                    loops.clamp(*bounds)
                begun = True
                allowed = None if active is None else active.contiguous().numpy()
                found = loops.find(channels_last(times), task.choice, allowed)
            return Decided(torch.from_numpy(found.winners), torch.from_numpy(found.post), None)

        def teach(*given: Any) -> None:
            with torch_threads(1):  # waking others costs more than they save
                _teach(*given)

        winners = _walk(task, decide, teach)
        with task.engine() as loops:
            loops.clamp(*bounds)
        return winners


class WinnersGathered:
    """Winners from the weights of what fired, as torch gathers them; the update in numpy or torch; on a CPU."""

    slow = "`learn` runs in plain torch, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """The rule must learn from times, the layer answer as the standard one does, and reading cost no wait."""
        if task.rule._on_waves():
            return "the rule learns from waves"
        if not check.free_to_read(task.times):
            return f"the layer is on {task.times.device}"
        return task.why_not_standard()

    def learn(self, task: Task) -> Tensor:
        """Each sample finds what the one before has changed, wherever that is."""
        check.finite(task.layer.weight, "conv_layer.weight")
        layer, stands, answered = task.layer, self._stands(task), list[gather.Answered]()

        def decide(times: Tensor, active: Tensor | None, again: bool) -> Decided:
            with gather.layer(layer.weight, layer.limit(), layer.time_steps, task.shape) as gathered:
                if stands and isinstance(gathered, gather.AtLastStep):
                    if not again:
                        answered[:] = [gathered.answered(times)]
                    gathered = answered[0]
                winners, post = gather.find(times, gathered, task.choice, active)
            return Decided(winners, post, None)

        return _walk(task, decide, _teach_and_clamp)

    @staticmethod
    def _stands(task: Task) -> bool:
        """Whether an answer holds when its sample is decided again: what has changed since cannot win any more.

        The one feature that learned is silenced with its class; weights within the bounds are not clamped.
        """
        once = task.teacher is None or task.teacher.turns == 1
        if once or not task.choice.kwta == task.minibatch == 1 or task.rule._own():
            return False
        (lower, upper), (low, high) = task.bounds(), torch.aminmax(task.layer.weight.detach())
        inside = (low >= lower) & (high <= upper)  # in the type of the weight
        return bool(inside) and all(rule._standard() for rule in task.rule._pair())


class InTorch:
    """All of it in torch, on any device."""

    slow = "`learn` runs in plain torch, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """It serves every task."""
        return None

    def learn(self, task: Task) -> Tensor:
        """The layer answers, and winners are chosen among the answers."""
        check.finite_if_free(task.layer.weight, "conv_layer.weight")

        def decide(times: Tensor, active: Tensor | None, again: bool) -> Decided:
            fired, potentials = answer(task.layer, times)
            if active is not None:
                fired = torch.where(active.view(*active.shape, 1, 1), fired, task.layer.time_steps)
            return _decide(fired, potentials, task.layer, task.choice)

        return _walk(task, decide, _teach_on_waves if task.rule._on_waves() else _teach_and_clamp)


#: the fastest first
BACK_ENDS: tuple[BackEnd, ...] = (InLoops(), WinnersInLoops(), WinnersGathered(), InTorch())


def task(
    rule: "STDP | RSTDP", times: Tensor, choice: tuple[Any, Any, bool], minibatch: Any, teacher: Teacher | None
) -> Task:
    """What is to be learned, checked."""
    layer: Any = rule._pair()[0].conv_layer
    minibatch = check.integer(minibatch, "minibatch", 1)
    learnable(layer)
    shape = layer_geometry(times, "times", layer.weight, layer.stride, layer.padding, layer.dilation, layer.groups)
    kwta, radius = winner_choice(*choice[:2], layer.out_channels, *shape.output_size(*times.shape[-2:]))
    thresholds = rule._pair()[0].thresholds
    excess = thresholds is not None and thresholds.excess
    check.times_within(times, "times", layer.time_steps)
    if layer.threshold is not None:
        check.finite_if_free(layer.threshold, "conv_layer.threshold")
    return Task(rule, layer, times, shape, Choice(kwta, radius, choice[2], excess), teacher, minibatch)


def back_end(task: Task) -> tuple[BackEnd, str | None]:
    """The fastest way that serves a task, and why the fastest of all does not."""
    reason = None
    for way in BACK_ENDS:
        found = way.why_not(task)
        if found is None:
            return way, reason
        reason = reason or found
    raise AssertionError("torch serves every task")


def learn(task: Task) -> Tensor:
    """The winners of each sample, ``(N, kwta, 3)``; the weights of the layer have learned."""
    way, reason = back_end(task)
    if reason is not None:
        operators.say_slow(way.slow, task.layer.weight, reason)
    return way.learn(task)


class Decided(NamedTuple):
    """Winners ``(n, kwta, 3)``, the steps ``post`` ``(n, kwta)`` at which they fired, and all neurons' first spikes.

    These are None where the search does not look at every neuron.
    """

    winners: Tensor
    post: Tensor
    fired: Tensor | None

    def of(self, i: int) -> "Decided":
        """Those of one sample."""
        return Decided(self.winners[i], self.post[i], None if self.fired is None else self.fired[i])


def _walk(task: Task, decide: Callable[[Tensor, Tensor | None, bool], Decided], teach: Callable[..., None]) -> Tensor:
    """The loop over samples in torch, without a wait for their device.

    ``decide`` takes times, the features that take part, and whether it decided on the same sample just before.
    """
    layer, times, teacher = task.layer, task.times, task.teacher
    history = []
    for i, sample in enumerate(times):
        if i % task.minibatch == 0:
            part = slice(i, i + task.minibatch)
            together = decide(times[part], None if teacher is None else teacher.active[part], False)
        decided = together.of(i % task.minibatch)
        history.append(decided.winners)
        if teacher is None:
            teach(task, sample, decided, None)
            continue
        allowed, label = teacher.active[i], teacher.labels[i]
        for turn in range(teacher.turns):
            if turn:
                decided = decide(sample[None], allowed[None], True).of(0)
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


def _decide(fired: Tensor, potentials: Tensor, layer: Any, choice: Choice) -> Decided:
    """Winners among answers ``(n, features, rows, columns)``."""
    steps = layer.time_steps
    if choice.excess:
        potentials = potentials - layer.limit().view(-1, 1, 1)
    potentials = torch.where(fired < steps, potentials, 0)
    if choice.inhibit:
        fired, potentials = latency.pointwise_inhibition(fired, potentials, time_steps=steps)
    winners = latency.k_winners(fired, potentials, choice.kwta, choice.radius, time_steps=steps)
    feature, row, column = winners.clamp(min=0).unbind(-1)
    sample = torch.arange(len(fired), device=fired.device)[:, None]
    return Decided(winners, fired[sample, feature, row, column].long(), fired)


def _teach(task: Task, sample: Tensor, decided: Decided, outcome: Tensor | None) -> None:
    given = () if outcome is None else (outcome,)
    task.rule._learn_times(sample, decided.post, decided.winners, task.layer.time_steps, *given)


def _teach_and_clamp(task: Task, sample: Tensor, decided: Decided, outcome: Tensor | None) -> None:
    _teach(task, sample, decided, outcome)
    task.layer.weight.data.clamp_(*task.bounds())


def _teach_on_waves(task: Task, sample: Tensor, decided: Decided, outcome: Tensor | None) -> None:
    """For a rule with a ``forward`` of its own: what a loop on waves would call it with."""
    layer, weight, steps = task.layer, task.layer.weight, task.layer.time_steps
    assert decided.fired is not None
    wave, spikes = (latency.to_wave(x, steps, weight.dtype) for x in (sample, decided.fired))
    potentials = torch.where(spikes > 0, sf.convolution(wave, weight, **layer.geometry.options()), 0)
    existing = [tuple(winner) for winner in decided.winners.tolist() if winner[0] >= 0]
    task.rule(wave, potentials, spikes, *(() if outcome is None else (float(outcome),)), existing)
