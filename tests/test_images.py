"""Images as networks take them: of any type, on the scale and of the size that a network was made for, or a word."""

import re
import warnings
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from spyketorch import encoding, latency, models, visualization
from spyketorch.encoding import DoGKernel, Filter, GaborKernel, LatencyEncoder
from spyketorch.models import ImageSpec, InputWarning, Network, Stage
from spyketorch.snn import SpikingConvolution
from spyketorch.training import Reinforced, Trainer, Unsupervised, evaluate

NETWORKS = ["mozafari2019", "kheradpisheh2018", "mozafari2018"]
TYPES = [torch.uint8, torch.int8, torch.uint16, torch.int16, torch.int64, torch.bool]
TYPES += [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def pictures(name, dtype=torch.uint8):
    size = (112, 100) if name == "mozafari2018" else (28, 28)
    drawn = torch.randint(0, 256, (3, 1, *size), generator=torch.Generator().manual_seed(1))
    return drawn.to(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore::spyketorch.models.InputWarning")
def test_the_same_values_of_every_type_give_the_same_answers(name, dtype):
    made = getattr(models, name)(pretrained=name != "mozafari2018")
    high = 2 if dtype == torch.bool else 128
    values = pictures(name) % high
    for network in (made, made.double()):
        want = network.encoder(values.float())
        assert torch.equal(network.encoder(values.to(dtype)), want)
        assert (want < 15).any() or (name == "mozafari2019" and dtype == torch.bool)  # 1 is below its thresholds
        assert torch.equal(network(values.to(dtype)), network(values.float()))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_operations_on_intensities_of_every_type(dtype):
    values = torch.randint(0, 2 if dtype == torch.bool else 100, (2, 3, 6, 5)).to(dtype)
    same = values.float()
    assert torch.equal(latency.rank_order(values, 4), latency.rank_order(same, 4))
    for radius in (None, 1):
        encode = LatencyEncoder(torch.nn.Identity(), 4, radius)
        assert torch.equal(encode(values), encode(same))
    for to_spike in (False, True):
        wave = encoding.Intensity2Latency(4, to_spike)(values)
        assert wave.dtype == dtype
        assert torch.equal(wave.float(), encoding.Intensity2Latency(4, to_spike)(same))


def test_complex_images_are_refused():
    image = torch.ones(1, 1, 8, 8, dtype=torch.complex64)
    for call in (
        LatencyEncoder(torch.nn.Identity(), 4),
        encoding.Intensity2Latency(4),
        lambda image: latency.rank_order(image, 4),
        Filter([DoGKernel(3, 1, 2)]),
    ):
        with pytest.raises(TypeError, match=r"must be (a )?real"):
            call(image)


# places without contrast

KERNELS = [DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3), DoGKernel(7, 1, 2), DoGKernel(13, 3, 1.5)]
KERNELS += [GaborKernel(side, angle) for side in (5, 9) for angle in (0, 22.5, 67.5)]


@pytest.mark.parametrize("value", [1e-6, 0.1, 0.5, 1.0, 77.7, 255.0, -3.3])
@pytest.mark.parametrize("options", [{"thresholds": 0}, {"thresholds": 1e-12}, {"use_abs": True}], ids=str)
def test_flat_images_are_silent(value, options):
    bank = Filter(KERNELS, **options)
    for radius in (None, 3):
        encode = LatencyEncoder(torch.nn.Sequential(torch.nn.Identity(), bank), 15, radius)
        for dtype in (torch.float32, torch.float64):
            flat = torch.full((3, 1, 24, 31), value, dtype=dtype)
            assert (encode(flat) == 15).all()
            assert (encode(flat[0]) == 15).all()
            assert (LatencyEncoder(bank, 15, radius).double()(flat) == 15).all()
            bank.float()


@pytest.mark.parametrize("name", NETWORKS)
def test_flat_images_are_silent_in_the_published_networks(name):
    encoder = getattr(models, name)().encoder
    for value in (0.1, 0.7, 1.0):
        size = 130 if name == "mozafari2018" else 60
        scaled = value if name == "mozafari2018" else 255 * value
        times = encoder(torch.full((2, 1, size, size), scaled))
        assert (times[..., 20:-20, 20:-20] == 15).all()
        if name == "mozafari2018":  # it repeats the border, so that nothing is a contrast
            assert (times == 15).all()


def test_flat_parts_of_an_image_are_silent_and_the_rest_as_ever():
    """Where there is contrast nothing changes: same times as the filter and rank order give, less the rounding."""
    image = torch.full((2, 1, 30, 40), 77.7)
    image[:, :, :, 25:] = torch.rand(2, 1, 30, 15) * 255
    bank = Filter([DoGKernel(5, 1, 2), DoGKernel(5, 2, 1)], padding=2, thresholds=0)
    times = LatencyEncoder(bank, 15)(image)
    plain = bank(image)
    assert plain[..., 2:-2, 2:23].any()
    plain[..., 2:-2, 2:23] = 0
    assert torch.equal(times, latency.rank_order(plain, 15))


def test_a_slope_has_no_centre_that_differs():
    slope = torch.arange(30.0)[:, None] * 3.3 + torch.arange(30.0) * 0.7
    assert (LatencyEncoder(Filter(KERNELS[:4], thresholds=0), 15)(slope[None]) == 15).all()


def test_filters_by_themselves_stay_those_of_the_original():
    image = torch.full((1, 1, 20, 20), 77.7)
    bank = Filter(KERNELS)
    assert torch.equal(bank(image), torch.nn.functional.conv2d(image, bank.kernels))
    assert bank(image).any()
    LatencyEncoder(Filter(KERNELS, use_abs=True), 5)(image)
    assert bank(image).any()  # what an encoder does ends with it


# negative intensities


def test_negative_intensities_are_refused():
    image = torch.rand(2, 1, 9, 9)
    calls = [
        lambda: LatencyEncoder(torch.nn.Identity(), 5)(image - 0.5),
        lambda: LatencyEncoder(torch.nn.Identity(), 5, 2)(image - 0.5),
        lambda: LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3)]), 5)(image),
        lambda: LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3)], thresholds=-1), 5)(image),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"`intensities` must be 0 or more.*ReLU"):
            call()
    normalized = (image - image.mean()) / image.std()  # an image may be negative: its contrasts count
    assert (LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3)], thresholds=0), 5)(normalized) < 5).any()


