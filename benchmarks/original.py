"""A renamed script against the original: is the renamed import ever slower?

    python benchmarks/original.py --data DIR --json results.json

The original is not part of this project. :class:`Plain` is an equivalent loop of torch operations, written from its
published description (arXiv 1903.02440): the convolution of all frames, thresholds and signs, one ranking value per
neuron for the winners, a sort for the code, and STDP on the whole weight tensor. The two run the same script on the
same images, one image at a time, in one process and in turn, and must give the same weights and decisions.

Times are medians over rounds, with quartiles. A ratio is the median of the ratios round by round, so that a busy
machine slows both. Beside it stands the most that it may be; rows beyond say so.
"""

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from spyketorch import functional as sf
from spyketorch import models, snn, utils

T = 15
#: the most that a renamed script may take, of the original's time
TARGETS = {"MNIST": 1.05, "small": 1.15}
#: the plain loop and the renamed script
Pair = tuple[Callable[[], Any], Callable[[], Any]]


class PlainConvolution(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, wave: Tensor) -> Tensor:
        return fn.conv2d(wave, self.weight)


class PlainSTDP(nn.Module):
    def __init__(
        self, weight: Tensor, rates: tuple[float, float], stabilizer: bool, lower: float, upper: float
    ) -> None:
        super().__init__()
        self.weight, self.stabilizer, self.lower, self.upper = weight, stabilizer, lower, upper
        self.rates = [(torch.tensor([rates[0]]), torch.tensor([rates[1]])) for _ in weight]

    def forward(self, input_spikes: Tensor, potentials: Tensor, output_spikes: Tensor, winners: list) -> None:
        inputs, outputs = input_spikes.sum(0), output_spikes.sum(0)
        rows, columns = self.weight.shape[2:]
        rate = torch.zeros_like(self.weight)
        for feature, row, column in winners:
            field = inputs[:, row : row + rows, column : column + columns]
            causal = field >= outputs[feature, row, column]
            rate[feature] = torch.where(causal, *self.rates[feature])
        if self.stabilizer:
            rate *= (self.weight - self.lower) * (self.upper - self.weight)
        self.weight += rate
        self.weight.clamp_(self.lower, self.upper)


class Plain:
    """The original's operations on one sample, as its paper describes them."""

    STDP = PlainSTDP

    @staticmethod
    def pad(wave: Tensor, pad: tuple[int, ...]) -> Tensor:
        return fn.pad(wave, pad)

    @staticmethod
    def pooling(wave: Tensor, size: int) -> Tensor:
        return fn.max_pool2d(wave, size)

    Convolution = PlainConvolution

    @staticmethod
    def fire(potentials: Tensor, threshold: float | None, return_thresholded: bool) -> tuple[Tensor, Tensor]:
        assert return_thresholded
        kept = potentials.clone()
        if threshold is None:
            kept[:-1] = 0
        else:
            fn.threshold_(kept, threshold, 0)
        return kept.sign(), kept

    @staticmethod
    def pointwise_inhibition(kept: Tensor) -> Tensor:
        strongest, features = kept.max(1, keepdim=True)
        spikes = strongest.sign()
        first = (len(kept) - spikes.sum(0, keepdim=True)).clamp(max=len(kept) - 1).long()
        winner = features.gather(0, first)
        mask = torch.zeros_like(kept[:1]).scatter_(1, winner, spikes[-1:])
        return kept * mask

    @staticmethod
    def get_k_winners(kept: Tensor, kwta: int, radius: int, spikes: Tensor) -> list:
        first = (len(kept) - spikes.sum(0, keepdim=True)).clamp(0, len(kept) - 1).long()
        value = kept.gather(0, first)
        reached = spikes * value
        score = (reached + spikes * (reached.max() * len(kept))).sum(0)
        score[value[0] == 0] = 0
        rows, columns = score.shape[1:]
        winners = []
        for _ in range(kwta):
            best, index = score.flatten().max(0)
            if best.item() == 0:
                break
            feature, place = divmod(index.item(), rows * columns)
            row, column = divmod(place, columns)
            winners.append((feature, row, column))
            score[feature] = 0
            if radius:
                top, left = max(0, row - radius), max(0, column - radius)
                score[:, top : row + radius + 1, left : column + radius + 1] = 0
        return winners

    @staticmethod
    def encode(image: Tensor, kernels: Tensor, padding: int, threshold: float) -> Tensor:
        filtered = fn.conv2d(image, kernels, padding=padding)
        filtered = torch.where(filtered < threshold, torch.tensor(0.0), filtered)
        mean = fn.conv2d(filtered.transpose(0, 1), torch.ones(1, 1, 17, 17) / 17**2, padding=8).transpose(0, 1)
        intensities = filtered / (mean + 1e-12)
        flat = intensities.flatten()
        values, order = flat.sort(descending=True)
        bin_size = int(values.count_nonzero()) // T
        frame, frames = torch.zeros_like(flat), []
        for i in range(T):
            part = slice(i * bin_size, (i + 1) * bin_size)
            frame[order[part]] = values[part]
            frames.append(frame.clone().view_as(intensities[0]))
        return torch.stack(frames).sign()


