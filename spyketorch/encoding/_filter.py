"""A bank of image filters, with a threshold."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch._convolution import Geometry, conv2d, conv2d_of_each
from spyketorch.encoding._kernels import FilterKernel

IMAGES = "images`/`input"  # as modules call them, and as networks do


def _kernel_tensor(kernel: Tensor | Callable[[], Tensor]) -> Tensor:
    made = kernel if isinstance(kernel, Tensor) else kernel() if callable(kernel) else kernel
    if not isinstance(made, Tensor) or made.ndim != 2 or made.numel() == 0:
        raise check.fail("filter_kernels", "a list of 2-D tensors or of callables that return one", made)
    check.finite(made, "filter_kernels")
    return made.detach().to(torch.float64 if made.dtype == torch.float64 else torch.float32)


class Filter(nn.Module):
    """A bank of image filters, with a threshold.

    Each image is correlated with every kernel; values below the threshold become 0, then absolute values are taken if
    asked. Kernels are zero-padded around to the size of the largest.

    Args:
        filter_kernels: :class:`FilterKernel` objects, any callables that return a 2-D tensor, or 2-D tensors.
        padding: rows and columns of zeros around the image; half the largest window keeps its size.
        thresholds: one number or one per kernel, in units of the filtered image; None for none.
        use_abs: take absolute values after the threshold.

    Shape:
        ``(1, H, W)`` to ``(K, H', W')``, or ``(N, 1, H, W)`` to ``(N, K, H', W')``; integer images become float32.

    Attributes:
        kernels: ``(K, 1, rows, columns)``; moves with ``.to()``, and is not part of the ``state_dict``.
        max_window_size: the longer side of the kernels. number_of_kernels: K.

    Example:
        >>> from spyketorch.encoding import DoGKernel
        >>> Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(7, 7 / 9, 14 / 9)], padding=3)(torch.rand(1, 28, 28)).shape
        torch.Size([2, 28, 28])
    """

    kernels: Tensor

    def __init__(
        self,
        filter_kernels: Sequence[Tensor | Callable[[], Tensor]],
        padding: int | tuple[int, int] = 0,
        thresholds: float | Sequence[float] | Tensor | None = None,
        use_abs: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(filter_kernels, Iterable) or (
            isinstance(filter_kernels, Tensor) and filter_kernels.ndim == 0
        ):
            accepted = "a list of 2-D tensors or of callables that return one"
            raise check.fail_type("filter_kernels", accepted, filter_kernels)
        tensors = [_kernel_tensor(kernel) for kernel in filter_kernels]
        if not tensors:
            raise check.fail("filter_kernels", "at least one kernel", filter_kernels)
        self.filter_kernels = list(filter_kernels)
        self.number_of_kernels = len(tensors)
        self.max_window_size = max(max(t.shape) for t in tensors)
        self.padding = check.pair(padding, "padding", 0)
        self.use_abs = check.flag(use_abs, "use_abs")
        self.thresholds = self._check_thresholds(thresholds)
        self.register_buffer("kernels", torch.stack([self._widened(t) for t in tensors])[:, None], persistent=False)

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
        rows, columns = (self.max_window_size - side for side in kernel.shape)
        return fn.pad(kernel, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))

    def forward(self, input: Tensor, *, rounding: bool = True) -> Tensor:
        """``rounding=False`` gives 0 where the answer is but what rounding leaves of a place without contrast."""
        image = self._taken(input)
        check.finite(image, IMAGES)
        kernels = self.kernels.to(image.dtype)
        window = Geometry((self.max_window_size, self.max_window_size), padding=self.padding)
        batch = image if image.ndim == 4 else image.unsqueeze(0)
        if self._adds_a_batch_otherwise(batch):
            output = conv2d_of_each(batch, kernels, window)
        else:
            output = conv2d(batch, kernels, window)
        output = output if image.ndim == 4 else output.squeeze(0)
        if not check.flag(rounding, "rounding"):
            output = self._without_rounding(output, image)
        if self.thresholds is not None:
            output = _silence_below(output, self.thresholds)
        return output.abs() if self.use_abs else output

    def _taken(self, input: Tensor) -> Tensor:
        """The image in a floating type, once it is known that the bank can answer it."""
        image = check.floating(check.image(input, IMAGES), IMAGES)
        if image.shape[-3] != 1:
            accepted = "of one channel, (1, H, W) or (N, 1, H, W)"
            raise check.fail(IMAGES, accepted, input, check.regrouped(input))
        check.same_device(image, IMAGES, self.kernels, "kernels")
        if any(s + 2 * p < self.max_window_size for s, p in zip(image.shape[-2:], self.padding, strict=True)):
            raise ValueError(
                f"`{IMAGES}` must be at least as large as the kernels, {self.max_window_size} pixels, with the "
                f"padding of {self.padding}; got {check.describe(input)}"
            )
        return image

    def _without_rounding(self, output: Tensor, image: Tensor) -> Tensor:
        """0 where the answer is no larger than what rounding makes of a flat image as bright as this one."""
        largest = image.abs().amax((-3, -2, -1), keepdim=True)
        strength = self.kernels.abs().sum((2, 3), dtype=check.widest(self.kernels.device)).to(self.kernels.dtype)
        error = self.max_window_size * torch.finfo(torch.float32).eps / 2  # three times what was measured
        lost = largest * (strength.unsqueeze(-1) * error).to(image.dtype)
        if check.free_to_read(image) and self.thresholds is not None and min(self.thresholds) > float(lost.max()):
            return output  # the thresholds see to it
        return torch.where(output.abs() <= lost, 0, output)

    def _adds_a_batch_otherwise(self, image: Tensor) -> bool:
        """Where torch's convolution of a batch is not, to the bit, that of its images, and a spike may move."""
        on_cpu = image.device.type == "cpu" and not torch.compiler.is_compiling()
        return on_cpu and len(image) > 1 and (self.max_window_size <= 3 or image.dtype == torch.float64)

    def _own(self) -> bool:
        """Whether a subclass, a hook, or a method that was set later, answers in the place of this class."""
        own = type(self) is not Filter or Filter.forward is not _ANSWER or "forward" in vars(self)
        return own or bool(self._forward_hooks or self._forward_pre_hooks)

    def extra_repr(self) -> str:
        kernels = [k if isinstance(k, FilterKernel) else tuple(_kernel_tensor(k).shape) for k in self.filter_kernels]
        return f"{kernels}, padding={self.padding}, thresholds={self.thresholds}, use_abs={self.use_abs}"


_ANSWER = Filter.forward


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
