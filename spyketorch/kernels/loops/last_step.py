"""Layers without a threshold: potentials at the last time step, and who has the largest.

Winners are found without adding what cannot change them: weights rounded to bytes bound every potential; a position
stops adding once it cannot win any more, and only the few neurons left within the error of the bytes are added exactly.
"""

from typing import NamedTuple

import numpy as np

from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.choose import before, free
from spyketorch.kernels.loops.clock import add
from spyketorch.kernels.loops.layout import Array, Taps, Window

_SEGMENT = 248  # bytes that are added in 16 bits, and the inputs between two looks at whether a position can still win


class Bytes(NamedTuple):
    """Weights rounded to bytes, and what they were rounded from.

    ``known`` is (features, input features, kernel rows, kernel columns), about low + step * ``rounded``, which is laid
    out (taps * input features, features); ``scale`` is (low, step, high). Where weights leave the scale it is doubled,
    but not beyond ``bounds``.
    """

    known: Array
    rounded: Array
    scale: Array
    bounds: Array

    def absorb(self, weight: Array, f: int) -> None:
        """Take over the weights of a feature as they are now."""
        absorb_bytes(weight, self, f)

    def extent(self) -> tuple[float, float]:
        """Where all weights lie."""
        return self.scale[0], self.scale[2]

    def narrow(self, lower: float, upper: float) -> None:
        """All weights lie within these bounds now, and will."""
        narrow_bytes(self, lower, upper)


def to_bytes(weight: Array) -> Bytes:
    """Weights (features, input features, kernel rows, kernel columns), all of them finite, rounded to bytes."""
    rounded, scale = np.empty((weight[0].size, len(weight)), np.uint8), np.array([weight.min(), 0, weight.max()])
    compact = Bytes(weight.copy(), rounded, scale.astype(np.float64), np.array([-np.inf, np.inf]))
    round_all(weight, compact)
    return compact


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
def _byte(weight: float, low: float, step: float) -> int:
    return int((weight - low) / step + 0.5)


@compiled
def round_all(weight: Array, compact: Bytes) -> None:
    """Round all weights to bytes on the scale (low, ., high), and set its step."""
    features, channels, rows, columns = weight.shape
    low, _, high = compact.scale
    step = compact.scale[1] = max((high - low) / 255, 1e-9 * max(abs(low), abs(high)), 1e-30)
    for f in range(features):
        for c in range(channels):
            for i in range(rows):
                for j in range(columns):
                    compact.rounded[(i * columns + j) * channels + c, f] = _byte(weight[f, c, i, j], low, step)


@compiled
def _sum_bytes(
    rounded: Array, rows: Array, scale: Array, error: float, to_beat: float, active: Array, sums: Array
) -> bool:
    """Add the listed rows of bytes, for all features; False as soon as no active one can reach ``to_beat``."""
    low, step, high = scale
    short = np.zeros(sums.size, np.uint16)
    sums[:] = 0
    done = 0
    while done < len(rows):
        end = min(done + _SEGMENT, len(rows))
        for e in range(done, end - 7, 8):  # eight at a time, so that sums are read and written once for eight additions
            a, b, c, d = rounded[rows[e]], rounded[rows[e + 1]], rounded[rows[e + 2]], rounded[rows[e + 3]]
            g, h, i, j = rounded[rows[e + 4]], rounded[rows[e + 5]], rounded[rows[e + 6]], rounded[rows[e + 7]]
            for f in range(short.size):
                four = np.uint16(a[f]) + np.uint16(b[f]) + np.uint16(c[f]) + np.uint16(d[f])
                short[f] += four + np.uint16(g[f]) + np.uint16(h[f]) + np.uint16(i[f]) + np.uint16(j[f])
        for e in range(end - (end - done) % 8, end):
            a = rounded[rows[e]]
            for f in range(short.size):
                short[f] += a[f]
        largest = 0
        for f in range(short.size):
            sums[f] += short[f]
            largest = max(largest, sums[f] if active[f] else 0)
        short[:] = 0
        done = end
        if low * done + step * largest + high * (len(rows) - done) + error < to_beat:
            return False
    return True


@compiled
def _exact(times: Array, weight: Array, cells: Array, steps: int) -> float:
    """A potential at the last step: weights (C, taps) of a feature where inputs (cells, C) fired, in fixed order."""
    total = weight.dtype.type(0)
    for c in range(weight.shape[0]):
        for tap in range(cells.size):
            fired = cells[tap] >= 0 and times[max(cells[tap], 0), c] < steps
            total += weight[c, tap] if fired else weight.dtype.type(0)
    return float(total)


