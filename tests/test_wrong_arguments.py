"""Every public call on waves and on times, with every argument wrong in turn: one sentence that names the argument."""

import inspect
import warnings
from typing import Any

import pytest
import torch

from spyketorch import PerformanceWarning, latency, snn, utils, visualization
from spyketorch import functional as sf

NAN, INF = float("nan"), float("inf")


class Odd:
    """Something that is nothing."""


WRONG = {
    "none": None,
    "text": "3",
    "empty text": "",
    "bool": True,
    "nan": NAN,
    "inf": INF,
    "negative": -3,
    "half": 0.5,
    "zero": 0,
    "one": 1,
    "huge": 10**12,
    "too large for int64": 2**70,
    "too large for float": 10**400,
    "tiny": 1e-300,
    "large": 1e300,
    "complex": 1 + 2j,
    "object": Odd(),
    "empty list": [],
    "list of texts": ["a", "b"],
    "nested": [[1, 2], [3]],
    "list of none": [None, None],
    "set": {1, 2},
    "dict": {"a": 1},
    "bytes": b"ab",
    "nan list": [NAN, NAN],
    "pair": (2, 2),
    "negative pair": (-1, -1),
    "triple": (1, 2, 3),
    "huge four": (10**12,) * 4,
    "scalar tensor": torch.tensor(1.5),
    "no elements": torch.zeros(0),
    "no time": torch.zeros(0, 2, 6, 6),
    "vector": torch.ones(3),
    "matrix": torch.ones(3, 3),
    "three axes": torch.ones(2, 6, 6),
    "six axes": torch.ones(1, 1, 1, 1, 1, 1),
    "complex wave": torch.ones(4, 2, 6, 6, dtype=torch.complex64),
    "bool wave": torch.ones(4, 2, 6, 6, dtype=torch.bool),
    "integer wave": torch.ones(4, 2, 6, 6, dtype=torch.int64),
    "double wave": torch.ones(4, 2, 6, 6, dtype=torch.float64),
    "half wave": torch.ones(4, 2, 6, 6, dtype=torch.float16),
    "nan wave": torch.full((4, 2, 6, 6), NAN),
    "sparse": torch.ones(4, 2, 6, 6).to_sparse(),
    "elsewhere": torch.ones(4, 2, 6, 6, device="meta"),
    "wrong channels": torch.ones(4, 5, 6, 6),
    "function": len,
    "module": torch.nn.Identity(),
}


def wave(*shape):
    return torch.ones(*shape)


def conv():
    return snn.Convolution(2, 3, 3)


def times(*shape):
    return torch.zeros(*shape, dtype=torch.uint8)


def spiking():
    return snn.SpikingConvolution(2, 3, 3, 1.0, time_steps=4)


def convolution():
    return {
        "times": times(2, 6, 6),
        "weight": torch.ones(3, 2, 3, 3),
        "threshold": 1.0,
        "time_steps": 4,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
    }


def fired():
    return {"times": times(3, 4, 4), "potentials": wave(3, 4, 4)}


def stdp():
    return snn.STDP(conv(), (0.1, -0.1))


