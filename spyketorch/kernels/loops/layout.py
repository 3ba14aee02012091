"""How maps and weights are laid out, and which outputs an input reaches.

Maps are laid out (rows, columns, features), and weights (input feature, kernel row, kernel column reversed, output
feature). As the output column that a spike reaches falls when the kernel column rises, a reversed kernel row and the
potentials it is added to both lie side by side: one input spike costs one vector addition per kernel row, a *run*.
Features are filled up with weights of 0 to whole vectors (``lanes``): then no run leaves a remainder to be added number
by number, and what one run stores the next one loads in the same pieces. The search at the last time step takes weights
as the layer has them, (features, input features, kernel rows, kernel columns).

Every potential is the sum of its inputs in one fixed order: (time step, input row, input column, input feature), and
where only the last time step counts (input feature, row, column). Nothing else enters: not the batch, not the threads,
not how the data were cut.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from spyketorch._convolution import Geometry
from spyketorch.kernels._cache import compiled

Array = np.ndarray[Any, Any]

LANES = 16  # features are filled up to a multiple: floats in the widest vector of common processors


class Taps(NamedTuple):
    """Which outputs an input reaches.

    ``row_taps[row_start[y] : row_start[y + 1]]`` are pairs (output row, kernel row) of an input row,
    ``runs[run_start[x] : run_start[x + 1]]`` triples (output column, reversed kernel column, length) of an input
    column; the kernel is ``height`` x ``width``. The other way round, ``kernel_rows`` (output rows, input rows) are -1
    where an output row does not hear an input row, and ``heard`` (output rows, 2) is the first input row that it or a
    later one hears, and the one behind the last that it hears.
    """

    row_start: Array
    row_taps: Array
    run_start: Array
    runs: Array
    height: int
    width: int
    kernel_rows: Array
    heard: Array


class Rows(NamedTuple):
    """Weights laid out for adding, and what they were laid out from.

    ``known`` is (features, input features of a group, kernel rows, kernel columns); ``rows`` (input features, kernel
    rows * kernel columns * lanes), 0 where a feature does not read an input. All weights lie within ``span``.
    """

    known: Array
    rows: Array
    span: Array

    def absorb(self, weight: Array, f: int) -> None:
        """Take over the weights of a feature as they are now."""
        absorb_rows(weight, self, f)

    def extent(self) -> tuple[float, float]:
        """Where all weights lie."""
        return self.span[0], self.span[1]

    def narrow(self, lower: float, upper: float) -> None:
        """All weights lie within these bounds now, and will."""
        self.span[0], self.span[1] = lower, upper


class Window(NamedTuple):
    """Where each output looks: kernel size, stride, padding, dilation and output size, and the cells of the input.

    ``cells`` (outputs, kernel rows * columns) are indices row * columns + column of the input, -1 outside of it.
    """

    shape: Array
    cells: Array


def lanes(features: int) -> int:
    """How many features fill whole vectors."""
    return -(-features // LANES) * LANES


def to_rows(weight: Array, inputs: int) -> Rows:
    """Room for weights (features, input features of a group, kernel rows, kernel columns) that read so many inputs."""
    rows = np.zeros((inputs, weight[0, 0].size * lanes(len(weight))), weight.dtype)
    return Rows(np.full_like(weight, np.nan), rows, np.array([np.inf, -np.inf]))


@compiled
def first_input(f: int, features: int, channels: int, inputs: int) -> int:
    """Of the inputs of a feature, those of its group."""
    return f // (features * channels // inputs) * channels


@compiled
def absorb_rows(weight: Array, laid_out: Rows, f: int) -> None:
    """Lay out the weights of a feature as they are now."""
    known, rows, span = laid_out
    features, channels, height, width = known.shape
    lanes, first = rows.shape[1] // (height * width), first_input(f, features, channels, len(rows))
    low, high = span[0], span[1]
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                value = weight[f, c, i, j]
                low, high = min(low, value), max(high, value)
                known[f, c, i, j] = value
                rows[first + c, (i * width + width - 1 - j) * lanes + f] = value
    span[0], span[1] = low, high


@lru_cache(64)
def reach(size: tuple[int, int], out: tuple[int, int], shape: Geometry) -> Taps:
    """Which outputs each input row and column reaches."""
    (rows, row_step, row_pad, row_gap), (columns, column_step, column_pad, column_gap) = zip(
        shape.kernel_size, shape.stride, shape.padding, shape.dilation, strict=True
    )
    row_start, row_taps = _row_taps(size[0], out[0], rows, row_step, row_pad, row_gap)
    run_start, runs = _column_runs(size[1], out[1], columns, column_step, column_pad, column_gap)
    kernel_rows, heard = _heard_rows(row_start, row_taps, out[0])
    return Taps(row_start, row_taps, run_start, runs, rows, columns, kernel_rows, heard)


@compiled
def _row_taps(height: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Array, Array]:
    """For each input row, taps[start[y] : start[y + 1]]: pairs (output row, kernel row)."""
    start, taps = np.zeros(height + 1, np.int64), np.empty((height * kernel, 2), np.int64)
    count = 0
    for y in range(height):
        for i in range(kernel):
            top = y + padding - i * dilation
            if top >= 0 and top % stride == 0 and top // stride < out:
                taps[count] = (top // stride, i)
                count += 1
        start[y + 1] = count
    return start, taps


@compiled
def _heard_rows(row_start: Array, row_taps: Array, out: int) -> tuple[Array, Array]:
    """What each output row hears: the kernel row of each input row, and which input rows."""
    height = len(row_start) - 1
    kernel_rows, heard = np.full((out, height), -1), np.zeros((out, 2), np.int64)
    for y in range(height):
        for a in range(row_start[y], row_start[y + 1]):
            kernel_rows[row_taps[a, 0], y] = row_taps[a, 1]
            heard[row_taps[a, 0], 1] = y + 1
    first = height
    for row in range(out - 1, -1, -1):
        for y in range(heard[row, 1] - 1, -1, -1):
            first = min(first, y) if kernel_rows[row, y] >= 0 else first
        heard[row, 0] = first
    return kernel_rows, heard


@compiled
def _column_runs(width: int, out: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[Array, Array]:
    """For each input column, runs[start[x] : start[x + 1]]: (output column, reversed kernel column, length)."""
    start, runs = np.zeros(width + 1, np.int64), np.empty((width * kernel, 3), np.int64)
    count = 0
    for x in range(width):
        for j in range(kernel - 1, -1, -1):
            left = x + padding - j * dilation
            if left >= 0 and left % stride == 0 and left // stride < out:
                column, tap = left // stride, kernel - 1 - j
                previous = runs[count - 1]
                if count > start[x] and column == previous[0] + previous[2] and tap == previous[1] + previous[2]:
                    previous[2] += 1
                else:
                    runs[count] = (column, tap, 1)
                    count += 1
        start[x + 1] = count
    return start, runs


@lru_cache(64)
def window(size: tuple[int, int], out: tuple[int, int], shape: Geometry) -> Window:
    """Where the outputs of a layer look, for inputs of that size."""
    rows, columns = (
        np.arange(out[axis])[:, None] * shape.stride[axis]
        - shape.padding[axis]
        + np.arange(shape.kernel_size[axis]) * shape.dilation[axis]
        for axis in range(2)
    )
    inside = ((rows >= 0) & (rows < size[0]))[:, None, :, None] & ((columns >= 0) & (columns < size[1]))[:, None, :]
    cells = np.where(inside, rows[:, None, :, None] * size[1] + columns[:, None, :], -1)
    return Window(np.array([*shape[:4], out]), cells.reshape(out[0] * out[1], -1))
