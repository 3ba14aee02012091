"""STDP of integer weights: they stay integers, small changes are kept on average, and chance repeats."""

import copy
import math
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spyketorch import latency, learning, models, snn, testing
from spyketorch.learning import IntegerSTDP, TargetTime, _back_ends
from spyketorch.training import Trainer, Unsupervised

STEPS = 9
WORD = 2**64 - 1


def spikes(*shape, seed=0, silent=0.3):
    draw = torch.Generator().manual_seed(seed)
    times = torch.randint(STEPS, shape, generator=draw, dtype=torch.uint8)
    return torch.where(torch.rand(shape, generator=draw) < silent, STEPS, times).to(torch.uint8)


def layer(seed=0, groups=1, mean=0.5, features=6):
    made = snn.SpikingConvolution(4, features, 3, 2.0, time_steps=STEPS, groups=groups)
    draw = torch.Generator().manual_seed(seed)
    made.load_weight((mean + 0.2 * torch.randn(made.weight.shape, generator=draw)).clamp(0, 1))
    return made


def rounded(conv, *rates, **options):
    """A rule whose layer holds integers from the start."""
    rule = IntegerSTDP(conv, *rates, **options)
    rule.round_weight()
    return rule


def lattice(weight, bits):
    """The integers that weights are, which they must be."""
    numbers = weight.double() * 2**bits
    assert torch.equal(numbers, numbers.round())
    assert numbers.min() >= 0
    assert numbers.max() <= 2**bits - 1
    return numbers.long()


