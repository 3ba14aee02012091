"""Kernels of filters: the cells of the retina and of V1, as small images."""

import math

import torch
from torch import Tensor

from spyketorch import _checks as check


class FilterKernel:
    """Base of kernels for :class:`Filter`: a window size, and a call that returns the ``(rows, columns)`` tensor.

    Example:
        >>> from spyketorch.encoding import Filter
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
