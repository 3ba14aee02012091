"""Neurons that fire once: on times and on waves, compiled and plain, against plain loops."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import layers, same, tensor

import spyketorch
from spyketorch import _warnings, functional, latency, learning, models, neurons, snn, testing
from spyketorch.encoding import LatencyEncoder


class Patient(NamedTuple):
    """One of the user's own: it goes a share of the way to what it heard."""

    share: float = 0.25

    def step(self, potential, before, heard):
        return potential + self.share * (heard - potential)


class InTorch(NamedTuple):
    """What numba does not compile."""

    def step(self, potential, before, heard):
        return torch.relu(heard)


NEURONS = [neurons.IntegrateAndFire(), neurons.Leaky(0.5), neurons.Ramp(4), Patient()]


@given(
    layer=layers(batched=True, low=-1),
    neuron=st.sampled_from(NEURONS),
    threshold=st.sampled_from([None, -0.25, 0.5, 1.5]),
)
def test_answers(layer, neuron, threshold):
    """Potentials over time, first spikes and the potentials there, on waves and on times."""
    weight, steps = tensor(layer.weight, torch.float32), layer.wave.shape[1]
    times = latency.from_wave(tensor(layer.wave))
    heard = functional.convolution(tensor(layer.wave, torch.float32), weight, **layer.geometry)
    potentials = neurons.potentials(heard, neuron)
    fired, values = latency.convolution_fire(
        times, weight, threshold, time_steps=steps, neuron=neuron, **layer.geometry
    )
    found = latency.convolution_winners(
        times, weight, threshold, 2, 1, time_steps=steps, neuron=neuron, **layer.geometry
    )
    same(found, latency.k_winners(fired, values, 2, 1, time_steps=steps))
    for n, wave in enumerate(layer.wave):
        want = reference.neuron_potentials(reference.convolution(wave, layer.weight, **layer.geometry), neuron)
        same(potentials[n], want)
        spikes, kept = reference.fire(want, threshold)
        first = reference.first_spikes(spikes)
        same(fired[n], first)
        at_first = [kept[(min(t, steps - 1), *place)] for place, t in np.ndenumerate(first)]
        same(values[n].flatten(), np.array(at_first) * (first.flatten() < steps))


@pytest.mark.parametrize(
    "neuron", [neurons.IntegrateAndFire(), neurons.Leaky(0.7), neurons.Ramp(7), Patient()], ids=repr
)
def test_contract(neuron):
    testing.check_neuron(neuron)


