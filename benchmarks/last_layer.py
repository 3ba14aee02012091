"""Learning of the layer that decides, by epoch, on one thread and on all: runs of images are decided ahead on all.

    python benchmarks/last_layer.py --data DIR [--quick] [--json PATH]

The last layer of the MNIST network, which sees the whole map, learns from its mistakes alone ("guess"), with half of
its features left out of each image and rates that fade, as `examples/mnist_mozafari.py` does, from the answers of the
shipped layers below. In each epoch that is told both learn copies of the same layer, by turns, and must come to the
same weights.
"""

import copy
from functools import partial

import common
import torch
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import models, snn
from spyketorch.training import Fading, Progress

PERIOD = 500  # images a call


def answers(data: MNIST, images: int) -> Tensor:
    """What the shipped layers below the last one make of images."""
    network = models.mozafari2019(pretrained=True)
    return torch.cat([network.features(part, 2) for part in data.data[:images, None].split(1000)])


def epoch(rule: snn.RSTDP, times: Tensor, labels: Tensor, active: Tensor, classes: Tensor) -> float:
    """The share of mistakes."""
    winners = [
        rule.learn(*part, classes, correction="guess", active=some)
        for *part, some in zip(times.split(PERIOD), labels.split(PERIOD), active.split(PERIOD), strict=True)
    ]
    return float((classes[torch.cat(winners)[:, 0, 0].clamp(min=0)] != labels).float().mean())


def main() -> None:
    options = common.options(__doc__)
    images, epochs, rounds = (1000, 4, 3) if options.quick else (12_000, 40, 5)
    data = MNIST(options.data, train=True)
    times, labels = answers(data, images), data.targets[:images]
    torch.manual_seed(0)
    layer = snn.SpikingConvolution(250, 200, 4, None, 0.8, 0.05, time_steps=15)
    rule, classes = snn.RSTDP(layer, (0.004, -0.003), (-0.004, 0.003)), torch.arange(200) // 20
    told, threads = {1, 2, 5, 10, 20, 40}, torch.get_num_threads()
    table: dict[str, common.Times] = {}
    for number in range(1, epochs + 1):
        factor = Fading(0.05)(Progress(number - 1, epochs))[0]
        rule.reward.update_all_learning_rate(0.004 * factor, -0.003 * factor)
        rule.punishment.update_all_learning_rate(-0.004 * factor, 0.003 * factor)
        order, active = torch.randperm(images), torch.rand(images, 200) >= 0.5
        taught = times[order], labels[order], active, classes
        if number in told:
            table[f"epoch {number}"] = by_threads(rule, taught, sorted({1, threads}), rounds)
        wrong = epoch(rule, *taught)
        if number in told:
            print(f"epoch {number}: {100 * wrong:.1f} % mistakes", flush=True)
    print(" ".join(f"{k} {v}" for k, v in common.about().items()))
    common.tell("ms per image", table)
    for name, row in table.items():
        print(f"{name}: {common.ratio(row, *row):.2f}x as fast on {threads} threads" if len(row) > 1 else name)
    common.write(options.json, {"layer 3, guess": common.as_json(table)})


def by_threads(rule: snn.RSTDP, taught: tuple[Tensor, ...], threads: list[int], rounds: int) -> common.Times:
    """The epoch on copies of the layer, by turns; the weights must be the same bits."""
    learned: dict[int, Tensor] = {}

    def learn(count: int) -> None:
        mine = copy.deepcopy(rule)
        epoch(mine, *taught)
        learned[count] = mine.reward.conv_layer.weight.detach()

    works = {f"{count} threads": common.Work(partial(learn, count), len(taught[0]), count) for count in threads}
    times = common.by_turns(works, rounds)
    assert all(torch.equal(weight, learned[1]) for weight in learned.values())
    return times


if __name__ == "__main__":
    main()
