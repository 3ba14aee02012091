"""How many images are answered at once: as many as a network's largest maps leave room for."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

#: bytes that a neuron takes while its layer answers: its potential and time, and what comparing them leaves behind
_PER_NEURON = 16
_MOST = 500  # more at once is not faster


class Parted(Protocol):
    """What is looked at of a :class:`spyketorch.models.Network`."""

    stages: Sequence[Any]
    batch_memory: float

    @property
    def device(self) -> torch.device: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def parts(self, images: Tensor) -> Iterator[Any]: ...


def batches(network: Parted, images: Tensor) -> Iterator[Tensor]:
    """The images in parts, beside the network, within its ``batch_memory``."""
    if len(images) == 1:
        yield images.to(network.device)
        return
    for part in torch.split(images, batch_size(network, images)):
        yield part.to(network.device)


def batch_size(network: Parted, images: Tensor) -> int:
    """How many images at once."""
    room = int(network.batch_memory // (_PER_NEURON * _neurons(network, images[:1])))
    return max(1, min(room, _MOST))


def probe(network: Parted, number: int, times: Tensor) -> Tensor:
    """The first of the times that a stage gets, 200 or as many as may be answered at once."""
    layer = network.stages[number].layer
    height, width = layer.output_size(*times.shape[-2:])
    neurons = max(times[0].numel(), layer.out_channels * height * width)
    return times[: max(1, min(200, int(network.batch_memory // (_PER_NEURON * neurons))))]


def _neurons(network: Parted, image: Tensor) -> int:
    """Of the largest map for one image: of the encoder, with all that it is made of, or of a layer."""
    sizes = [image.numel()]

    def look(module: nn.Module, given: object, answer: object) -> None:
        if isinstance(answer, Tensor):
            sizes.append(answer.numel())

    hooks = [part.register_forward_hook(look) for part in network.modules() if not isinstance(part, nn.ModuleList)]
    try:
        with torch.no_grad():
            for _, _, times in network.parts(image.to(network.device)):
                sizes.append(times.numel())
    finally:
        for hook in hooks:
            hook.remove()
    return max(sizes)
