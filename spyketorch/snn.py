"""Layers of a spiking network, and the learning rules that act on them.

A layer is its parameters and one call into :mod:`spyketorch.functional`.
"""

import zlib
from collections.abc import Sequence
from contextvars import ContextVar
from itertools import chain
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as fn  # noqa: F401  scripts take it from a star import
from torch import Tensor
from torch.nn.parameter import Parameter

from spyketorch import _checks as check
from spyketorch import functional as sf
from spyketorch import latency, neurons
from spyketorch._checks import to_pair as to_pair
from spyketorch._convolution import check_fits, current_weight, earliest_within, geometry, stored_weight
from spyketorch._state import CheckedState
from spyketorch.kernels import serving
from spyketorch.kernels.layers import Spiking
from spyketorch.learning._rstdp import RSTDP as RSTDP
from spyketorch.learning._stdp import STDP as STDP

_SETTINGS = ("kernel_size", "stride", "padding", "dilation", "groups")


class _Setting:
    """A field of a layer's ``geometry``, where alone it stands; setting it makes a new geometry, checked."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Any, owner: type) -> Any:
        return self if layer is None else getattr(layer.geometry, self._name)

    def __set__(self, layer: Any, value: Any) -> None:
        known = layer.geometry
        fields = {"kernel_size": known.kernel_size, **known.options(), self._name: value}
        made = geometry(**fields, features=layer.out_channels)
        if made._replace(stride=known.stride, padding=known.padding, dilation=known.dilation) != known:
            raise _fixed(self._name, getattr(known, self._name), value)
        layer.geometry = made


def _fixed(name: str, known: object, value: object) -> AttributeError:
    return AttributeError(
        f"`{name}` is given by the shape of the weight, {known} here, and cannot be assigned; build another layer, got "
        f"{check.describe(value)}"
    )


class Convolution(CheckedState):
    """Integrate-and-fire neurons that share weights, without bias; gives potentials over time.

    Weights are drawn from a normal distribution by one ``normal_`` call and are not trained by gradients. They may be
    negative: then potentials can fall, and ``functional.fire(..., latch=True)`` keeps fired neurons fired.

    Args:
        in_channels, out_channels: input and output features.
        kernel_size: rows and columns of the receptive field, one integer or a pair.
        weight_mean, weight_std: of the initial weights.
        stride, padding, dilation, groups: as in :class:`torch.nn.Conv2d`; padding neurons are silent.

    Shape:
        ``(T, in_channels, H, W)`` or ``(N, T, in_channels, H, W)`` to ``(..., out_channels, H', W')``; see
        :func:`spyketorch.functional.convolution`.

    Attributes:
        weight: Parameter ``(out_channels, in_channels / groups, rows, columns)`` without gradient.
        stride, padding, dilation: pairs; what is assigned is checked, and in use everywhere.
        in_channels, out_channels, kernel_size, groups: as the weight has them; they cannot be assigned.

    Example:
        >>> conv = Convolution(6, 30, 5, weight_mean=0.8, weight_std=0.05)
        >>> conv(torch.ones(15, 6, 28, 28)).shape
        torch.Size([15, 30, 24, 24])
    """

    kernel_size, stride, padding, dilation, groups = (_Setting() for _ in _SETTINGS)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        weight_mean: float = 0.8,
        weight_std: float = 0.02,
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels = check.integer(in_channels, "in_channels", 1)
        self.out_channels = check.integer(out_channels, "out_channels", 1)
        self.geometry = geometry(kernel_size, stride, padding, dilation, groups, self.out_channels)
        if self.in_channels % self.groups:
            raise ValueError(f"`groups` must divide `in_channels`, {in_channels}; got {groups}")
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        for name, sizes in (("in_channels", shape[1:2]), ("out_channels", shape[:1]), ("kernel_size", shape)):
            check.storable(sizes, name, sizes)
        self.weight = Parameter(torch.empty(shape), requires_grad=False)
        self.reset_weight(weight_mean, weight_std)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("in_channels", "out_channels") and vars(self).get(name, value) != value:
            raise _fixed(name, vars(self)[name], value)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Layers that 0.1 pickled hold the settings a second time.
        kept = {key: value for key, value in state.items() if key not in _SETTINGS}
        super().__setstate__(kept)  # type: ignore[no-untyped-call]

    def reset_weight(self, weight_mean: float = 0.8, weight_std: float = 0.02) -> None:
        """Draw new weights from a normal distribution."""
        mean, std = check.number(weight_mean, "weight_mean"), check.number(weight_std, "weight_std")
        if std < 0:
            raise check.fail("weight_std", "at least 0", weight_std)
        for name, value in (("weight_mean", mean), ("weight_std", std)):
            check.representable(value, name, self.weight.dtype)
        stored_weight(self, "weight").normal_(mean, std)

    def load_weight(self, target: Tensor) -> None:
        """Copy weights from a tensor of the same shape, on any device and of any type.

        Raises:
            ValueError: another shape, or NaN or infinite values.
        """
        check.same_shape(check.tensor(target, "target"), "target", self.weight, "weight")
        check.finite(target, "target")
        stored_weight(self, "weight").copy_(target.detach())

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the output for an input of that size."""
        size = check.integer(height, "height", 1), check.integer(width, "width", 1)
        try:
            return self.geometry.output_size(*size)
        except ValueError as error:
            raise ValueError(f"`height` and `width` are too small: {error}") from None

    def forward(self, input: Tensor) -> Tensor:
        weight, shape = self.weight, self.geometry
        if weight.shape[2:] != shape.kernel_size:  # another one was put in its place
            return sf.convolution(input, weight, **shape.options())
        check_fits(check.spikes(input, "input"), "input", weight, shape)
        return sf._convolve(input, weight, shape)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        if (
            "threshold" not in self._buffers and "threshold" not in self._parameters
        ):  # a SpikingConvolution's is dropped
            state_dict = {key: value for key, value in state_dict.items() if key != f"{prefix}threshold"}
        super()._load_from_state_dict(state_dict, prefix, *others)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={_short(self.kernel_size)}"
        return text + _options(self, stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)


