"""Networks of integers drawn by hypothesis: whole files, with images that they are asked about."""

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from spyketorch.export._file import content, packed, span


class Drawn(NamedTuple):
    """A description, its tensors, and images ``(N, C, H, W)``."""

    about: dict[str, Any]
    tensors: dict[str, np.ndarray]
    images: np.ndarray

    @property
    def file(self) -> bytes:
        return content(self.about, self.tensors)


def size_behind(size, kernel, stride=(1, 1), padding=(0, 0), dilation=(1, 1)):
    """Rows and columns that windows give."""
    axes = zip(size, kernel, stride, padding, dilation, strict=True)
    return [(n + 2 * p - (k - 1) * d - 1) // s + 1 for n, k, s, p, d in axes]


class Drawing:
    """Draws the parts of a network from the image up; ``shape`` is that of the maps so far."""

    def __init__(self, draw):
        self.draw, self.tensors = draw, {}
        self.rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.steps = draw(st.sampled_from([1, 2, 3, 5, 15, 15, 40, 254]))
        self.shape = [self.number(1, 3), self.number(1, 9), self.number(1, 9)]
        self.image = list(self.shape)

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def flag(self):
        return self.draw(st.booleans())

    def pair(self, low, high):
        return [self.number(low, high), self.number(low, high)]

    def keep(self, name, values, kind):
        self.tensors[name] = np.asarray(values, kind)
        return name

    def window(self, dilated=True):
        """Kernel, stride, padding and dilation that fit the maps."""
        kernel, stride, padding = self.pair(1, 4), self.pair(1, 3), self.pair(0, 2)
        dilation = self.pair(1, 2) if dilated else [1, 1]
        padding = padding if dilated else [min(p, k // 2) for p, k in zip(padding, kernel, strict=True)]
        while min(size_behind(self.shape[1:], kernel, stride, padding, dilation)) < 1:
            kernel, dilation = [max(1, k - 1) for k in kernel], [1, 1]
            padding = padding if dilated else [min(p, k // 2) for p, k in zip(padding, kernel, strict=True)]
        return kernel, stride, padding, dilation

    def weights(self, name, shape, bits, signed):
        """Integers, few of which are neither the least nor the largest, in some layers."""
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        weight = self.rng.integers(low, high + 1, shape)
        if self.flag():
            weight = np.where(self.rng.random(shape) < 0.7, self.rng.choice([low, 0, high], shape), weight)
        self.keep(name, packed(weight, bits), np.uint8)
        return weight

    # the encoder

    def encoder(self):
        parts = []
        if self.flag():
            parts.append(self.pad())
        signed = False
        if self.flag():
            parts.append(self.filter(len(parts)))
            signed = True
        if self.flag() or signed:
            parts.append({"op": "onoff"})
            self.shape[0] *= 2
        if self.draw(st.sampled_from([False, False, True])):
            parts.append({"op": "normalise", "radius": self.number(0, 4), "shift": self.number(0, 20)})
        parts.append(self.into_time(len(parts)))
        return parts

    def pad(self):
        sides = {side: self.number(0, 3) for side in ("top", "bottom", "left", "right")}
        self.shape[1] += sides["top"] + sides["bottom"]
        self.shape[2] += sides["left"] + sides["right"]
        return {"op": "pad", **sides, "edge": self.flag()}

    def filter(self, number):
        count, depth = self.number(1, 4), 1 if self.flag() else self.shape[0]
        kernel = [self.number(1, min(4, size)) for size in self.shape[1:]]
        kernels = self.rng.integers(-128, 128, (count, depth, *kernel))
        self.shape = [count * self.shape[0] // depth, *size_behind(self.shape[1:], kernel)]
        limits = self.rng.integers(0, 3000, count) * self.number(-1, 1)
        return {
            "op": "filter",
            "weight": self.keep(f"encoder.{number}.weight", kernels, np.int8),
            "threshold": self.keep(f"encoder.{number}.threshold", limits, np.int32),
            "absolute": self.flag(),
        }

    def into_time(self, number):
        op = self.draw(st.sampled_from(["rank", "latency", "table"]))
        if op == "rank":
            return {"op": op}
        alike = [self.flag() for _ in range(3)]
        sizes = [1 if one else size for one, size in zip(alike, self.shape, strict=True)]
        largest = self.rng.integers(0, self.draw(st.sampled_from([4, 256, 100_000])), sizes)
        part = {"op": op, "largest": self.keep(f"encoder.{number}.largest", largest, np.int32)}
        if op == "table":
            limits = np.sort(self.rng.integers(0, 2**20 + 1, self.steps - 1))[::-1]
            part["limits"] = self.keep(f"encoder.{number}.limits", limits, np.int32)
        return part

    # stages

    def stage(self, number, last):
        given, name = list(self.shape), f"stages.{number}.layer"
        kernel, stride, padding, dilation = self.window()
        groups = self.draw(st.sampled_from([g for g in range(1, given[0] + 1) if given[0] % g == 0]))
        bits, signed, features = self.draw(st.sampled_from([1, 2, 4, 8])), self.flag(), groups * self.number(1, 5)
        shape = [features, given[0] // groups, *kernel]
        weight = self.weights(f"{name}.weight", shape, bits, signed)
        least, most = span(weight)
        threshold = None
        if not last or self.flag():
            limits = self.rng.integers(0, max(1, most // self.number(1, 8)) + 1, features)
            threshold = self.keep(f"{name}.threshold", limits, np.int32)
        self.shape = [features, *size_behind(given[1:], kernel, stride, padding, dilation)]
        layer = {
            "weight": f"{name}.weight",
            "shape": shape,
            "bits": bits,
            "signed": signed,
            "threshold": threshold,
            "range": [least, most],
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
        }
        stage = {"layer": layer, "inhibit": self.flag(), "pool": None, "shortcut": None}
        if not last and self.flag():
            stage["pool"] = self.pool()
        if not last and self.draw(st.sampled_from([False, False, True])):  # windows to the same size
            rows, columns = self.shape[1:]
            stride = [max(1, given[1] // rows), max(1, given[2] // columns)]
            kernel = [given[1] - (rows - 1) * stride[0], given[2] - (columns - 1) * stride[1]]
            if min(kernel) >= 1:
                stage["shortcut"] = {"kernel": kernel, "stride": stride, "padding": [0, 0], "earliest": 1}
                self.shape[0] += given[0]
        return stage

    def pool(self):
        kernel, stride, padding, _ = self.window(dilated=False)
        fewest = [min(k - p, n) for k, p, n in zip(kernel, padding, self.shape[1:], strict=True)]
        self.shape[1:] = size_behind(self.shape[1:], kernel, stride, padding)
        earliest = self.number(1, max(1, fewest[0] * fewest[1]))
        return {"kernel": kernel, "stride": stride, "padding": padding, "earliest": earliest}

    # the decision

    def decision(self, op):
        if op == "winner":
            return {"op": op, "classes": [self.number(-1, 3) for _ in range(self.shape[0])]}
        inputs, bits, signed = int(np.prod(self.shape)), self.draw(st.sampled_from([1, 2, 4, 8])), self.flag()
        ramp, per_class, classes = self.flag(), self.number(1, 3), self.number(1, 4)
        shape = [classes if op == "linear" else classes * per_class, inputs]
        weight = self.weights("decision.weight", shape, bits, signed)
        about = {"op": op, "weight": "decision.weight", "shape": shape, "bits": bits, "signed": signed}
        if op == "linear":
            bias = self.rng.integers(-1000, 1001, classes)
            self.keep("decision.bias", bias, np.int32)
            return {**about, "bias": "decision.bias", "range": span(weight, self.steps, bias)}
        times = 4 * self.steps if ramp else 1
        limits = self.rng.integers(0, max(1, span(weight, times)[1] // self.number(1, 8)) + 1, len(weight))
        self.keep("decision.threshold", limits, np.int32)
        return {
            **about,
            "threshold": "decision.threshold",
            "range": span(weight, times),
            "per_class": per_class,
            "ramp": ramp,
        }


@st.composite
def integer_networks(draw: Any) -> Drawn:
    """A network of any parts, and images of several kinds."""
    drawing = Drawing(draw)
    encoder = drawing.encoder()
    op = draw(st.sampled_from(["winner", "first spike", "first spike", "linear"]))
    count = draw(st.integers(1 if op == "winner" else 0, 3))
    stages = [drawing.stage(n, op == "winner" and n == count - 1) for n in range(count)]
    about = {
        "time_steps": drawing.steps,
        "image": drawing.image,
        "names": draw(st.none() | st.just(["first", "second"])),
        "encoder": encoder,
        "stages": stages,
        "decision": drawing.decision(op),
    }
    shape, rng = (3, *drawing.image), drawing.rng
    images = rng.integers(0, 256, shape)
    images[1] = rng.choice([0, 0, 0, 7, 255], shape[1:])
    images[2] = draw(st.sampled_from([0, 255]))
    return Drawn(about, drawing.tensors, images.astype(np.uint8))
