"""The runtime in JavaScript gives what the reference gives, to the bit, and refuses what it refuses."""

import json
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from integer_networks import integer_networks

from spyketorch.export._file import content, packed, span
from spyketorch.export._javascript import JavaScript
from spyketorch.export.runtimes import reading, reference

NODE = JavaScript()
pytestmark = pytest.mark.skipif(NODE.why_not() is not None, reason=NODE.why_not() or "")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(integer_networks())
def test_gives_what_the_reference_gives(tmp_path, drawn):
    path = tmp_path / "drawn.safetensors"
    path.write_bytes(drawn.file)
    assert NODE.trace(path, drawn.images) == reference.trace(reading.read(path), drawn.images)


@pytest.mark.parametrize("decision", ["linear", "first spike"])
def test_what_is_equal(tmp_path, decision):
    """A value that equals its threshold stays, one that equals a limit is not below it; of equal classes the lowest."""
    encoder = [
        {"op": "filter", "weight": "k", "threshold": "two", "absolute": False},
        {"op": "table", "largest": "largest", "limits": "limits"},
    ]
    ints = {"two": [2], "largest": [[[4]]], "limits": [2**19], "b": [7, 7], "equal": [3, 3]}
    tensors = {name: np.array(values, np.int32) for name, values in ints.items()}
    weight = np.ones((2, 4), int)
    tensors |= {"k": np.ones((1, 1, 1, 1), np.int8), "w": packed(weight, 4)}
    about = {"weight": "w", "shape": [2, 4], "bits": 4, "signed": False}
    linear = {"bias": "b", "range": span(weight, 2, np.array([7, 7]))}
    first = {"threshold": "equal", "ramp": True, "per_class": 1, "range": span(weight, 8)}
    about |= {"op": decision, **(linear if decision == "linear" else first)}
    description = {"time_steps": 2, "image": [1, 1, 4], "names": None, "encoder": encoder, "stages": []}
    path = tmp_path / "equal.safetensors"
    path.write_bytes(content({**description, "decision": about}, tensors))
    found = NODE.trace(path, np.array([[[[1, 2, 3, 4]]]], np.uint8))
    assert found == reference.trace(reading.read(path), np.array([[[[1, 2, 3, 4]]]], np.uint8))
    assert (list(found[:4]), list(found[-4:])) == ([2, 0, 0, 0], [0, 0, 0, 0])


