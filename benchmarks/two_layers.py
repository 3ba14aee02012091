"""Speed of the two-layer MNIST network of Kheradpisheh et al. 2018, beside Spyker's sparse path if installed.

Two DoG maps, 32 features of 5 x 5, pooling, 150 of 2 x 2. Both libraries see the same images and, to infer, use the
same weights. Both are timed one image a call and in batches of 64, of which Spyker answers all before it applies the
updates while the engine learns one image after the other; the engine also with all images in one call.
"""

import importlib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

import common
from torch import Tensor

from spyketorch import latency, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder

T = 15
THRESHOLDS = (15.0, 10.0)


class TwoLayers:
    """The network on first-spike times, and the phases that are timed, in batches of that many images."""

    def __init__(self, images: Tensor, batch: int) -> None:
        kernels = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], padding=3, thresholds=10)
        self.images, self.batches, self.encoder = images, images.split(batch), LatencyEncoder(kernels, T)
        self.one = snn.SpikingConvolution(2, 32, 5, THRESHOLDS[0], 0.8, 0.05, time_steps=T, padding=2)
        self.two = snn.SpikingConvolution(32, 150, 2, THRESHOLDS[1], 0.8, 0.05, time_steps=T)
        self.rules = [snn.STDP(layer, (0.05, -0.04)) for layer in (self.one, self.two)]
        self.first = self.encode()
        self.learn(0)
        self.second = [latency.pooling(self.one(times), 2) for times in self.first]
        self.learn(1)

    def encode(self) -> list[Tensor]:
        return [self.encoder(part) for part in self.batches]

    def learn(self, layer: int) -> None:
        for times in self.second if layer else self.first:
            self.rules[layer].learn(times, *((8, 1) if layer else (5, 2)))

    def infer(self) -> list[Tensor]:
        return [latency.pooling(self.two(latency.pooling(self.one(times), 2)), 3) for times in self.encode()]


class Spyker:
    """The same by Spyker's sparse operations, with the weights and filters of ours."""

    def __init__(self, ours: TwoLayers, batch: int) -> None:
        self.spyker = importlib.import_module("spyker")
        self.images, self.batches, self.filter = ours.images, ours.images.split(batch), ours.encoder.filter
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


def phases(rival: TwoLayers | Spyker) -> dict[str, Callable[[], Any]]:
    return {
        "encode": rival.encode,
        "train 1": lambda: rival.learn(0),
        "train 2": lambda: rival.learn(1),
        "infer": rival.infer,
    }


def spikes_per_image(ours: TwoLayers, peer: Spyker) -> tuple[float, float]:
    """Spikes that the second layer gets in both, which should be the same work."""
    theirs = sum(float(x.sparsity()) * math.prod(x.shape) for x in peer.second)
    return sum(float((x < T).sum()) for x in ours.second) / len(ours.images), theirs / len(peer.images)


def compare(images: Tensor, few: int, rounds: int) -> dict[str, common.Times]:
    """Milliseconds per image of each phase, ours and Spyker's, by turns; ``few`` images are seen one a call."""
    rivals: dict[str, TwoLayers | Spyker] = {
        "engine, all at once": TwoLayers(images, len(images)),
        "engine, batch 64": TwoLayers(images, 64),
        "engine, batch 1": TwoLayers(images[:few], 1),
    }
    if importlib.util.find_spec("spyker"):
        ours = rivals["engine, batch 64"]
        assert isinstance(ours, TwoLayers)
        peer = Spyker(ours, 64)
        rivals["Spyker, batch 64"] = peer
        print("spikes into layer 2, here and in Spyker: {:.0f} {:.0f}".format(*spikes_per_image(ours, peer)))
        single = rivals["engine, batch 1"]
        assert isinstance(single, TwoLayers)
        rivals["Spyker, batch 1"] = Spyker(single, 1)
    calls = {name: phases(rival) for name, rival in rivals.items()}
    table = {
        phase: common.by_turns(
            {name: common.Work(calls[name][phase], len(rival.images)) for name, rival in rivals.items()}, rounds
        )
        for phase in ("encode", "train 1", "train 2", "infer")
    }
    common.tell("two layers", table)
    if "Spyker, batch 1" in rivals:
        for phase, times in table.items():
            batches, singles = (
                common.ratio(times, f"Spyker, batch {size}", f"engine, batch {size}") for size in (64, 1)
            )
            print(f"{phase}: Spyker takes {batches:.1f}x in batches of 64, {singles:.1f}x one image a call")
    return table
