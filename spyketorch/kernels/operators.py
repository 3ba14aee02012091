"""The operators: what they take and give, their shapes for tracing, and which loop serves which device.

Tensors of times are (N, C, H, W), in channels-last memory where an operator made them. Torch's own dispatch chooses:
plain torch is the implementation for every device, the numba loops that for the CPU, where they serve.

They are defined by schemas: ``torch.library.custom_op`` would import torch._dynamo, a second, at the first call.
"""

import importlib.util
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry, conv2d, conv2d_of_each
from spyketorch._warnings import warn_once
from spyketorch._winners import Choice
from spyketorch.kernels import gather, plain
from spyketorch.kernels.arrays import channels_last
from spyketorch.kernels.parallel import in_parallel
from spyketorch.neurons import _INTEGRATE_AND_FIRE, IntegrateAndFire, Leaky, Neuron, Ramp, _stands_still

Ints = Sequence[int]

_CHUNK = 16  # images whose decision potentials are computed together: their weights are read once


@cache
def _numba() -> bool:
    """Whether numba is there; the loops are imported when they are first needed."""
    try:
        installed = importlib.util.find_spec("numba") is not None
    except ValueError:  # a module without a spec stands in its place
        installed = False
    if not installed:
        warn_once(
            "numba is not installed, so plain torch runs in place of the compiled loops, many times slower: "
            'pip install "spyketorch[fast]"'
        )
        return False
    try:
        importlib.import_module("spyketorch.kernels.loops.learn")
    except Exception as error:
        warn_once(
            f"numba is installed but cannot be used, so plain torch runs in place of the compiled loops ({error!r})"
        )
        return False
    return True


