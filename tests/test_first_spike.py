"""Read-outs that decide by who fires first, and supervised STDP, against a slow oracle."""

import copy
import itertools
import math
import re
import signal

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import dyadic, kinds, seeds, spike_times

from spyketorch import learning, models, neurons, snn
from spyketorch.encoding import LatencyEncoder
from spyketorch.kernels import plain
from spyketorch.learning import Competition, SupervisedSTDP
from spyketorch.readout import FirstSpikeReadout, LinearReadout
from spyketorch.training import Readout, Supervised, Trainer, TrainingWarning, evaluate
from spyketorch.training import _diagnosis as diagnosis

STEP, RAMP = neurons.IntegrateAndFire(), neurons.Ramp


def built(rng, inputs, classes, per_class, steps, neuron, low=0.0, threshold=None):
    """A read-out with weights on a grid."""
    made = FirstSpikeReadout((inputs, 1, 1), classes, per_class, threshold, time_steps=steps, neuron=neuron)
    made.weight.copy_(torch.from_numpy(dyadic(rng, (classes * per_class, inputs), low)))
    return made


def kind_of(neuron):
    return ("ramp", neuron.duration) if isinstance(neuron, RAMP) else ("step",)


any_neuron = st.sampled_from([STEP, RAMP(4), RAMP(8)])
powers = st.sampled_from([1, 2, 4, 8])


