"""The choice of winners that both representations share."""

from collections.abc import Callable

import torch
from torch import Tensor


def winners_in_turn(able: Tensor, kwta: int, radius: int, best: Callable[[Tensor], Tensor]) -> Tensor:
    """Winners one after the other, ``(kwta, 3)`` or ``(N, kwta, 3)``, without waiting for the device.

    Args:
        able: bool, which neurons can win, ``(C, H, W)`` or ``(N, C, H, W)``.
        kwta, radius: as in :func:`get_k_winners`.
        best: marks the best of those that are able; the one with the lowest index wins, and silences others.
    """
    features, rows, columns = able.shape[-3:]
    neurons = features * rows * columns
    flat = torch.arange(neurons, device=able.device).view(features, rows, columns)
    feature, row, column = flat // (rows * columns), flat // columns % rows, flat % columns
    winners = []
    for _ in range(kwta):
        index = torch.where(best(able), flat, neurons).amin((-3, -2, -1), keepdim=True)
        f, r, c = index // (rows * columns), index // columns % rows, index % columns  # f = features: none
        silenced = feature == f
        if radius > 0:
            silenced = silenced | (((row - r).abs() <= radius) & ((column - c).abs() <= radius))
        able = able & ~silenced
        winners.append(torch.where(index.flatten(-3) < neurons, torch.cat((f, r, c), -1).flatten(-3), -1))
    return torch.stack(winners, -2)
