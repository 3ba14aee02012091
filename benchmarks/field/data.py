"""The data sets: images that are learned and images that are tested, from the folders in which they are kept."""

import wave
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import MNIST, FashionMNIST

from field import fronts
from field.fronts import Front
from spyketorch.encoding import FilterBank

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm"}
DIGITS = tuple("0123456789")


class Labelled(NamedTuple):
    """Images ``(N, C, H, W)``, grey or of three colours, uint8; and the class of each, ``(N,)``."""

    images: Tensor
    labels: Tensor

    def part(self, chosen: Tensor) -> "Labelled":
        return Labelled(self.images[chosen], self.labels[chosen])


class Data(NamedTuple):
    """What is learned, what is tested, the names of the classes, and how target-time features see the images."""

    learned: Labelled
    tested: Labelled
    names: tuple[str, ...]
    front: Front

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows and columns of the images."""
        return tuple(self.learned.images.shape[1:])

    def first(self, count: int | None, seed: int) -> "Data":
        """The same with so many images to learn from, drawn by the seed; all of them with None."""
        drawn = np.random.default_rng([seed, 1]).permutation(len(self.learned.labels))[:count]
        return self._replace(learned=self.learned.part(torch.from_numpy(drawn)))

    def seen(self, see: Callable[[Tensor], Tensor]) -> "Data":
        """The same with other images made of each."""
        learned, tested = (part._replace(images=see(part.images)) for part in (self.learned, self.tested))
        return self._replace(learned=learned, tested=tested)


Halves = tuple[Labelled, Labelled, tuple[str, ...]]


class Set(NamedTuple):
    """A data set.

    Attributes:
        title: as it is called on the page.
        learned, tested: how many images.
        halves: from the folder of all data and a seed to what is learned, what is tested and the names; the seed draws
            what is learned where the makers of the data set do not say.
        front: how target-time features see its images.
    """

    title: str
    learned: int
    tested: int
    halves: Callable[[Path, int], Halves]
    front: Front

    def load(self, root: Path, seed: int) -> Data:
        learned, tested, names = self.halves(root, seed)
        return Data(learned, tested, names, self.front)


# Pictures in folders


def opened(file: Path, size: tuple[int, int] | None = None, mode: str = "RGB") -> Tensor:
    """A picture, of (rows, columns) where they are given, uint8 ``(C, rows, columns)``."""
    with Image.open(file) as picture:
        image = picture.convert(mode)
        if size is not None and size != image.size[::-1]:
            image = image.resize(size[::-1], Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(image))
    return pixels[None] if mode == "L" else pixels.permute(2, 0, 1)


def framed(file: Path, rows: int, columns: int) -> Tensor:
    """A grey picture of that height; the middle of it, or edges that go on, to that width."""
    with Image.open(file) as picture:
        width = round(picture.width * rows / picture.height)
    pixels = opened(file, (rows, width), "L")
    spare = columns - width
    if spare <= 0:
        return pixels[..., -spare // 2 : -spare // 2 + columns]
    return nn.functional.pad(pixels.float(), (spare // 2, spare - spare // 2, 0, 0), mode="replicate").byte()


def folders(root: Path) -> dict[str, list[Path]]:
    """The pictures below each folder, by its name."""
    found = {path.name: sorted(path.rglob("*")) for path in sorted(root.iterdir()) if path.is_dir()}
    return {name: [file for file in files if file.suffix.lower() in SUFFIXES] for name, files in found.items()}


def labelled(files: Sequence[Sequence[Path]], read: Callable[[Path], Tensor]) -> Labelled:
    """Pictures of each class."""
    labels = torch.cat([torch.full((len(some),), label) for label, some in enumerate(files)])
    return Labelled(torch.stack([read(file) for some in files for file in some]), labels)


# The sets


def of_torchvision(kind: Callable[..., MNIST]) -> Callable[[Path, int], Halves]:
    def halves(root: Path, seed: int) -> Halves:
        """28 x 28 grey images, shared out by their makers."""
        parts = [kind(root, train=train) for train in (True, False)]
        learned, tested = (Labelled(part.data[:, None], part.targets) for part in parts)
        return learned, tested, tuple(parts[0].classes)

    return halves


def cifar10_jpeg(root: Path, seed: int) -> Halves:
    """32 x 32 colours, shared out by their makers, in folders train and test."""
    parts = [folders(root / "cifar10_jpeg" / part) for part in ("train", "test")]
    learned, tested = (labelled([*part.values()], opened) for part in parts)
    return learned, tested, tuple(parts[0])


def eth80(root: Path, seed: int) -> Halves:
    """128 x 128 colours, CLASS/OBJECT/VIEW: five objects of each class are learned, the other five tested."""
    random, learned, tested = np.random.default_rng([seed, 0]), [], []
    found = folders(root / "eth80")
    for files in found.values():
        objects = sorted({file.parent for file in files})
        drawn = {objects[i] for i in random.permutation(len(objects))[: len(objects) // 2]}
        learned.append([file for file in files if file.parent in drawn])
        tested.append([file for file in files if file.parent not in drawn])
    return labelled(learned, opened), labelled(tested, opened), tuple(found)


def caltech10(root: Path, seed: int) -> Halves:
    """Ten classes, 30 pictures of each learned and the others tested; all are made 128 x 128."""
    random, learned, tested = np.random.default_rng([seed, 0]), [], []
    found = folders(root / "caltech10")
    for files in found.values():
        order = random.permutation(len(files))
        learned.append([files[i] for i in order[:30]])
        tested.append([files[i] for i in order[30:]])
    learned_, tested_ = (labelled(some, lambda file: opened(file, (128, 128))) for some in (learned, tested))
    return learned_, tested_, tuple(found)


def faces_motorbikes(root: Path, seed: int) -> Halves:
    """Grey, 160 x 240, in folders train and test."""
    parts = [folders(root / "caltech_face_motorbike" / part) for part in ("train", "test")]
    learned, tested = (labelled([*part.values()], lambda file: framed(file, 160, 240)) for part in parts)
    return learned, tested, tuple(parts[0])


def spectrogram(file: Path) -> Tensor:
    """Loudness in 40 bands and 64 frames of a recording without its quiet ends, as a grey picture."""
    with wave.open(str(file)) as recording:
        sound = np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float32)
        loudness = FilterBank(recording.getframerate(), 40, span=40)(torch.from_numpy(sound).view(1, 1, -1))
    heard = (loudness.amax((0, 1)) > 0.4).nonzero().flatten().tolist() or [0]
    spoken = loudness[None, ..., heard[0] : heard[-1] + 1]
    stretched = nn.functional.interpolate(spoken, (40, 64), mode="bilinear", align_corners=False)[0]
    return (255 * stretched).round().byte()


def spoken_digits(root: Path, seed: int) -> Halves:
    """Recordings DIGIT_SPEAKER_NUMBER.wav: as their makers say, numbers 0 to 4 of each digit and speaker are tested."""
    files = sorted((root / "spoken_digits").glob("*.wav"))

    def part(tested: bool) -> Iterator[list[Path]]:
        for digit in DIGITS:
            own = [file for file in files if file.stem.startswith(f"{digit}_")]
            yield [file for file in own if (int(file.stem.rpartition("_")[2]) < 5) == tested]

    return labelled([*part(False)], spectrogram), labelled([*part(True)], spectrogram), DIGITS


#: by name, the cheapest first
SETS = {
    "faces_motorbikes": Set("faces / motorbikes", 400, 396, faces_motorbikes, fronts.CONTOURS),
    "caltech10": Set("Caltech, 10 classes", 300, 2744, caltech10, fronts.CONTOURS),
    "spoken_digits": Set("spoken digits", 2700, 300, spoken_digits, fronts.SPOTS._replace(parts=(6, 8))),
    "eth80": Set("ETH-80", 1640, 1640, eth80, fronts.CONTOURS),
    "mnist": Set("MNIST", 60_000, 10_000, of_torchvision(MNIST), fronts.SPOTS),
    "fashion_mnist": Set("Fashion-MNIST", 60_000, 10_000, of_torchvision(FashionMNIST), fronts.SPOTS),
    "cifar10_jpeg": Set("CIFAR-10 (JPEG copies)", 50_000, 10_000, cifar10_jpeg, fronts.COLOURS),
}