class Renamed:
    """The same through the names of the original."""

    pad, fire, pooling = staticmethod(sf.pad), staticmethod(sf.fire), staticmethod(sf.pooling)
    pointwise_inhibition, get_k_winners = staticmethod(sf.pointwise_inhibition), staticmethod(sf.get_k_winners)

    @staticmethod
    def STDP(weight: Tensor, rates: tuple[float, float], *options: Any) -> snn.STDP:
        return snn.STDP(Renamed.Convolution(weight), rates, *options)

    @staticmethod
    def Convolution(weight: Tensor) -> snn.Convolution:
        conv = snn.Convolution(weight.shape[1], weight.shape[0], tuple(weight.shape[2:]))
        conv.weight.data = weight
        return conv

    def encode(self, image: Tensor, kernels: Tensor, padding: int, threshold: float) -> Tensor:
        if not hasattr(self, "encoder"):
            filters = utils.Filter([kernel[0] for kernel in kernels], padding, threshold)
            self.encoder = filters, utils.Intensity2Latency(T, to_spike=True)
        filters, latency = self.encoder
        return latency(sf.local_normalization(filters(image), 8))


class Script:
    """The three-layer digit network, as a script writes it."""

    def __init__(self, ops: Any, weights: list[Tensor], kernels: Tensor) -> None:
        self.ops, self.kernels = ops, kernels
        self.weights = [weight.clone() for weight in weights]
        self.convs = [ops.Convolution(weight) for weight in self.weights]
        one, two, three = self.weights
        self.rules = [
            ops.STDP(one, (0.004, -0.003), True, 0, 1),
            ops.STDP(two, (0.004, -0.003), True, 0, 1),
            ops.STDP(three, (0.004, -0.003), False, 0.2, 0.8),
        ]

    def encode(self, image: Tensor) -> Tensor:
        return self.ops.encode(image, self.kernels, 6, 50)

    def layer(self, number: int, wave: Tensor) -> Tensor:
        """What a layer passes on."""
        ops, (pad, threshold, size) = self.ops, ((2, 15, 2), (1, 10, 3))[number]
        spikes, _ = ops.fire(self.convs[number](ops.pad(wave, (pad,) * 4)), threshold, True)
        return ops.pooling(spikes, size)

    def train(self, number: int, wave: Tensor) -> list:
        """One image; what it passes through first is part of it, as in the original's script."""
        ops = self.ops
        for below in range(number):
            wave = self.layer(below, wave)
        pad, threshold, kwta, radius = ((2, 15, 5, 3), (1, 10, 8, 1), (2, None, 1, 0))[number]
        wave = ops.pad(wave, (pad,) * 4)
        spikes, kept = ops.fire(self.convs[number](wave), threshold, True)
        if number < 2:
            kept = ops.pointwise_inhibition(kept)
            spikes = kept.sign()
        winners = ops.get_k_winners(kept, kwta, radius, spikes)
        self.rules[number](wave, kept, spikes, winners)
        return winners

    def infer(self, image: Tensor) -> list:
        ops, wave = self.ops, self.layer(1, self.layer(0, self.encode(image)))
        spikes, kept = ops.fire(self.convs[2](ops.pad(wave, (2,) * 4)), None, True)
        return ops.get_k_winners(kept, 1, 0, spikes)


