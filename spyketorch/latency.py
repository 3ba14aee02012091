"""The operations of :mod:`spyketorch.functional` on first-spike times: same names and meaning, a fraction of the work.

A tensor of **first-spike times** ``(C, H, W)``, or ``(N, C, H, W)`` for a batch, holds for each neuron the time step at
which it fires, 0..T - 1, or T where it stays silent; uint8, int16 where T > 254, int32 where T > 32,767 (up to 2^24).
It is the same information as a spike wave (:func:`from_wave`, :func:`to_wave`), in a fifteenth of the memory of a uint8
wave of fifteen steps.

As times do not say how many steps there are, functions that need T take ``time_steps``. It must be the number that the
times were made with: a larger one takes silence for a spike, which no check can tell; times beyond a smaller one are an
error (on a GPU, where reading them would wait for it, only inside :func:`spyketorch.validation`).

Beside its time, a neuron has a **potential at its first spike**; it is 0 where the neuron is silent. The two are all
that inhibition, the choice of winners and STDP need.

On a CPU with numba installed (``pip install "spyketorch[fast]"``) the work is done by the loops of
``spyketorch.kernels``; elsewhere the same calls run in plain torch. Answers equal those of the dense functions, to
the bit where sums are exact (weights on a coarse grid); other weights are added in another order than torch's
convolution adds them, so that a potential within rounding of the threshold may fall on its other side.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch._convolution import earliest_within, layer_geometry, pooling_geometry
from spyketorch._winners import Choice, choice, lowest, winners_in_turn
from spyketorch.functional import Winner
from spyketorch.kernels import operators, plain, serving
from spyketorch.kernels.layers import Spiking
from spyketorch.neurons import _INTEGRATE_AND_FIRE, Neuron, _stands_still
from spyketorch.neurons import _checked as checked_neuron


def _times(value: Any, name: str = "times") -> Tensor:
    return check.times(value, name)


def _steps(time_steps: int, times: Tensor) -> int:
    """T, which the type of the times must be able to hold, as it stands for silence."""
    steps, most = check.steps(time_steps), torch.iinfo(times.dtype).max
    if steps > most:
        raise check.fail("time_steps", f"at most {most}, for times of {times.dtype}", time_steps)
    check.times_within(times, "times", steps)
    return steps


def _batched(value: Tensor) -> Tensor:
    return value if value.ndim == 4 else value.unsqueeze(0)


def _as(answer: Tensor, like: Tensor) -> Tensor:
    return answer if like.ndim == 4 else answer.squeeze(0)


def from_wave(wave: Tensor, *, validate: bool = False) -> Tensor:
    """First-spike times of a spike wave.

    Args:
        wave: ``(T, C, H, W)`` or ``(N, T, C, H, W)``.
        validate: check that it is one: zeros and ones, cumulative. A wave that is not has no lossless times; without
            the check, a neuron's time is T minus the number of steps at which it is not 0.

    Returns:
        ``(C, H, W)`` or ``(N, C, H, W)``, uint8 (int16 where T > 254, int32 where T > 32,767).

    Example:
        >>> from_wave(torch.tensor([0, 1, 1]).view(3, 1, 1, 1))
        tensor([[[1]]], dtype=torch.uint8)
    """
    if check.flag(validate, "validate"):
        with check.validation():
            check.spikes(wave, "wave")
    steps = check.steps(check.spikes(wave, "wave").shape[-4], "wave.shape[-4]")
    return (steps - wave.count_nonzero(-4)).to(operators.time_dtype(steps))


def to_wave(times: Tensor, time_steps: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The spike wave of first-spike times, ``(T, C, H, W)`` or ``(N, T, C, H, W)``.

    Example:
        >>> to_wave(torch.tensor([[[1]]]), 3).flatten()
        tensor([0., 1., 1.])
    """
    if not isinstance(dtype, torch.dtype):
        raise check.fail_type("dtype", "a torch.dtype", dtype)
    steps = torch.arange(_steps(time_steps, _times(times)), device=times.device)
    return (times.unsqueeze(-4) <= steps.view(-1, 1, 1, 1)).to(dtype)


