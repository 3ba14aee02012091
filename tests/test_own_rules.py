"""Rules, layers and factors of one's own: `learn` on times runs them as `online` on waves does, and shows them existing
winners alone."""

from unittest import mock

import numpy as np
import pytest
import torch
from strategies import dyadic, same, spike_times, tensor
from torch.nn.utils import prune

import spyketorch.functional as sf
from spyketorch import latency, learning, models, snn

STEPS = 5
RATES, ANTI = (1 / 4, -1 / 8), (-1 / 8, 1 / 16)
OPTIONS = {"use_stabilizer": False, "lower_bound": -1, "upper_bound": 1}


class Forward(learning.STDP):
    """Learns every sample twice."""

    def forward(self, *args, **kwargs):
        super().forward(*args, **kwargs)
        return super().forward(*args, **kwargs)


class Calls(learning.STDP):
    def __call__(self, *args, **kwargs):
        super().__call__(*args, **kwargs)
        self.conv_layer.weight.data.mul_(0.5)


class Update(learning.STDP):
    def _update(self, *args):
        super()._update(*args)
        super()._update(*args)


class Learn(learning.STDP):
    def _learn(self, *args):
        super()._learn(*args)
        self.conv_layer.weight.data.mul_(0.5)


class Ordering(learning.STDP):
    """Inputs of the winner's own time step are too late."""

    def get_pre_post_ordering(self, input_spikes, output_spikes, winners):
        assert all(isinstance(winner, tuple) for winner in winners)
        pre, post = self._spike_counts(input_spikes, output_spikes, self._index(winners, input_spikes, output_spikes))
        return list(pre > post)


class RateMethod(learning.STDP):
    def rate(self, s):
        return torch.where(s.causal, s.ltp, 0) / (1 + s.post_times)


class DependenceMethod(learning.STDP):
    def weight_dependence(self, s):
        return s.weight


class Adaptive(learning.STDP):
    """Its rates grow with every sample."""

    def forward(self, *args, **kwargs):
        super().forward(*args, **kwargs)
        ltp, ltd = (float(rate) for rate in self.learning_rate[0])
        self.update_all_learning_rate(2 * ltp, ltd)


def patched(rule):
    forward = rule.forward

    def twice(*args, **kwargs):
        forward(*args, **kwargs)
        return forward(*args, **kwargs)

    rule.forward = twice
    return rule


def with_factor(name, factor):
    def change(rule):
        setattr(rule, name, factor)
        return rule

    return change


def hooked(rule):
    rule.register_forward_hook(lambda module, *_: module.conv_layer.weight.data.mul_(0.5))
    return rule


def unstable(rule):
    rule.use_stabilizer = True
    return rule


OWN = {
    "forward": (Forward, None),
    "call": (Calls, None),
    "update": (Update, None),
    "learn": (Learn, None),
    "ordering": (Ordering, None),
    "rate-method": (RateMethod, None),
    "dependence-method": (DependenceMethod, None),
    "adaptive": (Adaptive, None),
    "patched": (learning.STDP, patched),
    "rate": (learning.STDP, with_factor("rate", lambda s: torch.where(s.causal, s.ltp, 0))),
    "dependence": (learning.STDP, with_factor("weight_dependence", lambda s: 1 - s.weight)),
    "modulation": (learning.STDP, with_factor("modulation", lambda s: (s.weight > 0.5).to(s.weight))),
    "hook": (learning.STDP, hooked),
    "stabilizer": (learning.STDP, unstable),
}
GEOMETRIES = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "grouped": {"groups": 2, "padding": (0, 1)},
    "dilated": {"dilation": 2},
}


def layer(kind, *options, seed=0, **geometry):
    made = kind(2, 4, 3, *options, **geometry)
    made.load_weight(tensor(dyadic(np.random.default_rng(seed), tuple(made.weight.shape), 0.25, 0.75, 8)))
    return made


def samples(seed=0, count=5):
    return tensor(spike_times(np.random.default_rng(seed), (count, 2, 7, 7), STEPS), torch.uint8)


def answer(conv, threshold):
    def respond(wave):
        spikes, potentials = sf.fire(conv(wave), threshold, True, latch=True)
        return sf.pointwise_inhibition(potentials), spikes

    return respond


def padded(history, kwta):
    """Lists of winners as `learn` gives them."""
    return torch.tensor([list(map(list, one)) + [[-1] * 3] * (kwta - len(one)) for one in history])


