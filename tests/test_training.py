"""Training: lessons learn, runs stop and go on with the same bits, and what does not fit is refused."""

import io
import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_out import bars
from test_files import refused_or_whole

from spyketorch import _files, latency, snn
from spyketorch.data._source import sourced
from spyketorch.encoding import DoGKernel, EqualizedLatency, Filter, LatencyEncoder, OnOff, Whitening
from spyketorch.learning import STDP
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.training import (
    Adaptive,
    Combined,
    Constant,
    Doubling,
    Evaluation,
    Fading,
    Progress,
    Readout,
    Reinforced,
    Trainer,
    TrainingWarning,
    Unsupervised,
    evaluate,
)
from spyketorch.training._answers import Answers

T = 6


def network(threshold=6.0, features=4):
    torch.manual_seed(3)
    encoder = LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)], 1, thresholds=10), T)
    one = snn.SpikingConvolution(2, features, 3, threshold, 0.8, 0.05, time_steps=T, padding=1)
    two = snn.SpikingConvolution(features, 8, 6, None, 0.6, 0.1, time_steps=T)
    return Network(encoder, [Stage(one, snn.SpikingPooling(2)), Stage(two)], [0, 0, 0, 0, 1, 1, 1, 1])


LESSONS = [
    Unsupervised(kwta=2, inhibition_radius=2, rates=(0.05, -0.04), schedule=Constant(), period=16),
    Reinforced(reward=(0.02, -0.015), punishment=(-0.02, 0.015), correction="guess", dropout=0.3, epochs=3, period=16),
]


def train(images, labels, directory=None, *, lessons=LESSONS, **options):
    made = network()
    trainer = Trainer(made, lessons, directory, progress=False, **options)
    reports = trainer.fit(images, labels)
    return made, trainer, reports


def weights(made):
    return [stage.layer.weight.clone() for stage in made.stages]


def fitted_network():
    """Of an encoder that is fitted in three passes."""
    made, front = network(), torch.nn.Sequential(Whitening(window=3), OnOff())
    return Network(EqualizedLatency(front, T), made.stages, made.classes)


def test_an_encoder_is_fitted_first(tmp_path):
    images, labels = bars(64)
    made = fitted_network()
    Trainer(made, LESSONS, tmp_path / "run", progress=False).fit(images, labels)
    want = fitted_network().encoder.fit(images)
    assert made.encoder.fitted and torch.equal(made.encoder(images), want(images))
    batches = [(images[start : start + 10], labels[start : start + 10]) for start in range(0, 64, 10)]
    by_batches = fitted_network()
    Trainer(by_batches, LESSONS, progress=False).fit(batches)
    assert all(map(torch.equal, weights(by_batches), weights(made)))
    given = fitted_network()
    given.encoder.fit(images.flip(-1))
    Trainer(given, LESSONS, progress=False).fit(images, labels)
    assert torch.equal(given.encoder(images), fitted_network().encoder.fit(images.flip(-1))(images))
    made.save(tmp_path / "network.pt")
    loaded = fitted_network()
    loaded.load(tmp_path / "network.pt")
    assert torch.equal(loaded(images), made(images))


def test_a_run_with_an_encoder_that_is_fitted_goes_on(tmp_path, monkeypatch):
    images, labels = bars(64)
    whole = fitted_network()
    Trainer(whole, LESSONS, progress=False).fit(images, labels)
    trainer = Trainer(fitted_network(), LESSONS, tmp_path, progress=False)
    learn, calls = trainer._count, itertools.count()

    def stop(*args):
        if next(calls) == 6:
            raise KeyboardInterrupt
        learn(*args)

    monkeypatch.setattr(trainer, "_count", stop)
    trainer.checkpoint_seconds = 0
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(images, labels)
    resumed = fitted_network()  # another process, in which nothing is fitted
    Trainer(resumed, LESSONS, tmp_path, resume=True, progress=False).fit(images, labels)
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    assert torch.equal(resumed.encoder.table, whole.encoder.table)


def test_it_learns():
    made, trainer, reports = train(*bars(300))
    images, labels = bars(200, seed=1)
    result = evaluate(made, images, labels)
    assert result.accuracy > 0.9
    assert result.confusion.shape == (2, 3)
    assert result.confusion.sum() == 200
    assert [report.layer for report in reports] == [1, 2]
    assert all(report.wins.sum() > 0 for report in reports)
    assert str(reports[0]).startswith("layer 1: convergence")
    assert [row["seen"] for row in trainer.history if row["layer"] == 1][-1] == 300
    assert trainer.history[-1]["hits"] > 0.8


