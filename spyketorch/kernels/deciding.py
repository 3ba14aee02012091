"""The compiled loops on a read-out whose neurons fire between the steps."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from spyketorch._plasticity import Supervision
from spyketorch.kernels.arrays import Array
from spyketorch.kernels.engine import _of
from spyketorch.kernels.loops import first_spike as loops
from spyketorch.kernels.loops.layout import lanes
from spyketorch.kernels.parallel import in_parallel
from spyketorch.neurons import Neuron


def _deciders(weight: Tensor, threshold: Tensor, steps: int, horizon: float, neuron: Neuron) -> loops.Deciders:
    """Neurons as the loops see them, with weights of their own."""
    own = weight.detach().numpy()
    count, number = lanes(len(own)), own.dtype.type
    rows = np.zeros((own.shape[1], count), own.dtype)
    rows[:, : len(own)] = own.T
    limit = np.full(count, np.inf, own.dtype)
    limit[: len(own)] = threshold.numpy()
    return loops.Deciders(_of(number, neuron), rows, np.ones(count, own.dtype), limit, steps, number(horizon))


def fire(
    times: Tensor, weight: Tensor, threshold: Tensor, steps: int, horizon: float, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """As :func:`spyketorch.kernels.operators.exact_fire`."""
    deciders, given = _deciders(weight, threshold, steps, horizon, neuron), times.contiguous().numpy()
    fired = np.empty((len(given), len(weight)), deciders.rows.dtype)
    potential = np.empty_like(fired)
    in_parallel(len(given), partial(loops.fire, given, deciders, fired, potential), deciders.rows.size)
    return torch.from_numpy(fired), torch.from_numpy(potential)


def learn(
    times: Tensor,
    labels: Tensor,
    weight: Tensor,
    neuron: Neuron,
    window: tuple[int, float],
    thresholds: tuple[Tensor, Tensor],
    sums: tuple[Tensor, Tensor],
    supervision: Supervision,
) -> Tensor:
    """Supervised STDP of samples (N, inputs) in turn: the class decided, and the winner of each class.

    ``window`` is (T, horizon), ``thresholds`` are those that decide and those of target neurons for their own class;
    the latter change, and the weight. ``sums`` are what weights are weighed by, and what they add up to.
    """
    limit, lifted = thresholds
    deciders, given = _deciders(weight, limit, *window, neuron), (times.contiguous().numpy(), labels.numpy())
    winners: Array = np.empty((len(times), 1 + len(weight) // supervision.per_class), np.int64)
    expected, total = (part.numpy() for part in sums)
    how = _of(deciders.rows.dtype.type, supervision)
    loops.learn(*given, deciders, how, lifted.numpy(), expected, total, winners)
    weight.copy_(torch.from_numpy(deciders.rows[:, : len(weight)].T))
    return torch.from_numpy(winners)
