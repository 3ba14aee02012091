"""Operations on dense waves against the oracle."""

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    close,
    dyadic,
    intensities,
    kinds,
    layers,
    potentials,
    same,
    samplewise,
    seeds,
    spike_times,
    tensor,
    thresholded,
    to_wave,
    waves,
)

import spyketorch.functional as sf
from spyketorch import latency, snn

contiguous = st.booleans()


# pad and pooling


@given(wave=potentials(), pad=st.tuples(*[st.integers(0, 3)] * 4), value=st.sampled_from([0, 1, -2.5]), c=contiguous)
def test_pad(dtype, wave, pad, value, c):
    x = tensor(wave, dtype, c)
    out = sf.pad(x, pad, value)
    same(out, ref.pad(wave, pad, value))
    same(x, wave)
    assert out.dtype == dtype


@given(wave=waves(), dtype=st.sampled_from([torch.uint8, torch.bool, torch.int16]))
def test_pad_keeps_integer_waves(wave, dtype):
    out = sf.pad(tensor(wave, dtype), (1, 0, 2, 1))
    assert out.dtype == dtype
    same(out, ref.pad(wave, (1, 0, 2, 1)))


@st.composite
def windows(draw, wave):
    """kernel_size, stride, padding of a pooling that fits the wave."""
    kernel = tuple(draw(st.integers(1, min(3, n))) for n in wave.shape[-2:])
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    stride = draw(st.sampled_from([None, 1, 2, (1, 3)]))
    if kernel[0] == kernel[1] and padding[0] == padding[1] and draw(st.booleans()):
        return kernel[0], stride, padding[0]
    return kernel, stride, padding


@given(data=st.data(), wave=potentials(), c=contiguous)
def test_pooling(dtype, data, wave, c):
    kernel, stride, padding = data.draw(windows(wave))
    x = tensor(wave, dtype, c)
    same(sf.pooling(x, kernel, stride, padding), ref.pooling(wave, kernel, stride, padding))
    same(x, wave)


@given(data=st.data(), wave=waves(), dtype=st.sampled_from([torch.uint8, torch.bool]), c=contiguous)
def test_pooling_of_integer_waves(data, wave, dtype, c):
    kernel, stride, padding = data.draw(windows(wave))
    out = sf.pooling(tensor(wave, dtype, c), kernel, stride, padding)
    assert out.dtype == dtype
    same(out, ref.pooling(wave, kernel, stride, padding))


@given(data=st.data(), batch=potentials(batched=True))
def test_pad_and_pooling_batched(data, batch):
    kernel, stride, padding = data.draw(windows(batch))
    samplewise(lambda x: sf.pooling(x, kernel, stride, padding), tensor(batch))
    samplewise(lambda x: sf.pad(x, (1, 2, 0, 1), 3), tensor(batch))


# convolution


@given(layer=layers(low=-1), dtype_in=st.sampled_from([None, torch.uint8, torch.bool]), c=contiguous)
def test_convolution(dtype, layer, dtype_in, c):
    x, weight = tensor(layer.wave, dtype_in or dtype, c), tensor(layer.weight, dtype, c)
    out = sf.convolution(x, weight, **layer.geometry)
    assert out.dtype == dtype
    same(out, ref.convolution(layer.wave, layer.weight, **layer.geometry))
    same(x, layer.wave)


@given(layer=layers(low=-1, batched=True))
def test_convolution_batched(dtype, layer):
    weight = tensor(layer.weight, dtype)
    samplewise(lambda x: sf.convolution(x, weight, **layer.geometry), tensor(layer.wave, dtype))


# fire and threshold

thresholds = st.sampled_from([None, 0, 0.25, 1, 100, "features"])


def of_threshold(threshold, features, dtype=torch.float64):
    """The threshold for the library and for the oracle."""
    if threshold != "features":
        return threshold, threshold
    values = np.arange(features) / 4
    return tensor(values, dtype), values


