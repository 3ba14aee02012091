"""ETH-80: of which class is an object that was never seen? Edges, outlines and colours are read together.

    python examples/eth80.py --data DIR                 # DIR/eth80/CLASS/OBJECT/*: 8 classes, 10 objects, 41 views
    python examples/eth80.py --data DIR --held-out 0    # tries recipes: no test, one of the objects learned left out
    python examples/eth80.py --data DIR --limit 200     # a first impression

Five objects of each class are learned, all their views; the other five are the test. The seed draws which.

Three layers find features, each by itself and without labels: of edges, of the outlines of what has another colour than
the blue behind it, and of colours. Then five neurons for each class hear all of them, and the one that fires first
decides. They are taught when to fire (S2-STDP). As the next cow may be longer, or taller, pictures are learned in five
sizes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from spyketorch import encoding, visualization
from spyketorch.learning import TargetTime
from spyketorch.models import Network, Stage, Together
from spyketorch.neurons import Ramp
from spyketorch.readout import FirstSpikeReadout
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.training import Decaying, Evaluation, Supervised, Unsupervised

SUFFIXES = {".jpg", ".jpeg", ".png"}
TIME_STEPS, NEURONS_PER_CLASS = 15, 5
STRETCHED = ((1, 1), (1.15, 1), (1, 1.15), (1.1, 1.1), (0.9, 0.9))  # so many times as wide, and as high


# The pictures


def opened(file: Path) -> Tensor:
    """A picture, uint8 (3, 128, 128)."""
    with Image.open(file) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB").resize((128, 128)))).permute(2, 0, 1)


def objects(root: Path, seed: int) -> Iterator[tuple[int, int, Path]]:
    """(class, place in an order that the seed draws, folder) of each object."""
    random = np.random.default_rng([seed, 0])
    for label, name in enumerate(names(root)):
        folders = sorted(path for path in (root / name).iterdir() if path.is_dir())
        yield from ((label, place, folders[i]) for place, i in enumerate(random.permutation(len(folders))))


def names(root: Path) -> list[str]:
    """The classes."""
    found = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if not found:
        sys.exit(f"{str(root)!r} should hold a folder for each class of ETH-80, with a folder for each object")
    return found


def load(options: argparse.Namespace, train: bool) -> common.Data:
    """Images (N, 3, 128, 128) in 0..255 and classes, of the objects that are learned, or of those of the test."""
    chosen: list[tuple[Path, int]] = []
    for label, place, folder in objects(options.data / "eth80", options.seed):
        learned = place < 5 and place != options.held_out
        tested = place >= 5 if options.held_out is None else place == options.held_out
        if learned if train else tested:
            chosen += [(file, label) for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES]
    if not chosen:
        sys.exit(f"{str(options.data / 'eth80')!r} should hold CLASS/OBJECT/*, pictures of ten objects of each class")
    order = np.random.default_rng([options.seed, 1]).permutation(len(chosen))[: options.limit]
    return torch.stack([opened(chosen[i][0]) for i in order]), torch.tensor([chosen[i][1] for i in order])


def stretched(images: Tensor, wide: float, high: float) -> Tensor:
    """Images with what they show that many times as wide and as high; the border goes on."""
    where = torch.tensor([[1 / wide, 0, 0], [0, 1 / high, 0]]).expand(len(images), -1, -1)
    grid = nn.functional.affine_grid(where, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False).round().byte()


# What is seen of them


class Small(nn.Module):
    """Images of 64 x 64 pixels, values 0..1."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, (64, 64))


def contours(see: nn.Module, kernel: Callable[[Tensor], Tensor], channels: int) -> nn.Module:
    """Edges of eight orientations, in units of those around, of what is seen."""
    kernels = [kernel(encoding.GaborKernel(7, 22.5 + 22.5 * k)()) for k in range(8)]
    edges = encoding.Filter(kernels, use_abs=True, channels=channels)
    return nn.Sequential(Small(), see, nn.ReplicationPad2d(3), edges, encoding.LocalContrast(), nn.MaxPool2d(2))


def blue(kernel: Tensor) -> Tensor:
    """A kernel that sees blue alone."""
    return torch.stack([torch.zeros_like(kernel), torch.zeros_like(kernel), kernel])


