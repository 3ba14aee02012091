"""From times on, nothing waits for the device: what runs there is run here, in a mode in which no tensor can be read.

Code asks :func:`spyketorch._checks.free_to_read` and ``has_loops`` whether tensors are on a CPU; here they say no.
With ``--device cuda`` tests that take the fixture ``device`` run there, where CUDA itself raises at each wait.
"""

import copy
import warnings
import weakref
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from anywhere import PARTS
from strategies import dyadic, same, spike_times, tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spyketorch import _checks as check
from spyketorch import encoding, latency, learning, models, readout, snn, validation
from spyketorch.kernels import defining, graphs, operators, plain, serving
from spyketorch.learning import _back_ends, _task
from spyketorch.models import ImageSpec
from spyketorch.training import Processes

STEPS = 5
READS = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "_unique2", "unique_dim", "unique_consecutive",
         "masked_select", "equal", "repeat_interleave", "bincount",
         "lift_fresh"}  # fmt: skip  # of numbers that the host sends, and waits until they have come
METHODS = {"tolist", "numpy", "cpu", "__array__", "__bool__", "__int__", "__float__", "__index__"}


class NoOperations(TorchDispatchMode):
    """Operations whose answer the host needs, or whose size it must know, fail; all others are counted."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        masks = [i for i in (args[1] if name in ("index", "index_put", "index_put_") else ()) if i is not None]
        if name in READS or any(i.dtype in (torch.bool, torch.uint8) for i in masks):
            raise AssertionError(f"{name} waits for the device")
        self.count += 1
        return operation(*args, **(kwargs or {}))


class NoMethods(TorchFunctionMode):
    """What reads a tensor of the CPU without an operation."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in METHODS:
            raise AssertionError(f"{function.__name__} waits for the device")
        return function(*args, **(kwargs or {}))


#: what our operators do on other devices, into which modes do not look
INSIDE = {
    name: defining.IN_TORCH[name]
    for name in ("convolution_fire", "last_potentials", "pooling", "rank_order", "local_normalization")
}


@contextmanager
def elsewhere():
    """As on another device, where nothing may be read; gives what counts the operations."""
    with (
        mock.patch.object(check, "free_to_read", lambda _: False),
        mock.patch.object(serving, "has_loops", lambda _: False),
        mock.patch.multiple(operators, **INSIDE),
        NoMethods(),
        NoOperations() as operations,
    ):
        yield operations


WAITS = {
    "item": lambda x: x[0].item(),
    "bool": lambda x: bool(x[0]),
    "float": lambda x: float(x[0]),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "array": lambda x: np.asarray(x),
    "cpu": lambda x: x.cpu(),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "unique": lambda x: x.unique(),
    "masked_select": lambda x: x.masked_select(x > 0),
    "mask": lambda x: x[x > 0],
    "written mask": lambda x: x.__setitem__(x > 0, torch.ones(2)),
    "index of no axis": lambda x: x[torch.tensor(1)],
    "range": lambda x: list(range(x[1])),
    "equal": lambda x: torch.equal(x, x),
    "a number that the host sends": lambda x: x + torch.tensor([1, 2, 3]),
}


@pytest.mark.parametrize("read", WAITS.values(), ids=WAITS)
def test_the_mode_sees_every_wait(read):
    with elsewhere(), pytest.raises(AssertionError, match="waits"):
        read(torch.tensor([0, 1, 2]))


def samples(count=9, seed=0):
    return tensor(spike_times(np.random.default_rng(seed), (count, 2, 7, 7), STEPS), torch.uint8)


def layer(threshold=2.0, **geometry):
    made = snn.SpikingConvolution(2, 6, 3, threshold, time_steps=STEPS, **geometry)
    made.load_weight(tensor(dyadic(np.random.default_rng(1), tuple(made.weight.shape), 0.25, 0.75, 8)))
    return made


