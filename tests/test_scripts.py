"""Scripts in the manner of SpykeTorch's, small: what they write to, pass and read has to go on working."""

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parameter import Parameter
from torch.nn.utils import parametrizations, parametrize, prune

from spyketorch import functional as sf
from spyketorch import snn, utils, visualization

STEPS, CLASSES, PER_CLASS = 6, 2, 3


def bars(count=8, seed=0):
    """Waves of noisy images with a bar that lies (class 0) or stands (class 1), and their classes."""
    generator = torch.Generator().manual_seed(seed)
    kernels = [utils.GaborKernel(3, 0), utils.GaborKernel(3, 90)]
    encode = nn.Sequential(utils.Filter(kernels, 1, use_abs=True), utils.LateralIntencityInhibition([0.1]))
    latency = utils.Intensity2Latency(STEPS, to_spike=True)
    waves, labels = [], []
    for i in range(count):
        image = torch.rand(1, 12, 12, generator=generator) * 20
        at = int(torch.randint(2, 10, (), generator=generator))
        image[(..., slice(at, at + 2)) if i % 2 else (0, slice(at, at + 2))] += 200
        waves.append(sf.pointwise_inhibition(latency(encode(image.unsqueeze(0)).squeeze(0))))
        labels.append(i % 2)
    return torch.stack(waves), labels


class Shallow(nn.Module):
    """One layer that decides by its earliest neuron, rewarded or punished, with features that drop out."""

    def __init__(self):
        super().__init__()
        features = CLASSES * PER_CLASS
        self.conv = snn.Convolution(2, features, 5, 0.8, 0.05)
        self.stdp = snn.STDP(self.conv, (0.004, -0.003))
        self.anti_stdp = snn.STDP(self.conv, (-0.004, 0.0005))
        self.decision_map = [label for label in range(CLASSES) for _ in range(PER_CLASS)]
        self.dropout = torch.ones(features) * 0.5
        self.to_be_dropped = torch.bernoulli(self.dropout).nonzero()
        self.ctx = {}

    def update_dropout(self):
        self.to_be_dropped = torch.bernoulli(self.dropout).nonzero()

    def forward(self, wave):
        potentials = self.conv(wave.float())
        if self.training:
            sf.feature_inhibition_(potentials, self.to_be_dropped)
        spikes, potentials = sf.fire(potentials, 4, return_thresholded_potentials=True)
        winners = sf.get_k_winners(potentials, 1, 0, spikes)
        self.ctx = {"wave": wave.float(), "potentials": potentials, "spikes": spikes, "winners": winners}
        return self.decision_map[winners[0][0]] if winners else -1

    def learn(self, rule):
        rule(self.ctx["wave"], self.ctx["potentials"], self.ctx["spikes"], self.ctx["winners"])


def train_shallow(net, waves, labels, epochs=3):
    ap, an, anti_ap, anti_an = 0.004, -0.003, 0.0005, -0.004
    decisions = []
    for _ in range(epochs):
        right = 0
        for wave, label in zip(waves, labels, strict=True):
            net.update_dropout()
            decision = net(wave)
            decisions.append(decision)
            right += decision == label
            if decision != -1:
                net.learn(net.stdp if decision == label else net.anti_stdp)
        share = right / len(labels)  # adaptive rates: reward what is rare
        for i in range(len(net.stdp.learning_rate)):
            net.stdp.update_learning_rate(i, ap * (1 - share), an * (1 - share))
            net.anti_stdp.update_learning_rate(i, anti_an * share, anti_ap * share)
    return decisions


def test_shallow_network_with_dropout_by_nonzero(tmp_path):
    torch.manual_seed(0)
    net = Shallow()
    waves, labels = bars()
    before = net.conv.weight.clone()
    decisions = train_shallow(net.train(), waves, labels)
    assert set(decisions) <= {-1, 0, 1} and set(decisions) != {-1}
    assert not torch.equal(net.conv.weight, before)
    # features that dropped out decide nothing
    net.to_be_dropped = torch.arange(PER_CLASS).view(-1, 1)
    assert 0 not in {net(wave) for wave in waves}
    net.eval()
    torch.save(net.state_dict(), tmp_path / "saved.net")
    other = Shallow().eval()
    other.load_state_dict(torch.load(tmp_path / "saved.net", map_location="cpu"))
    assert [other(wave) for wave in waves] == [net(wave) for wave in waves]
    assert other.stdp.learning_rate[4][0].item() == net.stdp.learning_rate[4][0].item()


