"""Networks in torch.compile and torch.export: one graph, the answers of eager, few graphs for all sizes of batches."""

import subprocess
import sys
from typing import NamedTuple

import pytest
import torch
from test_latency import new_tracer
from torch import nn
from torch._dynamo.utils import counters

from spyketorch import encoding, export, latency, models, neurons, snn
from spyketorch import functional as sf
from spyketorch.kernels import operators, serving
from spyketorch.readout import FirstSpikeReadout, LinearReadout

pytestmark = new_tracer
T = 15


class Patient(NamedTuple):
    """A neuron of one's own, which an operator cannot name."""

    share: float = 0.25

    def step(self, potential, before, heard):
        return potential + self.share * (heard - potential)


class Late(snn.SpikingConvolution):
    """A layer of one's own, which does not hear the first step."""

    def respond(self, times, *, potentials=True):
        return super().respond(torch.where(times == 0, self.time_steps, times), potentials=potentials)


def dyadic(layer):
    """The layer with weights n / 64, whose sums are exact."""
    layer.load_weight((torch.rand(layer.weight.shape) * 64).round() / 64)
    return layer


def cells(steps=T):
    kernels = [encoding.DoGKernel(3, 1 / 3, 2 / 3), encoding.DoGKernel(3, 2 / 3, 1 / 3)]
    return encoding.LatencyEncoder(encoding.Filter(kernels, padding=1, thresholds=0), steps, 2)


def network(neuron=neurons._INTEGRATE_AND_FIRE, threshold=8.0, deciding=snn.SpikingConvolution, **kind):
    """Two layers, of which the second decides; with a part of some kind."""
    steps, earliest = kind.get("steps", T), kind.get("earliest", 1)
    inhibit, groups = kind.get("inhibit", False), kind.get("groups", 1)
    below = dyadic(snn.SpikingConvolution(2, 8, 3, 2.0, time_steps=steps, neuron=neuron))
    last = dyadic(deciding(8, 6, 3, threshold, time_steps=steps, neuron=neuron, groups=groups))
    stages = [
        models.Stage(below, snn.SpikingPooling(2, earliest=earliest), inhibit=inhibit),
        models.Stage(last, inhibit=inhibit),
    ]
    return models.Network(cells(steps), stages, torch.arange(6), names=[*"abcdef"])


def read(readout, encoder=None, pool=None):
    """A layer, and a read-out of it."""
    stage = models.Stage(dyadic(snn.SpikingConvolution(2, 8, 3, 2.0, time_steps=T)), pool or snn.SpikingPooling(2))
    made = models.Network(cells() if encoder is None else encoder, [stage])
    made.readout = readout
    return made


def fitted():
    """An encoder whose largest intensities and table come from images."""
    front = nn.Sequential(encoding.Whitening(window=3), encoding.OnOff())
    return encoding.EqualizedLatency(front, T).fit(torch.rand(20, 1, 14, 14))


def linear(inputs):
    readout = LinearReadout(inputs, 4, time_steps=T)
    readout.weight.data.normal_()
    return readout


def hooked():
    made = network()
    made.stages[0].layer.register_forward_hook(lambda layer, given, times: torch.where(times == 0, T, times))
    return made


def integers():
    """A network of integers, of a trained one."""
    return export.quantize(read(linear((8, 6, 6))), torch.randint(0, 256, (20, 1, 14, 14), dtype=torch.uint8))


def together():
    made = models.Network(models.Together([network(), network()]), [])
    made.readout = linear((192, 1, 1))
    return made


