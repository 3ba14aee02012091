"""Operations on first-spike times against the dense ones, through `to_wave`; weights on a grid, so to the bit."""

from unittest import mock

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    close,
    dyadic,
    intensities,
    kinds,
    layers,
    same,
    samplewise,
    seeds,
    shapes,
    spike_times,
    tensor,
    thresholded,
    waves,
)
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.torch_version import TorchVersion

import spyketorch.functional as sf
from spyketorch import _checks as check
from spyketorch import encoding, latency, learning, models, snn, validation
from spyketorch.kernels import operators, serving

contiguous = st.booleans()
#: before it torch.compile breaks the graph at checks of arguments (and answers the same); tried: 2.6, 2.7, 2.9
new_tracer = pytest.mark.skipif(torch.__version__ < TorchVersion("2.13"), reason="torch traces it from 2.13 on")
kwtas, radii = st.integers(1, 5), st.integers(0, 2)
time_types = st.sampled_from([torch.uint8, torch.uint8, torch.int16, torch.int64])


def first(values, times):
    """(..., T, C, H, W) at the first-spike times; 0 where silent."""
    steps = values.shape[-4]
    at = times.long().clamp(max=steps - 1).unsqueeze(-4)
    return torch.where(times < steps, values.gather(-4, at).squeeze(-4), 0)


def spikes_of(p, dtype=torch.float32, c=True):
    """Times and first potentials of thresholded potentials, and the potentials as a tensor."""
    dense = tensor(p, dtype)
    times = latency.from_wave(dense)
    return (
        tensor(times.numpy(force=True), torch.uint8, c),
        tensor(first(dense, times).numpy(force=True), dtype, c),
        dense,
    )


# wave and times


@given(wave=waves(), batch=waves(batched=True), dtype=st.sampled_from([torch.float32, torch.uint8, torch.bool]))
def test_a_wave_is_its_times(wave, batch, dtype):
    for one in (tensor(wave, dtype), tensor(batch, dtype)):
        steps = one.shape[-4]
        times = latency.from_wave(one, validate=True)
        assert times.dtype == torch.uint8
        assert times.shape == (*one.shape[:-4], *one.shape[-3:])
        back = latency.to_wave(times, steps, dtype)
        assert back.dtype == dtype
        assert torch.equal(back, one)
        assert torch.equal(latency.from_wave(back), times)
    same(latency.from_wave(tensor(wave)), ref.first_spikes(wave))


@given(seed=seeds, shape=shapes(), steps=st.sampled_from([1, 2, 7, 254, 255, 300]), kind=kinds, dtype=time_types)
def test_times_are_their_wave(seed, shape, steps, kind, dtype):
    if steps > 254 and dtype == torch.uint8:
        dtype = torch.int16
    times = tensor(spike_times(np.random.default_rng(seed), shape, steps, kind), dtype)
    wave = latency.to_wave(times, steps)
    assert wave.shape == (steps, *shape)
    assert wave.dtype == torch.float32
    back = latency.from_wave(wave, validate=True)
    assert back.dtype == (torch.uint8 if steps <= 254 else torch.int16)
    same(back, times)


def test_validation_refuses_what_is_no_wave():
    good = torch.tensor([0.0, 1, 1]).view(3, 1, 1, 1)
    assert latency.from_wave(good, validate=True).tolist() == [[[1]]]
    for values, message in (([0.0, 1, 0], "cumulative"), ([0.0, 2, 2], "zeros and ones"), ([0.0, -1, 1], "zeros")):
        bad = torch.tensor(values).view(3, 1, 1, 1)
        with pytest.raises(ValueError, match=f"`wave` must be a .*{message}"):
            latency.from_wave(bad, validate=True)
        with pytest.raises(ValueError, match=message):
            latency.from_wave(torch.stack([good, bad]), validate=True)
    with pytest.raises(ValueError, match="finite"):
        latency.from_wave(torch.tensor([0.0, 1, torch.nan]).view(3, 1, 1, 1), validate=True)
    assert latency.from_wave(torch.tensor([0, 1, 0]).view(3, 1, 1, 1)).tolist() == [[[2]]]


# pad and pooling


mixed_steps = st.sampled_from([1, 4, 300])


@given(seed=seeds, shape=shapes(True), steps=mixed_steps, kind=kinds, c=contiguous, data=st.data())
def test_pad(seed, shape, steps, kind, c, data):
    pad = data.draw(st.tuples(*[st.integers(0, 3)] * 4))
    values = spike_times(np.random.default_rng(seed), shape, steps, kind)
    times = tensor(values, operators.time_dtype(steps), c)
    out = samplewise(lambda x: latency.pad(x, pad, steps), times)
    assert out.dtype == times.dtype
    same(latency.to_wave(out, steps), sf.pad(latency.to_wave(times, steps), pad))
    same(times, values)