def test_online_order_is_that_of_the_seed():
    """The trainer adds nothing to the rule: the same calls by hand give the same weights."""
    images, labels = bars(50)
    made, _, _ = train(images, labels, seed=5)
    want = network()
    times = want.encoder(images)
    rule = snn.STDP(want.stages[0].layer, (0.05, -0.04))
    order = np.random.default_rng([5, 0, 0]).permutation(50)
    rule.learn(times[torch.from_numpy(order)], 2, 2)
    assert torch.equal(made.stages[0].layer.weight, want.stages[0].layer.weight)
    other, _, _ = train(images, labels, seed=6)
    assert not torch.equal(made.stages[1].layer.weight, other.stages[1].layer.weight)


def test_stored_answers_make_no_difference_and_are_used_again(tmp_path):
    images, labels = bars(60)
    want, _, _ = train(images, labels)
    made, _, _ = train(images, labels, tmp_path / "a", memory_limit=0)
    files = sorted((tmp_path / "a").glob("answers-*.npy"))
    assert len(files) == 2
    assert all(map(torch.equal, weights(made), weights(want)))
    before = [file.stat().st_mtime_ns for file in files]
    (tmp_path / "a" / "checkpoint.pt").unlink()
    (tmp_path / "a" / ".answers-0-some.npy.x.part").write_bytes(b"left by a run that was killed")
    train(images, labels, tmp_path / "a", memory_limit=0)
    assert [file.stat().st_mtime_ns for file in files] == before
    assert not list((tmp_path / "a").glob(".*.part"))
    train(images + 1, labels, tmp_path / "b", memory_limit=0)
    assert not {f.name for f in files} & {f.name for f in (tmp_path / "b").glob("answers-*.npy")}


def test_damaged_answers_are_found(tmp_path):
    images, labels = bars(60)
    train(images, labels, tmp_path, memory_limit=0)
    (tmp_path / "checkpoint.pt").unlink()
    path = min(tmp_path.glob("answers-*.npy"))
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[1000] ^= 1
    other = io.BytesIO()
    np.save(other, np.zeros((60, 3, 12, 12), np.uint8))
    for damaged in (whole[:200], b"", bytes(flipped), other.getvalue()):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            train(images, labels, tmp_path, memory_limit=0)
    path.write_bytes(whole)
    train(images, labels, tmp_path, memory_limit=0)


class Shift(torch.nn.Module):
    """An encoder's filter that tells nobody what it depends on."""

    def __init__(self, shift, kept=0.0):
        super().__init__()
        self.shift = shift
        self.kept = torch.nn.Parameter(torch.tensor(kept), requires_grad=False)

    def forward(self, images):
        return torch.cat([images, (images - self.shift - self.kept).abs()], 1)


def test_stored_answers_of_another_encoder_are_not_taken(tmp_path):
    images, labels = bars(60)

    def answers(*given):
        made = network()
        made.encoder.filter = Shift(*given)
        Trainer(made, LESSONS, tmp_path, progress=False, memory_limit=0).fit(images, labels)
        (tmp_path / "checkpoint.pt").unlink()
        return len(list(tmp_path.glob("answers-0-*.npy")))

    assert [answers(30), answers(30), answers(200), answers(200, 9.0)] == [1, 1, 2, 3]


class Hook(torch.nn.Module):
    """An encoder's filter whose number stands in a closure, or nowhere that can be seen."""

    def __init__(self, shift, hidden):
        super().__init__()
        self.shift = Secret(shift) if hidden else lambda images: (images - shift).abs()

    def forward(self, images):
        return torch.cat([images, self.shift(images)], 1)


SECRETS = []


class Secret:
    def __init__(self, shift):
        SECRETS.append(shift)
        self.place = "somewhere"
        self.read = iter(())

    def __call__(self, images):
        return (images - SECRETS[-1]).abs()


@pytest.mark.parametrize("hidden", [False, True])
def test_a_checkpoint_of_another_encoder_is_refused(tmp_path, hidden):
    images, labels = bars(60)

    def run(shift):
        made = network()
        made.encoder.filter = Hook(shift, hidden)
        Trainer(made, LESSONS, tmp_path, progress=False, resume=True).fit(images, labels)

    run(30)
    run(30)
    with pytest.raises(ValueError, match=r"made with other network.*(encoder|sample)"):
        run(200)


class Secretive:
    """A schedule that prints as if all were one."""

    def __init__(self, factor):
        self.factor = factor

    def __repr__(self):
        return "Secretive()"

    def __call__(self, progress):
        return self.factor, self.factor


def test_a_checkpoint_of_another_schedule_is_refused(tmp_path):
    images, labels = bars(40)

    def run(schedule):
        train(images, labels, tmp_path, resume=True, lessons=[LESSONS[0], replace(LESSONS[1], schedule=schedule)])

    run(Secretive(0.5))
    run(Secretive(0.5))
    with pytest.raises(ValueError, match="other lessons"):
        run(Secretive(0.25))


def test_a_schedule_without_a_name_goes_on(tmp_path):
    images, labels = bars(40)
    for _ in range(2):
        lesson = replace(LESSONS[0], schedule=lambda progress: (0.5, 0.5))
        train(images, labels, tmp_path, resume=True, lessons=[lesson, LESSONS[1]])


