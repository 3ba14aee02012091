"""Several networks whose features are read together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.models._network import Network


class Together(nn.Module):
    """Several networks that see the same images, as the encoder of another, which reads the features of all.

    So several sizes of features, edges beside colours, or the depths of one network are heard together. The networks
    are trained each by itself, before.

    Args:
        networks: at least one :class:`Network`, all of one ``time_steps``. What they decide is not heard.

    Attributes:
        time_steps: T of all networks.

    Shape:
        Images ``(N, C, H, W)`` to first-spike times ``(N, neurons, 1, 1)``: the features of the first network, then
        those of the next, each in the order (feature, row, column).

    Example:
        >>> from spyketorch import encoding, models, readout, snn
        >>> def features(size):
        ...     layer = snn.SpikingConvolution(1, 8, size, threshold=3, time_steps=15)
        ...     encoder = encoding.LatencyEncoder(torch.nn.Identity(), 15)
        ...     return models.Network(encoder, [models.Stage(layer, snn.SpikingPooling(4))])
        >>> network = models.Network(Together([features(3), features(5)]), [])
        >>> shape = network.features(torch.zeros(1, 1, 28, 28)).shape[1:]
        >>> shape
        torch.Size([576, 1, 1])
        >>> network.readout = readout.FirstSpikeReadout(tuple(shape), classes=3, time_steps=15)
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        known = isinstance(networks, Sequence | nn.ModuleList) and len(networks) > 0
        if not known or not all(isinstance(network, Network) for network in networks):
            raise check.fail_type("networks", "a list of at least one models.Network", networks)
        steps = [network.time_steps for network in networks]
        if len(set(steps)) > 1:
            raise check.fail("networks", "of one `time_steps`, as T stands for silence", steps)
        self.networks: Sequence[Network] = nn.ModuleList(networks)  # type: ignore[assignment]

    @property
    def time_steps(self) -> int:
        return self.networks[0].time_steps

    def forward(self, images: Tensor) -> Tensor:
        batch = images if images.ndim == 4 else images[None]
        heard = torch.cat([network.features(batch).flatten(1) for network in self.networks], 1)[:, :, None, None]
        return heard if images.ndim == 4 else heard[0]
