"""What is slow says so, once per reason: learning and winners that leave the compiled loops, and a missing numba."""

import subprocess
import sys
import warnings
from pathlib import Path
from unittest import mock

import pytest
import torch

import spyketorch
from spyketorch import _warnings, latency, learning, snn, testing

TIMES = torch.zeros(4, 2, 5, 5, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def untold(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(_warnings, "_told", set())


@pytest.fixture
def numba():
    return pytest.importorskip("numba")


class Own(learning.STDP):
    """Learns as ever."""

    def _update(self, *args):
        super()._update(*args)


class OwnLayer(snn.SpikingConvolution):
    """Answers as ever."""

    def respond(self, times, *, potentials=True):
        return super().respond(times, potentials=potentials)


def told(call):
    """The performance warnings of a call, and of another one."""
    with warnings.catch_warnings(record=True) as first:
        warnings.simplefilter("always")
        call()
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        call()
    assert again == [], "each reason is told once"
    assert all(w.category is spyketorch.PerformanceWarning and w.filename == __file__ for w in first)
    return [str(w.message) for w in first]


def layer(threshold=1.0, kind=snn.SpikingConvolution, **options):
    return kind(2, 4, 3, threshold, time_steps=4, **options)


LEAVES = {
    "a rule of one's own": (lambda: Own(layer(), (0.1, -0.1)).learn(TIMES), "own _update"),
    "a factor": (lambda: learning.STDP(layer(), (0.1, -0.1), modulation=lambda s: 1).learn(TIMES), "own modulation"),
    "a layer of one's own": (lambda: learning.STDP(layer(kind=OwnLayer), (0.1, -0.1)).learn(TIMES), "own respond"),
    "groups": (lambda: learning.STDP(layer(None, groups=2), (0.1, -0.1)).learn(TIMES), "`groups`"),
    "several winners": (lambda: learning.STDP(layer(None), (0.1, -0.1)).learn(TIMES, 2), "no threshold"),
    "reward": (
        lambda: learning.RSTDP(layer(), (0.1, -0.1), (-0.1, 0.1), modulation=lambda s: 1).learn(
            TIMES, [0, 1, 0, 1], [0, 0, 1, 1]
        ),
        "reward.modulation",
    ),
    "winners": (lambda: layer(None, groups=2).winners(TIMES), "`groups`"),
    "winners of a function": (
        lambda: latency.convolution_winners(TIMES, torch.ones(4, 2, 3, 3), kwta=2, time_steps=4,
                                            pointwise_inhibition=True),
        "no threshold",
    ),
}  # fmt: skip


@pytest.mark.parametrize("call, reason", LEAVES.values(), ids=LEAVES)
def test_leaving_the_loops_is_told_once(numba, call, reason):
    (message,) = told(call)
    assert "plain torch" in message
    assert reason in message


def test_each_reason_is_told(numba):
    assert len(told(lambda: [call() for call, _ in LEAVES.values()])) == len(LEAVES)


def test_what_takes_the_loops_says_nothing(numba):
    def run():
        learning.STDP(layer(), (0.1, -0.1)).learn(TIMES, 2)
        learning.RSTDP(layer(None), (0.1, -0.1), (-0.1, 0.1)).learn(TIMES, [0, 1, 0, 1], [0, 0, 1, 1])
        layer(None).winners(TIMES)
        latency.pooling(layer(groups=2)(TIMES), 2)
        learning.STDP(layer(groups=2), (0.1, -0.1)).learn(TIMES, minibatch=2)

    assert told(run) == []


def test_contracts_say_nothing_and_swallow_nothing(numba):
    assert told(lambda: testing.check_rule(lambda conv: Own(conv, (0.25, -0.125)))) == []
    assert len(told(LEAVES["a rule of one's own"][0])) == 1


def test_another_device_is_as_it_should_be(numba):
    """Loops are for the CPU: elsewhere torch is the way, and says nothing."""
    elsewhere = layer(groups=2).to("meta")
    assert told(lambda: elsewhere.winners(TIMES.to("meta"))) == []


def test_a_missing_numba_is_told(numba):
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import torch, warnings; warnings.simplefilter('always')\n"
        "from spyketorch import learning, snn\n"
        "layer = snn.SpikingConvolution(2, 4, 3, 1.0, time_steps=4)\n"
        "times = torch.zeros(4, 2, 5, 5, dtype=torch.uint8)\n"
        "layer(times); learning.STDP(layer, (0.1, -0.1)).learn(times); layer.winners(times)\n"
    )
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stderr.count("PerformanceWarning") == 1
    assert "numba is not installed" in done.stderr
    assert "pip install" in done.stderr


def test_nothing_is_told_while_tracing():
    with mock.patch.object(torch.compiler, "is_compiling", lambda: True), warnings.catch_warnings():
        warnings.simplefilter("error")
        _warnings.warn_once("told while tracing")
    assert not _warnings._told
