"""Where in the image a neuron looks, and what for: receptive fields, and features drawn back through the layers."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.encoding._colours import OnOff
from spyketorch.encoding._filter import Filter
from spyketorch.encoding._fitted import unfitted
from spyketorch.encoding._whitening import Whitening
from spyketorch.models._network import Network
from spyketorch.snn import Convolution, Pooling

_Pair = tuple[int, int]


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
        accepted = (
            f"of shape (features, {channels}, {window[0]}, {window[1]}), as `pre_feature` and `window_size` have it"
        )
        raise check.fail("weights", accepted, weights)
    feature = pre_feature.new_zeros(len(weights), new_height, new_width)
    for row in range(window[0]):
        for column in range(window[1]):
            place = weights.detach()[:, :, row, column, None, None]
            top, left = row * step[0], column * step[1]
            feature[:, top : top + height, left : left + width] += (pre_feature * place).amax(1)
    return feature.clamp_(min=0), new_stride


class ReceptiveField(NamedTuple):
    """Which pixels the neurons of a layer see; all pairs are (rows, columns).

    The neuron in row y and column x sees ``size`` pixels, the first of which is ``start + (y, x) * stride``. It lies
    outside the image, as may others, where layers pad.

    Attributes:
        size: pixels that one neuron sees.
        stride: pixels from one neuron to the next.
        start: first row and column that the neuron (0, 0) sees.
    """

    size: _Pair
    stride: _Pair
    start: _Pair


def get_receptive_field(network: Network, stage: int) -> ReceptiveField:
    """Which pixels of the image each neuron of a stage sees.

    The whole way counts: windows, strides, paddings and dilations of the layers, the pooling between them, filters,
    padding and pooling of the encoder. Modules of the encoder without a window, such as lateral inhibition, are taken
    to leave positions as they are.

    Args:
        network: one made of the layers of :mod:`spyketorch.snn`.
        stage: its number, from 0.

    Raises:
        ValueError: there is no such stage, or a module on the way whose window is not known.

    Example:
        >>> from spyketorch import models
        >>> get_receptive_field(models.mozafari2019(), 1)
        ReceptiveField(size=(22, 22), stride=(2, 2), start=(-10, -10))
    """
    size, stride, start = (1, 1), (1, 1), (0, 0)
    for step in _steps(network, stage):
        size = (size[0] + (step.window[0] - 1) * stride[0], size[1] + (step.window[1] - 1) * stride[1])
        start = (start[0] - step.padding[0] * stride[0], start[1] - step.padding[1] * stride[1])
        stride = (stride[0] * step.stride[0], stride[1] * step.stride[1])
    return ReceptiveField(size, stride, start)


def get_network_features(network: Network, stage: int) -> Tensor:
    """What each feature of a stage looks for, drawn back to the image through all that is below it.

    Args:
        network: one made of the layers of :mod:`spyketorch.snn`, whose encoder filters the image with a
            :class:`spyketorch.encoding.Filter`, or ``Whitening``, or hands on its pixels.
        stage: its number, from 0.

    Returns:
        ``(features, height, width)``, as of :func:`get_deep_feature`, without what all share: the smallest weight of a
        layer counts as 0. Height and width are those of :func:`get_receptive_field`. Colours are grey here: a filter
        that answers to each channel looks alike in all, one that reads several by their mean;
        :func:`get_colour_features` shows them.

    Raises:
        ValueError: as of :func:`get_receptive_field`.

    Example:
        >>> from spyketorch import models
        >>> get_network_features(models.kheradpisheh2018(), 1).shape
        torch.Size([150, 14, 14])
    """
    return Sight.of(network, stage).features()


def get_colour_features(network: Network) -> Tensor:
    """What each feature of the first layer looks for, in the colours of the images: its weights, through the filters.

    Each synapse draws the kernel of the filter that it hears, by its weight. Where filters come in pairs that answer to
    the opposite, what speaks for both is cancelled, and 0 is neither bright nor dark.

    Args:
        network: one whose encoder filters images with a :class:`spyketorch.encoding.Filter` or ``Whitening``, or hands
            on its pixels, and does not pool.

    Returns:
        ``(features, channels, height, width)``, for :func:`plot_features` where there are three channels.

    Raises:
        ValueError: an encoder that pools, a layer of several groups.

    Example:
        >>> from spyketorch import encoding, models
        >>> network = models.goupy2024(data="cifar10", features=64)
        >>> encoding.fit(network.encoder, torch.rand(20, 3, 32, 32))
        >>> get_colour_features(network).shape
        torch.Size([64, 3, 13, 13])
    """
    *below, step = _steps(network, 0)
    layer: Any = step.module
    kernels: Tensor | None = None  # of each map, (maps, channels, rows, columns)
    for filters, window, stride, _ in below:
        if isinstance(filters, Filter | Whitening):
            kernels = _planes(filters)
        elif isinstance(filters, OnOff):
            pixels = torch.eye(layer.in_channels // 2)[:, :, None, None] if kernels is None else kernels
            kernels = torch.stack((pixels, -pixels), 1).flatten(0, 1)
        elif window != (1, 1) or stride != (1, 1):
            raise check.fail("network", "one whose encoder filters images and does not pool", network.encoder)
    if kernels is None:
        kernels = torch.eye(layer.in_channels)[:, :, None, None]
    if layer.groups != 1 or len(kernels) != layer.in_channels:
        raise check.fail("network", f"one whose first layer reads all {len(kernels)} maps of the filters", layer)
    return nn.functional.conv_transpose2d(_spread(layer.weight.detach().to(kernels), step), kernels)


class _Step(NamedTuple):
    """One module on the way from the image, as a window that slides over what the module before it gives."""

    module: nn.Module
    window: _Pair
    stride: _Pair
    padding: _Pair  # above and on the left


def _steps(network: Network, stage: int) -> Iterator[_Step]:
    """All that lies between the image and a stage's neurons, in order."""
    if not all(hasattr(network, name) for name in ("encoder", "stages")):
        raise check.fail_type("network", "a models.Network", network)
    if check.integer(stage, "stage", 0) >= len(network.stages):
        raise check.fail("stage", f"below {len(network.stages)}, the number of stages of the network", stage)
    for module in network.encoder.modules():
        yield from _step(module)
    for below in network.stages[:stage]:
        yield from _step(below.layer)
        for module in below.pool.modules() if below.pool is not None else ():
            yield from _step(module)
    yield from _step(network.stages[stage].layer)


