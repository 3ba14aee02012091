"""Operations on dense spike waves: the reference semantics of the library.

A **spike wave** is a tensor ``(T, C, H, W)`` (time steps, features, rows, columns) of zeros and ones that is cumulative
in time: a neuron that fires at step t is 1 from t to T - 1, a silent neuron is 0 throughout. A batch adds an axis in
front, ``(N, T, C, H, W)``. Every function takes either and answers in kind; samples of a batch never see each other.

Times are in time steps. Functions leave their arguments alone unless their name ends in ``_``.

References:
    Mozafari et al., *SpykeTorch: Efficient Simulation of Convolutional Spiking Neural Networks with at most one Spike
    per Neuron*, Frontiers in Neuroscience 13:625, 2019 (arXiv 1903.02440).
"""

import math
import warnings
from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal, overload

import numpy as np
import torch
import torch.nn as nn  # noqa: F401  scripts take it from a star import
import torch.nn.functional as fn
from torch import Tensor
from torch.nn.parameter import Parameter  # noqa: F401  scripts take it from a star import

from spyketorch import _checks as check
from spyketorch._convolution import Geometry, autocasts, conv2d, layer_geometry, pooling_geometry
from spyketorch._warnings import _outside
from spyketorch._winners import choice, lowest, winners_in_turn

#: (feature, row, column) of a winning neuron
Winner = tuple[int, int, int]

_TIME, _FEATURE = -4, -3


