"""Whether the compiled loops serve, and what is said where they do not."""

import importlib.util
from functools import cache

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._warnings import warn_once
from spyketorch._winners import Choice
from spyketorch.kernels.layers import Spiking
from spyketorch.neurons import _INTEGRATE_AND_FIRE, Neuron, _stands_still


@cache
def has_numba() -> bool:
    """Whether numba is there; the loops are imported when they are first needed."""
    try:
        installed = importlib.util.find_spec("numba") is not None
    except ValueError:  # a module without a spec stands in its place
        installed = False
    if not installed:
        warn_once(
            "numba is not installed, so plain torch runs in place of the compiled loops, many times slower: "
            'pip install "spyketorch[fast]"'
        )
        return False
    try:
        importlib.import_module("spyketorch.kernels.loops.learn")
    except Exception as error:
        warn_once(
            f"numba is installed but cannot be used, so plain torch runs in place of the compiled loops ({error!r})"
        )
        return False
    return True


def has_loops(x: Tensor) -> bool:
    """Whether the numba loops serve a layer of these weights, or these intensities; else it is plain torch."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and has_numba()


def why_not_compiled(neuron: Neuron, weight: Tensor) -> str | None:
    """Why the loops do not serve such neurons, or None where they do."""
    if not has_loops(weight):
        return f"there are none for weights of {weight.dtype} on {weight.device}"
    if _stands_still(neuron):
        return None
    from spyketorch.kernels import engine

    return engine.why_not_compiled(neuron)


def why_no_search(layer: Spiking, choice: Choice, neuron: Neuron = _INTEGRATE_AND_FIRE) -> str | None:
    """Why the loops do not find the winners of such a layer, or None where they do."""
    if not _stands_still(neuron) or not has_loops(layer.weight):
        return why_not_compiled(neuron, layer.weight)
    if layer.limit is None and layer.shape.groups > 1:
        return "the layer has `groups` and no threshold"
    if layer.limit is None and choice.inhibit and choice.kwta > 1:
        return (
            "the layer has no threshold, but several winners after pointwise inhibition: "
            "`pointwise_inhibition=False` or `kwta=1` would take the loops"
        )
    return None


SLOW_SEARCH = "winners are searched in plain torch, many times slower than in the compiled loops"


def say_slow(what: str, weight: Tensor, reason: str) -> None:
    """Tell, once, that the loops are not taken, where they are there; elsewhere plain torch is as it should be."""
    if not torch.compiler.is_compiling() and has_loops(weight):
        warn_once(f"{what}, because {reason}")


def answers(times: Tensor, weight: Tensor, neuron: Neuron, slow: str) -> bool:
    """Whether the loops answer for such neurons; where they are there and do not, it is told what is ``slow``."""
    reason = why_not_compiled(neuron, weight)
    if reason is not None:
        say_slow(slow, weight, reason)
    return reason is None and check.free_to_read(times) and check.free_to_read(weight)
