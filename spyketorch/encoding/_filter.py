"""A bank of image filters, with a threshold."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.encoding._kernels import FilterKernel
from spyketorch.kernels.operators import correlated

IMAGES = "images`/`input"  # as modules call them, and as networks do


_KERNELS = "a list of 2-D or 3-D tensors or of callables that return one"


def _kernel_tensor(kernel: Tensor | Callable[[], Tensor], channels: int) -> Tensor:
    """(D, rows, columns), D the channels that it reads at once: 1, or all of them."""
    made = kernel if isinstance(kernel, Tensor) else kernel() if callable(kernel) else kernel
    if not isinstance(made, Tensor) or made.ndim not in (2, 3) or made.numel() == 0:
        raise check.fail("filter_kernels", _KERNELS, made)
    if made.ndim == 3 and len(made) != channels:
        raise check.fail("filter_kernels", f"2-D, or of `channels`={channels} planes", made)
    check.finite(made, "filter_kernels")
    own = made.detach().to(torch.float64 if made.dtype == torch.float64 else torch.float32)
    return own if own.ndim == 3 else own.unsqueeze(0)


class Filter(nn.Module):
    """A bank of image filters, with a threshold.

    Each image is correlated with every kernel; values below the threshold become 0, then absolute values are taken if
    asked. Kernels are zero-padded around to the size of the largest.

    Of several channels, 2-D kernels answer to each by itself: the maps are those of the first channel, then those of
    the next, each as of a grey image. 3-D kernels ``(C, rows, columns)`` add over all of them.

    Args:
        filter_kernels: :class:`FilterKernel` objects, any callables that return a tensor, or tensors: all 2-D, or, with
            ``channels``, all ``(C, rows, columns)``.
        padding: rows and columns of zeros around the image; half the largest window keeps its size.
        thresholds: one number or one per kernel, in units of the filtered image; None for none.
        use_abs: take absolute values after the threshold.
        channels: C, of the images; three of colours.

    Shape:
        ``(C, H, W)`` to ``(C K, H', W')``, or ``(K, H', W')`` where kernels read all channels; and batches
        ``(N, C, H, W)``; integer images become float32.

    Attributes:
        kernels: ``(K, 1, rows, columns)``, or ``(K, C, rows, columns)`` where they read all channels; moves with
            ``.to()``, and is not part of the ``state_dict``.
        max_window_size: the longer side of the kernels. number_of_kernels: K.

    Example:
        >>> from spyketorch.encoding import DoGKernel
        >>> Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(7, 7 / 9, 14 / 9)], padding=3)(torch.rand(1, 28, 28)).shape
        torch.Size([2, 28, 28])
        >>> Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], padding=3, channels=3)(torch.rand(3, 28, 28)).shape
        torch.Size([6, 28, 28])
    """

    kernels: Tensor

    def __init__(
        self,
        filter_kernels: Sequence[Tensor | Callable[[], Tensor]],
        padding: int | tuple[int, int] = 0,
        thresholds: float | Sequence[float] | Tensor | None = None,
        use_abs: bool = False,
        *,
        channels: int = 1,
    ) -> None:
        super().__init__()
        self.channels = check.integer(channels, "channels", 1)
        if not isinstance(filter_kernels, Iterable) or (
            isinstance(filter_kernels, Tensor) and filter_kernels.ndim == 0
        ):
            raise check.fail_type("filter_kernels", _KERNELS, filter_kernels)
        tensors = [_kernel_tensor(kernel, self.channels) for kernel in filter_kernels]
        if not tensors:
            raise check.fail("filter_kernels", "at least one kernel", filter_kernels)
        if len({len(tensor) for tensor in tensors}) > 1:
            raise check.fail("filter_kernels", "all 2-D, for each channel, or all 3-D, for all of them", filter_kernels)
        self.filter_kernels = list(filter_kernels)
        self.number_of_kernels = len(tensors)
        self.max_window_size = max(max(t.shape[1:]) for t in tensors)
        self.padding = check.pair(padding, "padding", 0)
        self.use_abs = check.flag(use_abs, "use_abs")
        self.thresholds = self._check_thresholds(thresholds)
        self.register_buffer("kernels", torch.stack([self._widened(t) for t in tensors]), persistent=False)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "channels": state.get("channels", 1)})  # type: ignore[no-untyped-call]  # 0.1 had no others

    def _check_thresholds(self, thresholds: float | Sequence[float] | Tensor | None) -> list[float] | None:
        if thresholds is None:
            return None
        if isinstance(thresholds, Tensor) and (thresholds.layout != torch.strided or thresholds.is_meta):
            raise check.fail_type("thresholds", "dense, with values", thresholds)
        values = thresholds.flatten().tolist() if isinstance(thresholds, Tensor) else thresholds
        if not isinstance(values, Sequence):
            values = [values]
        if len(values) == 1:
            values = list(values) * self.number_of_kernels
        if len(values) != self.number_of_kernels:
            raise check.fail("thresholds", f"a number or one per kernel, {self.number_of_kernels}", thresholds)
        return [check.number(t, "thresholds") for t in values]

    def _widened(self, kernel: Tensor) -> Tensor:
        rows, columns = (self.max_window_size - side for side in kernel.shape[1:])
        return fn.pad(kernel, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))

    def forward(self, input: Tensor, *, rounding: bool = True) -> Tensor:
        """``rounding=False`` gives 0 where the answer is but what rounding leaves of a place without contrast."""
        image = self._taken(input)
        check.finite(image, IMAGES)
        batch, kernels = self._split(image), self.kernels.to(image.dtype)
        output = correlated(batch, kernels, self.padding)
        if not check.flag(rounding, "rounding"):
            output = self._without_rounding(output, batch)
        if self.thresholds is not None:
            output = _silence_below(output, self.thresholds)
        output = output.abs() if self.use_abs else output
        return output.reshape(*image.shape[:-3], -1, *output.shape[-2:])

    def _split(self, image: Tensor) -> Tensor:
        """A batch (N', D, H, W), D the channels that kernels read at once: all, or each as an image of its own."""
        return image.reshape(-1, self.kernels.shape[1], *image.shape[-2:])

    def _taken(self, input: Tensor) -> Tensor:
        """The image in a floating type, once it is known that the bank can answer it."""
        image = check.floating(check.image(input, IMAGES), IMAGES)
        given, wanted = image.shape[-3], self.channels
        if given != wanted:
            accepted = f"of `channels`={wanted}, ({wanted}, H, W) or (N, {wanted}, H, W)"
            way = check.regrouped(input, wanted)
            if "permute" not in way and self.kernels.shape[1] == 1:
                way = f"`Filter(..., channels={given})` reads such{way and f', {way}'}"
            raise check.fail(IMAGES, accepted, input, way)
        check.same_device(image, IMAGES, self.kernels, "kernels")
        if any(s + 2 * p < self.max_window_size for s, p in zip(image.shape[-2:], self.padding, strict=True)):
            raise ValueError(
                f"`{IMAGES}` must be at least as large as the kernels, {self.max_window_size} pixels, with the "
                f"padding of {self.padding}; got {check.describe(input)}"
            )
        return image

    def _without_rounding(self, output: Tensor, batch: Tensor) -> Tensor:
        lost = rounding_of(batch, self.kernels)
        if check.free_to_read(batch) and self.thresholds is not None and min(self.thresholds) > float(lost.max()):
            return output  # the thresholds see to it
        return torch.where(output.abs() <= lost, 0, output)

    def _own(self) -> bool:
        """Whether a subclass, a hook, or a method that was set later, answers in the place of this class."""
        own = type(self) is not Filter or Filter.forward is not _ANSWER or "forward" in vars(self)
        return own or bool(self._forward_hooks or self._forward_pre_hooks)

    def extra_repr(self) -> str:
        kernels = [k if isinstance(k, FilterKernel) else self._size(k) for k in self.filter_kernels]
        channels = f", channels={self.channels}" if self.channels > 1 else ""
        return f"{kernels}, padding={self.padding}, thresholds={self.thresholds}, use_abs={self.use_abs}{channels}"

    def _size(self, kernel: Tensor | Callable[[], Tensor]) -> tuple[int, ...]:
        size = tuple(_kernel_tensor(kernel, self.channels).shape)
        return size if self.kernels.shape[1] > 1 else size[1:]


_ANSWER = Filter.forward


def rounding_of(batch: Tensor, kernels: Tensor) -> Tensor:
    """What rounding makes, at most, of a flat image as bright as each of a batch: (N, K, 1, 1)."""
    largest = batch.abs().amax((-3, -2, -1), keepdim=True)
    strength = kernels.abs().sum((1, 2, 3), dtype=check.widest(kernels.device)).to(kernels.dtype).view(-1, 1, 1)
    error = math.sqrt(kernels.shape[1]) * kernels.shape[3] * torch.finfo(torch.float32).eps / 2  # thrice what was seen
    return largest * (strength * error).to(batch.dtype)


def _silence_below(output: Tensor, thresholds: Sequence[float]) -> Tensor:
    """0 for values of a map (..., K, H, W) that are below its threshold."""
    if output.dtype == torch.float32 and len(set(thresholds)) == 1 and not torch.compiler.is_compiling():
        # Ten times as quick, and the same: it keeps what is above the next smaller number.
        return fn.threshold(output, _next_smaller(thresholds[0]), 0.0)
    limits = output.new_tensor(thresholds).view(-1, 1, 1)
    return torch.where(output < limits, 0, output)


@lru_cache
def _next_smaller(value: float) -> float:
    """The largest float32 below a number."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))
