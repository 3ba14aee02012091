"""Decisions by who fires first, learned by local rules alone: features by STDP, then supervised STDP.

    python examples/supervised_stdp.py --data DIR --set mnist          # learn from 60,000 digits, test on 10,000
    python examples/supervised_stdp.py --data DIR --set mnist_shifted  # and from each shifted by a pixel each way
    python examples/supervised_stdp.py --data DIR --set fashion_mnist  # clothes
    python examples/supervised_stdp.py --data DIR --set cifar10_jpeg   # DIR/cifar10_jpeg/{train,test}/CLASS/*
    python examples/supervised_stdp.py --data DIR --limit 2000         # a first impression
    python examples/supervised_stdp.py --data DIR --evaluate           # the weights that are shipped

A layer finds features in random windows of the images, without labels, while its thresholds move until each feature
fires when it should. Then a few neurons for each class hear when and where features fire, and the neuron that fires
first decides. They are taught when to fire: those of the right class earlier, all others later (S2-STDP), and neurons
of one class compete, so that they learn different images of it. No gradient passes from one layer to another.

Some of the training images are held out, to see how it does after each pass; --held-out 0 learns from all of them.
Where copies of images are learned, too, shifted digits or mirrored and moved images of CIFAR-10, those held out are
looked at at the end. The shifted digits are read by 256 features in place of 128; their weights are not shipped.
CIFAR-10 is read from folders of pictures of any format, a folder for each class, as torchvision's ImageFolder does.
"""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import common
import torch
import torchvision
from matplotlib.figure import Figure
from torch import Tensor

from spyketorch import models, visualization
from spyketorch.learning import Competition, TargetTime
from spyketorch.models import Network
from spyketorch.training import Decaying, Supervised, Unsupervised, evaluate

DIGITS = [*"0123456789"]
CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
OBJECTS = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def folders(options: argparse.Namespace, train: bool) -> common.Data:
    """CIFAR-10 from folders of pictures, in an order drawn once; images in 0..255."""
    root = options.data / "cifar10_jpeg" / ("train" if train else "test")
    if not root.is_dir():
        sys.exit(f"{str(root)!r} should hold a folder of pictures for each class of CIFAR-10; there is no such folder")
    try:
        found = torchvision.datasets.ImageFolder(root, torchvision.transforms.PILToTensor())
    except FileNotFoundError as error:
        sys.exit(f"{str(root)!r} should hold a folder of pictures for each class of CIFAR-10: {error}")
    if found.classes != OBJECTS:
        sys.exit(f"{str(root)!r} should hold the classes {', '.join(OBJECTS)}; it holds {', '.join(found.classes)}")
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))[: options.limit].tolist()
    try:
        images, labels = zip(*(found[i] for i in order), strict=True)
    except OSError as error:
        sys.exit(f"{str(root)!r} holds a picture that cannot be read: {error}")
    for i, image in zip(order, images, strict=True):
        if image.shape != (3, 32, 32):
            size = f"{image.shape[2]} x {image.shape[1]}"
            sys.exit(f"pictures of CIFAR-10 have 32 x 32 pixels; {found.samples[i][0]!r} has {size}")
    return torch.stack(images), torch.tensor(labels)


def features(target: float, epochs: int, fade: float, answering: float = 1.0) -> Unsupervised:
    """Features of windows drawn by chance: they learn to fire at a time, and answer at a share of their thresholds."""
    return Unsupervised(
        thresholds=TargetTime(target),
        steepness=1.0,
        rates=(0.1, -0.1),
        schedule=Decaying(fade**epochs),
        patches=True,
        epochs=epochs,
        period=5000,
        answering=answering,
    )


def decisions(step: float, epochs: int, fade: float, **chosen: Any) -> Supervised:
    """Neurons that take a share of their error away; weights are the mean of the last two passes."""
    return Supervised(**{"step": step, "epochs": epochs, "schedule": Decaying(fade**epochs), "averaged": 2, **chosen})


class Recipe(NamedTuple):
    """A set of images, and how they are learned; each was chosen on images held out of the training set."""

    data: str  # the network, of models.goupy2024
    names: Sequence[str]
    load: Callable[[argparse.Namespace, bool], common.Data]
    features: Unsupervised
    decisions: Supervised
    copies: Callable[[Tensor], Sequence[Tensor]] | None = None  # of images, which are learned beside them
    maps: int | None = None  # of features; None for as many as the network has whose weights are shipped

    def build(self, pretrained: bool = False) -> Network:
        network = models.goupy2024(pretrained, data=self.data, features=self.maps)
        network.names = self.names
        return network


def mirrored_and_moved(images: Tensor) -> Sequence[Tensor]:
    """Each image as a mirror shows it, and both moved by up to two pixels each way; borders are repeated."""
    both, draw = (images, images.flip(-1)), torch.Generator().manual_seed(0)
    return [both[1], *(moved(some, torch.randint(-2, 3, (2, len(some), 1), generator=draw)) for some in both)]