def test_tutorial_with_a_classifier():
    """Unsupervised, winners chosen by the rule itself; then maxima over time and place for a classifier."""
    svm = pytest.importorskip("sklearn.svm")
    torch.manual_seed(0)
    waves, labels = bars(24)
    conv, pool = snn.Convolution(2, 6, 5, 0.8, 0.05), snn.Pooling(3, 3, padding=1)
    stdp = snn.STDP(conv, [(0.05, -0.0375)] * 6)
    for wave in waves[:12]:
        potentials = sf.threshold_(conv(wave), 5)
        potentials = sf.pointwise_inhibition(potentials)
        stdp(wave, potentials, potentials.sign(), kwta=2, inhibition_radius=2)
    values = [pool(sf.fire(conv(wave), 5)).sum(0).reshape(-1).numpy() for wave in waves]
    classifier = svm.SVC().fit(values[:12], labels[:12])
    assert len(classifier.predict(values[12:])) == 12


def test_pictures_of_features(tmp_path):
    torch.manual_seed(0)
    features, stride = utils.DoGKernel(5, 1, 2)().unsqueeze(0), (1, 1)
    for weights, window, step in ((None, (2, 2), (2, 2)), (torch.rand(3, 1, 3, 3), (3, 3), (1, 1))):
        features, stride = visualization.get_deep_feature(features, stride, window, step, weights)
    for i, feature in enumerate(features):
        visualization.plot_tensor_in_image(tmp_path / f"feature_{i}.png", feature)
    assert pixels(tmp_path / "feature_2.png").shape[:2] == features.shape[1:]


def pixels(path):
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as picture:
        return np.array(picture.convert("RGB"))


def test_a_picture_has_one_pixel_per_value(tmp_path):
    values = torch.arange(12.0).view(3, 4)
    for name in ("a.png", "a.PNG", "a.tif", "a.jpg", "a.bmp"):
        visualization.plot_tensor_in_image(str(tmp_path / name), values)
        assert pixels(tmp_path / name).shape == (3, 4, 3)
    visualization.plot_tensor_in_image(tmp_path / "b", values.view(1, 1, 3, 4), 0, 22)
    red, green, _ = pixels(tmp_path / "b.png").transpose(2, 0, 1)
    assert red.tolist() == green.tolist() == [[0, 11, 23, 34], [46, 58, 69, 81], [93, 104, 116, 128]]
    visualization.plot_tensor_in_image(tmp_path / "c.svg", values)
    assert (tmp_path / "c.svg").stat().st_size
    with pytest.raises(ValueError, match=r"`fname`.*png"):
        visualization.plot_tensor_in_image(tmp_path / "d.xyz", values)
    with pytest.raises(ValueError, match="`_vmin`"):
        visualization.plot_tensor_in_image(tmp_path / "d.png", values, 2, 1)


