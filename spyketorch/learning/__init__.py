r"""Learning rules: STDP and reward-modulated STDP.

For each winner and each of its synapses, a rule changes the weight by

.. math:: \Delta w = \text{rate}(t_{pre}, t_{post}) \cdot \text{weight dependence}(w) \cdot \text{modulation}

Each factor is a plain function of :class:`Synapses` and can be replaced on its own:

    >>> import torch
    >>> from spyketorch import snn
    >>> def fading(s):  # potentiation fades with the time between the two spikes
    ...     return torch.where(s.causal, s.ltp * torch.exp((s.pre_times - s.post_times) / 5), s.ltd)
    >>> rule = snn.STDP(snn.Convolution(6, 30, 5), (0.004, -0.003), rate=fading)

References:
    Kheradpisheh et al., *STDP-based spiking deep convolutional neural networks for object recognition*, Neural Networks
    99:56-67, 2018. Mozafari et al., *Bio-inspired digit recognition using reward-modulated spike-timing-dependent
    plasticity in deep convolutional networks*, Pattern Recognition 94:87-95, 2019.
"""

from spyketorch._plasticity import Response as Response
from spyketorch._plasticity import Synapse as Synapse
from spyketorch._plasticity import Thresholds as Thresholds
from spyketorch._plasticity import ThresholdsInTorch as ThresholdsInTorch
from spyketorch._plasticity import Twin as Twin
from spyketorch.learning._integer import IntegerSTDP as IntegerSTDP
from spyketorch.learning._layer import Plastic as Plastic
from spyketorch.learning._layer import Spiking as Spiking
from spyketorch.learning._multiplicative import MultiplicativeSTDP as MultiplicativeSTDP
from spyketorch.learning._rstdp import RSTDP as RSTDP
from spyketorch.learning._stdp import STDP as STDP
from spyketorch.learning._supervised import Answered as Answered
from spyketorch.learning._supervised import Competition as Competition
from spyketorch.learning._supervised import Deciding as Deciding
from spyketorch.learning._supervised import SupervisedSTDP as SupervisedSTDP
from spyketorch.learning._synapses import Factor as Factor
from spyketorch.learning._synapses import Synapses as Synapses
from spyketorch.learning._synapses import causal_step as causal_step
from spyketorch.learning._synapses import soft_bounds as soft_bounds
from spyketorch.learning._thresholds import TargetTime as TargetTime
from spyketorch.learning._vdsp import VDSP as VDSP
from spyketorch.learning._winners import BatchWinners as BatchWinners
from spyketorch.learning._winners import Judge as Judge
from spyketorch.learning._winners import Respond as Respond
from spyketorch.learning._winners import Winners as Winners
