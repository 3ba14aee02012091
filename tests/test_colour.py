"""Encoders of colour, and those that are fitted: against the oracle, in any batch and type, saved, and one by one."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import reference as ref
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import close, dyadic, intensities, same, samplewise, seeds, tensor
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from spyketorch import encoding, testing
from spyketorch.encoding import EqualizedLatency, Filter, LatencyEncoder, LinearLatency, OnOff, Whitening

SPOTS = [encoding.DoGKernel(5, 1, 2), encoding.DoGKernel(5, 2, 1)]


def pictures(count=12, channels=3, size=(14, 13), dtype=torch.uint8):
    """Smooth ones, whose neighbours are alike."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(count, channels, size[0] + 4, size[1] + 4, generator=draw)
    smooth = torch.nn.functional.avg_pool2d(noise + noise.mean(1, keepdim=True), 5, 1)
    return (smooth * 100).round().to(dtype)


# colours


@given(seed=seeds, n=st.integers(1, 3), kind=st.sampled_from([torch.uint8, torch.float32, torch.float64]))
def test_colours(seed, n, kind):
    image = np.random.default_rng(seed).integers(0, 256, (n, 3, 4, 5))
    red, green, blue = image[:, 0], image[:, 1], image[:, 2]
    grey = samplewise(encoding.Luminance(), tensor(image, kind))
    close(grey, (0.299 * red + 0.587 * green + 0.114 * blue)[:, None], 1e-6, 1e-4)
    parts = (red + green + blue) / 3**0.5, (red - green) / 2**0.5, (red + green - 2 * blue) / 6**0.5
    close(samplewise(encoding.OpponentColours(), tensor(image, kind)), np.stack(parts, 1), 1e-6, 1e-4)
    assert grey.dtype == (torch.float64 if kind == torch.float64 else torch.float32)


@given(seed=seeds, n=st.integers(1, 3), kind=st.sampled_from([torch.uint8, torch.float32, torch.float64]))
def test_chromaticity(seed, n, kind):
    image = np.random.default_rng(seed).integers(0, 4, (n, 3, 4, 5))
    for floor in (0, 2.5):
        whole = image.sum(1, keepdims=True) + floor
        shares = samplewise(encoding.Chromaticity(floor), tensor(image, kind))
        close(shares, np.where(whole > 0, image / np.where(whole > 0, whole, 1), 0), 1e-6, 1e-6)


def test_light_and_shade_are_of_one_chromaticity():
    colours = torch.rand(2, 3, 5, 5)
    close(encoding.Chromaticity()(colours), encoding.Chromaticity()(colours / 8), 1e-6)


def test_grey_has_no_colour():
    grey = torch.rand(2, 1, 7, 9).expand(-1, 3, -1, -1)
    opponents = encoding.OpponentColours()(grey)
    assert (opponents[:, 1:] == 0).all() and (opponents[:, 0] > 0).any()


@given(batch=intensities(batched=True, low=-3))
def test_on_and_off(dtype, batch):
    x = tensor(batch, dtype)
    maps = samplewise(OnOff(), x)
    for c in range(batch.shape[1]):
        same(maps[:, 2 * c], np.maximum(batch[:, c], 0))
        same(maps[:, 2 * c + 1], np.maximum(-batch[:, c], 0))
    assert not torch.signbit(maps).any()


@pytest.mark.parametrize("module", [encoding.Luminance(), encoding.OpponentColours(), encoding.Chromaticity()])
def test_colours_are_three(module):
    with pytest.raises(ValueError, match=r"red, green and blue.*\(2, 1, 4, 4\).*expand"):
        module(torch.rand(2, 1, 4, 4))
    with pytest.raises(ValueError, match=r"red, green and blue.*\(4, 5, 5\)"):
        module(torch.rand(4, 5, 5))


