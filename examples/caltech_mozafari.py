"""Tell two kinds of objects apart by reward, without gradients: the shallow network of Mozafari et al. 2018.

    python examples/caltech_mozafari.py --data DIR             # DIR/train/CLASS/*.jpg and DIR/test/CLASS/*.jpg
    python examples/caltech_mozafari.py --data DIR             # or DIR/CLASS/*.png: half of each class is the test
    python examples/caltech_mozafari.py --data DIR --height 112 --width 112  # for objects that fill a square image
    python examples/caltech_mozafari.py --data DIR --caltech   # faces and motorbikes of Caltech101, by torchvision
    python examples/caltech_mozafari.py --data DIR --evaluate  # the weights that are shipped: faces, motorbikes

Edges of four orientations spike in the order of their strength; ten neurons stand for each class, and the one with
the largest potential decides. Right decisions are rewarded, wrong ones punished, both less and less; seven of ten
neurons sit out each image, chosen anew, so that all of them learn.
"""

import argparse
import sys
from pathlib import Path

import common
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spyketorch import models
from spyketorch.training import Adaptive, Combined, Fading, Reinforced

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".ppm"}


def read(path: Path, height: int, width: int) -> Tensor:
    """A grey image of that height; the middle of it, or edges that go on, to that width; values 0..1."""
    image = Image.open(path).convert("L")
    image = image.resize((round(image.width * height / image.height), height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32) / 255
    spare = width - pixels.shape[1]
    if spare < 0:
        pixels = pixels[:, -spare // 2 : -spare // 2 + width]
    else:
        pixels = np.pad(pixels, ((0, 0), (spare // 2, spare - spare // 2)), mode="edge")
    return torch.from_numpy(pixels.copy())


def folders(options: argparse.Namespace, train: bool) -> list[list[Path]]:
    """Files of each of the two classes, for training or for the test."""
    root: Path = options.data
    if options.caltech:
        from torchvision.datasets import Caltech101

        try:
            Caltech101(root, download=True)
        except (OSError, RuntimeError) as error:
            sys.exit(f"Caltech101 is not in {str(root)!r} and could not be downloaded: {error}")
        root, names = root / "caltech101" / "101_ObjectCategories", ["Faces_easy", "Motorbikes"]
    else:
        fixed = (root / "train").is_dir()
        root = root / ("train" if train else "test") if fixed else root
        names = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    if len(names) != 2:
        sys.exit(f"{str(root)!r} should hold a folder for each of two classes; it holds {names or 'none'}")
    files = [sorted(f for f in (root / name).iterdir() if f.suffix.lower() in SUFFIXES) for name in names]
    for name, some in zip(names, files, strict=True):
        if not some:
            sys.exit(f"{str(root / name)!r} holds no images ({', '.join(sorted(SUFFIXES))})")
    if options.caltech or not (options.data / "train").is_dir():  # halves, the same for every seed
        orders = [np.random.default_rng(0).permutation(len(f)) for f in files]
        files = [
            [f[i] for i in (o[: len(f) // 2] if train else o[len(f) // 2 :])]
            for f, o in zip(files, orders, strict=True)
        ]
    return files


def load(options: argparse.Namespace, train: bool) -> common.Data:
    files = [some[: options.limit and -(-options.limit // 2)] for some in folders(options, train)]
    images = torch.stack([read(file, options.height, options.width) for some in files for file in some])
    labels = torch.cat([torch.full((len(some),), label) for label, some in enumerate(files)])
    return images[:, None], labels


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--caltech", action="store_true", help="download Caltech101 and take its faces and motorbikes")
    parser.add_argument("--height", type=common.at_least(1), default=160, help="images are scaled to (default 160)")
    parser.add_argument("--width", type=common.at_least(1), default=240, help="and cut or filled up to (default 240)")
    parser.add_argument("--epochs", type=common.at_least(1), default=60, help="(default 60)")
    options = parser.parse_args()
    lesson = Reinforced(
        reward=(0.05, -0.02),
        punishment=(-0.05, 0.005),
        schedule=Combined((Adaptive(), Fading(0))),
        dropout=0.7,
        epochs=options.epochs,
        period=80,
    )
    names = [files[0].parent.name for files in folders(options, False)]
    common.run("caltech_mozafari", models.mozafari2018, [lesson], load, names, options)


if __name__ == "__main__":
    main()
