"""Images to first-spike times in one pass: filters, normalisation and rank order, without a tensor in between."""

from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import torch
from torch import Size, Tensor

from spyketorch._convolution import Geometry, conv2d
from spyketorch.kernels.loops import intensities as loops
from spyketorch.kernels.loops.layout import Array
from spyketorch.kernels.operators import time_dtype
from spyketorch.kernels.parallel import in_parallel


class Filters(Protocol):
    """What the loops ask of a :class:`spyketorch.encoding.Filter`."""

    kernels: Tensor
    padding: tuple[int, int]
    thresholds: list[float] | None
    use_abs: bool


def why_not(images: Tensor, filters: Filters) -> str | None:
    """Why the loops do not encode such images (N, C, H, W), or None where they do, to the bit as torch would."""
    kernels = filters.kernels
    if not images.dtype == kernels.dtype == torch.float32:
        return f"images are {images.dtype} and kernels {kernels.dtype}, not float32"
    if not filters.use_abs and (filters.thresholds is None or min(filters.thresholds) < 0):
        return "filters may answer below 0"
    way = torch.get_num_threads(), bool(torch.backends.mkldnn.enabled)
    if not _adds_as_torch(images.shape[2:], kernels.shape, filters.padding, *way):
        return "torch's convolution adds in another order"
    return None


def encode(images: Tensor, filters: Filters, radius: int | None, eps: float, time_steps: int) -> Tensor:
    """First-spike times (N, maps, rows, columns) of images (N, C, H, W) that :func:`why_not` says nothing against.

    Raises:
        FloatingPointError: images, or answers of filters, that are NaN or infinite.
    """
    kernels = filters.kernels.detach()
    rows, columns = _window(kernels.shape, filters.padding).output_size(*images.shape[2:])
    maps = images.shape[1] // kernels.shape[1] * len(kernels)
    times = torch.empty((len(images), maps, rows, columns), dtype=time_dtype(time_steps))
    thresholds = np.full(len(kernels), -np.inf, np.float32)
    if filters.thresholds is not None:
        thresholds[:] = filters.thresholds
    bank = loops.Bank(_array(kernels), filters.padding, thresholds, filters.use_abs)
    norm = loops.Normalization.of(radius, eps, (rows, columns), np.float32)
    work = partial(loops.encode, _array(images), bank, norm, time_steps, times.numpy())
    in_parallel(len(images), work, images.shape[1] // kernels.shape[1] * kernels.numel() * rows * columns)
    return times


def _array(x: Tensor) -> Array:
    return np.ascontiguousarray(x.numpy())


def _window(kernels: Size, padding: tuple[int, int]) -> Geometry:
    return Geometry((kernels[2], kernels[3]), padding=padding)


@lru_cache
def _adds_as_torch(size: Size, kernels: Size, padding: tuple[int, int], threads: int, mkldnn: bool) -> bool:
    """Whether the loop adds as torch's convolution of one image, which the sizes decide: seen in noise."""
    draw, window = torch.Generator("cpu").manual_seed(0), _window(kernels, padding)
    noise, weights = (torch.rand(s, generator=draw, device="cpu") - 0.5 for s in ((1, kernels[1], *size), kernels))
    found = np.empty((len(weights), *window.output_size(*size)), np.float32)
    bank = loops.Bank(_array(weights), padding, np.full(len(weights), -np.inf, np.float32), False)
    loops.contrasts(_array(noise)[0], bank, found)
    return torch.equal(conv2d(noise, weights, window)[0], torch.from_numpy(found))