#: each public call and arguments that are right, made anew
CALLS: dict[Any, Any] = {
    sf.pad: lambda: {"input": wave(4, 2, 6, 6), "pad": (1, 1, 1, 1), "value": 0},
    sf.pooling: lambda: {"input": wave(4, 2, 6, 6), "kernel_size": 2, "stride": 2, "padding": 0},
    sf.convolution: lambda: {
        "input": wave(4, 2, 6, 6),
        "weight": torch.ones(3, 2, 3, 3),
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
    },
    sf.fire: lambda: {"potentials": wave(4, 2, 6, 6), "threshold": 1},
    sf.fire_: lambda: {"potentials": wave(4, 2, 6, 6), "threshold": 1},
    sf.threshold: lambda: {"potentials": wave(4, 2, 6, 6), "threshold": 1},
    sf.threshold_: lambda: {"potentials": wave(4, 2, 6, 6), "threshold": 1},
    sf.pointwise_inhibition: lambda: {"thresholded_potentials": wave(4, 2, 6, 6)},
    sf.feature_inhibition: lambda: {"potentials": wave(4, 2, 6, 6), "inhibited_features": [0]},
    sf.feature_inhibition_: lambda: {"potentials": wave(4, 2, 6, 6), "inhibited_features": [0]},
    sf.get_k_winners: lambda: {
        "potentials": wave(4, 2, 6, 6),
        "kwta": 1,
        "inhibition_radius": 0,
        "spikes": wave(4, 2, 6, 6),
    },
    sf.k_winners: lambda: {
        "potentials": wave(4, 2, 6, 6),
        "kwta": 1,
        "inhibition_radius": 0,
        "spikes": wave(4, 2, 6, 6),
    },
    sf.intensity_lateral_inhibition: lambda: {"intencities": wave(1, 2, 6, 6), "inhibition_kernel": torch.ones(3, 3)},
    sf.local_normalization: lambda: {"input": wave(1, 2, 6, 6), "normalization_radius": 1, "eps": 1e-12},
    snn.Convolution: lambda: {
        "in_channels": 2,
        "out_channels": 3,
        "kernel_size": 3,
        "weight_mean": 0.8,
        "weight_std": 0.02,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
    },
    snn.Convolution.reset_weight: lambda: {"self": conv(), "weight_mean": 0.8, "weight_std": 0.02},
    snn.Convolution.load_weight: lambda: {"self": conv(), "target": torch.ones(3, 2, 3, 3)},
    snn.Convolution.output_size: lambda: {"self": conv(), "height": 6, "width": 6},
    snn.Convolution.forward: lambda: {"self": conv(), "input": wave(4, 2, 6, 6)},
    snn.Pooling: lambda: {"kernel_size": 2, "stride": 2, "padding": 0},
    snn.Pooling.forward: lambda: {"self": snn.Pooling(2), "input": wave(4, 2, 6, 6)},
    snn.STDP: lambda: {
        "conv_layer": conv(),
        "learning_rate": (0.1, -0.1),
        "lower_bound": 0,
        "upper_bound": 1,
        "rate": lambda s: s.ltp,
        "weight_dependence": None,
        "modulation": None,
    },
    snn.STDP.forward: lambda: {
        "self": stdp(),
        "input_spikes": wave(4, 2, 6, 6),
        "potentials": wave(4, 3, 4, 4),
        "output_spikes": wave(4, 3, 4, 4),
        "winners": None,
        "kwta": 1,
        "inhibition_radius": 0,
    },
    snn.STDP.get_pre_post_ordering: lambda: {
        "self": stdp(),
        "input_spikes": wave(4, 2, 6, 6),
        "output_spikes": wave(4, 3, 4, 4),
        "winners": [(0, 0, 0)],
    },
    snn.STDP.update_learning_rate: lambda: {"self": stdp(), "feature": 0, "ap": 0.1, "an": 0.1},
    snn.STDP.update_all_learning_rate: lambda: {"self": stdp(), "ap": 0.1, "an": 0.1},
    snn.STDP.online: lambda: {
        "self": stdp(),
        "input_spikes": wave(2, 4, 2, 6, 6),
        "respond": lambda x: (wave(4, 3, 4, 4), wave(4, 3, 4, 4)),
        "kwta": 1,
        "inhibition_radius": 0,
    },
    snn.STDP.minibatch: lambda: {
        "self": stdp(),
        "input_spikes": wave(2, 4, 2, 6, 6),
        "respond": lambda x: (wave(2, 4, 3, 4, 4), wave(2, 4, 3, 4, 4)),
        "kwta": 1,
        "inhibition_radius": 0,
    },
    snn.RSTDP: lambda: {
        "conv_layer": conv(),
        "reward_rate": (0.1, -0.1),
        "punishment_rate": (-0.1, 0.1),
        "lower_bound": 0.2,
        "upper_bound": 0.8,
    },
    snn.RSTDP.forward: lambda: {
        "self": snn.RSTDP(conv(), (0.1, -0.1), (-0.1, 0.1)),
        "input_spikes": wave(4, 2, 6, 6),
        "potentials": wave(4, 3, 4, 4),
        "output_spikes": wave(4, 3, 4, 4),
        "outcomes": 1,
        "winners": None,
        "kwta": 1,
        "inhibition_radius": 0,
    },
    latency.from_wave: lambda: {"wave": wave(4, 2, 6, 6)},
    latency.to_wave: lambda: {"times": times(2, 6, 6), "time_steps": 4, "dtype": torch.float32},
    latency.pad: lambda: {"times": times(2, 6, 6), "pad": (1, 1, 1, 1), "time_steps": 4},
    latency.pooling: lambda: {
        "times": times(2, 6, 6),
        "kernel_size": 2,
        "stride": 2,
        "padding": 0,
        "earliest": 1,
    },
    latency.convolution_fire: lambda: convolution(),
    latency.convolution_winners: lambda: {
        **convolution(),
        "kwta": 1,
        "inhibition_radius": 0,
    },
    latency.pointwise_inhibition: lambda: {**fired(), "time_steps": 4},
    latency.feature_inhibition: lambda: {**fired(), "inhibited_features": [0], "time_steps": 4},
    latency.k_winners: lambda: {**fired(), "kwta": 1, "inhibition_radius": 0, "time_steps": 4},
    latency.get_k_winners: lambda: {**fired(), "kwta": 1, "inhibition_radius": 0, "time_steps": 4},
    latency.linear: lambda: {"values": wave(2, 6, 6), "time_steps": 4},
    latency.rank_order: lambda: {"intensities": wave(2, 6, 6), "time_steps": 4},
    latency.local_normalization: lambda: {"input": wave(2, 6, 6), "normalization_radius": 1, "eps": 1e-12},
    snn.SpikingConvolution: lambda: {
        "in_channels": 2,
        "out_channels": 3,
        "kernel_size": 3,
        "threshold": 1.0,
        "weight_mean": 0.8,
        "weight_std": 0.02,
        "time_steps": 4,
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
    },
    snn.SpikingConvolution.respond: lambda: {"self": spiking(), "times": times(2, 6, 6)},
    snn.SpikingConvolution.winners: lambda: {
        "self": spiking(),
        "times": times(2, 6, 6),
        "kwta": 1,
        "inhibition_radius": 0,
    },
    snn.SpikingConvolution.forward: lambda: {"self": spiking(), "times": times(2, 6, 6)},
    snn.SpikingPooling: lambda: {"kernel_size": 2, "stride": 2, "padding": 0, "earliest": 1},
    snn.SpikingPooling.forward: lambda: {"self": snn.SpikingPooling(2), "input": times(2, 6, 6)},
    snn.STDP.learn: lambda: {
        "self": snn.STDP(spiking(), (0.1, -0.1)),
        "times": times(2, 2, 6, 6),
        "kwta": 1,
        "inhibition_radius": 0,
        "minibatch": 1,
    },
    snn.RSTDP.learn: lambda: {
        "self": snn.RSTDP(spiking(), (0.1, -0.1), (-0.1, 0.1)),
        "times": times(4, 2, 6, 6),
        "labels": [0, 1, 0, 1],
        "classes": [0, 1, 1],
        "kwta": 1,
        "inhibition_radius": 0,
        "correction": None,
        "active": None,
        "minibatch": 1,
    },
    utils.generate_inhibition_kernel: lambda: {"percents": [0.1]},
    utils.tensor_to_text: lambda: {"data": torch.ones(2), "address": "x.txt"},
    utils.text_to_tensor: lambda: {"address": "right.txt", "type": "float"},
    utils.FilterKernel: lambda: {"window_size": 3},
    utils.DoGKernel: lambda: {"window_size": 3, "sigma1": 1, "sigma2": 2},
    utils.GaborKernel: lambda: {"window_size": 3, "orientation": 45, "div": 4.0},
    utils.Filter: lambda: {"filter_kernels": [torch.ones(3, 3)], "padding": 0, "thresholds": None},
    utils.Filter.forward: lambda: {"self": utils.Filter([torch.ones(3, 3)]), "input": wave(1, 6, 6)},
    utils.Intensity2Latency: lambda: {"number_of_spike_bins": 3},
    utils.Intensity2Latency.forward: lambda: {"self": utils.Intensity2Latency(3), "intencities": wave(1, 6, 6)},
    utils.LateralIntencityInhibition: lambda: {"percents": [0.1]},
    utils.LateralIntencityInhibition.forward: lambda: {
        "self": utils.LateralIntencityInhibition([0.1]),
        "input": wave(1, 6, 6),
    },
    utils.LocalNormalization: lambda: {"normalization_radius": 1, "eps": 1e-12},
    visualization.show_tensor: lambda: {"aTensor": torch.eye(3), "_vmin": None, "_vmax": None},
    visualization.plot_tensor_in_image: lambda: {
        "fname": "x.png",
        "aTensor": torch.eye(3),
        "_vmin": None,
        "_vmax": None,
    },
    visualization.get_deep_feature: lambda: {
        "pre_feature": torch.ones(2, 3, 3),
        "feature_stride": (1, 1),
        "window_size": (2, 2),
        "stride": (1, 1),
        "weights": torch.ones(3, 2, 2, 2),
    },
}

