"""Quick start: a spiking network learns real handwritten digits, without gradients, in about a minute.

    python examples/digits.py            # train, report held-out accuracy, draw outputs/digits.png
    python examples/digits.py --quick    # a few seconds, lower accuracy
    python examples/digits.py --evaluate outputs/digits.pt

image -> on/off contrast -> spikes in rank order -> layer 1 (STDP) -> pooling -> layer 2 (R-STDP) -> digit

Layer 1 finds strokes on its own, by STDP. In layer 2 twenty neurons stand for each digit, and the strongest of all
decides: where it is right it is rewarded, where it is wrong it is punished.
"""

import argparse
import sys
from pathlib import Path

import common
import torch
import torch.nn.functional as fn
from sklearn.datasets import load_digits
from torch import Tensor

from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.training import Adaptive, Combined, Doubling, Fading, Reinforced, Trainer, Unsupervised, evaluate

TIME_STEPS = 15
NEURONS_PER_DIGIT = 20


def build() -> Network:
    """Times of first spikes all the way: a neuron that never fires has the time TIME_STEPS."""
    on, off = DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)  # a bright, a dark spot
    encoder = LatencyEncoder(Filter([on, off], padding=1, thresholds=0), TIME_STEPS)
    strokes = SpikingConvolution(2, 64, 5, threshold=12, weight_std=0.05, time_steps=TIME_STEPS, padding=2)
    digits = SpikingConvolution(64, 10 * NEURONS_PER_DIGIT, 8, weight_std=0.05, time_steps=TIME_STEPS)
    # At each place only the first stroke to fire is heard, and of 3 x 3 places the first.
    stages = [Stage(strokes, SpikingPooling(3, stride=2, padding=1), inhibit=True), Stage(digits)]
    return Network(encoder, stages, classes=torch.arange(10 * NEURONS_PER_DIGIT) // NEURONS_PER_DIGIT)


def lessons(epochs: int) -> list[Unsupervised | Reinforced]:
    """In layer 1 the three first neurons to fire learn; in layer 2, the rarer an outcome, the more it teaches."""
    strokes = Unsupervised(kwta=3, inhibition_radius=2, schedule=Doubling(every=300))
    digits = Reinforced(
        reward=(0.015, -0.011),  # (LTP, LTD)
        punishment=(-0.014, 0.0014),  # a punished neuron forgets what it answered to
        schedule=Combined((Adaptive(), Fading(0))),
        dropout=0.5,
        epochs=epochs,
    )
    return [strokes, digits]


def load() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and held-out digits. The data are in the order of their writers, so the last 30 % are other people's."""
    digits = load_digits()
    images = fn.interpolate(torch.tensor(digits.images / 16).float().unsqueeze(1), scale_factor=2, mode="bilinear")
    labels = torch.tensor(digits.target)
    split = round(0.7 * len(labels))
    return images[:split], labels[:split], images[split:], labels[split:]


def moved(images: Tensor) -> Tensor:
    """The images at nine places half a pixel apart, so that the network learns not to mind the place."""
    padded = fn.pad(images, (1, 1, 1, 1))
    return torch.cat([padded[..., y : y + 16, x : x + 16] for y in range(3) for x in range(3)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=common.at_least(1), default=11, help="of layer 2 (default 11)")
    parser.add_argument("--quick", action="store_true", help="one epoch, to see that it runs")
    parser.add_argument("--seed", type=common.at_least(0), default=0)
    parser.add_argument("--device", type=common.device, default="cpu")
    parser.add_argument(
        "--out", type=common.folder, default=Path("outputs"), help="folder for the model and the picture"
    )
    parser.add_argument("--evaluate", type=Path, metavar="PATH", help="test a saved model, learn nothing")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    network = build().to(options.device)
    images, labels, held_out, held_out_labels = load()
    print(f"{len(labels)} digits to learn from, {len(held_out_labels)} held out, by other writers")
    if options.evaluate:
        try:
            network.load(options.evaluate)
        except FileNotFoundError:
            sys.exit(f"there is no model {str(options.evaluate)!r}; python examples/digits.py makes outputs/digits.pt")
        except (OSError, ValueError, RuntimeError) as error:
            sys.exit(f"{str(options.evaluate)!r} is no model of this network: {error}")
    else:
        trainer = Trainer(network, lessons(1 if options.quick else options.epochs), seed=options.seed)
        try:
            reports = trainer.fit(moved(images), labels.repeat(9))
        except ValueError as error:  # a layer that is silent
            sys.exit(str(error))
        for report in reports:
            print(report)
    result = evaluate(network, held_out, held_out_labels)
    text = f"held-out accuracy {100 * result.accuracy:.1f} % (chance 10 %)"
    print(text + (" after a quick, short training" if options.quick and not options.evaluate else ""))
    if not options.evaluate:
        model, picture = options.out / "digits.pt", options.out / "digits.png"
        network.save(model)
        common.draw(network, result, [*"0123456789"], picture, trainer.history, held_out)
        print(f"model: {model}\npicture: {picture}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing was saved.")
