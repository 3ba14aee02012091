"""Pooling, and inhibition at each place."""

import numpy as np

from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.layout import Array, Taps


@compiled
def pooling(times: Array, taps: Taps, pooled: Array, begin: int, end: int) -> None:
    """Earliest spike of each window, of the images begin..end - 1; padding is never earliest."""
    height, width, channels = times.shape[1:]
    row_start, row_taps, run_start, runs = taps.row_start, taps.row_taps, taps.run_start, taps.runs
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
def later_pooling(
    times: Array,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    earliest: int,
    pooled: Array,
    begin: int,
    end: int,
) -> None:
    """The spike of each window before which ``earliest`` - 1 others came, of the images begin..end - 1.

    The earliest ones found so far are kept in order; each time goes down their list and pushes a later one out.
    """
    height, width, channels = times.shape[1:]
    found, time = np.empty((earliest, channels), times.dtype), np.empty(channels, times.dtype)
    for n in range(begin, end):
        for row in range(pooled.shape[1]):
            top = row * stride[0] - padding[0]
            for column in range(pooled.shape[2]):
                left = column * stride[1] - padding[1]
                found[:] = np.iinfo(times.dtype).max
                for y in range(max(top, 0), min(top + kernel[0], height)):
                    for x in range(max(left, 0), min(left + kernel[1], width)):
                        spike = times[n, y, x]
                        for c in range(channels):
                            time[c] = spike[c]
                        for k in range(earliest):
                            kept = found[k]
                            for c in range(channels):
                                sooner = min(kept[c], time[c])
                                time[c] = max(kept[c], time[c])
                                kept[c] = sooner
                pooled[n, row, column] = found[earliest - 1]


@compiled
def pointwise_inhibition(
    given: tuple[Array, Array], steps: int, survivors: tuple[Array, Array], begin: int, end: int
) -> None:
    """Of each of the places begin..end - 1 the feature that fires first survives, with the largest potential.

    All are times and potentials (places, features). Where a candidate's potential is NaN nobody does.
    """
    (times, potentials), (kept, left) = given, survivors
    for place in range(begin, end):
        time, potential = times[place], potentials[place]
        kept[place], left[place] = steps, 0
        first = time.min()
        if first >= steps:
            continue
        best, strongest, comparable = -1, potential[0], True
        for f in range(len(time)):
            if time[f] == first:
                comparable &= potential[f] == potential[f]
                if best < 0 or potential[f] > strongest:
                    best, strongest = f, potential[f]
        if comparable:
            kept[place, best], left[place, best] = first, strongest
