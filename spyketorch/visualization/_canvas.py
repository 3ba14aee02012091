"""What all pictures are drawn on: axes, tiles side by side, frames, titles."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_Pair = tuple[int, int]

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")  # Okabe and Ito 2008


def pyplot_module() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('drawing needs matplotlib: pip install "spyketorch[examples]"') from error
    return pyplot


def tiles(pictures: Tensor, columns: int, labels: Sequence[str], ax: Any, *, margin: float = 0.4, **style: Any) -> Any:
    """Draw pictures side by side, each with its label above, if any; gives the image artist.

    Pictures are (n, height, width), or (n, height, width, 3) in colour.
    """
    mosaic = _mosaic(pictures, columns, labels)
    inches = min(max(1.1 * min(columns, len(pictures)), 3.5), 10)
    ax = canvas(ax, (inches, inches * mosaic.shape[0] / mosaic.shape[1] + margin))
    image = ax.imshow(mosaic.numpy(), interpolation="nearest", **style)
    for label, (x, y) in zip(labels, corners_of(pictures, columns, labels), strict=False):
        ax.text(x + pictures.shape[2] / 2 - 0.5, y - 0.7, label, ha="center", va="bottom", fontsize="small")
    ax.set_axis_off()
    return image


def _mosaic(pictures: Tensor, columns: int, labels: Sequence[str]) -> Tensor:
    """Pictures in rows, as one; between and above them NaN or, in colour, white."""
    height, width, *colours = pictures.shape[1:]
    corners = corners_of(pictures, columns, labels)
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    mosaic = torch.full((bottom + height, right + width, *colours), 1.0 if colours else torch.nan)
    for picture, (x, y) in zip(pictures, corners, strict=True):
        mosaic[y : y + height, x : x + width] = picture
    return mosaic


def corners_of(pictures: Tensor, columns: int, labels: Sequence[str]) -> list[_Pair]:
    """Where (x, y) in the mosaic each picture begins: a gap apart, below room for a label."""
    height, width = pictures.shape[1:3]
    gap, top = max(1, width // 25), max(1, round(0.2 * height)) if labels else 0
    columns = check.integer(columns, "columns", 1)
    return [(i % columns * (width + gap), i // columns * (height + gap + top) + top) for i in range(len(pictures))]


def outline(ax: Any, corner: _Pair, size: _Pair, colour: str, image: _Pair | None = None) -> None:
    """A rectangle of pixels, or the part of it that lies on the image; all pairs are (x, y)."""
    from matplotlib.patches import Rectangle

    low, high = list(corner), [start + length for start, length in zip(corner, size, strict=True)]
    if image is not None:
        low, high = [max(i, 0) for i in low], [min(i, end) for i, end in zip(high, image, strict=True)]
    sides = (high[0] - low[0], high[1] - low[1])
    ax.add_patch(
        Rectangle((low[0] - 0.5, low[1] - 0.5), *sides, fill=False, edgecolor=colour, linewidth=1.2, clip_on=False)
    )


def canvas(ax: Any, size: tuple[float, float]) -> Any:
    """The given axes, or those of a new figure that pyplot made, so that notebooks show it, and does not keep."""
    pyplot = pyplot_module()
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise check.fail_type("ax", "axes of matplotlib, such as of pyplot.subplots, or None", ax)
        return ax
    pyplot.draw_if_interactive()  # loads the backend, which in a notebook turns on what ioff turns off for a moment
    with pyplot.ioff():
        figure = pyplot.figure(figsize=size, layout="constrained")
    pyplot.close(figure)
    return figure.subplots()


def titled(title: str | None) -> str:
    if not isinstance(title, str | None):
        raise check.fail_type("title", "a text, or None", title)
    return title or ""


def figure_of(ax: Any) -> "Figure":
    figure: Figure = ax.figure.figure  # of a subfigure, the whole one
    return figure
