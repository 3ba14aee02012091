"""The fast loops, in numba: one image after the other, one input spike after the other.

Maps are laid out (rows, columns, features), and weights (input feature, kernel row, kernel column reversed, output
feature). As the output column that a spike reaches falls when the kernel column rises, a reversed kernel row and the
potentials it is added to both lie side by side: one input spike costs one vector addition per kernel row, a *run*.
Features are filled up with weights of 0 to whole vectors (``lanes``): then no run leaves a remainder to be added number
by number, and what one run stores the next one loads in the same pieces.

Every potential is the sum of its inputs in one fixed order: (time step, input row, input column, input feature), and
where only the last time step counts (input feature, row, column). Nothing else enters: not the batch, not the threads,
not how the data were cut.
"""

from typing import Any

import numpy as np

from spyketorch._convolution import Geometry
from spyketorch.kernels._cache import compiled

Array = np.ndarray[Any, Any]

#: row_start, row_taps, run_start, runs, kernel width: which outputs an input reaches, see :func:`reach`
Taps = tuple[Array, Array, Array, Array, int]


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


@compiled
def sort_spikes(times: Array, steps: int, start: Array, events: Array) -> None:
    """Sort the spikes (row, column, feature) of an image by time: events[start[t] : start[t + 1]] are of step t."""
    height, width, channels = times.shape
    start[:] = 0
    for time in times.reshape(-1):
        start[min(max(time, 0), steps) + 1] += 1
    for t in range(steps + 1):
        start[t + 1] += start[t]
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                t = max(times[y, x, c], 0)
                if t < steps:
                    event = events[start[t]]
                    event[0], event[1], event[2] = y, x, c
                    start[t] += 1
    for t in range(steps, 0, -1):  # each start has moved to its end, which is the next one's start
        start[t] = start[t - 1]
    start[0] = 0


@compiled
def add(potentials: Array, weight: Array, features: int, taps: Taps, y: int, x: int) -> None:
    """Add the weights of an input at (y, x), (kernel * features,), to the potentials (rows, columns * features)."""
    row_start, row_taps, run_start, runs, width = taps
    for a in range(row_start[y], row_start[y + 1]):
        row, first = potentials[row_taps[a, 0]], row_taps[a, 1] * width
        for b in range(run_start[x], run_start[x + 1]):
            length = runs[b, 2] * features
            target, source = runs[b, 0] * features, (first + runs[b, 1]) * features
            added, to = weight[source : source + length], row[target : target + length]
            for f in range(length):
                to[f] += added[f]


@compiled
def convolution_fire(
    times: Array,
    weight: Array,
    threshold: Array,
    steps: int,
    taps: Taps,
    fired: Array,
    values: Array,
    begin: int,
    end: int,
) -> None:
    """First-spike times of the images begin..end - 1 and, where ``values`` has room, the potentials there.

    ``threshold`` is filled up as the weights are, with thresholds that nothing reaches.
    """
    height, width, channels = times.shape[1:]
    rows, columns, features = fired.shape[1:]
    lanes = len(threshold)
    potentials, limit = np.empty((rows, columns * lanes), weight.dtype), np.empty(columns * lanes, weight.dtype)
    limit.reshape(columns, lanes)[:] = threshold
    first = np.empty((rows, columns * lanes), fired.dtype)
    value = np.empty((rows if len(values) > 0 else 0, columns * lanes), weight.dtype)
    start, events = np.empty(steps + 2, np.int64), np.empty((height * width * channels, 3), np.int32)
    silent = fired.dtype.type(steps)
    for n in range(begin, end):
        sort_spikes(times[n], steps, start, events)
        potentials[:], first[:], value[:] = 0, silent, 0
        for t in range(steps):
            if start[t] == start[t + 1] and t > 0:
                continue
            for e in range(start[t], start[t + 1]):
                add(potentials, weight[events[e, 2]], lanes, taps, events[e, 0], events[e, 1])
            now = fired.dtype.type(t)
            for y in range(rows):
                potential, early = potentials[y], first[y]
                if len(value) > 0:
                    at_first = value[y]
                    for f in range(potential.size):
                        crosses = potential[f] > limit[f] and early[f] == silent
                        at_first[f] = potential[f] if crosses else at_first[f]
                for f in range(potential.size):
                    early[f] = min(early[f], now if potential[f] > limit[f] else silent)
        fired[n] = first.reshape(rows, columns, lanes)[:, :, :features]
        if len(values) > 0:
            values[n] = value.reshape(rows, columns, lanes)[:, :, :features]


