"""Supervised STDP: milliseconds per image of neurons that decide by their first spike, answering and learning.

    python benchmarks/first_spike.py [--quick] [--json FILE]

Neurons hear 4,608 inputs, 128 features in 6 x 6 parts, half of which fire, at random. All of it is on one thread, whose
own time counts; in the compiled loops but for the rows of plain torch.
"""

import argparse
import time
from pathlib import Path

import common
import torch
from torch import Tensor

from spyketorch import neurons
from spyketorch.kernels import plain
from spyketorch.learning import Competition, SupervisedSTDP
from spyketorch.readout import FirstSpikeReadout

SHAPE, CLASSES = (128, 6, 6), 10
KINDS = {
    "ramp T15": (15, neurons.Ramp(15), 1.5),
    "ramp T254": (254, neurons.Ramp(254), 1.5),
    "step T15": (15, neurons.IntegrateAndFire(), 0.5),
}


def works(
    readout: FirstSpikeReadout, times: Tensor, labels: Tensor, latency: float
) -> dict[str, dict[str, common.Work]]:
    """What is timed of one read-out, in loops and in torch."""
    readout.calibrate(times, latency)
    expected, few = readout.expected(times, latency), max(len(times) // 20, 1)
    rule = SupervisedSTDP(readout, (0.1, -0.1), competition=Competition(), expected=expected)
    settings = readout.limit(), readout.time_steps, readout.horizon, readout.neuron
    flat = times[:few].flatten(1)

    def answer_in_torch() -> None:
        plain.exact_fire(flat, readout.weight, *settings)

    def learn_in_torch() -> None:
        for one, label in zip(flat, labels.tolist(), strict=False):
            rule._learn(one, label)

    return {
        "": {
            "answer": common.Work(lambda: readout.fire(times), len(times), 1),
            "learn": common.Work(lambda: rule.learn(times, labels), len(times), 1),
        },
        " torch": {
            "answer": common.Work(answer_in_torch, few, 1),
            "learn": common.Work(learn_in_torch, few, 1),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    torch.manual_seed(0)
    images, rounds = (100, 2) if options.quick else (500, 7)
    table: dict[str, common.Times] = {}
    for kind, (steps, neuron, latency) in KINDS.items():
        times = torch.randint(0, steps, (images, *SHAPE), dtype=torch.uint8)
        times[torch.rand(times.shape) < 0.5] = steps
        labels = torch.randint(0, CLASSES, (images,))
        for per_class in (5, 8):
            readout = FirstSpikeReadout(SHAPE, CLASSES, per_class, time_steps=steps, neuron=neuron)
            for where, timed in works(readout, times, labels, latency).items():
                name = f"{CLASSES * per_class}, {kind}{where}"
                table[name] = common.by_turns(timed, rounds, time.thread_time)
    common.tell("neurons", table)
    common.write(options.json, common.as_json(table))


if __name__ == "__main__":
    main()
