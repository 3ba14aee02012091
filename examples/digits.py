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

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

try:
    from matplotlib.figure import Figure
    from sklearn.datasets import load_digits
    from tqdm import tqdm
except ImportError as error:
    sys.exit(f'{error.name} is missing; this example needs: pip install -e ".[examples]"')

from spyketorch import latency, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
from spyketorch.visualization import get_deep_feature

TIME_STEPS = 15
NEURONS_PER_DIGIT = 20
REWARD, PUNISHMENT = (0.015, -0.011), (-0.014, 0.0014)  # (LTP, LTD); a punished neuron forgets what it answered to


class DigitNet(nn.Module):
    """Times of first spikes all the way: a neuron that never fires has the time TIME_STEPS."""

    def __init__(self) -> None:
        super().__init__()
        on, off = DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)  # a bright, a dark spot
        self.encode = LatencyEncoder(Filter([on, off], padding=1, thresholds=0), TIME_STEPS)
        self.layer1 = snn.SpikingConvolution(2, 64, 5, threshold=12, weight_std=0.05, time_steps=TIME_STEPS, padding=2)
        self.layer2 = snn.SpikingConvolution(64, 10 * NEURONS_PER_DIGIT, 8, weight_std=0.05, time_steps=TIME_STEPS)
        self.register_buffer("digit_of_neuron", torch.arange(10 * NEURONS_PER_DIGIT) // NEURONS_PER_DIGIT)
        self.digit_of_neuron: Tensor

    def features(self, images: Tensor) -> Tensor:
        """Images (N, 1, 16, 16) to the first spikes of layer 1, pooled: (N, 64, 8, 8)."""
        times, potentials = self.layer1.respond(self.encode(images))
        # At each place only the first feature to fire is heard.
        times, _ = latency.pointwise_inhibition(times, potentials, time_steps=TIME_STEPS)
        return latency.pooling(times, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """The digit of each image: that of the neuron with the highest potential."""
        times, potentials = self.layer2.respond(self.features(images))
        winners = latency.k_winners(times, potentials, time_steps=TIME_STEPS)
        return self.digit_of_neuron[winners[:, 0, 0]]


def load(device: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and held-out digits. The data are in the order of their writers, so the last 30 % are other people's."""
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32, device=device).unsqueeze(1)
    images = fn.interpolate(images, scale_factor=2, mode="bilinear")
    labels = torch.tensor(digits.target, device=device)
    split = round(0.7 * len(labels))
    return images[:split], labels[:split], images[split:], labels[split:]


def train_layer1(net: DigitNet, images: Tensor, epochs: int) -> None:
    """Unsupervised: in each image the three first neurons to fire learn what they saw."""
    stdp = snn.STDP(net.layer1, learning_rate=(0.004, -0.003))
    times, rate = net.encode(images), 0.004
    parts = [part for _ in range(epochs) for part in torch.split(torch.randperm(len(times)), 300)]
    for part in (progress := tqdm(parts, desc="layer 1, STDP  ", unit="part")):
        stdp.learn(times[part], kwta=3, inhibition_radius=2)
        rate = min(2 * rate, 0.15)  # careful at first, then faster
        stdp.update_all_learning_rate(rate, -0.75 * rate)
        weight = net.layer1.weight
        progress.set_postfix_str(f"undecided weights {(4 * weight * (1 - weight)).mean():.2f}")


def train_layer2(net: DigitNet, images: Tensor, labels: Tensor, epochs: int) -> None:
    """Reward and punishment, by the digit that the strongest neuron stands for."""
    # Layer 1 is fixed now, so its answers are computed once, for nine places of the image half a pixel apart: seeing
    # each digit at another place in each epoch teaches layer 2 not to mind it.
    padded = fn.pad(images, (1, 1, 1, 1))
    places = torch.stack([net.features(padded[..., y : y + 16, x : x + 16]) for y in range(3) for x in range(3)])
    rstdp = snn.RSTDP(net.layer2, REWARD, PUNISHMENT, lower_bound=0.2, upper_bound=0.8)
    hits = 0.1  # running share of right answers, chance at first
    for epoch in (progress := tqdm(range(epochs), desc="layer 2, R-STDP", unit="epoch")):
        order = torch.randperm(len(labels))
        times, targets = places[torch.randint(9, (len(labels),)), order], labels[order]
        for part in torch.split(torch.arange(len(labels)), 250):
            # The rarer an outcome, the more it teaches, as in Mozafari et al. 2019; and all rates fade to the end.
            fade = 1 - epoch / epochs
            rstdp.reward.update_all_learning_rate(*(fade * (1 - hits) * rate for rate in REWARD))
            rstdp.punishment.update_all_learning_rate(*(fade * hits * rate for rate in PUNISHMENT))
            active = (torch.rand(len(part), net.layer2.out_channels) > 0.5).to(labels.device)  # half of them drop out
            winners = rstdp.learn(times[part], targets[part], net.digit_of_neuron, active=active)
            right = (net.digit_of_neuron[winners[:, 0, 0]] == targets[part]).float().mean().item()
            hits += 0.2 * (right - hits)
        progress.set_postfix_str(f"right while learning {100 * hits:.0f} %")


def save(net: DigitNet, path: Path) -> None:
    part = path.with_name(path.name + ".part")  # written beside and moved: the file is always whole
    torch.save(net.state_dict(), part)
    part.replace(path)


def grid(pictures: Tensor, columns: int) -> Tensor:
    """Pictures (N, height, width) in rows, each from black to white, with a line between them."""
    pictures = pictures / pictures.amax((1, 2), keepdim=True).clamp(min=1e-9)
    pictures = fn.pad(pictures, (1, 1, 1, 1), value=0.5)
    return torch.cat([torch.cat(list(row), 1) for row in torch.split(pictures, columns)])


def draw(net: DigitNet, images: Tensor, labels: Tensor, answers: Tensor, title: str, path: Path) -> None:
    """What was learned, where it errs: learned strokes, the neurons that decide most often, confusions, mistakes."""
    on = net.encode.filter.kernels[:, 0].cpu()  # type: ignore[index]
    undecided = (net.layer1.weight * (1 - net.layer1.weight)).mean((1, 2, 3)).cpu()
    clearest = undecided.argsort()[:36]
    strokes, stride = get_deep_feature(on, (1, 1), (5, 5), (1, 1), net.layer1.weight.cpu()[clearest])
    pooled, stride = get_deep_feature(strokes, stride, (3, 3), (2, 2))
    weight = net.layer2.weight.cpu()[:, clearest]
    special = (weight - weight.mean(0)).clamp(min=0)  # what a neuron likes more than the others do
    numbers, _ = get_deep_feature(pooled, stride, (8, 8), (1, 1), special)
    times, potentials = net.layer2.respond(net.features(images))
    winners = latency.k_winners(times, potentials, time_steps=TIME_STEPS)[:, 0, 0].cpu()
    busiest = torch.bincount(winners, minlength=len(numbers)).view(10, -1).argmax(1) + NEURONS_PER_DIGIT * torch.arange(
        10
    )

    figure = Figure(figsize=(12, 6.4), layout="constrained")
    figure.suptitle(title, fontsize=15)
    axes = figure.subplot_mosaic(
        [["strokes", "table"], ["digits", "table"], ["errors", "errors"]],
        height_ratios=[3, 1.5, 1.3],
        width_ratios=[1.25, 1],
    )
    for name, text, picture in (
        ("strokes", "layer 1: the 36 clearest of its 64 features", grid(strokes, 12)),
        (
            "digits",
            "layer 2: what the busiest neuron of 0 ... 9 likes more than the others do",
            grid(numbers[busiest], 10),
        ),
    ):
        axes[name].imshow(picture.numpy(), cmap="gray")
        axes[name].set_title(text)
        axes[name].axis("off")
    table = torch.bincount(10 * labels.cpu() + answers.cpu(), minlength=100).view(10, 10)
    axes["table"].imshow(table.sqrt().numpy(), cmap="Blues")  # the root makes rare mistakes visible
    for row, column in torch.cartesian_prod(torch.arange(10), torch.arange(10)).tolist():
        colour = "white" if row == column else "black"
        axes["table"].text(column, row, str(int(table[row, column]) or ""), ha="center", va="center", color=colour)
    axes["table"].set(title="held-out digits", xlabel="answer", ylabel="digit", xticks=range(10), yticks=range(10))
    wrong = (answers != labels).nonzero().flatten()[:14].cpu()
    axes["errors"].set_title("some mistakes: digit, answer" if len(wrong) else "no mistakes")
    axes["errors"].axis("off")
    for place, i in enumerate(wrong.tolist()):
        inset = axes["errors"].inset_axes((place / 14, 0.25, 0.9 / 14, 0.75))
        inset.imshow(images[i, 0].cpu().numpy(), cmap="gray")
        inset.set(xticks=[], yticks=[])
        inset.set_xlabel(f"{labels[i]}, {answers[i]}")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=100, help="of layer 2 (default 100)")
    parser.add_argument("--quick", action="store_true", help="few epochs, to see that it runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("outputs"), help="folder for the model and the picture")
    parser.add_argument("--evaluate", type=Path, metavar="PATH", help="test a saved model, learn nothing")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    net = DigitNet().to(options.device)
    images, labels, held_out, held_out_labels = load(options.device)
    print(f"{len(labels)} digits to learn from, {len(held_out_labels)} held out, by other writers")
    if options.evaluate:
        try:
            net.load_state_dict(torch.load(options.evaluate, map_location=options.device, weights_only=True))
        except FileNotFoundError:
            sys.exit(f"there is no model {str(options.evaluate)!r}; python examples/digits.py makes outputs/digits.pt")
    else:
        train_layer1(net, images, epochs=1 if options.quick else 3)
        train_layer2(net, images, labels, epochs=2 if options.quick else options.epochs)
    answers = net(held_out)
    result = f"held-out accuracy {100 * (answers == held_out_labels).float().mean():.1f} % (chance 10 %)"
    print(result + (" after a quick, short training" if options.quick and not options.evaluate else ""))
    if not options.evaluate:
        options.out.mkdir(parents=True, exist_ok=True)
        model, picture = options.out / "digits.pt", options.out / "digits.png"
        save(net, model)
        draw(net, held_out, held_out_labels, answers, result, picture)
        print(f"model: {model}\npicture: {picture}")


if __name__ == "__main__":
    main()
