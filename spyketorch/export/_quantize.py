"""From a trained network to one of integers: scales and thresholds, chosen by how images are answered."""

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.encoding._colours import Luminance, OpponentColours
from spyketorch.encoding._colours import OnOff as FloatOnOff
from spyketorch.encoding._equalized import EqualizedLatency
from spyketorch.encoding._filter import Filter as FloatFilter
from spyketorch.encoding._latency import LatencyEncoder
from spyketorch.encoding._linear import LinearLatency
from spyketorch.encoding._whitening import Whitening
from spyketorch.export import _ops as ops
from spyketorch.export._network import Description, IntegerNetwork, standard, unfit
from spyketorch.export._readouts import IntegerFirstSpike, IntegerLinear
from spyketorch.models._images import ImageSpec
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.neurons import IntegrateAndFire, Ramp
from spyketorch.readout._first_spike import FirstSpikeReadout
from spyketorch.readout._linear import LinearReadout
from spyketorch.snn import SpikingConvolution
from spyketorch.training._evaluation import evaluate

_LIMIT = 2**31 - 1
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1)  # of the largest weight, above which all are alike
_TRIED_ON = 200  # images, each of them
_FACTORS = tuple(2 ** (step / 16) for step in range(-8, 9))  # of thresholds


class Loss(NamedTuple):
    """What a part of a network lost.

    Attributes:
        part: where it is found.
        bits: of its weights, 0 where it has none.
        size: bytes of it in the file.
        differ: share of its spike times that are others than those of the network of floats.
        accuracy: of the network in which this part and all before it are integers; None without labels.
    """

    part: str
    bits: int
    size: int
    differ: float
    accuracy: float | None


class Report(list[Loss]):
    """What each part lost, from the image up; the first row is the network of floats."""

    def __repr__(self) -> str:
        head = f"{'part':<18}{'bits':>6}{'bytes':>10}{'times differ':>14}{'accuracy':>10}"
        rows = [
            f"{one.part:<18}{one.bits or '':>6}{one.size or '':>10}{one.differ:>14.2%}"
            + ("" if one.accuracy is None else f"{one.accuracy:>10.2%}")
            for one in self
        ]
        return "\n".join([head, "-" * len(head), *rows])


# The encoder


class _Values(NamedTuple):
    """What is known of the integers that reach a part: how many stand for 1, and the largest that they can be."""

    scale: float = 1.0
    largest: int = 255

    def behind(self, kernels: Tensor, scale: float) -> "_Values":
        strongest = int(kernels.abs().sum((1, 2, 3)).max())
        return _Values(self.scale * scale, max(1, self.largest * strongest))


Made = tuple[list[nn.Module], _Values]


@singledispatch
def integer_parts(part: nn.Module, given: _Values) -> Made:
    """The integer parts that do what a part of an encoder does; more kinds are registered by their types."""
    raise unfit(
        "one whose encoder is made of Filter, OnOff, Whitening, Luminance, OpponentColours, paddings, LatencyEncoder, "
        "LinearLatency and EqualizedLatency",
        part,
    )


def _chain(parts: Sequence[nn.Module], given: _Values) -> Made:
    made: list[nn.Module] = []
    for part in parts:
        if part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part):
            raise unfit("one whose encoder has no hooks", part)
        more, given = integer_parts(part, given)
        made += more
    return made, given


@integer_parts.register(nn.Sequential)
def _(part: nn.Sequential, given: _Values) -> Made:
    return _chain([*part], given)


@integer_parts.register(nn.Identity)
def _(part: nn.Identity, given: _Values) -> Made:
    return [], given


def _kernels(kernels: Tensor, given: _Values, thresholds: Tensor | None = None, absolute: bool = False) -> Made:
    """Kernels of 8 bits, on one scale; those that add up to 0 still do, so that flat places are silent."""
    whole = kernels.detach().cpu().double()
    room = _LIMIT / (given.largest * float(whole.abs().sum((1, 2, 3)).max()) + 1e-30) * 0.9
    scale = min(127 / float(whole.abs().max()), room)
    found = (whole * scale).round()
    for k, kernel in enumerate(whole):
        if abs(float(kernel.sum())) < 1e-4 * float(kernel.abs().sum()):
            found[k] = _balanced(kernel * scale)
    if thresholds is None:
        limits = torch.full((len(found),), -(2**31))
    else:
        limits = (thresholds.double() * given.scale * scale).ceil().clamp(-(2**31), _LIMIT).to(torch.int64)
    return [ops.Filter(found, limits, absolute)], given.behind(found, scale)


