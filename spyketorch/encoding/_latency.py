"""From images straight to first-spike times, by rank order."""

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch.encoding._filter import IMAGES, Filter
from spyketorch.encoding._intensities import checked, contrasts, split, taken
from spyketorch.kernels import serving

_EPS = 1e-12  # beside the mean of a square, so that a blank one can be divided by


def _radius(value: int | None) -> int | None:
    return None if value is None else check.integer(value, "normalization_radius", 0)


class LatencyEncoder(nn.Module):
    """Images straight to first-spike times: filters, normalisation and rank order, without a frame per time step.

    Images of every real type are computed in float32 (float64 where the filter's own numbers are), so that the same
    values give the same times. Places without contrast stay silent: what rounding leaves of the answer of a
    :class:`Filter`, also in a :class:`torch.nn.Sequential`, to a flat patch counts as 0 here. (A Filter by itself
    answers as the original does, rounding included, unless it is called with ``rounding=False``.)

    It adds nothing to a ``state_dict``: a module of your own that holds one saves none of its settings. A
    :class:`spyketorch.models.Network` saves them, and refuses those of another.

    Args:
        filter: a :class:`Filter`, or any module from images ``(N, C, H, W)`` to intensities of 0 or more; a Filter
            gives such with ``thresholds`` of 0 or more, or with ``use_abs``.
        time_steps: T, how many there are.
        normalization_radius: of :func:`spyketorch.latency.local_normalization`; None for none.

    Shape:
        ``(C, H, W)`` to ``(K, H', W')`` or ``(N, C, H, W)`` to ``(N, K, H', W')``, uint8 (int16 where T > 254,
        int32 where T > 32,767).

    Raises:
        ValueError: NaN, infinite or (on a CPU, where looking is cheap) negative intensities.

    Example:
        >>> from spyketorch.encoding import DoGKernel
        >>> retina = Filter([DoGKernel(3, 1 / 3, 2 / 3)], padding=1, thresholds=0)
        >>> encode = LatencyEncoder(retina, 15, normalization_radius=8)
        >>> encode(torch.rand(100, 1, 28, 28)).shape
        torch.Size([100, 1, 28, 28])
    """

    def __init__(self, filter: nn.Module, time_steps: int, normalization_radius: int | None = None) -> None:
        super().__init__()
        self.filter = check.module(filter, "filter")
        self.time_steps = check.steps(time_steps)
        self.normalization_radius = _radius(normalization_radius)

    def forward(self, input: Tensor) -> Tensor:
        given = taken(self.filter, check.image(input, IMAGES))
        before, last = split(self.filter)
        for part in before:
            with torch.no_grad():  # times carry no gradient
                given = contrasts(part, given)
        times = self._in_one_pass(last, given)
        if times is not None:
            return times
        with torch.no_grad():
            intensities = checked(contrasts(last, given), input)
        if self.normalization_radius is not None:
            intensities = latency.local_normalization(intensities, self.normalization_radius, _EPS)
        return latency.rank_order(intensities, self.time_steps)

    def _in_one_pass(self, filters: nn.Module, given: Tensor) -> Tensor | None:
        """The times, where the compiled loops give those of the separate operations to the bit."""
        if not isinstance(filters, Filter) or filters._own() or not check.free_to_read(given):
            return None
        if not given.dtype == filters.kernels.dtype == torch.float32 or not serving.has_loops(filters.kernels):
            return None
        from spyketorch.kernels import encoding as loops

        images = filters._taken(given)
        batch = images if images.ndim == 4 else images.unsqueeze(0)
        if loops.why_not(batch, filters) is not None:
            return None
        radius, steps = _radius(self.normalization_radius), check.steps(self.time_steps)
        try:
            times = loops.encode(batch, filters, radius, _EPS, steps)
        except FloatingPointError:  # the separate operations say of what
            return None
        return times if images.ndim == 4 else times[0]

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, normalization_radius={self.normalization_radius}"
