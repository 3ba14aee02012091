"""Receptive fields and features drawn back to the image, against oracles (drawing: test_visualization.py).

The oracle of positions is autograd: through the same windows as plain linear convolutions and means, the gradient of a
neuron is not 0 exactly on the pixels that it sees.
"""

import numpy as np
import pytest
import reference as ref
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import dyadic, same, seeds, tensor

from spyketorch import encoding, models, snn
from spyketorch import visualization as vis

pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(seed=seeds, feature_stride=pairs, window=pairs, stride=pairs, features=st.integers(1, 3), pool=st.booleans())
def test_get_deep_feature(dtype, seed, feature_stride, window, stride, features, pool):
    rng = np.random.default_rng(seed)
    feature = dyadic(rng, (features, *rng.integers(1, 5, 2)), -1, 1)
    weights = None if pool else dyadic(rng, (2, features, *window), -1, 1)
    want, want_stride = ref.get_deep_feature(feature, feature_stride, window, stride, weights)
    x = tensor(feature, dtype)
    got, got_stride = vis.get_deep_feature(
        x, feature_stride, window, stride, *([] if pool else [tensor(weights, dtype)])
    )
    same(got, want)
    assert tuple(got_stride) == want_stride
    same(x, feature)


@given(layers=st.lists(st.tuples(*[st.integers(1, 5)] * 4), max_size=4))
def test_get_deep_receptive_field(layers):
    assert tuple(vis.get_deep_receptive_field(*layers)) == ref.get_deep_receptive_field(*layers)


# ------------------------------------------------------------------------------------------------ whole networks

conv_layers = st.fixed_dictionaries(
    {"kernel_size": pairs, "stride": st.integers(1, 2), "padding": st.integers(0, 2), "dilation": st.integers(1, 2)}
)
pool_layers = st.none() | st.tuples(pairs, st.integers(1, 2), st.booleans())