@compiled
def last_potentials(
    times: Array, weight: Array, steps: int, taps: Taps, potentials: Array, begin: int, end: int
) -> None:
    """Potentials at the last time step of the images begin..end - 1; ``times`` is laid out (features, rows, columns).

    Feature by feature over all images, so that its weights stay in the cache.
    """
    channels, height, width = times.shape[1:]
    rows, columns, features = potentials.shape[1:]
    flat = potentials.reshape(-1, rows, columns * features)
    flat[begin:end] = 0
    for c in range(channels):
        for n in range(begin, end):
            for y in range(height):
                for x in range(width):
                    if times[n, c, y, x] < steps:
                        add(flat[n], weight[c], features, taps, y, x)


@compiled
def pooling(times: Array, taps: Taps, pooled: Array, begin: int, end: int) -> None:
    """Earliest spike of each window, of the images begin..end - 1; padding is never earliest."""
    height, width, channels = times.shape[1:]
    row_start, row_taps, run_start, runs, _ = taps
    for n in range(begin, end):
        pooled[n] = np.iinfo(pooled.dtype).max
        for y in range(height):
            for a in range(row_start[y], row_start[y + 1]):
                for x in range(width):
                    time = times[n, y, x]
                    for b in range(run_start[x], run_start[x + 1]):
                        for k in range(runs[b, 2]):
                            first = pooled[n, row_taps[a, 0], runs[b, 0] + k]
                            for c in range(channels):
                                first[c] = min(first[c], time[c])


@compiled
def rank_order(intensities: Array, steps: int, times: Array, begin: int, end: int) -> None:
    """First-spike times by rank, of the rows begin..end - 1 of float32 intensities, none of them negative.

    Only the non-zeros are sorted: by radix, on the bits of the floats, whose order is that of the numbers.
    """
    size = intensities.shape[1]
    keys, index = np.empty((2, size), np.uint32), np.empty((2, size), np.int32)
    place = np.empty(2049, np.int64)
    bits = intensities.view(np.uint32)
    for n in range(begin, end):
        count = 0
        for i in range(size):
            if bits[n, i] & np.uint32(0x7FFFFFFF) != 0:  # neither 0 nor -0
                keys[0, count], index[0, count] = ~bits[n, i], i  # inverted: the largest first, equals in order
                count += 1
        for digit in range(3):
            source, target, shift = digit % 2, 1 - digit % 2, np.uint32(11 * digit)
            place[:] = 0
            for i in range(count):
                place[((keys[source, i] >> shift) & np.uint32(2047)) + 1] += 1
            for d in range(2048):
                place[d + 1] += place[d]
            for i in range(count):
                d = (keys[source, i] >> shift) & np.uint32(2047)
                keys[target, place[d]], index[target, place[d]] = keys[source, i], index[source, i]
                place[d] += 1
        times[n] = steps
        per_step = max(count // steps, 1)
        for rank in range(min(count, per_step * steps)):
            times[n, index[1, rank]] = rank // per_step


@compiled
def local_normalization(
    maps: Array, radius: int, share: float, eps: float, normalized: Array, begin: int, end: int
) -> None:
    """Maps begin..end - 1 over ``share`` of the sum of the square around each place, along rows, then columns.

    Rows lie one behind the other with 2 * radius zeros between them, so that each of the sums' terms is added for all
    places of a map in one pass.
    """
    height, width = maps.shape[1:]
    wide = width + 2 * radius
    padded = np.zeros(height * wide + 2 * radius, maps.dtype)
    across, square = np.empty(height * wide, maps.dtype), np.empty(height * wide, maps.dtype)
    for n in range(begin, end):
        for y in range(height):
            padded[radius + y * wide : radius + y * wide + width] = maps[n, y]
        across[:], square[:] = 0, 0
        for k in range(2 * radius + 1):
            term = padded[k : k + across.size]
            for i in range(across.size):
                across[i] += term[i]
        for d in range(-min(radius, height - 1), min(radius, height - 1) + 1):
            first, last = max(0, -d) * wide, min(height, height - d) * wide
            to, term = square[first:last], across[first + d * wide : last + d * wide]
            for i in range(to.size):
                to[i] += term[i]
        for y in range(height):
            for x in range(width):
                normalized[n, y, x] = maps[n, y, x] / (square[y * wide + x] * share + eps)
