"""Thresholds from a target, against all thresholds there are: none comes nearer."""

from dataclasses import replace

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_out import bars
from strategies import layers, tensor
from test_training import LESSONS, network

from spyketorch import latency, models, neurons, snn
from spyketorch.models import ImageSpec, InputWarning, Network, Stage
from spyketorch.training import Trainer, TrainingWarning, _calibration, calibrate

ignored = pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")


class Times(torch.nn.Module):
    """Takes its images for times."""

    def forward(self, images):
        return images.to(torch.uint8)


def peaks(layer, neuron, step):
    """The largest potential of each neuron up to a step, `(N, C, H, W)`."""
    found = []
    for wave in layer.wave:
        heard = ref.convolution(wave, layer.weight, **layer.geometry)
        found.append(ref.neuron_potentials(heard, neuron)[: step + 1].max(0))
    return np.stack(found)


def counted(kind, values, threshold):
    """How many neurons, places or images are above it, and how many there are."""
    above = values > threshold
    above = {"share": above, "places": above.any(1), "first": above.any((1, 2, 3))}[kind]
    return above.sum(), above.size


@ignored
@given(
    layer=layers(low=-0.5, batched=True, max_steps=5),
    kind=st.sampled_from(["share", "places", "first"]),
    target=st.sampled_from([0.05, 0.3, 0.5, 0.8, 1.0]),
    neuron=st.sampled_from([neurons.IntegrateAndFire(), neurons.IntegrateAndFire(), neurons.Leaky(0.5)]),
    positive=st.booleans(),
)
@settings(max_examples=30)
def test_none_comes_nearer(layer, kind, target, neuron, positive):
    layer.weight = np.abs(layer.weight) if positive else layer.weight
    times, steps = latency.from_wave(tensor(layer.wave)), layer.wave.shape[1]
    made = snn.SpikingConvolution(*layer.arguments, 1.0, time_steps=steps, neuron=neuron, **layer.geometry)
    made.load_weight(tensor(layer.weight))
    (found,) = calibrate(Network(Times(), [Stage(made)]), times.float(), **{kind: target})
    step = min(int(target * steps), steps - 1) if kind == "first" else steps - 1
    values = peaks(layer, neuron, step)
    total = counted(kind, values, 0)[1]
    wanted = max(1, -(-total // 2) if kind == "first" else round(target * total))
    reached = counted(kind, values, float(made.threshold))[0]
    there_are = [counted(kind, values, limit)[0] for limit in {0.0, *values[values > 0].tolist()}]
    if any(there_are):
        assert abs(reached - wanted) == min(abs(n - wanted) for n in there_are if n)
    else:
        assert float(made.threshold) == 1
    fired = made(times) < steps
    assert found.share == pytest.approx(float(fired.double().mean()))
    assert found.places == pytest.approx(float(fired.any(1).double().mean()))
    assert found.silent == pytest.approx(float((~fired.flatten(1).any(1)).double().mean()))
    assert torch.equal(found.after, made.threshold)
    assert found.before == 1


def test_each_layer_sees_those_below_as_they_are_set():
    made, images = network(), bars(40)[0]
    made.stages[1].layer.threshold = 2.0
    weights = [stage.layer.weight.clone() for stage in made.stages]
    first, second = calibrate(made, images, share=[0.2, 0.3])
    assert (first.layer, second.layer) == (1, 2)
    assert first.share == pytest.approx(0.2, abs=0.01)
    assert second.share == pytest.approx(0.3, abs=0.02)
    times = made.features(images, 1)
    assert float((made.stages[1].layer(times) < 6).double().mean()) == pytest.approx(second.share)
    assert all(torch.equal(stage.layer.weight, weight) for stage, weight in zip(made.stages, weights, strict=True))
    upper = network()
    upper.stages[0].layer.threshold = first.after
    upper.stages[1].layer.threshold = 2.0
    assert torch.equal(calibrate(upper, images, share=[None, 0.3])[0].after, second.after)
    assert torch.equal(upper.stages[0].layer.threshold, first.after)


def test_the_first_spike_comes_when_it_is_wanted():
    for target in (0.2, 0.5, 0.8):
        made, images = network(), bars(101)[0]
        (found,) = calibrate(made, images, first=target)
        earliest = made.stages[0].layer(made.features(images, 0)).flatten(1).amin(1).double()
        assert found.first == pytest.approx(float(earliest.median()) / 6)
        assert found.first <= target
        assert int((earliest <= int(target * 6)).sum()) == pytest.approx(51, abs=3)


def test_deciding_layers_are_left():
    made = network()
    assert [layer.layer for layer in calibrate(made, bars(20)[0], share=0.1)] == [1]
    assert made.stages[1].layer.threshold is None


def test_features_keep_the_ratio_of_their_thresholds():
    made, images = network(), bars(40)[0]
    made.stages[0].layer.threshold = [1, 2, 3, 4]
    (found,) = calibrate(made, images, share=0.2)
    after = made.stages[0].layer.threshold
    torch.testing.assert_close(after / after[0], torch.tensor([1.0, 2, 3, 4]))
    assert found.share == pytest.approx(0.2, abs=0.01)
    assert str(found).startswith("layer 1: threshold 1..4 -> ")


def test_batches_make_no_difference():
    found = []
    for memory in (2**28, 10_000):
        made = network()
        made.batch_memory = memory
        found.append(calibrate(made, bars(30)[0], share=0.2)[0])
    assert [str(layer) for layer in found] == [str(found[0])] * 2
    assert torch.equal(found[0].after, found[1].after)


def test_of_very_many_potentials_some_are_looked_at(monkeypatch):
    exact = calibrate(network(), bars(60)[0], share=0.2)[0]
    monkeypatch.setattr(_calibration, "_MOST", 5000)
    some = calibrate(network(), bars(60)[0], share=0.2)[0]
    assert some.share == pytest.approx(exact.share, abs=0.03)


def test_images_of_every_form(monkeypatch):
    images = bars(31)[0]
    want = calibrate(network(), images, share=0.2)[0].after
    for form in (images.numpy(), list(images), iter([images[:20], images[20:]])):
        assert torch.equal(calibrate(network(), form, share=0.2)[0].after, want)
    monkeypatch.setattr(_calibration, "_IMAGES", 8)
    every = calibrate(network(), images[::4], share=0.2)[0].after
    for memory in (2**28, 10_000):
        made = network()
        made.batch_memory = memory
        assert torch.equal(calibrate(made, list(images), share=0.2)[0].after, every)


def test_a_target_that_no_threshold_meets_is_told():
    images = bars(20)[0]
    images[:, :, :, :8] = 0
    with pytest.warns(
        TrainingWarning, match=r"layer 1: no threshold meets share=0\.9: with the nearest \d\d\.\d% of its "
    ):
        (found,) = calibrate(network(), images, share=0.9)
    assert found.share < 0.8
    with pytest.warns(TrainingWarning, match=r"no threshold meets first=0\.1: .* take a later time"):
        (found,) = calibrate(network(), 0 * images, first=0.1)
    assert (float(found.after), found.silent, found.first) == (6, 1, 1)


def test_what_is_silent_answers_once_it_is_calibrated():
    """What the trainer says of a silent layer is the way on."""
    images = bars(40)[0]
    made = network(threshold=500.0)
    lesson = replace(LESSONS[0], epochs=1)
    with pytest.raises(ValueError, match=r"training\.calibrate\(network, images, share=0\.1\)"):
        Trainer(made, [lesson], progress=False).fit(images)
    calibrate(made, images, share=0.1)
    Trainer(made, [lesson], progress=False).fit(images)


def test_images_on_another_scale_are_told_once():
    made = network()
    made.images = ImageSpec((1, 12, 12), (0, 255))
    made.batch_memory = 10_000
    with pytest.warns(InputWarning) as told, pytest.warns(TrainingWarning):
        calibrate(made, bars(30)[0] / 255, share=0.2)
    assert [warning.category for warning in told].count(InputWarning) == 1


@pytest.mark.parametrize(
    "given, told",
    [
        ({}, "calibrate needs one of `share`, `places` and `first`"),
        ({"share": 0.1, "first": 0.2}, "calibrate needs one of"),
        ({"share": 0}, "`share` must be a share above 0, at most 1"),
        ({"places": 1.5}, "`places` must be a share above 0"),
        ({"first": "soon"}, "`first`"),
        ({"share": [0.1]}, r"`share` must be a number, or a list of one per stage, 2, None"),
        ({"share": [0.1, 0.1]}, "`share` must be None for stage 2, which fires at the last time step"),
        ({"share": [None, None]}, "`network` must be one with a layer that has a threshold"),
    ],
)
def test_targets_that_cannot_be(given, told):
    with pytest.raises((ValueError, TypeError), match=told):
        calibrate(network(), bars(10)[0], **given)


def test_a_target_may_be_any_number():
    one, other = network(), network()
    other.load_state_dict(one.state_dict())
    for made, share in ((one, torch.tensor(0.25)), (other, 0.25)):
        calibrate(made, bars(10)[0], share=share)
    assert torch.equal(one.stages[0].layer.threshold, other.stages[0].layer.threshold)


def test_what_is_no_network():
    with pytest.raises(TypeError, match=r"`network` must be a models\.Network"):
        calibrate(torch.nn.Identity(), torch.rand(1, 1, 9, 9), share=0.1)
    with pytest.raises(ValueError, match="`network` must be one with a layer that has a threshold"):
        calibrate(models.mozafari2018(), torch.rand(1, 1, 97, 97), share=0.1)


def test_potentials_that_fall_again_count_at_their_height():
    layer = snn.SpikingConvolution(2, 1, 1, 5.0, time_steps=3)
    layer.load_weight(torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))
    (found,) = calibrate(Network(Times(), [Stage(layer)]), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), share=1.0)
    assert (found.share, float(found.after)) == (1, 0.5)


def test_values_with_nothing_between_them_are_parted():
    for low in (1.0, 1 + 2**-23):  # half-way is rounded down, and up
        pair = torch.tensor([low, low + 2**-23])
        assert _calibration._parting(pair, 1) == low
        assert _calibration._parting(pair, 2) == low / 2
