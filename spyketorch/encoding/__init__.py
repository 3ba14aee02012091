"""From an image to spikes: colours, filters, normalisation, lateral inhibition, and times by rank or by value.

Encoders are modules without parameters that take one image or a batch, so they work as torchvision transforms, in
``torch.nn.Sequential`` and as attributes of a network (they add nothing to its ``state_dict`` but what is fitted):

    >>> import torch
    >>> retina = Filter([DoGKernel(3, 1 / 3, 2 / 3)], padding=1)
    >>> encode = torch.nn.Sequential(retina, Intensity2Latency(15, to_spike=True))
    >>> encode(torch.rand(1, 28, 28)).shape
    torch.Size([15, 1, 28, 28])
"""

from spyketorch.encoding._colours import Chromaticity as Chromaticity
from spyketorch.encoding._colours import Luminance as Luminance
from spyketorch.encoding._colours import OnOff as OnOff
from spyketorch.encoding._colours import OpponentColours as OpponentColours
from spyketorch.encoding._encoder import Encoder as Encoder
from spyketorch.encoding._equalized import EqualizedLatency as EqualizedLatency
from spyketorch.encoding._events import EventLatency as EventLatency
from spyketorch.encoding._filter import Filter as Filter
from spyketorch.encoding._filter_bank import FilterBank as FilterBank
from spyketorch.encoding._fitted import Fitted as Fitted
from spyketorch.encoding._fitted import fit as fit
from spyketorch.encoding._inhibition import LateralIntencityInhibition as LateralIntencityInhibition
from spyketorch.encoding._inhibition import generate_inhibition_kernel as generate_inhibition_kernel
from spyketorch.encoding._kernels import DoGKernel as DoGKernel
from spyketorch.encoding._kernels import FilterKernel as FilterKernel
from spyketorch.encoding._kernels import GaborKernel as GaborKernel
from spyketorch.encoding._latency import LatencyEncoder as LatencyEncoder
from spyketorch.encoding._linear import LinearLatency as LinearLatency
from spyketorch.encoding._normalization import LocalContrast as LocalContrast
from spyketorch.encoding._normalization import LocalNormalization as LocalNormalization
from spyketorch.encoding._rank_order import Intensity2Latency as Intensity2Latency
from spyketorch.encoding._whitening import Whitening as Whitening
