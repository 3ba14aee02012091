"""What a rule knows of the potentials of inputs that have not fired: on times and waves, in loops and in torch."""

import re
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest
import reference
import torch

from spyketorch import functional as sf
from spyketorch import latency, learning, snn, testing
from spyketorch.learning import _back_ends

STEPS = 7


def layer(seed=0, **options):
    made = snn.SpikingConvolution(2, 3, 3, 2.0, time_steps=STEPS, **options)
    made.load_weight(testing.dyadic(*made.weight.shape, low=0.25, generator=torch.Generator().manual_seed(seed)))
    return made


def inputs(samples=6, size=6, seed=0):
    """Times, and what inputs reached, also of those that fired: nobody may look at these."""
    draw = torch.Generator().manual_seed(seed)
    times = testing.random_times(samples, 2, size, size, time_steps=STEPS, silent=0.5, generator=draw)
    return times.to(torch.uint8), testing.dyadic(samples, 2, size, size, generator=draw)


class Seen:
    """A factor that notes what it sees, and changes nothing."""

    def __init__(self):
        self.all = []

    def __call__(self, synapses):
        self.all += [*zip(synapses.features.tolist(), synapses.pre_potentials.clone(), strict=True)]
        return 0


def respond(conv):
    def answer(wave):
        spikes, potentials = sf.fire(sf.convolution(wave, conv.weight, **conv.geometry.options()), 2.0, True)
        return sf.pointwise_inhibition(potentials), spikes

    return answer


def seen(conv, times, reached, way):
    """(feature, potentials) of each winner, and the winners, of samples learned in some way."""
    noted = Seen()
    rule = learning.STDP(conv, (0.25, -0.25), rate=noted)
    told = {} if reached is None else {"input_potentials": reached}
    if way == "times":
        winners = [[tuple(w) for w in one if w[0] >= 0] for one in rule.learn(times, 2, **told).tolist()]
        return noted.all, winners
    waves, answer = latency.to_wave(times, STEPS), respond(conv)
    if way in ("online", "minibatch"):
        return noted.all, getattr(rule, way)(waves, answer, 2, **told)
    potentials, spikes = answer(waves)
    winners = sf.get_k_winners(potentials, 2, 0, spikes)
    if way == "batch":
        rule(waves, potentials, spikes, winners, **told)
    else:
        for i, sample in enumerate(zip(waves, potentials, spikes, winners, strict=True)):
            rule(*sample, **({} if reached is None else {"input_potentials": reached[i]}))
    return noted.all, winners


@pytest.mark.parametrize("way", ["times", "online", "minibatch", "batch", "sample"])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}])
def test_a_rule_sees_the_potentials_of_its_inputs(options, told, way):
    conv, (times, reached) = layer(**options), inputs()
    found, winners = seen(conv, times, reached if told else None, way)
    assert [f for f, _ in found] == [f for one in winners for f, _, _ in one]
    fired = conv(times).numpy()
    wanted = [
        reference.input_potentials(x.numpy(), fired[i][winner], winner, conv.weight.shape, p, STEPS, **options)
        for i, (x, one) in enumerate(zip(times, winners, strict=True))
        for p in [reached[i].numpy() if told else None]
        for winner in one
    ]
    assert len(wanted) > 6
    np.testing.assert_allclose(torch.stack([p for _, p in found]).numpy(), np.stack(wanted), rtol=1e-6)


def test_groups_see_the_potentials_of_their_own_inputs():
    times, reached = inputs()
    conv = snn.SpikingConvolution(2, 4, 3, 1.0, time_steps=STEPS, groups=2)
    found, _ = seen(conv, times, reached, "times")
    alone = snn.SpikingConvolution(1, 2, 3, 1.0, time_steps=STEPS)
    alone.load_weight(conv.weight[2:])
    (second, _) = seen(alone, times[:, 1:], reached[:, 1:], "times")
    of_group = [p for f, p in found if f >= 2]
    assert of_group and all(any(torch.equal(p, q) for _, q in second) for p in of_group)


def test_the_standard_rule_does_not_look():
    times, reached = inputs()
    weights = []
    for told in ({}, {"input_potentials": reached}):
        conv = layer()
        learning.STDP(conv, (0.25, -0.125)).learn(times, 2, **told)
        weights.append(conv.weight)
    assert torch.equal(*weights)


