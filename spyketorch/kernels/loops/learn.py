"""Learning, image after image: each meets the weights that the one before left."""

from typing import NamedTuple

import numpy as np

from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.clock import first_winners
from spyketorch.kernels.loops.last_step import Bytes, follow, last_winners, round_all
from spyketorch.kernels.loops.layout import Array, Taps, Window


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
            taken = first_winners(
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
            taken = last_winners(times[n], weight, compact, steps, where, radius, allowed, found)
            outcome = _outcome(rule, n, found[0, 0])
            known = turn == 0 and rule.correction > 0 and outcome == 0
            for k in range(0 if known else taken):
                f = found[k, 0]
                before = weight[f].copy()
                _learn(weight, times[n], found[k], steps - 1, outcome, rule, where.shape)
                follow(weight, before, compact, f, lower, upper)
            if n == 0 and turn == 0 and _clamp(weight, lower, upper):
                for end in (0, 2):
                    compact.scale[end] = min(max(compact.scale[end], lower), upper)
                round_all(weight, compact)
            if taken == 0 or rule.correction == 0 or outcome == 0:
                break
            _silence(rule, n, found[0, 0], allowed)
            found = np.full_like(found, -1)
