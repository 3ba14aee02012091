"""What encoders by value share: intensities beside the largest that are known."""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch.encoding._filter import IMAGES
from spyketorch.encoding._fitted import Batches, FittedState, fit_parts, unfitted
from spyketorch.encoding._intensities import intensities_of


class ByValue(FittedState):
    """A front end, and the largest intensities that it makes of training images, by which those of others are divided.

    Args:
        filter, time_steps, per_place: as of :class:`spyketorch.encoding.LinearLatency`.
    """

    largest: Tensor | None

    def __init__(self, filter: Any, time_steps: int, largest: Tensor | None, per_place: bool) -> None:
        super().__init__()
        self.filter = check.module(filter, "filter")
        self.time_steps = check.steps(time_steps)
        self.per_place = check.flag(per_place, "per_place")
        self.register_buffer("largest", largest)

    @property
    def fitted(self) -> bool:
        return self.largest is not None

    @torch.no_grad()
    def fit(self, images: Tensor | Iterable[Any]) -> Self:
        """Take the largest intensities of images, once all parts of the front end are fitted."""
        batches = Batches(images)
        with check.validation():  # once, wherever the images are
            fit_parts(self._intensities, self.filter, batches)
            self._fit(batches)
        return self

    def _fit(self, images: Batches) -> None:
        axes = (0,) if self.per_place else (0, 2, 3)
        largest: Tensor | None = None
        for batch in images:
            found = self._intensities(batch).amax(axes, keepdim=True)[0]
            if largest is not None and found.shape != largest.shape:
                sizes = f"{tuple(found.shape)} behind {tuple(largest.shape)}"
                raise ValueError(f"`images` must all give maps of one size where `per_place` is set; got {sizes}")
            largest = found if largest is None else torch.maximum(largest, found)
        self.largest = largest

    def _intensities(self, images: Tensor) -> Tensor:
        intensities = intensities_of(self.filter, images)
        check.finite(intensities, "intensities")
        return intensities

    def _values(self, images: Tensor) -> Tensor:
        """Intensities as shares of the largest, 0..1."""
        if self.largest is None:
            raise unfitted("largest", self)
        intensities = self._intensities(images)
        if not check.broadcasts(self.largest.shape, intensities.shape[-3:]):
            raise ValueError(
                f"`{IMAGES}` must give intensities that `largest`, {tuple(self.largest.shape)}, was fitted to; got "
                f"{tuple(intensities.shape[-3:])}: its own `fit`, with images of this size, fits it anew"
            )
        check.same_device(intensities, IMAGES, self.largest, "largest")
        # 0 / 0 is taken for 0; what fires where nothing did in training is above the largest
        largest = self.largest.to(intensities.dtype).clamp(min=torch.finfo(intensities.dtype).tiny)
        return (intensities / largest).clamp_(max=1)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}, per_place={self.per_place}"