def test_filters_that_give_no_map_are_refused():
    with pytest.raises(TypeError, match="`filter`"):
        LatencyEncoder(lambda image: image, 5)
    with pytest.raises(ValueError, match="`filter`"):
        LatencyEncoder(torch.nn.Flatten(), 5)(torch.rand(2, 1, 4, 4))


# what a network was made for


def small(**options):
    torch.manual_seed(0)
    layer = SpikingConvolution(1, 4, 3, 1.0, time_steps=5)
    return Network(LatencyEncoder(torch.nn.Identity(), 5), [Stage(layer)], [0, 0, 1, 1], **options)


def told(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if issubclass(w.category, InputWarning)]


def uses(network, images):
    labels = torch.zeros(len(images), dtype=torch.int64)
    network.batch_memory = 1  # one image at a time: one word for all of them
    return {
        "forward": lambda: network(images),
        "features": lambda: network.features(images),
        "evaluate": lambda: evaluate(network, images, labels),
        "summary": lambda: network.summary(images),
        "stimuli": lambda: visualization.get_mean_stimuli(network, 0, images),
    }


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1 / 255, 16 / 255, 255.0, "normalized"], ids=str)
def test_another_scale_is_said_once(name, scale):
    made, images = getattr(models, name)(pretrained=name != "mozafari2018"), pictures(name, torch.float32)
    own = images / 255 if name == "mozafari2018" else images
    other = (own - own.mean()) / own.std() if scale == "normalized" else own * scale
    for use, call in uses(made, own).items():
        assert told(call) == [], use
    for use, call in uses(made, other).items():
        (text,) = told(call)
        assert "this network was made for 0.." in text, use