def pad(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """Pad rows and columns with a constant.

    Args:
        input: spike wave or potentials, ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
        pad: (left, right, top, bottom), in neurons; negative numbers crop.
        value: the constant.

    Returns:
        The padded tensor, ``(..., H + top + bottom, W + left + right)``.

    Example:
        >>> pad(torch.ones(15, 6, 28, 28), (2, 2, 2, 2)).shape
        torch.Size([15, 6, 32, 32])
    """
    check.potentials(input, "input")
    if type(pad) is not tuple or [*map(type, pad)] != [int] * 4:  # what scripts write, known at a glance
        if not isinstance(pad, Sequence) or len(pad) != 4:
            raise check.fail("pad", "four integers (left, right, top, bottom)", pad)
        pad = [check.integer(p, "pad") for p in pad]
    left, right, top, bottom = pad
    *frames, rows, columns = input.shape
    rows, columns = rows + top + bottom, columns + left + right
    if rows < 1 or columns < 1:
        raise ValueError(f"`pad` must leave at least one row and column; got {tuple(pad)} on {check.describe(input)}")
    if type(value) is not int or value:  # 0 fits every type
        check.representable(value, "value", input.dtype)
    check.storable((*frames, rows, columns), "pad", tuple(pad))
    return torch.constant_pad_nd(input, (left, right, top, bottom), float(value))


def pooling(
    input: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
) -> Tensor:
    """Max-pool every frame: the first spike of a window passes on.

    Args:
        input: spike wave or potentials of any real type, ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
        kernel_size: rows and columns of the window.
        stride: step of the window; None means ``kernel_size``.
        padding: rows and columns added on each side, at most half the window; they never win.

    Returns:
        The pooled tensor, of the same type, with ``(H + 2 * padding - kernel_size) // stride + 1`` rows, and so on.

    Example:
        >>> pooling(torch.ones(15, 30, 28, 28), 2).shape
        torch.Size([15, 30, 14, 14])
    """
    check.potentials(input, "input")
    window = pooling_geometry(input, kernel_size, stride, padding)
    rows, columns = window.padding
    if rows or columns:
        input = fn.pad(input, (columns, columns, rows, rows), value=lowest(input.dtype))
    # Whole maps side by side, over rows and then over columns: many times as fast as torch's pooling.
    across = _largest(input, -2, window.kernel_size[0], window.stride[0])
    return _largest(across, -1, window.kernel_size[1], window.stride[1])


def _largest(input: Tensor, axis: int, size: int, stride: int) -> Tensor:
    """Maximum of each window along an axis, as a new tensor."""
    first, *others = input.unfold(axis, size, stride).unbind(-1)
    return reduce(torch.maximum, others, first) if others else first.clone()


def convolution(
    input: Tensor,
    weight: Tensor,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    r"""Potentials of a layer of integrate-and-fire neurons: the weighted sum of the spikes that arrived so far.

    .. math:: V_{t, f}(y, x) = \sum_{c, i, j} w_{f, c, i, j} \, s_{t, c}(y + i, x + j)

    As the wave is cumulative, so are the potentials: no leak, no state. They have the type of ``weight``, under
    ``torch.autocast`` too, which would round them; on CUDA the products are full float32. A sum of float32 numbers is
    exact to about 1e-7 of their sum per addition: more than 2^24 (16.8 million) inputs per neuron can lose several per
    cent; use float64 there.

    Args:
        input: spike wave, ``(T, C, H, W)`` or ``(N, T, C, H, W)``. Bool and integer waves are converted to the type of
            ``weight``; a floating wave must have it, unless under ``torch.autocast``.
        weight: ``(features, C / groups, kernel rows, kernel columns)``.
        stride, padding, dilation, groups: as in :func:`torch.nn.functional.conv2d`; padding neurons are silent.

    Returns:
        Potentials, ``(T, features, H', W')`` or ``(N, T, features, H', W')``.

    Raises:
        ValueError: on a wrong shape, or tensors on two devices.
        TypeError: on a wave of another floating type.

    Example:
        >>> convolution(torch.ones(15, 6, 28, 28), torch.ones(30, 6, 5, 5)).shape
        torch.Size([15, 30, 24, 24])
    """
    shape = layer_geometry(check.spikes(input, "input"), "input", weight, stride, padding, dilation, groups)
    return _convolve(input, weight, shape)


def _convolve(input: Tensor, weight: Tensor, shape: Geometry) -> Tensor:
    """:func:`convolution` of a wave that fits."""
    if input.dtype != weight.dtype:
        if input.is_floating_point() and not autocasts(input.device.type):
            raise check.fail_type("input", f"of the type of `weight`, {weight.dtype}, or bool or integer", input)
        input = input.to(weight.dtype)
    frames = input if input.ndim == 4 else input.flatten(0, -4)
    frames = conv2d(frames, weight, shape)
    return frames if input.ndim == 4 else frames.view(*input.shape[:-3], *frames.shape[-3:])


def _limit(potentials: Tensor, threshold: float | Tensor) -> float | Tensor:
    limit = check.threshold(threshold, potentials.shape[_FEATURE], potentials.device)
    return limit.view(-1, 1, 1) if isinstance(limit, Tensor) else limit


_LARGE = (torch.int32, torch.int64)


def _comparable(potentials: Tensor) -> Tensor:
    """As they are compared with a threshold: float32 does not tell large integers apart."""
    return potentials.to(check.widest(potentials.device)) if potentials.dtype in _LARGE else potentials


def _fired(potentials: Tensor, threshold: float | Tensor | None) -> Tensor:
    """Where and when potentials are above the threshold: 1 and 0 in their type."""
    potentials = potentials.detach()
    if threshold is None:
        fired = torch.zeros_like(potentials)
        fired.select(_TIME, -1).copy_(potentials.select(_TIME, -1) > 0)
        return fired
    # Written as they are compared: by way of a bool tensor it takes twice as long.
    return torch.gt(_comparable(potentials), _limit(potentials, threshold), out=torch.empty_like(potentials))


def _kept(potentials: Tensor, threshold: float | Tensor | None) -> Tensor:
    """Potentials where they are above the threshold, 0 elsewhere."""
    if threshold is None:
        kept, last = torch.zeros_like(potentials), potentials.select(_TIME, -1)
        kept.select(_TIME, -1).copy_(last.relu() if potentials.is_floating_point() else last.masked_fill(last <= 0, 0))
        return kept
    limit = _limit(potentials, threshold)
    if isinstance(limit, Tensor) or not potentials.is_floating_point():
        return potentials.masked_fill(_comparable(potentials) <= limit, 0)
    largest = torch.finfo(potentials.dtype).max
    return torch.threshold(potentials, min(max(limit, -largest), largest), 0)  # the same, five times as fast


def threshold(potentials: Tensor, threshold: float | Tensor | None = None) -> Tensor:
    """Potentials where they are above the threshold, 0 elsewhere.

    Args:
        potentials: ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
        threshold: in units of the potential, one number or a tensor with one per feature, ``(C,)``. None means that
            only the last time step counts, where every positive potential stays.

    Returns:
        A new tensor like ``potentials``.

    Example:
        >>> threshold(torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1), 2).flatten()
        tensor([0., 0., 3.])
    """
    return _kept(check.potentials(potentials, "potentials"), threshold)


def threshold_(potentials: Tensor, threshold: float | Tensor | None = None) -> Tensor:
    """:func:`threshold` in place: changes and returns ``potentials``."""
    kept = _kept(check.potentials(potentials, "potentials"), threshold)
    return check.writable(potentials, "potentials").copy_(kept)


@overload
def fire(
    potentials: Tensor,
    threshold: float | Tensor | None = None,
    return_thresholded_potentials: Literal[False] = False,
    *,
    latch: bool = False,
) -> Tensor: ...
@overload
def fire(
    potentials: Tensor,
    threshold: float | Tensor | None,
    return_thresholded_potentials: Literal[True],
    *,
    latch: bool = False,
) -> tuple[Tensor, Tensor]: ...
@overload
def fire(
    potentials: Tensor,
    threshold: float | Tensor | None = None,
    *,
    return_thresholded_potentials: Literal[True],
    latch: bool = False,
) -> tuple[Tensor, Tensor]: ...
def fire(
    potentials: Tensor,
    threshold: float | Tensor | None = None,
    return_thresholded_potentials: bool = False,
    *,
    latch: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Spikes of neurons whose potential is above the threshold: :math:`s_t = [V_t > \theta]`.

    Args:
        potentials: ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
        threshold: in units of the potential, one number or a tensor with one per feature, ``(C,)``. None means that
            only the last time step counts: every neuron with a positive potential fires there.
        return_thresholded_potentials: also return the potentials, 0 where there is no spike.
        latch: keep a neuron fired once it crossed, whatever its potential does afterwards. Potentials only fall when
            weights are negative (or the input is not cumulative); for all others this changes nothing. The thresholded
            potential of a latched neuron is its running maximum.

    Returns:
        Spikes in the type of ``potentials``, or (spikes, thresholded potentials).

    Example:
        >>> potentials = torch.tensor([1.0, 3.0, 2.0]).view(3, 1, 1, 1)
        >>> fire(potentials, 2).flatten(), fire(potentials, 2, latch=True).flatten()
        (tensor([0., 1., 0.]), tensor([0., 1., 1.]))
    """
    check.potentials(potentials, "potentials")
    if type(latch) is not bool or type(return_thresholded_potentials) is not bool:
        latch = check.flag(latch, "latch")
        return_thresholded_potentials = check.flag(return_thresholded_potentials, "return_thresholded_potentials")
    thresholded = _kept(potentials, threshold) if return_thresholded_potentials else None
    if thresholded is not None and (threshold is None or (type(threshold) in (int, float) and threshold >= 0)):
        fired = (thresholded.detach() if thresholded.requires_grad else thresholded).sign()  # nothing below 0 is left
    else:
        fired = _fired(potentials, threshold)
    spikes = fired
    if latch:
        spikes = fired.cummax(_TIME).values
        if thresholded is not None:
            highest = potentials.masked_fill(fired == 0, lowest(potentials.dtype)).cummax(_TIME).values
            thresholded = highest.masked_fill(spikes == 0, 0)
    return spikes if thresholded is None else (spikes, thresholded)


def fire_(potentials: Tensor, threshold: float | Tensor | None = None, *, latch: bool = False) -> Tensor:
    """:func:`fire` in place: changes ``potentials`` into spikes and returns it."""
    spikes = fire(potentials, threshold, latch=latch)
    return check.writable(potentials, "potentials").copy_(spikes)


def _survivors(potentials: Tensor) -> tuple[Tensor, Tensor]:
    """(the feature that survives at each place, int64; whether any fires there), with axes of size 1."""
    steps, features = potentials.shape[_TIME], potentials.shape[_FEATURE]
    fired = potentials.amax(_FEATURE, keepdim=True) > 0
    clock = torch.arange(steps, dtype=torch.int32, device=potentials.device).view(-1, 1, 1, 1)
    first = torch.where(fired, clock, steps - 1).amin(_TIME, keepdim=True).long()
    frame = potentials.gather(_TIME, first.expand_as(potentials.narrow(_TIME, 0, 1)))
    index = torch.arange(features, device=potentials.device).view(-1, 1, 1)  # argmax promises no order on every device
    survivor = torch.where(frame == frame.amax(_FEATURE, keepdim=True), index, features - 1)  # NaN equals nothing
    return survivor.amin(_FEATURE, keepdim=True), fired.any(_TIME, keepdim=True)


#: what numpy compares as torch does
_NUMPY_TYPES = (torch.float32, torch.float64, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def _inhibited(potentials: Tensor) -> Tensor:
    """:func:`pointwise_inhibition` of one sample by numpy, which names the first of equals and takes fewer calls."""
    steps, features, rows, columns = potentials.shape
    values = potentials.numpy().reshape(steps, features, rows * columns)
    fired = potentials.amax(1).numpy().reshape(steps, -1) > 0
    places = np.flatnonzero(fired.any(0))
    first = fired.argmax(0)[places]
    neurons = values[first, :, places].argmax(1) * (rows * columns) + places
    inhibited = np.zeros((steps, features * rows * columns), values.dtype)
    inhibited[:, neurons] = values.reshape(steps, -1)[:, neurons]
    return torch.from_numpy(inhibited).view(potentials.shape)


def pointwise_inhibition(thresholded_potentials: Tensor) -> Tensor:
    """Let one feature survive at each position: a winner-take-all between the neurons that see the same place.

    The survivor is the earliest to fire; among equals the one with the largest potential at that time step; among
    equals the lowest feature index. All others become 0 at all time steps.

    Args:
        thresholded_potentials: ``(T, C, H, W)`` or ``(N, T, C, H, W)``, 0 where a neuron has not fired.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> p = torch.tensor([[0.0, 5.0], [3.0, 6.0]]).view(2, 2, 1, 1)  # the second feature fires first
        >>> pointwise_inhibition(p).view(2, 2)
        tensor([[0., 5.],
                [0., 6.]])
    """
    potentials = check.potentials(thresholded_potentials, "thresholded_potentials")
    by_numpy = potentials.dtype in _NUMPY_TYPES and not potentials.requires_grad and check.free_to_read(potentials)
    if potentials.ndim == 4 and by_numpy:
        return _inhibited(potentials)
    survivor, fires = _survivors(potentials.detach())
    index = survivor.expand_as(potentials.narrow(_FEATURE, 0, 1))
    kept = potentials.gather(_FEATURE, index).masked_fill(~fires, 0)
    return torch.zeros_like(potentials).scatter_(_FEATURE, index, kept)


def feature_inhibition_(
    potentials: Tensor, inhibited_features: Sequence[int] | Sequence[Sequence[int]] | Tensor
) -> Tensor:
    """:func:`feature_inhibition` in place: changes and returns ``potentials``."""
    check.writable(check.potentials(potentials, "potentials"), "potentials")
    nested = isinstance(inhibited_features, list | tuple) and any(isinstance(f, Sequence) for f in inhibited_features)
    if potentials.ndim == 5 and nested:
        if len(inhibited_features) != len(potentials):
            raise check.fail("inhibited_features", f"one list per sample, {len(potentials)}", inhibited_features)
        for sample, features in zip(potentials, inhibited_features, strict=True):
            feature_inhibition_(sample, features)
        return potentials
    index = _features(inhibited_features, potentials)
    if index.dtype == torch.bool:
        return potentials.masked_fill_(index.view(-1, 1, 1), 0)
    return potentials.index_fill_(_FEATURE, index, 0)


def _features(features: Any, potentials: Tensor) -> Tensor:
    """Feature indices as a flat int64 tensor beside the potentials, or a bool mask as it is."""
    count = potentials.shape[_FEATURE]
    if isinstance(features, tuple) and len(features) == 1 and isinstance(features[0], Tensor | np.ndarray):
        features = features[0]  # of nonzero(as_tuple=True)
    try:
        index = torch.as_tensor(features, device=potentials.device)
    except (TypeError, ValueError, RuntimeError):
        index = torch.empty((), device=potentials.device)  # of a type that is refused
    if index.dtype == torch.bool and index.shape == (count,):
        return index
    if index.numel() == 0:
        return index.flatten().to(torch.int64)
    if index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
        raise check.fail_type("inhibited_features", f"feature indices, or a bool mask of {count}", features)
    if index.ndim > 1 and potentials.ndim == 5:
        raise check.fail_type("inhibited_features", "a flat sequence of feature indices, or one per sample", features)
    given, index = index, index.flatten().to(torch.int64)
    if check.looks_at(index):
        low, high = index.aminmax()
        if not -count <= int(low) <= int(high) < count:
            raise IndexError(f"`inhibited_features` must lie in 0..{count - 1}; got {index.tolist()}")
        if index.shape == (count,) and count > 2 and given.dtype == torch.uint8 and int(high) <= 1:
            warnings.warn(
                "`inhibited_features` of torch.uint8 are indices, here of features 0 and 1 alone; if they are a mask, "
                "as of an older torch, give `.bool()`",
                stacklevel=_outside(),
            )
    return index.remainder(count)


def feature_inhibition(
    potentials: Tensor, inhibited_features: Sequence[int] | Sequence[Sequence[int]] | Tensor
) -> Tensor:
    """Set whole feature maps to 0.

    Args:
        potentials: ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
        inhibited_features: feature indices, as a sequence or an integer tensor of any shape, such as the ``(n, 1)`` of
            ``nonzero()`` (an empty one inhibits nothing), as ``nonzero(as_tuple=True)`` gives them, or a bool mask
            ``(C,)``. uint8 tensors are indices too, with a warning where they look like a mask of an older torch. For a
            batch, a flat list for all samples or a list of lists, one per sample.

    Returns:
        A new tensor of the same shape.

    Raises:
        IndexError: a feature outside 0..C-1.

    Example:
        >>> feature_inhibition(torch.ones(1, 3, 1, 1), [0, 2]).flatten()
        tensor([0., 1., 0.])
    """
    return feature_inhibition_(check.potentials(potentials, "potentials").clone(), inhibited_features)


def _winner_scores(potentials: Tensor, spikes: Tensor | None) -> Tensor:
    """The original's ranking in one number per neuron, ``(..., C, H, W)``, 0 for neurons that cannot win.

    Larger is better: every spike counts v, which exceeds all potentials together, and earlier neurons have more spikes.
    Where v is large, float32 cannot separate two close potentials and they tie; old results depend on it.
    """
    potentials = check.floating(check.potentials(potentials, "potentials").detach(), "potentials")
    if spikes is None:
        spikes = (potentials > 0).to(potentials.dtype)
    else:
        check.same_shape(check.spikes(spikes, "spikes"), "spikes", potentials, "potentials")
        check.same_device(spikes, "spikes", potentials, "potentials")
        spikes = spikes.detach().to(potentials.dtype)
    if potentials.ndim == 4 and check.free_to_read(potentials):
        counts = spikes.sum(_TIME).numpy()
        spiking = np.flatnonzero(counts > 0)
        if 4 * len(spiking) < counts.size and spikes.numpy().min() >= 0:
            return _few_scores(potentials, spikes.numpy(), counts.ravel()[spiking], spiking)
    reached, v, value = _reached(potentials, spikes, spikes.sum(_TIME, keepdim=True))
    # Samples side by side behind the time axis: the sum then runs over time in the same order with and without a batch.
    score = reached.addcmul_(spikes, v).movedim(_TIME, 0).sum(0)
    return score.masked_fill_(value.squeeze(_TIME) == 0, 0)


def _few_scores(potentials: Tensor, spikes: np.ndarray, counts: np.ndarray, spiking: np.ndarray) -> Tensor:
    """:func:`_winner_scores` where few neurons, with these flat indices and counts, spike: only those are looked at."""
    steps = len(spikes)
    if not len(spiking):
        return potentials.new_zeros(potentials.shape[1:])
    spikes = spikes.reshape(steps, -1)[:, spiking]
    first = (steps - counts).clip(0, steps - 1).astype(np.int64)
    value = potentials.numpy().reshape(steps, -1)[first, spiking]
    reached = spikes * value
    # The sum adds in an order that depends on the shape, so it needs all neurons.
    terms = torch.zeros_like(potentials, memory_format=torch.contiguous_format)
    v = max(reached.max(), value.dtype.type(0)) * value.dtype.type(steps)  # 0 of the silent
    terms.numpy().reshape(steps, -1)[:, spiking] = (reached + spikes * v) * (value != 0)
    return terms.sum(0)


def _reached(potentials: Tensor, spikes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(the potential at the first spike wherever there is one, v, the potential at the first spike)."""
    steps = potentials.shape[_TIME]
    value = potentials.gather(_TIME, (steps - counts).clamp_(0, steps - 1).long())
    reached = spikes * value
    return reached, reached.amax((-4, -3, -2, -1), keepdim=True) * steps, value


def _take_winners(scores: np.ndarray, kwta: int, radius: int) -> list[Winner]:
    """The winners of one sample, best first; overwrites ``scores``."""
    winners: list[Winner] = []
    while len(winners) < kwta:
        best = int(scores.argmax())  # the first of equals
        if not scores.flat[best] > 0:
            break
        feature, place = divmod(best, scores.shape[1] * scores.shape[2])
        row, column = divmod(place, scores.shape[2])
        winners.append((feature, row, column))
        scores[feature] = 0
        if radius > 0:
            scores[:, max(0, row - radius) : row + radius + 1, max(0, column - radius) : column + radius + 1] = 0
    return winners


def get_k_winners(
    potentials: Tensor, kwta: int = 1, inhibition_radius: int = 0, spikes: Tensor | None = None
) -> list[Any]:
    """The neurons that learn: up to ``kwta`` winners, chosen one after the other.

    The best neuron is the earliest to fire, then the one with the largest potential at its first spike, then the one
    with the lowest flat index. A winner silences its whole feature map and, with a radius r > 0, all features within r
    rows and columns of it. Neurons that never spike, or whose potential there is 0, cannot win.

    Ranking is by the original's float32 score, which ties where it cannot separate two potentials, so that old results
    come out the same to the bit.

    Args:
        potentials: ``(T, C, H, W)`` or ``(N, T, C, H, W)``, usually thresholded and inhibited.
        kwta: how many winners at most; as each silences its feature map, there are never more than features.
        inhibition_radius: in neurons.
        spikes: the spike wave that belongs to the potentials; None means ``potentials > 0``.

    Returns:
        A list of (feature, row, column), empty when all are silent; for a batch a list of such lists. Reading them
        makes a CUDA device wait; :func:`k_winners` gives the same as a tensor without.

    Raises:
        ValueError: on NaN potentials, a wrong shape, kwta < 1 or a negative radius.

    Example:
        >>> potentials = torch.tensor([[0.0, 2.0, 0.0], [1.0, 2.0, 3.0]]).view(2, 3, 1, 1)
        >>> get_k_winners(potentials, kwta=2)
        [(1, 0, 0), (2, 0, 0)]
    """
    kwta, radius = choice(kwta, inhibition_radius, *check.potentials(potentials, "potentials").shape[-3:])
    batched = potentials.ndim == 5
    scores = _winner_scores(potentials, spikes).cpu().numpy()
    last = potentials.detach().select(_TIME, -1)  # NaN from weights or inputs lasts until the last step
    if not math.isfinite(last.sum()) and not bool(last.isfinite().all()):  # a sum is quick, and hides nothing
        raise check.fail("potentials", "finite everywhere (it holds NaN or infinite values)", potentials)
    winners = [_take_winners(sample, kwta, radius) for sample in (scores if batched else [scores])]
    return winners if batched else winners[0]


def k_winners(potentials: Tensor, kwta: int = 1, inhibition_radius: int = 0, spikes: Tensor | None = None) -> Tensor:
    """:func:`get_k_winners` as a tensor that stays on the device, found without waiting for it.

    Returns:
        int64 ``(k, 3)``, or ``(N, k, 3)`` for a batch, with k the smaller of ``kwta`` and the number of features:
        feature, row, column, best first; rows of -1 where there are fewer winners. NaN potentials never win.

    Example:
        >>> k_winners(torch.tensor([0.0, 2.0]).view(1, 2, 1, 1), kwta=2)
        tensor([[ 1,  0,  0],
                [-1, -1, -1]])
    """
    kwta, radius = choice(kwta, inhibition_radius, *check.potentials(potentials, "potentials").shape[-3:])
    scores = _winner_scores(potentials, spikes)

    def best(able: Tensor) -> Tensor:
        return able & (scores == torch.where(able, scores, 0).amax((-3, -2, -1), keepdim=True))

    return winners_in_turn(scores > 0, kwta, radius, best)


def intensity_lateral_inhibition(intencities: Tensor, inhibition_kernel: Tensor) -> Tensor:
    r"""Weaken intensities that are surrounded by stronger ones; contours and maxima stand out.

    Each intensity is multiplied by 1 plus the sum of the kernel's entries over the neighbours that are strictly
    smaller (outside the image counts as 0):

    .. math:: I'(y, x) = I(y, x) \, \Big(1 + \sum_{i, j} k_{i, j} \, [I(y + i, x + j) < I(y, x)]\Big)

    Args:
        intencities: non-negative, ``(C, H, W)`` or ``(N, C, H, W)``; features are independent. (The spelling is the
            original's.)
        inhibition_kernel: square with an odd side, ``(k, k)`` or ``(1, 1, k, k)``.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> image = torch.tensor([[[1.0, 2.0, 4.0]]])
        >>> intensity_lateral_inhibition(image, torch.tensor([[0, 0, 0], [0.5, 0, 0.5], [0, 0, 0]]))
        tensor([[[1.5000, 3.0000, 8.0000]]])
    """
    intensities = check.floating(check.image(intencities, "intencities"), "intencities")
    check.finite(intensities, "intencities")
    kernel = check.tensor(inhibition_kernel, "inhibition_kernel")
    check.finite(kernel, "inhibition_kernel")
    side = kernel.shape[-1] if kernel.ndim >= 2 else 0
    if kernel.numel() != side * side or side % 2 == 0:
        raise check.fail("inhibition_kernel", "of shape (k, k) or (1, 1, k, k) with an odd k", kernel)
    check.same_device(kernel, "inhibition_kernel", intensities, "intencities")
    kernel = kernel.reshape(side, side).to(intensities.dtype)
    radius, (height, width) = side // 2, intensities.shape[-2:]
    padded = fn.pad(intensities, (radius,) * 4)
    gain = torch.zeros_like(intensities)
    for i in range(side):
        for j in range(side):
            smaller = padded[..., i : i + height, j : j + width] < intensities
            gain += smaller * kernel[i, j]
    return _like(intensities + intensities * gain, intencities)  # rounds as the original does


def local_normalization(input: Tensor, normalization_radius: int, eps: float = 1e-12) -> Tensor:
    r"""Divide every intensity by the mean around it, so that faint and bright regions spike alike.

    .. math:: I'(y, x) = \frac{I(y, x)}{\epsilon + \frac{1}{(2r + 1)^2} \sum_{|i|, |j| \le r} I(y + i, x + j)}

    Outside the image counts as 0, and the divisor counts it. The mean of more than 2^24 pixels (r > 2,047) can lose
    several per cent in float32; use float64 there.

    Args:
        input: intensities, ``(C, H, W)`` or ``(N, C, H, W)``; features are independent.
        normalization_radius: r, in pixels.
        eps: keeps blank regions finite.

    Returns:
        A new tensor of the same shape.

    Example:
        >>> local_normalization(torch.ones(1, 1, 1), 0)
        tensor([[[1.]]])
    """
    intensities = check.floating(check.image(input, "input"), "input")
    check.finite(intensities, "input")
    radius = check.integer(normalization_radius, "normalization_radius", 0)
    side = 2 * radius + 1
    check.storable((side, side), "normalization_radius", normalization_radius)
    kernel = intensities.new_full((1, 1, side, side), 1 / side**2)
    window = Geometry((side, side), padding=(radius, radius))
    mean = conv2d(intensities.reshape(-1, 1, *intensities.shape[-2:]), kernel, window)
    return _like(intensities / (mean.view_as(intensities) + check.number(eps, "eps")), input)


def _like(answer: Tensor, input: Tensor) -> Tensor:
    """In the type of a floating input; integers have become float32."""
    return answer.to(input.dtype) if input.is_floating_point() else answer
