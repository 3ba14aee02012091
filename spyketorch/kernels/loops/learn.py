"""Deciding and learning, image after image: each meets the weights that the one before left."""

from typing import Any, NamedTuple

import numpy as np

from spyketorch._plasticity import Inputs, Response, Synapse
from spyketorch._teacher import Teacher
from spyketorch._winners import Choice
from spyketorch.kernels._by_type import by_type
from spyketorch.kernels._cache import compiled, dividing
from spyketorch.kernels.loops.clock import convolution_fire, first_winners
from spyketorch.kernels.loops.last_step import Ahead, Bytes, last_winners, still_largest, winners_ahead
from spyketorch.kernels.loops.layout import Array, Rows, Taps, Window, first_input


@compiled
def most_heard(times: Array, windows: Array, channels: int, steps: int) -> float:
    """The largest share of what a neuron sees, so many features in cells of an image, that fired."""
    cells, most = times.reshape(-1, times.shape[2]), 0
    for first in range(0, times.shape[2], channels):
        for seen in windows:
            heard = 0
            for cell in seen:
                for c in range(first, first + channels if cell >= 0 else first):
                    heard += int(cells[cell, c] < steps)
            most = max(most, heard)
    return float(most / (channels * windows.shape[1]))


class ByClock(NamedTuple):
    """A layer that goes from step to step.

    ``threshold`` is filled up to whole vectors with numbers that nothing reaches; nobody fires before step ``opens``.
    """

    neuron: Any
    weight: Array
    laid_out: Rows
    threshold: Array
    opens: int
    steps: int
    window: Window
    taps: Taps

    def search(self, times: Array, choice: Choice, active: Array, winners: Array, post: Array) -> int:
        """Fill the winners of an image (rows, columns, features), and when they fired; how many there are."""
        return first_winners(
            times,
            self.neuron,
            self.laid_out.rows,
            self.threshold,
            self.opens,
            self.steps,
            self.taps,
            self.window.shape[4],
            choice,
            active,
            winners,
            post,
        )

    def fire(self, images: Array, fired: Array, values: Array, begin: int, end: int) -> None:
        """First-spike times of the rows begin..end - 1 of all images, and potentials then where ``values`` has room."""
        layer = self.neuron, self.laid_out.rows, self.threshold, self.opens, self.steps, self.taps
        convolution_fire(images, *layer, fired, values, begin, end)

    def stands(self, times: Array, active: Array, winners: Array, least: float, most: Array) -> bool:
        """Nothing bounds when others fire: winners are not found ahead."""
        return False

    def adapt(self, thresholds: Any, times: Array, winners: Array, post: Array) -> None:
        """Let the thresholds follow the answer to an image."""
        heard = 1.0 if len(winners) > 0 else most_heard(times, self.window.cells, self.weight.shape[1], self.steps)
        response = Response(winners, post, heard, self.steps)
        adapt(thresholds, self.threshold[: len(self.weight)], response)


class AtLastStep(NamedTuple):
    """A layer in which only the last time step counts."""

    weight: Array
    laid_out: Bytes
    steps: int
    window: Window

    def search(self, times: Array, choice: Choice, active: Array, winners: Array, post: Array) -> int:
        """As of a layer with a threshold."""
        post[:] = self.steps - 1
        return last_winners(times, self.weight, self.laid_out, self.steps, self.window, choice.radius, active, winners)

    def stands(self, times: Array, active: Array, winners: Array, least: float, most: Array) -> bool:
        """Whether winners that were found ahead are certainly those of an image now."""
        return still_largest(times, self.weight, self.laid_out, self.steps, self.window, active, winners, least, most)

    def adapt(self, thresholds: Any, times: Array, winners: Array, post: Array) -> None:
        """There are none."""


class Rule(NamedTuple):
    """What is learned: ``rates`` (2, features, 2) are LTP and LTD after reward and after punishment.

    ``bounds`` are (lower, upper) in the weights' type; ``twin`` says how weights change, ``thresholds`` how they adapt.
    """

    rates: Array
    bounds: Array
    twin: Any
    thresholds: Any


