"""Thresholds that follow the answers of their layer."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._plasticity import Response, Thresholds, ThresholdsInTorch


class TargetTime(NamedTuple):
    r"""Thresholds that move until each feature fires at a wanted time, and wins as often as the others.

    After each sample that a neuron answers to at step t, with T steps and F features,

    .. math:: \theta_f \leftarrow \theta_f - \epsilon (t / T - \text{target}), \quad
        \theta_{\text{winner}} \leftarrow \theta + \epsilon, \quad
        \theta_{\text{others}} \leftarrow \theta - \epsilon / (F - 1)

    for each winner, but never below ``floor``. Where nobody answered, though over a quarter of what some neuron sees
    fired, all thresholds fall by ``rate`` (1 - target), so that a layer that fell silent answers again. Winners are
    those farthest above their threshold.

    No device is waited for: where learning runs in torch, thresholds move there, to the bits of the compiled loops
    (Apple's GPUs, without float64, round more often).

    Attributes:
        target: the wanted time of the first spike, as a share of all time steps, 0..1.
        rate: epsilon, in units of the threshold, 0 or more.
        floor: least threshold, 0 or more.

    Reference:
        Falez et al., *Multi-layered spiking neural network with target timestamp threshold adaptation and STDP*, IJCNN
        2019.
    """

    target: float = 0.75
    rate: float = 1.0
    floor: float = 2.0

    @property
    def excess(self) -> bool:
        """Winners are ranked by how far they are above their threshold."""
        return True

    def check(self) -> None:
        """Raise where a setting cannot be."""
        if not 0 <= check.number(self.target, "thresholds.target") <= 1:
            raise check.fail("thresholds.target", "a share of all time steps, 0 to 1", self.target)
        for name, value in (("thresholds.rate", self.rate), ("thresholds.floor", self.floor)):
            check.number(value, name, 0)

    def adapt(self, threshold: Any, response: Response) -> None:
        """As above."""
        features = len(threshold)
        if len(response.winners) == 0 and response.heard > 0.25:
            for f in range(features):
                threshold[f] = max(threshold[f] - self.rate * (1 - self.target), self.floor)
        for k in range(len(response.winners)):
            late = response.post_times[k] / response.time_steps - self.target
            for f in range(features):
                share = self.rate if f == response.winners[k, 0] else -self.rate / max(features - 1, 1)
                threshold[f] = max(threshold[f] - self.rate * late + share, self.floor)

    def adapt_in_torch(self, threshold: Tensor, response: Response) -> None:
        """As above, by operations on tensors, which round as the compiled loops do."""
        number = np.float64 if threshold.dtype == torch.float64 else np.float32
        target, rate, floor = (float(number(setting)) for setting in self)
        features, exists = len(threshold), response.winners[:, 0] >= 0
        post = response.post_times.to(check.widest(threshold.device)).unsqueeze(1)
        late = post / torch.full_like(post, response.time_steps) - target  # by a number CUDA divides less exactly
        won = response.winners[:, :1] == torch.arange(features, device=threshold.device)
        share = torch.where(won, post.new_full((), rate), -rate / max(features - 1, 1))

        def move(moves: Tensor, fall: Tensor, rise: Tensor | float) -> None:
            threshold.copy_(torch.where(moves, (threshold - fall + rise).clamp(min=floor), threshold))

        move(~exists.any() & (response.heard > 0.25), post.new_full((1,), rate * (1 - target)), 0.0)
        for winner in zip(exists, rate * late, share, strict=True):
            move(*winner)


def in_torch(thresholds: Thresholds | None) -> Callable[[Tensor, Response], None] | None:
    """How thresholds move tensors, or None where that is said of none, or of an ``adapt`` that a subclass replaced."""
    for kind in type(thresholds).__mro__:
        if "adapt_in_torch" in vars(kind):
            return cast(ThresholdsInTorch, thresholds).adapt_in_torch
        if "adapt" in vars(kind):
            return None
    return None
