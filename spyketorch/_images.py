"""What images a network was made for, and a word where others come."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor

from spyketorch import _checks as check

_looking: ContextVar[bool] = ContextVar("spyketorch_images", default=False)


class InputWarning(UserWarning):
    """Images on another scale than the network was made for."""


@dataclass(frozen=True)
class ImageSpec:
    """The images that a network was made for.

    Args:
        shape: (channels, rows, columns), None for any; images of another shape are refused.
        range: (lowest, highest) value, None for any; images on another scale are warned of. Values are looked at on a
            CPU alone, as looking elsewhere would wait for the device.

    Example:
        >>> import torch
        >>> digits = ImageSpec((1, 28, 28), (0, 255))
        >>> digits.scale(torch.linspace(0, 1, 28).expand(5, 1, 28, 28))
        'images reach from 0.00 to 1.00, but this network was made for 0..255: scale them'
    """

    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.shape, tuple | list) or len(self.shape) != 3:
            raise check.fail("shape", "(channels, rows, columns), None for any", self.shape)
        for size in self.shape:
            if size is not None:
                check.integer(size, "shape", 1)
        if self.range is not None:
            check.span(self.range, "range")

    def fit(self, images: Tensor) -> None:
        """Refuse images of another shape.

        Raises:
            ValueError: naming both shapes.
        """
        sizes = zip(self.shape, check.image(images, "images").shape[-3:], strict=True)
        if any(wanted not in (None, size) for wanted, size in sizes):
            shape = ", ".join("any" if size is None else str(size) for size in self.shape)
            raise check.fail("images", f"of shape (N, {shape}), as this network was made for", images)

    def scale(self, images: Tensor) -> str | None:
        """A sentence where values lie on another scale: far outside the range, or all within a tenth of it."""
        if self.range is None or check.image(images, "images").device.type != "cpu" or not check.readable(images):
            return None
        (low, high), (least, most) = self.range, _extremes(images)
        near = (high - low) / 10
        if least == most or (least >= low - near and low + near < most <= high + near):
            return None  # a blank image has no scale
        return (
            f"images reach from {least:.2f} to {most:.2f}, but this network was made for {low:g}..{high:g}: scale them"
        )


def _extremes(images: Tensor) -> tuple[float, float]:
    values = images if images.dtype.is_signed or images.element_size() == 1 else images.float()
    return float(values.amin()), float(values.amax())


def look(spec: ImageSpec | None, images: Tensor, stacklevel: int) -> str | None:
    """Refuse images that do not fit; warn of another scale, and give the warning."""
    if spec is None:
        return None
    spec.fit(images)
    if torch.compiler.is_compiling() or _looking.get():
        return None
    told = spec.scale(images)
    if told is not None:
        warnings.warn(told, InputWarning, stacklevel=stacklevel)
    return told


@contextmanager
def looked_at(spec: ImageSpec | None, images: Tensor, stacklevel: int) -> Iterator[str | None]:
    """Look at all images once; within it, no parts of them are warned of again. Gives the warning, if there is one."""
    told = look(spec, images, stacklevel + 1)
    token = _looking.set(True)
    try:
        yield told
    finally:
        _looking.reset(token)
