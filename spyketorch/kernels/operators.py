"""The operators: what they take and give, how that is laid out, and which loops serve them on a CPU.

Tensors of times are (N, C, H, W), in channels-last memory where an operator made them; answers are laid out the same by
loops and by plain torch. :mod:`.defining` makes operators known to torch, :mod:`.serving` says where loops serve.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry, conv2d, conv2d_of_each
from spyketorch._winners import Choice
from spyketorch.kernels import gather, plain, serving
from spyketorch.kernels.arrays import Array, channels_last
from spyketorch.kernels.defining import Noun, operator
from spyketorch.kernels.layers import Spiking
from spyketorch.kernels.parallel import in_parallel
from spyketorch.neurons import _INTEGRATE_AND_FIRE, IntegrateAndFire, Leaky, Neuron, Ramp

if TYPE_CHECKING:
    from spyketorch.kernels.engine import Engine

Ints = Sequence[int]

_CHUNK = 16  # images whose decision potentials are computed together: their weights are read once


def time_dtype(time_steps: int) -> torch.dtype:
    """The smallest type for times 0..time_steps."""
    return torch.uint8 if time_steps <= 254 else torch.int16 if time_steps <= 32_767 else torch.int32


# What travels together, in the words of schemas


def _spiking(
    weight: Tensor, threshold: Tensor | None, time_steps: int, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Spiking:
    (a, b), (c, d), (e, f) = stride, padding, dilation
    features, _, rows, columns = weight.shape
    shape = Geometry((rows, columns), (a, b), (c, d), (e, f), groups, features // groups)
    return Spiking(weight, threshold, time_steps, shape)


_GEOMETRY = "int time_steps, int[] stride, int[] padding, int[] dilation, int groups"
_WITH_THRESHOLD = Noun(f"Tensor weight, Tensor threshold, {_GEOMETRY}", _spiking)
_WITH_OR_WITHOUT = Noun(f"Tensor weight, Tensor? threshold, {_GEOMETRY}", _spiking)
_WITHOUT = Noun(f"Tensor weight, {_GEOMETRY}", lambda weight, *rest: _spiking(weight, None, *rest))

_CHOICE = Noun("bool inhibit, int kwta, int radius", lambda inhibit, kwta, radius: Choice(kwta, radius, inhibit))


def _window(kernel_size: Ints, stride: Ints, padding: Ints) -> Geometry:
    (a, b), (c, d), (e, f) = kernel_size, stride, padding
    return Geometry((a, b), (c, d), (e, f))


_WINDOW = Noun("int[] kernel_size, int[] stride, int[] padding", _window)

#: neurons that operators know by their names; what a trace holds of others are their steps, in plain torch
_NAMED = (IntegrateAndFire, Leaky, Ramp)


def _named(name: str, numbers: Sequence[float]) -> Neuron:
    kind: Any = next(kind for kind in _NAMED if kind.__name__ == name)
    neuron: Neuron = kind(*numbers)
    return neuron


def _name(neuron: Any) -> tuple[str, list[float]]:
    return type(neuron).__name__, list(neuron)


_NEURON = Noun("str neuron, float[] numbers", _named)


# Layers


def _maps(times: Tensor, layer: Spiking, want_values: bool) -> tuple[Tensor, Tensor]:
    """First-spike times, and potentials there or nothing where they are not wanted, without values."""
    weight = layer.weight
    return layer.room(times, times.dtype), layer.room(times, weight.dtype) if want_values else weight.new_empty(0)


@cache
def _engine() -> Callable[..., AbstractContextManager["Engine"]]:
    """The loops on a layer: an import at each call would take as long as a tenth of a small answer."""
    from spyketorch.kernels.engine import engine

    return engine


def _in_loops(times: Tensor, layer: Spiking, neuron: Neuron, want_values: bool) -> tuple[Tensor, Tensor]:
    """:func:`neuron_fire` of neurons that the loops serve."""
    fired, values = _maps(times, layer, want_values)
    firsts, at_first = channels_last(fired), channels_last(values if want_values else values.view(0, 1, 1, 1))
    with _engine()(layer, times.shape[2:], neuron=neuron) as loops:
        loops.fire(channels_last(times), firsts, at_first)
    return fired, values


@operator(
    "convolution_fire",
    ("Tensor times", _WITH_THRESHOLD, "bool want_values"),
    "(Tensor, Tensor)",
    empty=_maps,
    plain=plain.convolution_fire,
    served=lambda times, layer, _: serving.has_loops(layer.weight),
)
def convolution_fire(times: Tensor, layer: Spiking, want_values: bool) -> tuple[Tensor, Tensor]:
    """(First-spike times, potentials there, or nothing where they are not wanted)."""
    if layer.shape.groups == 1:
        return _in_loops(times, layer, _INTEGRATE_AND_FIRE, want_values)
    fired, values = _maps(times, layer, want_values)
    for inputs, outputs, alone in layer.groups():
        first, potentials = _in_loops(times[:, inputs], alone, _INTEGRATE_AND_FIRE, want_values)
        fired[:, outputs].copy_(first)
        if want_values:
            values[:, outputs].copy_(potentials)
    return fired, values


def neuron_fire(times: Tensor, layer: Spiking, neuron: Neuron, want_values: bool) -> tuple[Tensor, Tensor]:
    """:func:`convolution_fire` of any neurons: an operator where traces hold those that schemas can name."""
    if torch.compiler.is_compiling():
        if type(neuron) not in _NAMED:
            return plain.neuron_fire(times, layer, neuron, want_values)
        answer: tuple[Tensor, Tensor] = _named_fire(times, *layer.flat(), *_name(neuron), want_values)
        return answer
    fire = _in_loops if _layer_served(times, layer, neuron, want_values) else plain.neuron_fire
    return fire(times, layer, neuron, want_values)


def _layer_served(times: Tensor, layer: Spiking, neuron: Neuron, want_values: bool) -> bool:
    slow = "a layer answers in plain torch, many times slower than in the compiled loops"
    return serving.answers(times, layer.weight, neuron, slow)


_named_fire = operator(
    "neuron_fire",
    ("Tensor times", _WITH_OR_WITHOUT, _NEURON, "bool want_values"),
    "(Tensor, Tensor)",
    empty=lambda times, layer, neuron, want_values: _maps(times, layer, want_values),
    plain=plain.neuron_fire,
    served=_layer_served,
)(_in_loops)


@operator(
    "last_potentials",
    ("Tensor times", _WITHOUT),
    "Tensor",
    empty=lambda times, layer: layer.room(times, layer.weight.dtype),
    plain=plain.last_potentials,
    served=lambda times, layer: serving.has_loops(layer.weight),
)
def last_potentials(times: Tensor, layer: Spiking) -> Tensor:
    """Potentials at the last time step."""
    if layer.shape.groups == 1:
        return _added(times, layer)
    potentials = layer.room(times, layer.weight.dtype)
    for inputs, outputs, alone in layer.groups():
        potentials[:, outputs].copy_(_added(times[:, inputs], alone))
    return potentials


def _added(times: Tensor, layer: Spiking) -> Tensor:
    """:func:`last_potentials` of one group."""
    from spyketorch.kernels.loops import last_step, layout

    potentials = layer.room(times, layer.weight.dtype)
    source, rows, into = times.contiguous().numpy(), _rows(layer.weight), channels_last(potentials)
    taps = layout.reach(source.shape[2:], into.shape[1:3], layer.shape)

    def part(begin: int, end: int) -> None:
        for i in range(begin, end, _CHUNK):
            last_step.last_potentials(source, rows, layer.time_steps, taps, into, i, min(i + _CHUNK, end))

    in_parallel(len(source), part, source[0].size * rows.shape[1], parts_per_thread=1)
    return potentials


def _rows(weight: Tensor) -> Array:
    """Weights (features, C, rows, columns) as (C, rows * reversed columns * features)."""
    return weight.detach().flip(3).permute(1, 2, 3, 0).reshape(weight.shape[1], -1).contiguous().numpy()


def _search(times: Tensor, layer: Spiking, choice: Choice) -> Tensor:
    """The winners where input spikes are gathered."""
    check.finite(layer.weight, "weight")
    with gather.layer(layer) as gathered:
        return gather.find(times, gathered, choice)[0]


def _search_served(times: Tensor, layer: Spiking, choice: Choice) -> bool:
    reason = serving.why_no_search(layer, choice)
    if reason is not None:
        serving.say_slow(serving.SLOW_SEARCH, layer.weight, reason)
    return reason is None


def neuron_winners(times: Tensor, layer: Spiking, choice: Choice, neuron: Neuron = _INTEGRATE_AND_FIRE) -> Tensor:
    """:func:`convolution_winners` of any neurons that the loops serve."""
    with _engine()(layer, times.shape[2:], neuron=neuron) as loops:
        return torch.from_numpy(loops.find(channels_last(times), choice).winners)


#: winners (N, kwta, 3), rows of -1 where there are fewer; on other devices latency.py composes it in torch
convolution_winners = operator(
    "convolution_winners",
    ("Tensor times", _WITH_OR_WITHOUT, _CHOICE),
    "Tensor",
    empty=lambda times, layer, choice: times.new_empty((times.shape[0], choice.kwta, 3), dtype=torch.int64),
    plain=_search,
    served=_search_served,
    anywhere=False,
)(neuron_winners)


def exact_fire(
    times: Tensor, weight: Tensor, threshold: Tensor, time_steps: int, horizon: float, neuron: Neuron
) -> tuple[Tensor, Tensor]:
    """When neurons that hear all inputs, times (N, inputs), fire between the steps, and their potentials in the end.

    Both are (N, neurons); inf for never. An operator where traces hold neurons that schemas can name.
    """
    given = times, weight, threshold, time_steps, horizon
    if torch.compiler.is_compiling():
        if type(neuron) not in _NAMED:
            return plain.exact_fire(*given, neuron)
        answer: tuple[Tensor, Tensor] = _named_exact_fire(*given, *_name(neuron))
        return answer
    return (_deciding() if _exactly_served(*given, neuron) else plain.exact_fire)(*given, neuron)


def _exactly_served(times: Tensor, weight: Tensor, *rest: Any) -> bool:
    slow = "a read-out answers in plain torch, several times slower than compiled loops"
    return serving.answers(times, weight, rest[-1], slow)


@cache
def _deciding() -> Callable[..., tuple[Tensor, Tensor]]:
    from spyketorch.kernels import deciding

    return deciding.fire


_named_exact_fire = operator(
    "exact_fire",
    ("Tensor times, Tensor weight, Tensor threshold, int time_steps, float horizon", _NEURON),
    "(Tensor, Tensor)",
    # `len` would keep the number of images in a trace
    empty=lambda times, weight, *_: tuple(weight.new_empty((times.shape[0], weight.shape[0])) for _ in range(2)),
    plain=plain.exact_fire,
    served=_exactly_served,
)(lambda *given: _deciding()(*given))


# Maps


def _pooled(times: Tensor, window: Geometry, earliest: int = 1) -> Tensor:
    size = (*times.shape[:2], *window.output_size(*times.shape[2:]))
    return torch.empty(size, dtype=times.dtype, device=times.device, memory_format=torch.channels_last)


@operator(
    "pooling",
    ("Tensor times", _WINDOW, "int earliest=1"),
    "Tensor",
    empty=_pooled,
    plain=plain.pooling,
    served=lambda *_: serving.has_numba(),
)
def pooling(times: Tensor, window: Geometry, earliest: int = 1) -> Tensor:
    """The earliest spike of each window, or the one that is so many-th."""
    from spyketorch.kernels.loops import layout, maps

    pooled = _pooled(times, window)
    source, into = channels_last(times), channels_last(pooled)
    if earliest == 1:
        taps = layout.reach(source.shape[1:3], into.shape[1:3], window)
        in_parallel(len(source), partial(maps.pooling, source, taps, into), source[0].size)
    else:
        work = into[0].size * math.prod(window.kernel_size) * earliest
        in_parallel(len(source), partial(maps.later_pooling, source, *window[:3], earliest, into), work)
    return pooled


def _like(times: Tensor, potentials: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
    kept, left = (torch.empty_like(x, memory_format=torch.channels_last) for x in (times, potentials))
    return kept, left


@operator(
    "pointwise_inhibition",
    ("Tensor times, Tensor potentials, int time_steps",),
    "(Tensor, Tensor)",
    empty=_like,
    plain=plain.pointwise_inhibition,
    served=lambda times, potentials, _: serving.has_loops(potentials),
)
def pointwise_inhibition(times: Tensor, potentials: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
    """(Times, potentials) where at each place one feature survives."""
    from spyketorch.kernels.loops import maps

    kept, left = _like(times, potentials, time_steps)
    features = max(times.shape[1], 1)
    given, into = (
        [channels_last(x).reshape(-1, features) for x in pair] for pair in ((times, potentials), (kept, left))
    )
    work = partial(maps.pointwise_inhibition, (given[0], given[1]), time_steps, (into[0], into[1]))
    in_parallel(len(given[0]), work, 4 * features)
    return kept, left


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


def _answers(images: Tensor, kernels: Tensor, padding: Ints) -> Tensor:
    window = Geometry((kernels.shape[2], kernels.shape[3]), padding=(padding[0], padding[1]))
    return images.new_empty((images.shape[0], kernels.shape[0], *window.output_size(*images.shape[2:])))


def _contiguous(images: Tensor, kernels: Tensor, padding: Ints) -> Tensor:
    return correlated(images, kernels, (padding[0], padding[1])).contiguous()


_correlated = operator(
    "correlated", ("Tensor images, Tensor kernels, int[] padding",), "Tensor", empty=_answers, plain=_contiguous
)(_contiguous)


def _ordered(intensities: Tensor, time_steps: int) -> Tensor:
    return torch.empty_like(intensities, dtype=time_dtype(time_steps), memory_format=torch.contiguous_format)


def _order_served(intensities: Tensor, time_steps: int) -> bool:
    if not serving.has_loops(intensities) or intensities.dtype != torch.float32:
        return False
    return intensities.numel() == 0 or not bool(intensities.amin() < 0)


@operator(
    "rank_order",
    ("Tensor intensities, int time_steps",),
    "Tensor",
    empty=_ordered,
    plain=plain.rank_order,
    served=_order_served,
)
def rank_order(intensities: Tensor, time_steps: int) -> Tensor:
    """First-spike times by rank, of (N, C, H, W) intensities."""
    from spyketorch.kernels.loops import intensities as loops

    times = _ordered(intensities, time_steps)
    source, into = intensities.contiguous().flatten(1).numpy(), times.view(len(times), -1).numpy()
    in_parallel(len(source), partial(loops.rank_order, source, time_steps, into), 20 * source.shape[1])
    return times


def _normalized(intensities: Tensor, radius: int, eps: float) -> Tensor:
    return torch.empty_like(intensities, memory_format=torch.contiguous_format)


@operator(
    "local_normalization",
    ("Tensor intensities, int radius, float eps",),
    "Tensor",
    empty=_normalized,
    plain=plain.local_normalization,
    served=lambda intensities, *_: serving.has_loops(intensities),
)
def local_normalization(intensities: Tensor, radius: int, eps: float) -> Tensor:
    """Intensities (N, C, H, W) over the mean of the square around them."""
    from spyketorch.kernels.loops import intensities as loops

    normalized = _normalized(intensities, radius, eps)
    source, into = intensities.contiguous().flatten(0, 1).numpy(), normalized.flatten(0, 1).numpy()
    norm = loops.Normalization.of(radius, eps, source.shape[1:], source.dtype.type)
    work = source[0].size * (4 * norm.radius + 2)
    in_parallel(len(source), partial(loops.local_normalization, source, norm, into), work)
    return normalized
