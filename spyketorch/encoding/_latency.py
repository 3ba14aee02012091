"""From images straight to first-spike times, by rank order."""

import itertools

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch.encoding._filter import IMAGES, Filter


def _contrasts(module: nn.Module, image: Tensor) -> Tensor:
    """What a module makes of an image, where a Filter answers without rounding."""
    if isinstance(module, Filter):
        return module(image, rounding=False)  # type: ignore[no-any-return]
    if type(module).forward is not nn.Sequential.forward:
        return module(image)  # type: ignore[no-any-return]
    for part in module.children():
        image = _contrasts(part, image)
    return image


class LatencyEncoder(nn.Module):
    """Images straight to first-spike times: filters, normalisation and rank order, without a frame per time step.

    Images of every real type are computed in float32 (float64 where the filter's own numbers are), so that the same
    values give the same times. Places without contrast stay silent: what rounding leaves of the answer of a
    :class:`Filter`, also in a :class:`torch.nn.Sequential`, to a flat patch counts as 0 here. (A Filter by itself
    answers as the original does, rounding included, unless it is called with ``rounding=False``.)

    It adds nothing to a ``state_dict``: a module of your own that holds one saves none of its settings. A
    :class:`spyketorch.models.Network` saves them, and refuses those of another.

    Args:
        filter: a :class:`Filter`, or any module from images ``(N, 1, H, W)`` to intensities of 0 or more; a Filter
            gives such with ``thresholds`` of 0 or more, or with ``use_abs``.
        time_steps: T, how many there are.
        normalization_radius: of :func:`spyketorch.latency.local_normalization`; None for none.

    Shape:
        ``(1, H, W)`` to ``(K, H', W')`` or ``(N, 1, H, W)`` to ``(N, K, H', W')``, uint8 (int16 where T > 254,
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
        if normalization_radius is not None:
            check.integer(normalization_radius, "normalization_radius", 0)
        self.normalization_radius = normalization_radius

    def forward(self, input: Tensor) -> Tensor:
        check.image(input, IMAGES)
        with torch.no_grad():  # times carry no gradient
            intensities = _contrasts(self.filter, input.detach().to(self._type()))
        if not isinstance(intensities, Tensor) or intensities.ndim != input.ndim:
            raise check.fail("filter", f"a module from images to intensities of {input.ndim} dimensions", intensities)
        check.not_negative(intensities, "intensities")
        if self.normalization_radius is not None:
            intensities = latency.local_normalization(intensities, self.normalization_radius)
        return latency.rank_order(intensities, self.time_steps)

    def _type(self) -> torch.dtype:
        numbers = itertools.chain(self.filter.parameters(), self.filter.buffers())
        return torch.float64 if any(value.dtype == torch.float64 for value in numbers) else torch.float32

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, normalization_radius={self.normalization_radius}"
