"""The published networks."""

from collections.abc import Callable, Sequence
from importlib import resources
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _files, neurons
from spyketorch.encoding._colours import OnOff
from spyketorch.encoding._equalized import EqualizedLatency
from spyketorch.encoding._filter import Filter
from spyketorch.encoding._inhibition import LateralIntencityInhibition
from spyketorch.encoding._kernels import DoGKernel, GaborKernel
from spyketorch.encoding._latency import LatencyEncoder
from spyketorch.encoding._linear import LinearLatency
from spyketorch.encoding._whitening import Whitening
from spyketorch.models._images import ImageSpec
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.readout._first_spike import FirstSpikeReadout
from spyketorch.readout._linear import LinearReadout
from spyketorch.snn import PyramidPooling, SpikingConvolution, SpikingPooling

TIME_STEPS = 15

_SCALE = ".scale"  # behind the key of a weight that is shipped in bytes


def mozafari2019(
    pretrained: bool = False,
    *,
    whole_map: bool = True,
    features_per_class: int = 20,
    classes: int = 10,
    image_shape: Sequence[int] | None = None,
) -> Network:
    """Digits by reward: three layers, the last of which decides (Mozafari et al. 2019).

    On- and off-centre cells of three sizes, 30 features of 5 x 5, 250 of 3 x 3, and for each class
    ``features_per_class`` that vote by the largest potential at the last time step.

    Args:
        pretrained: with the weights that `examples/mnist_mozafari.py` learned, which are shipped with the package.
        whole_map: decision features see the whole map at once, of digits 4 x 4 places; False as published, 5 x 5 at
            each place.
        features_per_class: of the last layer.
        classes: how many there are.
        image_shape: (channels, rows, columns) of the images, at least 6 x 6; others are refused then. Of colours each
            channel is filtered by itself. None: that of digits, for the size of a whole map; any that are not smaller
            are taken.

    Shape:
        Images ``(N, 1, 28, 28)`` with values 0..255, uint8 or float.

    Example:
        >>> mozafari2019(classes=3, image_shape=(1, 64, 64)).stages[2].layer
        SpikingConvolution(250, 60, kernel_size=10, threshold=None, time_steps=15)

    Reference:
        Bio-inspired digit recognition using reward-modulated spike-timing-dependent plasticity in deep convolutional
        networks, Pattern Recognition 94:87-95.
    """
    kernels = [k for w in (3, 7, 13) for k in (DoGKernel(w, w / 9, 2 * w / 9), DoGKernel(w, 2 * w / 9, w / 9))]
    channels, rows, columns = _shape(image_shape, 6, (1, 28, 28))
    filters = Filter(kernels, padding=6, thresholds=50, channels=channels)
    encoder = LatencyEncoder(filters, TIME_STEPS, normalization_radius=8)
    kernel, padding = ((rows // 2 // 3, columns // 2 // 3), 0) if whole_map else ((5, 5), 2)
    deciding = _deciding(classes, features_per_class, 250 * kernel[0] * kernel[1])
    decision = SpikingConvolution(250, deciding, kernel, None, 0.8, 0.05, time_steps=TIME_STEPS, padding=padding)
    stages = [
        Stage(
            SpikingConvolution(6 * channels, 30, 5, 15, 0.8, 0.05, time_steps=TIME_STEPS, padding=2), SpikingPooling(2)
        ),
        Stage(SpikingConvolution(30, 250, 3, 10, 0.8, 0.025, time_steps=TIME_STEPS, padding=1), SpikingPooling(3)),
        Stage(decision),
    ]
    voting = torch.arange(deciding) // features_per_class
    network = Network(encoder, stages, voting, images=_digits(pretrained, image_shape))
    return _load(network, "mozafari2019", pretrained)


def mozafari2018(
    pretrained: bool = False,
    *,
    features_per_class: int = 10,
    classes: int = 2,
    image_shape: Sequence[int] | None = None,
    whole_map: bool = False,
) -> Network:
    """Kinds of objects by reward: orientations, and one layer that decides (Mozafari et al. 2018).

    Four Gabor filters, of which the strongest is heard in each 7 x 7 places; then, for each class,
    ``features_per_class`` of 17 x 17 that vote by the largest potential at the last time step.

    Args:
        pretrained: with the weights that `examples/caltech_mozafari.py` learned: 0 is a face, 1 a motorbike.
        features_per_class: of the layer.
        classes: how many there are.
        image_shape: (channels, rows, columns) of the images; others are refused then. Of colours each channel is
            filtered by itself. None takes grey ones of any size.
        whole_map: features see the whole map at once, of images of that shape, which may be smaller then; False as
            published, 17 x 17 at each place.

    Shape:
        Grey images ``(N, 1, H, W)``, such as 160 x 240 and at least 97 x 97, with values 0..1, to decisions ``(N,)``.

    Example:
        >>> mozafari2018()(torch.rand(2, 1, 97, 120)).shape
        torch.Size([2])

    Reference:
        First-spike-based visual categorization using reward-modulated STDP, IEEE TNNLS 29:6178-6190.
    """
    if check.flag(whole_map, "whole_map") and image_shape is None:
        raise check.fail("whole_map", "False without an `image_shape`, which gives its size", whole_map)
    least, way = (6, "") if whole_map else (97, "whole_map=True takes smaller ones")
    channels, rows, columns = _shape(image_shape, least, (1, 97, 97), way)
    filters = nn.Sequential(
        nn.ReplicationPad2d(4),
        Filter([GaborKernel(9, 22.5 + 45 * k) for k in range(4)], use_abs=True, channels=channels),
        nn.MaxPool2d(7, 6, 3),
        _Strongest(),
        LateralIntencityInhibition([0.15, 0.12, 0.1, 0.07, 0.05]),
        nn.ReLU(),
    )
    kernel = (-(-rows // 6), -(-columns // 6)) if whole_map else (17, 17)
    deciding = _deciding(classes, features_per_class, 4 * channels * kernel[0] * kernel[1])
    layer = SpikingConvolution(4 * channels, deciding, kernel, None, 0.8, 0.05, time_steps=TIME_STEPS)
    images = ImageSpec((1, None, None) if image_shape is None else (channels, rows, columns), (0, 1))
    voting = torch.arange(deciding) // features_per_class
    network = Network(LatencyEncoder(filters, TIME_STEPS), [Stage(layer)], voting, images=images)
    return _load(network, "mozafari2018", pretrained)


class _Strongest(nn.Module):
    """Leaves the strongest feature of each place."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.where(input == input.amax(-3, keepdim=True), input, 0)


def kheradpisheh2018(
    pretrained: bool = False, *, classes: int = 10, image_shape: Sequence[int] | None = None
) -> Network:
    """Digits by a linear read-out of unsupervised features: two layers (Kheradpisheh et al. 2018).

    On- and off-centre cells, 32 features of 5 x 5, 150 of 2 x 2, learned by STDP alone. The read-out hears how early
    each feature of both layers fires in each of 7 x 7 parts of the image.

    Args:
        pretrained: with the weights and the read-out that `examples/mnist_kheradpisheh.py` learned; without, every
            decision is 0 until the read-out is fitted, as by the lesson :class:`spyketorch.training.Readout`.
        classes: how many there are.
        image_shape: (channels, rows, columns) of the images, at least 4 x 4; others are refused then. Of colours each
            channel is filtered by itself. The read-out hears parts of 4 x 4 pixels. None: that of digits.

    Shape:
        Images ``(N, 1, 28, 28)`` with values 0..255, uint8 or float.

    Reference:
        STDP-based spiking deep convolutional neural networks for object recognition, Neural Networks 99:56-67.
    """
    channels, rows, columns = _shape(image_shape, 4, (1, 28, 28))
    filters = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], padding=3, thresholds=10, channels=channels)
    encoder = LatencyEncoder(filters, TIME_STEPS)
    second = SpikingConvolution(32, 150, 2, 6, 0.8, 0.05, time_steps=TIME_STEPS, padding=1)
    stages = [
        Stage(
            SpikingConvolution(2 * channels, 32, 5, 15, 0.8, 0.05, time_steps=TIME_STEPS, padding=2), SpikingPooling(2)
        ),
        Stage(second, SpikingPooling(3, 2), shortcut=SpikingPooling(2)),
    ]
    network = Network(encoder, stages, images=_digits(pretrained, image_shape))
    shape = 150 + 32, rows // 4, columns // 4
    network.readout = LinearReadout(shape, check.integer(classes, "classes", 2), time_steps=TIME_STEPS)
    return _load(network, "kheradpisheh2018", pretrained)


def goupy2024(
    pretrained: bool = False,
    *,
    data: str = "mnist",
    features: int | None = None,
    per_class: int | None = None,
    neuron: neurons.Responding | None = None,
    classes: int = 10,
    image_shape: Sequence[int] | None = None,
) -> Network:
    """Who fires first decides: unsupervised features, read by neurons of each class that compete (Goupy et al. 2024).

    One layer of features of 5 x 5 places, for lessons of single patches (Falez et al. 2019), whose first spikes in each
    part of the image a :class:`spyketorch.readout.FirstSpikeReadout` hears. What differs from one kind of data to
    another is named by the set that it was chosen for:

    - "mnist", "fashion_mnist": on- and off-centre cells in time by value; parts of 4 x 4 places, the earliest spike of
      each.
    - "cifar10": whitened colours in time by a table; parts of 7 x 7 places, the fourth and the twelfth spike of each,
      and of 14 x 14, or of a smaller map, the eighth and the 32nd.

    Args:
        pretrained: with all that `examples/supervised_stdp.py` learned of that set, which is shipped with the package,
            CIFAR-10 of copies saved as JPEG. Without, the encoder is fitted first, as a Trainer does.
        data: "mnist", "fashion_mnist" or "cifar10".
        features: how many; None for the number that was chosen for the set.
        per_class: deciding neurons of each class; None for the number that was chosen.
        neuron: that decide; None for ramps, ``neurons.Ramp(15)``. As published, ``neurons.IntegrateAndFire()``.
        classes: how many there are.
        image_shape: (channels, rows, columns) of the images, at least 8 x 8, of "cifar10" 11 x 11. None: that of the
            set.

    Shape:
        Images of that shape, of any scale that is the same for all, uint8 or float; the weights that are shipped
        learned values 0..255.

    Example:
        >>> goupy2024(classes=3, image_shape=(1, 20, 20)).readout
        FirstSpikeReadout(inputs=2048, classes=3, per_class=5, time_steps=15, neuron=Ramp(duration=15.0))

    Reference:
        Neuronal competition groups with supervised STDP for spike-based classification, NeurIPS 2024,
        arXiv 2410.17066; features: Multi-layered spiking neural network with target timestamp threshold adaptation and
        STDP, IJCNN 2019, arXiv 1904.01908; ramps: Attar, arXiv 2609.37047.
    """
    if data not in _CHOSEN:
        raise check.fail("data", " or ".join(map(repr, _CHOSEN)), data)
    chosen = _CHOSEN[data]
    channels, rows, columns = shape = _shape(image_shape, 4 + chosen.part, chosen.image_shape)
    count = check.integer(chosen.features if features is None else features, "features", 1)
    check.storable((count, channels, rows, columns), "features", features)
    layer = SpikingConvolution(2 * channels, count, 5, 5, 0.5, 0.01, time_steps=TIME_STEPS)
    pool = chosen.pool(rows - 4, columns - 4)
    network = Network(
        chosen.encoder(channels), [Stage(layer, pool)], images=ImageSpec(shape, (0, 255) if pretrained else None)
    )
    maps = pool(torch.empty(count, rows - 4, columns - 4, dtype=torch.uint8, device="meta")).shape
    each = chosen.per_class if per_class is None else per_class
    network.readout = FirstSpikeReadout(tuple(maps), classes, each, time_steps=TIME_STEPS, neuron=neuron)
    return _load(network, f"goupy2024_{data}", pretrained)


class _Chosen(NamedTuple):
    """What was chosen for a set of images: front end, features, the parts that are pooled, neurons of each class."""

    image_shape: tuple[int, int, int]
    encoder: Callable[[int], nn.Module]  # for so many channels
    features: int
    part: int  # places on a side of the smallest one that is heard
    pool: Callable[[int, int], nn.Module]  # of a map of so many rows and columns
    per_class: int


def _spots(channels: int) -> nn.Module:
    """Bright and dark spots, by value."""
    cells = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], thresholds=0, channels=channels)
    return LinearLatency(nn.Sequential(nn.ReplicationPad2d(3), cells), TIME_STEPS, per_place=True)


def _whitened(channels: int) -> nn.Module:
    """What neighbours do not tell, in steps that are used alike."""
    return EqualizedLatency(nn.Sequential(Whitening(), OnOff()), TIME_STEPS)


def _parts(rows: int, columns: int) -> nn.Module:
    """The earliest spike of each part."""
    return SpikingPooling(4)


def _fine_and_coarse(rows: int, columns: int) -> nn.Module:
    """Early and later spikes of small parts and of large ones."""
    coarse = min(14, rows), min(14, columns)
    return PyramidPooling([SpikingPooling(7, earliest=(4, 12)), SpikingPooling(coarse, earliest=(8, 32))])


_CHOSEN = {
    "mnist": _Chosen((1, 28, 28), _spots, features=128, part=4, pool=_parts, per_class=5),
    "fashion_mnist": _Chosen((1, 28, 28), _spots, features=256, part=4, pool=_parts, per_class=5),
    "cifar10": _Chosen((3, 32, 32), _whitened, features=512, part=7, pool=_fine_and_coarse, per_class=8),
}


def _shape(
    image_shape: Sequence[int] | None, least: int, usual: tuple[int, int, int], way: str = ""
) -> tuple[int, int, int]:
    """Channels, rows and columns of the images; ``way`` is the way on where they are too few."""
    if image_shape is None:
        return usual
    accepted = f"(channels, rows, columns) of images of at least {least} x {least}"
    if not isinstance(image_shape, Sequence) or isinstance(image_shape, str) or len(image_shape) != 3:
        raise check.fail("image_shape", accepted, image_shape)
    channels, rows, columns = (check.integer(size, "image_shape", 1) for size in image_shape)
    if min(rows, columns) < least:
        raise check.fail("image_shape", accepted, image_shape, way)
    check.storable((250, channels, rows, columns), "image_shape", image_shape)
    return channels, rows, columns


def _deciding(classes: int, features_per_class: int, inputs: int) -> int:
    """How many features decide, each of which sees so many inputs."""
    count = check.integer(classes, "classes", 2) * check.integer(features_per_class, "features_per_class", 1)
    check.storable((inputs, classes), "classes", classes)
    check.storable((inputs, count), "features_per_class", features_per_class)
    return count


def _digits(pretrained: bool, image_shape: Sequence[int] | None) -> ImageSpec:
    """What has learned knows one size; what has not may learn another."""
    size = 28 if pretrained else None
    return ImageSpec((1, size, size) if image_shape is None else tuple(image_shape), (0, 255))  # type: ignore[arg-type]


def _load(network: Network, name: str, pretrained: bool) -> Network:
    """The network, if wanted with the weights that are shipped, which ``weights/README.md`` tells of."""
    if not check.flag(pretrained, "pretrained"):
        return network
    state = _files.load(resources.files("spyketorch") / "weights" / f"{name}.pt")
    try:
        network.load_state_dict(_widened(state))
    except (RuntimeError, ValueError) as error:
        accepted = f"False, as the weights that are shipped fit {name} without other options"
        raise check.fail("pretrained", accepted, True) from error
    return network


def _widened(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floats of what is shipped in bytes, beside what one of each row is."""
    scales = {key.removesuffix(_SCALE): value for key, value in state.items() if key.endswith(_SCALE)}
    rest = {key: value for key, value in state.items() if not key.endswith(_SCALE)}
    return rest | {key: rest[key] * _of_rows(scale, rest[key]) for key, scale in scales.items()}


def narrowed(state: dict[str, Tensor], *keys: str) -> dict[str, Tensor]:
    """The same with some weights, of 0 or more, in bytes: 255ths of the largest of their row."""
    scales = {f"{key}{_SCALE}": state[key].flatten(1).amax(1) / 255 for key in keys}
    whole = {key: (state[key] / _of_rows(scales[f"{key}{_SCALE}"], state[key])).round() for key in keys}
    return state | scales | {key: value.to(torch.uint8) for key, value in whole.items()}


def _of_rows(scale: Tensor, weight: Tensor) -> Tensor:
    """A number for each row of a weight, to be multiplied with it."""
    return scale.view(-1, *[1] * (weight.ndim - 1))
