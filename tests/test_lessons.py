"""Lessons and rules of the user's own: through the protocol alone, stopped, killed and resumed to the bit."""

import itertools
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from shared_out import bars
from test_training import LESSONS, network, weights

from spyketorch import _files, testing
from spyketorch.encoding import LatencyEncoder
from spyketorch.learning import RSTDP, STDP, VDSP, IntegerSTDP, TargetTime
from spyketorch.models import Network, Stage
from spyketorch.readout import FirstSpikeReadout, LinearReadout
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.training import (
    Constant,
    Decaying,
    FinalLesson,
    Learned,
    Lesson,
    Readout,
    Reinforced,
    Supervised,
    Trainer,
    Unsupervised,
)

pytestmark = pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")


@dataclass(frozen=True)
class Patient(Lesson):
    """Shows each image until it is decided right, ``most`` times at most."""

    most: int = 4
    epochs: int = 2
    period: int = 10
    needs_labels = True

    def rule(self, stage):
        return RSTDP(stage.layer, (0.02, -0.015), (-0.02, 0.015))

    def learn(self, rule, period):
        first, showings = [], 0
        for times, label in zip(period.times.split(1), period.labels.split(1), strict=True):
            for turn in range(self.most):
                winners = rule.learn(times, label, period.classes)
                showings += 1
                if turn == 0:
                    first.append(winners)
                if right(winners, label, period.classes).all():
                    break
        winners = torch.cat(first)
        figures = {"showings": showings / len(winners)}
        return Learned(winners, right(winners, period.labels, period.classes), figures)


def right(winners, labels, classes):
    feature = winners[:, 0, 0]
    return (feature >= 0) & (classes[feature.clamp(min=0)] == labels)


class Tiring(STDP):
    """The more often a feature has learned, the less it does."""

    def __init__(self, *given):
        super().__init__(*given)
        self.register_buffer("learned", torch.zeros(self.conv_layer.out_channels, dtype=torch.int64))

    def modulation(self, synapses):
        self.learned[synapses.features] += 1
        return 1 / (1 + self.learned[synapses.features].view(-1, 1, 1, 1) / 20)


class Tired(Unsupervised):
    """The lesson of the same rule."""

    def rule(self, stage):
        return Tiring(stage.layer, self.rates)


class Noisy(Unsupervised):
    """A rule that draws from torch's generator."""

    def rule(self, stage):
        return STDP(stage.layer, self.rates, modulation=noise)


def noise(synapses):
    return torch.rand(synapses.weight.shape)


@dataclass(frozen=True)
class Structural:
    """A lesson that inherits from nothing."""

    epochs: int = 1
    period: int = 10
    needs_labels: ClassVar[bool] = False
    learns_threshold: ClassVar[bool] = False
    rates: tuple[float, float] = (0.05, -0.04)

    rule, fits, identity = Tired.rule, Lesson.fits, Lesson.identity
    prepared, before, after, hints = Lesson.prepared, Lesson.before, Lesson.after, Lesson.hints

    def learn(self, rule, period):
        return Learned(rule.learn(period.times, 2, 2))


STDP_LESSON = Unsupervised(kwta=2, inhibition_radius=2, rates=(0.05, -0.04), schedule=Constant(), period=10)
TARGET = Unsupervised(
    rates=(0.1, -0.1),
    steepness=1.0,
    thresholds=TargetTime(0.25, rate=0.5, floor=0.5),
    schedule=Decaying(),
    patches=True,
    answering=0.75,
    period=10,
)
OWN = {"patient": (Patient, 1), "state": (lambda: Tired(rates=(0.05, -0.04), period=10), 0)}
KILLED = {**OWN, "target times": (lambda: TARGET, 0)}
KEPT = {
    **KILLED,
    "target times of maps": (lambda: replace(TARGET, patches=False, steepness=None, answering=1.0, kwta=2), 0),
    "noise": (lambda: Noisy(kwta=2, rates=(0.05, -0.04), period=10), 0),
    "inherits from nothing": (Structural, 0),
    "unsupervised": (lambda: STDP_LESSON, 0),
    "voltage-dependent": (lambda: replace(STDP_LESSON, plasticity=VDSP), 0),
    "integers": (lambda: replace(STDP_LESSON, plasticity=partial(IntegerSTDP, bits=4, seed=7)), 0),
    "homeostasis": (lambda: replace(STDP_LESSON, homeostasis=0.2), 0),
    "threshold": (lambda: replace(STDP_LESSON, threshold=3.0), 0),
    "reinforced": (lambda: replace(LESSONS[1], period=10, epochs=1), 1),
}