#: the layer that is called for its potentials too, and where it leaves its answer
_asked: ContextVar[tuple["SpikingConvolution | None", list[Tensor]]] = ContextVar(
    "spyketorch_asked", default=(None, [])
)


class SpikingConvolution(Convolution):
    """A layer of neurons on first-spike times, which integrate and fire: convolution and firing in one.

    Used the same way in training and in inference, and interchangeable with :class:`Convolution` followed by
    :func:`spyketorch.functional.fire`: one loads the ``state_dict`` of the other. Neurons are latched, so weights may
    be negative.

    Code of your own is heard everywhere: a subclass's :meth:`respond`, and hooks and a ``forward`` that silence neurons
    (time T) or look on. It runs outside of the compiled loops.

    A ``state_dict`` holds weights and thresholds; :meth:`spyketorch.models.Network.save` also keeps the other settings,
    T, stride and padding among them, and refuses a network that is built otherwise.

    Args:
        in_channels, out_channels, kernel_size: as for :class:`Convolution`.
        threshold: in units of the potential, a number, or one per feature as a list, array or tensor; None means that
            only the last time step counts, where every positive potential fires.
        weight_mean, weight_std, stride, padding, dilation, groups: as for :class:`Convolution`.
        time_steps: T, how many there are.
        neuron: how a potential follows from what a neuron has heard: one of :mod:`spyketorch.neurons`, or of one's own.

    Shape:
        First-spike times ``(in_channels, H, W)`` or ``(N, in_channels, H, W)`` to ``(..., out_channels, H', W')``.

    Attributes:
        threshold: None, or a tensor ``()`` or ``(out_channels,)`` of the layer's own, of the weight's type. What is
            assigned is checked and copied, in any form that the argument has; ``threshold.fill_(4)`` acts as well. The
            ``state_dict`` holds it, empty for None. One without it, such as that of a :class:`Convolution`, leaves the
            layer's own; a number does not load where None is, nor None where a number is.

    Raises:
        ValueError, TypeError: a threshold that is no number, of another size, or not finite in the type of the weight.

    Example:
        >>> layer = SpikingConvolution(6, 30, 5, threshold=15, time_steps=15)
        >>> layer(torch.zeros(6, 28, 28, dtype=torch.uint8)).shape
        torch.Size([30, 24, 24])
        >>> layer.threshold = [10] * 15 + [20] * 15
    """

    threshold: Tensor | None
    neuron: neurons.Neuron

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        threshold: float | Sequence[float] | np.ndarray | Tensor | None = None,
        weight_mean: float = 0.8,
        weight_std: float = 0.02,
        *,
        time_steps: int,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        neuron: neurons.Neuron = neurons._INTEGRATE_AND_FIRE,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            weight_mean,
            weight_std,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )
        self.time_steps, self.neuron = time_steps, neuron
        self.register_buffer("threshold", None)
        self.threshold = threshold  # type: ignore[assignment]  # __setattr__ takes what the argument may be

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "threshold" and value is not None:
            value = check.per_feature(value, name, self.out_channels, self.weight)
        elif name == "time_steps":
            value = check.steps(value)
        elif name == "neuron":
            value = neurons._checked(value)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "neuron": state.get("neuron", neurons._INTEGRATE_AND_FIRE)})  # 0.1 had no others

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.threshold is None:
            destination[f"{prefix}threshold"] = self.weight.detach().new_empty(0)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        key, (_, _, missing, _, errors) = f"{prefix}threshold", others
        rest = {name: value for name, value in state_dict.items() if name != key}
        super()._load_from_state_dict(rest, prefix, *others)
        if key in missing:
            missing.remove(key)
        try:
            if key in state_dict:
                self._load_threshold(state_dict[key])
        except (ValueError, TypeError) as error:
            errors.append(f"{key}: {error}")

    def _load_threshold(self, saved: Any) -> None:
        counts = "only the last time step counts (`threshold` is None)"
        saves_none = isinstance(saved, Tensor) and saved.shape == (0,)
        if saves_none and self.threshold is not None:
            raise ValueError(f"{counts} where it was saved, but this layer has a threshold, {_values(self.threshold)}")
        if not saves_none and self.threshold is None:
            raise ValueError(f"the saved layer has a threshold, {check.describe(saved)}, but here {counts}")
        if not saves_none:
            self.threshold = saved

    def limit(self) -> Tensor | None:
        """The threshold of each feature, ``(out_channels,)``, or None."""
        return None if self.threshold is None else self.threshold.to(self.weight).expand(self.out_channels)

    def _own(self) -> list[str]:
        """What a subclass, or this object, has in place of the methods of an answer, and hooks."""
        base = SpikingConvolution
        own = [
            name
            for name in ("respond", "limit", "forward")
            if name in vars(self) or getattr(type(self), name) is not getattr(base, name)
        ]
        return own + (["hooks"] if self._forward_hooks or self._forward_pre_hooks else [])

    def _heard(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`respond`, as it is heard where the layer is called: behind its hooks and a ``forward`` of its own.

        They may silence neurons, but a potential belongs to the time that :meth:`respond` gave.
        """
        if {"forward", "hooks"}.isdisjoint(self._own()):
            return self.respond(times)
        kept: list[Tensor] = []
        token = _asked.set((self, kept))
        try:
            heard: Tensor = self(times)
        finally:
            _asked.reset(token)
        fired, potentials = kept or (torch.empty(0), torch.empty(0))
        alike = isinstance(heard, Tensor) and heard.shape == fired.shape and not heard.is_floating_point()
        silent = heard == self.time_steps
        if not alike or (check.looks_at(heard) and not bool(((heard == fired) | silent).all())):
            raise TypeError(
                "a `forward`, or a hook, of your own may silence neurons of a layer (time T), but where others fire is "
                f"said by `respond`, which belongs to the potentials: override that; got {check.describe(heard)} "
                f"of {type(self).__name__}"
            )
        return heard, torch.where(silent, 0, potentials)

    def respond(self, times: Tensor, *, potentials: bool = True) -> tuple[Tensor, Tensor]:
        """(first-spike times, potentials there), as :func:`spyketorch.latency.convolution_fire`."""
        layer = self._checked(times)
        return latency._answer(times, layer, self.neuron, check.flag(potentials, "potentials"))

    def _checked(self, times: Tensor) -> Spiking:
        """The layer as it hears these times."""
        if self.threshold is not None:
            check.finite_if_looked_at(self.threshold, "threshold")  # that may have been written to
        weight, shape = check.weight(current_weight(self), "weight"), self.geometry
        if weight.shape[2:] != shape.kernel_size or len(weight) != self.out_channels:  # another one is in its place
            other = latency._layer(times, weight, None, self.time_steps, *shape.options().values())
            return other._replace(limit=self.limit())
        check_fits(check.times(times, "times"), "times", weight, shape)
        return Spiking(weight, self.limit(), latency._steps(self.time_steps, times), shape)

    def winners(
        self, times: Tensor, kwta: int = 1, inhibition_radius: int = 0, *, pointwise_inhibition: bool = False
    ) -> Tensor:
        """Winners (feature, row, column), faster than from potentials: :func:`spyketorch.latency.convolution_winners`.

        Example:
            >>> layer = SpikingConvolution(2, 10, 3, time_steps=15)
            >>> layer.winners(torch.zeros(8, 2, 3, 3, dtype=torch.uint8)).shape
            torch.Size([8, 1, 3])
        """
        chosen = (kwta, inhibition_radius, check.flag(pointwise_inhibition, "pointwise_inhibition"))
        own = self._own()
        if own:
            serving.say_slow(serving.SLOW_SEARCH, self.weight, f"the layer has its own {', '.join(own)}")
            return latency._winners_of(*self._heard(times), self.time_steps, chosen)
        return latency._winners(times, self._checked(times), self.neuron, chosen)

    def forward(self, times: Tensor) -> Tensor:
        layer, kept = (None, []) if torch.compiler.is_compiling() else _asked.get()
        if layer is not self:
            return self.respond(times, potentials=False)[0]
        kept[:] = self.respond(times)
        return kept[0]

    def extra_repr(self) -> str:
        text = f"{super().extra_repr()}, threshold={_values(self.threshold)}, time_steps={self.time_steps}"
        return text + ("" if neurons._stands_still(self.neuron) else f", neuron={self.neuron}")


class Pooling(nn.Module):
    """Max pooling of every frame: the first spike of a window passes on.

    Args:
        kernel_size, stride, padding: as in :func:`spyketorch.functional.pooling`; the stride defaults to the kernel.

    Example:
        >>> Pooling(2)(torch.ones(15, 30, 28, 28)).shape
        torch.Size([15, 30, 14, 14])
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        window = geometry(kernel_size, kernel_size if stride is None else stride, padding)
        self.kernel_size, self.stride, self.padding = window.kernel_size, window.stride, window.padding

    def forward(self, input: Tensor) -> Tensor:
        return sf.pooling(input, self.kernel_size, self.stride, self.padding)

    def extra_repr(self) -> str:
        return f"kernel_size={_short(self.kernel_size)}" + _options(self, stride=self.kernel_size, padding=(0, 0))


class SpikingPooling(Pooling):
    """:class:`Pooling` on first-spike times: the earliest spike of each window passes on, or the k-th earliest.

    Args:
        kernel_size, stride, padding, earliest: as in :func:`spyketorch.latency.pooling`; the stride defaults to the
            kernel.

    Shape:
        ``(C, H, W)`` or ``(N, C, H, W)``, in and out; K times as many features of K numbers ``earliest``, which the
        last stage of a network may have, for its read-out.

    Attributes:
        earliest: a number, or a tuple of several.

    Example:
        >>> SpikingPooling(2)(torch.zeros(30, 28, 28, dtype=torch.uint8)).shape
        torch.Size([30, 14, 14])
    """

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
        *,
        earliest: int | Sequence[int] = 1,
    ) -> None:
        super().__init__(kernel_size, stride, padding)
        window = geometry(self.kernel_size, self.stride)  # the least map that has one
        counts = earliest_within(earliest, window, *self.kernel_size)
        self.earliest: int | tuple[int, ...] = counts[0] if len(counts) == 1 else counts

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__({**state, "earliest": state.get("earliest", 1)})  # type: ignore[no-untyped-call]  # 0.1 had no others

    def forward(self, input: Tensor) -> Tensor:
        window = self.kernel_size, self.stride, self.padding
        return latency.pooling(check.times(input, "input"), *window, earliest=self.earliest)

    def extra_repr(self) -> str:
        return super().extra_repr() + _options(self, earliest=1)


