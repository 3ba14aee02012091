"""The ways to learn from first-spike times, the fastest first; each says why it does not serve a task."""

import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import neurons
from spyketorch._convolution import torch_threads
from spyketorch._plasticity import Inputs
from spyketorch._teacher import Teacher
from spyketorch._warnings import warn_once
from spyketorch.kernels import gather, graphs, on_triton, plain
from spyketorch.kernels.arrays import channels_last
from spyketorch.learning._in_few import InFew
from spyketorch.learning._rule import Rule
from spyketorch.learning._task import Task
from spyketorch.learning._walk import Decided, in_torch, teach_and_clamp, teach_on_waves, walk
from spyketorch.learning._walk import teach as update

if TYPE_CHECKING:
    from spyketorch.kernels.engine import Engine
    from spyketorch.kernels.loops.layout import Array
    from spyketorch.kernels.loops.learn import Found


_WORTH_CAPTURE = 16  # mini-batches: capturing takes as long as some of them


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
        stands, answered = self._stands(task), list[gather.Answered]()

        def decide(times: Tensor, active: Tensor | None, again: bool) -> Decided:
            with gather.layer(task.spiking) as gathered:
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


class OnTriton:
    """All of it in one kernel, on a GPU where Triton is."""

    slow = "`learn` runs in Triton's interpreter, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """Triton must be there, samples be learned one by one, and rule and layer be the standard ones."""
        unserved = on_triton.why_not(task.layer.weight)
        if unserved is not None:
            return unserved
        if task.minibatch > 1:
            return f"mini-batches of {task.minibatch} samples answer together"
        if task.teacher is not None and task.teacher.correction:
            return "what is decided wrong is decided again"
        if any(rule._rates.dtype != torch.float32 for rule in task.rule._pair()):
            return "the rates are not float32"
        if not neurons._stands_still(task.neuron):
            return f"the layer has {type(task.neuron).__qualname__} neurons"
        return _why_not_standard(task.rule) or task.why_not_standard()

    def learn(self, task: Task) -> Tensor:
        """The kernel walks over all samples."""
        check.finite_if_looked_at(task.layer.weight, "conv_layer.weight")
        rates = torch.stack([rule._rates for rule in task.rule._pair()])
        check.finite_if_looked_at(rates, "learning_rate")
        (lower, upper), stabilized = task.bounds(), task.rule._pair()[0]._dependence() is not None
        rule = on_triton.Online(rates, float(lower), float(upper), int(stabilized))
        try:
            return on_triton.learn(task.times, task.spiking, task.choice, rule, task.teacher)
        except Exception as error:  # of Triton, of a compiler, or of the device: before anything is learned
            warn_once(f"`learn` runs in torch, several times slower, as Triton starts no kernel: {error!r}")
        ways: tuple[BackEnd, ...] = (Captured(), StandardInTorch())
        return next(way for way in ways if way.why_not(task) is None).learn(task)


class StandardInTorch:
    """The standard rule in torch on any device, in few operations, as each has to be started there."""

    slow = "`learn` runs in plain torch, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """The rule must be the standard one; where reading costs no wait, many samples must answer together, once."""
        again = task.teacher is not None and task.teacher.correction > 0
        own = _why_not_standard(task.rule)
        if own is not None:
            return own
        if check.free_to_read(task.times) and (again or task.minibatch == 1):
            return "samples are looked at one by one"
        return self._why_not_again(task) if again else None

    @staticmethod
    def _why_not_again(task: Task) -> str | None:
        """Why all further decisions of a sample cannot be made at once, or None where they can."""
        assert task.teacher is not None
        if task.choice.kwta > 1:
            return "winners of several classes learn before a sample is decided again"
        if task.choice.inhibit and task.layer.threshold is not None:
            return "neurons that cannot win may inhibit others"  # with a threshold below 0
        rivals = task.teacher.turns if task.teacher.correction == 1 else 1
        maps = task.layer.out_channels * math.prod(task.shape.output_size(*task.times.shape[2:]))
        if rivals * maps * task.layer.weight.element_size() > plain.MEMORY:
            return f"maps of {rivals} classes do not fit into memory"
        return None

    def learn(self, task: Task) -> Tensor:
        """See :mod:`spyketorch.learning._in_few`."""
        return InFew.of(task).learn()


class Captured:
    """:class:`StandardInTorch` on CUDA: what it starts for an image, or a mini-batch, is captured once a call."""

    slow = StandardInTorch.slow

    def why_not(self, task: Task) -> str | None:
        """There must be many mini-batches, and the layer be on CUDA and answer as the standard one does."""
        if len(task.times) < _WORTH_CAPTURE * task.minibatch:
            return f"fewer than {_WORTH_CAPTURE} mini-batches are not worth it"
        if task.processes.count > 1:
            return "processes share out the mini-batches"
        return graphs.why_not(task.layer.weight) or task.why_not_standard() or StandardInTorch().why_not(task)

    def learn(self, task: Task) -> Tensor:
        """Each mini-batch is copied to where the graph reads it, and its winners from where it writes them."""
        (one, given), size = task.first(), task.minibatch
        try:
            graph = graphs.captured(InFew.of(one).learn, [task.layer.weight.data])
        except RuntimeError as error:
            warn_once(f"`learn` starts each operation by itself, several times slower, as CUDA captures none: {error}")
            return StandardInTorch().learn(task)
        whole = len(task.times) // size * size
        winners = graph.answer.new_empty(whole, *graph.answer.shape[1:])
        for part in (slice(i, i + size) for i in range(0, whole, size)):
            for place, values in given:
                place.copy_(values[part])
            graph.start()
            winners[part].copy_(graph.answer)
        if whole == len(task.times):
            return winners
        return torch.cat([winners, StandardInTorch().learn(task.of_some(slice(whole, None)))])


class InTorch:
    """All of it in torch, on any device."""

    slow = "`learn` runs in plain torch, many times slower than in the compiled loops"

    def why_not(self, task: Task) -> str | None:
        """It serves every task."""
        return None

    def learn(self, task: Task) -> Tensor:
        """The layer answers, and winners are chosen among the answers."""
        check.finite_if_looked_at(task.layer.weight, "conv_layer.weight")
        return walk(task, in_torch(task), teach_on_waves if task.rule._on_waves() else teach_and_clamp)


def _why_not_standard(rule: Rule) -> str | None:
    """What a rule has in place of the standard one, or None where it is that."""
    own = rule._own()
    if own or not all(one._standard() for one in rule._pair()):
        return f"the rule has its own {', '.join(own) or 'change'}"
    return None


#: the fastest first
BACK_ENDS: tuple[BackEnd, ...] = (
    InLoops(),
    WinnersInLoops(),
    WinnersGathered(),
    OnTriton(),
    Captured(),
    StandardInTorch(),
    InTorch(),
)
