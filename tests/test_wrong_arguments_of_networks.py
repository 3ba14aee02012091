"""Every public call of encoders, networks, read-outs, training and pictures, with every argument wrong in turn."""

import inspect
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from test_wrong_arguments import WRONG, checked

from spyketorch import encoding, models, readout, snn, training, visualization
from spyketorch.training import Progress, Reinforced, Unsupervised
from spyketorch.visualization._canvas import canvas

T = 5


def images(count=4):
    return torch.arange(count * 64).view(count, 1, 8, 8) % 11 / 10


def retina():
    return encoding.Filter([encoding.DoGKernel(3, 1 / 3, 2 / 3)], padding=1, thresholds=0)


def encoder():
    return encoding.LatencyEncoder(retina(), T)


def times(*shape):
    return torch.arange(torch.Size(shape).numel()).view(shape).remainder(T + 1).to(torch.uint8)


def stage():
    return models.Stage(snn.SpikingConvolution(1, 4, 3, 1, time_steps=T), snn.SpikingPooling(2))


def network():
    last = models.Stage(snn.SpikingConvolution(4, 6, 3, None, time_steps=T))
    made = models.Network(
        encoder(), [stage(), last], torch.arange(6) // 2, images=models.ImageSpec((1, None, None), (0, 1))
    )
    made.readout = readout.LinearReadout((6, 1, 1), 3, time_steps=T)
    return made


def read():
    return readout.LinearReadout((2, 3, 3), 3, time_steps=T)


def lessons():
    return [Unsupervised(), Reinforced()]


def trainer():
    return training.Trainer(network(), lessons(), progress=False, on_silence="warn")


def axes():
    return canvas(None, (1, 1))


def rows():
    return [{"layer": 1, "seen": 5, "hits": 0.5, "misses": 0.5, "silent": 0.0}]


def drawing(**options):
    return {**options, "title": "", "ax": axes()}


def of_waves(**options):
    return drawing(spikes=times(2, 6, 6), time_steps=T, **options)