@given(p=potentials(), threshold=thresholds, latch=st.booleans(), c=contiguous)
def test_fire(dtype, p, threshold, latch, c):
    given_threshold, threshold = of_threshold(threshold, p.shape[1], dtype)
    x = tensor(p, dtype, c)
    spikes, kept = ref.fire(p, threshold, latch)
    got, got_kept = sf.fire(x, given_threshold, True, latch=latch)
    same(got, spikes)
    same(got_kept, kept)
    assert got.dtype == got_kept.dtype == dtype
    same(sf.fire(x, given_threshold, latch=latch), spikes)
    if not latch:
        same(sf.threshold(x, given_threshold), kept)
    same(x, p)


@given(p=potentials(), threshold=st.sampled_from([None, -0.5, -0.0, 0, 0.25, 1]))
def test_both_answers_of_fire_agree(p, threshold):
    """Below a negative threshold there are potentials that are negative and fire; NaN never fires."""
    x = tensor(p)
    x[:, :, 0, 0] = float("nan")
    with_gradient = x.clone().requires_grad_()
    want = (x > threshold).float() if threshold is not None else torch.cat((x[:-1] * 0 > 0, x[-1:] > 0)).float()
    for potentials_ in (x, with_gradient):
        spikes, kept = sf.fire(potentials_, threshold, True)
        same(spikes, want)
        assert not spikes.requires_grad and kept.requires_grad == potentials_.requires_grad
        same(sf.fire(potentials_, threshold), spikes)


@given(p=potentials(), threshold=thresholds, latch=st.booleans())
def test_fire_in_place(dtype, p, threshold, latch):
    given_threshold, threshold = of_threshold(threshold, p.shape[1], dtype)
    spikes, kept = ref.fire(p, threshold, latch)
    x = tensor(p, dtype)
    assert sf.fire_(x, given_threshold, latch=latch) is x
    same(x, spikes)
    if not latch:
        x = tensor(p, dtype)
        assert sf.threshold_(x, given_threshold) is x
        same(x, kept)


@given(p=potentials(), threshold=thresholds)
def test_in_place_on_a_view_changes_only_the_view(p, threshold):
    threshold, expected = of_threshold(threshold, p.shape[1])
    whole = tensor(np.stack([p, p]))
    view = whole[1]
    assert sf.threshold_(view, threshold) is view
    same(whole, np.stack([p, ref.fire(p, expected)[1]]))


@given(batch=potentials(batched=True), threshold=thresholds, latch=st.booleans())
def test_fire_batched(batch, threshold, latch):
    threshold, _ = of_threshold(threshold, batch.shape[2])
    samplewise(lambda x: sf.fire(x, threshold, latch=latch), tensor(batch))
    samplewise(lambda x: sf.fire(x, threshold, True, latch=latch)[1], tensor(batch))
    samplewise(lambda x: sf.threshold(x, threshold), tensor(batch))
    x = tensor(batch)
    assert sf.fire_(x, threshold) is x
    same(x, sf.fire(tensor(batch), threshold))


def test_the_threshold_itself_does_not_fire():
    p = torch.tensor([1.0, 1.0, 1.25]).reshape(3, 1, 1, 1)
    assert sf.fire(p, 1).flatten().tolist() == [0, 0, 1]
    assert sf.fire(torch.full((2, 1, 1, 1), 0.0)).sum() == 0


@given(p=potentials(), threshold=thresholds)
def test_latched_waves_are_cumulative(p, threshold):
    threshold, _ = of_threshold(threshold, p.shape[1])
    spikes, kept = sf.fire(tensor(p), threshold, True, latch=True)
    assert (spikes.diff(dim=0) >= 0).all()
    assert (kept.diff(dim=0) >= 0).all()
    same(kept.sign(), spikes)


# inhibition


@given(p=thresholded(), c=contiguous)
def test_pointwise_inhibition(dtype, p, c):
    x = tensor(p, dtype, c)
    out = sf.pointwise_inhibition(x)
    same(out, ref.pointwise_inhibition(p))
    same(x, p)
    assert out.dtype == dtype


