"""Read digits from the events of a camera that moves its gaze: synthetic events, made here from still digits.

    python examples/saccades.py --data DIR    # MNIST from a folder, or downloaded into it: 10,000 digits to learn from
    python examples/saccades.py               # the digits that scikit-learn ships
    python examples/saccades.py --quick       # a short training, to see that it runs

digit -> three saccades -> events -> first spikes of the first saccade -> layer 1 (STDP) -> pooling -> linear read-out

N-MNIST was recorded in this way: an event camera looked at a digit on a screen, and moved along three lines in 300 ms.
Here the camera is made up: 34 x 34 pixels, each of which tells when its light has become brighter or darker by a step.
Figures on these events say nothing of those that were recorded.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import torch.nn.functional as fn
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor
from torch.utils.data import Dataset

from spyketorch import visualization as vis
from spyketorch.encoding import EventLatency
from spyketorch.learning import TargetTime
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.training import Decaying, Evaluation, Readout, Trainer, Unsupervised, evaluate

SIDE, TIME_STEPS = 34, 15  # pixels of the camera; steps of a first-spike map
SACCADE, MOMENTS = 100_000, 16  # microseconds of a saccade; moments at which the light is looked at
CORNERS = torch.tensor([(-2.0, -2.0), (0.0, 2.0), (2.0, -2.0), (-2.0, -2.0)])  # (x, y) in pixels, where saccades end
STEP = 0.3  # of the logarithm of the light, that makes an event
EVENT = np.dtype([("x", "<i2"), ("y", "<i2"), ("p", "?"), ("t", "<i8")])  # as readers of recordings give them


def gazes() -> Tensor:
    """Where each pixel looks at each moment, ``(moments, SIDE, SIDE, 2)``, in units of half the image."""
    eased = (1 - torch.cos(torch.linspace(0, torch.pi, MOMENTS + 1)[1:, None])) / 2  # off, fast, and to rest
    legs = [start + (end - start) * eased for start, end in itertools.pairwise(CORNERS)]
    axis = torch.linspace(-1, 1, SIDE)
    pixels = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1)
    return pixels + torch.cat([CORNERS[:1], *legs])[:, None, None] * 2 / (SIDE - 1)


GAZES = gazes()


def events(image: Tensor, random: np.random.Generator) -> np.ndarray:
    """What a camera tells of three saccades over an image ``(SIDE, SIDE)`` of 0..1, in order of time."""
    light = fn.grid_sample(image.expand(len(GAZES), 1, SIDE, SIDE), GAZES, align_corners=True)[:, 0]
    steps = torch.floor(torch.log(light + 0.1) / STEP).diff(dim=0)  # from one moment to the next
    moment, y, x = steps.nonzero(as_tuple=True)
    change = steps[moment, y, x]
    several = change.abs().long()
    told = np.empty(int(several.sum()), EVENT)
    told["x"], told["y"], told["p"] = (v.repeat_interleave(several).numpy() for v in (x, y, change > 0))
    begun = moment.repeat_interleave(several).numpy() + random.random(len(told))
    told["t"] = begun * SACCADE / MOMENTS
    return told[np.argsort(told["t"])]


class Recordings(Dataset[tuple[Any, int]]):
    """Events of digits and their labels, as a data set of tonic gives them; ``transform`` is called with the events."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Callable[[np.ndarray], Any]) -> None:
        self.images, self.labels, self.transform = images, labels, transform
        self.classes = [*"0123456789"]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(events(self.images[index], np.random.default_rng(index))), int(self.labels[index])