@contextmanager
def without_waits(device):
    """On a GPU what CUDA says itself; without one, as :func:`elsewhere`."""
    if device.type != "cuda":
        with elsewhere():
            yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def answers_alike(device, call, *given):
    """A call on a CPU, and elsewhere without a wait: with copies of modules and tensors, which move there."""
    moved = [copy.deepcopy(part).to(device) for part in given]
    with torch.device("cpu"):
        here = call(*(part.cpu() for part in given))
    call(*copy.deepcopy(moved))  # what is kept from call to call is there then
    with without_waits(device):
        there = call(*moved)
    for a, b in zip(here, there, strict=True):
        same(b, a)


def test_a_layer_does_not_look_at_its_threshold_again():
    """It was checked when it was set; what was written to it since is looked at where that costs no wait."""
    made, times = layer(PER_FEATURE), samples()
    rule = learning.STDP(made, (1 / 4, -1 / 8))
    looked = {"threshold": mock.DEFAULT, "finite": mock.DEFAULT}
    with elsewhere(), mock.patch.multiple(check, **looked) as looks:
        made(times), made.respond(times), made.winners(times)
        rule.learn(times)
    assert not any(look.called for look in looks.values())


def test_functions_take_a_threshold_elsewhere(device):
    fire = partial(latency.convolution_fire, time_steps=STEPS)
    answers_alike(device, fire, samples(), layer().weight.data, torch.tensor(PER_FEATURE))


PER_FEATURE = [1.0, 2.0, 3.0, 1.5, 2.5, 3.5]
OPTIONS = {"use_stabilizer": False, "lower_bound": -1, "upper_bound": 1}


@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1, "groups": 2}], ids=["plain", "grouped"])
@pytest.mark.parametrize("threshold", [2.0, PER_FEATURE, None], ids=["number", "per feature", "none"])
def test_layers_answer_without_a_wait(threshold, geometry, device):
    def run(made, times, some):
        fired, potentials = made.respond(times)
        inhibited = latency.pointwise_inhibition(fired, potentials, time_steps=STEPS)
        return [
            fired,
            *inhibited,
            made(times),
            latency.pooling(fired, 2),
            latency.pooling(fired, 2, earliest=3),
            latency.pad(fired, (1, 1, 1, 1), STEPS),
            latency.k_winners(*inhibited, 3, 1, time_steps=STEPS),
            latency.feature_inhibition(fired, potentials, some, time_steps=STEPS)[0],
            latency.from_wave(latency.to_wave(times, STEPS)),
            made.winners(times, 2, 1, pointwise_inhibition=True),
            made.winners(times),
        ]

    answers_alike(device, run, layer(threshold, **geometry), samples(), torch.tensor([0, 2]))


@pytest.mark.parametrize("memory", [1, 6_000, 30_000])
def test_memory_makes_no_difference(memory, device):
    """One step of one image at a time, some steps, some images."""

    def run(made, times):
        return [*made.respond(times), made(times)]

    with mock.patch.object(plain, "MEMORY", memory):
        answers_alike(device, run, layer(PER_FEATURE, padding=1), samples())


@pytest.mark.parametrize("minibatch", [1, 8])
@pytest.mark.parametrize("threshold", [2.0, PER_FEATURE, None], ids=["number", "per feature", "none"])
def test_stdp_learns_without_a_wait(threshold, minibatch, device):
    def run(rule, times):
        return rule.learn(times, 3, 1, minibatch=minibatch), rule.conv_layer.weight

    answers_alike(device, run, learning.STDP(layer(threshold), (1 / 4, -1 / 8), **OPTIONS), samples())