def pool_of(kind, size, stride, padded):
    """A pooling, padded by at most half its window, as torch asks."""
    return kind(size, stride, tuple(padded * side // 2 for side in size))


@st.composite
def networks(draw):
    """One feature per layer, positive weights; encoders that pad, filter and pool; one or two stages."""
    random = torch.Generator().manual_seed(draw(seeds))

    def positive(*shape):
        return 0.25 + torch.rand(shape, generator=random, dtype=torch.float64)

    retina = encoding.Filter([positive(*draw(pairs))], draw(pairs))
    parts = [torch.nn.ReplicationPad2d(draw(st.tuples(*[st.integers(0, 3)] * 4))), retina, torch.nn.ReLU()]
    if windows := draw(pool_layers):
        parts.append(pool_of(torch.nn.MaxPool2d, *windows))
    stages = []
    for options in draw(st.lists(conv_layers, min_size=1, max_size=2)):
        layer = snn.SpikingConvolution(1, 1, time_steps=4, **options).double()
        layer.load_weight(positive(*layer.weight.shape))
        windows = draw(pool_layers)
        stages.append(models.Stage(layer, pool_of(snn.SpikingPooling, *windows) if windows else None))
    return models.Network(encoding.LatencyEncoder(torch.nn.Sequential(*parts), 4), stages)


def seen(network, weigh):
    """The gradient of a neuron in the middle of the last stage, (90, 96), and where it is, (row, column)."""
    image = torch.zeros(1, 1, 90, 96, dtype=torch.float64, requires_grad=True)
    around, retina, _, *poolings = network.encoder.filter
    value = F.conv2d(around(image), weigh(retina.kernels), padding=retina.padding)
    for stage in network.stages:
        for pool in poolings:
            value = F.avg_pool2d(value, pool.kernel_size, pool.stride, pool.padding)
        layer = stage.layer
        value = F.conv2d(value, weigh(layer.weight), None, layer.stride, layer.padding, layer.dilation)
        poolings = [stage.pool] if stage.pool else []
    place = value.shape[2] // 2, value.shape[3] // 2
    value[0, 0, *place].backward()
    return image.grad[0, 0], place


def located(field, place):
    """First row and column that a neuron sees, and the ones behind the last."""
    first = [field.start[i] + place[i] * field.stride[i] for i in (0, 1)]
    return *first, *(first[i] + field.size[i] for i in (0, 1))


@given(network=networks())
def test_a_receptive_field_is_what_the_gradient_sees(network):
    gradient, place = seen(network, torch.ones_like)
    top, left, bottom, right = located(vis.get_receptive_field(network, len(network.stages) - 1), place)
    assume(top > 0 and left > 0 and bottom < 90 and right < 96)  # past the border padding hides the rest
    rows, columns = gradient.sum(1).nonzero(), gradient.sum(0).nonzero()
    assert (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1) == (top, left, bottom, right)


@given(network=networks())
def test_the_picture_of_a_feature_lies_where_the_neuron_sees_it(network):
    """Without pooling, the picture is the gradient. With it, both have their middle at the same place."""
    for stage in network.stages:
        stage.layer.load_weight(stage.layer.weight - stage.layer.weight.min())  # what all share, which is not drawn
    gradient, place = seen(network, lambda weight: weight)
    top, left, bottom, right = located(vis.get_receptive_field(network, len(network.stages) - 1), place)
    assume(top > 0 and left > 0 and bottom < 90 and right < 96 and gradient.sum() > 0)
    picture = torch.zeros_like(gradient)
    picture[top:bottom, left:right] = vis.get_network_features(network, len(network.stages) - 1)[0]
    network.stages[-1].pool = None
    pools = sum(isinstance(module, snn.Pooling | torch.nn.MaxPool2d) for module in network.modules())
    if not pools:
        torch.testing.assert_close(picture, gradient)
    for axis in (0, 1):
        at = torch.arange(gradient.shape[axis], dtype=torch.float64)
        middle, want = ((image.sum(1 - axis) * at).sum() / image.sum() for image in (picture, gradient))
        assert abs(middle - want) <= 0.5 * pools + 1e-6  # a window of even size has its middle between two pixels


def test_receptive_fields_of_published_networks():
    """By hand. Filter 13, padding 6; convolution 5, padding 2; pooling 2; convolution 3, padding 1; and so on."""
    network = models.mozafari2019()
    assert vis.get_receptive_field(network, 0) == ((17, 17), (1, 1), (-8, -8))  # 13 + 4; 6 + 2
    assert vis.get_receptive_field(network, 1) == ((22, 22), (2, 2), (-10, -10))  # 17 + 1 + 2 * 2; 8 + 2
    assert vis.get_receptive_field(network, 2) == ((44, 44), (6, 6), (-10, -10))  # 22 + 2 * 2 + 3 * 6
    # 4 pixels repeated around, filter 9, pooling 7 by 6 with padding 3, convolution 17
    assert vis.get_receptive_field(models.mozafari2018(), 0) == ((111, 111), (6, 6), (-7, -7))  # 9 + 6 + 16 * 6; 4 + 3


def encoder(*parts):
    return encoding.LatencyEncoder(torch.nn.Sequential(*parts), 4)


def layer(inputs, outputs, size=1, **options):
    return snn.SpikingConvolution(inputs, outputs, size, time_steps=4, **options)


def test_features_of_the_first_layer_mix_the_filters():
    """Each place of the window shows the strongest of filter * (weight - smallest weight), moved to that place."""
    kernels = [torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0], [0.5]])]  # widened to 2 x 2
    network = models.Network(encoder(encoding.Filter(kernels)), [models.Stage(layer(2, 1, (1, 2)))])
    network.stages[0].layer.load_weight(torch.tensor([[[[0.25, 0.75]], [[1.0, 0.25]]]]))
    # less 0.25: 0 and 0.5 of the first, 0.75 and 0 of the second filter
    kernel = network.encoder.filter[0].kernels[:, 0]
    want = torch.zeros(2, 3)
    want[:, :2] += 0.75 * kernel[1]
    want[:, 1:] += 0.5 * kernel[0]
    assert torch.equal(vis.get_network_features(network, 0), want[None])


