"""T and the times: types that grow with T, times that T does not hold, and numbers in types that do not hold them."""

from unittest import mock

import pytest
import torch

import spyketorch
from spyketorch import encoding, latency, snn
from spyketorch.kernels import serving

TYPES = {254: torch.uint8, 255: torch.int16, 32_767: torch.int16, 32_768: torch.int32, 40_000: torch.int32}


@pytest.fixture(params=[True, False], ids=["loops", "plain"])
def loops(request):
    with mock.patch.object(serving, "has_loops", serving.has_loops if request.param else lambda *_: False):
        yield


@pytest.mark.parametrize("steps", TYPES)
def test_the_type_grows_with_the_steps(loops, steps):
    """Of `steps` + 3 pixels in falling order the last three are silent."""
    image = torch.arange(steps + 3, 0, -1.0).view(1, 1, -1)
    times = latency.rank_order(image, steps)
    assert times.dtype == TYPES[steps]
    assert times.flatten().tolist() == [*range(steps), steps, steps, steps]
    encoder = encoding.LatencyEncoder(torch.nn.Identity(), steps)
    assert torch.equal(encoder(image).flatten(), times.flatten())
    padded = latency.pad(times, (1, 1, 0, 0), steps)
    assert padded.dtype == times.dtype
    assert padded[0, 0, 0] == padded[0, 0, -1] == steps
    late = times[..., -20:]
    assert latency.pooling(late, (1, 2)).flatten().tolist()[-2:] == [steps - 1, steps]
    fired, potentials = latency.convolution_fire(late, torch.ones(2, 1, 1, 3), 2.5, time_steps=steps)
    assert fired.dtype == times.dtype
    assert fired[0, 0].tolist() == [*range(steps - 15, steps), steps, steps, steps]
    assert potentials[0, 0].tolist() == [3.0] * 15 + [0.0] * 3
    inhibited = latency.pointwise_inhibition(fired, potentials, time_steps=steps)
    assert inhibited[0].dtype == times.dtype
    assert inhibited[0][1].unique().tolist() == [steps]
    assert latency.k_winners(*inhibited, time_steps=steps).tolist() == [[0, 0, 0]]
    last, _ = latency.convolution_fire(late, torch.ones(2, 1, 1, 3), time_steps=steps)
    assert last[0, 0].tolist() == [steps - 1] * 17 + [steps]


def test_waves_of_many_steps_come_back():
    times = torch.tensor([[[0, 32_767, 39_999, 40_000]]])
    back = latency.from_wave(latency.to_wave(times, 40_000, torch.bool))
    assert back.dtype == torch.int32
    assert torch.equal(back, times.to(torch.int32))


@pytest.mark.parametrize("threshold", [1.0, None])
def test_learning_with_many_steps(loops, threshold):
    layer = snn.SpikingConvolution(1, 2, 2, threshold, time_steps=40_000)
    layer.load_weight(torch.tensor([0.75, 0.5]).view(2, 1, 1, 1).expand(2, 1, 2, 2))
    times = torch.tensor([[[[39_000, 39_999], [40_000, 40_000]]]], dtype=torch.int32)
    assert snn.STDP(layer, (0.125, -0.125), False).learn(times, pointwise_inhibition=False).tolist() == [[[0, 0, 0]]]
    assert layer.weight[0, 0].tolist() == [[0.875, 0.875], [0.625, 0.625]]


def test_more_steps_than_any_type_holds():
    with pytest.raises(ValueError, match=r"`time_steps` must be at most 16777216; got 2147483648"):
        latency.rank_order(torch.ones(1, 2, 2), 2**31)


# times that T does not hold

