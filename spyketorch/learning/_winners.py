"""What callers may write for winners and outcomes, and their normal form."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch.functional import Winner

#: winners of one sample: (feature, row, column) tuples, or an int64 tensor (k, 3) with rows of -1 for none
Winners = Sequence[Winner] | Tensor
#: the same for a batch: one list per sample, or a tensor (N, k, 3)
BatchWinners = Sequence[Sequence[Winner]] | Tensor
#: what a layer makes of a wave: (potentials, output spikes), thresholded and inhibited as its user likes
Respond = Callable[[Tensor], tuple[Tensor, Tensor]]
#: the outcome of a sample, from its index in the batch and its winners: > 0 reward, < 0 punishment, 0 neither
Judge = Callable[[int, list[Winner]], float]


def stacked(winners: Sequence[Any]) -> Tensor:
    """Rows of a tensor of winners, as one."""
    if not all(isinstance(row, Tensor) and row.shape == (3,) for row in winners):
        raise check.fail("winners", "a list of (feature, row, column), or a tensor (k, 3)", winners)
    return torch.stack(list(winners))


def winner_of(winner: Any) -> Winner:
    if type(winner) is tuple and [type(i) for i in winner] == [int, int, int]:
        return winner
    if not isinstance(winner, Sequence | np.ndarray) or isinstance(winner, str) or len(winner) != 3:
        raise check.fail("winners", "a list of (feature, row, column)", winner)
    feature, row, column = (check.integer(i, "winners") for i in winner)
    return feature, row, column


def outcomes_of(outcomes: Any, input_spikes: Tensor, weight: Tensor) -> Tensor:
    """Outcomes as one number per sample beside the weight and of its type."""
    if not isinstance(outcomes, Tensor):
        given = outcomes if isinstance(outcomes, Sequence) and not isinstance(outcomes, str) else [outcomes]
        values = torch.tensor([check.number(value, "outcomes") for value in given])
    else:
        values = outcomes
    samples = len(input_spikes) if input_spikes.ndim == 5 else 1
    if values.dtype == torch.bool or values.is_complex():
        raise check.fail_type("outcomes", "numbers: above 0 reward, below 0 punishment, 0 neither", outcomes)
    if values.numel() != samples:
        raise check.fail("outcomes", f"one number per sample, {samples}", outcomes)
    check.finite_if_looked_at(values, "outcomes")
    return values.to(weight).view(samples)
