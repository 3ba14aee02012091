"""Hypothesis strategies and small helpers. Values lie on the grid n / 64: every sum is exact, ties are common."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

sizes = st.integers(1, 5)
steps = st.integers(1, 5)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(["random", "random", "early", "few", "silent", "full"])


def dyadic(rng, shape, low=0.0, high=1.0, per_unit=64):
    """Random multiples of 1 / per_unit from low to high."""
    return rng.integers(round(low * per_unit), round(high * per_unit) + 1, shape) / per_unit


def spike_times(rng, shape, time_steps, kind="random"):
    """First-spike times; T is silent."""
    if kind == "silent":
        return np.full(shape, time_steps)
    if kind == "full":
        return np.zeros(shape, int)
    if kind == "early":
        return rng.integers(0, 2, shape) * time_steps
    times = rng.integers(0, time_steps + 1, shape)
    return np.where(rng.random(shape) < 0.9, time_steps, times) if kind == "few" else times


def to_wave(times, time_steps):
    """Cumulative 0/1 wave `(..., T, C, H, W)` of times `(..., C, H, W)`."""
    clock = np.arange(time_steps)[:, None, None, None]
    return (times[..., None, :, :, :] <= clock).astype(np.float64)


def to_potentials(rng, times, time_steps, levels=3):
    """Thresholded potentials: 0 before the spike, then a few coarse values that never fall."""
    first = rng.integers(1, levels + 1, times.shape)[..., None, :, :, :] / 4
    growth = np.cumsum(rng.integers(0, 2, (*times.shape[:-3], time_steps, *times.shape[-3:])), axis=-4) / 64
    return to_wave(times, time_steps) * (first + growth)


@st.composite
def shapes(draw, batched=False):
    """Shape of times, `(C, H, W)` or `(N, C, H, W)`."""
    shape = (draw(st.integers(1, 4)), draw(sizes), draw(sizes))
    return (draw(st.integers(1, 3)), *shape) if batched else shape


@st.composite
def waves(draw, batched=False):
    """Cumulative spike waves."""
    time_steps, rng = draw(steps), np.random.default_rng(draw(seeds))
    return to_wave(spike_times(rng, draw(shapes(batched)), time_steps, draw(kinds)), time_steps)


@st.composite
def potentials(draw, batched=False):
    """Raw potentials of either sign, not cumulative, with many equal values."""
    rng, shape = np.random.default_rng(draw(seeds)), draw(shapes(batched))
    return dyadic(rng, (*shape[:-3], draw(steps), *shape[-3:]), -1, 2, draw(st.sampled_from([1, 4, 64])))


@st.composite
def thresholded(draw, batched=False):
    """Thresholded potentials of a cumulative wave, with many ties in time and value."""
    time_steps, rng = draw(steps), np.random.default_rng(draw(seeds))
    times = spike_times(rng, draw(shapes(batched)), time_steps, draw(kinds))
    return to_potentials(rng, times, time_steps, draw(st.integers(1, 3)))


@st.composite
def intensities(draw, low=0, batched=False):
    """Coarse intensities `(C, H, W)` with many zeros and ties."""
    rng, shape = np.random.default_rng(draw(seeds)), draw(shapes(batched))
    high = draw(st.sampled_from([0, 1, 3, 12]))
    return rng.integers(max(low, -high), high + 1, shape) / 4


@dataclass
class Layer:
    """A small convolution: weights, its geometry, and an input wave that fits."""

    wave: np.ndarray
    weight: np.ndarray
    geometry: dict
    seed: int

    @property
    def arguments(self):
        """in_channels, out_channels, kernel_size."""
        out, inputs, *kernel = self.weight.shape
        return inputs * self.geometry.get("groups", 1), out, tuple(kernel)


@st.composite
def layers(draw, plain=False, batched=False, low=0, high=1, max_steps=4):
    """Layers with dyadic weights; plain ones have no stride, padding, dilation or groups."""
    rng = np.random.default_rng(seed := draw(seeds))
    small = st.integers(1, 2)
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    geometry = {}
    if not plain:
        geometry = {
            "stride": draw(st.one_of(small, st.tuples(small, small))),
            "padding": draw(st.one_of(st.integers(0, 2), st.tuples(st.integers(0, 2), st.integers(0, 2)))),
            "dilation": draw(st.one_of(small, st.tuples(small, small))),
            "groups": draw(small),
        }
    groups = geometry.get("groups", 1)
    dilation = np.broadcast_to(geometry.get("dilation", 1), 2)
    inputs, outputs = draw(small), groups * draw(small)
    space = [int(dilation[i] * (kernel[i] - 1) + 1 + draw(st.integers(0, 2))) for i in (0, 1)]
    time_steps = draw(st.integers(1, max_steps))
    shape = (*((draw(st.integers(1, 3)),) if batched else ()), groups * inputs, *space)
    wave = to_wave(spike_times(rng, shape, time_steps, draw(kinds)), time_steps)
    return Layer(wave, dyadic(rng, (outputs, inputs, *kernel), low, high), geometry, seed)


def tensor(array, dtype=torch.float64, contiguous=True):
    """Array as a fresh tensor on the default device, on request with the strides of another memory order."""
    if dtype == torch.float64 and torch.get_default_device().type == "mps":
        dtype = torch.float32  # Apple's GPUs have no float64; on the grid float32 is as exact
    out = torch.tensor(np.ascontiguousarray(array)).to(dtype)
    if contiguous:
        return out
    spread = torch.zeros(*reversed(out.shape), 2, dtype=dtype)[..., 1].permute(*reversed(range(out.ndim)))
    return spread.copy_(out)


def same(got, want):
    """Assert equal shapes and exactly equal values; `got` a tensor, `want` a tensor or array."""
    got = got.numpy(force=True).astype(float)
    want = want.numpy(force=True).astype(float) if isinstance(want, torch.Tensor) else np.asarray(want, float)
    assert got.shape == want.shape, f"shape {got.shape}, expected {want.shape}"
    for place in np.argwhere(got != want):
        raise AssertionError(f"at {tuple(place)}: {got[tuple(place)]}, expected {want[tuple(place)]}")


def close(got, want, rtol=1e-5, atol=1e-6):
    """Assert equal shapes and values up to rounding."""
    got, want = (x.numpy(force=True).astype(float) if isinstance(x, torch.Tensor) else x for x in (got, want))
    assert got.shape == np.shape(want), f"shape {got.shape}, expected {np.shape(want)}"
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)


def samplewise(operation, batch, agree=None):
    """Assert that the batched answer is the stack of its samples' answers, in any order; return it.

    ``agree=close`` is for sums that are not exact, which torch's convolution may order by the size of the batch.
    """
    agree, answer = agree or same, operation(batch)
    agree(answer, torch.stack([operation(sample) for sample in batch]))
    order = torch.arange(len(batch)).roll(1)
    agree(operation(batch[order]), answer[order])
    return answer