@given(data=st.data(), seed=seeds, shape=shapes(True), steps=mixed_steps, kind=kinds, c=contiguous)
def test_pooling(data, seed, shape, steps, kind, c):
    kernel = tuple(data.draw(st.integers(1, min(3, n))) for n in shape[-2:])
    padding = tuple(data.draw(st.integers(0, k // 2)) for k in kernel)
    stride = data.draw(st.sampled_from([None, 1, 2, 5, (1, 3)]))
    if kernel[0] == kernel[1] and padding[0] == padding[1] and data.draw(st.booleans()):
        kernel, padding = kernel[0], padding[0]
    dtype = data.draw(time_types) if steps <= 254 else torch.int16
    values = spike_times(np.random.default_rng(seed), shape, steps, kind)
    times = tensor(values, dtype, c)
    out = samplewise(lambda x: latency.pooling(x, kernel, stride, padding), times)
    assert out.dtype == dtype
    same(latency.to_wave(out, steps), sf.pooling(latency.to_wave(times, steps), kernel, stride, padding))
    same(times, values)


def fewest(size, kernel, stride, padding):
    """How many neurons the window has that has the fewest."""
    counts = []
    for n, k, s, p in zip(size, kernel, stride, padding, strict=True):
        starts = range(-p, n + p - k + 1, s)
        counts.append(min(sum(0 <= first + i < n for i in range(k)) for first in starts))
    return counts[0] * counts[1]


@given(data=st.data(), seed=seeds, shape=shapes(True), steps=mixed_steps, kind=kinds, c=contiguous)
def test_pooling_to_a_later_spike(data, seed, shape, steps, kind, c):
    kernel = tuple(data.draw(st.integers(1, min(4, 2 * n))) for n in shape[-2:])
    padding = tuple(
        data.draw(st.integers(max(0, (k - n + 1) // 2), k // 2)) for k, n in zip(kernel, shape[-2:], strict=True)
    )
    stride = data.draw(st.sampled_from([None, 1, 2, 5, (1, 3)]))
    most = fewest(shape[-2:], kernel, np.broadcast_to(kernel if stride is None else stride, 2), padding)
    earliest = data.draw(st.integers(1, most))
    dtype = data.draw(time_types) if steps <= 254 else torch.int16
    values = spike_times(np.random.default_rng(seed), shape, steps, kind)
    times = tensor(values, dtype, c)
    out = samplewise(lambda x: latency.pooling(x, kernel, stride, padding, earliest=earliest), times)
    assert out.dtype == dtype
    if steps <= 4:
        waves = latency.to_wave(times, steps).numpy(force=True)
        want = np.stack([ref.later_pooling(wave, kernel, stride, padding, earliest) for wave in waves])
        same(latency.to_wave(out, steps), want)
    same(times, values)
    same(snn.SpikingPooling(kernel, stride, padding, earliest=earliest)(times), out)
    if earliest == 1:
        same(latency.pooling(times, kernel, stride, padding), out)
    with pytest.raises(ValueError, match=rf"`earliest` must be at most {most}, as many neurons as a window has"):
        latency.pooling(times, kernel, stride, padding, earliest=most + 1)


def test_padding_counts_as_silent_where_pad_puts_it():
    """What `earliest` with padding refuses, silent neurons in its place allow."""
    times = torch.tensor([[[2, 0], [1, 1]]], dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"at most 1.*; got 2 \(int\): `latency.pad` before it adds neurons"):
        latency.pooling(times, 2, 1, 1, earliest=2)
    around = latency.pooling(latency.pad(times, (1, 1, 1, 1), 3), 2, 1, earliest=2)
    same(around, [[[3, 2, 3], [2, 1, 1], [3, 1, 3]]])


# convolution and firing


@st.composite
def thresholds(draw, features, low=-1):
    """A number, one per feature, or None."""
    grid = st.integers(low * 4, 12).map(lambda n: n / 4)
    one = draw(st.sampled_from([None, "number", "number", "features", "never"]))
    if one == "features":
        return torch.tensor([draw(grid) for _ in range(features)])
    return {None: None, "never": 1e6, "number": draw(grid)}[one]


def dense_fire(wave, weight, threshold, **geometry):
    """(times, first potentials) by the dense functions."""
    potentials = sf.convolution(wave, weight, **geometry)
    times = latency.from_wave(sf.fire(potentials, threshold, latch=True))
    return times, first(potentials, times)


@given(data=st.data(), layer=layers(low=-1, batched=True, max_steps=9), c=contiguous, kind=time_types)
def test_convolution_fire(dtype, data, layer, c, kind):
    kind = kind if dtype == torch.float32 else torch.uint8  # every pair of types is compiled once
    times, weight = latency.from_wave(tensor(layer.wave)), tensor(layer.weight, dtype, c)
    times, steps = tensor(times.numpy(force=True), kind, c), layer.wave.shape[1]
    kept, kept_weight = times.clone(), weight.clone()
    threshold = data.draw(thresholds(len(weight)))
    want = dense_fire(latency.to_wave(times, steps, dtype), weight, threshold, **layer.geometry)
    fired, potentials = latency.convolution_fire(times, weight, threshold, time_steps=steps, **layer.geometry)
    assert (fired.dtype, potentials.dtype) == (kind, dtype)
    same(fired, want[0])
    same(potentials, want[1])
    without = latency.convolution_fire(times, weight, threshold, time_steps=steps, potentials=False, **layer.geometry)
    same(without[0], want[0])
    for i, sample in enumerate(times):
        one = latency.convolution_fire(sample, weight, threshold, time_steps=steps, **layer.geometry)
        same(one[0], fired[i])
        same(one[1], potentials[i])
    assert torch.equal(times, kept)
    assert torch.equal(weight, kept_weight)


@given(layer=layers(plain=True, max_steps=4), scale=st.sampled_from([255, 300, 2000]))
@settings(max_examples=10)
def test_many_time_steps(layer, scale):
    short = latency.from_wave(tensor(layer.wave))
    steps = layer.wave.shape[0] * scale
    times = (short.int() * scale).to(torch.int16)
    weight = tensor(layer.weight, torch.float32)
    fired, _ = latency.convolution_fire(times, weight, 0.5, time_steps=steps)
    same(fired, latency.convolution_fire(short, weight, 0.5, time_steps=layer.wave.shape[0])[0].int() * scale)
    assert fired.dtype == torch.int16


def test_a_number_as_threshold_is_not_rounded_in_float64():
    weight, times = torch.full((1, 1, 1, 1), 0.1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.uint8)
    for change, fires in ((0, False), (5e-10, True)):
        dense = sf.fire(sf.convolution(latency.to_wave(times, 2, torch.float64), weight + change), 0.1)
        assert bool(dense.any()) is fires
        assert latency.convolution_fire(times, weight + change, 0.1, time_steps=2)[0].item() == (0 if fires else 2)


@pytest.mark.parametrize("steps", [1, 3])
def test_silent_and_full_maps(steps):
    weight = torch.ones(2, 3, 2, 2)
    silent, full = torch.full((3, 4, 4), steps, dtype=torch.uint8), torch.zeros(3, 4, 4, dtype=torch.uint8)
    for threshold, answer in ((11, 0), (12, steps), (None, steps - 1)):
        fired, potentials = latency.convolution_fire(full, weight, threshold, time_steps=steps)
        assert fired.unique().tolist() == [answer]
        assert potentials.unique().tolist() == [12.0 if answer < steps else 0.0]
        fired, potentials = latency.convolution_fire(silent, weight, threshold, time_steps=steps)
        assert fired.unique().tolist() == [steps]
        assert not potentials.any()


# inhibition and winners


@given(p=thresholded(), batch=thresholded(batched=True), c=contiguous)
def test_pointwise_inhibition(dtype, p, batch, c):
    for given_p in (p, batch):
        times, potentials, dense = spikes_of(given_p, dtype, c)
        steps = dense.shape[-4]
        kept = times.clone(), potentials.clone()
        got = latency.pointwise_inhibition(times, potentials, time_steps=steps)
        want = sf.pointwise_inhibition(dense)
        same(got[0], latency.from_wave(want))
        same(got[1], first(want, latency.from_wave(want)))
        assert (got[0].dtype, got[1].dtype) == (times.dtype, dtype)
        assert torch.equal(times, kept[0])
        assert torch.equal(potentials, kept[1])


@given(data=st.data(), batch=thresholded(batched=True), c=contiguous)
def test_feature_inhibition(dtype, data, batch, c):
    times, potentials, dense = spikes_of(batch, dtype, c)
    kept = times.clone(), potentials.clone()
    some = st.lists(st.integers(0, dense.shape[2] - 1), max_size=3)
    flat, nested = data.draw(some), [data.draw(some) for _ in batch]
    mask = torch.tensor([f in flat for f in range(dense.shape[2])])
    for x, p, d, chosen in (
        (times, potentials, dense, flat),
        (times, potentials, dense, nested),
        (times, potentials, dense, mask),
        (times[0], potentials[0], dense[0], flat),
    ):
        got = latency.feature_inhibition(x, p, chosen, time_steps=dense.shape[1])
        want = sf.feature_inhibition(d, chosen)
        same(got[0], latency.from_wave(want))
        same(got[1], first(want, latency.from_wave(want)))
        assert (got[0].dtype, got[1].dtype) == (times.dtype, dtype)
    assert torch.equal(times, kept[0])
    assert torch.equal(potentials, kept[1])


@given(p=thresholded(), batch=thresholded(batched=True), kwta=kwtas, radius=radii, c=contiguous)
def test_winners(dtype, p, batch, kwta, radius, c):
    for given_p in (p, batch):
        times, potentials, dense = spikes_of(given_p, dtype, c)
        steps = dense.shape[-4]
        got = latency.k_winners(times, potentials, kwta, radius, time_steps=steps)
        assert got.dtype == torch.int64
        same(got, sf.k_winners(dense, kwta, radius))
        listed = latency.get_k_winners(times, potentials, kwta, radius, time_steps=steps)
        assert listed == sf.get_k_winners(dense, kwta, radius)
        for one in listed if given_p is batch else [listed]:
            assert all(type(w) is tuple and [type(i) for i in w] == [int] * 3 for w in one)


def test_winners_by_time_then_potential_then_index():
    times = torch.tensor([2, 3, 1, 3, 1, 3, 3, 1], dtype=torch.uint8).view(4, 1, 2)
    potentials = torch.tensor([9.0, 0, 1, 0, 2, 0, 0, 2]).view(4, 1, 2)
    assert latency.get_k_winners(times, potentials, 9, time_steps=3) == [(2, 0, 0), (3, 0, 1), (1, 0, 0), (0, 0, 0)]
    assert latency.get_k_winners(times, potentials, 9, 1, time_steps=3) == [(2, 0, 0)]
    assert latency.get_k_winners(times * 0 + 3, potentials, time_steps=3) == []
    assert latency.get_k_winners(times * 0, potentials * 0, time_steps=3) == []
    near = torch.tensor([2.0**27, 1, 2**-20]).view(3, 1, 1)  # the dense score cannot tell the last two apart
    found = latency.get_k_winners(torch.zeros(3, 1, 1, dtype=torch.uint8), near.flip(0), 3, time_steps=4)
    assert found == [(2, 0, 0), (1, 0, 0), (0, 0, 0)]


# encoding


@given(batch=intensities(low=-3, batched=True), steps=st.sampled_from([1, 2, 3, 15, 255]), c=contiguous)
def test_rank_order(dtype, batch, steps, c):
    x = tensor(batch, dtype, c)
    times = samplewise(lambda v: latency.rank_order(v, steps), x)
    assert times.dtype == (torch.uint8 if steps <= 254 else torch.int16)
    same(times, np.stack([ref.rank_order(v, steps) for v in batch]))
    wave = encoding.Intensity2Latency(steps, to_spike=True, batched=True)(x.abs())
    same(latency.to_wave(latency.rank_order(x.abs(), steps), steps), wave)
    same(wave, np.stack([ref.intensity_to_latency(v, steps, to_spike=True) for v in np.abs(batch)]))
    same(x, batch)


def test_rank_order_of_any_floats():
    rng = np.random.default_rng(0)
    tiny = np.float32(1e-42)
    values = np.concatenate([rng.random(400), [0.0, -0.0, tiny, 2 * tiny, 3e38, 1.0, 1.0], -np.zeros(20)])
    batch = np.stack([rng.permutation(values).astype(np.float32).reshape(1, 7, 61) for _ in range(3)])
    for steps in (1, 7, 405, 300):
        want = np.stack([ref.rank_order(v, steps) for v in batch])
        same(latency.rank_order(torch.tensor(batch), steps), want)
        same(latency.rank_order(torch.tensor(batch).double(), steps), want)


@given(batch=intensities(batched=True), radius=st.integers(0, 4), eps=st.sampled_from([1e-12, 0.5]), c=contiguous)
def test_local_normalization(dtype, batch, radius, eps, c):
    x = tensor(batch, dtype, c)
    out = samplewise(lambda v: latency.local_normalization(v, radius, eps), x)
    assert out.dtype == dtype
    close(out, np.stack([ref.local_normalization(v, radius, eps) for v in batch]))
    close(out, sf.local_normalization(x, radius, eps).numpy(force=True))
    same(x, batch)


def test_local_normalization_of_integers():
    x = torch.randint(0, 255, (2, 5, 6))
    assert torch.equal(latency.local_normalization(x, 1), latency.local_normalization(x.float(), 1))
    close(latency.local_normalization(x, 1), sf.local_normalization(x, 1).numpy(force=True))


# layers and networks


def test_a_spiking_layer_and_a_convolution_load_each_other():
    spiking = snn.SpikingConvolution(2, 4, 3, 2.0, time_steps=5, padding=1)
    dense = snn.Convolution(2, 4, 3, padding=1)
    assert list(dense.state_dict()) == ["weight"]
    assert list(spiking.state_dict()) == ["weight", "threshold"]
    times = tensor(spike_times(np.random.default_rng(0), (3, 2, 5, 6), 5), torch.uint8)
    weight = tensor(dyadic(np.random.default_rng(1), (4, 2, 3, 3), -0.5, 1), torch.float32)
    for source, target in ((dense, spiking), (spiking, dense)):
        source.load_weight(weight)
        target.load_state_dict(source.state_dict())
        assert torch.equal(target.weight, weight)
        same(spiking(times), latency.from_wave(sf.fire(dense(latency.to_wave(times, 5)), 2.0, latch=True)))
        weight = weight.flip(0)
    rules = snn.STDP(dense, (0.5, -0.25)), snn.STDP(spiking, (0.25, -0.5))
    assert set(rules[1].state_dict()) - set(rules[0].state_dict()) == {"conv_layer.threshold"}
    rules[1].load_state_dict(rules[0].state_dict())
    assert rules[1].learning_rate[2][0].item() == 0.5
    torch.manual_seed(7)
    drawn = snn.Convolution(2, 4, 3).weight
    torch.manual_seed(7)
    assert torch.equal(snn.SpikingConvolution(2, 4, 3, 2.0, time_steps=5).weight, drawn)


@given(data=st.data(), layer=layers(low=-1, batched=True, max_steps=6))
@settings(max_examples=25)
def test_spiking_convolution(dtype, data, layer):
    steps = layer.wave.shape[1]
    threshold = data.draw(thresholds(len(layer.weight)))
    module = snn.SpikingConvolution(*layer.arguments, threshold, time_steps=steps, **layer.geometry).to(dtype)
    module.load_weight(tensor(layer.weight))
    wave = tensor(layer.wave, dtype)
    times = latency.from_wave(wave)
    want = dense_fire(wave, module.weight, None if threshold is None else module.threshold, **layer.geometry)
    for got, expected in zip(module.respond(times), want, strict=True):
        same(got, expected)
    same(module(times), want[0])
    samplewise(module, times)
    assert module(times).shape[-2:] == module.output_size(*times.shape[-2:])


class OnTimes(torch.nn.Module):
    """Encoder, two layers with pooling, and a decision."""

    def __init__(self, steps=7):
        super().__init__()
        kernels = [encoding.DoGKernel(3, 1, 2), encoding.DoGKernel(3, 2, 1)]
        self.filter = encoding.Filter(kernels, padding=1, thresholds=0.25)
        self.encode = encoding.LatencyEncoder(self.filter, steps)
        self.steps = steps
        self.one = snn.SpikingConvolution(2, 4, 3, 2.0, time_steps=steps, padding=1)
        self.two = snn.SpikingConvolution(4, 6, (2, 3), torch.arange(6) / 4 + 1, time_steps=steps)
        self.last = snn.SpikingConvolution(6, 5, 2, None, time_steps=steps)
        for seed, layer in enumerate((self.one, self.two, self.last)):
            rng = np.random.default_rng(seed)
            layer.load_weight(tensor(dyadic(rng, layer.weight.shape, -0.25, 1)))

    def features(self, times):
        times = latency.pooling(self.one(times), 2)
        times = latency.pooling(self.two(latency.pad(times, (1, 1, 1, 1), self.steps)), 2, 2, 1)
        return self.last.respond(times)

    def forward(self, image):
        fired, potentials = self.features(self.encode(image))
        return latency.k_winners(fired, potentials, time_steps=self.steps)[..., 0, :]


def dense_network(net, image):
    """The same on a wave, by `functional` and `Convolution`."""
    convs = []
    for layer in (net.one, net.two, net.last):
        conv = snn.Convolution(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
        conv.load_state_dict(layer.state_dict())
        convs.append(conv)
    wave = encoding.Intensity2Latency(net.steps, to_spike=True)(net.filter(image))
    wave = sf.pooling(sf.fire(convs[0](wave), 2.0, latch=True), 2)
    wave = sf.pad(wave, (1, 1, 1, 1))
    wave = sf.pooling(sf.fire(convs[1](wave), torch.arange(6) / 4 + 1, latch=True), 2, 2, 1)
    potentials = sf.threshold(convs[2](wave))
    return wave, potentials, sf.get_k_winners(potentials)


def test_a_whole_network_on_times_is_the_dense_one():
    net, images = OnTimes(), torch.rand(12, 1, 14, 13)
    images[3] = 0
    images[4, :, :7] = 0
    decisions = net(images)
    assert len(decisions.unique(dim=0)) > 3
    fired, potentials = net.features(net.encode(images))
    for i, image in enumerate(images):
        _, dense, winners = dense_network(net, image)
        same(fired[i], latency.from_wave(dense))
        same(potentials[i], dense[-1])
        assert decisions[i].tolist() == list((winners or [(-1, -1, -1)])[0])
        assert torch.equal(net(image), decisions[i])
    assert decisions[3].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("radius", [None, 2])
def test_the_encoder_is_its_parts(radius):
    bank = encoding.Filter([encoding.DoGKernel(3, 1, 2), encoding.GaborKernel(5, 45)], 2, 0.1, use_abs=True)
    images = torch.rand(4, 1, 9, 8)
    encode = encoding.LatencyEncoder(bank, 6, radius)
    values = bank(images) if radius is None else latency.local_normalization(bank(images), radius)
    times = samplewise(encode, images)
    same(times, latency.rank_order(values, 6))
    same(latency.to_wave(times, 6), encoding.Intensity2Latency(6, to_spike=True)(values))
    same(encoding.LatencyEncoder(bank, 300, radius)(images), latency.rank_order(values, 300))


# learning

GEOMETRIES = [{}, {"stride": 2, "padding": 1}, {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1)}, {"groups": 2}]


@st.composite
def lessons(draw, stabilizer, features=4):
    """A layer, its input, and how it learns; every sum is exact until the last sample."""
    rng = np.random.default_rng(draw(seeds))
    exact = 3 if stabilizer else 6  # soft bounds square the grid with each sample
    steps, samples = draw(st.integers(1, 6)), draw(st.integers(1, exact))
    grid = 4 if stabilizer else 64
    lower, upper = draw(st.sampled_from([(0, 1), (-1, 1), (0.25, 0.75)]))
    low, high = draw(st.sampled_from([(0, 1), (lower, upper), (-1, 2)]))
    rates = dyadic(rng, (2, features, 2), -0.5, 0.5, 4 if stabilizer else 64)
    return {
        "geometry": draw(st.sampled_from(GEOMETRIES)),
        "times": tensor(spike_times(rng, (samples, 2, 6, 5), steps, draw(kinds)), torch.uint8),
        "steps": steps,
        "weight": lambda shape: tensor(dyadic(rng, shape, low, high, grid)),
        "rates": [[tuple(float(v) for v in pair) for pair in one] for one in rates],
        "rule": {"use_stabilizer": stabilizer, "lower_bound": lower, "upper_bound": upper},
        "kwta": draw(st.integers(1, 3)),
        "radius": draw(radii),
        "inhibit": draw(st.booleans()),
        "threshold": draw(thresholds(features, low=0)),
        "labels": tensor(rng.integers(0, 2, samples), torch.int64),
        "classes": tensor(rng.integers(0, 2, features), torch.int64),
        "active": tensor(rng.random((samples, features)) < 0.7, torch.bool) if draw(st.booleans()) else None,
    }


def layer_of(lesson, weight, dtype):
    module = snn.SpikingConvolution(2, 4, 3, lesson["threshold"], time_steps=lesson["steps"], **lesson["geometry"])
    module.load_weight(weight)
    return module.to(dtype)


def answer(conv, lesson, active=None):
    """`respond` of the dense online loop."""
    sample = iter(range(len(lesson["times"])))

    def respond(wave):
        spikes, potentials = sf.fire(conv(wave), lesson["threshold"], True, latch=True)
        if active is not None:
            silent = (~active[next(sample)]).nonzero().flatten()
            spikes, potentials = sf.feature_inhibition(spikes, silent), sf.feature_inhibition(potentials, silent)
        return sf.pointwise_inhibition(potentials) if lesson["inhibit"] else potentials, spikes

    return respond


def padded(winners, kwta):
    return torch.tensor([[list(w) for w in one] + [[-1, -1, -1]] * (kwta - len(one)) for one in winners])


def without_loops():
    """Plain torch, whether numba is there or not."""
    return mock.patch.object(serving, "has_loops", lambda *_: False)


def both_ways(learn):
    """The answer of `learn()` by the loops and by plain torch."""
    with without_loops():
        plain = learn()
    return [learn(), plain]


def check_lesson(lesson, dtype, rule_of, learn, online):
    """`learn` by loops and in plain torch, against `online` on waves."""
    dense = snn.Convolution(2, 4, 3, **lesson["geometry"])
    weight = lesson["weight"](dense.weight.shape)
    dense.load_weight(weight)
    dense = dense.to(dtype)
    waves = latency.to_wave(lesson["times"], lesson["steps"], dtype)
    want = padded(online(rule_of(dense), dense, waves), lesson["kwta"])

    def run():
        module = layer_of(lesson, weight, dtype)
        kept = lesson["times"].clone()
        winners = learn(rule_of(module))
        assert torch.equal(lesson["times"], kept)
        return winners, module.weight.detach()

    for winners, learned in both_ways(run):
        assert winners.dtype == torch.int64
        same(winners, want)
        same(learned, dense.weight)


@pytest.mark.parametrize("stabilizer", [True, False])
@given(data=st.data())
@settings(max_examples=50)
def test_stdp_in_online_order(dtype, stabilizer, data):
    lesson = data.draw(lessons(stabilizer))
    check_lesson(
        lesson,
        dtype,
        lambda conv: snn.STDP(conv, lesson["rates"][0], **lesson["rule"]),
        lambda rule: rule.learn(
            lesson["times"], lesson["kwta"], lesson["radius"], pointwise_inhibition=lesson["inhibit"]
        ),
        lambda rule, conv, waves: rule.online(waves, answer(conv, lesson), lesson["kwta"], lesson["radius"]),
    )


@pytest.mark.parametrize("stabilizer", [True, False])
@given(data=st.data())
@settings(max_examples=50)
def test_rstdp_in_online_order(dtype, stabilizer, data):
    lesson = data.draw(lessons(stabilizer))
    labels, classes, active = lesson["labels"], lesson["classes"], lesson["active"]

    def judge(i, winners):
        return 0 if not winners else 1 if classes[winners[0][0]] == labels[i] else -1

    check_lesson(
        lesson,
        dtype,
        lambda conv: snn.RSTDP(conv, *lesson["rates"], **lesson["rule"]),
        lambda rule: rule.learn(
            lesson["times"],
            labels,
            classes,
            lesson["kwta"],
            lesson["radius"],
            pointwise_inhibition=lesson["inhibit"],
            active=active,
        ),
        lambda rule, conv, waves: rule.online(
            waves, answer(conv, lesson, active), judge, lesson["kwta"], lesson["radius"]
        ),
    )


@pytest.mark.parametrize("threshold", [1.0, None])
@pytest.mark.parametrize("cut", [1, 2, 3, 50])
def test_learning_a_chunk_is_learning_its_parts(threshold, cut):
    """On the grid, over many samples: the last-step loop computes potentials for a few samples ahead."""
    rng = np.random.default_rng(0)
    times = tensor(spike_times(rng, (50, 2, 6, 5), 4), torch.uint8)
    labels, classes = torch.arange(50) % 2, torch.arange(4) % 2
    weight = tensor(dyadic(rng, (4, 2, 3, 3)), torch.float32)

    def learn(size):
        module = snn.SpikingConvolution(2, 4, 3, threshold, time_steps=4)
        module.load_weight(weight)
        rule = snn.RSTDP(module, (1 / 64, -1 / 16), (-1 / 16, 1 / 64), lower_bound=0, upper_bound=1)
        parts = [rule.learn(t, y, classes) for t, y in zip(times.split(size), labels.split(size), strict=True)]
        return torch.cat(parts), module.weight.detach()

    with without_loops():
        want = learn(50)
    got = learn(cut)
    same(got[0], want[0])
    same(got[1], want[1])
    assert len(got[0][:, 0, 0].unique()) > 2


FACTORS = {
    "rate": {"rate": lambda s: torch.where(s.causal, s.ltp * (4 - (s.post_times - s.pre_times)) / 4, s.ltd)},
    "dependence": {"weight_dependence": lambda s: s.upper_bound - s.weight},
    "modulation": {"modulation": lambda s: (s.pre_times < 4) / 2 + 1},
}


@pytest.mark.parametrize("factors", FACTORS.values(), ids=FACTORS)
@pytest.mark.parametrize("threshold", [4.0, None])
def test_factors_of_ones_own(factors, threshold, dtype):
    rng = np.random.default_rng(3)
    times = tensor(spike_times(rng, (3, 2, 6, 5), 4), torch.uint8)
    lesson = {"times": times, "threshold": threshold, "inhibit": False}
    weight = tensor(dyadic(rng, (4, 2, 3, 3), per_unit=4), dtype)

    def rule_of(conv):
        conv.load_weight(weight)
        return snn.STDP(conv.to(dtype), (0.25, -0.125), False, **factors)

    dense = snn.Convolution(2, 4, 3).to(dtype)
    want = rule_of(dense).online(latency.to_wave(times, 4, dtype), answer(dense, lesson), 2, 1)
    module = snn.SpikingConvolution(2, 4, 3, threshold, time_steps=4)
    same(rule_of(module).learn(times, 2, 1, pointwise_inhibition=False), padded(want, 2))
    same(module.weight, dense.weight)
    plain = snn.Convolution(2, 4, 3).to(dtype)
    plain.load_weight(weight)
    snn.STDP(plain, (0.25, -0.125), False).online(latency.to_wave(times, 4, dtype), answer(plain, lesson), 2, 1)
    assert not torch.equal(plain.weight, dense.weight), "the factor must have counted"


@pytest.mark.parametrize("threshold", [0.75, None])
def test_the_first_sample_clamps_all_weights(threshold):
    """Also without a winner, and before the second sample is answered."""
    times = torch.tensor([3, 0], dtype=torch.uint8).view(2, 1, 1, 1)

    def learn(samples):
        module = snn.SpikingConvolution(1, 3, 1, threshold, time_steps=3)
        module.load_weight(torch.tensor([5.0, 7.0, 0.0]).view(3, 1, 1, 1))
        rule = snn.STDP(module, (-0.25, 0.25), False, lower_bound=0.5, upper_bound=1)
        return rule.learn(samples).flatten().tolist(), module.weight.flatten().tolist()

    for winners, weight in both_ways(lambda: learn(times)):
        assert winners == [-1, -1, -1, 0, 0, 0]  # of two equals the first: 5 and 7 are both 1 by then
        assert weight == [0.75, 1.0, 0.5]
    for winners, weight in both_ways(lambda: learn(times[:1])):
        assert winners == [-1, -1, -1]
        assert weight == [1.0, 1.0, 0.5]
    for winners, weight in both_ways(lambda: learn(times[1:])):
        assert winners == [1, 0, 0]
        assert weight == [1.0, 1.0, 0.5]


def test_live_rates_are_used():
    module = snn.SpikingConvolution(1, 1, 1, 0.25, time_steps=3)
    module.load_weight(torch.full((1, 1, 1, 1), 0.5))
    rule, times = snn.STDP(module, (0.25, -0.25), False), torch.zeros(1, 1, 1, 1, dtype=torch.uint8)
    rule.learning_rate[0][0].fill_(0.125)
    rule.learn(times)
    assert module.weight.item() == 0.625
    rule.update_all_learning_rate(0.25, 0)
    rule.learn(times)
    assert module.weight.item() == 0.875


# tracing


@new_tracer
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_network_compiles_without_graph_breaks(backend):
    torch._dynamo.reset()
    net, images = OnTimes(), torch.rand(3, 1, 12, 11)
    want = net(images)
    fired, potentials = net.features(net.encode(images))
    assert torch.equal(torch.compile(net, fullgraph=True, backend=backend)(images), want)
    got = torch.compile(net.features, fullgraph=True, backend=backend)(net.encode(images))
    assert torch.equal(got[0], fired)
    assert torch.equal(got[1], potentials)


@new_tracer
@pytest.mark.parametrize("threshold", [3.0, None])
def test_a_network_that_decides_compiles(threshold):
    torch._dynamo.reset()
    encoder = encoding.LatencyEncoder(encoding.Filter([torch.ones(3, 3)], 1, 0), 5)
    layer = snn.SpikingConvolution(1, 6, 5, threshold, time_steps=5)
    layer.load_weight(torch.rand(6, 1, 5, 5))
    made = models.Network(encoder, [models.Stage(layer)], torch.arange(6))
    images = torch.rand(20, 1, 8, 8) * (torch.rand(20, 1, 8, 8) > 0.9)
    assert len(made(images).unique()) > 1
    assert torch.equal(torch.compile(made, fullgraph=True, backend="eager")(images), made(images))


@new_tracer
def test_operations_compile_without_graph_breaks():
    torch._dynamo.reset()
    layer, steps = snn.SpikingConvolution(2, 4, 3, 2.0, time_steps=5), 5

    def run(intensities):
        times = latency.rank_order(latency.local_normalization(intensities, 1), steps)
        times = latency.from_wave(latency.to_wave(latency.pad(times, (1, 0, 0, 1), steps), steps))
        fired = layer.respond(times)
        fired = latency.feature_inhibition(
            *latency.pointwise_inhibition(*fired, time_steps=steps), [1], time_steps=steps
        )
        return latency.k_winners(*fired, 2, 1, time_steps=steps)

    x = torch.rand(3, 2, 6, 6)
    assert torch.equal(torch.compile(run, fullgraph=True, backend="eager")(x), run(x))


@new_tracer
def test_a_network_exports():
    net, images = OnTimes(), torch.rand(3, 1, 12, 11)
    exported = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},))
    targets = {str(node.target) for node in exported.graph.nodes}
    assert {"spyketorch.convolution_fire.default", "spyketorch.pooling.default"} <= targets
    assert torch.equal(exported.module()(images), net(images))
    more = torch.rand(5, 1, 12, 11)
    assert torch.equal(exported.module()(more), net(more))


@pytest.fixture
def there(fake_devices):
    """A mode in which new tensors are on a (fake) CUDA device."""
    with FakeTensorMode(), torch.device("cuda"):
        yield


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("threshold", [1.0, None])
def test_times_stay_on_their_device(there, batch, threshold):
    x = torch.zeros(*batch, 2, 6, 7, dtype=torch.uint8)
    layer = snn.SpikingConvolution(2, 4, 3, threshold, time_steps=5, padding=1, groups=2)
    fired, potentials = layer.respond(x)
    inhibited = latency.pointwise_inhibition(fired, potentials, time_steps=5)
    answers = {
        (*batch, 4, 6, 7): [fired, potentials, *inhibited, layer(x)],
        (*batch, 2, 3): [latency.k_winners(*inhibited, 2, 1, time_steps=5)],
        (*batch, 4, 3, 4): [
            latency.pooling(fired, 2, (2, 2), (0, 1)),
            latency.pooling(fired, 2, (2, 2), (0, 1), earliest=2),
        ],
        (*batch, 2, 7, 10): [latency.pad(x, (1, 2, 1, 0), 5)],
        (*batch, 5, 2, 6, 7): [latency.to_wave(x, 5)],
        (*batch, 2, 6, 7): [
            latency.from_wave(latency.to_wave(x, 5)),
            latency.rank_order(x.float(), 5),
            latency.local_normalization(x.float(), 1),
        ],
    }
    if batch:
        answers[*batch, 4, 6, 7] += latency.feature_inhibition(*inhibited, [1], time_steps=5)
        answers[*batch, 4, 6, 7] += latency.convolution_fire(
            x, layer.weight, torch.ones(4), time_steps=5, padding=1, groups=2
        )
    for shape, tensors in answers.items():
        for t in tensors:
            assert t.device.type == "cuda"
            assert t.shape == shape


@pytest.mark.parametrize("threshold", [1.0, None])
def test_learning_there_reads_nothing_back(there, threshold):
    """A fake tensor has no values: to read one is an error."""
    layer = snn.SpikingConvolution(2, 4, 3, threshold, time_steps=5)
    x = torch.zeros(3, 2, 6, 7, dtype=torch.uint8)
    assert snn.STDP(layer, (0.5, -0.5)).learn(x, 2, 1).shape == (3, 2, 3)
    rule = snn.RSTDP(layer, (0.5, -0.5), (-0.5, 0.5))
    labels, classes = torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    active = torch.ones(3, 4, dtype=torch.bool)
    for options in ({}, {"active": active}, {"pointwise_inhibition": True, "kwta": 2}):
        winners = rule.learn(x, labels, classes, **options)
        assert winners.device.type == "cuda"
    assert layer.weight.device.type == "cuda"


# errors


def layer_for_errors(**options):
    return snn.SpikingConvolution(2, 4, 3, 1.0, time_steps=5, **options)


X = torch.zeros(3, 2, 6, 7, dtype=torch.uint8)
P = torch.zeros(3, 2, 6, 7)
LABELS, CLASSES = torch.zeros(3, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)


def rstdp(*arguments, **options):
    return snn.RSTDP(layer_for_errors(), (0.5, -0.5), (-0.5, 0.5)).learn(*arguments, **options)


def stdp(*arguments, **options):
    return snn.STDP(layer_for_errors(), (0.5, -0.5)).learn(*arguments, **options)


ERRORS = {
    "rank": (
        lambda: latency.pooling(X[0, 0], 2),
        ValueError,
        r"`times` must be of shape \(C, H, W\) or \(N, C, H, W\)",
    ),
    "rank-5": (lambda: layer_for_errors()(X[None]), ValueError, r"`times` must be of shape.*\(1, 3, 2, 6, 7\)"),
    "empty": (lambda: latency.to_wave(X[:0], 5), ValueError, "`times`.*at least 1"),
    "float": (lambda: layer_for_errors()(P), TypeError, "`times` must be first-spike times of an integer.*float32"),
    "bool": (lambda: latency.pooling(P.bool(), 2), TypeError, "`times` must be first-spike times"),
    "list": (lambda: latency.to_wave([[[1]]], 5), TypeError, r"`times` must be a torch\.Tensor"),
    "channels": (lambda: layer_for_errors()(X[:, :1]), ValueError, "`times` must have 2 features.*(3, 1, 6, 7)"),
    "groups": (lambda: layer_for_errors(groups=2)(X[:, :1]), ValueError, "`times` must have 2 features.*in 2 groups"),
    "small": (lambda: layer_for_errors()(X[..., :2]), ValueError, "`kernel_size` must fit.*6 x 2"),
    "window": (lambda: latency.pooling(X, 9), ValueError, "`kernel_size` must fit"),
    "padding": (lambda: latency.pooling(X, 2, 1, 2), ValueError, "`padding` must be at most half"),
    "earliest": (lambda: latency.pooling(X, 2, earliest=5), ValueError, "`earliest` must be at most 4"),
    "earliest zero": (lambda: latency.pooling(X, 2, earliest=0), ValueError, "`earliest` must be an integer of at l"),
    "stride": (lambda: latency.pooling(X, 2, 0), ValueError, "`stride` must be an integer of at least 1"),
    "pad": (lambda: latency.pad(X, (1, 2), 5), ValueError, "`pad` must be four integers"),
    "pad-steps": (lambda: latency.pad(X, (1, 2, 1, 1), 0), ValueError, "`time_steps`"),
    "weight": (lambda: latency.convolution_fire(X, P[0], 1, time_steps=5), ValueError, "`weight` must be of shape"),
    "threshold": (
        lambda: latency.convolution_fire(X, torch.ones(4, 2, 3, 3), torch.ones(3), time_steps=5),
        ValueError,
        r"`threshold` must be a number or one per feature, \(4,\)",
    ),
    "threshold-nan": (
        lambda: latency.convolution_fire(X, torch.ones(4, 2, 3, 3), float("nan"), time_steps=5),
        ValueError,
        "`threshold` must be a finite number",
    ),
    "layer-threshold": (
        lambda: snn.SpikingConvolution(2, 4, 3, torch.ones(2), time_steps=5),
        ValueError,
        "`threshold` must be a number or one per feature",
    ),
    "layer-steps": (
        lambda: snn.SpikingConvolution(2, 4, 3, 1.0, time_steps=0),
        ValueError,
        "`time_steps` must be an integer of at least 1; got 0",
    ),
    "pair": (
        lambda: latency.k_winners(X, P[0], time_steps=5),
        ValueError,
        r"`potentials` must have the shape of `times`, \(3, 2, 6, 7\)",
    ),
    "pair-inhibition": (lambda: latency.pointwise_inhibition(X, P[0], time_steps=5), ValueError, "`potentials`"),
    "pair-swapped": (lambda: latency.pointwise_inhibition(P, X, time_steps=5), TypeError, "`times`.*integer"),
    "feature": (lambda: latency.feature_inhibition(X, P, [2], time_steps=5), IndexError, "inhibited_features"),
    "kwta": (lambda: latency.k_winners(X, P, 0, time_steps=5), ValueError, "`kwta` must be an integer of at least 1"),
    "radius": (lambda: latency.k_winners(X, P, 1, -1, time_steps=5), ValueError, "`inhibition_radius`"),
    "intensities": (lambda: latency.rank_order(P / 0, 5), ValueError, "`intensities` must be finite"),
    "rank-order": (lambda: latency.rank_order(P[0, 0], 5), ValueError, "`intensities` must be of shape"),
    "normalization": (lambda: latency.local_normalization(P, -1), ValueError, "`normalization_radius`"),
    "encoder": (lambda: encoding.LatencyEncoder(torch.nn.Identity(), 0), ValueError, "`time_steps`"),
    "encoder-radius": (
        lambda: encoding.LatencyEncoder(torch.nn.Identity(), 5, -1),
        ValueError,
        "`normalization_radius`",
    ),
    "learn-plain": (
        lambda: snn.STDP(snn.Convolution(2, 4, 3), (0.5, -0.5)).learn(X),
        TypeError,
        r"`conv_layer` must be an snn\.SpikingConvolution",
    ),
    "learn-rank": (lambda: stdp(X[0]), ValueError, r"`times` must be a batch of shape \(N, C, H, W\)"),
    "learn-float": (lambda: stdp(P), TypeError, "`times`.*integer"),
    "learn-channels": (lambda: stdp(X[:, :1]), ValueError, "`times` must have 2 features"),
    "learn-kwta": (lambda: stdp(X, 0), ValueError, "`kwta`"),
    "learn-radius": (lambda: stdp(X, 1, -1), ValueError, "`inhibition_radius`"),
    "labels": (lambda: rstdp(X, LABELS[:2], CLASSES), ValueError, r"`labels` must be 3 integers; got.*\(2,\)"),
    "labels-float": (lambda: rstdp(X, LABELS.float(), CLASSES), ValueError, "`labels` must be 3 integers"),
    "labels-rank": (lambda: rstdp(X, LABELS[:, None], CLASSES), ValueError, "`labels` must be 3 integers"),
    "classes": (lambda: rstdp(X, LABELS, CLASSES[:3]), ValueError, "`classes` must be 4 integers"),
    "active": (
        lambda: rstdp(X, LABELS, CLASSES, active=torch.ones(4, 3, dtype=torch.bool)),
        ValueError,
        r"`active` must be a bool tensor of shape \(3, 4\)",
    ),
    "active-type": (lambda: rstdp(X, LABELS, CLASSES, active=torch.ones(3, 4)), (TypeError, ValueError), "`active`"),
    "active-list": (lambda: rstdp(X, LABELS, CLASSES, active=[[True] * 4] * 3), (TypeError, ValueError), "`active`"),
}
for _name, _call in {
    "to_wave": lambda steps: latency.to_wave(X, steps),
    "convolution_fire": lambda steps: latency.convolution_fire(X, torch.ones(4, 2, 3, 3), 1, time_steps=steps),
    "rank_order": lambda steps: latency.rank_order(P, steps),
}.items():
    ERRORS[f"steps-{_name}"] = (lambda call=_call: call(0), ValueError, "`time_steps` must be an integer of at least 1")
    ERRORS[f"steps-{_name}-float"] = (lambda call=_call: call(5.0), TypeError, "`time_steps` must be an integer")


@pytest.fixture
def errors_there(device, monkeypatch):
    """The errors with their tensors, which are made as tests are collected, on the device of the tests."""
    for name in ("X", "P", "LABELS", "CLASSES"):
        monkeypatch.setitem(globals(), name, globals()[name].to(device))
    return ERRORS


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_the_argument(name, errors_there, device):
    call, kind, message = errors_there[name]
    with validation(device.type != "cpu"), pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("name", ERRORS)
def test_validation_reads_where_reading_waits(name, errors_there):
    """What is refused on a CPU is refused on another device, too, where it is asked for."""
    call, kind, message = errors_there[name]
    with mock.patch.object(check, "free_to_read", lambda _: False), validation(), pytest.raises(kind, match=message):
        call()


def test_an_error_leaves_the_weight():
    module = layer_for_errors()
    before = module.weight.clone()
    rule = learning.RSTDP(module, (0.5, -0.5), (-0.5, 0.5))
    for labels, classes in ((LABELS[:2], CLASSES), (LABELS, CLASSES[:2])):
        with pytest.raises(ValueError, match="integers"):
            rule.learn(X, labels, classes)
    assert torch.equal(module.weight, before)


def test_times_too_large_for_their_type():
    """uint8 cannot say silent at T = 300."""
    weight = torch.zeros(1, 2, 3, 3)
    try:
        fired, _ = latency.convolution_fire(X, weight, 1.0, time_steps=300)
    except (TypeError, ValueError) as error:
        assert "time" in str(error)
    else:
        assert fired.unique().tolist() == [300]
