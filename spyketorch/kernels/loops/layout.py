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

#: row_start, row_taps, run_start, runs, kernel width: which outputs an input reaches, see :func:`reach`
Taps = tuple[Array, Array, Array, Array, int]


class Window(NamedTuple):
    """Where each output looks: kernel size, stride, padding, dilation and output size, and the cells of the input.

    ``cells`` (outputs, kernel rows * columns) are indices row * columns + column of the input, -1 outside of it.
    """

    shape: Array
    cells: Array


def reach(size: tuple[int, int], out: tuple[int, int], shape: Geometry) -> Taps:
    """Which outputs each input row and column reaches."""
    (rows, row_step, row_pad, row_gap), (columns, column_step, column_pad, column_gap) = zip(
        shape.kernel_size, shape.stride, shape.padding, shape.dilation, strict=True
    )
    row_start, row_taps = _row_taps(size[0], out[0], rows, row_step, row_pad, row_gap)
    run_start, runs = _column_runs(size[1], out[1], columns, column_step, column_pad, column_gap)
    return row_start, row_taps, run_start, runs, columns


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


@lru_cache(16)
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
