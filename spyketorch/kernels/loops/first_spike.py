"""Neurons that each hear all inputs, fire between the steps, and are taught when to.

Weights are laid out (inputs, neurons), neurons filled up with weights of 0 to whole vectors, and held as ``rows`` times
the ``scale`` of each neuron: to bring a neuron to another sum of weights is to change one number. What counts as a
weight is the product, rounded, so that it is the same whether it has been multiplied out or not.
"""

from typing import Any, NamedTuple

import numpy as np

from spyketorch._plasticity import Supervision
from spyketorch.kernels._by_type import by_type
from spyketorch.kernels._cache import compiled, dividing
from spyketorch.kernels.loops.clock import step
from spyketorch.kernels.loops.layout import LANES, Array
from spyketorch.kernels.loops.vectors import ROWS, teach_lanes

PARTS = 4


class Deciders(NamedTuple):
    """Neurons of one kind, (neurons,) each: the potential that each fires above, and what they weigh inputs by.

    Those that fill up vectors have a limit that nothing reaches. Nobody fires later than ``horizon``.
    """

    neuron: Any
    rows: Array
    scale: Array
    limit: Array
    steps: int
    horizon: float


class Ordered(NamedTuple):
    """The inputs of a sample in the order of their times: ``inputs[start[t] : start[t + 1]]`` fire at step t.

    Those that never fire are the last. They are counted in parts, (steps + 1, PARTS), so that no count waits for
    another.
    """

    start: Array
    inputs: Array
    counts: Array


@by_type
def response(neuron: Any, age: float) -> float:
    """The potential that an input of weight 1 adds so long after it fired."""
    added: float = neuron.response(age)
    return added


@compiled
def room(inputs: int, steps: int) -> Ordered:
    """Room for the inputs of a sample."""
    return Ordered(np.empty(steps + 1, np.int64), np.empty(inputs, np.int32), np.empty((steps + 1, PARTS), np.uint32))


@compiled
def _step(time: int, steps: int) -> Any:
    return np.uint64(min(max(time, 0), steps))


