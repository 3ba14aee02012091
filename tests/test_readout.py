"""The linear read-out: it finds the minimum that it promises, in any memory and batch, and ends an experiment."""

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from shared_out import bars
from sklearn.svm import LinearSVC

import spyketorch
from spyketorch import latency, models, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.training import Constant, Readout, Reinforced, Trainer, Unsupervised, evaluate

T = 15


def problem(count=300, shape=(4, 3, 3), classes=3, seed=0):
    """Times that say little of their labels, so that the minimum lies where some margins are missed."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (count,), generator=random)
    times = torch.randint(0, T + 1, (count, *shape), generator=random)
    times[:, 0, 0, 0] = (times[:, 0, 0, 0] + 5 * labels) // 2
    return times.clamp(max=T).to(torch.uint8), labels


def objective(weight, bias, times, labels, penalty):
    """As the docstring writes it, image by image and class by class."""
    total = 0.0
    for map_, label in zip(times.flatten(1).double(), labels.tolist(), strict=True):
        x = (T - map_) / T
        for c in range(len(bias)):
            y = 1 if c == label else -1
            total = total + max(0, 1 - y * (weight[c] @ x + bias[c])) ** 2
    return penalty / 2 * weight.square().sum() + total / len(times)


def fitted(times, labels, classes=3, **options):
    readout = LinearReadout(times.shape[1:], classes, time_steps=T)
    return readout, readout.fit(times, labels, **options)


def test_scores_are_linear_in_how_early_neurons_fire():
    readout = LinearReadout((2, 1, 2), 2, time_steps=T)
    readout.weight[:] = torch.tensor([[1.0, 2, 3, 4], [0, 0, 0, 30]])
    readout.bias[:] = torch.tensor([0.5, 0])
    times = torch.tensor([0, 15, 3, 14], dtype=torch.uint8).view(1, 2, 1, 2)
    assert readout.read(times)[0].tolist() == pytest.approx([1, 0, 0.8, 1 / 15])
    assert readout(times)[0].tolist() == pytest.approx([0.5 + 1 + 3 * 0.8 + 4 / 15, 2])


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_the_minimum_is_reached(penalty):
    times, labels = problem()
    readout, reached = fitted(times, labels, penalty=penalty, iterations=500)
    weight, bias = readout.weight.double(), readout.bias.double()
    assert reached == pytest.approx(float(objective(weight, bias, times, labels, penalty)), rel=1e-5)
    weight.requires_grad_()
    bias.requires_grad_()
    slopes = torch.autograd.grad(objective(weight, bias, times, labels, penalty), [weight, bias])
    assert max(float(slope.abs().max()) for slope in slopes) < 1e-3


def test_answers_are_those_of_a_support_vector_machine():
    times, labels = problem()
    readout, _ = fitted(times, labels, penalty=0.02, iterations=500)
    x = readout.read(times).numpy()
    # liblinear adds the penalty on the bias and scales: C sum(loss) + |w|^2 / 2, here C = 1 / (penalty N)
    machine = LinearSVC(C=1 / (0.02 * len(x)), intercept_scaling=1e3, tol=1e-7, max_iter=100_000).fit(x, labels)
    assert readout(times).numpy() == pytest.approx(machine.decision_function(x), abs=0.02)
    assert (readout(times).argmax(1).numpy() == machine.predict(x)).mean() > 0.99


def test_separable_classes_are_separated():
    times, labels = problem()
    times[:, 0, 0, 0] = (7 * labels).to(torch.uint8)
    times[:, 0, 0, 1] = torch.where(labels == 1, 0, T).to(torch.uint8)
    readout, reached = fitted(times, labels, penalty=1e-5, iterations=300)
    assert torch.equal(readout(times).argmax(1), labels)
    assert reached < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_bits_for_any_batch_and_number_of_threads(threads, dtype):
    times, labels = problem(count=200, shape=(40, 7, 9), classes=5)
    weights, scores, objectives = [], [], []
    for count, batch in [(1, 200), (1, 1), (1, 7), (2, 200), (2, 7), (2, 64)]:
        threads(count)
        readout = LinearReadout((40, 7, 9), 5, time_steps=T).to(dtype)
        objectives.append(readout.fit(times, labels, penalty=1e-4, iterations=12, batch=batch))
        weights.append(torch.cat([readout.weight, readout.bias[:, None]], 1))
        scores += [torch.cat([readout(part) for part in times.split(size)]) for size in (1, 7, 200)]
        assert torch.get_num_threads() == count
    assert all(torch.equal(weights[0], other) for other in weights)
    assert all(torch.equal(scores[0], other) for other in scores)
    assert len(set(objectives)) == 1
    order = torch.randperm(200)
    assert torch.equal(readout(times[order]), scores[0][order])


def test_scores_are_the_exact_sums_rounded_once(threads):
    threads(2)
    times, _ = problem(count=50, shape=(40, 7, 9))
    readout = LinearReadout((40, 7, 9), 3, time_steps=T)
    readout.weight.copy_(torch.randn(readout.weight.shape) / 64)
    readout.bias.copy_(torch.randn(3))
    want = [
        [
            float(sum((T - t) * Fraction(w) for t, w in zip(map_, row, strict=True)) / T + Fraction(b))
            for row, b in zip(readout.weight.tolist(), readout.bias.tolist(), strict=True)
        ]
        for map_ in times.flatten(1).tolist()
    ]
    assert readout(times).double().numpy() == pytest.approx(np.array(want), rel=1e-7, abs=1e-9)


def test_weights_of_0_and_of_every_size():
    times, _ = problem()
    readout = LinearReadout((4, 3, 3), 3, time_steps=T)
    assert torch.equal(readout(times), torch.zeros(300, 3))
    readout.weight.copy_(torch.tensor([[1e-30], [1.0], [1e30]]).expand(3, 36))
    want = readout.read(times).double().sum(1, keepdim=True) * torch.tensor([1e-30, 1, 1e30])
    assert readout(times).double().numpy() == pytest.approx(want.numpy(), rel=1e-6)


def test_times_from_a_file(tmp_path):
    times, labels = problem()
    np.save(tmp_path / "times.npy", times.numpy())
    stored = torch.from_numpy(np.load(tmp_path / "times.npy", mmap_mode="c"))
    want, _ = fitted(times, labels)
    made, _ = fitted(stored, labels)
    assert torch.equal(made.weight, want.weight)
    assert torch.equal(stored, times)


def test_more_passes_go_on_from_where_it_stands():
    times, labels = problem()
    told = []
    readout, first = fitted(times, labels, iterations=3, tell=told.append)
    assert told[-1] == first
    assert told[0] == pytest.approx(3)  # with weights of 0 each of three classes misses its margin by 1
    assert readout.fit(times, labels, iterations=1, tell=told.append) < first
    again = told[told.index(first) + 1]
    assert again == pytest.approx(first, rel=1e-5)


def test_wrong_arguments():
    times, labels = problem()
    with pytest.raises(ValueError, match="classes"):
        LinearReadout((4, 3, 3), 1, time_steps=T)
    with pytest.raises(ValueError, match="shape"):
        LinearReadout((4, 0, 3), 3, time_steps=T)
    readout = LinearReadout((4, 3, 3), 3, time_steps=T)
    with pytest.raises(ValueError, match="labels"):
        readout.fit(times, labels[:-1])
    with pytest.raises(ValueError, match="labels"):
        readout.fit(times, labels + 1)  # a fourth class
    with pytest.raises(ValueError, match="times"):
        readout.fit(times[:, :3], labels)
    with pytest.raises(ValueError, match="iterations"):
        readout.fit(times, labels, iterations=0)
    with pytest.raises(ValueError, match="penalty"):
        readout.fit(times, labels, penalty=-1.0)
    with pytest.raises(ValueError, match="batch"):
        readout.fit(times, labels, batch=0)
    with pytest.raises(ValueError, match="labels"):
        readout.fit(times, labels - 1)
    with pytest.raises(ValueError, match="times"):
        readout(times[:, :3])
    with pytest.raises(ValueError, match="times"):
        readout(times[0])


def test_times_and_files_of_another_shape_or_number_of_steps_are_refused():
    times, labels = problem()
    readout = LinearReadout((4, 3, 3), 3, time_steps=T - 2)
    for use in (readout, readout.read, lambda given: readout.fit(given, labels)):
        with pytest.raises(ValueError, match="number of time steps"):
            use(times)
    with pytest.raises(ValueError, match=r"`times` must be of shape \(N, 3, 4, 3\)"):
        LinearReadout((3, 4, 3), 3, time_steps=T)(times)
    state = LinearReadout((4, 3, 3), 3, time_steps=T).state_dict()
    for other in (readout, LinearReadout((3, 4, 3), 3, time_steps=T)):
        with pytest.raises(RuntimeError, match="shape_and_time_steps"):
            other.load_state_dict(state)
    LinearReadout((4, 3, 3), 3, time_steps=T).load_state_dict(state)
    del state["shape_and_time_steps"]  # as 0.1 wrote it
    readout.load_state_dict(state)


# as the last lesson

LESSONS = [
    Unsupervised(kwta=2, inhibition_radius=2, rates=(0.05, -0.04), schedule=Constant(), period=16),
    Readout(penalty=1e-3, iterations=40),
]


def network():
    torch.manual_seed(3)
    encoder = LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)], 1, thresholds=10), T)
    layer = snn.SpikingConvolution(2, 4, 3, 6.0, 0.8, 0.05, time_steps=T, padding=1)
    made = Network(encoder, [Stage(layer, snn.SpikingPooling(2))])
    made.readout = LinearReadout((4, 6, 6), 2, time_steps=T)
    return made


def train(images, labels, directory=None, *, lessons=LESSONS, **options):
    made = network()
    Trainer(made, lessons, directory, progress=False, **options).fit(images, labels)
    return made


def same(one, two):
    return all(map(torch.equal, one.state_dict().values(), two.state_dict().values()))


def test_it_is_the_last_lesson():
    images, labels = bars(200)
    made = train(images, labels)
    assert evaluate(made, *bars(200, seed=1)).accuracy > 0.95
    want = train(images, labels, lessons=LESSONS[:1])
    assert not want.readout.weight.any()
    want.readout.fit(want.features(images), labels, penalty=1e-3, iterations=40)
    assert same(made, want)
    alone = network()
    alone.load_state_dict(want.state_dict())
    alone.readout.weight.zero_()
    Trainer(alone, LESSONS[1:], progress=False).fit(images, labels)  # layers as they are
    assert torch.equal(alone.stages[0].layer.weight, want.stages[0].layer.weight)
    assert evaluate(alone, images, labels).accuracy == evaluate(want, images, labels).accuracy


def test_stored_answers_and_a_finished_run(tmp_path):
    images, labels = bars(60)
    want = train(images, labels)
    made = train(images, labels, tmp_path, memory_limit=0)
    assert same(made, want)
    assert len(list(tmp_path.glob("answers-*.npy"))) == 2  # of the encoder and of the layer
    before = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert same(train(images, labels, tmp_path, resume=True), want)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == before  # there was nothing left to do
    with pytest.raises(ValueError, match="other lessons"):
        train(images, labels, tmp_path, resume=True, lessons=[LESSONS[0], Readout(penalty=0.5)])
    with pytest.raises(ValueError, match="other lessons"):
        train(images, labels, tmp_path, resume=True, lessons=LESSONS[:1])


def test_layers_without_a_lesson_belong_to_the_checkpoint(tmp_path):
    images, labels = bars(60)
    train(images, labels, tmp_path, lessons=LESSONS[1:])
    train(images, labels, tmp_path, lessons=LESSONS[1:], resume=True)
    other = network()
    other.stages[0].layer.weight.mul_(0.9)
    with pytest.raises(ValueError, match="weights of layers without a lesson"):
        Trainer(other, LESSONS[1:], tmp_path, resume=True, progress=False).fit(images, labels)


SCRIPT = """
    import os, sys
    sys.path.insert(0, {tests!r})
    import test_readout as t
    fit = t.LinearReadout.fit
    t.LinearReadout.fit = lambda *given, **options: fit(*given, **{{**options, "tell": lambda value: os._exit(9)}})
    t.train(*t.bars(60), {directory!r})
