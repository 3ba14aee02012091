"""A network as a table: what each part gives, what it holds, and how it answers to images."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from spyketorch import _checks as check

if TYPE_CHECKING:
    from spyketorch.models import Network

_BATCH = 200  # images answered at once


class Row(NamedTuple):
    """One part of a network.

    Attributes:
        part: where it is found, such as ``stages[0].layer``.
        kind: what it is.
        shape: of what it gives for one image, (features, rows, columns), or (classes,).
        threshold: as text; empty where there is none.
        weights: synaptic weights it holds; neurons at different places share them.
        neurons: that give spikes; 0 for a decision.
        spikes: per image, None where no images were given.
        silent: share of the images without a spike (or without a decision), None where no images were given.
    """

    part: str
    kind: str
    shape: tuple[int, ...]
    threshold: str = ""
    weights: int = 0
    neurons: int = 0
    spikes: float | None = None
    silent: float | None = None


@dataclass(frozen=True, repr=False)
class Summary:
    """What :meth:`spyketorch.models.Network.summary` gives; it prints as a table.

    Attributes:
        rows: one per part, from the image up.
    """

    rows: tuple[Row, ...]

    def __repr__(self) -> str:
        measured = self.rows[0].spikes is not None
        head = ["part", "kind", "output", "threshold", "weights", "neurons"]
        head += ["spikes per image", "silent images"] if measured else []
        table = [head, *([*_cells(row)][: len(head)] for row in self.rows)]
        totals = sum(row.weights for row in self.rows), sum(row.neurons for row in self.rows)
        table.append(["total", "", "", "", *(f"{total:,}" for total in totals)])
        widths = [max(len(line[i]) for line in table if i < len(line)) for i in range(len(head))]
        lines = [
            "  ".join(f"{cell:{'<' if i < 3 else '>'}{widths[i]}}" for i, cell in enumerate(line)).rstrip()
            for line in table
        ]
        rule = "-" * max(map(len, lines))
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _cells(row: Row) -> Iterator[str]:
    yield from (row.part, row.kind, " x ".join(map(str, row.shape)), row.threshold)
    yield from (f"{count:,}" if count else "" for count in (row.weights, row.neurons))
    yield "" if row.spikes is None else f"{row.spikes:,.1f}"
    yield "" if row.silent is None else f"{row.silent:.1%}"


def summarize(network: "Network", images: Tensor | Sequence[int]) -> Summary:
    """See :meth:`spyketorch.models.Network.summary`."""
    accepted = "images (N, C, H, W), or the shape of one, (C, H, W)"
    measured = isinstance(images, Tensor)
    if not isinstance(images, Tensor):
        if not isinstance(images, Sequence) or len(images) != 3:
            raise check.fail("images", accepted, images)
        images = torch.zeros(1, *(check.integer(size, "images", 1) for size in images))
    if images.ndim != 4 or 0 in images.shape:
        raise check.fail("images", accepted, images)
    parts, device = list(_parts(network)), network.stages[0].layer.weight.device
    shapes: dict[str, tuple[int, ...]] = {}
    spikes: dict[str, list[Tensor]] = {part.name: [] for part in parts}
    with torch.no_grad():
        for batch in torch.split(images, _BATCH):
            times = batch.to(device)
            for part in parts:
                times = part.answer(times)
                shapes[part.name] = tuple(times.shape[1:])
                spikes[part.name].append((times < part.time_steps).flatten(1).sum(1).cpu())
        decision = _decision(network, times[:1])
    rows = []
    for name, kind, _, _, threshold, weights in parts:
        counts = torch.cat(spikes[name]).double()
        answers = (float(counts.mean()), float((counts == 0).double().mean())) if measured else (None, None)
        rows.append(Row(name, kind, shapes[name], threshold, weights, math.prod(shapes[name]), *answers))
    return Summary((*rows, *decision))


class _Part(NamedTuple):
    """A part that gives first-spike times."""

    name: str
    kind: str
    answer: Callable[[Tensor], Tensor]
    time_steps: int
    threshold: str = ""
    weights: int = 0


def _parts(network: "Network") -> Iterator[_Part]:
    yield _Part("encoder", _kind(network.encoder), network.encoder, network.stages[0].layer.time_steps)
    for number, stage in enumerate(network.stages):
        layer, name = stage.layer, f"stages[{number}]"
        unpooled = _Remembering(type(stage)(layer, inhibit=stage.inhibit))
        limit = "last step" if layer.threshold is None else _range(layer.threshold)
        yield _Part(f"{name}.layer", _kind(layer), unpooled, layer.time_steps, limit, layer.weight.numel())
        if stage.pool is not None:
            yield _Part(f"{name}.pool", _kind(stage.pool), stage.pool, layer.time_steps)
        if stage.shortcut is not None:
            joined = partial(_join, unpooled, stage.shortcut)
            yield _Part(f"{name}.shortcut", _kind(stage.shortcut), joined, layer.time_steps)


class _Remembering:
    """A part that remembers what came in."""

    def __init__(self, part: Callable[[Tensor], Tensor]) -> None:
        self.part, self.input = part, torch.empty(0)

    def __call__(self, times: Tensor) -> Tensor:
        self.input = times
        return self.part(times)


def _join(below: _Remembering, shortcut: Callable[[Tensor], Tensor], times: Tensor) -> Tensor:
    return torch.cat([times, shortcut(below.input)], -3)


def _decision(network: "Network", times: Tensor) -> Iterator[Row]:
    """What decides on the last stage's answer, if anything does."""
    if network.readout is not None:
        weights = sum(parameter.numel() for parameter in network.readout.parameters())
        yield Row("readout", _kind(network.readout), tuple(network.readout(times).shape[1:]), weights=weights)
    elif network.classes is not None:
        yield Row("classes", "of the first winner", (len(set(network.classes.tolist())),))


def _kind(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    return type(module).__name__ + (f" {size[0]} x {size[1]}" if isinstance(size, tuple) else "")


def _range(threshold: Tensor) -> str:
    low, high = float(threshold.min()), float(threshold.max())
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"