KINDS = {
    "standard": network,
    "leaky": lambda: network(neurons.Leaky(0.875)),
    "ramps": lambda: network(neurons.Ramp(4)),
    "neurons of one's own": lambda: network(Patient()),
    "a layer of one's own": lambda: network(deciding=Late),
    "a hook": hooked,
    "later pooling": lambda: network(earliest=2),
    "inhibition": lambda: network(inhibit=True),
    "the last step": lambda: network(threshold=None),
    "what no loop searches": lambda: network(threshold=None, groups=2),
    "300 steps": lambda: network(steps=300),
    "float64": lambda: network().double(),
    "several spikes to a linear read-out": lambda: read(
        linear((16, 6, 6)), pool=snn.SpikingPooling(2, earliest=(1, 3))
    ),
    "parts of two sizes": lambda: read(
        linear((288 + 144, 1, 1)),
        pool=snn.PyramidPooling([snn.SpikingPooling(2), snn.SpikingPooling(4, earliest=(4, 9))]),
    ),
    "deciding ramps": lambda: read(FirstSpikeReadout((8, 6, 6), 3, 2, time_steps=T)),
    "deciding neurons that integrate": lambda: read(
        FirstSpikeReadout((8, 6, 6), 3, 2, time_steps=T, neuron=neurons.IntegrateAndFire())
    ),
    "a fitted encoder": lambda: read(linear((8, 6, 6)), fitted()),
    "several networks": together,
    "integers": integers,
}


def images_for(made, count):
    images = torch.rand(count, 1, 14, 14)
    return (images * 255).to(torch.uint8) if isinstance(made, export.IntegerNetwork) else images


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_networks_answer_as_eager(kind):
    torch._dynamo.reset()
    torch.manual_seed(0)
    made = KINDS[kind]().eval()
    compiled = torch.compile(made, fullgraph=True, backend="eager", dynamic=True)
    with torch.inference_mode():
        for count in (3, 20):
            images = images_for(made, count)
            assert torch.equal(compiled(images), made(images))


@pytest.mark.parametrize("kind", ["standard", "deciding ramps"])
def test_few_graphs_serve_batches_of_all_sizes(kind):
    torch._dynamo.reset()
    counters.clear()
    made, graphs = KINDS[kind](), []
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    for count in (3, 20, 33, 1):
        images = images_for(made, count)
        assert torch.equal(compiled(images), made(images))
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == [1, 2, 2, 3]  # one for three images, one for any number, and one for a single image


@pytest.mark.parametrize("kind", KINDS)
def test_exported_networks_answer_as_eager(kind):
    torch.manual_seed(0)
    made = KINDS[kind]().eval()
    images = images_for(made, 3)
    module = torch.export.export(made, (images,), dynamic_shapes=({0: torch.export.Dim("n", min=2)},)).module()
    for count in (3, 20):
        images = images_for(made, count)
        assert torch.equal(module(images), made(images))


def test_operators_stand_where_eager_runs_loops():
    """So that a program is as fast as eager, and adds in its order: the search of winners, and neurons with names."""
    wanted = {
        "standard": {"correlated", "local_normalization", "rank_order", "convolution_fire", "convolution_winners"},
        "leaky": {"neuron_fire"},
        "deciding ramps": {"exact_fire"},
    }
    for kind, names in wanted.items():
        program = torch.export.export(KINDS[kind](), (torch.rand(3, 1, 14, 14),))
        graphs = [part.graph for part in program.graph_module.modules() if isinstance(part, torch.fx.GraphModule)]
        found = {str(node.target) for graph in graphs for node in graph.nodes}
        assert {f"spyketorch.{name}.default" for name in names} <= found
        assert not any("aten.conv" in name for name in found)


def test_the_same_where_there_are_no_loops(monkeypatch):
    """An exported program may run where numba is missing."""
    made, images = network(threshold=None, inhibit=True), torch.rand(3, 1, 14, 14)
    program, want = torch.export.export(made, (images,)).module(), made(images)
    monkeypatch.setattr(serving, "has_loops", lambda _: False)
    assert torch.equal(program(images), want)