def test_flipped_bits_of_checkpoints_and_answers(tmp_path):
    images, labels = bars(40)
    want, _, _ = train(images, labels, tmp_path, memory_limit=0)

    def read():
        return weights(train(images, labels, tmp_path, resume=True)[0])

    def same(found):
        return all(map(torch.equal, found, weights(want)))

    assert refused_or_whole(tmp_path / "checkpoint.pt", read, same, flips=150, cuts=50) == 200
    path = min(tmp_path.glob("answers-0-*.npy"))
    read_answers = Answers(want, sourced(images), tmp_path, 0, False)._open
    whole = torch.from_numpy(np.load(path))
    assert refused_or_whole(path, lambda: read_answers(path, 0).clone(), lambda found: torch.equal(found, whole)) == 600


def changes():
    nan, bits = float("nan"), torch.zeros(4, dtype=torch.int64)
    yield from (("stage", value) for value in (-1, 3, 0.0, "1", None, True, 10**30))
    yield from (("seen", value) for value in (-1, nan, 7, 49, 16.0, None, 10**30))
    yield from (("shares", value) for value in ([nan, 0.0, 0.0], [2.0, -1.0, 0.0], [0.5, 0.5], None, "abc"))
    yield from (
        ("wins", [value, torch.zeros(8, dtype=torch.int64)]) for value in (bits - 1, bits[:3], bits.float(), None)
    )
    yield from (("weights", value) for value in ([], None, [torch.zeros(1)] * 2))
    yield from (("thresholds", value) for value in ([None, None], [torch.tensor(nan), None], [torch.ones(3), None]))
    yield from (("history", value) for value in ("", "7", "[7]", "[{}]", '[{"layer": "x"}]', None, b"[]"))
    yield from (("identity", value) for value in (None, 7, {"images": 7}, "text"))
    yield from (("readout", value) for value in ({}, 7))


@pytest.mark.parametrize("name, value", [*changes()], ids=str)
def test_checkpoints_that_make_no_sense_are_refused(tmp_path, name, value):
    refused_with(tmp_path, lambda content: {**content, name: value})


@pytest.mark.parametrize("change", ["nan", "integer", "complex", "double", "shape", "missing", "list"])
def test_checkpoints_with_weights_that_make_no_sense_are_refused(tmp_path, change):
    def changed(content):
        one, two = content["weights"]
        two = {
            "nan": two * torch.nan,
            "integer": two.long(),
            "complex": two.to(torch.complex64),
            "double": two.double(),
            "shape": two[:1],
            "missing": None,
            "list": two.tolist(),
        }[change]
        return {**content, "weights": [one, two]}

    refused_with(tmp_path, changed)
    refused_with(tmp_path, lambda content: [content])
    refused_with(tmp_path, lambda content: {key: content[key] for key in ("identity", "stage")})


def refused_with(folder, change):
    images, labels = bars(40)
    path = folder / "checkpoint.pt"
    if not path.exists():
        train(images, labels, folder)
        _files.save({**_files.load(path), "stage": 0, "seen": 16}, path)
    good = path.read_bytes()
    _files.save(change(_files.load(path)), path)
    made = network()
    want = weights(made)
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        Trainer(made, LESSONS, folder, resume=True, progress=False).fit(images, labels)
    assert all(map(torch.equal, weights(made), want))
    path.write_bytes(good)
    train(images, labels, folder, resume=True)


def test_answers_with_times_beyond_the_last_are_refused(tmp_path):
    images, _ = bars(40)
    answers = Answers(network(), sourced(images), tmp_path, 0, False)
    for dtype, value, fine in (
        (np.uint8, T, True),
        (np.uint8, T + 1, False),
        (np.int16, -1, False),
        (np.int8, 0, False),
    ):
        parts = iter([torch.from_numpy(np.full((40, 2, 12, 12), value, dtype))])
        answers._write(tmp_path / "x.npy", (40, 2, 12, 12), np.dtype(dtype), parts)
        if fine:
            assert (answers._open(tmp_path / "x.npy", 0) == value).all()
        else:
            with pytest.raises(ValueError, match=r"x\.npy.*times up to 6"):
                answers._open(tmp_path / "x.npy", 0)


def test_checkpoints_of_the_first_version_go_on(tmp_path):
    """They have no checksum, say less of the network, and hold thresholds in another type."""
    images, labels = bars(40)
    want, _, _ = train(images, labels, tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = _files.load(path)
    del content["identity"]["network in detail"]
    content["thresholds"] = [None if value is None else value.double() for value in content["thresholds"]]
    torch.save(content, path)
    made, _, _ = train(images, labels, tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(want)))