@pytest.mark.parametrize("name", KEPT)
def test_lessons_keep_their_contract(name):
    make, stage = KEPT[name]
    testing.check_lesson(make, network(), *bars(30), stage=stage)


def lessons(name):
    make, stage = KILLED[name]
    return [STDP_LESSON, Patient()] if stage else [make(), LESSONS[1]]


def train(name, directory=None, **options):
    made = network()
    trainer = Trainer(made, lessons(name), directory, progress=False, **options)
    trainer.fit(*bars(50))
    return made, trainer


SCRIPT = """
    import os, sys
    sys.path.insert(0, {tests!r})
    import test_lessons as t

    class Writer:
        turns = {turns}

        def add_scalar(self, name, value, step):
            Writer.turns -= name.endswith("silent")
            if not Writer.turns:
                os._exit(9)

    t.train({name!r}, {directory!r}, resume=True, checkpoint_seconds=0, writer=Writer())
"""


@pytest.mark.parametrize("name", KILLED)
def test_a_lesson_of_ones_own_that_is_killed_goes_on_to_the_same_bits(tmp_path, name):
    want, whole = train(name)
    path = {**os.environ, "PYTHONPATH": str(Path(testing.__file__).parents[1])}
    for turns in (3, 5):
        fill = {"tests": str(Path(__file__).parent), "turns": turns, "name": name, "directory": str(tmp_path)}
        run = [sys.executable, "-c", textwrap.dedent(SCRIPT).format(**fill)]
        assert subprocess.run(run, env=path, check=False).returncode == 9
    made, trainer = train(name, tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(want)))
    assert trainer.history == whole.history
    assert torch.equal(made.stages[0].layer.threshold, want.stages[0].layer.threshold)
    if name == "target times":
        assert len(set(want.stages[0].layer.threshold.tolist())) == 4
    elif name == "patient":
        assert max(row["showings"] for row in trainer.history if row["layer"] == 2) > 1
        assert trainer.history[-1]["hits"] > 0.8
    else:
        assert trainer._rules[0].learned.sum() == whole._rules[0].learned.sum() > 0


class Stop(Exception):
    pass


def test_a_rules_state_is_undone_with_a_period_and_kept_from_call_to_call():
    turns = itertools.count(1)

    class Writer:
        def add_scalar(self, name, value, step):
            if next(turns) in (2, 7):
                raise Stop

    want, whole = train("state")
    trainer = Trainer(made := network(), lessons("state"), progress=False, writer=Writer())
    for _ in range(2):
        with pytest.raises(Stop):
            trainer.fit(*bars(50))
    trainer.fit(*bars(50))
    assert all(map(torch.equal, weights(made), weights(want)))
    assert torch.equal(trainer._rules[0].learned, whole._rules[0].learned)


def test_checkpoints_that_hold_no_state_of_rules_go_on(tmp_path):
    made, _ = train("patient", tmp_path)
    content = _files.load(tmp_path / "checkpoint.pt")
    del content["rules"], content["identity"]["code of lessons"]
    _files.save(content, tmp_path / "checkpoint.pt")
    again, _ = train("patient", tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(again)))


@pytest.mark.parametrize("change", [None, [], [7, None], [{"learned": torch.zeros(3)}, None], [{"other": 1}, None]])
def test_states_that_are_none_are_refused(tmp_path, change):
    train("state", tmp_path)
    content = _files.load(tmp_path / "checkpoint.pt")
    _files.save({**content, "rules": change}, tmp_path / "checkpoint.pt")
    if change == []:  # of a version that kept none
        train("state", tmp_path, resume=True)
        return
    before = weights(network())
    made = network()
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        Trainer(made, lessons("state"), tmp_path, progress=False, resume=True).fit(*bars(50))
    assert all(map(torch.equal, weights(made), before))


def test_the_code_of_a_lesson_belongs_to_the_run(tmp_path, monkeypatch):
    train("patient", tmp_path)

    def learn(self, rule, period):
        return Learned(rule.learn(period.times, period.labels, period.classes))

    monkeypatch.setattr(Patient, "learn", learn)
    with pytest.raises(ValueError, match="made with other code of lessons: 'lesson 2: Patient"):
        train("patient", tmp_path, resume=True)


def test_the_network_says_which_labels_are_missing():
    with pytest.raises(ValueError, match="`labels` must be the class of each image, from which Patient learns"):
        Trainer(network(), [STDP_LESSON, Patient()], progress=False).fit(bars(20)[0])


# a read-out


class Means(torch.nn.Module):
    """Scores by how near an answer is to the mean of each class."""

    def __init__(self, shape):
        super().__init__()
        self.means = torch.nn.Parameter(torch.zeros(2, *shape), requires_grad=False)

    def forward(self, times):
        return -(times.float()[:, None] - self.means).square().flatten(2).sum(2)


