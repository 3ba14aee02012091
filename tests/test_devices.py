"""Everything on a (fake) CUDA device stays there. Fake tensors carry shapes and devices but no values."""

import copy
from contextlib import nullcontext

import pytest
import torch
from anywhere import LEARNING, PARTS, adapting, deciding, layer, times
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import spyketorch.functional as sf
from spyketorch import _checks as check
from spyketorch import encoding, latency, learning, models, readout, snn, training
from spyketorch.training import _diagnosis, _reinforced, _unsupervised
from spyketorch.visualization import get_mean_stimuli

SHAPES = {"one": (4, 2, 6, 7), "batch": (3, 4, 2, 6, 7)}
DTYPES = [torch.float32, torch.float64]


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    """An unbatched and a batched wave's shape."""
    return SHAPES[request.param]


def on_cuda(*tensors, shape=None):
    """Assert that tensors are on the fake device (and have a shape)."""
    for t in tensors:
        assert t.device.type == "cuda"
        assert shape is None or t.shape == shape


def moved(module):
    """A module made outside the mode and moved with `.to`."""
    assert module.to("cuda") is module
    for t in (*module.parameters(), *module.buffers()):
        on_cuda(t)
    return module


def fake():
    """The mode; modules made before it may be moved inside it."""
    return FakeTensorMode(allow_non_fake_inputs=True)


OPERATIONS = {
    "pad": lambda x: sf.pad(x, (1, 2, 0, 1), 1),
    "pooling": lambda x: sf.pooling(x, 2, 1, 1),
    "pooling-uint8": lambda x: sf.pooling(x.to(torch.uint8), 2),
    "convolution": lambda x: sf.convolution(x, x.new_ones(4, 2, 3, 3), stride=2, padding=1),
    "grouped": lambda x: sf.convolution(x, x.new_ones(4, 1, 2, 2), groups=2, dilation=2),
    "fire": lambda x: sf.fire(x, 0.5),
    "fire-none": lambda x: sf.fire(x),
    "fire-tensor": lambda x: sf.fire(x, torch.ones(2, device=x.device)),
    "fire-latch": lambda x: sf.fire(x, 0.5, True, latch=True),
    "fire_": lambda x: sf.fire_(x, 0.5),
    "fire_-none": lambda x: sf.fire_(x, latch=True),
    "threshold": lambda x: sf.threshold(x, 0.5),
    "threshold_": lambda x: sf.threshold_(x, None),
    "pointwise": sf.pointwise_inhibition,
    "features": lambda x: sf.feature_inhibition(x, [0]),
    "features-range": lambda x: sf.feature_inhibition_(x, range(2)),
    "k_winners": lambda x: sf.k_winners(x, 3, 1),
    "k_winners-spikes": lambda x: sf.k_winners(x, 2, 0, x.sign()),
}


pytestmark = pytest.mark.usefixtures("fake_devices")


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_functional(name, shape, dtype):
    with fake():
        here = torch.rand(shape, dtype=dtype)
        there = torch.rand(shape, dtype=dtype, device="cuda")
        got, want = OPERATIONS[name](there), OPERATIONS[name](here)
        for g, w in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, want)), strict=True):
            on_cuda(g, shape=w.shape)
            assert g.dtype == w.dtype


@pytest.mark.parametrize(
    "index", [lambda: torch.tensor([1], device="cuda"), lambda: torch.tensor([True, False], device="cuda")]
)
def test_feature_inhibition_by_a_tensor_there(index, shape):
    with fake():
        on_cuda(sf.feature_inhibition(torch.rand(shape, device="cuda"), index()), shape=shape)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_functional_on_intensities(batch):
    with fake():
        x = torch.rand(*batch, 2, 6, 7, device="cuda")
        kernel = torch.rand(1, 1, 3, 3, device="cuda")
        on_cuda(sf.intensity_lateral_inhibition(x, kernel), sf.local_normalization(x, 1), shape=x.shape)
        on_cuda(latency.rank_order(x, 5), shape=x.shape)


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1, "dilation": (1, 2), "groups": 2}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_convolution_and_pooling(geometry, dtype, shape):
    conv = snn.Convolution(2, 4, 3, **geometry).to(dtype)
    size = tuple(conv.output_size(*shape[-2:]))
    with fake():
        conv = moved(conv)
        for kind in (dtype, torch.uint8, torch.bool):
            out = conv(torch.ones(shape, dtype=kind, device="cuda"))
            on_cuda(out, shape=(*shape[:-3], 4, *size))
            assert out.dtype == dtype
        on_cuda(snn.Pooling(2).to("cuda")(torch.ones(shape, device="cuda")), shape=(*shape[:-2], 3, 3))
        conv.reset_weight()
        conv.load_weight(torch.zeros(conv.weight.shape))
        on_cuda(conv.weight)