def test_a_folder_is_one_runs_while_it_runs(tmp_path):
    """The second is told, and touches nothing, not even what looks like left by a run that was killed."""
    images, labels = bars(40)
    told = []

    class Writer:
        def add_scalar(self, name, value, step):
            if told:
                return
            part = tmp_path / ".answers-0-some.npy.x.part"
            part.write_bytes(b"being written")
            before = {path: path.read_bytes() for path in tmp_path.iterdir()}
            for resume in (False, True):
                with pytest.raises(BlockingIOError, match="another run") as error:
                    train(images, labels, tmp_path, resume=resume)
                told.append(str(error.value))
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before

    train(images, labels, tmp_path, writer=Writer(), memory_limit=0, checkpoint_seconds=0)
    assert len(told) == 2
    assert str(tmp_path) in told[0]
    left = tmp_path / ".answers-0-some.npy.x.part"
    with pytest.raises(ValueError, match="other images"):
        train(images + 1, labels, tmp_path, resume=True)
    assert left.exists()  # of a run that it is none of
    train(images, labels, tmp_path, resume=True)
    assert not left.exists()


class Stop(Exception):
    pass


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Stop])
@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("place", ["rule", "rule after learning", "schedule", "writer", "thresholds"])
def test_a_period_is_whole_or_undone(tmp_path, monkeypatch, kind, folder, place):
    """Stopped anywhere within a period, a further call ends with the same bits; layers without a threshold too."""
    images, labels = bars(60)
    lessons = [replace(LESSONS[0], homeostasis=0.1), LESSONS[1]]
    want, whole, _ = train(images, labels, lessons=lessons)
    turns = itertools.count(1)
    stops = {3, 6, 7, 11}

    def stopping(function, *, after=False):
        def stop(*given, **named):
            answer = function(*given, **named) if after else None
            if next(turns) in stops:
                raise kind
            return answer if after else function(*given, **named)

        return stop

    class Writer:
        add_scalar = staticmethod(stopping(lambda *given: None) if place == "writer" else lambda *given: None)

    if place == "schedule":
        monkeypatch.setattr(Adaptive, "__call__", stopping(Adaptive.__call__))
    elif place == "thresholds":
        monkeypatch.setattr(Unsupervised, "_moved", stopping(Unsupervised._moved, after=True))
    elif place != "writer":
        for rule in (snn.STDP, snn.RSTDP):
            monkeypatch.setattr(rule, "learn", halfway(rule.learn, turns, stops, kind, place == "rule"))
    made = network()
    trainer = Trainer(made, lessons, tmp_path if folder else None, progress=False, writer=Writer())
    stopped = 0
    while not trainer._reports:
        try:
            trainer.fit(images, labels)
        except (KeyboardInterrupt, Stop):
            stopped += 1
    assert stopped > 0
    assert all(map(torch.equal, weights(made), weights(want)))
    assert torch.equal(made.stages[0].layer.threshold, want.stages[0].layer.threshold)
    assert trainer.history == whole.history
    assert all(map(torch.equal, trainer._wins, whole._wins))


def halfway(learn, turns, stops, kind, in_the_middle):
    def stop(self, times, *given, **named):
        if next(turns) not in stops:
            return learn(self, times, *given, **named)
        some = slice(len(times) // 2 if in_the_middle else len(times))
        labels = [
            value[some] if isinstance(value, torch.Tensor) and len(value) == len(times) else value for value in given
        ]
        options = {name: value[some] if isinstance(value, torch.Tensor) else value for name, value in named.items()}
        learn(self, times[some], *labels, **options)
        raise kind

    return stop


def test_an_interrupted_readout_begins_anew(monkeypatch):
    images, labels = bars(40)
    fit, turns = LinearReadout.fit, iter([True, False])

    def built():
        made = network()
        made.readout = LinearReadout(tuple(made.features(images[:1]).shape[1:]), 2, time_steps=T)
        return made, Trainer(made, [*LESSONS, Readout(iterations=5)], progress=False)

    want, trainer = built()
    trainer.fit(images, labels)
    made, trainer = built()

    def interrupted(self, *given, **named):
        found = fit(self, *given, **named)
        if next(turns):
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(LinearReadout, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(images, labels)
    assert not made.readout.weight.any()
    trainer.fit(images, labels)
    assert torch.equal(made.readout.weight, want.readout.weight)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "0"},
        {"shuffle": "no"},
        {"resume": 2},
        {"memory_limit": "2e9"},
        {"memory_limit": -1},
        {"memory_limit": float("nan")},
        {"checkpoint_seconds": "20"},
        {"checkpoint_seconds": -1},
        {"checkpoint_seconds": None},
        {"progress": "yes"},
        {"writer": 3},
        pytest.param({"writer": object()}, id="writer"),
    ],
    ids=str,
)
def test_settings_are_checked_where_they_are_given(wrong):
    with pytest.raises((ValueError, TypeError), match=f"`{min(wrong)}`"):
        Trainer(network(), LESSONS, **wrong)


def test_settings_without_a_limit(tmp_path):
    train(*bars(20), tmp_path, memory_limit=float("inf"), checkpoint_seconds=float("inf"))


