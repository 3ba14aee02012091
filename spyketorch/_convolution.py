"""What all convolutions share: where they look, and how precisely they add."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as fn
from torch import Size, Tensor, nn
from torch.nn.utils import parametrize

from spyketorch import _checks as check

WORTH_THREADS = 500_000  # additions, below which waking threads costs more than they save


class Geometry(NamedTuple):
    """The shape of a convolution, all that is needed to find a neuron's inputs."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    features_per_group: int = 1

    def options(self) -> dict[str, Any]:
        """As keyword arguments of the functions that take a weight."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    def output_size(self, height: int, width: int, name: str = "kernel_size") -> tuple[int, int]:
        """Rows and columns of the output map of an input map; an error where the kernel does not fit."""
        rows = height + 2 * self.padding[0] - (self.kernel_size[0] - 1) * self.dilation[0] - 1
        columns = width + 2 * self.padding[1] - (self.kernel_size[1] - 1) * self.dilation[1] - 1
        if rows < 0 or columns < 0:
            padded = height + 2 * self.padding[0], width + 2 * self.padding[1]
            raise ValueError(
                f"`{name}` must fit into the padded input of {padded[0]} x {padded[1]} (rows x columns); got "
                f"{self.kernel_size}, which spans {padded[0] - rows} x {padded[1] - columns}"
                f"{f' with a `dilation` of {self.dilation}' if self.dilation != (1, 1) else ''}"
            )
        return rows // self.stride[0] + 1, columns // self.stride[1] + 1

    def fewest_inputs(self, height: int, width: int) -> int:
        """How many places of the input map a window has that has the fewest: the first, most of which is padding."""
        (rows, columns), (top, left) = self.kernel_size, self.padding
        return min(rows - top, height) * min(columns - left, width)

    def receptive_field(self, winner: tuple[int, int, int], channels_per_group: int) -> tuple[slice, slice, slice]:
        """Where the inputs of one neuron lie in the zero-padded input (C, H, W)."""
        feature, row, column = winner
        channel = feature // self.features_per_group * channels_per_group
        top, left = row * self.stride[0], column * self.stride[1]
        return (
            slice(channel, channel + channels_per_group),
            slice(top, top + (self.kernel_size[0] - 1) * self.dilation[0] + 1, self.dilation[0]),
            slice(left, left + (self.kernel_size[1] - 1) * self.dilation[1] + 1, self.dilation[1]),
        )

    def receptive_fields(self, winners: Tensor, channels_per_group: int) -> tuple[Tensor, Tensor, Tensor]:
        """Index tensors (channel, row, column) of the inputs of each winner, in the zero-padded input.

        ``winners`` is (k, 3); the three broadcast to (k, channels_per_group, kernel rows, kernel columns).
        """
        winners = winners.clamp(min=0)  # rows of -1 point at a real place and are ignored by the caller

        def axis(size: int) -> Tensor:
            return torch.arange(size, device=winners.device)

        group = winners[:, 0].div(self.features_per_group, rounding_mode="floor")
        channels = group[:, None] * channels_per_group + axis(channels_per_group)
        rows = winners[:, 1, None] * self.stride[0] + axis(self.kernel_size[0]) * self.dilation[0]
        columns = winners[:, 2, None] * self.stride[1] + axis(self.kernel_size[1]) * self.dilation[1]
        return channels[:, :, None, None], rows[:, None, :, None], columns[:, None, None, :]


def geometry(
    kernel_size: object,
    stride: object = 1,
    padding: object = 0,
    dilation: object = 1,
    groups: int = 1,
    features: int = 1,
) -> Geometry:
    """A checked :class:`Geometry` from what a caller may write."""
    groups = check.integer(groups, "groups", 1)
    if features % groups:
        raise ValueError(f"`groups` must divide the number of output features, {features}; got {groups}")
    return Geometry(
        check.pair(kernel_size, "kernel_size", 1),
        check.pair(stride, "stride", 1),
        check.pair(padding, "padding", 0),
        check.pair(dilation, "dilation", 1),
        groups,
        features // groups,
    )


def layer_geometry(
    input: Tensor, name: str, weight: Tensor, stride: object, padding: object, dilation: object, groups: int
) -> Geometry:
    """The geometry of a layer of this weight, once the input (..., C, H, W) fits it."""
    check.sized(weight, "weight", (4,), "of shape (features, C / groups, rows, columns)")
    shape = geometry(tuple(weight.shape[2:]), stride, padding, dilation, groups, weight.shape[0])
    check_fits(input, name, weight, shape)
    return shape


def check_fits(input: Tensor, name: str, weight: Tensor, shape: Geometry) -> None:
    """An error where a layer of this weight cannot read the input (..., C, H, W)."""
    channels = weight.shape[1] * shape.groups
    if input.shape[-3] != channels:
        raise ValueError(
            f"`{name}` must have {channels} features (axis C), as the `weight` of shape {tuple(weight.shape)}"
            f"{f' in {shape.groups} groups' if shape.groups > 1 else ''} reads; got {check.describe(input)}"
        )
    check.same_device(input, name, weight, "weight")
    rows, columns = shape.output_size(*input.shape[-2:])
    if shape.padding != (0, 0):
        check.storable((*input.shape[:-3], weight.shape[0], rows, columns), "padding", shape.padding)


def pooling_geometry(input: Tensor, kernel_size: object, stride: object, padding: object) -> Geometry:
    """The geometry of a pooling window, once the input (..., H, W) fits it."""
    window = geometry(kernel_size, kernel_size if stride is None else stride, padding)
    window.output_size(*input.shape[-2:])
    if any(2 * p > k for p, k in zip(window.padding, window.kernel_size, strict=True)):
        raise ValueError(f"`padding` must be at most half of `kernel_size`, {window.kernel_size}; got {window.padding}")
    return window


def earliest_within(earliest: object, window: Geometry, height: int, width: int) -> tuple[int, ...]:
    """Which spikes of a window are pooled, counted from 1: such as every window of that map may have."""
    given: Any = earliest
    several = isinstance(earliest, Sequence) and not isinstance(earliest, str) and len(earliest)
    counts = tuple(check.integer(count, "earliest", 1) for count in (given if several else (given,)))
    most = 1 if max(counts) == 1 else window.fewest_inputs(height, width)
    if max(counts) > most:
        way = "" if window.padding == (0, 0) else "`latency.pad` before it adds neurons that are silent, in its place"
        accepted = f"at most {most}, as many neurons as a window has that has the fewest"
        raise check.fail("earliest", accepted, earliest, way)
    return counts


def stored_weight(layer: Any, name: str) -> Tensor:
    """The weight of a layer, to be written to; an error where it is computed anew before each use."""
    weight: Tensor = layer.weight
    if isinstance(layer, nn.Module) and layer._parameters.get("weight") is None and _computed(layer):
        raise ValueError(
            f"`{name}` must be stored in the layer to be changed; got one of {type(layer).__name__} that is computed "
            "before each use (pruned, parametrised or normalised), so that a change would be lost: make it permanent "
            "first, by what undoes it in torch.nn.utils: prune.remove, parametrize.remove_parametrizations, "
            "remove_weight_norm or remove_spectral_norm"
        )
    return weight.data


def current_weight(layer: nn.Module) -> Any:
    """The weight as it is to be used, where pruning or an older norm would compute it when the layer is called."""
    if "weight" in vars(layer):
        for hook in layer._forward_pre_hooks.values():
            if type(hook).__module__.startswith("torch.nn.utils."):
                hook(layer, ())
    return layer.weight


def learnable(layer: Any) -> Tensor:
    """The weight that a rule changes, where changes last."""
    weight = stored_weight(layer, "conv_layer.weight")
    check.precise(weight, "conv_layer.weight")
    return weight


def _computed(layer: nn.Module) -> bool:
    """Whether a weight that is no Parameter is made from others."""
    if "weight" in vars(layer):  # pruning and the older norms put it there before each call; DataParallel in replicas
        return bool(layer._forward_pre_hooks) and not vars(layer).get("_is_replica")
    return parametrize.is_parametrized(layer, "weight")


def conv2d(input: Tensor, weight: Tensor, shape: Geometry) -> Tensor:
    """torch's convolution of (N, C, H, W), as precise as the type of the weight, whatever modes are on."""
    device = input.device.type
    input, weight = _with_own_strides(input), _with_own_strides(weight)
    options = shape.stride, shape.padding, shape.dilation, shape.groups
    if device == "cpu" and not autocasts(device):  # no mode to leave, which small maps would wait for
        return fn.conv2d(input, weight, None, *options)
    with _without_autocast(device), _without_tf32(device):
        return fn.conv2d(input, weight, None, *options)


