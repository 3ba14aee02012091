"""The fast loops, in numba: one image after the other, one input spike after the other.

Maps are laid out (rows, columns, features), and weights (input feature, kernel row, kernel column reversed, output
feature). As the output column that a spike reaches falls when the kernel column rises, a reversed kernel row and the
potentials it is added to both lie side by side: one input spike costs one vector addition per kernel row, a *run*.

Every potential is the sum of its inputs in one fixed order: (time step, input row, input column, input feature), and
where only the last time step counts (input feature, row, column). Nothing else enters: not the batch, not the threads,
not how the data were cut.
"""

from typing import Any

import numpy as np
from numba import njit

from spyketorch._convolution import Geometry

Array = np.ndarray[Any, Any]

#: row_start, row_taps, run_start, runs, kernel width: which outputs an input reaches, see :func:`reach`
Taps = tuple[Array, Array, Array, Array, int]

_compiled = njit(cache=True, nogil=True)


def reach(size: tuple[int, int], out: tuple[int, int], shape: Geometry) -> Taps:
    """Which outputs each input row and column reaches."""
    (rows, row_step, row_pad, row_gap), (columns, column_step, column_pad, column_gap) = zip(
        shape.kernel_size, shape.stride, shape.padding, shape.dilation, strict=True
    )
    row_start, row_taps = _row_taps(size[0], out[0], rows, row_step, row_pad, row_gap)
    run_start, runs = _column_runs(size[1], out[1], columns, column_step, column_pad, column_gap)
    return row_start, row_taps, run_start, runs, columns


@_compiled
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


@_compiled
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


@_compiled
def _sort_spikes(times: Array, steps: int, start: Array, events: Array) -> None:
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


@_compiled
def _add(potentials: Array, weight: Array, features: int, taps: Taps, y: int, x: int) -> None:
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


@_compiled
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
    """First-spike times of the images begin..end - 1 and, where ``values`` has room, the potentials there."""
    height, width, channels = times.shape[1:]
    rows, columns, features = fired.shape[1:]
    potentials, limit = np.empty((rows, columns * features), weight.dtype), np.empty(columns * features, weight.dtype)
    limit.reshape(columns, features)[:] = threshold
    start, events = np.empty(steps + 2, np.int64), np.empty((height * width * channels, 3), np.int32)
    silent = fired.dtype.type(steps)
    for n in range(begin, end):
        _sort_spikes(times[n], steps, start, events)
        fired[n] = silent
        potentials[:] = 0
        for t in range(steps):
            if start[t] == start[t + 1] and t > 0:
                continue
            for e in range(start[t], start[t + 1]):
                _add(potentials, weight[events[e, 2]], features, taps, events[e, 0], events[e, 1])
            now = fired.dtype.type(t)
            for y in range(rows):
                potential, first = potentials[y], fired[n, y].reshape(-1)
                if len(values) > 0:
                    value = values[n, y].reshape(-1)
                    for f in range(potential.size):
                        crosses = potential[f] > limit[f] and first[f] == silent
                        value[f] = potential[f] if crosses else value[f]
                for f in range(potential.size):
                    first[f] = min(first[f], now if potential[f] > limit[f] else silent)


@_compiled
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
                        _add(flat[n], weight[c], features, taps, y, x)


@_compiled
def _strongest(potential: Array, limit: Array) -> int:
    """The feature with the largest potential above its limit, the lowest of equals; -1 where there is none."""
    crossing = 0
    for f in range(potential.size):
        crossing += int(potential[f] > limit[f])
    if crossing == 0:
        return -1
    winner = -1
    for f in range(potential.size):
        if potential[f] > limit[f] and (winner < 0 or potential[f] > potential[winner]):
            winner = f
    return winner


