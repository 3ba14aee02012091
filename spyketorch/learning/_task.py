"""What is to be learned from first-spike times, and whether the layer answers as the standard one does."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from spyketorch import _checks as check
from spyketorch import neurons
from spyketorch._convolution import Geometry, check_fits
from spyketorch._plasticity import Inputs
from spyketorch._processes import ALONE, Processes, at_work
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch._winners import choice as winner_choice
from spyketorch.kernels import serving
from spyketorch.kernels.layers import Spiking
from spyketorch.learning._rule import Rated, Rule
from spyketorch.learning._synapses import shares

if TYPE_CHECKING:
    from spyketorch.kernels.engine import Engine


def checked(rule: Rated, times: Any, potentials: Any) -> Inputs:
    """A batch of times, of which the layer of a rule can learn, and what was told of potentials beside them."""
    layer = rule.conv_layer
    if not hasattr(layer, "respond"):
        raise check.fail_type("conv_layer", "an snn.SpikingConvolution, to learn from first-spike times", layer)
    batch = check.times(times, "times")
    if batch.ndim != 4:
        raise check.fail("times", "a batch of shape (N, C, H, W)", times)
    return Inputs(batch, shares(potentials, batch.shape, layer.weight))


def _own_answer(layer: Any) -> list[str]:
    """The methods of the standard layer in whose place this one has its own."""
    return layer._own() if hasattr(layer, "_own") else ["respond"]


def answer(layer: Any, times: Tensor) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there) of a layer, its hooks and whatever else it has of its own included."""
    answered: tuple[Tensor, Tensor] = layer._heard(times) if hasattr(layer, "_heard") else layer.respond(times)
    return answered


class Task(NamedTuple):
    """A chunk of samples to learn: by which rule, in which layer, from which times, and how."""

    rule: Rule
    layer: Any
    inputs: Inputs
    shape: Geometry
    choice: Choice
    teacher: Teacher | None
    minibatch: int

    @property
    def times(self) -> Tensor:
        """Of all samples."""
        times: Tensor = self.inputs.times
        return times

    def sample(self, i: int) -> Inputs:
        """What the layer hears of one."""
        times, potentials = self.inputs
        return Inputs(times[i], None if potentials is None else potentials[i])

    def of_some(self, samples: slice) -> "Task":
        """To learn some of the samples."""
        teacher = None if self.teacher is None else self.teacher.of_some(samples)
        return self._replace(inputs=self.inputs.of_some(samples), teacher=teacher)

    def first(self) -> tuple["Task", list[tuple[Tensor, Tensor]]]:
        """The task of the first mini-batch in tensors of its own; and each, with that of all samples to copy from."""
        times, teacher = self.times[: self.minibatch].clone(), self.teacher
        given = [(times, self.times)]
        if teacher is not None:
            labels, active = teacher.labels[: self.minibatch].clone(), teacher.active[: self.minibatch].clone()
            given += [(labels, teacher.labels), (active, teacher.active)]
            teacher = teacher._replace(labels=labels, active=active)
        return self._replace(inputs=Inputs(times, None), teacher=teacher), given

    @property
    def processes(self) -> Processes:
        """Those that share out the answers of a mini-batch; what is learned online all of them learn alike."""
        return at_work() if self.minibatch > 1 else ALONE

    @property
    def spiking(self) -> Spiking:
        """The layer as operators take it, its weights as they stand."""
        return Spiking(self.layer.weight.data, self.layer.limit(), self.layer.time_steps, self.shape)

    def engine(self) -> AbstractContextManager["Engine"]:
        """The compiled loops on the layer."""
        from spyketorch.kernels.engine import engine

        return engine(self.spiking, self.times.shape[2:], "conv_layer.weight", self.neuron)

    @property
    def neuron(self) -> neurons.Neuron:
        """Those of the layer."""
        known: neurons.Neuron = getattr(self.layer, "neuron", neurons._INTEGRATE_AND_FIRE)
        return known

    def why_not_standard(self) -> str | None:
        """What the layer has in place of the standard answer, or None where that is its own."""
        own = _own_answer(self.layer)
        return f"the layer has its own {', '.join(own)}" if own else None

    def why_not_searched(self) -> str | None:
        """Why the compiled loops do not find the winners, or None where they do."""
        # whether there is a threshold is all that is asked: to expand it costs one image a call some per cent
        as_stored = Spiking(self.layer.weight, self.layer.threshold, self.layer.time_steps, self.shape)
        return self.why_not_standard() or serving.why_no_search(as_stored, self.choice, self.neuron)

    def bounds(self) -> tuple[float, float]:
        """Of the weights, after reward and after punishment."""
        pair = self.rule._pair()
        return min(rule.lower_bound for rule in pair), max(rule.upper_bound for rule in pair)

    def is_short(self) -> bool:
        """Whether it pays to read the rates of the winners alone, once they are known."""
        known = self.teacher is None or self.teacher.correction == 0
        return known and self.minibatch == 1 and 4 * len(self.times) * self.choice.kwta < self.layer.out_channels


def task_of(rule: Rule, inputs: Inputs, choice: tuple[Any, Any, bool], minibatch: Any, teacher: Teacher | None) -> Task:
    """What is to be learned, checked."""
    times: Tensor = inputs.times
    layer: Any = rule._pair()[0].conv_layer
    minibatch = check.integer(minibatch, "minibatch", 1)
    for one in rule._pair():
        one._learnable()
    shape: Geometry = layer.geometry
    check_fits(times, "times", check.sized(layer.weight, "conv_layer.weight", (4,), "of four axes"), shape)
    kwta, radius = winner_choice(*choice[:2], layer.out_channels, *shape.output_size(*times.shape[-2:]))
    thresholds = rule._pair()[0].thresholds
    excess = thresholds is not None and thresholds.excess
    check.times_within(times, "times", layer.time_steps)
    if layer.threshold is not None:
        check.finite_if_looked_at(layer.threshold, "conv_layer.threshold")
    return Task(rule, layer, inputs, shape, Choice(kwta, radius, choice[2], excess), teacher, minibatch)
