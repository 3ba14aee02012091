"""The weights that are shipped: they load, they are small, they know what they learned."""

import os
from pathlib import Path

import pytest
import torch

import spyketorch
from spyketorch import models
from spyketorch.training import evaluate

NETWORKS = ["mozafari2019", "kheradpisheh2018", "mozafari2018"]
WEIGHTS = Path(spyketorch.__file__).parent / "weights"


@pytest.mark.parametrize("name", NETWORKS)
def test_they_load(name):
    made, fresh = getattr(models, name)(pretrained=True), getattr(models, name)()
    for stage, other in zip(made.stages, fresh.stages, strict=True):
        assert torch.isfinite(stage.layer.weight).all()
        assert not torch.equal(stage.layer.weight, other.layer.weight)
    assert made.state_dict().keys() == fresh.state_dict().keys()


def test_they_are_small_and_their_origin_is_told():
    files = sorted(WEIGHTS.glob("*.pt"))
    assert sorted(file.stem for file in files) == sorted(NETWORKS)
    assert sum(file.stat().st_size for file in files) < 6e6
    told = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    assert all(file.name in told for file in files)


def test_another_network_is_refused():
    for options in ({"whole_map": False}, {"features_per_class": 5}):
        with pytest.raises(ValueError, match="pretrained"):
            models.mozafari2019(pretrained=True, **options)
    with pytest.raises(ValueError, match="pretrained"):
        models.mozafari2018(pretrained=True, features_per_class=5)


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
@pytest.mark.parametrize("name", NETWORKS[:2])
def test_they_know_digits(name):
    from torchvision.datasets import MNIST

    test = MNIST(os.environ["SPYKETORCH_MNIST"], train=False)
    assert evaluate(getattr(models, name)(pretrained=True), test.data[:1000, None], test.targets[:1000]).accuracy > 0.95