@_compiled
def _take_winners(candidates: Array, strength: Array, count: int, winners: Array, taken: int, radius: int) -> int:
    """Move the best of ``count`` candidates (feature, row, column) that all crossed now behind the winners so far.

    Best is the largest potential, then the lowest index; a winner silences its feature and the places around it.
    Returns the number of winners.
    """
    while taken < len(winners):
        best = -1
        for i in range(count):
            free = strength[i] > 0
            for k in range(taken):
                near = radius > 0 and (
                    abs(candidates[i, 1] - winners[k, 1]) <= radius and abs(candidates[i, 2] - winners[k, 2]) <= radius
                )
                free = free and candidates[i, 0] != winners[k, 0] and not near
            if free and (
                best < 0
                or strength[i] > strength[best]
                or (strength[i] == strength[best] and _before(candidates[i], candidates[best]))
            ):
                best = i
        if best < 0:
            break
        winners[taken] = candidates[best]
        taken += 1
    return taken


@_compiled
def _before(a: Array, b: Array) -> bool:
    for i in range(3):
        if a[i] != b[i]:
            return bool(a[i] < b[i])
    return False


@_compiled
def _change(weight: float, rate: float, lower: float, upper: float, stabilizer: bool) -> float:
    """A weight after one update, in the order of operations of the dense rule."""
    change = rate * ((weight - lower) * (upper - weight)) if stabilizer else rate
    return min(max(weight + change, lower), upper)


@_compiled
def learn_online(
    times: Array,
    weight: Array,
    threshold: Array,
    steps: int,
    taps: Taps,
    shape: Array,
    rates: Array,
    bounds: Array,
    stabilizer: bool,
    inhibit: bool,
    radius: int,
    labels: Array,
    classes: Array,
    active: Array,
    winners: Array,
) -> None:
    """STDP, image after image: each meets the weights that the one before left.

    The clock stops as soon as the last winner stands: no later spike can change what is learned. With ``labels`` of the
    images and ``classes`` of the features it is R-STDP: the first winner decides, and ``rates`` (2, features, 2) are
    those of reward and of punishment; without, those of reward serve all images. ``active`` (images, features) tells
    which features take part.

    ``shape`` holds the pairs kernel, stride, padding, dilation and output size; ``bounds``
    (lower, upper) in the weights' type; ``winners`` (images, kwta, 3) is filled, rows of -1 where there are fewer.
    """
    height, width, channels = times.shape[1:]
    kernel, stride, padding, dilation, (rows, columns) = shape
    features = len(threshold)
    lower, upper = bounds
    potentials, limit = np.empty((rows, columns * features), weight.dtype), np.empty(columns * features, weight.dtype)
    limits = limit.reshape(columns, features)
    start, events = np.empty(steps + 2, np.int64), np.empty((height * width * channels, 3), np.int32)
    closed = np.empty((rows, columns, 1 if inhibit else features), np.bool_)
    candidates = np.empty((rows * columns * (1 if inhibit else features), 3), np.int64)
    strength = np.empty(len(candidates), weight.dtype)
    first_spike = np.empty(winners.shape[1], np.int64)
    for n in range(len(times)):
        _sort_spikes(times[n], steps, start, events)
        potentials[:] = 0
        closed[:] = False
        for f in range(features):
            limits[:, f] = threshold[f] if active[n, f] else np.inf
        winners[n] = -1
        taken = 0
        for t in range(steps):
            if taken == winners.shape[1]:
                break
            if start[t] == start[t + 1] and t > 0:
                continue
            for e in range(start[t], start[t + 1]):
                _add(potentials, weight[events[e, 2]], features, taps, events[e, 0], events[e, 1])
            count = 0
            for y in range(rows):
                crossing = 0
                for f in range(columns * features):
                    crossing += int(potentials[y, f] > limit[f])
                if crossing == 0:
                    continue
                for x in range(columns):
                    potential = potentials[y, x * features : (x + 1) * features]
                    if inhibit:
                        if not closed[y, x, 0]:
                            f = _strongest(potential, limits[x])
                            if f >= 0:
                                closed[y, x, 0] = True
                                candidates[count] = (f, y, x)
                                strength[count] = potential[f]
                                count += 1
                    else:
                        for f in range(features):
                            if potential[f] > limits[x, f] and not closed[y, x, f]:
                                closed[y, x, f] = True
                                candidates[count] = (f, y, x)
                                strength[count] = potential[f]
                                count += 1
            before = taken
            taken = _take_winners(candidates, strength, count, winners[n], taken, radius)
            first_spike[before:taken] = t
        outcome = 0
        if len(labels) > 0 and taken > 0 and classes[winners[n, 0, 0]] != labels[n]:
            outcome = 1
        for k in range(taken):
            f, row, column = winners[n, k]
            for i in range(kernel[0]):
                y = row * stride[0] - padding[0] + i * dilation[0]
                for j in range(kernel[1]):
                    x = column * stride[1] - padding[1] + j * dilation[1]
                    inside = 0 <= y < height and 0 <= x < width
                    at = (i * kernel[1] + kernel[1] - 1 - j) * features + f
                    for c in range(channels):
                        causal = inside and times[n, y, x, c] <= first_spike[k]
                        rate = rates[outcome, f, 0] if causal else rates[outcome, f, 1]
                        weight[c, at] = _change(weight[c, at], rate, lower, upper, stabilizer)
        if n == 0:  # later images only change weights that are clamped then
            for c in range(channels):
                for f in range(weight.shape[1]):
                    weight[c, f] = min(max(weight[c, f], lower), upper)