@pytest.mark.parametrize("threshold", [2.0, None])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
@pytest.mark.parametrize("kind, change", OWN.values(), ids=OWN)
def test_learn_runs_the_rules_own_code(kind, change, geometry, threshold):
    def rule_of(made, kind=kind, change=change):
        rule = kind(made, RATES, **OPTIONS)
        return rule if change is None else change(rule)

    dense = layer(snn.Convolution, **geometry)
    times = samples()
    want = rule_of(dense).online(latency.to_wave(times, STEPS), answer(dense, threshold), 2, 1)
    made = layer(snn.SpikingConvolution, threshold, time_steps=STEPS, **geometry)
    same(rule_of(made).learn(times, 2, 1), padded(want, 2))
    same(made.weight, dense.weight)
    if geometry or threshold is None:  # few sums, which some rules saturate alike
        return
    standard = layer(snn.SpikingConvolution, threshold, time_steps=STEPS, **geometry)
    rule_of(standard, learning.STDP, None).learn(times, 2, 1)
    assert not torch.equal(standard.weight, made.weight), "the own code must have counted"


class Bolder(learning.RSTDP):
    """Praise counts twice."""

    def forward(self, input_spikes, potentials, output_spikes, outcomes, winners=None):
        return super().forward(
            input_spikes, potentials, output_spikes, 2 * max(outcomes, 0) + min(outcomes, 0), winners
        )


def with_rules(reward, punishment):
    def change(rule):
        conv = rule.reward.conv_layer
        rule.reward, rule.punishment = reward(conv, RATES, **OPTIONS), punishment(conv, ANTI, **OPTIONS)
        return rule

    return change


def with_punishment(name, value):
    def change(rule):
        setattr(rule.punishment, name, value)
        return rule

    return change


REWARDED = {
    "forward": (Bolder, None),
    "patched": (learning.RSTDP, patched),
    "reward-learn": (learning.RSTDP, with_rules(Learn, learning.STDP)),
    "reward-forward": (learning.RSTDP, with_rules(Forward, learning.STDP)),
    "punishment-update": (learning.RSTDP, with_rules(learning.STDP, Update)),
    "punishment-forward": (learning.RSTDP, with_rules(learning.STDP, Forward)),
    "punishment-rate": (learning.RSTDP, with_punishment("rate", lambda s: torch.where(s.causal, s.ltp, 0))),
    "punishment-bounds": (learning.RSTDP, with_punishment("lower_bound", 0.3125)),
    "punishment-stabilizer": (learning.RSTDP, with_punishment("use_stabilizer", True)),
}


@pytest.mark.parametrize("threshold", [2.0, None])
@pytest.mark.parametrize("kind, change", REWARDED.values(), ids=REWARDED)
def test_learn_runs_the_rewarded_rules_own_code(kind, change, threshold):
    times, labels, classes = samples(1, 8), torch.arange(8) % 2, torch.tensor([0, 0, 1, 1])

    def rule_of(made, kind=kind, change=change):
        rule = kind(made, RATES, ANTI, **OPTIONS)
        return rule if change is None else change(rule)

    def judge(i, winners):
        return 0 if not winners else 1 if classes[winners[0][0]] == labels[i] else -1

    dense = layer(snn.Convolution)
    want = rule_of(dense).online(latency.to_wave(times, STEPS), answer(dense, threshold), judge, 1)
    made = layer(snn.SpikingConvolution, threshold, time_steps=STEPS)
    same(rule_of(made).learn(times, labels, classes, pointwise_inhibition=True), padded(want, 1))
    same(made.weight, dense.weight)
    standard = layer(snn.SpikingConvolution, threshold, time_steps=STEPS)
    rule_of(standard, learning.RSTDP, None).learn(times, labels, classes, pointwise_inhibition=True)
    assert not torch.equal(standard.weight, made.weight), "the own code must have counted"


@pytest.mark.parametrize("kind", [Forward, learning.STDP])
def test_a_rule_of_reward_takes_the_size_of_an_outcome(kind):
    """Half a reward, through a rule of reward with a forward of its own, is half the rates."""
    times = samples(1, 1)
    half, whole = layer(snn.Convolution), layer(snn.Convolution)
    for conv, rates, outcome in ((half, RATES, 0.5), (whole, [rate / 2 for rate in RATES], 1)):
        rule = learning.RSTDP(conv, RATES, ANTI, **OPTIONS)
        rule.reward = kind(conv, rates, **OPTIONS)
        rule.online(latency.to_wave(times, STEPS), answer(conv, 2.0), lambda *_, outcome=outcome: outcome)
        assert float(rule.reward.learning_rate[0][0]) == rates[0]
    same(half.weight, whole.weight)


