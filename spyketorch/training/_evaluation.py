"""Right and wrong decisions, counted."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _processes
from spyketorch._processes import Processes
from spyketorch._progress import progress_bar
from spyketorch.data._source import Images, sourced
from spyketorch.models._batches import batch_size
from spyketorch.models._images import looked_at, told_once
from spyketorch.models._network import Network


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Decisions on labelled images; it prints as a table.

    Attributes:
        confusion: ``(classes, classes + 1)``, counts labels by decisions, silence last; of all classes with names, and
            of those that were met.
        names: of the classes, None where they are but numbers.

    Example:
        >>> result = Evaluation(torch.tensor([[9, 1, 0], [0, 6, 2]]), ("cup", "dog"))
        >>> result
        accuracy 83.3% of 18 images, 11.1% silent
        class  images  right  most often taken for
        cup        10  90.0%  dog (1)
        dog         8  75.0%
        >>> result.per_class
        {'cup': 0.9, 'dog': 0.75}
    """

    confusion: Tensor
    names: tuple[str, ...] | None = None

    @property
    def accuracy(self) -> float:
        """Share of right decisions; silence is wrong."""
        return int(self.confusion.diagonal().sum()) / int(self.confusion.sum())

    @property
    def silent(self) -> float:
        """Share of the images for which nothing was decided."""
        return int(self.confusion[:, -1].sum()) / int(self.confusion.sum())

    @property
    def per_class(self) -> dict[str | int, float]:
        """Share of right decisions among the images of each class, by its name or its number; those without are out."""
        rows = enumerate(self.confusion.tolist())
        return {self._name(label): row[label] / sum(row) for label, row in rows if sum(row)}

    def _name(self, label: int) -> str | int:
        return label if self.names is None or label >= len(self.names) else self.names[label]

    def __repr__(self) -> str:
        lines = [["class", "images", "right", "most often taken for"]]
        for label, row in enumerate(self.confusion.tolist()):
            if sum(row):
                wrong = [0 if other == label else count for other, count in enumerate(row[:-1])]
                most = max(wrong)
                taken = f"{self._name(wrong.index(most))} ({most:,})" if most else ""
                lines.append([str(self._name(label)), f"{sum(row):,}", f"{row[label] / sum(row):.1%}", taken])
        widths = [max(len(line[column]) for line in lines) for column in range(3)]
        table = [f"{a:{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in lines]
        head = f"accuracy {self.accuracy:.1%} of {int(self.confusion.sum()):,} images, {self.silent:.1%} silent"
        return "\n".join([head, *table])


def evaluate(
    network: Callable[[Tensor], Tensor],
    images: Images,
    labels: Any = None,
    *,
    batch: int | None = None,
    progress: bool | None = False,
    processes: Processes | None = None,
) -> Evaluation:
    """Decide all images and count right and wrong, class by class.

    Args:
        network: a :class:`spyketorch.models.Network` with a decision; or what holds one, such as ``DataParallel``, a
            compiled one or a module of yours (which may change the images: the network inside looks at what reaches
            it); or any function from images to integers ``(N,)``, -1 for no decision.
        images: as its encoder takes them, in any of the forms of :meth:`Trainer.fit`; they are read once. Another
            iterable of batches need not tell how many there are.
        labels: ``(N,)``, integers or names of classes, where the images do not come with them. Names, and numbers of a
            data set with ``classes``, are found among the ``names`` of the network; without these, names are refused,
            as the test alone does not tell which number is which.
        batch: images decided at once; None for as many as the ``batch_memory`` of the network allows.
        progress: show a bar; None shows one where tqdm is installed.
        processes: share out the images among those; all get the same result. None decides all of them here.

    Raises:
        TypeError, ValueError: images or labels in none of these forms; the sentence says the way on.
        ValueError: weights, thresholds or numbers of a read-out that are NaN, and what the network itself refuses.

    Example:
        >>> from spyketorch import models
        >>> images, labels = torch.randint(0, 256, (4, 1, 28, 28)), torch.tensor([0, 1, 2, 3])
        >>> 0 <= evaluate(models.mozafari2019(), images, labels).accuracy <= 1
        True
    """
    check.callable_(network, "network")
    source, processes = sourced(images, labels), _processes.known(processes)
    if not source.labelled:
        raise check.fail("labels", "the class of each image, where `images` come without", labels)
    parts = network.modules() if isinstance(network, nn.Module) else ()
    inner = [part for part in parts if isinstance(part, Network)]
    for held in inner:
        held._ready()
    direct = _unwrapped(network)
    numbers = itertools.chain(network.parameters(), network.buffers()) if isinstance(network, nn.Module) else iter(())
    head, decided = source.head, []
    processes.check_alike("images", source.count, head)
    if isinstance(network, nn.Module):
        processes.check_alike("network", *network.parameters(), *network.buffers())
    device = next((number.device for number in numbers), head.device)
    as_they_are = looked_at(direct.images, source.at_hand, stacklevel=4) if isinstance(direct, Network) else told_once()
    shown = progress if processes.first else False
    with torch.no_grad(), as_they_are, progress_bar("deciding", source.count, shown) as bar:
        if batch is None and inner and not isinstance(direct, Network):
            network(head[:1].to(device))  # what does a wrapper give to the networks that it holds?
        if batch is None:
            reached = [head if held is direct else torch.zeros(1, *(held._shape or head.shape[1:])) for held in inner]
            batch = min(map(batch_size, inner, reached), default=500)
        for part in source.chunks(check.integer(batch, "batch", 1) * processes.count):
            decided += processes.spread(partial(_decided, network, part, device), len(part))
            bar.update(len(part))
    names = next((held.names for held in inner if held.names is not None), source.classes)
    assert source.labels is not None
    if names is None and isinstance(source.labels[0], str):
        way = "`network.names = [...]`, in the order of the numbers that it learned, tells which name is which"
        raise check.fail("labels", "numbers of classes, where `network` has no `names`", source.labels, way)
    known, names = source.numbered(names)
    assert known is not None
    check.storable((int(known.max()) + 2,) * 2, "labels", int(known.max()))
    return _evaluation(torch.cat(decided), known, names)


def _decided(network: Callable[[Tensor], Tensor], images: Tensor, device: torch.device, rows: slice) -> list[Tensor]:
    """The classes of some of the images, alone in a list."""
    some = images[rows]
    answer = network(some.to(device))
    if not isinstance(answer, Tensor) or answer.shape != (len(some),) or answer.is_floating_point():
        raise check.fail("network", f"from images to their classes, integers ({len(some)},)", answer)
    return [answer.cpu()]


def _unwrapped(network: Any) -> Any:
    """What torch's own wrappers hold, that pass images on as they are."""
    while isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel) or hasattr(network, "_orig_mod"):
        network = getattr(network, "_orig_mod", None) or network.module
    return network


def _evaluation(decided: Tensor, labels: Tensor, names: tuple[str, ...] | None) -> Evaluation:
    classes = max(int(max(labels.max(), decided.max())) + 1, len(names or ()))
    index = labels * (classes + 1) + torch.where(decided < 0, classes, decided)
    return Evaluation(torch.bincount(index, minlength=classes * (classes + 1)).view(classes, classes + 1), names)
