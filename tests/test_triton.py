"""Triton's kernel against plain torch and the oracle, to the bit on weights whose sums are exact.

It runs on a GPU with --device cuda, or in Triton's interpreter, which has to be chosen before Triton is imported:
TRITON_INTERPRET=1 pytest tests/test_triton.py. With neither, the first test here runs the others so.
"""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import reference
import strategies
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import dyadic, kinds, same, seeds, spike_times, tensor

from spyketorch import _checks as check
from spyketorch import learning, neurons, snn
from spyketorch.kernels import on_triton
from spyketorch.learning import _back_ends

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
ABSENT = on_triton._why_not_installed()
installed = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
interpreted = pytest.mark.skipif(not INTERPRETED or ABSENT is not None, reason="needs Triton and TRITON_INTERPRET=1")
walks = pytest.mark.usefixtures("where_it_walks")
TRITON, TORCH = _back_ends.OnTriton(), _back_ends.InTorch()
HERE = Path(__file__)


@pytest.fixture
def where_it_walks(device):
    """On a GPU, or in the interpreter."""
    if ABSENT is not None or not (INTERPRETED or device.type == "cuda"):
        pytest.skip("needs Triton, and --device cuda or TRITON_INTERPRET=1")


@pytest.fixture(autouse=True, scope="module")
def quicker():
    """The interpreter prepares Triton's language once, not at each call of a function, and looks for no overflow."""
    if not INTERPRETED or ABSENT is not None:
        yield
        return
    import triton.language as tl
    from triton.runtime import interpreter

    from spyketorch.kernels import _triton

    options = interpreter.interpreter_builder.options
    scopes = [interpreter._patch_lang(function.fn) for function in (_triton.walk, tl.max)]
    with (
        mock.patch.object(interpreter, "_patch_lang", lambda fn: SimpleNamespace(restore=lambda: None)),
        mock.patch.object(interpreter.interpreter_builder, "options", replace(options, sanitize_overflow=False)),
    ):
        yield
    for scope in reversed(scopes):
        scope.restore()


def python(*arguments, **environment):
    """What a new process prints."""
    variables = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, *arguments], env=variables, capture_output=True, text=True, cwd=HERE.parents[1], timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@installed
@pytest.mark.skipif(INTERPRETED, reason="it is")
def test_in_the_interpreter():
    ran = python("-m", "pytest", "-q", "-m", "not slow", str(HERE), TRITON_INTERPRET="1")
    assert " passed" in ran


def samples(count, channels=2, size=6, steps=5, seed=0):
    return tensor(spike_times(np.random.default_rng(seed), (count, channels, size, size), steps), torch.uint8)


def layer(threshold=1.5, features=6, steps=5, seed=1, low=0.25, **geometry):
    made = snn.SpikingConvolution(2, features, 3, threshold, time_steps=steps, **geometry)
    made.load_weight(tensor(dyadic(np.random.default_rng(seed), tuple(made.weight.shape), low), torch.float32))
    return made


def learned(way, make, *given, **options):
    """(winners, weight) once a new rule has learned in a way."""
    rule = make()
    task = rule._task(*given, **options)
    assert way.why_not(task) is None
    winners = way.learn(task)
    return winners, rule._pair()[0].conv_layer.weight


def alike(make, *given, **options):
    """Both ways leave the same; gives the winners."""
    found = [learned(way, make, *given, **options) for way in (TRITON, TORCH)]
    for got, wanted in zip(*found, strict=True):
        same(got, wanted)
    return found[0][0]


GEOMETRIES = {
    "plain": {},
    "padded": {"padding": 1},
    "strided": {"stride": (2, 1), "padding": (0, 1)},
    "dilated": {"dilation": (1, 2)},
    "grouped": {"groups": 2, "padding": 2, "stride": 2},
}
RATES = [(1 / 4 * (i + 1), -1 / 8 * (i + 1)) for i in range(6)]