def operations(size: str) -> dict[str, Pair]:
    """Each operation, by the plain loop and by ours: on small maps, or on the first layer of the digit network."""
    generator = torch.Generator().manual_seed(0)
    steps, channels, features, side, kwta, radius = {"small": (5, 4, 30, 14, 1, 0), "MNIST": (15, 6, 30, 28, 5, 3)}[
        size
    ]
    wave = torch.randint(0, 3 * steps, (channels, side + 4, side + 4), generator=generator)
    wave = (wave <= torch.arange(steps).view(-1, 1, 1, 1)).float()
    weights = [torch.rand(features, channels, 5, 5, generator=generator) for _ in range(2)]
    weights[1].copy_(weights[0])
    plain, ours = Plain(), Renamed()
    rules = [ops.STDP(weight, (0.004, -0.003), True, 0, 1) for ops, weight in zip((plain, ours), weights, strict=True)]
    convs = [ops.Convolution(weight) for ops, weight in zip((plain, ours), weights, strict=True)]
    potentials = convs[0](wave)
    threshold = float(potentials.quantile(0.5) if potentials.numel() < 2**24 else potentials.median())
    _, kept = plain.fire(potentials, threshold, True)
    inhibited = plain.pointwise_inhibition(kept)
    spikes = inhibited.sign()
    winners = plain.get_k_winners(inhibited, kwta, radius, spikes)
    assert winners == ours.get_k_winners(inhibited, kwta, radius, spikes)
    assert torch.equal(ours.pointwise_inhibition(kept), inhibited)

    def both(call: Callable[[Any, int], Any]) -> Pair:
        return lambda: call(plain, 0), lambda: call(ours, 1)

    return {
        "convolution": both(lambda ops, i: convs[i](wave)),
        "fire": both(lambda ops, i: ops.fire(potentials, threshold, True)),
        "fire, last step": both(lambda ops, i: ops.fire(potentials, None, True)),
        "pointwise inhibition": both(lambda ops, i: ops.pointwise_inhibition(kept)),
        "winners": both(lambda ops, i: ops.get_k_winners(inhibited, kwta, radius, spikes)),
        "STDP": both(lambda ops, i: rules[i](wave, inhibited, spikes, winners)),
        "pooling": both(lambda ops, i: ops.pooling(spikes, 2)),
        "pad": both(lambda ops, i: ops.pad(spikes, (2,) * 4)),
    }


def phases(images: Tensor) -> dict[str, Pair]:
    network: Any = models.mozafari2019(pretrained=True)
    weights = [stage.layer.weight.data.where(stage.layer.weight > 1e-30, 0) for stage in network.stages]
    kernels = network.encoder.filter.kernels
    scripts = [Script(ops, weights, kernels) for ops in (Plain(), Renamed())]
    plain, ours = scripts
    waves = [plain.encode(image[None]) for image in images]
    equal = sum(plain.infer(image[None])[:1] == ours.infer(image[None])[:1] for image in images)
    for number in range(3):
        for wave in waves[:3]:
            assert plain.train(number, wave) == ours.train(number, wave), f"layer {number + 1}"
        same = torch.equal(plain.weights[number], ours.weights[number])
        print(f"layer {number + 1}: weights {'the same to the bit' if same else 'DIFFER'}")
    print(f"same decision: {equal} of {len(images)}")

    def both(call: Callable[[Script], Any]) -> Pair:
        return lambda: call(plain), lambda: call(ours)

    return {
        "encode": both(lambda script: [script.encode(image[None]) for image in images]),
        "train 1": both(lambda script: [script.train(0, wave) for wave in waves]),
        "train 2": both(lambda script: [script.train(1, wave) for wave in waves]),
        "train 3": both(lambda script: [script.train(2, wave) for wave in waves]),
        "infer": both(lambda script: [script.infer(image[None]) for image in images]),
    }


