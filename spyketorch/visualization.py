"""Pictures of what a network sees, learns and decides. matplotlib is imported when something is first drawn.

Each ``plot_`` function gives back its figure and shows nothing by itself: a notebook shows the figure that a cell ends
with, ``figure.savefig("name.png")`` writes it. With ``ax`` it draws into axes of your own, as of ``pyplot.subplots``.
Colours can be told apart by the colour-blind, and in grey.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch._deep_features import ReceptiveField as ReceptiveField
from spyketorch._deep_features import get_deep_feature as get_deep_feature
from spyketorch._deep_features import get_deep_receptive_field as get_deep_receptive_field
from spyketorch._deep_features import get_network_features as get_network_features
from spyketorch._deep_features import get_receptive_field as get_receptive_field
from spyketorch._mean_stimuli import get_mean_stimuli as get_mean_stimuli
from spyketorch.training._diagnosis import convergence

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

_Pair = tuple[int, int]
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999")  # Okabe and Ito 2008
_PICTURES = ("png", "jpg", "jpeg", "tif", "tiff", "bmp", "gif", "webp", "pdf", "ps", "eps", "svg")
_MOST_BINS = 10_000  # more than there are pixels
_SILENT = "white"  # brighter than the earliest spike; the latest is the darkest


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('drawing needs matplotlib: pip install "spyketorch[examples]"') from error
    return pyplot


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


def show_tensor(aTensor: Tensor, _vmin: float | None = None, _vmax: float | None = None) -> None:
    """Show a two-dimensional tensor as a grey image with a colour bar, in a window or a notebook.

    Without a screen (matplotlib's Agg backend) the figure is drawn and stays open for ``pyplot.savefig``.

    Args:
        aTensor: ``(rows, columns)``, on any device; leading axes of size 1 are dropped.
        _vmin, _vmax: values shown as black and white; None takes the smallest and largest.
    """
    values, drawing = _grey(aTensor, _vmin, _vmax)
    pyplot = _pyplot()
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
    _pyplot()
    from matplotlib.image import imsave

    kind = path.suffix[1:].lower() or "png"
    if not path.name or kind not in _PICTURES:
        raise check.fail("fname", f"a file name that ends in one of {', '.join(_PICTURES)}", str(fname))
    imsave(path.with_suffix(path.suffix or ".png"), values, format="tiff" if kind == "tif" else kind, **drawing)


# first spikes


def plot_times(
    spikes: Tensor, *, time_steps: int | None = None, columns: int = 8, title: str | None = None, ax: Any = None
) -> "Figure":
    """Map of first-spike times, a tile per feature: bright where spikes come early, dark where late, white where none.

    Args:
        spikes: of one stimulus: a spike wave ``(T, C, H, W)``, or first-spike times ``(C, H, W)`` with ``time_steps``.
        time_steps: T, where ``spikes`` are times.
        columns: tiles in a row.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> from spyketorch import models
        >>> times = models.mozafari2019().encoder(torch.rand(1, 28, 28) * 255)
        >>> plot_times(times, time_steps=15).savefig("times.png")  # doctest: +SKIP
    """
    times, steps = _one_stimulus(spikes, time_steps)
    labels = [str(feature) for feature in range(len(times))] if len(times) > 1 else []
    return _figure(_draw_times(times, steps, columns, labels, title, ax).axes)


def plot_wave(
    spikes: Tensor, *, time_steps: int | None = None, columns: int = 8, title: str | None = None, ax: Any = None
) -> "Figure":
    """The wave as a strip, one frame per time step: what has fired by then, in the colours of :func:`plot_times`.

    Where several features see one place, the first of them to fire is shown; ``spikes[:, 2:3]`` of a wave, or
    ``spikes[2:3]`` of times, is one feature alone.

    Args:
        spikes, time_steps, title, ax: as for :func:`plot_times`.
        columns: frames in a row.

    Example:
        >>> plot_wave(torch.tensor([[[0, 1, 2, 3]]]), time_steps=3).savefig("wave.png")  # doctest: +SKIP
    """
    times, steps = _one_stimulus(spikes, time_steps)
    frames = torch.stack([_fired_by(times, step, steps) for step in range(steps)])
    labels = [f"t = {step}" for step in range(steps)]
    return _figure(_draw_times(frames, steps, columns, labels, title, ax).axes)


def animate_wave(
    spikes: Tensor, *, time_steps: int | None = None, interval: int = 200, title: str | None = None, ax: Any = None
) -> "FuncAnimation":
    """The wave as an animation, one frame per time step as of :func:`plot_wave`.

    Args:
        spikes, time_steps, title, ax: as for :func:`plot_times`.
        interval: milliseconds between frames.

    Returns:
        An animation: ``.save("wave.gif", writer="pillow")`` writes it, ``IPython.display.HTML(animation.to_jshtml())``
        shows it in a notebook.

    Example:
        >>> times = torch.tensor([[[0, 1, 2, 3]]])
        >>> animate_wave(times, time_steps=3).save("wave.gif", writer="pillow")  # doctest: +SKIP
    """
    times, steps = _one_stimulus(spikes, time_steps)
    pause = check.integer(interval, "interval", 1)
    image = _draw_times(_fired_by(times, 0, steps)[None], steps, 1, [], None, ax)
    prefix = f"{title}, " if _title(title) else ""

    def show(step: int) -> tuple[Any]:
        image.set_data(_fired_by(times, step, steps).float().numpy())
        image.axes.set_title(f"{prefix}t = {step}")
        return (image,)

    show(0)
    from matplotlib.animation import FuncAnimation

    return FuncAnimation(_figure(image.axes), show, frames=steps, interval=pause)


def _one_stimulus(spikes: Tensor, time_steps: int | None) -> tuple[Tensor, int]:
    """First-spike times (C, H, W) of one stimulus, and how many steps there are."""
    accepted = "of one stimulus: a wave (T, C, H, W), or first-spike times (C, H, W) with `time_steps`"
    if check.tensor(spikes, "spikes").ndim != (4 if time_steps is None else 3) or 0 in spikes.shape:
        raise check.fail("spikes", accepted, spikes)
    spikes = spikes.detach().cpu()
    if time_steps is None:
        with check.validation():
            return latency.from_wave(check.spikes(spikes, "spikes")), len(spikes)
    steps = check.steps(time_steps)
    if not 0 <= int(check.times(spikes, "spikes").min()) <= int(spikes.max()) <= steps:
        raise check.fail("spikes", f"first-spike times of 0 to {steps}, the `time_steps`", spikes)
    return spikes.int(), steps


def _fired_by(times: Tensor, step: int, steps: int) -> Tensor:
    first = times.amin(0)
    return torch.where(first <= step, first, steps)


def _draw_times(maps: Tensor, steps: int, columns: int, labels: Sequence[str], title: str | None, ax: Any) -> Any:
    """Maps of times as tiles, with a colour bar; gives the image artist."""
    _pyplot()
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    by_step = ListedColormap(colormaps["viridis"](torch.linspace(0.85, 0, steps).numpy()))
    colours = by_step.with_extremes(over=_SILENT, bad=(0, 0, 0, 0))
    image = _tiles(maps, columns, labels, ax, margin=1.1, cmap=colours, vmin=-0.5, vmax=steps - 0.5)
    for corner in _corners(maps, columns, labels):
        _outline(image.axes, corner, (maps.shape[2], maps.shape[1]), "0.6")
    image.axes.set_title(_title(title))
    bar = image.axes.figure.colorbar(
        image,
        ax=image.axes,
        location="bottom",
        shrink=0.7,
        aspect=30,
        ticks=range(0, steps, -(-steps // 5)),
        label="time step of the first spike",
        extend="max",
        extendfrac=0.1,
        extendrect=True,
    )
    bar.ax.annotate("silent", (1.05, 0), (0, -7), "axes fraction", "offset points", ha="center", va="top")
    return image


# features and winners


def plot_features(features: Tensor, *, columns: int = 10, title: str | None = None, ax: Any = None) -> "Figure":
    """Pictures of features side by side, each from black to white.

    Args:
        features: ``(features, height, width)``, such as of :func:`get_network_features`. Where all look alike, as in a
            layer that decides, ``features - features.mean(0)`` shows what sets each apart.
        columns: pictures in a row.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> plot_features(torch.rand(12, 5, 5)).savefig("features.png")  # doctest: +SKIP
    """
    if check.tensor(features, "features").ndim != 3 or 0 in features.shape:
        raise check.fail("features", "of shape (features, height, width)", features)
    features = features.detach().cpu().float()
    low = features.amin((1, 2), keepdim=True)
    pictures = (features - low) / (features.amax((1, 2), keepdim=True) - low).clamp(min=1e-12)
    image = _tiles(pictures, columns, [], ax, cmap="gray", vmin=0, vmax=1)
    image.axes.set_title(_title(title))
    return _figure(image.axes)


def plot_winners(
    image: Tensor,
    winners: Tensor | Sequence[tuple[int, int, int]],
    field: ReceptiveField,
    *,
    title: str | None = None,
    ax: Any = None,
) -> "Figure":
    """Winners over the image: what each of them sees, with the number of its feature at the centre.

    Args:
        image: ``(H, W)`` or ``(1, H, W)``.
        winners: ``(k, 3)`` rows (feature, row, column), such as of
            :meth:`spyketorch.snn.SpikingConvolution.winners`, in which rows of -1 are none; or a list of such triples.
        field: where their layer looks, see :func:`get_receptive_field`.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> from spyketorch import models
        >>> network, image = models.mozafari2019(), torch.rand(1, 28, 28) * 255
        >>> winners = network.stages[0].layer.winners(network.encoder(image), kwta=5, inhibition_radius=3)
        >>> plot_winners(image, winners, get_receptive_field(network, 0)).savefig("winners.png")  # doctest: +SKIP
    """
    if check.tensor(image, "image").ndim not in (2, 3) or image.shape[:-2].numel() != 1:
        raise check.fail("image", "of shape (H, W) or (1, H, W)", image)
    if not isinstance(field, ReceptiveField):
        raise check.fail_type("field", "a visualization.ReceptiveField", field)
    rows = _winner_rows(winners)
    features, corners = rows[:, 0], torch.tensor(field.start) + rows[:, 1:] * torch.tensor(field.stride)
    height, width = image.shape[-2:]
    ax = _axes(ax, (4.5, 4.5 * height / width))
    ax.imshow(image.detach().cpu().reshape(height, width).double().numpy(), cmap="gray")
    colours = {feature: _COLOURS[i % len(_COLOURS)] for i, feature in enumerate(dict.fromkeys(features.tolist()))}
    labels: dict[tuple[float, float], list[int]] = {}  # winners of one place share theirs
    for feature, (top, left) in zip(features.tolist(), corners.tolist(), strict=True):
        _outline(ax, (left, top), field.size[::-1], colours[feature], (width, height))
        labels.setdefault((left + (field.size[1] - 1) / 2, top + (field.size[0] - 1) / 2), []).append(feature)
    for centre, here in labels.items():
        box = {"facecolor": "white", "edgecolor": colours[here[0]], "boxstyle": "round,pad=0.2", "linewidth": 2}
        ax.text(*centre, ", ".join(map(str, here)), fontsize="small", ha="center", va="center", bbox=box, clip_on=True)
    ax.set(xticks=[], yticks=[], title=_title(title), xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return _figure(ax)


def _winner_rows(winners: Tensor | Sequence[tuple[int, int, int]]) -> Tensor:
    accepted = "of one image: (k, 3) integers, or a list of (feature, row, column)"
    if not isinstance(winners, Tensor):
        if not isinstance(winners, Sequence):
            raise check.fail_type("winners", accepted, winners)
        if any(not isinstance(winner, Sequence) or len(winner) != 3 for winner in winners):
            raise check.fail("winners", accepted, winners)
        winners = torch.tensor([*winners]).reshape(-1, 3)
    if winners.shape[1:] != (3,) or (len(winners) and winners.is_floating_point()):
        raise check.fail("winners", accepted, winners)
    return winners[winners[:, 0] >= 0].cpu()


# learning


def plot_weights(
    weights: Tensor | Mapping[str, Tensor],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    bins: int = 50,
    title: str | None = None,
    ax: Any = None,
) -> "Figure":
    """Histogram of weights, with their convergence: 0.25 where all are undecided, 0 where each is on a bound.

    Args:
        weights: a tensor; or several by name, such as ``{"before": ..., "after": ...}``, one over the other.
        bounds: of the learning rule, between which convergence is measured; see
            :class:`spyketorch.training.Report`.
        bins: of the histogram.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> plot_weights(torch.rand(30, 6, 5, 5)).savefig("weights.png")  # doctest: +SKIP
    """
    lower, upper = check.span(bounds, "bounds")
    named = weights if isinstance(weights, Mapping) else {"": weights}
    values = {name: check.weight(weight, "weights") for name, weight in named.items()}
    if not values or any(w.numel() == 0 or w.is_meta or w.layout != torch.strided for w in values.values()):
        raise check.fail("weights", "a tensor, or several by name, with at least one weight each", weights)
    values = {name: weight.cpu().double() for name, weight in values.items()}
    low = min(lower, *(float(weight.min()) for weight in values.values()))
    high = max(upper, *(float(weight.max()) for weight in values.values()))
    if check.integer(bins, "bins", 1) > _MOST_BINS:
        raise check.fail("bins", f"at most {_MOST_BINS}", bins)
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    ax = _axes(ax, (6, 3.6))
    for i, (name, weight) in enumerate(values.items()):
        check.finite(weight, "weights")
        share = torch.histogram(weight.flatten(), edges).hist / weight.numel()
        label = f"{name}{': ' if name else ''}convergence {convergence(weight, (lower, upper)):.3f}"
        colour = _COLOURS[i % len(_COLOURS)]
        ax.stairs(share.numpy(), edges.numpy(), fill=True, alpha=0.25, color=colour)
        ax.stairs(share.numpy(), edges.numpy(), linewidth=1.5, color=colour, label=label)
    ax.set(xlabel="weight", ylabel="share of weights", title=_title(title))
    ax.legend()
    return _figure(ax)


def plot_confusion(
    confusion: Tensor, names: Sequence[str] | None = None, *, title: str | None = None, ax: Any = None
) -> "Figure":
    """How often each class was taken for which.

    Args:
        confusion: ``(classes, classes)`` or, with a last column for silence, ``(classes, classes + 1)``, as of
            :attr:`spyketorch.training.Evaluation.confusion`.
        names: of the classes; None counts them from 0.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> plot_confusion(torch.tensor([[9, 1, 0], [2, 8, 0]])).savefig("confusion.png")  # doctest: +SKIP
    """
    if check.tensor(confusion, "confusion").ndim != 2 or not 0 <= confusion.shape[1] - confusion.shape[0] <= 1:
        raise check.fail("confusion", "of shape (classes, classes) or (classes, classes + 1)", confusion)
    labels = [str(i) for i in range(len(confusion))] if names is None else names
    if not isinstance(labels, Sequence) or len(labels) != len(confusion):
        raise check.fail("names", f"one per class, {len(confusion)}", names)
    confusion = confusion.detach().cpu()
    shade = (confusion / confusion.sum(1, keepdim=True).clamp(min=1)).sqrt()  # the root makes rare mistakes visible
    ax = _axes(ax, (5, 5))
    ax.imshow(shade.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, counts in enumerate(confusion.tolist()):
        for column, count in enumerate(counts):
            colour = "white" if shade[row, column] > 0.6 else "black"
            ax.text(column, row, str(count or ""), ha="center", va="center", color=colour, size="small")
    ax.set(xlabel="decision", ylabel="class", title=_title(title))
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xticks(range(confusion.shape[1]), [*labels, "silent"][: confusion.shape[1]])
    return _figure(ax)


def plot_history(
    history: Sequence[Mapping[str, float]] | str | os.PathLike[str], *, title: str | None = None, ax: Any = None
) -> "Figure":
    """Learning curves against images seen: share of right decisions of a layer that decides, else convergence.

    Where images of a period stayed silent, their share is shown too.

    Args:
        history: of a :class:`spyketorch.training.Trainer`, or the path of its checkpoint.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure. Convergence gets axes on the right where both are drawn.

    Example:
        >>> rows = [{"layer": 1, "seen": n, "hits": 0, "silent": 0, "convergence": 0.2 - n / 9000} for n in (500, 1000)]
        >>> plot_history(rows).savefig("curves.png")  # doctest: +SKIP
    """
    rows = _read_history(history) if isinstance(history, str | os.PathLike) else history
    if not isinstance(rows, Sequence) or not rows or not all(map(_is_period, rows)):
        raise check.fail("history", "the periods of a Trainer, at least one", history)
    curves = list(_curves(rows))
    ax = _axes(ax, (6.5, 4))
    kinds = [kind for kind in ("share of images", "convergence") if any(curve[0] == kind for curve in curves)]
    axes = dict(zip(kinds, (ax, ax.twinx()) if len(kinds) == 2 else (ax,), strict=True))
    lines = []
    for kind, label, colour, style, seen, values in curves:
        lines += axes[kind].plot(seen, values, style, color=colour, label=label, markersize=3)
    for kind, part in axes.items():
        part.set(ylabel=kind, ylim=(0, 1.03 if kind == "share of images" else None))
    ax.set(xlabel="images seen", title=_title(title), xscale="log")
    ax.grid(alpha=0.3)
    ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
    return _figure(ax)


def _is_period(row: Any) -> bool:
    return isinstance(row, Mapping) and {"layer", "seen", "hits", "silent"} <= row.keys()


def _curves(rows: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, str, str, str, list[float], list[float]]]:
    """Per curve: kind, label, colour, line style, x and y."""
    for i, layer in enumerate(sorted({row["layer"] for row in rows})):
        of_layer = [row for row in rows if row["layer"] == layer]
        seen, colour, name = [row["seen"] for row in of_layer], _COLOURS[i % len(_COLOURS)], f"layer {layer:g}: "
        if any(row["hits"] for row in of_layer) or "convergence" not in of_layer[0]:
            yield "share of images", name + "right decisions", colour, "o-", seen, [row["hits"] for row in of_layer]
        else:
            yield "convergence", name + "convergence", colour, "s--", seen, [row["convergence"] for row in of_layer]
        if any(row["silent"] for row in of_layer):
            yield "share of images", name + "silent", colour, "x:", seen, [row["silent"] for row in of_layer]


def _read_history(path: str | os.PathLike[str]) -> list[dict[str, float]]:
    file = check.path(path, "history")
    try:
        rows: list[dict[str, float]] = json.loads(torch.load(file, map_location="cpu", weights_only=True)["history"])
    except FileNotFoundError:
        raise
    except Exception as error:  # torch raises many types for a damaged file
        raise ValueError(f"`history` must be the checkpoint of a Trainer; {str(file)!r} is not: {error}") from error
    return rows


# what all share


def _tiles(pictures: Tensor, columns: int, labels: Sequence[str], ax: Any, *, margin: float = 0.4, **style: Any) -> Any:
    """Draw pictures (n, height, width) side by side, each with its label above, if any; gives the image artist."""
    mosaic = _mosaic(pictures, columns, labels)
    inches = min(max(1.1 * min(columns, len(pictures)), 3.5), 10)
    ax = _axes(ax, (inches, inches * mosaic.shape[0] / mosaic.shape[1] + margin))
    image = ax.imshow(mosaic.numpy(), interpolation="nearest", **style)
    for label, (x, y) in zip(labels, _corners(pictures, columns, labels), strict=False):
        ax.text(x + pictures.shape[2] / 2 - 0.5, y - 0.7, label, ha="center", va="bottom", fontsize="small")
    ax.set_axis_off()
    return image


def _mosaic(pictures: Tensor, columns: int, labels: Sequence[str]) -> Tensor:
    """Pictures (n, height, width) in rows, as one; NaN between and above them."""
    height, width = pictures.shape[1:]
    corners = _corners(pictures, columns, labels)
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    mosaic = torch.full((bottom + height, right + width), torch.nan)
    for picture, (x, y) in zip(pictures, corners, strict=True):
        mosaic[y : y + height, x : x + width] = picture
    return mosaic


def _corners(pictures: Tensor, columns: int, labels: Sequence[str]) -> list[_Pair]:
    """Where (x, y) in the mosaic each picture begins: a gap apart, below room for a label."""
    height, width = pictures.shape[1:]
    gap, top = max(1, width // 25), max(1, round(0.2 * height)) if labels else 0
    columns = check.integer(columns, "columns", 1)
    return [(i % columns * (width + gap), i // columns * (height + gap + top) + top) for i in range(len(pictures))]


def _outline(ax: Any, corner: _Pair, size: _Pair, colour: str, image: _Pair | None = None) -> None:
    """A rectangle of pixels, or the part of it that lies on the image; all pairs are (x, y)."""
    from matplotlib.patches import Rectangle

    low, high = list(corner), [start + length for start, length in zip(corner, size, strict=True)]
    if image is not None:
        low, high = [max(i, 0) for i in low], [min(i, end) for i, end in zip(high, image, strict=True)]
    sides = (high[0] - low[0], high[1] - low[1])
    ax.add_patch(
        Rectangle((low[0] - 0.5, low[1] - 0.5), *sides, fill=False, edgecolor=colour, linewidth=1.2, clip_on=False)
    )


def _axes(ax: Any, size: tuple[float, float]) -> Any:
    """The given axes, or those of a new figure that pyplot made, so that notebooks show it, and does not keep."""
    pyplot = _pyplot()
    if ax is not None:
        if not hasattr(ax, "imshow"):
            raise check.fail_type("ax", "axes of matplotlib, such as of pyplot.subplots, or None", ax)
        return ax
    pyplot.draw_if_interactive()  # loads the backend, which in a notebook turns on what ioff turns off for a moment
    with pyplot.ioff():
        figure = pyplot.figure(figsize=size, layout="constrained")
    pyplot.close(figure)
    return figure.subplots()


def _title(title: str | None) -> str:
    if not isinstance(title, str | None):
        raise check.fail_type("title", "a text, or None", title)
    return title or ""


def _figure(ax: Any) -> "Figure":
    figure: Figure = ax.figure.figure  # of a subfigure, the whole one
    return figure
