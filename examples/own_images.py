"""From a folder of your own pictures to a result: spiking networks learn them by two recipes, and the better is kept.

    python examples/own_images.py                            # draws its own pictures: shapes of eight classes
    python examples/own_images.py --data FOLDER              # FOLDER/CLASS/..., pictures at any depth below
    python examples/own_images.py --data FOLDER --test OTHER # a test of its own, with folders of the same names
    python examples/own_images.py --data FOLDER --group      # FOLDER/CLASS/OBJECT/...: no object is in two parts
    python examples/own_images.py --predict PICTURE ...      # name new pictures, by what was learned last

Sizes and colours may be mixed: pictures are made square and grey. Edges of four or eight orientations spike in the
order of their contrast. By the first recipe ten neurons for each class learn to decide by reward (R-STDP). By the
second features form by STDP, without labels, and a linear read-out hears when and where each of them fires. Both are
compared on pictures that were put aside; the better one then learns from these too, and is tested, once, on pictures
that it has never seen.
"""

import argparse
import itertools
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import common
import numpy as np
import shapes
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageOps
from torch import Tensor, nn

from spyketorch.encoding import Filter, GaborKernel, LatencyEncoder, LinearLatency
from spyketorch.learning import TargetTime
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.training import (
    Adaptive,
    Combined,
    Decaying,
    Fading,
    FinalLesson,
    Lesson,
    Readout,
    Reinforced,
    Trainer,
    TrainingWarning,
    Unsupervised,
    evaluate,
)

SIDE, TIME_STEPS = 64, 15
NEURONS_PER_CLASS = 10

# The pictures


class Pictures(NamedTuple):
    """Pictures as the networks see them, the class of each, and its file."""

    images: Tensor  # (N, 1, SIDE, SIDE), 0..1
    labels: Tensor  # (N,)
    names: tuple[str, ...]  # of the classes
    files: tuple[Path, ...]

    def part(self, chosen: Tensor) -> "Pictures":
        files = tuple(self.files[i] for i in chosen.tolist())
        return Pictures(self.images[chosen], self.labels[chosen], self.names, files)


def read(file: Path) -> Image.Image:
    """A picture in colours, as one would see it: upright, grey where it is transparent, of 8 bits.

    Raises:
        OSError: it is none.
    """
    try:
        with Image.open(file) as stored:
            picture = ImageOps.exif_transpose(stored)  # telephones store how they were held
            if picture.mode.startswith(("I", "F")):  # of 16 or 32 bits
                values = np.asarray(picture, np.float64)
                low, high = values.min(), values.max()
                picture = Image.fromarray(np.uint8(255 * (values - low) / ((high - low) or 1)))
            if "A" in picture.getbands() or "transparency" in picture.info:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, (128, 128, 128, 255)), picture)
            return picture.convert("RGB")
    except Exception as error:  # whatever a damaged file makes a reader raise
        raise OSError(f"{str(file)!r} cannot be read as a picture: {error}") from error


def opened(file: Path) -> Tensor:
    """A picture of any size and colours as the networks see it, ``(1, SIDE, SIDE)``; an OSError where it is none."""
    small = read(file).convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(small, np.float32) / 255)[None]


def _shown(name: str) -> bool:
    """Whether a file or a folder is not hidden, as those are that programs leave for themselves."""
    return not name.startswith(".") and name != "__MACOSX"


def below(folder: Path) -> list[Path]:
    """The files at any depth below a folder; each once, where links lead to it again."""
    found, seen = dict[Path, Path](), {folder.resolve()}
    for at, folders, names in os.walk(folder, followlinks=True):
        inner = {(Path(at) / name).resolve(): name for name in folders if _shown(name)}
        folders[:] = [name for real, name in inner.items() if real not in seen]
        seen.update(inner)
        for file in (Path(at) / name for name in sorted(names) if _shown(name)):
            found.setdefault(file.resolve(), file)
    return sorted(found.values(), key=lambda file: (str(file.parent), file.name))