@pytest.mark.parametrize(
    "wrong", [lambda p: 1.0, lambda p: (1.0,), lambda p: ("a", 1.0), lambda p: (float("nan"), 1.0)]
)
def test_schedules_are_asked_before_the_first_layer_learns(wrong):
    made = network()
    want = weights(made)
    with pytest.raises((ValueError, TypeError), match="`schedule`"):
        Trainer(made, [LESSONS[0], replace(LESSONS[1], schedule=wrong)], progress=False).fit(*bars(20))
    assert all(map(torch.equal, weights(made), want))


def test_a_network_that_is_none():
    with pytest.raises(TypeError, match="`network`"):
        Trainer(torch.nn.Linear(1, 1), LESSONS)


SCRIPT = """
    import sys
    sys.path.insert(0, {tests!r})
    import test_training as t
    made, _, _ = t.train(*t.bars(3000), {directory!r}, resume={resume}, checkpoint_seconds=0)
"""


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path):
    images, labels = bars(3000)
    want, whole, _ = train(images, labels)
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), directory=str(tmp_path), resume=True)
    kills = 0
    for moment in (1, 300, 600):
        run = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE)
        seen = 0
        while run.poll() is None and seen < moment * 16:
            if (tmp_path / "checkpoint.pt").exists():
                seen = len(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["history"]) // 8
            time.sleep(0.01)
        if run.poll() is None:
            run.kill()
            kills += 1
        run.communicate()
    assert kills >= 1
    made, trainer, reports = train(images, labels, tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(want)))
    assert trainer.history == whole.history
    assert [r.wins.sum() for r in reports] == [w.sum() for w in whole._wins]


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), directory=str(tmp_path), resume=False)
    run = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "checkpoint.pt").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, text = run.communicate(timeout=60)
    assert run.returncode != 0
    assert "resume=True" in text
    made, _, _ = train(*bars(3000), directory=tmp_path, resume=True)
    want, _, _ = train(*bars(3000))
    assert all(map(torch.equal, weights(made), weights(want)))


def test_a_run_that_is_finished_is_not_learned_again(tmp_path):
    images, labels = bars(40)
    made, _, reports = train(images, labels, tmp_path)
    again, _, same = train(images, labels, tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(again)))
    assert [str(r) for r in same] == [str(r) for r in reports]


def test_a_checkpoint_that_knows_fewer_settings_goes_on(tmp_path):
    """As one of an earlier version, whose lessons did what they do now as usual."""
    images, labels = bars(40)
    made, *_ = train(images, labels, tmp_path)
    path = tmp_path / "checkpoint.pt"
    content = _files.load(path)
    lessons = content["identity"]["lessons"]
    assert lessons.count(", minibatch=1") == len(LESSONS)
    content["identity"]["lessons"] = lessons.replace(", minibatch=1", "").replace(", homeostasis=0.0", "")
    _files.save(content, path)
    again, *_ = train(images, labels, tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(again)))
    with pytest.raises(ValueError, match=r"other lessons.*minibatch=8"):
        train(images, labels, tmp_path, resume=True, lessons=[LESSONS[0], replace(LESSONS[1], minibatch=8)])


def test_checkpoints_of_something_else_are_refused(tmp_path):
    images, labels = bars(40)
    train(images, labels, tmp_path)
    with pytest.raises(FileExistsError, match="resume=True"):
        train(images, labels, tmp_path)
    with pytest.raises(ValueError, match="other images"):
        train(images + 1, labels, tmp_path, resume=True)
    with pytest.raises(ValueError, match="other labels"):
        train(images, 1 - labels, tmp_path, resume=True)
    with pytest.raises(ValueError, match="other lessons"):
        train(images, labels, tmp_path, resume=True, lessons=LESSONS[:1])
    with pytest.raises(ValueError, match="other seed"):
        train(images, labels, tmp_path, resume=True, seed=1)
    with pytest.raises(ValueError, match="other network"):
        Trainer(network(threshold=7.0), LESSONS, tmp_path, resume=True, progress=False).fit(images, labels)
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint"):
        train(images, labels, tmp_path, resume=True)

    (tmp_path / "checkpoint.pt").unlink()
    train(images, labels, tmp_path)
    for change in (
        lambda made: made.double(),
        lambda made: made.classes.copy_(1 - made.classes),
        lambda made: made.encoder.register_buffer("other", torch.ones(1)),
    ):
        with pytest.raises(ValueError, match="other network"):
            made = network()
            change(made)
            Trainer(made, LESSONS, tmp_path, resume=True, progress=False).fit(images, labels)