@pytest.mark.parametrize("outcome", [1, 0, -1])
@pytest.mark.parametrize("kind, change", [(learning.RSTDP, None), *REWARDED.values()], ids=["standard", *REWARDED])
def test_every_call_clamps_the_whole_weight(kind, change, outcome):
    """Also where nobody wins, or the outcome is 0, and whichever way a rule learns."""

    def start(made):
        made.load_weight(torch.linspace(-4, 4, made.weight.numel()).view_as(made.weight))
        rule = kind(made, RATES, ANTI, **OPTIONS)
        return rule if change is None else change(rule)

    def inside(made):
        return bool((made.weight.abs() <= 1).all())

    wave, spikes = torch.ones(STEPS, 2, 7, 7), torch.ones(STEPS, 4, 5, 5)
    for winners in ([], [(1, 2, 2)]):
        dense = layer(snn.Convolution)
        start(dense)(wave, None, spikes, outcome, winners)
        assert inside(dense)
    for threshold in (1e9, 0.5, None):
        made = layer(snn.SpikingConvolution, threshold, time_steps=STEPS)
        rule = start(made)
        rule.learn(samples(0, 1), [0], [0, 0, 1, 1], correction=None if outcome else "guess")
        assert inside(made)


# layers


class Hurried(snn.SpikingConvolution):
    """All fire one step earlier."""

    def respond(self, times, *, potentials=True):
        fired, values = super().respond(times, potentials=potentials)
        return torch.where(fired < self.time_steps, fired.clamp(min=1) - 1, fired), values


class Lower(snn.SpikingConvolution):
    def limit(self):
        return super().limit() / 2


@pytest.mark.parametrize("kind", [Hurried, Lower])
def test_learn_takes_the_layers_own_answer(kind):
    made = layer(kind, 2.0, time_steps=STEPS)
    dense = layer(snn.Convolution)

    def respond(wave):
        fired, potentials = made.respond(latency.from_wave(wave).to(torch.uint8))
        fired, potentials = latency.pointwise_inhibition(fired, potentials, time_steps=STEPS)
        return potentials * latency.to_wave(fired, STEPS), latency.to_wave(fired, STEPS)

    times = samples()
    want = []
    for wave in latency.to_wave(times, STEPS):
        made.load_weight(dense.weight)
        want += learning.STDP(dense, RATES, **OPTIONS).online(wave[None], respond, 2, 1)
    made.load_weight(layer(snn.Convolution).weight)
    same(learning.STDP(made, RATES, **OPTIONS).learn(times, 2, 1), padded(want, 2))
    same(made.weight, dense.weight)


@pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")
def test_a_layer_whose_forward_alone_moves_spikes_is_refused():
    class Noisy(snn.SpikingConvolution):
        def forward(self, times):
            return super().forward(times) + 1

    rule = learning.STDP(layer(Noisy, 2.0, time_steps=STEPS), RATES)
    with pytest.raises(TypeError, match=r"`forward`.*`respond`"):
        rule.learn(samples())


# winners that exist


class Counting(torch.nn.Module):
    """A factor with a state: how often each feature won."""

    def __init__(self):
        super().__init__()
        self.register_buffer("wins", torch.zeros(4, dtype=torch.int64))

    def forward(self, s):
        assert len(s.features) == len(s.weight) == len(s.causal) == len(s.pre_times) == len(s.post_times)
        assert len(s.features) > 0
        self.wins.index_add_(0, s.features, torch.ones_like(s.features))
        return torch.ones_like(s.weight)


def count(found):
    features = found[..., 0].flatten()
    return torch.bincount(features[features >= 0], minlength=4)


def mixed():
    """Silent samples between others."""
    times = samples(2, 6)
    times[::2] = STEPS
    return times


@pytest.mark.parametrize("minibatch", [1, 4])
@pytest.mark.parametrize("threshold", [2.0, None])
def test_factors_see_existing_winners_alone(threshold, minibatch):
    made = layer(snn.SpikingConvolution, threshold, time_steps=STEPS)
    rule = learning.STDP(made, RATES, modulation=Counting())
    silent = torch.full((4, 2, 7, 7), STEPS, dtype=torch.uint8)
    assert (rule.learn(silent, 3, minibatch=minibatch) == -1).all()
    assert rule.modulation.wins.sum() == 0
    found = rule.learn(mixed(), 3, 1, minibatch=minibatch)
    assert (found < 0).any()
    assert torch.equal(rule.modulation.wins, count(found))
    assert count(found).sum() > 0