def test_what_numba_does_not_compile_runs_in_torch(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(_warnings, "_told", set())
    with pytest.warns(spyketorch.PerformanceWarning, match="numba does not compile `step` of the neuron InTorch"):
        testing.check_neuron(InTorch())


@pytest.mark.parametrize("threshold", [2.0, None])
@pytest.mark.parametrize("neuron", NEURONS[1:], ids=repr)
def test_learning_on_times_is_learning_on_waves(neuron, threshold):
    generator = torch.Generator().manual_seed(0)
    times = testing.random_times(12, 2, 6, 6, time_steps=8, generator=generator).to(torch.uint8)
    weight = testing.dyadic(4, 2, 3, 3, generator=generator)
    layer = snn.SpikingConvolution(2, 4, 3, threshold, time_steps=8, neuron=neuron)
    conv = snn.Convolution(2, 4, 3)
    layer.load_weight(weight)
    conv.load_weight(weight)
    on_times, on_waves = (learning.STDP(x, (1 / 4, -1 / 8), False) for x in (layer, conv))
    winners = on_times.learn(times, 2, 1, pointwise_inhibition=False)
    for sample, expected in zip(times, winners, strict=True):
        wave = latency.to_wave(sample, 8)
        potentials = neurons.potentials(conv(wave), neuron)
        spikes, kept = functional.fire(potentials, threshold, True, latch=threshold is not None)
        first, at_first = fired_at(kept, spikes)
        found = latency.get_k_winners(first, at_first, 2, 1, time_steps=8)
        assert found == [tuple(w) for w in expected.tolist() if w[0] >= 0]
        on_waves(wave, kept, spikes, found)
    same(layer.weight, conv.weight)


def fired_at(potentials, spikes):
    times = latency.from_wave(spikes)
    place = times.clamp(max=len(spikes) - 1).long()[None]
    return times, torch.where(times < len(spikes), potentials.gather(0, place)[0], 0)


def test_a_rule_that_learns_from_waves_hears_the_neurons():
    heard = []

    class Listening(learning.STDP):
        def forward(self, input_spikes, potentials, output_spikes, winners=None, *others):
            heard.append(potentials)
            super().forward(input_spikes, potentials, output_spikes, winners, *others)

    layer = snn.SpikingConvolution(1, 1, 1, 0.5, time_steps=3, neuron=neurons.Leaky(0.5))
    layer.load_weight(torch.ones(1, 1, 1, 1))
    with pytest.warns(spyketorch.PerformanceWarning):
        Listening(layer, (0.1, -0.1)).learn(torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    assert heard[0].flatten().tolist() == [1.0, 0.5, 0.25]


def test_a_layer_tells_its_neuron():
    layer = snn.SpikingConvolution(2, 4, 3, 5, time_steps=15, neuron=neurons.Leaky(0.5))
    assert "neuron=Leaky(leak=0.5)" in repr(layer)
    assert "neuron" not in repr(snn.SpikingConvolution(2, 4, 3, 5, time_steps=15))
    layer.neuron = neurons.Ramp(15)
    assert layer.neuron == neurons.Ramp(15.0)
    with pytest.raises(TypeError, match="`neuron`"):
        layer.neuron = None  # type: ignore[assignment]


def test_neurons_of_one_content_are_not_alike():
    """Named tuples without fields are equal, whatever their type."""

    class Deaf(NamedTuple):
        def step(self, potential, before, heard):
            return potential

    times, weight = torch.zeros(1, 1, 1, dtype=torch.uint8), torch.ones(1, 1, 1, 1)
    assert latency.convolution_fire(times, weight, 0.5, time_steps=2, neuron=Deaf())[0].item() == 2
    assert latency.convolution_fire(times, weight, 0.5, time_steps=2)[0].item() == 0


def test_an_edited_neuron_is_heard():
    """As in a notebook: a class of the same name, with another step."""

    def made(factor):
        class Same(NamedTuple):
            def step(self, potential, before, heard):
                return factor * heard

        return Same()

    times, weight = torch.zeros(1, 1, 1, dtype=torch.uint8), torch.ones(1, 1, 1, 1)
    found = [latency.convolution_fire(times, weight, 0, time_steps=1, neuron=made(f))[1].item() for f in (1, 2, 1)]
    assert found == [1, 2, 1]


@pytest.mark.parametrize(
    "wrong, name",
    [
        (None, "neuron"),
        (neurons.Leaky, "neuron"),
        ((0.5,), "neuron"),
        (neurons.Leaky("half"), "neuron"),
        (neurons.Leaky(math.nan), "neuron"),
        (neurons.Leaky(1.5), "neuron.leak"),
        (neurons.Ramp(0), "neuron.duration"),
    ],
)
def test_what_is_no_neuron_is_refused(wrong, name):
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be"):
        snn.SpikingConvolution(2, 4, 3, 5, time_steps=15, neuron=wrong)


def test_a_network_of_other_neurons_is_refused():
    def network(neuron):
        layer = snn.SpikingConvolution(1, 4, 3, 5, time_steps=15, neuron=neuron)
        return models.Network(LatencyEncoder(torch.nn.Identity(), 15), [models.Stage(layer)])

    state = network(neurons.Leaky(0.5)).state_dict()
    network(neurons.Leaky(0.5)).load_state_dict(state)
    for other in (neurons.Leaky(0.25), neurons.Ramp(15), neurons.IntegrateAndFire()):
        with pytest.raises(ValueError, match="neuron"):
            network(other).load_state_dict(state)