def digits(options: argparse.Namespace) -> tuple[common.Data, common.Data]:
    """Images (N, SIDE, SIDE) of 0..1 and labels, to learn from and for the test."""
    if options.data is not None:
        parts = []
        for train, limit in ((True, options.limit), (False, None)):
            images, labels = common.mnist(argparse.Namespace(data=options.data, limit=limit), train)
            parts.append((fn.pad(images[:, 0] / 255, (3, 3, 3, 3)), labels))
        return parts[0], parts[1]
    data = load_digits()
    small = torch.tensor(data.images / 16, dtype=torch.float32)[:, None]
    images = fn.pad(fn.interpolate(small, size=(26, 26), mode="bilinear"), (4, 4, 4, 4))[:, 0]
    labels, split = torch.tensor(data.target), round(0.7 * len(images))  # the last are of other writers
    if options.quick:
        return (images[:400], labels[:400]), (images[split:][:200], labels[split:][:200])
    return (images[:split], labels[:split]), (images[split:], labels[split:])


def build() -> Network:
    """Features of 5 x 5 places of both polarities, heard in 7 x 7 parts of the map."""
    encoder = EventLatency((SIDE, SIDE), TIME_STEPS, window=(0, SACCADE), refractory=1000)
    layer = SpikingConvolution(2, 128, 5, threshold=5, weight_mean=0.5, weight_std=0.01, time_steps=TIME_STEPS)
    network = Network(encoder, [Stage(layer, SpikingPooling(4))])
    network.readout = LinearReadout((128, 7, 7), 10, time_steps=TIME_STEPS)
    return network


def draw(network: Network, told: np.ndarray, result: Evaluation, path: Path) -> None:
    """Events of a digit, its first-spike map, what features look for, and the decisions of the test."""
    figure = Figure(figsize=(13, 8), layout="constrained")
    cloud = figure.add_subplot(2, 2, 1, projection="3d")
    colours = np.where(told["p"], "tab:orange", "tab:blue")
    cloud.scatter(told["t"] / 1000, told["x"], told["y"], c=colours, s=1)
    cloud.set(xlabel="ms", ylabel="x", zlabel="y", title="events: brighter (orange), darker (blue)")
    cloud.set_box_aspect((2, 1, 1))
    cloud.invert_zaxis()
    title = "first spikes of the first saccade: darker, brighter"
    vis.plot_times(network.encoder(told), time_steps=TIME_STEPS, title=title, ax=figure.add_subplot(2, 2, 2))
    features = vis.get_network_features(network, 0)[:60]
    title = "what features of layer 1 look for"
    vis.plot_features(features, columns=12, title=title, ax=figure.add_subplot(2, 2, 3))
    title = f"{100 * result.accuracy:.1f} % right of {int(result.confusion.sum())} digits"
    vis.plot_confusion(result.confusion, [*"0123456789"], title=title, ax=figure.add_subplot(2, 2, 4))
    common.save(figure, path)
    print(f"picture: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=common.folder, help="where MNIST is, or is downloaded to")
    parser.add_argument("--limit", type=common.at_least(1), default=10_000, metavar="N", help="digits to learn from")
    parser.add_argument("--quick", action="store_true", help="few digits and epochs, to see that it runs")
    parser.add_argument("--seed", type=common.at_least(0), default=0)
    parser.add_argument("--out", type=common.folder, default=Path("outputs"), help="for the model and the picture")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    network = build()
    learned, test = (Recordings(*some, transform=network.encoder) for some in digits(options))
    print(f"{len(learned)} recordings to learn from, {len(test)} to test; their events are synthetic")
    features = Unsupervised(
        rates=(0.1, -0.1),
        steepness=1.0,
        thresholds=TargetTime(0.5),
        schedule=Decaying(0.07),
        patches=True,
        epochs=5 if options.quick else max(1, 120_000 // len(learned)),
    )
    try:
        for report in Trainer(
            network, [features, Readout(iterations=10 if options.quick else 40)], seed=options.seed
        ).fit(learned):
            print(report)
    except ValueError as error:  # a layer that is silent
        sys.exit(str(error))
    result = evaluate(network, test)
    print(f"test accuracy {100 * result.accuracy:.1f} % (synthetic events)")
    network.save(options.out / "saccades.pt")
    draw(network, events(test.images[0], np.random.default_rng(0)), result, options.out / "saccades.png")


if __name__ == "__main__":
    main()
