"""Pictures of features, and of tensors as they are."""

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch.visualization._canvas import figure_of, pyplot_module, tiles, titled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURES = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "pdf", "ps", "eps", "svg")


def show_tensor(aTensor: Tensor, _vmin: float | None = None, _vmax: float | None = None) -> None:
    """Show a two-dimensional tensor as a grey image with a colour bar, in a window or a notebook.

    Without a screen (matplotlib's Agg backend) the figure is drawn and stays open for ``pyplot.savefig``.

    Args:
        aTensor: ``(rows, columns)``, on any device; leading axes of size 1 are dropped.
        _vmin, _vmax: values shown as black and white; None takes the smallest and largest.
    """
    values, drawing = _grey(aTensor, _vmin, _vmax)
    pyplot = pyplot_module()
    figure, axes = pyplot.subplots()
    figure.colorbar(axes.imshow(values, **drawing))
    if pyplot.get_backend().lower() != "agg":
        pyplot.show()


def plot_tensor_in_image(
    fname: str | os.PathLike[str], aTensor: Tensor, _vmin: float | None = None, _vmax: float | None = None
) -> None:
    """Save a two-dimensional tensor as a grey image file, one pixel per value.

    Args:
        fname: the file; its type follows the name's ending (png, jpg, tif, pdf, svg and others), png where it
            has none.
        aTensor, _vmin, _vmax: as for :func:`show_tensor`.

    Raises:
        ValueError: another ending.
    """
    values, drawing = _grey(aTensor, _vmin, _vmax)
    path = check.path(fname, "fname")
    pyplot_module()
    from matplotlib.image import imsave

    kind = path.suffix[1:].lower() or "png"
    if not path.name or kind not in _PICTURES:
        raise check.fail("fname", f"a file name that ends in one of {', '.join(_PICTURES)}", str(fname))
    imsave(path.with_suffix(path.suffix or ".png"), values, format="tiff" if kind == "tif" else kind, **drawing)


def _grey(aTensor: Tensor, _vmin: float | None, _vmax: float | None) -> tuple[Any, dict[str, Any]]:
    """A numpy array (rows, columns), and how matplotlib draws it."""
    if check.tensor(aTensor, "aTensor").ndim < 2 or aTensor.shape[:-2].numel() != 1 or 0 in aTensor.shape:
        raise check.fail("aTensor", "two-dimensional, (rows, columns)", aTensor)
    if aTensor.is_complex():
        raise check.fail_type("aTensor", "real", aTensor)
    check.finite(aTensor, "aTensor")
    values = aTensor.detach().cpu().reshape(aTensor.shape[-2:]).to(torch.float64).numpy()
    low = values.min() if _vmin is None else check.number(_vmin, "_vmin")
    high = values.max() if _vmax is None else check.number(_vmax, "_vmax")
    if low > high:
        raise ValueError(f"`_vmin` must be at most `_vmax`; got {low} and {high}")
    return values, {"cmap": "gray", "vmin": low, "vmax": high}


def plot_features(features: Tensor, *, columns: int = 10, title: str | None = None, ax: Any = None) -> "Figure":
    """Pictures of features side by side, each from black to white.

    Args:
        features: ``(features, height, width)``, such as of :func:`get_network_features`; or in red, green and blue,
            ``(features, 3, height, width)``, of :func:`get_colour_features`. Where all look alike, as in a layer that
            decides, ``features - features.mean(0)`` shows what sets each apart.
        columns: pictures in a row.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> plot_features(torch.rand(12, 5, 5)).savefig("features.png")  # doctest: +SKIP
    """
    colours = check.tensor(features, "features").ndim == 4 and features.shape[1] == 3
    if (features.ndim != 3 and not colours) or 0 in features.shape:
        raise check.fail("features", "of shape (features, height, width) or (features, 3, height, width)", features)
    pictures = shades(features)
    image = tiles(pictures.movedim(1, -1) if colours else pictures, columns, [], ax, cmap="gray", vmin=0, vmax=1)
    image.axes.set_title(titled(title))
    return figure_of(image.axes)


def shades(features: Tensor) -> Tensor:
    """Pictures (features, ...), each from 0, black, to 1, white."""
    features = features.detach().cpu().float()
    axes = tuple(range(1, features.ndim))
    low = features.amin(axes, keepdim=True)
    return (features - low) / (features.amax(axes, keepdim=True) - low).clamp(min=1e-12)