@given(p=thresholded())
def test_pointwise_inhibition_of_potentials_that_carry_a_gradient(p):
    """And of a place that is NaN at some step, where nothing fires then: they take another way to the same answer."""
    x = tensor(p)
    x[-1, :, 0, 0] = float("nan")
    by_torch = sf.pointwise_inhibition(x.clone().requires_grad_())
    by_torch.nan_to_num().sum().backward()
    assert torch.equal(sf.pointwise_inhibition(x).nan_to_num(7), by_torch.detach().nan_to_num(7))


@given(p=thresholded())
def test_one_feature_survives_at_each_position(p):
    out = sf.pointwise_inhibition(tensor(p))
    assert ((out > 0).any(dim=0).sum(dim=0) == torch.tensor((p > 0).any(axis=(0, 1)).astype(int))).all()
    same(sf.pointwise_inhibition(out), out)


@given(batch=thresholded(batched=True))
def test_pointwise_inhibition_batched(batch):
    samplewise(sf.pointwise_inhibition, tensor(batch))


@given(data=st.data(), p=potentials(), kind=st.sampled_from(["list", "tuple", "array", "tensor", "mask", "range"]))
def test_feature_inhibition(dtype, data, p, kind):
    features = p.shape[1]
    chosen = data.draw(st.lists(st.integers(0, features - 1), max_size=features))
    if kind == "range":
        chosen = list(range(len(chosen)))
    mask = torch.tensor([f in chosen for f in range(features)])
    make = {"array": lambda c: np.array(c, int), "tensor": lambda c: torch.tensor(c, dtype=torch.int64)}
    make |= {"list": list, "tuple": tuple, "mask": lambda c: mask, "range": lambda c: range(len(c))}
    x = tensor(p, dtype)
    same(sf.feature_inhibition(x, make[kind](chosen)), ref.feature_inhibition(p, chosen))
    same(x, p)
    assert sf.feature_inhibition_(x, make[kind](chosen)) is x
    same(x, ref.feature_inhibition(p, chosen))


@given(data=st.data(), batch=potentials(batched=True))
def test_feature_inhibition_batched(data, batch):
    some = st.lists(st.integers(0, batch.shape[2] - 1), max_size=3)
    flat, nested = data.draw(some), [data.draw(some) for _ in batch]
    x = tensor(batch)
    same(sf.feature_inhibition(x, flat), np.stack([ref.feature_inhibition(p, flat) for p in batch]))
    want = np.stack([ref.feature_inhibition(p, f) for p, f in zip(batch, nested, strict=True)])
    same(sf.feature_inhibition(x, nested), want)
    same(x, batch)
    assert sf.feature_inhibition_(x, nested) is x
    same(x, want)


# winners


def rows(winners, kwta, potentials):
    """Winners of one sample as the rows of k_winners: no more than there are features."""
    return [list(w) for w in winners] + [[-1, -1, -1]] * (min(kwta, potentials.shape[-3]) - len(winners))


kwtas, radii = st.integers(1, 6), st.integers(0, 3)


@given(p=thresholded(), kwta=kwtas, radius=radii, with_spikes=st.booleans(), c=contiguous)
def test_get_k_winners(dtype, p, kwta, radius, with_spikes, c):
    x, spikes = tensor(p, dtype, c), tensor(np.sign(p), dtype, c) if with_spikes else None
    want = ref.get_k_winners(p, kwta, radius)
    got = sf.get_k_winners(x, kwta, radius, spikes)
    assert got == want
    assert all(type(w) is tuple and [type(i) for i in w] == [int] * 3 for w in got)
    fast = sf.k_winners(x, kwta, radius, spikes)
    assert fast.dtype == torch.int64
    assert fast.shape == (min(kwta, p.shape[1]), 3)
    assert fast.tolist() == rows(want, kwta, p)
    same(x, p)


