"""The numba loops against plain torch, what answers must not depend on, and the operators as torch sees them."""

import copy
import importlib
import re
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import close, dyadic, intensities, kinds, layers, same, seeds, shapes, spike_times, tensor

from spyketorch import _checks as check
from spyketorch import _convolution, encoding, latency, snn
from spyketorch.kernels import gather, operators, plain, serving

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="module")
def loops():
    """Without numba there is nothing to compare."""
    pytest.importorskip("numba")


def without_loops():
    return mock.patch.object(serving, "has_numba", lambda: False)


def compare(call):
    """Loops and plain torch give the same tensors, laid out the same; returns them."""
    got = call()
    with without_loops():
        want = call()
    for g, w in zip(*(v if isinstance(v, tuple) else (v,) for v in (got, want)), strict=True):
        same(g, w)
        assert (g.dtype, g.stride()) == (w.dtype, w.stride())
    return got


# loops against plain torch


time_types = st.sampled_from([torch.uint8, torch.uint8, torch.int16, torch.int64])


@given(data=st.data(), layer=layers(low=-1, batched=True, max_steps=9), kind=time_types)
def test_convolution_fire(dtype, data, layer, kind):
    steps, geometry, contiguous = layer.wave.shape[1], layer.geometry, data.draw(st.booleans())
    kind = kind if dtype == torch.float32 else torch.uint8  # every pair of types is compiled once
    times = tensor(latency.from_wave(tensor(layer.wave)).numpy(), kind, contiguous)
    weight = tensor(layer.weight, dtype, data.draw(st.booleans()))
    threshold = data.draw(st.sampled_from([None, -0.5, 0, 0.25, 1, 2, "features"]))
    if threshold == "features":
        threshold = torch.arange(len(weight), dtype=dtype) / 2 - 0.25
    for potentials in (True, False):
        for x in (times, times.contiguous(memory_format=torch.channels_last), times[0]):
            compare(
                lambda x=x, potentials=potentials: latency.convolution_fire(
                    x, weight, threshold, time_steps=steps, potentials=potentials, **geometry
                )
            )


