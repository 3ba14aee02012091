"""The Triton back end beside plain torch on the same GPU, and beside the compiled loops on the CPU.

    python benchmarks/triton_walk.py --data DIR [--quick] [--json PATH]

The pretrained MNIST network of Mozafari et al. 2019: each layer answers to its stored input, and learns it, one image
after the other and in mini-batches, by turns in one run. Before that both back ends have to learn the same, to the bit,
from weights that are multiples of 1/64, whose sums are exact. It needs a GPU.
"""

import copy
import os
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import common
import torch
from common import Work
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import learning, models, snn
from spyketorch.kernels import on_triton

CHOICES = ((5, 3), (8, 1), (1, 0))  # kwta and radius of each layer
MINIBATCH = 64


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
        taught = () if self.classes is None else (self.labels[:images], self.classes)
        winners: Tensor = self.rule.learn(self.times[:images], *taught, *self.choice, minibatch=minibatch)
        return winners.cpu()

    def answer(self, images: int) -> Tensor:
        """First spikes, once they are there."""
        return self.layer(self.times[:images]).cpu()


def switched(on: str, call: Callable[..., Tensor], *given: int) -> Callable[[], Tensor]:
    """A call with Triton's back end (``"1"``), or without (``"0"``)."""

    def called() -> Tensor:
        with mock.patch.dict(os.environ, SPYKETORCH_TRITON=on):
            return call(*given)

    return called


def check_equal(*lesson: Any) -> None:
    """Both back ends answer and learn alike, where sums are exact."""
    found = []
    for on in ("0", "1"):
        exact = Lesson(*lesson, exact=True)
        answer, winners = (switched(on, call, MINIBATCH)() for call in (exact.answer, exact.learn))
        found.append((answer, winners, exact.layer.weight.cpu()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True)), "the back ends do not agree"


def main(device: str = "cuda") -> None:
    args = common.options(__doc__)
    with mock.patch.dict(os.environ, SPYKETORCH_TRITON="1"):
        reason = on_triton.why_not(torch.empty(1, device=device))
    if reason is not None:
        raise SystemExit(f"there is nothing to measure: {reason}")
    images, few, rounds = (256, 64, 3) if args.quick else (4096, 1024, 7)
    data = MNIST(args.data)
    network = models.mozafari2019(pretrained=True)
    times = network.encoder(data.data[:images, None].float())
    table: dict[str, common.Times] = {}
    for number, (stage, choice) in enumerate(zip(network.stages, CHOICES, strict=True), 1):
        decides = stage.layer.threshold is None
        given = Images(times, data.targets[:images], network.classes) if decides else Images(times)
        check_equal(stage.layer, given, choice, device)
        here, there = (Lesson(stage.layer, given, choice, place) for place in ("cpu", device))
        if not decides:  # whose answer is one convolution in any case
            table[f"answer of layer {number}"] = common.by_turns(
                {
                    "loops, CPU": Work(switched("0", here.answer, images), images),
                    "torch": Work(switched("0", there.answer, images), images),
                    "Triton": Work(switched("1", there.answer, images), images),
                },
                rounds,
            )
        table[f"learn layer {number}"] = common.by_turns(
            {
                "loops, CPU": Work(switched("0", here.learn, images), images),
                "torch": Work(switched("0", there.learn, few), few),
                "Triton": Work(switched("1", there.learn, images), images),
                f"torch, by {MINIBATCH}": Work(switched("0", there.learn, images, MINIBATCH), images),
            },
            rounds,
        )
        times = stage(times)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    common.tell(f"ms an image, {name}", table)
    common.write(args.json, {name: common.as_json(table)})


if __name__ == "__main__":
    main()