def _balanced(kernel: Tensor) -> Tensor:
    """Numbers rounded so that they add up to 0: those that rounding moved the most are rounded the other way."""
    found = kernel.round()
    excess = int(found.sum())
    lost = ((found - kernel) * math.copysign(1, excess)).flatten()
    for place in lost.argsort(descending=True)[: abs(excess)]:
        found.view(-1)[place] -= math.copysign(1, excess)
    return found


@integer_parts.register(FloatFilter)
def _(part: FloatFilter, given: _Values) -> Made:
    if part._own():
        raise unfit("one whose filters are encoding.Filter itself", part)
    limits = None if part.thresholds is None else torch.tensor(part.thresholds)
    made, values = _kernels(part.kernels, given, limits, part.use_abs)
    rows, columns = part.padding
    return [*([ops.Pad((columns, columns, rows, rows), False)] if rows or columns else []), *made], values


@integer_parts.register(Luminance)
def _(part: Luminance, given: _Values) -> Made:
    return _kernels(torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1), given)


@integer_parts.register(OpponentColours)
def _(part: OpponentColours, given: _Values) -> Made:
    rows = [[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]
    return _kernels(torch.tensor([[n / math.hypot(*row) for n in row] for row in rows]).view(3, 3, 1, 1), given)


@integer_parts.register(Whitening)
def _(part: Whitening, given: _Values) -> Made:
    if part.kernels is None:
        raise ValueError("`network` must have been trained; its whitening is not fitted yet")
    made, values = _kernels(part.kernels, given)
    return [ops.Pad((part.window // 2,) * 4, True), *made], values


@integer_parts.register(FloatOnOff)
def _(part: FloatOnOff, given: _Values) -> Made:
    return [ops.OnOff()], given


@integer_parts.register(nn.ReLU)
def _(part: nn.ReLU, given: _Values) -> Made:
    return [ops.Filter(torch.ones(1, 1, 1, 1), torch.zeros(1), False)], given


def _padding(part: Any, edge: bool) -> list[nn.Module]:
    return [ops.Pad(tuple(part.padding), edge)]


@integer_parts.register(nn.ReplicationPad2d)
def _(part: nn.ReplicationPad2d, given: _Values) -> Made:
    return _padding(part, True), given


@integer_parts.register(nn.ZeroPad2d)
def _(part: nn.ZeroPad2d, given: _Values) -> Made:
    return _padding(part, False), given


@integer_parts.register(LatencyEncoder)
def _(part: LatencyEncoder, given: _Values) -> Made:
    made, values = _chain([part.filter], given)
    if part.normalization_radius is not None:
        radius = part.normalization_radius
        if values.largest * (2 * radius + 1) ** 2 > _LIMIT:
            raise check.fail("network", "one whose normalisation adds up to less than 2^31 in 8 bits", radius)
        made.append(ops.Normalise(radius, 20))
        values = _Values(1.0, 2**20)
    return [*made, ops.Rank(part.time_steps)], values


def _largest(part: Any, values: _Values) -> Tensor:
    if not part.fitted:
        raise ValueError(f"`network` must have been trained; its {type(part).__name__} is not fitted yet")
    largest: Tensor = (part.largest.detach().cpu().double() * values.scale).round()
    return largest.clamp(0, _LIMIT // part.time_steps).to(torch.int64)


@integer_parts.register(LinearLatency)
def _(part: LinearLatency, given: _Values) -> Made:
    made, values = _chain([part.filter], given)
    return [*made, ops.Latency(_largest(part, values), part.time_steps)], values


@integer_parts.register(EqualizedLatency)
def _(part: EqualizedLatency, given: _Values) -> Made:
    made, values = _chain([part.filter], given)
    largest = _largest(part, values)
    assert part.table is not None
    return [*made, ops.Table(largest, _limits(part.table.cpu(), part.time_steps), part.time_steps)], values


def _limits(table: Tensor, steps: int) -> Tensor:
    """Below which share of the largest a value is later than each step, in 2^-20, from the times of its levels."""
    times = table[1:].to(torch.int64)  # falling, of levels that begin at 2^-32, 2,048 from a power of two to the next
    level = (times[None] > torch.arange(steps - 1)[:, None]).sum(1)  # the first whose time is j or less
    bits = (level + (127 - 32) * 2**11).to(torch.int32) << 12
    limits = (bits.view(torch.float32).double() * 2**20).round().clamp(0, 2**20)
    return limits.to(torch.int64)


# Weights


def _rounded(weight: np.ndarray, bits: int, share: float) -> tuple[np.ndarray, float]:
    """(integers, how many of them are 1) of weights of which a share of the largest gets the largest integer."""
    signed = bool((weight < 0).any())
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    if signed and bits == 1:
        raise check.fail("bits", "2 or more where weights are below 0", bits)
    largest = float(np.abs(weight).max()) or 1.0
    scale = high / (share * largest)
    return np.clip(np.rint(weight * scale), low, high), scale


class _Layer(NamedTuple):
    """A layer of integers: weights, and how many of them are a weight of 1."""

    values: np.ndarray
    scale: float
    bits: int

    def module(self, like: SpikingConvolution, factor: Any = 1.0) -> SpikingConvolution:
        """The layer with thresholds that are moved by a factor, or by one for each feature."""
        unit, limit, shape = 2.0**-self.bits, like.limit(), like.geometry
        if limit is not None:
            exact = np.floor(limit.detach().cpu().double().numpy() * self.scale * factor + 1e-9)
            limit = torch.from_numpy(np.clip(exact, 0, 2**24) * unit)
        made = SpikingConvolution(
            like.in_channels,
            like.out_channels,
            shape.kernel_size,
            limit,
            time_steps=like.time_steps,
            **shape.options(),
        )
        made.load_weight(torch.from_numpy(self.values * unit).float())
        return made


def _error(given: Tensor, wanted: Tensor) -> np.ndarray:
    """By how many steps the spikes of each feature are off, (F,)."""
    return (given.to(torch.int32) - wanted.to(torch.int32)).abs().sum((0, 2, 3)).double().numpy()


@torch.no_grad()
def _layer(layer: SpikingConvolution, bits: int, given: Tensor, wanted: Tensor) -> SpikingConvolution:
    """A layer of integers that answers to times, which integers made, most as the floats did to theirs."""
    weight = layer.weight.detach().cpu().double().numpy()
    limit = layer.limit()
    if limit is not None and float(limit.min()) < 0:
        raise check.fail("network", "one of thresholds of 0 or more", float(limit.min()))
    if not np.abs(weight).max() > 0:
        raise check.fail("network", "one of weights that are not all 0", 0.0)
    tried = [_Layer(*_rounded(weight, bits, share), bits) for share in _SHARES[: 1 if bits == 8 else None]]
    if limit is None:  # potentials at the last step decide
        return min(tried, key=lambda one: float(((one.values / one.scale - weight) ** 2).sum())).module(layer)
    best = min(tried, key=lambda one: _error(one.module(layer)(given), wanted).sum())
    errors = np.stack([_error(best.module(layer, factor)(given), wanted) for factor in _FACTORS])
    errors += np.abs(np.arange(len(_FACTORS)) - len(_FACTORS) // 2)[:, None] * 1e-6  # as little as helps
    return best.module(layer, np.array(_FACTORS)[errors.argmin(0)])


# The decision


def _closest(row: np.ndarray, bits: int) -> tuple[np.ndarray, float]:
    """The integers, and their scale, that come closest to weights."""
    tried = [_rounded(row, bits, share) for share in _SHARES]
    return min(tried, key=lambda one: float(((one[0] / one[1] - row) ** 2).sum()))


@singledispatch
def integer_readout(readout: nn.Module, bits: int, given: Tensor, wanted: Tensor) -> nn.Module:
    """The read-out of integers in the place of one of floats; more kinds are registered by their types.

    Args:
        readout: of the network of floats.
        bits: of its weights.
        given, wanted: times that integers made of some images, and those of floats.
    """
    raise unfit("one that decides by `classes`, a LinearReadout or a FirstSpikeReadout", readout)


@integer_readout.register(LinearReadout)
@torch.no_grad()
def _(readout: LinearReadout, bits: int, given: Tensor, wanted: Tensor) -> nn.Module:
    weight, bias = (value.detach().cpu().double().numpy() for value in (readout.weight, readout.bias))
    steps, decided = readout.time_steps, readout(wanted).argmax(1)

    def twin(share: float) -> IntegerLinear:
        values, scale = _rounded(weight, bits, share)
        offset = np.rint(bias * steps * scale)
        return IntegerLinear(_shape(given), torch.from_numpy(values), torch.from_numpy(offset), time_steps=steps)

    return max(map(twin, _SHARES), key=lambda made: int((made(given).argmax(1) == decided).sum()))


@integer_readout.register(FirstSpikeReadout)
@torch.no_grad()
def _(readout: FirstSpikeReadout, bits: int, given: Tensor, wanted: Tensor) -> nn.Module:
    ramp = isinstance(readout.neuron, Ramp)
    if not ramp and type(readout.neuron) is not IntegrateAndFire:
        raise check.fail("network", "one whose deciding neurons add or are ramps", readout.neuron)
    duration = readout.neuron.duration if isinstance(readout.neuron, Ramp) else 1.0
    rows = [_closest(row, bits) for row in readout.weight.detach().cpu().double().numpy()]
    weight = np.stack([row for row, _ in rows])
    scales = torch.tensor([scale for _, scale in rows], dtype=torch.float64)
    exact = readout.threshold.detach().cpu().double() * scales * duration
    # what rounding adds to potentials, on average, when neurons of floats fire; thresholds follow
    fired = readout.fire(wanted).flatten()
    usual = math.ceil(float(fired[torch.isfinite(fired)].median())) if bool(torch.isfinite(fired).any()) else 0
    heard = [_heard(readout, times, max(usual, 0)) for times in (given, wanted)]
    whole = (heard[0] @ torch.from_numpy(weight).T / scales).sum(0)
    floats = (heard[1] @ readout.weight.detach().cpu().double().T).sum(0)
    ratio = torch.where(floats > 0, whole / floats, 1.0)
    limit = (exact * torch.where(ratio > 0, ratio, 1.0)).floor().clamp(0, _LIMIT)
    steps = readout.time_steps
    return IntegerFirstSpike(
        _shape(given), torch.from_numpy(weight), limit, per_class=readout.per_class, ramp=ramp, time_steps=steps
    )


def _heard(readout: FirstSpikeReadout, times: Tensor, until: int) -> Tensor:
    """What inputs of weight 1 give to the potential until some step, (N, inputs)."""
    flat = times.flatten(1).cpu()
    ages = torch.arange(readout.time_steps + 1, dtype=torch.float64)
    response = torch.as_tensor(readout.neuron.response(until - ages), dtype=torch.float64)
    response[readout.time_steps] = 0  # silence
    return response[flat.to(torch.int64)]


def _shape(times: Tensor) -> tuple[int, ...]:
    return tuple(times.shape[1:])


# The whole


@torch.no_grad()
def quantize(network: Network, images: Tensor, labels: Tensor | None = None, bits: int = 8) -> IntegerNetwork:
    r"""Make a network of integers of a trained one.

    The filters of the encoder become integers of 8 bits; the weights of each layer, in turn,

    .. math::
        n = \operatorname{round}(w \, s), \qquad 0 \le n < 2^{bits}, \qquad
        \theta_n = \lfloor \theta \, s \, f \rfloor

    with the scale s, of all its features, and a factor f of each threshold with which its first spikes are those of the
    network of floats, or come closest, on some images. Weights of the read-out are rounded as well, each neuron's on a
    scale of its own where it decides by its first spike. No image is learned.

    Args:
        network: trained; of a :mod:`spyketorch.encoding` front end, layers of neurons that add, with pools, inhibition
            and a shortcut; it decides by ``classes``, a linear read-out or first spikes. It stays as it is.
        images: some of the training images, ``(N, C, H, W)``, uint8 or integers 0..255 of any type, as the network is
            shown them; some hundreds, of all kinds.
        labels: their classes, ``(N,)``, for the accuracies of the report.
        bits: of weights: 8, 4, 2 or 1.

    Returns:
        A network of the same kind, which :func:`save` writes. Its ``report`` has a row for each part: the share of
        spike times that differ from those of floats, and the accuracy with it, and all before it, of integers.

    Raises:
        TypeError: parts that integers have no form for, named.
        ValueError: images of fractions; other bits; parts that are not fitted yet.

    Example:
        >>> from spyketorch import export, models
        >>> images = torch.randint(0, 256, (20, 1, 28, 28), dtype=torch.uint8)
        >>> twin = export.quantize(models.mozafari2019(pretrained=True), images, bits=4)
        >>> [row.part for row in twin.report]
        ['floats', 'encoder', 'stages.0', 'stages.1', 'stages.2']
        >>> twin(images).shape
        torch.Size([20])
    """
    if not isinstance(network, Network):
        raise check.fail_type("network", "a models.Network", network)
    if check.integer(bits, "bits", 1) not in (1, 2, 4, 8):
        raise check.fail("bits", "8, 4, 2 or 1", bits)
    if network.time_steps > 254:
        raise check.fail("network", "one of at most 254 time steps, which a byte holds", network.time_steps)
    given = check.images(images)
    if not bool((given == given.to(torch.uint8)).all()):
        raise check.fail("images", "integers 0 to 255, as a network of integers sees no fractions", images)
    return _Quantization(network, given.to(torch.uint8), labels, bits).made()


class _Quantization:
    """One part after the other; parts that are not made yet are those of floats."""

    def __init__(self, network: Network, images: Tensor, labels: Tensor | None, bits: int) -> None:
        self.network, self.images, self.labels, self.bits = network, images, labels, bits
        self.encoder: nn.Module = network.encoder
        self.stages = [*network.stages]
        self.readout = network.readout
        self.report = Report()

    def whole(self) -> IntegerNetwork:
        """A network of what is made, and what is not."""
        shape: Any = tuple(self.images.shape[1:])
        classes, names = self.network.classes, self.network.names
        found = IntegerNetwork(self.encoder, self.stages, classes, images=ImageSpec(shape, (0, 255)), names=names)
        found.readout = self.readout
        return found.train(self.network.training)

    def tell(self, part: str, differ: float, bits: int = 0) -> None:
        labels = self.labels
        known = None if labels is None else evaluate(self.whole(), self.images, labels, progress=False).accuracy
        self.report.append(Loss(part, bits, 0, differ, known))

    def answers(self, part: nn.Module, times: Tensor) -> Tensor:
        return torch.cat([part(some) for some in torch.split(times, 250)])

    def made(self) -> IntegerNetwork:
        network = self.network
        parts, _ = integer_parts(network.encoder, _Values())
        self.tell("floats", 0.0)
        wanted = self.answers(network.encoder, self.images)
        self.encoder = ops.IntegerEncoder(parts)
        given = self.answers(self.encoder, self.images)
        self.tell("encoder", _differ(given, wanted))
        for number, stage in enumerate(network.stages):
            layer, name = standard(stage, f"stages.{number}"), f"stages.{number}"
            fired = self.answers(layer, wanted)
            twin = _layer(layer, self.bits, given[:_TRIED_ON], fired[:_TRIED_ON])
            differ = _differ(self.answers(twin, given), fired)
            self.stages[number] = Stage(twin, stage.pool, inhibit=stage.inhibit, shortcut=stage.shortcut)
            wanted, given = self.answers(stage, wanted), self.answers(self.stages[number], given)
            self.tell(name, differ, self.bits)
        if network.readout is not None:
            self.readout = integer_readout(network.readout, self.bits, given, wanted)
            self.tell("decision", 0.0, self.bits)
        found = self.whole()
        tensors = Description(found).tensors
        sizes = [
            sum(value.nbytes for name, value in tensors.items() if name.startswith(row.part)) for row in self.report
        ]
        found.report = Report(row._replace(size=size) for row, size in zip(self.report, sizes, strict=True))
        return found


def _differ(given: Tensor, wanted: Tensor) -> float:
    share: float = (given != wanted).double().mean().item()
    return share
