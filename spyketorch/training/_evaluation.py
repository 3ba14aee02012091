"""Right and wrong decisions, counted."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.models._batches import batch_size
from spyketorch.models._images import looked_at, told_once
from spyketorch.models._network import Network


@dataclass(frozen=True)
class Evaluation:
    """Decisions on labelled images; ``confusion`` (classes, classes + 1) counts labels by decisions, silence last."""

    confusion: Tensor

    @property
    def accuracy(self) -> float:
        """Share of right decisions; silence is wrong."""
        return int(self.confusion.diagonal().sum()) / int(self.confusion.sum())

    @property
    def silent(self) -> float:
        return int(self.confusion[:, -1].sum()) / int(self.confusion.sum())


def evaluate(
    network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, *, batch: int | None = None
) -> Evaluation:
    """Decide all images and count right and wrong, class by class.

    Args:
        network: a :class:`spyketorch.models.Network` with a decision; or what holds one, such as ``DataParallel``, a
            compiled one or a module of yours (which may change the images: the network inside looks at what reaches
            it); or any function from images to integers ``(N,)``, -1 for no decision.
        images: ``(N, C, H, W)``, as its encoder takes them.
        labels: ``(N,)`` integers.
        batch: images decided at once; None for as many as the ``batch_memory`` of the network allows.

    Raises:
        ValueError: weights, thresholds or numbers of a read-out that are NaN, and what the network itself refuses.

    Example:
        >>> from spyketorch import models
        >>> images, labels = torch.randint(0, 256, (4, 1, 28, 28)), torch.tensor([0, 1, 2, 3])
        >>> 0 <= evaluate(models.mozafari2019(), images, labels).accuracy <= 1
        True
    """
    check.callable_(network, "network")
    labels = check.labels(labels, len(check.images(images)), torch.device("cpu"))
    check.storable((int(labels.max()) + 2,) * 2, "labels", int(labels.max()))
    parts = network.modules() if isinstance(network, nn.Module) else ()
    inner = [part for part in parts if isinstance(part, Network)]
    for held in inner:
        held._ready()
    direct = _unwrapped(network)
    numbers = itertools.chain(network.parameters(), network.buffers()) if isinstance(network, nn.Module) else iter(())
    device = next((number.device for number in numbers), images.device)
    decided = []
    as_they_are = looked_at(direct.images, images, stacklevel=4) if isinstance(direct, Network) else told_once()
    with torch.no_grad(), as_they_are:
        if batch is None and inner and not isinstance(direct, Network):
            network(images[:1].to(device))  # what does a wrapper give to the networks that it holds?
        if batch is None:
            reached = [
                images if held is direct else torch.zeros(1, *(held._shape or images.shape[1:])) for held in inner
            ]
            batch = min(map(batch_size, inner, reached), default=500)
        for part in torch.split(images, min(check.integer(batch, "batch", 1), len(images))):
            answer = network(part.to(device))
            if not isinstance(answer, Tensor) or answer.shape != (len(part),) or answer.is_floating_point():
                raise check.fail("network", f"from images to their classes, integers ({len(part)},)", answer)
            decided.append(answer.cpu())
    return _evaluation(torch.cat(decided), labels)


def _unwrapped(network: Any) -> Any:
    """What torch's own wrappers hold, that pass images on as they are."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(network, "_orig_mod"):
        network = getattr(network, "_orig_mod", None) or network.module
    return network


def _evaluation(decided: Tensor, labels: Tensor) -> Evaluation:
    classes = int(max(labels.max(), decided.max())) + 1
    index = labels * (classes + 1) + torch.where(decided < 0, classes, decided)
    return Evaluation(torch.bincount(index, minlength=classes * (classes + 1)).view(classes, classes + 1))
