"""A stage of a network: a layer, and what follows it before the next one."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch.learning._task import answer
from spyketorch.snn import SpikingConvolution


class Part(NamedTuple):
    """A part of a network, and what it made of some images.

    Attributes:
        name: where it is found, such as ``stages[0].pool``.
        module: the part.
        times: first-spike times that it gave, ``(N, features, rows, columns)``.
    """

    name: str
    module: nn.Module
    times: Tensor


class Stage(nn.Module):
    """A layer and what follows it before the next one: lateral inhibition, pooling.

    Args:
        layer: the neurons.
        pool: pooling of their first spikes, or None.
        inhibit: at each place only the first feature to fire is heard, see
            :func:`spyketorch.latency.pointwise_inhibition`.
        shortcut: pooling through which the layer's input passes on beside its answers, as further features, so that a
            read-out hears both; for the last stage.

    Shape:
        First-spike times ``(C, H, W)`` or ``(N, C, H, W)``, in and out.

    Example:
        >>> from spyketorch.snn import SpikingPooling
        >>> layer = SpikingConvolution(6, 30, 5, threshold=15, time_steps=15, padding=2)
        >>> Stage(layer, SpikingPooling(2))(torch.zeros(6, 28, 28, dtype=torch.uint8)).shape
        torch.Size([30, 14, 14])
    """

    def __init__(
        self,
        layer: SpikingConvolution,
        pool: nn.Module | None = None,
        *,
        inhibit: bool = False,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(layer, "respond"):
            raise check.fail_type("layer", "an snn.SpikingConvolution", layer)
        for name, part in (("pool", pool), ("shortcut", shortcut)):
            if part is not None:
                check.module(part, name)
        self.layer, self.pool, self.inhibit, self.shortcut = layer, pool, inhibit, shortcut

    def parts(self, times: Tensor) -> Iterator[Part]:
        """What each part makes of the times, in turn: ``layer``, ``pool``, ``shortcut``; the last is passed on.

        A subclass with a ``forward`` of its own is one part, without a name.
        """
        if type(self).forward is not Stage.forward:
            yield Part("", self, self(times))
        else:
            yield from self._parts(times)

    def _parts(self, times: Tensor) -> Iterator[Part]:
        if self.inhibit:
            fired, potentials = answer(self.layer, times)
            fired, _ = latency.pointwise_inhibition(fired, potentials, time_steps=self.layer.time_steps)
        else:
            fired = self.layer(times)
        yield Part("layer", self.layer, fired)
        if self.pool is not None:
            fired = self.pool(fired)
            yield Part("pool", self.pool, fired)
        if self.shortcut is not None:
            beside = self.shortcut(times)
            if beside.shape[-2:] != fired.shape[-2:]:
                size = tuple(fired.shape[-2:])
                accepted = f"a module whose maps are as large as those of the layer and its pool, {size}"
                raise check.fail("shortcut", accepted, beside)
            yield Part("shortcut", self.shortcut, torch.cat([fired, beside], -3))

    def forward(self, times: Tensor) -> Tensor:
        *_, last = self._parts(times)
        return last.times

    def extra_repr(self) -> str:
        return "inhibit=True" if self.inhibit else ""