@dataclass(frozen=True)
class Averaging(FinalLesson):
    passes: int = 2

    def module(self, network):
        return network.readout

    def fit(self, rule, times, labels, follow):
        for label in (0, 1):
            rule.means[label] = times[labels == label].float().mean(0)
            follow.heard(len(times), f"class {label}")


def test_a_read_out_of_ones_own(tmp_path):
    images, labels = bars(60)

    def built():
        made = network()
        made.readout = Means(made.features(images[:1]).shape[1:])
        return made

    def learn(made, **options):
        Trainer(made, [STDP_LESSON, LESSONS[1], Averaging()], tmp_path, progress=False, **options).fit(images, labels)
        return made

    want = learn(built())
    assert torch.equal(want.readout.means[1], want.features(images)[labels == 1].float().mean(0))
    again = learn(built(), resume=True)
    assert torch.equal(again.readout.means, want.readout.means)


# lessons that break the contract


class Hidden(Tiring):
    """Its state is in no buffer."""

    def __init__(self, *given):
        super().__init__(*given)
        del self.learned
        self.learned: torch.Tensor = torch.zeros(self.conv_layer.out_channels, dtype=torch.int64)


class HiddenState(Unsupervised):
    def rule(self, stage):
        return Hidden(stage.layer, self.rates)


class Changing(Unsupervised):
    """Has state of its own."""

    def learn(self, rule, period):
        object.__setattr__(self, "kwta", self.kwta + 1)
        return super().learn(rule, period)


class Drawing(Unsupervised):
    """Draws from numpy's generator."""

    def learn(self, rule, period):
        chosen = torch.from_numpy(np.random.random(len(period.times)) < 0.5)  # noqa: NPY002
        return (
            super()
            .learn(rule, period._replace(times=period.times[chosen]))
            ._replace(winners=torch.zeros(len(chosen), 1, 3, dtype=torch.int64))
        )


OTHERS = []


class Meddling(Patient):
    """Changes a layer that is not its own."""

    def fits(self, network, number):
        OTHERS[:] = [network.stages[0].layer]

    def learn(self, rule, period):
        OTHERS[0].weight.mul_(0.99)
        return super().learn(rule, period)


class Starting(Unsupervised):
    """Its rule begins with a change of the weights."""

    def rule(self, stage):
        stage.layer.weight.mul_(0.99)
        return super().rule(stage)


class Outside(Unsupervised):
    def learn(self, rule, period):
        learned = super().learn(rule, period)
        return learned._replace(winners=learned.winners + 100)


class Few(Unsupervised):
    def learn(self, rule, period):
        return super().learn(rule, period)._replace(winners=torch.zeros(3, 1, 3, dtype=torch.int64))


class Idle(Unsupervised):
    def learn(self, rule, period):
        return Learned(torch.full((len(period.times), 1, 3), -1))


class Nameless(Unsupervised):
    turns = itertools.count()

    def __repr__(self):
        return f"Nameless({next(self.turns)})"


@pytest.mark.parametrize(
    "make, stage, told",
    [
        (HiddenState, 0, "the state of its rule must be in buffers"),
        (Changing, 0, "a lesson must stay as it is"),
        (Drawing, 0, "the same seed"),
        (Meddling, 1, r"only stages\.1\.layer\..* may change, not stages\.0"),
        (Starting, 0, "`rule` must leave the layer"),
        (Outside, 0, "winners must be"),
        (Few, 0, "`winners` must be int64 of shape"),
        (Idle, 0, "learned nothing"),
        (Nameless, 0, "`repr`"),
        (lambda: "a lesson", 0, "a training.Lesson"),
    ],
)
def test_lessons_that_break_the_contract_are_found(make, stage, told):
    with pytest.raises((AssertionError, ValueError, TypeError), match=told):
        testing.check_lesson(
            lambda: make() if make in (Meddling, Nameless) or not isinstance(make, type) else fast(make),
            network(),
            *bars(30),
            stage=stage,
        )


def fast(kind):
    return kind(kwta=2, rates=(0.05, -0.04), period=10)


def test_a_lesson_that_lacks_a_method_is_refused():
    class Half(Lesson):
        def rule(self, stage):
            return STDP(stage.layer, (0.1, -0.1))

    with pytest.raises(TypeError, match="learn"):
        Half()  # type: ignore[abstract]
    with pytest.raises(ValueError, match="`lessons` must be 1 to 2 lessons"):
        Trainer(network(), [object()])
    with pytest.raises(TypeError, match=r"`learn` must be a lesson's method that returns a training.Learned"):
        Trainer(network(), [type("Mute", (Idle,), {"learn": lambda *given: None})()], progress=False).fit(bars(20)[0])
    assert isinstance(Structural(), Lesson)
    assert isinstance(Reinforced(), Lesson)