class PyramidPooling(nn.Module):
    """Several poolings of the same first spikes, fine and coarse, told one after the other (Lazebnik et al. 2006).

    Args:
        pools: at least one :class:`SpikingPooling`, each of which hears all features.

    Attributes:
        pools: the same.

    Shape:
        First-spike times ``(C, H, W)`` or ``(N, C, H, W)`` to ``(neurons, 1, 1)`` or ``(N, neurons, 1, 1)``: what the
        first pool passes on, then the next, each in the order (feature, row, column); for the read-out of a last stage.

    Example:
        >>> pools = [SpikingPooling(7, earliest=4), SpikingPooling(14, earliest=(8, 32))]
        >>> PyramidPooling(pools)(torch.zeros(10, 28, 28, dtype=torch.uint8)).shape  # 10 x 4 x 4 + 20 x 2 x 2
        torch.Size([240, 1, 1])

    Reference:
        Beyond bags of features: spatial pyramid matching for recognizing natural scene categories, CVPR 2006.
    """

    def __init__(self, pools: Sequence[SpikingPooling]) -> None:
        super().__init__()
        known = isinstance(pools, Sequence | nn.ModuleList) and len(pools) > 0
        if not known or not all(isinstance(pool, SpikingPooling) for pool in pools):
            raise check.fail_type("pools", "a list of at least one snn.SpikingPooling", pools)
        self.pools: Sequence[SpikingPooling] = nn.ModuleList(pools)  # type: ignore[assignment]

    @property
    def earliest(self) -> tuple[int, ...]:
        """Which spikes pass on, of all pools."""
        several = (pool.earliest for pool in self.pools)
        return tuple(chain.from_iterable(one if isinstance(one, tuple) else (one,) for one in several))

    def forward(self, input: Tensor) -> Tensor:
        return torch.cat([pool(input).flatten(-3) for pool in self.pools], -1)[..., None, None]


def _options(module: nn.Module, **defaults: object) -> str:
    """What differs from the defaults, for ``extra_repr``."""
    given = {name: getattr(module, name) for name in defaults}
    return "".join(f", {name}={_short(value)}" for name, value in given.items() if value != defaults[name])


def _short(value: object) -> str:
    """A pair of equal numbers as one."""
    return str(value[0] if isinstance(value, tuple) and value[0] == value[1] else value)


def _values(threshold: Tensor | None) -> str:
    """A number, or the range of one per feature with a checksum, by which other values of the same range differ."""
    if threshold is None or not check.readable(threshold):
        return "None" if threshold is None else check.describe(threshold)
    values = threshold.detach().cpu().double()
    if values.min() == values.max():
        return _number(threshold)
    checksum = zlib.crc32(values.numpy().tobytes())
    return f"{float(values.min()):g}..{float(values.max()):g} ({len(values)} values, crc {checksum:08x})"


def _number(threshold: Tensor) -> str:
    """The shortest text that its type tells from all other numbers."""
    one = threshold.detach().cpu().flatten()[:1]
    return str((one if one.dtype == torch.float64 else one.float()).numpy()[0]).removesuffix(".0")
