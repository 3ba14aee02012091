"""Every case in the table of docs/training.md, on real digits: a word where learning fails, none where it does not."""

import re
import warnings
from dataclasses import replace
from functools import cache

import pytest
import torch

from spyketorch import models, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
from spyketorch.models import ImageSpec, InputWarning, Network, Stage
from spyketorch.training import (
    Constant,
    Doubling,
    Fading,
    Reinforced,
    Trainer,
    TrainingWarning,
    Unsupervised,
    _diagnosis,
)

T = 15
STROKES = Unsupervised(kwta=3, inhibition_radius=2, schedule=Doubling(every=100), period=50)
DIGITS = Reinforced(reward=(0.05, -0.035), punishment=(-0.05, 0.01), schedule=Fading(0.1), dropout=0.5, period=50)

QUICK = {"rates": (0.9, -0.9), "schedule": Constant(), "kwta": 4, "inhibition_radius": 0, "pointwise_inhibition": False}


@cache
def digits():
    load_digits = pytest.importorskip("sklearn.datasets").load_digits
    found = load_digits()
    return torch.tensor(found.images).float().unsqueeze(1)[:600], torch.tensor(found.target)[:600]


def network(threshold=4.0, weak=1.0, decides=4, features=20, **options):
    torch.manual_seed(0)
    encoder = LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)], 1, weak), T)
    strokes = snn.SpikingConvolution(2, features, 3, threshold, 0.8, 0.05, time_steps=T, padding=1)
    last = snn.SpikingConvolution(features, 50, decides, None, 0.5, 0.05, time_steps=T)
    return Network(
        encoder, [Stage(strokes, snn.SpikingPooling(2), inhibit=True), Stage(last)], torch.arange(50) // 5, **options
    )


def train(made, lessons=(STROKES, DIGITS), images=None, labels=None, **options):
    """The reports, and all warnings."""
    known, right = digits()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        reports = Trainer(made, list(lessons), progress=False, on_silence="warn", **options).fit(
            known if images is None else images, right if labels is None else labels
        )
    told = [str(w.message) for w in caught if issubclass(w.category, TrainingWarning | InputWarning)]
    assert len(told) == sum(len(report.warnings) for report in reports)
    for report in reports:
        assert all(any(text in line for line in told) for text in report.warnings)
    return reports, " ".join(told)


def test_learning_that_goes_well_is_not_warned_of():
    reports, told = train(network(images=ImageSpec((1, 8, 8), (0, 16))), [STROKES, replace(DIGITS, epochs=4)])
    assert told == ""
    assert reports[0].hints == reports[1].hints == ()


def test_rates_that_do_no_harm_are_not_warned_of():
    assert train(network(), [replace(STROKES, rates=(0.04, -0.03))])[1] == ""  # ten times as high
    assert train(network(), [replace(STROKES, rates=(0.15, -0.11), schedule=Constant())])[1] == ""


