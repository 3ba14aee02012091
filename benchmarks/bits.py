"""Features of few bits: what 8, 4, 2 and 1 bits cost on MNIST, learned as integers, and rounded afterwards.

    python benchmarks/bits.py --data DIR [--quick]            # all of it: 12 minutes of one core
    python benchmarks/bits.py --data DIR --choose             # other rates for 16, on held-out images

128 features of models.goupy2024, or 16, learned by patches and target times from 20,000 training images, have few
bits; a linear read-out of floats learns from 10,000 of these. (It has no chance in it: read-outs by first spikes differ
from run to run by more than bits cost.) The last 5,000 training images are held out, for every choice; the test set is
decided once for each cell.

    float             learning.MultiplicativeSTDP
    learned           learning.IntegerSTDP: every change is an integer, rounded by chance
    to the nearest    the same, rounded to the nearest
    rounded           the floats, rounded to so many bits when they have been learned
    rounded, matched  the same, with each threshold times what its feature's sum of weights became

It may be stopped at any moment: each cell is written to --out as soon as it is known, and the same command goes on.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import common
import torch
import torchvision.datasets
from torch import Tensor

from spyketorch import learning, models
from spyketorch.models import Network
from spyketorch.readout import LinearReadout
from spyketorch.training import Decaying, Trainer, Unsupervised

LEARNED, READ, HELD_OUT, EPOCHS, ITERATIONS = 20_000, 10_000, 5_000, 10, 30
RATE = 0.1
BITS, SEEDS = (8, 4, 2, 1), (0, 1, 2)
ROUNDED, MATCHED, NEAREST = "rounded", "rounded, matched", "to the nearest"

Data = tuple[Tensor, Tensor]  # images (N, 1, H, W), labels (N,)


class Cell(NamedTuple):
    """One network to learn: how many features, how they came to their bits, how many these are, and the seed."""

    features: int
    way: str
    bits: int
    seed: int

    def __str__(self) -> str:
        return " | ".join(map(str, self))


BY_WAY = {"float": (32,), "learned": BITS, ROUNDED: BITS, MATCHED: (2, 1)}
CELLS = [
    cell
    for features in (128, 16)
    for cell in (
        *(Cell(features, way, count, seed) for seed in SEEDS for way, bits in BY_WAY.items() for count in bits),
        *(Cell(features, NEAREST, bits, SEEDS[0]) for bits in BITS),
    )
]


class Study:
    """What is learned from, and what has been found."""

    def __init__(self, folder: Path, quick: bool) -> None:
        found = [torchvision.datasets.MNIST(folder, train=train) for train in (True, False)]
        (images, labels), self.test = [(part.data[:, None], part.targets) for part in found]
        share = 10 if quick else 1
        self.learned = images[: LEARNED // share]
        self.read = images[: READ // share], labels[: READ // share]
        self.held_out = images[-HELD_OUT:], labels[-HELD_OUT:]
        self._floats: dict[Cell, Network] = {}

    def features(self, cell: Cell, rate: float = RATE) -> Network:
        """A network whose features have learned, and whose read-out has not."""
        torch.manual_seed(cell.seed)
        network = models.goupy2024(features=cell.features)
        layer, whole = network.stages[0].layer, cell.way == "float"
        span = 1.0 if whole else 1 - 2**-cell.bits  # of the weights, from 0 on
        layer.weight.data.mul_(span)
        nearest = {"seed": None} if cell.way == NEAREST else {"seed": cell.seed}
        integer = partial(learning.IntegerSTDP, bits=cell.bits, **nearest)
        lesson = Unsupervised(
            thresholds=learning.TargetTime(0.75, span, 2 * span),
            plasticity=learning.MultiplicativeSTDP if whole else integer,
            rates=(rate, -rate),
            schedule=Decaying(0.85**EPOCHS),
            patches=True,
            epochs=EPOCHS,
            period=5000,
        )
        Trainer(network, [lesson], progress=False, seed=cell.seed).fit(self.learned)
        return network

    def network(self, cell: Cell) -> Network:
        """The same, of any way."""
        if not cell.way.startswith(ROUNDED):
            return self.features(cell)
        floats = cell._replace(way="float", bits=32)
        if floats not in self._floats:
            self._floats = {floats: self.features(floats)}
        torch.manual_seed(cell.seed)
        network = models.goupy2024(features=cell.features)
        network.load_state_dict(self._floats[floats].state_dict())
        layer, levels = network.stages[0].layer, 2**cell.bits
        before = layer.weight.clone()
        layer.weight.data = (before * (levels - 1)).round() / levels
        change = layer.weight.sum((1, 2, 3)) / before.sum((1, 2, 3)) if cell.way == MATCHED else 1 - 1 / levels
        layer.threshold = layer.threshold * change
        return network

    def accuracy(self, network: Network, *parts: Data) -> list[float]:
        """Of a read-out that has learned from the features, on some images."""

        def features(images: Tensor) -> Tensor:
            return torch.cat([network.features(some) for some in network.batches(images)])

        times = features(self.read[0])
        readout = LinearReadout(tuple(times.shape[1:]), 10, time_steps=network.time_steps)
        readout.fit(times, self.read[1], iterations=ITERATIONS)
        decided = [readout(features(images)).argmax(1) == labels for images, labels in parts]
        return [float(right.float().mean()) for right in decided]

    def fill(self, cell: Cell) -> dict[str, Any]:
        """What is known of a cell."""
        begin = time.process_time()
        network = self.network(cell)
        values = network.stages[0].layer.weight * 2**cell.bits
        assert cell.way == "float" or torch.equal(values, values.round())
        held_out, test = self.accuracy(network, self.held_out, self.test)
        return {"held out": held_out, "test": test, "seconds": round(time.process_time() - begin, 1)}


def choose(study: Study) -> None:
    """Print what other rates give, on held-out images."""
    for cell in [c for c in CELLS if c.way in ("float", "learned") and (c.features, c.seed) == (16, SEEDS[0])]:
        for rate in (0.1, 0.03, 0.01):
            (right,) = study.accuracy(study.features(cell, rate), study.held_out)
            print(f"{cell}, rate {rate}: {right:.2%} held out", flush=True)


def tell(cells: dict[str, Any]) -> None:
    """A table of means over the seeds, with what the seeds gave."""
    print("| features | learned as | bits | held out | test |\n|---|---|---|---|---|")
    for kind in dict.fromkeys(cell[:-1] for cell in CELLS):
        known = [cells[str(c)] for c in CELLS if c[:-1] == kind and str(c) in cells]
        if not known:
            continue
        shown = []
        for name in ("held out", "test"):
            values = [100 * one[name] for one in known]
            each = ", ".join(f"{value:.2f}" for value in values)
            shown.append(f"{statistics.mean(values):.2f} ({each})")
        print("| " + " | ".join([*map(str, kind), *shown]) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where torchvision finds MNIST")
    parser.add_argument("--out", type=Path, default=Path("outputs/bits.json"), help="(default outputs/bits.json)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the images")
    parser.add_argument("--choose", action="store_true", help="only try other rates, on held-out images")
    options = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(options.data, options.quick)
    if options.choose:
        choose(study)
        return
    found = json.loads(options.out.read_text()) if options.out.exists() else {"about": common.about(), "cells": {}}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for cell in [c for c in CELLS if str(c) not in found["cells"]]:
        found["cells"][str(cell)] = study.fill(cell)
        print(cell, found["cells"][str(cell)], flush=True)
        part = options.out.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1), encoding="utf-8")
        part.replace(options.out)
    tell(found["cells"])


if __name__ == "__main__":
    main()