def test_a_program_runs_in_another_process(tmp_path):
    made, images = read(FirstSpikeReadout((8, 6, 6), 3, 2, time_steps=T)), torch.rand(3, 1, 14, 14)
    torch.export.save(torch.export.export(made, (images,)), tmp_path / "net.pt2")
    torch.save((images, made(images)), tmp_path / "answers.pt")
    script = """
        import sys, torch, spyketorch.latency
        program = torch.export.load(sys.argv[1] + "/net.pt2").module()
        images, want = torch.load(sys.argv[1] + "/answers.pt")
        assert torch.equal(program(images), want)
        """
    run = [sys.executable, "-c", "\n".join(line.strip() for line in script.splitlines()), str(tmp_path)]
    told = subprocess.run(run, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr


class Dense(nn.Module):
    """Layers on waves."""

    def __init__(self):
        super().__init__()
        self.encode = encoding.Intensity2Latency(T, to_spike=True, batched=True)
        self.below, self.last = dyadic(snn.Convolution(1, 8, 3)), dyadic(snn.Convolution(8, 6, 3))

    def forward(self, images):
        wave = self.encode(sf.local_normalization(images, 2))
        wave = sf.pooling(sf.fire(self.below(wave), 3.0), 2)
        fired, potentials = sf.fire(self.last(sf.pad(wave, (1, 1, 1, 1))), 8.0, return_thresholded_potentials=True)
        potentials = sf.pointwise_inhibition(potentials)
        return fired, sf.k_winners(potentials, 2, 1, fired.sign())


@pytest.mark.parametrize("threshold", [3.0, None])
def test_waves_compile_and_export(threshold):
    torch._dynamo.reset()
    made = Dense()
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    for count in (3, 5, 1):
        images = torch.rand(count, 1, 12, 12)
        for got, want in zip(compiled(images), made(images), strict=True):
            assert torch.equal(got, want)
    images, dynamic = torch.rand(3, 1, 12, 12), ({0: torch.export.Dim("n", min=2)},)
    module, more = torch.export.export(made, (images,), dynamic_shapes=dynamic).module(), torch.rand(7, 1, 12, 12)
    for got, want in zip(module(more), made(more), strict=True):
        assert torch.equal(got, want)


def test_filters_keep_their_gradient_when_compiled():
    torch._dynamo.reset()
    filters = encoding.Filter([encoding.DoGKernel(3, 1 / 3, 2 / 3)])
    image = torch.rand(2, 1, 6, 6, requires_grad=True)
    (want,) = torch.autograd.grad(filters(image).square().sum(), image)
    (got,) = torch.autograd.grad(
        torch.compile(filters, fullgraph=True, backend="aot_eager")(image).square().sum(), image
    )
    torch.testing.assert_close(got, want)


def test_opcheck_of_neurons():
    """torch's own tests: schema, fake version, tracing."""
    times, shape = torch.randint(0, 5, (3, 2, 5, 6)).to(torch.uint8), ([2, 1], [1, 0], [1, 1], 1)
    weight, limit, heard = torch.rand(4, 2, 3, 2), torch.ones(4), torch.rand(4, 60)
    with torch.random.fork_rng():
        for threshold in (limit, None):
            torch.library.opcheck(operators._named_fire, (times, weight, threshold, 4, *shape, "Leaky", [0.5], True))
        for named in (("IntegrateAndFire", []), ("Ramp", [4.0])):
            torch.library.opcheck(operators._named_exact_fire, (times.flatten(1), heard, limit, 4, 16.0, *named))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_opcheck_of_filters(dtype):
    with torch.random.fork_rng():
        images, kernels = torch.rand(3, 2, 7, 8, dtype=dtype), torch.rand(4, 2, 3, 3, dtype=dtype)
        torch.library.opcheck(operators._correlated, (images, kernels, [1, 0]))
        torch.library.opcheck(operators._correlated, (images.mT.contiguous().mT, kernels, [0, 0]))


def test_winners_outside_of_a_batch():
    torch._dynamo.reset()
    layer = dyadic(snn.SpikingConvolution(2, 6, 3, 2.0, time_steps=T))
    times = torch.randint(0, T + 1, (2, 8, 8)).to(torch.uint8)

    def winners(times):
        return layer.winners(times, 50, 1, pointwise_inhibition=True)

    assert torch.equal(torch.compile(winners, fullgraph=True, backend="aot_eager")(times), winners(times))
    chosen = latency.convolution_winners(times, layer.weight, None, 2, time_steps=T)
    assert chosen.shape == (2, 3)
