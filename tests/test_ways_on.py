"""The way on that a message names is one: what it says is done to what was refused, and that is taken."""

import re

import numpy
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.dataset import Dataset

from spyketorch import encoding, learning, readout, snn, training
from spyketorch.models import ImageSpec, Network, Stage

pytestmark = pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning", "ignore::FutureWarning")
T = 15
IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = [0, 1] * 3


def network(channels=1, threshold=3.0, features=4, mean=0.8, std=0.02, **options):
    layer = snn.SpikingConvolution(channels, features, 3, threshold, mean, std, time_steps=options.pop("time_steps", T))
    encode = options.pop("encode", None) or encoding.LatencyEncoder(torch.nn.Identity(), layer.time_steps)
    return Network(encode, [Stage(layer)], **options)


def fit(made, *lessons, images=IMAGES, labels=None):
    return training.Trainer(made, lessons or [training.Unsupervised()], progress=False).fit(images, labels)


def made_for(channels):
    return network(channels, images=ImageSpec((channels, 8, 8))).features


def whitening():
    made = encoding.Whitening(window=3)
    return made.fit(torch.rand(6, 3, 8, 8))


def labelled(labels):
    fit(network(threshold=None, classes=[0, 1, 0, 1]), training.Reinforced(), labels=labels)


class Pairs(Dataset):
    def __len__(self):
        return 6

    def __getitem__(self, number):
        return IMAGES[number], LABELS[number]


