"""A network of integers to its description, and back."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch._convolution import Geometry
from spyketorch.export._file import BITS, Weights, packed, span, write
from spyketorch.export._ops import OPS, IntegerEncoder
from spyketorch.export._readouts import IntegerFirstSpike, IntegerLinear
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork, checked, read
from spyketorch.models._images import ImageSpec
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.neurons import IntegrateAndFire
from spyketorch.snn import SpikingConvolution, SpikingPooling

_WAY = "`export.quantize` makes one of a trained network of floats"


class IntegerNetwork(Network):
    """A network of integers alone, made by :func:`quantize` or :func:`load`.

    A :class:`spyketorch.models.Network` of images 0..255 whose layers have weights n / 2^bits, which the engine adds
    exactly, and whose encoder and read-out compute in integers.

    Attributes:
        report: what :func:`quantize` found, else None.
    """

    report: Any = None
    _decides_nothing = (*Network._decides_nothing, "report")  # type: ignore[assignment]


def unfit(accepted: str, part: Any, way: str = "") -> TypeError:
    """The error for a part of a network that integers have no form for."""
    found = f"`network` must be {accepted}; got a part of the type {type(part).__name__}"
    return TypeError(found + (f": {way}" if way else ""))


def of_layer(layer: SpikingConvolution, name: str) -> tuple[Weights, np.ndarray | None]:
    """(weights, thresholds) of a layer as integers over 2^bits, or an error."""
    weight, limit = layer.weight.detach().cpu().double().numpy(), layer.limit()
    for bits in BITS:
        found = Weights.of(weight * 2**bits, bits)
        if found is not None:
            # a sum of integers is above a fraction where it is above the integer below
            return found, None if limit is None else np.floor(limit.cpu().double().numpy() * 2**bits)
    raise ValueError(
        f"`network` must have weights n / 2^bits, bits of 1, 2, 4 or 8 and n below 2^bits; those of {name} are others: "
        f"{_WAY}"
    )


class Description:
    """What the file says of a network: ``about`` and ``tensors``.

    Args:
        network: of integers, for images of one size.
    """

    def __init__(self, network: Network) -> None:
        self.tensors: dict[str, np.ndarray] = {}
        self.about: dict[str, Any] = {}
        self._describe(network)

    def _describe(self, network: Network) -> None:
        encoder, images = network.encoder, network.images
        if not isinstance(encoder, IntegerEncoder):
            raise unfit("one whose encoder computes in integers", encoder, _WAY)
        shape = () if images is None else images.shape
        if len(shape) != 3 or None in shape:
            raise check.fail("network.images", "an ImageSpec of one size, (channels, rows, columns)", images)
        names = None if network.names is None else list(network.names)
        self.about |= {"time_steps": network.time_steps, "image": list(shape), "names": names}
        self.about["encoder"] = [self._op(number, op) for number, op in enumerate(encoder.parts)]
        self.about["stages"] = [self._stage(number, stage) for number, stage in enumerate(network.stages)]
        self.about["decision"] = self._decision(network)

    def _keep(self, name: str, values: Tensor | np.ndarray, kind: Any) -> str:
        self.tensors[name] = np.ascontiguousarray(values.cpu() if isinstance(values, Tensor) else values).astype(kind)
        return name

    def _op(self, number: int, op: Any) -> dict[str, Any]:
        def keep(name: str, values: Tensor) -> str:
            array = values.numpy(force=True)
            return self._keep(f"encoder.{number}.{name}", array, array.dtype)

        return {"op": op.op, **op.describe(keep)}

    def _weights(self, name: str, weights: Weights, times: int = 1, offset: Any = 0) -> dict[str, Any]:
        return {
            "weight": self._keep(f"{name}.weight", packed(weights.values, weights.bits), np.uint8),
            "shape": list(weights.values.shape),
            "bits": weights.bits,
            "signed": weights.signed,
            "range": span(weights.values, times, offset),
        }

    def _stage(self, number: int, stage: Stage) -> dict[str, Any]:
        name, layer = f"stages.{number}.layer", standard(stage, f"stages.{number}")
        weights, limit = of_layer(layer, name)
        shape: Geometry = layer.geometry
        told = self._weights(name, weights)
        told["threshold"] = None if limit is None else self._keep(f"{name}.threshold", limit, np.int32)
        window = {key: list(getattr(shape, key)) for key in ("stride", "padding", "dilation")}
        return {
            "layer": {**told, **window, "groups": shape.groups},
            "inhibit": stage.inhibit,
            "pool": _pool(stage.pool),
            "shortcut": _pool(stage.shortcut),
        }

    def _decision(self, network: Network) -> dict[str, Any]:
        readout = network.readout
        if readout is None and network.classes is None:
            raise ValueError("`network` must decide: it has neither `classes` nor a `readout`")
        if readout is None:
            return {"op": "winner", "classes": network.classes.tolist()}
        if not isinstance(readout, IntegerFirstSpike | IntegerLinear):
            raise unfit("one whose `readout` computes in integers", readout, _WAY)
        return readout.describe(self._weights, self._keep)


def standard(stage: Stage, name: str) -> SpikingConvolution:
    """The layer of a stage that the file can tell of, or an error."""
    layer, own = stage.layer, type(stage).forward is not Stage.forward or "forward" in vars(stage)
    if own or stage._forward_hooks or stage._forward_pre_hooks or not isinstance(layer, SpikingConvolution):
        raise ValueError(f"`network` must be of stages and layers of this library; {name} has a way of its own")
    if layer._own():
        raise ValueError(f"`network` must be of layers of this library; {name} has its own {', '.join(layer._own())}")
    if type(layer.neuron) is not IntegrateAndFire:
        raise ValueError(f"`network` must have layers of neurons that add; those of {name} are {layer.neuron}")
    return layer


def _pool(pool: nn.Module | None) -> dict[str, Any] | None:
    if pool is None:
        return None
    if type(pool) is not SpikingPooling or pool._forward_hooks or "forward" in vars(pool):
        raise unfit("one whose pools are snn.SpikingPooling", pool)
    if isinstance(pool.earliest, tuple):
        raise ValueError(
            f"`network` must have pools of one spike of each window; one passes earliest={pool.earliest} on"
        )
    window = {"kernel": list(pool.kernel_size), "stride": list(pool.stride), "padding": list(pool.padding)}
    return {**window, "earliest": pool.earliest}


def _network(value: Any) -> Network:
    if not isinstance(value, Network):
        raise check.fail_type("network", "a models.Network", value)
    return value


def save(network: Network, path: str | os.PathLike[str]) -> None:
    """Write a network of integers to one file, whole or not at all, that any language can read.

    The page "Networks of integers" of the documentation says what it holds: safetensors, with a description.

    Args:
        network: of :func:`quantize` or :func:`load`; or any whose weights are n / 2^bits, with such an encoder and
            read-out, for images of one size.
        path: of the file, such as ``digits.safetensors``.

    Raises:
        ValueError, TypeError: a network of fractions, or of parts of one's own.
    """
    found = Description(_network(network))
    checked(found.about, found.tensors)  # no file is written that is refused when it is read
    write(check.file(path, "path"), found.about, found.tensors)


def load(path: str | os.PathLike[str]) -> IntegerNetwork:
    """The network of a file that :func:`save` wrote.

    Raises:
        FileNotFoundError, IsADirectoryError: no such file.
        NotAnIntegerNetwork: a file that is damaged, foreign, or promises what is not so.
    """
    about, tensors = read(check.file(path, "path"))
    steps = about["time_steps"]
    encoder = IntegerEncoder([OPS[told["op"]].read(told, tensors, steps) for told in about["encoder"]])
    stages = [_read_stage(told, tensors, steps) for told in about["stages"]]
    decision, image = about["decision"], about["image"]
    classes = decision["classes"] if decision["op"] == "winner" else None
    network = IntegerNetwork(encoder, stages, classes, images=ImageSpec(tuple(image), (0, 255)), names=about["names"])
    if classes is None:
        with torch.no_grad():
            shape = tuple(network._features(torch.zeros(1, *image, dtype=torch.uint8), None).shape[1:])
        kind = IntegerLinear if decision["op"] == "linear" else IntegerFirstSpike
        network.readout = kind.read(decision, tensors, shape, steps)
    return network


def _read_stage(told: dict[str, Any], tensors: dict[str, np.ndarray], steps: int) -> Stage:
    about = told["layer"]
    unit = 2.0 ** -about["bits"]
    weight = torch.from_numpy(tensors[about["weight"]]).float() * unit
    limit = None if about["threshold"] is None else torch.from_numpy(tensors[about["threshold"]]).double() * unit
    window: dict[str, Any] = {key: tuple(about[key]) for key in ("stride", "padding", "dilation")}
    groups = about["groups"]
    layer = SpikingConvolution(
        weight.shape[1] * groups, len(weight), tuple(weight.shape[2:]), limit, time_steps=steps, groups=groups, **window
    )
    layer.load_weight(weight)
    return Stage(layer, _read_pool(told["pool"]), inhibit=bool(told["inhibit"]), shortcut=_read_pool(told["shortcut"]))


def _read_pool(told: dict[str, Any] | None) -> SpikingPooling | None:
    if told is None:
        return None
    window: Sequence[Any] = [tuple(told[key]) for key in ("kernel", "stride", "padding")]
    return SpikingPooling(*window, earliest=told["earliest"])


__all__ = ["IntegerNetwork", "NotAnIntegerNetwork", "load", "save"]
