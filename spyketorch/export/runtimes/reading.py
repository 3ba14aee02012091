"""The file of a network of integers: read, and refused where it cannot be trusted. NumPy alone.

docs/integer.md has the format. A description is gone through as an image goes through the network, with the shapes of
maps and the largest values alone, so that nothing is computed, and no memory taken, for a file that promises too much.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

TIMES = ("rank", "latency", "table")


class NotAnIntegerNetwork(ValueError):
    """A file, or images, that do not make sense to a network of integers."""


def need(true, reason):
    """Refuse the file where something is not true."""
    if not true:
        raise NotAnIntegerNetwork(f"this is no network of integers that can be trusted: {reason}")


def opened(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(description, tensors by name, as they lie there) of a file of safetensors that is whole."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    need(8 < start <= len(data), "it ends within its header")
    header = json.loads(data[8:start])
    about = json.loads(header.pop("__metadata__")["spyketorch"])
    offsets = [tensor["data_offsets"] for tensor in header.values()]
    need(all(0 <= first <= end for first, end in offsets), "its data lie before the file")
    need(max((end for _, end in offsets), default=0) == len(data) - start, "it is cut off, or goes on too long")
    need(zlib.crc32(data[start:]) == about["crc32"], "its data are damaged (crc32)")
    tensors = {}
    for name, tensor in header.items():
        kind, (first, end) = {"U8": "u1", "I8": "i1", "I32": "<i4"}[tensor["dtype"]], tensor["data_offsets"]
        tensors[name] = np.frombuffer(data[start + first : start + end], kind).reshape(tensor["shape"])
    return about, tensors


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(description, tensors by name) of a file; of weights the integers, unpacked."""
    try:
        about, tensors = opened(path)
        known = about["format"], about["version"]
        need(known == ("spyketorch integer network", 1), f"its format and version are {known}")
        return about, checked(about, tensors)
    except (NotAnIntegerNetwork, OSError):
        raise
    except Exception as error:  # whatever a damaged description leads to
        raise NotAnIntegerNetwork(f"this is no network of integers that can be read: {error!r}") from error


