"""Layers with a threshold: the clock goes from step to step, and stops where nothing can change any more.

:func:`advance` is the clock: neurons hear the spikes of some steps, and those that a spike touched are compared with
their limits. Where answers are wanted, a row of neurons goes through all steps before the next one does, so that it
stays in the cache; where winners are, all rows go through one step before the next, so that the clock can stop.
"""

from typing import Any, NamedTuple

import numpy as np
from numba.extending import overload

from spyketorch._winners import Choice
from spyketorch.kernels._by_type import by_type
from spyketorch.kernels._cache import compiled, inlined
from spyketorch.kernels.loops.choose import take_winners
from spyketorch.kernels.loops.layout import LANES, Array, Taps
from spyketorch.kernels.loops.vectors import add_lanes
from spyketorch.neurons import IntegrateAndFire


class Spikes(NamedTuple):
    """The spikes (row, column, feature) of an image: ``events[start[t] : start[t + 1]]`` are of step t.

    Those of a step are in the order of rows; ``next[t]`` is the first that no row has gone past so far.
    """

    start: Array
    events: Array
    next: Array


class Neurons(NamedTuple):
    """Rows of neurons: what they heard, potentials, the steps at which they fired, and the potentials then, if wanted.

    All are (rows, columns * features); neurons fire above their ``limit`` (columns * features,) from step ``opens`` on.
    Those that integrate and fire have one array for what they heard and for potentials; ``before`` is what a row had
    heard a step ago. ``firing`` (rows, 2) tells where, from begin to end, some fired when the clock stopped.
    """

    limit: Array
    opens: int
    before: Array
    heard: Array
    potentials: Array
    first: Array
    values: Array
    firing: Array


@compiled
def room(images: Array, steps: int) -> Spikes:
    """Room for the spikes of an image (rows, columns, features)."""
    return Spikes(np.empty(steps + 2, np.int64), np.empty((images.size, 3), np.int32), np.empty(steps, np.int64))


@compiled
def sort_spikes(times: Array, steps: int, spikes: Spikes) -> None:
    """Sort the spikes of an image by time, and those of a step by row, column and feature."""
    height, width, channels = times.shape
    start, events = spikes.start, spikes.events
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
    spikes.next[:] = start[:steps]


@compiled
def add(potentials: Array, weight: Array, features: int, taps: Taps, y: int, x: int) -> None:
    """Add the weights of an input at (y, x), (kernel * features,), to the potentials (rows, columns * features)."""
    row_start, row_taps, run_start, runs = taps.row_start, taps.row_taps, taps.run_start, taps.runs
    for a in range(row_start[y], row_start[y + 1]):
        row, first = potentials[row_taps[a, 0]], row_taps[a, 1] * taps.width
        for b in range(run_start[x], run_start[x + 1]):
            length = runs[b, 2] * features
            target, source = runs[b, 0] * features, (first + runs[b, 1]) * features
            added, to = weight[source : source + length], row[target : target + length]
            for f in range(length):
                to[f] += added[f]


@by_type
def step(neuron: Any, potential: float, before: float, heard: float) -> float:
    """The potential of a neuron at a time step."""
    now: float = neuron.step(potential, before, heard)
    return now


def moves(neuron: Any) -> bool:
    """Whether potentials are other than what was heard, and may change where no spike comes; known when compiled."""
    return type(neuron) is not IntegrateAndFire


@overload(moves, strict=False)
def _moves(neuron: Any) -> Any:
    other = neuron.instance_class is not IntegrateAndFire
    return lambda neuron: other


@compiled
def neurons_of(
    neuron: Any, rows: int, columns: int, threshold: Array, opens: int, images: Array, values: bool
) -> Neurons:
    """Room for rows of neurons with the threshold of each feature, and the type of times that the images have."""
    size, limit = columns * len(threshold), np.empty((columns, len(threshold)), threshold.dtype)
    limit[:] = threshold
    heard = np.empty((rows, size), threshold.dtype)
    return Neurons(
        limit.reshape(-1),
        opens,
        np.empty(size, threshold.dtype),
        heard,
        np.empty((rows, size), threshold.dtype) if moves(neuron) else heard,
        np.empty((rows, size), images.dtype),
        np.empty((rows if values else 0, size), threshold.dtype),
        np.zeros((rows, 2), np.uint64),
    )


