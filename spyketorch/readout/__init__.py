"""Read-outs: what is decided from the first spikes of a network's last stage."""

from spyketorch.readout._first_spike import FirstSpikeReadout as FirstSpikeReadout
from spyketorch.readout._linear import LinearReadout as LinearReadout