def test_a_trainer_fits_once(tmp_path):
    images, labels = bars(40)
    for directory in (None, tmp_path):
        made, trainer, reports = train(images, labels, directory)
        want = weights(made)
        with pytest.warns(UserWarning, match="learned nothing"):
            assert trainer.fit(images, labels) is reports
        assert all(map(torch.equal, weights(made), want))
        with pytest.raises(ValueError, match="other images"):
            trainer.fit(images + 1, labels)
        with pytest.raises(ValueError, match="other labels"):
            trainer.fit(images, 1 - labels)


def test_a_folder_that_cannot_be_written_to_is_found_first(tmp_path):
    (tmp_path / "file").touch()
    made = network()
    want = weights(made)
    with pytest.raises(OSError, match="file"):
        Trainer(made, LESSONS, tmp_path / "file", progress=False).fit(*bars(20))
    assert all(map(torch.equal, weights(made), want))


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_in_a_report_is_not_lost(tmp_path, monkeypatch):
    report = Trainer._report

    def interrupted(self, number, *given):
        if number == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return report(self, number, *given)

    monkeypatch.setattr(Trainer, "_report", interrupted)
    with pytest.raises(KeyboardInterrupt, match="resume=True"):
        train(*bars(40), directory=tmp_path)


@pytest.mark.parametrize(
    "lesson, wrong",
    [
        (Unsupervised, {"epochs": 0}),
        (Unsupervised, {"period": 0}),
        (Unsupervised, {"period": 2.5}),
        (Unsupervised, {"minibatch": 0}),
        (Unsupervised, {"kwta": 0}),
        (Unsupervised, {"inhibition_radius": -1}),
        (Unsupervised, {"homeostasis": 1.0}),
        (Unsupervised, {"homeostasis": -0.1}),
        (Unsupervised, {"threshold": "high"}),
        (Unsupervised, {"rates": (0.1,)}),
        (Unsupervised, {"schedule": None}),
        (Reinforced, {"epochs": -1}),
        (Reinforced, {"period": 0}),
        (Reinforced, {"dropout": 1.0}),
        (Reinforced, {"dropout": -0.1}),
        (Reinforced, {"correction": "no"}),
        (Reinforced, {"reward": 0.1}),
        (Reinforced, {"punishment": (0.1, "no")}),
        (Readout, {"penalty": -1.0}),
        (Readout, {"iterations": 0}),
        (Doubling, {"every": 0}),
        (Fading, {"to": "no"}),
        (Adaptive, {"floor": float("nan")}),
        (Combined, {"schedules": Constant()}),
    ],
    ids=str,
)
def test_lessons_check_their_numbers(lesson, wrong):
    with pytest.raises((ValueError, TypeError), match=f"`{min(wrong)}`"):
        lesson(**wrong)


def test_lessons_check_their_bounds():
    with pytest.raises(ValueError, match="`bounds`"):
        Reinforced(bounds=(0.8, 0.2))


def test_images_and_labels_that_are_none():
    images, labels = bars(5)
    for call in (lambda *given: train(*given), lambda *given: evaluate(network(), *given)):
        with pytest.raises(ValueError, match=r"`images`.*\(N, C, H, W\)"):
            call(images[0], labels[:1])
        with pytest.raises(ValueError, match="`labels`"):
            call(images, labels - 1)
    with pytest.raises(ValueError, match="`batch`"):
        evaluate(network(), images, labels, batch=0)
    with pytest.raises(ValueError, match="finite"):
        train(images * torch.nan, labels)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float16, torch.bfloat16])
def test_images_of_any_type(dtype):
    images, labels = bars(60)
    made, _, reports = train(images.clamp(0, 255).to(dtype), labels)
    assert all(report.wins.sum() > 0 for report in reports)
    assert made.stages[0].layer.weight.dtype == torch.float32


def test_wrong_arguments():
    with pytest.raises(ValueError, match="lessons"):
        Trainer(network(), LESSONS[0])
    with pytest.raises(ValueError, match="classes"):
        Trainer(network(), [LESSONS[1]])  # the first layer decides nothing
    with pytest.raises(ValueError, match="classes"):
        made = network()
        Trainer(Network(made.encoder, made.stages), LESSONS)
    with pytest.raises(TypeError, match="directory"):
        Trainer(network(), LESSONS, 3)
    with pytest.raises(ValueError, match="lessons"):
        Trainer(network(), [])
    with pytest.raises(ValueError, match="lessons"):
        Trainer(network(), LESSONS * 2)
    with pytest.raises(ValueError, match="labels"):
        Trainer(network(), LESSONS, progress=False).fit(bars(5)[0])
    with pytest.raises(ValueError, match="labels"):
        Trainer(network(), LESSONS, progress=False).fit(bars(5)[0], torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match="correction"):
        train(*bars(5), lessons=[LESSONS[0], Reinforced(correction="no")])


