r"""Neurons that fire at most once: how the potential follows from what a neuron has heard.

At each time step a neuron has *heard* the sum :math:`a_t` of the weights of all inputs that fired so far, which
:class:`spyketorch.snn.Convolution` gives. Its potential :math:`v_t` follows from the one a step ago, and from what was
heard before and with this step; before the first step all are 0. A neuron fires when its potential is above the
threshold for the first time.

A neuron is a named tuple of numbers with that one step, which serves tensors and, where numba compiles it, the loops:

    >>> from spyketorch import snn
    >>> class Patient(NamedTuple):
    ...     share: float = 0.25
    ...     def step(self, potential, before, heard):
    ...         return potential + self.share * (heard - potential)
    >>> layer = snn.SpikingConvolution(2, 4, 3, threshold=2, time_steps=15, neuron=Patient())
    >>> layer(torch.zeros(2, 9, 9, dtype=torch.uint8)).shape
    torch.Size([4, 7, 7])

Write constants as fields: in the loops these have the type of the potentials, as they have beside tensors.
:func:`spyketorch.testing.check_neuron` holds a neuron to what is asked of it.
"""

import math
from typing import Any, NamedTuple, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from spyketorch import _checks as check


@runtime_checkable
class Neuron(Protocol):
    """What a neuron must have: it is a named tuple of numbers, with a step."""

    @property
    def _fields(self) -> tuple[str, ...]: ...

    def step(self, potential: Any, before: Any, heard: Any) -> Any:
        """The potential at a time step.

        Args:
            potential: a step ago, a number or a tensor.
            before, heard: the sum of the weights of all inputs that fired, without this step and with it.
        """


@runtime_checkable
class Responding(Neuron, Protocol):
    """A neuron whose potential is the sum of what each input adds to it, by its weight and its age alone.

    Such neurons may decide in a :class:`spyketorch.readout.FirstSpikeReadout`, and learn by
    :class:`spyketorch.learning.SupervisedSTDP`.
    """

    def response(self, age: Any) -> Any:
        """The potential that an input of weight 1 adds so long after it fired, its spike response.

        Args:
            age: in time steps, a number or a tensor. A potential moves in a straight line from step to step, so a
                neuron that fires between two steps hears the inputs of the later one at ages of -1 to 0.
        """


class IntegrateAndFire(NamedTuple):
    r"""Keeps all that it heard: :math:`v_t = a_t`. The neuron of SpykeTorch, and the fastest: it stands still between
    spikes.

    Example:
        >>> potentials(torch.tensor([1.0, 1.0, 3.0]).view(3, 1, 1, 1), IntegrateAndFire()).flatten()
        tensor([1., 1., 3.])
    """

    def step(self, potential: Any, before: Any, heard: Any) -> Any:
        """As of every :class:`Neuron`."""
        return heard

    def response(self, age: Any) -> Any:
        """1, from the step on in which the input fires."""
        return (age > -1) * 1.0


class Leaky(NamedTuple):
    r"""Forgets, the leaky integrate-and-fire neuron: :math:`v_t = \lambda v_{t-1} + (a_t - a_{t-1})`.

    Args:
        leak: :math:`\lambda`, the share of the potential that is left after a time step, 0 to 1; 1 forgets nothing.

    Example:
        >>> potentials(torch.tensor([1.0, 1.0, 3.0]).view(3, 1, 1, 1), Leaky(0.5)).flatten()
        tensor([1.0000, 0.5000, 2.2500])
    """

    leak: float

    def step(self, potential: Any, before: Any, heard: Any) -> Any:
        """As of every :class:`Neuron`."""
        return self.leak * potential + (heard - before)

    def response(self, age: Any) -> Any:
        r""":math:`\lambda^{age}`, from the step on in which the input fires."""
        return (age > -1) * self.leak ** (age * (age > 0))


class Ramp(NamedTuple):
    r"""Rises by what it heard before: :math:`v_t = v_{t-1} + a_{t-1} / d`.

    So an input of weight w that fired at :math:`t_i` adds :math:`w \max(0, t - t_i) / d`: the earlier, the more.

    Args:
        duration: d, the steps in which an input raises the potential by its weight, usually T; above 0.

    Example:
        >>> potentials(torch.tensor([1.0, 1.0, 3.0, 3.0]).view(4, 1, 1, 1), Ramp(4)).flatten()
        tensor([0.0000, 0.2500, 0.5000, 1.2500])

    Reference:
        Attar, arXiv 2609.37047, for read-outs.
    """

    duration: float

    def step(self, potential: Any, before: Any, heard: Any) -> Any:
        """As of every :class:`Neuron`."""
        return potential + before / self.duration

    def response(self, age: Any) -> Any:
        """age / d, 0 before the input fires."""
        return (age > 0) * age / self.duration


def potentials(heard: Tensor, neuron: Neuron) -> Tensor:
    """Potentials over time of neurons on waves: what :func:`spyketorch.functional.fire` is to compare.

    Args:
        heard: what the neurons have heard, ``(T, C, H, W)`` or ``(N, T, C, H, W)``, as
            :func:`spyketorch.functional.convolution` gives it.
        neuron: one of this module, or of one's own.

    Returns:
        Potentials of the same shape. They may fall: ``fire(..., latch=True)`` keeps neurons fired.

    Example:
        >>> from spyketorch import functional as sf, snn
        >>> wave = torch.ones(15, 2, 9, 9)
        >>> conv = snn.Convolution(2, 4, 3)
        >>> sf.fire(potentials(conv(wave), Leaky(0.9)), 10, latch=True).shape
        torch.Size([15, 4, 7, 7])
    """
    steps, neuron = check.spikes(heard, "heard").unbind(-4), _checked(neuron)
    potential, before, found = torch.zeros_like(steps[0]), torch.zeros_like(steps[0]), []
    for now in steps:
        potential, before = neuron.step(potential, before, now), now
        found.append(potential)
    return torch.stack(found, -4)


def _checked(neuron: Any) -> Neuron:
    """A neuron whose fields are floats, or an error."""
    accepted = "a neuron such as neurons.Leaky(0.5): a named tuple of numbers with a method `step`"
    if not isinstance(neuron, tuple) or not isinstance(neuron, Neuron) or isinstance(neuron, type):
        raise check.fail_type("neuron", accepted, neuron)
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in neuron):
        raise check.fail("neuron", accepted, neuron)
    if isinstance(neuron, Leaky) and not 0 <= neuron.leak <= 1:
        raise check.fail("neuron.leak", "0 to 1", neuron.leak)
    if isinstance(neuron, Ramp) and neuron.duration <= 0:
        raise check.fail("neuron.duration", "above 0", neuron.duration)
    kind: Any = type(neuron)
    return cast(Neuron, kind(*map(float, neuron)))


_INTEGRATE_AND_FIRE = IntegrateAndFire()


def _stands_still(neuron: Neuron) -> bool:
    """Whether the potential is what was heard. (Named tuples of one content are equal, whatever their type.)"""
    return type(neuron) is IntegrateAndFire
