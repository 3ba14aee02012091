"""Who wins among the neurons that crossed."""

from spyketorch.kernels._cache import compiled
from spyketorch.kernels.loops.layout import Array


@compiled
def free(neuron: Array, winners: Array, taken: int, radius: int) -> bool:
    """Whether none of the winners so far silences a neuron (feature, row, column): its feature, or places around it."""
    free = True
    for k in range(taken):
        near = abs(neuron[1] - winners[k, 1]) <= radius and abs(neuron[2] - winners[k, 2]) <= radius
        free = free and neuron[0] != winners[k, 0] and not (radius > 0 and near)
    return free


@compiled
def before(a: Array, b: Array) -> bool:
    """Whether a neuron (feature, row, column) has the lower index."""
    for i in range(3):
        if a[i] != b[i]:
            return bool(a[i] < b[i])
    return False


@compiled
def take_winners(candidates: Array, strength: Array, count: int, winners: Array, taken: int, radius: int) -> int:
    """Move the best of ``count`` candidates (feature, row, column) that all crossed now behind the winners so far.

    Best is the largest potential, then the lowest index. Returns the number of winners.
    """
    while taken < len(winners):
        best = -1
        for i in range(count):
            if (
                strength[i] > 0
                and (best < 0 or strength[i] >= strength[best])
                and free(candidates[i], winners, taken, radius)
                and (best < 0 or strength[i] > strength[best] or before(candidates[i], candidates[best]))
            ):
                best = i
        if best < 0:
            break
        winners[taken] = candidates[best]
        taken += 1
    return taken
