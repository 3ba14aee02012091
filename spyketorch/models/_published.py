"""The published networks."""

from importlib import resources

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch import _files
from spyketorch.encoding._filter import Filter
from spyketorch.encoding._inhibition import LateralIntencityInhibition
from spyketorch.encoding._kernels import DoGKernel, GaborKernel
from spyketorch.encoding._latency import LatencyEncoder
from spyketorch.models._images import ImageSpec
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.readout import LinearReadout
from spyketorch.snn import SpikingConvolution, SpikingPooling

TIME_STEPS = 15


def mozafari2019(pretrained: bool = False, *, whole_map: bool = True, features_per_class: int = 20) -> Network:
    """Digits by reward: three layers, the last of which decides (Mozafari et al. 2019).

    On- and off-centre cells of three sizes, 30 features of 5 x 5, 250 of 3 x 3, and for each digit
    ``features_per_class`` that vote by the largest potential at the last time step.

    Args:
        pretrained: with the weights that `examples/mnist_mozafari.py` learned, which are shipped with the package.
        whole_map: decision features see the whole map of 4 x 4 places at once; False as published, 5 x 5 at each place.
        features_per_class: of the last layer.

    Shape:
        Images ``(N, 1, 28, 28)`` with values 0..255, uint8 or float.

    Reference:
        Bio-inspired digit recognition using reward-modulated spike-timing-dependent plasticity in deep convolutional
        networks, Pattern Recognition 94:87-95.
    """
    kernels = [k for w in (3, 7, 13) for k in (DoGKernel(w, w / 9, 2 * w / 9), DoGKernel(w, 2 * w / 9, w / 9))]
    encoder = LatencyEncoder(Filter(kernels, padding=6, thresholds=50), TIME_STEPS, normalization_radius=8)
    deciding = _deciding(10, features_per_class)
    kernel, padding = (4, 0) if whole_map else (5, 2)
    decision = SpikingConvolution(250, deciding, kernel, None, 0.8, 0.05, time_steps=TIME_STEPS, padding=padding)
    stages = [
        Stage(SpikingConvolution(6, 30, 5, 15, 0.8, 0.05, time_steps=TIME_STEPS, padding=2), SpikingPooling(2)),
        Stage(SpikingConvolution(30, 250, 3, 10, 0.8, 0.025, time_steps=TIME_STEPS, padding=1), SpikingPooling(3)),
        Stage(decision),
    ]
    classes = torch.arange(deciding) // features_per_class
    network = Network(encoder, stages, classes, images=_digits(pretrained))
    return _load(network, "mozafari2019") if pretrained else network


def mozafari2018(pretrained: bool = False, *, features_per_class: int = 10) -> Network:
    """Two kinds of objects by reward: orientations, and one layer that decides (Mozafari et al. 2018).

    Four Gabor filters, of which the strongest is heard in each 7 x 7 places; then, for each of two classes,
    ``features_per_class`` of 17 x 17 that vote by the largest potential at the last time step.

    Args:
        pretrained: with the weights that `examples/caltech_mozafari.py` learned: 0 is a face, 1 a motorbike.
        features_per_class: of the layer.

    Shape:
        Grey images ``(N, 1, H, W)``, such as 160 x 240 and at least 97 x 97, with values 0..1, to decisions ``(N,)``.

    Example:
        >>> mozafari2018()(torch.rand(2, 1, 97, 120)).shape
        torch.Size([2])

    Reference:
        First-spike-based visual categorization using reward-modulated STDP, IEEE TNNLS 29:6178-6190.
    """
    filters = nn.Sequential(
        nn.ReplicationPad2d(4),
        Filter([GaborKernel(9, 22.5 + 45 * k) for k in range(4)], use_abs=True),
        nn.MaxPool2d(7, 6, 3),
        _Strongest(),
        LateralIntencityInhibition([0.15, 0.12, 0.1, 0.07, 0.05]),
        nn.ReLU(),
    )
    deciding = _deciding(2, features_per_class)
    layer = SpikingConvolution(4, deciding, 17, None, 0.8, 0.05, time_steps=TIME_STEPS)
    classes = torch.arange(deciding) // features_per_class
    images = ImageSpec((1, None, None), (0, 1))
    network = Network(LatencyEncoder(filters, TIME_STEPS), [Stage(layer)], classes, images=images)
    return _load(network, "mozafari2018") if pretrained else network


class _Strongest(nn.Module):
    """Leaves the strongest feature of each place."""

    def forward(self, input: Tensor) -> Tensor:
        return torch.where(input == input.amax(-3, keepdim=True), input, 0)


def kheradpisheh2018(pretrained: bool = False) -> Network:
    """Digits by a linear read-out of unsupervised features: two layers (Kheradpisheh et al. 2018).

    On- and off-centre cells, 32 features of 5 x 5, 150 of 2 x 2, learned by STDP alone. The read-out hears how early
    each feature of both layers fires in each of 7 x 7 parts of the image.

    Args:
        pretrained: with the weights and the read-out that `examples/mnist_kheradpisheh.py` learned; without, every
            decision is 0 until the read-out is fitted, as by the lesson :class:`spyketorch.training.Readout`.

    Shape:
        Images ``(N, 1, 28, 28)`` with values 0..255, uint8 or float.

    Reference:
        STDP-based spiking deep convolutional neural networks for object recognition, Neural Networks 99:56-67.
    """
    encoder = LatencyEncoder(Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], padding=3, thresholds=10), TIME_STEPS)
    second = SpikingConvolution(32, 150, 2, 6, 0.8, 0.05, time_steps=TIME_STEPS, padding=1)
    stages = [
        Stage(SpikingConvolution(2, 32, 5, 15, 0.8, 0.05, time_steps=TIME_STEPS, padding=2), SpikingPooling(2)),
        Stage(second, SpikingPooling(3, 2), shortcut=SpikingPooling(2)),
    ]
    network = Network(encoder, stages, images=_digits(pretrained))
    network.readout = LinearReadout((150 + 32, 7, 7), 10, time_steps=TIME_STEPS)
    return _load(network, "kheradpisheh2018") if pretrained else network


def _deciding(classes: int, features_per_class: int) -> int:
    """How many features decide, none of which sees more than 5,000 inputs."""
    count = classes * check.integer(features_per_class, "features_per_class", 1)
    check.storable((5000, count), "features_per_class", features_per_class)
    return count


def _digits(pretrained: bool) -> ImageSpec:
    """What has learned knows one size; what has not may learn another."""
    size = 28 if pretrained else None
    return ImageSpec((1, size, size), (0, 255))


def _load(network: Network, name: str) -> Network:
    """The network with the weights that are shipped, which ``weights/README.md`` tells of."""
    state = _files.load(resources.files("spyketorch") / "weights" / f"{name}.pt")
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        accepted = f"False, as the weights that are shipped fit {name} without other options"
        raise check.fail("pretrained", accepted, True) from error
    return network
