"""Colours as the eye's cells pass them on: brightness, opponent colours, what is more and what is less."""

import math

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.encoding._filter import IMAGES


def _coloured(input: Tensor) -> Tensor:
    """Red, green and blue, (3, H, W) or (N, 3, H, W), in a floating type."""
    image = check.floating(check.image(input, IMAGES), IMAGES)
    if image.shape[-3] != 3:
        sizes = "-1, 3, -1, -1" if image.ndim == 4 else "3, -1, -1"
        shown = f"`images.expand({sizes})` makes grey ones such" if image.shape[-3] == 1 else ""
        raise check.fail(IMAGES, "of red, green and blue, (3, H, W) or (N, 3, H, W)", input, shown)
    return image


def _channels(input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Red, green and blue, each (1, H, W) or (N, 1, H, W), in a floating type."""
    red, green, blue = torch.split(_coloured(input), 1, -3)
    return red, green, blue


class Luminance(nn.Module):
    r"""The brightness of colour images, as grey ones: :math:`0.299 R + 0.587 G + 0.114 B`.

    Shape:
        ``(3, H, W)`` to ``(1, H, W)``, and batches; integer images become float32, on the scale that they have.

    Example:
        >>> Luminance()(torch.tensor([1.0, 0, 0]).view(3, 1, 1))
        tensor([[[0.2990]]])

    Reference:
        Recommendation ITU-R BT.601.
    """

    def forward(self, input: Tensor) -> Tensor:
        red, green, blue = _channels(input)
        return red * 0.299 + green * 0.587 + blue * 0.114


class OpponentColours(nn.Module):
    r"""Red, green and blue as brightness, red against green, and yellow against blue.

    .. math:: \frac{R + G + B}{\sqrt 3}, \qquad \frac{R - G}{\sqrt 2}, \qquad \frac{R + G - 2 B}{\sqrt 6}

    The three are orthonormal: contrasts are as large as those of the colours, and a threshold means the same. Of a grey
    image the last two are 0, exactly.

    Shape:
        ``(3, H, W)`` to ``(3, H, W)``, and batches; the last two are negative where there is more green, or more blue.
        Integer images become float32.

    Example:
        >>> from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
        >>> spots = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], padding=3, thresholds=0, channels=3)
        >>> encode = LatencyEncoder(torch.nn.Sequential(OpponentColours(), spots), 15)
        >>> encode(torch.rand(3, 32, 32)).shape  # for each of the three, where there is more than around, and less
        torch.Size([6, 32, 32])

    Reference:
        van de Sande, Gevers, Snoek: Evaluating color descriptors for object and scene recognition, TPAMI 2010.
    """

    def forward(self, input: Tensor) -> Tensor:
        red, green, blue = _channels(input)
        both = red + green
        parts = (both + blue) / math.sqrt(3), (red - green) / math.sqrt(2), (both - 2 * blue) / math.sqrt(6)
        return torch.cat(parts, -3)


class Chromaticity(nn.Module):
    r"""Red, green and blue as shares of the brightness: the colour without light and shade.

    .. math:: r = \frac{R}{R + G + B + \epsilon}

    and so for g and b. What is white, grey or black of one object is alike, and so are its shadow and the backdrop:
    edges of these shares are outlines of what has another colour.

    Args:
        floor: epsilon, 0 or more, on the scale of the images: what is much darker has no colour, which would be noise.

    Shape:
        ``(3, H, W)`` to ``(3, H, W)``, values 0..1, and batches; integer images become float32.

    Example:
        >>> sun, shade = torch.tensor([200.0, 50.0, 0.0]), torch.tensor([100.0, 25.0, 0.0])
        >>> Chromaticity()(torch.stack((sun, shade), 1).view(3, 1, 2))[0]
        tensor([[0.8000, 0.8000]])
    """

    def __init__(self, floor: float = 0.0) -> None:
        super().__init__()
        self.floor = check.number(floor, "floor", 0)

    def forward(self, input: Tensor) -> Tensor:
        colours = _coloured(input)
        brightness = colours.sum(-3, keepdim=True) + self.floor
        return torch.where(brightness > 0, colours / brightness, 0)

    def extra_repr(self) -> str:
        return f"floor={self.floor}"


class OnOff(nn.Module):
    """Signed maps as pairs of such without a sign: what is above 0, then how far the rest is below.

    Shape:
        ``(C, H, W)`` to ``(2 C, H, W)``, and batches: the two of the first map, then those of the next.

    Example:
        >>> OnOff()(torch.tensor([[[2.0, -3.0, 0.0]]]))
        tensor([[[2., 0., 0.]],
        <BLANKLINE>
                [[0., 3., 0.]]])
    """

    def forward(self, input: Tensor) -> Tensor:
        maps = check.floating(check.image(input, IMAGES), IMAGES)
        return torch.stack((maps.clamp(min=0), (0 - maps).clamp(min=0)), -3).flatten(-4, -3)
