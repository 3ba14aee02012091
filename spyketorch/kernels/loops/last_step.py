"""Layers without a threshold: potentials at the last time step, and who has the largest.

Winners are found without adding what cannot change them: weights rounded to bytes bound every potential; a position
stops adding once it cannot win any more, and only the few neurons left within the error of the bytes are added exactly.

Winners may be found ahead of learning, and checked when their turn has come: see :class:`Ahead`.
"""

from typing import NamedTuple

import numpy as np

from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.clock import add
from spyketorch.kernels.loops.layout import Array, Taps, Window

_SEGMENT = 248  # bytes that are added in 16 bits, and the inputs between two looks at whether a position can still win
_SPARE = 8  # ahead, positions are given up where they stay so many errors below: then they still do after some learning


class Bytes(NamedTuple):
    """Weights rounded to bytes, and what they were rounded from.

    ``known`` is (features, input features, kernel rows, kernel columns), about low + step * ``rounded``, which is laid
    out (input features * taps, features); ``scale`` is (low, step, high). Where weights leave the scale it is doubled,
    but not beyond ``bounds``. ``rise`` (features,) is above 0 where weights were changed since it was set to 0, and no
    potential of the feature has grown by more.
    """

    known: Array
    rounded: Array
    scale: Array
    bounds: Array
    rise: Array

    def absorb(self, weight: Array, f: int) -> None:
        """Take over the weights of a feature as they are now."""
        absorb_bytes(weight, self, f)

    def extent(self) -> tuple[float, float]:
        """Where all weights lie."""
        return self.scale[0], self.scale[2]

    def narrow(self, lower: float, upper: float) -> None:
        """All weights lie within these bounds now, and will."""
        narrow_bytes(self, lower, upper)


class Bounds(NamedTuple):
    """What is known so far of the potentials of an image; more is found out as it is asked for.

    A cell of the map has so many ``spikes``, of the inputs ``spiking`` + tap (cells, input features). At a position
    (row * columns + column) ``seen`` inputs fired, and no potential is above ``reach``. Where all bytes were ``added``,
    their sums (positions, features) tell the potentials to within ``error``. ``order`` lists positions, those that see
    most first. Features may be left out between two searches, but not come back.
    """

    spikes: Array
    spiking: Array
    seen: Array
    order: Array
    error: Array
    reach: Array
    added: Array
    sums: Array


class Ahead(NamedTuple):
    """Why winners that were found ahead may still be those, once other features have learned.

    The potential of the last winner of an image is at ``least`` (images,), or 0 where more could win; those of a
    feature are at ``most`` (images, features). One that learned cannot win where it stays below.
    """

    least: Array
    most: Array


def room_ahead(images: int, features: int) -> Ahead:
    """Room for runs of so many images."""
    return Ahead(np.empty(images), np.empty((images, features)))


def to_bytes(weight: Array) -> Bytes:
    """Weights (features, input features, kernel rows, kernel columns), all of them finite, rounded to bytes."""
    rounded, scale = np.empty((weight[0].size, len(weight)), np.uint8), np.array([weight.min(), 0, weight.max()])
    bounds, rise = np.array([-np.inf, np.inf]), np.zeros(len(weight))
    compact = Bytes(weight.copy(), rounded, scale.astype(np.float64), bounds, rise)
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
def _round(weight: Array, compact: Bytes, f: int) -> None:
    """Round the weights of a feature to bytes: first all, side by side, then each to its place."""
    low, step, _ = compact.scale
    per_step, own, rounded = 1 / step, weight[f].reshape(-1), compact.rounded
    bytes_ = np.empty(own.size, np.uint8)
    for i in range(own.size):
        bytes_[i] = np.uint8(np.int32((own[i] - low) * per_step + 0.5))
    for i in range(own.size):
        rounded[i, f] = bytes_[i]


@compiled
def round_all(weight: Array, compact: Bytes) -> None:
    """Round all weights to bytes on the scale (low, ., high), and set its step."""
    low, _, high = compact.scale
    compact.scale[1] = max((high - low) / 255, 1e-9 * max(abs(low), abs(high)), 1e-30)
    compact.rise[:] = np.inf  # what was bounded on another scale has other errors
    for f in range(len(weight)):
        _round(weight, compact, f)


