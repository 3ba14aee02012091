"""The fast loops of deciding and learning, in numba: which neurons win, image after image, and what they learn.

Winners are found without computing what cannot change them. With a threshold the clock stops at the last winner. Where
only the last time step counts, weights rounded to bytes bound every potential; a position stops adding once it cannot
win any more, and only the few neurons left within the error of the bytes are added exactly.

Maps are laid out (rows, columns, features). The first search takes weights as :mod:`.loops` lays them out, the second
as the layer has them, (features, input features, kernel rows, kernel columns).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from spyketorch._convolution import Geometry
from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops import Array, Taps, add, sort_spikes

_SEGMENT = 248  # bytes that are added in 16 bits, and the inputs between two looks at whether a position can still win


class Window(NamedTuple):
    """Where each output looks: kernel size, stride, padding, dilation and output size, and the cells of the input.

    ``cells`` (outputs, kernel rows * columns) are indices row * columns + column of the input, -1 outside of it.
    """

    shape: Array
    cells: Array


class Rule(NamedTuple):
    """STDP of each feature: ``rates`` (2, features, 2) are LTP and LTD after reward and after punishment.

    ``labels`` of the images and ``classes`` of the features make it R-STDP: the first winner decides. Without them all
    images are rewarded. ``bounds`` are (lower, upper) in the weights' type. ``correction`` 0 learns from every
    decision, 1 and 2 only from mistakes: the class of each mistake is silenced (1), or all but the right one (2), and
    the image decided anew.
    """

    rates: Array
    bounds: Array
    stabilizer: bool
    labels: Array
    classes: Array
    correction: int


class Bytes(NamedTuple):
    """Weights are low + step * rounded, laid out (taps * input features, features); ``scale`` is (low, step, high)."""

    rounded: Array
    scale: Array


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


def to_bytes(weight: Array) -> Bytes:
    """Weights (features, C, kernel rows, kernel columns) rounded to bytes."""
    features, channels, rows, columns = weight.shape
    scale = np.array([weight.min(), 0, weight.max()], np.float64)
    compact = Bytes(np.empty((rows * columns * channels, features), np.uint8), scale)
    _round(weight, compact)
    return compact


# Winners of a layer with a threshold


@compiled
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


@compiled
def _free(neuron: Array, winners: Array, taken: int, radius: int) -> bool:
    """Whether none of the winners so far silences a neuron (feature, row, column): its feature, or places around it."""
    free = True
    for k in range(taken):
        near = abs(neuron[1] - winners[k, 1]) <= radius and abs(neuron[2] - winners[k, 2]) <= radius
        free = free and neuron[0] != winners[k, 0] and not (radius > 0 and near)
    return free


@compiled
def _before(a: Array, b: Array) -> bool:
    for i in range(3):
        if a[i] != b[i]:
            return bool(a[i] < b[i])
    return False


@compiled
def _take_winners(candidates: Array, strength: Array, count: int, winners: Array, taken: int, radius: int) -> int:
    """Move the best of ``count`` candidates (feature, row, column) that all crossed now behind the winners so far.

    Best is the largest potential, then the lowest index. Returns the number of winners.
    """
    while taken < len(winners):
        best = -1
        for i in range(count):
            if (
                strength[i] > 0
                and (best < 0 or strength[i] >= strength[best])
                and _free(candidates[i], winners, taken, radius)
                and (best < 0 or strength[i] > strength[best] or _before(candidates[i], candidates[best]))
            ):
                best = i
        if best < 0:
            break
        winners[taken] = candidates[best]
        taken += 1
    return taken


@compiled
def _first_winners(
    times: Array,
    weight: Array,
    threshold: Array,
    steps: int,
    taps: Taps,
    size: Array,
    inhibit: bool,
    radius: int,
    active: Array,
    winners: Array,
    first_spike: Array,
) -> int:
    """Fill the winners of an image and the time steps at which they fired; returns how many there are.

    ``threshold`` and ``weight`` may have more features than ``active``, which fill up vectors and never fire.
    """
    features = len(threshold)
    rows, columns = size
    potentials, limit = np.zeros((rows, columns * features), weight.dtype), np.empty(columns * features, weight.dtype)
    limits = limit.reshape(columns, features)
    for f in range(features):
        limits[:, f] = threshold[f] if f < len(active) and active[f] else np.inf
    start, events = np.empty(steps + 2, np.int64), np.empty((times.size, 3), np.int32)
    sort_spikes(times, steps, start, events)
    closed = np.zeros((rows, columns, 1 if inhibit else features), np.bool_)
    candidates = np.empty((closed.size, 3), np.int64)
    strength = np.empty(len(candidates), weight.dtype)
    taken = 0
    for t in range(steps):
        if taken == len(winners):
            break
        if start[t] == start[t + 1] and t > 0:
            continue
        for e in range(start[t], start[t + 1]):
            add(potentials, weight[events[e, 2]], features, taps, events[e, 0], events[e, 1])
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
        taken = _take_winners(candidates, strength, count, winners, taken, radius)
        first_spike[before:taken] = t
    return taken


# Winners of a layer without: potentials at the last time step


@compiled
def _byte(weight: float, low: float, step: float) -> int:
    return int((weight - low) / step + 0.5)


@compiled
def _round(weight: Array, compact: Bytes) -> None:
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
                if bound[p, f] >= to_beat and _free(neuron, winners, taken, radius):
                    if turn == 0:
                        to_beat = max(to_beat, bound[p, f] - 2 * error[p])
                    else:
                        near[count] = neuron
                        count += 1
    return count


@compiled
def _last_winners(
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
            if potential > best or (potential == best > 0 and _before(near[i], near[winner])):
                best, winner = potential, i
        if winner < 0:
            break
        winners[taken] = near[winner]
        taken += 1
    return taken


# Learning


@compiled
def _change(weight: float, rate: float, lower: float, upper: float, stabilizer: bool) -> float:
    """A weight after one update, in the order of operations of the dense rule."""
    change = rate * ((weight - lower) * (upper - weight)) if stabilizer else rate
    return min(max(weight + change, lower), upper)


@compiled
def _outcome(rule: Rule, n: int, winner: int) -> int:
    """0 where an image is rewarded, 1 where it is punished."""
    return int(len(rule.labels) > 0 and winner >= 0 and rule.classes[winner] != rule.labels[n])


@compiled
def _learn(
    weight: Array, times: Array, winner: Array, first_spike: int, outcome: int, rule: Rule, shape: Array
) -> None:
    """Update the weights (features, C, kernel rows, kernel columns) of a winner, for an image (rows, columns, C)."""
    f, row, column = winner
    (ltp, ltd), (lower, upper) = rule.rates[outcome, f], rule.bounds
    kernel, stride, padding, dilation = shape[:4]
    for i in range(kernel[0]):
        y = row * stride[0] - padding[0] + i * dilation[0]
        for j in range(kernel[1]):
            x = column * stride[1] - padding[1] + j * dilation[1]
            inside = 0 <= y < times.shape[0] and 0 <= x < times.shape[1]
            for c in range(times.shape[2]):
                rate = ltp if inside and times[y, x, c] <= first_spike else ltd
                weight[f, c, i, j] = _change(weight[f, c, i, j], rate, lower, upper, rule.stabilizer)


@compiled
def _clamp(weight: Array, lower: float, upper: float) -> bool:
    """Clamp all weights; True where that changed one."""
    changed = False
    for f in range(weight.shape[0]):
        for c in range(weight.shape[1]):
            for i in range(weight.shape[2]):
                for j in range(weight.shape[3]):
                    clamped = min(max(weight[f, c, i, j], lower), upper)
                    changed = changed or clamped != weight[f, c, i, j]
                    weight[f, c, i, j] = clamped
    return changed


@compiled
def _silence(rule: Rule, n: int, winner: int, active: Array) -> None:
    """Leave the features of a mistake out of the next decision: its class, or all classes but the right one."""
    for f in range(len(active)):
        if rule.correction == 1:
            active[f] = active[f] and rule.classes[f] != rule.classes[winner]
        else:
            active[f] = active[f] and rule.classes[f] == rule.labels[n]


@compiled
def learn_by_clock(
    times: Array,
    rows: Array,
    weight: Array,
    threshold: Array,
    steps: int,
    taps: Taps,
    where: Window,
    inhibit: bool,
    radius: int,
    active: Array,
    rule: Rule,
    winners: Array,
) -> None:
    """STDP in a layer with a threshold, image after image: each meets the weights that the one before left.

    ``weight`` is a view (features, C, kernel rows, kernel columns) of ``rows``; ``active`` (images, features) tells
    which features take part; ``winners`` (images, kwta, 3) is filled, rows of -1 where there are fewer.
    """
    first_spike, size = np.empty(winners.shape[1], np.int64), where.shape[4]
    for n in range(len(times)):
        allowed, found = active[n].copy(), winners[n]
        for turn in range(len(threshold) + 1):
            taken = _first_winners(
                times[n], rows, threshold, steps, taps, size, inhibit, radius, allowed, found, first_spike
            )
            outcome = _outcome(rule, n, found[0, 0])
            known = turn == 0 and rule.correction > 0 and outcome == 0
            for k in range(0 if known else taken):
                _learn(weight, times[n], found[k], first_spike[k], outcome, rule, where.shape)
            if n == 0 and turn == 0:  # later on only weights that are clamped change
                _clamp(weight, rule.bounds[0], rule.bounds[1])
            if taken == 0 or rule.correction == 0 or outcome == 0:
                break
            _silence(rule, n, found[0, 0], allowed)
            found = np.full_like(found, -1)


@compiled
def learn_at_last_step(
    times: Array,
    weight: Array,
    compact: Bytes,
    steps: int,
    where: Window,
    radius: int,
    active: Array,
    rule: Rule,
    winners: Array,
) -> None:
    """:func:`learn_by_clock` in a layer where only the last time step counts; ``compact`` follows the weights."""
    lower, upper = rule.bounds
    for n in range(len(times)):
        allowed, found = active[n].copy(), winners[n]
        for turn in range(len(weight) + 1):
            taken = _last_winners(times[n], weight, compact, steps, where, radius, allowed, found)
            outcome = _outcome(rule, n, found[0, 0])
            known = turn == 0 and rule.correction > 0 and outcome == 0
            for k in range(0 if known else taken):
                f = found[k, 0]
                before = weight[f].copy()
                _learn(weight, times[n], found[k], steps - 1, outcome, rule, where.shape)
                _follow(weight, before, compact, f, lower, upper)
            if n == 0 and turn == 0 and _clamp(weight, lower, upper):
                for end in (0, 2):
                    compact.scale[end] = min(max(compact.scale[end], lower), upper)
                _round(weight, compact)
            if taken == 0 or rule.correction == 0 or outcome == 0:
                break
            _silence(rule, n, found[0, 0], allowed)
            found = np.full_like(found, -1)


@compiled
def _follow(weight: Array, before: Array, compact: Bytes, f: int, lower: float, upper: float) -> None:
    """Round what feature ``f`` learned; where that leaves the scale, double the scale and round all."""
    low, step, high = compact.scale
    smallest, largest, channels = low, high, len(before)
    old, new = before.reshape(channels, -1), weight[f].reshape(channels, -1)
    for c in range(channels):
        for tap in range(new.shape[1]):
            if new[c, tap] != old[c, tap]:
                smallest, largest = min(smallest, new[c, tap]), max(largest, new[c, tap])
                compact.rounded[tap * channels + c, f] = _byte(new[c, tap], low, step)
    if smallest < low or largest > high:
        compact.scale[0] = low if smallest == low else min(smallest, max(lower, 2 * low - high))
        compact.scale[2] = high if largest == high else max(largest, min(upper, 2 * high - low))
        _round(weight, compact)


# Deciding


@compiled
def decide_by_clock(
    times: Array,
    rows: Array,
    threshold: Array,
    steps: int,
    taps: Taps,
    where: Window,
    inhibit: bool,
    radius: int,
    active: Array,
    winners: Array,
    begin: int,
    end: int,
) -> None:
    """The winners of the images begin..end - 1, in a layer with a threshold."""
    first_spike = np.empty(winners.shape[1], np.int64)
    for n in range(begin, end):
        _first_winners(
            times[n], rows, threshold, steps, taps, where.shape[4], inhibit, radius, active, winners[n], first_spike
        )


@compiled
def decide_at_last_step(
    times: Array,
    weight: Array,
    compact: Bytes,
    steps: int,
    where: Window,
    radius: int,
    active: Array,
    winners: Array,
    begin: int,
    end: int,
) -> None:
    """The winners of the images begin..end - 1, in a layer where only the last time step counts."""
    for n in range(begin, end):
        _last_winners(times[n], weight, compact, steps, where, radius, active, winners[n])