def pad(times: Tensor, pad: Sequence[int], time_steps: int) -> Tensor:
    """Surround the map with silent neurons; ``pad`` is (left, right, top, bottom).

    Example:
        >>> pad(torch.zeros(6, 28, 28, dtype=torch.uint8), (2, 2, 2, 2), 15).shape
        torch.Size([6, 32, 32])
    """
    return sf.pad(_batched(_times(times)), pad, _steps(time_steps, times)).view(
        *times.shape[:-2], times.shape[-2] + pad[2] + pad[3], times.shape[-1] + pad[0] + pad[1]
    )


def pooling(
    times: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    *,
    earliest: int | Sequence[int] = 1,
) -> Tensor:
    """The earliest spike of each window, as :func:`spyketorch.functional.pooling`; or its k-th earliest.

    Args:
        times: ``(C, H, W)`` or ``(N, C, H, W)``.
        kernel_size, stride, padding: as in :func:`spyketorch.functional.pooling`; the stride defaults to the kernel.
        earliest: k. The window fires at the first step at which k of its neurons have fired, and is silent where fewer
            ever do: the larger k, the more of a window has to agree. At most as many as every window has neurons,
            those at a padded border too, as padding is silent. Several, such as (4, 12), are told one after the other,
            the maps of all features for each.

    Example:
        >>> times = torch.tensor([[[3, 15], [7, 2]]], dtype=torch.uint8)
        >>> pooling(times, 2), pooling(times, 2, earliest=3)
        (tensor([[[2]]], dtype=torch.uint8), tensor([[[7]]], dtype=torch.uint8))
    """
    window = pooling_geometry(_times(times), kernel_size, stride, padding)
    counts, batch = earliest_within(earliest, window, *times.shape[-2:]), _batched(times)
    pooled = [operators.pooling(batch, window.kernel_size, window.stride, window.padding, count) for count in counts]
    return _as(pooled[0] if len(pooled) == 1 else torch.cat(pooled, 1), times)


def convolution_fire(
    times: Tensor,
    weight: Tensor,
    threshold: float | Tensor | None = None,
    *,
    time_steps: int,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    potentials: bool = True,
    neuron: Neuron = _INTEGRATE_AND_FIRE,
) -> tuple[Tensor, Tensor]:
    """A layer's answer: convolution and firing in one, latched.

    Args:
        times: first-spike times of the input, ``(C, H, W)`` or ``(N, C, H, W)``.
        weight: ``(features, C / groups, kernel rows, kernel columns)``. Half types are added, and potentials given, as
            float32, which holds their sums.
        threshold: a number or one per feature, as in :func:`spyketorch.functional.fire`; a neuron fires at the first
            step at which its potential is above it. None: only the last step counts, where positive potentials fire.
        time_steps: T, how many there are.
        stride, padding, dilation, groups: as in :func:`spyketorch.functional.convolution`.
        potentials: also give the potentials; without, firing is faster and the second result is empty.
        neuron: how a potential follows from what is heard, one of :mod:`spyketorch.neurons`, or of one's own.

    Returns:
        (first-spike times, potentials at the first spike), ``(features, H', W')`` or ``(N, features, H', W')``.

    Example:
        >>> fired, potentials = convolution_fire(torch.tensor([[[0, 1]]]), torch.ones(1, 1, 1, 2), 1, time_steps=3)
        >>> fired, potentials
        (tensor([[[1]]]), tensor([[[2.]]]))
    """
    layer = _layer(times, weight, threshold, time_steps, stride, padding, dilation, groups)
    return _answer(times, layer, checked_neuron(neuron), check.flag(potentials, "potentials"))


def _layer(times: Tensor, weight: Tensor, threshold: float | Tensor | None, time_steps: int, *options: Any) -> Spiking:
    """A layer, whose weight is in the type that potentials are added in; all checked."""
    weight = check.weight(weight, "weight")
    shape, steps = layer_geometry(_times(times), "times", weight, *options), _steps(time_steps, times)
    return Spiking(weight, _limit(threshold, weight), steps, shape)