def test_reward_hands_them_on():
    """On times and on waves, to reward and to punishment."""
    times, reached = inputs()

    def depress(synapses):
        return torch.where(synapses.causal, 0, synapses.ltd * synapses.pre_potentials)

    def rule_of(conv):
        return learning.RSTDP(conv, (0.25, -0.25), (-0.25, 0.125), False, 0, 1, rate=depress)

    labels, classes, weights = torch.arange(6) % 2, torch.tensor([0, 1, 0]), []
    conv = layer()
    winners = rule_of(conv).learn(times, labels, classes, input_potentials=reached, pointwise_inhibition=True)
    weights.append(conv.weight)
    outcomes = torch.where(classes[winners[:, 0, 0].clamp(min=0)] == labels, 1.0, -1.0)
    for told in (reached, None):
        conv = layer()
        judge = lambda i, winners: float(outcomes[i])  # noqa: E731
        rule_of(conv).online(latency.to_wave(times, STEPS), respond(conv), judge, input_potentials=told)
        weights.append(conv.weight)
    torch.testing.assert_close(weights[0], weights[1], atol=1e-6, rtol=0)
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (torch.ones(6, 2, 6), "shape (6, 2, 6, 6)"),
        (torch.ones(6, 2, 6, 6, dtype=torch.uint8), "a floating tensor"),
        (torch.full((6, 2, 6, 6), 1.5), "within 0..1"),
        (torch.full((6, 2, 6, 6), float("nan")), "within 0..1"),
        ([0.5], "tensor"),
    ],
)
@pytest.mark.parametrize("waves", [True, False])
def test_what_is_told_must_fit(told, said, waves):
    conv, (times, _) = layer(), inputs()
    rule = learning.STDP(conv, (0.25, -0.25))
    with pytest.raises((ValueError, TypeError), match=rf"`input_potentials`.*{re.escape(said)}"):
        if waves:
            wave = latency.to_wave(times, STEPS)
            potentials, spikes = respond(conv)(wave)
            rule(wave, potentials, spikes, input_potentials=told)
        else:
            rule.learn(times, input_potentials=told)


def test_what_is_told_must_be_of_as_many_samples():
    conv, (times, reached) = layer(), inputs()
    rule = learning.STDP(conv, (0.25, -0.25))
    with pytest.raises(ValueError, match=r"`input_potentials` must be None, or a tensor .* of 6 samples"):
        rule.online(latency.to_wave(times, STEPS), respond(conv), input_potentials=reached[:5])


def in_torch():
    return mock.patch.object(_back_ends, "BACK_ENDS", (_back_ends.InTorch(),))


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("rest", "bounds"), [(0.0, (0, 1)), (0.25, (-0.5, 1.5))])
def test_vdsp_against_the_oracle(rest, bounds, told, loops):
    conv, (times, reached) = layer(), inputs(30)
    rule = learning.VDSP(conv, (0.25, -0.5), *bounds, rest=rest)
    learned = 0
    for x, p in zip(times, reached, strict=True):
        weight, fired = conv.weight.double().numpy().copy(), conv(x[None])[0]
        with nullcontext() if loops else in_torch():
            winners = rule.learn(x[None], 2, 1, **({"input_potentials": p[None]} if told else {}))[0]
        for winner in [tuple(w) for w in winners.tolist() if w[0] >= 0]:
            post, known = int(fired[winner]), p.numpy() if told else None
            potentials = reference.input_potentials(x.numpy(), post, winner, weight.shape, known, STEPS)
            row, column = winner[1:]
            causal = x.numpy()[:, row : row + 3, column : column + 3] <= post
            weight[winner[0]] = reference.vdsp(weight[winner[0]], potentials, causal, (0.25, -0.5), rest, *bounds)
            learned += 1
        np.testing.assert_allclose(conv.weight.numpy(), weight, atol=1e-6)
    assert learned > 30


@pytest.mark.parametrize("minibatch", [1, 4])
def test_loops_and_torch_are_told_the_same(minibatch):
    """Padded, whatever inputs that fired are said to have reached."""
    times, reached = inputs(12)
    weights = []
    for way in (nullcontext(), in_torch()):
        for fired in (0.0, 1.0):
            conv = layer(padding=1)
            told = torch.where(times < STEPS, fired, reached)
            with way:
                learning.VDSP(conv, (0.25, -0.5)).learn(times, 2, input_potentials=told, minibatch=minibatch)
            weights.append(conv.weight)
    for weight in weights[1:]:
        torch.testing.assert_close(weight, weights[0], atol=1e-6, rtol=0)


def test_vdsp_keeps_the_contract_of_a_rule():
    testing.check_rule(lambda conv: learning.VDSP(conv, (0.25, -0.125), rest=0.25))


@pytest.mark.parametrize("rest", [-0.1, 1.1, "no"])
def test_rest_is_a_share(rest):
    with pytest.raises((ValueError, TypeError), match="`rest`"):
        learning.VDSP(layer(), rest=rest)
