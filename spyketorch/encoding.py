"""From an image to spikes: filters, normalisation, lateral inhibition and rank order.

Encoders are modules without parameters that take one image or a batch, so they work as torchvision transforms, in
``torch.nn.Sequential`` and as attributes of a network (they add nothing to its ``state_dict``):

    >>> retina = Filter([DoGKernel(3, 1 / 3, 2 / 3)], padding=1)
    >>> encode = torch.nn.Sequential(retina, Intensity2Latency(15, to_spike=True))
    >>> encode(torch.rand(1, 28, 28)).shape
    torch.Size([15, 1, 28, 28])
"""

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency
from spyketorch._convolution import Geometry, conv2d, conv2d_of_each
from spyketorch.kernels import plain

_IMAGES = "images`/`input"  # as modules call them, and as networks do


class FilterKernel:
    """Base of kernels for :class:`Filter`: a window size, and a call that returns the ``(rows, columns)`` tensor.

    Example:
        >>> class Mean(FilterKernel):
        ...     def __call__(self):
        ...         return torch.full((self.window_size, self.window_size), 1 / self.window_size**2)
        >>> Filter([Mean(3)])(torch.ones(1, 3, 3))
        tensor([[[1.]]])
    """

    def __init__(self, window_size: int) -> None:
        self.window_size = check.integer(window_size, "window_size", 1)
        check.storable((self.window_size, self.window_size), "window_size", window_size)

    def __call__(self) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__ and return a (rows, columns) tensor")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in vars(self).items())})"

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Row and column coordinates -w..w with w = window_size // 2, in float64, on the CPU."""
        half = self.window_size // 2
        axis = torch.arange(-half, half + 1, dtype=torch.float64, device="cpu")
        return axis[:, None], axis[None, :]


def _normalized(kernel: Tensor) -> Tensor:
    """Mean 0 and maximum 1, so that uniform regions stay silent and thresholds mean the same for every kernel."""
    kernel = kernel - kernel.mean()
    return (kernel / kernel.max()).float().to(torch.get_default_device())


def _positive(value: float, name: str) -> float:
    if not 1e-3 <= check.number(value, name) <= 1e6:
        raise check.fail(name, "above 0, from 0.001 to a million", value)
    return value