def test_features_of_a_network_without_filters_are_its_weights():
    network = models.Network(encoder(torch.nn.Identity()), [models.Stage(layer(1, 3, 5))])
    weight = network.stages[0].layer.weight
    assert torch.equal(vis.get_network_features(network, 0), weight[:, 0] - weight.min())


def test_groups_see_their_own_inputs():
    """Two groups are two networks side by side."""
    weight = torch.rand(4, 2, 3, 3)
    weight[0, 0, 0, 0] = weight[2, 0, 0, 0] = 0
    kernels = list(torch.rand(4, 3, 3))

    def features(kernels, weight, groups):
        made = layer(len(kernels), len(weight), 3, groups=groups, dilation=2)
        made.load_weight(weight)
        return vis.get_network_features(models.Network(encoder(encoding.Filter(kernels)), [models.Stage(made)]), 0)

    want = torch.cat((features(kernels[:2], weight[:2], 1), features(kernels[2:], weight[2:], 1)))
    assert torch.equal(features(kernels, weight, 2), want)


def test_drawing_leaves_the_network_as_it_is():
    network = models.kheradpisheh2018().double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert vis.get_network_features(network, 1).dtype == torch.float64
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


RETINA = encoding.Filter([torch.ones(3, 3)])
ODD = models.Stage(layer(1, 2), torch.nn.LPPool2d(2, 2))


@pytest.mark.parametrize(
    ("network", "stage", "parts"),
    [
        (models.Network(encoder(RETINA), [models.Stage(layer(1, 2))]), 1, "stage.*below 1.*got 1"),
        (models.Network(encoder(RETINA), [models.Stage(layer(1, 2))]), -1, "stage.*at least 0.*-1"),
        (models.Network(encoder(torch.nn.Conv2d(1, 2, 3)), [models.Stage(layer(2, 2))]), 0, "network.*Conv2d"),
        (models.Network(encoder(RETINA), [ODD, models.Stage(layer(2, 2))]), 1, "network.*LPPool2d"),
    ],
    ids=["stage", "negative", "encoder", "pool"],
)
def test_what_cannot_be_drawn_back_is_refused(network, stage, parts):
    for draw in (vis.get_receptive_field, vis.get_network_features):
        with pytest.raises(ValueError, match=parts):
            draw(network, stage)


def test_filters_come_before_pooling():
    network = models.Network(encoder(torch.nn.MaxPool2d(2), RETINA), [models.Stage(layer(1, 2))])
    assert vis.get_receptive_field(network, 0) == ((6, 6), (2, 2), (0, 0))
    with pytest.raises(ValueError, match=r"network.*filters the image before it pools"):
        vis.get_network_features(network, 0)