class Fixed(NamedTuple):
    """Thresholds that stay."""

    excess: bool = False

    def adapt(self, threshold: Array, response: Response) -> None:
        """Nothing."""


class Found(NamedTuple):
    """``winners`` (images, kwta, 3), rows of -1 where there are fewer, and the steps ``post`` at which they fired."""

    winners: Array
    post: Array

    def of_some(self, images: slice) -> "Found":
        """Those of some of the images."""
        return Found(self.winners[images], self.post[images])


Layer = ByClock | AtLastStep


@by_type
def search(layer: Layer, times: Array, choice: Choice, active: Array, winners: Array, post: Array) -> int:
    """Fill the winners of an image (rows, columns, features), and when they fired; how many there are."""
    return layer.search(times, choice, active, winners, post)


@by_type
def stands(layer: Layer, times: Array, active: Array, winners: Array, least: float, most: Array) -> bool:
    """Whether winners that were found ahead are certainly those of an image now."""
    return layer.stands(times, active, winners, least, most)


@by_type
def adapt(part: Any, *response: Any) -> None:
    """Let thresholds follow an answer: a layer's by (thresholds, times, winners, post), or as the protocol says."""
    part.adapt(*response)


@by_type
def change(twin: Any, synapse: Synapse) -> float:
    """The change of a weight."""
    changed: float = twin.change(synapse)
    return changed


@by_type
def absorb(laid_out: Rows | Bytes, weight: Array, f: int) -> None:
    """Take over the weights of a feature as they are now."""
    laid_out.absorb(weight, f)


@by_type
def extent(laid_out: Rows | Bytes) -> tuple[float, float]:
    """Where all weights lie."""
    return laid_out.extent()


@by_type
def narrow(laid_out: Rows | Bytes, lower: float, upper: float) -> None:
    """All weights lie within these bounds now, and will."""
    laid_out.narrow(lower, upper)


@compiled
def sync(weight: Array, laid_out: Rows | Bytes) -> int:
    """Take over all weights that are not those known; how many features had such, or -1 where one is not finite."""
    known, changed = laid_out.known, 0
    for f in range(len(weight)):
        new, old, other = weight[f].reshape(-1), known[f].reshape(-1), False
        for i in range(new.size):
            other |= new[i] != old[i]
        if other:
            for i in range(new.size):
                if not np.isfinite(new[i]):
                    return -1
            absorb(laid_out, weight, f)
            changed += 1
    return changed


@compiled
def find(images: Array, layer: Layer, choice: Choice, active: Array, found: Found, begin: int, end: int) -> None:
    """The winners of the images begin..end - 1, with the weights as they stand."""
    for n in range(begin, end):
        search(layer, images[n], choice, active[n], found.winners[n], found.post[n])


@compiled
def find_ahead(
    images: Array, layer: AtLastStep, choice: Choice, active: Array, found: Found, ahead: Ahead, begin: int, end: int
) -> None:
    """:func:`find`, and what lets winners stand while others learn."""
    weight, compact, steps, window = layer
    for n in range(begin, end):
        found.post[n] = steps - 1
        ahead.least[n] = winners_ahead(
            images[n], weight, compact, steps, window, choice.radius, active[n], found.winners[n], ahead.most[n]
        )


@dividing
def _rising(reached: float, pre: int, post: int) -> float:
    """Potential at step ``post`` of an input that rises evenly to what it has reached at ``pre``."""
    return reached * (post + 1) / (pre + 1)


