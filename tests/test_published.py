"""The published networks for other classes and other sizes: what is asked for, and nothing else, changes."""

import pytest
import torch

from spyketorch import encoding, models, neurons
from spyketorch.training import Readout, Supervised, Trainer

NETWORKS = {"mozafari2019": 255, "mozafari2018": 1, "kheradpisheh2018": 255}
SETS = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def images(shape, scale, count=3):
    return torch.rand(count, *shape) * scale


@pytest.mark.parametrize(
    "name, options",
    [
        ("mozafari2019", {"classes": 10, "image_shape": (1, 28, 28)}),
        ("mozafari2018", {"classes": 2, "image_shape": (1, 97, 120)}),
        ("kheradpisheh2018", {"classes": 10, "image_shape": (1, 28, 28)}),
    ],
)
def test_what_is_usual_is_the_same_by_name(name, options):
    build, made = getattr(models, name), []
    for given in ({}, options):
        torch.manual_seed(0)
        made.append(build(**given))
    for one, two in zip(made[0].state_dict().values(), made[1].state_dict().values(), strict=True):
        assert one.dtype == torch.uint8 or torch.equal(
            one, two
        )  # the settings, of which the state dicts tell each other
    made[1].load_state_dict(made[0].state_dict())
    given = images(options["image_shape"], NETWORKS[name])
    assert torch.equal(made[0](given), made[1](given))
    with pytest.raises(ValueError, match="as this network was made for"):
        made[1](images((1, 100, 100), NETWORKS[name]))
    pretrained = build(pretrained=True, **options)
    assert torch.equal(pretrained(given), build(pretrained=True)(given))


@pytest.mark.parametrize("size", [(6, 6), (7, 11), (17, 12), (31, 29), (64, 48)])
def test_whole_maps_of_any_size(size):
    for name in ("mozafari2019", "mozafari2018"):
        network = getattr(models, name)(classes=3, image_shape=(1, *size), whole_map=True)
        given = images((1, *size), NETWORKS[name])
        *_, below, decision = network.parts(given)
        assert decision.times.shape[2:] == (1, 1)
        assert tuple(network.stages[-1].layer.kernel_size) == tuple(below.times.shape[2:])
        assert set(network.classes.tolist()) == {0, 1, 2}
        assert int(network(given).max()) < 3


@pytest.mark.parametrize("name", NETWORKS)
def test_colours(name):
    grey, colour = (getattr(models, name)(classes=3, image_shape=(channels, 97, 99)) for channels in (1, 3))
    first = colour.stages[0].layer
    assert first.in_channels == 3 * grey.stages[0].layer.in_channels
    times = colour.encoder(images((3, 97, 99), NETWORKS[name]))
    assert times.shape[1] == first.in_channels
    given = images((3, 97, 99), NETWORKS[name])
    assert colour(given).shape == (3,)
    with pytest.raises(ValueError, match="as this network was made for"):
        colour(given[:, :1])


def test_windows_as_published_on_larger_images():
    network = models.mozafari2019(classes=4, image_shape=(1, 40, 64), whole_map=False)
    assert network.features(images((1, 40, 64), 255)).shape == (3, 80, 6, 10)
    network = models.mozafari2018(classes=4, image_shape=(1, 100, 120))
    assert network.features(images((1, 100, 120), 1)).shape == (3, 40, 1, 4)


@pytest.mark.parametrize("size", [(4, 4), (5, 6), (7, 8), (17, 12), (64, 47)])
@pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")
def test_a_readout_of_any_size(size):
    network = models.kheradpisheh2018(classes=3, image_shape=(1, *size))
    given, labels = images((1, *size), 255, 9), torch.arange(9) % 3
    assert network.readout.weight.shape[0] == 3
    Trainer(network, [Readout()], progress=False).fit(given, labels)
    assert int(network(given).max()) < 3


@pytest.mark.parametrize(
    "name, options, told",
    [
        ("mozafari2019", {"image_shape": (1, 5, 40)}, r"`image_shape` must be .* at least 6 x 6; got \(1, 5, 40\)"),
        ("mozafari2018", {"image_shape": (1, 96, 120)}, "at least 97 x 97; .*: whole_map=True takes smaller ones"),
        ("mozafari2018", {"image_shape": (1, 5, 6), "whole_map": True}, "at least 6 x 6"),
        ("kheradpisheh2018", {"image_shape": (1, 3, 28)}, "at least 4 x 4"),
        ("mozafari2018", {"whole_map": True}, "`whole_map` must be False without an `image_shape`"),
        ("mozafari2019", {"classes": 1}, "`classes` must be an integer of at least 2"),
        ("kheradpisheh2018", {"classes": 2.5}, "`classes` must be an integer"),
        ("mozafari2019", {"image_shape": 28}, "`image_shape` must be"),
        ("mozafari2019", {"image_shape": (28, 28)}, "`image_shape` must be"),
        ("mozafari2019", {"image_shape": (1, 10**6, 10**6)}, "`image_shape` must be small enough"),
        ("mozafari2019", {"pretrained": True, "classes": 3}, "`pretrained` must be False"),
        ("kheradpisheh2018", {"pretrained": True, "image_shape": (1, 64, 64)}, "`pretrained` must be False"),
    ],
)
def test_what_cannot_be(name, options, told):
    with pytest.raises((ValueError, TypeError), match=told):
        getattr(models, name)(**options)


@pytest.mark.parametrize("data", SETS)
def test_who_fires_first_in_images_of_each_set(data):
    network = models.goupy2024(data=data)
    given = images(SETS[data], 255, 20)
    encoding.fit(network.encoder, given)
    assert network(given[:3]).shape == (3,)
    assert network.readout.classes == 10
    with pytest.raises(ValueError, match="as this network was made for"):
        network(images((1, 30, 30), 255))


@pytest.mark.parametrize("data", SETS)
@pytest.mark.parametrize("shape", [(1, 11, 18), (3, 12, 11), (1, 40, 31)])
@pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")  # of noise
def test_who_fires_first_in_images_of_any_size(data, shape):
    neuron = neurons.IntegrateAndFire()
    network = models.goupy2024(data=data, features=8, per_class=2, neuron=neuron, classes=3, image_shape=shape)
    given, labels = images(shape, 1, 30), torch.arange(30) % 3
    lesson = Supervised(epochs=1, covariance=False, rates=(0.1, -0.1), latency=0.9)  # as published
    Trainer(network, [lesson], progress=False).fit(given, labels)
    assert network.readout.per_class == 2
    assert network.readout.neuron == neuron
    assert int(network(given).max()) < 3
    assert network.features(given).shape[1:] == network.readout.shape


@pytest.mark.parametrize(
    "options, told",
    [
        ({"data": "imagenet"}, "`data` must be 'mnist' or 'fashion_mnist' or 'cifar10'; got 'imagenet'"),
        ({"image_shape": (1, 7, 20)}, "at least 8 x 8"),
        ({"data": "cifar10", "image_shape": (3, 10, 20)}, "at least 11 x 11"),
        ({"features": 0}, "`features` must be an integer of at least 1"),
        ({"per_class": 0}, "`per_class` must be an integer of at least 1"),
        ({"classes": 1}, "`classes` must be"),
        ({"features": 10**15}, "`features` must be small enough"),
    ],
)
def test_who_fires_first_in_what_cannot_be(options, told):
    with pytest.raises((ValueError, TypeError), match=told):
        models.goupy2024(**options)