@pytest.mark.parametrize("stride", [1, 2, 3, 4, (4, 1)])
@pytest.mark.parametrize("padding", [0, 1, (3, 0)])
@pytest.mark.parametrize("groups", [1, 3])
def test_larger_maps(stride, padding, groups):
    """Runs of kernel columns that break where the stride and the border cut them."""
    rng = np.random.default_rng(0)
    times = tensor(spike_times(rng, (2, 6, 11, 10), 15), torch.uint8)
    for kernel, dilation in (((3, 5), 1), ((1, 4), (1, 2)), ((5, 1), (2, 3)), ((2, 3), 3)):
        weight = tensor(dyadic(rng, (9, 6 // groups, *kernel), -1, 1), torch.float32)
        geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        for threshold in (None, 0.5, 2.0):
            call = dict(time_steps=15, **geometry)
            fired, _ = compare(lambda t=threshold, w=weight, c=call: latency.convolution_fire(times, w, t, **c))
            assert (fired < 15).any()


# plain torch: spikes are gathered on a CPU, frames are convolved elsewhere


@pytest.mark.parametrize("most", [1, 300, 10_000])
@pytest.mark.parametrize("steps", [1, 6, 70])
@given(layer=layers(low=-1, batched=True, max_steps=6), threshold=st.sampled_from([None, -0.5, 0.25, 2.0]))
def test_plain_torch_holds_as_much_as_it_may(most, steps, layer, threshold):
    """Images, output rows and time steps in parts of any size: the loops' answer."""
    times = tensor(latency.from_wave(tensor(layer.wave)).numpy(), torch.uint8)
    times = torch.where(times < layer.wave.shape[1], times.clamp(max=steps - 1), steps)
    weight = tensor(layer.weight, torch.float32)

    def call():
        return latency.convolution_fire(times, weight, threshold, time_steps=steps, **layer.geometry)

    want = call()
    parts = mock.patch.object(plain, "MEMORY", most), mock.patch.object(gather, "_PLACES", most)
    elsewhere = mock.patch.object(check, "free_to_read", lambda _: False)
    with without_loops(), parts[0], parts[1]:
        gathered = call()
        with elsewhere:
            convolved = call()
    for got in (gathered, convolved):
        for a, b in zip(got, want, strict=True):
            same(a, b)


def test_gathering_takes_little_memory():
    """Of a large map whose inputs all fire at once: not the receptive fields of all its neurons."""
    times, weight = torch.zeros(1, 2, 300, 300, dtype=torch.uint8), torch.ones(2, 2, 7, 7)
    places, answer = 2 * 49 * 294**2, 2 * 294**2
    tracemalloc.start()
    try:
        with without_loops():
            fired, _ = latency.convolution_fire(times, weight, 97, time_steps=3)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (fired == 0).all()
    assert peak < 24 * gather._PLACES + 20 * answer < places * 2


WRITES = {
    "data": lambda weight: weight.data[1].mul_(2),
    "numpy": lambda weight: weight.data.numpy().__setitem__((2, 0, 0, 0), 3.0),
    "all": lambda weight: weight.data.sub_(0.25),
    "one feature more": lambda weight: weight.data[3:].fill_(0.5),
}


@pytest.mark.parametrize("threshold", [2.0, None])
@pytest.mark.parametrize("groups", [1, 2])
def test_what_is_written_to_weights_is_gathered(threshold, groups):
    """Though their rows are kept from call to call."""
    layer = snn.SpikingConvolution(2, 6, 3, threshold, time_steps=5, groups=groups)
    times = tensor(spike_times(np.random.default_rng(0), (4, 2, 6, 6), 5), torch.uint8)
    layer.load_weight(tensor(dyadic(np.random.default_rng(1), tuple(layer.weight.shape), -1, 1), torch.float32))
    for write in (lambda _: None, *WRITES.values()):
        write(layer.weight)
        compare(lambda: layer.respond(times))
        compare(lambda: layer.winners(times, 2, 1))


@given(data=st.data(), seed=seeds, shape=shapes(batched=True), steps=st.sampled_from([1, 4, 254, 300]), kind=kinds)
def test_pooling(data, seed, shape, steps, kind):
    kernel = tuple(data.draw(st.integers(1, min(4, n))) for n in shape[-2:])
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    stride = data.draw(st.sampled_from([None, 1, 2, 3, 6, (1, 3)]))
    dtype = data.draw(time_types) if steps <= 254 else torch.int16
    times = tensor(spike_times(np.random.default_rng(seed), shape, steps, kind), dtype, data.draw(st.booleans()))
    compare(lambda: latency.pooling(times, kernel, stride, padding))
    fewest = (kernel[0] - padding[0]) * (kernel[1] - padding[1])
    earliest = data.draw(st.integers(1, fewest))
    compare(lambda: latency.pooling(times, kernel, stride, padding, earliest=earliest))


@given(batch=intensities(batched=True), steps=st.sampled_from([1, 2, 3, 15, 255]), c=st.booleans())
def test_rank_order(dtype, batch, steps, c):
    x = tensor(batch, dtype, c)
    compare(lambda: latency.rank_order(x, steps))


@pytest.mark.parametrize("steps", [1, 7, 405, 300])
def test_rank_order_of_any_floats(steps):
    """Denormals, huge numbers and zeros of both signs, which are no spikes."""
    rng = np.random.default_rng(0)
    values = [*rng.random(400), 0.0, -0.0, 1e-42, 2e-42, 3e38, 1.0, 1.0, *-np.zeros(20)]
    x = torch.from_numpy(np.stack([rng.permutation(values) for _ in range(3)])).float().view(3, 1, 7, 61)
    times = compare(lambda: latency.rank_order(x, steps))
    assert (times[x == 0] == steps).all()


@pytest.mark.parametrize("steps", [1, 7, 15, 254, 3000])
@pytest.mark.parametrize("count", [1, 5, 1023, 2500])
def test_rank_order_of_crowds(steps, count):
    """Many close or equal intensities, few that are far: wherever they fall, ranks are those of a stable sort."""
    rng = np.random.default_rng(count)
    one = np.float32(1)
    close = one + rng.integers(0, 40, count).astype(np.float32) * np.finfo(np.float32).eps
    rows = [close, np.sort(close), np.sort(close)[::-1], np.where(np.arange(count) % 9, close, 1e-30)]
    rows += [np.full(count, 0.3), rng.integers(0, 3, count), rng.integers(0, 256, count), rng.random(count)]
    rows += [10.0 ** rng.integers(-30, 30, count)]
    x = torch.from_numpy(np.stack(rows).astype(np.float32)).view(len(rows), 1, 1, count)
    compare(lambda: latency.rank_order(x, steps))


@given(batch=intensities(batched=True), radius=st.integers(0, 4), eps=st.sampled_from([1e-12, 0.5]))
def test_local_normalization(dtype, batch, radius, eps):
    x = tensor(batch, dtype)
    got = latency.local_normalization(x, radius, eps)
    with without_loops():
        close(got, latency.local_normalization(x, radius, eps).numpy())


@pytest.mark.parametrize("radius", [0, 1, 3, 8, 20])
def test_local_normalization_adds_along_rows_then_columns(dtype, radius):
    """To the bit: one term after the other, whatever the passes take together."""
    maps = np.random.default_rng(radius).random((2, 3, 11, 13)).astype(torch.empty(0, dtype=dtype).numpy().dtype)
    square = np.zeros_like(maps)
    for axis in (3, 2):
        side = [(radius, radius) if axis == a else (0, 0) for a in range(4)]
        terms, square = np.pad(maps if axis == 3 else square, side), np.zeros_like(maps)
        for k in range(2 * radius + 1):
            square += np.take(terms, range(k, k + maps.shape[axis]), axis)
    number = maps.dtype.type
    want = maps / (square * (number(1) / number((2 * radius + 1) ** 2)) + number(1e-12))
    assert torch.equal(latency.local_normalization(torch.from_numpy(maps), radius), torch.from_numpy(want))


# images to times in one pass


def banks(draw, rng, channels):
    """Kernels of several sizes, for each channel or for all, and thresholds below which nothing is negative."""
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4))
    planes = draw(st.sampled_from([(), (channels,)]))
    kernels = [tensor(dyadic(rng, (*planes, *size), -1, 1), torch.float32) for size in sizes]
    padding = draw(st.tuples(st.integers(3, 6), st.integers(3, 6)))
    thresholds = draw(st.sampled_from([None, 0, 0.25, 3, "each"]))
    each = [i / 2 for i in range(len(kernels))]
    absolute = thresholds is None or draw(st.booleans())
    limits = each if thresholds == "each" else thresholds
    return encoding.Filter(kernels, padding, limits, absolute, channels=channels)


@given(data=st.data(), seed=seeds, n=st.integers(1, 3), height=st.integers(1, 12), width=st.integers(1, 12))
def test_one_pass_is_its_parts(data, seed, n, height, width):
    """On a grid where sums are exact: filters add in any order there."""
    from spyketorch.kernels import encoding as kernels

    rng, channels = np.random.default_rng(seed), data.draw(st.integers(1, 3))
    bank, radius = banks(data.draw, rng, channels), data.draw(st.sampled_from([None, 0, 1, 3, 9]))
    kind = data.draw(st.sampled_from([torch.float32, torch.uint8, torch.float16]))
    images = tensor(rng.integers(0, data.draw(st.sampled_from([2, 9, 255])), (n, channels, height, width)), kind)
    encode = encoding.LatencyEncoder(bank, data.draw(st.sampled_from([1, 4, 15, 300])), radius)
    for order in (True, False):
        with mock.patch.object(kernels, "_adds_as_torch", return_value=order) as asked:
            times = encode(images)
            assert asked.called
            values = bank(images.float(), rounding=False)
            values = values if radius is None else latency.local_normalization(values, radius)
            want = latency.rank_order(values, encode.time_steps)
            assert torch.equal(times, want) and times.dtype == want.dtype and times.stride() == want.stride()
            assert torch.equal(torch.stack([encode(image) for image in images]), want)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("windows", [(3, 7, 13), (5,), (3,), (4, 9)], ids=str)
@pytest.mark.parametrize("threshold", [0, 5])
@pytest.mark.parametrize("channels, reads_all", [(1, False), (3, False), (3, True)])
def test_one_pass_rounds_as_torch_does(windows, threshold, count, channels, reads_all, threads):
    """Real images and kernels: to the bit those of the separate operations, in any batch; else it is not taken."""
    threads(count)
    kernels = [encoding.DoGKernel(w, *s) for w in windows for s in ((w / 9, 2 * w / 9), (2 * w / 9, w / 9))]
    if reads_all:
        kernels = [torch.stack([kernel(), -kernel(), 0.3 * kernel()]) for kernel in kernels]
    bank = encoding.Filter(kernels, padding=max(windows) // 2, thresholds=threshold, channels=channels)
    images = 255 * torch.rand(20, channels, 28, 27, generator=torch.Generator().manual_seed(0))
    images[3:6] = images[3:6].round()
    images[6, :, :9] = images[7] = 0
    images[8], images[9, :, :, :20] = 77.7, 0.1  # flat, where rounding leaves something
    encode = encoding.LatencyEncoder(bank, 15, 8)
    values = torch.stack([latency.local_normalization(bank(image, rounding=False), 8) for image in images])
    want = latency.rank_order(values, 15)
    for size in (1, 3, 20):
        assert torch.equal(torch.cat([encode(part) for part in images.split(size)]), want)


@pytest.mark.parametrize(
    ("value", "name"), [(np.nan, "`images`/`input`"), (-np.inf, "`images`/`input`"), (3e38, "`(intensities|input)`")]
)
def test_one_pass_is_for_finite_numbers(value, name):
    """Infinite answers to finite images, too, are refused."""
    encode = encoding.LatencyEncoder(encoding.Filter([torch.ones(4, 4)], 1, thresholds=1), 5, 2)
    images = torch.rand(3, 1, 9, 9)
    images[1, 0, 8, 7:] = value
    with pytest.raises(ValueError, match=rf"{name} must be finite"):
        encode(images)


def test_filters_add_row_by_row():
    """Each product goes into the sum by itself, at each place channel by channel, rounded with it where the processor
    does that, else before it.
    """
    from spyketorch.kernels.loops import intensities as loops

    rng = np.random.default_rng(0)
    image, kernel = (rng.random(size).astype(np.float32) - np.float32(0.5) for size in ((2, 17, 19), (2, 6, 7)))
    found, limits = np.empty((1, 14, 17), np.float32), np.full(1, -np.inf, np.float32)
    loops.contrasts(image, loops.Bank(kernel[None], (1, 2), limits, False), found)
    padded = np.pad(image, ((0, 0), (1, 1), (2, 2)))
    once, twice = np.zeros((14, 17), np.float32), np.zeros((14, 17), np.float32)
    for y, x, c in np.ndindex(6, 7, 2):
        part = padded[c, y : y + 14, x : x + 17]
        once = (part.astype(np.float64) * kernel[c, y, x] + once).astype(np.float32)
        twice += part * kernel[c, y, x]
    assert np.array_equal(found[0], once) or np.array_equal(found[0], twice)


def test_one_pass_is_not_taken_where_one_bit_differs(monkeypatch):
    from spyketorch.kernels import encoding as kernels

    def another_order(*given):
        answer = _convolution.conv2d(*given)
        answer.view(-1)[7] = answer.view(-1)[7].nextafter(answer.new_tensor(9))
        return answer

    bank, images = encoding.Filter([torch.rand(5, 5)], 2, 0), torch.rand(2, 1, 9, 8)
    for conv2d, taken in ((_convolution.conv2d, None), (another_order, "in another order")):
        kernels._adds_as_torch.cache_clear()
        monkeypatch.setattr(kernels, "conv2d", conv2d)
        reason = kernels.why_not(images, bank)
        assert taken is None or taken in reason
        encoding.LatencyEncoder(bank, 4)(images)
        monkeypatch.setattr(kernels, "encode", lambda *_: pytest.fail("taken"))
    kernels._adds_as_torch.cache_clear()


class Louder(encoding.Filter):
    def forward(self, input, *, rounding=True):
        return 2 + super().forward(input, rounding=rounding)


def louder(module, given, answer):
    return answer + 2


def replaced(self, input, *, rounding=True):
    return 2 + torch.nn.functional.conv2d(input, self.kernels, padding=self.padding).relu()


OWN = {
    "a subclass": lambda bank: setattr(bank, "__class__", Louder),
    "a hook": lambda bank: bank.register_forward_hook(louder),
    "a hook before": lambda bank: bank.register_forward_pre_hook(lambda module, given: (given[0].flip(-1),)),
    "a method": lambda bank: setattr(bank, "forward", replaced.__get__(bank)),
    "written kernels": lambda bank: bank.kernels.data.mul_(-1),
    "other kernels": lambda bank: setattr(bank, "kernels", bank.kernels.flip(-1) + 0.25),
    "thresholds": lambda bank: setattr(bank, "thresholds", [9.0]),
    "absolute values": lambda bank: bank.__dict__.update(use_abs=True, thresholds=None),
    "float64": lambda bank: bank.double(),
}


@pytest.mark.parametrize("change", OWN)
def test_one_pass_hears_what_a_filter_has_of_its_own(change):
    images = torch.randint(0, 9, (4, 1, 9, 9), generator=torch.Generator().manual_seed(0)).float()
    bank = encoding.Filter([torch.tensor([[-1.0, 0.5, 2, 0], [0, 1, -2, 1]])], 1, 0)
    encode = encoding.LatencyEncoder(bank, 4)
    before = encode(images)
    OWN[change](bank)
    times = encode(images)
    with without_loops():
        assert torch.equal(times, encode(images))
    assert not torch.equal(times, before) or change == "float64"


class Own(torch.nn.Module):
    """A front end of one's own, whose forward is not that of a Sequential."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = torch.nn.Sequential(*parts)

    def forward(self, image):
        return self.parts(image)


@pytest.mark.parametrize("radius", [None, 3])
def test_one_pass_behind_other_parts_of_a_front_end(radius, monkeypatch):
    from spyketorch.kernels import encoding as kernels

    taken = mock.Mock(side_effect=kernels.encode)
    monkeypatch.setattr(kernels, "encode", taken)
    images = torch.randint(0, 256, (5, 3, 20, 19), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    bank = encoding.Filter([encoding.DoGKernel(7, 1, 2), encoding.DoGKernel(7, 2, 1)], 0, 0, channels=3)
    parts = (encoding.OpponentColours(), torch.nn.ReplicationPad2d(3), bank)
    nested = torch.nn.Sequential(parts[0], torch.nn.Sequential(*parts[1:]))
    for front, calls in ((torch.nn.Sequential(*parts), 6), (nested, 6), (Own(*parts), 0)):
        taken.reset_mock()
        encode = encoding.LatencyEncoder(front, 15, radius)
        times = encode(images)
        one_by_one = torch.stack([encode(image) for image in images])
        assert taken.call_count == calls
        values = bank(parts[1](parts[0](images)), rounding=False)
        values = values if radius is None else latency.local_normalization(values, radius)
        assert torch.equal(times, latency.rank_order(values, 15)) or calls == 0  # it leaves what rounding made
        assert torch.equal(one_by_one, times)
    encode = encoding.LatencyEncoder(nested, 15, radius).double()
    taken.reset_mock()
    encode(images)
    assert not taken.called


def test_one_pass_hears_a_patched_class(monkeypatch):
    bank, images = encoding.Filter([torch.eye(5)], 2, 3), torch.rand(2, 1, 9, 9)
    monkeypatch.setattr(encoding.Filter, "forward", replaced)
    want = latency.rank_order(replaced(bank, images), 4)
    assert torch.equal(encoding.LatencyEncoder(bank, 4)(images), want)


@st.composite
def lessons(draw):
    """Arguments of a layer, its input and its rule, without stabilizer: every sum is exact."""
    rng = np.random.default_rng(draw(seeds))
    steps, samples, groups = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.sampled_from([1, 1, 1, 2]))
    side = st.integers(1, 3)
    kernel, pair = (draw(side), draw(side)), st.tuples(st.integers(1, 2), st.integers(1, 2))
    geometry = {
        "stride": draw(pair),
        "padding": (draw(st.integers(0, 2)), draw(st.integers(0, 2))),
        "dilation": draw(pair),
        "groups": groups,
    }
    space = [int((k - 1) * d + 1 + draw(st.integers(0, 3))) for k, d in zip(kernel, geometry["dilation"], strict=True)]
    channels, features = 2 * groups, 2 * groups * draw(st.integers(1, 3))
    threshold = draw(st.sampled_from([None, -0.5, 0.0, 0.5, 1.0, 3.0, "features"]))
    lower, upper = draw(st.sampled_from([(0, 1), (-1, 1), (0.25, 0.75)]))
    low, high = draw(st.sampled_from([(0, 1), (lower, upper), (-2, 2), (-2, -1)]))
    return {
        "layer": (channels, features, kernel, torch.arange(features) / 4 if threshold == "features" else threshold),
        "geometry": {"time_steps": steps, **geometry},
        "weight": tensor(dyadic(rng, (features, 2, *kernel), low, high)),
        "times": tensor(spike_times(rng, (samples, channels, *space), steps, draw(kinds)), torch.uint8),
        "rates": [[tuple(map(float, p)) for p in r] for r in dyadic(rng, (2, features, 2), -0.5, 0.5)],
        "rule": {"use_stabilizer": False, "lower_bound": lower, "upper_bound": upper},
        "winners": (draw(st.integers(1, 4)), draw(st.integers(0, 3))),
        "inhibit": draw(st.booleans()),
        "labels": tensor(rng.integers(0, 3, samples), torch.int64),
        "classes": tensor(rng.integers(0, 3, features), torch.int64),
        "correction": draw(st.sampled_from([None, "guess", "teach"])),
        "active": tensor(rng.random((samples, features)) < 0.7, torch.bool) if draw(st.booleans()) else None,
    }


class OwnSTDP(snn.STDP):
    """The standard rule, as a rule of one's own on waves."""

    def forward(self, *args):
        return super().forward(*args)


class OwnRSTDP(snn.RSTDP):
    def forward(self, *args):
        return super().forward(*args)


def learn(lesson, dtype, reward, kinds=(snn.STDP, snn.RSTDP)):
    module = snn.SpikingConvolution(*lesson["layer"], **lesson["geometry"]).to(dtype)
    module.load_weight(lesson["weight"])
    options = {"pointwise_inhibition": lesson["inhibit"]}
    first = module.winners(lesson["times"], *lesson["winners"], **options)
    if reward:
        rule = kinds[1](module, *lesson["rates"], **lesson["rule"])
        labels, classes = lesson["labels"], lesson["classes"]
        options.update(active=lesson["active"], correction=lesson["correction"])
        chosen = rule.learn(lesson["times"], labels, classes, *lesson["winners"], **options)
    else:
        chosen = kinds[0](module, lesson["rates"][0], **lesson["rule"]).learn(
            lesson["times"], *lesson["winners"], **options
        )
    last = module.winners(lesson["times"], *lesson["winners"], pointwise_inhibition=lesson["inhibit"])
    return first, chosen, module.weight.detach(), last


@pytest.mark.parametrize("reward", [False, True], ids=["stdp", "rstdp"])
@given(lesson=lessons())
@settings(max_examples=100)
def test_learn(dtype, reward, lesson):
    answers = compare(lambda: learn(lesson, dtype, reward))
    for got, want in zip(learn(lesson, dtype, reward, (OwnSTDP, OwnRSTDP)), answers, strict=True):
        same(got, want)
    _, winners, weight, _ = answers
    kwta, radius = lesson["winners"]
    lower, upper = lesson["rule"]["lower_bound"], lesson["rule"]["upper_bound"]
    assert winners.shape == (len(lesson["times"]), min(kwta, len(weight)), 3)
    assert ((weight >= lower) & (weight <= upper)).all()
    for one in winners.tolist():
        chosen = [w for w in one if w[0] >= 0]
        assert len({w[0] for w in chosen}) == len(chosen)
        for i, (_, y, x) in enumerate(chosen):
            assert radius == 0 or all(max(abs(y - b), abs(x - c)) > radius for _, b, c in chosen[:i])


@pytest.mark.parametrize("correction", [None, "guess", "teach"])
@pytest.mark.parametrize("label", [0, 1, 2, 3])
@pytest.mark.parametrize("threshold", [1.0, None])
def test_a_sample_without_a_winner_teaches_nothing(correction, label, threshold):
    """Also where features would win once the first sample has clamped all weights."""

    def run():
        layer = snn.SpikingConvolution(1, 6, 2, threshold, time_steps=3)
        layer.load_weight(torch.full((6, 1, 2, 2), -1.0))
        rule = snn.RSTDP(layer, (0.25, 0.25), (-0.25, 0.25), lower_bound=0.5, upper_bound=1)
        times, classes = torch.zeros(1, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 0, 1, 1, 2, 2])
        found = rule.learn(times, [label], classes, 2, correction=correction)
        before = layer.weight.clone()
        return found, before, rule.learn(times, [label], classes, 2, correction=correction), layer.weight

    found, first, again, _ = compare(run)
    assert (found == -1).all()
    assert (first == 0.5).all()
    assert (again[0, 0] == 0).all()


@pytest.mark.parametrize("correction", ["guess", "teach"])
@pytest.mark.parametrize("kwta, inside", [(1, True), (1, False), (2, True)])
def test_potentials_are_added_again_where_they_have_changed_alone(correction, kwta, inside):
    """The first mistake clamps weights outside of the bounds; a second winner learns, too, and may win next."""
    times = tensor(spike_times(np.random.default_rng(0), (5, 2, 3, 3), 4), torch.uint8)
    labels, classes = [1, 2, 9, 0, 1], torch.arange(6) // 2

    def run():
        layer = snn.SpikingConvolution(2, 6, 2, None, time_steps=4)
        start = tensor(dyadic(np.random.default_rng(1), (6, 2, 2, 2), 0.25, 0.75), torch.float32)
        layer.load_weight(start if inside else start - torch.tensor([0, 0, 1, 1, 1, 1]).view(-1, 1, 1, 1))
        rule = snn.RSTDP(layer, (1 / 16, -1 / 32), (-1 / 16, 1 / 32), lower_bound=0.25, upper_bound=0.75)
        found = rule.learn(times, labels, classes, kwta, correction=correction)
        return found, layer.weight.detach()

    with mock.patch.object(gather, "last_potentials", side_effect=gather.last_potentials) as added:
        compare(run)
    assert (added.call_count == len(times)) is (inside and kwta == 1)


@pytest.mark.parametrize("threshold", [1.0, None])
@pytest.mark.parametrize("outside", [-1.5, 0.9])
def test_weights_that_all_lie_outside_the_bounds_are_clamped_before_the_second_sample(threshold, outside):
    """Also by a sample without a winner, as by a call on waves without winners."""

    def run():
        layer = snn.SpikingConvolution(2, 3, 1, threshold, time_steps=2)
        layer.load_weight(torch.arange(6).view(3, 2, 1, 1) / 64 + outside)
        rule = snn.STDP(layer, (0.125, 0.25), False, 0.25, 0.75)
        return rule.learn(torch.zeros(3, 2, 1, 1, dtype=torch.uint8), pointwise_inhibition=False), layer.weight

    winners, _ = compare(run)
    afterwards = 0 if outside > 0 or threshold is None else -1
    assert winners[:, 0, 0].tolist() == [2 if outside > 0 else -1, afterwards, afterwards]
    conv = snn.Convolution(2, 3, 1)
    conv.load_weight(torch.full((3, 2, 1, 1), outside))
    snn.STDP(conv, (0.125, 0.25), False, 0.25, 0.75)(torch.ones(2, 2, 1, 1), None, torch.zeros(2, 3, 1, 1), [])
    assert (conv.weight == min(max(outside, 0.25), 0.75)).all()


@pytest.mark.parametrize("threshold", [1.0, None])
def test_learn_takes_the_loops_where_it_can(threshold):
    """And a rule with factors of one's own, or groups without a threshold, the walk."""
    from spyketorch.kernels.engine import Engine

    times = torch.zeros(2, 2, 4, 4, dtype=torch.uint8)
    for options, groups, fast in (
        ({}, 1, True),
        ({"modulation": lambda s: 1}, 1, False),
        ({}, 2, threshold is not None),
    ):
        rule = snn.STDP(snn.SpikingConvolution(2, 4, 3, threshold, time_steps=3, groups=groups), (0.5, -0.5), **options)
        with mock.patch.object(Engine, "learn", autospec=True, side_effect=Engine.learn) as loop:
            rule.learn(times, pointwise_inhibition=False)
        assert loop.called is fast


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    """Types that numba has not go through torch."""
    weight, times = torch.ones(2, 1, 2, 2, dtype=dtype), torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    for threshold in (1.0, None):
        compare(lambda t=threshold: latency.convolution_fire(times, weight, t, time_steps=3))
        module = snn.SpikingConvolution(1, 2, 2, threshold, time_steps=3).to(dtype)
        with pytest.raises(ValueError, match="float32"):
            snn.STDP(module, (0.5, -0.5)).learn(times)
    compare(lambda: latency.rank_order(torch.ones(1, 3, 3, dtype=dtype), 3))
    compare(lambda: latency.local_normalization(torch.ones(1, 3, 3, dtype=dtype), 1))


# what answers do not depend on


@pytest.fixture
def network():
    """A layer on real-valued weights, its input, and its answers in one call on one thread."""
    generator = torch.Generator().manual_seed(0)
    times = latency.rank_order(torch.rand(70, 3, 12, 11, generator=generator).relu(), 9)
    times[torch.rand(times.shape, generator=generator) < 0.4] = 9
    torch.manual_seed(1)
    return times, {t: snn.SpikingConvolution(3, 8, 4, t, 0.5, 0.2, time_steps=9, padding=1) for t in (7.0, None)}


@pytest.fixture
def threads():
    """torch.set_num_threads, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


SPLITS = [1, 3, 32, 69]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("kind", ["loops", "plain"])
def test_answers_do_not_depend_on_batch_or_threads(network, threads, count, kind, monkeypatch):
    if kind == "plain":
        monkeypatch.setattr(serving, "has_numba", lambda: False)
    elif count > 1:  # one image, too, is shared out
        monkeypatch.setattr("spyketorch.kernels.engine._WORTH_ROWS", 1)
    times, modules = network
    images = torch.rand(70, 1, 12, 11, generator=torch.Generator().manual_seed(2))
    bank = encoding.Filter([encoding.DoGKernel(3, 1, 2), encoding.DoGKernel(3, 2, 1)], padding=1)
    values = bank(images).abs()
    calls = {
        "pooling": (times, lambda x: (latency.pooling(x, 3, 2, 1),)),
        "inhibition": (times, lambda x: latency.pointwise_inhibition(x, x * 0.5, time_steps=9)),
        "later pooling": (times, lambda x: (latency.pooling(x, 3, 2, 1, earliest=4),)),
        "rank_order": (values, lambda x: (latency.rank_order(x, 7),)),
        "normalization": (values, lambda x: (latency.local_normalization(x, 2),)),
    }
    for threshold, module in modules.items():
        calls[f"fire-{threshold}"] = (times, lambda x, module=module: module.respond(x))
        grouped = snn.SpikingConvolution(3, 6, 3, threshold and 2.0, 0.5, 0.2, time_steps=9, groups=3)
        calls[f"grouped-{threshold}"] = (times, lambda x, module=grouped: module.respond(x))
    for x, call in calls.values():
        threads(1)
        want = call(x)
        threads(count)
        for size in (len(x), *SPLITS):
            parts = [call(part) for part in x.split(size)]
            for whole, got in zip(want, zip(*parts, strict=True), strict=True):
                assert torch.equal(torch.cat(got), whole)
        for whole, one in zip(want, call(x[5]), strict=True):
            assert torch.equal(one, whole[5])
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
        for whole, moved in zip(want, call(x[order]), strict=True):
            assert torch.equal(moved, whole[order])


@pytest.mark.parametrize("threshold", [7.0, None])
@pytest.mark.parametrize("reward", [False, True], ids=["stdp", "rstdp"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
@pytest.mark.parametrize("kwta", [1, 3])
@pytest.mark.parametrize("kind", ["loops", "plain"])
def test_learning_does_not_depend_on_chunks_or_threads(
    network, threads, threshold, reward, inside, kwta, kind, monkeypatch
):
    """Weights that start outside the bounds are clamped by the first sample."""
    if kind == "plain":
        monkeypatch.setattr(serving, "has_numba", lambda: False)
    times, modules = network
    labels, classes = torch.arange(70) % 4, torch.arange(8) % 4
    active = torch.rand(70, 8, generator=torch.Generator().manual_seed(4)) < 0.7

    def run(size):
        module = copy.deepcopy(modules[threshold])
        if inside:
            module.weight.clamp_(0.2, 0.8)
        if reward:
            rule = snn.RSTDP(module, (0.02, -0.015), (-0.02, 0.0025))
            parts = zip(times.split(size), labels.split(size), active.split(size), strict=True)
            found = [rule.learn(t, y, classes, kwta, active=a) for t, y, a in parts]
        else:
            rates = (0.02, -0.03) if threshold else (-0.01, -0.02)  # anti-Hebbian, so that winners change
            stdp = snn.STDP(module, rates, lower_bound=0.2, upper_bound=0.8)
            found = [stdp.learn(t, kwta, 1, pointwise_inhibition=threshold is not None) for t in times.split(size)]
        return torch.cat(found), module.weight.detach()

    threads(1)
    winners, weight = run(70)
    assert len(winners[:, 0, 0].unique()) > 2
    for count, size in ((1, 1), (1, 2), (2, 3), (1, 31), (3, 32), (1, 33), (2, 69), (3, 70)):
        threads(count)
        again = run(size)
        assert torch.equal(again[0], winners)
        assert torch.equal(again[1], weight)


BYTES = {  # weights (mean, spread), rates (against Hebb, so that winners change), bounds
    "trained": ((0.5, 0.2), (-0.05, 0.02), (0.2, 0.8)),
    "new": ((0.8, 0.05), (-0.004, 0.003), (0.2, 0.8)),
    "equal": ((0.5, 0), (-0.01, 0.01), (0, 1)),
    "growing": ((0.1, 0.01), (-1.0, 0.8), (-100, 100)),
    "negative": ((-0.01, 0.05), (-0.03, 0.02), (-1, 1)),
    "huge": ((0, 1e6), (-1e5, 1e5), (-1e7, 1e7)),
}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("kwta, radius", [(1, 0), (3, 1)])
@pytest.mark.parametrize("weights, rates, bounds", BYTES.values(), ids=BYTES)
def test_bytes_find_the_winners_of_exact_sums(threads, weights, rates, bounds, kwta, radius, count):
    """Weights are no multiples of anything here, so that a bound that is too tight would lose a winner."""
    threads(count)
    torch.manual_seed(1)
    layer = snn.SpikingConvolution(40, 60, 3, None, *weights, time_steps=4, padding=1)
    times = torch.randint(0, 7, (80, 40, 4, 5), generator=torch.Generator().manual_seed(0)).clamp(max=4)
    times, slow = times.to(torch.uint8), copy.deepcopy(layer)
    learned = snn.STDP(layer, rates, False, *bounds).learn(times, kwta, radius, pointwise_inhibition=False)
    assert len(learned[:, 0, 0].unique()) > 1
    rule = snn.STDP(slow, rates, False, *bounds)
    for image, winners in zip(times, learned, strict=True):
        fired, potentials = slow.respond(image)
        assert torch.equal(winners, latency.k_winners(fired, potentials, kwta, radius, time_steps=4))
        rule(latency.to_wave(image, 4, torch.float32), None, latency.to_wave(fired, 4, torch.float32), winners)
    assert torch.equal(layer.weight, slow.weight)
    fired, potentials = layer.respond(times)
    assert torch.equal(
        layer.winners(times, kwta, radius), latency.k_winners(fired, potentials, kwta, radius, time_steps=4)
    )


@st.composite
def runs(draw):
    """A lesson in which only the last step counts, of enough samples for several runs that are decided ahead."""
    lesson = draw(lessons().filter(lambda lesson: lesson["geometry"]["groups"] == 1))
    rng, copies = np.random.default_rng(draw(seeds)), draw(st.integers(1, 4))
    order = torch.from_numpy(rng.permutation(copies * len(lesson["times"])) % len(lesson["times"]))
    channels, features, kernel, _ = lesson["layer"]
    small = draw(st.sampled_from([0, 0, 1 / 64, 1 / 4]))  # so that what was decided ahead often stands
    return {
        **lesson,
        "layer": (channels, features, kernel, None),
        "times": lesson["times"][order],
        "labels": lesson["labels"][order],
        "active": None if lesson["active"] is None else lesson["active"][order],
        "rates": [[tuple(small * r if small else r for r in pair) for pair in rate] for rate in lesson["rates"]],
        "inhibit": False,
    }


@pytest.mark.parametrize("reward", [False, True], ids=["stdp", "rstdp"])
@given(lesson=runs(), shortest=st.integers(1, 9))
@settings(max_examples=100)
def test_what_is_decided_ahead_is_what_each_image_finds(dtype, reward, lesson, shortest):
    """On a grid where sums are exact and ties are frequent."""
    engine = importlib.import_module("spyketorch.kernels.engine")
    with mock.patch.object(torch, "get_num_threads", lambda: 1):
        want = learn(lesson, dtype, reward)
    limits = mock.patch.multiple(engine, _SHORTEST=shortest, _LONGEST=4 * shortest, _stand=lambda _: True)
    with mock.patch.object(torch, "get_num_threads", lambda: 2), limits:
        got = learn(lesson, dtype, reward)
    for g, w in zip(got, want, strict=True):
        same(g, w)


def test_a_feature_that_comes_to_tie_with_a_winner_found_ahead():
    """The first image teaches feature 0, which then equals feature 1 on the second image, and has the lower index."""
    engine = importlib.import_module("spyketorch.kernels.engine")
    layer = snn.SpikingConvolution(4, 2, 1, None, time_steps=2)
    layer.load_weight(torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.25, 0.25, 0.5, 0.5]]).view(2, 4, 1, 1))
    times = torch.tensor([[0, 0, 2, 2], [2, 2, 0, 0], [2, 2, 2, 2]], dtype=torch.uint8).view(3, 4, 1, 1)
    limits = mock.patch.multiple(engine, _SHORTEST=2, _LONGEST=2, _stand=lambda _: True)
    with mock.patch.object(torch, "get_num_threads", lambda: 2), limits:
        winners = snn.STDP(layer, (0.0, 0.25), False).learn(times, pointwise_inhibition=False)
    assert winners[:, 0, 0].tolist() == [0, 0, -1]


@pytest.fixture
def taught():
    """Images of four kinds, silent ones among them, and a layer that tells most of them apart."""
    rng = np.random.default_rng(0)
    kinds = rng.random((4, 20, 4, 4)) < 0.4
    labels = rng.integers(0, 4, 600)
    fires = np.where(rng.random((600, 20, 4, 4)) < 0.25, rng.random((600, 20, 4, 4)) < 0.4, kinds[labels])
    fires[rng.random(600) < 0.02] = False
    times = torch.from_numpy(np.where(fires, rng.integers(0, 5, fires.shape), 5).astype(np.uint8))
    return times, torch.from_numpy(labels), torch.from_numpy(rng.random((600, 24)) < 0.6)


@pytest.mark.parametrize("shape", [(4, 0), (3, 1)], ids=["whole map", "sixteen places"])
@pytest.mark.parametrize("kwta, radius", [(1, 0), (3, 1)])
@pytest.mark.parametrize("correction", [None, "guess", "teach"])
@pytest.mark.parametrize("dropout", [False, True])
def test_runs_that_are_decided_ahead(taught, threads, shape, kwta, radius, correction, dropout, monkeypatch):
    """Whole epochs give the same winners and weights on any number of threads, and most of what is decided stands."""
    engine = importlib.import_module("spyketorch.kernels.engine")
    if correction is None and dropout:  # as if it paid
        monkeypatch.setattr(engine, "_stand", lambda _: True)
    times, labels, active = taught
    classes = torch.arange(24) % 4

    def run(count):
        """Winners and weights of three epochs, and the runs of the last."""
        threads(count)
        torch.manual_seed(0)
        layer = snn.SpikingConvolution(20, 24, shape[0], None, 0.7, 0.05, time_steps=5, padding=shape[1])
        rule = snn.RSTDP(layer, (0.004, -0.003), (-0.004, 0.003))
        found = []
        for _ in range(3):
            with mock.patch.object(engine.loops, "learn", side_effect=engine.loops.learn) as loop:
                found.append(
                    rule.learn(
                        times, labels, classes, kwta, radius, correction=correction, active=active if dropout else None
                    )
                )
        return torch.cat(found), layer.weight.detach(), loop.call_count

    winners, weight, _ = run(1)
    assert (winners[:, 0, 0] < 0).any()
    for count in (2, 3):
        again, same_weight, calls = run(count)
        assert torch.equal(again, winners)
        assert torch.equal(same_weight, weight)
        assert calls < 20 if correction and kwta == 1 else (calls > 1) is (correction is not None or dropout)


def test_bytes_where_sums_round_more_than_the_weights():
    """Of 2^24, 1 and -2^24 nothing is left in float32."""
    big = 2.0**24
    times = torch.tensor([0, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1)
    layer = snn.SpikingConvolution(3, 2, 1, None, time_steps=2)
    layer.load_weight(torch.tensor([[big, 1.0, -big], [0.125, 0, 0]]).view(2, 3, 1, 1))
    assert layer.winners(times).tolist() == [[[1, 0, 0]]]


@pytest.mark.parametrize("threshold", [7.0, None])
def test_learning_calls_leave_other_tensors_alone(network, threshold):
    times, modules = network
    module, kept = copy.deepcopy(modules[threshold]), times.clone()
    rule = snn.RSTDP(module, (0.02, -0.015), (-0.02, 0.0025))
    before = [copy.deepcopy(r.state_dict()) for r in (rule.reward, rule.punishment)]
    weight, version = module.weight, module.weight.data_ptr()
    rule.learn(times, torch.arange(70) % 4, torch.arange(8) % 4)
    assert module.weight is weight
    assert weight.data_ptr() == version
    assert torch.equal(times, kept)
    for r, state in zip((rule.reward, rule.punishment), before, strict=True):
        for key, value in r.state_dict().items():
            assert torch.equal(value, state[key]) is not key.endswith("weight")


# the operators as torch sees them

SHAPES = {
    "plain": [[1, 1], [0, 0], [1, 1], 1],
    "strided": [[2, 1], [1, 0], [1, 2], 1],
    "grouped": [[1, 2], [0, 1], [1, 1], 2],
}


def operands(dtype, groups, floating=torch.float32):
    rng = np.random.default_rng(0)
    times = tensor(spike_times(rng, (3, 2, 5, 6), 4), dtype)
    return times, tensor(rng.random((4, 2 // groups, 3, 2)), floating)


def opcheck(operator, *arguments):
    """torch's own tests of a custom operator: schema, fake version, tracing."""
    with torch.random.fork_rng():
        torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
@pytest.mark.parametrize("loops", [True, False], ids=["loops", "plain"])
def test_opcheck_convolution(name, dtype, loops):
    shape = SHAPES[name]
    times, weight = operands(dtype, shape[-1], torch.float64 if name == "strided" else torch.float32)
    with mock.patch.object(serving, "has_loops", lambda *_: loops):
        for want_values in (True, False):
            opcheck(operators.convolution_fire, times, weight, torch.ones(4).to(weight), 4, *shape, want_values)
        opcheck(operators.last_potentials, times, weight, 4, *shape)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16])
