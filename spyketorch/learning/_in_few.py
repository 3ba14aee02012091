"""The standard rule in torch in few operations, each of which has to be started on a device; none is waited for.

What the updates of a mini-batch need is found for all of its winners at once; but for the weights, each of which an
update changes before the next one looks at it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry
from spyketorch._teacher import Teacher
from spyketorch.kernels import plain
from spyketorch.learning._task import Task, answer
from spyketorch.learning._walk import Decided, choose, decide_together, in_torch

REWARD, PUNISHMENT, NOTHING = False, True, 2  # how winners learn: rows of a table of rates


class Fields(NamedTuple):
    """The inputs of neurons, in maps (N, C, H, W) that are padded and flat."""

    shape: Geometry
    silent: int  # the time of what lies outside of the maps
    strides: tuple[int, int, int]  # from the inputs of one group, row or column of neurons to those of the next
    places: Tensor  # int64 (inputs of a neuron,), from the first of them

    @classmethod
    def of(cls, task: Task) -> "Fields":
        shape, (_, channels, height, width) = task.shape, task.times.shape
        rows, columns = height + 2 * shape.padding[0], width + 2 * shape.padding[1]
        place = torch.arange(channels // shape.groups * rows * columns, device=task.times.device)
        field = shape.receptive_field((0, 0, 0), channels // shape.groups)
        places = place.view(-1, rows, columns)[field].flatten()
        strides = (len(place), shape.stride[0] * columns, shape.stride[1])
        return cls(shape, task.layer.time_steps, strides, places)

    def flat(self, times: Tensor) -> Tensor:
        """Maps as they are read, ``(n, places)``."""
        rows, columns = self.shape.padding
        return fn.pad(times, (columns, columns, rows, rows), value=self.silent).flatten(1)

    def under(self, neurons: Sequence[Tensor], maps: Tensor) -> Tensor:
        """The inputs ``(n, k, inputs)`` of neurons, features, rows and columns ``(n, k)``, in maps ``(n, places)``."""
        feature, row, column = neurons
        of_group, of_row, of_column = self.strides
        first = (feature // self.shape.features_per_group).mul(of_group).add(row, alpha=of_row)
        index = first.add(column, alpha=of_column).unsqueeze(-1) + self.places
        return maps.gather(1, index.flatten(1)).view_as(index)


class InFew(NamedTuple):
    """A task, and what all of its mini-batches need.

    ``rates`` are (3, features, 2), by reward, by punishment, and for winners that learn nothing.
    """

    task: Task
    weight: Tensor
    rates: Tensor
    fields: Fields
    again: "Again | None"

    @classmethod
    def of(cls, task: Task) -> "InFew":
        check.finite_if_looked_at(task.layer.weight, "conv_layer.weight")
        reward, punishment = (rule._rates for rule in task.rule._pair())
        rates = torch.stack([reward, punishment, torch.zeros_like(reward)])
        check.finite_if_looked_at(rates, "learning_rate")
        again = Again.of(task.teacher) if task.teacher is not None and task.teacher.correction else None
        return cls(task, task.layer.weight.data, rates, Fields.of(task), again)

    def learn(self) -> Tensor:
        """The winners of each sample, as of :meth:`spyketorch.learning.STDP.learn`."""
        size, search = self.task.minibatch, in_torch(self.task)
        winners = []
        for begin in range(0, len(self.task.times), size):
            part = slice(begin, min(begin + size, len(self.task.times)))
            decided = decide_together(self.task, search, part)
            winners.append(decided.winners)
            for some in self._within_memory(part):
                here = slice(some.start - begin, some.stop - begin)
                self._teach(some, Decided(decided.winners[here], decided.post[here]))
        return torch.cat(winners)

    def _within_memory(self, part: slice) -> Iterator[slice]:
        """Samples of a part, so many at a time that what is found of their synapses fits."""
        of_a_winner = len(self.fields.places) * (2 * self.weight.element_size() + self.fields.places.element_size())
        size = max(1, plain.MEMORY // (self.task.choice.kwta * of_a_winner))
        return (slice(begin, min(begin + size, part.stop)) for begin in range(part.start, part.stop, size))

    def _teach(self, some: slice, decided: Decided) -> None:
        """Learn some samples, one after the other, from what was decided for all of them."""
        task, maps = self.task, self.fields.flat(self.task.times[some])
        neurons, learns = decided.winners.clamp(min=0).unbind(-1), decided.winners[..., 0] >= 0
        features, how = neurons[0], torch.where(learns, REWARD, NOTHING)
        if task.teacher is not None:
            wrong = task.teacher.wrong(some, features[:, 0]).unsqueeze(1)
            how = torch.where(learns if self.again is None else learns & wrong, wrong, NOTHING)
        steps = self._steps(neurons, decided.post, how, maps)
        others = None if self.again is None else self.again.others(some, features[:, 0], how[:, 0] == PUNISHMENT)
        for i, (one, step) in enumerate(zip(features.unbind(), steps.unbind(), strict=True)):
            self._update(one, step)
            if self.again is not None and others is not None:
                here = slice(some.start + i, some.start + i + 1)
                self._update(*self._decided_again(self.again, here, others[i], maps[i : i + 1]))

    def _steps(self, neurons: Sequence[Tensor], post: Tensor, how: Tensor, maps: Tensor) -> Tensor:
        """The rate of each synapse of neurons ``(n, k)``, like their weights, ``(n, k, C, rows, columns)``."""
        ltp, ltd = self.rates[how, neurons[0]].unsqueeze(-2).unbind(-1)
        steps = torch.where(self.fields.under(neurons, maps) <= post.unsqueeze(-1), ltp, ltd)
        return steps.view(*how.shape, *self.weight.shape[1:])

    def _update(self, features: Tensor, steps: Tensor) -> None:
        """Of one sample; of winners of one feature at most one learns."""
        weight, (lower, upper) = self.weight, self.task.bounds()
        if self.task.rule._pair()[0]._dependence() is not None:
            own = weight[features]
            steps = steps * ((own - lower) * (upper - own))
        weight.index_add_(0, features, steps.to(weight.dtype))  # winners that do not exist stand for feature 0
        weight.clamp_(lower, upper)

    def _decided_again(self, again: "Again", here: slice, others: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        """(features, steps) of one sample that was decided wrong, by all further decisions at once."""
        task = self.task
        assert task.teacher is not None
        label, known = task.teacher.labels[here], task.teacher.classes
        rivals = label if again.rivals is None else again.rivals
        fired, potentials = answer(task.layer, task.times[here])
        among = (again.members | (known == label)) & others
        fired = torch.where(among.view(*among.shape, 1, 1), fired, task.layer.time_steps)
        found = choose(fired, potentials.expand_as(fired), task.layer, task.choice._replace(inhibit=False))
        neurons = found.winners.clamp(min=0).permute(2, 1, 0).unbind()
        features = neurons[0][0]
        learns = (found.winners[:, 0, 0] >= 0) & (known[features] == rivals)
        how = torch.where(learns, rivals != label, NOTHING)
        return features, self._steps(neurons, found.post.T, how.unsqueeze(0), maps)[0]


class Again(NamedTuple):
    """Decisions after a wrong one, all of them at once.

    Who learns in a decision is silenced with its class before the next one, so that what has not learned answers to
    all of them alike. Then a wrong class is decided on before the right one where it wins against that alone. So each
    class, the *rivals*, is tried against the right one; with the right one only, there is but one decision.
    """

    teacher: Teacher
    rivals: Tensor | None  # (classes,)
    members: Tensor  # bool (classes, features), who takes part besides those of the right class

    @classmethod
    def of(cls, teacher: Teacher) -> "Again":
        if teacher.correction == 1:
            rivals = teacher.distinct()
            return cls(teacher, rivals, teacher.classes == rivals.unsqueeze(1))
        return cls(teacher, None, torch.zeros_like(teacher.classes, dtype=torch.bool).unsqueeze(0))

    def others(self, some: slice, features: Tensor, wrong: Tensor) -> Tensor:
        """Which features take part again ``(n, features)``, after these decided; nobody where they were not wrong."""
        known = self.teacher.classes
        others: Tensor = self.teacher.active[some] & wrong.unsqueeze(1) & (known != known[features].unsqueeze(1))
        return others
