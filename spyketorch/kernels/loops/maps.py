"""Pooling."""

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