@pytest.mark.parametrize("loops", [True, False], ids=["loops", "plain"])
def test_opcheck_pooling_and_encoding(dtype, loops):
    times, _ = operands(dtype, 1)
    x = torch.rand(3, 2, 5, 6)
    with mock.patch.object(serving, "has_loops", lambda *_: loops):
        for window in (([2, 2], [2, 2], [0, 0]), ([3, 2], [1, 2], [1, 1])):
            opcheck(operators.pooling, times, *window)
            opcheck(operators.pooling, times, *window, 2)
        opcheck(operators.pooling, times.contiguous(memory_format=torch.channels_last), *window)
        opcheck(operators.pointwise_inhibition, times, torch.rand(times.shape), 4)
        for steps in (4, 300):
            opcheck(operators.rank_order, x, steps)
        opcheck(operators.local_normalization, x, 2, 1e-12)
        opcheck(operators.local_normalization, x.double().permute(0, 1, 3, 2), 1, 1e-12)


@pytest.mark.parametrize(
    "dtype, floating", [(torch.uint8, torch.float32), (torch.uint8, torch.float64), (torch.int16, torch.float32)]
)
def test_opcheck_winners(dtype, floating):
    times, weight = operands(dtype, 1, floating)
    for threshold in (torch.ones(4, dtype=floating), None):
        opcheck(operators.convolution_winners, times, weight, threshold, 4, *SHAPES["strided"], False, 2, 1)


