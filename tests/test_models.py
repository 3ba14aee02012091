"""Networks: their summary says what they hold and how they answer, their files are whole."""

import pytest
import torch

from spyketorch import latency, models
from spyketorch.encoding import LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.snn import SpikingConvolution, SpikingPooling

T = 6


def network(**options):
    torch.manual_seed(0)
    one = SpikingConvolution(1, 3, 3, torch.tensor([2.0, 3.0, 4.5]), 0.8, 0.1, time_steps=T, padding=1)
    two = SpikingConvolution(3, 4, 2, None, 0.8, 0.1, time_steps=T)
    stages = [Stage(one, SpikingPooling(2), **options), Stage(two)]
    return Network(LatencyEncoder(torch.nn.Identity(), T), stages, [0, 0, 1, 1])


def images():
    made = torch.rand(5, 1, 8, 10) * (torch.rand(5, 1, 8, 10) > 0.6)
    made[2] = 0  # a blank image
    return made


def test_summary_of_a_shape():
    table = network().summary((1, 8, 10))
    rows = {row.part: row for row in table.rows}
    assert rows["encoder"].shape == (1, 8, 10)
    assert rows["stages[0].layer"].shape == (3, 8, 10)
    assert rows["stages[0].pool"].shape == (3, 4, 5)
    assert rows["stages[1].layer"].shape == (4, 3, 4)
    assert rows["stages[0].layer"].weights == 3 * 9
    assert rows["stages[1].layer"].weights == 4 * 3 * 4
    assert rows["stages[1].layer"].neurons == 4 * 3 * 4
    assert all(row.spikes is None and row.silent is None for row in table.rows)
    text = str(table)
    assert "2..4.5" in text
    assert "last step" in text
    assert f"{27 + 48}" in text.splitlines()[-1]


@pytest.mark.parametrize("inhibit", [False, True])
def test_summary_of_images(inhibit):
    made, stimuli = network(inhibit=inhibit), images()
    rows = {row.part: row for row in made.summary(stimuli).rows}
    times = made.encoder(stimuli)
    fired, potentials = made.stages[0].layer.respond(times)
    if inhibit:
        fired, _ = latency.pointwise_inhibition(fired, potentials, time_steps=T)
    pooled = latency.pooling(fired, 2)
    answers = {"encoder": times, "stages[0].layer": fired, "stages[0].pool": pooled}
    answers["stages[1].layer"] = made.stages[1].layer(pooled)
    for name, answer in answers.items():
        spikes = (answer < T).flatten(1).sum(1).double()
        assert rows[name].spikes == pytest.approx(float(spikes.mean())), name
        assert rows[name].silent == pytest.approx(float((spikes == 0).double().mean())), name
    assert rows["encoder"].silent == pytest.approx(0.2)


def test_summary_counts_a_shortcut_and_a_readout():
    made = models.kheradpisheh2018()
    rows = {row.part: row for row in made.summary((1, 28, 28)).rows}
    assert rows["stages[1].pool"].shape == (150, 7, 7)
    assert rows["stages[1].shortcut"].shape == (182, 7, 7)
    assert rows["readout"].shape == (10,)
    assert rows["readout"].weights == 10 * (182 * 49 + 1)


@pytest.mark.parametrize("wrong", [(28, 28), (0, 8, 8), torch.zeros(1, 8, 8), torch.zeros(0, 1, 8, 8), "no"])
def test_summary_of_what_are_no_images(wrong):
    with pytest.raises((ValueError, TypeError), match="images"):
        network().summary(wrong)


def test_stages_that_do_not_fit_are_refused():
    encoder = LatencyEncoder(torch.nn.Identity(), T)
    one, two = (SpikingConvolution(a, b, 3, 2.0, time_steps=T) for a, b in ((1, 3), (4, 2)))
    with pytest.raises(ValueError, match=r"`stages`\[1\] reads 4 features, but stages\[0\] gives 3"):
        Network(encoder, [Stage(one), Stage(two)])
    Network(encoder, [Stage(one, SpikingPooling(3, 1, 1), shortcut=SpikingPooling(1)), Stage(two)])  # 3 and 1 more


def test_features_stop_where_they_are_asked_to():
    made, stimuli = network(), images()
    times = made.encoder(stimuli)
    assert torch.equal(made.features(stimuli, 0), times)
    assert torch.equal(made.features(stimuli, 1), made.stages[0](times))
    assert torch.equal(made.features(stimuli), made.stages[1](made.stages[0](times)))


def test_shortcut_passes_the_input_on():
    layer = SpikingConvolution(3, 4, 1, 0.1, time_steps=T)
    times = torch.randint(0, T + 1, (2, 3, 4, 4), dtype=torch.uint8)
    passed = Stage(layer, SpikingPooling(2), shortcut=SpikingPooling(2))(times)
    assert torch.equal(passed[:, :4], latency.pooling(layer(times), 2))
    assert torch.equal(passed[:, 4:], latency.pooling(times, 2))


def test_saved_networks_load(tmp_path):
    made, other = network(), network()
    made.stages[1].layer.weight.mul_(0.5)
    made.save(tmp_path / "some" / "network.pt")
    other.load_state_dict(torch.load(tmp_path / "some" / "network.pt", weights_only=True))
    assert torch.equal(other(images()), made(images()))
    assert torch.equal(other.stages[1].layer.weight, made.stages[1].layer.weight)
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["network.pt"]
    with pytest.raises(TypeError, match="path"):
        made.save(3)


def test_networks_that_do_not_fit_together():
    made = network()
    with pytest.raises(ValueError, match="stages"):
        Network(made.encoder, [])
    with pytest.raises(ValueError, match="time_steps"):
        Network(LatencyEncoder(torch.nn.Identity(), T + 1), made.stages)
    other = Stage(SpikingConvolution(3, 4, 2, time_steps=T + 1))
    with pytest.raises(ValueError, match="time_steps"):
        Network(torch.nn.Identity(), [made.stages[0], other])
    with pytest.raises(ValueError, match="images"):
        made(images()[0])


def test_networks_tell_what_they_are():
    text = repr(network())
    assert "classes=2" in text
    assert "threshold=2..4.5" in text
    assert "inhibit=True" in repr(network(inhibit=True))