@compiled
def _update(layer: Layer, inputs: Inputs, n: int, winner: Array, post: int, outcome: int, rule: Rule) -> None:
    """Update the weights of a winner (feature, row, column) that fired at step ``post`` of image n."""
    (f, row, column), weight = winner, layer.weight
    times, told = inputs.times[n], len(inputs.potentials) > 0
    (ltp, ltd), (lower, upper) = rule.rates[outcome, f], rule.bounds
    kernel, stride, padding, dilation = layer.window.shape[:4]
    channels, steps = weight.shape[1], layer.steps
    first = first_input(f, len(weight), channels, times.shape[2])
    for i in range(kernel[0]):
        y = row * stride[0] - padding[0] + i * dilation[0]
        for j in range(kernel[1]):
            x = column * stride[1] - padding[1] + j * dilation[1]
            inside = 0 <= y < times.shape[0] and 0 <= x < times.shape[1]
            for c in range(channels):
                pre, was = times[y, x, first + c] if inside else steps, weight[f, c, i, j]
                reached, causal = 1.0, inside and pre <= post
                if told and pre == steps:
                    reached = inputs.potentials[n, y, x, first + c] if inside else 0.0
                potential = 1.0 if causal else _rising(reached, pre, post)
                synapse = Synapse(was, causal, pre, post, ltp, ltd, lower, upper, f, c, i, j, potential)
                weight[f, c, i, j] = min(max(was + change(rule.twin, synapse), lower), upper)
    absorb(layer.laid_out, weight, f)


@compiled
def clamp(layer: Layer, lower: float, upper: float) -> None:
    """Clamp all weights, unless they are known to lie within the bounds."""
    weight, (low, high) = layer.weight, extent(layer.laid_out)
    if low >= lower and high <= upper:
        return
    for f in range(len(weight)):
        own, changed = weight[f].reshape(-1), False
        for i in range(own.size):
            clamped = min(max(own[i], lower), upper)
            changed |= clamped != own[i]
            own[i] = clamped
        if changed:
            absorb(layer.laid_out, weight, f)
    narrow(layer.laid_out, lower, upper)


@compiled
def _outcome(teacher: Teacher, n: int, winner: int) -> int:
    """0 where an image is rewarded, 1 where it is punished."""
    return int(len(teacher.labels) > 0 and winner >= 0 and teacher.classes[winner] != teacher.labels[n])


@compiled
def _silence(teacher: Teacher, n: int, winner: int, active: Array) -> None:
    """Leave the features of a mistake out of the next decision: its class, or all classes but the right one."""
    for f in range(len(active)):
        if teacher.correction == 1:
            active[f] = active[f] and teacher.classes[f] != teacher.classes[winner]
        else:
            active[f] = active[f] and teacher.classes[f] == teacher.labels[n]


@compiled
def _count(winners: Array) -> int:
    count = 0
    for k in range(len(winners)):
        count += int(winners[k, 0] >= 0)
    return count


@compiled
def learn(
    inputs: Inputs,
    layer: Layer,
    choice: Choice,
    rule: Rule,
    teacher: Teacher,
    found: Found,
    decided: bool,
    ahead: Ahead,
) -> int:
    """Learn the images in turn; gives how many winners were found here.

    The winners of each are those of the weights that the one before left: found here, or ``ahead`` where they certainly
    are the same. Where all have been ``decided``, they are those of :func:`find`. Decisions after a mistake are always
    made anew.
    """
    images, (lower, upper), foreseen, anew = inputs.times, rule.bounds, len(ahead.least) > 0, 0
    for n in range(len(images)):
        allowed, winners, post = teacher.active[n].copy(), found.winners[n], found.post[n]
        for turn in range(teacher.turns):
            known = turn == 0 and decided
            if turn == 0 and foreseen:
                known = stands(layer, images[n], allowed, winners, ahead.least[n], ahead.most[n])
            if known:
                taken = _count(winners)
            else:
                winners[:] = -1
                anew += int(turn == 0)
                taken = search(layer, images[n], choice, allowed, winners, post)
            outcome = _outcome(teacher, n, winners[0, 0])
            right = turn == 0 and teacher.correction > 0 and outcome == 0
            for k in range(0 if right else taken):
                _update(layer, inputs, n, winners[k], post[k], outcome, rule)
            if n == 0 and turn == 0:  # later on only weights that are clamped change
                clamp(layer, lower, upper)
            if turn == 0:
                adapt(layer, rule.thresholds, images[n], winners[:taken], post[:taken])
            if taken == 0 or teacher.correction == 0 or outcome == 0:
                break
            _silence(teacher, n, winners[0, 0], allowed)
            winners, post = np.full_like(winners, -1), np.zeros_like(post)
    return anew
