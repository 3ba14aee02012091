"""Layers with a threshold: the clock goes from step to step, and stops where nothing can change any more."""

import numpy as np

from spyketorch._winners import Choice
from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.choose import strongest, take_winners
from spyketorch.kernels.loops.layout import Array, Taps


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
def first_winners(
    times: Array,
    weight: Array,
    threshold: Array,
    steps: int,
    taps: Taps,
    size: Array,
    choice: Choice,
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
    closed = np.zeros((rows, columns, 1 if choice.inhibit else features), np.bool_)
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
                if choice.inhibit:
                    if not closed[y, x, 0]:
                        f = strongest(potential, limits[x], choice.excess)
                        if f >= 0:
                            closed[y, x, 0] = True
                            candidates[count] = (f, y, x)
                            strength[count] = potential[f] - limits[x, f] if choice.excess else potential[f]
                            count += 1
                else:
                    for f in range(features):
                        if potential[f] > limits[x, f] and not closed[y, x, f]:
                            closed[y, x, f] = True
                            candidates[count] = (f, y, x)
                            strength[count] = potential[f] - limits[x, f] if choice.excess else potential[f]
                            count += 1
        before = taken
        taken = take_winners(candidates, strength, count, winners, taken, choice.radius)
        first_spike[before:taken] = t
    return taken
