"""The operators: what they take and give, their shapes for tracing, and which loop serves which device.

Tensors of times are (N, C, H, W), in channels-last memory where an operator made them.
"""

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.library import custom_op

from spyketorch._convolution import Geometry
from spyketorch.kernels import plain

_LANES = 16  # features are filled up to a multiple: floats in the widest vector of common processors
_CHUNK = 16  # images whose decision potentials are computed together: their weights are read once


@cache
def _numba_is_there() -> bool:
    return importlib.util.find_spec("numba") is not None


def has_loops(x: Tensor) -> bool:
    """Whether the numba loops serve a layer of these weights, or these intensities; else it is plain torch."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and _numba_is_there()


@cache
def loops() -> ModuleType:
    """The numba loops, imported when they are first needed."""
    return importlib.import_module("spyketorch.kernels.loops")


@cache
def online() -> ModuleType:
    """The numba loops of deciding and learning."""
    return importlib.import_module("spyketorch.kernels.online")


def time_dtype(time_steps: int) -> torch.dtype:
    """The smallest type for times 0..time_steps."""
    return torch.uint8 if time_steps <= 254 else torch.int16 if time_steps <= 32_767 else torch.int32


def _in_parallel(count: int, work: Callable[[int, int], None], parts_per_thread: int = 4) -> None:
    """``work(begin, end)`` for parts of 0..count, on as many threads as torch uses; the parts are independent."""
    threads = min(torch.get_num_threads(), count)
    if threads <= 1:
        work(0, count)
        return
    size = -(-count // (parts_per_thread * threads))  # a few parts per thread, so that none waits long for another
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, i, min(i + size, count)) for i in range(0, count, size)]:
            done.result()


def _last(x: Tensor) -> np.ndarray:
    """(N, H, W, C) as numpy, without a copy where the tensor is channels-last."""
    return x.detach().permute(0, 2, 3, 1).contiguous().numpy()


def _rows(weight: Tensor) -> np.ndarray:
    """Weights (features, C, rows, columns) as (C, rows * reversed columns * features)."""
    return weight.detach().flip(3).permute(1, 2, 3, 0).reshape(weight.shape[1], -1).contiguous().numpy()


def _filled(weight: Tensor, threshold: Tensor) -> tuple[Tensor, np.ndarray]:
    """Weights and thresholds with features that never fire, up to whole vectors; see :mod:`.loops`."""
    missing = -len(weight) % _LANES
    weight = torch.cat((weight.detach(), weight.new_zeros(missing, *weight.shape[1:])))
    return weight, torch.cat((threshold, threshold.new_full((missing,), torch.inf))).numpy()


def _geometry(weight: Tensor, settings: Sequence[int]) -> Geometry:
    """``settings`` are stride, padding, dilation (rows and columns of each) and groups."""
    a, b, c, d, e, f, groups = settings
    return Geometry((weight.shape[2], weight.shape[3]), (a, b), (c, d), (e, f), groups, weight.shape[0] // groups)


def settings(shape: Geometry) -> list[int]:
    """A geometry as the operators take it."""
    return [*shape.stride, *shape.padding, *shape.dilation, shape.groups]


def _out(times: Tensor, weight: Tensor, shape: Geometry, dtype: torch.dtype) -> Tensor:
    size = (times.shape[0], weight.shape[0], *shape.output_size(*times.shape[2:]))
    return torch.empty(size, dtype=dtype, device=times.device, memory_format=torch.channels_last)


def _groups(weight: Tensor, shape: Geometry) -> list[tuple[slice, slice]]:
    """(input features, output features) of each group."""
    inputs, outputs = weight.shape[1], shape.features_per_group
    return [(slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)) for g in range(shape.groups)]


# What an operator gives is laid out the same by loops and by plain torch, as its fake version says.


@custom_op("spyketorch::convolution_fire", mutates_args=())
def convolution_fire(
    times: Tensor, weight: Tensor, threshold: Tensor, time_steps: int, settings: Sequence[int], want_values: bool
) -> tuple[Tensor, Tensor]:
    """(first-spike times, potentials there, or nothing where they are not wanted)."""
    shape = _geometry(weight, settings)
    fired, values = _empty_answer(times, weight, shape, want_values)
    if not has_loops(weight):
        first, potentials = plain.convolution_fire(times, weight, threshold, time_steps, shape, want_values)
        return fired.copy_(first), values.copy_(potentials)
    for inputs, outputs in _groups(weight, shape):
        filled, limit = _filled(weight[outputs], threshold[outputs])
        source, rows = _last(times[:, inputs]), _rows(filled)
        taps = loops().reach(source.shape[1:3], fired.shape[2:], shape)
        into = [_last(fired[:, outputs]), _last(values[:, outputs] if want_values else values.view(0, 1, 1, 1))]
        work = partial(loops().convolution_fire, source, rows, limit, time_steps, taps, *into)
        _in_parallel(len(source), work)
        if shape.groups > 1:
            fired[:, outputs].copy_(torch.from_numpy(into[0]).permute(0, 3, 1, 2))
            if want_values:
                values[:, outputs].copy_(torch.from_numpy(into[1]).permute(0, 3, 1, 2))
    return fired, values


@convolution_fire.register_fake
def _(times, weight, threshold, time_steps, settings, want_values):  # type: ignore[no-untyped-def]
    return _empty_answer(times, weight, _geometry(weight, settings), want_values)


def _empty_answer(times: Tensor, weight: Tensor, shape: Geometry, want_values: bool) -> tuple[Tensor, Tensor]:
    values = _out(times, weight, shape, weight.dtype) if want_values else weight.new_empty(0)
    return _out(times, weight, shape, times.dtype), values


@custom_op("spyketorch::last_potentials", mutates_args=())
def last_potentials(times: Tensor, weight: Tensor, time_steps: int, settings: Sequence[int]) -> Tensor:
    """Potentials at the last time step."""
    shape = _geometry(weight, settings)
    potentials = _out(times, weight, shape, weight.dtype)
    if not has_loops(weight):
        return potentials.copy_(plain.last_potentials(times, weight, time_steps, shape))
    for inputs, outputs in _groups(weight, shape):
        source = times[:, inputs].contiguous().numpy()
        into = _last(potentials[:, outputs])
        taps = loops().reach(source.shape[2:], into.shape[1:3], shape)
        _sum_last(source, _rows(weight[outputs]), time_steps, taps, into)
        if shape.groups > 1:
            potentials[:, outputs].copy_(torch.from_numpy(into).permute(0, 3, 1, 2))
    return potentials


def _sum_last(times: np.ndarray, rows: np.ndarray, time_steps: int, taps: Any, into: np.ndarray) -> None:
    def part(begin: int, end: int) -> None:
        for i in range(begin, end, _CHUNK):
            loops().last_potentials(times, rows, time_steps, taps, into, i, min(i + _CHUNK, end))

    _in_parallel(len(times), part, parts_per_thread=1)


@last_potentials.register_fake
def _(times, weight, time_steps, settings):  # type: ignore[no-untyped-def]
    return _out(times, weight, _geometry(weight, settings), weight.dtype)


@custom_op("spyketorch::pooling", mutates_args=())
def pooling(times: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """Earliest spike of each window."""
    shape = _window(kernel_size, stride, padding)
    pooled = _pooled(times, shape)
    if times.device.type != "cpu" or not _numba_is_there():
        return pooled.copy_(plain.pooling(times, shape))
    source, into = _last(times), _last(pooled)
    taps = loops().reach(source.shape[1:3], into.shape[1:3], shape)
    _in_parallel(len(source), partial(loops().pooling, source, taps, into))
    return pooled


@pooling.register_fake
def _(times, kernel_size, stride, padding):  # type: ignore[no-untyped-def]
    return _pooled(times, _window(kernel_size, stride, padding))


def _window(kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Geometry:
    return Geometry((kernel_size[0], kernel_size[1]), (stride[0], stride[1]), (padding[0], padding[1]))


def _pooled(times: Tensor, shape: Geometry) -> Tensor:
    size = (*times.shape[:2], *shape.output_size(*times.shape[2:]))
    return torch.empty(size, dtype=times.dtype, device=times.device, memory_format=torch.channels_last)


# Encoding


def _any_negative(x: Tensor) -> bool:
    return x.numel() > 0 and bool(x.amin() < 0)


@custom_op("spyketorch::rank_order", mutates_args=())
def rank_order(intensities: Tensor, time_steps: int) -> Tensor:
    """First-spike times by rank, of (N, C, H, W) non-negative intensities."""
    times = torch.empty_like(intensities, dtype=time_dtype(time_steps), memory_format=torch.contiguous_format)
    if not has_loops(intensities) or intensities.dtype != torch.float32 or _any_negative(intensities):
        return times.copy_(plain.rank_order(intensities, time_steps))
    source, into = intensities.contiguous().flatten(1).numpy(), times.view(len(times), -1).numpy()
    _in_parallel(len(source), partial(loops().rank_order, source, time_steps, into))
    return times


@rank_order.register_fake
def _(intensities, time_steps):  # type: ignore[no-untyped-def]
    return torch.empty_like(intensities, dtype=time_dtype(time_steps), memory_format=torch.contiguous_format)


@custom_op("spyketorch::local_normalization", mutates_args=())
def local_normalization(intensities: Tensor, radius: int, eps: float) -> Tensor:
    """Intensities (N, C, H, W) over the mean of the square around them."""
    normalized = torch.empty_like(intensities, memory_format=torch.contiguous_format)
    if not has_loops(intensities):
        return normalized.copy_(plain.local_normalization(intensities, radius, eps))
    source, into = intensities.contiguous().flatten(0, 1).numpy(), normalized.flatten(0, 1).numpy()
    _in_parallel(len(source), partial(loops().local_normalization, source, radius, source.dtype.type(eps), into))
    return normalized


@local_normalization.register_fake
def _(intensities, radius, eps):  # type: ignore[no-untyped-def]
    return torch.empty_like(intensities, memory_format=torch.contiguous_format)


# Deciding and learning, on the CPU only: elsewhere latency.py and learning.py compose them in torch


def searches_winners(weight: Tensor, threshold: Tensor | None, shape: Geometry, inhibit: bool, kwta: int) -> bool:
    """Whether the loops find the winners of such a layer."""
    return has_loops(weight) and shape.groups == 1 and not (threshold is None and inhibit and kwta > 1)


def _search(times: Tensor, weight: Tensor, settings: Sequence[int]) -> tuple[np.ndarray, Any, Any]:
    """Images (N, rows, columns, C), and where their spikes go and the outputs look."""
    shape, source = _geometry(weight, settings), _last(times)
    size, out = source.shape[1:3], shape.output_size(*times.shape[2:])
    return source, loops().reach(size, out, shape), online().window(size, out, shape)


@custom_op("spyketorch::convolution_winners", mutates_args=(), device_types="cpu")
def convolution_winners(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    settings: Sequence[int],
    inhibit: bool,
    kwta: int,
    radius: int,
) -> Tensor:
    """Winners (N, kwta, 3), rows of -1 where there are fewer; without a threshold only the last step counts."""
    source, taps, where = _search(times, weight, settings)
    winners, active = torch.full((len(times), kwta, 3), -1), np.ones(len(weight), np.bool_)
    if threshold is None:
        kept = weight.detach().contiguous().numpy()
        arguments: tuple[Any, ...] = (kept, online().to_bytes(kept), time_steps, where, radius)
        work = partial(online().decide_at_last_step, source, *arguments, active, winners.numpy())
    else:
        filled, limit = _filled(weight, threshold)
        arguments = (_rows(filled), limit, time_steps, taps, where, inhibit, radius)
        work = partial(online().decide_by_clock, source, *arguments, active, winners.numpy())
    _in_parallel(len(source), work)
    return winners


@convolution_winners.register_fake
def _(times, weight, threshold, time_steps, settings, inhibit, kwta, radius):  # type: ignore[no-untyped-def]
    return times.new_empty((times.shape[0], kwta, 3), dtype=torch.int64)


@custom_op("spyketorch::learn_online", mutates_args=("weight",), device_types="cpu")
def learn_online(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    settings: Sequence[int],
    rates: Tensor,
    bounds: Sequence[float],
    stabilizer: bool,
    inhibit: bool,
    kwta: int,
    radius: int,
    labels: Tensor,
    classes: Tensor,
    correction: int,
    active: Tensor,
) -> Tensor:
    """STDP or R-STDP in exact online order; gives the winners as :func:`convolution_winners`."""
    source, taps, where = _search(times, weight, settings)
    winners = torch.full((len(times), kwta, 3), -1)
    limits = np.array(bounds, torch.empty(0, dtype=weight.dtype).numpy().dtype)
    rule = online().Rule(rates.numpy(), limits, stabilizer, labels.numpy(), classes.numpy(), correction)
    if threshold is None:
        kept = weight.contiguous()
        arguments: tuple[Any, ...] = (kept.numpy(), online().to_bytes(kept.numpy()), time_steps, where, radius)
        online().learn_at_last_step(source, *arguments, active.numpy(), rule, winners.numpy())
    else:
        filled, limit = _filled(weight, threshold)
        rows = _rows(filled)
        kept = torch.from_numpy(rows).view(*filled.shape[1:], len(filled)).permute(3, 0, 1, 2)[: len(weight)]
        arguments = (rows, kept.numpy()[..., ::-1], limit, time_steps, taps, where)
        online().learn_by_clock(source, *arguments, inhibit, radius, active.numpy(), rule, winners.numpy())
        kept = kept.flip(3)
    if kept is not weight:
        weight.copy_(kept)
    return winners


@learn_online.register_fake
def _(times, weight, threshold, steps, settings, rates, bounds, stabilizer, inhibit, kwta, *rest):  # type: ignore[no-untyped-def]
    return times.new_empty((times.shape[0], kwta, 3), dtype=torch.int64)