class Nearest(torch.nn.Module):
    """Decides for the class whose typical times are nearest."""

    def __init__(self, shape, classes, time_steps):
        super().__init__()
        self.register_buffer("typical", torch.full((classes, math.prod(shape)), time_steps / 2))
        self.register_buffer("passes", torch.tensor(0))

    def forward(self, times):
        return -torch.cdist(times.flatten(1).float(), self.typical)


@dataclass(frozen=True)
class Moving(FinalLesson):
    passes: int = 3

    def module(self, network):
        return network.readout

    def fit(self, rule, times, labels, follow):
        for number in range(int(rule.passes), self.passes):
            for i in self.order(number, times, follow):
                rule.typical[labels[i]] += self.rate(rule) * (times[i].flatten() - rule.typical[labels[i]])
                follow.heard(1)
            rule.passes += 1
            follow.passed({"moved": float(rule.typical.sum())})

    def order(self, number, times, follow):
        return follow.random(number).permutation(len(times)).tolist()

    def rate(self, rule):
        return 0.1


class Loose(Moving):
    """Draws from torch's generator, which nothing seeds for a final lesson."""

    def order(self, number, times, follow):
        return torch.randperm(len(times)).tolist()


class Forgetful(Moving):
    """Keeps what it needs where no checkpoint finds it."""

    def rate(self, rule):
        rule.heard = getattr(rule, "heard", 0) + 1
        return 1 / (9 + rule.heard)


class Anew(Moving):
    """Begins anew where it was stopped."""

    def fit(self, rule, times, labels, follow):
        rule.passes.zero_()
        super().fit(rule, times, labels, follow)


class Resting(Moving):
    def fit(self, rule, times, labels, follow):
        follow.passed({})


class Reaching(Moving):
    """Changes a layer, too."""

    network: torch.nn.Module

    def module(self, network):
        object.__setattr__(self, "network", network)
        return network.readout

    def fit(self, rule, times, labels, follow):
        with torch.no_grad():
            self.network.stages[0].layer.weight.mul_(0.5)
        super().fit(rule, times, labels, follow)


class Rebuilding(Moving):
    """Changes how a part of the network is built."""

    def fit(self, rule, times, labels, follow):
        super().fit(rule, times, labels, follow)
        self.network.stages[0].pool = SpikingPooling(3)

    network: torch.nn.Module
    module = Reaching.module


class Hasty(Moving):
    """Begins to learn when its rule is made."""

    def rule(self, module):
        module.typical += 1
        return module


class Unlike(Moving):
    turns = itertools.count()

    def __repr__(self):
        return f"Unlike({next(self.turns)})"


class Worn(Moving):
    def fit(self, rule, times, labels, follow):
        super().fit(rule, times, labels, follow)
        object.__setattr__(self, "passes", self.passes + 1)


def taught(readout):
    torch.manual_seed(0)
    layer = SpikingConvolution(1, 4, 3, 2.0, 0.5, 0.2, time_steps=15)
    made = Network(LatencyEncoder(torch.nn.Identity(), 15), [Stage(layer, SpikingPooling(2))])
    shape = tuple(made.features(bars(2)[0]).shape[1:])
    made.readout = readout(shape, 2, time_steps=15)
    return made


FINAL = {
    "one's own": (Moving, Nearest),
    "linear": (Readout, LinearReadout),
    "first spike": (lambda: Supervised(epochs=3, averaged=2), partial(FirstSpikeReadout, per_class=2)),
    "held out": (lambda: Supervised(epochs=4, held_out=0.2, patience=1), partial(FirstSpikeReadout, per_class=2)),
}


@pytest.mark.parametrize("name", FINAL)
def test_final_lessons_keep_their_contract(name):
    make, readout = FINAL[name]
    testing.check_final_lesson(make, taught(readout), *bars(20))


@pytest.mark.parametrize(
    "make, told",
    [
        (Loose, "the same seed"),
        (Forgetful, "the state of its rule must be in buffers"),
        (Anew, "stopped in pass 2"),
        (Resting, "learned nothing"),
        (Reaching, "only readout may change, not stages.0"),
        (Rebuilding, "how the network is built: .*pool"),
        (Hasty, "`rule` must leave the part that learns"),
        (Unlike, "`repr`"),
        (Worn, "a lesson must stay as it is"),
        (lambda: Reinforced(), "a training.FinalLesson"),
    ],
)
def test_final_lessons_that_break_the_contract_are_found(make, told):
    with pytest.raises((AssertionError, TypeError), match=told):
        testing.check_final_lesson(make, taught(Nearest), *bars(20))
