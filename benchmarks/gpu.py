"""A GPU beside the compiled loops of the CPU: answers in batches, and every way to learn.

    python benchmarks/gpu.py --data DIR [--quick] [--json PATH]

Whole networks with their shipped weights decide batches of 1, 100 and 1,000 digits, enlarged where they read larger
images, and it is told how many decisions differ. Then each layer of the MNIST network of Mozafari et al. 2019 learns
its stored input, by turns in one run, with all the ways that there are: one image after the other in torch, in one
graph of CUDA for each image, and in the kernel in Triton; mini-batches of 64 in torch, and in one graph each. Before
that all of them have to learn the same, to the bit, from weights that are multiples of 1/64, whose sums are exact.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from unittest import mock

import common
import torch
import torch.nn.functional as fn
from common import Work
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import learning, models, snn
from spyketorch.learning import _back_ends

NETWORKS = ("mozafari2019", "kheradpisheh2018", "goupy2024", "mozafari2018")
CHOICES = ((5, 3), (8, 1), (1, 0))  # kwta and radius of each layer
MINIBATCH = 64


class Way(NamedTuple):
    """How a layer learns on the GPU: by which back end, and how many images answer together."""

    back_end: Any
    minibatch: int = 1
    slow: bool = False


WAYS = {
    "torch": Way(_back_ends.StandardInTorch(), slow=True),
    "graphs": Way(_back_ends.Captured()),
    "Triton": Way(_back_ends.OnTriton()),
    f"torch, by {MINIBATCH}": Way(_back_ends.StandardInTorch(), MINIBATCH),
    f"graphs, by {MINIBATCH}": Way(_back_ends.Captured(), MINIBATCH),
}


class Images(NamedTuple):
    """What a layer hears; and where it learns by reward, their classes, and those of its features."""

    times: Tensor
    labels: Tensor | None = None
    classes: Tensor | None = None


class Lesson:
    """A layer that learns images, and goes on from where the call before left it; by reward where classes are given."""

    def __init__(
        self, layer: snn.SpikingConvolution, images: Images, choice: tuple[int, int], device: str, exact: bool = False
    ) -> None:
        self.layer, self.choice = copy.deepcopy(layer).to(device), choice
        self.times, self.labels, self.classes = (part if part is None else part.to(device) for part in images)
        if exact:  # sums, and changes
            self.layer.load_weight((layer.weight * 64).round() / 64)
        a, b = (1 / 64, -1 / 64) if exact else (0.004, -0.003)
        if self.classes is None:
            self.rule: Any = learning.STDP(self.layer, (a, b), not exact)
        else:
            self.rule = learning.RSTDP(self.layer, (a, b), (-a, -b), False, 0.25, 0.75)

    def learn(self, images: int, minibatch: int = 1) -> Tensor:
        """The winners, once they are there."""
        taught = () if self.classes is None else (self.labels[:images], self.classes)  # type: ignore[index]
        winners: Tensor = self.rule.learn(self.times[:images], *taught, *self.choice, minibatch=minibatch)
        return winners.cpu()

    def why_not(self, way: Way) -> str | None:
        """Why this way does not serve."""
        taught = () if self.classes is None else (self.labels, self.classes)
        reason: str | None = way.back_end.why_not(
            self.rule._task(self.times, *taught, *self.choice, minibatch=way.minibatch)
        )
        return reason

    def by(self, way: Way, images: int) -> Callable[[], Tensor]:
        """To learn in one way."""

        def learned() -> Tensor:
            with mock.patch.object(_back_ends, "BACK_ENDS", (way.back_end,)):
                return self.learn(images, way.minibatch)

        return learned


def check_equal(layer: snn.SpikingConvolution, given: Images, choice: tuple[int, int], ways: Sequence[Way]) -> None:
    """All ways learn alike, where sums are exact."""
    found: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for way in ways:
        lesson = Lesson(layer, given, choice, "cuda", exact=True)
        winners = lesson.by(way, 32 * way.minibatch)()
        found.setdefault(way.minibatch, []).append((winners, lesson.layer.weight.cpu()))
    for first, *others in found.values():
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True)), "the ways do not agree"


def answers(digits: Tensor, rounds: int) -> dict[str, common.Times]:
    """Whole networks, in batches."""
    table = {}
    for name in NETWORKS:
        here = getattr(models, name)(pretrained=True)
        there, large = copy.deepcopy(here).to("cuda"), name == "mozafari2018"
        sizes = (1, 10) if large else (1, 100, 1000)
        images = fn.interpolate(digits[: sizes[-1]], (160, 250)) if large else digits[: sizes[-1]]
        images = images * (here.images.range[1] / 255)
        moved = images.cuda()
        differ = int((here(images) != there(moved).cpu()).sum())
        print(f"{name}: {differ} of {len(images)} decisions differ", flush=True)
        for size in sizes:
            table[f"{name}, {size}"] = common.by_turns(
                {
                    "CPU": Work(lambda n=size, here=here, x=images: here(x[:n]), size),  # type: ignore[misc]
                    "GPU": Work(lambda n=size, there=there, x=moved: there(x[:n]).cpu(), size),  # type: ignore[misc]
                },
                rounds,
            )
    return table


def lessons(digits: Tensor, labels: Tensor, few: int, rounds: int) -> dict[str, common.Times]:
    """Each layer of a network, in all ways."""
    network, table, count = models.mozafari2019(pretrained=True), {}, len(digits)
    times = network.encoder(digits)
    for number, (stage, choice) in enumerate(zip(network.stages, CHOICES, strict=True), 1):
        decides = stage.layer.threshold is None
        given = Images(times, labels, network.classes) if decides else Images(times)
        here, there = (Lesson(stage.layer, given, choice, place) for place in ("cpu", "cuda"))
        reasons = {name: there.why_not(way) for name, way in WAYS.items()}
        for name, reason in reasons.items():
            if reason is not None:
                print(f"layer {number}, {name}: {reason}", flush=True)
        ways = {name: way for name, way in WAYS.items() if reasons[name] is None}
        check_equal(stage.layer, given, choice, list(ways.values()))
        works = {
            "loops, CPU": Work(lambda here=here: here.learn(count), count),  # type: ignore[misc]
            f"loops, by {MINIBATCH}": Work(lambda here=here: here.learn(count, MINIBATCH), count),  # type: ignore[misc]
        }
        for name, way in ways.items():
            images = few if way.slow else count
            works[name] = Work(there.by(way, images), images)
        table[row := f"learn layer {number}"] = common.by_turns(works, rounds)
        common.tell("ms an image", {row: table[row]})
        times = stage(times)
    return table


def main() -> None:
    args = common.options(__doc__)
    if not torch.cuda.is_available():
        raise SystemExit("there is nothing to measure: torch finds no CUDA here")
    count, few, rounds = (2048, 64, 3) if args.quick else (4096, 256, 7)
    data = MNIST(args.data)
    digits, labels = data.data[:count, None].float(), data.targets[:count]
    name = torch.cuda.get_device_name()
    print(common.about())
    with torch.no_grad():
        table = answers(digits, rounds)
        common.tell(f"ms an image, {name}", table)
        table |= lessons(digits, labels, few, rounds)
    common.write(args.json, {name: common.as_json(table)})


if __name__ == "__main__":
    main()
