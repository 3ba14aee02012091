"""The layers that rules act on."""

from typing import Any, Protocol

from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import Geometry
from spyketorch._plasticity import Thresholds


class Plastic(Protocol):
    """A layer whose weights a rule changes, such as :class:`spyketorch.snn.Convolution`."""

    in_channels: int
    out_channels: int
    geometry: Geometry

    @property
    def weight(self) -> Tensor:
        """``(out_channels, in_channels / groups, rows, columns)``."""
        ...

    def __call__(self, input: Tensor) -> Any: ...


class Spiking(Plastic, Protocol):
    """A layer that answers to first-spike times, such as :class:`spyketorch.snn.SpikingConvolution`."""

    threshold: Tensor | None
    time_steps: int

    def limit(self) -> Tensor | None:
        """The threshold of each feature, or None."""
        ...

    def respond(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """(first-spike times, potentials there)."""
        ...


def check_layer(layer: Any) -> None:
    if not all(hasattr(layer, name) for name in ("weight", "in_channels", "out_channels", "geometry")):
        raise check.fail_type("conv_layer", "an snn.Convolution, or a module with its attributes", layer)


def check_thresholds(thresholds: Any) -> None:
    if isinstance(thresholds, type) or not isinstance(thresholds, Thresholds) or not hasattr(thresholds, "_fields"):
        raise check.fail_type("thresholds", "None, or a NamedTuple with `excess` and `adapt`", thresholds)
    if hasattr(thresholds, "check"):
        thresholds.check()


def adaptable(layer: Any, thresholds: Any) -> None:
    """A layer with a threshold for each feature, that the thresholds given may move."""
    check_thresholds(thresholds)
    if getattr(layer, "threshold", None) is None:
        raise check.fail_type("conv_layer", "a layer with a threshold, as `thresholds` moves it", layer)
    layer.threshold = layer.limit()
