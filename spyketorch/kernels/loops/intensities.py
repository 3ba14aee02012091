"""From images to intensities, and from those to first spikes.

Maps are flat, one row behind the other with a margin between them, so that what lies at the same distance from each
place is one contiguous piece: whatever is added for all places of a map is added in one pass.
"""

import math
from typing import NamedTuple, cast

import numpy as np

from spyketorch.kernels._cache import compiled, contracted
from spyketorch.kernels.loops.layout import Array


class Bank(NamedTuple):
    """A bank of filters: kernels (K, D, rows, columns), each with the threshold below which its answers are 0.

    They read D channels of an image at once: all, or, where D is 1, each by itself.
    """

    kernels: Array
    padding: tuple[int, int]
    thresholds: Array
    absolute: bool


class Normalization(NamedTuple):
    """Division by ``share`` of the sum of the square around each place, and ``eps``; none where the radius is -1."""

    radius: int
    share: float
    eps: float

    @classmethod
    def of(cls, radius: int | None, eps: float, size: tuple[int, ...], kind: type[np.floating]) -> "Normalization":
        """For maps of some rows and columns, beyond which there is nothing to add."""
        if radius is None:
            radius = -1
        share, least = kind(1) / kind((2 * radius + 1) ** 2), kind(eps)
        return cls(min(radius, max(size)), cast(float, share), cast(float, least))


@compiled
def _span(values: Array) -> tuple[int, int]:
    """Where the values other than 0 begin and end: what lies outside adds nothing."""
    begin, end = 0, values.size
    while end > 0 and values[end - 1] == 0:
        end -= 1
    while begin < end and values[begin] == 0:
        begin += 1
    return begin, end


@contracted
def _correlate(padded: Array, span: tuple[int, int], plane: int, wide: int, kernel: Array, map: Array) -> None:
    """Add the answers of a kernel (D, rows, columns) to an image, to a flat map of rows as wide.

    The image's channels lie ``plane`` apart, its rows ``wide``. As torch adds, by its own convolution: row by row, and
    of each pixel channel by channel, a product and the sum it goes into rounded once. Zeros, of the kernel and around
    the image, change nothing and are left out. A pass takes four taps, to store the map once.
    """
    offsets, taps = np.empty(kernel.size, np.int64), np.empty(kernel.size, kernel.dtype)
    count = 0
    for y in range(kernel.shape[1]):
        for x in range(kernel.shape[2]):
            for c in range(kernel.shape[0]):
                if kernel[c, y, x] != 0:
                    offsets[count], taps[count] = c * plane + y * wide + x, kernel[c, y, x]
                    count += 1
    begin, end = span
    for k in range(0, count - 3, 4):
        e, f, g, h = offsets[k], offsets[k + 1], offsets[k + 2], offsets[k + 3]
        first, last = max(0, begin - max(e, f, g, h)), min(map.size, end - min(e, f, g, h))
        to, (a, b, c, d) = map[first:last], (taps[k], taps[k + 1], taps[k + 2], taps[k + 3])
        one, two, three, four = padded[first + e :], padded[first + f :], padded[first + g :], padded[first + h :]
        for i in range(to.size):
            to[i] = d * four[i] + (c * three[i] + (b * two[i] + (a * one[i] + to[i])))
    for k in range(count - count % 4, count):
        first, last = max(0, begin - offsets[k]), min(map.size, end - offsets[k])
        to, a, one = map[first:last], taps[k], padded[first + offsets[k] :]
        for i in range(to.size):
            to[i] = a * one[i] + to[i]


@compiled
def contrasts(image: Array, bank: Bank, maps: Array) -> None:
    """Answers (K, rows, columns) of a bank to D channels of an image, which they read at once.

    0 below the threshold, or where rounding may have made them.
    """
    (depth, height, width), (top, left) = image.shape, bank.padding
    wide, tall, side = width + 2 * left, height + 2 * top, bank.kernels.shape[3]
    number, plane = image.dtype.type, tall * wide
    padded, largest, finite = np.zeros(depth * plane + side, image.dtype), number(0), True
    for c in range(depth):
        for y in range(height):
            for x in range(width):
                padded[c * plane + (top + y) * wide + left + x] = image[c, y, x]
                finite &= abs(image[c, y, x]) < np.inf
                largest = max(largest, abs(image[c, y, x]))
    span = _span(padded)
    count, rows, columns = maps.shape
    map = np.empty(rows * wide, image.dtype)
    for k in range(count):
        map[:] = 0
        _correlate(padded, span, plane, wide, bank.kernels[k], map)
        strength = 0.0
        for weight in bank.kernels[k].flat:
            strength += abs(weight)
        threshold, lost = bank.thresholds[k], largest * (number(strength) * number(math.sqrt(depth) * side * 2.0**-24))
        for y in range(rows):
            for x in range(columns):
                value = map[y * wide + x]
                finite &= abs(value) < np.inf
                value = value if value >= threshold and abs(value) > lost else value * 0
                maps[k, y, x] = abs(value) if bank.absolute else value
    if not finite:
        raise FloatingPointError("NaN or infinite values")


@compiled
def _add_shifted(terms: Array, step: int, count: int, total: Array) -> None:
    """Add ``count`` pieces of the terms, each ``step`` behind the one before, to the total, one after the other."""
    for k in range(0, count - 3, 4):
        one, two = terms[k * step :], terms[(k + 1) * step :]
        three, four = terms[(k + 2) * step :], terms[(k + 3) * step :]
        for i in range(total.size):
            total[i] = total[i] + one[i] + two[i] + three[i] + four[i]
    for k in range(count - count % 4, count):
        one = terms[k * step :]
        for i in range(total.size):
            total[i] += one[i]


