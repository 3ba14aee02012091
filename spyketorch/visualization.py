"""Pictures of what a network learned. matplotlib is imported when something is first drawn."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.encoding import Filter
from spyketorch.snn import SpikingPooling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from spyketorch.models import Network


def _pyplot() -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError('drawing needs matplotlib: pip install "spyketorch[examples]"') from error
    return pyplot


def _draw(aTensor: Tensor, _vmin: float | None, _vmax: float | None) -> "Figure":
    if check.tensor(aTensor, "aTensor").ndim < 2 or aTensor.shape[:-2].numel() != 1:
        raise check.fail("aTensor", "two-dimensional, (rows, columns)", aTensor)
    image = aTensor.detach().cpu().reshape(aTensor.shape[-2:])
    figure, axes = _pyplot().subplots()
    drawn = axes.imshow(image.to(torch.float64).numpy(), cmap="gray", vmin=_vmin, vmax=_vmax)
    figure.colorbar(drawn)
    return figure  # type: ignore[no-any-return]


def show_tensor(aTensor: Tensor, _vmin: float | None = None, _vmax: float | None = None) -> None:
    """Show a two-dimensional tensor as a grey image with a colour bar, in a window or a notebook.

    Without a screen (matplotlib's Agg backend) the figure is drawn and stays open for ``pyplot.savefig``.

    Args:
        aTensor: ``(rows, columns)``, on any device; leading axes of size 1 are dropped.
        _vmin, _vmax: values shown as black and white; None takes the smallest and largest.
    """
    _draw(aTensor, _vmin, _vmax)
    pyplot = _pyplot()
    if pyplot.get_backend().lower() != "agg":
        pyplot.show()


def plot_tensor_in_image(
    fname: str | os.PathLike[str], aTensor: Tensor, _vmin: float | None = None, _vmax: float | None = None
) -> None:
    """Save the picture of :func:`show_tensor` to a file; its type follows the name's ending."""
    figure = _draw(aTensor, _vmin, _vmax)
    figure.savefig(check.path(fname, "fname"))
    _pyplot().close(figure)


def get_deep_receptive_field(*layers_details: tuple[int, int, int, int]) -> tuple[int, int]:
    """Size in the image of the receptive field of a neuron in a deep layer.

    Args:
        layers_details: one tuple per layer, from the first to the last: (height, width, row stride, column stride).

    Returns:
        (height, width) in pixels.

    Example:
        >>> get_deep_receptive_field((5, 5, 1, 1), (2, 2, 2, 2), (3, 3, 1, 1))
        (10, 10)
    """
    height, width = 1, 1
    for layer in reversed(layers_details):
        if not isinstance(layer, Sequence):
            raise check.fail_type("layers_details", "tuples (height, width, row stride, column stride)", layer)
        if len(layer) != 4:
            raise check.fail("layers_details", "tuples (height, width, row stride, column stride)", layer)
        kernel_height, kernel_width, row_stride, column_stride = (check.integer(i, "layers_details", 1) for i in layer)
        height = kernel_height + (height - 1) * row_stride
        width = kernel_width + (width - 1) * column_stride
    return height, width


def get_deep_feature(
    pre_feature: Tensor,
    feature_stride: tuple[int, int],
    window_size: tuple[int, int],
    stride: tuple[int, int],
    weights: Tensor | None = None,
) -> tuple[Tensor, tuple[int, int]]:
    """Draw the features of a layer through the features of the layer before, one step on the way back to the image.

    Start from the first layer's weights (or image filters) with a stride of (1, 1), and take one step per layer.

    Args:
        pre_feature: pictures of the features of the layer before, ``(C, height, width)``.
        feature_stride: pixels between neighbouring neurons of that layer.
        window_size: (rows, columns) of this layer's window.
        stride: its stride.
        weights: ``(features, C, rows, columns)`` of a convolution; None for pooling, which centres the picture.

    Returns:
        (pictures of this layer's features, pixels between its neighbouring neurons). A convolution adds, at each place
        of its window, the maximum over input features of picture * weight, and cuts the sum off at 0.

    Example:
        >>> feature, stride = get_deep_feature(torch.ones(4, 5, 5), (1, 1), (2, 2), (2, 2))
        >>> feature.shape, stride
        (torch.Size([4, 6, 6]), (2, 2))
    """
    if check.tensor(pre_feature, "pre_feature").ndim != 3:
        raise check.fail("pre_feature", "of shape (C, height, width)", pre_feature)
    step, window, layer_stride = (
        check.pair(value, name, 1)
        for value, name in ((feature_stride, "feature_stride"), (window_size, "window_size"), (stride, "stride"))
    )
    channels, height, width = pre_feature.shape
    new_height, new_width = (s + (w - 1) * d for s, w, d in zip((height, width), window, step, strict=True))
    new_stride = (step[0] * layer_stride[0], step[1] * layer_stride[1])
    if weights is None:
        feature = pre_feature.new_zeros(channels, new_height, new_width)
        top, left = new_height // 2 - height // 2, new_width // 2 - width // 2
        feature[:, top : top + height, left : left + width] = pre_feature
        return feature, new_stride
    if check.tensor(weights, "weights").ndim != 4 or weights.shape[1:] != (channels, *window):
        raise check.fail("weights", f"of shape (features, {channels}, {window[0]}, {window[1]})", weights)
    feature = pre_feature.new_zeros(len(weights), new_height, new_width)
    for row in range(window[0]):
        for column in range(window[1]):
            place = weights.detach()[:, :, row, column, None, None]
            top, left = row * step[0], column * step[1]
            feature[:, top : top + height, left : left + width] += (pre_feature * place).amax(1)
    return feature.clamp_(min=0), new_stride


def get_network_features(network: "Network", stage: int) -> Tensor:
    """What each feature of a stage looks for, drawn back to the image through all stages below it.

    Args:
        network: one whose encoder begins with a :class:`spyketorch.encoding.Filter`.
        stage: its number, from 0.

    Returns:
        ``(features, height, width)``, as of :func:`get_deep_feature`, without what all share: the smallest weight of a
        layer counts as 0.

    Example:
        >>> from spyketorch import models
        >>> get_network_features(models.kheradpisheh2018(), 1).shape
        torch.Size([150, 13, 13])
    """
    feature, stride = _filters(network.encoder), (1, 1)
    windows = [_window(m) for m in network.encoder.modules() if isinstance(m, SpikingPooling | nn.MaxPool2d)]
    for part in network.stages[: check.integer(stage, "stage", 0) + 1]:
        for window in windows:
            feature, stride = get_deep_feature(feature, stride, *window)
        weight = part.layer.weight.detach().cpu()
        feature, stride = get_deep_feature(
            feature, stride, part.layer.kernel_size, part.layer.stride, weight - weight.min()
        )
        windows = [_window(part.pool)] if isinstance(part.pool, SpikingPooling) else []
    return feature


def _window(pool: "SpikingPooling | nn.MaxPool2d") -> tuple[tuple[int, int], tuple[int, int]]:
    return check.pair(pool.kernel_size, "kernel_size", 1), check.pair(pool.stride, "stride", 1)


def _filters(encoder: nn.Module) -> Tensor:
    for module in encoder.modules():
        if isinstance(module, Filter):
            return module.kernels.detach().cpu()[:, 0]
    raise check.fail("network", "one whose encoder holds an encoding.Filter", encoder)


def plot_features(features: Tensor, *, columns: int = 10, title: str | None = None, ax: Any = None) -> "Figure":
    """Pictures of features side by side, each from black to white.

    Args:
        features: ``(features, height, width)``, such as of :func:`get_network_features`.
        columns: pictures in a row.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> plot_features(torch.rand(12, 5, 5)).savefig("features.png")  # doctest: +SKIP
    """
    if check.tensor(features, "features").ndim != 3 or not len(features):
        raise check.fail("features", "of shape (features, height, width)", features)
    low = features.amin((1, 2), keepdim=True)
    pictures = (features - low) / (features.amax((1, 2), keepdim=True) - low).clamp(min=1e-12)
    pictures = nn.functional.pad(pictures, (1, 1, 1, 1), value=1)
    missing = -len(pictures) % columns
    pictures = torch.cat((pictures, pictures.new_ones(missing, *pictures.shape[1:])))
    rows = [torch.cat(list(pictures[i : i + columns]), 1) for i in range(0, len(pictures), columns)]
    ax = _axes(ax)
    ax.imshow(torch.cat(rows).numpy(), cmap="gray", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[], title=title or "")
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
    labels = [str(i) for i in range(len(confusion))] if names is None else list(names)
    shade = (confusion / confusion.sum(1, keepdim=True).clamp(min=1)).sqrt()  # the root makes rare mistakes visible
    ax = _axes(ax)
    ax.imshow(shade.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row, counts in enumerate(confusion.tolist()):
        for column, count in enumerate(counts):
            colour = "white" if shade[row, column] > 0.6 else "black"
            ax.text(column, row, str(count or ""), ha="center", va="center", color=colour, size="small")
    ax.set(xlabel="decision", ylabel="class", title=title or "")
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xticks(range(confusion.shape[1]), [*labels, "silent"][: confusion.shape[1]])
    return _figure(ax)


def plot_history(history: Sequence[dict[str, float]], *, title: str | None = None, ax: Any = None) -> "Figure":
    """Learning curves: share of right decisions where a layer decides, else convergence, against images seen.

    Args:
        history: of a :class:`spyketorch.training.Trainer`.
        title: above the picture.
        ax: matplotlib axes to draw into; None makes a figure.

    Example:
        >>> rows = [{"layer": 1, "seen": n, "hits": 0, "convergence": 0.2 - n / 9000} for n in (500, 1000)]
        >>> plot_history(rows).savefig("curves.png")  # doctest: +SKIP
    """
    if not history:
        raise check.fail("history", "with at least one period", history)
    ax = _axes(ax)
    for layer in sorted({row["layer"] for row in history}):
        rows = [row for row in history if row["layer"] == layer]
        name = "hits" if any(row["hits"] for row in rows) else "convergence"
        label = f"layer {layer:g}: " + ("share of right decisions" if name == "hits" else "convergence")
        ax.plot([row["seen"] for row in rows], [row[name] for row in rows], label=label)
    ax.set(xlabel="images seen", title=title or "", xscale="log")
    ax.grid(alpha=0.3)
    ax.legend()
    return _figure(ax)


def _axes(ax: Any) -> Any:
    return ax if ax is not None else _pyplot().subplots(layout="constrained")[1]


def _figure(ax: Any) -> "Figure":
    figure: Figure = ax.get_figure()
    return figure