def test_a_blank_image_has_no_scale():
    for name in NETWORKS:
        images = torch.zeros_like(pictures(name))
        assert told(lambda images=images, name=name: getattr(models, name)()(images)) == []


@pytest.mark.parametrize("name", NETWORKS)
def test_another_number_of_channels_is_refused(name):
    made = getattr(models, name)()
    for use, call in uses(made, pictures(name).repeat(1, 3, 1, 1)).items():
        with pytest.raises(ValueError, match=r"`images` must be of shape \(N, 1, any, any\), as this network"):
            print(use, call())


@pytest.mark.parametrize("name", NETWORKS[:2])
def test_shipped_weights_know_one_size(name):
    made = getattr(models, name)(pretrained=True)
    for size in (27, 32):
        for use, call in uses(made, torch.zeros(2, 1, size, size)).items():
            with pytest.raises(ValueError, match=r"\(N, 1, 28, 28\)"):
                print(use, call())


def test_a_network_of_the_users_own_says_what_it_was_made_for():
    made, images = small(images=ImageSpec((1, 8, None), (-1, 1))), torch.rand(4, 1, 8, 9)
    assert told(lambda: made(images)) == []
    assert len(told(lambda: made(images * 9))) == 1
    with pytest.raises(ValueError, match=r"\(N, 1, 8, any\)"):
        made(images.transpose(2, 3))
    assert told(lambda: small()(images * 99)) == []  # nothing is known


@pytest.mark.parametrize(
    "wrong",
    [{"shape": (1, 2)}, {"shape": (0, 1, 1)}, {"shape": 3}, {"range": (1, 0)}, {"range": 5}, {"range": ("a", 1)}],
)
def test_specs_check_what_they_hold(wrong):
    with pytest.raises((ValueError, TypeError), match=f"`{min(wrong)}`"):
        ImageSpec(**wrong)
    with pytest.raises(TypeError, match="`images`"):
        small(images=(1, 28, 28))


def test_files_know_neither_images_nor_memory(tmp_path):
    made, other = models.mozafari2019(pretrained=True), models.mozafari2019()
    made.batch_memory = 1e6
    made.save(tmp_path / "network.pt")
    other.load(tmp_path / "network.pt")
    assert torch.equal(other.stages[2].layer.weight, made.stages[2].layer.weight)


# silence


@pytest.mark.parametrize("name", NETWORKS)
def test_a_black_image_is_no_class(name):
    made = getattr(models, name)(pretrained=True)
    images = pictures(name, torch.float32) / (255 if name == "mozafari2018" else 1)
    images[1] = 0
    assert (made(images) < 0).tolist() == [False, True, False]
    result = evaluate(made, images, torch.tensor([1, 1, 1]))
    assert result.silent == pytest.approx(1 / 3)
    assert made.summary(images).rows[-1].silent == pytest.approx(1 / 3)


# the way on


def on_one_channel(**options):
    encoder = LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3)], 1, 0), 15)
    layer = SpikingConvolution(1, 10, 5, 4, 0.8, 0.05, time_steps=15)
    return Network(encoder, [Stage(layer)], **{"classes": range(10), **options})


IMAGES, LABELS = torch.rand(20, 1, 12, 12), torch.arange(20) % 10
FORMS = {  # that a network itself does not take, only `predict`, `scores`, `evaluate` and `fit`
    "an array": (IMAGES.numpy(), "a float32 ndarray of shape (20, 1, 12, 12): `torch.as_tensor`"),
    "lists": (IMAGES.tolist(), "a list of 20 x 1 x 12 x 12"),
    "a list of images": (list(IMAGES), "`torch.stack` makes one"),
    "a data set": (
        TensorDataset(IMAGES, LABELS),
        "an object of TensorDataset: `torch.stack([image for",
    ),
    "a loader": (
        DataLoader(TensorDataset(IMAGES)),
        "an object of DataLoader: `torch.cat([images for",
    ),
}
WAYS = {
    "one image": (IMAGES[0], "`images[None]`"),
    "no channel": (IMAGES[:, 0], "`images[:, None]`"),
    "one without channel": (IMAGES[0, 0], "`images[None, None]`"),
    "colours": (IMAGES.expand(-1, 3, -1, -1), "`images.float().mean(1, keepdim=True)`"),
    "channels last": (IMAGES.permute(0, 2, 3, 1), "`images.permute(0, 3, 1, 2)`"),
    "colours last": (IMAGES.permute(0, 2, 3, 1).expand(-1, -1, -1, 3), "`images.permute(0, 3, 1, 2)`"),
    "NaN": (IMAGES * torch.nan, "finite everywhere"),
}