@compiled
def sort_inputs(times: Array, steps: int, ordered: Ordered) -> None:
    """Sort the inputs of a sample by time, those of one step by their index."""
    start, inputs, counts = ordered
    size = np.uint64(-(-len(times) // PARTS))
    counts[:] = 0
    for k in range(size):
        for part in range(PARTS):
            i = np.uint64(part) * size + k
            if i < np.uint64(len(times)):
                counts[_step(times[i], steps), part] += np.uint32(1)
    at = np.uint32(0)
    for t in range(steps + 1):
        start[t] = at
        for part in range(PARTS):
            count = counts[t, part]
            counts[t, part] = at
            at += count
    for k in range(size):
        for part in range(PARTS):
            i = np.uint64(part) * size + k
            if i < np.uint64(len(times)):
                t = _step(times[i], steps)
                inputs[np.uint64(counts[t, part])] = i
                counts[t, part] += np.uint32(1)


@compiled
def hear(rows: Array, scale: Array, inputs: Array, heard: Array) -> None:
    """Add the weights of some inputs to what all neurons have heard, one input after the other."""
    count, whole = len(scale), len(inputs) // 4 * 4
    for e in range(0, whole, 4):  # four at a time: what neurons heard is read and written once
        a, b, c, d = rows[inputs[e]], rows[inputs[e + 1]], rows[inputs[e + 2]], rows[inputs[e + 3]]
        for f in range(count):
            heard[f] = (((heard[f] + scale[f] * a[f]) + scale[f] * b[f]) + scale[f] * c[f]) + scale[f] * d[f]
    for e in range(whole, len(inputs)):
        a = rows[inputs[e]]
        for f in range(count):
            heard[f] += scale[f] * a[f]


@dividing
def fire_one(deciders: Deciders, ordered: Ordered, limit: Array, fired: Array, potential: Array) -> None:
    """Exact times at which neurons first cross ``limit``, inf for never, and their potentials in the end.

    From step to step a potential moves in a straight line, and after the last one as in a step without input.
    """
    neuron, rows, scale, _, steps, horizon = deciders
    start, inputs, _ = ordered
    count = len(scale)
    heard, before = np.zeros(count, rows.dtype), np.zeros(count, rows.dtype)
    never, last = fired.dtype.type(np.inf), fired.dtype.type(steps - 1)
    potential[:] = 0
    fired[:] = never
    for t in range(steps):
        for f in range(count):
            before[f] = heard[f]
        hear(rows, scale, inputs[start[t] : start[t + 1]], heard)
        now_at = fired.dtype.type(t)
        for f in range(count):
            was = potential[f]
            now = step(neuron, was, before[f], heard[f])
            exact = now_at - (now - limit[f]) / (now - was)
            fired[f] = exact if now > limit[f] and fired[f] == never else fired[f]
            potential[f] = now
    for f in range(count):
        rise = step(neuron, potential[f], heard[f], heard[f]) - potential[f]
        exact = last + (limit[f] - potential[f]) / rise
        if fired[f] == never and rise > 0 and exact <= horizon:
            fired[f] = exact
        potential[f] += rise * (horizon - (steps - 1))


@compiled
def fire(times: Array, deciders: Deciders, fired: Array, potential: Array, begin: int, end: int) -> None:
    """Exact first-spike times and last potentials of samples begin..end - 1 of times (samples, inputs)."""
    neurons, count = fired.shape[1], len(deciders.scale)
    ordered = room(times.shape[1], deciders.steps)
    first, last = np.empty(count, fired.dtype), np.empty(count, fired.dtype)
    for n in range(begin, end):
        sort_inputs(times[n], deciders.steps, ordered)
        fire_one(deciders, ordered, deciders.limit, first, last)
        fired[n] = first[:neurons]
        potential[n] = last[:neurons]


@compiled
def _raised(fired: Array, right: int, supervision: Supervision, limit: Array, lifted: Array) -> None:
    """Raise the threshold of the target neuron that fired first for its own class, lower those of its rivals."""
    begin, count = right * supervision.per_class, supervision.per_class - supervision.non_target
    first = begin
    for f in range(begin, begin + count):
        if fired[f] < fired[first]:
            first = f
    if fired[first] == np.inf:
        return
    for f in range(begin, begin + count):
        share = (count - 1) / count if f == first else -1 / count
        lifted[f] = max(lifted[f] + supervision.lift * share * limit[f], limit[f])


@compiled
def _winners(fired: Array, potential: Array, per_class: int, winners: Array) -> int:
    """The neuron of each class that fires first, then the one with the larger potential; gives the class that does."""
    best = 0
    for c in range(len(winners)):
        winners[c] = c * per_class
        for f in range(c * per_class, (c + 1) * per_class):
            w = winners[c]
            if fired[f] < fired[w] or (fired[f] == fired[w] and potential[f] > potential[w]):
                winners[c] = f
        f, w = winners[c], winners[best]
        if fired[f] < fired[w] or (fired[f] == fired[w] and potential[f] > potential[w]):
            best = c
    return best


class Changes(NamedTuple):
    """How weights change: by the step at which an input fires, (steps + 1, neurons), the last for never; and by what it
    adds on average, times ``common`` (neurons,)."""

    by_step: Array
    common: Array


@compiled
def _changes(
    deciders: Deciders, supervision: Supervision, right: int, winners: Array, fired: Array, changes: Changes
) -> None:
    """The changes of the winners; those of all others are 0."""
    steps, horizon, classes, total, heard = deciders.steps, deciders.horizon, len(winners), 0.0, 0
    for f in winners:
        if fired[f] < np.inf:
            total += fired[f]
            heard += 1
    mean = (total / heard if heard > 0 else horizon) / steps
    changes.by_step[:] = 0
    changes.common[:] = 0
    for c in range(classes):
        f = winners[c]
        early = c == right and f % supervision.per_class < supervision.per_class - supervision.non_target
        target = mean - supervision.gap * (classes - 1) / classes if early else mean + supervision.gap / classes
        time = min(fired[f], horizon)
        error = time / steps - target
        idle = 0.0 if supervision.covariance else error * supervision.ltd
        for t in range(steps):
            helped = response(deciders.neuron, time - t)
            changes.by_step[t, f] = error * supervision.ltp * helped if helped > 0 else idle
        changes.by_step[steps, f] = idle
        changes.common[f] = error * supervision.ltd if supervision.covariance else 0.0


@compiled
def _apply(
    times: Array, deciders: Deciders, changes: Changes, expected: Array, low: Array, high: Array, sums: Array
) -> None:
    """Change all weights, within bounds; ``sums`` are those of each neuron afterwards, weighed by ``expected``."""
    rows, scale, steps, (by_step, common) = deciders.rows, deciders.scale, deciders.steps, changes
    whole, lanes = len(rows) // ROWS * ROWS, np.uint64(len(scale))
    weights, flat, neurons = rows.reshape(-1), by_step.reshape(-1), (scale, common, low, high, sums)
    sums[:] = 0
    for i in range(0, whole, ROWS):
        first = np.uint64(i) * lanes
        at = first, first + lanes, first + np.uint64(2) * lanes, first + np.uint64(3) * lanes
        where = (
            _step(times[i], steps) * lanes,
            _step(times[i + 1], steps) * lanes,
            _step(times[i + 2], steps) * lanes,
            _step(times[i + 3], steps) * lanes,
        )
        shares = expected[i], expected[i + 1], expected[i + 2], expected[i + 3]
        for f in range(np.uint64(0), lanes, np.uint64(LANES)):
            teach_lanes(weights, at, flat, where, shares, neurons, f)
    for i in range(whole, len(rows)):
        row, change, share = rows[i], by_step[_step(times[i], steps)], expected[i]
        for f in range(len(scale)):
            weight = min(max(scale[f] * row[f] + change[f] + share * common[f], low[f]), high[f])
            row[f] = weight
            sums[f] += share * weight


@compiled
def learn(
    times: Array,
    labels: Array,
    deciders: Deciders,
    supervision: Supervision,
    lifted: Array,
    expected: Array,
    total: Array,
    winners: Array,
) -> None:
    """Learn samples (samples, inputs) in turn, each with the weights that the one before left.

    ``lifted`` (neurons,) are the thresholds of target neurons for their own class; neurons keep the sums ``total``
    (neurons,) of their weights, weighed by ``expected`` (inputs,). ``winners`` (samples, 1 + classes) become the class
    that fired first, and the winner of each class.
    """
    rows, scale, limit = deciders.rows, deciders.scale, deciders.limit
    count, per_class = len(scale), supervision.per_class
    ordered = room(len(rows), deciders.steps)
    fired, potential, now = np.empty_like(scale), np.empty_like(scale), np.empty_like(scale)
    low, high, sums = np.empty_like(scale), np.empty_like(scale), np.empty_like(scale)
    changes = Changes(np.empty((deciders.steps + 1, count), rows.dtype), np.empty_like(scale))
    lower, upper = rows.dtype.type(supervision.lower_bound), rows.dtype.type(supervision.upper_bound)
    for n in range(len(times)):
        right, chosen = labels[n], winners[n, 1:]
        now[:] = limit
        for f in range(right * per_class, (right + 1) * per_class - supervision.non_target):
            now[f] = lifted[f]
        sort_inputs(times[n], deciders.steps, ordered)
        fire_one(deciders, ordered, now, fired, potential)
        winners[n, 0] = _winners(fired, potential, per_class, chosen)
        _changes(deciders, supervision, right, chosen, fired, changes)
        low[:], high[:] = -np.inf, np.inf
        for f in chosen:
            low[f], high[f] = lower, upper
        _apply(times[n], deciders, changes, expected, low, high, sums)
        scale[:] = 1
        for f in chosen:
            if sums[f] > 0:
                scale[f] = total[f] / sums[f]
        if supervision.lift > 0:
            _raised(fired, right, supervision, limit, lifted)
    for row in rows:
        for f in range(count):
            row[f] *= scale[f]
    scale[:] = 1
