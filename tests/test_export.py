"""Networks of integers: made of trained ones, written, read, and run by this library as the reference runs them."""

import json
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from integer_networks import integer_networks
from torch import nn

from spyketorch import encoding, export, models, neurons, readout, snn
from spyketorch.export import _file
from spyketorch.export._conformance import Layout, Traces, difference
from spyketorch.export.runtimes import reading, reference

pytestmark = pytest.mark.filterwarnings(
    "ignore:images reach from:spyketorch.models.InputWarning",
    "ignore:winners are searched in plain torch:spyketorch.PerformanceWarning",
)
RNG = np.random.default_rng(0)


def strokes(count):
    """Broad lines, as digits are, on 28 x 28."""
    images = np.zeros((count, 1, 28, 28), np.uint8)
    for image in images[:, 0]:
        for _ in range(3):
            row, column = RNG.integers(4, 18, 2)
            if RNG.random() < 0.5:
                image[row : row + 3, column : column + RNG.integers(4, 12)] = RNG.integers(150, 256)
            else:
                image[row : row + RNG.integers(4, 12), column : column + 3] = RNG.integers(150, 256)
    return torch.from_numpy(images)


DIGITS = strokes(40)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("integers") / "network.safetensors"


# the file and the engine


@given(drawn=integer_networks())
def test_the_engine_gives_what_the_reference_gives(drawn, path):
    path.write_bytes(drawn.file)
    model = reading.read(path)
    right = reference.trace(model, drawn.images)
    assert export.RUNTIMES["spyketorch"].trace(path, drawn.images) == right
    network = export.load(path)
    images = torch.from_numpy(drawn.images)
    together = network(images)
    for image, decided in zip(images, together, strict=True):
        assert int(network(image[None])) == int(decided)
    export.save(network, path)  # what is saved again means the same
    assert reference.trace(reading.read(path), drawn.images) == right


@given(drawn=integer_networks(), data=st.data())
def test_a_file_that_is_damaged_is_refused_in_one_sentence(drawn, data, path):
    whole = drawn.file
    kind = data.draw(st.sampled_from(["cut", "longer", "bit"]))
    if kind == "cut":
        whole = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif kind == "longer":
        whole += b"\0"
    else:
        place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
        whole = whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
    path.write_bytes(whole)
    try:
        network = export.load(path)
    except export.NotAnIntegerNetwork as error:
        assert "\n" not in str(error)
    else:  # a bit of the description that means nothing, such as a space, or that gives another network
        assert kind == "bit"
        network(torch.from_numpy(drawn.images)) if network.images.shape == drawn.images.shape[1:] else None


def plain():
    """A network of one layer, its description and tensors."""
    about = {
        "time_steps": 3,
        "image": [1, 4, 4],
        "names": None,
        "encoder": [{"op": "rank"}],
        "stages": [
            {
                "layer": {
                    "weight": "w",
                    "shape": [2, 1, 2, 2],
                    "bits": 8,
                    "signed": False,
                    "threshold": "t",
                    "range": [0, 40],
                    "stride": [1, 1],
                    "padding": [0, 0],
                    "dilation": [1, 1],
                    "groups": 1,
                },
                "inhibit": False,
                "pool": None,
                "shortcut": None,
            }
        ],
        "decision": {"op": "winner", "classes": [0, 1]},
    }
    tensors = {"w": np.full(8, 10, np.uint8), "t": np.full(2, 5, np.int32)}
    return about, tensors