def compare(title: str, pairs: dict[str, Pair], images: int, rounds: int, target: float) -> dict[str, dict]:
    """Print a table of microseconds per call or image, with quartiles; its figures."""
    print(f"{title:<22}{'plain, us':>28}{'renamed, us':>28}{'ratio':>8}")
    table: dict[str, dict] = {}
    for name, pair in pairs.items():
        calls = dict(zip(("plain", "renamed"), pair, strict=True))
        times = common.by_turns({how: enough(call, pair[0], images) for how, call in calls.items()}, rounds)
        ratio = common.ratio(times, "renamed", "plain")
        cells = [common.figure([1e3 * ms for ms in times[how]]) for how in calls]
        texts = [f"{cell.median:.1f} ({cell.low:.1f}-{cell.high:.1f})" for cell in cells]
        missed = "" if ratio <= target else ", MISSED"
        print(f"{name:<22}" + "".join(f"{text:>28}" for text in texts) + f"{ratio:>8.2f}, at most {target}{missed}")
        table[name] = {**common.as_json({name: times})[name], "ratio": ratio, "at most": target}
    return table


def enough(call: Callable[[], Any], measure: Callable[[], Any], images: int) -> common.Work:
    """A call as often as it takes for ``measure`` to last 5 ms, which a clock tells from nothing."""

    def work(call: Callable[[], Any], repeat: int) -> common.Work:
        return common.Work(lambda: [call() for _ in range(repeat)], images * repeat)

    repeat = 1
    while repeat * images * common.once(work(measure, repeat)) < 5:
        repeat *= 2
    return work(call, repeat)


FIRST = """
import time, torch
torch.nn.functional.conv2d(torch.ones(1, 1, 9, 9), torch.ones(1, 1, 3, 3)).sort()
start = time.perf_counter()
from spyketorch import functional as sf, snn, utils
imported = time.perf_counter()
encode = utils.Filter([utils.DoGKernel(3, 1 / 3, 2 / 3)], 1, 0), utils.Intensity2Latency(15, to_spike=True)
conv = snn.Convolution(1, 30, 5)
rule = snn.STDP(conv, (0.004, -0.003))
def image():
    start = time.perf_counter()
    wave = encode[1](sf.local_normalization(encode[0](torch.rand(1, 1, 28, 28) * 255), 8))
    spikes, kept = sf.fire(conv(wave), 1, True)
    kept = sf.pointwise_inhibition(kept)
    rule(wave, kept, kept.sign(), sf.get_k_winners(sf.pooling(kept, 1), 5, 3, kept.sign()))
    return time.perf_counter() - start
first, second = image(), image()
print(imported - start, first - second)
"""


def first(rounds: int) -> dict[str, float]:
    """Milliseconds that a script on waves waits in a new process for the import, and more for the first image."""
    told = [
        subprocess.run(
            [sys.executable, "-c", FIRST], capture_output=True, text=True, encoding="utf-8", check=True
        ).stdout.split()
        for _ in range(rounds)
    ]
    imports, images = (statistics.median(1e3 * float(seconds) for seconds in part) for part in zip(*told, strict=True))
    missed = "" if imports + images <= 100 else ", MISSED"
    print(f"a new process: import {imports:.0f} ms, more for the first image {images:.0f} ms, at most 100{missed}")
    return {"import": imports, "first image": images, "at most": 100}


def made_images(count: int) -> Tensor:
    """Strokes, where no MNIST is at hand."""
    generator = torch.Generator().manual_seed(0)
    blobs = torch.randn(count, 1, 28, 28, generator=generator)
    smooth = fn.avg_pool2d(fn.avg_pool2d(blobs, 5, 1, 2), 3, 1, 1)
    return ((smooth - 0.1).clamp(min=0) * 2000).clamp(max=255).round()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="where torchvision finds MNIST; made images without it")
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--images", type=int, default=10)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    images = made_images(options.images)
    if options.data is not None:
        from torchvision.datasets import MNIST

        images = MNIST(str(options.data), train=True).data[: options.images, None].float()
    figures: dict[str, Any] = {"images": "made" if options.data is None else "MNIST"}
    print(" ".join(f"{key} {value}" for key, value in {**common.about(), **figures}.items()))
    for size, target in TARGETS.items():
        title = f"operations, {size}"
        figures[title] = compare(title, operations(size), 1, options.rounds, target)
    figures["phases"] = compare("phases, per image", phases(images), len(images), options.rounds, TARGETS["MNIST"])
    figures["first"] = first(5)
    common.write(options.json, figures)


if __name__ == "__main__":
    main()
