"""Networks whose features are read together, and networks without stages."""

import pytest
import torch

from spyketorch import encoding, models, snn
from spyketorch.models import Network, Stage, Together
from spyketorch.readout import FirstSpikeReadout, LinearReadout
from spyketorch.training import Readout, Supervised, Trainer, calibrate, evaluate

pytestmark = pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")
IMAGES = torch.rand(40, 1, 12, 12, generator=torch.Generator().manual_seed(0))
LABELS = (IMAGES[:, 0, :6].mean((1, 2)) > IMAGES[:, 0, 6:].mean((1, 2))).long()


def features(size, time_steps=15):
    torch.manual_seed(size)
    layer = snn.SpikingConvolution(1, 3, size, threshold=size, time_steps=time_steps)
    encoder = encoding.LatencyEncoder(torch.nn.Identity(), time_steps)
    return Network(encoder, [Stage(layer, snn.SpikingPooling(3))])


def together(readout=LinearReadout):
    network = Network(Together([features(3), features(5)]), [])
    shape = tuple(network.features(IMAGES[:1]).shape[1:])
    network.readout = readout(shape, 2, time_steps=15)
    return network


def test_the_features_of_all_are_read():
    first, second = features(3), features(5)
    heard = Network(Together([first, second]), []).features(IMAGES)
    want = torch.cat([first.features(IMAGES).flatten(1), second.features(IMAGES).flatten(1)], 1)
    assert torch.equal(heard.flatten(1), want)
    assert torch.equal(Together([first, second])(IMAGES[0]), heard[0])


@pytest.mark.parametrize(
    "lesson, readout", [(Readout(), LinearReadout), (Supervised(competition=None), FirstSpikeReadout)]
)
def test_they_are_taught_saved_and_resumed(tmp_path, lesson, readout):
    network = together(readout)
    trainer = Trainer(network, [lesson], tmp_path, progress=False)
    assert trainer.fit(IMAGES, LABELS) == []
    again = together(readout)
    Trainer(again, [lesson], tmp_path, resume=True, progress=False).fit(IMAGES, LABELS)
    network.save(tmp_path / "both.pt")
    other = together(readout)
    for part in other.encoder.networks:
        part.stages[0].layer.weight.fill_(0.3)
    other.load(tmp_path / "both.pt")
    decided = network(IMAGES)
    assert torch.equal(again(IMAGES), decided)
    assert torch.equal(other(IMAGES), decided)
    assert evaluate(network, IMAGES, LABELS).accuracy > 0.6
    assert network.predict(IMAGES[0]) == [int(decided[0])]
    assert "readout" in str(network.summary(IMAGES[:4]))


def test_a_network_without_stages_reads_its_encoder():
    network = Network(encoding.LatencyEncoder(torch.nn.Identity(), 15), [])
    assert network.time_steps == 15
    assert network.device == torch.device("cpu")
    network.readout = LinearReadout((1, 12, 12), 2, time_steps=15)
    Trainer(network, [Readout()], progress=False).fit(IMAGES, LABELS)
    assert evaluate(network, IMAGES, LABELS).accuracy > 0.9
    with pytest.raises(ValueError, match="a layer that has a threshold"):
        calibrate(network, IMAGES, share=0.1)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Together([]), "`networks` must be"),
        (lambda: Together([torch.nn.Identity()]), "`networks` must be"),
        (lambda: Together([features(3), features(3, 8)]), "of one `time_steps`"),
        (lambda: Network(torch.nn.Identity(), []), "`encoder.time_steps` must be"),
        (lambda: Network(Together([features(3)]), [], classes=[0, 1]), "`classes` must be None without `stages`"),
        (lambda: Network(Together([features(3)]), None), "`stages` must be"),
        (lambda: models.Network(Together([features(3)]), [Stage(features(3, 8).stages[0].layer)]), "time_steps"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


def test_one_of_them_built_otherwise_is_refused_and_taken_without_strict():
    made, other = together(), together()
    made.encoder.networks[1].stages[0].layer.weight.data.fill_(0.3)
    other.encoder.networks[1].stages[0].pool.earliest = 2
    with pytest.raises(ValueError, match="earliest is 1 there, 2 here"):
        other.load_state_dict(made.state_dict())
    assert not any(other.load_state_dict(made.state_dict(), strict=False))
    assert (other.encoder.networks[1].stages[0].layer.weight == 0.3).all()