@pytest.mark.parametrize("spec", [None, ImageSpec((1, None, None))], ids=str)
@pytest.mark.parametrize("given", WAYS)
def test_images_that_do_not_fit_are_told_the_way_on(given, spec):
    images, way = WAYS[given]
    network = on_one_channel(images=spec)
    for call in (network, lambda images: evaluate(network, images, LABELS), Trainer(network, [Unsupervised()]).fit):
        with pytest.raises((TypeError, ValueError), match=r"`images`.* must be") as caught:
            call(images)
        assert way in str(caught.value)


@pytest.mark.parametrize("given", FORMS)
def test_a_network_itself_takes_tensors(given):
    images, way = FORMS[given]
    with pytest.raises(TypeError, match=r"`images` must be") as caught:
        on_one_channel()(images)
    assert way in str(caught.value)


def test_an_encoder_alone_tells_the_same():
    for image, way in (
        (IMAGES[0].expand(3, -1, -1), "images.float().mean(0, keepdim=True)"),
        (IMAGES[0] * torch.nan, "finite"),
    ):
        with pytest.raises(ValueError, match=r"`images`/`input` must be") as caught:
            on_one_channel().encoder(image)
        assert way in str(caught.value)
    with pytest.raises(ValueError, match=re.escape("`images.permute(2, 0, 1)`")):
        on_one_channel().encoder(IMAGES[0].permute(1, 2, 0))


@pytest.mark.parametrize(
    ("labels", "way"),
    [(LABELS.float(), "`labels.long()`"), (LABELS[:, None], "`labels.flatten()`"),
     (torch.eye(10)[LABELS], "`labels.argmax(1)`"), (torch.eye(10)[LABELS].tolist(), "(labels).argmax(1)`")],
)  # fmt: skip
def test_labels_that_are_no_classes_are_told_the_way_on(labels, way):
    for call in (partial(evaluate, on_one_channel()), Trainer(on_one_channel(), [Reinforced()]).fit):
        with pytest.raises(ValueError, match="`labels` must be 20 integers") as caught:
            call(IMAGES, labels)
        assert way in str(caught.value)


def test_rewards_without_classes_are_told_the_way_on():
    with pytest.raises(ValueError, match=re.escape("give `Network(..., classes=...)`")):
        Trainer(on_one_channel(classes=None), [Reinforced()])


def test_images_that_ask_for_gradients():
    network, asking = on_one_channel(), IMAGES.clone().requires_grad_()
    assert torch.equal(network(asking), network(IMAGES))
    Trainer(network, [Unsupervised()], progress=False).fit(asking)
    front = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU())
    for radius in (None, 2):
        assert LatencyEncoder(front, 15, radius)(IMAGES).shape == (20, 2, 10, 10)


def test_a_folder_is_no_file_of_a_network(tmp_path):
    for call in (on_one_channel().load, on_one_channel().save):
        with pytest.raises(IsADirectoryError, match=r"`path` must name a file; .* is a folder"):
            call(tmp_path)


def test_images_of_another_size_are_told_the_way_on():
    network = on_one_channel(images=ImageSpec((1, 28, 28)))
    with pytest.raises(
        ValueError, match=re.escape("`torch.nn.functional.interpolate(images.float(), (28, 28))`")
    ) as caught:
        network(IMAGES)
    assert "of shape (N, 1, 28, 28), as this network was made for" in str(caught.value)