@pytest.mark.parametrize(
    "told, build, change",
    [
        ("nothing fires", {"threshold": 1000.0}, {}),
        ("its input is silent", {"weak": 1000.0}, {}),
        ("images are silent, and teach nothing", {"threshold": 7.6}, {}),
        ("fewer than time steps", {"weak": 17.0}, {}),
        ("does so at the first spike it sees", {"threshold": -1.0}, {}),
        ("with a rate of 1.28 one update", {}, {"rates": (0.04, -0.03), "schedule": Doubling(every=20)}),
        ("decided within the first 50 of 600 images, after 50", {"features": 4}, QUICK),
        ("images, after 30 updates of a feature", {}, {"rates": (0.9, -0.675), "schedule": Constant()}),
        ("features look alike", {}, {**QUICK, "rates": (0.04, -0.03), "kwta": 20, "epochs": 3}),
        ("of 200 features never won", {"features": 200}, {"kwta": 1, "inhibition_radius": 0}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unsupervised_layers(told, build, change):
    reports, text = train(network(**build), [replace(STROKES, **change)])
    assert told in text
    assert told in " ".join(reports[0].warnings)


def test_a_silent_layer_stops_the_run():
    images, labels = digits()
    for build, told in (({"threshold": 1000.0}, "nothing fires"), ({"weak": 1000.0}, "its input is silent")):
        made = network(**build)
        before = made.stages[0].layer.weight.clone()
        with pytest.raises(ValueError, match=rf"layer 1: {told}.*on_silence=\"warn\""):
            Trainer(made, [STROKES], progress=False).fit(images, labels)
        assert torch.equal(made.stages[0].layer.weight, before)
    with pytest.raises(ValueError, match="`on_silence`"):
        Trainer(network(), [STROKES], on_silence="no")


def test_images_on_another_scale():
    reports, told = train(network(images=ImageSpec((1, 8, 8), (0, 255))), [STROKES])
    assert "made for 0..255" in told
    assert "made for 0..255" in reports[0].warnings[0]


def test_decisions_at_chance():
    lesson = replace(DIGITS, reward=(0.0, 0.0), punishment=(0.0, 0.0))
    assert "than by always naming" in train(network(), [STROKES, lesson])[1]
    mixed = digits()[1][torch.randperm(600)]
    assert "than by always naming" in train(network(), labels=mixed)[1]


def test_deciding_features_that_never_win():
    made = network()
    made.stages[1].layer.weight[torch.arange(50) % 5 > 0] = 0.3  # one of each class is ahead of all
    reports, told = train(made, [STROKES, replace(DIGITS, dropout=0.0)])
    assert "deciding features never won" in told
    assert reports[1].dead > 50 / 3


def test_labels_that_no_feature_stands_for():
    assert "no feature stands for the labels 10" in train(network(), labels=digits()[1] + 1)[1]


def test_layers_that_fall_silent():
    lesson = replace(STROKES, rates=(-0.5, -0.5), schedule=Constant())
    assert "at the end 100% of the images are silent" in train(network(), [lesson])[1]


def test_a_window_smaller_than_the_map_is_hinted_at():
    reports, _ = train(network(decides=3))
    assert "sees 3 x 3 of 4 x 4 places" in reports[1].hints[0]
    assert "hint: each deciding neuron" in str(reports[1])


def test_reports_count_what_is_passed_on_as_summaries_do():
    made, images = network(), digits()[0]
    reports, _ = train(made)
    rows = {row.part: row for row in made.summary(images[:500]).rows}
    for report, name in zip(reports, ("stages[0].layer", "stages[1].layer"), strict=True):
        assert report.spikes == pytest.approx(rows[name].spikes)
        assert report.silent == pytest.approx(rows[name].silent)


def test_convergence_where_it_means_something():
    made = network()
    torch.manual_seed(0)
    trainer = Trainer(made, [STROKES, DIGITS], progress=False)
    reports = trainer.fit(*digits())
    assert reports[0].convergence > 0
    assert reports[1].convergence is None
    assert "convergence" not in str(reports[1])
    assert {"convergence" in row for row in trainer.history if row["layer"] == 2} == {False}


def test_warnings_are_kept_with_the_run(tmp_path):
    reports, told = train(network(threshold=-1.0), directory=tmp_path)
    images, labels = digits()
    trainer = Trainer(network(threshold=-1.0), [STROKES, DIGITS], tmp_path, progress=False, resume=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = trainer.fit(images, labels)
    assert [report.warnings for report in again] == [report.warnings for report in reports]
    assert "first spike it sees" in told
    assert models.InputWarning is InputWarning


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_thresholds_that_one_spike_reaches(threshold):
    assert "does so at the first spike it sees" in train(network(threshold=threshold), [STROKES])[1]
    grouped = network(threshold=threshold)
    grouped.stages[0] = Stage(snn.SpikingConvolution(2, 20, (3, 2), threshold, 0.8, 0.05, time_steps=T, groups=2))
    assert "does so at the first spike it sees" in train(grouped, [STROKES])[1]


@pytest.mark.parametrize("name", ["kheradpisheh2018", "mozafari2019"])
def test_the_thresholds_of_published_networks_are_high_enough(name):
    learned, fresh = getattr(models, name)(pretrained=True), getattr(models, name)()
    times = learned.encoder(torch.nn.functional.interpolate(digits()[0][:50] * 15.9, (28, 28), mode="bilinear"))
    for stage, start in zip(learned.stages, fresh.stages, strict=True):
        for layer in (stage.layer, start.layer):
            assert not any("first spike it sees" in text for text in _diagnosis.before(layer, times))
        if start.layer.threshold is not None:
            start.layer.threshold = 0.5
            assert any("first spike it sees" in text for text in _diagnosis.before(start.layer, times))
        times = stage(times)


@pytest.mark.parametrize(
    ("lesson", "told"),
    [
        (replace(STROKES, rates=(-0.003, 0.004)), r"`rates` is \(-0.003, 0.004\) for \(LTP, LTD\), usually \(\+, -\)"),
        (replace(STROKES, rates=(-0.003, 0.004)), "these weaken what made the winner fire: are they swapped\\?"),
        (replace(STROKES, rates=(0.004, 0.003)), "these strengthen what the winner did without"),
        (replace(DIGITS, reward=(-0.004, 0.003)), "`reward` is .* these weaken what made the winner fire"),
        (replace(DIGITS, punishment=(0.004, -0.0005)), r"`punishment` is .*, usually \(-, \+\); these strengthen"),
        (replace(DIGITS, punishment=(-0.004, -0.0005)), "`punishment` is .* these weaken what the winner did without"),
    ],
    ids=str,
)  # fmt: skip
def test_rates_of_unusual_signs(lesson, told):
    given = [STROKES, lesson] if isinstance(lesson, Reinforced) else [lesson]
    reports, text = train(network(), given, images=digits()[0][:50], labels=digits()[1][:50])
    assert re.search(told, text)
    assert re.search(told, " ".join(reports[-1].warnings))


def test_rates_of_zero_have_no_sign():
    lessons = [replace(STROKES, rates=(0.0, 0.0)), replace(DIGITS, reward=(0.0, -0.1), punishment=(-0.1, 0.0))]
    assert "usually" not in train(network(), lessons, images=digits()[0][:50], labels=digits()[1][:50])[1]


def test_decisions_below_chance():
    right = torch.arange(600) % 10
    for hits, told in ((0.05, ", less than by"), (0.1, ", no more than by"), (0.12, ", hardly more than by")):
        course = _diagnosis.Course([{"seen": 600.0, "hits": hits}], torch.ones(50), right)
        assert told in next(_diagnosis.chance(course))


def course(hits, wins=None, **figures):
    """One with a period for each of the hits, of three classes."""
    rows = [{"seen": 100.0 * (n + 1), "hits": share, **figures} for n, share in enumerate(hits)]
    return _diagnosis.Course(rows, torch.ones(50) if wins is None else torch.tensor(wins), torch.arange(600) % 3)


def test_decisions_that_are_not_much_better_than_chance():
    """Half of three classes right is far from learned."""
    (told,) = _diagnosis.chance(course([0.4, 0.5, 0.52, 0.53, 0.53, 0.53]))
    assert "right for 53% of the images at the end, not much more than" in told
    assert not list(_diagnosis.chance(course([0.4, 0.5, 0.6, 0.6, 0.6, 0.6])))


def test_a_layer_that_unlearns():
    """Pictures of three kinds, by the recipe of the digits: 74 % in the third period, 38 % at the end."""
    low, falling = _diagnosis.chance(course([0.34, 0.57, 0.74, 0.61, 0.47, 0.43, 0.42, 0.39, 0.36, 0.38]))
    assert "right for 38% of the images at the end, hardly more than" in low
    assert "were right for 74% of the images before, and are for 38% at the end" in falling
    (falling,) = _diagnosis.chance(course([0.5, 0.95, 0.9, 0.9, 0.9, 0.8]))
    assert "the layer unlearns" in falling
    assert not list(_diagnosis.chance(course([0.5, 0.95, 0.9, 0.9, 0.9, 0.88])))
    assert not list(_diagnosis.chance(course([0.5, 0.95, 0.4])))  # too few images to judge


def test_features_that_have_hardly_begun():
    wins = [0] * 18 + [3] * 46
    (told,) = _diagnosis.undecided(course([0.0] * 6, wins, convergence=0.129))
    assert "(convergence 0.129;" in told
    assert "18 of 64 features never won" in told
    for calm in (course([0.0] * 6, wins, convergence=0.05), course([0.0] * 6, [1] * 64, convergence=0.129)):
        assert not list(_diagnosis.undecided(calm))
    assert not list(_diagnosis.undecided(course([0.0] * 6, wins)))  # without a stabilizer
    assert not list(_diagnosis.undecided(course([0.0] * 4, wins, convergence=0.129)))


def test_neurons_that_decide_on_a_small_part_of_the_image():
    layer = snn.SpikingConvolution(64, 60, 10, None, time_steps=T)
    (told,) = _diagnosis.narrow(layer, (32, 32))
    assert "each deciding neuron sees 10 x 10 of 32 x 32 places, 10% of the image" in told
    assert "kernel_size=(32, 32)" in told
    assert not list(_diagnosis.narrow(layer, (20, 20)))
    _, told = train(network(), images=torch.nn.functional.interpolate(digits()[0], (20, 20)), lessons=[STROKES, DIGITS])
    assert told.count("each deciding neuron sees 4 x 4 of 10 x 10 places, 16% of the image") == 1


def test_too_few_images_to_judge():
    images, labels = digits()
    reports, told = train(network(), images=images[:200], labels=labels[torch.randperm(600)][:200])
    for report in reports:
        assert report.hints == ("too few images seen to judge winners, convergence and hits: 200, which takes 500",)
        assert "hint: too few images" in str(report)
    assert told == ""