def hues(see: nn.Module) -> nn.Module:
    """Where it is redder than green, greener than red, yellower than blue, and bluer than yellow."""
    pairs = torch.tensor([[1.0, -1, 0], [-1, 1, 0], [1, 1, -2], [-1, -1, 2]])
    return nn.Sequential(Small(), see, encoding.Filter([*pairs.view(4, 3, 1, 1)], thresholds=0, channels=3))


class Sight(NamedTuple):
    """A layer of features.

    Attributes:
        see: makes what it sees of images.
        features, size: how many there are, of so many places each way.
        target: when they are to fire, as a share of all time steps.
        part: so many places each way are heard as one.
        inhibit: whether at each place only the first feature is heard.
    """

    see: Callable[[], nn.Module]
    features: int
    size: int
    target: float
    part: int
    inhibit: bool = True

    def build(self, images: Tensor) -> Network:
        encoder = encoding.LinearLatency(self.see(), TIME_STEPS).fit(images)
        maps = encoder(images[:1]).shape[1]
        layer = SpikingConvolution(maps, self.features, self.size, 5, 0.5, 0.01, time_steps=TIME_STEPS)
        return Network(encoder, [Stage(layer, SpikingPooling(self.part), inhibit=self.inhibit)])

    @property
    def lesson(self) -> Unsupervised:
        return Unsupervised(
            thresholds=TargetTime(self.target),
            rates=(0.1, -0.1),
            schedule=Decaying(0.01),
            patches=True,
            pointwise_inhibition=self.inhibit,
            epochs=200,
            period=2000,
        )


COLOUR = encoding.Chromaticity(0.05)
SIGHTS = {
    "edges": Sight(lambda: contours(encoding.Luminance(), lambda kernel: kernel, 1), 256, 5, 0.7, 7),
    "outlines": Sight(lambda: contours(COLOUR, blue, 3), 256, 5, 0.7, 7),
    "colours": Sight(lambda: hues(COLOUR), 64, 3, 0.5, 62, inhibit=False),
}


# What is learned


def learn(data: common.Data, options: argparse.Namespace) -> Network:
    """Features of each sight, then decisions from all of them; a run that was stopped can go on."""
    images, labels = data
    networks = []
    for name, sight in SIGHTS.items():
        torch.manual_seed(options.seed)
        networks.append(sight.build(images))
        common.learn(networks[-1], [sight.lesson], data, options.out / "eth80" / name, options)
    network = Network(Together(networks), [], names=names(options.data / "eth80"))
    shape = tuple(network.features(images[:1].to(options.device)).shape[1:])
    network.readout = FirstSpikeReadout(
        shape, len(network.names), NEURONS_PER_CLASS, time_steps=TIME_STEPS, neuron=Ramp(TIME_STEPS)
    )
    copies = torch.cat([stretched(images, *sizes) for sizes in STRETCHED]), labels.repeat(len(STRETCHED))
    common.learn(network, [Supervised(epochs=7)], copies, options.out / "eth80" / "decisions", options)
    return network


def draw(network: Network, result: Evaluation, images: Tensor, path: Path) -> None:
    """What features of edges and of outlines answer to, and what is taken for what."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplot_mosaic([["edges", "right"], ["outlines", "right"]], width_ratios=[1, 1.1])
    assert isinstance(network.encoder, Together)
    of_sights = dict(zip(SIGHTS, network.encoder.networks, strict=True))
    for name in ("edges", "outlines"):
        features = visualization.get_mean_stimuli(of_sights[name], 0, images[:1000])
        shown = features.amax((1, 2)).nonzero().flatten()[:40]
        title = f"what {len(shown)} of the {len(features)} features of {name} answer to"
        visualization.plot_features(features[shown], columns=10, title=title, ax=axes[name])
    title = f"{100 * result.accuracy:.1f} % right of {int(result.confusion.sum())} views of other objects"
    visualization.plot_confusion(result.confusion, network.names, title=title, ax=axes["right"])
    common.save(figure, path)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--held-out", type=int, choices=range(5), metavar="K", help="leave out the K-th object learned (0 to 4)"
    )
    options = parser.parse_args()
    if options.evaluate:
        parser.error("--evaluate: no weights of this network are shipped; without it they are learned")
    learned, tested = load(options, True), load(options, False)
    network = learn(learned, options)
    network.save(options.out / "eth80.pt")
    result = common.test(network, tested, options)
    path = options.out / "eth80.png"
    draw(network, result, tested[0], path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