# values that the caller may get wrong


def child(*parts):
    """A process of its own that runs these parts of a script."""
    code = "\n".join(textwrap.dedent(part) for part in parts)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


BEYOND = """
    from unittest import mock
    import torch
    from spyketorch import latency, snn
    from spyketorch.kernels import serving

    def learn(times, threshold):
        layer = snn.SpikingConvolution(2, 3, 3, threshold, time_steps=5)
        layer.load_weight(torch.ones(layer.weight.shape) / 4)
        found = snn.STDP(layer, (0.5, -0.5)).learn(times, pointwise_inhibition=threshold is not None)
        return found, layer.weight.detach()

    def fire(times, threshold):
        return latency.convolution_fire(times, torch.ones(3, 2, 3, 3), threshold, time_steps=5)

    for value in (6, 15, 250, -3, 30000, 2**40):
        times = torch.full((2, 2, 6, 6), value)
        times[1, :, :3] = 2
        for kind in (torch.uint8, torch.int64):
            for call in (fire, learn) if value >= 0 and (value < 256 or kind == torch.int64) else ():
                for threshold in (1.0, None):
                    try:
                        got = [call(times.to(kind), threshold) for _ in range(9)]
                    except ValueError as error:
                        assert "times" in str(error), error
                    else:
                        with mock.patch.object(serving, "has_loops", lambda *_: False):
                            want = call(times.to(kind), threshold)
                        assert all(torch.equal(a, b) for one in got for a, b in zip(one, want)), (value, call)
    print("alive")
"""


