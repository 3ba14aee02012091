"""Local normalisation: contrasts beside those around them."""

from torch import Tensor, nn
from torch.nn import functional as fn

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch.encoding._filter import IMAGES


class LocalNormalization(nn.Module):
    """:func:`spyketorch.functional.local_normalization` as a transform.

    Args:
        normalization_radius, eps: as there.

    Shape:
        ``(C, H, W)`` or ``(N, C, H, W)``, in and out.

    Example:
        >>> import torch
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


class LocalContrast(nn.Module):
    r"""Intensities in units of those around them, of all maps together: faint outlines count like strong ones.

    .. math:: x'_k(p) = \frac{x_k(p)}{\epsilon + \frac{1}{K (2r + 1)^2} \sum_j \sum_{|i| \le r} x_j(p + i)}

    So a neuron that looks for a contour hears it in a bright and in a dim image, and which of the K orientations is the
    strongest at a place stays as it is. (:class:`LocalNormalization` takes each map by itself, which makes all of them
    alike.) Maps go on beyond their edges as they end there.

    Args:
        radius: r, in places; how far around.
        floor: epsilon, above 0, on the scale of the intensities: what is much fainter stays faint, such as noise.

    Shape:
        ``(K, H, W)`` or ``(N, K, H, W)``, values of 0 or more, in and out; integer maps become float32.

    Example:
        >>> import torch
        >>> bright = torch.tensor([0.0, 4.0, 0.0]).view(1, 1, 3)
        >>> LocalContrast(1, floor=1e-6)(bright), LocalContrast(1, floor=1e-6)(bright / 2)
        (tensor([[[0.0000, 3.0000, 0.0000]]]), tensor([[[0.0000, 3.0000, 0.0000]]]))
    """

    def __init__(self, radius: int = 4, floor: float = 0.02) -> None:
        super().__init__()
        self.radius = check.integer(radius, "radius", 0)
        self.floor = check.number(floor, "floor")
        if self.floor <= 0:
            raise check.fail("floor", "above 0", floor, "it keeps blank places at 0")

    def forward(self, input: Tensor) -> Tensor:
        maps = check.floating(check.image(input, IMAGES), IMAGES)
        batch = maps if maps.ndim == 4 else maps[None]
        check.storable([size + 2 * self.radius for size in maps.shape[-2:]], "radius", self.radius)
        around = fn.pad(batch.mean(1, keepdim=True), (self.radius,) * 4, mode="replicate")
        return (batch / (fn.avg_pool2d(around, 2 * self.radius + 1, 1) + self.floor)).view_as(maps)

    def extra_repr(self) -> str:
        return f"{self.radius}, floor={self.floor}"
