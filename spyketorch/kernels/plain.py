"""The operators in plain torch: one time step after the other, so that no tensor ever holds all of them."""

import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry, conv2d


def _frame(spikes: Tensor, weight: Tensor, shape: Geometry) -> Tensor:
    return conv2d(spikes.to(weight.dtype), weight, shape)


def convolution_fire(
    times: Tensor, weight: Tensor, threshold: Tensor, time_steps: int, shape: Geometry, want_values: bool
) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there)."""
    limit = threshold.view(-1, 1, 1)
    fired: Tensor | None = None
    values: Tensor | None = None
    for t in _steps(times, time_steps):
        potentials = _frame(times <= t, weight, shape)
        if fired is None or values is None:
            fired = torch.full_like(potentials, time_steps, dtype=times.dtype)
            values = torch.zeros_like(potentials)
        crosses = (potentials > limit) & (fired == time_steps)
        fired = torch.where(crosses, t, fired)
        if want_values:
            values = torch.where(crosses, potentials, values)
    assert fired is not None and values is not None
    return fired, values if want_values else values.new_empty(0)


def _steps(times: Tensor, time_steps: int) -> list[int] | range:
    """The steps at which a potential may change: all of them where the times cannot be read at no cost."""
    if time_steps <= 64 or not check.free_to_read(times):
        return range(time_steps)
    return [0, *(t for t in torch.unique(times).tolist() if 0 < t < time_steps)]


def last_potentials(times: Tensor, weight: Tensor, time_steps: int, shape: Geometry) -> Tensor:
    """Potentials at the last time step."""
    return _frame(times < time_steps, weight, shape)


def pooling(times: Tensor, shape: Geometry) -> Tensor:
    """Earliest spike of each window."""
    later = -times.to(torch.float32)  # torch pools floating maps on every device; these hold the times exactly
    return -fn.max_pool2d(later, shape.kernel_size, shape.stride, shape.padding)


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
