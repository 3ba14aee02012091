"""The weights that are shipped: they load, they are small, they know what they learned."""

import os
from pathlib import Path

import pytest
import torch

import spyketorch
from spyketorch import models, neurons
from spyketorch.models._published import _widened, narrowed
from spyketorch.training import evaluate

SETS = {"goupy2024_mnist": "mnist", "goupy2024_fashion_mnist": "fashion_mnist", "goupy2024_cifar10": "cifar10"}
NETWORKS = ["mozafari2019", "kheradpisheh2018", "mozafari2018", *SETS]
WEIGHTS = Path(spyketorch.__file__).parent / "weights"


def built(name, **options):
    """The network of which a file holds the weights."""
    return models.goupy2024(data=SETS[name], **options) if name in SETS else getattr(models, name)(**options)


@pytest.mark.parametrize("name", NETWORKS)
def test_they_load(name):
    made, fresh = built(name, pretrained=True), built(name)
    for stage, other in zip(made.stages, fresh.stages, strict=True):
        assert torch.isfinite(stage.layer.weight).all()
        assert not torch.equal(stage.layer.weight, other.layer.weight)
    assert fresh.state_dict().keys() <= made.state_dict().keys()  # what is fitted comes with them


def test_they_are_small_and_their_origin_is_told():
    files = sorted(WEIGHTS.glob("*.pt"))
    assert sorted(file.stem for file in files) == sorted(NETWORKS)
    assert sum(file.stat().st_size for file in files) < 10e6
    told = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert all(file.name in told for file in files)


def test_large_weights_are_shipped_in_bytes():
    """To a 255th of the largest of each row; what is 0 stays 0."""
    state = models.goupy2024(features=4).state_dict()
    state["readout.weight"][:, ::3] = 0
    small = narrowed(state, "readout.weight", "stages.0.layer.weight")
    assert small["readout.weight"].dtype == small["stages.0.layer.weight"].dtype == torch.uint8
    back = _widened(small)
    assert back.keys() == state.keys()
    for key in ("readout.weight", "stages.0.layer.weight"):
        wrong = (back[key] - state[key]).abs().flatten(1).amax(1)
        assert bool((wrong <= state[key].flatten(1).amax(1) / 509).all())
    assert bool((back["readout.weight"][:, ::3] == 0).all())
    models.goupy2024(features=4).load_state_dict(back)


def test_another_network_is_refused():
    for options in ({"whole_map": False}, {"features_per_class": 5}):
        with pytest.raises(ValueError, match="pretrained"):
            models.mozafari2019(pretrained=True, **options)
    with pytest.raises(ValueError, match="pretrained"):
        models.mozafari2018(pretrained=True, features_per_class=5)


@pytest.mark.parametrize("make", [models.goupy2024, models.kheradpisheh2018, models.mozafari2018, models.mozafari2019])
def test_pretrained_is_no_name(make):
    with pytest.raises(TypeError, match="`pretrained` must be True or False; got 'cifar10'"):
        make("cifar10")


@pytest.mark.parametrize(
    "options", [{"features": 7}, {"per_class": 2}, {"neuron": neurons.Ramp(14)}, {"image_shape": (1, 20, 20)}]
)
def test_another_who_fires_first_is_refused(options):
    with pytest.raises(ValueError, match=r"`pretrained` must be False, .* goupy2024_fashion_mnist"):
        models.goupy2024(pretrained=True, data="fashion_mnist", **options)


@pytest.mark.parametrize("name", SETS)
def test_they_decide_by_who_fires_first(name):
    """Images of the set are answered at once: what the encoder takes from images was saved, too."""
    network = built(name, pretrained=True)
    images = torch.randint(0, 256, (4, *network.images.shape), dtype=torch.uint8)
    assert network(images).shape == (4,)
    first = network.readout.fire(network.features(images)).argmin(1) // network.readout.per_class
    assert torch.equal(network(images), first)
    assert network.names is not None
    assert len(network.names) == 10


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
@pytest.mark.parametrize("name", ["mozafari2019", "kheradpisheh2018", "goupy2024_mnist"])
def test_they_know_digits(name):
    from torchvision.datasets import MNIST

    test = MNIST(os.environ["SPYKETORCH_MNIST"], train=False)
    assert evaluate(built(name, pretrained=True), test.data[:1000, None], test.targets[:1000]).accuracy > 0.95
