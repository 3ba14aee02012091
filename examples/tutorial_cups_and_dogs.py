"""Cups or dogs? A first network, step by step: spikes from edges, features by STDP, decisions by reward.

    python examples/tutorial_cups_and_dogs.py --data DIR   # DIR/cup/*.png and DIR/dog/*.png, as of ETH-80

Objects 1 to 5 of each class are learned and objects 6 to 10 are the test, as the number in a file's name says (cup7-...
is the seventh cup): the network never sees a view of a test object while it learns.
"""

import argparse
import re
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

try:
    import numpy as np
    from matplotlib.figure import Figure
    from PIL import Image
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC
except ImportError as error:
    sys.exit(f'{error.name} is missing; this example needs: pip install "spyketorch[examples]"')

from spyketorch import latency, snn
from spyketorch.encoding import Filter, GaborKernel, LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.visualization import get_mean_stimuli, get_network_features, plot_features

CLASSES = ["cup", "dog"]
ORIENTATIONS = [22.5, 67.5, 112.5, 157.5]  # degrees
CLASS_OF_NEURON = torch.arange(20) // 10  # ten neurons stand for cups, ten for dogs
TIME_STEPS = 15


# Step 1: the images


def load(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Grey images (N, 1, 64, 64) with values 0..1, class of each, number of its object."""
    files = [file for name in CLASSES for file in sorted((folder / name).glob("*.png"))]
    if not files:
        sys.exit(f"{str(folder)!r} should hold the folders {' and '.join(CLASSES)} with .png images, as of ETH-80")
    images = [np.asarray(Image.open(file).convert("L").resize((64, 64)), np.float32) / 255 for file in files]
    labels = [CLASSES.index(file.parent.name) for file in files]
    objects = [int(re.sub(r"\D*(\d+).*", r"\1", file.name)) for file in files]
    return torch.from_numpy(np.stack(images))[:, None], torch.tensor(labels), torch.tensor(objects)


# Step 2: from an image to spikes


class Strongest(nn.Module):
    """At each place only the strongest orientation is heard."""

    def forward(self, edges: Tensor) -> Tensor:
        return torch.where(edges == edges.amax(1, keepdim=True), edges, 0)


def encoder(weakest: float) -> LatencyEncoder:
    """Edges of four orientations, the strongest of each 2 x 2 pixels: the stronger an edge, the earlier its spike.

    Edges below ``weakest`` stay silent.
    """
    gabor = Filter([GaborKernel(5, orientation) for orientation in ORIENTATIONS], use_abs=True)
    edges = nn.Sequential(nn.ReplicationPad2d(2), gabor, nn.Threshold(weakest, 0), nn.MaxPool2d(2), Strongest())
    return LatencyEncoder(edges, TIME_STEPS)


# Step 3: features that STDP finds, without labels


def learn_features(times: Tensor, epochs: int) -> snn.SpikingConvolution:
    """In each image the neuron that fires first learns what it saw: of 32 features, 11 x 11 places large."""
    layer = snn.SpikingConvolution(4, 32, 11, threshold=20, weight_std=0.05, time_steps=TIME_STEPS)
    stdp = snn.STDP(layer, learning_rate=(0.1, -0.075))
    for _ in range(epochs):
        stdp.learn(times[torch.randperm(len(times))], pointwise_inhibition=True)
    return layer


# Step 4: a support vector machine reads the features


def read(layer: snn.SpikingConvolution, times: Tensor) -> np.ndarray:
    """The largest potential of each feature at the last step, in each of 3 x 3 parts of the image."""
    potentials = latency.convolution_fire(times, layer.weight, None, time_steps=TIME_STEPS)[1]
    return nn.functional.adaptive_max_pool2d(potentials, 3).flatten(1).numpy()


# Step 5: decisions by reward, without any other classifier


def learn_by_reward(times: Tensor, labels: Tensor, epochs: int) -> snn.SpikingConvolution:
    """Twenty neurons stand for cups or for dogs; the one with the largest potential decides and learns."""
    layer = snn.SpikingConvolution(4, len(CLASS_OF_NEURON), 30, None, weight_std=0.05, time_steps=TIME_STEPS)
    reward, punishment = (0.05, -0.025), (-0.05, 0.005)
    rstdp, hits = snn.RSTDP(layer, reward, punishment), 0.5
    for epoch in range(epochs):
        order = torch.randperm(len(times))
        for part in torch.split(order, 80):
            # The rarer an outcome, the more it teaches; and all rates fade to the end.
            fade = 1 - epoch / epochs
            rstdp.reward.update_all_learning_rate(*(fade * (1 - hits) * rate for rate in reward))
            rstdp.punishment.update_all_learning_rate(*(fade * hits * rate for rate in punishment))
            active = torch.rand(len(part), layer.out_channels) > 0.5  # half of them sit out each image, so all learn
            winners = rstdp.learn(times[part], labels[part], CLASS_OF_NEURON, active=active)
            hits = float((CLASS_OF_NEURON[winners[:, 0, 0]] == labels[part]).float().mean())
    return layer


# Step 6: pictures of what was learned


def draw(features: snn.SpikingConvolution, neurons: snn.SpikingConvolution, images: Tensor, path: Path) -> None:
    """The weights that STDP found, drawn back to the image, and the mean of what each taught neuron answers to."""
    found = get_network_features(Network(encoder(0), [Stage(features)]), 0)
    answered = get_mean_stimuli(Network(encoder(0.05), [Stage(neurons)], CLASS_OF_NEURON), 0, images)
    winning = answered.amax((1, 2)) > 0
    figure = Figure(figsize=(11, 2.9), layout="constrained")
    axes = figure.subplots(2, 1, height_ratios=[1.6, 1])
    plot_features(found, columns=16, title="32 features found by STDP", ax=axes[0])
    title = f"what {int(winning.sum())} neurons taught by reward answer to"
    plot_features(answered[winning], columns=20, title=title, ax=axes[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    print(f"picture: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="holds the folders cup and dog")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, metavar="N", help="learn from N images and test on N, of both classes")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the images, for each layer (default 20)")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the picture")
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    images, labels, objects = load(options.data)
    learned, tested = ((objects <= 5).nonzero()[:, 0], (objects > 5).nonzero()[:, 0])
    if options.limit:
        learned, tested = (some[torch.randperm(len(some))[: options.limit]] for some in (learned, tested))
    train, train_labels = images[learned], labels[learned]
    test, test_labels = images[tested], labels[tested]
    if len(set(train_labels.tolist())) < 2 or not len(test):
        sys.exit("there must be images of both classes to learn from, and some to test; see --data and --limit")
    print(f"{len(train)} images to learn from, {len(test)} of other objects to test")

    encode = encoder(weakest=0)
    features = learn_features(encode(train), options.epochs)
    reader = make_pipeline(StandardScaler(), LinearSVC()).fit(read(features, encode(train)), train_labels.numpy())
    wrong = torch.from_numpy(reader.predict(read(features, encode(test)))) != test_labels
    print(f"STDP and a support vector machine: test error {100 * wrong.float().mean():.1f} %")

    encode = encoder(weakest=0.05)  # without texture: here each edge counts for or against a class
    mirrored = torch.cat([train, train.flip(3)])  # dogs look both ways
    neurons = learn_by_reward(encode(mirrored), train_labels.repeat(2), options.epochs)
    wrong = CLASS_OF_NEURON[neurons.winners(encode(test))[:, 0, 0]] != test_labels
    print(f"R-STDP alone: test error {100 * wrong.float().mean():.1f} %")

    draw(features, neurons, test, options.out / "tutorial_cups_and_dogs.png")


if __name__ == "__main__":
    main()
