"""From intensities to first spikes."""

import numpy as np

from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.layout import Array


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