@compiled
def rest(neuron: Any, neurons: Neurons, steps: int) -> None:
    """Nothing has been heard, nobody has fired."""
    heard, potential = neurons.heard.reshape(-1), neurons.potentials.reshape(-1)
    first, value = neurons.first.reshape(-1), neurons.values.reshape(-1)
    for f in range(heard.size):
        heard[f] = 0
    if moves(neuron):
        for f in range(potential.size):
            potential[f] = 0
    for f in range(first.size):
        first[f] = steps
    for f in range(value.size):
        value[f] = 0


@inlined
def advance(
    neuron: Any, neurons: Neurons, weight: Array, taps: Taps, spikes: Spikes, rows: range, when: range, stops: bool
) -> int:
    """Let the neurons, which are those ``rows`` of the map, hear the spikes of the steps ``when``.

    A row hears its spikes in the order in which they are sorted, whatever rows and steps are called for together. The
    clock may stop behind the first step at which somebody fires; gives that step, or the end.
    """
    size = np.uint64(neurons.limit.size)
    potential, first, limit = neurons.potentials.reshape(-1), neurons.first.reshape(-1), neurons.limit
    heard, before, opens = neurons.heard.reshape(-1), neurons.before, neurons.opens
    value, firing, source = neurons.values.reshape(-1), neurons.firing, weight.reshape(-1)
    start, events, following = spikes.start, spikes.events, spikes.next
    kernel_rows, reached, run_start, runs = taps.kernel_rows, taps.heard, taps.run_start, taps.runs
    width, per_input = np.uint64(taps.width), np.uint64(weight.shape[1])
    lanes = per_input // (width * np.uint64(taps.height))
    for t in when:
        stop = start[t + 1]
        if start[t] == stop and t != opens and not moves(neuron):
            continue
        now, anybody = first.dtype.type(t), False
        for y in rows:
            row, at = y - rows.start, following[t]
            base = np.uint64(row) * size
            while at < stop and events[at, 0] < reached[y, 0]:
                at += 1
            following[t] = at
            low, high = size, np.uint64(0)
            if moves(neuron):
                for f in range(size):
                    before[f] = heard[base + f]
            for e in range(np.uint64(at), np.uint64(stop)):
                below, x = np.uint64(events[e, 0]), np.uint64(events[e, 1])
                if below >= np.uint64(reached[y, 1]):
                    break
                if kernel_rows[y, below] < 0:
                    continue
                place = np.uint64(events[e, 2]) * per_input + np.uint64(kernel_rows[y, below]) * width * lanes
                for b in range(np.uint64(run_start[x]), np.uint64(run_start[x + np.uint64(1)])):
                    column, length = np.uint64(runs[b, 0]) * lanes, np.uint64(runs[b, 2]) * lanes
                    to, added = base + column, place + np.uint64(runs[b, 1]) * lanes
                    for f in range(np.uint64(0), length, np.uint64(LANES)):
                        add_lanes(heard, to + f, source, added + f)
                    low, high = min(low, column), max(high, column + length)
            if moves(neuron):
                for f in range(size):
                    potential[base + f] = step(neuron, potential[base + f], before[f], heard[base + f])
            if t < opens:
                low, high = size, np.uint64(0)
            elif t == opens or moves(neuron):  # whoever is above the limit at once
                low, high = np.uint64(0), size
            for f in range(low, high):
                then = first[base + f]
                first[base + f] = min(then, now if potential[base + f] > limit[f] else then)
            if value.size > 0:
                for f in range(low, high):
                    value[base + f] = potential[base + f] if first[base + f] == now else value[base + f]
            if stops:
                fires = False
                for f in range(low, high):
                    fires |= first[base + f] == now
                firing[row, 0], firing[row, 1] = low, high if fires else low
                anybody |= fires
        if anybody:
            return t
    return when.stop


