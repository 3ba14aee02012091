"""Speed of the engine against the faithful dense loop, on the three-layer MNIST network of Mozafari et al. 2019.

    python benchmarks/speed.py --data DIR [--quick] [--json PATH]

Prints milliseconds per image for each phase: the dense loop as scripts of the original write it (one image at a time,
all time steps, all layers), the same in one batch where that makes sense, and the engine on first-spike times.
The engine is timed on a batch and one image a call. All are measured in one run, by turns, on the same images and
weights, which the engine trained before; medians and quartiles of the rounds are told. The work that the engine does is
counted, and set against what this machine does in contiguous additions.
"""

import copy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import two_layers
from torch import Tensor, nn
from torchvision.datasets import MNIST

from spyketorch import functional as sf
from spyketorch import latency, snn
from spyketorch.encoding import DoGKernel, Filter, Intensity2Latency, LatencyEncoder, LocalNormalization

T = 15


class Engine:
    """The network on first-spike times."""

    def __init__(self) -> None:
        kernels = [k for w in (3, 7, 13) for k in (DoGKernel(w, w / 9, 2 * w / 9), DoGKernel(w, 2 * w / 9, w / 9))]
        self.filter = Filter(kernels, padding=6, thresholds=50)
        self.encode = LatencyEncoder(self.filter, T, normalization_radius=8)
        self.one = snn.SpikingConvolution(6, 30, 5, 15, 0.8, 0.05, time_steps=T, padding=2)
        self.two = snn.SpikingConvolution(30, 250, 3, 10, 0.8, 0.025, time_steps=T, padding=1)
        self.three = snn.SpikingConvolution(250, 200, 5, None, 0.8, 0.05, time_steps=T, padding=2)
        self.stdp1, self.stdp2 = snn.STDP(self.one, (0.004, -0.003)), snn.STDP(self.two, (0.004, -0.003))
        self.rstdp = snn.RSTDP(self.three, (0.004, -0.003), (-0.004, 0.0005))
        self.classes = torch.arange(200) // 20

    def pooled1(self, times: Tensor) -> Tensor:
        return latency.pooling(self.one(times), 2)

    def pooled2(self, times: Tensor) -> Tensor:
        return latency.pooling(self.two(times), 3)

    def decide(self, times: Tensor) -> Tensor:
        return self.three.winners(times)[:, 0, 0] // 20

    def infer(self, images: Tensor) -> Tensor:
        return self.decide(self.pooled2(self.pooled1(self.encode(images))))

    def train(self, images: Tensor, labels: Tensor, epochs: int) -> tuple[list[Tensor], dict[int, float]]:
        """Train all layers; gives the input of each, and what each epoch of layer 3 took, in ms per image."""
        first = self.encode(images)
        for rule, times, kwta, radius in ((self.stdp1, first, 5, 3), (self.stdp2, None, 8, 1)):
            times, rate = self.pooled1(first) if times is None else times, 0.004
            for part in times.split(500):
                rule.learn(part, kwta, radius)
                rate = min(2 * rate, 0.15)
                rule.update_all_learning_rate(rate, -0.75 * rate)
        second = self.pooled1(first)
        third = self.pooled2(second)
        copy.deepcopy(self.rstdp).learn(
            third[:2], labels[:2], self.classes
        )  # its loops are compiled before they are timed
        epoch = common.Work(lambda: self.rstdp.learn(third, labels, self.classes), len(third))
        return [first, second, third], {number: common.once(epoch) for number in range(1, epochs + 1)}


