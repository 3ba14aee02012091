"""Encoders against the oracle: kernels, filters, normalisation, inhibition, rank order."""

import copy
import pickle

import numpy as np
import pytest
import reference as ref
import torch
import torch.nn.functional as fn
from hypothesis import given
from hypothesis import strategies as st
from strategies import close, dyadic, intensities, same, samplewise, seeds, sizes, tensor

from spyketorch import _convolution, encoding, latency, utils

bins = st.integers(1, 8)
positive = st.floats(0.25, 4)


# kernels


@given(percents=st.lists(st.integers(-64, 64).map(lambda n: n / 64), min_size=1, max_size=5), as_array=st.booleans())
def test_inhibition_kernel(percents, as_array):
    kernel = encoding.generate_inhibition_kernel(np.array(percents) if as_array else percents)
    assert kernel.dtype == torch.float32
    same(kernel, ref.generate_inhibition_kernel(percents))


@given(window=st.integers(2, 9), sigma1=positive, ratio=st.sampled_from([0.5, 1.25, 2]))
def test_dog_kernel(window, sigma1, ratio):
    kernel = encoding.DoGKernel(window, sigma1, sigma1 * ratio)
    close(kernel(), ref.dog_kernel(window, sigma1, sigma1 * ratio), 1e-4, 1e-4)
    assert kernel.window_size == window
    assert kernel().shape == (window // 2 * 2 + 1,) * 2
    assert kernel().max() == 1
    assert isinstance(kernel, encoding.FilterKernel)


orientations = st.sampled_from([0, 22.5, 45, 67.5, 90, 120, -30])


@given(window=st.integers(2, 9), orientation=orientations, div=st.sampled_from([None, 3.3, 5]))
def test_gabor_kernel(window, orientation, div):
    kernel = encoding.GaborKernel(window, orientation, *([] if div is None else [div]))
    close(kernel(), ref.gabor_kernel(window, orientation, div or 4.0), 1e-4, 1e-4)
    assert kernel.window_size == window
    assert kernel().max() == 1
    assert isinstance(kernel, encoding.FilterKernel)


def test_keyword_names_of_the_kernels():
    same(encoding.DoGKernel(window_size=5, sigma1=1, sigma2=2)(), encoding.DoGKernel(5, 1, 2)())
    same(encoding.GaborKernel(window_size=5, orientation=30, div=4)(), encoding.GaborKernel(5, 30)())
    assert encoding.GaborKernel(5, 30)().dtype == torch.float32


# filters


class Ramp(encoding.FilterKernel):
    """A kernel of the user's."""

    def __init__(self):
        super().__init__(2)

    def __call__(self):
        return torch.arange(4.0).reshape(2, 2) / 4


class Edge:
    """A kernel that owes nothing to the library."""

    window_size = 1

    def __call__(self):
        return torch.tensor([[-2.0]])


limits = st.sampled_from([None, 0, 0.25, -0.5, "each", "tensor"])


@given(
    seed=seeds,
    radii=st.lists(st.integers(0, 2), min_size=1, max_size=3),
    height=st.integers(5, 7),
    width=st.integers(5, 7),
    padding=st.integers(0, 2),
    threshold=limits,
    use_abs=st.booleans(),
    contiguous=st.booleans(),
    channels=st.integers(1, 3),
    reads_all=st.booleans(),
)
def test_filter(seed, radii, height, width, padding, threshold, use_abs, contiguous, channels, reads_all):
    rng = np.random.default_rng(seed)
    planes = (channels,) if reads_all else ()
    kernels = [dyadic(rng, (*planes, 2 * r + 1, 2 * r + 1), -1, 1, 4) for r in radii]
    image = dyadic(rng, (channels, height, width), 0, 2, 4)
    each = [i / 4 - 0.25 for i in range(len(kernels))]
    given_limits = {"each": each, "tensor": torch.tensor(each)}.get(threshold, threshold)
    bank = [tensor(k, torch.float32) for k in kernels]
    layer = encoding.Filter(bank, padding, given_limits, use_abs, channels=channels)
    x = tensor(image, torch.float32, contiguous)
    expected = ref.filter_image(image, kernels, padding, each if isinstance(threshold, str) else threshold, use_abs)
    same(layer(x), expected)
    same(layer(x[None]), expected[None])
    same(layer(x[None], rounding=False), expected[None])
    same(x, image)
    assert layer.max_window_size == 2 * max(radii) + 1
    assert layer.number_of_kernels == len(kernels)
    assert len(layer.kernels) == len(kernels)
    assert not layer.state_dict()
    assert not list(layer.parameters())


def test_filter_takes_every_kind_of_kernel():
    kernels = [encoding.DoGKernel(3, 0.5, 1), torch.full((3, 3), 0.5), Edge(), Ramp()]
    plain = [ref.dog_kernel(3, 0.5, 1), np.full((3, 3), 0.5), np.array([[-2.0]])]
    image = torch.arange(30.0).reshape(1, 5, 6) / 4
    want = ref.filter_image(image[0].double().numpy(force=True), plain, padding=1)
    close(encoding.Filter(kernels[:3], padding=1)(image), want, 1e-4, 1e-4)
    want = ref.filter_image(image[0].double().numpy(force=True), [np.arange(4.0).reshape(2, 2) / 4])
    same(encoding.Filter(kernels[3:])(image), want)
    assert encoding.Filter(filter_kernels=kernels[:3], padding=1, thresholds=0.5, use_abs=True).max_window_size == 3


@pytest.mark.parametrize("limit", [0.0, 50.0, 0.1, -0.1, -3.0, 1e30])
def test_values_on_the_threshold_stay(dtype, limit):
    """Those below it, however little, are silent."""
    on = torch.tensor(limit, dtype=dtype)
    below = torch.nextafter(on, torch.tensor(-torch.inf, dtype=dtype))
    above = torch.nextafter(on, torch.tensor(torch.inf, dtype=dtype))
    image = torch.stack([below, on, above, -on, on * 0, on - 1, on + 1]).view(1, 1, 7)
    same(encoding.Filter([torch.ones(1, 1, dtype=dtype)], thresholds=limit)(image), torch.where(image < on, 0, image))


@given(seed=seeds, n=st.integers(1, 3), threshold=limits, use_abs=st.booleans())
def test_filter_batched(seed, n, threshold, use_abs):
    rng = np.random.default_rng(seed)
    kernels = [tensor(dyadic(rng, (3, 3), -1, 1, 4), torch.float32) for _ in range(2)]
    threshold = {"each": [0.25, -0.25], "tensor": torch.tensor([0.25, -0.25])}.get(threshold, threshold)
    layer = encoding.Filter(kernels, 1, threshold, use_abs)
    assert samplewise(layer, tensor(dyadic(rng, (n, 1, 4, 5)), torch.float32)).shape == (n, 2, 4, 5)


def test_filter_moves_to_double():
    image = torch.arange(20.0).reshape(1, 4, 5) / 4
    layer = encoding.Filter([torch.eye(3), torch.ones(3, 3)], 1, [1, 2])
    moved = copy.deepcopy(layer).double()
    assert moved(image.double()).dtype == torch.float64
    same(moved(image.double()), layer(image))
    same(pickle.loads(pickle.dumps(layer))(image), layer(image))


# normalisation and inhibition


@given(batch=intensities(batched=True), radius=st.integers(0, 3), eps=st.sampled_from([1e-12, 0.5]))
def test_local_normalization(batch, radius, eps):
    layer = encoding.LocalNormalization(radius, eps)
    answer = samplewise(layer, tensor(batch), close)
    close(answer, np.stack([ref.local_normalization(x, radius, eps) for x in batch]))
    close(layer(tensor(batch[:1])), answer[:1])


@given(batch=intensities(batched=True), radius=st.integers(0, 3), floor=st.sampled_from([0.02, 0.5]))
def test_local_contrast(dtype, batch, radius, floor):
    layer = encoding.LocalContrast(radius, floor)
    answer = samplewise(layer, tensor(batch, dtype))
    close(answer, np.stack([ref.local_contrast(x, radius, floor) for x in batch]), 1e-5, 1e-5)
    assert answer.dtype == dtype


def test_a_dim_image_has_the_contrasts_of_a_bright_one():
    bright = torch.rand(2, 4, 9, 9) + 1
    close(encoding.LocalContrast(2, 1e-9)(bright), encoding.LocalContrast(2, 1e-9)(bright / 16), 1e-6)
    assert (encoding.LocalContrast(2)(torch.zeros(1, 3, 3)) == 0).all()


@given(x=intensities(), percents=st.lists(st.sampled_from([0.125, 0.25, 0.5]), min_size=1, max_size=3))
def test_lateral_inhibition(dtype, x, percents):
    layer = encoding.LateralIntencityInhibition(percents)
    given_x = tensor(x[None], dtype)
    want = ref.intensity_lateral_inhibition(x, ref.generate_inhibition_kernel(percents))
    same(layer(given_x), want[None])
    same(layer(given_x[0]), want)
    same(given_x, x[None])
    assert layer(given_x).dtype == dtype


@given(batch=intensities(batched=True))
def test_lateral_inhibition_batched(batch):
    samplewise(encoding.LateralIntencityInhibition([0.25, 0.125]), tensor(batch))


# rank order


@given(x=intensities(), steps=bins, to_spike=st.booleans(), contiguous=st.booleans())
def test_intensity_to_latency(dtype, x, steps, to_spike, contiguous):
    layer = encoding.Intensity2Latency(steps, to_spike)
    want = ref.intensity_to_latency(x, steps, to_spike)
    for given_x in (tensor(x, dtype, contiguous), tensor(x[None], dtype, contiguous)):
        before = given_x.clone()
        wave = layer(given_x)
        same(wave, want)
        same(given_x, before)
        assert wave.dtype == dtype


@given(x=intensities(low=-3), steps=bins, to_spike=st.booleans())
def test_negative_intensities_rank_last(x, steps, to_spike):
    same(encoding.Intensity2Latency(steps, to_spike)(tensor(x)), ref.intensity_to_latency(x, steps, to_spike))


@given(batch=intensities(batched=True), steps=bins, to_spike=st.booleans())
def test_intensity_to_latency_batched(batch, steps, to_spike):
    layer, x = encoding.Intensity2Latency(steps, to_spike, batched=True), tensor(batch)
    want = np.stack([ref.intensity_to_latency(sample, steps, to_spike) for sample in batch])
    same(layer(x), want)
    order = torch.arange(len(x)).roll(1)
    same(layer(x[order]), want[order.numpy(force=True)])
    if len(batch) > 1:
        same(encoding.Intensity2Latency(steps, to_spike)(x), want)
        with pytest.raises(ValueError, match="batched"):
            encoding.Intensity2Latency(steps, to_spike, batched=False)(x)
    else:
        same(encoding.Intensity2Latency(steps, to_spike, batched=False)(x), want[0])
        same(encoding.Intensity2Latency(steps, to_spike)(x), want[0])


@given(batch=intensities(batched=True), steps=bins)
def test_rank_order(batch, steps):
    times = samplewise(lambda x: latency.rank_order(x, steps), tensor(batch))
    assert times.dtype == torch.uint8
    same(times, np.stack([ref.rank_order(x, steps) for x in batch]))


@given(seed=seeds, n=st.integers(0, 40), steps=bins)
def test_bins_are_equal_and_the_weakest_drop(seed, n, steps):
    x = torch.zeros(1, 5, 8)
    x.view(-1)[:n] = torch.tensor(np.random.default_rng(seed).permutation(n) + 1.0).float()
    times = latency.rank_order(x, steps)
    size = max(n // steps, 1)
    used = min(n, size * steps)
    full = used // size
    assert torch.bincount(times.flatten(), minlength=steps + 1)[:-1].tolist() == [size] * full + [0] * (steps - full)
    assert ((x > n - used) == (times < steps)).all()


def test_a_blank_image_is_silent():
    for shape in ((1, 3, 4), (1, 1, 3, 4), (2, 1, 3, 4)):
        assert not encoding.Intensity2Latency(5)(torch.zeros(shape)).any()
        assert (latency.rank_order(torch.zeros(shape[-3:]), 5) == 5).all()


def test_equal_intensities_keep_their_order():
    times = latency.rank_order(torch.ones(1, 20, 50), 10)
    assert times.flatten().tolist() == [i // 100 for i in range(1000)]


def test_waves_of_whole_numbers():
    x = torch.tensor([[[3, 0, 1], [2, 0, 5]]], dtype=torch.uint8)
    want = ref.intensity_to_latency(x.double().numpy(force=True), 2, True)
    same(encoding.Intensity2Latency(2, to_spike=True)(x), want)


# by value


@given(batch=intensities(batched=True), steps=st.sampled_from([1, 2, 3, 15, 255, 40_000]))
def test_linear(dtype, batch, steps):
    values = batch / 2  # up to 1.5, on a grid
    times = samplewise(lambda x: latency.linear(x, steps), tensor(values, dtype))
    assert times.dtype == (torch.uint8 if steps <= 254 else torch.int16 if steps <= 32_767 else torch.int32)
    same(times, np.stack([ref.linear(x, steps) for x in values]))


def test_linear_uses_all_steps_alike():
    values = torch.arange(1, 65) / 64
    times = latency.linear(values.view(1, 8, 8), 16)
    assert torch.bincount(times.flatten()).tolist() == [4] * 16
    same(latency.linear(torch.tensor([[[0.0, -0.5, 1e-30, 1, 7]]]), 5), [[[5, 5, 4, 0, 0]]])


def largest_of(batch, per_place):
    """What `fit` finds, by loops."""
    largest = np.zeros(batch.shape[1:])
    for image in batch:
        for place in np.ndindex(image.shape):
            largest[place] = max(largest[place], image[place])
    return largest if per_place else largest.max((1, 2), keepdims=True)


def over(image, largest):
    """Shares of the largest intensities; above them where there were none."""
    return np.where(image > 0, image / np.where(largest > 0, largest, 1e-9), 0)


@given(data=st.data(), batch=intensities(batched=True), steps=st.sampled_from([1, 4, 15, 300]), per_place=st.booleans())
def test_linear_latency(data, batch, steps, per_place):
    """Fitted to some images, it encodes others, with values above those that it has seen."""
    scale = 2.0 ** np.random.default_rng(data.draw(seeds)).integers(-1, 3, batch.shape)
    training, batch = np.sign(batch[::-1]) * scale, batch * scale / 4  # powers of 2: quotients are exact
    encode = encoding.LinearLatency(torch.nn.Identity(), steps, per_place=per_place)
    assert encode.fit(tensor(training)) is encode
    largest = largest_of(training, per_place)
    same(encode.largest, largest)
    times = samplewise(encode, tensor(batch))
    same(times, np.stack([ref.linear(over(image, largest), steps) for image in batch]))
    given_scale = encoding.LinearLatency(torch.nn.Identity(), steps, tensor(largest))
    same(given_scale(tensor(batch)), times.numpy(force=True))


def test_fitting_takes_images_in_parts(monkeypatch):
    images, cells = torch.rand(40, 1, 9, 8), encoding.Filter([encoding.DoGKernel(5, 1, 2)], 2, thresholds=0)
    for per_place in (False, True):
        whole = encoding.LinearLatency(cells, 15, per_place=per_place).fit(images).largest
        monkeypatch.setattr(encoding._fitted, "_AT_ONCE", 7)
        assert torch.equal(encoding.LinearLatency(cells, 15, per_place=per_place).fit(images).largest, whole)
        answers = cells(images)
        assert torch.equal(whole, answers.amax(0) if per_place else answers.amax().view(1, 1, 1))


@pytest.mark.parametrize("largest", [2, 2.0, torch.tensor(2.0), torch.tensor([2.0]), torch.full((1, 2, 3), 2)], ids=str)
def test_a_scale_may_be_given(largest, device):
    largest = largest.to(device) if isinstance(largest, torch.Tensor) else largest
    encode = encoding.LinearLatency(torch.nn.Identity(), 4, largest)
    same(encode(torch.tensor([[[0.0, 0.1, 0.5], [1, 2, 3]]])), [[[4, 3, 3], [2, 0, 0]]])
    assert encode.largest.ndim == 3 and encode.largest.is_floating_point()


def fitted(images=None, **options):
    retina = encoding.Filter([encoding.DoGKernel(3, 0.5, 1), encoding.DoGKernel(3, 1, 0.5)], 1, 0)
    made = encoding.LinearLatency(retina, 5, **options)
    return made if images is None else made.fit(images)


@pytest.mark.parametrize("per_place", [False, True])
def test_a_scale_is_saved(per_place):
    images = torch.rand(6, 1, 7, 5)
    made, fresh, other = fitted(images, per_place=per_place), fitted(), fitted(images.flip(0, -1) ** 2, per_place=True)
    assert list(made.state_dict()) == ["largest"] and not fresh.state_dict() and not list(made.parameters())
    fresh.load_state_dict(made.state_dict())
    assert torch.equal(fresh(images), made(images)) and fresh.largest is not made.largest
    if per_place:
        assert not torch.equal(other(images), made(images))
        other.load_state_dict(made.state_dict())
        assert torch.equal(other(images), made(images))
    else:
        with pytest.raises(RuntimeError, match="size mismatch for largest"):
            other.load_state_dict(made.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*largest"):
        made.load_state_dict(fitted().state_dict())
    double = fitted(images, per_place=per_place).double()
    assert double.largest.dtype == torch.float64
    close(double(images.double()), made(images).numpy(force=True), 0, 1)
    same(pickle.loads(pickle.dumps(made))(images), made(images).numpy(force=True))


@pytest.mark.parametrize("saved", [torch.nan, torch.inf])
def test_a_scale_that_is_none_is_not_loaded(saved):
    made = fitted()
    with pytest.raises(RuntimeError, match="largest must be real and finite"):
        made.load_state_dict({"largest": torch.full((2, 1, 1), saved)})
    assert made.largest is None


def test_an_encoder_that_was_not_fitted_says_so():
    images = torch.rand(2, 1, 7, 5)
    with pytest.raises(ValueError, match=r"`largest` of this LinearLatency must be known.*saved"):
        fitted()(images)
    with pytest.raises(ValueError, match=r"`largest`, \(2, 7, 5\), was fitted to; got \(2, 9, 9\): its own `fit`"):
        fitted(images, per_place=True)(torch.rand(2, 1, 9, 9))
    assert fitted(images)(torch.rand(2, 1, 9, 9)).shape == (2, 2, 9, 9)  # a scale for each map knows no size


@pytest.mark.parametrize(
    "wrong", [-1.0, torch.nan, torch.tensor([1, -2.0]), torch.tensor([]), torch.ones(2, 2)], ids=str
)
def test_scales_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="`largest` must be"):
        encoding.LinearLatency(torch.nn.Identity(), 4, wrong)


def test_intensities_that_are_none_are_refused():
    for encode in (encoding.LinearLatency(torch.nn.Identity(), 4, 1), encoding.LinearLatency(torch.nn.Identity(), 4)):
        for image in (torch.full((1, 1, 3, 3), torch.nan), torch.full((1, 1, 3, 3), torch.inf)):
            with pytest.raises(ValueError, match="finite"):
                encode.fit(image)
            with pytest.raises(ValueError, match=r"finite|`largest` of this LinearLatency must be known"):
                encode(image)
    with pytest.raises(ValueError, match="`intensities` must be 0 or more"):
        encode.fit(-torch.ones(1, 1, 3, 3))


# together


@given(seed=seeds, n=st.integers(2, 3), height=sizes, width=sizes)
def test_a_pipeline_takes_one_image_or_a_batch(seed, n, height, width):
    rng = np.random.default_rng(seed)
    steps = torch.nn.Sequential(
        encoding.Filter([encoding.DoGKernel(3, 0.5, 1), encoding.DoGKernel(3, 1, 0.5)], 1, 0.25),
        encoding.LateralIntencityInhibition([0.25]),
        encoding.LocalNormalization(1),
        encoding.LocalContrast(1),
        encoding.Intensity2Latency(4, to_spike=True),
    )
    images = tensor(dyadic(rng, (n, 1, height, width), 0, 1, 4), torch.float32)
    same(steps(images), torch.stack([steps(image) for image in images]))


def test_encoders_compose_with_torchvision(device):
    transforms = pytest.importorskip("torchvision.transforms")
    pixels = np.random.default_rng(5).integers(0, 256, (8, 9), np.uint8)
    to_255 = transforms.Lambda(lambda x: (255 * x.to(device)).round())
    edges = encoding.Filter([torch.eye(3), torch.ones(3, 3)], 1)
    chain = transforms.Compose([transforms.ToTensor(), to_255, edges, encoding.Intensity2Latency(6, True)])
    responses = ref.filter_image(pixels.astype(float), [np.eye(3), np.ones((3, 3))], 1)
    wave = chain(pixels[..., None])
    assert wave.shape == (6, 2, 8, 9)
    same(wave, ref.intensity_to_latency(responses, 6, True))


def test_encoders_are_what_the_protocol_says():
    front = torch.nn.Identity()
    for encode in (encoding.LatencyEncoder(front, 5), encoding.LinearLatency(front, 5, 1)):
        assert isinstance(encode, encoding.Encoder)
    assert not isinstance(encoding.Filter([torch.ones(3, 3)]), encoding.Encoder)


def test_utils_has_the_names_users_know():
    names = ["generate_inhibition_kernel", "FilterKernel", "DoGKernel", "GaborKernel", "Filter", "Intensity2Latency"]
    for name in [*names, "LateralIntencityInhibition"]:
        assert getattr(utils, name) is getattr(encoding, name)


@pytest.mark.parametrize("name", ["DoGKernel", "GaborKernel", "Filter", "Intensity2Latency", "LatencyEncoder"])
def test_pickles_of_0_1_find_their_classes(name):
    assert pickle.loads(f"cspyketorch.encoding\n{name}\n.".encode()) is getattr(encoding, name)


@pytest.mark.parametrize(
    "wrong, channels, names",
    [
        ([torch.ones(3, 5, 5)], 1, r"2-D, or of `channels`=1 planes; got .*\(3, 5, 5\)"),
        ([torch.ones(2, 5, 5)], 3, r"2-D, or of `channels`=3 planes; got .*\(2, 5, 5\)"),
        ([torch.ones(3, 5, 5), torch.ones(5, 5)], 3, r"all 2-D, for each channel, or all 3-D, for all"),
        ([torch.ones(5)], 3, r"2-D or 3-D tensors"),
        ([torch.ones(3, 3)], 0, r"`channels` must be an integer of at least 1"),
    ],
)
def test_kernels_that_fit_no_channels_are_refused(wrong, channels, names):
    with pytest.raises(ValueError, match=names):
        encoding.Filter(wrong, channels=channels)


def test_a_filter_says_which_channels_it_reads():
    grey, colour = encoding.Filter([torch.ones(3, 3)]), encoding.Filter([torch.ones(3, 3)], channels=3)
    with pytest.raises(ValueError, match=r"of `channels`=1, \(1, H, W\).*Filter\(..., channels=3\)` reads.*mean\(0"):
        grey(torch.rand(3, 8, 8))
    with pytest.raises(ValueError, match=r"of `channels`=3, .*got .*\(2, 1, 8, 8\): .*channels=1\)` reads"):
        colour(torch.rand(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"permute\(0, 3, 1, 2\)"):
        colour(torch.rand(2, 8, 8, 3))
    assert "channels" not in repr(grey) and "channels=3" in repr(colour)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("window, count", [(2, 1), (3, 1), (3, 6), (5, 4), (7, 2), (13, 6)])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("planes", [1, 3])
def test_filters_answer_a_batch_as_its_images_to_the_bit(kind, window, count, workers, planes, device, threads):
    if device.type != "cpu":
        pytest.skip("other devices promise it up to rounding")
    threads(workers)
    drawn = [torch.randn(planes, window, window) for _ in range(count)]
    bank = encoding.Filter(drawn, padding=window // 2, channels=planes)
    images = 255 * torch.rand(8, planes, 17, 18, dtype=kind)
    kernels, before = bank.kernels.to(kind), torch.get_rng_state()
    want = torch.cat([fn.conv2d(image, kernels, padding=window // 2) for image in images.split(1)])
    assert torch.equal(torch.stack([bank(image) for image in images]), want)
    for size in (1, 3, 8):
        assert torch.equal(torch.cat([bank(part) for part in images.split(size)]), want)
    assert torch.get_num_threads() == workers
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size, most", [(16, 1), (300, 2)])
def test_small_images_of_a_batch_wake_no_threads(size, most, monkeypatch, device, threads):
    """Filters up to 3 x 3, whose images are taken one by one: on one thread, where it adds as two do."""
    if device.type != "cpu":
        pytest.skip("other devices take them together")
    used = []

    def conv2d(*args):
        used.append(torch.get_num_threads())
        return torch.conv2d(args[0], args[1], None, *args[2][1:5])

    bank, images = encoding.Filter([torch.randn(3, 3)] * 2), torch.rand(5, 1, size, size)
    threads(2)
    bank(images)  # what sizes tell is looked at once
    monkeypatch.setattr(_convolution, "conv2d", conv2d)
    bank(images)
    assert used == [most] * 5
