"""From images straight to first-spike times, by value, in steps that are used alike."""

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.encoding._by_value import ByValue
from spyketorch.encoding._filter import IMAGES
from spyketorch.encoding._fitted import Batches, unfitted
from spyketorch.kernels.operators import time_dtype

_LEVELS = 2**16  # of values, each with its time: 2,048 from each power of two to the next, from 2^-32 to 1
_SILENT = 0  # the level of what is less


class EqualizedLatency(ByValue):
    r"""Images straight to first-spike times by one table, in which training images use all time steps alike.

    Intensities are divided by the largest in training, and v, in 0..1, has the time

    .. math:: t = \lfloor T \cdot (\text{share of all training spikes that are stronger than } v) \rfloor

    where it is above 0 (from 2^-32 up), else it is silent; values are told apart to a 2,048th of themselves. Most are
    faint, so a straight line, :class:`LinearLatency`, puts most spikes into the last of its steps; here each step gets
    as many. And as the table is the same for every image, which :meth:`fit` makes once, a faint image is still later
    than a strong one; by rank order, :class:`LatencyEncoder`, it is not.

    The largest intensities and the table are saved in the ``state_dict`` as ``largest`` and ``table``, which load into
    an encoder that has none yet, too.

    Args:
        filter: as of :class:`LatencyEncoder`: a module from images to intensities of 0 or more.
        time_steps: T, how many there are.
        per_place: the largest is that of each map and place; else, of each map.

    Shape:
        As of :class:`LatencyEncoder`.

    Attributes:
        table: ``(65537,)``, the time of each level of values, the first of which is silent; of the type of times; None
            until it is fitted.

    Raises:
        ValueError: as :class:`LinearLatency`.

    Example:
        >>> from spyketorch.encoding import OnOff, Whitening
        >>> encode = EqualizedLatency(torch.nn.Sequential(Whitening(window=5), OnOff()), 15)
        >>> images = torch.rand(100, 3, 16, 16)
        >>> spikes = torch.bincount(encode.fit(images)(images).flatten())[:15]
        >>> bool((spikes.max() - spikes.min()) / spikes.sum() < 0.001)  # in each step as many
        True

    Reference:
        Equalisation of histograms, of the latencies of Falez, Tirilly, Bilasco: Improving STDP-based visual feature
        learning with whitening, IJCNN 2020, arXiv:2002.10177.
    """

    table: Tensor | None

    def __init__(self, filter: nn.Module, time_steps: int, *, per_place: bool = True) -> None:
        super().__init__(filter, time_steps, None, per_place)
        self.register_buffer("table", None)

    @property
    def fitted(self) -> bool:
        return self.largest is not None and self.table is not None

    def fit(self, images: Tensor | Iterable[Any]) -> Self:
        """Take the largest intensities and the table of images; gives the encoder itself.

        Parts of the front end that are not fitted yet are fitted first.

        Args:
            images: ``(N, C, H, W)``, or batches of them, as in :func:`fit`; they are gone through twice, and once for
                each part.
        """
        return super().fit(images)

    def _fit(self, images: Batches) -> None:
        super()._fit(images)
        counts = torch.zeros(_LEVELS + 1, dtype=torch.int64)
        for batch in images:
            levels = _level(self._values(batch))
            counts += torch.bincount(levels.flatten(), minlength=_LEVELS + 1).cpu()
        counts[_SILENT] = 0
        stronger, steps = counts.sum() - counts.cumsum(0), self.time_steps
        times = (steps * stronger // counts.sum().clamp(min=1)).clamp(max=steps - 1)
        times[_SILENT] = steps
        self.table = times.to(levels.device, time_dtype(steps))

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        if self.table is None:
            raise unfitted("table", self)
        values = self._values(check.image(input, IMAGES))
        return self.table.index_select(0, _level(values).flatten()).view(values.shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        key, (*_, errors) = f"{prefix}table", others
        saved = state_dict.get(key)
        if isinstance(saved, Tensor) and check.readable(saved) and not self._fits(saved):
            state_dict = {name: value for name, value in state_dict.items() if name != key}
            errors.append(f"{key} must hold {_LEVELS + 1} times, {self.time_steps} and then 0..{self.time_steps - 1}.")
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _fits(self, table: Tensor) -> bool:
        if table.shape != (_LEVELS + 1,) or table.dtype != time_dtype(self.time_steps):
            return False
        low, high = int(table[1:].min()), int(table[1:].max())
        return low >= 0 and high < self.time_steps == int(table[_SILENT])


def _level(values: Tensor) -> Tensor:
    """The level of each value of 0..1: what the upper bits of a float32 count."""
    bits = values.to(torch.float32).view(torch.int32)
    return ((bits >> 12) - ((127 - 32) * 2**11 - 1)).clamp_(0, _LEVELS)
