"""What images a network was made for, and a word where others come."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch._on_one_thread import extremes
from spyketorch._warnings import _outside

_told: ContextVar[list[str] | None] = ContextVar("spyketorch_images", default=None)  # within a call of many images


class InputWarning(UserWarning):
    """Images on another scale than the network was made for, random ones, an encoder whose silence is another time."""


@dataclass(frozen=True)
class ImageSpec:
    """The images that a network was made for.

    Args:
        shape: (channels, rows, columns), None for any; images of another shape are refused.
        range: (lowest, highest) value, None for any; images on another scale are warned of. All values are looked at
            once a call, on any device.

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
            channels, rows, columns = self.shape
            way = "" if channels in (None, images.shape[-3]) else check.regrouped(images, channels)
            if channels in (None, images.shape[-3]) and images.ndim == 4 and rows and columns:
                way = f"`torch.nn.functional.interpolate(images.float(), ({rows}, {columns}))` resizes them"
            way += way and ", where they are a tensor; in a data set its transform does that"
            raise check.fail("images", f"of shape (N, {shape}), as this network was made for", images, way)

    def scale(self, images: Tensor) -> str | None:
        """A sentence where values lie on another scale: far outside the range, or all within a tenth of it."""
        if self.range is None or not check.readable(check.image(images, "images")):
            return None
        (low, high), (least, most) = self.range, extremes(images)
        near = (high - low) / 10
        if least == most or (least >= low - near and low + near < most <= high + near):
            return None  # a blank image has no scale
        return (
            f"images reach from {least:.2f} to {most:.2f}, but this network was made for {low:g}..{high:g}: scale them"
        )


def look(spec: ImageSpec | None, images: Tensor, stacklevel: int) -> str | None:
    """Refuse images that do not fit; warn of another scale, and give the warning."""
    if spec is None:
        return None
    spec.fit(images)
    before = _told.get()
    if torch.compiler.is_compiling() or before:
        return None
    told = spec.scale(images)
    if told is not None:
        warnings.warn(told, InputWarning, stacklevel=stacklevel)
        if before is not None:
            before.append(told)
    return told


@contextmanager
def looked_at(spec: ImageSpec | None, images: Tensor, stacklevel: int) -> Iterator[str | None]:
    """Look at all images once; within it, no parts of them are looked at again. Gives the warning, if there is one."""
    told = look(spec, images, stacklevel + 1)
    with told_once("looked at"):
        yield told


@contextmanager
def told_once(*told: str) -> Iterator[None]:
    """Within it, images are warned of once; where something has been told already, no more."""
    token = _told.set(list(told))
    try:
        yield
    finally:
        _told.reset(token)


@torch.no_grad()
def quiet_encoder(encoder: nn.Module, images: Tensor, steps: int) -> None:
    """Warn where an encoder that does not tell its T answers to a blank image by one time that is not T, silence."""
    if any(hasattr(part, "time_steps") for part in encoder.modules()) or not check.free_to_read(images):
        return
    state = torch.get_rng_state()
    try:
        answer = encoder(torch.zeros_like(images[:1]))
    except Exception:  # whatever a module of the user's own demands
        return
    finally:
        torch.set_rng_state(state)
    if not isinstance(answer, Tensor) or answer.dtype not in check.TIMES or not answer.numel():
        return
    low, high = extremes(answer)
    if 0 < low == high < steps:
        warnings.warn(
            f"the encoder answers to a blank image by the time {high} everywhere, which layers of {steps} time steps "
            f"take for spikes; let it give {steps} for silence, or give layers the `time_steps` of the encoder",
            InputWarning,
            stacklevel=_outside(),
        )
