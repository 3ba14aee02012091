"""What the larger examples share: options, MNIST, training with checkpoints, the test, and the pictures."""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

try:
    import torchvision.datasets
    import tqdm
    from matplotlib.figure import Figure
except ImportError as error:
    sys.exit(f'{error.name} is missing; this example needs: pip install "spyketorch[examples]"')

from spyketorch import visualization
from spyketorch.models import Network
from spyketorch.training import Evaluation, FinalLesson, Lesson, Processes, Trainer, evaluate

Data = tuple[Tensor, Tensor]  # images (N, 1, H, W), labels (N,)


def at_least(minimum: int) -> Callable[[str], int]:
    """The type of an option that counts."""

    def integer(text: str) -> int:
        if int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text} is not at least {minimum}")
        return int(text)

    return integer


def device(text: str) -> torch.device:
    """The type of an option that names a device, which must be there."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {str(error).splitlines()[0]}") from error
    return torch.device(text)  # without a number, so that each process has its own GPU


def folder(text: str) -> Path:
    """The type of an option that names a folder, which may be new."""
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a file, not a folder")
    return Path(text)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all of them take."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=Path("data"), help="where the data are, or are downloaded to")
    options.add_argument("--limit", type=at_least(1), metavar="N", help="use N images for training and N for the test")
    options.add_argument("--seed", type=at_least(0), default=0)
    options.add_argument(
        "--device",
        type=device,
        default="cpu",
        help="cpu or cuda (default cpu, which learns one image after the other as fast)",
    )
    options.add_argument(
        "--out", type=folder, default=Path("outputs"), help="folder for weights, checkpoint and picture"
    )
    options.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    options.add_argument("--evaluate", action="store_true", help="only test the shipped weights, on all test images")
    return options


def mnist(options: argparse.Namespace, train: bool) -> Data:
    """MNIST, from the folder or downloaded into it; images in 0..255."""
    return _downloaded("MNIST", options, train)


def fashion_mnist(options: argparse.Namespace, train: bool) -> Data:
    """Fashion-MNIST, likewise."""
    return _downloaded("FashionMNIST", options, train)


def _downloaded(name: str, options: argparse.Namespace, train: bool) -> Data:
    try:
        found = getattr(torchvision.datasets, name)(options.data, train=train, download=True)
    except (OSError, RuntimeError) as error:
        sys.exit(f"{name} is not in {str(options.data)!r} and could not be downloaded: {error}")
    return found.data[: options.limit, None], found.targets[: options.limit]


class Told:
    """Prints how a read-out decides after each pass; a ``writer`` of the trainer."""

    SHARES: ClassVar = {"read-out/hits": "while it learned them", "read-out/held_out": "of images held out"}

    def add_scalar(self, name: str, value: float, step: int) -> None:
        if name in self.SHARES:
            tqdm.tqdm.write(f"read-out after {step:,} images: {100 * value:.2f} % right {self.SHARES[name]}")


def learn(
    network: Network,
    lessons: Sequence[Lesson | FinalLesson],
    data: Data,
    folder: Path,
    options: argparse.Namespace,
    processes: Processes | None = None,
) -> Trainer:
    """Train a network in ``folder``, where the run can be stopped and resumed."""
    how = {"seed": options.seed, "resume": options.resume, "writer": Told(), "processes": processes}
    trainer = Trainer(network.to(options.device), lessons, folder, **how)
    try:
        for report in trainer.fit(*data):
            print(report)
    except KeyboardInterrupt:
        sys.exit(f"\nStopped. {folder} holds the state; to go on, add --resume to the same command.")
    except (OSError, ValueError) as error:
        names = ". On the command line these are --resume and --out." if "directory begins anew" in str(error) else ""
        sys.exit(f"{error}{names}")
    return trainer


def test(network: Network, data: Data, options: argparse.Namespace, processes: Processes | None = None) -> Evaluation:
    """Decide all test images, and say how many were right."""
    result = evaluate(network.to(options.device), *data, processes=processes)
    print(f"test accuracy {100 * result.accuracy:.1f} % (silent {100 * result.silent:.1f} %)")
    return result


def draw(
    network: Network,
    result: Evaluation,
    names: Sequence[str],
    path: Path,
    history: list[dict[str, float]],
    images: Tensor,
) -> None:
    """What the features of each stage answer to, the confusion of the test, and how learning went."""
    stages = len(network.stages)
    figure = Figure(figsize=(13, max(5.5, 2.4 * stages)), layout="constrained")
    axes = figure.subplot_mosaic([[f"features {i}", "right"] for i in range(stages)], width_ratios=[1, 1.1])
    for number in range(stages):
        decides = number == stages - 1 and network.readout is None
        winners = {} if decides else {"kwta": 5, "inhibition_radius": 2}
        features = visualization.get_mean_stimuli(network, number, images[:3000], **winners)
        winning = features.amax((1, 2)).nonzero().flatten()
        if not len(winning):
            axes[f"features {number}"].set(title=f"no feature of layer {number + 1} answers", xticks=[], yticks=[])
            continue
        shown = winning[torch.linspace(0, len(winning) - 1, min(len(winning), 40)).round().long()]
        part = "the" if len(shown) == len(features) else f"{len(shown)} of the"
        text = f"what {part} {len(features)} features of layer {number + 1} answer to"
        visualization.plot_features(features[shown], columns=10, title=text, ax=axes[f"features {number}"])
    title = f"{100 * result.accuracy:.1f} % right of {int(result.confusion.sum())} test images"
    visualization.plot_confusion(result.confusion, names, title=title, ax=axes["right"])
    save(figure, path)
    if history:
        curves = Figure(figsize=(7, 4), layout="constrained")
        visualization.plot_history(history, ax=curves.subplots())
        save(curves, path.with_name(f"{path.stem}_curves.png"))


def save(figure: Figure, path: Path) -> None:
    """The figure as a file, in a folder that is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def run(
    name: str,
    build: Callable[..., Network],
    lessons: Sequence[Lesson | FinalLesson],
    load: Callable[[argparse.Namespace, bool], Data],
    names: Sequence[str],
    options: argparse.Namespace,
) -> tuple[Network, Data]:
    """A whole experiment: train or take the shipped weights, test once, save, draw; gives network and test images.

    Processes that torchrun has started share out the work; the first one alone tells of it.
    """
    with Processes.of_torchrun() as processes, nullcontext() if processes.first else redirect_stdout(None):
        torch.manual_seed(options.seed)
        history: list[dict[str, float]] = []
        if options.evaluate:
            options.limit = None
            network = build(pretrained=True)
        else:
            network = build()
            history = learn(network, lessons, load(options, True), options.out / name, options, processes).history
            if processes.first:
                network.save(options.out / f"{name}.pt")
        data = load(options, False)
        result = test(network, data, options, processes)
        if processes.first:
            picture = options.out / f"{name}.png"
            draw(network, result, names, picture, history, data[0])
            print(f"picture: {picture}")
        return network, data
