"""The operators in plain torch, without the compiled loops.

On a CPU input spikes are found and gathered (:mod:`.gather`); on other devices, where looking for them would wait,
layers are convolutions of frames.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry, conv2d
from spyketorch._winners import lowest
from spyketorch.kernels import gather
from spyketorch.kernels.layers import Spiking
from spyketorch.neurons import Neuron

#: bytes that potentials over time, and what is made of them, take at most where a layer answers in one convolution,
#: or one image at one time step
MEMORY = 2**28


def convolution_fire(times: Tensor, layer: Spiking, want_values: bool) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there): a convolution of as many images, over all time steps, as may be held."""
    if check.free_to_read(times):
        return gather.convolution_fire(times, layer, want_values)
    weight, limit, time_steps, shape = layer
    assert limit is not None
    rows, columns = shape.output_size(*times.shape[2:])
    of_a_step = (2 * len(weight) * rows * columns + times[0].numel()) * weight.element_size()
    steps = torch.arange(time_steps, device=times.device, dtype=times.dtype).view(-1, 1, 1, 1)
    images, together = max(1, MEMORY // (of_a_step * time_steps)), max(1, MEMORY // of_a_step)
    answers = [
        _fire(part, weight, limit.view(-1, 1, 1), torch.split(steps, together), shape, want_values)
        for part in torch.split(times, images)
    ]
    fired, values = zip(*answers, strict=True)
    return torch.cat(fired), torch.cat(values)


def _fire(
    times: Tensor, weight: Tensor, limit: Tensor, steps: Sequence[Tensor], shape: Geometry, want_values: bool
) -> tuple[Tensor, Tensor]:
    """:func:`convolution_fire` of some images, a convolution for each part of the time steps."""
    time_steps, begin = sum(map(len, steps)), 0
    fired = values = None
    for some in steps:
        frames = (times.unsqueeze(1) <= some).to(weight.dtype)
        potentials = conv2d(frames.flatten(0, 1), weight, shape)
        potentials = potentials.reshape(*frames.shape[:2], *potentials.shape[1:])
        first = torch.where(potentials > limit, some, time_steps).amin(1)
        if want_values:
            place = (first - begin).clamp(max=len(some) - 1).unsqueeze(1).to(torch.int64)
            now = potentials.gather(1, place).squeeze(1)
            values = torch.where(first < (time_steps if fired is None else fired), now, 0 if values is None else values)
        fired, begin = first if fired is None else torch.minimum(fired, first), begin + len(some)
    assert fired is not None
    return fired, weight.new_empty(0) if values is None else values


def last_potentials(times: Tensor, layer: Spiking) -> Tensor:
    """Potentials at the last time step."""
    if check.free_to_read(times):
        return gather.last_potentials(times, layer.weight, layer.time_steps, layer.shape)
    return conv2d((times < layer.time_steps).to(layer.weight.dtype), layer.weight, layer.shape)


def pooling(times: Tensor, shape: Geometry, earliest: int = 1) -> Tensor:
    """Earliest spike of each window, or a later one."""
    if earliest > 1:
        return _later_pooling(times, shape, earliest)
    later = -times.to(torch.float32)  # torch pools floating maps on every device; these hold the times exactly
    return -fn.max_pool2d(later, shape.kernel_size, shape.stride, shape.padding)


def _later_pooling(times: Tensor, shape: Geometry, earliest: int) -> Tensor:
    """The earliest ones found so far are kept in order; each time goes down their list and pushes a later one out."""
    (down, right), (top, left), never = shape.stride, shape.padding, min(torch.iinfo(times.dtype).max, 2**31 - 1)
    rows, columns = (
        (size - 1) * step for size, step in zip(shape.output_size(*times.shape[2:]), shape.stride, strict=True)
    )
    around = fn.pad(times, (left, left, top, top), value=never)
    found = [torch.full_like(around[:, :, : rows + 1 : down, : columns + 1 : right], never)] * earliest
    for y, x in itertools.product(*map(range, shape.kernel_size)):
        time = around[:, :, y : y + rows + 1 : down, x : x + columns + 1 : right]
        for k, kept in enumerate(found):
            found[k], time = torch.minimum(kept, time), torch.maximum(kept, time)
    return found[-1]


def pointwise_inhibition(times: Tensor, potentials: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
    """Times and potentials where at each place the feature that fires first, with the largest potential, survives."""
    first = times.amin(-3, keepdim=True)
    candidate = (times == first) & (first < time_steps)
    strongest = torch.where(candidate, potentials, lowest(potentials.dtype)).amax(-3, keepdim=True)
    index = torch.arange(times.shape[-3], device=times.device).view(-1, 1, 1)
    survivor = torch.where(candidate & (potentials == strongest), index, times.shape[-3]).amin(-3, keepdim=True)
    stays = index == survivor
    return torch.where(stays, times, time_steps), torch.where(stays, potentials, 0)


def rank_order(intensities: Tensor, time_steps: int) -> Tensor:
    """First-spike times by rank, of (N, C, H, W)."""
    flat = intensities.flatten(1)
    order = flat.sort(dim=1, descending=True, stable=True).indices
    nonzero = flat.count_nonzero(1).unsqueeze(1).to(torch.int32)  # half the width, half the time of a division
    per_step = nonzero.div(time_steps, rounding_mode="floor").clamp(min=1)
    ranks = torch.arange(flat.shape[1], dtype=torch.int32, device=flat.device)
    fires = ranks < torch.minimum(nonzero, per_step * time_steps)
    times = torch.where(fires, ranks.div(per_step, rounding_mode="floor"), time_steps)
    return torch.empty_like(order, dtype=torch.int32).scatter_(1, order, times).view_as(intensities)


def local_normalization(intensities: Tensor, radius: int, eps: float) -> Tensor:
    """Intensities (N, C, H, W) over the mean of the square around them."""
    mean = fn.avg_pool2d(intensities, (1, 2 * radius + 1), 1, (0, radius))
    mean = fn.avg_pool2d(mean, (2 * radius + 1, 1), 1, (radius, 0))
    return intensities / (mean + eps)


def neuron_fire(times: Tensor, layer: Spiking, neuron: Neuron, want_values: bool) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there) of any neurons, one time step after the other."""
    weight, threshold, time_steps, shape = layer
    limit: Tensor | float = 0.0 if threshold is None else threshold.view(-1, 1, 1)
    heard = weight.new_zeros((times.shape[0], len(weight), *shape.output_size(*times.shape[2:])))
    potential, fired, values = heard, torch.full_like(heard, time_steps, dtype=times.dtype), heard
    for t in range(time_steps):
        before, heard = heard, conv2d((times <= t).to(weight.dtype), weight, shape)
        potential = neuron.step(potential, before, heard)
        if threshold is not None or t == time_steps - 1:
            crosses = (potential > limit) & (fired == time_steps)
            fired = torch.where(crosses, torch.full_like(fired, t), fired)
            values = torch.where(crosses, potential, values)
    return fired, values if want_values else values.new_empty(0)


def exact_fire(
    times: Tensor, weight: Tensor, threshold: Tensor, time_steps: int, horizon: float, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """(times between the steps, potentials at the horizon) of neurons that hear all inputs (N, inputs)."""
    heard = weight.new_zeros(times.shape[0], len(weight))
    potential, fired = heard, torch.full_like(heard, torch.inf)
    for t in range(time_steps):
        before, was = heard, potential
        heard = heard + (times == t).to(weight) @ weight.T
        potential = neuron.step(was, before, heard)
        exact = t - (potential - threshold) / (potential - was)
        fired = torch.where((potential > threshold) & (fired == torch.inf), exact, fired)
    rise = neuron.step(potential, heard, heard) - potential
    exact = time_steps - 1 + (threshold - potential) / rise
    later = (fired == torch.inf) & (rise > 0) & (exact <= horizon)
    return torch.where(later, exact, fired), potential + rise * (horizon - (time_steps - 1))
