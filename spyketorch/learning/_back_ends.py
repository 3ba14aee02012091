"""The ways to learn from first-spike times, the fastest first; each says why it does not serve a task."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import neurons
from spyketorch._convolution import torch_threads
from spyketorch._plasticity import Inputs
from spyketorch._teacher import Teacher
from spyketorch.kernels import gather, plain
from spyketorch.kernels.arrays import channels_last
from spyketorch.learning._task import Task, answer
from spyketorch.learning._walk import Decided, decide_together, teach_and_clamp, teach_on_waves, walk
from spyketorch.learning._walk import decide as winners_among
from spyketorch.learning._walk import teach as update

if TYPE_CHECKING:
    from spyketorch.kernels.engine import Engine
    from spyketorch.kernels.loops.layout import Array
    from spyketorch.kernels.loops.learn import Found


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
        reasons = [task.rule._why_not_compiled(), task.why_not_searched()]
        return " and ".join(filter(None, reasons)) or None

    def learn(self, task: Task) -> Tensor:
        """Thresholds that moved are the layer's afterwards."""
        images, choice, size, few = channels_last(task.times), task.choice, task.minibatch, task.is_short()
        plasticity = task.rule._plasticity([] if few else None)  # the rates of nobody yet, or of all
        teacher = task.teacher.arrays() if task.teacher else Teacher.nobody(len(images), task.layer.out_channels)
        with task.engine() as loops:
            inputs = Inputs(images, loops.told(task.inputs.potentials))
            rule, winners = loops.rule(plasticity), []
            if size == 1 and not few:
                winners.append(loops.learn(inputs, choice, rule, teacher).winners)
            else:
                for part in (slice(i, i + size) for i in range(0, len(images), size)):
                    taught = teacher.of_some(part)
                    found = self._found(task, loops, images[part], taught.active)
                    if few:
                        features = [f for f in found.winners[0, :, 0].tolist() if f >= 0]
                        rule = rule._replace(rates=task.rule._plasticity(features).rates)
                    winners.append(loops.learn(inputs.of_some(part), choice, rule, taught, found).winners)
            if plasticity.thresholds is not None:
                task.layer.threshold.copy_(torch.from_numpy(loops.threshold))
        return torch.from_numpy(np.concatenate(winners))

    @staticmethod
    def _found(task: Task, loops: "Engine", images: "Array", active: "Array") -> "Found":
        """The winners of images that answer with the same weights, shared out."""
        from spyketorch.kernels.loops.learn import Found

        def some(rows: slice) -> list[Tensor]:
            return [torch.from_numpy(part) for part in loops.find(images[rows], task.choice, active[rows])]

        return Found(*(part.numpy() for part in task.processes.spread(some, len(images))))


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
                update(*given)

        winners = walk(task, decide, teach)
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
        if not neurons._stands_still(task.neuron):
            return f"the layer has {type(task.neuron).__qualname__} neurons"
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

        return walk(task, decide, teach_and_clamp)

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


