"""Training: lessons learn, runs stop and go on with the same bits, and what does not fit is refused."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from spyketorch import latency, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.training import (
    Adaptive,
    Constant,
    Doubling,
    Evaluation,
    Fading,
    Progress,
    Reinforced,
    Trainer,
    TrainingWarning,
    Unsupervised,
    evaluate,
)

T = 6


def bars(count, seed=0):
    """Images of one bar, upright or level, with noise; label 0 or 1."""
    random = torch.Generator().manual_seed(seed)
    images = 30 * torch.rand(count, 1, 12, 12, generator=random)
    labels = torch.randint(0, 2, (count,), generator=random)
    place = torch.randint(3, 8, (count,), generator=random)
    for image, label, at in zip(images, labels, place, strict=True):
        if label:
            image[0, at : at + 2] += 200
        else:
            image[0, :, at : at + 2] += 200
    return images, labels


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
    train(images, labels, tmp_path / "a", memory_limit=0)
    assert [file.stat().st_mtime_ns for file in files] == before
    train(images + 1, labels, tmp_path / "b", memory_limit=0)
    assert not {f.name for f in files} & {f.name for f in (tmp_path / "b").glob("answers-*.npy")}
    files[0].write_bytes(files[0].read_bytes()[:200])
    (tmp_path / "a" / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match="damaged"):
        train(images, labels, tmp_path / "a", memory_limit=0)


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
    made, _, _ = train(*bars(3000), tmp_path, resume=True)
    want, _, _ = train(*bars(3000))
    assert all(map(torch.equal, weights(made), weights(want)))


def test_a_run_that_is_finished_is_not_learned_again(tmp_path):
    images, labels = bars(40)
    made, _, reports = train(images, labels, tmp_path)
    again, _, same = train(images, labels, tmp_path, resume=True)
    assert all(map(torch.equal, weights(made), weights(again)))
    assert [str(r) for r in same] == [str(r) for r in reports]


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


def test_wrong_arguments():
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


def warned(made, lesson, images):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Trainer(made, [lesson], progress=False).fit(images)
    return " ".join(str(w.message) for w in caught if issubclass(w.category, TrainingWarning))


def test_warnings_say_what_to_change():
    images, _ = bars(120)
    assert "nothing fires" in warned(network(threshold=1000.0), LESSONS[0], images)
    assert "first time step" in warned(network(threshold=-1.0), LESSONS[0], images)
    made = network()
    made.stages[0].layer.load_weight(torch.ones_like(made.stages[0].layer.weight))
    assert "bounds" in warned(made, LESSONS[0], images)
    made = network()
    made.stages[0].layer.weight[0] = 3
    lesson = Unsupervised(bounds=(0, 3), rates=(0.001, -0.001), schedule=Constant())
    assert "feature 0 won" in warned(made, lesson, images)
    assert warned(network(), LESSONS[0], images) == ""


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
