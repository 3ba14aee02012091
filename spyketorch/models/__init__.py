"""Networks on first-spike times, and the published ones.

A :class:`Network` is an encoder and stages, each a layer with the pooling behind it. Its decision is the class of the
first winner of the last layer, or what a read-out makes of the last layer's answer.
"""

from spyketorch.models._images import ImageSpec as ImageSpec
from spyketorch.models._images import InputWarning as InputWarning
from spyketorch.models._network import Network as Network
from spyketorch.models._published import TIME_STEPS as TIME_STEPS
from spyketorch.models._published import _Strongest as _Strongest  # where whole networks that were pickled look
from spyketorch.models._published import goupy2024 as goupy2024
from spyketorch.models._published import kheradpisheh2018 as kheradpisheh2018
from spyketorch.models._published import mozafari2018 as mozafari2018
from spyketorch.models._published import mozafari2019 as mozafari2019
from spyketorch.models._stage import Part as Part
from spyketorch.models._stage import Stage as Stage
from spyketorch.models._together import Together as Together