def test_factors_see_existing_winners_alone_on_waves():
    """Winners as a tensor with rows of -1, and outcomes of 0."""
    conv, waves = layer(snn.Convolution), latency.to_wave(mixed(), STEPS)
    potentials, spikes = answer(conv, 2.0)(waves)
    winners = sf.k_winners(potentials, 3, 1, spikes)
    assert (winners < 0).any()
    rule = learning.STDP(conv, RATES, modulation=Counting())
    rule(waves, potentials, spikes, winners)
    assert torch.equal(rule.modulation.wins, count(winners))
    rewarded = learning.RSTDP(conv, RATES, ANTI, modulation=Counting())
    rewarded(waves, potentials, spikes, [0] * 6, winners)
    assert rewarded.reward.modulation.wins.sum() == 0
    rewarded(waves, potentials, spikes, [0, 1, 1, -1, 1, 0], winners)
    assert torch.equal(rewarded.reward.modulation.wins, count(winners[1:5]))


@pytest.mark.parametrize("correction", [None, "guess", "teach"])
def test_a_rewarded_rules_factors_see_existing_winners_alone(correction):
    made = layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    rule = learning.RSTDP(made, RATES, ANTI, modulation=Counting())
    labels, classes = torch.arange(6) % 2, torch.tensor([0, 0, 1, 1])
    silent = torch.full((6, 2, 7, 7), STEPS, dtype=torch.uint8)
    assert (rule.learn(silent, labels, classes, correction=correction) == -1).all()
    assert rule.reward.modulation.wins.sum() == 0
    nobody = torch.zeros(6, 4, dtype=torch.bool)
    assert (rule.learn(samples(2, 6), labels, classes, correction=correction, active=nobody) == -1).all()
    assert rule.reward.modulation.wins.sum() == 0


def test_standard_rules_still_take_the_loops():
    engine = pytest.importorskip("spyketorch.kernels.engine")

    class Named(learning.STDP):
        def update_all_learning_rate(self, ap, an):
            super().update_all_learning_rate(ap, an)

        def extra_repr(self):
            return "mine"

    made = layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    labels, classes = torch.arange(5) % 2, torch.tensor([0, 0, 1, 1])
    with mock.patch.object(engine.Engine, "learn", autospec=True, side_effect=engine.Engine.learn) as loops:
        Named(made, RATES).learn(samples())
        learning.RSTDP(made, RATES, ANTI).learn(samples(), labels, classes)
    assert loops.call_count == 2


@pytest.mark.parametrize("name", ["rate", "weight_dependence", "modulation"])
@pytest.mark.parametrize("given", [None, [0.5], np.ones((1, 1)), torch.ones(7), torch.ones(2, 1, 1, 1, 1)], ids=str)
def test_factors_that_fit_no_synapse_are_named(name, given):
    rule = snn.STDP(snn.SpikingConvolution(2, 4, (3, 2), 1, time_steps=5), (0.1, -0.1), **{name: lambda s: given})
    with pytest.raises(TypeError, match=rf"`{name}` must return .* \(winners, features, rows, columns\)"):
        rule.learn(torch.zeros(1, 2, 5, 5, dtype=torch.uint8))


# hooks, and code of a layer's own, are heard everywhere


class Mute(snn.SpikingConvolution):
    """Feature 0 is never heard."""

    def respond(self, times, *, potentials=True):
        fired, values = super().respond(times)
        fired[..., 0, :, :], values[..., 0, :, :] = self.time_steps, 0
        return fired, values


class Hushed(snn.SpikingConvolution):
    def forward(self, times):
        return hush(self, (times,), super().forward(times))


class Picky(snn.SpikingConvolution):
    def limit(self):
        return super().limit() + torch.tensor([1e6, 0, 0, 0])


def hush(made, given, fired):
    """A hook that silences feature 0."""
    fired = fired.clone()
    fired[..., 0, :, :] = made.time_steps
    return fired


def without_feature_0():
    """Layers whose feature 0, the strongest, is not heard, by all the ways to say so."""
    for kind in (Mute, Hushed, Picky):
        yield kind.__name__, layer(kind, 2.0, time_steps=STEPS)
    hooked = layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    hooked.register_forward_hook(hush)
    yield "hook", hooked
    replaced = layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    replaced.limit = lambda: torch.tensor([1e6, 2.0, 2.0, 2.0])
    yield "limit", replaced