def moved(images: Tensor, by: Tensor) -> Tensor:
    """Each image moved by so many rows and columns, (2, N, 1)."""
    rows, columns = ((torch.arange(32) - way).clamp(0, 31) for way in by)
    return images.take_along_dim(rows[:, None, :, None], -2).take_along_dim(columns[:, None, None, :], -1)


def shifted(images: Tensor) -> Sequence[Tensor]:
    """Each image moved by one pixel to the left, right, top and bottom; the border that comes in is 0."""
    rows, columns = images.shape[-2:]
    around = torch.nn.functional.pad(images, (1, 1, 1, 1))
    places = ((1, 2), (1, 0), (2, 1), (0, 1))
    return [around[..., row : row + rows, column : column + columns] for row, column in places]


RECIPES = {
    "mnist": Recipe(
        "mnist",
        DIGITS,
        common.mnist,
        features(0.75, 30, 0.85),
        decisions(0.4, 5, 0.65),
    ),
    "mnist_shifted": Recipe(
        "mnist",
        DIGITS,
        common.mnist,
        features(0.75, 6, 0.85**5),
        decisions(0.4, 4, 0.58),
        shifted,
        256,
    ),
    "fashion_mnist": Recipe(
        "fashion_mnist",
        CLOTHES,
        common.fashion_mnist,
        features(0.75, 12, 0.68),
        decisions(0.3, 14, 0.835, averaged=3),
    ),
    "cifar10_jpeg": Recipe(
        "cifar10",
        OBJECTS,
        folders,
        features(0.7, 5, 0.6**2, answering=0.75),
        decisions(0.3, 8, 0.7, gap=0.025, latency=1.25, competition=Competition(lift=0.0008)),
        mirrored_and_moved,
    ),
}


class Copied:
    """Loads images and their copies to learn; some are held out before, so that of those no copy is learned."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.held_out = recipe, (torch.empty(0), torch.empty(0))

    def __call__(self, options: argparse.Namespace, train: bool) -> common.Data:
        images, labels = self.recipe.load(options, train)
        if not train or self.recipe.copies is None:
            return images, labels
        count = len(images) - round(options.held_out * len(images))
        if count == 0 or (options.held_out and count == len(images)):
            sys.exit(f"--held-out {options.held_out} of {len(images)} images holds out {'none' if count else 'all'}")
        self.held_out = images[count:], labels[count:]
        learned = [images[:count], *self.recipe.copies(images[:count])]
        return torch.cat(learned), labels[:count].repeat(len(learned))


@torch.no_grad()
def prototypes(network: Network, images: Tensor) -> Tensor:
    """The mean of the images for which each deciding neuron fires first, (neurons, channels, rows, columns)."""
    readout = network.readout
    first = torch.cat([readout.fire(network.features(some)).argmin(1) for some in network.batches(images)]).cpu()
    total = torch.zeros(len(readout.weight), *images.shape[1:]).index_add_(0, first, images.float())
    return total / first.bincount(minlength=len(total)).clamp(min=1).view(-1, 1, 1, 1)


def draw(network: Network, images: Tensor, path: Path) -> None:
    """What the features look for, and what each deciding neuron answers to, a row for each class."""
    learned, answered = visualization.get_colour_features(network), prototypes(network, images[:5000])
    figure = Figure(figsize=(13, 7), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = [part if part.shape[1] == 3 else part.mean(1) for part in (learned, answered)]
    title = f"what {min(len(learned), 100)} of the {len(learned)} features look for"
    visualization.plot_features(shown[0][:100], columns=10, title=title, ax=left)
    title = "mean image for which each neuron of a class fires first\n(the last is no target)"
    visualization.plot_features(shown[1], columns=network.readout.per_class, title=title, ax=right)
    common.save(figure, path)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--set", choices=RECIPES, default="mnist", help="of images (default mnist)")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of the training images (default 0.1)")
    options = parser.parse_args()
    if not 0 <= options.held_out < 1:
        parser.error(f"--held-out is at least 0 and below 1, got {options.held_out}")
    recipe, name = RECIPES[options.set], f"supervised_stdp_{options.set}"
    if options.evaluate and recipe.maps:
        parser.error(f"--evaluate: no weights of --set {options.set} are shipped; without it they are learned")
    load, share = Copied(recipe), 0.0 if recipe.copies else options.held_out
    lessons = [recipe.features, dataclasses.replace(recipe.decisions, held_out=share)]
    network, (images, _) = common.run(name, recipe.build, lessons, load, recipe.names, options)
    if len(load.held_out[1]):
        print(f"held-out accuracy {100 * evaluate(network, *load.held_out).accuracy:.1f} %")
    path = options.out / f"{name}_neurons.png"
    draw(network, images, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