def _step(module: nn.Module) -> Iterator[_Step]:
    """What a module does to positions; nothing where it has no window."""
    if isinstance(module, Filter):
        yield _Step(module, (module.max_window_size,) * 2, (1, 1), module.padding)
    elif isinstance(module, Whitening):
        yield _Step(module, (module.window,) * 2, (1, 1), (module.window // 2,) * 2)
    elif isinstance(module, Convolution | Pooling | nn.MaxPool2d | nn.AvgPool2d):
        size, stride, padding, dilation = (
            check.pair(getattr(module, name, 1), name, 0) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        window = ((size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1)
        yield _Step(module, window, stride, padding)
    elif isinstance(module, nn.ConstantPad2d | nn.ReflectionPad2d | nn.ReplicationPad2d | nn.CircularPad2d):
        left, _, top, _ = module.padding
        yield _Step(module, (1, 1), (1, 1), (top, left))
    elif isinstance(module, OnOff):
        yield _Step(module, (1, 1), (1, 1), (0, 0))
    elif hasattr(module, "kernel_size"):
        raise check.fail("network", "made of convolutions and pooling of spyketorch.snn, filters and pooling", module)


def _kernels(filters: Filter | Whitening) -> Tensor:
    """Pictures of the maps of a filter, (maps, rows, columns); of kernels that read colours, their mean."""
    if filters.kernels is None:
        raise unfitted("kernels", filters)
    kernels = filters.kernels.detach().cpu()
    times = filters.channels if isinstance(filters, Filter) and kernels.shape[1] == 1 else 1
    return kernels.mean(1).repeat(times, 1, 1)


def _planes(filters: Filter | Whitening) -> Tensor:
    """Kernels of each map of a filter for each channel of the image, (maps, channels, rows, columns)."""
    if filters.kernels is None:
        raise unfitted("kernels", filters)
    kernels = filters.kernels.detach().cpu()
    if isinstance(filters, Whitening) or kernels.shape[1] == filters.channels:
        return kernels
    each = torch.eye(filters.channels)[:, None, :, None, None]  # kernels that answer to each channel by itself
    return (each * kernels[:, 0][None, :, None]).flatten(0, 1)


def _spread(weight: Tensor, step: _Step) -> Tensor:
    """The weights of a layer with zeros between the synapses of a dilated window."""
    layer: Any = step.module
    spread = weight.new_zeros(*weight.shape[:2], *step.window)
    spread[..., :: layer.dilation[0], :: layer.dilation[1]] = weight
    return spread


class Sight(NamedTuple):
    """All that the features of a layer look through, without its own weights, which may go on learning.

    Attributes:
        pictures: of what feeds the layer, ``(C, height, width)``.
        stride: pixels between its inputs.
        step: the layer.
        alike: ``pictures`` are those of each channel of the image, however many it has.
    """

    pictures: Tensor
    stride: _Pair
    step: _Step
    alike: bool = False

    @classmethod
    def of(cls, network: Network, stage: int) -> "Sight":
        *below, layer = _steps(network, stage)
        sight = cls(torch.ones(1, 1, 1), (1, 1), layer, alike=True)
        for step in below:
            if isinstance(step.module, Filter | Whitening):
                if sight.stride != (1, 1):
                    raise check.fail("network", "one whose encoder filters the image before it pools", network.encoder)
                sight = sight._replace(pictures=_kernels(step.module), alike=False)
            elif isinstance(step.module, OnOff):
                sight = sight._replace(pictures=torch.stack((sight.pictures, -sight.pictures), 1).flatten(0, 1))
            elif isinstance(step.module, Convolution):
                seen = sight._replace(step=step)._fitting()
                sight = cls(seen.features(), seen.stride_above, layer)
            elif step.window != (1, 1) or step.stride != (1, 1):
                pictures, stride = get_deep_feature(sight.pictures, sight.stride, step.window, step.stride)
                sight = sight._replace(pictures=pictures, stride=stride)
        return sight._fitting()

    def _fitting(self) -> "Sight":
        """The same with a picture for each channel of the layer."""
        layer: Any = self.step.module
        wanted, known = layer.in_channels, len(self.pictures)
        if wanted != known and not (self.alike and wanted % known == 0):
            accepted = f"one whose layer reads the {known} maps that are known below it, of filters and layers"
            raise check.fail("network", accepted, layer)
        return self._replace(pictures=self.pictures.repeat(wanted // known, 1, 1), alike=False)

    @property
    def stride_above(self) -> _Pair:
        """Pixels between the neurons of the layer itself."""
        return self.stride[0] * self.step.stride[0], self.stride[1] * self.step.stride[1]

    def features(self, chosen: Tensor | None = None) -> Tensor:
        """Pictures of the layer's features, with the weights as they are; of some, where they are chosen, ascending."""
        layer: Any = self.step.module
        weight = layer.weight.detach().to(self.pictures)
        spread = _spread(weight - weight.min(), self.step)
        features = torch.arange(len(weight)) if chosen is None else chosen
        group = features // (len(weight) // layer.groups)
        return torch.cat(
            [
                get_deep_feature(part, self.stride, self.step.window, self.step.stride, spread[features[group == i]])[0]
                for i, part in enumerate(self.pictures.chunk(layer.groups))
            ]
        )
