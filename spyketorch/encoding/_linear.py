"""From images straight to first-spike times, by value."""

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch._state import CheckedState, finite
from spyketorch.encoding._filter import IMAGES
from spyketorch.encoding._intensities import intensities_of

_AT_ONCE = 256  # images that are looked at together by `fit`, which bounds memory


class LinearLatency(CheckedState):
    r"""Images straight to first-spike times that fall with intensity in a straight line.

    .. math:: v = x / x_\text{largest}, \qquad t = \min(T - 1, \lfloor (1 - v)\, T \rfloor)

    for x above 0; places of 0 are silent, and what is above the largest fires at once. A time says how strong an
    intensity is, whatever the others are: faint images stay late and sparse, and nothing is sorted. (By rank order,
    :class:`LatencyEncoder`, a stimulus fires as fast and as much whether it is faint or strong.)

    The largest intensities are those of training images, :meth:`fit`, or given. They are saved in the ``state_dict`` as
    ``largest``, which loads into an encoder that has none yet, too.

    Args:
        filter: as of :class:`LatencyEncoder`: a module from images to intensities of 0 or more.
        time_steps: T, how many there are.
        largest: a number, one for each map ``(K,)``, or for each map and place ``(K, H', W')``; None to be fitted.
        per_place: :meth:`fit` finds the largest of each map and place; else, of each map.

    Shape:
        As of :class:`LatencyEncoder`.

    Raises:
        ValueError: images, where no largest intensity is known yet; images whose intensities are of another shape; NaN,
            infinite or (on a CPU, where looking is cheap) negative intensities.

    Example:
        >>> from spyketorch.encoding import DoGKernel, Filter
        >>> cells = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], thresholds=0)  # bright spots, dark spots
        >>> encode = LinearLatency(torch.nn.Sequential(torch.nn.ReplicationPad2d(3), cells), 15, per_place=True)
        >>> images = torch.rand(100, 1, 28, 28)
        >>> encode.fit(images)(images).shape
        torch.Size([100, 2, 28, 28])

    Reference:
        Multi-layered spiking neural network with target timestamp threshold adaptation and STDP, IJCNN 2019,
        arXiv:1904.01908.
    """

    largest: Tensor | None

    def __init__(
        self,
        filter: nn.Module,
        time_steps: int,
        largest: float | Tensor | None = None,
        *,
        per_place: bool = False,
    ) -> None:
        super().__init__()
        self.filter = check.module(filter, "filter")
        self.time_steps = check.steps(time_steps)
        self.per_place = check.flag(per_place, "per_place")
        self.register_buffer("largest", None if largest is None else _scale(largest))

    @torch.no_grad()
    def fit(self, images: Tensor) -> "LinearLatency":
        """Take the largest intensities that the front end makes of images ``(N, C, H, W)``; gives the encoder itself.

        Example:
            >>> LinearLatency(torch.nn.Identity(), 4).fit(torch.tensor([[[[0.5, 2.0]]], [[[0.0, 1.0]]]])).largest
            tensor([[[2.]]])
        """
        axes = (0,) if self.per_place else (0, 2, 3)
        parts = torch.split(check.images(images), _AT_ONCE)
        found = torch.cat([self._intensities(part).amax(axes, keepdim=True) for part in parts])
        self.largest = found.amax(0)
        return self

    def _intensities(self, images: Tensor) -> Tensor:
        intensities = intensities_of(self.filter, images)
        check.finite(intensities, "intensities")
        return intensities

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        check.image(input, IMAGES)
        if self.largest is None:
            raise ValueError(
                "`largest` must be known before images are encoded: call `fit` with training images, load a saved "
                "state, or give the largest intensity as `largest`"
            )
        intensities = self._intensities(input)
        if not check.broadcasts(self.largest.shape, intensities.shape[-3:]):
            raise ValueError(
                f"`{IMAGES}` must give intensities that `largest`, {tuple(self.largest.shape)}, was fitted to; got "
                f"{tuple(intensities.shape[-3:])}: `fit` the encoder to images of this size"
            )
        check.same_device(intensities, IMAGES, self.largest, "largest")
        # 0 / 0 is taken for 0; what fires where nothing did in training is above the largest
        values = torch.where(intensities > 0, intensities / self.largest.to(intensities.dtype), 0)
        return latency.linear(values.clamp(max=1), self.time_steps)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        saved = state_dict.get(f"{prefix}largest")
        if self.largest is None and isinstance(saved, Tensor) and saved.ndim == 3 and finite(saved):
            beside = next(itertools.chain(self.parameters(), self.buffers()), saved)
            self.largest = torch.zeros_like(saved, device=beside.device)
        super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, per_place={self.per_place}"


def _scale(largest: Any) -> Tensor:
    """(K or 1, H' or 1, W' or 1), of a number, or one for each map, or for each map and place."""
    accepted = "a number of 0 or more, one for each map, (K,), or for each map and place, (K, H, W)"
    if not isinstance(largest, Tensor):
        largest = torch.tensor(check.number(largest, "largest"))
    if largest.ndim not in (0, 1, 3) or not largest.numel():
        raise check.fail("largest", accepted, largest)
    own = check.floating(largest.detach(), "largest").clone()
    check.finite(own, "largest")
    if check.readable(own) and bool((own < 0).any()):
        raise check.fail("largest", accepted, float(own.min()))
    return own.view(-1, 1, 1) if own.ndim < 3 else own