def conv2d_of_each(input: Tensor, weight: Tensor, shape: Geometry) -> Tensor:
    """The same, to the bit what each image gives by itself: in a batch torch may add in another order.

    Small images are taken on one thread where that changes no bit: waking threads costs more than they save, and
    hundreds of times more where other processes keep the cores busy.
    """
    threads, work = torch.get_num_threads(), input[0].numel() * weight.numel()
    alone = threads > 1 and work < WORTH_THREADS and check.readable(input)
    alone = alone and _same_on_one_thread(input.shape[1:], weight.shape, shape, weight.dtype, threads)
    with torch_threads(1) if alone else nullcontext():
        return torch.cat([conv2d(one, weight, shape) for one in torch.split(input, 1)])


@lru_cache
def _same_on_one_thread(image: Size, weight: Size, shape: Geometry, dtype: torch.dtype, threads: int) -> bool:
    """Whether one thread adds in the order of so many, which the sizes decide: seen in noise, which is all rounded."""
    random = torch.Generator("cpu").manual_seed(0)
    noise, kernel = (torch.rand(s, generator=random, dtype=dtype, device="cpu") for s in ((1, *image), weight))
    given = conv2d(noise, kernel, shape)
    with torch_threads(1):
        return torch.equal(conv2d(noise, kernel, shape), given)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads for torch's operations."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _with_own_strides(input: Tensor) -> Tensor:
    """The same values, with the strides of a contiguous tensor where there is one channel.

    Its strides may be those of channels_last as well, and torch's CPU convolution (2.14) then adds wrong places.
    """
    *_, channels, rows, columns = input.shape
    return input.flatten().view(input.shape) if channels == 1 and input.stride(-3) != rows * columns else input


def _without_tf32(device: str) -> AbstractContextManager[None]:
    """TF32 on CUDA has a 10-bit mantissa: a rounded potential can cross a threshold too early."""
    if device != "cuda" or torch.compiler.is_compiling():
        return nullcontext()
    cudnn = torch.backends.cudnn
    kept = {"enabled": cudnn.enabled, "benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic}
    return cudnn.flags(**kept, allow_tf32=False)


def _without_autocast(device: str) -> AbstractContextManager[None]:
    return torch.autocast(device, enabled=False) if autocasts(device) else nullcontext()


def autocasts(device: str) -> bool:
    """Whether torch.autocast is on for a device, which a meta tensor's is not."""
    return device != "meta" and torch.is_autocast_enabled(device)
