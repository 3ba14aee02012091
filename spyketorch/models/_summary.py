"""A network as a table: what each part gives, what it holds, and how it answers to images."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spyketorch import _checks as check


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
        silent: share of the images without a spike or, where it decides, without a decision; None where no images were
            given.
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


def shaped(images: Tensor | Sequence[int]) -> Tensor:
    """Images to answer to: those given, or a blank one of that shape."""
    accepted = "images (N, C, H, W), or the shape of one, (C, H, W)"
    if not isinstance(images, Tensor):
        if not isinstance(images, Sequence) or len(images) != 3:
            raise check.fail("images", accepted, images)
        images = torch.zeros(1, *(check.integer(size, "images", 1) for size in images))
    if images.ndim != 4 or 0 in images.shape:
        raise check.fail("images", accepted, images)
    return images


class Tally:
    """The rows of a summary, as parts answer to images, batch after batch.

    Args:
        time_steps: T of the parts.
    """

    def __init__(self, time_steps: int) -> None:
        self.time_steps = time_steps
        self._rows: dict[str, Row] = {}  # of the first images
        self._spikes: dict[str, list[Tensor]] = {}  # per image
        self._decisions: list[Tensor] = []

    def answered(self, name: str, module: nn.Module, times: Tensor) -> None:
        """A part gave these times."""
        self._rows.setdefault(name, _row(name, module, times))
        self._spikes.setdefault(name, []).append((times < self.time_steps).flatten(1).sum(1).cpu())

    def decided(self, row: Row, decisions: Tensor) -> None:
        """What stands in that row decided so."""
        self._rows.setdefault("", row)
        self._decisions.append(decisions.cpu())

    def summary(self, measured: bool) -> Summary:
        """All rows; ``measured`` where spikes and decisions count."""
        if not measured:
            return Summary(tuple(self._rows.values()))
        rows = []
        for name, row in self._rows.items():
            if name:
                counts = torch.cat(self._spikes[name]).double()
                row = row._replace(spikes=float(counts.mean()), silent=float((counts == 0).double().mean()))
            else:
                row = row._replace(silent=float((torch.cat(self._decisions) < 0).double().mean()))
            rows.append(row)
        return Summary(tuple(rows))


def _row(name: str, module: nn.Module, times: Tensor) -> Row:
    shape, threshold, weights = tuple(times.shape[1:]), "", 0
    layer: Any = getattr(module, "layer", module)  # a stage with a forward of its own is one part
    if hasattr(layer, "respond"):
        threshold = "last step" if layer.threshold is None else _range(layer.threshold)
        weights = layer.weight.numel()
    return Row(name, _kind(module), shape, threshold, weights, math.prod(shape))


def readout_row(readout: nn.Module, times: Tensor) -> Row:
    """A read-out that decides on these times."""
    weights = sum(parameter.numel() for parameter in readout.parameters())
    return Row("readout", _kind(readout), tuple(readout(times[:1]).shape[1:]), weights=weights)


def classes_row(classes: Tensor) -> Row:
    """Features that decide by their classes."""
    return Row("classes", "of the first winner", (len(set(classes.tolist())),))


def _kind(module: nn.Module) -> str:
    size = getattr(module, "kernel_size", None)
    return type(module).__name__ + (f" {size[0]} x {size[1]}" if isinstance(size, tuple) else "")


def _range(threshold: Tensor) -> str:
    low, high = float(threshold.min()), float(threshold.max())
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"
