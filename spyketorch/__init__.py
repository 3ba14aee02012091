"""Convolutional spiking networks with at most one spike per neuron, rank-order coding, STDP and R-STDP."""

from spyketorch._checks import validation as validation
from spyketorch._warnings import PerformanceWarning as PerformanceWarning

__version__ = "0.1.0"