WRONG = {
    "range": (lambda a, t: a["stages"][0]["layer"].update(range=[0, 39]), "sums of the range"),
    "too few steps": (lambda a, t: a.update(time_steps=0), "time steps"),
    "too many steps": (lambda a, t: a.update(time_steps=255), "time steps"),
    "huge maps": (lambda a, t: a.update(image=[2**20, 2**20, 2**20]), "too large"),
    "huge stride": (lambda a, t: a["stages"][0]["layer"].update(stride=[0, 1]), "a window"),
    "huge padding": (lambda a, t: a["stages"][0]["layer"].update(padding=[2**24, 0]), "too large"),
    "another shape": (lambda a, t: a["stages"][0]["layer"].update(shape=[2, 1, 2, 3]), "range|shape"),
    "no maps": (lambda a, t: a["stages"][0]["layer"].update(dilation=[4, 4]), "places"),
    "groups": (lambda a, t: a["stages"][0]["layer"].update(groups=2), "maps"),
    "bits": (lambda a, t: a["stages"][0]["layer"].update(bits=3), "bits"),
    "a missing tensor": (lambda a, t: t.pop("t"), "read"),
    "another type": (lambda a, t: t.update(t=np.zeros(2, np.int8)), "type"),
    "a threshold below 0": (lambda a, t: t.update(t=np.full(2, -1, np.int32)), "below 0"),
    "no encoder": (lambda a, t: a.update(encoder=[]), "encoder"),
    "no times": (lambda a, t: a.update(encoder=[{"op": "onoff"}]), "times"),
    "an unknown part": (lambda a, t: a.update(encoder=[{"op": "sorcery"}, {"op": "rank"}]), "read"),
    "classes": (lambda a, t: a["decision"].update(classes=[0]), "class"),
    "an unknown decision": (lambda a, t: a.update(decision={"op": "oracle"}), "read"),
    "a pool behind": (
        lambda a, t: a["stages"][0].update(pool={"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "earliest": 1}),
        "pool",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_promises_what_is_not_so_is_refused(wrong, path):
    about, tensors = plain()
    path.write_bytes(_file.content(about, tensors))
    assert export.load(path)(torch.zeros(1, 1, 4, 4)).tolist() == [-1]
    spoil, said = WRONG[wrong]
    spoil(about, tensors)
    path.write_bytes(_file.content(about, tensors))
    with pytest.raises(export.NotAnIntegerNetwork, match=said):
        export.load(path)


def test_what_is_no_such_file_is_refused(path):
    for content in (b"", b"\x89PNG\r\n\x1a\n" * 9, _file.safetensors({"format": "another", "version": 1}, {})):
        path.write_bytes(content)
        with pytest.raises(export.NotAnIntegerNetwork, match="no network of integers that can be"):
            export.load(path)
    with pytest.raises(FileNotFoundError):
        export.load(path.with_name("nothing"))
    with pytest.raises(IsADirectoryError):
        export.save(export.quantize(models.kheradpisheh2018(), DIGITS), path.parent)


def test_the_file_is_safetensors(path):
    """As its documentation has it: a header of JSON, offsets that tile the data, metadata of texts."""
    export.save(export.quantize(models.kheradpisheh2018(pretrained=True), DIGITS), path)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    assert all(isinstance(value, str) for value in header.pop("__metadata__").values())
    ends = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
    assert [first for first, _ in ends] == [0, *(end for _, end in ends[:-1])]
    assert ends[-1][1] == len(data) - 8 - size
    safetensors = pytest.importorskip("safetensors.numpy", reason="the package safetensors is not installed")
    assert set(safetensors.load(data)) == set(header)


# quantisation


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_a_published_network_keeps_its_answers(bits, path):
    network = models.goupy2024(pretrained=True)
    twin = export.quantize(network, DIGITS, network(DIGITS), bits)
    assert [row.part for row in twin.report] == ["floats", "encoder", "stages.0", "decision"]
    assert twin.report[0].accuracy == 1
    assert twin.report[2].differ < 0.05
    assert twin.report[-1].accuracy > (0.8 if bits > 2 else 0.4)  # of strokes that it never learned
    assert "decision" in repr(twin.report)
    export.save(twin, path)
    assert sum(row.size for row in twin.report) < path.stat().st_size < sum(row.size for row in twin.report) + 4000
    assert torch.equal(export.load(path)(DIGITS), twin(DIGITS))
    again = export.quantize(network, DIGITS, bits=bits)  # there is no chance in it
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), twin.state_dict().values(), strict=True))
    assert network(DIGITS).tolist() == models.goupy2024(pretrained=True)(DIGITS).tolist()  # it stays as it is


def test_decisions_at_the_last_step_and_linear_ones(path):
    for network in (models.mozafari2019(pretrained=True), models.kheradpisheh2018(pretrained=True)):
        twin = export.quantize(network, DIGITS[:10], network(DIGITS[:10]))
        assert twin.report[-1].accuracy >= 0.6
        export.save(twin, path)
        right = reference.trace(reading.read(path), DIGITS[:2].numpy())
        assert export.RUNTIMES["spyketorch"].trace(path, DIGITS[:2].numpy()) == right


def encoders():
    dog = [encoding.DoGKernel(5, 0.7, 1.4), encoding.DoGKernel(5, 1.4, 0.7)]
    grey = encoding.Filter(dog, padding=2, thresholds=5)
    cells, colours = (encoding.Filter(dog, padding=p, thresholds=0, channels=c) for p, c in ((0, 1), (2, 3)))
    return {
        "rank": (1, encoding.LatencyEncoder(grey, 15)),
        "normalised": (1, encoding.LatencyEncoder(grey, 15, normalization_radius=3)),
        "by value": (
            1,
            encoding.LinearLatency(nn.Sequential(nn.ReplicationPad2d(2), cells), 15),
        ),
        "equalised": (3, encoding.EqualizedLatency(nn.Sequential(encoding.Whitening(window=5), encoding.OnOff()), 15)),
        "opponents": (3, encoding.LatencyEncoder(nn.Sequential(encoding.OpponentColours(), colours), 15)),
        "brightness": (3, encoding.LatencyEncoder(nn.Sequential(encoding.Luminance(), grey), 15)),
        "absolute": (1, encoding.LatencyEncoder(encoding.Filter(dog, use_abs=True), 7)),
        "padded": (
            1,
            encoding.LinearLatency(nn.Sequential(nn.ZeroPad2d((1, 2, 0, 1)), nn.ReLU(), nn.Identity()), 7, 255.0),
        ),
    }


@pytest.mark.parametrize("name", encoders())
def test_an_encoder_of_integers_gives_nearly_the_times_of_floats(name, path):
    channels, encoder = encoders()[name]
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(60, channels, 10, 10, generator=generator)
    images = (nn.functional.interpolate(coarse, 20, mode="bilinear") * 255).round().to(torch.uint8)
    encoding.fit(encoder, images.float())
    maps = encoder(images[:1]).shape[1]
    layer = snn.SpikingConvolution(maps, 4, 3, 3.0, time_steps=encoder.time_steps)
    network = models.Network(encoder, [models.Stage(layer)], [0, 1, 2, 3])
    twin = export.quantize(network, images)
    ours, theirs = twin.encoder(images).int(), encoder(images).int()
    assert float(((ours - theirs).abs() > 1).float().mean()) < 0.05
    assert float((ours != theirs).float().mean()) < 0.25
    flat = torch.full((1, channels, 20, 20), 200, dtype=torch.uint8)
    if name != "padded":
        inner = twin.encoder(flat)[..., 5:-5, 5:-5]
        assert bool((inner == encoder(flat)[..., 5:-5, 5:-5]).all())
    export.save(twin, path)
    right = reference.trace(reading.read(path), images[:3].numpy())
    assert export.RUNTIMES["spyketorch"].trace(path, images[:3].numpy()) == right


def small(**options):
    layer = snn.SpikingConvolution(1, 3, 3, 2.0, time_steps=5, **options)
    return models.Network(encoding.LatencyEncoder(nn.Identity(), 5), [models.Stage(layer)], [0, 1, 2])


class Own(snn.SpikingConvolution):
    """A layer of somebody's own."""

    def respond(self, times, *, potentials=True):
        return super().respond(times, potentials=potentials)


def own_layer():
    layer = Own(1, 3, 3, 2.0, time_steps=5)
    return models.Network(encoding.LatencyEncoder(nn.Identity(), 5), [models.Stage(layer)], [0, 1, 2])


def hooked():
    network = small()
    network.stages[0].layer.register_forward_hook(lambda *_: None)
    return network


def unfitted():
    network = small()
    network.encoder = encoding.LinearLatency(nn.Identity(), 5)
    return network


def several():
    stage = models.Stage(small().stages[0].layer, snn.SpikingPooling(2, earliest=(1, 2)))
    network = models.Network(encoding.LatencyEncoder(nn.Identity(), 5), [stage])
    network.readout = readout.LinearReadout((6, 3, 3), 2, time_steps=5)
    return network


def own_encoder():
    return models.Network(nn.Softplus(), small().stages, [0, 1, 2])


def with_readout(made):
    network = small()
    network.readout = made
    return network


IMAGES = torch.from_numpy(RNG.integers(0, 256, (6, 1, 8, 8), dtype=np.uint8))
REFUSED = {
    "fractions": (small, {"images": IMAGES / 255}, "integers 0 to 255"),
    "bits": (small, {"bits": 3}, "`bits` must be 8, 4, 2 or 1; got 3"),
    "neurons": (lambda: small(neuron=neurons.Leaky(0.5)), {}, "neurons that add"),
    "own layer": (own_layer, {}, "its own respond"),
    "hooks": (hooked, {}, "its own hooks"),
    "not fitted": (unfitted, {}, "fit"),
    "own encoder": (
        lambda: models.Network(nn.Softplus(), small().stages, [0, 1, 2]),
        {},
        "encoder is made of .*Softplus",
    ),
    "own read-out": (lambda: with_readout(nn.Flatten()), {}, "LinearReadout or a FirstSpikeReadout"),
    "several spikes": (several, {}, r"one spike of each window; one passes earliest=\(1, 2\) on"),
    "no network": (lambda: nn.Linear(2, 2), {}, "a models.Network"),
    "leaky decisions": (
        lambda: with_readout(readout.FirstSpikeReadout((3, 6, 6), 2, time_steps=5, neuron=neurons.Leaky(0.5))),
        {},
        "add or are ramps",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_integers_have_no_form_for_is_refused_by_name(name):
    build, options, said = REFUSED[name]
    with pytest.raises((ValueError, TypeError), match=said):
        export.quantize(build(), **({"images": IMAGES} | options))


def test_only_networks_of_integers_are_saved(path):
    network = small()
    with pytest.raises(TypeError, match=r"encoder computes in integers.*LatencyEncoder.*export\.quantize"):
        export.save(network, path)
    twin = export.quantize(network, IMAGES)
    twin.stages[0].layer.weight += 1e-4
    with pytest.raises(ValueError, match=r"weights n / 2\^bits.*stages\.0\.layer are others"):
        export.save(twin, path)
    with pytest.raises(ValueError, match="integers 0 to 255"):
        twin(IMAGES / 255)
    assert torch.equal(twin(IMAGES.float()), twin(IMAGES))


def test_a_network_of_weights_that_are_dyadic_is_saved_as_it_is(path):
    twin = export.quantize(small(), IMAGES)
    layer = twin.stages[0].layer
    layer.weight.copy_(torch.randint(0, 16, layer.weight.shape) / 16)
    layer.threshold.fill_(1.99)
    export.save(twin, path)
    assert reading.read(path)[0]["stages"][0]["layer"]["bits"] == 4
    back = export.load(path)
    assert torch.equal(back.features(IMAGES), twin.features(IMAGES))
    assert back.report is None


# conformance


def test_a_conformance_set_finds_what_differs(path):
    export.save(export.quantize(models.kheradpisheh2018(pretrained=True), DIGITS), path)
    known = export.ConformanceSet.make(path, DIGITS[:3].numpy())
    assert not known.check(export.RUNTIMES["spyketorch"], path)
    beside = path.with_name("set")
    known.save(beside)
    again = export.ConformanceSet.load(beside, path)
    assert all(np.array_equal(a, b) for a, b in zip(again.right, known.right, strict=True))
    layout = Layout.of(path)
    wrong = np.frombuffer(export.RUNTIMES["numpy"].trace(path, known.images), np.uint8).copy()
    wrong[2 * 28 * 28] ^= 1  # the first time of the first layer
    found = difference(Traces.of(wrong.tobytes(), layout, 3), known.right, layout)
    assert bool(found)
    assert (found.spikes, found.decisions, found.first) == (1, 0, "stages.0.layer")
    assert str(found).startswith("3 decisions, 0 differ; ")
    wrong[-4] ^= 1
    assert difference(Traces.of(wrong.tobytes(), layout, 3), known.right, layout).decisions == 1
    with pytest.raises(export.NotAnIntegerNetwork, match="bytes"):
        Traces.of(wrong.tobytes()[:-1], layout, 3)
    export.save(export.quantize(models.kheradpisheh2018(pretrained=True), DIGITS, bits=4), path)
    with pytest.raises(export.NotAnIntegerNetwork, match="another network"):
        export.ConformanceSet.load(beside, path)
    with pytest.raises(export.NotAnIntegerNetwork, match="no conformance set"):
        export.ConformanceSet.load(path, path)


def command(*words):
    return subprocess.run([sys.executable, "-m", "spyketorch.export", *map(str, words)], capture_output=True, text=True)


def test_the_command_checks_runtimes(path):
    export.save(export.quantize(small(), IMAGES), path)
    beside = path.with_name("set")
    done = command(path, "--images", 7, "--make", beside, "--runtime", "numpy", "spyketorch")
    assert done.returncode == 0, done.stderr
    assert "NumPy: 7 decisions, 0 differ" in done.stdout
    assert "spyketorch: 7 decisions, 0 differ" in done.stdout
    wrong = path.with_name("wrong.py")
    wrong.write_text(
        "import sys\nfrom spyketorch import export\nimport numpy as np\n"
        "images = np.frombuffer(sys.stdin.buffer.read(), np.uint8).reshape(-1, 1, 8, 8)\n"
        f"trace = export.RUNTIMES['numpy'].trace({str(path)!r}, images)\n"
        "sys.stdout.buffer.write(trace[:-1] + bytes([trace[-1] ^ 1]))\n"
    )
    done = command(path, "--set", beside, "--command", f"{sys.executable} {wrong}")
    assert done.returncode == 1
    assert "7 decisions, 1 differ" in done.stdout
    path.write_bytes(path.read_bytes()[:-1])
    done = command(path)
    assert done.returncode == 1
    assert "no network of integers that can be trusted" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_reference_is_numpy_alone_and_short(path):
    script = (
        "import sys\n"
        "for name in ('torch', 'numba', 'spyketorch'): sys.modules[name] = None\n"
        "sys.path.insert(0, sys.argv[1]); import reference\n"
        "print(zlib.crc32(reference.trace(reference.read(sys.argv[2]), np.zeros((1, 1, 8, 8), np.uint8))))"
    )
    export.save(export.quantize(small(), IMAGES), path)
    folder = str(next(iter(reference.__spec__.submodule_search_locations or [reference.__file__]))).rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", f"import zlib, numpy as np\n{script}", folder, str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    right = reference.trace(reading.read(path), np.zeros((1, 1, 8, 8), np.uint8))
    assert int(done.stdout) == zlib.crc32(right)
    with open(reference.__file__, encoding="utf-8") as file:
        assert len(file.readlines()) <= 150
