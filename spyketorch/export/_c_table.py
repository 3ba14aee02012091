"""The table of a network of integers in C, which ``runtimes/spyketorch.h`` is compiled behind."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from spyketorch.export.runtimes.reading import read


def c_table(path: str | os.PathLike[str], unpack: bool = True) -> str:
    """The C source of the table of a network: constants, and the sizes of all that ``spyketorch.h`` reserves.

    Args:
        path: The file of a network, which is refused in one sentence if it cannot be trusted.
        unpack: Give each weight 16 bits, in rows of a multiple of 16, for processors that add many at once. Otherwise
            weights keep their bits, for small memories.
    """
    about, tensors = read(path)
    return _Table(about, tensors, unpack).text


def _numbers(values: Iterable[Any], between: str = ", ") -> str:
    return between.join(map(str, values))


def _braces(*fields: object) -> str:
    return "{" + _numbers(fields) + "}"


class _Table:
    """Goes through a network as an image does, and writes down what it meets."""

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, np.ndarray], unpack: bool) -> None:
        self.tensors, self.steps, self.unpack = tensors, about["time_steps"], unpack
        self.lines: list[str] = []
        layers = [stage["layer"] for stage in about["stages"]]
        decision = about["decision"]
        weights = [part for part in (*layers, decision) if "bits" in part]
        self.lanes = 16 if unpack else max([1, *(8 // part["bits"] for part in weights)])  # rows are whole bytes
        self.narrow = all(-(2**15) < bound < 2**15 for layer in layers for bound in layer["range"])
        self.sizes = dict.fromkeys(("MEMORY", "LISTED", "WIDTH", "SORTED", "NEURONS", "TRACE"), 1)
        self.sizes["TRACE"] = 0

        image = shape = about["image"]
        encoder, stages, words = [], [], int(np.prod(image))
        for number, part in enumerate(about["encoder"]):
            fields, shape, words = self.part(number, part, shape, words)
            encoder.append(fields)
        self.sizes["TRACE"] += int(np.prod(shape))
        for number, stage in enumerate(about["stages"]):
            fields, shape = self.stage(number, stage, shape)
            stages.append(fields)
        reader = self.decision(decision, shape)
        answers = 3 if decision["op"] == "winner" else decision["shape"][0]
        constants = {
            "VERSION": 1,
            "STEPS": self.steps,
            "IMAGE": int(np.prod(image)),
            "IMAGE_SHAPE": _numbers(image),
            "POTENTIAL": "int16_t" if self.narrow else "int32_t",
            "WEIGHT": "int16_t" if unpack else "uint8_t",
            "PACKED": int(not unpack),
            "LANES": self.lanes,
            "PARTS": len(encoder),
            "DEPTH": len(stages),
            "ANSWERS": answers,
            **self.sizes,
            "ENCODER": _numbers(encoder, ", \\\n    "),
            "STAGES": _numbers(stages or ["{0}"], ", \\\n    "),
            "DECISION": reader,
        }
        defined = [f"#define SPK_{name} {value}" for name, value in constants.items()]
        head = [
            "/* A network of integers: the table for spyketorch.h, made by spyketorch.export. */",
            "#include <stdint.h>",
        ]
        self.text = "\n".join([*head, *self.lines, *defined, ""])

    def grow(self, name: str, size: int) -> None:
        self.sizes[name] = max(self.sizes[name], size)

    def array(self, name: str, kind: str, values: np.ndarray) -> str:
        """Write down an array of constants; its name in C."""
        flat = values.reshape(-1).tolist()
        rows = ",\n    ".join(_numbers(flat[i : i + 24]) for i in range(0, len(flat), 24))
        self.lines.append(f"static const {kind} spk_{name}[] = {{\n    {rows}}};")
        return f"spk_{name}"

    def part(
        self, number: int, part: Mapping[str, Any], shape: Sequence[int], words: int
    ) -> tuple[str, list[int], int]:
        """Fields and shape of a part of the encoder, and the words of its maps behind ``words`` of those it reads."""
        op, name = part["op"], f"encoder_{number}"
        settings, maps, size = [0] * 4, shape[0], list(shape[1:])
        kernel = value = limit = "0"
        if op == "pad":
            settings[:3] = part["top"], part["left"], int(part["edge"])
            size = [size[0] + part["top"] + part["bottom"], size[1] + part["left"] + part["right"]]
        elif op == "filter":
            kernels = self.tensors[part["weight"]]
            count, depth, *window = kernels.shape
            settings = [*window, int(part["absolute"]), depth]
            maps, size = count * maps // depth, [n - k + 1 for n, k in zip(size, window, strict=True)]
            kernel = self.array(f"{name}_kernel", "int8_t", kernels)
            value = self.array(f"{name}_threshold", "int32_t", self.tensors[part["threshold"]])
        elif op == "onoff":
            maps *= 2
        elif op == "normalise":
            settings[:2] = part["radius"], part["shift"]
        elif op != "rank":  # latency and table
            largest = self.tensors[part["largest"]]
            steps = [int(np.prod(largest.shape[axis + 1 :])) for axis in range(3)]
            settings[:3] = [step if n > 1 else 0 for step, n in zip(steps, largest.shape, strict=True)]
            value = self.array(f"{name}_largest", "int32_t", largest)
            if op == "table" and self.steps > 1:
                limit = self.array(f"{name}_limits", "int32_t", self.tensors[part["limits"]])
        found = [maps, *size]
        total = int(np.prod(found))
        timed = op in ("rank", "latency", "table")
        own = -(-total // 4) if timed else total
        self.grow("MEMORY", words + own + (2 * total if op == "rank" else 0))
        code = {"table": "SPK_LIMITS"}.get(op, f"SPK_{op.upper()}")
        return _braces(code, *settings, _braces(*found), kernel, value, limit), found, own

    def synapses(self, name: str, part: Mapping[str, Any], rows: np.ndarray) -> str:
        """Fields of weights (groups, inputs, neurons)."""
        groups, inputs, neurons = rows.shape
        lanes, bits = -(-neurons // self.lanes) * self.lanes, part["bits"]
        filled = np.zeros((groups, inputs, lanes), np.int64)
        filled[..., :neurons] = rows
        if self.unpack:
            weight = self.array(f"{name}_weight", "int16_t", filled)
        else:
            fields = (filled & (2**bits - 1)).reshape(-1, 8 // bits)
            weight = self.array(f"{name}_weight", "uint8_t", (fields << np.arange(0, 8, bits)).sum(1))
        self.grow("LISTED", inputs)
        return _braces(groups, inputs, neurons, lanes, bits, int(part["signed"]), *part["range"], weight)

    def stage(self, number: int, stage: Mapping[str, Any], given: Sequence[int]) -> tuple[str, list[int]]:
        """Fields and shape of a stage."""
        layer, pool, shortcut, name = stage["layer"], stage["pool"], stage["shortcut"], f"stage_{number}"
        features, channels, *kernel = layer["shape"]
        groups, lanes = layer["groups"], -(-features // layer["groups"] // self.lanes) * self.lanes
        weight = self.tensors[layer["weight"]].reshape(groups, -1, channels, *kernel)
        weight = weight.transpose(0, 3, 4, 2, 1).reshape(groups, -1, features // groups)
        known = layer["threshold"]
        limits = np.zeros(features, np.int64) if known is None else self.tensors[known].astype(np.int64)
        if self.narrow:  # no potential is above 2^15 - 1
            limits = limits.clip(max=2**15 - 1)
        threshold = np.zeros((groups, lanes), np.int64)
        threshold[:, : features // groups] = limits.reshape(groups, -1)
        window = [layer[key] for key in ("stride", "padding", "dilation")]
        size = [_behind(n, k, *axis) for n, k, *axis in zip(given[1:], kernel, *window, strict=True)]
        neurons, shape = [features, *size], [features, *size]
        self.grow("WIDTH", groups * lanes)
        noted = int(np.prod(neurons)) * (2 if stage["inhibit"] else 1)
        alone = _window([1, 1], [1, 1], [0, 0])
        pools, keep = [_braces(1, alone), _braces(0, alone)], False
        self.grow("SORTED", features)
        if pool is not None:
            keep = any(stride < side for stride, side in zip(pool["stride"], pool["kernel"], strict=True))
            pools[0], shape = self.pool(pool, neurons)
            noted += int(np.prod(shape))
        if shortcut is not None:
            pools[1], beside = self.pool(shortcut, given)
            shape = [shape[0] + beside[0], *shape[1:]]
            noted += int(np.prod(beside))
        self.sizes["TRACE"] += noted
        read, kept, made = (-(-int(np.prod(maps)) // 4) for maps in (given, neurons, shape))
        self.grow("MEMORY", read + made + (kept if keep else 0))
        flags = [int(flag) for flag in (known is None, stage["inhibit"], pool is not None, keep)]
        fields = [
            *flags,
            _braces(*neurons),
            _braces(*shape),
            self.synapses(name, layer, weight),
            self.array(f"{name}_threshold", "int16_t" if self.narrow else "int32_t", threshold),
            _window(kernel, *window),
            *pools,
        ]
        return _braces(*fields), shape

    def pool(self, pool: Mapping[str, Any], shape: Sequence[int]) -> tuple[str, list[int]]:
        kernel, stride, padding, earliest = (pool[key] for key in ("kernel", "stride", "padding", "earliest"))
        self.grow("SORTED", earliest * shape[0])
        size = [_behind(*axis, 1) for axis in zip(shape[1:], kernel, stride, padding, strict=True)]
        return _braces(earliest, _window(kernel, stride, padding)), [shape[0], *size]

    def decision(self, decision: Mapping[str, Any], shape: Sequence[int]) -> str:
        """Fields of the decision; inputs lie as the maps do, features last."""
        op = decision["op"]
        if op == "winner":
            classes = self.array("decision_classes", "int32_t", np.array(decision["classes"]))
            return _numbers(["SPK_WINNER", 1, _braces(*[0] * 9), classes])
        weight = self.tensors[decision["weight"]].reshape(-1, *shape).transpose(2, 3, 1, 0)
        self.grow("NEURONS", -(-weight.shape[-1] // self.lanes) * self.lanes)
        value = self.tensors[decision["bias" if op == "linear" else "threshold"]]
        code = "SPK_LINEAR" if op == "linear" else "SPK_RAMP" if decision["ramp"] else "SPK_STEP"
        synapses = self.synapses("decision", decision, weight.reshape(1, -1, weight.shape[-1]))
        value_name = self.array("decision_value", "int32_t", value)
        return _numbers([code, decision.get("per_class", 1), synapses, value_name])


def _behind(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - (kernel - 1) * dilation - 1) // stride + 1


def _window(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int] = (1, 1)
) -> str:
    return _braces(*kernel, _braces(*stride), _braces(*padding), _braces(*dilation))