def chance(seed, count):
    """SplitMix64 at some place of the sequence of a seed, in integers of any size; the upper half."""
    z = (seed * 0xBF58476D1CE4E5B9 + count * 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return (z ^ (z >> 31)) >> 32


def oracle(numbers, updates, winner, causal, rates, bits, seed, steepness):
    """One winner learns: ``numbers`` (features, C, rows, columns) are integers, ``causal`` is of its synapses."""
    top = 2**bits - 1
    updates[winner] += 1
    for place, synapse in enumerate(np.ndindex(*numbers.shape[1:])):
        n, early = int(numbers[winner][synapse]), bool(causal[synapse])
        away = n if early else top - n
        left = np.float32(math.exp(-steepness * away / top))
        real = float(np.float32(rates[0] if early else rates[1]) * left)
        count = (updates[winner] * len(numbers) + winner) * math.prod(numbers.shape[1:]) + place
        drawn = 2**31 if seed is None else chance(seed, count)
        numbers[winner][synapse] = min(max(n + (math.floor(real * 2 ** (bits + 32)) + drawn) // 2**32, 0), top)


@settings(max_examples=40, deadline=None)
@given(
    bits=st.integers(1, 8),
    seed=st.none() | st.integers(0, 2**40),
    steepness=st.sampled_from([0.0, 1.0, 2.5]),
    rates=st.sampled_from([(0.1, -0.1), (0.004, -0.003), (-0.2, 0.05), (3.0, -3.0), (0.0, -0.01)]),
    draw=st.integers(0, 9),
)
def test_against_the_oracle(bits, seed, steepness, rates, draw):
    made = layer(draw)
    rule = rounded(made, rates, bits=bits, steepness=steepness, seed=seed)
    times, updates = spikes(5, 4, 3, 3, seed=draw), [0] * 6
    for sample in times:
        numbers = lattice(made.weight, bits).numpy()
        fired, _ = made.respond(sample)
        ((feature, row, column),) = rule.learn(sample[None])[0].tolist()
        if feature >= 0:
            causal = (sample <= fired[feature, row, column]).numpy()
            oracle(numbers, updates, feature, causal, rates, bits, seed, steepness)
        np.testing.assert_array_equal(lattice(made.weight, bits).numpy(), numbers)
    assert rule.updates.tolist() == updates


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("thresholds", [None, TargetTime(0.5, 0.25, 1.0)])
@pytest.mark.parametrize("minibatch", [1, 4])
def test_all_ways_to_learn_agree_to_the_bit(bits, thresholds, minibatch):
    times, known = spikes(40, 4, 7, 7), None
    for way in _back_ends.BACK_ENDS:
        made = layer(groups=2)
        rule = IntegerSTDP(made, (0.1, -0.05), bits=bits, seed=3, thresholds=thresholds)
        if way.why_not(rule._task(times, 3, 1, minibatch=minibatch)) is not None:
            continue
        with mock.patch.object(_back_ends, "BACK_ENDS", (way,)):
            found = rule.learn(times, 3, 1, minibatch=minibatch), made.weight.clone(), rule.updates.clone()
        known = known or found
        assert all(torch.equal(a, b) for a, b in zip(found, known, strict=True)), type(way)
        assert (rule.updates > 0).sum() > 1
        lattice(made.weight, bits)


def test_waves_learn_the_same():
    times, (first, second) = spikes(12, 4, 7, 7), (layer(), layer())
    on_times, on_waves = rounded(first, bits=4), rounded(second, bits=4)
    winners = on_times.learn(times, 2, 1, pointwise_inhibition=False)
    for sample, chosen in zip(times, winners, strict=True):
        fired, potentials = second.respond(sample)
        waves = [latency.to_wave(t, STEPS) for t in (sample, fired)]
        on_waves(waves[0], latency.to_wave(fired, STEPS) * potentials, waves[1], chosen)
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(on_times.updates, on_waves.updates)


def test_neither_cuts_nor_a_pause_change_anything():
    times, states = spikes(30, 4, 6, 6), []
    for size in (30, 1, 7):
        rule = IntegerSTDP(layer(), bits=2, seed=5)
        for number, part in enumerate(times.split(size)):
            if number == 2:  # another one takes over
                state = copy.deepcopy(rule.state_dict())
                rule = IntegerSTDP(layer(seed=8), bits=2, seed=5)
                rule.load_state_dict(state)
            rule.learn(part, 2, 1)
        states.append(rule.state_dict())
    for state in states[1:]:
        assert all(torch.equal(value, states[0][name]) for name, value in state.items())


@pytest.mark.parametrize("rates", [(0.01, -0.01), (0.0007, -0.0007)])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_the_mean_of_many_updates_is_the_real_one(rates, bits):
    """Of many synapses alike, far from the bounds where there are such."""
    made, levels = snn.SpikingConvolution(300, 1, 10, 0.01, time_steps=STEPS), 2**bits
    start = (levels // 2) / levels if bits > 1 else 0.0
    made.load_weight(torch.full(made.weight.shape, start))
    rule = IntegerSTDP(made, rates, bits=bits, steepness=1.0)
    made.load_weight(torch.full(made.weight.shape, start or 2.0**-1))
    times = torch.zeros(1, 300, 10, 10, dtype=torch.uint8)
    times[:, ::2] = STEPS
    before = made.weight.clone()
    rule.learn(times)
    change, share = made.weight - before, before * levels / (levels - 1)
    silent = (times[0] == STEPS)[None]
    real = torch.where(silent, rates[1] * torch.exp(share - 1), rates[0] * torch.exp(-share))
    for some in (silent, ~silent) if bits > 1 else (silent,):  # at one bit the upper bound is where all are
        wanted = float(real[some].mean())
        several = (abs(wanted) / levels / int(some.sum())) ** 0.5  # a standard error
        assert abs(float(change[some].mean()) - wanted) < 4 * several


def test_to_the_nearest_small_changes_are_lost():
    made, times = layer(), spikes(50, 4, 6, 6)
    rule = rounded(made, (0.01, -0.01), bits=4, seed=None)
    before = made.weight.clone()
    rule.learn(times)
    assert rule.updates.sum() > 20
    assert torch.equal(made.weight, before)
    by_chance = IntegerSTDP(made, (0.01, -0.01), bits=4)
    by_chance.learn(times)
    assert not torch.equal(made.weight, before)


def test_chance_depends_on_the_seed():
    weights = []
    for seed in (0, 0, 1, None):
        made = layer()
        IntegerSTDP(made, bits=2, seed=seed).learn(spikes(20, 4, 6, 6))
        weights.append(made.weight)
    assert torch.equal(weights[0], weights[1])
    assert len({tuple(weight.flatten().tolist()) for weight in weights}) == 3


def test_random_numbers_are_even_and_apart():
    """In neighbouring synapses, updates and seeds: the chances of a fair coin, bit by bit."""
    from spyketorch.learning._integer import mixed

    count, keys = torch.arange(2**16), [IntegerSTDP(layer(), seed=seed)._key() for seed in range(3)]
    drawn = [mixed(key, count) for key in keys]
    for numbers in (*drawn, drawn[0] ^ drawn[1], drawn[1] ^ drawn[2], drawn[0][1:] ^ drawn[0][:-1]):
        shares = ((numbers[:, None] >> torch.arange(32)) & 1).double().mean(0)
        assert (shares - 0.5).abs().max() < 4.5 * 0.5 / 2**8


def test_the_layer_is_rounded_by_chance_before_it_learns():
    made = snn.SpikingConvolution(50, 8, 5, 2.0, time_steps=STEPS)
    made.load_weight(torch.full(made.weight.shape, 0.3))
    rule, silent = IntegerSTDP(made, bits=2), torch.full((1, 50, 5, 5), STEPS, dtype=torch.uint8)
    assert bool((made.weight == made.weight[0, 0, 0, 0]).all())  # not yet
    rule.learn(silent)
    numbers = lattice(made.weight, 2)
    assert set(numbers.flatten().tolist()) == {1, 2}
    assert abs(float(numbers.double().mean()) - 1.2) < 0.02
    kept = made.weight.clone()
    IntegerSTDP(made, bits=2, seed=1).learn(silent)  # what is an integer stays as it is
    assert torch.equal(made.weight, kept)


@pytest.mark.parametrize("way", ["online", "minibatch"])
def test_on_waves_the_layer_answers_with_integers_from_the_start(way):
    made, waves = layer(), torch.stack([latency.to_wave(times, STEPS) for times in spikes(3, 4, 6, 6)])

    def respond(wave):
        lattice(made.weight, 3)
        fired, potentials = made.respond(latency.from_wave(wave))
        spikes = latency.to_wave(fired, STEPS)
        return spikes * potentials.unsqueeze(-4), spikes

    assert any(getattr(IntegerSTDP(made, bits=3), way)(waves, respond))


def test_weights_that_were_written_since_are_rounded():
    times, made = spikes(9, 4, 6, 6), layer()
    rule = IntegerSTDP(made, bits=3)
    made.weight.data.normal_(0.5, 1)
    rule.learn(times)
    lattice(made.weight, 3)
    made.weight.data.normal_(0.5, 1)
    wave = latency.to_wave(times[0], STEPS)
    fired, potentials = made.respond(times[0])
    rule(wave, latency.to_wave(fired, STEPS) * potentials, latency.to_wave(fired, STEPS))
    lattice(made.weight, 3)


def test_bounds_are_integers_inside_of_those_given():
    made = layer()
    rule = IntegerSTDP(made, (0.5, -0.5), 0.2, 0.8, bits=3)
    assert (rule.lower_bound, rule.upper_bound) == (2 / 8, 6 / 8)
    rule.learn(spikes(50, 4, 6, 6))
    assert set(lattice(made.weight, 3).flatten().tolist()) <= set(range(2, 7))
    rule.upper_bound = 1
    assert rule.upper_bound == 7 / 8
    with pytest.raises(ValueError, match=r"`lower_bound` must be below `upper_bound`; got 0\.5 and 0\.5"):
        IntegerSTDP(made, (0.5, -0.5), 0.2, 0.8, bits=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"bits": 0}, "`bits` must be an integer of at least 1; got 0"),
        ({"bits": 9}, "`bits` must be 1 to 8; got 9"),
        ({"bits": 2.5}, "`bits` must be an integer"),
        ({"seed": -1}, "`seed` must be an integer of at least 0; got -1"),
        ({"seed": 2**63}, "`seed` must be None, or 0 or more and below 2"),
        ({"lower_bound": -0.5}, "`lower_bound` must be within 0..1, as these weights have no sign; got -0.5"),
        ({"upper_bound": 2}, "`upper_bound` must be within 0..1, as these weights have no sign; got 2"),
    ],
)
def test_settings_that_cannot_be(options, told):
    with pytest.raises((ValueError, TypeError), match=told):
        IntegerSTDP(layer(), **options)


def test_bits_are_chosen_once():
    rule = IntegerSTDP(layer(), bits=4)
    with pytest.raises(AttributeError):
        rule.bits = 8
    assert rule.bits == 4


def test_weights_that_are_no_numbers_are_not_rounded():
    made = layer()
    rule = IntegerSTDP(made, bits=4)
    made.weight.data[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match=r"`conv_layer\.weight` must be finite everywhere"):
        rule.learn(spikes(3, 4, 6, 6))


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("seed", [0, None])
def test_it_passes_the_contract(bits, seed):
    testing.check_rule(lambda conv: rounded(conv, (0.2, -0.1), bits=bits, seed=seed))
    adapting: Any = TargetTime(0.5, 0.25, 1.0)
    testing.check_rule(lambda conv: rounded(conv, (0.2, -0.1), bits=bits, seed=seed, thresholds=adapting))


def test_a_lesson_learns_integers():
    network = models.goupy2024(features=8, image_shape=(1, 20, 20))
    rule, thresholds = partial(IntegerSTDP, bits=2), TargetTime(0.5)
    lesson = Unsupervised(plasticity=rule, thresholds=thresholds, rates=(0.1, -0.1), patches=True)
    trainer = Trainer(network, [lesson], progress=False, on_silence="warn")
    trainer.fit(torch.rand(30, 1, 20, 20, generator=torch.Generator().manual_seed(0)) * 255)
    lattice(network.stages[0].layer.weight, 2)


def test_a_twin_without_its_rule_reads_no_other_memory():
    """Weights outside of the bounds, which the loops do not round, count as the nearest."""
    pytest.importorskip("numba")
    made, times = layer(), spikes(9, 4, 6, 6)
    rule = IntegerSTDP(made, bits=2)
    made.weight.data.fill_(1000.0)
    with mock.patch.object(IntegerSTDP, "round_weight", lambda self: None):
        learning.STDP.learn(rule, times)
    assert bool(torch.isfinite(made.weight).all())
