"""Pictures of spikes: when neurons fire, and who wins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch import latency
from spyketorch.visualization._canvas import (
    COLOURS,
    canvas,
    corners_of,
    figure_of,
    outline,
    pyplot_module,
    tiles,
    titled,
)
from spyketorch.visualization._receptive_fields import ReceptiveField

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.figure import Figure

_SILENT = "white"  # brighter than the earliest spike; the latest is the darkest


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
    return figure_of(_draw_times(times, steps, columns, labels, title, ax).axes)


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
    return figure_of(_draw_times(frames, steps, columns, labels, title, ax).axes)


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
    prefix = f"{title}, " if titled(title) else ""

    def show(step: int) -> tuple[Any]:
        image.set_data(_fired_by(times, step, steps).float().numpy())
        image.axes.set_title(f"{prefix}t = {step}")
        return (image,)

    show(0)
    from matplotlib.animation import FuncAnimation

    return FuncAnimation(figure_of(image.axes), show, frames=steps, interval=pause)


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
    pyplot_module()
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    by_step = ListedColormap(colormaps["viridis"](torch.linspace(0.85, 0, steps).numpy()))
    colours = by_step.with_extremes(over=_SILENT, bad=(0, 0, 0, 0))
    image = tiles(maps, columns, labels, ax, margin=1.1, cmap=colours, vmin=-0.5, vmax=steps - 0.5)
    for corner in corners_of(maps, columns, labels):
        outline(image.axes, corner, (maps.shape[2], maps.shape[1]), "0.6")
    image.axes.set_title(titled(title))
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
    ax = canvas(ax, (4.5, 4.5 * height / width))
    ax.imshow(image.detach().cpu().reshape(height, width).double().numpy(), cmap="gray")
    colours = {feature: COLOURS[i % len(COLOURS)] for i, feature in enumerate(dict.fromkeys(features.tolist()))}
    labels: dict[tuple[float, float], list[int]] = {}  # winners of one place share theirs
    for feature, (top, left) in zip(features.tolist(), corners.tolist(), strict=True):
        outline(ax, (left, top), field.size[::-1], colours[feature], (width, height))
        labels.setdefault((left + (field.size[1] - 1) / 2, top + (field.size[0] - 1) / 2), []).append(feature)
    for centre, here in labels.items():
        box = {"facecolor": "white", "edgecolor": colours[here[0]], "boxstyle": "round,pad=0.2", "linewidth": 2}
        ax.text(*centre, ", ".join(map(str, here)), fontsize="small", ha="center", va="center", bbox=box, clip_on=True)
    ax.set(xticks=[], yticks=[], title=titled(title), xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return figure_of(ax)


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
