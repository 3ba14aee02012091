"""Speed of the engine against the faithful dense loop, on the three-layer MNIST network of Mozafari et al. 2019.

    python benchmarks/speed.py --data DIR [--quick] [--json PATH]

Prints milliseconds per image for each phase: the dense loop as scripts of the original write it (one image at a time,
all time steps, all layers), the same in one batch where that makes sense, and the engine on first-spike times.
All are measured in one run, in turn, on the same images and weights, which the engine trained before; the median of the
rounds counts. The work that the engine does is counted, and set against what this machine does in contiguous additions.
"""

import argparse
import datetime
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.datasets import MNIST
from two_layers import compare, timed

import spyketorch
from spyketorch import functional as sf
from spyketorch import latency, snn
from spyketorch.encoding import DoGKernel, Filter, Intensity2Latency, LatencyEncoder, LocalNormalization

T = 15
#: ms per image to reach on two cores, and the ratio to the dense loop
TARGETS = {
    "encode": (0.15, 20),
    "train 1": (0.25, 17),
    "train 2": (0.25, 50),
    "train 3": (0.15, 150),
    "infer": (0.5, 50),
}


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

    def train(self, images: Tensor, labels: Tensor, epochs: int) -> tuple[Tensor, Tensor, Tensor]:
        """Train all layers; gives the input of each."""
        first = self.encode(images)
        for rule, times, kwta, radius in ((self.stdp1, first, 5, 3), (self.stdp2, None, 8, 1)):
            times, rate = self.pooled1(first) if times is None else times, 0.004
            for part in times.split(500):
                rule.learn(part, kwta, radius)
                rate = min(2 * rate, 0.15)
                rule.update_all_learning_rate(rate, -0.75 * rate)
        second = self.pooled1(first)
        third = self.pooled2(second)
        for _ in range(epochs):
            self.rstdp.learn(third, labels, self.classes)
        return first, second, third


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where torchvision finds MNIST")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    train, many, few, rounds = (1000, 200, 10, 3) if options.quick else (6000, 1000, 40, 7)

    torch.manual_seed(0)
    data = MNIST(options.data, train=True)
    images, labels = data.data[:train, None].float(), data.targets[:train]
    engine = Engine()
    first, second, third = (times[:many] for times in engine.train(images, labels, 1 if options.quick else 20))
    images, labels = images[:many], labels[:many]
    dense = Dense(engine)
    few_waves = [latency.to_wave(x[:few].contiguous(), T) for x in (first, second, third)]
    padded = [sf.pad(w, (p,) * 4) for w, p in zip(few_waves, (2, 1, 2), strict=True)]

    agree = torch.tensor([dense.decide(w)[0][0] // 20 for w in few_waves[0]]) == engine.decide(third[:few])
    print(f"decisions that agree: {int(agree.sum())} of {few}")
    stale = engine.pooled1(first), engine.pooled2(second)
    waves = sf.pooling(sf.fire(dense.convs[0](padded[0]), 15), 2), sf.pooling(sf.fire(dense.convs[1](padded[1]), 10), 3)
    differ = [float((latency.from_wave(w) != s[:few]).float().mean()) for w, s in zip(waves, stale, strict=True)]
    print(f"spikes that differ from the dense path: layer 1 {differ[0]:.1e}, layer 2 {differ[1]:.1e}")

    phases: dict[str, tuple[Callable[[], object], Callable[[], object], Callable[[], object] | None]] = {
        "encode": (
            lambda: engine.encode(images),
            lambda: [dense.encode(image) for image in images[:few]],
            lambda: dense.encode(images[:few]),
        ),
        "train 1": (
            lambda: engine.stdp1.learn(first, 5, 3),
            lambda: [dense.learn(0, wave, 15, 5, 3) for wave in padded[0]],
            None,
        ),
        "train 2": (
            lambda: engine.stdp2.learn(second, 8, 1),
            lambda: [dense.learn(1, wave, 10, 8, 1) for wave in padded[1]],
            None,
        ),
        "train 3": (
            lambda: engine.rstdp.learn(third, labels, engine.classes),
            lambda: [dense.learn3(wave) for wave in padded[2]],
            None,
        ),
        "infer": (
            lambda: engine.infer(images),
            lambda: [dense.decide(dense.encode(image)) for image in images[:few]],
            lambda: dense.decide(dense.encode(images[:few])),
        ),
    }
    figures: dict[str, dict[str, float]] = {}
    for name, (fast, slow, batch) in phases.items():
        fast(), slow()
        times = [(timed(fast, many), timed(slow, few)) for _ in range(rounds)]
        figures[name] = {
            "engine": statistics.median(t[0] for t in times),
            "dense": statistics.median(t[1] for t in times),
        }
        figures[name]["ratio"] = statistics.median(t[1] / t[0] for t in times)
        if batch is not None:
            figures[name]["dense, batched"] = statistics.median(timed(batch, few) for _ in range(rounds))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        figures[name]["engine, 1 thread"] = statistics.median(timed(fast, many) for _ in range(rounds))
        torch.set_num_threads(threads)

    about = {
        "date": datetime.date.today().isoformat(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "spyketorch": spyketorch.__version__,
    }
    print(" ".join(f"{k} {v}" for k, v in about.items()))
    print(
        f"{'ms per image':<12}{'dense loop':>12}{'dense batch':>13}{'1 thread':>10}{'engine':>9}{'ratio':>8}   to reach"
    )
    for name, row in figures.items():
        batched = f"{row['dense, batched']:.2f}" if "dense, batched" in row else "-"
        target = "{} ms, {}x".format(*TARGETS[name])
        engine_times = f"{row['engine, 1 thread']:>10.3f}{row['engine']:>9.3f}"
        print(f"{name:<12}{row['dense']:>12.2f}{batched:>13}{engine_times}{row['ratio']:>7.0f}x   {target}")
    rate = adds_per_nanosecond()
    print(f"the engine's work, and its limit at {rate:.1f} additions per ns and core:")
    for number, (times, layer) in enumerate(((first, engine.one), (second, engine.two), (third, engine.three)), 1):
        spikes, adds = additions(times, layer)
        limit = adds / rate / 1e6 / about["threads"]
        figures[f"layer {number}"] = {"input spikes": spikes, "additions": adds, "limit": limit}
        print(
            f"layer {number}: {spikes:.0f} input spikes, {adds / 1e6:.2f} M additions, at least {limit:.3f} ms forward"
        )
    size = first.numel() * first.element_size() / len(first) * 60000 / 1e6
    print(f"60,000 encoded images take {size:.0f} MB")
    figures["peak MB"] = {kind: peak(kind, options.data, many) for kind in ("nothing", "engine", "dense")}
    text = "inference of {} images at once, peak memory of the process: engine {engine:.0f} MB, dense {dense:.0f} MB"
    print(text.format(many, **figures["peak MB"]), "({nothing:.0f} MB with neither)".format(**figures["peak MB"]))
    figures["two layers"] = compare(images, rounds)  # type: ignore[assignment]
    if options.json:
        options.json.write_text(json.dumps({"about": about, "ms per image": figures}, indent=1))


if __name__ == "__main__":
    main()