@given(p=thresholded(), kwta=kwtas, radius=radii)
def test_winners_respect_k_features_and_radius(p, kwta, radius):
    winners = sf.get_k_winners(tensor(p), kwta, radius)
    assert len(winners) <= kwta
    assert len({f for f, _, _ in winners}) == len(winners)
    assert all((p[:, f, y, x] > 0).any() for f, y, x in winners)
    for i, (_, y, x) in enumerate(winners):
        assert radius == 0 or all(max(abs(y - b), abs(x - c)) > radius for _, b, c in winners[:i])


@given(seed=seeds, p=potentials(), kwta=kwtas, radius=radii)
def test_winners_of_waves_that_are_not_cumulative(seed, p, kwta, radius):
    p = np.abs(p)
    spikes = np.random.default_rng(seed).integers(0, 2, p.shape).astype(float)
    for given_spikes in (None, spikes):
        want = ref.get_k_winners(p, kwta, radius, given_spikes)
        given_spikes = None if given_spikes is None else tensor(given_spikes)
        assert sf.get_k_winners(tensor(p), kwta, radius, given_spikes) == want
        assert sf.k_winners(tensor(p), kwta, radius, given_spikes).tolist() == rows(want, kwta, p)


@given(p=thresholded(), kind=st.sampled_from([torch.uint8, torch.bool]))
def test_winners_from_integer_spikes(p, kind):
    assert sf.get_k_winners(tensor(p), 3, 1, tensor(np.sign(p), kind)) == ref.get_k_winners(p, 3, 1)


@given(batch=thresholded(batched=True), kwta=kwtas, radius=radii, with_spikes=st.booleans())
def test_winners_batched(batch, kwta, radius, with_spikes):
    x, spikes = tensor(batch), tensor(np.sign(batch)) if with_spikes else None
    want = [ref.get_k_winners(p, kwta, radius) for p in batch]
    assert sf.get_k_winners(x, kwta, radius, spikes) == want
    fast = sf.k_winners(x, kwta, radius, spikes)
    assert fast.shape == (len(batch), min(kwta, batch.shape[2]), 3)
    assert fast.tolist() == [rows(w, kwta, batch) for w in want]
    samplewise(lambda p: sf.k_winners(p, kwta, radius), x)


@pytest.mark.parametrize("huge", [10**6, 10**8, 2**31, 2**63, 10**30])
def test_work_is_bounded_by_what_can_win(huge):
    """Asking for more winners than there can be, or a radius beyond the map, gives all there are, and no more rows."""
    p = torch.zeros(3, 4, 5, 6)
    p[1:, 0, 1, 1], p[:, 2, 4, 5], p[2:, 3, 0, 0] = 2.0, 1.0, 3.0
    all_of_them = [(2, 4, 5), (0, 1, 1), (3, 0, 0)]
    assert sf.get_k_winners(p, huge) == all_of_them
    assert sf.k_winners(p, huge).tolist() == [*map(list, all_of_them), [-1, -1, -1]]
    assert sf.get_k_winners(p, huge, huge) == all_of_them[:1]
    assert sf.k_winners(p, huge, huge)[:, 0].tolist() == [2, -1, -1, -1]
    times = latency.from_wave(p.sign())
    assert latency.get_k_winners(times, p[2], huge, time_steps=3) == all_of_them
    assert latency.k_winners(times, p[2], huge, huge, time_steps=3)[:, 0].tolist() == [2, -1, -1, -1]
    layer = snn.SpikingConvolution(4, 3, 2, 1.0, time_steps=3)
    assert layer.winners(times, huge, huge).shape == (3, 3)
    assert snn.STDP(layer, (0.1, -0.1)).learn(times[None], huge, huge).shape == (1, 3, 3)
    conv = snn.Convolution(1, 4, (2, 3))
    snn.STDP(conv, (0.1, -0.1))(torch.ones(3, 1, 6, 8), p, p.sign(), kwta=huge, inhibition_radius=huge)