@pytest.mark.parametrize(
    "schedule, seen, want",
    [
        (Constant(), 7, (1, 1)),
        (Doubling(100, 37.5), 99, (1, 1)),
        (Doubling(100, 37.5), 100, (2, 2)),
        (Doubling(100, 37.5), 1000, (37.5, 37.5)),
        (Doubling(1, 37.5), 5000, (37.5, 37.5)),
        (Fading(0.2), 0, (1, 1)),
        (Fading(0.2), 500, (0.6, 0.6)),
        (Fading(0.2), 1000, (0.2, 0.2)),
        (Adaptive(), 5, (0.25, 0.7)),
        (Adaptive(floor=0.5), 5, (0.5, 0.7)),
    ],
)
def test_schedules(schedule, seen, want):
    assert schedule(Progress(seen, 1000, hits=0.7, misses=0.25, silent=0.05)) == pytest.approx(want)


def test_minibatches():
    """All samples of a mini-batch answer with the weights before it; a mini-batch of one is online."""
    images, _ = bars(24)
    made = network()
    times, layer = made.encoder(images), made.stages[0].layer
    start = layer.weight.clone()

    def learn(size):
        layer.load_weight(start)
        found = snn.STDP(layer, (0.05, -0.04)).learn(times, 2, 2, minibatch=size)
        return found, layer.weight.clone()

    whole, _ = learn(24)
    layer.load_weight(start)
    assert torch.equal(whole, layer.winners(times, 2, 2, pointwise_inhibition=True))
    online, weight = learn(1)
    layer.load_weight(start)
    rule = snn.STDP(layer, (0.05, -0.04))
    assert torch.equal(online, torch.cat([rule.learn(part, 2, 2) for part in times.split(1)]))
    assert torch.equal(weight, layer.weight)
    assert not torch.equal(weight, learn(24)[1])


def test_homeostasis_spreads_the_wins():
    images, _ = bars(300)

    def wins(homeostasis):
        made = network(features=8)
        made.stages[0].layer.weight[0] = 1.2  # one feature is ahead of all
        lesson = Unsupervised(rates=(0.004, -0.004), schedule=Constant(), period=10, homeostasis=homeostasis)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)
            (report,) = Trainer(made, [lesson], progress=False).fit(images)
        return report.wins

    assert (wins(0.1) > 0).sum() > (wins(0.0) > 0).sum()
    with pytest.raises(ValueError, match="homeostasis"):
        made = network(threshold=None)
        Trainer(made, [Unsupervised(homeostasis=0.1)], progress=False).fit(images)


def test_thresholds_that_homeostasis_moved_are_state(tmp_path):
    images, labels = bars(100)
    lessons = [replace(LESSONS[0], homeostasis=0.2), LESSONS[1]]
    made = network()
    Trainer(made, lessons, tmp_path, progress=False).fit(images, labels)
    assert made.stages[0].layer.threshold.shape == (4,)
    Trainer(made, lessons, tmp_path, resume=True, progress=False).fit(images, labels)  # its own run, not another
    anew = network()
    Trainer(anew, lessons, tmp_path, resume=True, progress=False).fit(images, labels)
    made.save(tmp_path / "one.pt")
    anew.save(tmp_path / "two.pt")
    for name in ("one.pt", "two.pt"):
        loaded = network()
        loaded.load_state_dict(torch.load(tmp_path / name, weights_only=True))
        assert torch.equal(loaded.stages[0].layer.threshold, made.stages[0].layer.threshold)
        assert torch.equal(loaded.features(images, 1), made.features(images, 1))


def warned(made, lesson, images):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(made, [lesson], progress=False, on_silence="warn").fit(images)
    return " ".join(str(w.message) for w in caught if issubclass(w.category, TrainingWarning))


def test_warnings_say_what_to_change():
    images, _ = bars(120)
    assert "nothing fires" in warned(network(threshold=1000.0), LESSONS[0], images)
    told = warned(network(), LESSONS[0], images / 255)
    assert "layer 1: its input is silent" in told
    assert "threshold 6" not in told  # it is not the layer's
    assert "at the first spike it sees" in warned(network(threshold=-1.0), LESSONS[0], images)
    made = network()
    made.stages[0].layer.load_weight(torch.ones_like(made.stages[0].layer.weight))
    assert "bounds" in warned(made, LESSONS[0], images)
    made = network()
    made.stages[0].layer.weight[0] = 3
    lesson = Unsupervised(bounds=(0, 3), rates=(0.001, -0.001), schedule=Constant())
    assert "feature 0 won" in warned(made, lesson, images)
    assert warned(network(), LESSONS[0], images) == ""
    with pytest.warns(TrainingWarning, match="labels 2, 3"):
        train(images, torch.arange(120) % 4)


def test_evaluation():
    result = Evaluation(torch.tensor([[3, 1, 0], [0, 4, 2]]))
    assert result.accuracy == 0.7
    assert result.silent == 0.2