@pytest.mark.parametrize("name, made", [pytest.param(*one, id=one[0]) for one in without_feature_0()])
@pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")
def test_what_a_layer_silences_does_not_win_learn_or_decide(name, made):
    times, plain = samples(), layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    plain.weight[0] = made.weight[0] = 1
    assert (plain.winners(times)[:, 0, 0] == 0).any()
    fired, potentials = plain.respond(times)
    fired, potentials = latency.feature_inhibition(fired, potentials, [0], time_steps=STEPS)
    same(made(times), fired)
    for inhibit in (False, True):
        heard = (fired, potentials)
        if inhibit:
            heard = latency.pointwise_inhibition(*heard, time_steps=STEPS)
        want = latency.k_winners(*heard, 2, 1, time_steps=STEPS)
        same(made.winners(times, 2, 1, pointwise_inhibition=inhibit), want)
        same(made.winners(times[0], 2, 1, pointwise_inhibition=inhibit), want[0])
    same(models.Stage(made, inhibit=True)(times), heard[0])
    network = models.Network(torch.nn.Identity(), [models.Stage(made)], [0, 1, 2, 3])
    first = latency.k_winners(fired, potentials, time_steps=STEPS)[:, 0, 0]
    same(network(times), first)
    before = made.weight.clone()
    assert not (learning.STDP(made, RATES, **OPTIONS).learn(times, 4)[..., 0] == 0).any()
    same(made.weight[0], before[0])
    made.load_weight(before)
    labels, classes = torch.arange(len(times)) % 2, torch.tensor([0, 0, 1, 1])
    found = learning.RSTDP(made, RATES, ANTI).learn(times, labels, classes, correction="guess")
    assert not (found[..., 0] == 0).any()


@pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")
def test_hooks_that_look_on_change_nothing_and_are_called():
    times, calls = samples(), []
    plain, made = (layer(snn.SpikingConvolution, 2.0, time_steps=STEPS) for _ in range(2))
    made.register_forward_pre_hook(lambda one, given: calls.append("before"))
    made.register_forward_hook(lambda one, given, fired: calls.append("after"))
    uses = (
        lambda one: one.winners(times, 2),
        lambda one: models.Stage(one, inhibit=True)(times),
        lambda one: learning.STDP(one, RATES, **OPTIONS).learn(times, 2, minibatch=len(times)),
        lambda one: models.Network(torch.nn.Identity(), [models.Stage(one)], [0, 1, 2, 3])(times),
    )
    for use in uses:
        same(use(made), use(plain))
        assert calls == ["before", "after"]
        calls.clear()


@pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")
def test_a_pre_hook_that_changes_the_input_is_heard():
    times, made = samples(), layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    later = (times + 1).clamp(max=STEPS)
    want = made.winners(later, 2), models.Stage(made, inhibit=True)(later)
    made.register_forward_pre_hook(lambda one, given: ((given[0] + 1).clamp(max=STEPS),))
    same(made.winners(times, 2), want[0])
    same(models.Stage(made, inhibit=True)(times), want[1])


@pytest.mark.parametrize(
    "hook", [lambda one, given, fired: fired + 1, lambda *_: torch.zeros(2, dtype=torch.uint8), lambda *_: "no"]
)
@pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")
def test_a_hook_that_moves_spikes_is_refused(hook):
    made = layer(snn.SpikingConvolution, 2.0, time_steps=STEPS)
    made.register_forward_hook(hook)
    for use in (made.winners, models.Stage(made, inhibit=True), learning.STDP(made, RATES).learn):
        with pytest.raises(TypeError, match="`respond`"):
            use(samples())


@pytest.mark.parametrize("threshold", [2.0, None])
@pytest.mark.filterwarnings("ignore::spyketorch.PerformanceWarning")
def test_a_pruned_layer_answers_with_the_weights_it_has_now(threshold):
    made, fresh = (layer(snn.SpikingConvolution, threshold, time_steps=STEPS) for _ in range(2))
    prune.l1_unstructured(made, "weight", 0.5)
    made.weight_orig.copy_(made.weight_orig.flip(0))
    fresh.load_weight(made.weight_orig * made.weight_mask)
    times = samples()
    for ask in (
        lambda one: one.respond(times)[1],
        lambda one: one.winners(times, 2),
        lambda one: models.Stage(one, inhibit=True)(times),
        lambda one: models.Network(torch.nn.Identity(), [models.Stage(one)], [0, 1, 2, 3])(times),
    ):
        made.weight = torch.full_like(made.weight, 9)  # as if it had been computed long ago
        same(ask(made), ask(fresh))
