"""What a front end makes of images, before it is put into time."""

import itertools

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch._on_one_thread import converted
from spyketorch.encoding._filter import Filter


def intensities_of(front: nn.Module, images: Tensor) -> Tensor:
    """Intensities of 0 or more, in float32, or in float64 where the front end's own numbers are."""
    return checked(contrasts(front, taken(front, images)), images)


def taken(front: nn.Module, images: Tensor) -> Tensor:
    """Images in the type in which a front end answers."""
    images, dtype = images.detach(), _type(front)
    return converted(images, dtype) if check.free_to_read(images) else images.to(dtype)


def checked(values: Tensor, images: Tensor) -> Tensor:
    """Intensities, once they are known to be some."""
    if not isinstance(values, Tensor) or values.ndim != images.ndim:
        raise check.fail("filter", f"a module from images to intensities of {images.ndim} dimensions", values)
    check.not_negative(values, "intensities")
    return values


def split(front: nn.Module) -> tuple[list[nn.Module], nn.Module]:
    """What comes before the last part of a front end, and the last."""
    if type(front).forward is not nn.Sequential.forward or not len(front):  # type: ignore[arg-type]
        return [], front
    *before, last = front.children()
    inner, last = split(last)
    return [*before, *inner], last


def contrasts(module: nn.Module, image: Tensor) -> Tensor:
    """What a module makes of an image, where a Filter answers without rounding."""
    if isinstance(module, Filter):
        return module(image, rounding=False)  # type: ignore[no-any-return]
    if type(module).forward is not nn.Sequential.forward:
        return module(image)  # type: ignore[no-any-return]
    for part in module.children():
        image = contrasts(part, image)
    return image


def _type(front: nn.Module) -> torch.dtype:
    if type(front) is Filter:  # which has no others
        return front.kernels.dtype
    numbers = itertools.chain(front.parameters(), front.buffers())
    return torch.float64 if any(value.dtype == torch.float64 for value in numbers) else torch.float32
