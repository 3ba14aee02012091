"""Rank order: the strongest intensities fire first, in a wave."""

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.kernels import plain


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
