"""Pictures of what a network sees, learns and decides. matplotlib is imported when something is first drawn.

Each ``plot_`` function gives back its figure and shows nothing by itself: a notebook shows the figure that a cell ends
with, ``figure.savefig("name.png")`` writes it. With ``ax`` it draws into axes of your own, as of ``pyplot.subplots``.
Colours can be told apart by the colour-blind, and in grey.
"""

from spyketorch.visualization._curves import plot_confusion as plot_confusion
from spyketorch.visualization._curves import plot_history as plot_history
from spyketorch.visualization._curves import plot_weights as plot_weights
from spyketorch.visualization._features import plot_features as plot_features
from spyketorch.visualization._features import plot_tensor_in_image as plot_tensor_in_image
from spyketorch.visualization._features import show_tensor as show_tensor
from spyketorch.visualization._mean_stimuli import get_mean_stimuli as get_mean_stimuli
from spyketorch.visualization._receptive_fields import ReceptiveField as ReceptiveField
from spyketorch.visualization._receptive_fields import get_colour_features as get_colour_features
from spyketorch.visualization._receptive_fields import get_deep_feature as get_deep_feature
from spyketorch.visualization._receptive_fields import get_deep_receptive_field as get_deep_receptive_field
from spyketorch.visualization._receptive_fields import get_network_features as get_network_features
from spyketorch.visualization._receptive_fields import get_receptive_field as get_receptive_field
from spyketorch.visualization._spikes import animate_wave as animate_wave
from spyketorch.visualization._spikes import plot_times as plot_times
from spyketorch.visualization._spikes import plot_wave as plot_wave
from spyketorch.visualization._spikes import plot_winners as plot_winners
from spyketorch.visualization._watch import Watch as Watch