# whitening


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    channels=st.integers(1, 3),
    window=st.sampled_from([3, 5]),
    share=st.sampled_from([0.01, 0.15, 1]),
    all_components=st.booleans(),
)
def test_whitening(seed, channels, window, share, all_components):
    images = np.random.default_rng(seed).integers(0, 256, (9, channels, 8, 7))
    components = None if all_components else channels * window**2 // 2
    made = Whitening(components, window=window, regularization=share, patches=30, seed=seed)
    assert not made.fitted and made.fit(tensor(images, torch.uint8)) is made and made.fitted
    kernels = ref.whitening(images, components, window, share, 30, seed)
    close(made.kernels, kernels, 1e-4, 1e-7)
    edges = np.pad(images, ((0, 0), (0, 0), (window // 2,) * 2, (window // 2,) * 2), mode="edge")
    want = np.stack([ref.filter_image(image, list(kernels)) for image in edges])
    close(samplewise(made, tensor(images, torch.uint8)), want, 1e-3, 1e-3)


def test_whitened_patches_are_uncorrelated_and_of_one_size():
    """The oracle, before the mean is taken off: over its own patches."""
    images = (np.random.default_rng(0).random((900, 2, 3, 3)) @ np.random.default_rng(1).random((3, 3))).astype("f4")
    made = Whitening(window=3, regularization=0, patches=1).fit(tensor(images, torch.float32))
    rows = images.reshape(900, -1).astype(float)
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False, bias=True))
    whole = (vectors / np.sqrt(values)) @ vectors.T
    close(np.cov(rows @ whole, rowvar=False, bias=True), np.eye(18), 1e-6, 1e-6)
    middle = whole[[4, 13]].reshape(2, 2, 3, 3)
    close(made.kernels, middle - middle.mean((2, 3), keepdims=True), 1e-3, 1e-3)


def test_whitening_is_the_same_whatever_the_batches_the_type_and_the_threads(threads):
    images = pictures(70)
    threads(1)
    kernels = Whitening(window=5).fit(images).kernels
    for count, size, kind in itertools.product([1, 2], [1, 9, 70], [torch.uint8, torch.float32, torch.float64]):
        threads(count)
        parts = [(part, None) for part in images.to(kind).split(size)]
        assert torch.equal(Whitening(window=5).fit(parts).kernels, kernels)
    assert not torch.equal(Whitening(window=5, seed=1).fit(images).kernels, kernels)
    assert torch.equal(Whitening(window=5).fit([images[:30], images[30:, :, :, :]]).kernels, kernels)


def test_whitening_knows_no_scale():
    images = pictures(30)
    maps = Whitening(window=5).fit(images)(images)
    close(Whitening(window=5).fit(images / 256)(images / 256), maps.numpy(force=True), 1e-3, 1e-5)


def test_what_is_of_one_colour_is_silent():
    made = Whitening(window=5).fit(pictures())
    for value in (0.1, 77.7, 255):
        assert not made(torch.tensor([value, value / 3, value / 7]).view(1, 3, 1, 1).expand(2, 3, 20, 21)).any()


def test_whitening_refuses():
    with pytest.raises(ValueError, match="`window` must be odd"):
        Whitening(window=4)
    with pytest.raises(ValueError, match="at most the 27 values of a patch"):
        Whitening(28, window=3).fit(pictures())
    with pytest.raises(ValueError, match="at least as large as the `window`, 15"):
        Whitening(window=15).fit(pictures())
    with pytest.raises(ValueError, match="one value all over"):
        Whitening(window=3).fit(torch.full((5, 3, 9, 9), 0.1))
    with pytest.raises(ValueError, match="of the 3 channels that it was fitted to"):
        Whitening(window=3).fit(pictures())(torch.rand(2, 1, 9, 9))


# one table for all


@given(data=st.data(), batch=intensities(batched=True), steps=st.sampled_from([1, 4, 15, 300]), per_place=st.booleans())
def test_equalized_latency(data, batch, steps, per_place):
    """Fitted to some images, it encodes others, with values above those that it has seen."""
    rng = np.random.default_rng(data.draw(seeds))
    training = dyadic(rng, batch.shape, 0, 1)
    training[0] = np.maximum(training[0], 1 / 64)
    training[:, :, 0, 0] = 1  # of each map the largest; of other places powers of two, as quotients are exact then
    if per_place:
        training[0] = 2.0 ** rng.integers(-1, 2, batch.shape[1:])
        training[1:] = np.minimum(training[1:], training[0])
    encode = EqualizedLatency(nn.Identity(), steps, per_place=per_place)
    assert encode.fit(tensor(training)) is encode and encode.fitted
    largest = training.max(0) if per_place else training.max((0, 2, 3), keepdims=True)[0]
    same(encode.largest, largest)
    values, known = np.minimum(batch / 2 / largest, 1), training / largest
    times = samplewise(encode, tensor(batch / 2))
    same(times, np.stack([ref.equalized(image, known, steps) for image in values]))
    assert times.dtype == (torch.uint8 if steps <= 254 else torch.int16)


def test_all_steps_are_used_alike():
    images = torch.rand(40, 2, 9, 9) ** 6  # most are faint
    encode = EqualizedLatency(nn.Identity(), 20).fit(images)
    counts = torch.bincount(encode(images).flatten(), minlength=21)
    assert counts[:20].min() > 0.95 * counts[:20].max()
    linear = torch.bincount(LinearLatency(nn.Identity(), 20).fit(images)(images).flatten(), minlength=21)
    assert linear[19] > 0.4 * linear.sum()


def test_the_same_times_whatever_the_batches_the_type_and_the_threads(threads):
    images = pictures(20)
    for make in (
        lambda: EqualizedLatency(nn.Sequential(Whitening(window=5), OnOff()), 30),
        lambda: LinearLatency(nn.Sequential(Whitening(window=5), OnOff()), 30, per_place=True),
        lambda: LinearLatency(Filter(SPOTS, 2, 0, channels=3), 30),
    ):
        threads(1)
        want = make().fit(images)(images)
        for count, size, kind in ((2, 11, torch.float32), (1, 1, torch.uint8), (2, 20, torch.uint8)):
            threads(count)
            made = make().fit(images.to(kind).split(size))
            assert torch.equal(made(images.to(kind)), want)
            assert torch.equal(torch.cat([made(part) for part in images.split(size)]), want)
            assert torch.equal(made(images.double()), want)


# fitting, part by part


class Twice(nn.Module):
    """A front end of one's own, whose parts are not in the order of their calls."""

    def __init__(self):
        super().__init__()
        self.second, self.first = Whitening(window=3), Whitening(window=5)

    def forward(self, images):
        return self.second(self.first(images) + 1).abs()


def test_each_part_gets_what_reaches_it():
    images, made = pictures(), LatencyEncoder(Twice(), 5)
    assert encoding.fit(made, images) is None
    first = Whitening(window=5).fit(images)
    assert torch.equal(made.filter.first.kernels, first.kernels)
    assert torch.equal(made.filter.second.kernels, Whitening(window=3).fit(first(images) + 1).kernels)
    whole = EqualizedLatency(Twice(), 5).fit(images.split(5))
    for part in ("first", "second"):
        assert torch.equal(getattr(whole.filter, part).kernels, getattr(made.filter, part).kernels)
    assert not any(part._forward_pre_hooks for part in whole.modules())


def test_what_is_fitted_stays():
    white = Whitening(window=3).fit(pictures())
    kept, made = white.kernels.clone(), EqualizedLatency(nn.Sequential(white, OnOff()), 5)
    encoding.fit(made, pictures().flip(-1) // 2)
    assert torch.equal(white.kernels, kept) and made.fitted
    table = made.table.clone()
    encoding.fit(made, pictures() ** 2)
    assert torch.equal(made.table, table)
    made.fit((pictures() // 30) ** 2)
    assert torch.equal(white.kernels, kept) and not torch.equal(made.table, table)


class Counted:
    """Batches that count how often they are gone through."""

    def __init__(self, images):
        self.images, self.passes, self.batches = images, 0, 0

    def __iter__(self):
        for number, part in enumerate(self.images.split(4)):
            self.passes += number == 1
            yield part, torch.zeros(len(part))


def test_images_are_read_once_for_each_part():
    for make, passes in (
        (lambda: LinearLatency(OnOff(), 5), 1),
        (lambda: EqualizedLatency(OnOff(), 5), 2),
        (lambda: EqualizedLatency(nn.Sequential(Whitening(window=3), OnOff()), 5), 3),
        (lambda: LatencyEncoder(nn.Sequential(Whitening(window=3), OnOff()), 5), 1),
    ):
        counted, made = Counted(pictures()), make()
        encoding.fit(made, counted)
        assert counted.passes == passes
        again = make()
        encoding.fit(again, pictures())
        assert torch.equal(made(pictures()), again(pictures()))


def test_a_generator_serves_one_part():
    made = LatencyEncoder(nn.Sequential(Whitening(window=3), OnOff()), 5)
    encoding.fit(made, iter(pictures().split(5)))
    assert torch.equal(made.filter[0].kernels, Whitening(window=3).fit(pictures()).kernels)
    with pytest.raises(ValueError, match=r"at least one batch.*tensor, a list or a DataLoader, not a generator"):
        EqualizedLatency(OnOff(), 5).fit(iter(pictures().split(5)))
    with pytest.raises(ValueError, match="at least one batch"):
        LinearLatency(OnOff(), 5).fit([])
    with pytest.raises(ValueError, match="at least one batch"):
        Whitening().fit(iter([]))


def test_fitting_takes_a_loader():
    images = pictures()
    loader = DataLoader(TensorDataset(images, torch.arange(len(images))), batch_size=5)
    made = EqualizedLatency(nn.Sequential(Whitening(window=3), OnOff()), 5).fit(loader)
    want = EqualizedLatency(nn.Sequential(Whitening(window=3), OnOff()), 5).fit(images)
    assert torch.equal(made(images), want(images))


class Idle(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Whitening()

    def forward(self, images):
        return images


@pytest.mark.parametrize("wrong", [5, "images", None])
def test_images_that_are_none_are_refused(wrong):
    with pytest.raises(TypeError, match="`images` must be a tensor"):
        LinearLatency(OnOff(), 5).fit(wrong)
    with pytest.raises((TypeError, ValueError), match="`images` must be"):
        LinearLatency(OnOff(), 5).fit([wrong])


def test_a_part_that_is_never_called_is_told():
    with pytest.raises(ValueError, match="does not call its Whitening, which is not fitted"):
        encoding.fit(LatencyEncoder(Idle(), 5), pictures())


def test_maps_of_one_size():
    with pytest.raises(ValueError, match=r"one size where `per_place`.*\(3, 9, 8\) behind \(3, 8, 8\)"):
        EqualizedLatency(nn.Identity(), 5).fit([torch.rand(2, 3, 8, 8), torch.rand(2, 3, 9, 8)])
    made = EqualizedLatency(nn.Identity(), 5, per_place=False).fit([torch.rand(2, 3, 8, 8), torch.rand(2, 3, 9, 8)])
    assert made(torch.rand(3, 5, 5)).shape == (3, 5, 5)


FITTED = {
    "Whitening": lambda: Whitening(window=3),
    "LinearLatency": lambda: LinearLatency(Filter(SPOTS, 2, 0, channels=3), 5),
    "EqualizedLatency": lambda: EqualizedLatency(nn.Sequential(Whitening(window=3), OnOff()), 5),
}


@pytest.mark.parametrize("name", FITTED)
def test_what_is_fitted_is_saved(name):
    images = pictures()
    made, fresh, other = (FITTED[name]() for _ in range(3))
    assert isinstance(made, encoding.Fitted) and not made.fitted and not fresh.state_dict()
    with pytest.raises(ValueError, match=rf"of this {name} must be known before.*`encoding.fit.*saved state"):
        made(images)
    encoding.fit(made, images)
    encoding.fit(other, (images.flip(-2) // 3) ** 2)
    assert not torch.equal(other(images), made(images))
    for one in (fresh, other):
        one.load_state_dict(copy.deepcopy(made.state_dict()))
        assert one.fitted and torch.equal(one(images), made(images))
    assert torch.equal(pickle.loads(pickle.dumps(made))(images), made(images))
    with pytest.raises(RuntimeError, match="Missing key"):
        made.load_state_dict({})
    double = copy.deepcopy(made).double()
    assert double(images.double()).dtype == (torch.float64 if name == "Whitening" else torch.uint8)


@pytest.mark.parametrize(
    "table",
    [torch.full((2**16,), 5, dtype=torch.uint8), torch.zeros(9, dtype=torch.uint8), torch.zeros(2**16)],
    ids=str,
)
def test_a_table_that_is_none_is_not_loaded(table):
    made = FITTED["EqualizedLatency"]()
    encoding.fit(made, pictures())
    with pytest.raises(RuntimeError, match=r"table must hold 65537 times, 5 and then 0\.\.4"):
        FITTED["EqualizedLatency"]().load_state_dict({**made.state_dict(), "table": table})


@pytest.mark.parametrize(
    "front",
    [
        lambda: Filter(SPOTS, 2, 0, channels=3),
        lambda: Filter([encoding.GaborKernel(5, angle) for angle in (0, 45, 90, 135)], 2, use_abs=True, channels=3),
        lambda: nn.Sequential(encoding.Luminance(), Filter(SPOTS, 2, 0)),
        lambda: nn.Sequential(encoding.OpponentColours(), Filter(SPOTS, 2, 0, channels=3)),
        lambda: nn.Sequential(encoding.OpponentColours(), Filter(SPOTS[:1], 2, channels=3), OnOff()),
        lambda: nn.Sequential(Whitening(window=5), OnOff()),
    ],
    ids=["spots", "edges", "luminance", "opponents", "on and off", "whitening"],
)
@pytest.mark.parametrize("encoder", [LatencyEncoder, LinearLatency, EqualizedLatency], ids=["rank", "value", "table"])
def test_every_front_end_with_every_latency(front, encoder):
    images, made = pictures(), encoder(front(), 15)
    if isinstance(made, LatencyEncoder):
        encoding.fit(made, images)
    testing.check_encoder(made, images)
    testing.check_encoder(made, images / 256)
    encoding.fit(made, images)
    assert (made(torch.full((2, 3, 14, 13), 0.7))[..., 4:-4, 4:-4] == 15).all()


def test_check_encoder_finds_what_is_wrong_with_fitting():
    class Order(LinearLatency):
        def fit(self, images):
            super().fit(images)
            if isinstance(images, list) and self.largest is not None:
                self.largest = self.largest / 2
            return self

    class Silent(LinearLatency):
        def forward(self, input):
            return super().forward(input) if self.fitted else torch.zeros_like(input, dtype=torch.uint8)

    class Elsewhere(LinearLatency):
        def fit(self, images):
            super().fit(images)

    for kind, words in ((Order, "batches of one image"), (Silent, "names `fit`"), (Elsewhere, "the encoder itself")):
        with pytest.raises(AssertionError, match=words):
            testing.check_encoder(kind(nn.Identity(), 9), torch.rand(5, 1, 6, 6))
