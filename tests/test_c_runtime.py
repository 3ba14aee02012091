"""The runtime in C gives what the reference gives, to the bit, on this machine and on a microcontroller."""

import re
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from integer_networks import integer_networks

from spyketorch.export._c import STRICT, C, CortexM, _compiler, to_c
from spyketorch.export._c_table import c_table
from spyketorch.export._file import content, packed, span
from spyketorch.export.runtimes import reading, reference


class Quick(C):
    """Compiled in a moment."""

    name, optimise = "C99, not optimised", "-O0"


class Packed(Quick):
    """With the table of a microcontroller."""

    name, unpack = "C99, packed", False


QUICK = [Quick(), Packed()]
RUNTIMES = [C(), *QUICK, CortexM()]


def of(runtimes):
    """Those runtimes, each skipped where this machine lacks what it needs."""
    lacking = [(runtime, runtime.why_not()) for runtime in runtimes]
    return pytest.mark.parametrize(
        "runtime",
        [pytest.param(r, marks=pytest.mark.skipif(why is not None, reason=why or ""), id=r.name) for r, why in lacking],
    )


def holds(runtime, tmp_path, drawn):
    path = tmp_path / "drawn.safetensors"
    path.write_bytes(drawn.file)
    assert runtime.trace(path, drawn.images) == reference.trace(reading.read(path), drawn.images)


@of(QUICK)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=integer_networks())
def test_gives_what_the_reference_gives(runtime, tmp_path, drawn):
    holds(runtime, tmp_path, drawn)


@of(RUNTIMES)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=integer_networks())
def test_many_networks(runtime, tmp_path, drawn):
    holds(runtime, tmp_path, drawn)