FOLLOWED = {
    "opaque": (made_for(3), "images", torch.rand(4, 4, 8, 8)),
    "an opaque one": (encoding.Filter([encoding.DoGKernel(3, 1, 2)], channels=3), "images", torch.rand(4, 8, 8)),
    "opaque to grey": (made_for(1), "images", torch.rand(4, 4, 8, 8)),
    "colours to grey": (made_for(1), "images", torch.rand(4, 3, 8, 8)),
    "channels last": (made_for(3), "images", torch.rand(4, 8, 8, 3)),
    "size": (made_for(1), "images", torch.rand(4, 1, 9, 9)),
    "opaque to whitening": (whitening(), "images", torch.rand(4, 4, 8, 8)),
    "a batch of grey images": (encoding.Luminance(), "images", IMAGES),
    "a grey image": (encoding.Luminance(), "images", IMAGES[0]),
    "a loader": (network().features, "loader", DataLoader(TensorDataset(IMAGES, torch.tensor(LABELS)), 4)),
    "a data set": (network().features, "dataset", Pairs()),
    "sounds": (encoding.FilterBank(8000), "sounds", torch.randn(4, 1, 1000, 1)),
    "sounds in columns": (encoding.FilterBank(8000), "sounds", torch.randn(4, 1000, 1)),
    "two channels": (encoding.FilterBank(8000), "sounds", torch.randn(5, 2, 1, 1000)),
    "labels in rows": (labelled, "labels", [[0], [1]] * 3),
    "one-hot labels": (labelled, "labels", [[1, 0], [0, 1]] * 3),
    "one-hot labels of an array": (labelled, "labels", numpy.eye(2)[LABELS]),
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_is_made_as_the_message_says_is_taken(name):
    take, called, given = FOLLOWED[name]
    with pytest.raises((TypeError, ValueError)) as told:
        take(given)
    way = re.findall(rf"`([^`]*\b{called}\b[^`]*[)\]])`", str(told.value))[-1]
    made = eval(way, {called: given, "numpy": numpy, "torch": torch})
    take(made)
    if called == "sounds" and name != "two channels":
        assert len(made) == 4  # and not one


@pytest.mark.parametrize("sounds", [torch.zeros(5, 2, 1000), torch.zeros(3, 1, 300)])
def test_no_way_is_named_where_there_is_none(sounds):
    with pytest.raises(ValueError, match=r"\(N, 1, 1, L\); got a .* of shape \([0-9, ]+\)$"):
        encoding.FilterBank(8000)(sounds)


def test_an_encoder_of_several_parts_is_fitted_as_a_whole():
    images = torch.rand(6, 3, 16, 16)
    encode = encoding.LatencyEncoder(
        torch.nn.Sequential(torch.nn.AvgPool2d(2), encoding.Whitening(window=3), encoding.OnOff()), T
    )
    with pytest.raises(ValueError, match=r"of this Whitening must be known.*`encoding.fit\(encoder, images\)`"):
        encode(images)
    encoding.fit(encode, images)
    assert encode(images).shape == (6, 6, 8, 8)


def test_one_that_is_fitted_to_another_size_is_fitted_anew_by_its_own_fit():
    encode = encoding.LinearLatency(torch.nn.Identity(), T, per_place=True).fit(IMAGES)
    others = torch.rand(4, 1, 9, 9)
    with pytest.raises(ValueError, match="its own `fit`, with images of this size"):
        encode(others)
    assert encode.fit(others)(others).shape == (4, 1, 9, 9)


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_a_weight_that_is_normalised_is_made_permanent_as_the_message_says(norm):
    undo = f"remove_{norm}"
    layer = snn.SpikingConvolution(1, 4, 3, 3.0, time_steps=T)
    getattr(torch.nn.utils, norm)(layer)
    times = network().encoder(IMAGES)
    with pytest.raises(ValueError, match=undo):
        learning.STDP(layer, (0.01, -0.01)).learn(times)
    getattr(torch.nn.utils, undo)(layer)
    learning.STDP(layer, (0.01, -0.01)).learn(times)


def test_half_types_are_made_floats_before_the_rule_is_made():
    layer = snn.SpikingConvolution(1, 4, 3, 3.0, time_steps=T).bfloat16()
    with pytest.raises(ValueError, match=r"`\.float\(\)` before its rule or Trainer is made"):
        learning.STDP(layer, (0.01, -0.01)).learn(network().encoder(IMAGES))
    learning.STDP(layer.float(), (0.01, -0.01)).learn(network().encoder(IMAGES))


def test_without_a_threshold_none_is_to_be_lowered():
    made = network(threshold=None, mean=-0.5)
    with pytest.raises(ValueError, match=r"the threshold 0\. Raise weight_mean\. on_silence"):
        fit(made)
    with pytest.raises(ValueError, match=r"Lower the threshold, or raise weight_mean; before a run begins"):
        fit(network(threshold=1e4))


def test_weights_on_their_bounds_start_in_the_middle_of_them():
    said = [*training._diagnosis.on_bounds(torch.full((4, 9), 0.8), (0.2, 0.8))]
    assert len(said) == 1 and "weight_mean=0.5" in said[0]
    assert not [*training._diagnosis.on_bounds(torch.full((4, 9), 0.5), (0.2, 0.8))]
    assert not [*training._diagnosis.on_bounds(torch.tensor([[0.75, 0.85]]), (0.2, 0.8))]  # half of them can change


def test_a_time_that_is_missed_is_told_by_its_side():
    layers = [snn.SpikingConvolution(c, 4, 3, 3.0, 0.8, 0.02, time_steps=T) for c in (1, 4)]
    made = Network(encoding.LatencyEncoder(torch.nn.Identity(), T), list(map(Stage, layers)))
    with pytest.warns(training.TrainingWarning, match="take an earlier time"):
        training.calibrate(made, IMAGES, first=[0.1, 0.9])


def test_a_damaged_note_on_images_may_be_deleted(tmp_path):
    lesson = training.Unsupervised(epochs=2)

    def run():
        return training.Trainer(network(), [lesson], tmp_path, resume=True, progress=False).fit(Pairs())

    run()
    (path,) = tmp_path.glob("images-*.pt")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="delete it, and they are read anew"):
        run()
    path.unlink()
    assert len(run()) == 1


def test_names_that_are_unknown_are_left_out():
    made = network(threshold=None, classes=[0, 1, 0, 1], names=["a", "b"])
    with pytest.raises(ValueError, match=r"that of image 2 is 'c': leave such images out"):
        training.evaluate(made, IMAGES, ["a", "b", "c"] * 2)
    kept = torch.tensor([0, 1, 3, 4])
    assert training.evaluate(made, IMAGES[kept], ["a", "b"] * 2).accuracy >= 0


def test_tensors_of_another_network_are_taken_where_they_fit():
    made, other = network(), network(time_steps=20)
    with pytest.raises(ValueError, match=r"`strict=False`.* where shapes and time steps are the same"):
        other.load_state_dict(made.state_dict())
    assert not any(other.load_state_dict(made.state_dict(), strict=False))
    made.readout, other.readout = (readout.LinearReadout((4, 6, 6), 3, time_steps=n.time_steps) for n in (made, other))
    with pytest.raises(RuntimeError, match="time_steps"):
        other.load_state_dict(made.state_dict(), strict=False)