def test_potentials_are_told_without_a_wait():
    times, weights = samples(), []
    told = torch.rand(times.shape, generator=torch.Generator().manual_seed(0))
    for place in (nullcontext(), elsewhere()):
        rule = learning.VDSP(layer(2.0), (1 / 4, -1 / 8))
        with place:
            rule.learn(times, 3, 1, input_potentials=told)
        weights.append(rule.conv_layer.weight)
    torch.testing.assert_close(*weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", [0, None])
def test_integers_learn_without_a_wait(seed, device):
    def run(rule, times):
        return rule.learn(times, 3, 1), rule.conv_layer.weight, rule.updates

    answers_alike(device, run, learning.IntegerSTDP(layer(2.0), (1 / 4, -1 / 8), bits=4, seed=seed), samples())


@pytest.mark.parametrize("minibatch", [1, 4])
@pytest.mark.parametrize("threshold", [30.0, PER_FEATURE], ids=["nobody answers", "per feature"])
def test_target_times_move_without_a_wait(threshold, minibatch, device):
    """To the bits of the loops, though T = 5 makes fractions that no float holds."""
    options: Any = OPTIONS | {"thresholds": learning.TargetTime(0.3, 0.7, 0.9)}

    def run(rule, times):
        return rule.learn(times, 2, 1, minibatch=minibatch), rule.conv_layer.weight, rule.conv_layer.threshold

    answers_alike(device, run, learning.STDP(layer(threshold), (1 / 4, -1 / 8), **options), samples(30))


@pytest.mark.parametrize("minibatch", [1, 8])
@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("correction", [None, "guess", "teach"])
@pytest.mark.parametrize("threshold", [2.0, None])
def test_rstdp_learns_without_a_wait(threshold, correction, dropout, minibatch, device):
    labels, classes = torch.arange(9) % 3, torch.arange(6) // 2
    active = torch.rand(9, 6) < (0.7 if dropout else 1)
    counted = mock.patch.object(torch, "unique", lambda _: range(3))  # of `classes`, once a call

    def run(rule, times, labels, classes, active):
        options = {"correction": correction, "active": active if dropout else None, "minibatch": minibatch}
        with counted:
            return rule.learn(times, labels, classes, **options), rule.reward.conv_layer.weight

    rule = learning.RSTDP(layer(threshold), (1 / 4, -1 / 8), (-1 / 8, 1 / 16), **OPTIONS)
    answers_alike(device, run, rule, samples(), labels, classes, active)


def test_a_network_answers_without_a_wait(device):
    network = models.mozafari2019()
    for stage in network.stages:
        stage.layer.weight.data.mul_(64).round_().div_(64)  # sums are exact
    times = network.encoder(torch.rand(2, 1, 28, 28) * 255)

    def run(network, x):
        for stage in network.stages:
            x = stage(x)
        return [x]

    answers_alike(device, run, network, times)


def test_encoders_look_at_their_images_alone(device):
    """Whether they are finite; not at what they make of them."""
    kernels = [torch.arange(-4.0, 5).view(3, 3), torch.ones(1, 3)]  # sums are exact
    encoder = encoding.LatencyEncoder(encoding.Filter(kernels, thresholds=0), STEPS)

    def run(encoder, images):
        return [encoder(images)]

    with mock.patch.object(check, "finite"):
        answers_alike(device, run, encoder, torch.randint(64, (3, 1, 9, 9)) / 64)


@pytest.mark.parametrize("correction", ["guess", "teach"])
@pytest.mark.parametrize("threshold", [1.0, None])
def test_a_wrong_decision_is_followed_by_one_search(correction, threshold):
    """Not by one for each class or feature: the operations per image that was never right do not grow with them."""
    counts = set()
    for features, classes in ((6, 2), (6, 3), (60, 3)):
        made = snn.SpikingConvolution(2, features, 3, threshold, time_steps=STEPS)
        rule = learning.RSTDP(made, (1 / 4, -1 / 8), (-1 / 8, 1 / 16), **OPTIONS)
        times, labels, known = samples(4), torch.full((4,), 9), torch.arange(features) % classes
        with mock.patch.object(torch, "unique", lambda _, count=classes: range(count)), elsewhere() as operations:
            rule.learn(times, labels, known, correction=correction, minibatch=4)
        counts.add(operations.count)
    assert len(counts) == 1


# every part


@contextmanager
def unchecked():
    """Looks once a call, at images that come from outside, and at labels."""
    kept = {name: lambda value, *_: value for name in ("finite", "labels", "labels_within")}
    with mock.patch.multiple(check, **kept), mock.patch.object(ImageSpec, "scale", lambda *_: None):
        yield


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_no_part_waits(part, device):
    with torch.device("cpu"):
        module, inputs = part.make(), part.inputs()
    module, inputs = module.to(device), [value.to(device) for value in inputs]
    with unchecked():
        part.call(module, *inputs)  # what is kept from call to call is there then
        with without_waits(device):
            part.call(module, *inputs)


def test_what_is_looked_at_wherever_it_is():
    """Once a call, and once a fit: images on another scale, and intensities below 0."""
    encoder, network = encoding.LinearLatency(torch.nn.Identity(), STEPS), models.mozafari2019(pretrained=True)
    with mock.patch.object(check, "free_to_read", lambda _: False):
        with pytest.raises(ValueError, match="`intensities` must be 0 or more"):
            encoder.fit(-torch.ones(1, 1, 3, 3))
        with pytest.warns(models.InputWarning, match="images reach from 0.00 to 1.00"):
            network(torch.linspace(0, 1, 28).expand(2, 1, 28, 28))


class WithoutFloat64(TorchDispatchMode):
    """As Apple's GPUs are."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        if any(isinstance(value, torch.Tensor) and value.dtype == torch.float64 for value in tree_leaves(made)):
            raise AssertionError(f"{operation} makes float64")
        return made


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_no_part_needs_float64(part):
    module, inputs = part.make(), part.inputs()
    with mock.patch.object(check, "_WITHOUT_FLOAT64", ("cpu",)), unchecked():
        part.call(module, *inputs)  # what is kept from call to call is there then
        with elsewhere(), WithoutFloat64():
            part.call(module, *inputs)


def test_thresholds_of_a_read_out_need_no_float64():
    made, times = readout.FirstSpikeReadout((2, 7, 7), 3, time_steps=STEPS), samples()
    with mock.patch.object(check, "_WITHOUT_FLOAT64", ("cpu",)), WithoutFloat64():
        made.calibrate(times, 1.0)
        assert made.gain(times, 1.0) > 0


# a graph of what one image starts


class Tape(TorchDispatchMode):
    """As a graph of CUDA: operations on tensors, which are written anew; what Python did is not done again."""

    def __init__(self):
        super().__init__()
        self.operations = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        self.operations.append((operation, args, kwargs or {}, made))
        return made

    def replay(self):
        for operation, args, kwargs, made in self.operations:
            for now, place in zip(tree_leaves(operation(*args, **kwargs)), tree_leaves(made), strict=True):
                if isinstance(now, torch.Tensor) and now.data_ptr() != place.data_ptr():  # neither a view nor in place
                    place.copy_(now)

    @classmethod
    def captured(cls, step, changed):
        """In place of :func:`spyketorch.kernels.graphs.captured`."""
        kept = [value.clone() for value in changed]
        with cls() as tape:
            answer = step()
        for value, before in zip(changed, kept, strict=True):
            value.copy_(before)
        return graphs.Graph(tape, answer, step)


@contextmanager
def as_on_cuda(captured=Tape.captured):
    with (
        mock.patch.object(graphs, "why_not", lambda _: None),
        mock.patch.object(graphs, "captured", side_effect=captured) as calls,
        mock.patch.object(_back_ends, "_WORTH_CAPTURE", 2),
        elsewhere(),
    ):
        yield calls


@pytest.mark.parametrize("minibatch", [1, 2])
@pytest.mark.parametrize("threshold", [PER_FEATURE, None], ids=["threshold", "last step"])
@pytest.mark.parametrize("correction", ["none", None, "guess", "teach"])
def test_a_captured_step_learns_what_is_learned_without(correction, threshold, minibatch):
    """From all that is copied in, for one mini-batch after the other; nothing else is looked at again."""
    times, labels, classes = samples(), torch.arange(9) % 3, torch.arange(6) // 2
    active = torch.rand(9, 6, generator=torch.Generator().manual_seed(0)) < 0.7
    found = []
    for place in (as_on_cuda, elsewhere):
        made = layer(threshold)
        rule, rewarded = (
            learning.STDP(made, (1 / 4, -1 / 8)),
            learning.RSTDP(made, (1 / 4, -1 / 8), (-1 / 8, 1 / 16), **OPTIONS),
        )
        with mock.patch.object(torch, "unique", lambda _: range(3)), place() as calls:
            if correction == "none":
                winners = rule.learn(times, 3, 1, minibatch=minibatch)
            else:
                options = {"correction": correction, "active": active, "minibatch": minibatch}
                winners = rewarded.learn(times, labels, classes, **options)
            assert place is elsewhere or calls.call_count == 1
        found.append((winners, made.weight))
    for one, other in zip(*found, strict=True):
        same(one, other)
    assert len(found[0][0].unique(dim=0)) > 1


def test_what_a_graph_reads_lives_as_long_as_it_is_started():
    """CUDA gives the place of a tensor that nobody holds to the next one."""
    alive = []

    class Watching:
        def __init__(self, step):
            owner = step.__self__
            self.read = [weakref.ref(tensor) for tensor in (owner.rates, owner.fields.places, owner.task.times)]

        def replay(self):
            alive.append(all(tensor() is not None for tensor in self.read))

    def watched(step, changed):
        return graphs.Graph(Watching(step), step(), step)

    rule, times = learning.STDP(layer(), (1 / 4, -1 / 8)), samples()
    with as_on_cuda(), mock.patch.object(graphs, "captured", watched):  # a mock would keep what it was called with
        rule.learn(times, 3, 1)
    assert alive == [True] * 9


def test_what_is_not_captured_is_learned_all_the_same():
    def refuses(*given):
        raise RuntimeError("not permitted when stream is capturing")

    rule, other = (learning.STDP(layer(), (1 / 4, -1 / 8)) for _ in range(2))
    times = samples()
    with as_on_cuda(refuses), pytest.warns(UserWarning, match="CUDA captures none: not permitted"):
        winners = rule.learn(times, 3, 1)
    same(winners, other.learn(times, 3, 1))
    same(rule.conv_layer.weight, other.conv_layer.weight)


def test_a_step_is_captured_without_looking():
    """In validation, too, as a graph can read nothing."""
    value, looked = torch.ones(1), []

    def step():
        looked.append(check.looks_at(value))
        return value

    with (
        mock.patch.object(check, "free_to_read", lambda _: False),
        mock.patch.object(torch, "cuda", mock.MagicMock()),
        validation(),
    ):
        graphs.captured(step, [value])
        assert check.looks_at(value)
    assert looked == [False, False]


def test_what_is_captured():
    way, times, made = _back_ends.Captured(), samples(40), layer()
    rule, rewarded = learning.STDP(made, (1 / 4, -1 / 8)), learning.RSTDP(made, (1 / 4, -1 / 8), (-1 / 8, 1 / 4))
    assert way.why_not(rule._task(times, 1, 0)) == "the layer is on cpu"
    again = rewarded._task(times, torch.zeros(40).long(), torch.zeros(6).long(), 2, correction="teach")
    tasks = {
        None: rule._task(times, 1, 0),
        "fewer than 2 mini-batches are not worth it": rule._task(times, 1, 0, minibatch=21),
        "the rule has its own change": learning.VDSP(made)._task(times, 1, 0),
        "winners of several classes learn before a sample is decided again": again,
    }
    together = rule._task(times, 1, 0, minibatch=4)
    with as_on_cuda():
        for reason, task in tasks.items():
            assert way.why_not(task) == reason
        assert way.why_not(together) is None
        with mock.patch.object(_task, "at_work", lambda: Processes(0, 2)):
            assert way.why_not(together) == "processes share out the mini-batches"


# operations, each of which has to be started on the device


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_mini_batch_takes_twelve_operations_an_image(number):
    """Whatever the sizes are; the maps are smaller here than those of digits."""
    made, size = models.mozafari2019().stages[number].layer, (9, 9, 4)[number]
    times = torch.randint(STEPS, (64, made.in_channels, size, size), dtype=torch.uint8)
    if made.threshold is None:
        rule: Any = learning.RSTDP(made, (0.004, -0.003), (-0.004, 0.0005))
        given: Any = (torch.arange(64) % 10, torch.arange(200) // 20)
    else:
        rule, given = learning.STDP(made, (0.004, -0.003)), ((5, 3), (8, 1))[number]
    with elsewhere() as operations:
        rule.learn(times, *given, minibatch=64)
    assert operations.count <= 12 * 64