@_compiled
def _add_feature(potentials: Array, weight: Array, spikes: Array, taps: Taps) -> None:
    """Potentials (rows, columns) of one feature at the last step, as :func:`last_potentials` adds them.

    ``spikes`` (count, 3) lists the inputs that fired, (feature, row, column); ``weight`` is (C, kernel rows * columns).
    """
    row_start, row_taps, run_start, runs, width = taps
    potentials[:] = 0
    for e in range(len(spikes)):
        source, y, x = weight[spikes[e, 0]], spikes[e, 1], spikes[e, 2]
        for a in range(row_start[y], row_start[y + 1]):
            row, last = potentials[row_taps[a, 0]], row_taps[a, 1] * width + width - 1
            for b in range(run_start[x], run_start[x + 1]):
                column, tap = runs[b, 0], runs[b, 1]
                for k in range(runs[b, 2]):
                    row[column + k] += source[last - tap - k]


@_compiled
def renew_rows(weight: Array, changed: Array, rows: Array) -> None:
    """Copy the weights (features, C, kernel rows, kernel columns) of changed features to the layout of the loops."""
    features, channels, height, width = weight.shape
    renewed = np.flatnonzero(changed)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                at = (i * width + width - 1 - j) * features
                for f in renewed:
                    rows[c, at + f] = weight[f, c, i, j]