class MinibatchesInTorch:
    """Mini-batches of the standard rule in torch, on any device: few operations, as each has to be started there.

    What the updates of a mini-batch need is found for all of its winners at once; but for the weights, each of which
    an update changes before the next one looks at it.
    """

    slow = "`learn` runs in plain torch, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """Several samples must answer together, once, and the rule be the standard one."""
        if task.minibatch == 1:
            return "samples are learned one by one"
        if task.teacher is not None and task.teacher.correction:
            return "what is decided wrong is decided again"
        own = task.rule._own()
        if own or not all(rule._standard() for rule in task.rule._pair()):
            return f"the rule has its own {', '.join(own) or 'change'}"
        return None

    def learn(self, task: Task) -> Tensor:
        """Changes that do not depend on the weight are made for all winners at once."""
        check.finite_if_free(task.layer.weight, "conv_layer.weight")
        rates = torch.stack([rule._rates for rule in task.rule._pair()])
        check.finite_if_free(rates, "learning_rate")
        decide, winners = in_torch(task), []
        for begin in range(0, len(task.times), task.minibatch):
            part = slice(begin, begin + task.minibatch)
            decided = decide_together(task, decide, part)
            winners.append(decided.winners)
            for some in _within_memory(part, len(task.times), decided.winners[0], task.layer.weight):
                here = slice(some.start - begin, some.stop - begin)
                given = Decided(decided.winners[here], decided.post[here], None)
                self._update(task, given.winners[..., 0].clamp(min=0), self._rates(task, some, given, rates))
        return torch.cat(winners)

    @staticmethod
    def _rates(task: Task, some: slice, decided: Decided, rates: Tensor) -> Tensor:
        """The rate of each synapse of the winners, ``(n, k, C, rows, columns)``; 0 of winners that do not exist."""
        times, shape, winners = task.times[some], task.shape, decided.winners
        features, learns = winners[..., 0].clamp(min=0), winners[..., 0] >= 0
        if task.teacher is None:
            pairs = rates[0, features]
        else:
            wrong = task.teacher.wrong(some, features[:, 0])
            pairs = rates[wrong.long()[:, None], features]
        ltp, ltd = torch.where(learns.unsqueeze(-1), pairs, 0).view(-1, 2, 1, 1, 1).unbind(1)
        sample = torch.arange(len(times), device=times.device).repeat_interleave(winners.shape[1]).view(-1, 1, 1, 1)
        rows, columns = shape.padding
        padded = fn.pad(times, (columns, columns, rows, rows), value=task.layer.time_steps)
        fields = padded[sample, *shape.receptive_fields(winners.flatten(0, 1), times.shape[1] // shape.groups)]
        causal = fields <= decided.post.view(-1, 1, 1, 1)
        return torch.where(causal, ltp, ltd).view(*features.shape, *fields.shape[1:])

    @staticmethod
    def _update(task: Task, features: Tensor, rates: Tensor) -> None:
        """Of one sample after the other."""
        rule, weight, (lower, upper) = task.rule._pair()[0], task.layer.weight.data, task.bounds()
        stabilized = rule._dependence() is not None
        for some, rate in zip(features.unbind(), rates.unbind(), strict=True):
            if stabilized:
                own = weight[some]
                rate = rate * ((own - lower) * (upper - own))
            weight.index_add_(0, some, rate.to(weight.dtype))  # winners that do not exist stand for feature 0
            weight.clamp_(lower, upper)


class InTorch:
    """All of it in torch, on any device."""

    slow = "`learn` runs in plain torch, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """It serves every task."""
        return None

    def learn(self, task: Task) -> Tensor:
        """The layer answers, and winners are chosen among the answers."""
        check.finite_if_free(task.layer.weight, "conv_layer.weight")
        return walk(task, in_torch(task), teach_on_waves if task.rule._on_waves() else teach_and_clamp)


def in_torch(task: Task) -> Callable[[Tensor, Tensor | None, bool], Decided]:
    """The search for winners among a layer's answers."""

    def decide(times: Tensor, active: Tensor | None, again: bool) -> Decided:
        fired, potentials = answer(task.layer, times)
        if active is not None:
            fired = torch.where(active.view(*active.shape, 1, 1), fired, task.layer.time_steps)
        return winners_among(fired, potentials, task.layer, task.choice)

    return decide


def _within_memory(part: slice, samples: int, winners: Tensor, weight: Tensor) -> Iterator[slice]:
    """Samples of a part, so many at a time that what is found of their synapses fits."""
    size = max(1, plain.MEMORY // (2 * len(winners) * weight[0].numel() * weight.element_size()))
    stop = min(part.stop, samples)
    return (slice(begin, min(begin + size, stop)) for begin in range(part.start, stop, size))


#: the fastest first
BACK_ENDS: tuple[BackEnd, ...] = (
    InLoops(),
    WinnersInLoops(),
    WinnersGathered(),
    MinibatchesInTorch(),
    InTorch(),
)
