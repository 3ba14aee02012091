"""What a neuron answers to, shown by the images themselves."""

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.models._images import looked_at
from spyketorch.models._network import Network
from spyketorch.visualization._receptive_fields import get_receptive_field


def get_mean_stimuli(
    network: Network, stage: int, images: Tensor, *, kwta: int = 1, inhibition_radius: int = 0
) -> Tensor:
    """What each feature of a stage answers to: the mean of what its winners see in the images.

    It shows what :func:`get_network_features` cannot: features that tell stimuli apart by small differences in many
    weights, as those of a layer that learned by reward.

    Args:
        network: one made of the layers of :mod:`spyketorch.snn`.
        stage: its number, from 0.
        images: ``(N, C, H, W)``, as the network takes them; channels are averaged.
        kwta, inhibition_radius: winners per image, as in :meth:`spyketorch.snn.SpikingConvolution.winners`.

    Returns:
        ``(features, height, width)``, of the size of :func:`get_receptive_field`; places outside the image count as 0,
        and features that never win are 0 everywhere.

    Raises:
        ValueError: as of :func:`get_receptive_field`.

    Example:
        >>> from spyketorch import models
        >>> network = models.mozafari2019()
        >>> get_mean_stimuli(network, 2, torch.rand(5, 1, 28, 28) * 255).shape
        torch.Size([200, 44, 44])
    """
    field, layer = get_receptive_field(network, stage), network.stages[stage].layer
    device = layer.weight.device
    network._ready()
    rows, columns = (torch.arange(length, device=device) for length in field.size)
    total = torch.zeros(layer.out_channels, *field.size, device=device)
    wins = torch.zeros(layer.out_channels, device=device)
    with looked_at(network.images, check.images(images), stacklevel=4):
        for part in network.batches(images):
            winners = layer.winners(network.features(part, stage), kwta, inhibition_radius)
            image, place = (winners[..., 0] >= 0).nonzero(as_tuple=True)
            feature, row, column = winners[image, place].unbind(1)
            top, left = row * field.stride[0] + field.start[0], column * field.stride[1] + field.start[1]
            seen = nn.functional.pad(part.float().mean(1), (field.size[1],) * 2 + (field.size[0],) * 2)
            y = (top + field.size[0]).clamp(0, seen.shape[1] - field.size[0])[:, None, None] + rows[:, None]
            x = (left + field.size[1]).clamp(0, seen.shape[2] - field.size[1])[:, None, None] + columns
            total.index_add_(0, feature, seen[image[:, None, None], y, x])
            wins.index_add_(0, feature, torch.ones_like(feature, dtype=wins.dtype))
    return (total / wins.clamp(min=1).view(-1, 1, 1)).cpu()