def _answer(times: Tensor, layer: Spiking, neuron: Neuron, potentials: bool) -> tuple[Tensor, Tensor]:
    """:func:`convolution_fire` of what has been checked; a layer checks its threshold when it is set."""
    weight, limit, steps, shape = layer
    if check.looks_at(weight) and not (limit is not None and _stands_still(neuron) and serving.has_loops(weight)):
        check.finite(weight, "weight")  # those loops compare it with one that is
    batch, layer = _batched(times), _beside(layer)
    if not _stands_still(neuron):
        fired, value = operators.neuron_fire(batch, layer, neuron, potentials)
    elif limit is None:
        value = operators.last_potentials(batch, weight, steps, *shape.options().values()).clamp_(min=0)
        fired = steps - (value > 0).to(times.dtype)
        value = value if potentials else value.new_empty(0)
    else:
        fired, value = operators.convolution_fire(batch, *layer.flat(), potentials)
    return _as(fired, times), _as(value, times) if value.numel() else value


def _beside(layer: Spiking) -> Spiking:
    """With thresholds in the type of the weight, each in a place of its own: compilers pass no expanded number on."""
    weight, limit, steps, shape = layer
    return layer if limit is None else Spiking(weight, limit.to(weight.dtype).contiguous(), steps, shape)


def _limit(threshold: float | Tensor | None, weight: Tensor) -> Tensor | None:
    """The threshold of each feature, ``(features,)``, beside the weight and of its type."""
    if threshold is None:
        return None
    limit = check.threshold(threshold, weight.shape[0], weight.device)
    return torch.as_tensor(limit, dtype=weight.dtype, device=weight.device).detach().expand(weight.shape[0])


def pointwise_inhibition(times: Tensor, potentials: Tensor, *, time_steps: int) -> tuple[Tensor, Tensor]:
    """Let one feature survive at each position, as :func:`spyketorch.functional.pointwise_inhibition`.

    Returns:
        (times, potentials) in which all others are silent, with potential 0.

    Example:
        >>> times, potentials = torch.tensor([[[2]], [[1]]]), torch.tensor([[[9.0]], [[3.0]]])
        >>> [x.flatten().tolist() for x in pointwise_inhibition(times, potentials, time_steps=3)]
        [[3, 1], [0.0, 3.0]]
    """
    _pair(times, potentials)
    time_steps = _steps(time_steps, times)
    if potentials.requires_grad and torch.is_grad_enabled():  # the operator gives none
        return plain.pointwise_inhibition(times, potentials, time_steps)
    kept, left = operators.pointwise_inhibition(_batched(times), _batched(potentials), time_steps)
    return _as(kept, times), _as(left, times)


def feature_inhibition(
    times: Tensor,
    potentials: Tensor,
    inhibited_features: Sequence[int] | Sequence[Sequence[int]] | Tensor,
    *,
    time_steps: int,
) -> tuple[Tensor, Tensor]:
    """Silence whole feature maps, as :func:`spyketorch.functional.feature_inhibition`; gives (times, potentials).

    Example:
        >>> times, potentials = torch.tensor([[[2]], [[1]]]), torch.tensor([[[9.0]], [[3.0]]])
        >>> feature_inhibition(times, potentials, [1], time_steps=3)[0].flatten()
        tensor([2, 3])
    """
    _pair(times, potentials)
    time_steps = _steps(time_steps, times)
    kept = sf.feature_inhibition(torch.ones_like(times, dtype=torch.uint8).unsqueeze(-4), inhibited_features)
    kept = kept.squeeze(-4) > 0
    return torch.where(kept, times, time_steps), torch.where(kept, potentials, 0)