@compiled
def new_bounds(cells: int, channels: int, positions: int, features: int) -> Bounds:
    """Room for :func:`look`."""
    return Bounds(
        np.empty(cells, np.int64),
        np.empty((cells, channels + 1), np.uint32),
        np.empty(positions, np.int64),
        np.empty(positions, np.int64),
        np.empty(positions),
        np.empty(positions),
        np.empty(positions, np.bool_),
        np.empty((positions, features), np.int64),
    )


@compiled
def look(times: Array, weight: Array, compact: Bytes, steps: int, where: Window, bounds: Bounds) -> None:
    """What the number of spikes of an image (rows, columns, features) tells of the potentials."""
    taps = np.uint32(where.cells.shape[1])
    for cell in range(len(bounds.spikes)):
        spiking, count, first = (
            bounds.spiking[cell],
            np.uint64(0),
            np.uint32(0),
        )  # numba asks signed ones for their sign
        for time in times[cell // times.shape[1], cell % times.shape[1]]:
            spiking[count] = first
            count += np.uint64(time < steps)
            first += taps
        bounds.spikes[cell] = count
    low, step, high = compact.scale
    precision = np.finfo(weight.dtype).eps * max(abs(low), abs(high))  # of a sum, per term and addition
    for p in range(len(where.cells)):
        seen = 0
        for cell in where.cells[p]:
            seen += bounds.spikes[cell] if cell >= 0 else 0
        bounds.seen[p] = seen
        bounds.error[p] = 0.500001 * step * seen + precision * seen * seen
        bounds.reach[p] = high * seen + bounds.error[p]
    bounds.order[:] = np.argsort(-bounds.seen, kind="mergesort")
    bounds.added[:] = False


@compiled
def _largest(sums: Array, allowed: Array) -> int:
    largest = 0
    for f in range(sums.size):
        largest = max(largest, sums[f] if allowed[f] else 0)
    return largest


@compiled
def _add_rows(rounded: Array, inputs: Array, sums: Array) -> None:
    """Add up to _SEGMENT rows of bytes: eight at a time, so that sums are read and written once for eight additions."""
    short = np.zeros(sums.size, np.uint16)
    for e in range(0, inputs.size - 7, 8):
        a, b, c, d = rounded[inputs[e]], rounded[inputs[e + 1]], rounded[inputs[e + 2]], rounded[inputs[e + 3]]
        g, h, i, j = rounded[inputs[e + 4]], rounded[inputs[e + 5]], rounded[inputs[e + 6]], rounded[inputs[e + 7]]
        for f in range(short.size):
            four = np.uint16(a[f]) + np.uint16(b[f]) + np.uint16(c[f]) + np.uint16(d[f])
            short[f] += four + np.uint16(g[f]) + np.uint16(h[f]) + np.uint16(i[f]) + np.uint16(j[f])
    for e in range(inputs.size - inputs.size % 8, inputs.size):
        a = rounded[inputs[e]]
        for f in range(short.size):
            short[f] += a[f]
    for f in range(short.size):
        sums[f] += short[f]


@compiled
def _add_bytes(
    compact: Bytes, cells: Array, p: int, allowed: Array, to_beat: float, bounds: Bounds, inputs: Array
) -> None:
    """Add the bytes of the inputs of a position until no allowed feature can reach ``to_beat`` there any more."""
    (low, step, high), seen, sums, count = compact.scale, bounds.seen[p], bounds.sums[p], 0
    for tap in range(cells.size):
        if cells[tap] >= 0:
            spikes = bounds.spikes[cells[tap]]
            spiking, into = bounds.spiking[cells[tap], :spikes], inputs[count : count + spikes]
            for k in range(spikes):
                into[k] = spiking[k] + np.uint32(tap)
            count += spikes
    sums[:] = 0
    done = 0
    while done < seen and bounds.reach[p] >= to_beat:
        end = min(done + _SEGMENT, seen)
        _add_rows(compact.rounded, inputs[done:end], sums)
        done = end
        bounds.reach[p] = low * done + step * _largest(sums, allowed) + high * (seen - done) + bounds.error[p]
    bounds.added[p] = done == seen


@compiled
def _in_order(times: Array, cells: Array, steps: int, inputs: Array) -> int:
    """List the inputs (input feature, tap) that fired, in the order in which they are added; gives their number."""
    features, flat = times.shape[2], times.reshape(-1)
    taps, starts = np.empty((2, cells.size), np.uint64)
    inside = 0
    for tap in range(cells.size):
        if cells[tap] >= 0:
            taps[inside], starts[inside] = tap, cells[tap] * features
            inside += 1
    count, first, size = np.uint64(0), np.uint64(0), np.uint64(cells.size)
    for c in range(features):
        for i in range(inside):
            inputs[count] = first + taps[i]
            count += np.uint64(flat[starts[i] + np.uint64(c)] < steps)
        first += size
    return int(count)


@compiled
def _exact(weights: Array, inputs: Array, features: Array, potentials: Array) -> None:
    """Potentials of features at the last step: the weights (features, inputs) of inputs that fired, in their order.

    Four at a time, as each addition waits for the one before.
    """
    last = features.size - 1
    for i in range(0, features.size, 4):
        a, b = weights[features[i]], weights[features[min(i + 1, last)]]
        c, d = weights[features[min(i + 2, last)]], weights[features[min(i + 3, last)]]
        sum_a = sum_b = sum_c = sum_d = weights.dtype.type(0)
        for e in inputs:
            sum_a += a[e]
            sum_b += b[e]
            sum_c += c[e]
            sum_d += d[e]
        potentials[i], potentials[i + 1], potentials[i + 2], potentials[i + 3] = sum_a, sum_b, sum_c, sum_d


@compiled
def _bound(
    compact: Bytes, free: Array, allowed: Array, bounds: Bounds, cells: Array, inputs: Array, spare: int
) -> float:
    """Bound all potentials that may be the largest; gives what the largest one reaches at least.

    Positions are left out, or given up, where all stay ``spare`` errors below.
    """
    (low, step, _), to_beat = compact.scale, 0.0
    for p in bounds.order:
        enough = to_beat - spare * bounds.error[p]
        if free[p] and bounds.reach[p] >= enough:
            if bounds.added[p]:
                largest = _largest(bounds.sums[p], allowed)
                bounds.reach[p] = low * bounds.seen[p] + step * largest + bounds.error[p]
            else:
                _add_bytes(compact, cells[p], p, allowed, enough, bounds, inputs)
            to_beat = max(to_beat, bounds.reach[p] - 2 * bounds.error[p])
    return to_beat


@compiled
def _candidates(compact: Bytes, to_beat: float, free: Array, allowed: Array, bounds: Bounds, near: Array) -> int:
    """List the neurons (position, feature) that may reach ``to_beat``; gives their number."""
    (low, step, _), count = compact.scale, 0
    for p in bounds.order:
        if free[p] and bounds.reach[p] >= to_beat:
            known, sums = low * bounds.seen[p] + bounds.error[p], bounds.sums[p]
            for f in range(sums.size):
                if known + step * sums[f] >= to_beat and allowed[f]:
                    near[count] = p, f
                    count += 1
    return count


@compiled
def find_largest(
    times: Array,
    weight: Array,
    compact: Bytes,
    steps: int,
    where: Window,
    radius: int,
    active: Array,
    bounds: Bounds,
    winners: Array,
    spare: int,
) -> tuple[int, float]:
    """Fill the winners of an image among the active features.

    Gives their number, and what the potential of the last is at least, or 0 where there was room for more.
    """
    (positions, features), columns = bounds.sums.shape, where.shape[4, 1]
    weights, allowed, free = weight.reshape(features, -1), active.copy(), np.ones(positions, np.bool_)
    near, potentials = np.empty((bounds.sums.size, 2), np.int32), np.empty(features + 3)
    inputs = np.empty(weights.shape[1] + 1, np.uint32)
    for taken in range(len(winners)):
        to_beat = _bound(compact, free, allowed, bounds, where.cells, inputs, spare)
        count = _candidates(compact, to_beat, free, allowed, bounds, near)
        best, p, f, i = 0.0, -1, -1, 0
        if count == 1 and to_beat > 0:
            p, f = near[0]
            best, i = to_beat, 1
        while i < count:
            place, begin = near[i, 0], i
            while i < count and near[i, 0] == place:
                i += 1
            listed = _in_order(times, where.cells[place], steps, inputs)
            _exact(weights, inputs[:listed], near[begin:i, 1], potentials)
            for k in range(i - begin):
                feature = near[begin + k, 1]
                if potentials[k] > best or (potentials[k] == best > 0 and (feature, place) < (f, p)):
                    best, p, f = potentials[k], place, feature
        if f < 0:
            return taken, 0.0
        y, x = p // columns, p % columns
        winners[taken] = (f, y, x)
        allowed[f] = False
        for q in range(positions if radius > 0 else 0):
            free[q] = free[q] and (abs(q // columns - y) > radius or abs(q % columns - x) > radius)
    return len(winners), best


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
    bounds = new_bounds(times.shape[0] * times.shape[1], times.shape[2], len(where.cells), len(weight))
    look(times, weight, compact, steps, where, bounds)
    return find_largest(times, weight, compact, steps, where, radius, active, bounds, winners, 0)[0]


@compiled
def winners_ahead(
    times: Array,
    weight: Array,
    compact: Bytes,
    steps: int,
    where: Window,
    radius: int,
    active: Array,
    winners: Array,
    most: Array,
) -> float:
    """:func:`last_winners`, and what bounds all potentials: see :class:`Ahead`."""
    bounds = new_bounds(times.shape[0] * times.shape[1], times.shape[2], len(where.cells), len(weight))
    look(times, weight, compact, steps, where, bounds)
    least = find_largest(times, weight, compact, steps, where, radius, active, bounds, winners, _SPARE)[1]
    low, step, _ = compact.scale
    most[:] = -np.inf
    for p in range(len(where.cells)):
        known, sums, added = low * bounds.seen[p] + bounds.error[p], bounds.sums[p], bounds.added[p]
        for f in range(len(most)):
            most[f] = max(most[f], known + step * sums[f] if added else bounds.reach[p])
    return least


@compiled
def still_largest(
    times: Array,
    weight: Array,
    compact: Bytes,
    steps: int,
    where: Window,
    active: Array,
    winners: Array,
    least: float,
    most: Array,
) -> bool:
    """Whether an image certainly has the winners that were found ahead, after some features have learned."""
    rise = compact.rise
    for winner in winners:
        if winner[0] >= 0 and rise[winner[0]] > 0:
            return False
    near, count = np.empty(len(rise), np.int64), 0
    for f in range(len(rise)):
        if rise[f] > 0 and active[f] and most[f] + rise[f] >= least:
            near[count] = f
            count += 1
    if count == 0 or len(where.cells) > 1:  # adding features at all positions takes as long as a new search
        return count == 0
    inputs, potentials = np.empty(where.cells.size * times.shape[2] + 1, np.uint32), np.empty(count + 3)
    listed = _in_order(times, where.cells[0], steps, inputs)
    _exact(weight.reshape(len(weight), -1), inputs[:listed], near[:count], potentials)
    return bool(potentials[:count].max() < least)


@compiled
def _rise(old: Array, new: Array) -> float:
    """By how much potentials may grow: sixteen sums at a time, as each addition waits for the one before."""
    rise = np.zeros(16)
    for i in range(0, new.size - 15, 16):
        for k in range(16):
            rise[k] += max(new[i + k] - old[i + k], 0)
    for i in range(new.size - new.size % 16, new.size):
        rise[0] += max(new[i] - old[i], 0)
    return float(rise.sum())


@compiled
def absorb_bytes(weight: Array, compact: Bytes, f: int) -> None:
    """Round what feature ``f`` learned; where that leaves the scale, double the scale and round all."""
    low, _, high = compact.scale
    old, new = compact.known[f].reshape(-1), weight[f].reshape(-1)
    outside = 0
    for i in range(new.size):
        outside += int(new[i] < low) + int(new[i] > high)
    compact.rise[f] += max(_rise(old, new), 1e-300)
    old[:] = new
    if outside > 0:
        smallest, largest = min(low, new.min()), max(high, new.max())
        lowest, highest = compact.bounds
        compact.scale[0] = low if smallest == low else min(smallest, max(lowest, 2 * low - high))
        compact.scale[2] = high if largest == high else max(largest, min(highest, 2 * high - low))
        round_all(compact.known, compact)
    else:
        _round(weight, compact, f)


@compiled
def narrow_bytes(compact: Bytes, lower: float, upper: float) -> None:
    """A scale within the bounds, where all weights are now."""
    compact.bounds[0], compact.bounds[1] = lower, upper
    for end in (0, 2):
        compact.scale[end] = min(max(compact.scale[end], lower), upper)
    round_all(compact.known, compact)
