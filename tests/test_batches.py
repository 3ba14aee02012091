"""Batches by memory: as many images at once as a network's maps leave room for, and the same answers."""

import pytest
import torch

from spyketorch import models, snn, visualization
from spyketorch.encoding import LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.models._batches import batch_size
from spyketorch.snn import SpikingConvolution
from spyketorch.training import Readout, Reinforced, Trainer, Unsupervised, evaluate


def test_larger_images_come_in_fewer():
    made, small, large = models.mozafari2019(), torch.zeros(1000, 1, 28, 28), torch.zeros(40, 1, 256, 256)
    assert batch_size(made, small) == 2**28 // (16 * 250 * 14 * 14)
    assert batch_size(made, large) == 2**28 // (16 * 250 * 128 * 128)
    made.batch_memory = 1
    assert [len(part) for part in made.batches(small[:3])] == [1, 1, 1]
    made.batch_memory = 1e15
    assert batch_size(made, large) == 500


@pytest.mark.parametrize("memory", [1, 2e6, 1e9])
def test_answers_do_not_depend_on_it(memory, tmp_path):
    images, labels = torch.randint(0, 256, (12, 1, 28, 28)), torch.arange(12) % 10

    def results(memory):
        torch.manual_seed(0)
        made = models.kheradpisheh2018()
        made.batch_memory = memory
        reports = Trainer(made, [Unsupervised(), Unsupervised()], progress=False).fit(images)
        yield from (stage.layer.weight for stage in made.stages)
        yield torch.tensor([report.spikes for report in reports], dtype=torch.float64)
        yield evaluate(models.mozafari2019(pretrained=True), images, labels).confusion
        yield torch.tensor([row.spikes for row in made.summary(images).rows[:-1]], dtype=torch.float64)
        yield visualization.get_mean_stimuli(made, 0, images) > 0

    assert all(map(torch.equal, results(memory), results(2**28)))


PUBLISHED = {
    "mozafari2019": (models.mozafari2019, (28, 28), 255, 10, [Unsupervised(), Unsupervised(), Reinforced()]),
    "mozafari2018": (models.mozafari2018, (97, 103), 1, 2, [Reinforced()]),
    "kheradpisheh2018": (
        models.kheradpisheh2018,
        (28, 28),
        255,
        10,
        [Unsupervised(), Unsupervised(), Readout(iterations=5)],
    ),
}


@pytest.mark.filterwarnings("ignore")  # noise teaches nothing
@pytest.mark.parametrize("make, size, largest, classes, lessons", PUBLISHED.values(), ids=PUBLISHED)
def test_published_networks_hold_the_same_bits(make, size, largest, classes, lessons, threads):
    """Times, stored answers, what is learned, scores and decisions: for any number of threads and any batch."""
    images, labels = torch.rand(12, 1, *size) * largest, torch.arange(12) % classes

    def results(count, batch):
        threads(count)
        torch.manual_seed(0)
        made = make()
        made.batch_memory = 2**24
        made.batch_memory *= (batch + 0.5) / batch_size(made, images)
        assert batch_size(made, images) == batch
        reports = Trainer(made, lessons, progress=False).fit(images, labels)
        yield torch.tensor([report.spikes for report in reports if report.spikes is not None], dtype=torch.float64)
        yield from made.state_dict().values()
        for stages in range(len(made.stages) + 1):
            yield torch.cat([made.features(part, stages) for part in images.split(batch)])
        yield torch.cat([made(part) for part in images.split(batch)])
        yield evaluate(made, images, labels).confusion

    want = list(results(1, 12))
    for way in [(1, 1), (2, 7), (2, 12)]:
        assert all(map(torch.equal, results(*way), want)), way


class Held(torch.nn.Module):
    """A module of a user's own that holds a network."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        return self.network(images)


class Scaled(Held):
    """A wrapper that makes other images of those it gets."""

    def forward(self, images):
        return self.network(torch.nn.functional.interpolate(images / 255, (12, 12)))


def test_a_network_in_a_wrapper_looks_at_what_reaches_it():
    layer = SpikingConvolution(1, 4, 3, 1.0, time_steps=5)
    spec = models.ImageSpec((1, 12, 12), (0, 1))
    made = models.Network(LatencyEncoder(torch.nn.Identity(), 5), [models.Stage(layer)], [0, 1, 2, 3], images=spec)
    made.batch_memory = 1  # one image at a time
    labels, bright = torch.arange(4), torch.rand(4, 1, 24, 24) * 255
    for wrapper in (Scaled(made), lambda images: Scaled(made)(images)):
        evaluate(wrapper, bright, labels)  # neither refused nor warned of
        with pytest.warns(models.InputWarning, match="images reach from 0.00 to 0.00") as told:
            evaluate(wrapper, bright / 255, labels, batch=1)
        assert len(told) == 1
    with pytest.warns(models.InputWarning) as told:
        evaluate(torch.nn.DataParallel(made), bright[..., :12, :12], labels)
    assert len(told) == 1


@pytest.mark.filterwarnings("ignore")  # what torch.compile says of caches
def test_whatever_holds_a_network_is_evaluated():
    made, images, labels = models.mozafari2019(pretrained=True), torch.randint(0, 256, (6, 1, 28, 28)), torch.arange(6)
    want = evaluate(made, images, labels).confusion
    for wrapped in (Held(made), torch.nn.DataParallel(made), torch.compile(made, backend="eager"), lambda x: made(x)):
        assert torch.equal(evaluate(wrapped, images, labels).confusion, want)
    for wrong in (lambda x: x, lambda x: torch.zeros(len(x)), lambda x: None):
        with pytest.raises(ValueError, match="`network`"):
            evaluate(wrong, images, labels)
    with pytest.raises(TypeError, match="`network`"):
        evaluate(3, images, labels)


def test_summaries_know_stages_of_ones_own():
    class Named(Stage):
        def __init__(self, layer, pool, name):
            super().__init__(layer, pool)
            self.name = name

    class Loud(Named):
        def forward(self, times):
            return super().forward(times).clamp(max=3)

    made, images = models.mozafari2019(), torch.randint(0, 256, (3, 1, 28, 28))
    first = made.stages[0]
    want = made.summary(images)
    named = Network(made.encoder, [Named(first.layer, first.pool, "a"), *made.stages[1:]], made.classes)
    assert str(named.summary(images)) == str(want)
    loud = Network(made.encoder, [Loud(first.layer, first.pool, "b"), *made.stages[1:]], made.classes)
    rows = {row.part: row for row in loud.summary(images).rows}
    assert rows["stages[0]"].kind == "Loud"
    assert rows["stages[0]"].spikes == 30 * 14 * 14
    assert rows["stages[0]"].threshold == "15"
    assert isinstance(made.stages[0].layer, snn.SpikingConvolution)
