"""Sound to spectrograms, against a Fourier transform written out; and networks on maps of one row."""

import math
import pickle

import numpy as np
import pytest
import torch

from spyketorch import encoding, models, readout, snn, testing, visualization
from spyketorch.encoding import FilterBank
from spyketorch.training import Readout, Reinforced, Trainer, Unsupervised, evaluate

RATE = 1000


def slowly(sound, bands, window, hop, length, lowest, highest, span):
    """Frame by frame, frequency by frequency, in float64."""
    mel = lambda f: math.log(1 + f / 700)  # noqa: E731
    steps = [mel(lowest) + i * (mel(highest) - mel(lowest)) / (bands + 1) for i in range(bands + 2)]
    corners = [700 * (math.exp(step) - 1) for step in steps]
    padded = np.pad(np.asarray(sound, np.float64), length // 2)
    place = np.arange(length) - (length - window) // 2
    hann = np.where((place >= 0) & (place < window), 0.5 - 0.5 * np.cos(2 * np.pi * place / window), 0)
    energy = np.zeros((bands, len(sound) // hop + 1))
    for frame in range(energy.shape[1]):
        part = hann * padded[frame * hop : frame * hop + length]
        for number in range(length // 2 + 1):
            power = abs(np.sum(part * np.exp(-2j * np.pi * number * np.arange(length) / length))) ** 2
            f = number * RATE / length
            for band, (low, mid, high) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
                energy[band, frame] += max(0, min((f - low) / (mid - low), (high - f) / (high - mid))) * power
    level = 10 * np.log10(energy / energy.max())
    return np.maximum(0, 1 + level / span)


@pytest.mark.parametrize(("window", "hop", "length"), [(0.032, 0.01, 32), (0.025, 0.016, 32)])
def test_against_the_definition(window, hop, length):
    sound = torch.randn(90) * torch.linspace(0, 1, 90)
    bank = FilterBank(RATE, 6, window=window, hop=hop, lowest=40, highest=450, span=30)
    wanted = slowly(sound, 6, round(window * RATE), round(hop * RATE), length, 40, 450, 30)
    got = bank(sound.view(1, 1, -1))
    assert got.shape == (1, *wanted.shape)
    assert (got > 0).any()
    assert (got == 0).any()
    assert np.allclose(got[0].numpy(), wanted, atol=1e-4)
    assert np.allclose(bank.double()(sound.double().view(1, 1, -1))[0].numpy(), wanted, atol=1e-5)


def test_a_faint_recording_gives_the_same_picture():
    bank, sound = FilterBank(RATE, 6, window=0.032), torch.randn(1, 1, 300)
    assert bank(sound).max() == 1
    assert torch.allclose(bank(sound * 1e-18), bank(sound), atol=1e-5)
    samples = (1000 * sound).round().to(torch.int16)
    assert torch.allclose(bank(samples), bank(samples.double() / 2**15).float(), atol=1e-5)
    assert torch.equal(bank(torch.zeros(1, 1, 300)), torch.zeros(1, 6, 31))


def test_a_batch_is_its_sounds():
    bank, sounds = FilterBank(RATE, 6, window=0.032), torch.randn(5, 1, 1, 300)
    assert torch.equal(bank(sounds), torch.stack([bank(sound) for sound in sounds]))
    assert not bank.state_dict()
    assert torch.equal(pickle.loads(pickle.dumps(bank))(sounds), bank(sounds))


def ears(steps=15):
    """A spectrogram, what rises and falls in it, and when each is heard."""
    contrast = encoding.Filter([encoding.DoGKernel(3, 0.5, 1), encoding.DoGKernel(3, 1, 0.5)], 1, thresholds=0)
    return encoding.LinearLatency(torch.nn.Sequential(FilterBank(RATE, 6, window=0.032), contrast), steps)


def test_it_is_the_front_of_an_encoder():
    sounds = torch.randn(4, 1, 1, 300)
    testing.check_encoder(ears().fit(sounds), sounds)


@pytest.mark.parametrize(
    ("sounds", "said"),
    [
        (torch.zeros(300), "of shape"),
        (torch.zeros(1, 300), "of shape"),
        (torch.zeros(3, 1, 300), "of one channel and one row"),
        (torch.zeros(1, 300, 1), r"view\(1, 1, 1, 300\)` is a batch of 1"),
        (torch.zeros(2, 1, 300), r"mean\(-3, keepdim=True\)` makes one channel of two"),
        (torch.zeros(5, 1, 2, 300), r"mean\(-2, keepdim=True\)` makes one channel of two"),
        (torch.full((1, 1, 300), torch.nan), "finite"),
    ],
)
def test_what_is_refused(sounds, said):
    with pytest.raises(ValueError, match=f"`sounds`/`input` must be .*{said}"):
        FilterBank(RATE, 6, window=0.032)(sounds)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sample_rate": 0}, "`sample_rate`"),
        ({"bands": 0}, "`bands`"),
        ({"bands": 40}, "`bands` must be fewer"),
        ({"window": 0}, "`window` must be at least 2 samples"),
        ({"hop": 0.0001}, "`hop` must be at least 1 samples"),
        ({"lowest": 600}, "`highest` must be above `lowest`"),
        ({"highest": 501}, "`highest` must be .* at most half"),
        ({"span": 0}, "`span` must be above 0"),
    ],
)
def test_settings_that_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        FilterBank(**{"sample_rate": RATE, "bands": 6, "window": 0.032, **settings})


# maps of one row: a series is an image (channels, 1, length)


def series(count):
    """A bump in each of two channels, at places that differ a little; which channel comes first is the class."""
    labels = torch.arange(count) % 2
    places = torch.where(labels[:, None] == 0, torch.tensor([8, 22]), torch.tensor([22, 8]))
    places = places + torch.randint(-2, 3, (count, 2))
    return torch.exp(-((torch.arange(32) - places[..., None]) ** 2 / 4.0)).unsqueeze(2), labels


def bumps():
    """A network that finds bumps, wherever they are."""
    encoder = encoding.LatencyEncoder(torch.nn.Threshold(0.1, 0), 10)
    layer = snn.SpikingConvolution(2, 8, (1, 5), threshold=2, weight_std=0.05, time_steps=10, padding=(0, 2))
    return models.Network(encoder, [models.Stage(layer, snn.SpikingPooling((1, 4)))])


def test_series_are_told_apart_by_a_readout_of_features():
    (values, labels), (test, answers) = series(60), series(60)
    network = bumps()
    network.readout = readout.LinearReadout((8, 1, 8), 2, time_steps=10)
    lessons = [Unsupervised(kwta=2, inhibition_radius=2), Readout(iterations=10)]
    Trainer(network, lessons, progress=False).fit(values, labels)
    assert evaluate(network, test, answers).accuracy == 1
    assert "8 x 1 x 32" in str(network.summary((2, 1, 32)))


def test_series_are_told_apart_by_reward():
    (values, labels), (test, answers) = series(60), series(60)
    layer = snn.SpikingConvolution(2, 8, (1, 32), weight_std=0.05, time_steps=10)
    network = models.Network(bumps().encoder, [models.Stage(layer)], classes=torch.arange(8) // 4)
    Trainer(network, [Reinforced(epochs=10, dropout=0.5)], progress=False).fit(values, labels)
    assert evaluate(network, test, answers).accuracy > 0.9


def test_filters_of_one_row():
    values, _ = series(4)
    rise = torch.tensor([[-1.0, 0.0, 1.0]])
    change = encoding.Filter([rise, -rise], padding=1, thresholds=0)  # half the window keeps the size, of a row too
    assert change(values[:, :1]).shape == (4, 2, 1, 32)


def test_pictures_of_series():
    pytest.importorskip("matplotlib")
    values, _ = series(4)
    net = bumps()
    times = net.encoder(values[0])
    visualization.plot_times(times, time_steps=10)
    visualization.plot_features(visualization.get_network_features(net, 0))
    visualization.plot_features(visualization.get_mean_stimuli(net, 0, values))
    field = visualization.get_receptive_field(net, 0)
    assert field.size == (1, 5)
    visualization.plot_winners(values[0, :1], net.stages[0].layer.winners(times, kwta=2), field)
