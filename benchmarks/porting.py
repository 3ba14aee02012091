"""The digit script, ported: milliseconds per image of each step, as it was, with the import renamed, and on times.

    python benchmarks/porting.py --data DIR [--quick] [--json PATH]

*as it was* is an equivalent loop of torch operations (`original.Plain`, as the original is not part of this project),
*renamed* the same script through this library. Both go image by image, and a layer that learns sees each image through
the layers below it. *ported* is the network and the rules of docs/porting.md: all images in one call, each layer from
the stored answers of those below. All are measured in one run, by turns, on the same images and weights, as time of the
processor on one thread, which other work on the machine disturbs least; and printed as the table of that page.
"""

import time
from typing import Any

import common
import torch
from original import Plain, Renamed, Script
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import models
from spyketorch.training import Reinforced, Unsupervised

STEPS = ("encode", "train layer 1", "train layer 2", "train layer 3", "image to decision")


def build() -> models.Network:
    """The published network, whose first two layers have learned."""
    torch.manual_seed(0)
    network, learned = models.mozafari2019(whole_map=False), models.mozafari2019(pretrained=True)
    for stage, other in zip(network.stages[:2], learned.stages[:2], strict=True):
        weight = other.layer.weight.detach()
        stage.layer.load_weight(weight.where(weight > 1e-30, 0))  # denormal numbers slow dense convolutions
    return network


def script(ops: Any, network: models.Network, images: Tensor) -> list[common.Work]:
    """The steps of the script."""
    kernels: Any = network.encoder.get_submodule("filter").kernels
    made = Script(ops, [stage.layer.weight.data for stage in network.stages], kernels)
    waves = [made.encode(image[None]) for image in images]

    def train(number: int) -> common.Work:
        return common.Work(lambda: [made.train(number, wave) for wave in waves], len(waves))

    encode = common.Work(lambda: [made.encode(image[None]) for image in images], len(images))
    decide = common.Work(lambda: [made.infer(image[None]) for image in images], len(images))
    return [encode, *map(train, range(3)), decide]


def ported(network: models.Network, images: Tensor, labels: Tensor) -> list[common.Work]:
    """The same steps on first-spike times."""
    first, second, third = network.stages
    strokes, parts, digits = Unsupervised().rule(first), Unsupervised().rule(second), Reinforced().rule(third)
    times = [network.features(images, number) for number in range(3)]
    calls: list[Any] = [
        lambda: network.encoder(images),
        lambda: strokes.learn(times[0], 5, 3, pointwise_inhibition=True),
        lambda: parts.learn(times[1], 8, 1, pointwise_inhibition=True),
        lambda: digits.learn(times[2], labels, network.classes),
        lambda: network(images),
    ]
    return [common.Work(call, len(images)) for call in calls]


def main() -> None:
    options = common.options(__doc__)
    torch.set_num_threads(1)
    few, many, rounds = (5, 200, 2) if options.quick else (20, 1000, 7)
    digits = MNIST(str(options.data), train=True)
    images, labels = digits.data[:many, None].float(), digits.targets[:many]
    network = build()
    ways = {
        "as it was": script(Plain(), network, images[:few]),
        "renamed": script(Renamed(), network, images[:few]),
        "ported": ported(build(), images, labels),
    }
    print(" ".join(f"{key} {value}" for key, value in common.about().items()))
    print("| ms per image | as it was | renamed | ported | as it was / ported |\n|---|---|---|---|---|")
    table = {}
    for number, step in enumerate(STEPS):
        works = {way: steps[number] for way, steps in ways.items()}
        times = table[step] = common.by_turns(works, rounds, time.process_time)
        cells = [f"{common.figure(times[way]).median:.3g}" for way in ways]
        print(f"| {step} | {' | '.join(cells)} | {common.ratio(times, 'as it was', 'ported'):.0f}x |", flush=True)
    common.write(options.json, common.as_json(table))


if __name__ == "__main__":
    main()
