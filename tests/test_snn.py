"""Layers: convolution and pooling modules, their weights, checkpoints, and the learners they carry."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import layers, potentials, same, samplewise, tensor

import spyketorch.functional as sf
from spyketorch import latency, learning, models, snn
from spyketorch.encoding import LatencyEncoder
from spyketorch.testing import random_times


def build(layer, dtype=torch.float64):
    """The module of a drawn layer."""
    conv = snn.Convolution(*layer.arguments, **layer.geometry).to(dtype)
    conv.load_weight(tensor(layer.weight, dtype))
    return conv


@given(layer=layers(low=-1), kind=st.sampled_from([None, torch.uint8, torch.bool]), contiguous=st.booleans())
def test_convolution(dtype, layer, kind, contiguous):
    conv = build(layer, dtype)
    x = tensor(layer.wave, kind or dtype, contiguous)
    out = conv(x)
    assert out.dtype == dtype
    assert not out.requires_grad
    want = ref.convolution(layer.wave, layer.weight, **layer.geometry)
    same(out, want)
    same(x, layer.wave)
    assert tuple(conv.output_size(*layer.wave.shape[2:])) == want.shape[2:]


@given(layer=layers(low=-1, batched=True))
def test_convolution_batched(dtype, layer):
    samplewise(build(layer, dtype), tensor(layer.wave, dtype))


def test_convolution_is_the_same_torch_call():
    conv = snn.Convolution(3, 5, (3, 2))
    x = torch.rand(4, 3, 6, 6)
    assert torch.equal(conv(x), torch.nn.functional.conv2d(x, conv.weight))


def test_weights_are_one_normal_draw():
    torch.manual_seed(3)
    conv = snn.Convolution(3, 4, 5, 0.7, 0.1)
    after = torch.rand(1)
    torch.manual_seed(3)
    expected = torch.empty(4, 3, 5, 5).normal_(0.7, 0.1)
    assert torch.equal(conv.weight, expected)
    assert torch.equal(after, torch.rand(1))
    torch.manual_seed(3)
    again = snn.Convolution(in_channels=3, out_channels=4, kernel_size=(5, 5), weight_mean=0.7, weight_std=0.1)
    assert torch.equal(again.weight, expected)
    default = snn.Convolution(20, 20, 5).weight
    assert abs(default.mean() - 0.8) < 0.002
    assert abs(default.std() - 0.02) < 0.002


def test_weight_is_a_parameter_without_gradient():
    conv = snn.Convolution(4, 6, (2, 3), groups=2)
    assert list(conv.state_dict()) == ["weight"]
    assert isinstance(conv.weight, torch.nn.Parameter)
    assert conv.weight.shape == (6, 2, 2, 3)
    assert not conv.weight.requires_grad
    assert [name for name, _ in conv.named_parameters()] == ["weight"]


def test_reset_and_load_weight():
    conv = snn.Convolution(1, 2, 3)
    parameter = conv.weight
    torch.manual_seed(5)
    conv.reset_weight(0.5, 0.25)
    torch.manual_seed(5)
    assert torch.equal(conv.weight, torch.empty(2, 1, 3, 3).normal_(0.5, 0.25))
    torch.manual_seed(5)
    conv.reset_weight()
    torch.manual_seed(5)
    assert torch.equal(conv.weight, torch.empty(2, 1, 3, 3).normal_(0.8, 0.02))
    target = torch.rand(2, 1, 3, 3)
    conv.load_weight(target)
    assert torch.equal(conv.weight, target)
    target.zero_()
    assert conv.weight.sum() > 0
    assert conv.weight is parameter
    assert not conv.weight.requires_grad


def test_a_new_parameter_takes_over():
    conv = snn.Convolution(1, 2, 2)
    conv.weight = torch.nn.Parameter(torch.ones(2, 1, 2, 2), requires_grad=False)
    same(conv(torch.ones(1, 1, 2, 2)), np.full((1, 2, 1, 1), 4.0))


def test_geometry_is_keyword_only():
    with pytest.raises(TypeError):
        snn.Convolution(1, 1, 1, 0.8, 0.02, 2)


@given(wave=potentials(batched=True), kernel=st.integers(1, 3), stride=st.sampled_from([None, 1, 2]), p=st.booleans())
def test_pooling(dtype, wave, kernel, stride, p):
    if min(wave.shape[-2:]) < kernel:
        kernel = 1
    padding = kernel // 2 if p else 0
    layer = snn.Pooling(kernel, stride, padding)
    same(samplewise(layer, tensor(wave, dtype)), np.stack([ref.pooling(w, kernel, stride, padding) for w in wave]))
    assert not layer.state_dict()


def test_which_spike_is_pooled_is_told():
    layer = snn.SpikingPooling(7, earliest=4)
    assert repr(layer) == "SpikingPooling(kernel_size=7, earliest=4)"
    assert repr(snn.SpikingPooling(2)) == "SpikingPooling(kernel_size=2)"
    with pytest.raises(ValueError, match="`earliest` must be at most 4, as many neurons as a window has that has the "):
        snn.SpikingPooling(2, earliest=5)


def test_several_spikes_of_a_window_are_pooled_one_after_the_other():
    times = torch.randint(0, 7, (3, 2, 6, 6), dtype=torch.uint8)
    layer = snn.SpikingPooling(3, earliest=(4, 1, 9))
    assert repr(layer) == "SpikingPooling(kernel_size=3, earliest=(4, 1, 9))"
    alone = [snn.SpikingPooling(3, earliest=count)(times) for count in (4, 1, 9)]
    same(layer(times), torch.cat(alone, 1))
    same(layer(times[0]), torch.cat([some[0] for some in alone]))
    for wrong in ([], (1, 10), (0, 1), "12"):
        with pytest.raises((ValueError, TypeError), match="`earliest` must be"):
            snn.SpikingPooling(3, earliest=wrong)


def test_learners_are_reexported():
    assert snn.STDP is learning.STDP
    assert snn.RSTDP is learning.RSTDP


def test_negative_weights_fire_once_and_stay():
    conv = snn.Convolution(2, 1, 1)
    conv.load_weight(torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1))
    wave = torch.zeros(4, 2, 1, 1)
    wave[1:, 0], wave[2:, 1] = 1, 1
    p = conv(wave)
    assert p.flatten().tolist() == [0, 1, 0, 0]
    spikes, kept = sf.fire(p, 0.5, True, latch=True)
    assert spikes.flatten().tolist() == [0, 1, 1, 1]
    assert kept.flatten().tolist() == [0, 1, 1, 1]
    assert sf.fire(p, 0.5).flatten().tolist() == [0, 1, 0, 0]
    assert sf.get_k_winners(kept, 1, 0, spikes) == [(0, 0, 0)]


class Network(torch.nn.Module):
    """A network with the attribute names of published checkpoints."""

    def __init__(self):
        super().__init__()
        self.conv1 = snn.Convolution(2, 3, 3)
        self.stdp1 = snn.STDP(self.conv1, (0.25, -0.125))
        self.pools = torch.nn.ModuleList([snn.Pooling(2)])
        self.rules = torch.nn.ModuleDict({"anti": snn.STDP(self.conv1, [(0.5, -0.5)] * 3, False, 0.25, 0.75)})
        self.max_ap = torch.nn.Parameter(torch.tensor([0.15]))


def test_state_dict_keys():
    rates = [f"{kind}_{i}" for i in range(3) for kind in ("ltp", "ltd")]
    expected = {"max_ap", "conv1.weight", "stdp1.conv_layer.weight", "rules.anti.conv_layer.weight"}
    expected |= {f"{rule}.{rate}" for rule in ("stdp1", "rules.anti") for rate in rates}
    state = Network().state_dict()
    assert set(state) == expected
    assert all(state[f"stdp1.{rate}"].shape == (1,) for rate in rates)


def test_checkpoints_load_strictly(tmp_path):
    network = Network()
    state = {k: torch.rand_like(v) for k, v in network.state_dict().items()}
    state["stdp1.conv_layer.weight"] = state["rules.anti.conv_layer.weight"] = state["conv1.weight"]
    torch.save(state, tmp_path / "net.pt")
    result = network.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    assert not result.missing_keys
    assert not result.unexpected_keys
    for key, value in network.state_dict().items():
        assert torch.equal(value, state[key])


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))], ids=["deepcopy", "pickle"])
def test_copies_are_whole_and_apart(clone):
    network = Network()
    twin = clone(network)
    assert twin.stdp1.conv_layer is twin.conv1
    assert twin.rules["anti"].conv_layer is twin.conv1
    for key, value in network.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key])
    before = network.conv1.weight.clone()
    twin.conv1.reset_weight()
    assert torch.equal(network.conv1.weight, before)
    assert not torch.equal(twin.conv1.weight, before)


def test_modules_have_a_readable_repr():
    assert "stride=2" in repr(snn.Convolution(1, 2, 3, stride=2)).replace("(2, 2)", "2")
    assert "Convolution" in repr(snn.Convolution(1, 2, 3))


# settings that are assigned


def assigned(layer, **settings):
    for name, value in settings.items():
        setattr(layer, name, value)
    return layer


@pytest.mark.parametrize("settings", [{"stride": 2}, {"padding": (1, 0)}, {"dilation": 2, "stride": (1, 2)}])
def test_a_setting_that_is_assigned_is_in_use_everywhere(settings):
    wave = (torch.rand(5, 1, 9, 9) < 0.5).float().cummax(0).values
    times = latency.from_wave(wave)[None]

    def layers():
        torch.manual_seed(0)
        at_once = snn.Convolution(1, 2, 3, **settings), snn.SpikingConvolution(1, 2, 3, 2, time_steps=5, **settings)
        torch.manual_seed(0)
        later = snn.Convolution(1, 2, 3), snn.SpikingConvolution(1, 2, 3, 2, time_steps=5)
        return at_once, tuple(assigned(one, **settings) for one in later)

    for at_once, later in zip(*layers(), strict=True):
        assert later.geometry == at_once.geometry and repr(later) == repr(at_once)
        assert later.output_size(9, 9) == at_once.output_size(9, 9)
        for copied in (copy.deepcopy(later), pickle.loads(pickle.dumps(later))):
            assert copied.geometry == at_once.geometry
    (dense, spiking), (dense_later, spiking_later) = layers()
    assert torch.equal(dense_later(wave), dense(wave))
    assert torch.equal(spiking_later(times), spiking(times))
    assert torch.equal(spiking_later.winners(times, 2), spiking.winners(times, 2))
    rules = [snn.STDP(layer, (0.25, -0.125)) for layer in (spiking, spiking_later)]
    assert torch.equal(*(rule.learn(times, 2) for rule in rules))
    assert torch.equal(spiking_later.weight, spiking.weight)


@pytest.mark.parametrize(
    "name, value, error",
    [
        ("stride", 0, ValueError),
        ("stride", "2", TypeError),
        ("padding", -1, ValueError),
        ("dilation", (1, 2, 3), ValueError),
        ("kernel_size", 5, AttributeError),
        ("groups", 2, AttributeError),
        ("in_channels", 7, AttributeError),
        ("out_channels", 3, AttributeError),
        ("time_steps", 0, ValueError),
        ("time_steps", "15", TypeError),
    ],
)
def test_a_setting_that_cannot_be_is_refused(name, value, error):
    layer = snn.SpikingConvolution(2, 4, 3, 2, time_steps=5)
    before = repr(layer)
    with pytest.raises(error, match=f"`{name}`"):
        setattr(layer, name, value)
    assert repr(layer) == before
    for fixed in ("kernel_size", "groups", "in_channels", "out_channels"):
        setattr(layer, fixed, getattr(layer, fixed))


def test_layers_that_were_pickled_with_each_setting_twice_load():
    layer = snn.Convolution(2, 4, 3)
    old = {**vars(layer), "stride": (5, 5), "kernel_size": (3, 3)}
    new = snn.Convolution.__new__(snn.Convolution)
    new.__setstate__(old)
    assert new.stride == (1, 1) and "stride" not in vars(new)


@pytest.mark.parametrize("sizes", [(6, 7), (3, 6, 7)])
def test_parts_of_several_sizes_are_told_one_after_the_other(sizes):
    times = random_times(*sizes[:-2], 4, *sizes[-2:], time_steps=15).to(torch.uint8)
    pools = [snn.SpikingPooling(2, earliest=(1, 3)), snn.SpikingPooling((6, 7), earliest=20), snn.SpikingPooling(3, 1)]
    layer = snn.PyramidPooling(pools)
    told = layer(times)
    assert torch.equal(told.flatten(-3), torch.cat([pool(times).flatten(-3) for pool in pools], -1))
    assert told.shape == (*sizes[:-2], 4 * (2 * 9 + 1 + 20), 1, 1)
    assert told.dtype == torch.uint8
    assert layer.earliest == (1, 3, 20, 1)


@pytest.mark.parametrize("wrong", [[], [torch.nn.MaxPool2d(2)], snn.SpikingPooling(2), None])
def test_a_pyramid_of_what_is_no_pooling_is_refused(wrong):
    with pytest.raises(TypeError, match=r"`pools` must be a list of at least one snn\.SpikingPooling"):
        snn.PyramidPooling(wrong)


def test_a_pyramid_is_heard_by_a_read_out_alone():
    layers = [snn.SpikingConvolution(channels, 4, 3, 2.0, time_steps=15) for channels in (1, 4)]
    pool = snn.PyramidPooling([snn.SpikingPooling(2), snn.SpikingPooling(4, earliest=3)])
    with pytest.raises(ValueError, match=r"earliest=\(1, 3\) as a read-out alone hears"):
        models.Network(
            LatencyEncoder(torch.nn.Identity(), 15), [models.Stage(layers[0], pool), models.Stage(layers[1])]
        )