#: each public call and arguments that are right, made anew
CALLS: dict[Any, Any] = {
    encoding.LatencyEncoder: lambda: {"filter": retina(), "time_steps": T, "normalization_radius": 1},
    encoding.LatencyEncoder.forward: lambda: {"self": encoder(), "input": images()},
    encoding.LinearLatency: lambda: {"filter": retina(), "time_steps": T, "largest": 1.0},
    encoding.LinearLatency.fit: lambda: {"self": encoding.LinearLatency(retina(), T), "images": images()},
    encoding.LinearLatency.forward: lambda: {"self": encoding.LinearLatency(retina(), T, 1.0), "input": images()},
    encoding.EqualizedLatency: lambda: {"filter": retina(), "time_steps": T},
    encoding.EqualizedLatency.fit: lambda: {"self": encoding.EqualizedLatency(retina(), T), "images": images()},
    encoding.EqualizedLatency.forward: lambda: {
        "self": encoding.EqualizedLatency(retina(), T).fit(images()),
        "input": images(),
    },
    encoding.Whitening: lambda: {"components": 5, "window": 3, "regularization": 0.1, "patches": 2, "seed": 0},
    encoding.Whitening.fit: lambda: {"self": encoding.Whitening(window=3), "images": images()},
    encoding.Whitening.forward: lambda: {"self": encoding.Whitening(window=3).fit(images()), "input": images()},
    encoding.Chromaticity: lambda: {"floor": 1.0},
    encoding.Chromaticity.forward: lambda: {"self": encoding.Chromaticity(), "input": torch.rand(2, 3, 8, 8)},
    encoding.LocalContrast: lambda: {"radius": 1, "floor": 0.02},
    encoding.LocalContrast.forward: lambda: {"self": encoding.LocalContrast(), "input": images()},
    encoding.OnOff.forward: lambda: {"self": encoding.OnOff(), "input": images()},
    encoding.fit: lambda: {"module": encoding.LinearLatency(retina(), T), "images": images()},
    encoding.Filter.forward: lambda: {"self": retina(), "input": images()},
    encoding.Intensity2Latency: lambda: {"number_of_spike_bins": T, "batched": None},
    models.ImageSpec: lambda: {"shape": (1, 8, 8), "range": (0, 1)},
    models.ImageSpec.fit: lambda: {"self": models.ImageSpec((1, 8, 8), (0, 1)), "images": images()},
    models.ImageSpec.scale: lambda: {"self": models.ImageSpec((1, 8, 8), (0, 1)), "images": images()},
    models.Stage: lambda: {
        "layer": stage().layer,
        "pool": snn.SpikingPooling(2),
        "shortcut": snn.SpikingPooling(2),
    },
    models.Stage.forward: lambda: {"self": stage(), "times": times(2, 1, 8, 8)},
    models.Network: lambda: {
        "encoder": encoder(),
        "stages": [models.Stage(snn.SpikingConvolution(1, 4, 3, 1, time_steps=T))],
        "classes": [0, 0, 1, 1],
        "images": models.ImageSpec(),
        "names": ["a", "b"],
    },
    models.Network.predict: lambda: {"self": network(), "images": images()},
    models.Network.scores: lambda: {"self": network(), "images": images()},
    models.Network.features: lambda: {"self": network(), "images": images(), "stages": 1},
    models.Network.forward: lambda: {"self": network(), "images": images()},
    models.Network.summary: lambda: {"self": network(), "images": images()},
    models.Network.save: lambda: {"self": network(), "path": "saved.pt"},
    models.Network.load: lambda: {"self": network(), "path": "network.pt"},
    models.mozafari2018: lambda: {"features_per_class": 10, "classes": 2, "image_shape": (1, 97, 97)},
    models.mozafari2019: lambda: {"features_per_class": 20, "classes": 10, "image_shape": (1, 28, 28)},
    models.kheradpisheh2018: lambda: {"classes": 10, "image_shape": (1, 28, 28)},
    readout.LinearReadout: lambda: {"shape": (2, 3, 3), "classes": 3, "time_steps": T},
    readout.LinearReadout.read: lambda: {"self": read(), "times": times(4, 2, 3, 3)},
    readout.LinearReadout.forward: lambda: {"self": read(), "times": times(4, 2, 3, 3)},
    readout.LinearReadout.fit: lambda: {
        "self": read(),
        "times": times(4, 2, 3, 3),
        "labels": torch.arange(4) % 3,
        "penalty": 1e-3,
        "iterations": 3,
        "batch": 2,
        "tell": lambda loss: None,
    },
    training.Doubling: lambda: {"every": 500, "limit": 37.5},
    training.Fading: lambda: {"to": 0.05},
    training.Adaptive: lambda: {"floor": 0.0},
    training.Combined: lambda: {"schedules": (training.Fading(), training.Adaptive())},
    training.Constant.__call__: lambda: {"self": training.Constant(), "progress": Progress(0, 1)},
    training.Doubling.__call__: lambda: {"self": training.Doubling(), "progress": Progress(0, 1)},
    training.Fading.__call__: lambda: {"self": training.Fading(), "progress": Progress(0, 1)},
    training.Adaptive.__call__: lambda: {"self": training.Adaptive(), "progress": Progress(0, 1)},
    training.Combined.__call__: lambda: {
        "self": training.Combined((training.Fading(),)),
        "progress": Progress(0, 1),
    },
    training.Progress: lambda: {"seen": 0, "total": 1, "hits": 0.5, "misses": 0.5, "silent": 0.0},
    training.Unsupervised: lambda: {
        "kwta": 1,
        "inhibition_radius": 0,
        "rates": (0.004, -0.003),
        "schedule": training.Constant(),
        "bounds": (0.0, 1.0),
        "epochs": 1,
        "period": 500,
        "minibatch": 1,
        "homeostasis": 0.0,
        "threshold": None,
        "pointwise_inhibition": True,
        "use_stabilizer": True,
    },
    training.Reinforced: lambda: {
        "kwta": 1,
        "inhibition_radius": 0,
        "correction": None,
        "reward": (0.004, -0.003),
        "punishment": (-0.004, 0.0005),
        "schedule": training.Constant(),
        "dropout": 0.0,
        "bounds": (0.0, 1.0),
        "epochs": 1,
        "period": 500,
        "pointwise_inhibition": True,
        "use_stabilizer": True,
    },
    training.Readout: lambda: {"penalty": 1e-3, "iterations": 100},
    training.Unsupervised.rule: lambda: {"self": Unsupervised(), "stage": stage()},
    training.Reinforced.rule: lambda: {"self": Reinforced(), "stage": stage()},
    training.Trainer: lambda: {
        "network": network(),
        "lessons": lessons(),
        "directory": "runs",
        "seed": 0,
        "shuffle": True,
        "resume": False,
        "memory_limit": 2e9,
        "checkpoint_seconds": 20,
        "progress": False,
        "on_silence": "stop",
        "writer": None,
    },
    training.Trainer.fit: lambda: {"self": trainer(), "images": images(), "labels": torch.tensor([0, 1, 2, 0])},
    training.evaluate: lambda: {
        "network": network(),
        "images": images(),
        "labels": torch.tensor([0, 1, 2, 0]),
        "batch": 2,
        "progress": False,
    },
    training.Evaluation: lambda: {"confusion": torch.ones(3, 4, dtype=torch.int64)},
    visualization.plot_times: lambda: of_waves(columns=8),
    visualization.plot_wave: lambda: of_waves(columns=8),
    visualization.animate_wave: lambda: of_waves(interval=200),
    visualization.plot_features: lambda: drawing(features=torch.rand(3, 5, 5), columns=2),
    visualization.plot_winners: lambda: drawing(
        image=torch.rand(8, 8), winners=[(0, 1, 1)], field=visualization.ReceptiveField((3, 3), (1, 1), (0, 0))
    ),
    visualization.plot_weights: lambda: drawing(weights=torch.rand(3, 5), bounds=(0.0, 1.0), bins=5),
    visualization.plot_confusion: lambda: drawing(confusion=torch.ones(3, 4, dtype=torch.int64), names=["a", "b", "c"]),
    visualization.plot_history: lambda: drawing(history=rows()),
    visualization.get_deep_receptive_field: lambda: {"layers_details": (5, 5, 1, 1)},
    visualization.get_receptive_field: lambda: {"network": network(), "stage": 1},
    visualization.get_network_features: lambda: {"network": network(), "stage": 1},
    visualization.get_mean_stimuli: lambda: {
        "network": network(),
        "stage": 1,
        "images": images(),
        "kwta": 1,
        "inhibition_radius": 0,
    },
}