"""


def test_a_run_killed_in_the_read_out_goes_on_to_the_same_bits(tmp_path):
    script = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), directory=str(tmp_path))
    path = {**os.environ, "PYTHONPATH": str(Path(spyketorch.__file__).parents[1])}
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, env=path).returncode == 9
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert not saved["readout"]["weight"].any()
    assert same(train(*bars(60), directory=tmp_path, resume=True), train(*bars(60)))


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_in_the_read_out_says_how_to_go_on(tmp_path, monkeypatch):
    fit = LinearReadout.fit

    def interrupted(*given, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return fit(*given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(LinearReadout, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt, match="resume=True"):
            train(*bars(60), directory=tmp_path)
    assert same(train(*bars(60), directory=tmp_path, resume=True), train(*bars(60)))


def test_a_layer_may_learn_with_another_threshold_than_its_own():
    images, labels = bars(60)
    lesson = LESSONS[0]
    made = train(images, labels, lessons=[replace(lesson, threshold=4.0)])
    want = network()
    want.stages[0].layer.threshold = torch.tensor(4.0, dtype=torch.float64)
    Trainer(want, [lesson], progress=False).fit(images)
    assert torch.equal(made.stages[0].layer.weight, want.stages[0].layer.weight)
    assert made.stages[0].layer.threshold == 6
    assert not torch.equal(train(images, labels, lessons=[lesson]).stages[0].layer.weight, want.stages[0].layer.weight)
    with pytest.raises(ValueError, match="homeostasis"):
        replace(lesson, threshold=4.0, homeostasis=0.1)


def test_a_shortcut_passes_the_input_on_beside_the_answers():
    times = network().encoder(bars(5)[0])
    stage = network().stages[0]
    joined = Stage(stage.layer, stage.pool, shortcut=snn.SpikingPooling(2))(times)
    assert joined.shape == (5, 4 + 2, 6, 6)
    assert torch.equal(joined[:, :4], stage(times))
    assert torch.equal(joined[:, 4:], latency.pooling(times, 2))
    assert torch.equal(Stage(stage.layer, stage.pool, shortcut=snn.SpikingPooling(2))(times[0]), joined[0])


def test_summary_of_a_network_with_a_shortcut():
    rows = {row.part: row for row in models.kheradpisheh2018().summary((1, 28, 28)).rows}
    assert rows["stages[1].pool"].shape == (150, 7, 7)
    assert rows["stages[1].shortcut"].shape == (182, 7, 7)
    assert rows["readout"].weights == 10 * 182 * 49 + 10


def test_the_shipped_weights_load_and_decide():
    made = models.kheradpisheh2018(pretrained=True)
    assert set(made.state_dict()) == set(models.kheradpisheh2018().state_dict())
    assert made.readout.weight.any(1).all()
    weight = made.stages[1].layer.weight
    assert weight.min() >= 0
    assert weight.max() <= 1


def test_lessons_that_do_not_fit():
    made = network()
    with pytest.raises(ValueError, match="then a Readout"):
        Trainer(made, LESSONS[::-1])
    with pytest.raises(ValueError, match="then a Readout"):
        Trainer(made, [*LESSONS, Readout()])
    with pytest.raises(ValueError, match="labels"):
        Trainer(made, LESSONS, progress=False).fit(bars(5)[0])
    with pytest.raises(ValueError, match="without Readout"):
        Trainer(models.mozafari2019(), [Unsupervised(), Unsupervised(), Reinforced(), Readout()])


def test_a_read_out_of_another_shape_is_found_before_anything_is_learned():
    made = network()
    made.readout = LinearReadout((4, 6, 5), 2, time_steps=T)
    with pytest.raises(ValueError, match=r"of shape \(N, 4, 6, 5\)"):
        Trainer(made, LESSONS, progress=False).fit(*bars(20))