@given(seeds, powers, any_neuron, kinds, st.integers(1, 9), st.sampled_from([0.0, -1.0]))
def test_times_between_the_steps(seed, steps, neuron, kind, inputs, low):
    rng = np.random.default_rng(seed)
    readout = built(rng, inputs, 2, 2, steps, neuron, low, threshold=float(rng.integers(1, 200)) / 64)
    times = spike_times(rng, (3, inputs), steps, kind)
    fired, last = readout._respond(torch.from_numpy(times.reshape(3, inputs, 1, 1)))
    for i in range(3):
        want, end = reference.exact_times(
            readout.weight.double().numpy(), readout.limit().double().numpy(), times[i], steps, readout.horizon,
            kind_of(neuron),
        )  # fmt: skip
        np.testing.assert_allclose(fired[i].numpy(), want, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(last[i].numpy(), end)


@given(seeds, st.sampled_from([1, 3, 15, 254, 300]), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=30)
def test_loops_and_torch_are_one(seed, steps, samples, inputs):
    rng = np.random.default_rng(seed)
    times = torch.from_numpy(spike_times(rng, (samples, inputs), steps))
    for neuron in (STEP, RAMP(4), RAMP(steps), neurons.Leaky(0.5)):
        readout = built(rng, inputs, 3, 2, steps, neuron, -0.25, threshold=1.5)
        fired, _ = readout._respond(times)
        want, _ = plain.exact_fire(times, readout.weight, readout.limit(), steps, readout.horizon, neuron)
        if neuron == RAMP(steps) and steps not in (1, 2, 4, 8):  # thirds are rounded
            torch.testing.assert_close(fired, want, rtol=1e-4, atol=1e-3)
        elif steps <= 15:
            assert torch.equal(fired, want)
        assert torch.equal(fired, torch.cat([readout._respond(one[None])[0] for one in times]))


@pytest.mark.parametrize("neuron", [STEP, RAMP(4), neurons.Leaky(0.5)])
def test_a_potential_is_the_sum_of_the_responses(neuron):
    times, weight = torch.tensor([0, 2, 2, 5]), torch.tensor([0.5, 1.0, 0.25, 2.0])
    clock = torch.arange(6)
    heard = ((times <= clock[:, None]) * weight).sum(1).view(6, 1, 1, 1)
    want = (neuron.response((clock[:, None] - times).double()) * weight).sum(1)
    torch.testing.assert_close(neurons.potentials(heard, neuron).flatten(), want.float())


@given(seeds, any_neuron)
def test_the_largest_score_is_that_of_who_fires_first(seed, neuron):
    rng = np.random.default_rng(seed)
    readout = built(rng, 6, 3, 2, 4, neuron, threshold=float(rng.integers(1, 300)) / 64)
    times = torch.from_numpy(spike_times(rng, (5, 6), 4))
    fired, last = readout._respond(times)
    scores = readout(times)
    for n in range(5):
        first = sorted(range(6), key=lambda f: (fired[n, f].item(), -last[n, f].item()))[0]
        best = int(scores[n].argmax())
        if math.isfinite(fired[n, first]):
            assert fired[n, 2 * best : 2 * best + 2].min() == fired[n, first]
            assert scores[n, best] == pytest.approx(1 - fired[n, first].item() / 4, abs=1e-6)
        else:
            assert last[n, 2 * best : 2 * best + 2].max() == last[n, first]
    quiet = readout(torch.full((1, 6), 4))
    assert (quiet < scores.max() + 1).all()
    assert torch.isfinite(quiet).all()


def test_a_ramp_fires_after_the_last_step_and_a_step_neuron_does_not():
    times = torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    for neuron, threshold, want in ((RAMP(4), 1.5, 6.0), (RAMP(4), 4.0, 16.0), (RAMP(4), 4.1, math.inf),
                                    (STEP, 0.5, -0.5), (STEP, 1.0, math.inf)):  # fmt: skip
        readout = FirstSpikeReadout((1, 1, 1), 2, 1, threshold, time_steps=4, neuron=neuron)
        readout.weight.fill_(1)
        assert readout.fire(times).flatten().tolist() == [want, want], (neuron, threshold)


# learning


def rules(seed, neuron, steps, competition, covariance=False):
    rng = np.random.default_rng(seed)
    readout = FirstSpikeReadout((9, 1, 1), 3, 3, time_steps=steps, neuron=neuron)
    readout.weight.copy_(torch.from_numpy(rng.uniform(0.1, 0.6, (9, 9))))
    readout.threshold.fill_(rng.uniform(0.3, 1.5))
    expected = torch.from_numpy(rng.uniform(0.1, 1, 9)) if covariance else None
    rule = SupervisedSTDP(readout, (0.5, -0.2), 0.1, competition=competition, expected=expected)
    return rng, readout, rule


competitions = st.sampled_from([None, Competition(1, 0.05), Competition(0, 0.1), Competition(2, 0.0)])


@given(seeds, st.sampled_from([2, 5, 15]), st.sampled_from([STEP, None, RAMP(3)]), competitions, st.booleans())
@settings(max_examples=60)
def test_learning_against_the_equations(seed, steps, neuron, competition, covariance):
    rng, readout, rule = rules(seed, neuron, steps, competition, covariance)
    times, labels = spike_times(rng, (12, 9), steps), rng.integers(0, 3, 12)
    weight, total = readout.weight.double().numpy().copy(), rule.total.double().numpy()
    threshold, lifted = readout.limit().double().numpy(), rule.lifted.double().numpy().copy()
    non_target, lift = competition or (0, 0)
    how = {
        "time_steps": steps,
        "horizon": readout.horizon,
        "per_class": 3,
        "kind": kind_of(readout.neuron),
        "gap": 0.1,
        "ltp": 0.5,
        "ltd": -0.2,
        "expected": rule.expected.double().numpy() if covariance else None,
        "non_target": non_target,
        "lift": lift,
    }
    for one, label in zip(times, labels, strict=True):
        before = readout.weight.clone()
        answered = rule.learn(torch.from_numpy(one[None]), torch.tensor([label]))
        was = weight.copy()
        decided = reference.supervised_stdp(weight, threshold, lifted, total, one, label, how)
        learned = set((weight != was).any(1).nonzero()[0])
        if not learned <= set(answered.winners.flatten().tolist()):
            return  # a tie that rounding decides
        assert int(answered.classes) == decided
        np.testing.assert_allclose(readout.weight.numpy(), weight, atol=2e-5)
        np.testing.assert_allclose(rule.lifted.numpy(), lifted, rtol=1e-5)
        others = [f for f in range(9) if f not in answered.winners.flatten().tolist()]
        assert torch.equal(readout.weight[others], before[others])


@given(seeds, st.sampled_from([STEP, None]), competitions, st.booleans(), st.lists(st.integers(1, 20), max_size=3))
@settings(max_examples=30)
def test_cuts_and_back_ends_make_no_difference(seed, neuron, competition, covariance, cuts):
    rng, readout, rule = rules(seed, neuron, 8, competition, covariance)
    times, labels = torch.from_numpy(spike_times(rng, (40, 9), 8)), torch.from_numpy(rng.integers(0, 3, 40))
    cut, in_torch = copy.deepcopy(rule), copy.deepcopy(rule)
    want = rule.learn(times, labels)
    places = sorted({0, *cuts, 40})
    parts = [cut.learn(times[a:b], labels[a:b]) for a, b in itertools.pairwise(places)]
    assert torch.equal(torch.cat([part.classes for part in parts]), want.classes)
    assert torch.equal(torch.cat([part.winners for part in parts]), want.winners)
    assert torch.equal(cut.readout.weight, readout.weight)
    assert torch.equal(cut.lifted, rule.lifted)
    for one, label in zip(times.split(1), labels.split(1), strict=True):
        in_torch._learn(one, label)
    torch.testing.assert_close(in_torch.readout.weight, readout.weight, rtol=0, atol=2e-4)


def test_a_neuron_keeps_its_sum_and_its_bounds():
    for covariance in (False, True):
        rng, readout, rule = rules(3, None, 15, Competition(), covariance)
        rule.learn(torch.from_numpy(spike_times(rng, (200, 9), 15)), torch.from_numpy(rng.integers(0, 3, 200)))
        torch.testing.assert_close(readout.weight @ rule.expected, rule.total)
        assert readout.weight.min() >= 0


def test_what_inputs_are_expected_to_give():
    rng = np.random.default_rng(0)
    for neuron in (STEP, RAMP(8)):
        readout = FirstSpikeReadout((9, 1, 1), 3, 3, time_steps=8, neuron=neuron)
        times = spike_times(rng, (20, 9), 8)
        for latency in (0.5, 1.0, 1.5):
            want = [
                np.mean([reference.response(kind_of(neuron), 8 * latency - t) if t < 8 else 0 for t in times[:, i]])
                for i in range(9)
            ]
            got = readout.expected(torch.from_numpy(times), latency)
            np.testing.assert_allclose(got.numpy(), want, atol=1e-6)
            readout.calibrate(torch.from_numpy(times), latency)
            assert readout.threshold[0] == pytest.approx(float(readout.weight.mean()) * sum(want), rel=1e-5)


def test_relax_takes_the_thresholds_that_decide():
    rng, readout, rule = rules(3, None, 15, Competition(1, 0.1))
    rule.learn(torch.from_numpy(spike_times(rng, (50, 9), 15)), torch.from_numpy(rng.integers(0, 3, 50)))
    assert (rule.lifted > readout.limit()).any()
    assert torch.equal(rule.lifted[2::3], readout.limit()[2::3]), "those of non-target neurons stay"
    rule.relax()
    assert torch.equal(rule.lifted, readout.limit())


def test_a_step_is_the_share_of_an_error_that_goes():
    """Neurons that are too late by little fire earlier by that share of it, once they have learned an image."""
    rng = np.random.default_rng(0)
    readout = FirstSpikeReadout((400, 1, 1), 2, 1, time_steps=15)
    times = torch.from_numpy(spike_times(rng, (200, 400), 15))
    readout.calibrate(times, 1.5)
    step = 0.2
    rate, shares = step / readout.gain(times, 1.5), []
    for i in range(50):
        alone = copy.deepcopy(readout)
        rule = SupervisedSTDP(alone, (rate, -rate), 0.02, expected=readout.expected(times, 1.5))
        before = alone.fire(times[i : i + 1])[0]
        errors = (before - before.mean()) / 15 - torch.tensor([-0.01, 0.01])
        rule.learn(times[i : i + 1], torch.tensor([0]))
        after = alone.fire(times[i : i + 1])[0]
        shares.append(float((before - after)[0] / 15 / errors[0]))
    assert np.median(shares) == pytest.approx(step, rel=0.3)


# the lesson


def bars(count, seed=0):
    """Bright bars, upright or level, each with noise."""
    rng = np.random.default_rng(seed)
    images, labels = rng.uniform(0, 0.2, (count, 1, 6, 6)), rng.integers(0, 2, count)
    for image, label in zip(images, labels, strict=True):
        at = rng.integers(6)
        image[0, :, at] += label
        image[0, at, :] += 1 - label
    return torch.from_numpy(images).float(), torch.from_numpy(labels)


def network(per_class=3):
    torch.manual_seed(0)
    layer = snn.SpikingConvolution(1, 4, 3, 2.0, time_steps=8)
    layer.weight.copy_(torch.zeros(4, 1, 3, 3))
    layer.weight[0, 0, 1], layer.weight[1, 0, :, 1] = 1, 1
    layer.weight[2:] = 0.4
    made = models.Network(LatencyEncoder(torch.nn.Identity(), 8), [models.Stage(layer)])
    made.readout = FirstSpikeReadout((4, 4, 4), 2, per_class, time_steps=8)
    return made


LESSON = Supervised(epochs=4, gap=0.1)


def taught(lesson, made=None, directory=None, images=None, **options):
    made = network() if made is None else made
    images, labels = bars(120) if images is None else images
    trainer = Trainer(made, [*[FROZEN] * 1, lesson], directory, progress=False, **options)
    trainer.fit(images, labels)
    return made, trainer


class Frozen(learning.STDP):
    def learn(self, times, *_, **__):
        return torch.full((len(times), 1, 3), -1)


def frozen():
    from spyketorch.training import Unsupervised

    class Nothing(Unsupervised):
        def rule(self, stage):
            return Frozen(stage.layer, (0.0, 0.0))

    return Nothing()


FROZEN = frozen()
pytestmark = pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")


def test_bars_are_told_apart():
    made, trainer = taught(Supervised(epochs=8, gap=0.1), images=bars(600))
    result = evaluate(made, *bars(200, seed=1))
    print(result)
    assert result.accuracy > 0.8, result
    rows = [row for row in trainer.history if row["layer"] == 2]
    assert [row["seen"] for row in rows] == list(range(600, 5400, 600))
    assert rows[-1]["hits"] > 0.8
    assert all(0.5 < row["latency"] < 2 for row in rows)


def test_images_put_aside_teach_nothing():
    lesson = Supervised(epochs=3, held_out=0.25)
    images, labels = bars(80)
    made, trainer = taught(lesson, images=(images, labels))
    aside = lesson._apart(80, _Follow(trainer))[1]
    assert len(aside) == 20
    others = images.clone()
    others[aside] = torch.rand(20, 1, 6, 6)
    again, other = taught(lesson, images=(others, labels))
    assert torch.equal(made.readout.weight, again.readout.weight)
    assert [row["held_out"] for row in trainer.history[-3:]] != [row["held_out"] for row in other.history[-3:]]


class _Follow:
    def __init__(self, trainer):
        self.trainer = trainer

    def random(self, number):
        return np.random.default_rng([self.trainer.seed, 1, number])


def test_patience_keeps_the_best():
    lesson = Supervised(epochs=30, held_out=0.3, patience=2, rates=(4.0, -2.0))
    made, trainer = taught(lesson)
    rows = [row["held_out"] for row in trainer.history if row["layer"] == 2]
    assert len(rows) < 30
    images, labels = bars(120)
    aside = lesson._apart(120, _Follow(trainer))[1]
    assert evaluate(made, images[aside], labels[aside]).accuracy == pytest.approx(max(rows))


def test_weights_are_averaged():
    def after(epochs, averaged):
        schedule = Fixed()
        return taught(Supervised(epochs=epochs, averaged=averaged, schedule=schedule))[0].readout.weight

    torch.testing.assert_close(after(4, 2), (after(3, 1) + after(4, 1)) / 2)


class Fixed:
    def __call__(self, progress):
        return 1.0, 1.0

    def __repr__(self):
        return "Fixed()"


@pytest.mark.parametrize(
    "lesson", [LESSON, Supervised(epochs=4, held_out=0.2, patience=3, averaged=2, covariance=False, rates=(0.5, -0.1))]
)
@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_stopped_run_goes_on_to_the_bit(tmp_path, lesson, stop_after):
    want, trainer = taught(lesson)
    passed = Trainer._passed

    def stopping(self, *given):
        passed(self, *given)
        if len([row for row in self.history if row["layer"] == 2]) == stop_after:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_passed", stopping)
        with pytest.raises(KeyboardInterrupt):
            taught(lesson, directory=tmp_path)
    made, resumed = taught(lesson, directory=tmp_path, resume=True)
    assert torch.equal(made.readout.weight, want.readout.weight)
    assert resumed.history == trainer.history


def test_an_error_in_the_middle_undoes_to_the_last_whole_epoch():
    made, calls = network(), []
    learn = SupervisedSTDP.learn

    def failing(self, times, labels):
        calls.append(len(times))
        if len(calls) == 3:
            raise RuntimeError("full")
        return learn(self, times, labels)

    images, labels = bars(120)
    trainer = Trainer(made, [FROZEN, LESSON], progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SupervisedSTDP, "learn", failing)
        with pytest.raises(RuntimeError, match="full"):
            trainer.fit(images, labels)
    trainer.fit(images, labels)
    assert torch.equal(made.readout.weight, taught(LESSON)[0].readout.weight)


def test_a_file_brings_it_back(tmp_path):
    made, _ = taught(LESSON)
    made.save(tmp_path / "bars.pt")
    other = network()
    other.load(tmp_path / "bars.pt")
    images, _ = bars(50, seed=2)
    assert torch.equal(other.scores(images), made.scores(images))
    wrong = network()
    wrong.readout = FirstSpikeReadout((4, 4, 4), 2, 3, time_steps=8, neuron=STEP)
    with pytest.raises(ValueError, match="neuron"):
        wrong.load(tmp_path / "bars.pt")


@pytest.mark.filterwarnings("default::spyketorch.training.TrainingWarning")
def test_decisions_near_chance_are_told_of():
    with pytest.warns(TrainingWarning, match="read-out: decisions are right for .* than by always naming"):
        taught(Supervised(epochs=3, step=0.0), images=bars(600))


def epochs(hits, latency):
    return [{"hits": hit, "latency": late} for hit, late in zip(hits, latency, strict=True)]


@pytest.mark.parametrize(
    "rows, unheard, said",
    [
        (epochs([0.9, 0.95], [1.1, 1.2]), 0.01, []),
        (epochs([0.9, 0.95], [1.1, 1.4]), 0.01, ["neurons fire later and later, at 1.10 T .* at 1.40 T"]),
        (epochs([0.9, 0.7], [1.1, 1.1]), 0.01, ["right for 90% of the images before, and are for 70%"]),
        (epochs([0.9, 0.95], [1.1, 1.1]), 0.2, ["on 20% of the images no neuron fires"]),
        (epochs([0.4, 0.5], [1.1, 1.1]), 0.0, ["no more than by always naming"]),
    ],
)
def test_what_goes_wrong_is_said(rows, unheard, said):
    found = list(diagnosis.taught_times(rows, torch.arange(600) % 2, unheard))
    assert len(found) == len(said)
    for text, pattern in zip(found, said, strict=True):
        assert re.search(pattern, text)


@pytest.mark.filterwarnings("default::spyketorch.training.TrainingWarning")
def test_neurons_that_never_fire_are_told_of():
    made = network()
    made.readout = FirstSpikeReadout((4, 4, 4), 2, 3, time_steps=8, neuron=STEP)
    with pytest.warns(TrainingWarning, match="no neuron fires at all"):
        taught(Supervised(epochs=2, rates=(0.0, 0.0), latency=3.0), made)


@pytest.mark.parametrize("final", [Supervised(), Readout()])
def test_labels_that_the_read_out_has_not_are_refused_before_anything_is_learned(final):
    made, (images, labels) = network(), bars(60)
    if isinstance(final, Readout):
        made.readout = LinearReadout((4, 4, 4), 2, time_steps=8)
    trainer = Trainer(made, [FROZEN, final], progress=False)
    with pytest.raises(ValueError, match=r"`labels` must be classes 0\.\.1, as many as the read-out has; got 2"):
        trainer.fit(images, labels + 1)
    assert trainer.history == []


# what does not fit


@pytest.mark.parametrize(
    "options, message",
    [
        ({"classes": 1}, "`classes` must be"),
        ({"per_class": 0}, "`per_class` must be"),
        ({"threshold": 0}, "`threshold` must be above 0"),
        ({"threshold": [1.0, 2.0]}, "`threshold` must be a number or one per feature"),
        ({"neuron": "ramp"}, "`neuron` must be"),
        ({"neuron": RAMP(0)}, "`neuron.duration` must be"),
        ({"weight_mean": math.nan}, "`weight_mean` must be"),
        ({"shape": 3}, "`shape` must be"),
        ({"time_steps": 0}, "`time_steps` must be"),
    ],
)
def test_what_is_no_read_out_is_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        FirstSpikeReadout(**{"shape": (2, 3, 3), "classes": 3, "per_class": 2, "time_steps": 15, **options})


@pytest.mark.parametrize(
    "options, message",
    [
        ({"learning_rate": 0.5}, "`learning_rate` must be a pair"),
        ({"gap": "wide"}, "`gap` must be"),
        ({"expected": torch.ones(3)}, "`expected` must be one number per input"),
        ({"competition": (1, 0.1)}, "`competition` must be"),
        ({"competition": Competition(2)}, "`competition.non_target` must be 0..1"),
        ({"competition": Competition(1, -1)}, "`competition.lift` must be"),
        ({"lower_bound": 2}, "bound"),
    ],
)
def test_what_is_no_rule_is_refused(options, message):
    readout = FirstSpikeReadout((2, 3, 3), 3, 2, time_steps=15)
    with pytest.raises((ValueError, TypeError), match=message):
        SupervisedSTDP(readout, **options)


def test_samples_that_do_not_fit_are_refused():
    rule = SupervisedSTDP(FirstSpikeReadout((2, 3, 3), 3, 2, time_steps=15))
    times, labels = torch.zeros(4, 2, 3, 3, dtype=torch.uint8), torch.tensor([0, 1, 2, 0])
    for wrong, message in (
        ((times.float(), labels), "`times` must be"),
        ((times[:, :1], labels), "`times` must be"),
        ((times + 16, labels), "`times`"),
        ((times, labels[:3]), "`labels` must be"),
        ((times, labels + 1), "`labels` must be classes 0..2"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            rule.learn(*wrong)
    rule.readout.weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"readout\.weight"):
        rule.learn(times, labels)
    with pytest.raises(TypeError, match="`readout` must be"):
        SupervisedSTDP(LinearReadout((2, 3, 3), 3, time_steps=15))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"epochs": 0}, "`epochs` must be"),
        ({"averaged": 0}, "`averaged` must be"),
        ({"rates": (0.1,)}, "`rates` must be a pair"),
        ({"latency": 0}, "`latency` must be"),
        ({"step": -1}, "`step` must be"),
        ({"covariance": False}, "`rates` must be a pair"),
        ({"held_out": 1}, "`held_out` must be"),
        ({"patience": 3}, "`patience` must be None"),
        ({"fade": 2}, "`fade` must be"),
        ({"schedule": None}, "`schedule` must be"),
    ],
)
def test_what_is_no_lesson_is_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        Supervised(**options)


