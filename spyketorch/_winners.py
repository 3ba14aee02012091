"""The choice of winners that both representations share."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from spyketorch import _checks as check


class Choice(NamedTuple):
    """How winners are chosen: so many, so far apart, with or without pointwise inhibition before.

    Of those that fire first, the one with the largest potential; with ``excess`` the one farthest above its threshold.
    """

    kwta: int
    radius: int
    inhibit: bool
    excess: bool = False


def choice(kwta: object, inhibition_radius: object, features: int, rows: int, columns: int) -> tuple[int, int]:
    """A checked (kwta, radius), no larger than what can make a difference in maps of this size.

    As a winner silences its feature map, there are at most as many winners as features; a radius of the longer side
    silences everything. Requests beyond are allowed, and cost nothing.
    """
    count, radius = check.integer(kwta, "kwta", 1), check.integer(inhibition_radius, "inhibition_radius", 0)
    return min(count, features), min(radius, max(rows, columns))


def winners_in_turn(able: Tensor, kwta: int, radius: int, best: Callable[[Tensor], Tensor]) -> Tensor:
    """Winners one after the other, ``(kwta, 3)`` or ``(N, kwta, 3)``, without waiting for the device.

    Args:
        able: bool, which neurons can win, ``(C, H, W)`` or ``(N, C, H, W)``.
        kwta, radius: of :func:`choice`.
        best: marks the best of those that are able; the one with the lowest index wins, and silences others.
    """
    features, rows, columns = able.shape[-3:]
    neurons = features * rows * columns
    flat = torch.arange(neurons, device=able.device).view(features, rows, columns)
    none = flat.new_full((), neurons)  # made once: a number beside a tensor is made one in each operation

    def place(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return index // (rows * columns), index // columns % rows, index % columns  # feature = features: none

    def first(able: Tensor) -> Tensor:
        return torch.where(best(able), flat, none).amin((-3, -2, -1), keepdim=True)

    winners = [first(able)]
    if kwta > 1:
        feature, row, column = flat[:, :1, :1] // (rows * columns), flat[0, :, :1] // columns, flat[0, 0]
    while len(winners) < kwta:
        f, r, c = place(winners[-1])
        able = able & (feature != f)
        if radius > 0:
            able = able & (torch.maximum((row - r).abs(), (column - c).abs()) > radius)
        winners.append(first(able))
    index = torch.cat(winners, -1).flatten(-3)
    return torch.where((index < neurons).unsqueeze(-1), torch.stack(place(index), -1), -1)


def lowest(dtype: torch.dtype) -> float:
    """What is never the largest."""
    if dtype == torch.bool:
        return False
    return -torch.inf if dtype.is_floating_point else torch.iinfo(dtype).min