def checked(about: dict[str, Any], packed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a description, weights unpacked, once all parts are known to fit together."""
    tensors: dict[str, np.ndarray] = Checked(about, packed).tensors
    return tensors


class Checked:
    """Goes through a description; ``tensors`` are those that it names."""

    def __init__(self, about, packed):
        self.packed, self.tensors, self.steps = packed, {}, about["time_steps"]
        need(1 <= self.steps <= 254, f"it has {self.steps} time steps")
        shape = self.encoder(about["encoder"], self.maps(about["image"][0], about["image"][1:]))
        for stage in about["stages"]:
            shape = self.stage(stage, shape)
        self.decision(about["decision"], shape, about["stages"])
        names = about["names"]
        need(names is None or all(isinstance(name, str) for name in names), "names of classes that are none")

    def tensor(self, name, kind, shape, least=-(2**31)):
        tensor = self.packed[name]
        need(tensor.dtype == kind, f"{name} is of the type {tensor.dtype}")
        need(tensor.shape == tuple(shape), f"{name} has the shape {tensor.shape}, not {tuple(shape)}")
        need((tensor.astype(np.int64) >= least).all(), f"{name} holds values below {least}")
        self.tensors[name] = tensor.astype(np.int32)
        return tensor.astype(np.int64)

    def maps(self, count, size, kernel=(1, 1), stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
        """The shape of what windows of maps give."""
        axes = [*zip(size, kernel, stride, padding, dilation, strict=True)]
        numbers = [count, *(number for axis in axes for number in axis)]
        need(len(axes) == 2 and all(type(number) is int for number in numbers), "a window that is none")
        need(min(*kernel, *stride, *dilation) >= 1 and min(padding) >= 0, "a window that is none")
        need(count * np.prod([n + 2 * p for n, _, _, p, _ in axes], dtype=float) <= 2**24, "maps that are too large")
        size = [(n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in axes]
        need(min(count, *size) >= 1, f"maps of {count} x {size[0]} x {size[1]} places")
        return [count, *size]

    def weight(self, part, shape, seen, times=1, offset=0):
        """Unpack the weights, and see whether sums have the range that is promised; gives it."""
        bits, count = part["bits"], int(np.prod(shape))
        need(part["shape"] == shape, f"weights have the shape {part['shape']}, not {shape}")
        need(np.prod(shape, dtype=float) * seen <= 2**28, "a layer of too many synapses")
        need(bits in (1, 2, 4, 8), f"weights have {bits} bits")
        packed = self.tensor(part["weight"], np.uint8, [-(-count * bits // 8)])
        fields = (packed[:, None] >> np.arange(0, 8, bits) & (2**bits - 1)).reshape(-1).astype(np.int32)
        need(not fields[count:].any(), "unused bits of weights are set")
        weight = fields[:count].reshape(shape)
        weight = weight - (weight >> (bits - 1) << bits) * bool(part["signed"])
        flat = weight.reshape(len(weight), -1).astype(np.int64)
        low, high = (flat.clip(*side).sum(1) * times + offset for side in ((None, 0), (0, None)))
        found = [int(low.min()), int(high.max())]
        need(part["range"] == found, f"sums of the range {found} are said to have {part['range']}")
        need(found[0] >= -(2**31) and found[1] < 2**31, "sums that leave 32 bits")
        self.tensors[part["weight"]] = weight
        return found

    def encoder(self, parts, shape):
        largest, signed = 255, False  # the size of values, at most; and whether they may be below 0
        for number, part in enumerate(parts, 1):
            need((part["op"] in TIMES) == (number == len(parts)), "times are not what its encoder ends with")
            shape, largest, signed = getattr(self, part["op"])(part, shape, largest, signed)
            need(largest < 2**31, "values that leave 32 bits")
        need(len(parts) > 0, "it has no encoder")
        return shape

    def pad(self, part, shape, *values):
        sides = [part[side] for side in ("top", "bottom", "left", "right")]
        need(all(type(side) is int and side >= 0 for side in sides), "a width that is none")
        rows, columns = shape[1] + sides[0] + sides[1], shape[2] + sides[2] + sides[3]
        return self.maps(shape[0], [rows, columns]), *values

    def filter(self, part, shape, largest, signed):
        count, depth, *size = self.packed[part["weight"]].shape
        need(depth in (1, shape[0]), "kernels of another number of channels")
        kernels = self.tensor(part["weight"], np.int8, [count, depth, *size])
        threshold = self.tensor(part["threshold"], np.int32, [count])
        strongest = largest * int(np.abs(kernels).sum((1, 2, 3)).max())
        below = bool(((kernels < 0).any() or signed) and threshold.min() < 0 and not part["absolute"])
        return self.maps(count * shape[0] // depth, shape[1:], size), strongest, below

    def onoff(self, part, shape, largest, signed):
        return self.maps(2 * shape[0], shape[1:]), largest, False

    def normalise(self, part, shape, largest, signed):
        radius, shift = part["radius"], part["shift"]
        need(not signed and 0 <= shift <= 20 and 0 <= radius < 128, "a square that is none")
        need(largest * (2 * radius + 1) ** 2 < 2**31, "sums that leave 32 bits")
        return shape, 2**shift, False

    def rank(self, part, shape, largest, signed):
        need(not signed, "values below 0 are ranked")
        return shape, largest, False

    def latency(self, part, shape, largest, signed):
        sizes = self.packed[part["largest"]].shape
        need(not signed, "values below 0 are put into time")
        need(len(sizes) == 3 and all(a in (1, b) for a, b in zip(sizes, shape, strict=True)), "values of other maps")
        known = self.tensor(part["largest"], np.int32, sizes, least=0)
        need(int(known.max()) * self.steps < 2**31, "values that leave 32 bits")
        return shape, largest, False

    def table(self, part, shape, largest, signed):
        limits = self.tensor(part["limits"], np.int32, [self.steps - 1], least=0)
        need((np.diff(limits, prepend=2**20) <= 0).all(), "limits that rise, or begin above 2^20")
        return self.latency(part, shape, largest, signed)

    def stage(self, stage, given):
        layer, groups = stage["layer"], stage["layer"]["groups"]
        features, channels, *kernel = layer["shape"]
        need(type(groups) is int and groups >= 1 and features % groups == 0, "groups that do not divide features")
        need(channels * groups == given[0], f"a layer that reads {channels * groups} maps of {given[0]}")
        shape = self.maps(features, given[1:], kernel, layer["stride"], layer["padding"], layer["dilation"])
        low, high = self.weight(layer, [features, channels, *kernel], shape[1] * shape[2])
        need(low >= -(2**24) and high <= 2**24, "potentials that leave 24 bits")
        if layer["threshold"] is not None:
            self.tensor(layer["threshold"], np.int32, [features], least=0)
        if stage["pool"] is not None:
            shape = self.pool(stage["pool"], shape)
        if stage["shortcut"] is not None:
            beside = self.pool(stage["shortcut"], given)
            need(beside[1:] == shape[1:], f"a shortcut of {beside[1:]} beside {shape[1:]} places")
            shape = self.maps(shape[0] + beside[0], shape[1:])
        return shape

    def pool(self, pool, shape):
        kernel, padding = pool["kernel"], pool["padding"]
        need(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)), "a pool with more padding than half of it")
        found = self.maps(shape[0], shape[1:], kernel, pool["stride"], padding)
        fewest = [min(k - p, n) for k, p, n in zip(kernel, padding, shape[1:], strict=True)]
        need(1 <= pool["earliest"] <= max(1, fewest[0] * fewest[1]), "a pool of more spikes than it sees")
        return found

    def decision(self, decision, shape, stages):
        if decision["op"] == "winner":
            classes = decision["classes"]
            need(stages and len(classes) == shape[0], "not one class for each feature")
            need(all(type(c) is int and -1 <= c < 2**31 for c in classes), "classes that are none")
            need(stages[-1]["pool"] is None and stages[-1]["shortcut"] is None, "neurons that vote behind a pool")
            return
        neurons, inputs = decision["shape"][0], shape[0] * shape[1] * shape[2]
        if decision["op"] == "linear":
            bias = self.tensor(decision["bias"], np.int32, [neurons])
            self.weight(decision, [neurons, inputs], 1, self.steps, bias)
            return
        need(decision["op"] == "first spike", f"it decides by {decision['op']!r}")
        each = decision["per_class"]
        need(type(each) is int and each >= 1 and neurons % each == 0, "neurons of no class")
        self.tensor(decision["threshold"], np.int32, [neurons], least=0)
        low, high = self.weight(decision, [neurons, inputs], 1, 4 * self.steps if decision["ramp"] else 1)
        need(256 * (high - low) < 2**53, "potentials too large for parts of a step")