def digits():
    """A network of two stages, its tensors, and images: windows that overlap, a shortcut, groups."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 16, (20, 2, 3, 3)), rng.choice([-2, 0, 1, 1, 1], (6, 10, 3, 3))
    readout = rng.integers(-8, 8, (4, 26 * 9))
    bias = np.array([3, -3, 0, 1], np.int32)
    about = {
        "time_steps": 15,
        "image": [1, 12, 12],
        "names": None,
        "encoder": [
            {"op": "filter", "weight": "k", "threshold": "least", "absolute": False},
            {"op": "onoff"},
            {"op": "rank"},
        ],
        "stages": [
            {
                "layer": layer("first", first, 4, False, [1, 1]),
                "inhibit": False,
                "pool": {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "earliest": 2},
                "shortcut": None,
            },
            {
                "layer": layer("second", second, 2, True, [2, 2]),
                "inhibit": True,
                "pool": None,
                "shortcut": {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1], "earliest": 1},
            },
        ],
        "decision": {
            "op": "linear",
            "weight": "r",
            "bias": "b",
            "shape": list(readout.shape),
            "bits": 4,
            "signed": True,
            "range": span(readout, 15, bias),
        },
    }
    tensors = {
        "k": 20 * np.array([[[[0, 1, 0], [1, -4, 1], [0, 1, 0]]]], np.int8),
        "least": np.full(1, -(2**31), np.int32),
        "first": packed(first, 4),
        "first.threshold": np.full(20, 40, np.int32),
        "second": packed(second, 2),
        "second.threshold": np.full(6, 2, np.int32),
        "r": packed(readout, 4),
        "b": bias,
    }
    return about, tensors, rng.integers(0, 256, (5, 1, 12, 12)).astype(np.uint8)


def layer(name, weight, bits, signed, stride):
    about = {"weight": name, "shape": list(weight.shape), "bits": bits, "signed": signed, "range": span(weight)}
    about |= {"threshold": f"{name}.threshold", "stride": stride, "padding": [1, 1], "dilation": [1, 1]}
    return {**about, "groups": 1 if name == "first" else 2}


@pytest.fixture
def network(tmp_path):
    """A file, and images."""
    about, tensors, images = digits()
    path = tmp_path / "digits.safetensors"
    path.write_bytes(content(about, tensors))
    return path, images


@of(RUNTIMES)
def test_a_network_of_two_stages(runtime, network):
    path, images = network
    model = reading.read(path)
    for part in reference.parts(model, images[0])[0]:
        assert len(np.unique(part)) > 3  # it is awake
    assert runtime.trace(path, images) == reference.trace(model, images)


@of([Quick(), CortexM()])
def test_no_images_are_no_traces(runtime, network):
    path, images = network
    assert runtime.trace(path, images[:0]) == b""


@of(RUNTIMES)
def test_other_images(runtime, network):
    path, images = network
    for other in (images[:, :, 1:], images.astype(np.int16), images[0]):
        with pytest.raises(reading.NotAnIntegerNetwork, match="images are bytes"):
            runtime.trace(path, other)


@of(RUNTIMES)
def test_files_that_cannot_be_trusted(runtime, network, tmp_path):
    path, images = network
    data = path.read_bytes()
    for damaged in (data[:-1], data + b"0", data[:-1] + bytes([data[-1] ^ 1]), b""):
        other = tmp_path / "damaged.safetensors"
        other.write_bytes(damaged)
        with pytest.raises(reading.NotAnIntegerNetwork) as refused:
            runtime.trace(other, images)
        assert "\n" not in str(refused.value)


def said_of(table, folder):
    """The error, or none, of a program that is made of a table and asked about no image."""
    (folder / "model.h").write_text(table, encoding="ascii")
    for command in ([*_compiler(), *STRICT, "host.c", "-o", "model"], [folder / "model"]):
        run = subprocess.run(command, cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if run.returncode:
            return run.stderr
    return None


def changed(table, pattern, to):
    found, count = re.subn(pattern, to, table, count=1)
    assert count == 1
    return found


@of([Quick()])
def test_tables_that_were_changed(runtime, network, tmp_path):
    """Those of another version do not compile; sums, sizes and memory are looked at when the program starts."""
    to_c(network[0], tmp_path, unpack=False)
    table = (tmp_path / "model.h").read_text(encoding="ascii")
    assert said_of(table, tmp_path) is None
    assert "another version" in said_of(changed(table, r"(SPK_VERSION) 1", r"\1 2"), tmp_path)
    assert "time steps" in said_of(changed(table, r"(SPK_STEPS) 15", r"\1 255"), tmp_path)
    assert "include the table" in said_of(changed(table, r"#define SPK_VERSION 1", ""), tmp_path)
    for name, largest in (("stage_0", 0xFF), ("stage_1", 0x55), ("decision", 0x77)):
        array = rf"(spk_{name}_weight\[\] = {{)([^}}]*)"
        weights = re.search(array, table)[2]
        of_what = "weights of the decision" if name == "decision" else "weights of a layer"
        assert of_what in said_of(table.replace(weights, re.sub(r"\d+", str(largest), weights), 1), tmp_path), name
    memory = int(re.search(r"SPK_MEMORY (\d+)", table)[1])
    assert "memory" in said_of(changed(table, r"(SPK_MEMORY) \d+", rf"\1 {memory - 1}"), tmp_path)
    assert "does not fit the maps" in said_of(changed(table, r"{20, 10, 10}", "{20, 9, 10}"), tmp_path)


@of([Quick()])
def test_a_program_that_is_cut_off_within_an_image(runtime, network):
    path, images = network
    with runtime._built(path) as program:
        run = subprocess.run([program], input=images.tobytes()[:-1], capture_output=True)
    assert run.returncode == 1 and run.stderr == b"standard input ends within an image\n"


@of([Quick()])
def test_without_traces_answers_and_decisions_are_the_same(runtime, network):
    path, images = network
    with runtime._built(path) as program:
        found = np.frombuffer(runtime._run(program, images.tobytes()), "<i4").reshape(len(images), -1)
    model = reading.read(path)
    assert found.tolist() == [
        [*answer, decision] for _, answer, decision in (reference.parts(model, i) for i in images)
    ]


@of([Quick()])
def test_time(runtime, network):
    assert runtime.seconds(*network) >= 0


@of([CortexM()])
def test_sizes_and_instructions(runtime, network):
    path, images = network
    flash, ram = runtime.size(path)
    weights = (20 * 18 * 4 + 6 * 90 * 2 + 4 * 234 * 4) / 8
    assert weights < flash < weights + 16_000 and 2_000 < ram < 16_000
    count = runtime.instructions(path, images)
    assert 10_000 < count < 20_000_000 and count == runtime.instructions(path, images)


def test_what_a_machine_lacks(monkeypatch):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert "no C compiler" in C().why_not()
    assert "arm-none-eabi-gcc" in CortexM().why_not()
    monkeypatch.setenv("CC", "tcc -w")
    assert C().why_not() is None


@of(QUICK)
@pytest.mark.parametrize(("inhibit", "scores"), [(False, False), (True, False), (True, True)])
def test_the_potential_of_a_spike_is_that_of_its_step(runtime, inhibit, scores, tmp_path):
    """Two neurons fire at the first step; the second has more then, the first in the end."""
    weight = np.array([2, 9, 3, 1]).reshape(2, 1, 1, 2)  # the left input fires before the right one
    neurons = {**layer("first", weight, 4, False, [1, 1]), "padding": [0, 0]}
    tensors = {
        "first": packed(weight, 4),
        "first.threshold": np.array([1, 1], np.int32),
        "largest": np.full((1, 1, 1), 200, np.int32),
    }
    winner = {"op": "winner", "classes": [7, 8]}
    readout = np.array([[1, 0], [0, 1]])
    linear = {"op": "linear", "weight": "r", "bias": "b", "shape": [2, 2], "bits": 1, "signed": False}
    tensors |= {"r": packed(readout, 1), "b": np.zeros(2, np.int32)}
    about = {
        "time_steps": 4,
        "image": [1, 1, 2],
        "names": None,
        "encoder": [{"op": "latency", "largest": "largest"}],
        "stages": [{"layer": neurons, "inhibit": inhibit, "pool": None, "shortcut": None}],
        "decision": {**linear, "range": span(readout, 4, tensors["b"])} if scores else winner,
    }
    path = tmp_path / "spike.safetensors"
    path.write_bytes(content(about, tensors))
    image = np.array([200, 100], np.uint8).reshape(1, 1, 1, 2)
    trace = runtime.trace(path, image)
    assert trace == reference.trace(reading.read(path), image)
    assert np.frombuffer(trace[-4:], "<i4") == (1 if scores else 8)


@of(QUICK)
def test_values_at_limits_and_close_to_32_bits(runtime, tmp_path):
    """All bytes, as they are and times 127^3: some equal a limit, ranks need all bytes of a number."""
    image = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(1, 1, 16, 16)
    filters = [{"op": "filter", "weight": "k", "threshold": "zero", "absolute": False}] * 3
    timed = {"largest": "largest", "limits": "limits"}
    table, latency, rank = {"op": "table", **timed}, {"op": "latency", **timed}, {"op": "rank"}
    readout = np.ones((1, 256), int)
    tensors = {
        "k": np.full((1, 1, 1, 1), 127, np.int8),
        "zero": np.zeros(1, np.int32),
        "one": np.ones((1, 1, 1, 1), np.int8),
        "hundred": np.full(1, 100, np.int32),
        "largest": np.full((1, 1, 1), 256, np.int32),
        "limits": np.array([3, 2, 1], np.int32) << 18,
        "r": packed(readout, 1),
        "b": np.array([-5], np.int32),
    }
    decision = {"op": "linear", "weight": "r", "bias": "b", "shape": [1, 256], "bits": 1, "signed": False}
    decision["range"] = span(readout, 4, tensors["b"])
    about = {"time_steps": 4, "image": [1, 16, 16], "names": None, "stages": [], "decision": decision}
    normalise = {"op": "normalise", "radius": 0, "shift": 20}
    faint = {"op": "filter", "weight": "one", "threshold": "hundred", "absolute": False}  # becomes 0, but 100 itself
    for encoder in (
        [faint, rank],
        [table],
        [latency],
        [*filters, rank],
        [*filters, table],
        [*filters, normalise, latency],
    ):
        path = tmp_path / "limits.safetensors"
        path.write_bytes(content({**about, "encoder": encoder}, tensors))
        assert runtime.trace(path, image) == reference.trace(reading.read(path), image)


def ramps(weight, bits, threshold, largest):
    """The file of ramps that read an image of one row as it is, at two time steps."""
    tensors = {
        "largest": np.full((1, 1, 1), largest, np.int32),
        "r": packed(weight, bits),
        "threshold": np.array(threshold, np.int32),
    }
    decision = {"op": "first spike", "weight": "r", "shape": list(weight.shape), "bits": bits, "signed": False}
    decision |= {"ramp": True, "threshold": "threshold", "range": span(weight, 8), "per_class": 1}
    about = {"time_steps": 2, "image": [1, 1, weight.shape[1]], "names": None, "stages": [], "decision": decision}
    return content({**about, "encoder": [{"op": "latency", "largest": "largest"}]}, tensors)


@of(QUICK)
def test_the_first_neuron_decides_and_not_the_strongest(runtime, tmp_path):
    """Ramps: 1 t is above 0 at step 1 and ends 8 above it; 3 (t - 1) is above 5 at step 3, and ends 16 above it."""
    path = tmp_path / "first.safetensors"
    path.write_bytes(ramps(np.array([[1, 0], [0, 3]]), 2, [0, 5], 200))
    image = np.array([200, 100], np.uint8).reshape(1, 1, 1, 2)
    assert runtime.trace(path, image) == reference.trace(reading.read(path), image)
    assert np.frombuffer(runtime.trace(path, image)[2:], "<i4").tolist() == [0, 2 * 256 + 256 * 2 // 3, 0]


@of(QUICK)
def test_the_last_step_of_a_ramp(runtime, tmp_path):
    """Its potential is 8 at step 4 T, the last that counts."""
    path = tmp_path / "ramp.safetensors"
    path.write_bytes(ramps(np.array([[1], [1]]), 1, [8, 7], 1))
    image = np.ones((1, 1, 1, 1), np.uint8)
    assert runtime.trace(path, image) == reference.trace(reading.read(path), image)
    assert np.frombuffer(runtime.trace(path, image)[1:], "<i4").tolist() == [2**31 - 1, 7 * 256, 1]


@of(QUICK)
@pytest.mark.parametrize(("most", "kind"), [(32767, "int16_t"), (32768, "int32_t")])
def test_potentials_have_16_bits_where_they_fit(runtime, most, kind, tmp_path):
    """Thresholds at and beyond the largest potential, and those that no 16 bits hold."""
    weight = np.full((5, 1, 16, 16), 128)
    weight[:, 0, 0, 0] -= 2**15 - most
    neurons = {**layer("first", weight, 8, False, [1, 1]), "padding": [0, 0]}
    tensors = {
        "first": packed(weight, 8),
        "first.threshold": np.array([most - 1, most, most + 1, 2**15, 2**31 - 1], np.int32),
        "largest": np.full((1, 1, 1), 255, np.int32),
    }
    about = {
        "time_steps": 3,
        "image": [1, 16, 16],
        "names": None,
        "encoder": [{"op": "latency", "largest": "largest"}],
        "stages": [{"layer": neurons, "inhibit": False, "pool": None, "shortcut": None}],
        "decision": {"op": "winner", "classes": [0, 1, 2, 3, 4]},
    }
    path = tmp_path / "sized.safetensors"
    path.write_bytes(content(about, tensors))
    assert re.search(r"SPK_POTENTIAL (\w+)", c_table(path))[1] == kind
    trace = runtime.trace(path, np.full((1, 1, 16, 16), 255, np.uint8))
    assert trace == reference.trace(reading.read(path), np.full((1, 1, 16, 16), 255, np.uint8))
    assert list(trace[256:261]) == [0, 3, 3, 3, 3]
