"""Parts that run on any device: how each is made, what it is given, and how it is called."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import spyketorch.functional as sf
from spyketorch import encoding, learning, models, neurons, readout, snn

STEPS = 5


class Part(NamedTuple):
    """A module, its inputs, and what is called, by default the module."""

    make: Callable[[], Any]
    inputs: Callable[[], tuple[Tensor, ...]]
    call: Callable[..., Any] = lambda module, *inputs: module(*inputs)


def times(count: int = 6) -> Tensor:
    return torch.randint(STEPS + 1, (count, 2, 7, 7), dtype=torch.uint8)


def layer(threshold: Any = 2.0, **options: Any) -> snn.SpikingConvolution:
    return snn.SpikingConvolution(2, 6, 3, threshold, 0.5, 0.1, time_steps=STEPS, **options)


def learner(make: Callable[[Any], Any], threshold: Any = 2.0, neuron: Any = None, minibatch: int = 1) -> Part:
    """A rule that learns from times."""
    options = {} if neuron is None else {"neuron": neuron}
    return Part(
        lambda: make(layer(threshold, **options)),
        lambda: (times(),),
        lambda rule, x: (rule.learn(x, 3, 1, minibatch=minibatch), *rule.conv_layer.state_dict().values()),
    )


def rewarded(correction: str | None, minibatch: int) -> Part:
    return Part(
        lambda: learning.RSTDP(layer(None), (0.25, -0.125), (-0.125, 0.0625)),
        lambda: (times(), torch.arange(6) % 3, torch.arange(6) // 2),
        lambda rule, *given: rule.learn(*given, correction=correction, minibatch=minibatch),
    )


def on_waves(make: Callable[[Any], Any], *outcomes: float) -> Part:
    """A rule that is called with waves, and winners that stay where they are."""

    def call(rule: Any, wave: Tensor, *verdict: Tensor) -> Tensor:
        conv = (rule.reward if outcomes else rule).conv_layer
        spikes, potentials = sf.fire(sf.convolution(wave, conv.weight), 5.0, return_thresholded_potentials=True)
        winners = sf.k_winners(sf.pointwise_inhibition(potentials), 2, 1, spikes)
        rule(wave, potentials, spikes, *verdict, winners)
        rule(wave, potentials, spikes, *verdict, kwta=2)
        weight: Tensor = conv.weight
        return weight

    def inputs() -> tuple[Tensor, ...]:
        wave = torch.rand(3, STEPS, 2, 6, 7).cummax(1).values.round()
        return (wave, torch.tensor(outcomes)) if outcomes else (wave,)

    return Part(lambda: make(snn.Convolution(2, 4, 3)), inputs, call)


def deciding(neuron: Any) -> readout.FirstSpikeReadout:
    return readout.FirstSpikeReadout((2, 7, 7), 3, per_class=2, time_steps=STEPS, neuron=neuron)


def supervised(neuron: Any, competition: Any, covariance: bool) -> Part:
    expected = torch.full((98,), 0.5) if covariance else None
    return Part(
        lambda: learning.SupervisedSTDP(deciding(neuron), competition=competition, expected=expected),
        lambda: (times(), torch.arange(6) % 3),
        lambda rule, *given: (*rule.learn(*given), rule.readout.weight, rule.lifted),
    )


def fitted(make: Callable[[], nn.Module], channels: int = 1) -> Part:
    """An encoder, or a part of one, fitted to some images where it is to be."""

    def made() -> nn.Module:
        module = make()
        encoding.fit(module, torch.rand(20, channels, 12, 12))
        return module

    return Part(made, lambda: (torch.rand(3, channels, 12, 12),))


def retina(**options: Any) -> encoding.Filter:
    return encoding.Filter([encoding.DoGKernel(3, 0.5, 1.0), torch.ones(5, 5)], 2, thresholds=0, **options)


def rule(kind: Any, *given: Any, **options: Any) -> Callable[[Any], Any]:
    return lambda conv: kind(conv, *given, **options)


def adapting(conv: Any) -> learning.STDP:
    """A rule that moves thresholds, too."""
    return learning.MultiplicativeSTDP(conv, thresholds=learning.TargetTime(0.5, 0.25, 1.0))


def pyramid() -> snn.PyramidPooling:
    """Fine and coarse parts."""
    return snn.PyramidPooling([snn.SpikingPooling(2), snn.SpikingPooling(4, earliest=(1, 5))])


RATES, COMPETITION = (0.25, -0.125), learning.Competition(1, 0.01)
EACH = [1.0, 2.0, 3.0, 1.5, 2.5, 3.5]

#: layers, poolings, networks, read-outs
ANSWERING = {
    "convolution": Part(lambda: snn.Convolution(2, 4, 3), lambda: (torch.ones(3, STEPS, 2, 6, 7),)),
    "pooling": Part(lambda: snn.Pooling(2), lambda: (torch.ones(3, STEPS, 2, 6, 7),)),
    "spiking pooling": Part(lambda: snn.SpikingPooling(2, earliest=(1, 3)), lambda: (times(),)),
    "pyramid pooling": Part(pyramid, lambda: (times(),)),
    "layer": Part(layer, lambda: (times(),), lambda made, x: (*made.respond(x), made(x), made.winners(x, 2, 1))),
    "layer of the last step": Part(lambda: layer(None), lambda: (times(),), lambda made, x: made.respond(x)),
    "layer of leaky neurons": Part(lambda: layer(EACH, neuron=neurons.Leaky(0.5)), lambda: (times(),)),
    "layer of ramps": Part(lambda: layer(neuron=neurons.Ramp(STEPS)), lambda: (times(),)),
    "linear read-out": Part(lambda: readout.LinearReadout((2, 7, 7), 3, time_steps=STEPS), lambda: (times(),)),
    "read-out of ramps": Part(lambda: deciding(None), lambda: (times(),)),
    "read-out of steps": Part(lambda: deciding(neurons.IntegrateAndFire()), lambda: (times(),)),
    "mozafari2019": Part(models.mozafari2019, lambda: (torch.rand(2, 1, 28, 28) * 255,)),
    "kheradpisheh2018": Part(models.kheradpisheh2018, lambda: (torch.rand(2, 1, 28, 28) * 255,)),
}
#: encoders, and what they are made of
ENCODING = {
    "filter": fitted(retina),
    "gabor": fitted(lambda: encoding.Filter([encoding.GaborKernel(5, 45)], use_abs=True)),
    "lateral inhibition": fitted(lambda: encoding.LateralIntencityInhibition([0.25, 0.125])),
    "normalization": fitted(lambda: encoding.LocalNormalization(1)),
    "local contrast": fitted(lambda: encoding.LocalContrast(2)),
    "rank order of waves": fitted(lambda: encoding.Intensity2Latency(STEPS, batched=True)),
    "rank order": fitted(lambda: encoding.LatencyEncoder(retina(), STEPS, 3)),
    "by value": fitted(lambda: encoding.LinearLatency(retina(), STEPS)),
    "equalized": fitted(lambda: encoding.EqualizedLatency(retina(), STEPS)),
    "whitening": fitted(
        lambda: encoding.EqualizedLatency(nn.Sequential(encoding.Whitening(window=5), encoding.OnOff()), STEPS), 3
    ),
    "chromaticity": fitted(lambda: encoding.Chromaticity(1), 3),
    "opponents": fitted(lambda: encoding.OpponentColours(), 3),
    "luminance": fitted(lambda: encoding.Luminance(), 3),
    "filter bank": Part(lambda: encoding.FilterBank(8000, 4), lambda: (torch.rand(2, 1, 1, 800),)),
}
#: what learns without reading what it decided
LEARNING = {
    "stdp": learner(rule(learning.STDP, RATES)),
    "stdp in mini-batches": learner(rule(learning.STDP, RATES), EACH, None, 4),
    "stdp of leaky neurons": learner(rule(learning.STDP, RATES), 2.0, neurons.Leaky(0.5)),
    "multiplicative": learner(rule(learning.MultiplicativeSTDP)),
    "multiplicative in mini-batches": learner(rule(learning.MultiplicativeSTDP), None, None, 4),
    "vdsp": learner(rule(learning.VDSP, RATES)),
    "integers": learner(rule(learning.IntegerSTDP, bits=3)),
    "target times": learner(adapting),
    "target times in mini-batches": learner(adapting, EACH, None, 4),
    "rstdp": rewarded(None, 1),
    "rstdp by teach": rewarded("teach", 4),
    "stdp on waves": on_waves(rule(learning.STDP, RATES)),
    "multiplicative on waves": on_waves(rule(learning.MultiplicativeSTDP)),
    "vdsp on waves": on_waves(rule(learning.VDSP)),
    "integers on waves": on_waves(rule(learning.IntegerSTDP)),
    "target times on waves": on_waves(
        lambda _: adapting(snn.SpikingConvolution(2, 4, 3, 5.0, 0.8, 0.02, time_steps=STEPS))
    ),
    "rstdp on waves": on_waves(rule(learning.RSTDP, RATES, (-0.125, 0.25)), 1.0, -1.0, 0.0),
    "supervised": supervised(None, COMPETITION, True),
    "supervised, as published": supervised(neurons.IntegrateAndFire(), None, False),
}
PARTS = {**ANSWERING, **ENCODING, **LEARNING}
