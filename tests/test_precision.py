"""Potentials and encodings do not depend on how tensors lie in memory, nor on torch's modes."""

import pytest
import torch
from torch import nn

from spyketorch import functional as sf
from spyketorch import latency, models, snn
from spyketorch.encoding import DoGKernel, Filter
from spyketorch.kernels import serving

#: shapes of a convolution of one channel: (kernel, rows and columns of the map, options)
ONE_CHANNEL = [
    ((3, 2), (7, 3), {"stride": (1, 2)}),
    ((3, 5), (6, 6), {"stride": (1, 2)}),
    ((5, 3), (4, 2), {"stride": (1, 2), "padding": 1}),
    ((5, 5), (5, 5), {}),
]


def _otherwise(tensor):
    """The same values with the strides of channels_last."""
    return tensor.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("kernel, size, options", ONE_CHANNEL)
def test_potentials_do_not_depend_on_strides(kernel, size, options):
    torch.manual_seed(0)
    wave = (torch.rand(15, 1, *size) < 0.5).float().cummax(0).values
    weight = torch.randint(0, 17, (4, 1, *kernel)) / 16
    expected = sf.convolution(wave.double(), weight.double(), **options).float()
    for here in (wave, _otherwise(wave)):
        for there in (weight, _otherwise(weight)):
            torch.testing.assert_close(sf.convolution(here, there, **options), expected, rtol=0, atol=0)


@pytest.mark.parametrize("threshold", [None, 1.5])
@pytest.mark.parametrize("kernel, size, options", ONE_CHANNEL)
def test_operators_in_plain_torch_do_not_depend_on_strides(kernel, size, options, threshold, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(serving, "has_numba", lambda: False)
    times = torch.randint(0, 16, (15, 1, *size), dtype=torch.uint8)
    weight = torch.randint(0, 17, (4, 1, *kernel)) / 16
    expected = latency.convolution_fire(times, weight.double(), threshold, time_steps=15, **options)
    found = latency.convolution_fire(_otherwise(times), weight, threshold, time_steps=15, **options)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1].double(), expected[1])


def test_filters_do_not_depend_on_strides():
    bank, images = Filter([torch.eye(5), torch.ones(3, 5)]), torch.randint(0, 9, (6, 1, 5, 5)).float()
    assert torch.equal(bank(_otherwise(images)), bank(images))
    assert torch.equal(sf.local_normalization(_otherwise(images), 2), sf.local_normalization(images, 2))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_changes_no_encoding_and_no_decision(half):
    network, images = models.mozafari2019(), torch.randint(0, 256, (5, 1, 28, 28))
    times, decisions = network.features(images), network(images)
    retina = Filter([DoGKernel(3, 1 / 3, 2 / 3)], padding=1)
    image = torch.rand(1, 9, 9)
    filtered, normalized = retina(image), sf.local_normalization(image, 2)
    with torch.autocast("cpu", dtype=half):
        assert torch.equal(network.features(images), times) and torch.equal(network(images), decisions)
        assert torch.equal(retina(image), filtered)
        assert torch.equal(sf.local_normalization(image, 2), normalized)


def test_autocast_keeps_potentials_as_precise_as_the_weight_in_plain_torch(monkeypatch):
    monkeypatch.setattr(serving, "has_numba", lambda: False)
    layer = snn.SpikingConvolution(2, 4, 3, 3, time_steps=15)
    times = torch.randint(0, 16, (3, 2, 8, 8), dtype=torch.uint8)
    fired, potentials = layer.respond(times)
    conv, wave = snn.Convolution(2, 4, 3), latency.to_wave(times, 15)
    expected = conv(wave)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = layer.respond(times)
        assert torch.equal(again[0], fired) and torch.equal(again[1], potentials)
        assert conv(wave).dtype == torch.float32 and torch.equal(conv(wave), expected)


def test_training_under_autocast_goes_on_through_a_layer():
    before, conv = nn.Conv2d(2, 2, 1), snn.Convolution(2, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        waves = before(torch.rand(5, 2, 8, 8))
        assert waves.dtype == torch.bfloat16  # the user's own is as autocast makes it
        potentials = conv(waves)
        after = nn.Linear(6, 2)(potentials)
        assert potentials.dtype == torch.float32 and after.dtype == torch.bfloat16
    after.sum().backward()
    assert before.weight.grad.abs().sum() > 0
    with pytest.raises(TypeError, match="of the type of `weight`"):
        conv(waves)


@pytest.mark.parametrize("mode", [False, True])
def test_the_convolution_is_traced_whole(mode):
    conv = snn.Convolution(1, 4, 3)
    wave = (torch.rand(5, 1, 8, 8) < 0.5).float().cummax(0).values
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode):
        compiled = torch.compile(conv, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(wave), conv(wave), rtol=0, atol=0)