@compiled
def _nearly_best(
    bound: Array, error: Array, kept: Array, columns: int, winners: Array, taken: int, radius: int, near: Array
) -> int:
    """List the neurons that may have the largest potential of those no winner silences; returns how many."""
    neuron, to_beat, count = np.empty(3, np.int64), 0.0, 0
    for turn in range(2):  # first what there is to beat, then who does
        for p in kept:
            neuron[1], neuron[2] = p // columns, p % columns
            for f in range(bound.shape[1]):
                neuron[0] = f
                if bound[p, f] >= to_beat and free(neuron, winners, taken, radius):
                    if turn == 0:
                        to_beat = max(to_beat, bound[p, f] - 2 * error[p])
                    else:
                        near[count] = neuron
                        count += 1
    return count


@compiled
def last_winners(
    times: Array,
    weight: Array,
    compact: Bytes,
    steps: int,
    where: Window,
    radius: int,
    active: Array,
    winners: Array,
) -> int:
    """Fill the winners of an image (rows, columns, features), and return how many there are."""
    features, channels = weight.shape[:2]
    inputs, weights = times.reshape(-1, channels), weight.reshape(features, channels, -1)
    columns = where.shape[4, 1]
    spikes, spiking = np.empty(len(inputs), np.int64), np.empty((len(inputs), channels + 1), np.int64)
    for cell in range(len(inputs)):
        count = 0
        for c in range(channels):
            spiking[cell, count] = c
            count += int(inputs[cell, c] < steps)
        spikes[cell] = count
    positions = len(where.cells)
    seen = np.zeros(positions, np.int64)
    for p in range(positions):
        for cell in where.cells[p]:
            seen[p] += spikes[cell] if cell >= 0 else 0

    # Bounds of all potentials that may win
    low, step, high = compact.scale
    precision = np.finfo(weight.dtype).eps * max(abs(low), abs(high))  # of a sum, per term and addition
    bound, error = np.empty((positions, features)), np.empty(positions)
    kept, sums = np.empty(positions, np.int64), np.empty(features, np.int64)
    rows = np.empty(where.cells.shape[1] * channels, np.int64)
    candidates, count, to_beat = 0, 0, 0.0
    for p in np.argsort(-seen, kind="mergesort"):
        error[p] = 0.500001 * step * seen[p] + precision * seen[p] * seen[p]
        if high * seen[p] + error[p] < to_beat:
            break
        count = 0
        for tap in range(where.cells.shape[1]):
            cell = where.cells[p, tap]
            if cell >= 0:
                for k in range(spikes[cell]):
                    rows[count + k] = tap * channels + spiking[cell, k]
                count += spikes[cell]
        if _sum_bytes(compact.rounded, rows[:count], compact.scale, error[p], to_beat, active, sums):
            for f in range(features):
                bound[p, f] = low * count + step * sums[f] + error[p] if active[f] else -np.inf
                if len(winners) == 1:
                    to_beat = max(to_beat, bound[p, f] - 2 * error[p])
            kept[candidates] = p
            candidates += 1

    taken = 0
    near = np.empty((candidates * features, 3), np.int64)
    while taken < len(winners):
        count = _nearly_best(bound, error, kept[:candidates], columns, winners, taken, radius, near)
        best, winner = 0.0, -1
        for i in range(count):
            f, y, x = near[i]
            potential = bound[y * columns + x, f] - 2 * error[y * columns + x]
            if count > 1 or potential <= 0:  # the bytes cannot tell
                potential = _exact(inputs, weights[f], where.cells[y * columns + x], steps)
            if potential > best or (potential == best > 0 and before(near[i], near[winner])):
                best, winner = potential, i
        if winner < 0:
            break
        winners[taken] = near[winner]
        taken += 1
    return taken


@compiled
def absorb_bytes(weight: Array, compact: Bytes, f: int) -> None:
    """Round what feature ``f`` learned; where that leaves the scale, double the scale and round all."""
    low, step, high = compact.scale
    smallest, largest, channels = low, high, weight.shape[1]
    old, new = compact.known[f].reshape(channels, -1), weight[f].reshape(channels, -1)
    for c in range(channels):
        for tap in range(new.shape[1]):
            if new[c, tap] != old[c, tap]:
                smallest, largest = min(smallest, new[c, tap]), max(largest, new[c, tap])
                compact.rounded[tap * channels + c, f] = _byte(new[c, tap], low, step)
                old[c, tap] = new[c, tap]
    if smallest < low or largest > high:
        lowest, highest = compact.bounds
        compact.scale[0] = low if smallest == low else min(smallest, max(lowest, 2 * low - high))
        compact.scale[2] = high if largest == high else max(largest, min(highest, 2 * high - low))
        round_all(compact.known, compact)


@compiled
def narrow_bytes(compact: Bytes, lower: float, upper: float) -> None:
    """A scale within the bounds, where all weights are now."""
    compact.bounds[0], compact.bounds[1] = lower, upper
    for end in (0, 2):
        compact.scale[end] = min(max(compact.scale[end], lower), upper)
    round_all(compact.known, compact)