def test_a_large_potential_hides_small_differences():
    p = np.zeros((4, 3, 1, 2))
    p[:, 0, 0, 0] = 1.0
    p[:, 1, 0, 1] = 2.0
    assert sf.get_k_winners(tensor(p, torch.float32), 3) == [(1, 0, 1), (0, 0, 0)]
    p[:, 2, 0, 0] = 2.0**27
    expected = [(2, 0, 0), (0, 0, 0), (1, 0, 1)]
    assert ref.get_k_winners(p, 3) == expected
    assert sf.get_k_winners(tensor(p, torch.float32), 3) == expected
    assert sf.k_winners(tensor(p, torch.float32), 3).tolist() == [list(w) for w in expected]


def test_winners_by_time_then_potential_then_index():
    p = np.zeros((3, 4, 1, 2))
    p[2:, 0, 0, 0] = 9
    p[1:, 1, 0, 1] = 1
    p[1:, 2, 0, 0] = 2
    p[1:, 3, 0, 1] = 2
    assert sf.get_k_winners(tensor(p), 9) == [(2, 0, 0), (3, 0, 1), (1, 0, 1), (0, 0, 0)]
    assert sf.get_k_winners(tensor(p), 9, 1) == [(2, 0, 0)]
    assert sf.get_k_winners(tensor(p)) == [(2, 0, 0)]
    assert sf.get_k_winners(tensor(p * 0), 9) == []


def test_winners_of_potentials_that_carry_a_gradient():
    p = torch.ones(2, 1, 1, 1, requires_grad=True)
    assert sf.get_k_winners(p) == [(0, 0, 0)]
    assert sf.k_winners(p).tolist() == [[0, 0, 0]]


def test_a_spike_without_potential_cannot_win():
    p, spikes = torch.zeros(2, 2, 1, 1), torch.ones(2, 2, 1, 1)
    p[1, 1] = 1.0
    assert sf.get_k_winners(p, 2, 0, spikes) == []
    p[0, 1] = 1.0
    assert sf.get_k_winners(p, 2, 0, spikes) == [(1, 0, 0)]


# operations on intensities


@given(x=intensities(), percents=st.lists(st.sampled_from([0.125, 0.25, -0.5]), min_size=1, max_size=3), c=contiguous)
def test_intensity_lateral_inhibition(dtype, x, percents, c):
    kernel = ref.generate_inhibition_kernel(percents)
    given_x = tensor(x[None], dtype, c)
    out = sf.intensity_lateral_inhibition(given_x, tensor(kernel[None, None], dtype))
    same(out, ref.intensity_lateral_inhibition(x, kernel)[None])
    same(given_x, x[None])


@given(x=intensities(), seed=seeds, radius=st.integers(0, 2))
def test_intensity_lateral_inhibition_with_any_kernel(x, seed, radius):
    kernel = dyadic(np.random.default_rng(seed), (2 * radius + 1, 2 * radius + 1), -1, 1, 8)
    out = sf.intensity_lateral_inhibition(tensor(x[None]), tensor(kernel[None, None]))
    same(out, ref.intensity_lateral_inhibition(x, kernel)[None])


@given(batch=intensities(batched=True))
def test_intensity_lateral_inhibition_batched(batch):
    kernel = tensor(ref.generate_inhibition_kernel([0.25, 0.125])[None, None])
    samplewise(lambda x: sf.intensity_lateral_inhibition(x, kernel), tensor(batch))


@given(x=intensities(), radius=st.integers(0, 4), eps=st.sampled_from([1e-12, 0.5]), c=contiguous)
def test_local_normalization(dtype, x, radius, eps, c):
    given_x = tensor(x[None], dtype, c)
    out = sf.local_normalization(given_x, radius, eps)
    assert out.dtype == dtype
    close(out, ref.local_normalization(x, radius, eps)[None])
    same(given_x, x[None])