@walks
@pytest.mark.parametrize("stabilizer", [True, False])
@pytest.mark.parametrize("threshold", [1.5, [0.5, 1, 1.5, 2, 2.5, 3], None], ids=["number", "per feature", "none"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_stdp(geometry, threshold, stabilizer):
    """With a stabilizer the grid of the weights gets finer with each sample: of few, sums are exact."""

    def make():
        bounds = (0, 1) if stabilizer else (-0.5, 0.75)
        return learning.STDP(layer(threshold, **geometry), RATES, stabilizer, *bounds)

    winners = alike(make, samples(3), 3, 1)
    assert (winners[..., 0] >= 0).sum() >= 3


@walks
@given(seeds, kinds, st.integers(1, 7), st.integers(0, 4), st.booleans(), st.integers(1, 6),
       st.sampled_from([None, -0.5, 0, 0.5, 1, 2]))  # fmt: skip
def test_choices(seed, kind, kwta, radius, inhibit, steps, threshold):
    """Few values, so that ties are common; thresholds below 0, where neurons fire that cannot win."""
    rng = np.random.default_rng(seed)
    times = tensor(spike_times(rng, (3, 2, 5, 5), steps, kind), torch.uint8)
    weight = tensor(rng.integers(-1, 3, (6, 2, 3, 3)) / 2, torch.float32)

    def make():
        made = snn.SpikingConvolution(2, 6, 3, threshold, time_steps=steps, padding=1)
        made.load_weight(weight)
        return learning.STDP(made, (1 / 2, -1 / 4), False, -2, 2)

    alike(make, times, kwta, radius, inhibit)


@walks
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_types_of_times(dtype):
    alike(lambda: learning.STDP(layer(), (1 / 4, -1 / 8), False), samples(3).to(dtype), 2, 1)


@walks
@pytest.mark.parametrize("steps", [1, 2, 15, 16, 17, 40])
def test_time_steps(steps):
    """Some, all, or several times as many as are taken together."""
    alike(lambda: learning.STDP(layer(steps=steps), (1 / 4, -1 / 8), False), samples(3, steps=steps), 2, 1)


@walks
@pytest.mark.parametrize("threshold", [1.0, None])
@pytest.mark.parametrize(("features", "size"), [(1, 3), (33, 4), (5, 13)])
def test_several_tiles(features, size, threshold):
    """Of positions, of features, and of both in groups."""
    for groups in (1, 2):

        def make(groups=groups):
            made = snn.SpikingConvolution(
                2 * groups, features * groups, 3, threshold, time_steps=3, groups=groups, padding=1
            )
            made.load_weight(tensor(dyadic(np.random.default_rng(0), tuple(made.weight.shape)), torch.float32))
            return learning.STDP(made, (1 / 4, -1 / 8), False)

        alike(make, samples(2, 2 * groups, size, 3), 3, 1)


@walks
def test_ties_in_large_maps():
    """Neurons that are all equal, and more than are compared together: the lowest index wins."""

    def make():
        made = snn.SpikingConvolution(1, 2, 1, 0.5, time_steps=1)
        made.load_weight(torch.ones_like(made.weight))
        return learning.STDP(made, (1 / 4, -1 / 8), False)

    winners = alike(make, torch.zeros(1, 1, 32, 32, dtype=torch.uint8), 2, 0, False)
    assert winners.tolist() == [[[0, 0, 0], [1, 0, 0]]]


@walks
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("threshold", [1.5, None])
def test_rstdp(threshold, dropout):
    """Reward and punishment, with rates of their own for each feature."""
    labels, classes, rng = [0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 2, 2], np.random.default_rng(0)
    active = tensor(rng.random((6, 6)) < 0.6, torch.bool) if dropout else None

    def make():
        return learning.RSTDP(layer(threshold), RATES, [(-b, a / 8) for a, b in RATES], lower_bound=0, upper_bound=1)

    winners = alike(make, samples(6), labels, classes, 2, 1, active=active)
    right = torch.tensor(classes)[winners[:, 0, 0]] == torch.tensor(labels)
    assert right.any() and not right.all()


@walks
def test_rates_round_as_in_torch():
    """Changes that no grid holds, from weights that one does."""
    for stabilizer in (True, False):
        alike(lambda on=stabilizer: learning.STDP(layer(), (0.004, -0.003), on), samples(1), 3, 1)


@walks
def test_weights_outside_of_the_bounds_are_clamped_after_the_first_sample():
    """It is answered with them as they are."""

    def make():
        return learning.STDP(layer(low=-1), (1 / 4, -1 / 8), False, 0.25, 0.5)

    alike(make, samples(3), 2, 1)
    alike(make, torch.full_like(samples(1), 5), 1, 0)  # and where nobody answers


@walks
def test_weights_in_another_order_of_memory():
    def make():
        rule = learning.STDP(layer(), (1 / 4, -1 / 8), False)
        rule.conv_layer.weight.data = rule.conv_layer.weight.data.to(memory_format=torch.channels_last)
        assert not rule.conv_layer.weight.is_contiguous()
        return rule

    alike(make, samples(3), 2, 1)


@walks
def test_against_the_oracle():
    """Sample after sample in loops: answer, inhibition, winners, update."""
    steps, rates, times = 5, [(1 / 4, -1 / 8)] * 6, samples(5)
    winners, weight = learned(TRITON, lambda: learning.STDP(layer(padding=1), rates[0], False), times, 2, 1)
    slow = layer().weight.double().numpy(force=True)
    for sample, got in zip(times.numpy(force=True), winners.tolist(), strict=True):
        wave = strategies.to_wave(sample, steps)
        spikes, kept = reference.fire(reference.convolution(wave, slow, padding=1), 1.5)
        chosen = reference.get_k_winners(reference.pointwise_inhibition(kept), 2, 1)
        assert got == [list(winner) for winner in chosen] + [[-1, -1, -1]] * (2 - len(chosen))
        slow = reference.stdp(slow, wave, spikes, chosen, rates, stabilizer=False, padding=1)
    same(weight, tensor(slow, torch.float32))


# programs that share out the work of one walk


@contextmanager
def at_once(programs):
    """Triton's interpreter with a thread for each program, as it runs one after the other."""
    from triton.runtime import interpreter

    builder, here = interpreter.interpreter_builder, threading.local()
    here.number = 0

    def launch(self, *given, **options):
        self.grid, errors = (1,), []

        def run(number):
            here.number = number
            try:
                call(self, *given, **options)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(programs)]
        with (
            mock.patch.object(builder, "create_get_program_id", lambda axis: number_of(here.number)),
            mock.patch.object(builder, "create_get_num_programs", lambda axis: number_of(programs)),
        ):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert errors == []

    def number_of(value):
        return interpreter.TensorHandle(np.array([value], np.int32), interpreter.tl.int32)

    call = interpreter.GridExecutor.__call__
    with mock.patch.object(interpreter.GridExecutor, "__call__", launch):
        yield


@interpreted
def test_programs_that_share_out_a_walk():
    """They wait for each other, and leave the bits of one."""

    def make():
        return learning.STDP(layer(features=40, steps=3, padding=1), (1 / 4, -1 / 8), False)

    times, programs = samples(2, size=10, steps=3), 3
    wanted = learned(TORCH, make, times, 3, 1)
    with at_once(programs), mock.patch.object(on_triton, "_at_once", lambda device: programs):
        found = learned(TRITON, make, times, 3, 1)
    for got, expected in zip(found, wanted, strict=True):
        same(got, expected)


# whether it serves


class Own(learning.STDP):
    """Changes by a factor of its own."""

    def change(self, synapses):
        return super().change(synapses) / 2


class OwnLayer(snn.SpikingConvolution):
    """Answers as ever."""

    def respond(self, times, *, potentials=True):
        return super().respond(times, potentials=potentials)


def hooked():
    made = layer()
    made.register_forward_hook(lambda *_: None)
    return made


def rstdp(made):
    return learning.RSTDP(made, (1 / 4, -1 / 8), (-1 / 8, 1 / 16))


STDP = [(1 / 4, -1 / 8)]
NOT = {
    "a mini-batch": (lambda: learning.STDP(layer(), *STDP), (2, 1, True, 4), "mini-batches of 4 samples"),
    "correction": (lambda: rstdp(layer()), ([0] * 3, [0] * 6, 1, 0, False, "guess"), "decided again"),
    "change": (lambda: Own(layer(), *STDP), (2, 1), "the rule has its own change"),
    "a factor": (lambda: learning.STDP(layer(), *STDP, modulation=lambda s: 1), (2, 1), "its own modulation"),
    "another rule": (lambda: learning.MultiplicativeSTDP(layer(), *STDP), (2, 1), "the rule has its own"),
    "thresholds": (
        lambda: learning.STDP(layer(), *STDP, thresholds=learning.TargetTime()), (2, 1), "the rule has its own change"
    ),
    "a layer": (
        lambda: learning.STDP(OwnLayer(2, 6, 3, 1.0, time_steps=5), *STDP), (2, 1), "the layer has its own respond"
    ),
    "hooks": (lambda: learning.STDP(hooked(), *STDP), (2, 1), "the layer has its own hooks"),
    "neurons": (lambda: learning.STDP(layer(neuron=neurons.Leaky(0.5)), *STDP), (2, 1), "Leaky neurons"),
    "float64": (lambda: learning.STDP(layer().double(), *STDP), (2, 1), "not torch.float64"),
}  # fmt: skip


@installed
@pytest.mark.parametrize(("make", "given", "reason"), NOT.values(), ids=NOT)
def test_why_not(monkeypatch, make, given, reason):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert TRITON.why_not(learning.STDP(layer(), *STDP)._task(samples(3), 2, 1)) is None
    assert reason in TRITON.why_not(make()._task(samples(3), *given))


@walks
def test_what_triton_cannot_start_is_learned_all_the_same():
    def make():
        return learning.STDP(layer(), (1 / 4, -1 / 8), False)

    wanted = learned(TORCH, make, samples(3), 2, 1)
    with (
        mock.patch.object(on_triton, "learn", side_effect=OSError("no compiler")),
        mock.patch.object(check, "free_to_read", lambda _: False),
        pytest.warns(UserWarning, match="Triton starts no kernel: OSError.*no compiler"),
    ):
        found = learned(TRITON, make, samples(3), 2, 1)
    for got, expected in zip(found, wanted, strict=True):
        same(got, expected)


def test_a_cpu_is_for_the_interpreter_alone(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert on_triton.why_not(layer().weight) == "the layer is on cpu"
    assert on_triton.why_not(layer().to("meta").weight) == "the layer is on meta"


@pytest.mark.parametrize(
    ("version", "reason"),
    [(None, "Triton is not installed"), ("3.6.0", "Triton 3.6.0 is older than 3.7"), ("3.10.1+git", None)],
)
def test_which_triton(version, reason):
    from importlib import metadata

    absent = metadata.PackageNotFoundError()
    with mock.patch.object(metadata, "version", side_effect=absent if version is None else [version]):
        found = on_triton._why_not_installed.__wrapped__()
    assert found == reason or (found and found.startswith(reason))


def test_triton_is_not_imported_unless_asked_for():
    """Learning goes on without it."""
    said = python(
        "-c",
        "import sys, torch; from spyketorch import learning, snn\n"
        "rule = learning.STDP(snn.SpikingConvolution(2, 4, 3, 1.0, time_steps=5), (0.1, -0.1))\n"
        "rule.learn(torch.zeros(2, 2, 5, 5, dtype=torch.uint8))\n"
        "print('triton' in sys.modules)",
    )
    assert said.strip() == "False"


# without a GPU: compiled for one, up to the launch

COMPILE = """
import sys
from types import SimpleNamespace
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction
from spyketorch import learning, snn
from spyketorch.learning._back_ends import OnTriton

target = GPUTarget("cuda", int(sys.argv[1]), 32)
driver.set_active(
    SimpleNamespace(
        get_current_device=lambda: 0, get_current_stream=lambda device: 0, get_current_target=lambda: target
    )
)
made = []
JITFunction.__getitem__ = lambda self, grid: lambda *given, **options: made.append(
    self.warmup(*given, grid=grid, **options)
)
times = torch.zeros(4, 2, 9, 9, dtype=torch.uint8)
layer = snn.SpikingConvolution(2, 6, 3, 2.0, time_steps=5, groups=2, stride=2, padding=1)
OnTriton().learn(learning.STDP(layer, (0.1, -0.1))._task(times, 3, 1))
layer.threshold = None
rule = learning.RSTDP(layer, (0.1, -0.1), (-0.1, 0.1))
OnTriton().learn(rule._task(times, [0] * 4, [0, 0, 0, 1, 1, 1], 1, 0))
for kernel in made:
    print(kernel.name, len(kernel.asm["cubin"]) > 0)
"""


@installed
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_a_gpu(tmp_path, capability):
    """What the interpreter takes the compiler may not."""
    said = python("-c", COMPILE, str(capability), TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    assert said.splitlines() == ["walk True"] * 2
