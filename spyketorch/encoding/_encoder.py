"""What an encoder is."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """Images to first-spike times: what a :class:`spyketorch.models.Network` begins with.

    In a network it is a :class:`torch.nn.Module`, so that it moves and is saved along. :class:`LatencyEncoder` and
    :class:`LinearLatency` are two; :func:`spyketorch.testing.check_encoder` holds one of your own to the contract.

    Attributes:
        time_steps: T, how many there are; the time T stands for silence.

    Example:
        >>> import torch
        >>> from spyketorch.encoding import Encoder, LatencyEncoder
        >>> isinstance(LatencyEncoder(torch.nn.Identity(), 15), Encoder)
        True
    """

    time_steps: int

    def __call__(self, images: Tensor, /) -> Tensor:
        """``(C, H, W)`` or a batch ``(N, C, H, W)`` to times 0..T, an integer type, ``(C', H', W')`` for each."""
        ...