def k_winners(
    times: Tensor, potentials: Tensor, kwta: int = 1, inhibition_radius: int = 0, *, time_steps: int
) -> Tensor:
    """The neurons that learn, as :func:`spyketorch.functional.k_winners`, without waiting for the device.

    Only neurons with a potential above 0 at their first spike can win, which all have unless a threshold is negative.
    Ranking is exact: the earliest, then the one with the largest potential, then the lowest flat index. (The dense
    function ranks by the original's float32 score, which ties where it cannot separate two potentials.)

    Returns:
        int64 ``(k, 3)``, or ``(N, k, 3)`` for a batch, with k the smaller of ``kwta`` and the number of features; rows
        of -1 where there are fewer winners.

    Example:
        >>> k_winners(torch.tensor([[[2]], [[1]]]), torch.tensor([[[9.0]], [[3.0]]]), time_steps=3)
        tensor([[1, 0, 0]])
    """
    _pair(times, potentials)
    time_steps = _steps(time_steps, times)
    kwta, radius = choice(kwta, inhibition_radius, *times.shape[-3:])
    silent, least = times.new_full((), time_steps), potentials.new_full((), lowest(potentials.dtype))

    def best(able: Tensor) -> Tensor:
        known = torch.where(able, times, silent)
        known = torch.where(known == known.amin((-3, -2, -1), keepdim=True), potentials, least)
        return able & (known == known.amax((-3, -2, -1), keepdim=True))

    return winners_in_turn((times < time_steps) & (potentials > 0), kwta, radius, best)


def convolution_winners(
    times: Tensor,
    weight: Tensor,
    threshold: float | Tensor | None = None,
    kwta: int = 1,
    inhibition_radius: int = 0,
    *,
    time_steps: int,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    pointwise_inhibition: bool = False,
    neuron: Neuron = _INTEGRATE_AND_FIRE,
) -> Tensor:
    """The winners among a layer's neurons: :func:`convolution_fire`, then :func:`k_winners`, without the rest.

    On a CPU with numba, whatever cannot change the winners is left out: spikes after the last winner, and where only
    the last time step counts, neurons that can no longer reach the largest potential. The answer is the same.

    Args:
        times, weight, threshold, time_steps, stride, padding, dilation, groups, neuron: as in :func:`convolution_fire`.
        kwta, inhibition_radius: as in :func:`k_winners`.
        pointwise_inhibition: let one feature survive at each position before winners are chosen.

    Returns:
        int64 ``(k, 3)``, or ``(N, k, 3)`` for a batch, with k the smaller of ``kwta`` and the number of features; rows
        of -1 where there are fewer winners.

    Example:
        >>> convolution_winners(torch.tensor([[[0, 1]]]), torch.ones(2, 1, 1, 2), 1, time_steps=3)
        tensor([[0, 0, 0]])
    """
    layer = _layer(times, weight, threshold, time_steps, stride, padding, dilation, groups)
    chosen = (kwta, inhibition_radius, check.flag(pointwise_inhibition, "pointwise_inhibition"))
    return _winners(times, layer, checked_neuron(neuron), chosen)


def _winners(times: Tensor, layer: Spiking, neuron: Neuron, chosen: tuple[Any, Any, bool]) -> Tensor:
    """:func:`convolution_winners` of what has been checked but for (kwta, radius, inhibition)."""
    layer = _beside(layer)
    weight, steps = layer.weight, layer.time_steps
    kwta, radius = choice(*chosen[:2], weight.shape[0], *layer.shape.output_size(*times.shape[-2:]))
    wanted = Choice(kwta, radius, chosen[2])
    traced = torch.compiler.is_compiling() and weight.is_cpu  # the operator looks for loops when it runs
    if _stands_still(neuron) and (traced or serving.has_loops(weight) or check.free_to_read(times)):
        winners: Tensor = operators.convolution_winners(_batched(times), *layer.flat(), wanted.inhibit, kwta, radius)
        return winners if times.ndim == 4 else winners[0]
    if not _stands_still(neuron) and check.free_to_read(times) and check.free_to_read(weight):
        reason = serving.why_not_compiled(neuron, weight)
        if reason is None:
            found = operators.neuron_winners(_batched(times), layer, wanted, neuron)
            return found if times.ndim == 4 else found[0]
        serving.say_slow(serving.SLOW_SEARCH, weight, reason)
    return _winners_of(*_answer(times, layer, neuron, True), steps, chosen)


def _winners_of(fired: Tensor, potentials: Tensor, steps: int, chosen: tuple[Any, Any, bool]) -> Tensor:
    """Winners among answers, by (kwta, radius, inhibition)."""
    kwta, radius, inhibit = chosen
    if inhibit:
        fired, potentials = pointwise_inhibition(fired, potentials, time_steps=steps)
    return k_winners(fired, potentials, kwta, radius, time_steps=steps)