def test_a_layer_made_there():
    with FakeTensorMode(), torch.device("cuda"):
        conv = snn.Convolution(2, 4, 3)
        rule = learning.STDP(conv, (0.5, -0.5))
        on_cuda(conv.weight, rule.learning_rate[0][0], rule.ltd_3, conv(torch.ones(4, 2, 6, 7)))


ENCODERS = {
    "filter": lambda: encoding.Filter([encoding.DoGKernel(3, 1, 2), torch.ones(5, 5)], 2, [1, 2], True),
    "gabor": lambda: encoding.Filter([encoding.GaborKernel(5, 45)]),
    "threshold": lambda: encoding.Filter([encoding.DoGKernel(3, 1, 2)], 1, 0.5),
    "lateral": lambda: encoding.LateralIntencityInhibition([0.25, 0.125]),
    "normalization": lambda: encoding.LocalNormalization(1),
    "contrast": lambda: encoding.LocalContrast(1),
    "latency": lambda: encoding.Intensity2Latency(5, batched=True),
    "spikes": lambda: encoding.Intensity2Latency(5, to_spike=True),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name):
    x = torch.rand(3, 1, 6, 7)
    want = ENCODERS[name]()(x)
    encoder = ENCODERS[name]()
    with fake():
        encoder = moved(encoder)
        on_cuda(encoder(torch.rand(3, 1, 6, 7, device="cuda")), shape=want.shape)
        on_cuda(encoder(torch.rand(1, 6, 7, device="cuda")), shape=want.shape[1:])


RULES = {
    "plain": {},
    "bounds": {"use_stabilizer": False, "lower_bound": 0.2, "upper_bound": 0.8},
    "pieces": {
        "rate": lambda s: torch.where(s.pre_times <= s.post_times, s.ltp, s.ltd) * (s.weight > 0),
        "weight_dependence": lambda s: s.upper_bound - s.weight,
        "modulation": lambda s: torch.rand_like(s.weight),
    },
}