def test_a_network_without_such_a_read_out_is_told_the_way():
    made = network()
    made.readout = LinearReadout((4, 4, 4), 2, time_steps=8)
    with pytest.raises(ValueError, match=r"network\.readout = FirstSpikeReadout"):
        Trainer(made, [FROZEN, LESSON])
    made.readout = FirstSpikeReadout((4, 4, 4), 2, 1, time_steps=8)
    with pytest.raises(ValueError, match=r"competition\.non_target"):
        Trainer(made, [FROZEN, LESSON])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_inputs_are_expected_to_give_is_finite(value):
    readout = FirstSpikeReadout((4, 3, 3), 3, 2, time_steps=15)
    with pytest.raises(ValueError, match="`expected` must be finite"):
        SupervisedSTDP(readout, (0.5, -0.5), expected=torch.full((36,), value))


def test_a_read_out_that_hears_nothing_is_not_calibrated_and_says_the_way_on():
    readout = FirstSpikeReadout((4, 3, 3), 3, 2, time_steps=15)
    with pytest.raises(ValueError, match=r"`latency` must be .*where none of them fires, .* `training.calibrate`"):
        readout.calibrate(torch.full((2, 4, 3, 3), 15, dtype=torch.uint8), 1.5)


def test_weights_spread_by_no_less_than_nothing():
    with pytest.raises(ValueError, match="`weight_std` must be 0"):
        FirstSpikeReadout((4, 3, 3), 3, 2, time_steps=15, weight_std=-1.0)
