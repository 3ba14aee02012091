"""Draw pictures of eight shapes, a folder for each: something to learn where there are no pictures at hand.

python examples/shapes.py FOLDER --count 120
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Corners = list[tuple[float, float]]


def _around(corners: int, radius: float = 1.0, right: float = 0.0) -> Corners:
    """Corners of a regular polygon, the first on top."""
    angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
    return [(radius * float(np.cos(a)) + right, radius * float(np.sin(a))) for a in angles]


def _star() -> Corners:
    return [corner for pair in zip(_around(5, 1.1), _around(10, 0.45)[1::2], strict=True) for corner in pair]


def _heart() -> Corners:
    a = 2 * np.pi * np.arange(60) / 60
    down = (5 * np.cos(2 * a) + 2 * np.cos(3 * a) + np.cos(4 * a) - 13 * np.cos(a)) / 16
    return list(zip((np.sin(a) ** 3).tolist(), down.tolist(), strict=True))


def _cross() -> Corners:
    w = 0.33
    arm: Corners = [(-w, -1), (w, -1), (w, -w)]
    turned = []
    for _ in range(4):
        turned += arm
        arm = [(-y, x) for x, y in arm]
    return turned


#: what is filled, and what is cut out of it again; about 1 in size, x to the right, y down
SHAPES: dict[str, tuple[Corners, Corners]] = {
    "circle": (_around(60), []),
    "cross": (_cross(), []),
    "heart": (_heart(), []),
    "moon": (_around(60), _around(60, 0.85, 0.45)),
    "ring": (_around(60), _around(60, 0.6)),
    "square": ([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)], []),
    "star": (_star(), []),
    "triangle": ([(0, -1.05), (0.95, 0.75), (-0.95, 0.75)], []),
}


def picture(name: str, random: np.random.Generator) -> Image.Image:
    """A shape; size, place, tilt, colours and grain come by chance, and a quarter of the pictures is grey."""
    side = int(random.integers(48, 97))
    colours = random.integers(0, 256, (2, 3))
    while abs((colours[0] - colours[1]) @ (0.3, 0.59, 0.11)) < 60:  # to be told from its ground without colours
        colours = random.integers(0, 256, (2, 3))
    ground, fill = (tuple(colour) for colour in colours.tolist())
    size, tilt = 4 * side * random.uniform(0.22, 0.38), np.radians(random.uniform(-30, 30))
    centre = 2 * side + random.uniform(-1, 1, 2) * (2 * side - 1.1 * size) * 0.7
    turn = size * np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    large = Image.new("RGB", (4 * side, 4 * side), ground)
    for corners, colour in zip(SHAPES[name], (fill, ground), strict=True):
        if corners:
            ImageDraw.Draw(large).polygon([tuple(c) for c in (np.array(corners) @ turn + centre).tolist()], fill=colour)
    pixels = np.asarray(large.resize((side, side), Image.Resampling.LANCZOS), np.float64)
    pixels = pixels + random.normal(0, random.uniform(2, 16), pixels.shape)
    drawn = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return drawn.convert("L") if random.random() < 0.25 else drawn


def draw(folder: Path, count: int, seed: int = 0) -> None:
    """``count`` pictures of each shape into folders of their names; the same for the same seed."""
    for number, name in enumerate(SHAPES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            random = np.random.default_rng([seed, number, index])
            picture(name, random).save(folder / name / f"{name}{index:04}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="is made; pictures in it of the same names are drawn anew")
    parser.add_argument("--count", type=int, default=120, help="pictures of each shape (default 120)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw(options.folder, options.count, options.seed)


if __name__ == "__main__":
    main()