class DoGKernel(FilterKernel):
    r"""Difference of Gaussians, the on- or off-centre cells of the retina.

    .. math:: K(x, y) = \frac{1}{2\pi\sigma_1^2} e^{-(x^2 + y^2) / 2\sigma_1^2}
              - \frac{1}{2\pi\sigma_2^2} e^{-(x^2 + y^2) / 2\sigma_2^2}

    on the integer grid, minus its mean, over its maximum. On-centre where sigma1 < sigma2.

    Args:
        window_size: side of the window in pixels; an even one gives a side one larger.
        sigma1, sigma2: standard deviations in pixels.

    Example:
        >>> DoGKernel(3, 1 / 3, 2 / 3)().shape
        torch.Size([3, 3])
    """

    def __init__(self, window_size: int, sigma1: float, sigma2: float) -> None:
        super().__init__(window_size)
        self.sigma1, self.sigma2 = _positive(sigma1, "sigma1"), _positive(sigma2, "sigma2")
        if sigma1 == sigma2 or window_size == 1:
            raise ValueError(
                "a difference of Gaussians needs `sigma1` != `sigma2` and `window_size` >= 2, else it is 0 everywhere; "
                f"got {sigma1}, {sigma2} and {window_size}"
            )

    def __call__(self) -> Tensor:
        x, y = self._grid()

        def gaussian(sigma: float) -> Tensor:
            return torch.exp(-(x**2 + y**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)

        return _normalized(gaussian(self.sigma1) - gaussian(self.sigma2))


class GaborKernel(FilterKernel):
    r"""Gabor function, the orientation-selective simple cells of V1.

    .. math:: K(x, y) = e^{-(X^2 + \gamma^2 Y^2) / 2\sigma^2} \cos(2\pi X / \lambda), \quad
              X = y \sin\alpha + x \cos\alpha, \quad Y = y \cos\alpha - x \sin\alpha

    with x the row and y the column, :math:`\lambda = 2 \cdot` window_size / div, :math:`\sigma = 0.8\lambda`,
    :math:`\gamma = 0.3`; minus its mean, over its maximum.

    Args:
        window_size: side of the window in pixels; an even one gives a side one larger.
        orientation: alpha, in degrees.
        div: how many half waves fit into the window.

    Example:
        >>> GaborKernel(5, 45)().shape
        torch.Size([5, 5])
    """

    def __init__(self, window_size: int, orientation: float, div: float = 4.0) -> None:
        super().__init__(window_size)
        if window_size == 1:
            raise ValueError("`window_size` must be at least 2, else the kernel is 0 everywhere; got 1")
        check.number(orientation, "orientation")
        self.orientation, self.div = orientation, _positive(div, "div")
        if not bool(GaborKernel.__call__(self).isfinite().all()):
            raise check.fail("div", "one that leaves the kernel its waves", div)

    def __call__(self) -> Tensor:
        x, y = self._grid()
        angle = math.radians(self.orientation)
        wavelength = 2 * self.window_size / self.div
        sigma, gamma = 0.8 * wavelength, 0.3
        along = y * math.sin(angle) + x * math.cos(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        envelope = torch.exp(-(along**2 + gamma**2 * across**2) / (2 * sigma**2))
        return _normalized(envelope * torch.cos(2 * math.pi * along / wavelength))


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
        image = check.floating(check.image(input, _IMAGES), _IMAGES)
        if image.shape[-3] != 1:
            accepted = "of one channel, (1, H, W) or (N, 1, H, W)"
            raise check.fail(_IMAGES, accepted, input, check.regrouped(input))
        check.same_device(image, _IMAGES, self.kernels, "kernels")
        check.finite(image, _IMAGES)
        if any(s + 2 * p < self.max_window_size for s, p in zip(image.shape[-2:], self.padding, strict=True)):
            raise ValueError(
                f"`{_IMAGES}` must be at least as large as the kernels, {self.max_window_size} pixels, with the "
                f"padding of {self.padding}; got {check.describe(input)}"
            )
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

    def _without_rounding(self, output: Tensor, image: Tensor) -> Tensor:
        """0 where the answer is no larger than what rounding makes of a flat image as bright as this one."""
        largest = image.abs().amax((-3, -2, -1), keepdim=True)
        strength = self.kernels.abs().sum((1, 2, 3)).view(-1, 1, 1).to(image.dtype)
        error = self.max_window_size * torch.finfo(torch.float32).eps / 2  # three times what was measured
        lost = largest * strength * error
        if check.free_to_read(image) and self.thresholds is not None and min(self.thresholds) > float(lost.max()):
            return output  # the thresholds see to it
        return torch.where(output.abs() <= lost, 0, output)

    def _adds_a_batch_otherwise(self, image: Tensor) -> bool:
        """Where torch's convolution of a batch is not, to the bit, that of its images, and a spike may move."""
        on_cpu = image.device.type == "cpu" and not torch.compiler.is_compiling()
        return on_cpu and len(image) > 1 and (self.max_window_size <= 3 or image.dtype == torch.float64)

    def extra_repr(self) -> str:
        kernels = [k if isinstance(k, FilterKernel) else tuple(_kernel_tensor(k).shape) for k in self.filter_kernels]
        return f"{kernels}, padding={self.padding}, thresholds={self.thresholds}, use_abs={self.use_abs}"


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


class Intensity2Latency(nn.Module):
    """Rank-order coding: a cumulative wave in which the strongest intensities appear first (see
    :func:`spyketorch.latency.rank_order`).

    Args:
        number_of_spike_bins: T, the time steps.
        to_spike: give the sign of the intensity (a spike wave) instead of the intensity.
        batched: what a four-dimensional input is. By default (1, C, H, W) is one stimulus, as in the original, and
            (N, C, H, W) with N > 1 a batch. True: always a batch. False: always one stimulus.

    Shape:
        ``(C, H, W)`` or ``(1, C, H, W)`` to ``(T, C, H, W)``; ``(N, C, H, W)`` to ``(N, T, C, H, W)``.

    Example:
        >>> wave = Intensity2Latency(2)(torch.tensor([[[5.0, 0.0, 9.0]]]))
        >>> wave.view(2, 3)
        tensor([[0., 0., 9.],
                [5., 0., 9.]])
    """

    def __init__(self, number_of_spike_bins: int, to_spike: bool = False, *, batched: bool | None = None) -> None:
        super().__init__()
        self.time_steps = check.steps(number_of_spike_bins, "number_of_spike_bins")
        self.to_spike = check.flag(to_spike, "to_spike")
        self.batched = None if batched is None else check.flag(batched, "batched")

    def forward(self, intencities: Tensor) -> Tensor:
        check.image(intencities, "intencities")
        single = intencities.ndim == 4 and not self.batched and len(intencities) == 1
        if self.batched is False and not single and intencities.ndim == 4:
            raise check.fail("intencities", "one stimulus, (C, H, W) or (1, C, H, W), as batched=False", intencities)
        values = intencities.squeeze(0) if single else intencities
        known = check.intensities(values, "intencities")
        # In plain torch: a script on waves waits neither for custom operators nor for a compiler.
        times = plain.rank_order(known if known.ndim == 4 else known.unsqueeze(0), self.time_steps)
        times = times.view_as(values).unsqueeze(-4)
        if values.dtype in (torch.float32, torch.float64):
            times = times.to(values.dtype)  # compared and written in one type: several times as fast
        steps = torch.arange(self.time_steps, dtype=times.dtype, device=values.device).view(-1, 1, 1, 1)
        if self.to_spike:
            values = values.sign() if values.dtype.is_signed else (values != 0).to(values.dtype)
        shape = (*values.shape[:-3], self.time_steps, *values.shape[-3:])
        return torch.le(times, steps, out=values.new_empty(shape)).mul_(values.unsqueeze(-4))

    def extra_repr(self) -> str:
        return f"{self.time_steps}, to_spike={self.to_spike}, batched={self.batched}"


def generate_inhibition_kernel(percents: Sequence[float]) -> Tensor:
    """A square kernel of rings: entries at Chebyshev distance d from the centre hold ``percents[d - 1]``.

    Returns:
        ``(2 r + 1, 2 r + 1)`` float32 with r = len(percents); the centre is 0.

    Example:
        >>> generate_inhibition_kernel([0.5])
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.0000, 0.5000],
                [0.5000, 0.5000, 0.5000]])
    """
    if not isinstance(percents, Iterable) or (isinstance(percents, Tensor) and percents.ndim == 0):
        raise check.fail_type("percents", "a sequence of numbers, one per ring", percents)
    rings = [0.0, *(check.number(p, "percents") for p in percents)]
    axis = torch.arange(1 - len(rings), len(rings)).abs()
    return torch.tensor(rings)[torch.maximum(axis[:, None], axis[None, :])]


class LateralIntencityInhibition(nn.Module):
    """:func:`spyketorch.functional.intensity_lateral_inhibition` with a kernel of rings (the original's spelling).

    Args:
        percents: weight of the neighbours at distance 1, 2, ...; see :func:`generate_inhibition_kernel`.

    Shape:
        ``(C, H, W)`` or ``(N, C, H, W)``, in and out.

    Example:
        >>> LateralIntencityInhibition([0.1])(torch.eye(3).view(1, 3, 3)).view(3, 3).diagonal()
        tensor([1.7000, 1.6000, 1.7000])
    """

    inhibition_kernel: Tensor

    def __init__(self, percents: Sequence[float]) -> None:
        super().__init__()
        kernel = generate_inhibition_kernel(percents)[None, None]
        self.percents = list(percents)
        self.register_buffer("inhibition_kernel", kernel, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        name = "input`/`intencities"  # under both its names
        check.finite(check.image(input, name), name)
        check.same_device(input, name, self.inhibition_kernel, "inhibition_kernel")
        return sf.intensity_lateral_inhibition(input, self.inhibition_kernel)

    def extra_repr(self) -> str:
        return f"{self.percents}"


class LocalNormalization(nn.Module):
    """:func:`spyketorch.functional.local_normalization` as a transform.

    Args:
        normalization_radius, eps: as there.

    Shape:
        ``(C, H, W)`` or ``(N, C, H, W)``, in and out.

    Example:
        >>> LocalNormalization(1)(torch.full((1, 1, 1), 3.0))
        tensor([[[9.]]])
    """

    def __init__(self, normalization_radius: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.normalization_radius = check.integer(normalization_radius, "normalization_radius", 0)
        self.eps = check.number(eps, "eps")

    def forward(self, input: Tensor) -> Tensor:
        return sf.local_normalization(input, self.normalization_radius, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalization_radius}, eps={self.eps}"


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
        check.image(input, _IMAGES)
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
