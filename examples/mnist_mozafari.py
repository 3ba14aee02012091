"""Learn MNIST digits without gradients: the three-layer spiking network of Mozafari et al. 2019.

    python examples/mnist_mozafari.py --data DIR

Two layers find features with STDP, without labels; the third learns to name the digit with reward-modulated STDP.
A layer learns once those below are finished, so their answers are computed once and kept.

Bio-inspired digit recognition using reward-modulated spike-timing-dependent plasticity in deep convolutional networks,
Pattern Recognition 94:87-95.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import functional as sf
from spyketorch import latency
from spyketorch.encoding import DoGKernel, Filter, Intensity2Latency, LocalNormalization
from spyketorch.snn import RSTDP, STDP, Convolution
from spyketorch.visualization import get_deep_feature

try:
    from matplotlib.figure import Figure
    from torchvision.datasets import MNIST
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f'{error.name} is missing; this example needs: pip install "spyketorch[examples]"')

TIME_STEPS = 15
BATCH = 500  # images between two changes of the learning rates; the state is saved then, too
FEATURES_PER_DIGIT = 20


class FeatureLayer(nn.Module):
    """Finds features that come back in many images, by STDP."""

    def __init__(
        self, conv: Convolution, padding: int, threshold: float, pool: int, kwta: int, inhibition_radius: int
    ) -> None:
        super().__init__()
        self.conv, self.stdp = conv, STDP(conv, (0.004, -0.003))
        self.padding, self.threshold, self.pool = (padding,) * 4, threshold, pool
        self.kwta, self.inhibition_radius = kwta, inhibition_radius

    def forward(self, times: Tensor) -> Tensor:
        wave = sf.pad(latency.to_wave(times, TIME_STEPS), self.padding)
        return latency.from_wave(sf.pooling(sf.fire_(self.conv(wave), self.threshold), self.pool))

    def learn(self, times: Tensor, label: int) -> None:
        wave = sf.pad(latency.to_wave(times, TIME_STEPS), self.padding)
        spikes, potentials = sf.fire(self.conv(wave), self.threshold, return_thresholded_potentials=True)
        potentials = sf.pointwise_inhibition(potentials)  # at each place one feature may win, so that they differ
        self.stdp(wave, potentials, spikes, kwta=self.kwta, inhibition_radius=self.inhibition_radius)

    def end_batch(self) -> str:
        """Start slowly, then double the rates up to 0.15."""
        ltp = min(2 * self.stdp.learning_rate[0][0].item(), 0.15)
        self.stdp.update_all_learning_rate(ltp, -0.75 * ltp)
        undecided = (self.conv.weight * (1 - self.conv.weight)).mean()  # falls to 0 as weights go to 0 or 1
        return f"rate {ltp:.3f}, w(1-w) {undecided:.3f}"


class DecisionLayer(nn.Module):
    """Names the digit: each feature belongs to one, and the neuron with the highest potential decides.

    It has no threshold: only potentials at the last time step count, where every spike has arrived. All it needs,
    to decide and to learn, is the last frame of its input, as a wave of one time step. That is fifteen times cheaper
    and gives the same answers, but for potentials so close that float32 cannot tell them apart.
    """

    def __init__(self, conv: Convolution, padding: int) -> None:
        super().__init__()
        self.conv, self.padding = conv, (padding,) * 4
        reward, punishment = (0.004, -0.003), (-0.004, 0.0005)
        self.rstdp = RSTDP(conv, reward, punishment, use_stabilizer=False, lower_bound=0.2, upper_bound=0.8)
        self.hits = self.misses = self.silent = 0

    def last_frame(self, times: Tensor) -> Tensor:
        return sf.pad(latency.to_wave(times, TIME_STEPS)[..., -1:, :, :, :], self.padding)

    def respond(self, wave: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        spikes, potentials = sf.fire(self.conv(wave), None, return_thresholded_potentials=True)
        return spikes, potentials, sf.k_winners(potentials, kwta=1, inhibition_radius=0, spikes=spikes)

    def forward(self, times: Tensor) -> Tensor:
        """The winning feature of each image, -1 where none fired."""
        return self.respond(self.last_frame(times))[2][:, 0, 0]

    def learn(self, times: Tensor, label: int) -> None:
        wave = self.last_frame(times)
        spikes, potentials, winners = self.respond(wave)
        feature = int(winners[0, 0])
        if feature < 0:
            self.silent += 1
            return
        hit = feature // FEATURES_PER_DIGIT == label
        self.hits, self.misses = self.hits + hit, self.misses + (not hit)
        self.rstdp(wave, potentials, spikes, 1 if hit else -1, winners)  # reward or punishment

    def end_batch(self) -> str:
        """The more errors, the more weight rewards have; the more hits, the more weight punishments have."""
        images = self.hits + self.misses + self.silent
        hits, misses, silent = self.hits / images, self.misses / images, self.silent / images
        self.rstdp.reward.update_all_learning_rate(0.004 * misses, -0.003 * misses)
        self.rstdp.punishment.update_all_learning_rate(-0.004 * hits, 0.0005 * hits)
        self.hits = self.misses = self.silent = 0
        return f"accuracy {hits:.1%}, silent {silent:.1%}"


class Network(nn.Module):
    """The eye and three layers: 28 x 28 pixels, 14 x 14 neurons, 4 x 4 neurons, 4 x 4 neurons."""

    def __init__(self) -> None:
        super().__init__()
        kernels = []  # on- and off-centre cells of three sizes; the strongest contrasts spike first
        for window in (3, 7, 13):
            small, large = window / 9, 2 * window / 9
            kernels += [DoGKernel(window, small, large), DoGKernel(window, large, small)]
        self.filter = Filter(kernels, padding=6, thresholds=50)  # for intensities 0..255
        latency = Intensity2Latency(TIME_STEPS, to_spike=True, batched=True)
        self.eye = nn.Sequential(self.filter, LocalNormalization(8), latency)
        one = Convolution(len(kernels), 30, 5, 0.8, 0.05)
        two = Convolution(30, 250, 3, 0.8, 0.025)
        three = Convolution(250, 10 * FEATURES_PER_DIGIT, 5, 0.8, 0.05)
        self.one = FeatureLayer(one, padding=2, threshold=15, pool=2, kwta=5, inhibition_radius=3)
        self.two = FeatureLayer(two, padding=1, threshold=10, pool=3, kwta=8, inhibition_radius=1)
        self.three = DecisionLayer(three, padding=2)

    def encode(self, images: Tensor) -> Tensor:
        return latency.from_wave(self.eye(images))

    @property
    def layers(self) -> list[FeatureLayer | DecisionLayer]:
        return [self.one, self.two, self.three]


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def load_digits(root: Path, train: bool, images: int) -> tuple[Tensor, list[int]]:
    """The first images of MNIST, (N, 1, 28, 28) in 0..255, and their labels."""
    try:
        digits = MNIST(root, train=train, download=True)
    except (OSError, RuntimeError) as error:
        sys.exit(f"MNIST is not in {str(root)!r} and could not be downloaded: {first_line(error)}")
    return digits.data[:images, None], digits.targets[:images].tolist()


def answers(ask: Callable[[Tensor], Tensor], inputs: Tensor, text: str) -> Tensor:
    """What a finished part of the network answers to all images, ten at a time."""
    with tqdm(total=len(inputs), desc=text, unit="image") as bar:
        parts = []
        for start in range(0, len(inputs), 10):
            parts.append(ask(inputs[start : start + 10]))
            bar.update(len(parts[-1]))
    return torch.cat(parts)


class State:
    """What a run needs to go on as if it had never stopped: weights, rates, and how many images each layer has seen."""

    def __init__(self, path: Path, images: int, seed: int) -> None:
        self.path, self.images, self.seed, self.seen = path, images, seed, [0, 0, 0]

    def save(self, network: Network) -> None:
        part = self.path.with_name(self.path.name + ".part")  # written beside and moved: the file is always whole
        content = {"network": network.state_dict(), "images": self.images, "seed": self.seed, "seen": self.seen}
        torch.save(content, part)
        part.replace(self.path)

    def load(self, network: Network) -> None:
        try:
            content: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
            network.load_state_dict(content["network"])
            self.images, self.seed, self.seen = content["images"], content["seed"], content["seen"]
        except Exception as error:  # torch raises many types for a damaged file
            sys.exit(f"{str(self.path)!r} is not a file that this example saved: {first_line(error)}")


def learn(network: Network, state: State, root: Path, epochs: list[int], device: str) -> None:
    """Teach the layers, one after the other, from where the state says they stand."""
    images, labels = load_digits(root, train=True, images=state.images)
    state.save(network)
    inputs = answers(network.encode, images.to(device), "encoding")
    for number, layer in enumerate(network.layers):
        done, total = state.seen[number], epochs[number] * len(inputs)
        if any(state.seen[number + 1 :]):  # a layer on which others stand changes no more
            total = done
        with tqdm(total=total, initial=done, desc=f"learning layer {number + 1}", unit="image") as bar:
            order: list[int] = []
            for i in range(done, total):
                epoch, position = divmod(i, len(inputs))
                if not order or position == 0:  # each epoch has its own order, made from the seed alone
                    shuffle = torch.Generator().manual_seed(10**6 * state.seed + 10**5 * number + epoch)
                    order = torch.randperm(len(inputs), generator=shuffle).tolist()
                layer.learn(inputs[order[position]], labels[order[position]])
                bar.update()
                if (i + 1) % BATCH == 0 or i + 1 == total:
                    bar.set_postfix_str(layer.end_batch())
                    state.seen[number] = i + 1
                    state.save(network)
        if number < 2:  # this layer is finished: its answers are all that the next one needs
            inputs = answers(layer, inputs, f"answers of layer {number + 1}")


def montage(pictures: Tensor, columns: int) -> Tensor:
    """Pictures (N, height, width) side by side, each from black to white."""
    pictures = pictures / pictures.amax((1, 2), keepdim=True).clamp(min=1e-12)
    pictures = nn.functional.pad(pictures, (1, 1, 1, 1), value=1)
    rows = [torch.cat(list(pictures[i : i + columns]), 1) for i in range(0, len(pictures), columns)]
    return torch.cat(rows)


def draw(network: Network, features: Tensor, labels: Tensor, title: str, path: Path) -> None:
    """What the layers learned, drawn back to the image, and which digit was taken for which."""
    one, two, three = (layer.conv.weight.cpu() for layer in network.layers)
    first, stride = get_deep_feature(network.filter.kernels.cpu()[:, 0], (1, 1), (5, 5), (1, 1), one)
    second, stride = get_deep_feature(first, stride, (2, 2), (2, 2))
    second, stride = get_deep_feature(second, stride, (3, 3), (1, 1), two)
    third, stride = get_deep_feature(second, stride, (3, 3), (3, 3))
    third, stride = get_deep_feature(third, stride, (5, 5), (1, 1), three - 0.2)  # 0.2 is as low as its weights go
    clearest = (two * (1 - two)).mean((1, 2, 3)).argsort()[:40]
    wins = torch.bincount(features[features >= 0], minlength=len(third)).view(10, FEATURES_PER_DIGIT)
    busiest = wins.argsort(1, descending=True)[:, :4].T + FEATURES_PER_DIGIT * torch.arange(10)

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplot_mosaic([["one", "table"], ["two", "table"], ["three", "table"]], width_ratios=[1, 1.15])
    for name, text, pictures in (
        ("one", "layer 1: all features", first),
        ("two", "layer 2: the 40 clearest features", second[clearest]),
        ("three", "layer 3: for each digit, the four features that decide most often", third[busiest.flatten()]),
    ):
        image = montage(pictures[:, 4:-4, 4:-4], 10)  # without the rim, where only the large kernels reach
        axes[name].imshow(image.numpy(), cmap="gray")
        axes[name].set(title=text, xticks=[], yticks=[])
    axes["three"].set_xticks([image.shape[1] * (digit + 0.5) / 10 for digit in range(10)], [*"0123456789"])

    digits = features.div(FEATURES_PER_DIGIT, rounding_mode="floor") % 11  # -1, silence, becomes column 10
    table = torch.bincount(labels * 11 + digits, minlength=110).view(10, 11)
    shade = (table / table.sum(1, keepdim=True).clamp(min=1)).sqrt()  # the root makes rare mistakes visible
    axes["table"].imshow(shade.numpy(), cmap="Blues")
    for row in range(10):
        for column in range(11):
            colour = "white" if shade[row, column] > 0.6 else "black"
            axes["table"].text(column, row, str(int(table[row, column]) or ""), ha="center", va="center", color=colour)
    axes["table"].set(title=title, xlabel="decision", ylabel="digit", yticks=range(10))
    axes["table"].set_xticks(range(11), [*"0123456789", "silent"])
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="where MNIST is, or is downloaded to")
    parser.add_argument("--train-images", type=int, default=5000, help="the first of 60000 (default 5000)")
    parser.add_argument("--test-images", type=int, default=10000, help="the first of 10000 (default all)")
    for number, epochs in enumerate((1, 1, 30), start=1):
        parser.add_argument(f"--epochs{number}", type=int, default=epochs, help=f"of layer {number} (default {epochs})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the model and the picture")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped, its images and seed")
    parser.add_argument("--evaluate", type=Path, metavar="PATH", help="test a saved model, learn nothing")
    options = parser.parse_args()
    if min(options.train_images, options.test_images, options.epochs1, options.epochs2, options.epochs3) < 1:
        parser.error("numbers of images and epochs must be at least 1")

    torch.manual_seed(options.seed)
    network = Network()
    options.out.mkdir(parents=True, exist_ok=True)
    state = State(options.evaluate or options.out / "mnist_mozafari.pt", options.train_images, options.seed)
    if options.evaluate or options.resume:
        state.load(network)
    network.to(options.device)
    try:
        if not options.evaluate:
            learn(network, state, options.data, [options.epochs1, options.epochs2, options.epochs3], options.device)
        images, labels = load_digits(options.data, train=False, images=options.test_images)
        inputs = answers(network.encode, images.to(options.device), "encoding the test images")
        for number, layer in enumerate(network.layers, start=1):
            inputs = answers(layer, inputs, f"answers of layer {number}")
    except KeyboardInterrupt:
        saved = f" {state.path} is at most {BATCH} images old; to go on, add --resume to the same command."
        sys.exit("\nStopped." + saved * (not options.evaluate))

    features = inputs.cpu()
    digits = features.div(FEATURES_PER_DIGIT, rounding_mode="floor")  # silence, -1, stays -1
    hits, silent = (digits == torch.tensor(labels)).float().mean(), (digits < 0).float().mean()
    result = f"test accuracy {100 * hits:.1f} % (silent {100 * silent:.1f} %)"
    draw(network, features, torch.tensor(labels), result, options.out / "mnist_mozafari.png")
    print(result)


if __name__ == "__main__":
    main()