@pytest.mark.parametrize("front", ["each channel", "on and off", "all channels", "whitening", "pixels"])
def test_features_through_filters_of_colours(front):
    """Each map of the encoder is looked through with the kernel that makes it."""
    two, three = torch.rand(2, 3, 3) - 0.5, torch.rand(2, 3, 3, 3) - 0.5
    white = encoding.Whitening(window=3).fit(torch.rand(9, 3, 9, 9))
    middles = white.kernels.mean(1)
    filters, maps = {
        "each channel": (encoding.Filter([*two], 1, 0, channels=3), torch.cat([two] * 3)),
        "on and off": (
            torch.nn.Sequential(encoding.Filter([*two], 1), encoding.OnOff()),
            torch.stack([two[0], -two[0], two[1], -two[1]]),
        ),
        "all channels": (encoding.Filter([*three], 1, 0, channels=3), three.mean(1)),
        "whitening": (
            torch.nn.Sequential(white, encoding.OnOff()),
            torch.stack((middles, -middles), 1).flatten(0, 1),
        ),
        "pixels": (encoding.OnOff(), torch.tensor([1.0, -1, 1, -1, 1, -1]).view(6, 1, 1)),
    }[front]
    layer = snn.SpikingConvolution(len(maps), 4, 5, threshold=3, time_steps=5)
    network = models.Network(encoding.LatencyEncoder(filters, 5), [models.Stage(layer)])
    assert network.features(torch.rand(2, 1 if front == "on and off" else 3, 9, 9), 0).shape[1] == len(maps)
    weight = layer.weight.detach() - layer.weight.min()
    expected, _ = vis.get_deep_feature(maps, (1, 1), (5, 5), (1, 1), weight)
    torch.testing.assert_close(vis.get_network_features(network, 0), expected)
    size = maps.shape[-1] + 4
    assert vis.get_receptive_field(network, 0) == ((size, size), (1, 1), (-(maps.shape[-1] // 2),) * 2)


@pytest.mark.parametrize("front", ["each channel", "on and off", "all channels", "whitening", "pixels", "signs"])
@pytest.mark.parametrize("dilation", [1, 2])
def test_features_in_colour_answer_as_the_layer_does(front, dilation):
    """A patch speaks for a feature as much as for its picture, where filters answer with both signs."""
    two, three = torch.rand(2, 3, 3) - 0.5, torch.rand(2, 3, 3, 3) - 0.5
    white = encoding.Whitening(window=3).fit(torch.rand(9, 3, 9, 9))
    channels = 2 if front == "on and off" else 3
    filters, kernels = {
        "each channel": (encoding.Filter([*two], channels=3), torch.block_diag(*[two.flatten(1).T] * 3).T),
        "on and off": (encoding.Filter([*two], channels=2), torch.block_diag(*[two.flatten(1).T] * 2).T),
        "all channels": (encoding.Filter([*three], channels=3), three),
        "whitening": (white, white.kernels),
        "pixels": (torch.nn.Identity(), torch.eye(3)),
        "signs": (torch.nn.Identity(), torch.eye(3)),
    }[front]
    side = 1 if front in ("pixels", "signs") else 3
    kernels = kernels.reshape(-1, channels, side, side)
    if front in ("on and off", "whitening", "signs"):
        filters, kernels = torch.nn.Sequential(filters, encoding.OnOff()), torch.stack((kernels, -kernels), 1)
    kernels = kernels.reshape(-1, channels, side, side)
    made = snn.SpikingConvolution(len(kernels), 4, 3, 1.0, time_steps=5, dilation=dilation)
    network = models.Network(encoding.LatencyEncoder(filters, 5), [models.Stage(made)])
    pictures = vis.get_colour_features(network)
    assert pictures.shape[1:] == (channels, *vis.get_receptive_field(network, 0).size)
    patch = torch.rand(1, *pictures.shape[1:])
    answers = F.conv2d(F.conv2d(patch, kernels), made.weight.detach(), dilation=dilation)
    torch.testing.assert_close((pictures * patch).sum((1, 2, 3)), answers.flatten())


def test_features_of_groups_or_behind_pooling_have_no_colours():
    grouped = snn.SpikingConvolution(6, 4, 3, 1.0, time_steps=4, groups=2)
    for front, made in ((encoding.OnOff(), grouped), (torch.nn.MaxPool2d(2), layer(3, 2)), (RETINA, layer(3, 2))):
        network = models.Network(encoding.LatencyEncoder(front, 4), [models.Stage(made)])
        with pytest.raises(ValueError, match="`network` must be one whose"):
            vis.get_colour_features(network)


def test_what_is_not_fitted_is_not_drawn():
    white = torch.nn.Sequential(encoding.Whitening(window=3), encoding.OnOff())
    network = models.Network(encoding.LinearLatency(white, 4), [models.Stage(layer(6, 2))])
    for draw in (lambda: vis.get_network_features(network, 0), lambda: vis.get_colour_features(network)):
        with pytest.raises(ValueError, match="`kernels` of this Whitening must be known"):
            draw()


class Twice(torch.nn.Module):
    def forward(self, image):
        return torch.cat([image, image], -3)


def test_maps_whose_way_is_not_known_are_refused():
    network = models.Network(encoder(RETINA, Twice()), [models.Stage(layer(2, 2))])
    with pytest.raises(ValueError, match=r"`network` must be one whose layer reads the 1 maps that are known below it"):
        vis.get_network_features(network, 0)