@_compiled
def decide_online(
    times: Array,
    weight: Array,
    steps: int,
    taps: Taps,
    shape: Array,
    rates: Array,
    bounds: Array,
    stabilizer: bool,
    radius: int,
    labels: Array,
    classes: Array,
    active: Array,
    potentials: Array,
    rise: Array,
    changed: Array,
    winners: Array,
) -> None:
    """:func:`learn_online` where only the last time step counts, for a chunk whose ``potentials`` were computed before.

    The chunk's potentials (images, rows, columns, features) belong to the weights before it. Only features that won
    since have others, and only those of them are computed anew that may win: a feature's potential rises by no more
    than the rise of its weights, ``rise``, times the input spikes. ``active`` (images, features) leaves features out.
    ``weight`` (features, C, kernel rows, kernel columns) learns; ``changed`` (features,) marks what won.
    """
    kernel, stride, padding, dilation, (rows, columns) = shape
    features, channels = weight.shape[:2]
    height, width = times.shape[2:]
    lower, upper = bounds
    anew, largest = np.empty((rows, columns), weight.dtype), np.empty(features, weight.dtype)
    fired = np.empty((channels * height * width, 3), np.int64)
    rounding = 4 * np.finfo(weight.dtype).eps * max(abs(lower), abs(upper))  # of two sums, per term and addition
    flat = weight.reshape(features, channels, -1)
    for n in range(len(times)):
        spikes = 0
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    if times[n, c, y, x] < steps:
                        fired[spikes] = (c, y, x)
                        spikes += 1
        largest[:] = 0
        for y in range(rows):
            for x in range(columns):
                for f in range(features):
                    largest[f] = max(largest[f], potentials[n, y, x, f])
        best = 0.0
        for f in range(features):
            if active[n, f] and not changed[f]:
                best = max(best, largest[f])
        for f in range(features):
            if (
                changed[f]
                and active[n, f]
                and (largest[f] + rise[f] * spikes + rounding * spikes * spikes >= best or winners.shape[1] > 1)
            ):
                _add_feature(anew, flat[f], fired[:spikes], taps)
                for y in range(rows):
                    for x in range(columns):
                        potentials[n, y, x, f] = anew[y, x]
                        best = max(best, anew[y, x])
        winners[n] = -1
        taken = 0
        while taken < winners.shape[1]:
            best = 0.0
            for f in range(features):
                free = active[n, f]
                for k in range(taken):
                    free = free and winners[n, k, 0] != f
                if free:
                    for y in range(rows):
                        for x in range(columns):
                            near = False
                            for k in range(taken):
                                near = near or (
                                    radius > 0
                                    and abs(winners[n, k, 1] - y) <= radius
                                    and abs(winners[n, k, 2] - x) <= radius
                                )
                            if potentials[n, y, x, f] > best and not near:  # the first of equals has the lowest index
                                best = potentials[n, y, x, f]
                                winners[n, taken] = (f, y, x)
            if best <= 0:
                break
            taken += 1
        outcome = 0
        if len(labels) > 0 and taken > 0 and classes[winners[n, 0, 0]] != labels[n]:
            outcome = 1
        for k in range(taken):
            f, row, column = winners[n, k]
            highest = 0.0
            for c in range(channels):
                for i in range(kernel[0]):
                    y = row * stride[0] - padding[0] + i * dilation[0]
                    for j in range(kernel[1]):
                        x = column * stride[1] - padding[1] + j * dilation[1]
                        causal = 0 <= y < height and 0 <= x < width and times[n, c, y, x] < steps
                        rate = rates[outcome, f, 0] if causal else rates[outcome, f, 1]
                        old = weight[f, c, i, j]
                        weight[f, c, i, j] = _change(old, rate, lower, upper, stabilizer)
                        highest = max(highest, weight[f, c, i, j] - old)
            rise[f] += highest
            changed[f] = True


@_compiled
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


@_compiled
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


@_compiled
def local_normalization(maps: Array, radius: int, eps: float, normalized: Array, begin: int, end: int) -> None:
    """Maps begin..end - 1 over the mean of the square around each place, summed along rows, then columns."""
    height, width = maps.shape[1:]
    across, square = np.empty((height, width), maps.dtype), np.empty(width, maps.dtype)
    share = maps.dtype.type(1) / maps.dtype.type((2 * radius + 1) ** 2)
    for n in range(begin, end):
        across[:] = 0
        for y in range(height):
            for d in range(-radius, radius + 1):
                first, last = max(0, -d), min(width, width - d)
                to, row = across[y, first:last], maps[n, y, first + d : last + d]
                for x in range(last - first):
                    to[x] += row[x]
        for y in range(height):
            square[:] = 0
            for i in range(max(0, y - radius), min(height, y + radius + 1)):
                for x in range(width):
                    square[x] += across[i, x]
            for x in range(width):
                normalized[n, y, x] = maps[n, y, x] / (square[x] * share + eps)