def has_loops(x: Tensor) -> bool:
    """Whether the numba loops serve a layer of these weights, or these intensities; else it is plain torch."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and _numba()


def time_dtype(time_steps: int) -> torch.dtype:
    """The smallest type for times 0..time_steps."""
    return torch.uint8 if time_steps <= 254 else torch.int16 if time_steps <= 32_767 else torch.int32


def _rows(weight: Tensor) -> np.ndarray:
    """Weights (features, C, rows, columns) as (C, rows * reversed columns * features)."""
    return weight.detach().flip(3).permute(1, 2, 3, 0).reshape(weight.shape[1], -1).contiguous().numpy()


def _geometry(
    weight: Tensor, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int = 1
) -> Geometry:
    (a, b), (c, d), (e, f) = stride, padding, dilation
    return Geometry((weight.shape[2], weight.shape[3]), (a, b), (c, d), (e, f), groups, weight.shape[0] // groups)


#: neurons that operators know by their names; what a trace holds of others are their steps, in plain torch
_NAMED = (IntegrateAndFire, Leaky, Ramp)


def _name(neuron: Any) -> tuple[str, list[float]]:
    return type(neuron).__name__, list(neuron)


def _named(name: str, numbers: Sequence[float]) -> Neuron:
    kind: Any = next(kind for kind in _NAMED if kind.__name__ == name)
    neuron: Neuron = kind(*numbers)
    return neuron


def _out(times: Tensor, weight: Tensor, shape: Geometry, dtype: torch.dtype) -> Tensor:
    size = (times.shape[0], weight.shape[0], *shape.output_size(*times.shape[2:]))
    return torch.empty(size, dtype=dtype, device=times.device, memory_format=torch.channels_last)


def _groups(weight: Tensor, shape: Geometry) -> list[tuple[slice, slice]]:
    """(input features, output features) of each group."""
    inputs, outputs = weight.shape[1], shape.features_per_group
    return [(slice(g * inputs, (g + 1) * inputs), slice(g * outputs, (g + 1) * outputs)) for g in range(shape.groups)]


_LIBRARY = torch.library.Library("spyketorch", "FRAGMENT")  # type: ignore[no-untyped-call]
_SHAPE = "int[] stride, int[] padding, int[] dilation"


def _define(schema: str, fake: Callable[..., Any], cpu: Callable[..., Any], default: Callable[..., Any] | None) -> Any:
    """An operator: its schema, its fake version, and what it does on the CPU and on every other device."""
    name = f"spyketorch::{schema.partition('(')[0]}"
    torch.library.define(name, schema[schema.index("(") :], lib=_LIBRARY, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(name, "CPU", cpu, lib=_LIBRARY)
    if default is not None:
        torch.library.impl(name, "CompositeExplicitAutograd", default, lib=_LIBRARY)
    torch.library.register_fake(name, fake, lib=_LIBRARY)
    return getattr(torch.ops.spyketorch, name.partition("::")[2]).default


# What an operator gives is laid out the same by loops and by plain torch, as its fake version says.


def _empty_answer(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor,
    time_steps: int,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    want_values: bool,
) -> tuple[Tensor, Tensor]:
    shape = _geometry(weight, stride, padding, dilation, groups)
    values = _out(times, weight, shape, weight.dtype) if want_values else weight.new_empty(0)
    return _out(times, weight, shape, times.dtype), values


def _plain_convolution_fire(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor,
    time_steps: int,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    want_values: bool,
) -> tuple[Tensor, Tensor]:
    fired, values = _empty_answer(times, weight, threshold, time_steps, stride, padding, dilation, groups, want_values)
    shape = _geometry(weight, stride, padding, dilation, groups)
    first, potentials = plain.convolution_fire(times, weight, threshold, time_steps, shape, want_values)
    return fired.copy_(first), values.copy_(potentials)


def _convolution_fire(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor,
    time_steps: int,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    want_values: bool,
) -> tuple[Tensor, Tensor]:
    given = (times, weight, threshold, time_steps, stride, padding, dilation, groups, want_values)
    if not has_loops(weight):
        return _plain_convolution_fire(*given)
    from spyketorch.kernels.engine import engine

    shape = _geometry(weight, stride, padding, dilation, groups)
    fired, values = _empty_answer(*given)
    for inputs, outputs in _groups(weight, shape):
        firsts = channels_last(fired[:, outputs])
        at_first = channels_last(values[:, outputs] if want_values else values.view(0, 1, 1, 1))
        alone = shape._replace(groups=1)
        with engine(weight[outputs], threshold[outputs], time_steps, alone, times.shape[2:]) as loops:
            loops.fire(channels_last(times[:, inputs]), firsts, at_first)
        if shape.groups > 1:
            fired[:, outputs].copy_(torch.from_numpy(firsts).permute(0, 3, 1, 2))
            if want_values:
                values[:, outputs].copy_(torch.from_numpy(at_first).permute(0, 3, 1, 2))
    return fired, values


def neuron_fire(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    shape: Geometry,
    neuron: Neuron,
    want_values: bool,
) -> tuple[Tensor, Tensor]:
    """:func:`convolution_fire` of any neurons: an operator where traces hold those that schemas can name."""
    if torch.compiler.is_compiling():
        if type(neuron) not in _NAMED:
            return plain.neuron_fire(times, weight, threshold, time_steps, shape, neuron, want_values)
        options = (*shape.options().values(), *_name(neuron), want_values)
        answer: tuple[Tensor, Tensor] = _named_fire(times, weight, threshold, time_steps, *options)
        return answer
    reason = why_not_compiled(neuron, weight)
    if reason is not None or not check.free_to_read(times) or not check.free_to_read(weight):
        if reason is not None:
            say_slow("a layer answers in plain torch, many times slower than in the compiled loops", weight, reason)
        return plain.neuron_fire(times, weight, threshold, time_steps, shape, neuron, want_values)
    from spyketorch.kernels.engine import engine

    fired = _out(times, weight, shape, times.dtype)
    values = _out(times, weight, shape, weight.dtype) if want_values else weight.new_empty(0)
    firsts, at_first = channels_last(fired), channels_last(values if want_values else values.view(0, 1, 1, 1))
    with engine(weight, threshold, time_steps, shape, times.shape[2:], neuron=neuron) as loops:
        loops.fire(channels_last(times), firsts, at_first)
    return fired, values


#: (first-spike times, potentials there, or nothing where they are not wanted)
convolution_fire = _define(
    f"convolution_fire(Tensor times, Tensor weight, Tensor threshold, int time_steps, {_SHAPE}, int groups, "
    "bool want_values) -> (Tensor, Tensor)",
    _empty_answer,
    _convolution_fire,
    _plain_convolution_fire,
)


def _empty_named(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    neuron: str,
    numbers: Sequence[float],
    want_values: bool,
) -> tuple[Tensor, Tensor]:
    return _empty_answer(times, weight, weight, time_steps, stride, padding, dilation, groups, want_values)


def _fire_by(fire: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """:func:`neuron_fire`, or what it is in plain torch, of a neuron by its name, laid out as the fake version says."""

    def named(
        times: Tensor,
        weight: Tensor,
        threshold: Tensor | None,
        time_steps: int,
        stride: Ints,
        padding: Ints,
        dilation: Ints,
        groups: int,
        neuron: str,
        numbers: Sequence[float],
        want_values: bool,
    ) -> tuple[Tensor, Tensor]:
        options = stride, padding, dilation, groups
        fired, values = _empty_answer(times, weight, weight, time_steps, *options, want_values)
        given = times, weight, threshold, time_steps, _geometry(weight, *options), _named(neuron, numbers)
        first, potentials = fire(*given, want_values)
        return fired.copy_(first), values.copy_(potentials)

    return named


_named_fire = _define(
    f"neuron_fire(Tensor times, Tensor weight, Tensor? threshold, int time_steps, {_SHAPE}, int groups, str neuron, "
    "float[] numbers, bool want_values) -> (Tensor, Tensor)",
    _empty_named,
    _fire_by(neuron_fire),
    _fire_by(plain.neuron_fire),
)


def _empty_potentials(
    times: Tensor, weight: Tensor, time_steps: int, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Tensor:
    return _out(times, weight, _geometry(weight, stride, padding, dilation, groups), weight.dtype)


def _plain_last_potentials(
    times: Tensor, weight: Tensor, time_steps: int, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Tensor:
    shape = _geometry(weight, stride, padding, dilation, groups)
    potentials = plain.last_potentials(times, weight, time_steps, shape)
    return _out(times, weight, shape, weight.dtype).copy_(potentials)


def _last_potentials(
    times: Tensor, weight: Tensor, time_steps: int, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Tensor:
    if not has_loops(weight):
        return _plain_last_potentials(times, weight, time_steps, stride, padding, dilation, groups)
    from spyketorch.kernels.loops import layout

    shape = _geometry(weight, stride, padding, dilation, groups)
    potentials = _out(times, weight, shape, weight.dtype)
    for inputs, outputs in _groups(weight, shape):
        source = times[:, inputs].contiguous().numpy()
        into = channels_last(potentials[:, outputs])
        taps = layout.reach(source.shape[2:], into.shape[1:3], shape)
        _sumchannels_last(source, _rows(weight[outputs]), time_steps, taps, into)
        if shape.groups > 1:
            potentials[:, outputs].copy_(torch.from_numpy(into).permute(0, 3, 1, 2))
    return potentials


def _sumchannels_last(times: np.ndarray, rows: np.ndarray, time_steps: int, taps: Any, into: np.ndarray) -> None:
    from spyketorch.kernels.loops import last_step

    def part(begin: int, end: int) -> None:
        for i in range(begin, end, _CHUNK):
            last_step.last_potentials(times, rows, time_steps, taps, into, i, min(i + _CHUNK, end))

    in_parallel(len(times), part, times[0].size * rows.shape[1], parts_per_thread=1)


#: potentials at the last time step
last_potentials = _define(
    f"last_potentials(Tensor times, Tensor weight, int time_steps, {_SHAPE}, int groups) -> Tensor",
    _empty_potentials,
    _last_potentials,
    _plain_last_potentials,
)


def _window(kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int]) -> Geometry:
    return Geometry((kernel_size[0], kernel_size[1]), (stride[0], stride[1]), (padding[0], padding[1]))


def _empty_pooled(times: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, earliest: int = 1) -> Tensor:
    size = (*times.shape[:2], *_window(kernel_size, stride, padding).output_size(*times.shape[2:]))
    return torch.empty(size, dtype=times.dtype, device=times.device, memory_format=torch.channels_last)


def _plain_pooling(times: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, earliest: int = 1) -> Tensor:
    pooled = plain.pooling(times, _window(kernel_size, stride, padding), earliest)
    return _empty_pooled(times, kernel_size, stride, padding).copy_(pooled)


def _pooling(times: Tensor, kernel_size: Ints, stride: Ints, padding: Ints, earliest: int = 1) -> Tensor:
    if not _numba():
        return _plain_pooling(times, kernel_size, stride, padding, earliest)
    from spyketorch.kernels.loops import layout, maps

    shape, pooled = _window(kernel_size, stride, padding), _empty_pooled(times, kernel_size, stride, padding)
    source, into = channels_last(times), channels_last(pooled)
    if earliest == 1:
        taps = layout.reach(source.shape[1:3], into.shape[1:3], shape)
        in_parallel(len(source), partial(maps.pooling, source, taps, into), source[0].size)
    else:
        window = shape.kernel_size, shape.stride, shape.padding
        work = into[0].size * math.prod(shape.kernel_size) * earliest
        in_parallel(len(source), partial(maps.later_pooling, source, *window, earliest, into), work)
    return pooled


#: earliest spike of each window, or the one that is so many-th
pooling = _define(
    "pooling(Tensor times, int[] kernel_size, int[] stride, int[] padding, int earliest=1) -> Tensor",
    _empty_pooled,
    _pooling,
    _plain_pooling,
)


def _empty_inhibited(times: Tensor, potentials: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
    kept, left = (torch.empty_like(x, memory_format=torch.channels_last) for x in (times, potentials))
    return kept, left


def _plain_pointwise_inhibition(times: Tensor, potentials: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
    kept, left = _empty_inhibited(times, potentials, time_steps)
    first, strongest = plain.pointwise_inhibition(times, potentials, time_steps)
    return kept.copy_(first), left.copy_(strongest)


def _pointwise_inhibition(times: Tensor, potentials: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
    if not has_loops(potentials):
        return _plain_pointwise_inhibition(times, potentials, time_steps)
    from spyketorch.kernels.loops import maps

    kept, left = _empty_inhibited(times, potentials, time_steps)
    features = max(times.shape[1], 1)
    given, into = (
        [channels_last(x).reshape(-1, features) for x in pair] for pair in ((times, potentials), (kept, left))
    )
    work = partial(maps.pointwise_inhibition, (given[0], given[1]), time_steps, (into[0], into[1]))
    in_parallel(len(given[0]), work, 4 * features)
    return kept, left


#: (times, potentials) where at each place one feature survives
pointwise_inhibition = _define(
    "pointwise_inhibition(Tensor times, Tensor potentials, int time_steps) -> (Tensor, Tensor)",
    _empty_inhibited,
    _pointwise_inhibition,
    _plain_pointwise_inhibition,
)


def exact_fire(
    times: Tensor, weight: Tensor, threshold: Tensor, time_steps: int, horizon: float, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """When neurons that hear all inputs, times (N, inputs), fire between the steps, and their potentials in the end.

    Both are (N, neurons); inf for never. An operator where traces hold neurons that schemas can name.
    """
    if torch.compiler.is_compiling():
        if type(neuron) not in _NAMED:
            return plain.exact_fire(times, weight, threshold, time_steps, horizon, neuron)
        answer: tuple[Tensor, Tensor] = _named_exact_fire(times, weight, threshold, time_steps, horizon, *_name(neuron))
        return answer
    reason = why_not_compiled(neuron, weight)
    if reason is not None or not check.free_to_read(times) or not check.free_to_read(weight):
        if reason is not None:
            say_slow("a read-out answers in plain torch, several times slower than compiled loops", weight, reason)
        return plain.exact_fire(times, weight, threshold, time_steps, horizon, neuron)
    from spyketorch.kernels import deciding

    return deciding.fire(times, weight, threshold, time_steps, horizon, neuron)


def _empty_exact(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor,
    time_steps: int,
    horizon: float,
    neuron: str,
    numbers: Sequence[float],
) -> tuple[Tensor, Tensor]:
    size = (times.shape[0], weight.shape[0])  # `len` would keep the number of images in a trace
    return weight.new_empty(size), weight.new_empty(size)


def _exact_fire_by(fire: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
    """:func:`exact_fire`, or what it is in plain torch, of a neuron by its name."""

    def named(
        times: Tensor,
        weight: Tensor,
        threshold: Tensor,
        time_steps: int,
        horizon: float,
        neuron: str,
        numbers: Sequence[float],
    ) -> tuple[Tensor, Tensor]:
        return fire(times, weight, threshold, time_steps, horizon, _named(neuron, numbers))

    return named


_named_exact_fire = _define(
    "exact_fire(Tensor times, Tensor weight, Tensor threshold, int time_steps, float horizon, str neuron, "
    "float[] numbers) -> (Tensor, Tensor)",
    _empty_exact,
    _exact_fire_by(exact_fire),
    _exact_fire_by(plain.exact_fire),
)


# Encoding


def correlated(batch: Tensor, kernels: Tensor, padding: tuple[int, int]) -> Tensor:
    """Answers (N, K, rows, columns) of kernels (K, D, side, side) to images (N, D, H, W).

    On a CPU each image's, to the bit, whatever stands beside it in the batch: a spike may move else. An operator in
    traces, of which compilers would take a convolution apart; but where images ask for a gradient.
    """
    if torch.compiler.is_compiling() and not batch.requires_grad:
        answers: Tensor = _correlated(batch, kernels, padding)
        return answers
    side, batch = kernels.shape[-1], batch.contiguous()
    adds_otherwise = side <= 3 or batch.dtype == torch.float64  # torch's convolution of a batch, not that of an image
    each = batch.is_cpu and not torch.compiler.is_compiling() and len(batch) > 1 and adds_otherwise
    return (conv2d_of_each if each else conv2d)(batch, kernels, Geometry((side, side), padding=padding))


def _empty_correlated(images: Tensor, kernels: Tensor, padding: Ints) -> Tensor:
    window = Geometry((kernels.shape[2], kernels.shape[3]), padding=(padding[0], padding[1]))
    return images.new_empty((images.shape[0], kernels.shape[0], *window.output_size(*images.shape[2:])))


def _any_correlated(images: Tensor, kernels: Tensor, padding: Ints) -> Tensor:
    return correlated(images, kernels, (padding[0], padding[1])).contiguous()


_correlated = _define(
    "correlated(Tensor images, Tensor kernels, int[] padding) -> Tensor",
    _empty_correlated,
    _any_correlated,
    _any_correlated,
)


def _any_negative(x: Tensor) -> bool:
    return x.numel() > 0 and bool(x.amin() < 0)


def _empty_times(intensities: Tensor, time_steps: int) -> Tensor:
    return torch.empty_like(intensities, dtype=time_dtype(time_steps), memory_format=torch.contiguous_format)


def _plain_rank_order(intensities: Tensor, time_steps: int) -> Tensor:
    return _empty_times(intensities, time_steps).copy_(plain.rank_order(intensities, time_steps))


def _rank_order(intensities: Tensor, time_steps: int) -> Tensor:
    if not has_loops(intensities) or intensities.dtype != torch.float32 or _any_negative(intensities):
        return _plain_rank_order(intensities, time_steps)
    from spyketorch.kernels.loops import intensities as loops

    times = _empty_times(intensities, time_steps)
    source, into = intensities.contiguous().flatten(1).numpy(), times.view(len(times), -1).numpy()
    in_parallel(len(source), partial(loops.rank_order, source, time_steps, into), 20 * source.shape[1])
    return times


#: first-spike times by rank, of (N, C, H, W) intensities
rank_order = _define(
    "rank_order(Tensor intensities, int time_steps) -> Tensor", _empty_times, _rank_order, _plain_rank_order
)


def _empty_normalized(intensities: Tensor, radius: int, eps: float) -> Tensor:
    return torch.empty_like(intensities, memory_format=torch.contiguous_format)


def _plain_local_normalization(intensities: Tensor, radius: int, eps: float) -> Tensor:
    normalized = plain.local_normalization(intensities, radius, eps)
    return _empty_normalized(intensities, radius, eps).copy_(normalized)


def _local_normalization(intensities: Tensor, radius: int, eps: float) -> Tensor:
    if not has_loops(intensities):
        return _plain_local_normalization(intensities, radius, eps)
    from spyketorch.kernels.loops import intensities as loops

    normalized = _empty_normalized(intensities, radius, eps)
    source, into = intensities.contiguous().flatten(0, 1).numpy(), normalized.flatten(0, 1).numpy()
    norm = loops.Normalization.of(radius, eps, source.shape[1:], source.dtype.type)
    in_parallel(
        len(source), partial(loops.local_normalization, source, norm, into), source[0].size * (4 * norm.radius + 2)
    )
    return normalized


#: intensities (N, C, H, W) over the mean of the square around them
local_normalization = _define(
    "local_normalization(Tensor intensities, int radius, float eps) -> Tensor",
    _empty_normalized,
    _local_normalization,
    _plain_local_normalization,
)


# Deciding and learning, on the CPU only: elsewhere latency.py and learning.py compose them in torch


def why_not_compiled(neuron: Neuron, weight: Tensor) -> str | None:
    """Why the loops do not serve such neurons, or None where they do."""
    if not has_loops(weight):
        return f"there are none for weights of {weight.dtype} on {weight.device}"
    if _stands_still(neuron):
        return None
    from spyketorch.kernels import engine

    return engine.why_not_compiled(neuron)


def why_no_search(
    weight: Tensor, threshold: Tensor | None, shape: Geometry, choice: Choice, neuron: Neuron = _INTEGRATE_AND_FIRE
) -> str | None:
    """Why the loops do not find the winners of such a layer, or None where they do."""
    if not _stands_still(neuron) or not has_loops(weight):
        return why_not_compiled(neuron, weight)
    if threshold is None and shape.groups > 1:
        return "the layer has `groups` and no threshold"
    if threshold is None and choice.inhibit and choice.kwta > 1:
        return (
            "the layer has no threshold, but several winners after pointwise inhibition: "
            "`pointwise_inhibition=False` or `kwta=1` would take the loops"
        )
    return None


SLOW_SEARCH = "winners are searched in plain torch, many times slower than in the compiled loops"


def say_slow(what: str, weight: Tensor, reason: str) -> None:
    """Tell, once, that the loops are not taken, where they are there; elsewhere plain torch is as it should be."""
    if not torch.compiler.is_compiling() and has_loops(weight):
        warn_once(f"{what}, because {reason}")


def _empty_winners(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    inhibit: bool,
    kwta: int,
    radius: int,
) -> Tensor:
    return times.new_empty((times.shape[0], kwta, 3), dtype=torch.int64)


def _convolution_winners(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
    inhibit: bool,
    kwta: int,
    radius: int,
) -> Tensor:
    shape, choice = _geometry(weight, stride, padding, dilation, groups), Choice(kwta, radius, inhibit)
    reason = why_no_search(weight, threshold, shape, choice)
    if reason is not None:
        say_slow(SLOW_SEARCH, weight, reason)
        check.finite(weight, "weight")
        with gather.layer(weight, threshold, time_steps, shape) as layer:
            return gather.find(times, layer, choice)[0]
    from spyketorch.kernels.engine import engine

    with engine(weight, threshold, time_steps, shape, times.shape[2:]) as loops:
        return torch.from_numpy(loops.find(channels_last(times), choice).winners)


def neuron_winners(
    times: Tensor,
    weight: Tensor,
    threshold: Tensor | None,
    time_steps: int,
    shape: Geometry,
    neuron: Neuron,
    choice: Choice,
) -> Tensor:
    """:func:`convolution_winners` of any neurons that the loops serve."""
    from spyketorch.kernels.engine import engine

    with engine(weight, threshold, time_steps, shape, times.shape[2:], neuron=neuron) as loops:
        return torch.from_numpy(loops.find(channels_last(times), choice).winners)


#: winners (N, kwta, 3), rows of -1 where there are fewer; without a threshold only the last step counts
convolution_winners = _define(
    f"convolution_winners(Tensor times, Tensor weight, Tensor? threshold, int time_steps, {_SHAPE}, int groups, "
    "bool inhibit, int kwta, int radius) -> Tensor",
    _empty_winners,
    _convolution_winners,
    None,
)
