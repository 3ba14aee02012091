"""Lateral inhibition: what neighbours take from each other."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import functional as sf


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
