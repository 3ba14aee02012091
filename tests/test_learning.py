"""STDP and reward-modulated STDP against the oracle, and everything a user can hold of a rule."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import close, dyadic, layers, same, seeds, tensor, to_wave

import spyketorch.functional as sf
from spyketorch import learning, snn
from spyketorch.encoding import Intensity2Latency

bounds = st.sampled_from([(0, 1), (0.25, 0.75), (-0.5, 0.5)])
forms = st.sampled_from(["list", "tensor", "padded"])


def build(layer, dtype=torch.float64):
    """The convolution of a drawn layer."""
    conv = snn.Convolution(*layer.arguments, **layer.geometry).to(dtype)
    conv.load_weight(tensor(layer.weight, dtype))
    return conv


def rates_of(rng, features):
    """Dyadic (LTP, LTD) pairs, one per feature."""
    return [(float(a), float(b)) for a, b in dyadic(rng, (features, 2), -1, 1, 16)]


def some_winners(rng, shape, k):
    """Up to k random winners of different features for potentials of a shape."""
    features = rng.permutation(shape[-3])[:k]
    return [(int(f), int(rng.integers(shape[-2])), int(rng.integers(shape[-1]))) for f in features]


def as_form(winners, form):
    """Winners as a list or a tensor, on request with rows of -1 between."""
    if form == "list":
        return winners
    gap = [(-1, -1, -1)] if form == "padded" else []
    return torch.tensor(gap + winners + gap, dtype=torch.int64).reshape(-1, 3)


def batch_as_form(winners, form):
    """Winners of each sample as lists or as one tensor, filled up with rows of -1."""
    if form == "list":
        return winners
    k = max(map(len, winners)) + (form == "padded")
    rows = [w + [(-1, -1, -1)] * (k - len(w)) for w in winners]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(winners), k, 3)


def respond(conv, threshold=0.5):
    """Forward pass of one layer: inhibited potentials and spikes."""

    def forward(wave):
        _, kept = sf.fire(conv(wave), threshold, True, latch=True)
        kept = sf.pointwise_inhibition(kept)
        return kept, kept.sign()

    return forward


# the ordering and one update


@given(layer=layers(), k=st.integers(0, 3), seed=seeds, contiguous=st.booleans())
def test_ordering(dtype, layer, k, seed, contiguous):
    rule, rng = learning.STDP(build(layer, dtype), (0.5, -0.5)), np.random.default_rng(seed)
    shape = ref.convolution(layer.wave, layer.weight, **layer.geometry).shape
    winners, output = some_winners(rng, shape, k), to_wave(rng.integers(0, shape[0] + 1, shape[1:]), shape[0])
    got = rule.get_pre_post_ordering(tensor(layer.wave, dtype, contiguous), tensor(output, dtype, contiguous), winners)
    want = ref.ordering(layer.wave, output, winners, layer.weight.shape, **layer.geometry)
    assert isinstance(got, list)
    assert len(got) == len(winners)
    for g, w in zip(got, want, strict=True):
        assert g.dtype == torch.bool
        same(g, w)


@given(
    layer=layers(low=-0.5),
    k=st.integers(0, 4),
    seed=seeds,
    stabilizer=st.booleans(),
    bound=bounds,
    form=forms,
    kind=st.sampled_from(["wave", "uint8", "bool", "potentials", "one-hot"]),
    contiguous=st.booleans(),
)
def test_stdp(dtype, layer, k, seed, stabilizer, bound, form, kind, contiguous):
    rng, conv = np.random.default_rng(seed), build(layer, dtype)
    rates = rates_of(rng, len(layer.weight))
    shape = ref.convolution(layer.wave, layer.weight, **layer.geometry).shape
    winners, output = some_winners(rng, shape, k), to_wave(rng.integers(0, shape[0] + 1, shape[1:]), shape[0])
    wave = layer.wave
    if kind == "potentials":
        wave, output = dyadic(rng, wave.shape, 0, 2, 4), dyadic(rng, output.shape, 0, 2, 4)
    if kind == "one-hot":
        wave, output = (np.diff(w, axis=0, prepend=0) for w in (wave, output))
    as_dtype = {"uint8": torch.uint8, "bool": torch.bool}.get(kind, dtype)
    x, y = tensor(wave, as_dtype, contiguous), tensor(output, as_dtype, contiguous)
    rule = learning.STDP(conv, rates, stabilizer, *bound)
    want = ref.stdp(layer.weight, wave, output, winners, rates, stabilizer, *bound, **layer.geometry)
    assert rule(x, y, y, as_form(winners, form)) is None
    same(conv.weight, want)
    same(x, wave)
    same(y, output)
    assert conv.weight.dtype == dtype


@given(layer=layers(max_steps=3), kwta=st.integers(1, 3), radius=st.integers(0, 2))
def test_winners_are_found_when_not_given(layer, kwta, radius):
    weights = []
    for explicit in (False, True):
        conv = build(layer)
        kept, spikes = respond(conv)(tensor(layer.wave))
        rule = learning.STDP(conv, (0.25, -0.125))
        if explicit:
            rule(tensor(layer.wave), kept, spikes, sf.get_k_winners(kept, kwta, radius, spikes))
        else:
            rule(tensor(layer.wave), kept, spikes, kwta=kwta, inhibition_radius=radius)
        weights.append(conv.weight)
    same(*weights)


@given(
    layer=layers(batched=True, max_steps=3), seed=seeds, stabilizer=st.booleans(), bound=bounds, kwta=st.integers(1, 3)
)
def test_bounds_hold_and_only_winners_learn(layer, seed, stabilizer, bound, kwta):
    rng, conv = np.random.default_rng(seed), build(layer)
    with torch.no_grad():
        conv.weight.clamp_(*bound)
    rule = learning.STDP(conv, [(a * 9, b * 9) for a, b in rates_of(rng, len(layer.weight))], stabilizer, *bound)
    for wave in tensor(layer.wave):
        kept, spikes = respond(conv, 0)(wave)
        winners, before = sf.get_k_winners(kept, kwta, 0, spikes), conv.weight.clone()
        rule(wave, kept, spikes, winners)
        assert conv.weight.min() >= bound[0]
        assert conv.weight.max() <= bound[1]
        losers = [f for f in range(len(before)) if f not in {w[0] for w in winners}]
        same(conv.weight[losers], before[losers])


def test_one_update_by_hand():
    conv = snn.Convolution(3, 2, 1)
    conv.load_weight(torch.tensor([[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]).reshape(2, 3, 1, 1))
    wave = torch.zeros(3, 3, 1, 1)
    wave[0:, 0], wave[1:, 1] = 1, 1
    output = torch.zeros(3, 2, 1, 1)
    output[0:, 0], output[1:, 1] = 1, 1
    rule = learning.STDP(conv, [(0.5, -0.25), (0.125, -0.0625)])
    rule(wave, output, output, [(0, 0, 0), (1, 0, 0)])
    first = [0.5 + 0.5 * 0.25, 0.5 - 0.25 * 0.25, 0.5 - 0.25 * 0.25]
    second = [0.25 + 0.125 * 0.1875, 0.25 + 0.125 * 0.1875, 0.25 - 0.0625 * 0.1875]
    assert conv.weight.reshape(2, 3).tolist() == [first, second]


def test_the_whole_weight_is_clamped():
    for winners in ([], torch.empty(0, 3, dtype=torch.int64), [(0, 0, 0)]):
        conv = snn.Convolution(1, 2, 1)
        conv.load_weight(torch.tensor([2.0, -1.0]).reshape(2, 1, 1, 1))
        rule = learning.STDP(conv, (0, 0), False, 0.25, 0.75)
        rule(torch.ones(2, 1, 1, 1), torch.ones(2, 2, 1, 1), torch.ones(2, 2, 1, 1), winners)
        assert conv.weight.flatten().tolist() == [0.75, 0.25]


def test_updates_use_the_weights_before_the_call():
    conv = snn.Convolution(1, 3, 1)
    start = torch.tensor([0.25, 0.5, 0.75]).reshape(3, 1, 1, 1)
    alone = []
    for winners in ([(0, 0, 0)], [(1, 0, 0)], [(2, 0, 0)], [(2, 0, 0), (0, 0, 0), (1, 0, 0)]):
        conv.load_weight(start)
        x, y = torch.ones(1, 1, 1, 1), torch.ones(1, 3, 1, 1)
        learning.STDP(conv, (0.5, -0.5))(x, y, y, winners)
        alone.append(conv.weight.clone())
    same(alone[3] - start, alone[0] + alone[1] + alone[2] - 3 * start)


def test_a_replaced_weight_is_the_one_that_learns():
    conv = snn.Convolution(1, 1, 1)
    rule = learning.STDP(conv, (0.5, -0.5))
    conv.weight = torch.nn.Parameter(torch.full((1, 1, 1, 1), 0.5), requires_grad=False)
    one = torch.ones(1, 1, 1, 1)
    rule(one, one, one, [(0, 0, 0)])
    assert conv.weight.item() == 0.625
    conv.double()
    rule(one.double(), one.double(), one.double(), [(0, 0, 0)])
    assert conv.weight.item() == 0.625 + 0.5 * 0.625 * 0.375


def test_nothing_learns_a_gradient():
    conv = snn.Convolution(1, 1, 1)
    x = torch.ones(1, 1, 1, 1, requires_grad=True)
    learning.STDP(conv, (0.5, -0.5))(x, x, x, [(0, 0, 0)])
    assert not conv.weight.requires_grad
    assert conv.weight.grad_fn is None


# batches


@given(layer=layers(batched=True, max_steps=3), seed=seeds, stabilizer=st.booleans(), form=forms)
def test_a_batched_call_applies_the_samples_in_order(layer, seed, stabilizer, form):
    rng = np.random.default_rng(seed)
    rates = rates_of(rng, len(layer.weight))
    shape = ref.convolution(layer.wave[0], layer.weight, **layer.geometry).shape
    output = np.stack([to_wave(rng.integers(0, shape[0] + 1, shape[1:]), shape[0]) for _ in layer.wave])
    winners = [some_winners(rng, shape, int(rng.integers(0, 4))) for _ in layer.wave]
    batched, looped = build(layer), build(layer)
    x, y = tensor(layer.wave), tensor(output)
    learning.STDP(batched, rates, stabilizer)(x, y, y, batch_as_form(winners, form))
    rule, want = learning.STDP(looped, rates, stabilizer), layer.weight
    for i, w in enumerate(winners):
        rule(x[i], y[i], y[i], w)
        want = ref.stdp(want, layer.wave[i], output[i], w, rates, stabilizer, **layer.geometry)
    same(batched.weight, looped.weight)
    assert np.allclose(batched.weight.numpy(force=True), want, rtol=1e-13, atol=1e-15)


@given(layer=layers(batched=True, max_steps=3), kwta=st.integers(1, 3), radius=st.integers(0, 2))
def test_online_is_the_loop_written_by_hand(dtype, layer, kwta, radius):
    x = tensor(layer.wave, dtype)
    by_hand, online, one_by_one = build(layer, dtype), build(layer, dtype), build(layer, dtype)
    rule, expected = learning.STDP(by_hand, (0.25, -0.125)), []
    for wave in x:
        kept, spikes = respond(by_hand)(wave)
        expected.append(sf.get_k_winners(kept, kwta, radius, spikes))
        rule(wave, kept, spikes, expected[-1])
    seen = []

    def watched(wave):
        seen.append(wave.shape)
        return respond(online)(wave)

    assert learning.STDP(online, (0.25, -0.125)).online(x, watched, kwta, radius) == expected
    same(online.weight, by_hand.weight)
    assert seen == [x.shape[1:]] * len(x) or seen == [(1, *x.shape[1:])] * len(x)
    rule = learning.STDP(one_by_one, (0.25, -0.125))
    winners = [rule.minibatch(wave[None], respond(one_by_one), kwta, radius)[0] for wave in x]
    assert winners == expected
    same(one_by_one.weight, by_hand.weight)


@given(layer=layers(batched=True, max_steps=3), kwta=st.integers(1, 3), radius=st.integers(0, 2))
def test_minibatch_is_one_forward_pass_then_updates_in_order(layer, kwta, radius):
    x, by_hand, mini = tensor(layer.wave), build(layer), build(layer)
    rule = learning.STDP(by_hand, (0.25, -0.125))
    responses = [respond(by_hand)(wave) for wave in x]
    expected = [sf.get_k_winners(kept, kwta, radius, spikes) for kept, spikes in responses]
    for wave, (kept, spikes), winners in zip(x, responses, expected, strict=True):
        rule(wave, kept, spikes, winners)
    seen = []

    def watched(wave):
        seen.append(wave.shape)
        return respond(mini)(wave)

    assert learning.STDP(mini, (0.25, -0.125)).minibatch(x, watched, kwta, radius) == expected
    assert seen == [x.shape]
    same(mini.weight, by_hand.weight)


def test_online_and_minibatch_differ_when_samples_interact():
    x = torch.ones(3, 1, 2, 1, 1)
    weights = []
    for name in ("online", "minibatch"):
        conv = snn.Convolution(2, 2, 1)
        conv.load_weight(torch.tensor([[0.5, 0.5], [0.5, 0.625]]).reshape(2, 2, 1, 1))
        winners = getattr(learning.STDP(conv, (-0.5, 0)), name)(x, respond(conv))
        weights.append((winners, conv.weight.flatten().tolist()))
    assert weights[0][0] == [[(1, 0, 0)], [(0, 0, 0)], [(1, 0, 0)]]
    assert weights[1][0] == [[(1, 0, 0)]] * 3
    assert weights[0][1] != weights[1][1]


# what an update returns


@given(layer=layers(batched=True, max_steps=3), seed=seeds, stabilizer=st.booleans(), bound=bounds)
def test_return_update(layer, seed, stabilizer, bound):
    rng = np.random.default_rng(seed)
    shape = ref.convolution(layer.wave[0], layer.weight, **layer.geometry).shape
    y = tensor(np.stack([to_wave(rng.integers(0, shape[0] + 1, shape[1:]), shape[0]) for _ in layer.wave]))
    winners, x = [some_winners(rng, shape, 2) for _ in layer.wave], tensor(layer.wave)
    conv, quiet = build(layer), build(layer)
    rates = rates_of(rng, len(layer.weight))
    rule, silent = (learning.STDP(c, rates, stabilizer, *bound) for c in (conv, quiet))
    before = conv.weight.clone()
    update = rule(x, y, y, winners, return_update=True)
    assert update.shape == before.shape
    torch.testing.assert_close(before + update, conv.weight.data, rtol=1e-14, atol=1e-15)
    assert silent(x, y, y, winners) is None
    same(quiet.weight, conv.weight)
    before = conv.weight.clone()
    update = rule(x[0], y[0], y[0], winners[0], return_update=True)
    torch.testing.assert_close(before + update, conv.weight.data, rtol=1e-14, atol=1e-15)


# the pieces of a rule


@given(layer=layers(max_steps=4), seed=seeds, k=st.integers(1, 3))
def test_synapses_tell_the_truth(layer, seed, k):
    rng = np.random.default_rng(seed)
    steps, *shape = ref.convolution(layer.wave, layer.weight, **layer.geometry).shape
    winners, rates = some_winners(rng, shape, k), rates_of(rng, len(layer.weight))
    post = rng.integers(0, steps + 1, shape)
    seen = []

    def spy(synapses):
        seen.append(synapses)
        return torch.zeros_like(synapses.weight)

    conv = build(layer)
    y = tensor(to_wave(post, steps))
    learning.STDP(conv, rates, lower_bound=-1, upper_bound=2, rate=spy)(tensor(layer.wave), y, y, winners)
    same(conv.weight, layer.weight)
    (s,) = seen
    features = [f for f, _, _ in winners]
    assert s.features.tolist() == features
    same(s.weight, layer.weight[features])
    causal = ref.ordering(layer.wave, to_wave(post, steps), winners, layer.weight.shape, **layer.geometry)
    same(s.causal, np.array(causal))
    counts = np.array(ref.receptive_field_counts(layer.wave, winners, layer.weight.shape, **layer.geometry))
    same(s.pre_times, steps - counts)
    same(s.post_times, np.array([post[w] for w in winners]).reshape(-1, 1, 1, 1))
    same(s.ltp, np.array([rates[f][0] for f in features]).reshape(-1, 1, 1, 1))
    same(s.ltd, np.array([rates[f][1] for f in features]).reshape(-1, 1, 1, 1))
    assert (s.lower_bound, s.upper_bound) == (-1, 2)
    with pytest.raises(FrozenInstanceError):
        s.weight = None


@given(layer=layers(max_steps=4), seed=seeds)
def test_the_default_pieces_written_out(layer, seed):
    rng = np.random.default_rng(seed)
    shape = ref.convolution(layer.wave, layer.weight, **layer.geometry).shape
    winners, rates = some_winners(rng, shape, 2), rates_of(rng, len(layer.weight))
    y = tensor(to_wave(rng.integers(0, shape[0] + 1, shape[1:]), shape[0]))
    pieces = {
        "rate": lambda s: torch.where(s.pre_times <= s.post_times, s.ltp, s.ltd),
        "weight_dependence": lambda s: (s.weight - s.lower_bound) * (s.upper_bound - s.weight),
        "modulation": lambda s: 1,
    }
    for stabilizer in (True, False):
        plain, written = build(layer), build(layer)
        options = dict(pieces) if stabilizer else {"rate": pieces["rate"]}
        learning.STDP(plain, rates, stabilizer)(tensor(layer.wave), y, y, winners)
        learning.STDP(written, rates, stabilizer, **options)(tensor(layer.wave), y, y, winners)
        same(written.weight, plain.weight)


def one_synapse_each(rule_options, pre=(0, 1, 2, 3), post=1, rates=(0.5, -0.25), weight=0.5, steps=3, **options):
    """Weights after one winner sees inputs at the given times."""
    conv = snn.Convolution(len(pre), 1, 1)
    conv.load_weight(torch.full((1, len(pre), 1, 1), weight))
    x = tensor(to_wave(np.array(pre).reshape(-1, 1, 1), steps), torch.float32)
    y = tensor(to_wave(np.array([[[post]]]), steps), torch.float32)
    learning.STDP(conv, rates, **options, **rule_options)(x, y, y, [(0, 0, 0)])
    return conv.weight.flatten().tolist()


def test_a_rate_of_the_timing():
    def exponential(s):
        return torch.where(s.causal, s.ltp, s.ltd) * 2.0 ** -(s.post_times - s.pre_times).abs()

    changed = one_synapse_each({"rate": exponential}, use_stabilizer=False)
    assert changed == [0.5 + 0.25, 0.5 + 0.5, 0.5 - 0.125, 0.5 - 0.0625]


def test_silent_inputs_can_be_left_alone():
    changed = one_synapse_each({"modulation": lambda s: s.pre_times < 3}, use_stabilizer=False)
    assert changed == [1.0, 1.0, 0.25, 0.5]


def test_a_weight_dependence_of_ones_own():
    changed = one_synapse_each({"weight_dependence": lambda s: s.upper_bound - s.weight})
    assert changed == [0.75, 0.75, 0.375, 0.375]
    over = one_synapse_each({"weight_dependence": lambda s: 8 * s.weight})
    assert over == [1.0, 1.0, 0.0, 0.0]


def test_a_mask_of_synapses():
    mask = torch.tensor([True, False, True, False]).reshape(1, 4, 1, 1)
    changed = one_synapse_each({"modulation": lambda s: mask[s.features]}, use_stabilizer=False)
    assert changed == [1.0, 0.5, 0.25, 0.5]


def test_noise_is_reproduced_by_the_seed():
    noise = {"modulation": lambda s: 1 + torch.randn_like(s.weight)}
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        runs.append(one_synapse_each(noise))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_pieces_named_as_the_defaults():
    assert one_synapse_each({"rate": learning.causal_step}) == one_synapse_each({})
    assert one_synapse_each({"weight_dependence": learning.soft_bounds}, use_stabilizer=False) == one_synapse_each({})


# learning rates


def pairs(rule):
    """The rates in use, read through the Parameters."""
    return [(rule.learning_rate[i][0].item(), rule.learning_rate[i][1].item()) for i in range(len(rule.learning_rate))]


def learnt(rule):
    """(LTP, LTD) of feature 1 as an update shows them."""
    conv = rule.conv_layer
    dtype = conv.weight.dtype
    with torch.no_grad():
        conv.weight.fill_(0.5)
    x = torch.tensor([1.0, 0.0], dtype=dtype).reshape(1, 2, 1, 1)
    y = torch.ones(1, 2, 1, 1, dtype=dtype)
    rule(x, y, y, [(1, 0, 0)])
    assert (conv.weight[0] == 0.5).all()
    return tuple(((conv.weight[1] - 0.5) * 4).flatten().tolist())


def rule_of_two(rates=(0.5, -0.25)):
    """A rule on two features of two inputs."""
    return learning.STDP(snn.Convolution(2, 2, 1), rates)


def test_rates_for_all_or_for_each():
    assert pairs(rule_of_two()) == [(0.5, -0.25)] * 2
    assert pairs(rule_of_two([(0.5, -0.25), (0.125, 0.0)])) == [(0.5, -0.25), (0.125, 0.0)]
    assert learnt(rule_of_two([(0.5, -0.25), (0.125, -1.0)])) == (0.125, -1.0)
    rule = rule_of_two()
    rate = rule.learning_rate[1][0]
    assert isinstance(rate, torch.nn.Parameter)
    assert rate.shape == (1,)
    assert not rate.requires_grad
    assert rate.device == rule.conv_layer.weight.device
    assert {n for n, _ in rule.named_parameters(recurse=False)} == {"ltp_0", "ltd_0", "ltp_1", "ltd_1"}


def test_two_rules_share_no_rates():
    rates = [(0.5, -0.25), (0.5, -0.25)]
    conv = snn.Convolution(2, 2, 1)
    one, two = learning.STDP(conv, rates), learning.STDP(conv, rates)
    one.update_all_learning_rate(0.125, -0.125)
    assert rates == [(0.5, -0.25), (0.5, -0.25)]
    assert pairs(two) == rates
    as_lists = [[0.5, -0.25], [0.5, -0.25]]
    learning.STDP(conv, as_lists).update_all_learning_rate(1, 1)
    assert as_lists == [[0.5, -0.25], [0.5, -0.25]]


def change_fill(rule):
    rule.learning_rate[1][0].fill_(0.125)
    rule.learning_rate[1][1].fill_(-1.0)


def change_item(rule):
    with torch.no_grad():
        rule.learning_rate[1][0][0] = 0.125
        rule.learning_rate[1][1][0] = -1.0


def change_name(rule):
    rule.ltp_1.data.copy_(torch.tensor([0.125]))
    rule.ltd_1.copy_(torch.tensor([-1.0]))


def change_update(rule):
    rule.update_learning_rate(1, 0.125, -1.0)


def change_update_all(rule):
    rule.update_all_learning_rate(ap=0.125, an=-1.0)


def change_state(rule):
    state = rule.state_dict() | {"ltp_1": torch.tensor([0.125]), "ltd_1": torch.tensor([-1.0])}
    rule.load_state_dict(state)


changes = pytest.mark.parametrize(
    "change", [change_fill, change_item, change_name, change_update, change_update_all, change_state]
)
moves = pytest.mark.parametrize(
    "move",
    [
        lambda r: r,
        lambda r: r.double(),
        lambda r: r.to(torch.float64).to(r.conv_layer.weight.device),
        lambda r: r.double().float(),
        copy.deepcopy,
        lambda r: pickle.loads(pickle.dumps(r)),
        lambda r: copy.deepcopy(r.double()),
        lambda r: copy.deepcopy(copy.deepcopy(r)).float(),
        lambda r: torch.nn.ModuleDict({"rule": r}).double()["rule"],
    ],
    ids=["plain", "double", "to", "twice", "deepcopy", "pickle", "double-copy", "copy-float", "in-dict"],
)


@moves
@changes
def test_rates_are_live(change, move):
    rule = move(rule_of_two())
    assert learnt(rule) == (0.5, -0.25)
    change(rule)
    assert pairs(rule)[1] == (0.125, -1.0)
    assert rule.ltp_1.item() == 0.125
    assert learnt(rule) == (0.125, -1.0)
    if change is not change_update_all:
        assert pairs(rule)[0] == (0.5, -0.25)
    assert rule.learning_rate[1][0].dtype == rule.conv_layer.weight.dtype


@moves
def test_a_moved_rule_keeps_its_rates_and_its_layer(move):
    rule = rule_of_two([(0.5, -0.25), (0.75, -0.125)])
    moved = move(rule)
    assert pairs(moved) == [(0.5, -0.25), (0.75, -0.125)]
    assert set(moved.state_dict()) == {"conv_layer.weight", "ltp_0", "ltd_0", "ltp_1", "ltd_1"}
    if moved is not rule:
        moved.update_all_learning_rate(0.0, 0.0)
        assert pairs(rule) == [(0.5, -0.25), (0.75, -0.125)]


def test_rates_loaded_with_assign_are_live():
    rule = rule_of_two()
    rule.load_state_dict(rule.state_dict() | {"ltp_1": torch.tensor([0.125])}, assign=True)
    assert learnt(rule) == (0.125, -0.25)
    rule.learning_rate[1][1].fill_(-1.0)
    assert learnt(rule) == (0.125, -1.0)


def test_the_classic_doubling_of_rates():
    rule = learning.STDP(snn.Convolution(1, 2, 1), (0.004, -0.003))
    ap = torch.tensor(rule.learning_rate[0][0].item(), device=rule.learning_rate[0][0].device) * 2
    ap = torch.min(ap, torch.nn.Parameter(torch.tensor([0.15])).detach())
    rule.update_all_learning_rate(ap.item(), ap.item() * -0.75)
    torch.testing.assert_close(torch.tensor(pairs(rule)), torch.tensor([[0.008, -0.006]] * 2))


# reward and punishment

outcomes = st.sampled_from([1, -1, 0, 0.5, -0.25, 2])


@given(
    layer=layers(batched=True, max_steps=3),
    seed=seeds,
    stabilizer=st.booleans(),
    form=forms,
    outcome=st.lists(outcomes, min_size=3, max_size=3),
    as_tensor=st.booleans(),
)
def test_rstdp(layer, seed, stabilizer, form, outcome, as_tensor):
    rng, weight = np.random.default_rng(seed), layer.weight.clip(0.25, 0.75)
    reward, punishment = rates_of(rng, len(weight)), rates_of(rng, len(weight))
    shape = ref.convolution(layer.wave[0], weight, **layer.geometry).shape
    output = np.stack([to_wave(rng.integers(0, shape[0] + 1, shape[1:]), shape[0]) for _ in layer.wave])
    winners = [some_winners(rng, shape, 2) for _ in layer.wave]
    outcome = outcome[: len(winners)]
    convs = build(layer), build(layer)
    for conv in convs:
        conv.load_weight(tensor(weight))
    batched, single = (learning.RSTDP(c, reward, punishment, stabilizer, 0.25, 0.75) for c in convs)
    options = {"stabilizer": stabilizer, "lower": 0.25, "upper": 0.75} | layer.geometry
    x, y = tensor(layer.wave), tensor(output)
    before = convs[0].weight.clone()
    given_outcome = torch.tensor(outcome) if as_tensor else outcome
    update = batched(x, y, y, given_outcome, batch_as_form(winners, form), return_update=True)
    torch.testing.assert_close(before + update, convs[0].weight.data, rtol=1e-14, atol=1e-15)
    for i, (w, o) in enumerate(zip(winners, outcome, strict=True)):
        single(x[i], y[i], y[i], o, w)
        weight = ref.rstdp(weight, layer.wave[i], output[i], w, o, reward, punishment, **options)
    same(convs[0].weight, convs[1].weight)
    assert np.allclose(convs[0].weight.numpy(force=True), weight, rtol=1e-13, atol=1e-15)


def test_rstdp_holds_two_rules_of_one_layer():
    conv = snn.Convolution(2, 2, 1)
    rule = learning.RSTDP(conv, (0.5, -0.25), (-0.125, 0.0625), True, 0, 1)
    assert pairs(rule.reward) == [(0.5, -0.25)] * 2
    assert pairs(rule.punishment) == [(-0.125, 0.0625)] * 2
    assert isinstance(rule.reward, learning.STDP)
    assert rule.reward.conv_layer is conv
    assert rule.punishment.conv_layer is conv
    assert learnt(rule.reward) == (0.5, -0.25)
    assert learnt(rule.punishment) == (-0.125, 0.0625)
    rule.reward.update_all_learning_rate(0.0625, 0)
    rule.punishment.learning_rate[1][0].fill_(0.125)
    x, y = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1), torch.ones(1, 2, 1, 1)
    changes = {1: [0.0625, 0], 2: [0.125, 0], -1: [0.125, 0.0625], -0.5: [0.0625, 0.03125], 0: [0, 0]}
    for outcome, change in changes.items():
        conv.load_weight(torch.full((2, 2, 1, 1), 0.5))
        rule(x, y, y, outcome, [(1, 0, 0)])
        same(conv.weight.flatten(), [0.5, 0.5, 0.5 + change[0] / 4, 0.5 + change[1] / 4])


def test_rstdp_defaults_are_those_of_the_paper():
    conv = snn.Convolution(2, 1, 1)
    rule = learning.RSTDP(conv, (0.125, -0.0625), (-0.125, 0.0625))
    conv.load_weight(torch.full((1, 2, 1, 1), 0.5))
    x, y = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1), torch.ones(1, 1, 1, 1)
    rule(x, y, y, 1, [(0, 0, 0)])
    assert conv.weight.flatten().tolist() == [0.625, 0.4375]
    rule(x, y, y, 100, [(0, 0, 0)])
    same(conv.weight.flatten(), torch.tensor([0.8, 0.2]))


def test_rstdp_finds_its_winners():
    weights = []
    for winners in (None, [(0, 0, 0), (1, 0, 1)]):
        conv = snn.Convolution(1, 2, 1)
        conv.load_weight(torch.full((2, 1, 1, 1), 0.5))
        y = torch.zeros(2, 2, 1, 2)
        y[:, 0, 0, 0], y[1:, 1, 0, 1] = 2, 1
        learning.RSTDP(conv, (0.125, -0.125), (0, 0))(torch.ones(2, 1, 1, 2), y, y.sign(), 1, winners, 2, 0)
        weights.append(conv.weight.flatten().tolist())
    assert weights == [[0.625, 0.625]] * 2


@given(layer=layers(batched=True, max_steps=3), kwta=st.integers(1, 3), radius=st.integers(0, 2))
def test_rstdp_online_and_minibatch(layer, kwta, radius):
    x = tensor(layer.wave)

    def judge(i, winners):
        return [1, -0.5, 0][(i + len(winners)) % 3]

    for name in ("online", "minibatch"):
        by_hand, conv = build(layer), build(layer)
        rules = [learning.RSTDP(c, (0.25, -0.125), (-0.25, 0.125), True, 0, 1) for c in (by_hand, conv)]
        early, expected = [respond(by_hand)(wave) for wave in x], []
        for i, wave in enumerate(x):
            kept, spikes = respond(by_hand)(wave) if name == "online" else early[i]
            expected.append(sf.get_k_winners(kept, kwta, radius, spikes))
            rules[0](wave, kept, spikes, judge(i, expected[-1]), expected[-1])
        assert getattr(rules[1], name)(x, respond(conv), judge, kwta, radius) == expected
        same(conv.weight, by_hand.weight)


def test_rstdp_moves_and_copies():
    rule = learning.RSTDP(snn.Convolution(2, 2, 1), (0.5, -0.25), (-0.125, 0.0625), True, 0, 1).double()
    assert rule.reward.conv_layer.weight.dtype == torch.float64
    twin = copy.deepcopy(rule)
    twin.reward.update_all_learning_rate(1, -1)
    assert pairs(rule.reward) == [(0.5, -0.25)] * 2
    assert twin.reward.conv_layer is twin.punishment.conv_layer
    assert learnt(twin.reward) == (1.0, -1.0)
    assert not torch.equal(twin.reward.conv_layer.weight, rule.reward.conv_layer.weight)
    rule.load_state_dict(twin.state_dict())
    assert learnt(rule.reward) == (1.0, -1.0)


def test_rstdp_uses_its_pieces():
    conv = snn.Convolution(1, 1, 1)
    rule = learning.RSTDP(conv, (0.5, -0.5), (-0.5, 0.5), lower_bound=0, upper_bound=1, modulation=lambda s: 0.25)
    conv.load_weight(torch.full((1, 1, 1, 1), 0.5))
    one = torch.ones(1, 1, 1, 1)
    rule(one, one, one, 1, [(0, 0, 0)])
    assert conv.weight.item() == 0.625
    rule(one, one, one, -1, [(0, 0, 0)])
    assert conv.weight.item() == 0.5


# seeds


def test_a_training_is_reproduced_by_its_seed():
    def train(seed):
        torch.manual_seed(seed)
        conv = snn.Convolution(2, 4, 3, 0.5, 0.1)
        rule = learning.STDP(conv, (0.1, -0.08))
        waves = tensor(to_wave(torch.randint(0, 5, (6, 2, 6, 6)).numpy(force=True), 4), torch.float32)
        return rule.online(waves, respond(conv, 2), 2, 1), conv.weight

    one, two, other = train(1), train(1), train(2)
    assert one[0] == two[0]
    assert torch.equal(one[1], two[1])
    assert any(one[0])
    assert not torch.equal(one[1], other[1])


def test_a_whole_training_is_the_oracles():
    rng, steps = np.random.default_rng(11), 5
    images = rng.random((12, 2, 7, 7)) * (rng.random((12, 2, 7, 7)) < 0.7)
    weight = rng.normal(0.5, 0.1, (5, 2, 3, 3))
    conv = snn.Convolution(2, 5, 3, padding=1).double()
    conv.load_weight(tensor(weight))
    rule, encode = learning.STDP(conv, (0.1, -0.07)), Intensity2Latency(steps, to_spike=True)
    winners = rule.online(encode(tensor(images)), respond(conv, 3.0), 3, 1)
    learners, total = set(), 0
    for image, chosen in zip(images, winners, strict=True):
        wave = ref.intensity_to_latency(image, steps, to_spike=True)
        _, kept = ref.fire(ref.convolution(wave, weight, padding=1), 3.0)
        kept = ref.pointwise_inhibition(kept)
        assert chosen == ref.get_k_winners(kept, 3, 1)
        weight = ref.stdp(weight, wave, np.sign(kept), chosen, [(0.1, -0.07)] * 5, padding=1)
        learners, total = learners | {f for f, _, _ in chosen}, total + len(chosen)
    close(conv.weight, weight, rtol=1e-12, atol=1e-14)
    assert len(learners) == 5
    assert total > 24