def get_k_winners(
    times: Tensor, potentials: Tensor, kwta: int = 1, inhibition_radius: int = 0, *, time_steps: int
) -> list[Any]:
    """:func:`k_winners` as a list of (feature, row, column), or a list of such lists for a batch.

    Example:
        >>> get_k_winners(torch.tensor([[[2]], [[1]]]), torch.tensor([[[9.0]], [[3.0]]]), kwta=2, time_steps=3)
        [(1, 0, 0), (0, 0, 0)]
    """
    found = k_winners(times, potentials, kwta, inhibition_radius, time_steps=time_steps).tolist()
    lists: list[list[Winner]] = [
        [tuple(w) for w in one if w[0] >= 0] for one in (found if times.ndim == 4 else [found])
    ]
    return lists if times.ndim == 4 else lists[0]


def rank_order(intensities: Tensor, time_steps: int) -> Tensor:
    """First-spike times by rank: the strongest intensities fire first.

    All intensities of a stimulus are sorted, descending and stable. With n non-zeros and b = n // T, step i takes the
    ranks i * b to (i + 1) * b - 1; the n % T weakest are silent. Fewer non-zeros than T take one step each.

    Args:
        intensities: ``(C, H, W)`` or ``(N, C, H, W)``, of any real type; 0 is silent, and what is negative fires last
            (a :class:`spyketorch.encoding.LatencyEncoder` refuses it).
        time_steps: T, how many there are.

    Returns:
        Times like ``intensities``, uint8 (int16 where T > 254, int32 where T > 32,767).

    Example:
        >>> rank_order(torch.tensor([[[5.0, 0.0, 9.0, 7.0, 3.0]]]), 2)
        tensor([[[1, 2, 0, 0, 1]]], dtype=torch.uint8)
    """
    values = check.intensities(intensities, "intensities")
    return _as(operators.rank_order(_batched(values), check.steps(time_steps)), intensities)


def linear(values: Tensor, time_steps: int) -> Tensor:
    r"""First-spike times by value, in a straight line: the larger, the earlier.

    .. math:: t = \min(T - 1, \lfloor (1 - v)\, T \rfloor) \text{ for } v > 0, \text{ else silent}

    Args:
        values: ``(C, H, W)`` or ``(N, C, H, W)``, of any real type; 0..1, and what is above 1 fires at once.
        time_steps: T, how many there are.

    Returns:
        Times like ``values``, uint8 (int16 where T > 254, int32 where T > 32,767).

    Example:
        >>> linear(torch.tensor([[[1.0, 0.75, 0.5, 0.01, 0.0]]]), 4)
        tensor([[[0, 1, 2, 3, 4]]], dtype=torch.uint8)
    """
    known, steps = check.intensities(values, "values"), check.steps(time_steps)
    times = ((1 - known) * steps).floor().clamp(0, steps - 1)
    return (times + (known <= 0)).to(operators.time_dtype(steps))  # T where silent; a `where` is several times as slow


def local_normalization(input: Tensor, normalization_radius: int, eps: float = 1e-12) -> Tensor:
    """As :func:`spyketorch.functional.local_normalization`, by sums over rows and then over columns.

    It is much faster than the convolution there, and rounds differently in the last bits.

    Example:
        >>> local_normalization(torch.ones(1, 1, 1), 0)
        tensor([[[1.]]])
    """
    check.finite(check.image(input, "input"), "input")
    intensities = check.floating(_batched(input.detach()), "input")  # times carry no gradient
    radius, eps = check.integer(normalization_radius, "normalization_radius", 0), check.number(eps, "eps")
    check.storable((2 * radius + 1,) * 2, "normalization_radius", normalization_radius)
    check.representable(eps, "eps", intensities.dtype)
    return _as(operators.local_normalization(intensities, radius, eps), input)


def _pair(times: Tensor, potentials: Tensor) -> None:
    check.same_shape(check.tensor(potentials, "potentials"), "potentials", _times(times), "times")
    check.same_device(potentials, "potentials", times, "times")
    if potentials.dtype == torch.bool or potentials.is_complex():
        raise check.fail_type("potentials", "a tensor of numbers", potentials)
