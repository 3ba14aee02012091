"""Speed of the two-layer MNIST network of Kheradpisheh et al. 2018, beside Spyker's sparse path if installed.

Two DoG maps, 32 features of 5 x 5, pooling, 150 of 2 x 2. Both libraries see the same images and, to infer, use the
same weights. The engine learns one image after the other; Spyker is timed so, too, and in batches of 64, for which it
applies all updates at the end.
"""

import importlib.util
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

from torch import Tensor

from spyketorch import latency, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder

T = 15
THRESHOLDS = (15.0, 10.0)
#: what Spyker's sparse path was measured at, and by how much to be ahead of it
SPYKER = {"train 1": 0.66, "train 2": 1.12, "infer": 3.28}
AHEAD = 3


class TwoLayers:
    """The network on first-spike times, and the phases that are timed."""

    def __init__(self, images: Tensor) -> None:
        kernels = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], padding=3, thresholds=10)
        self.images, self.encoder = images, LatencyEncoder(kernels, T)
        self.one = snn.SpikingConvolution(2, 32, 5, THRESHOLDS[0], 0.8, 0.05, time_steps=T, padding=2)
        self.two = snn.SpikingConvolution(32, 150, 2, THRESHOLDS[1], 0.8, 0.05, time_steps=T)
        self.rules = [snn.STDP(layer, (0.05, -0.04)) for layer in (self.one, self.two)]
        self.first = self.encode()
        self.learn(0)
        self.second = latency.pooling(self.one(self.first), 2)
        self.learn(1)

    def encode(self) -> Tensor:
        return self.encoder(self.images)

    def learn(self, layer: int) -> None:
        if layer == 0:
            self.rules[0].learn(self.first, 5, 2)
        else:
            self.rules[1].learn(self.second, 8, 1)

    def infer(self) -> Tensor:
        return latency.pooling(self.two(latency.pooling(self.one(self.encode()), 2)), 3)

    def phases(self) -> dict[str, Callable[[], Any]]:
        return {
            "encode": self.encode,
            "train 1": lambda: self.learn(0),
            "train 2": lambda: self.learn(1),
            "infer": self.infer,
        }


class Spyker:
    """The same by Spyker's sparse operations."""

    def __init__(self, ours: TwoLayers, batch: int) -> None:
        self.spyker = importlib.import_module("spyker")
        self.batches, self.filter = ours.images.split(batch), ours.encoder.filter
        self.weights = [self.spyker.to_tensor(layer.weight.numpy()) for layer in (ours.one, ours.two)]
        self.layers = [self.spyker.Conv(2, 32, 5, pad=2, mean=0.8, std=0.05)]
        self.layers.append(self.spyker.Conv(32, 150, 2, mean=0.8, std=0.05))
        for layer in self.layers:
            layer.stdpconfig = [self.spyker.STDPConfig(0.05, -0.04)]
        self.first = self.encode()
        self.learn(0)
        self.second = [self.pooled(x, self.weights[0]) for x in self.first]
        self.learn(1)

    def encode(self) -> list[Any]:
        return [self.spyker.sparse.code(self.filter(part).numpy(), T) for part in self.batches]

    def pooled(self, times: Any, weight: Any) -> Any:
        return self.spyker.sparse.pool(self.spyker.sparse.conv(times, weight, THRESHOLDS[0], pad=2), 2)

    def learn(self, number: int) -> None:
        sparse, layer = self.spyker.sparse, self.layers[number]
        pad, radius, kwta = ((2, 2, 5), (0, 1, 8))[number]
        for times in self.second if number else self.first:
            fired = sparse.inhibit(sparse.conv(times, layer.kernel, THRESHOLDS[number], pad=pad))
            layer.stdp(times, sparse.convwta(fired, radius, kwta))

    def infer(self) -> list[Any]:
        sparse, (one, two) = self.spyker.sparse, self.weights
        return [
            sparse.gather(sparse.pool(sparse.conv(self.pooled(x, one), two, THRESHOLDS[1]), 3)) for x in self.encode()
        ]

    def phases(self) -> dict[str, Callable[[], Any]]:
        return {
            "encode": self.encode,
            "train 1": lambda: self.learn(0),
            "train 2": lambda: self.learn(1),
            "infer": self.infer,
        }


def spikes_per_image(ours: TwoLayers, peer: Spyker) -> tuple[float, float]:
    """Spikes that the second layer gets in both, which should be the same work."""
    theirs = sum(float(x.sparsity()) * math.prod(x.shape) for x in peer.second)
    return float((ours.second < T).sum()) / len(ours.images), theirs / len(ours.images)


def compare(images: Tensor, rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds per image of each phase, ours and Spyker's, by turns in one run; printed, too."""
    ours = TwoLayers(images)
    rivals = {"engine": ours.phases()}
    if importlib.util.find_spec("spyker"):
        for batch in (1, 64):
            peer = Spyker(ours, batch)
            rivals[f"Spyker, batch {batch}"] = peer.phases()
        print("spikes into layer 2, here and in Spyker: {:.0f} {:.0f}".format(*spikes_per_image(ours, peer)))
    print(f"{'two layers':<12}" + "".join(f"{name:>18}" for name in rivals) + "   to be ahead of Spyker's sparse path")
    figures = {}
    for phase in ours.phases():
        rows = [[timed(rival[phase], len(images)) for rival in rivals.values()] for _ in range(rounds)]
        row = [statistics.median(column) for column in zip(*rows, strict=True)]
        target = f"{AHEAD}x, so {SPYKER[phase] / AHEAD:.2f}" if phase in SPYKER else ""
        print(
            f"{phase:<12}{row[0]:>18.3f}"
            + "".join(f"{t:>9.3f} ({t / row[0]:>4.1f}x)" for t in row[1:])
            + f"   {target}"
        )
        figures[phase] = dict(zip(rivals, row, strict=True))
    return figures


def timed(work: Callable[[], Any], images: int) -> float:
    """Milliseconds per image."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3 / images
