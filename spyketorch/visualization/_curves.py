"""How learning went: weights, decisions, the history of a training."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch.training._diagnosis import convergence
from spyketorch.training._evaluation import Evaluation
from spyketorch.visualization._canvas import (
    COLOURS,
    canvas,
    figure_of,
    titled,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_BINS = 10_000  # more than there are pixels


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
    ax = canvas(ax, (6, 3.6))
    for i, (name, weight) in enumerate(values.items()):
        check.finite(weight, "weights")
        share = torch.histogram(weight.flatten(), edges).hist / weight.numel()
        label = f"{name}{': ' if name else ''}convergence {convergence(weight, (lower, upper)):.3f}"
        colour = COLOURS[i % len(COLOURS)]
        ax.stairs(share.numpy(), edges.numpy(), fill=True, alpha=0.25, color=colour)
        ax.stairs(share.numpy(), edges.numpy(), linewidth=1.5, color=colour, label=label)
    ax.set(xlabel="weight", ylabel="share of weights", title=titled(title))
    ax.legend()
    return figure_of(ax)


def plot_confusion(
    confusion: Tensor | Evaluation, names: Sequence[str] | None = None, *, title: str | None = None, ax: Any = None
) -> "Figure":
    """How often each class was taken for which.

    Args:
        confusion: a :class:`spyketorch.training.Evaluation`; or a tensor ``(classes, classes)`` or, with a last column
            for silence, ``(classes, classes + 1)``.
        names: of the classes; None takes those of the evaluation, or counts them from 0.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> plot_confusion(torch.tensor([[9, 1, 0], [2, 8, 0]])).savefig("confusion.png")  # doctest: +SKIP
    """
    if isinstance(confusion, Evaluation):
        named = [str(confusion._name(label)) for label in range(len(confusion.confusion))]
        confusion, names = confusion.confusion, named if names is None else names
    if check.tensor(confusion, "confusion").ndim != 2 or not 0 <= confusion.shape[1] - confusion.shape[0] <= 1:
        raise check.fail("confusion", "of shape (classes, classes) or (classes, classes + 1)", confusion)
    labels = [str(i) for i in range(len(confusion))] if names is None else names
    if not isinstance(labels, Sequence) or len(labels) != len(confusion):
        raise check.fail("names", f"one per class, {len(confusion)}", names)
    confusion = confusion.detach().cpu()
    shade = (confusion / confusion.sum(1, keepdim=True).clamp(min=1)).sqrt()  # the root makes rare mistakes visible
    ax = canvas(ax, (max(5, 0.45 * len(confusion)),) * 2)
    ax.imshow(shade.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, counts in enumerate(confusion.tolist()):
        for column, count in enumerate(counts):
            colour = "white" if shade[row, column] > 0.6 else "black"
            ax.text(column, row, str(count or ""), ha="center", va="center", color=colour, size="small")
    ax.set(xlabel="decision", ylabel="class", title=titled(title))
    ax.set_yticks(range(len(labels)), labels)
    columns = [*labels, "silent"][: confusion.shape[1]]
    long = max(len(str(label)) for label in columns) * len(columns) > 50  # they would run into one another
    ax.set_xticks(range(len(columns)), columns, rotation=90 if long else 0)
    return figure_of(ax)


def plot_history(
    history: Sequence[Mapping[str, float]] | str | os.PathLike[str], *, title: str | None = None, ax: Any = None
) -> "Figure":
    """Learning curves against images seen: share of right decisions of a layer that decides, else convergence, or
    where the thresholds follow the answers the share of images that had none though much was heard.

    Where images of a period stayed silent, their share is shown too; of a read-out that had images put aside, right
    decisions on these.

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
    ax = canvas(ax, (6.5, 4))
    kinds = [kind for kind in ("share of images", "convergence") if any(curve[0] == kind for curve in curves)]
    axes = dict(zip(kinds, (ax, ax.twinx()) if len(kinds) == 2 else (ax,), strict=True))
    lines = []
    for kind, label, colour, style, seen, values in curves:
        lines += axes[kind].plot(seen, values, style, color=colour, label=label, markersize=3)
    for kind, part in axes.items():
        part.set(ylabel=kind, ylim=(0, 1.03 if kind == "share of images" else None))
    ax.set(xlabel="images seen", title=titled(title), xscale="log")
    ax.grid(alpha=0.3)
    ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
    return figure_of(ax)


def _is_period(row: Any) -> bool:
    return isinstance(row, Mapping) and {"layer", "seen", "hits", "silent"} <= row.keys()


def _curves(rows: Sequence[Mapping[str, float]]) -> Iterator[tuple[str, str, str, str, list[float], list[float]]]:
    """Per curve: kind, label, colour, line style, x and y."""
    for i, layer in enumerate(sorted({row["layer"] for row in rows})):
        of_layer = [row for row in rows if row["layer"] == layer]
        seen, colour = [row["seen"] for row in of_layer], COLOURS[i % len(COLOURS)]
        name = "read-out: " if "pass" in of_layer[0] else f"layer {layer:g}: "
        if any(row["hits"] for row in of_layer) or not of_layer[0].keys() & {"convergence", "unanswered"}:
            yield "share of images", name + "right decisions", colour, "o-", seen, [row["hits"] for row in of_layer]
        elif "convergence" in of_layer[0]:
            yield "convergence", name + "convergence", colour, "s--", seen, [row["convergence"] for row in of_layer]
        else:
            yield "share of images", name + "unanswered", colour, "s--", seen, [row["unanswered"] for row in of_layer]
        if "held_out" in of_layer[0]:
            held_out = [row["held_out"] for row in of_layer]
            yield "share of images", name + "right of held-out images", colour, "D--", seen, held_out
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