class Dense:
    """The same network on spike waves, as scripts of the original write it."""

    def __init__(self, engine: Engine) -> None:
        self.encode = nn.Sequential(engine.filter, LocalNormalization(8), Intensity2Latency(T, to_spike=True))
        self.convs = [snn.Convolution(6, 30, 5), snn.Convolution(30, 250, 3), snn.Convolution(250, 200, 5)]
        for conv, layer in zip(self.convs, (engine.one, engine.two, engine.three), strict=True):
            # Learning leaves weights of 1e-40 and the like, denormal numbers, which slow torch's convolution sevenfold.
            conv.load_weight(torch.where(layer.weight < 1e-30, 0, layer.weight))
        self.stdp = [snn.STDP(conv, (0.004, -0.003)) for conv in self.convs[:2]]
        self.reward = snn.STDP(self.convs[2], (0.004, -0.003), False, 0.2, 0.8)

    def learn(self, layer: int, wave: Tensor, threshold: float, kwta: int, radius: int) -> None:
        _, potentials = sf.fire(self.convs[layer](wave), threshold, True)
        potentials = sf.pointwise_inhibition(potentials)
        spikes = potentials.sign()
        self.stdp[layer](wave, potentials, spikes, sf.get_k_winners(potentials, kwta, radius, spikes))

    def learn3(self, wave: Tensor) -> None:
        spikes, potentials = sf.fire(self.convs[2](wave), None, True)
        self.reward(wave, potentials, spikes, sf.get_k_winners(potentials, 1, 0, spikes))

    def hidden(self, wave: Tensor) -> Tensor:
        wave = sf.pad(sf.pooling(sf.fire(self.convs[0](sf.pad(wave, (2,) * 4)), 15), 2), (1,) * 4)
        return sf.pad(sf.pooling(sf.fire(self.convs[1](wave), 10), 3), (2,) * 4)

    def decide(self, wave: Tensor) -> list:
        spikes, potentials = sf.fire(self.convs[2](self.hidden(wave)), None, True)
        return sf.get_k_winners(potentials, 1, 0, spikes)


def adds_per_nanosecond() -> float:
    """What one core does on contiguous float32 additions, a += b, that stay in its cache."""
    a, b = np.zeros(16384, np.float32), np.ones(16384, np.float32)
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            np.add(a, b, out=a)
        best = max(best, 100 * a.size / (time.perf_counter() - start) / 1e9)
    return best


def additions(times: Tensor, layer: snn.SpikingConvolution) -> tuple[float, float]:
    """(input spikes, additions) per image."""
    spikes = (times < T).to(torch.float32)
    reached = nn.functional.conv2d(
        spikes.sum(1, keepdim=True), torch.ones(1, 1, *layer.kernel_size), padding=layer.padding
    )
    return spikes.sum().item() / len(times), reached.sum().item() * layer.out_channels / len(times)


def infer_at_once(kind: str, images: Tensor) -> None:
    """Inference of all images in one batch, or nothing but the network."""
    engine = Engine()
    if kind == "engine":
        engine.infer(images)
    elif kind == "dense":
        dense = Dense(engine)
        dense.decide(dense.encode(images))


