"""How each step of a training uses threads: the same work on one and on all, by turns, to the same bits.

    python benchmarks/threads.py --data DIR [--quick] [--json PATH]

The three layers of Mozafari et al. 2019 and the two of Goupy et al. 2024 on MNIST, with their shipped weights; and one
large image with 256 features. Told are milliseconds per image on one thread, how many times as fast all threads are,
how many cores they keep busy (processor time by wall clock), and what 4, 8 and 16 threads would gain if the part that
did not get faster stays what it is, by Amdahl's law. Run it on a machine that does nothing else.
"""

import copy
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import common
import torch
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import latency, models
from spyketorch.learning import RSTDP, STDP, SupervisedSTDP
from spyketorch.training import evaluate


class Step(NamedTuple):
    """Images, and what is done with them; it gives tensors that must not depend on the threads."""

    images: int
    call: Callable[[], Tensor]


def learned(network: models.Network, number: int, times: Tensor, minibatch: int = 1) -> Step:
    """Learning of one of the first layers of the network, without labels."""

    def call() -> Tensor:
        layer = copy.deepcopy(network.stages[number].layer)
        STDP(layer, (0.004, -0.003)).learn(times, *((5, 3), (8, 1))[number], minibatch=minibatch)
        return layer.weight

    return Step(len(times), call)


def rewarded(network: models.Network, times: Tensor, labels: Tensor, correction: str | None) -> Step:
    """Learning of the layer that decides."""

    def call() -> Tensor:
        layer = copy.deepcopy(network.stages[2].layer)
        rule = RSTDP(layer, (0.0004, -0.0003), (-0.0004, 0.0003))
        rule.learn(times, labels, network.classes, correction=correction)
        return layer.weight

    return Step(len(times), call)


def taught(network: models.Network, times: Tensor, labels: Tensor) -> Step:
    """Learning of neurons that decide by their first spikes."""

    def call() -> Tensor:
        readout = copy.deepcopy(network.readout)
        SupervisedSTDP(readout).learn(times, labels)
        return readout.weight

    return Step(len(times), call)


def large() -> Step:
    """A dense image of 100 x 100, to which 256 features answer."""
    random = torch.Generator().manual_seed(0)
    times = torch.randint(0, 15, (1, 8, 100, 100), generator=random, dtype=torch.uint8)
    weight = torch.rand(256, 8, 5, 5, generator=random)
    return Step(1, lambda: latency.convolution_fire(times, weight, 40.0, time_steps=15)[0])


def steps(images: Tensor, labels: Tensor, few: int) -> Mapping[str, Step]:
    network, deciding = models.mozafari2019(pretrained=True), models.goupy2024(pretrained=True)
    inputs = [network.features(images, stage) for stage in range(3)]
    heard = deciding.features(images[:few])
    some = slice(0, few)
    return {
        "encode": Step(len(images), lambda: network.features(images, 0)),
        "answers of layer 1": Step(len(images), lambda: network.stages[0](inputs[0])),
        "answers of layer 2": Step(len(images), lambda: network.stages[1](inputs[1])),
        "evaluate": Step(len(images), lambda: torch.tensor(evaluate(network, images, labels).accuracy)),
        "evaluate, goupy2024": Step(few, lambda: torch.tensor(evaluate(deciding, images[some], labels[some]).accuracy)),
        "layer 1, mini-batches of 64": learned(network, 0, inputs[0], 64),
        "layer 2, mini-batches of 64": learned(network, 1, inputs[1], 64),
        "layer 1, online": learned(network, 0, inputs[0]),
        "layer 2, online": learned(network, 1, inputs[1]),
        "layer 3, by reward": rewarded(network, inputs[2][some], labels[some], None),
        "layer 3, from mistakes": rewarded(network, inputs[2], labels, "guess"),
        "deciding neurons, online": taught(deciding, heard, labels[some]),
        "one image of 100 x 100": large(),
    }


def measured(step: Step, rounds: int) -> tuple[common.Times, common.Times]:
    """Milliseconds per image by the wall clock and of all processors, on one thread and on all, by turns."""
    wall, busy = common.Times(), common.Times()
    answers: dict[str, Tensor] = {}
    for turn in range(rounds + 1):
        for name, threads in (("one", 1), ("all", None)):
            began = time.process_time()

            def call(name: str = name) -> None:
                answers[name] = step.call()

            clock = common.once(common.Work(call, step.images, threads))
            spent = (time.process_time() - began) * 1e3 / step.images
            if turn:  # the first does not count
                wall.setdefault(name, []).append(clock)
                busy.setdefault(name, []).append(spent)
    assert torch.equal(answers["one"], answers["all"])
    return wall, busy


def main() -> None:
    options = common.options(__doc__)
    count, few, rounds = (1000, 200, 3) if options.quick else (6000, 1000, 7)
    data = MNIST(options.data, train=True)
    images, labels = data.data[:count, None], data.targets[:count]
    torch.set_grad_enabled(False)
    threads = torch.get_num_threads()
    print(" ".join(f"{k} {v}" for k, v in common.about().items()))
    print(f"{'':<30}{'ms, one thread':>24}{f'{threads} threads':>12}{'cores':>8}{'4':>8}{'8':>8}{'16':>8}")
    table = {}
    for name, step in steps(images, labels, few).items():
        wall, busy = measured(step, rounds)
        gain, cores = common.ratio(wall, "one", "all"), common.ratio({"b": busy["all"], "w": wall["all"]}, "b", "w")
        serial = min(max((threads / gain - 1) / (threads - 1), 0.0), 1.0) if threads > 1 else 1.0
        more = "".join(f"{1 / (serial + (1 - serial) / many):>8.1f}" for many in (4, 8, 16))
        print(f"{name:<30}{common.figure(wall['one'])!s:>24}{gain:>12.2f}{cores:>8.2f}{more}", flush=True)
        table[name] = wall
    common.write(options.json, common.as_json(table))


if __name__ == "__main__":
    main()