LATE = torch.tensor([[[0, 9], [3, 9]]], dtype=torch.uint8)  # made with T = 9
POTENTIALS = torch.ones(1, 2, 2)
OF_TIMES = {
    "to_wave": lambda t: latency.to_wave(t, 5),
    "pad": lambda t: latency.pad(t, (1, 1, 1, 1), 5),
    "convolution_fire": lambda t: latency.convolution_fire(t, torch.ones(2, 1, 2, 2), 1, time_steps=5),
    "last": lambda t: latency.convolution_fire(t, torch.ones(2, 1, 2, 2), time_steps=5),
    "winners": lambda t: latency.convolution_winners(t, torch.ones(2, 1, 2, 2), 1, time_steps=5),
    "pointwise": lambda t: latency.pointwise_inhibition(t, POTENTIALS, time_steps=5),
    "features": lambda t: latency.feature_inhibition(t, POTENTIALS, [0], time_steps=5),
    "k_winners": lambda t: latency.k_winners(t, POTENTIALS, time_steps=5),
    "get_k_winners": lambda t: latency.get_k_winners(t, POTENTIALS, time_steps=5),
    "layer": lambda t: snn.SpikingConvolution(1, 2, 2, 1, time_steps=5)(t),
    "layer-winners": lambda t: snn.SpikingConvolution(1, 2, 2, time_steps=5).winners(t),
    "stdp": lambda t: snn.STDP(snn.SpikingConvolution(1, 2, 2, 1, time_steps=5), (0.5, -0.5)).learn(t[None]),
    "rstdp": lambda t: snn.RSTDP(snn.SpikingConvolution(1, 2, 2, time_steps=5), (0.5, -0.5), (-0.5, 0.5)).learn(
        t[None], [0], [0, 1]
    ),
}


@pytest.mark.parametrize("call", OF_TIMES.values(), ids=OF_TIMES)
def test_times_outside_of_the_steps_are_refused(call):
    with pytest.raises(ValueError, match=r"`times` must lie in 0\.\.5.*from 0 to 9"):
        call(LATE)
    with pytest.raises(ValueError, match=r"`times` must lie in 0\.\.5.*from -1 to 5"):
        call(LATE.to(torch.int16).clamp(max=5) - (LATE == 0).to(torch.int16))
    call(LATE.clamp(max=5))


def test_on_another_device_times_are_read_on_request_alone():
    times = LATE.clone()
    with mock.patch.object(spyketorch._checks, "free_to_read", lambda _: False):
        latency.to_wave(times, 5)
        with spyketorch.validation(), pytest.raises(ValueError, match="`times` must lie in"):
            latency.to_wave(times, 5)


# types


def test_potentials_that_are_not_wanted():
    times = torch.zeros(1, 4, 4, dtype=torch.uint8)
    for threshold in (None, 1.0):
        call = (times, torch.ones(2, 1, 2, 2), threshold)
        fired, nothing = latency.convolution_fire(*call, time_steps=3, potentials=False)
        assert nothing.numel() == 0
        assert torch.equal(fired, latency.convolution_fire(*call, time_steps=3)[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("threshold", [300.0, None])
def test_half_types_decide_as_float32(loops, dtype, threshold):
    """Sums that a half type cannot tell apart: 400 and 400 + 1/128."""
    times = torch.zeros(1, 400, 1, 1, dtype=torch.uint8)
    weight = torch.ones(3, 400, 1, 1, dtype=dtype)
    weight[1, 0] += 1 / 128
    weight[2] = 200  # a sum of 80,000 is beyond float16
    whole = latency.convolution_fire(times, weight.float(), threshold, time_steps=3)
    half = latency.convolution_fire(times, weight, threshold, time_steps=3)
    assert half[1].dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(half, whole, strict=True))
    layer = snn.SpikingConvolution(400, 3, 1, threshold, time_steps=3).to(dtype)
    layer.weight.data = weight
    assert len(set(whole[1].flatten().tolist())) == 3
    assert layer.winners(times, 3).tolist() == latency.k_winners(*whole, 3, time_steps=3).tolist()
    with pytest.raises(ValueError, match=r"`conv_layer\.weight` must be float32 or float64"):
        snn.STDP(layer, (0.5, -0.5)).learn(times)


def test_integer_potentials_keep_every_digit():
    times = torch.zeros(2, 1, 1, dtype=torch.uint8)
    potentials = torch.tensor([2**24, 2**24 + 1]).view(2, 1, 1)
    assert latency.k_winners(times, potentials, time_steps=3).tolist() == [[1, 0, 0]]
    kept, values = latency.pointwise_inhibition(times, potentials, time_steps=3)
    assert kept.flatten().tolist() == [3, 0]
    assert values.flatten().tolist() == [0, 2**24 + 1]


def test_weights_that_carry_gradients():
    times, weight = torch.zeros(1, 2, 2, dtype=torch.uint8), torch.ones(2, 1, 2, 2, requires_grad=True)
    for threshold in (1.0, torch.ones(2, requires_grad=True), None):
        fired, potentials = latency.convolution_fire(times, weight, threshold, time_steps=3)
        assert not potentials.requires_grad
        assert latency.get_k_winners(fired, potentials, time_steps=3) == [(0, 0, 0)]