#: what is said of another argument, and rightly
RIGHT = {
    (models.Network.summary, "images", "triple"),  # images of 2 x 3 pixels, smaller than the windows
    (models.Network.predict, "images", "matrix"),  # one of 3 x 3, so
    (models.Network.scores, "images", "matrix"),
    (readout.LinearReadout.fit, "tell", "function"),  # what the function itself raises
}

CASES = [
    pytest.param(call, name, id=f"{call.__qualname__}-{name}") for call, make in CALLS.items() for name in make()
    if name != "self"
]  # fmt: skip


def called(call, **arguments):
    """An argument list is one argument here."""
    if call is visualization.get_deep_receptive_field:
        return call(arguments["layers_details"])
    if call is visualization.animate_wave:
        animation: Any = call(**arguments)
        animation._draw_was_started = True  # not drawn, and meant so
        return animation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", training.TrainingWarning)
        return call(**arguments)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "name"), CASES)
def test_wrong_arguments(call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib").use("Agg")
    network().save("network.pt")
    found = {}
    for label, value in WRONG.items():
        torch.manual_seed(0)
        wrong = checked(partial(called, call), {**CALLS[call](), name: value}, name, value)
        if wrong and (call, name, label) not in RIGHT:
            found[label] = wrong
    assert not found, "\n".join(f"{label}: {text}" for label, text in found.items())


def test_every_argument_is_tried():
    for call, make in CALLS.items():
        assert set(make()) <= set(inspect.signature(call).parameters)