@pytest.mark.parametrize("options", RULES.values(), ids=RULES)
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1, "groups": 2}])
@pytest.mark.parametrize("dtype", DTYPES)
def test_stdp(options, geometry, dtype, shape):
    rule = learning.STDP(snn.Convolution(2, 4, 3, **geometry), [(0.5, -0.5)] * 4, **options).to(dtype)
    with fake():
        rule = moved(rule)
        x = torch.ones(shape, dtype=dtype, device="cuda")
        kept = sf.pointwise_inhibition(sf.threshold(rule.conv_layer(x), 1))
        winners = sf.k_winners(kept, 2, 1)
        update = rule(x, kept, kept.sign(), winners, return_update=True)
        on_cuda(update, rule.conv_layer.weight, shape=(4, 2 // geometry.get("groups", 1), 3, 3))
        assert update.dtype == dtype
        assert rule(x, kept, kept.sign(), winners) is None
        rule.update_all_learning_rate(0.25, -0.25)
        rule.update_learning_rate(1, 0.25, -0.25)
        rule.learning_rate[2][0].fill_(0.5)
        for pair in rule.learning_rate:
            on_cuda(*pair, shape=(1,))
            assert pair[0].dtype == dtype
        rule(x, kept, kept.sign(), winners)
        on_cuda(rule.conv_layer.weight)


def test_stdp_that_finds_its_winners(shape):
    rule = learning.STDP(snn.Convolution(2, 4, 3), (0.5, -0.5))
    with fake():
        rule = moved(rule)
        x, y = torch.ones(shape, device="cuda"), torch.ones(*shape[:-3], 4, 4, 5, device="cuda")
        on_cuda(rule(x, y, y, kwta=2, inhibition_radius=1, return_update=True), shape=(4, 2, 3, 3))


def test_rstdp(shape):
    rule = learning.RSTDP(snn.Convolution(2, 4, 3), (0.5, -0.5), (-0.5, 0.5))
    with fake():
        rule = moved(rule)
        x, y = torch.ones(shape, device="cuda"), torch.ones(*shape[:-3], 4, 4, 5, device="cuda")
        outcomes = [1, -0.5, 0] if len(shape) == 5 else 1
        on_cuda(rule(x, y, y, outcomes, sf.k_winners(y, 2), return_update=True), shape=(4, 2, 3, 3))
        on_cuda(rule.reward.conv_layer.weight, *rule.punishment.learning_rate[3])


def counting():
    """A mode in which the number of winners may be unknown."""
    return FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())


@pytest.mark.parametrize(
    "name, size", [("mozafari2019", (28, 28)), ("kheradpisheh2018", (28, 28)), ("mozafari2018", (97, 100))]
)
def test_networks(name, size):
    network = getattr(models, name)()
    with counting():
        network, images = network.to("cuda"), torch.rand(3, 1, *size, device="cuda")
        on_cuda(network(images), shape=(3,))
        on_cuda(network.features(images))
        on_cuda(models.Stage(network.stages[0].layer, inhibit=True)(network.encoder(images)))
        assert get_mean_stimuli(network, 0, images, kwta=2).shape[0] == network.stages[0].layer.out_channels


@pytest.fixture
def without_reading(monkeypatch):
    """Lessons that do not read rates and convergence, as they do once per period: fake tensors hold none."""
    monkeypatch.setattr(_diagnosis, "convergence", lambda *given: 0.0)
    for lesson in (_unsupervised, _reinforced):
        monkeypatch.setattr(lesson, "paced", lambda *given: nullcontext(0.0))


def test_lessons(without_reading):
    network = models.mozafari2019()
    lessons = [training.Unsupervised(homeostasis=0.1), training.Unsupervised(threshold=3.0)]
    lessons += [training.Reinforced(correction="teach", dropout=0.5)]
    with counting():
        trainer = training.Trainer(network.to("cuda"), lessons)
        times = network.encoder(torch.rand(2, 1, 28, 28, device="cuda"))
        for number, (lesson, stage) in enumerate(zip(lessons, network.stages, strict=True)):
            period = trainer._period(number, lesson, times.cpu(), torch.tensor([3, 4]))
            on_cuda(period.times, period.labels, lesson.learn(lesson.rule(stage), period).winners, stage.layer.weight)
            times = stage(times)
        on_cuda(network.stages[0].layer.threshold, shape=(30,))


@pytest.mark.parametrize("minibatch", [1, 2])
def test_a_lesson_of_target_times(without_reading, monkeypatch, minibatch):
    monkeypatch.setattr(_diagnosis, "unanswered", lambda *given: 0.0)  # told once per period, too
    network = models.mozafari2019()
    lesson = training.Unsupervised(thresholds=learning.TargetTime(0.5), steepness=1.0, minibatch=minibatch)
    with counting():
        trainer = training.Trainer(network.to("cuda"), [lesson])
        times = network.encoder(torch.rand(2, 1, 28, 28, device="cuda"))
        period = trainer._period(0, lesson, times.cpu(), None)
        on_cuda(lesson.learn(lesson.rule(network.stages[0]), period).winners, network.stages[0].layer.weight)
        on_cuda(network.stages[0].layer.threshold, shape=(30,))


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_part_stays_there(part):
    """No tensor of the CPU is mixed in, and none comes back."""
    module, inputs = part.make(), part.inputs()
    want = [found.shape for found in tree_leaves(part.call(copy.deepcopy(module), *inputs))]
    with counting():
        found = tree_leaves(part.call(moved(module), *(value.to("cuda") for value in inputs)))
        on_cuda(*found)
        assert [value.shape for value in found] == want


class WithoutFloat64(TorchDispatchMode):
    """As Apple's GPUs are."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        made = operator(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            if isinstance(value, torch.Tensor) and value.device.type == "cuda" and value.dtype == torch.float64:
                raise TypeError(f"{operator} makes float64")
        return made


def test_a_device_without_float64(monkeypatch, without_reading):
    monkeypatch.setattr(check, "_WITHOUT_FLOAT64", ("cuda",))
    read = readout.LinearReadout((30, 2, 2), 10, time_steps=15)
    network, kernels = models.mozafari2019(), [encoding.DoGKernel(3, 1, 2), encoding.GaborKernel(5, 45)]
    with counting(), WithoutFloat64():
        network = network.to("cuda")
        for kind in (torch.float32, torch.uint8, torch.int32, torch.int64):
            images = torch.ones(3, 1, 28, 28, device="cuda", dtype=kind)
            on_cuda(network(images), encoding.LocalNormalization(1)(images), latency.rank_order(images, 5))
            on_cuda(sf.fire(torch.ones(4, 2, 6, 7, device="cuda", dtype=kind), 1))
        trainer = training.Trainer(network, [training.Unsupervised(homeostasis=0.1)])
        times, rule = network.encoder(images), trainer.lessons[0].rule(network.stages[0])
        trainer.lessons[0].learn(rule, trainer._period(0, trainer.lessons[0], times.cpu(), None))
        with torch.device("cuda"):
            on_cuda(*(kernel() for kernel in kernels))
        on_cuda(read.to("cuda")(torch.ones(2, 30, 2, 2, device="cuda", dtype=torch.uint8)))


def test_rates_there_are_views_of_one_store():
    rule = learning.STDP(snn.Convolution(2, 4, 3), (0.5, -0.5))
    with fake():
        rule = moved(rule)
        state = {k: torch.rand(v.shape, device="cuda") for k, v in rule.state_dict().items()}
        rule.load_state_dict(state)
        on_cuda(*rule.state_dict().values())


def test_a_wave_and_its_layer_on_two_devices():
    conv = snn.Convolution(2, 4, 3)
    rule = learning.STDP(snn.Convolution(2, 4, 3), (0.5, -0.5))
    with fake():
        conv, rule = moved(conv), moved(rule)
        here, there = torch.ones(4, 2, 6, 7), torch.ones(4, 2, 6, 7, device="cuda")
        out, winners = torch.ones(4, 4, 4, 5, device="cuda"), torch.zeros(1, 3, dtype=torch.int64, device="cuda")
        calls = {
            "convolution": lambda: conv(here),
            "functional": lambda: sf.convolution(there, torch.ones(4, 2, 3, 3)),
            "winners": lambda: sf.k_winners(there, 1, 0, here),
            "threshold": lambda: sf.fire(there, torch.ones(2)),
            "input": lambda: rule(here, out, out, winners),
            "output": lambda: rule(there, out, out.cpu(), winners),
            "filter": lambda: encoding.Filter([torch.ones(3, 3)])(torch.ones(1, 5, 5, device="cuda")),
            "lateral": lambda: sf.intensity_lateral_inhibition(there[:1], torch.ones(1, 1, 3, 3)),
        }
        for call in calls.values():
            with pytest.raises(ValueError, match=r"cuda.*cpu|cpu.*cuda"):
                call()


# number types


def converted(values, kind):
    return [value.to(kind) if value.is_floating_point() else value for value in values]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", PARTS)
def test_every_part_in_every_type(name, kind):
    """Half types decide and fire as float32 does with their values, and do not learn; floats are of the type asked."""
    part, half = PARTS[name], kind.itemsize == 2
    module, inputs = part.make().to(kind), converted(part.inputs(), kind)
    wide = copy.deepcopy(module).float(), converted(inputs, torch.float32)
    if half and name in LEARNING:
        with pytest.raises(ValueError, match=rf"weight` must be float32 or float64 to learn; got {kind}"):
            part.call(module, *inputs)
        return
    found, want = (tree_leaves(part.call(made, *given)) for made, given in ((module, inputs), (wide[0], wide[1])))
    for one, other in zip(found, want, strict=True):
        assert one.shape == other.shape
        if one.is_floating_point():
            assert one.dtype == kind or (half and one.dtype == torch.float32)
        else:
            assert one.dtype == other.dtype
            assert not half or torch.equal(one, other)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_functional_in_every_type(name, kind, shape):
    """Values and sums are exact here, and so is every answer."""
    wave = torch.randint(-8, 9, shape) / 8
    got, want = (tree_leaves(OPERATIONS[name](wave.to(of))) for of in (kind, torch.float32))
    for one, other in zip(got, want, strict=True):
        assert one.dtype == (kind if other.dtype == torch.float32 else other.dtype)
        assert torch.equal(one.to(other.dtype), other)


# tensors on two devices, one of which is that of tensors without values


ELSEWHERE = "must be on the device of"


@pytest.mark.parametrize("here, there", [("cpu", "meta"), ("meta", "cpu")])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_part_and_its_inputs_on_two_devices(part, here, there):
    """One sentence that names both; a part without tensors of its own answers where its input is."""
    module, inputs = part.make().to(here), [value.to(there) for value in part.inputs()]
    if [*module.parameters(), *module.buffers()]:
        with pytest.raises(ValueError, match=rf"{ELSEWHERE} `.*`, {here}; got a tensor on {there}: move one of them"):
            part.call(module, *inputs)
    else:
        assert {value.device.type for value in tree_leaves(part.call(module, *inputs))} == {there}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_every_part_without_values(part):
    """Shapes can be asked on the device `meta`; labels and outcomes may be somewhere else."""
    module, inputs = part.make(), part.inputs()
    want = [value.shape for value in tree_leaves(part.call(copy.deepcopy(module), *inputs))]
    moved = [value.to("meta") for value in inputs]
    for given in (moved, [*moved[:1], *inputs[1:]]):
        found = tree_leaves(part.call(copy.deepcopy(module).to("meta"), *given))
        assert [value.shape for value in found] == want
        assert {value.device.type for value in found} == {"meta"}


def left_behind(rule, name="conv_layer"):
    """A rule whose layer alone was moved."""
    getattr(rule, name).to("meta")
    return rule


def threshold_left_behind(rule):
    rule.to("meta").conv_layer._buffers["threshold"] = torch.ones(6)
    return rule


def on_wave(rule, *outcome):
    wave, spikes = torch.ones(4, 2, 6, 7, device="meta"), torch.ones(4, 4, 4, 5, device="meta")
    rule(wave, spikes, spikes, *outcome, torch.zeros(1, 3, dtype=torch.int64, device="meta"))


MIXED = {
    "rates": (
        "`learning_rate` {} `conv_layer.weight`",
        lambda: left_behind(learning.STDP(layer(), (0.5, -0.5))).learn(times().to("meta")),
    ),
    "rates of a mini-batch": (
        "`learning_rate` {} `conv_layer.weight`",
        lambda: left_behind(learning.STDP(layer(), (0.5, -0.5))).learn(times().to("meta"), minibatch=3),
    ),
    "rates of integers": (
        "`learning_rate` {} `conv_layer.weight`",
        lambda: left_behind(learning.IntegerSTDP(layer())).learn(times().to("meta")),
    ),
    "rates on waves": (
        "`learning_rate` {} `conv_layer.weight`",
        lambda: on_wave(left_behind(learning.STDP(snn.Convolution(2, 4, 3), (0.5, -0.5)))),
    ),
    "rates of punishment": (
        "`learning_rate` {} `conv_layer.weight`",
        lambda: on_wave(punished_elsewhere(), 1),
    ),
    "thresholds that adapt": (
        "`conv_layer.threshold` {} `conv_layer.weight`",
        lambda: threshold_left_behind(adapting(layer(1.0))).learn(times().to("meta")),
    ),
    "thresholds while learning": (
        "`lifted` {} `readout.weight`",
        lambda: left_behind(learning.SupervisedSTDP(deciding(None)), "readout").learn(times().to("meta"), [0] * 6),
    ),
    "a part of a network": (
        "`times` {} `weight`",
        lambda: network_in_two_places()(torch.ones(2, 1, 28, 28)),
    ),
}


def punished_elsewhere():
    rule = learning.RSTDP(snn.Convolution(2, 4, 3), (0.5, -0.5), (-0.5, 0.5))
    rule.reward.to("meta")
    return rule


def network_in_two_places():
    network = models.mozafari2019()
    network.stages[1].to("meta")
    return network


@pytest.mark.parametrize("name", MIXED)
def test_what_is_left_on_another_device_is_named(name):
    told, call = MIXED[name]
    with pytest.raises(ValueError, match=told.format(ELSEWHERE)):
        call()