def test_a_script_on_waves_loads_no_compiler():
    """Custom operators import torch._dynamo, the loops numba: a second or more, for what such a script never uses."""
    script = """if True:
        import sys, torch
        from spyketorch import functional as sf, snn, utils, visualization
        wave = utils.Intensity2Latency(5, to_spike=True)(sf.local_normalization(torch.rand(2, 8, 8), 2))
        conv = snn.Convolution(2, 3, 3)
        spikes, kept = sf.fire(conv(wave), 2, True)
        kept = sf.pointwise_inhibition(kept)
        snn.STDP(conv, (0.1, -0.1))(wave, kept, kept.sign(), sf.get_k_winners(kept, 2, 1, kept.sign()))
        print([name for name in ("numba", "torch._dynamo") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# what is written to is in use, whatever way


def rule_and_waves(features=3):
    conv = snn.Convolution(2, features, 2)
    conv.weight.fill_(0.5)
    early, spikes = torch.zeros(4, 2, 3, 3), torch.zeros(4, features, 2, 2)
    early[:, 0], spikes[2:] = 1, 1
    return snn.STDP(conv, (0.01, -0.02), False), early, spikes


def applied(rule, waves, feature):
    """(LTP, LTD) as an update applies them, read off the weights."""
    before = rule.conv_layer.weight.data.fill_(0.5).clone()
    early, spikes = waves
    rule(early, None, spikes, [(feature, 0, 0)])
    change = (rule.conv_layer.weight.detach() - before)[feature]
    return tuple(round(float(part.mean()), 5) for part in change)


def assign_item(rule, i):
    rule.learning_rate[i] = (Parameter(torch.tensor([0.25])), Parameter(torch.tensor([-0.125])))


def assign_numbers(rule, i):
    rule.learning_rate[i - len(rule.learning_rate)] = [0.25, torch.tensor(-0.125)]


def assign_data(rule, i):
    rule.learning_rate[i][0].data = torch.tensor([0.25])
    rule.learning_rate[i][1].data = torch.tensor([-0.125])


def assign_parameters(rule, i):
    setattr(rule, f"ltp_{i}", Parameter(torch.tensor([0.25]), requires_grad=False))
    setattr(rule, f"ltd_{i}", Parameter(torch.tensor(-0.125)))


def assign_all(rule, i):
    pairs = [(0.01, -0.02)] * len(rule.learning_rate)
    pairs[i] = (0.25, -0.125)
    rule.learning_rate = pairs


def write_to_what_was_assigned(rule, i):
    mine = torch.zeros(1), torch.zeros(1)
    rule.learning_rate[i][0].data, rule.learning_rate[i][1].data = mine
    mine[0].fill_(0.25)
    mine[1].numpy()[0] = -0.125


WAYS = [assign_item, assign_numbers, assign_data, assign_parameters, assign_all, write_to_what_was_assigned]


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize("prepare", [lambda rule: rule, copy.deepcopy, lambda rule: rule.double().float()])
def test_one_state_of_rates(write, prepare):
    rule, *waves = rule_and_waves()
    twin = rule = prepare(rule)
    for again in (lambda: rule, lambda: copy.deepcopy(rule), lambda: rule.to("cpu")):
        write(rule, 1)
        twin = again()
        assert applied(twin, waves, 1) == (0.25, -0.125)
        assert applied(twin, waves, 0) == (0.01, -0.02)
        assert twin.state_dict()["ltp_1"].item() == 0.25
        assert twin.learning_rate[1][1].item() == -0.125
        twin.update_all_learning_rate(0.01, -0.02)
        assert applied(twin, waves, 1) == (0.01, -0.02)


def test_a_parameter_of_ones_own_is_kept():
    rule, *waves = rule_and_waves()
    mine = Parameter(torch.tensor([0.0]), requires_grad=False)
    rule.learning_rate[2] = (mine, mine)
    mine.fill_(0.0625)
    assert rule.ltp_2 is mine
    assert applied(rule, waves, 2) == (0.0625, 0.0625)
    assert [len(pair) for pair in rule.learning_rate[:2]] == [2, 2]
    assert len(list(rule.learning_rate)) == 3


@pytest.mark.parametrize("wrong", [0.1, (0.1,), ("a", "b"), (float("nan"), 0.1), None])
def test_rates_that_are_none(wrong):
    rule, *_ = rule_and_waves()
    with pytest.raises((ValueError, TypeError), match="`learning_rate"):
        rule.learning_rate[0] = wrong
    with pytest.raises((ValueError, TypeError), match="`learning_rate`"):
        rule.learning_rate = [(0.1, 0.1)]
    with pytest.raises(IndexError, match="`feature`"):
        rule.learning_rate[3] = (0.1, 0.1)


def replica(module):
    """A copy of a module as torch.nn.parallel.replicate makes them, each with tensors of its own."""
    copies = {part: part._replicate_for_data_parallel() for part in module.modules()}
    for part, twin in copies.items():
        for name, child in part._modules.items():
            setattr(twin, name, copies[child])
        for name, parameter in part._parameters.items():
            setattr(twin, name, parameter.detach().clone())
    return copies[module]


def test_replicas_have_rates_of_their_own():
    rule, *waves = rule_and_waves()
    twin = replica(rule)
    assert applied(twin, waves, 1) == (0.01, -0.02)
    twin.update_learning_rate(1, 0.25, -0.125)
    twin.learning_rate[2] = (0.0, 0.125)
    assert applied(twin, waves, 1) == (0.25, -0.125)
    assert applied(twin, waves, 2) == (0.0, 0.125)
    assert applied(rule, waves, 1) == applied(rule, waves, 2) == (0.01, -0.02)
    assert torch.equal(rule.conv_layer.weight[0], torch.full((2, 2, 2), 0.5))


# winners that are given; gradients; half types


@pytest.mark.parametrize("potentials", [None, torch.zeros(3), torch.zeros(4, 3, 9, 9), "any"], ids=str)
def test_potentials_are_not_looked_at_where_winners_are_given(potentials):
    rule, early, spikes = rule_and_waves()
    rule(early, potentials, spikes, [(1, 0, 0)])
    assert rule.conv_layer.weight[1].unique().tolist() == pytest.approx([0.48, 0.51])
    reward = snn.RSTDP(rule.conv_layer, (0.01, -0.02), (-0.01, 0.02))
    reward(early, potentials, spikes, -1, [(1, 0, 0)])
    assert rule.conv_layer.weight[1].unique().tolist() == pytest.approx([0.5])
    with pytest.raises((TypeError, ValueError), match="`potentials`"):
        rule(early, potentials, spikes)


def test_winners_that_do_not_exist_reach_no_rule():
    seen = []

    def rate(synapses):
        seen.extend(synapses.features.tolist())
        return synapses.ltp

    _, early, spikes = rule_and_waves()
    rule = snn.STDP(snn.Convolution(2, 3, 2), (0.1, -0.1), rate=rate)
    rule(early, None, spikes, torch.tensor([[1, 0, 0], [-1, -1, -1]]))
    rule(early, None, spikes, torch.full((2, 3), -1))
    assert seen == [1]


@pytest.mark.parametrize("autocast", [False, True])
def test_spikes_behind_a_layer_that_is_trained_by_gradients(autocast):
    """The graph goes through potentials; winners and learners take what they need out of it."""
    torch.manual_seed(0)
    front = nn.Conv2d(1, 2, 3, padding=1)
    conv, beside = snn.Convolution(2, 4, 3), nn.Conv2d(2, 4, 3)
    rules = snn.STDP(conv, (0.1, -0.1)), snn.RSTDP(conv, (0.1, -0.1), (-0.1, 0.1))
    image = torch.rand(1, 1, 8, 8) * torch.arange(1, 6).view(-1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        wave = front(image).float().abs()
        for potentials in (conv(wave), beside(wave)):
            spikes, kept = sf.fire(potentials, 0.1, True)
            assert kept.requires_grad and not spikes.requires_grad
            kept = sf.pointwise_inhibition(sf.feature_inhibition(kept, torch.tensor([[0]])))
            winners = sf.get_k_winners(kept, 2, 1)
            assert winners == sf.get_k_winners(kept.detach().float(), 2, 1) != []
            assert [tuple(w) for w in sf.k_winners(kept, 2, 1).tolist()][: len(winners)] == winners
            for rule, outcome in zip(rules, ((), (1,)), strict=True):
                rule(wave, kept, sf.pooling(kept, 1), *outcome)
                rule(wave, kept, kept, *outcome, winners)
            rules[0].online(wave[None], lambda w: (sf.threshold(conv(w), 0.1), sf.fire(conv(w), 0.1)))
    kept.float().sum().backward()
    assert front.weight.grad.abs().sum() > 0
    assert not conv.weight.requires_grad and conv.weight.grad_fn is None
    assert beside.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_learning_in_half_types_is_refused(dtype):
    """An update of 0.004 * 0.16 is less than bfloat16 can add to 0.8."""
    rule, early, spikes = rule_and_waves()
    rule.to(dtype)
    for learner in (rule, snn.RSTDP(rule.conv_layer, (0.1, -0.1), (0.1, 0.1))):
        with pytest.raises(ValueError, match=r"`conv_layer.weight`.*float32.*\.float\(\)"):
            learner(early, None, spikes, *((1,) if learner is not rule else ()), winners=[(0, 0, 0)])


COMPUTED = {
    "pruned": lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
    "parametrised": lambda conv: parametrize.register_parametrization(conv, "weight", nn.ReLU()),
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "spectral_norm_of_old": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
def test_a_computed_weight_is_not_changed(compute):
    rule, early, spikes = rule_and_waves()
    compute(rule.conv_layer)
    for change in (
        lambda: rule(early, None, spikes, [(0, 0, 0)]),
        lambda: snn.RSTDP(rule.conv_layer, (0.1, -0.1), (-0.1, 0.1))(early, None, spikes, 1, [(0, 0, 0)]),
        lambda: rule.conv_layer.reset_weight(),
        lambda: rule.conv_layer.load_weight(torch.ones(3, 2, 2, 2)),
    ):
        with pytest.raises(ValueError, match="weight` must be stored in the layer"):
            change()
    layer = snn.SpikingConvolution(2, 3, 2, 1.0, time_steps=4)
    rule = snn.STDP(layer, (0.1, -0.1))
    compute(layer)
    with pytest.raises(ValueError, match="weight` must be stored in the layer"):
        rule.learn(torch.zeros(1, 2, 3, 3, dtype=torch.uint8))


def test_a_weight_made_permanent_learns_again():
    rule, *waves = rule_and_waves()
    prune.l1_unstructured(rule.conv_layer, "weight", 0.5)
    prune.remove(rule.conv_layer, "weight")
    assert applied(rule, waves, 0) == (0.01, -0.02)


# winners and features in the forms that scripts have them in


def test_winners_in_every_form():
    wave = (torch.rand(5, 2, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.3).float().cummax(0).values

    def learned(form):
        torch.manual_seed(0)
        conv = snn.Convolution(2, 4, 3, 0.5, 0.1)
        spikes, potentials = sf.fire(conv(wave), 3, True)
        winners = sf.get_k_winners(potentials, 3, 1, spikes)
        assert len(winners) > 1
        snn.STDP(conv, (0.1, -0.05))(wave, potentials, spikes, form(winners))
        return conv.weight

    expected = learned(lambda winners: winners)
    for form in (
        lambda winners: [torch.tensor(one) for one in winners],
        lambda winners: tuple(torch.tensor(winners)),
        lambda winners: list(torch.tensor([*winners, (-1, -1, -1)])),
        lambda winners: [np.array(one) for one in winners],
        lambda winners: torch.tensor(winners, dtype=torch.int32),
    ):
        assert torch.equal(learned(form), expected)
    nothing = learned(lambda winners: [])
    for empty in (torch.tensor([]), torch.empty(0, dtype=torch.long), torch.empty(0, 3), np.array([]), ()):
        assert torch.equal(learned(lambda winners, empty=empty: empty), nothing)
    for wrong in ([torch.tensor([0, 1])], [torch.tensor([0, 1, 2]), (0, 1, 2)], [torch.tensor([0.0, 1, 2])]):
        with pytest.raises((TypeError, ValueError), match="`winners`"):
            learned(lambda winners, wrong=wrong: wrong)


@pytest.mark.parametrize("batch", [False, True])
def test_features_of_nonzero_as_a_tuple(batch):
    potentials, mask = torch.ones(*([2] if batch else []), 3, 5, 2, 2), torch.tensor([0, 1, 0, 1, 0])
    expected = potentials * (1 - mask).view(-1, 1, 1)
    for features in (mask.nonzero(as_tuple=True), np.nonzero(mask.numpy()), mask.bool()):
        assert torch.equal(sf.feature_inhibition(potentials, features), expected)


def test_a_mask_of_an_older_torch_is_told_from_indices():
    potentials = torch.ones(3, 5, 2, 2)
    with pytest.warns(UserWarning, match="`inhibited_features`"):
        inhibited = sf.feature_inhibition(potentials, torch.tensor([0, 1, 0, 1, 0], dtype=torch.uint8))
    assert torch.equal(inhibited, sf.feature_inhibition(potentials, [0, 1]))
    sf.feature_inhibition(potentials, torch.tensor([1, 3], dtype=torch.uint8))  # without a word