CASES = [
    pytest.param(call, name, id=f"{call.__qualname__}-{name}") for call, make in CALLS.items() for name in make()
    if name != "self"
]  # fmt: skip


def holds_nan(answer):
    if isinstance(answer, torch.Tensor):
        return answer.is_floating_point() and not answer.is_meta and bool(answer.isnan().any())
    return isinstance(answer, list | tuple) and any(holds_nan(part) for part in answer)


def checked(call, arguments, name, value):
    """What is wrong with the answer to a wrong argument, or nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", PerformanceWarning)
            answer = call(**arguments)
            if isinstance(answer, utils.FilterKernel) and type(answer) is not utils.FilterKernel:
                answer = answer()
    except (ValueError, TypeError, IndexError, FileNotFoundError) as error:
        text = str(error)
        if f"`{name}" not in text and not isinstance(error, FileNotFoundError):
            return f"does not name it: {type(error).__name__}: {text[:150]}"
        return "several sentences" if text.count("\n") > 1 else None
    except Exception as error:
        return f"raw {type(error).__name__}: {str(error)[:150]}"
    given_nan = isinstance(value, torch.Tensor) and holds_nan(value)
    return "NaN" if holds_nan(answer) and not given_nan else None


@pytest.mark.parametrize(("call", "name"), CASES)
def test_wrong_arguments(call, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("matplotlib").use("Agg")
    utils.tensor_to_text(torch.ones(2), "right.txt")
    found = {}
    for label, value in WRONG.items():
        torch.manual_seed(0)
        wrong = checked(call, {**CALLS[call](), name: value}, name, value)
        if wrong:
            found[label] = wrong
    assert not found, "\n".join(f"{label}: {text}" for label, text in found.items())


def test_every_argument_is_tried():
    for call, make in CALLS.items():
        known = {n for n, p in inspect.signature(call).parameters.items() if p.annotation is not bool}
        assert set(make()) <= known
    missing = [name for name, function in vars(sf).items()
               if inspect.isfunction(function) and function.__module__ == sf.__name__
               and not name.startswith("_") and function not in CALLS]  # fmt: skip
    assert missing == []
