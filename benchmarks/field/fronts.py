"""From images to first spikes, for the rules that learn features by target times: one front for each kind of image."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spyketorch import encoding
from spyketorch.snn import SpikingPooling

TIME_STEPS = 15


class Front(NamedTuple):
    """How images become first spikes, and what fits features of these.

    Attributes:
        encoder: makes one.
        see: what is made of uint8 images before.
        features: how many are learned.
        threshold: they begin with.
        target: time at which they aim, as a share of all steps.
        answering: share of the thresholds learned that they answer with.
        inhibit: whether at each place only the first is heard.
        parts: of the map, (rows, columns), in each of which a read-out hears every feature once.
        earliest: which spike of a part is heard.
    """

    encoder: Callable[[], nn.Module]
    see: Callable[[Tensor], Tensor]
    features: int = 128
    threshold: float = 5.0
    target: float = 0.75
    answering: float = 1.0
    inhibit: bool = False
    parts: tuple[int, int] = (6, 6)
    earliest: int = 1

    def pool(self, rows: int, columns: int) -> SpikingPooling:
        """Of a map of so many places."""
        window = -(-rows // self.parts[0]), -(-columns // self.parts[1])
        spare = window[0] * self.parts[0] - rows, window[1] * self.parts[1] - columns
        return SpikingPooling(window, padding=((spare[0] + 1) // 2, (spare[1] + 1) // 2), earliest=self.earliest)


def grey(images: Tensor) -> Tensor:
    """Of colours their luminance."""
    return images if images.shape[1] == 1 else encoding.Luminance()(images).round().byte()


def small(images: Tensor) -> Tensor:
    """Grey, and at most some 64 pixels the short way: means of what is larger; values 0..1."""
    shorter = min(images.shape[-2:])
    sizes = tuple(round(size * min(1, 64 / shorter)) for size in images.shape[-2:])
    pieces = [nn.functional.adaptive_avg_pool2d(grey(some).float() / 255, sizes) for some in images.split(1000)]
    return torch.cat(pieces)


def spots() -> nn.Module:
    """Bright and dark spots, by value: the stronger against the strongest at its place, the earlier."""
    cells = encoding.Filter([encoding.DoGKernel(7, 1, 2), encoding.DoGKernel(7, 2, 1)], thresholds=0)
    return encoding.LinearLatency(nn.Sequential(nn.ReplicationPad2d(3), cells), TIME_STEPS, per_place=True)


def colours() -> nn.Module:
    """What neighbours do not foretell of each colour, more and less, in all time steps alike."""
    return encoding.EqualizedLatency(nn.Sequential(encoding.Whitening(), encoding.OnOff()), TIME_STEPS)


def contours() -> nn.Module:
    """Edges of eight orientations, in units of those around."""
    edges = encoding.Filter([encoding.GaborKernel(7, 22.5 + 22.5 * k) for k in range(8)], use_abs=True)
    contrasts = nn.Sequential(nn.ReplicationPad2d(3), edges, encoding.LocalContrast(), nn.MaxPool2d(2))
    return encoding.LinearLatency(contrasts, TIME_STEPS)


SPOTS = Front(spots, grey)
COLOURS = Front(
    colours, lambda images: images, 256, threshold=10.0, target=0.7, answering=0.75, parts=(4, 4), earliest=4
)
CONTOURS = Front(contours, small, 256, target=0.7, inhibit=True, parts=(4, 4))