@pytest.mark.parametrize("steps", [1, 254])
def test_ties_and_divisions_near_the_limits_of_32_bits(tmp_path, steps):
    """Values as large as they may be, where doubles would first round."""
    rng = np.random.default_rng(0)
    kernels = np.full((2, 1, 1, 1), 127, np.int8)
    filters = [{"op": "filter", "weight": "k", "threshold": "zero", "absolute": False} for _ in range(2)]
    largest = rng.integers(1, (2**31 - 1) // steps, (4, 8, 8), np.int32)
    table = {"op": "table", "largest": "largest", "limits": "limits"}
    limits = np.sort(rng.integers(0, 2**20 + 1, steps - 1, np.int32))[::-1]
    tensors = {"k": kernels, "zero": np.zeros(2, np.int32), "largest": largest, "limits": limits.copy()}
    weight = rng.integers(-128, 128, (3, 256))
    bias = rng.integers(-(2**30), 2**30, 3, np.int32)
    linear = {"op": "linear", "weight": "w", "bias": "b", "shape": [3, 256], "bits": 8, "signed": True}
    decision = {**linear, "range": span(weight, steps, bias)}
    tensors |= {"w": packed(weight, 8), "b": bias}
    about = {"time_steps": steps, "image": [1, 8, 8], "names": None, "stages": [], "decision": decision}
    images = rng.integers(0, 256, (5, 1, 8, 8)).astype(np.uint8)
    for encoder in (
        [*filters, table],
        [*filters, {**table, "op": "latency"}],
        [*filters, {"op": "rank"}],
        [*filters, {"op": "normalise", "radius": 2, "shift": 20}, table],
    ):
        path = tmp_path / "large.safetensors"
        path.write_bytes(content({**about, "encoder": encoder}, tensors))
        assert NODE.trace(path, images) == reference.trace(reading.read(path), images)


def small():
    """A description and tensors, of a network of a layer of 4 bits that decides by a linear read-out."""
    weight, readout = np.arange(18).reshape(2, 1, 3, 3) % 8, np.arange(-16, 16).reshape(2, 16) // 2
    layer = {"weight": "w", "shape": [2, 1, 3, 3], "bits": 4, "signed": False, "threshold": "t", "range": span(weight)}
    layer |= {"stride": [2, 2], "padding": [1, 1], "dilation": [1, 1], "groups": 1}
    pool = {"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0], "earliest": 2}
    decision = {"op": "linear", "weight": "r", "bias": "b", "shape": [2, 8], "bits": 4, "signed": True}
    readout = readout[:, :8]
    bias = np.array([3, -3], np.int32)
    about = {
        "time_steps": 5,
        "image": [1, 6, 6],
        "names": ["no", "yes"],
        "encoder": [{"op": "rank"}],
        "stages": [{"layer": layer, "inhibit": True, "pool": pool, "shortcut": None}],
        "decision": {**decision, "range": span(readout, 5, bias)},
    }
    threshold = np.array([5, 9], np.int32)
    return about, {"w": packed(weight, 4), "t": threshold, "r": packed(readout, 4), "b": bias}


IMAGES = np.random.default_rng(1).integers(0, 256, (4, 1, 6, 6)).astype(np.uint8)


def refused(tmp_path, data):
    """Node's sentence; the reference refuses the file, too."""
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(reading.NotAnIntegerNetwork):
        reading.read(path)
    with pytest.raises(reading.NotAnIntegerNetwork) as caught:
        NODE.trace(path, IMAGES)
    sentence = str(caught.value)
    assert sentence.startswith("this is no network of integers") and "\n" not in sentence
    return sentence


def test_the_file_as_it_is(tmp_path):
    path = tmp_path / "small.safetensors"
    path.write_bytes(content(*small()))
    assert NODE.trace(path, IMAGES) == reference.trace(reading.read(path), IMAGES)
    with pytest.raises(reading.NotAnIntegerNetwork, match="35 bytes"):
        NODE.trace(path, IMAGES[0].reshape(-1)[:35])
    assert NODE.trace(path, IMAGES[:0]) == b""


def test_files_that_are_cut_or_go_on_or_are_damaged(tmp_path):
    data = content(*small())
    for cut in (0, 7, 8, 100, len(data) - 1):
        refused(tmp_path, data[:cut])
    assert "goes on" in refused(tmp_path, data + b"\0")
    assert "crc32" in refused(tmp_path, data[:-1] + bytes([data[-1] ^ 1]))
    refused(tmp_path, b"\xff" * 8 + data[8:])
    refused(tmp_path, b"PK\x03\x04 a file of another kind, which is as long as it likes to be")


@pytest.mark.parametrize("damage", [{"format": "another"}, {"version": 2}])
def test_other_formats(tmp_path, damage):
    about, tensors = small()
    assert "format" in refused(tmp_path, content({**about, **damage}, tensors))


HUGE = 2**40
WRONG = {
    "no steps": (("time_steps",), 0),
    "too many steps": (("time_steps",), 255),
    "an empty image": (("image",), [1, 0, 6]),
    "a huge image": (("image",), [1, HUGE, 6]),
    "no encoder": (("encoder",), []),
    "an unknown part": (("encoder",), [{"op": "toString"}]),
    "a huge border": (("encoder", 0), {"op": "pad", "top": HUGE, "bottom": 0, "left": 0, "right": 0, "edge": True}),
    "padding that is huge": (("stages", 0, "layer", "padding"), [HUGE, 1]),
    "padding that is huge, with a stride": (
        ("stages", 0, "layer"),
        {"padding": [2**24, 2**24], "stride": [2**24, 2**24]},
    ),
    "strides of 0": (("stages", 0, "layer", "stride"), [0, 1]),
    "a fraction": (("stages", 0, "layer", "dilation"), [1.5, 1]),
    "groups": (("stages", 0, "layer", "groups"), 2),
    "other weights": (("stages", 0, "layer", "shape"), [2, 1, 3, 4]),
    "huge weights": (("stages", 0, "layer", "shape"), [HUGE, 1, HUGE, 3]),
    "bits": (("stages", 0, "layer", "bits"), 3),
    "another range": (("stages", 0, "layer", "range"), [0, 5]),
    "a tensor that is missing": (("stages", 0, "layer", "weight"), "constructor"),
    "a tensor of another type": (("stages", 0, "layer", "threshold"), "w"),
    "more spikes than a window has": (("stages", 0, "pool", "earliest"), 5),
    "a pool that is all border": (("stages", 0, "pool", "padding"), [2, 0]),
    "a shortcut of another size": (
        ("stages", 0, "shortcut"),
        {"kernel": [2, 2], "stride": [1, 1], "padding": [0, 0], "earliest": 1},
    ),
    "no stages that it could hear": (("stages",), []),
    "an unknown decision": (("decision", "op"), "toString"),
    "names": (("names",), [1, 2]),
    "nothing": (("decision",), None),
}


@pytest.mark.parametrize("what", WRONG)
def test_descriptions_that_cannot_be_trusted(tmp_path, what):
    about, tensors = json.loads(json.dumps(small()[0])), small()[1]
    (*way, last), value = WRONG[what]
    at = about
    for name in way:
        at = at[name]
    at[last] = {**at[last], **value} if isinstance(value, dict) and isinstance(at[last], dict) else value
    refused(tmp_path, content(about, tensors))


@pytest.mark.parametrize(("name", "value"), [("t", -1), ("b", 2**31 - 1)])
def test_tensors_that_cannot_be_trusted(tmp_path, name, value):
    about, tensors = small()
    tensors[name] = np.array([value, 0], np.int32)
    refused(tmp_path, content(about, tensors))


def test_a_pool_that_is_mostly_border(tmp_path):
    about, tensors = small()
    about["stages"][0]["pool"] |= {"padding": [2, 0], "earliest": 1}
    assert "padding" in refused(tmp_path, content(about, tensors))


def test_bits_that_nobody_uses(tmp_path):
    about, tensors = small()
    weight = np.arange(9).reshape(1, 1, 3, 3) % 2
    about["stages"][0]["layer"] |= {"shape": [1, 1, 3, 3], "bits": 1, "range": span(weight)}
    about["decision"] |= {"shape": [2, 4], "range": span(np.ones((2, 4), int), 5, tensors["b"])}
    tensors |= {"w": packed(weight, 1), "t": tensors["t"][:1], "r": packed(np.ones((2, 4), int), 4)}
    good = tmp_path / "good.safetensors"
    good.write_bytes(content(about, tensors))
    assert NODE.trace(good, IMAGES) == reference.trace(reading.read(good), IMAGES)
    tensors["w"] = tensors["w"] | np.array([0, 128], np.uint8)
    assert "unused bits" in refused(tmp_path, content(about, tensors))


def test_data_that_lie_elsewhere(tmp_path):
    """Offsets into the header, or a tensor longer than it says, with a crc32 that is right."""
    about, tensors = small()
    data = content(about, tensors)
    start = 8 + int.from_bytes(data[:8], "little")
    for offsets in ([-8, 0], [0, 9], [8, 0], [0, HUGE]):
        header = json.loads(data[8:start])
        header["t"]["data_offsets"] = offsets
        text = json.dumps(header).encode()
        refused(tmp_path, len(text).to_bytes(8, "little") + text + data[start:])
    assert zlib.crc32(data[start:]) == json.loads(json.loads(data[8:start])["__metadata__"]["spyketorch"])["crc32"]
