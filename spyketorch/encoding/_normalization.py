"""Local normalisation: contrasts beside those around them."""

from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import functional as sf


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