def test_times_that_the_steps_do_not_hold():
    """A layer whose T is below its input's: an error, or silent neurons, never a write outside an array."""
    done = child(BEYOND)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "alive\n"


# without numba

RUN = '''
def run():
    """A small network and what two layers learn, as numbers."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 64, (9, 1, 9, 8), generator=generator) / 64
    one = snn.SpikingConvolution(1, 4, 3, 2.0, time_steps=5)
    two = snn.SpikingConvolution(4, 3, 2, None, time_steps=5)
    for layer in (one, two):
        layer.load_weight(torch.randint(0, 64, layer.weight.shape, generator=generator) / 64)
    times = latency.rank_order(images, 5)
    winners = snn.STDP(one, (1 / 32, -1 / 64), False).learn(times, 2, 1)
    fired = latency.pooling(one(times), 2)
    rule = snn.RSTDP(two, (1 / 32, -1 / 64), (-1 / 32, 1 / 64), lower_bound=0.25, upper_bound=0.75)
    decisions = rule.learn(fired, torch.arange(9) % 3, torch.arange(3))
    answer, potentials = two.respond(fired)
    found = latency.k_winners(answer, potentials, time_steps=5)
    results = (winners, decisions, found, potentials, one.weight, two.weight)
    normal = latency.local_normalization(images, 1)
    assert normal.shape == images.shape
    assert encoding.LatencyEncoder(torch.nn.Identity(), 5, 1)(images).dtype == torch.uint8
    return [t.flatten().tolist() for t in results]
'''


BLOCKED = """
    import sys
    sys.modules["numba"] = None
    import torch
    from spyketorch import encoding, latency, snn
    from spyketorch.kernels import serving
    assert not serving.has_loops(torch.zeros(1))
"""


def test_without_numba():
    """A process in which numba cannot be imported gives the same answers."""
    names = {"torch": torch, "snn": snn, "latency": latency, "encoding": encoding}
    exec(RUN, names)
    want = names["run"]()
    with without_loops():
        assert names["run"]() == want
    done = child(BLOCKED, RUN, "print(repr(run()))", "assert 'spyketorch.kernels.loops' not in sys.modules")
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == f"{want!r}\n"
    assert re.fullmatch(r".*PerformanceWarning: numba is not installed[^\n]*\n", done.stderr)


def test_numba_is_imported_late():
    """Not by `import spyketorch`, and not by a network on waves."""
    done = child("""
        import sys, torch, spyketorch
        from spyketorch import snn, functional as sf, learning, latency, encoding
        sf.fire(snn.Convolution(1, 2, 2)(torch.ones(3, 1, 4, 4)), 1)
        assert "numba" not in sys.modules
    """)
    assert done.returncode == 0, done.stderr[-2000:]
