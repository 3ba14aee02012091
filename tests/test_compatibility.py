"""What existing scripts rely on: names, keywords and their order, state_dict keys, live rates, and a script end to end.

Answers are compared with plain loops or plain torch written here, not with the library's own operations.
"""

import copy
import inspect
import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parameter import Parameter

from spyketorch import functional as sf
from spyketorch import snn, utils, visualization

# ----------------------------------------------------------------------------------------- names and signatures


@pytest.mark.parametrize("module", ["functional", "snn", "utils"])
def test_star_import(module):
    names = {}
    exec(f"from spyketorch.{module} import *", names)
    assert names["torch"] is torch
    assert names["np"] is np
    assert names["nn"] is torch.nn
    assert names["fn"] is torch.nn.functional
    assert names["Parameter"] is Parameter
    if module != "functional":
        assert names["sf"] is sf
    expected = {
        "functional": "pad pooling fire fire_ threshold threshold_ pointwise_inhibition feature_inhibition "
        "feature_inhibition_ get_k_winners intensity_lateral_inhibition local_normalization",
        "snn": "Convolution Pooling STDP RSTDP",
        "utils": "to_pair generate_inhibition_kernel tensor_to_text text_to_tensor LateralIntencityInhibition "
        "FilterKernel DoGKernel GaborKernel Filter Intensity2Latency CacheDataset",
    }[module]
    missing = set(expected.split()) - set(names)
    assert not missing


def test_star_import_of_visualization():
    names = {}
    exec("from spyketorch.visualization import *", names)
    expected = {"show_tensor", "plot_tensor_in_image", "get_deep_receptive_field", "get_deep_feature"}
    assert expected <= set(names)


SIGNATURES = {
    (sf, "pad"): "(input, pad, value=0)",
    (sf, "pooling"): "(input, kernel_size, stride=None, padding=0)",
    (sf, "fire"): "(potentials, threshold=None, return_thresholded_potentials=False)",
    (sf, "fire_"): "(potentials, threshold=None)",
    (sf, "threshold"): "(potentials, threshold=None)",
    (sf, "threshold_"): "(potentials, threshold=None)",
    (sf, "pointwise_inhibition"): "(thresholded_potentials)",
    (sf, "feature_inhibition"): "(potentials, inhibited_features)",
    (sf, "feature_inhibition_"): "(potentials, inhibited_features)",
    (sf, "get_k_winners"): "(potentials, kwta=1, inhibition_radius=0, spikes=None)",
    (sf, "intensity_lateral_inhibition"): "(intencities, inhibition_kernel)",
    (sf, "local_normalization"): "(input, normalization_radius, eps=1e-12)",
    (snn, "Convolution"): "(in_channels, out_channels, kernel_size, weight_mean=0.8, weight_std=0.02)",
    (snn.Convolution, "forward"): "(self, input)",
    (snn.Convolution, "reset_weight"): "(self, weight_mean=0.8, weight_std=0.02)",
    (snn.Convolution, "load_weight"): "(self, target)",
    (snn, "Pooling"): "(kernel_size, stride=None, padding=0)",
    (snn.Pooling, "forward"): "(self, input)",
    (snn, "STDP"): "(conv_layer, learning_rate, use_stabilizer=True, lower_bound=0, upper_bound=1)",
    (snn.STDP, "forward"): "(self, input_spikes, potentials, output_spikes, winners=None, kwta=1, inhibition_radius=0)",
    (snn.STDP, "get_pre_post_ordering"): "(self, input_spikes, output_spikes, winners)",
    (snn.STDP, "update_learning_rate"): "(self, feature, ap, an)",
    (snn.STDP, "update_all_learning_rate"): "(self, ap, an)",
    (utils, "to_pair"): "(data)",
    (utils, "generate_inhibition_kernel"): "(percents)",
    (utils, "tensor_to_text"): "(data, address)",
    (utils, "text_to_tensor"): "(address, type='float')",
    (utils, "DoGKernel"): "(window_size, sigma1, sigma2)",
    (utils, "GaborKernel"): "(window_size, orientation, div=4.0)",
    (utils, "FilterKernel"): "(window_size)",
    (utils, "Filter"): "(filter_kernels, padding=0, thresholds=None, use_abs=False)",
    (utils, "Intensity2Latency"): "(number_of_spike_bins, to_spike=False)",
    (utils, "LateralIntencityInhibition"): "(percents)",
    (utils, "CacheDataset"): "(dataset, cache_address=None)",
    (utils.CacheDataset, "reset_cache"): "(self)",
    (visualization, "show_tensor"): "(aTensor, _vmin=None, _vmax=None)",
    (visualization, "plot_tensor_in_image"): "(fname, aTensor, _vmin=None, _vmax=None)",
    (visualization, "get_deep_receptive_field"): "(*layers_details)",
    (visualization, "get_deep_feature"): "(pre_feature, feature_stride, window_size, stride, weights=None)",
}