@compiled
def local_normalization(maps: Array, norm: Normalization, normalized: Array, begin: int, end: int) -> None:
    """Maps begin..end - 1 over a share of the sum of the square around each place, along rows, then columns."""
    height, width = maps.shape[1:]
    radius, side = norm.radius, 2 * norm.radius + 1
    wide = width + 2 * radius
    padded = np.zeros(height * wide + 2 * radius, maps.dtype)
    across, square = np.zeros((height + 2 * radius) * wide, maps.dtype), np.empty(height * wide, maps.dtype)
    middle = across[radius * wide : radius * wide + square.size]
    for n in range(begin, end):
        for y in range(height):
            for x in range(width):
                padded[radius + y * wide + x] = maps[n, y, x]
        middle[:], square[:] = 0, 0
        _add_shifted(padded, 1, side, middle)
        _add_shifted(across, wide, side, square)
        for y in range(height):
            for x in range(width):
                normalized[n, y, x] = maps[n, y, x] / (square[y * wide + x] * norm.share + norm.eps)


_BUCKETS = 1024


@compiled
def rank_order(intensities: Array, steps: int, times: Array, begin: int, end: int) -> None:
    """First-spike times by rank, of the rows begin..end - 1 of float32 intensities, none of them negative.

    Only the non-zeros are ranked, by the bits of the floats, whose order is that of the numbers: counted in buckets of
    close ones, of which most lie within one time step; the few others alone are sorted.
    """
    size = intensities.shape[1]
    keys, index = np.empty((2, size), np.uint32), np.empty((2, size), np.int32)
    spare_keys, spare_index = np.empty(size, np.uint32), np.empty(size, np.int32)
    counts, step_of = np.empty(_BUCKETS, np.int64), np.empty(_BUCKETS, np.int64)
    bits = intensities.view(np.uint32)
    for n in range(begin, end):
        times[n] = steps
        count, low, high = 0, np.uint32(0xFFFFFFFF), np.uint32(0)
        for i in range(size):
            if bits[n, i] & np.uint32(0x7FFFFFFF) != 0:  # neither 0 nor -0
                key = ~bits[n, i]  # inverted: the largest first, equals in order
                keys[0, count], index[0, count] = key, i
                low, high = min(low, key), max(high, key)
                count += 1
        if count == 0:
            continue
        shift = np.uint32(0)
        while (high - low) >> shift >= np.uint32(_BUCKETS):
            shift += np.uint32(1)
        counts[:] = 0
        for i in range(count):
            counts[(keys[0, i] - low) >> shift] += 1
        per_step = max(count // steps, 1)
        last = min(count, per_step * steps)
        rank, step = 0, 0
        for b in range(_BUCKETS):
            while step < steps and rank >= (step + 1) * per_step:
                step += 1
            whole = rank >= last or rank + counts[b] <= (step + 1) * per_step
            step_of[b] = (steps if rank >= last else step) if whole else -1
            rank += counts[b]
            counts[b] = rank - counts[b]  # the rank of its first
        loose = 0
        for i in range(count):
            bucket = (keys[0, i] - low) >> shift
            if step_of[bucket] >= 0:
                times[n, index[0, i]] = step_of[bucket]
            else:
                keys[1, loose], index[1, loose] = keys[0, i], index[0, i]
                loose += 1
        _sort(keys[1, :loose], index[1, :loose], spare_keys, spare_index)
        bucket, rank = np.uint32(0xFFFFFFFF), 0
        for i in range(loose):
            here = (keys[1, i] - low) >> shift
            rank = rank + 1 if here == bucket else counts[here]
            bucket = here
            if rank < last:
                times[n, index[1, i]] = rank // per_step


@compiled
def _sort(keys: Array, index: Array, spare_keys: Array, spare_index: Array) -> None:
    """Sort by keys, equals in order: sorted runs of 1, 2, 4, ... are merged."""
    run = 1
    while run < keys.size:
        for begin in range(0, keys.size - run, 2 * run):
            middle, end = begin + run, min(begin + 2 * run, keys.size)
            if keys[middle - 1] <= keys[middle]:
                continue
            left, right = begin, middle
            for i in range(begin, end):
                if right == end or (left < middle and keys[left] <= keys[right]):
                    spare_keys[i], spare_index[i] = keys[left], index[left]
                    left += 1
                else:
                    spare_keys[i], spare_index[i] = keys[right], index[right]
                    right += 1
            keys[begin:end], index[begin:end] = spare_keys[begin:end], spare_index[begin:end]
        run *= 2


@compiled
def encode(images: Array, bank: Bank, norm: Normalization, steps: int, times: Array, begin: int, end: int) -> None:
    """First-spike times (K, rows, columns) of the images begin..end - 1: filters, normalisation and rank order."""
    count, depth = bank.kernels.shape[:2]
    maps = np.empty(times.shape[1:], images.dtype)
    normalized = np.empty_like(maps) if norm.radius >= 0 else maps
    flat, into = normalized.reshape(1, -1), times.reshape(len(times), -1)
    for n in range(begin, end):
        for c in range(images.shape[1] // depth):
            contrasts(images[n, c * depth : (c + 1) * depth], bank, maps[c * count : (c + 1) * count])
        if norm.radius >= 0:
            local_normalization(maps, norm, normalized, 0, len(maps))
        rank_order(flat, steps, into[n : n + 1], 0, 1)