def test_network():
    made = network()
    images, _ = bars(5)
    times = made.encoder(images)
    fired = latency.pooling(made.stages[0].layer(times), 2)
    assert torch.equal(made.stages[0](times), fired)
    winners = made.stages[1].layer.winners(fired)[:, 0, 0]
    assert torch.equal(made(images), winners // 4)
    assert torch.equal(made(torch.zeros(2, 1, 12, 12)), torch.tensor([-1, -1]))
    made.readout = torch.nn.Sequential(torch.nn.Flatten(), Scores())
    assert made(images).tolist() == [1] * 5
    with pytest.raises(ValueError, match="classes"):
        Network(made.encoder, made.stages[:1])(images)


class Scores(torch.nn.Module):
    def forward(self, times):
        return torch.tensor([0.0, 1.0]).expand(len(times), 2)


def test_inhibited_stage():
    made = network()
    times = made.encoder(bars(3)[0])
    stage = Stage(made.stages[0].layer, inhibit=True)
    assert ((stage(times) < T).sum(1) <= 1).all()


def test_writer():
    rows = []

    class Writer:
        def add_scalar(self, name, value, step):
            rows.append((name, step))

    train(*bars(32), writer=Writer())
    assert ("layer 1/convergence", 16) in rows
    assert ("layer 2/hits", 96) in rows


# rules of one's own, and hooks


LTP = []


def watching(synapses):
    LTP.append({int(i): float(ltp) for i, ltp in zip(synapses.features, synapses.ltp.flatten(), strict=True)})
    return torch.full_like(synapses.weight, 1.0)


def constant(synapses):
    return torch.full_like(synapses.weight, 1.0)


def halved(synapses):
    return torch.full_like(synapses.weight, 0.5)


class Own(Unsupervised):
    """A lesson whose rule has rates for each feature, and a modulation."""

    modulation = staticmethod(constant)

    def rule(self, stage):
        rates = [(0.01 * (i + 1), -0.01) for i in range(stage.layer.out_channels)]
        return STDP(stage.layer, rates, modulation=self.modulation)


def test_a_schedule_multiplies_the_rates_that_a_rule_was_made_with(monkeypatch):
    monkeypatch.setattr(Own, "modulation", staticmethod(watching))
    images, labels = bars(32)
    lesson = Own(kwta=2, period=16, schedule=lambda progress: (0.5 if progress.seen else 4.0, 1.0))
    LTP.clear()
    trainer = Trainer(network(), [lesson], progress=False)
    trainer.fit(images, labels)
    for used, factor in ((LTP[0], 4.0), (LTP[-1], 0.5)):
        assert used == {i: pytest.approx(factor * 0.01 * (i + 1)) for i in used}
    rates = [[float(rate) for rate in pair] for pair in trainer._rules[0].learning_rate]
    assert rates == [pytest.approx([0.01 * (i + 1), -0.01]) for i in range(4)]  # for a while


def test_a_rule_of_ones_own_belongs_to_the_run(tmp_path, monkeypatch):
    images, labels = bars(32)
    lessons = [Own(kwta=2, period=16)]
    train(images, labels, tmp_path, lessons=lessons)
    train(images, labels, tmp_path, lessons=lessons, resume=True)
    monkeypatch.setattr(Own, "modulation", staticmethod(halved))
    with pytest.raises(ValueError, match=r"made with other rules: 'rule 1\.modulation"):
        train(images, labels, tmp_path, lessons=lessons, resume=True)


def doubled(module, given, answer):
    return (answer + 1).clamp(max=T)


@pytest.mark.parametrize("place", ["encoder", "encoder.filter", "stages.0.pool", "stages.0.layer", "stages.0"])
def test_hooks_that_change_answers_belong_to_the_run(tmp_path, place):
    images, labels = bars(32)

    def run(hook, **options):
        made = network()
        if hook is not None:
            made.get_submodule(place).register_forward_hook(hook)
        return Trainer(made, LESSONS[:1], tmp_path, progress=False, **options).fit(images, labels)

    run(None)
    seen = []
    run(lambda module, given, answer: seen.append(answer), resume=True)  # looks on
    assert seen
    change = doubled if place != "encoder.filter" else lambda module, given, answer: answer.flip(-1)
    with pytest.raises(ValueError, match="made with other network in detail"):
        run(change, resume=True)


def test_hooks_that_change_answers_belong_to_a_saved_network(tmp_path):
    images, _ = bars(5)
    made = network()
    made.encoder.register_forward_hook(doubled)
    made(images)
    made.save(tmp_path / "network.pt")
    other = network()
    with pytest.raises(ValueError, match="answers otherwise"):
        other.load(tmp_path / "network.pt")
    other.encoder.register_forward_hook(doubled)
    other.load(tmp_path / "network.pt")


def test_all_named_classes_are_counted_also_those_that_no_image_has():
    made, _, _ = train(*bars(40))
    made.names = ["bar", "stripe", "dot"]
    result = evaluate(made, *bars(20, seed=1))
    assert result.confusion.shape == (3, 4)
    assert result.confusion[2].sum() == 0
    assert [*result.per_class] == ["bar", "stripe"]