@given(batch=intensities(batched=True), radius=st.integers(0, 4))
def test_local_normalization_batched(batch, radius):
    samplewise(lambda x: sf.local_normalization(x, radius), tensor(batch), close)


# whole layers


@given(layer=layers(batched=True, low=-1), kind=kinds, radius=radii, seed=seeds)
def test_a_batch_is_its_samples_through_a_whole_layer(layer, kind, radius, seed):
    steps, shape = layer.wave.shape[1], layer.wave[:, 0].shape
    wave = to_wave(spike_times(np.random.default_rng(seed), shape, steps, kind), steps)

    def network(x):
        p = sf.convolution(x, tensor(layer.weight, torch.float32), **layer.geometry)
        _, kept = sf.fire(p, 0.5, True, latch=True)
        return sf.k_winners(sf.pointwise_inhibition(kept), 3, radius)

    samplewise(network, tensor(wave, torch.float32))


# types

EVERY_TYPE = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool]


@pytest.mark.parametrize("dtype", EVERY_TYPE, ids=str)
@pytest.mark.parametrize("latch", [False, True])
def test_every_type_answers_as_float64(dtype, latch):
    """Small integers, which every type holds (bool: 0 and 1): the same answers, in the type that came."""
    rng = np.random.default_rng(0)
    largest = 1 if dtype == torch.bool else 9
    for seed in range(5):
        exact = torch.tensor(to_potentials_of(rng, seed, largest))
        given = exact.to(dtype)
        assert torch.equal(given.double(), exact)
        for threshold in (0, 0.5, 3, None, torch.tensor([0.5, 2, 0])):
            for got, want in zip(
                sf.fire(given, threshold, True, latch=latch), sf.fire(exact, threshold, True, latch=latch), strict=True
            ):
                assert got.dtype == dtype
                same(got.double(), want)
            same(sf.threshold(given, threshold).double(), sf.threshold(exact, threshold))
        for operation in (
            sf.pointwise_inhibition,
            lambda x: sf.pooling(x, 2, 1, 1),
            lambda x: sf.pad(x, (1, 0, 2, 1)),
            lambda x: sf.feature_inhibition(x, [1]),
        ):
            assert operation(given).dtype == dtype
            same(operation(given).double(), operation(exact))
            same(operation(given[None]).double(), operation(exact[None]))
        for spikes in (None, given.sign() if dtype != torch.bool else given):
            winners = sf.get_k_winners(exact, 3, 1, None if spikes is None else exact.sign())
            assert sf.get_k_winners(given, 3, 1, spikes) == winners
            assert [tuple(w) for w in sf.k_winners(given, 3, 1, spikes).tolist() if w[0] >= 0] == winners


def to_potentials_of(rng, seed, largest):
    times = spike_times(rng, (3, 5, 4), 4, ["random", "few", "early", "full", "silent"][seed])
    return to_wave(times, 4) * rng.integers(1, largest + 1, times.shape)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_score_of_winners_does_not_overflow(dtype):
    """T * the largest potential is beyond float16; 60,000 is not."""
    p = torch.zeros(5, 3, 2, 2, dtype=dtype)
    p[:, 0, 0, 0], p[:, 1, 1, 1], p[1:, 2, 0, 1] = 30000, 40000, 60000
    assert sf.get_k_winners(p, 3) == [(1, 1, 1), (0, 0, 0), (2, 0, 1)]
    assert sf.k_winners(p, 3)[:, 0].tolist() == [1, 0, 2]
    assert not sf.local_normalization(torch.zeros(1, 4, 4, dtype=dtype), 1).isnan().any()


def test_large_integers_are_told_apart():
    p = torch.tensor([2**24, 2**24 + 1]).view(1, 1, 1, 2)
    assert sf.fire(p, 2**24).flatten().tolist() == [0, 1]
    assert sf.threshold(p, 2**24).flatten().tolist() == [0, 2**24 + 1]