@pytest.mark.parametrize(("owner", "name"), SIGNATURES, ids=lambda value: getattr(value, "__name__", value))
def test_signature(owner, name):
    """Names, order and defaults as scripts know them; whatever came later is keyword-only with a default."""
    found = inspect.signature(getattr(owner, name))
    known = [p.replace(annotation=p.empty) for p in found.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    added = [p for p in found.parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert str(inspect.Signature(known)) == SIGNATURES[owner, name]
    assert all(p.default is not p.empty for p in added)
    assert not any(p.kind is p.VAR_KEYWORD for p in known)


# ----------------------------------------------------------------------------------------------------- checkpoints


class Digits(nn.Module):
    """The three-layer digit network as scripts write it, small: unsupervised, unsupervised, reward-modulated."""

    def __init__(self, features=(8, 10, 20)):
        super().__init__()
        f1, f2, f3 = features
        self.conv1 = snn.Convolution(6, f1, 5, 0.8, 0.05)
        self.conv2 = snn.Convolution(f1, f2, 3, 0.8, 0.05)
        self.conv3 = snn.Convolution(f2, f3, 5, 0.8, 0.05)
        self.conv1_t, self.conv2_t = 15, 10
        self.stdp1 = snn.STDP(self.conv1, (0.004, -0.003))
        self.stdp2 = snn.STDP(self.conv2, (0.004, -0.003))
        self.stdp3 = snn.STDP(self.conv3, (0.004, -0.003), False, 0.2, 0.8)
        self.anti_stdp3 = snn.STDP(self.conv3, (-0.004, 0.0005), False, 0.2, 0.8)
        self.max_ap = Parameter(torch.Tensor([0.15]))
        self.decision_map = [digit for digit in range(10) for _ in range(f3 // 10)]
        self.ctx = {"input_spikes": None, "potentials": None, "output_spikes": None, "winners": None}
        self.seen = 0

    def save_data(self, input_spikes, potentials, output_spikes, winners):
        self.ctx["input_spikes"] = input_spikes
        self.ctx["potentials"] = potentials
        self.ctx["output_spikes"] = output_spikes
        self.ctx["winners"] = winners

    def forward(self, input, max_layer):
        input = sf.pad(input.float(), (2, 2, 2, 2), 0)
        spikes, potentials = sf.fire(self.conv1(input), self.conv1_t, True)
        if self.training and max_layer == 1:
            return self.compete(input, potentials, 5, 3)
        pooled = sf.pad(sf.pooling(spikes, 2, 2), (1, 1, 1, 1))
        spikes, potentials = sf.fire(self.conv2(pooled), self.conv2_t, True)
        if self.training and max_layer == 2:
            return self.compete(pooled, potentials, 8, 1)
        pooled = sf.pad(sf.pooling(spikes, 3, 3), (2, 2, 2, 2))
        potentials = self.conv3(pooled)
        spikes = sf.fire(potentials)
        winners = sf.get_k_winners(potentials, 1, 0, spikes)
        if self.training:
            self.save_data(pooled, potentials, spikes, winners)
        return self.decision_map[winners[0][0]] if len(winners) != 0 else -1

    def compete(self, input, potentials, kwta, radius):
        potentials = sf.pointwise_inhibition(potentials)
        spikes = potentials.sign()
        winners = sf.get_k_winners(potentials, kwta, radius, spikes)
        self.save_data(input, potentials, spikes, winners)
        return spikes, potentials

    def stdp(self, layer_idx):
        rule = {1: self.stdp1, 2: self.stdp2}[layer_idx]
        rule(self.ctx["input_spikes"], self.ctx["potentials"], self.ctx["output_spikes"], self.ctx["winners"])
        self.seen += 1
        if self.seen % 5 == 0:  # the rate doubles until it reaches max_ap
            ap = torch.tensor(rule.learning_rate[0][0].item(), device=rule.learning_rate[0][0].device) * 2
            ap = torch.min(ap, self.max_ap)
            an = ap * -0.75
            rule.update_all_learning_rate(ap.item(), an.item())

    def update_learning_rates(self, stdp_ap, stdp_an, anti_stdp_ap, anti_stdp_an):
        self.stdp3.update_all_learning_rate(stdp_ap, stdp_an)
        self.anti_stdp3.update_all_learning_rate(anti_stdp_an, anti_stdp_ap)

    def reward(self):
        self.stdp3(self.ctx["input_spikes"], self.ctx["potentials"], self.ctx["output_spikes"], self.ctx["winners"])

    def punish(self):
        ctx = self.ctx
        self.anti_stdp3(ctx["input_spikes"], ctx["potentials"], ctx["output_spikes"], ctx["winners"])


RULES = {"stdp1": 1, "stdp2": 2, "stdp3": 3, "anti_stdp3": 3}


def checkpoint(features):
    """A state_dict of such a network made by hand, key by key, with values of its own."""
    f1, f2, f3 = features
    generator = torch.Generator().manual_seed(3)
    shapes = {1: (f1, 6, 5, 5), 2: (f2, f1, 3, 3), 3: (f3, f2, 5, 5)}
    weights = {layer: torch.rand(shape, generator=generator) for layer, shape in shapes.items()}
    state = {f"conv{layer}.weight": weight for layer, weight in weights.items()}
    for place, (rule, layer) in enumerate(RULES.items(), 1):
        for feature in range(features[layer - 1]):
            state[f"{rule}.ltp_{feature}"] = torch.tensor([0.01 * place + 0.001 * feature])
            state[f"{rule}.ltd_{feature}"] = torch.tensor([-0.02 * place - 0.001 * feature])
        state[f"{rule}.conv_layer.weight"] = weights[layer]
    state["max_ap"] = torch.tensor([0.125])
    return state


def test_state_dict_keys_and_shapes():
    expected = checkpoint((8, 10, 20))
    found = Digits().state_dict()
    assert sorted(found) == sorted(expected)
    assert {key: tuple(value.shape) for key, value in found.items()} == {
        key: tuple(value.shape) for key, value in expected.items()
    }


def test_checkpoint_loads_strictly_and_is_in_use():
    net = Digits()
    state = checkpoint((8, 10, 20))
    assert str(net.load_state_dict(state, strict=True)) == "<All keys matched successfully>"
    for key, value in net.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert net.stdp1.learning_rate[7][0].item() == state["stdp1.ltp_7"].item()
    assert net.anti_stdp3.learning_rate[19][1].item() == state["anti_stdp3.ltd_19"].item()
    assert net.stdp1.conv_layer is net.conv1
    # the loaded rates, one per feature, and the loaded weights drive the next update
    inputs, outputs = waves(6, 8, 5)
    expected = stdp_by_hand(state["conv1.weight"], inputs, outputs, [(7, 0, 1)], *rates(state, "stdp1", 7))
    net.stdp1(inputs, outputs, outputs, [(7, 0, 1)])
    assert torch.allclose(net.conv1.weight, expected, rtol=0, atol=1e-6)


def test_checkpoint_file(tmp_path):
    torch.manual_seed(1)
    net = Digits()
    net.stdp2.update_learning_rate(3, 0.5, -0.25)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    other = Digits()
    other.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    assert other.stdp2.learning_rate[3][0].item() == 0.5
    assert all(torch.equal(a, b) for a, b in zip(other.state_dict().values(), net.state_dict().values(), strict=True))


def test_encoders_and_pooling_add_no_keys():
    """A network may hold its encoders; its checkpoint stays that of its layers."""
    net = Digits()
    keys = list(net.state_dict())
    net.filter = utils.Filter([utils.DoGKernel(3, 1, 2)], thresholds=0.5)
    net.inhibit, net.encode = utils.LateralIntencityInhibition([0.1]), utils.Intensity2Latency(15)
    net.pool = snn.Pooling(2)
    assert list(net.state_dict()) == keys


def test_parameters():
    """Nothing needs a gradient but what the user made; the rates are parameters, one element each."""
    net = Digits()
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {"max_ap"}
    assert isinstance(net.conv1.weight, Parameter)
    for pair in net.stdp1.learning_rate:
        assert len(pair) == 2
        for rate in pair:
            assert isinstance(rate, Parameter)
            assert rate.shape == (1,)


def rates(state, rule, feature):
    return state[f"{rule}.ltp_{feature}"].item(), state[f"{rule}.ltd_{feature}"].item()


# --------------------------------------------------------------------------------- learning, against plain loops


def waves(channels, features, kernel, size=2, steps=4, seed=0, dtype=torch.float32):
    """A random input wave and a random output wave of `size` x `size` neurons, both cumulative."""
    generator = torch.Generator().manual_seed(seed)

    def wave(*shape):
        times = torch.randint(0, steps + 1, shape, generator=generator)
        return (times <= torch.arange(steps).reshape(-1, 1, 1, 1)).to(dtype)

    side = size + kernel - 1
    return wave(channels, side, side), wave(features, size, size)


def stdp_by_hand(weight, inputs, outputs, winners, ltp, ltd, stabilizer=True, lower=0.0, upper=1.0):
    """The rule as the paper words it, in loops: compare the sums over time, then bound every weight."""
    old = weight.detach().double().numpy()
    new = old.copy()
    inputs, outputs = inputs.double().sum(0).numpy(), outputs.double().sum(0).numpy()
    for feature, row, column in winners:
        for place in np.ndindex(*old.shape[1:]):
            channel, i, j = place
            w = old[(feature, *place)]
            rate = ltp if inputs[channel, row + i, column + j] >= outputs[feature, row, column] else ltd
            new[(feature, *place)] += rate * (w - lower) * (upper - w) if stabilizer else rate
    return torch.from_numpy(new.clip(lower, upper)).to(weight.dtype)


def updated(rule, inputs, outputs, winners, potentials=None):
    rule(inputs, outputs if potentials is None else potentials, outputs, winners)
    return rule.conv_layer.weight


def one_hot(wave):
    """Each neuron's first spike only."""
    return torch.cat([wave[:1], wave[1:] - wave[:-1]])


def ramp(wave):
    """Potentials: growing, with values of their own, negative ones too."""
    generator = torch.Generator().manual_seed(5)
    return (torch.randint(-16, 64, wave.shape, generator=generator) / 16).cumsum(0) * wave


@pytest.mark.parametrize("outputs_as", [torch.Tensor.clone, one_hot, ramp])
@pytest.mark.parametrize("inputs_as", [torch.Tensor.clone, one_hot, ramp])
def test_stdp_computes_what_it_is_given(inputs_as, outputs_as):
    """Potentials or one-hot waves in place of spike waves: the sums over time decide, as they always did."""
    inputs, outputs = waves(2, 3, 3)
    inputs, outputs = inputs_as(inputs), outputs_as(outputs)
    winners = [(2, 1, 0), (0, 0, 1)]
    conv = snn.Convolution(2, 3, 3, 0.5, 0.1)
    expected = stdp_by_hand(conv.weight, inputs, outputs, winners, 0.25, -0.125)
    rule = snn.STDP(conv, (0.25, -0.125))
    ordering = rule.get_pre_post_ordering(inputs, outputs, winners)
    by_hand = [
        inputs.sum(0)[:, row : row + 3, column : column + 3] >= outputs.sum(0)[feature, row, column]
        for feature, row, column in winners
    ]
    assert [place.tolist() for place in ordering] == [place.tolist() for place in by_hand]
    assert all(place.dtype == torch.bool for place in ordering)
    assert torch.allclose(updated(rule, inputs, outputs, winners), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("stabilizer", [True, False])
def test_stdp_with_its_own_winners(stabilizer):
    """Without winners the rule selects them from the potentials it is given."""
    inputs, _ = waves(2, 3, 3)
    inputs[:, :, 0, 0] = 1
    potentials = torch.zeros(4, 3, 2, 2)
    potentials[1:, 1, 0, 1] = 5  # the earliest, then the largest
    potentials[2:, 2, 1, 1] = 9
    potentials[2:, 0, 0, 0] = 8
    for kwta, winners in ((1, [(1, 0, 1)]), (2, [(1, 0, 1), (2, 1, 1)])):
        conv = snn.Convolution(2, 3, 3, 0.5, 0.1)
        expected = stdp_by_hand(conv.weight, inputs, potentials.sign(), winners, 0.25, -0.125, stabilizer, 0.25, 0.75)
        rule = snn.STDP(conv, (0.25, -0.125), stabilizer, 0.25, 0.75)
        rule(inputs, potentials, potentials.sign(), kwta=kwta)
        assert torch.allclose(conv.weight, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("winners", [[], (), torch.zeros(0, 3, dtype=torch.int64)], ids=["list", "tuple", "tensor"])
def test_empty_winners_change_nothing(winners):
    inputs, outputs = waves(2, 3, 3)
    conv = snn.Convolution(2, 3, 3, 0.5, 0.1)
    before = conv.weight.clone()
    rule = snn.STDP(conv, (0.25, -0.125))
    assert torch.equal(updated(rule, inputs, outputs, winners), before)
    assert list(rule.get_pre_post_ordering(inputs, outputs, winners)) == []
    silent = torch.zeros_like(outputs)
    rule(inputs, silent, silent)  # nobody fires, nobody wins
    assert torch.equal(conv.weight, before)


def test_winners_as_numpy_integers():
    """Old scripts carry winners of numpy integers."""
    inputs, outputs = waves(2, 3, 3)
    conv = snn.Convolution(2, 3, 3, 0.5, 0.1)
    expected = stdp_by_hand(conv.weight, inputs, outputs, [(1, 0, 1)], 0.25, -0.125)
    winners = [tuple(np.int64(v) for v in (1, 0, 1))]
    assert torch.allclose(updated(snn.STDP(conv, (0.25, -0.125)), inputs, outputs, winners), expected, atol=1e-6)


def test_winners_are_plain_tuples_and_index():
    potentials = torch.zeros(3, 2, 4, 4)
    potentials[1:, 1, 2, 3] = 1
    winners = sf.get_k_winners(potentials)
    assert winners == [(1, 2, 3)]
    assert isinstance(winners, list)
    assert isinstance(winners[0], tuple)
    assert all(type(value) is int for value in winners[0])
    assert sf.get_k_winners(torch.zeros(3, 2, 4, 4)) == []


# ------------------------------------------------------------------------------------------------------ live rates


def change(net, feature=1):
    """Potentiation and depression the rule really applies, read off a weight of 0.5 (without stabilizer)."""
    rule = net if isinstance(net, snn.STDP) else net.stdp1
    dtype = rule.conv_layer.weight.dtype
    inputs = torch.zeros(4, 2, 4, 4, dtype=dtype)
    inputs[:, 0] = 1  # channel 0 fires first, channel 1 never
    outputs = torch.zeros(4, 3, 2, 2, dtype=dtype)
    outputs[2:] = 1
    with torch.no_grad():
        rule.conv_layer.weight.fill_(0.5)
    rule(inputs, outputs, outputs, [(feature, 0, 0)])
    difference = (rule.conv_layer.weight[feature] - 0.5).detach()
    return round(difference[0].mean().item(), 5), round(difference[1].mean().item(), 5)


def plain_rule():
    return snn.STDP(snn.Convolution(2, 3, 3), (0.01, -0.02), False)


def test_rates_can_be_read():
    rule = plain_rule()
    assert len(rule.learning_rate) == 3
    for ltp, ltd in rule.learning_rate:
        assert ltp.item() == pytest.approx(0.01)
        assert ltd.item() == pytest.approx(-0.02)
        assert ltp.device == torch.device("cpu")
    assert rule.ltp_0 is rule.learning_rate[0][0] or torch.equal(rule.ltp_0, rule.learning_rate[0][0])
    assert change(rule) == (0.01, -0.02)


def set_item(rule):
    rule.learning_rate[1][0][0] = 0.25
    rule.learning_rate[1][1][0] = -0.125


def fill(rule):
    rule.learning_rate[1][0].fill_(0.25)
    rule.learning_rate[1][1].data.fill_(-0.125)


def copy_in(rule):
    rule.learning_rate[1][0].copy_(torch.tensor([0.25]))
    rule.learning_rate[1][1].mul_(0).sub_(0.125)


def by_name(rule):
    rule.ltp_1.fill_(0.25)
    rule.ltd_1[0] = -0.125


def load(rule):
    rule.load_state_dict({**rule.state_dict(), "ltp_1": torch.tensor([0.25]), "ltd_1": torch.tensor([-0.125])})


def load_assign(rule):
    state = {**rule.state_dict(), "ltp_1": torch.tensor([0.25]), "ltd_1": torch.tensor([-0.125])}
    rule.load_state_dict({key: value.to(rule.ltp_0.dtype) for key, value in state.items()}, assign=True)


def update(rule):
    rule.update_learning_rate(1, 0.25, -0.125)


@pytest.mark.parametrize("write", [set_item, fill, copy_in, by_name, load, load_assign, update])
@pytest.mark.parametrize(
    "prepare",
    [
        lambda rule: rule,
        copy.deepcopy,
        lambda rule: pickle.loads(pickle.dumps(rule)),
        lambda rule: rule.to("cpu"),
        lambda rule: rule.double(),
        lambda rule: rule.double().float(),
        lambda rule: copy.deepcopy(rule.double()),
    ],
    ids=["new", "deepcopy", "pickle", "to", "double", "double_float", "double_deepcopy"],
)
def test_rates_are_live(write, prepare):
    """Whatever way a rate is written, and whatever happened to the rule before, the next update uses it."""
    rule = prepare(plain_rule())
    write(rule)
    assert change(rule) == (0.25, -0.125)
    assert change(rule, 0) == (0.01, -0.02)  # that feature alone
    state = rule.state_dict()
    assert state["ltp_1"].item() == 0.25
    assert state["ltd_1"].item() == -0.125
    rule.update_all_learning_rate(0.0625, -0.03125)
    assert change(rule) == (0.0625, -0.03125)
    assert [rate.item() for pair in rule.learning_rate for rate in pair] == [0.0625, -0.03125] * 3


def test_copies_share_nothing():
    rule = plain_rule()
    twin = copy.deepcopy(rule)
    twin.update_all_learning_rate(0.25, -0.125)
    assert change(rule) == (0.01, -0.02)
    assert twin.conv_layer is not rule.conv_layer


def test_update_all_takes_numbers_and_tensors():
    rule = plain_rule()
    rule.update_all_learning_rate(torch.tensor(0.25), torch.tensor([-0.125]))
    assert change(rule) == (0.25, -0.125)
    rule.update_learning_rate(np.int64(1), np.float32(0.5), np.float64(-0.25))
    assert change(rule) == (0.5, -0.25)


@pytest.mark.parametrize("kind", [tuple, list])
def test_a_list_of_rates_shared_by_two_rules(kind):
    """The caller's list stays as it was, and the rules do not share state."""
    conv = snn.Convolution(2, 3, 3)
    given = [kind(pair) for pair in ((0.01, -0.02), (0.25, -0.125), (0.5, -0.25))]
    before = copy.deepcopy(given)
    first, second = snn.STDP(conv, given, False), snn.STDP(conv, given, False)
    assert given == before
    assert all(type(rate) is float for pair in given for rate in pair)
    assert change(first) == change(second) == (0.25, -0.125)
    first.update_all_learning_rate(0.125, -0.0625)
    assert change(second) == (0.25, -0.125)
    assert change(second, 2) == (0.5, -0.25)


# ----------------------------------------------------------------------------------------- layers used in other ways


def test_convolution_is_torch_convolution():
    """The same torch call on the same numbers: bit for bit."""
    torch.manual_seed(0)
    conv = snn.Convolution(6, 10, 5, 0.8, 0.05)
    input = (torch.rand(15, 6, 20, 21) > 0.8).float().cumsum(0).clamp(max=1)
    assert torch.equal(conv(input), nn.functional.conv2d(input, conv.weight))
    torch.manual_seed(9)
    weight = torch.empty(4, 3, 2, 3).normal_(0.5, 0.25)
    torch.manual_seed(9)
    assert torch.equal(snn.Convolution(3, 4, (2, 3), 0.5, 0.25).weight, weight)


def test_weight_replaced_later():
    """`conv.weight = Parameter(...)`: the new one is what convolves, learns and is saved."""
    conv = snn.Convolution(2, 3, 3)
    rule = snn.STDP(conv, (0.25, -0.125))
    old = conv.weight
    weight = Parameter(torch.rand(3, 2, 3, 3), requires_grad=False)
    conv.weight = weight
    inputs, outputs = waves(2, 3, 3)
    assert torch.equal(conv(inputs), nn.functional.conv2d(inputs, weight))
    expected = stdp_by_hand(weight, inputs, outputs, [(1, 0, 1)], 0.25, -0.125)
    untouched = old.clone()
    rule(inputs, outputs, outputs, [(1, 0, 1)])
    assert conv.weight is weight
    assert torch.allclose(conv.weight, expected, rtol=0, atol=1e-6)
    assert torch.equal(old, untouched)
    assert torch.equal(rule.state_dict()["conv_layer.weight"], conv.weight)


def test_weight_that_wants_a_gradient():
    """`Parameter(...)` alone asks for a gradient; the rule learns all the same, and without a graph."""
    conv = snn.Convolution(2, 3, 3)
    rule = snn.STDP(conv, (0.25, -0.125))
    conv.weight = Parameter(torch.rand(3, 2, 3, 3))
    inputs, outputs = waves(2, 3, 3)
    expected = stdp_by_hand(conv.weight, inputs, outputs, [(2, 1, 1)], 0.25, -0.125)
    rule(inputs, outputs, outputs, [(2, 1, 1)])
    assert torch.allclose(conv.weight, expected, rtol=0, atol=1e-6)
    assert conv.weight.grad_fn is None


def test_load_weight_copies():
    conv = snn.Convolution(2, 3, 3)
    target = torch.rand(3, 2, 3, 3)
    weight = conv.weight
    conv.load_weight(target)
    assert conv.weight is weight
    assert torch.equal(weight, target)
    target.zero_()
    assert weight.min() > 0


def test_double_network():
    net = nn.ModuleDict({"conv": snn.Convolution(2, 3, 3, 0.5, 0.1)})
    net["stdp"] = snn.STDP(net["conv"], (0.25, -0.125))
    net.double()
    assert {value.dtype for value in net.state_dict().values()} == {torch.float64}
    inputs, outputs = waves(2, 3, 3, dtype=torch.float64)
    potentials = net["conv"](inputs)
    assert potentials.dtype == torch.float64
    assert sf.fire(potentials, 3.0).dtype == torch.float64
    expected = stdp_by_hand(net["conv"].weight, inputs, outputs, [(1, 0, 1)], 0.25, -0.125)
    assert torch.allclose(updated(net["stdp"], inputs, outputs, [(1, 0, 1)]), expected, rtol=0, atol=1e-12)
    assert net["conv"].weight.dtype == torch.float64


def test_module_containers():
    net = nn.Module()
    net.layers = nn.ModuleList([snn.Convolution(2, 3, 3), snn.Pooling(2), snn.Convolution(3, 4, 1)])
    net.rules = nn.ModuleDict({"first": snn.STDP(net.layers[0], (0.25, -0.125), False)})
    net.rules["last"] = snn.STDP(net.layers[2], (0.5, -0.25), False)
    keys = {"layers.0.weight", "layers.2.weight", "rules.first.conv_layer.weight", "rules.last.conv_layer.weight"}
    keys |= {f"rules.{rule}.{rate}_{i}" for rule, n in (("first", 3), ("last", 4)) for rate in ("ltp", "ltd")
             for i in range(n)}  # fmt: skip
    assert set(net.state_dict()) == keys
    twin = copy.deepcopy(net)
    assert twin.rules["first"].conv_layer is twin.layers[0]
    twin.load_state_dict({key: torch.full_like(value, 0.25) for key, value in net.state_dict().items()})
    assert change(twin.rules["first"]) == (0.25, 0.25)
    sequence = nn.Sequential(snn.Convolution(2, 3, 3), snn.Pooling(2, 1))
    assert sequence(torch.ones(5, 2, 8, 8)).shape == (5, 3, 5, 5)


def test_network_pickled_whole(tmp_path):
    net = snn.STDP(snn.Convolution(2, 3, 3), (0.25, -0.125), False)
    torch.save(net, tmp_path / "net.pt")
    again = torch.load(tmp_path / "net.pt", weights_only=False)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    assert change(again) == (0.25, -0.125)


# --------------------------------------------------------------------------------------------- a script end to end


class Encode:
    """The transform of the digit network as scripts write it: filter, normalise, one latency code."""

    def __init__(self, filter):
        self.filter = filter
        self.latency = utils.Intensity2Latency(15, to_spike=True)

    def __call__(self, image):
        image = (image * 255).unsqueeze(0)
        image = sf.local_normalization(self.filter(image), 8)
        return self.latency(image).sign().byte()


class Strokes(torch.utils.data.Dataset):
    """Tiny images: noise with one bright bar, whose place is the label."""

    def __init__(self, encode, count=10):
        self.encode, self.count = encode, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        image = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(index)) * 0.2
        label = index % 10
        image[:, 4 + 2 * label : 6 + 2 * label, 4:24] = 1.0
        return self.encode(image), label


def run_script(tmp_path):
    """Train layer 1, layer 2, then layer 3 with rewards; answer the network, its weights after each stage, outputs."""
    torch.manual_seed(0)
    kernels = [utils.DoGKernel(3, 3 / 9, 6 / 9), utils.DoGKernel(3, 6 / 9, 3 / 9),
               utils.DoGKernel(7, 7 / 9, 14 / 9), utils.DoGKernel(7, 14 / 9, 7 / 9),
               utils.DoGKernel(13, 13 / 9, 26 / 9), utils.DoGKernel(13, 26 / 9, 13 / 9)]  # fmt: skip
    encode = Encode(utils.Filter(kernels, padding=6, thresholds=50))
    data = utils.CacheDataset(Strokes(encode), str(tmp_path / "cache"), key="strokes")
    loader = torch.utils.data.DataLoader(data, batch_size=5, shuffle=False)
    net = Digits()
    stages = [{name: value.clone() for name, value in net.state_dict().items()}]
    for layer in (1, 2):
        net.train()
        net.seen = 0
        for _ in range(2):
            for images, _labels in loader:
                for image in images:
                    net(image, layer)
                    net.stdp(layer)
        stages.append({name: value.clone() for name, value in net.state_dict().items()})
    outputs = []
    for images, labels in loader:
        for image, label in zip(images, labels, strict=True):
            decision = net(image, 3)
            outputs.append(decision)
            if decision != -1:
                if decision == label:
                    net.reward()
                else:
                    net.punish()
        net.update_learning_rates(0.004 * 0.5, -0.003 * 0.5, 0.0005 * 0.5, -0.004 * 0.5)
    stages.append({name: value.clone() for name, value in net.state_dict().items()})
    return net, data, stages, outputs


def test_script(tmp_path):
    net, data, stages, outputs = run_script(tmp_path)
    for stage, (before, after) in enumerate(pairwise(stages), 1):
        changed = {int(name[4]) for name in ("conv1.weight", "conv2.weight", "conv3.weight")
                   if not torch.equal(before[name], after[name])}  # fmt: skip
        assert changed == {stage}  # a stage teaches its own layer and no other
    final = stages[-1]
    assert final["conv1.weight"].min() >= 0
    assert final["conv1.weight"].max() <= 1
    assert final["conv3.weight"].min() >= torch.tensor(0.2)
    assert final["conv3.weight"].max() <= torch.tensor(0.8)
    assert torch.equal(final["stdp1.conv_layer.weight"], final["conv1.weight"])
    # twenty images, doubled every five: four times from 0.004
    assert final["stdp1.ltp_0"].item() == pytest.approx(0.064)
    assert final["stdp2.ltd_9"].item() == pytest.approx(-0.048)
    assert final["anti_stdp3.ltp_0"].item() == pytest.approx(-0.002)
    assert set(outputs) <= set(range(-1, 10))
    assert set(outputs) != {-1}
    # evaluation decides the same again, also after the weights went through a file
    net.eval()
    decisions = [net(image, 3) for image, _ in data]
    torch.save(net.state_dict(), tmp_path / "net.pth")
    other = Digits()
    other.load_state_dict(torch.load(tmp_path / "net.pth", weights_only=True))
    other.eval()
    assert [other(image, 3) for image, _ in data] == decisions


def test_script_repeats_with_its_seed(tmp_path):
    first, second = run_script(tmp_path / "a"), run_script(tmp_path / "b")
    assert first[3] == second[3]
    for name, value in first[2][-1].items():
        assert torch.equal(value, second[2][-1][name]), name


def test_script_updates_equal_the_loops(tmp_path):
    """One image through each layer of the script; each update against the plain loops."""
    torch.manual_seed(4)
    net = Digits()
    wave = (torch.rand(6, 28, 28) * 22).floor()  # first-spike times, some of them silent
    wave = (wave <= torch.arange(15).reshape(-1, 1, 1, 1)).byte()
    net.train()
    for layer, rule in ((1, net.stdp1), (2, net.stdp2), (3, net.stdp3), (3, net.anti_stdp3)):
        net(wave, layer)
        weight, winners = rule.conv_layer.weight, net.ctx["winners"]
        assert 0 < len(winners) <= {1: 5, 2: 8, 3: 1}[layer]
        ltp, ltd = (rate.item() for rate in rule.learning_rate[0])
        bounds = (True, 0, 1) if layer < 3 else (False, 0.2, 0.8)
        expected = stdp_by_hand(weight, net.ctx["input_spikes"], net.ctx["output_spikes"], winners, ltp, ltd, *bounds)
        if layer < 3:
            net.stdp(layer)
        else:
            (net.reward if rule is net.stdp3 else net.punish)()
        assert torch.allclose(weight, expected, rtol=0, atol=1e-6)
