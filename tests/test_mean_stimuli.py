"""What features answer to, cut out of the images where the winners look."""

import pytest
import torch

from spyketorch.encoding import LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.visualization import get_mean_stimuli

T = 6


def network():
    """Layer 1 has an upright and a level bar of three pixels; layer 2 looks at 2 x 2 of the pooled places."""
    one = SpikingConvolution(1, 2, 3, 2.5, time_steps=T, padding=1)
    weight = torch.zeros(2, 1, 3, 3)
    weight[0, 0, :, 1] = weight[1, 0, 1, :] = 1
    one.load_weight(weight)
    two = SpikingConvolution(2, 2, 2, None, time_steps=T)
    two.load_weight(torch.tensor([1.0, 0.0, 0.0, 1.0]).view(2, 2, 1, 1).expand(2, 2, 2, 2))
    return Network(LatencyEncoder(torch.nn.Identity(), T), [Stage(one, SpikingPooling(2)), Stage(two)], [0, 1])


def bars():
    images = torch.zeros(3, 1, 8, 8)
    images[0, 0, 2:5, 4] = 3  # upright
    images[1, 0, 0, 2:5] = 5  # level, on the upper edge
    images[2, 0, 2:5, 6] = 1  # upright, elsewhere
    return images


def test_first_layer():
    upright, level = get_mean_stimuli(network(), 0, bars())
    want = torch.zeros(3, 3)
    want[:, 1] = 2  # the mean of 3 and 1
    assert torch.equal(upright, want)
    want = torch.zeros(3, 3)
    want[1] = 5  # what lies above is outside the image
    assert torch.equal(level, want)


def test_second_layer_sees_more():
    images = bars()
    upright, level = get_mean_stimuli(network(), 1, images)
    assert upright.shape == (6, 6)  # pooled places are 2 apart, see 4 pixels each with the layer below
    assert upright.sum() == (images[0].sum() + images[2].sum()) / 2
    assert level.sum() == images[1].sum()
    assert level.max() == 5


def test_features_that_never_win_are_blank():
    images = bars()[[0, 0, 2]]
    upright, level = get_mean_stimuli(network(), 0, images)
    assert upright.max() == (3 + 3 + 1) / 3
    assert not level.any()


def test_one_image_is_a_batch_too():
    assert get_mean_stimuli(network(), 0, bars()[:1]).shape == (2, 3, 3)
    with pytest.raises(ValueError, match="images"):
        get_mean_stimuli(network(), 0, bars()[0])


def test_batches_make_no_difference():
    images = bars().repeat(300, 1, 1, 1)
    assert torch.allclose(get_mean_stimuli(network(), 1, images), get_mean_stimuli(network(), 1, bars()))
