"""From images straight to first-spike times, by value."""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch.encoding._by_value import ByValue
from spyketorch.encoding._filter import IMAGES


class LinearLatency(ByValue):
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

    def __init__(
        self,
        filter: nn.Module,
        time_steps: int,
        largest: float | Tensor | None = None,
        *,
        per_place: bool = False,
    ) -> None:
        super().__init__(filter, time_steps, None if largest is None else _scale(largest), per_place)

    def fit(self, images: Tensor | Iterable[Any]) -> Self:
        """Take the largest intensities that the front end makes of images; gives the encoder itself.

        Parts of the front end that are not fitted yet are fitted first.

        Args:
            images: ``(N, C, H, W)``, or batches of them, as in :func:`fit`; they are gone through once, and once for
                each part.

        Example:
            >>> LinearLatency(torch.nn.Identity(), 4).fit(torch.tensor([[[[0.5, 2.0]]], [[[0.0, 1.0]]]])).largest
            tensor([[[2.]]])
        """
        return super().fit(images)

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        return latency.linear(self._values(check.image(input, IMAGES)), self.time_steps)


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