@compiled
def convolution_fire(
    times: Array,
    neuron: Any,
    weight: Array,
    threshold: Array,
    opens: int,
    steps: int,
    taps: Taps,
    fired: Array,
    values: Array,
    begin: int,
    end: int,
) -> None:
    """First-spike times of the rows begin..end - 1 and, where ``values`` has room, the potentials there.

    Rows are counted through all images. ``threshold`` is filled up as the weights are, with thresholds that nothing
    reaches; nobody fires before ``opens``.
    """
    rows, columns, features = fired.shape[1:]
    lanes, spikes = len(threshold), room(times[0], steps)
    neurons = neurons_of(neuron, 1, columns, threshold, opens, fired, len(values) > 0)
    first, value = neurons.first.reshape(-1), neurons.values.reshape(-1)
    for n in range(begin // rows, -(-end // rows)):
        sort_spikes(times[n], steps, spikes)
        for y in range(max(begin - n * rows, 0), min(end - n * rows, rows)):
            rest(neuron, neurons, steps)
            advance(neuron, neurons, weight, taps, spikes, range(y, y + 1), range(steps), False)
            for x in range(columns):
                out, part = fired[n, y, x], first[x * lanes : x * lanes + features]
                for f in range(features):
                    out[f] = part[f]
                if len(values) > 0:
                    at_first, then = values[n, y, x], value[x * lanes : x * lanes + features]
                    for f in range(features):
                        at_first[f] = then[f]


@compiled
def fire(neurons: Neurons, features: int, now: int, choice: Choice, candidates: Array, strength: Array) -> int:
    """Take those who fired when the clock stopped as candidates; how many there are.

    Where features inhibit each other, only the strongest of a place is one, the lowest of equals, and nobody fires
    there any more.
    """
    potential, first, limit, firing, count = neurons.potentials, neurons.first, neurons.limit, neurons.firing, 0
    step = first.dtype.type(now)
    for y in range(len(firing)):
        for at in range(firing[y, 0], firing[y, 1], features):
            place, fires = count, False
            for f in range(at, at + features):
                fires |= first[y, f] == step
            if not fires:
                continue
            for f in range(at, at + features):
                if first[y, f] == step:
                    above = potential[y, f] - limit[f] if choice.excess else potential[y, f]
                    if count == place or not choice.inhibit:
                        candidates[count, 0], candidates[count, 1], candidates[count, 2] = f - at, y, at // features
                        strength[count] = above
                        count += 1
                    elif above > strength[place]:
                        candidates[place, 0], strength[place] = f - at, above
            if choice.inhibit:
                for f in range(at, at + features):
                    first[y, f] = 0
    return count


@compiled
def first_winners(
    times: Array,
    neuron: Any,
    weight: Array,
    threshold: Array,
    opens: int,
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
    features, (rows, columns) = len(threshold), size
    limits = np.full(features, np.inf, threshold.dtype)
    for f in range(len(active)):
        limits[f] = threshold[f] if active[f] else np.inf
    neurons, spikes = neurons_of(neuron, rows, columns, limits, opens, times, False), room(times, steps)
    sort_spikes(times, steps, spikes)
    rest(neuron, neurons, steps)
    candidates = np.empty((rows * columns * (1 if choice.inhibit else features), 3), np.int64)
    strength = np.empty(len(candidates), weight.dtype)
    taken, t = 0, -1
    while taken < len(winners):
        t = advance(neuron, neurons, weight, taps, spikes, range(rows), range(t + 1, steps), True)
        if t == steps:
            break
        count = fire(neurons, features, t, choice, candidates, strength)
        before = taken
        taken = take_winners(candidates, strength, count, winners, taken, choice.radius)
        first_spike[before:taken] = t
    return taken


@compiled
def one_step(neuron: Any, number: Array) -> float:
    """A step of a neuron alone: whether numba compiles it."""
    number[0] = step(neuron, number[0], number[0], number[0])
    return float(number[0])