def listed(root: Path) -> dict[str, list[Path]]:
    """The files below each folder of ``root``."""
    return {path.name: below(path) for path in sorted(root.iterdir()) if path.is_dir() and _shown(path.name)}


#: names of folders, in small letters, that hold parts of a data set, each with folders of classes
PARTS = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}


def pictures(root: Path, names: Sequence[str] | None = None) -> Pictures:
    """All pictures below the folders of ``root``, a folder for each class; with ``names``, of these classes alone."""
    try:
        found = listed(root)
    except OSError as error:
        sys.exit(f"{str(root)!r} should hold a folder for each class, with pictures in it: {error}")
    if not found:
        sys.exit(f"{str(root)!r} should hold a folder for each class, with pictures in it; it holds no folder")
    if all(name.lower() in PARTS for name in found):
        parts = ", ".join(map(repr, found))
        sys.exit(f"{str(root)!r} holds parts, not classes: {parts}; give one as --data, another as --test")
    names = tuple(names or found)
    strange = sorted(set(found) - set(names))
    if strange:
        sys.exit(f"{str(root)!r} holds {strange[0]!r}, which is no class of --data; name the folders alike")
    if len(names) < 2:
        sys.exit(f"{str(root)!r} holds one class alone, {names[0]!r}; there must be another to tell it from")
    images, labels, files, unread = [], [], [], []
    for name, file in ((folder, file) for folder in found for file in found[folder]):
        try:
            images.append(opened(file))
        except OSError as error:
            unread.append(error)
        else:
            labels.append(names.index(name))
            files.append(file)
    if unread:
        print(f"left out {len(unread)} of {len(unread) + len(files)} files: {unread[0]}", file=sys.stderr)
    if not images:
        sys.exit(f"no file below {str(root)!r} can be read as a picture; .jpg and .png are sure to be")
    return Pictures(torch.stack(images), torch.tensor(labels), names, tuple(files))


def apart(
    labels: Tensor, groups: np.ndarray, names: Sequence[str], share: float, seed: int, per_class: int | None = None
) -> tuple[Tensor, Tensor]:
    """Which pictures to learn from, and which are put aside: a share of the groups of each class, by a seed.

    With ``per_class`` all but so many are put aside. Pictures of one group are in one part.
    """
    random, aside = np.random.default_rng(seed), np.zeros(len(groups), bool)
    for label, name in enumerate(names):
        own = (labels == label).numpy()
        kinds = random.permutation(np.unique(groups[own]))
        count = round(share * len(kinds)) if per_class is None else len(kinds) - per_class
        if len(kinds) < 2 or count > len(kinds) - (per_class is None) or (per_class and count < 1):
            text = f"class {name!r} has too few pictures, or groups of them, to share out: {len(kinds)}"
            sys.exit(f"{text}; add some, or take its folder away")
        aside |= own & np.isin(groups, kinds[: max(count, 1)])
    chosen = torch.from_numpy(aside)
    return (~chosen).nonzero()[:, 0], chosen.nonzero()[:, 0]


def grouped(data: Pictures, root: Path, by_folder: bool) -> list[str]:
    """What must stay together: each picture by itself, or those of one folder below the class."""
    return [file.relative_to(root).parts[1] if by_folder else str(file) for file in data.files]


# The networks


class LocalContrast(nn.Module):
    """Edges in units of what is around them, 9 x 9 places of all orientations, so that faint outlines count, too."""

    def forward(self, edges: Tensor) -> Tensor:
        around = nn.functional.pad(edges.mean(1, keepdim=True), (4, 4, 4, 4), mode="replicate")
        return edges / (nn.functional.avg_pool2d(around, 9, 1) + 0.02)


class Strongest(nn.Module):
    """At each place only the strongest orientation is heard."""

    def forward(self, edges: Tensor) -> Tensor:
        return torch.where(edges == edges.amax(1, keepdim=True), edges, 0)