def peak(kind: str, data: Path, images: int) -> float:
    """Peak memory, in MB, of a process of its own that does this."""
    script = (
        "import resource, sys, torch; from pathlib import Path; import speed; "
        "images = speed.MNIST(sys.argv[2], train=True).data[: int(sys.argv[3]), None].float(); "
        "torch.manual_seed(0); speed.infer_at_once(sys.argv[1], images); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)"
    )
    command = [sys.executable, "-c", script, kind, str(data.resolve()), str(images)]
    return float(subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    options = common.options(__doc__)
    train, many, few, rounds = (1000, 200, 10, 3) if options.quick else (6000, 1000, 40, 7)

    torch.manual_seed(0)
    data = MNIST(options.data, train=True)
    images, labels = data.data[:train, None].float(), data.targets[:train]
    engine = Engine()
    inputs, by_epoch = engine.train(images, labels, 2 if options.quick else 20)
    first, second, third = (times[:many] for times in inputs)
    images, labels = images[:many], labels[:many]
    dense = Dense(engine)
    few_waves = [latency.to_wave(x[:few].contiguous(), T) for x in (first, second, third)]
    padded = [sf.pad(w, (p,) * 4) for w, p in zip(few_waves, (2, 1, 2), strict=True)]
    compare_decisions(engine, dense, few_waves[0], padded, (second, third), few)

    def online(learn: Callable[[Tensor], object], times: Tensor) -> Callable[[], object]:
        """One image a call."""
        return lambda: [learn(times[i : i + 1]) for i in range(few)]

    def reward(part: Tensor) -> Tensor:
        return engine.rstdp.learn(part, labels[: len(part)], engine.classes)

    phases: dict[str, dict[str, Callable[[], object]]] = {
        "encode": {
            "engine": lambda: engine.encode(images),
            "engine, one by one": online(engine.encode, images),
            "dense loop": lambda: [dense.encode(image) for image in images[:few]],
            "dense batch": lambda: dense.encode(images[:few]),
        },
        "train 1": {
            "engine": lambda: engine.stdp1.learn(first, 5, 3),
            "engine, one by one": online(lambda part: engine.stdp1.learn(part, 5, 3), first),
            "dense loop": lambda: [dense.learn(0, wave, 15, 5, 3) for wave in padded[0]],
        },
        "train 2": {
            "engine": lambda: engine.stdp2.learn(second, 8, 1),
            "engine, one by one": online(lambda part: engine.stdp2.learn(part, 8, 1), second),
            "dense loop": lambda: [dense.learn(1, wave, 10, 8, 1) for wave in padded[1]],
        },
        "train 3": {
            "engine": lambda: reward(third),
            "engine, one by one": online(reward, third),
            "dense loop": lambda: [dense.learn3(wave) for wave in padded[2]],
        },
        "image to decision": {
            "engine": lambda: engine.infer(images),
            "engine, one by one": online(engine.infer, images),
            "dense loop": lambda: [dense.decide(dense.encode(image)) for image in images[:few]],
            "dense batch": lambda: dense.decide(dense.encode(images[:few])),
        },
    }
    table: dict[str, common.Times] = {}
    for name, calls in phases.items():
        works = {how: common.Work(call, many if how == "engine" else few) for how, call in calls.items()}
        works["engine, 1 thread"] = works["engine"]._replace(threads=1)
        table[name] = common.by_turns(works, rounds)

    print(" ".join(f"{k} {v}" for k, v in common.about().items()))
    print(f"the engine on batches of {many}, the others on {few} images; median and quartiles of {rounds} rounds")
    common.tell("ms per image", table)
    for name, times in table.items():
        alone = common.ratio(times, "dense loop", "engine, one by one")
        print(f"{name}: {common.ratio(times, 'dense loop', 'engine'):.0f}x the dense loop, one by one {alone:.1f}x")
    figures: dict[str, Any] = {"three layers": common.as_json(table), "layer 3 by epoch": by_epoch}
    shown = {epoch: by_epoch[epoch] for epoch in (1, 5, 20) if epoch in by_epoch}
    print("layer 3 by reward, ms per image in epoch " + ", ".join(f"{e}: {t:.2f}" for e, t in shown.items()))
    rate = adds_per_nanosecond()
    figures["additions per ns and core"] = rate
    print(f"the engine's work, and its limit at {rate:.1f} additions per ns and core:")
    for number, (times, layer) in enumerate(((first, engine.one), (second, engine.two), (third, engine.three)), 1):
        spikes, adds = additions(times, layer)
        limit = adds / rate / 1e6 / torch.get_num_threads()
        figures[f"layer {number}"] = {"input spikes": spikes, "additions": adds, "limit": limit}
        print(
            f"layer {number}: {spikes:.0f} input spikes, {adds / 1e6:.2f} M additions, at least {limit:.3f} ms forward"
        )
    size = first.numel() * first.element_size() / len(first) * 60000 / 1e6
    print(f"60,000 encoded images take {size:.0f} MB")
    figures["peak MB"] = {kind: peak(kind, options.data, many) for kind in ("nothing", "engine", "dense")}
    text = "inference of {} images at once, peak memory of the process: engine {engine:.0f} MB, dense {dense:.0f} MB"
    print(text.format(many, **figures["peak MB"]), "({nothing:.0f} MB with neither)".format(**figures["peak MB"]))
    figures["two layers"] = common.as_json(two_layers.compare(images, few, rounds))
    common.write(options.json, figures)


def compare_decisions(
    engine: Engine, dense: Dense, waves: Tensor, padded: list[Tensor], inputs: tuple[Tensor, Tensor], few: int
) -> None:
    """How often both representations agree, with float weights."""
    agree = torch.tensor([dense.decide(wave)[0][0] // 20 for wave in waves]) == engine.decide(inputs[1][:few])
    print(f"decisions that agree: {int(agree.sum())} of {few}")
    pooled = [
        sf.pooling(sf.fire(conv(wave), threshold), size)
        for conv, wave, threshold, size in zip(dense.convs[:2], padded[:2], (15, 10), (2, 3), strict=True)
    ]
    differ = [float((latency.from_wave(w) != s[:few]).float().mean()) for w, s in zip(pooled, inputs, strict=True)]
    print(f"spikes that differ from the dense path: layer 1 {differ[0]:.1e}, layer 2 {differ[1]:.1e}")


if __name__ == "__main__":
    main()
