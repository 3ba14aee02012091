"""The parts of an encoder of integers, as modules; docs/integer.md says what each computes."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.kernels import plain

#: keeps a tensor of a part in the file, under a name that it gives back
Keep = Callable[[str, Tensor], str]


class Part(nn.Module):
    """A part: from integers ``(N, C, H, W)`` of 64 bits to others, and its row of the description.

    Attributes:
        op: its name in the file.
        arrays, numbers: what it is made of, in this order, by their names in the file and here.
        gives_times: whether it is made of T, too, which the file says elsewhere.
    """

    op: ClassVar[str]
    arrays: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...]] = ()
    gives_times: ClassVar[bool] = False

    def describe(self, keep: Keep) -> dict[str, Any]:
        """What the file says of it, but for its name."""
        arrays = {name: keep(name, getattr(self, name)) for name in self.arrays}
        return {**arrays, **{name: getattr(self, name) for name in self.numbers}}

    @classmethod
    def read(cls, told: dict[str, Any], tensors: dict[str, np.ndarray], steps: int) -> "Part":
        """The part of such a row."""
        arrays = [torch.from_numpy(tensors[told[name]]) for name in cls.arrays]
        return cls(*arrays, *(told[name] for name in cls.numbers), *([steps] if cls.gives_times else []))


class Pad(Part):
    """Wider maps: of the nearest value, or of 0."""

    op = "pad"

    def __init__(self, sides: Sequence[int], edge: bool) -> None:
        super().__init__()
        self.sides, self.edge = tuple(sides), edge  # left, right, top, bottom, as torch has them

    def forward(self, values: Tensor) -> Tensor:
        if not self.edge:
            return fn.pad(values, self.sides)
        left, _, top, _ = self.sides
        rows, columns = values.shape[2:]
        down = torch.arange(-top, rows + self.sides[3], device=values.device).clamp(0, rows - 1)
        right = torch.arange(-left, columns + self.sides[1], device=values.device).clamp(0, columns - 1)
        return values[:, :, down][..., right]

    def describe(self, keep: Keep) -> dict[str, Any]:
        return {**dict(zip(("left", "right", "top", "bottom"), self.sides, strict=True)), "edge": self.edge}

    @classmethod
    def read(cls, told: dict[str, Any], tensors: dict[str, np.ndarray], steps: int) -> Part:
        return cls([told[side] for side in ("left", "right", "top", "bottom")], bool(told["edge"]))


class Filter(Part):
    """Kernels of 8 bits, a threshold for each, and signs that may be dropped."""

    op, arrays, numbers = "filter", ("weight", "threshold"), ("absolute",)
    weight: Tensor
    threshold: Tensor

    def __init__(self, weight: Tensor, threshold: Tensor, absolute: bool) -> None:
        super().__init__()
        self.register_buffer("weight", weight.to(torch.int8))
        self.register_buffer("threshold", threshold.to(torch.int32))
        self.absolute = bool(absolute)

    def forward(self, values: Tensor) -> Tensor:
        groups = values.reshape(-1, self.weight.shape[1], *values.shape[2:])
        exact = check.widest(values.device)  # whose sums are exact, as no value leaves 32 bits
        found = fn.conv2d(groups.to(exact), self.weight.to(exact)).round().to(torch.int64)
        found = torch.where(found < self.threshold.view(-1, 1, 1), 0, found)
        found = found.reshape(values.shape[0], -1, *found.shape[2:])
        return found.abs() if self.absolute else found


class OnOff(Part):
    """What is above 0, and how far the rest is below, map by map."""

    op = "onoff"

    def forward(self, values: Tensor) -> Tensor:
        return torch.stack((values.clamp(min=0), (-values).clamp(min=0)), 2).flatten(1, 2)


class Normalise(Part):
    """Values over the sum of the square around them."""

    op, numbers = "normalise", ("radius", "shift")

    def __init__(self, radius: int, shift: int) -> None:
        super().__init__()
        self.radius, self.shift = radius, shift

    def forward(self, values: Tensor) -> Tensor:
        side, radius = 2 * self.radius + 1, self.radius
        exact = values.to(check.widest(values.device))  # along rows, then columns, as local_normalization has it
        along = fn.avg_pool2d(exact, (1, side), 1, (0, radius), divisor_override=1)
        sums = fn.avg_pool2d(along, (side, 1), 1, (radius, 0), divisor_override=1).round().to(torch.int64)
        return torch.where(sums > 0, (values << self.shift) // sums.clamp(min=1), 0)


class Rank(Part):
    """Times by rank."""

    op, gives_times = "rank", True

    def __init__(self, time_steps: int) -> None:
        super().__init__()
        self.time_steps = time_steps

    def forward(self, values: Tensor) -> Tensor:
        return plain.rank_order(values, self.time_steps)


class Latency(Part):
    """Times that fall with values in a straight line."""

    op, arrays, gives_times = "latency", ("largest",), True
    largest: Tensor

    def __init__(self, largest: Tensor, time_steps: int) -> None:
        super().__init__()
        self.register_buffer("largest", largest.to(torch.int32))
        self.time_steps = time_steps

    def forward(self, values: Tensor) -> Tensor:
        largest = self.largest.to(torch.int64)
        times = (largest - values).clamp(min=0) * self.time_steps // largest.clamp(min=1)
        return torch.where(values == 0, self.time_steps, times.clamp(max=self.time_steps - 1))


class Table(Part):
    """Times that fall with values in steps of any size."""

    op, arrays, gives_times = "table", ("largest", "limits"), True
    largest: Tensor
    limits: Tensor

    def __init__(self, largest: Tensor, limits: Tensor, time_steps: int) -> None:
        super().__init__()
        self.register_buffer("largest", largest.to(torch.int32))
        self.register_buffer("limits", limits.to(torch.int32))
        self.time_steps = time_steps

    def forward(self, values: Tensor) -> Tensor:
        largest, raised = self.largest.to(torch.int64), values * 2**20
        times = torch.zeros_like(values)
        for limit in self.limits.to(torch.int64):
            times += raised < limit * largest
        return torch.where(values == 0, self.time_steps, times)


#: by their names in the file
OPS: dict[str, type[Part]] = {op.op: op for op in (Pad, Filter, OnOff, Normalise, Rank, Latency, Table)}


class IntegerEncoder(nn.Module):
    """Images of bytes to first-spike times, by integers alone.

    Args:
        parts: modules of this file, the last of which gives times.

    Shape:
        Images ``(C, H, W)`` or ``(N, C, H, W)`` of integers 0..255, of any type, to times ``(K, H', W')`` or ``(N, K,
        H', W')``, uint8.
    """

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    @property
    def time_steps(self) -> int:
        """T, how many there are."""
        steps: int = self.parts[-1].time_steps  # type: ignore[assignment]
        return steps

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        values = check.image(images, "images").to(torch.int64)
        whole = (
            images.dtype == torch.uint8 or not check.readable(images) or bool((values.to(torch.uint8) == images).all())
        )
        if not whole:
            raise check.fail("images", "integers 0 to 255, as a network of integers sees no fractions", images)
        single = values.ndim == 3
        values = values.unsqueeze(0) if single else values
        for part in self.parts:
            values = part(values)
        times = values.to(torch.uint8)
        return times[0] if single else times

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}"