def contrasts(orientations: int, *pool: nn.Module) -> nn.Sequential:
    """Images to the contrast of their edges, in each part of the image that of the strongest."""
    kernels = [GaborKernel(7, 22.5 + 180 / orientations * k) for k in range(orientations)]
    return nn.Sequential(nn.ReplicationPad2d(3), Filter(kernels, use_abs=True), LocalContrast(), *pool)


def by_reward(classes: int) -> Network:
    """Neurons that see most of the image, ten for each class; the one with the largest potential decides."""
    encoder = LatencyEncoder(contrasts(4, nn.MaxPool2d(4, 3, 1), Strongest()), TIME_STEPS)
    neurons = classes * NEURONS_PER_CLASS
    layer = SpikingConvolution(4, neurons, 17, None, weight_std=0.05, time_steps=TIME_STEPS)
    return Network(encoder, [Stage(layer)], torch.arange(neurons) // NEURONS_PER_CLASS)


def pooling(cells: int) -> SpikingPooling:
    """The first spike of each feature in cells x cells parts of a map of 28 x 28 places."""
    size = -(-28 // cells)
    return SpikingPooling(size, padding=(size * cells - 28) // 2)


def by_features(classes: int, count: int, cells: int) -> Network:
    """Features of 5 x 5 places, of which the first is heard at each, and a read-out of where and when they fire."""
    encoder = LinearLatency(contrasts(8, nn.MaxPool2d(2)), TIME_STEPS)
    layer = SpikingConvolution(8, count, 5, 5, weight_mean=0.5, weight_std=0.01, time_steps=TIME_STEPS)
    network = Network(encoder, [Stage(layer, pooling(cells), inhibit=True)])
    network.readout = LinearReadout((count, cells, cells), classes, time_steps=TIME_STEPS)
    return network


def reward(epochs: int) -> Reinforced:
    """The rarer an outcome, the more it teaches; seven of ten neurons sit out each image, so that all of them learn."""
    return Reinforced(
        reward=(0.05, -0.02),  # (LTP, LTD)
        punishment=(-0.05, 0.005),
        schedule=Combined((Adaptive(), Fading(0))),
        dropout=0.7,
        epochs=epochs,
        period=80,
    )


def features(patches: int, images: int) -> Unsupervised:
    """A random window of each image after the other; thresholds rise until features wait for most of a window."""
    return Unsupervised(
        thresholds=TargetTime(0.7),
        steepness=1.0,
        rates=(0.1, -0.1),
        schedule=Decaying(0.04),
        patches=True,
        epochs=-(-patches // images),
        period=2000,
    )


class Recipe(NamedTuple):
    """How to build a network: by reward, or features with a read-out of cells x cells parts and a penalty."""

    features: int = 0  # none: by reward
    cells: int = 4
    penalty: float = 0.0

    def __str__(self) -> str:
        parts = f"STDP, then a read-out of {self.cells} x {self.cells} parts with a penalty of {self.penalty}"
        return parts if self.features else "R-STDP"

    def build(self, classes: int, seed: int) -> Network:
        torch.manual_seed(seed)
        return by_features(classes, self.features, self.cells) if self.features else by_reward(classes)


# Learning


def learn(
    network: Network, lessons: Sequence[Lesson | FinalLesson], data: Pictures, name: str, options: argparse.Namespace
) -> Trainer:
    """Train a network in a folder, where it can be stopped and resumed; what is warned of is printed."""
    network.names = data.names
    state = options.out / "own_images" / name
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", TrainingWarning)
        trainer = Trainer(network, lessons, state, seed=options.seed, resume=options.resume)
        try:
            trainer.fit(data.images, data.labels)
        except KeyboardInterrupt:
            sys.exit(f"\nStopped. {state} holds the state; to go on, add --resume to the same command.")
        except (OSError, ValueError) as error:
            known = "directory begins anew" in str(error)
            names = ". On the command line these are --resume and --out." if known else ""
            sys.exit(f"{error}{names}")
    for warning in told:
        print(f"  {warning.message}")
    return trainer


@torch.no_grad()
def answers(network: Network, images: Tensor) -> Tensor:
    """What the last stage makes of all images."""
    return torch.cat([network.features(some) for some in network.batches(images)])


def compared(learned: Pictures, validation: Pictures, options: argparse.Namespace) -> dict[Recipe, float]:
    """Right decisions on the validation part by each recipe, the second with all its settings."""
    classes, right = len(learned.names), {}
    network = Recipe().build(classes, options.seed)
    learn(network, [reward(options.epochs)], learned, "reward", options)
    right[Recipe()] = evaluate(network, validation.images, validation.labels).accuracy
    network = Recipe(options.features).build(classes, options.seed)
    learn(network, [features(options.patches, len(learned.labels))], learned, "features", options)
    for cells in (4, 6):
        network.stages[0].pool = pooling(cells)
        times, others = answers(network, learned.images), answers(network, validation.images)
        for penalty in (0.1, 0.01, 0.003):  # the fewer the pictures, the larger the best
            readout = LinearReadout(times.shape[1:], classes, time_steps=TIME_STEPS)
            readout.fit(times, learned.labels, penalty=penalty, iterations=50)
            right[Recipe(options.features, cells, penalty)] = float(
                (readout(others).argmax(1) == validation.labels).double().mean()
            )
    return right


def lessons(recipe: Recipe, images: int, options: argparse.Namespace) -> list[Lesson | FinalLesson]:
    if not recipe.features:
        return [reward(options.epochs)]
    return [features(options.patches, images), Readout(recipe.penalty, iterations=50)]


# Pictures of what came of it


def draw_wrong(data: Pictures, decided: Sequence[int], path: Path) -> None:
    """Up to 40 of the pictures that were decided wrong, with both classes."""
    wrong = [i for i, label in enumerate(data.labels.tolist()) if decided[i] != label][:40]
    figure = Figure(figsize=(12, 1.6 * max(1, -(-len(wrong) // 8)) + 0.4), layout="constrained")
    figure.suptitle(f"{len(wrong)} of the test pictures that were named wrong" if wrong else "all were named right")
    for ax, i in zip(figure.subplots(max(1, -(-len(wrong) // 8)), 8).flat, wrong + [-1] * 40, strict=False):
        ax.axis("off")
        if i >= 0:
            ax.imshow(read(data.files[i]))
            answer = data.names[decided[i]] if decided[i] >= 0 else "silent"
            ax.set_title(f"{data.names[data.labels[i]]}, not {answer}"[:28], fontsize=8)
    common.save(figure, path)


# New pictures, one at a time


def saved(out: Path) -> Network:
    """The network that was learned last."""
    try:
        told = json.loads((out / "own_images.json").read_text())
        network = Recipe(*told["recipe"]).build(told["classes"], 0)
        network.load(out / "own_images.pt")
    except FileNotFoundError:
        sys.exit(f"{str(out)!r} holds no saved model yet; learn first, without --predict, or name its folder by --out")
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        sys.exit(f"the model in {str(out)!r} cannot be used: {error}; learn it anew")
    return network


def predict(network: Network, files: Sequence[Path]) -> None:
    """Name each picture, with what speaks for the class and for the next one, and how long that took."""
    network.predict(torch.rand(1, SIDE, SIDE))  # loops are compiled, once
    for file in itertools.chain.from_iterable(below(path) if path.is_dir() else [path] for path in files):
        try:
            image = opened(file)
        except OSError as error:
            print(error)
            continue
        start = time.perf_counter()
        (answer,) = network.predict(image)
        took = 1000 * (time.perf_counter() - start)
        scores = network.scores(image)[0]
        best = ", ".join(f"{network.names[i]} {scores[i]:.2f}" for i in scores.argsort(descending=True)[:3].tolist())
        print(f"{file}: {answer}  ({best}; {took:.1f} ms)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder with a folder of pictures for each class (default: drawn)")
    parser.add_argument("--test", type=Path, help="pictures for the test (default: a part of --data)")
    parser.add_argument("--share", type=float, default=0.25, help="of each class that is the test (default 0.25)")
    parser.add_argument("--per-class", type=common.at_least(2), metavar="N", help="learn N of a class, test the rest")
    parser.add_argument("--group", action="store_true", help="keep pictures of one folder below a class together")
    parser.add_argument(
        "--predict", type=Path, nargs="+", metavar="FILE", help="name these, or a folder's, by --out's model"
    )
    parser.add_argument("--features", type=common.at_least(4), default=256, help="that form by STDP (default 256)")
    parser.add_argument("--seed", type=common.at_least(0), default=0)
    parser.add_argument("--quick", action="store_true", help="a few seconds, to see that it runs; lower accuracy")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was stopped")
    parser.add_argument("--out", type=common.folder, default=Path("outputs"), help="for the model and the pictures")
    options = parser.parse_args()
    if options.predict:
        predict(saved(options.out), options.predict)
        return
    if not 0 < options.share < 1:
        parser.error(f"--share is between 0 and 1, got {options.share}")
    options.epochs, options.patches = (3, 4000) if options.quick else (40, 40_000)
    if options.data is None:
        options.data = options.out / "shapes"
        print(f"drawing shapes of eight classes into {options.data}")
        shapes.draw(options.data, 20 if options.quick else 160)

    data, share = pictures(options.data), options.share
    groups = np.array(grouped(data, options.data, options.group))
    if options.test is not None:
        known, test = torch.arange(len(groups)), pictures(options.test, data.names)
        both = {file.resolve() for file in data.files} & {file.resolve() for file in test.files}
        if both:
            sys.exit(f"--test is of pictures that are not learned; {str(min(both))!r} is in --data, too")
    else:
        known, others = apart(data.labels, groups, data.names, share, options.seed, options.per_class)
        test = data.part(others)
    known_data = data.part(known)
    chosen, aside = apart(known_data.labels, groups[known], data.names, 0.2, options.seed)
    learned, validation = known_data.part(chosen), known_data.part(aside)
    print(
        f"{len(data.names)} classes: {len(chosen)} pictures to learn from, {len(aside)} to compare recipes, "
        f"{len(test.labels)} to test"
    )

    right = compared(learned, validation, options)
    chance = float(validation.labels.bincount().max()) / len(aside)
    for recipe, accuracy in right.items():
        failed = accuracy < chance + 0.1 * (1 - chance)
        print(f"  validation {100 * accuracy:5.1f} %  {recipe}" + ", which fails: no better than chance" * failed)
    best = max(right, key=right.__getitem__)
    print(f"kept: {best}; it learns once more, from the pictures of both parts")
    network = best.build(len(data.names), options.seed)
    trainer = learn(network, lessons(best, len(known), options), known_data, "kept", options)

    result = evaluate(network, test.images, test.labels)
    print(result)
    print(f"test accuracy {100 * result.accuracy:.1f} %")
    network.save(options.out / "own_images.pt")
    (options.out / "own_images.json").write_text(json.dumps({"recipe": best, "classes": len(data.names)}))
    common.draw(network, result, data.names, options.out / "own_images.png", trainer.history, test.images)
    decided = torch.cat([network(some) for some in network.batches(test.images)]).tolist()
    draw_wrong(test, decided, options.out / "own_images_wrong.png")
    print(f"model: {options.out / 'own_images.pt'}")
    drawn = ", ".join(str(options.out / f"own_images{part}.png") for part in ("", "_wrong", "_curves"))
    print(f"pictures: {drawn}")
    shutil.rmtree(options.out / "own_images")  # what a run that is stopped goes on from: the next one begins anew


if __name__ == "__main__":
    main()
