"""Checks of arguments.

Every message names the argument, what came and what is accepted. Checks of rank, size, type and device always run;
checks that have to read a tensor run where data enter the library (images, weights, rates) and, everywhere else, only
inside :func:`validation`.
"""

import math
import numbers
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter
from torch.utils.data import DataLoader, Dataset

from spyketorch._on_one_thread import extremes, total

_reading: ContextVar[bool] = ContextVar("spyketorch_validation", default=False)


@contextmanager
def validation(enabled: bool = True) -> Iterator[None]:
    """Turn on, within a ``with`` block, the checks that read the data of every spike wave and potential.

    They catch what shapes cannot: NaN or infinite potentials, spike waves that are not 0/1, and waves that are not
    cumulative (a neuron that fired must stay 1 until the last step). They cost a pass over the data, so they are off by
    default. On a GPU, where each look waits for the device, it turns on those, too, that are always made on a CPU: of
    times outside of 0..T, negative intensities, thresholds, rates and outcomes that are no numbers. Under
    ``torch.compile`` all are off.

    Example:
        >>> import torch, spyketorch
        >>> from spyketorch import snn
        >>> one_hot = torch.eye(3).reshape(3, 3, 1, 1)
        >>> with spyketorch.validation():  # doctest: +ELLIPSIS
        ...     snn.Convolution(3, 1, 1)(one_hot)
        Traceback (most recent call last):
            ...
        ValueError: `input` must be a cumulative spike wave: a neuron that fired at step t stays 1 until the last...
    """
    token = _reading.set(enabled)
    try:
        yield
    finally:
        _reading.reset(token)


def describe(value: Any) -> str:
    """What came, in a few words: of many values how they lie, not what they are."""
    kind = type(value).__name__
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} ndarray of shape {value.shape}"
    sizes, inner = [], value
    while isinstance(inner, list | tuple) and inner:
        sizes.append(len(inner))
        inner = inner[0]
    if math.prod(sizes) > 20 or (sizes and isinstance(inner, Tensor | np.ndarray)):
        return f"a {kind} of {' x '.join(map(str, sizes))}, the first {describe(inner)}"
    text = repr(value)
    if text == object.__repr__(value):
        return f"an object of {kind}"
    return f"{text if len(text) <= 80 else text[:77] + '...'} ({kind})"


def fail(name: str, accepted: str, value: Any, way: str = "") -> ValueError:
    """``way`` is the way on, as a clause."""
    return ValueError(f"`{name}` must be {accepted}; got {describe(value)}{way and f': {way}'}")


def fail_type(name: str, accepted: str, value: Any, way: str = "") -> TypeError:
    return TypeError(f"`{name}` must be {accepted}; got {describe(value)}{way and f': {way}'}")


# numbers


def integer(value: Any, name: str, minimum: int | None = None) -> int:
    """An integer; a one-element tensor will do."""
    if type(value) is int and (minimum is None or value >= minimum):
        return value
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise fail_type(name, "an integer", value)
    if minimum is not None and value < minimum:
        raise fail(name, f"an integer of at least {minimum}", value)
    return int(value)


#: values of one tensor, beyond which a size is a mistake
_STORABLE = 2**31


def storable(sizes: Sequence[int], name: str, given: Any) -> None:
    """Raise where a tensor of this shape would hold more values than any machine of today should be asked for.

    Sizes that are traced stay open.
    """
    values = math.prod(sizes)
    if isinstance(values, int) and values > _STORABLE:
        raise fail(name, f"small enough for at most {_STORABLE} values in one tensor", given)


def number(value: Any, name: str, minimum: float = -math.inf) -> float:
    """A finite real number; a one-element tensor will do."""
    if type(value) in (float, int) and max(minimum, -sys.float_info.max) <= value <= sys.float_info.max:
        return float(value)
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise fail_type(name, "a number", value)
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise fail(name, "a finite number", value)
    if converted < minimum:
        raise fail(name, f"{minimum} or more", value)
    return converted


def share(value: Any, name: str) -> float:
    """A number of at least 0 and below 1."""
    if number(value, name) < 0 or value >= 1:
        raise fail(name, "a share of at least 0 and below 1", value)
    return float(value)


def limit(value: Any, name: str) -> float:
    """A number of at least 0; infinity is none."""
    if isinstance(value, float) and value == math.inf:
        return math.inf
    return number(value, name, 0)


def flag(value: Any, name: str) -> bool:
    """True or False; those of numpy, 0 and 1 will do."""
    if not isinstance(value, (bool, np.bool_)) and not (isinstance(value, (int, np.integer)) and value in (0, 1)):
        raise fail_type(name, "True or False", value)
    return bool(value)


def representable(value: Any, name: str, dtype: torch.dtype) -> None:
    """A finite number that a type can hold."""
    if number(value, name) and dtype.is_floating_point and abs(value) > torch.finfo(dtype).max:
        raise fail(name, f"a number that {dtype} holds", value)


def callable_(value: Any, name: str) -> None:
    if not callable(value):
        raise fail_type(name, "a function or another callable", value)


def module(value: Any, name: str) -> nn.Module:
    if not isinstance(value, nn.Module):
        raise fail_type(name, "a torch.nn.Module", value)
    return value


def file(value: Any, name: str) -> Path:
    """A path where a file is, or nothing yet."""
    found = path(value, name)
    if found.is_dir():
        raise IsADirectoryError(f"`{name}` must name a file; {str(found)!r} is a folder")
    return found


def path(value: Any, name: str) -> Path:
    if not isinstance(value, str | os.PathLike) or not os.fspath(value):
        raise fail_type(name, "a path, as str or os.PathLike", value)
    try:
        found = Path(value).expanduser()
    except (TypeError, RuntimeError) as error:  # of bytes, or the home of nobody
        raise fail(name, f"a path that can be ({error})", value) from None
    if "\0" in str(found):
        raise fail(name, "a path without NUL", value)
    return found


def folder(value: Any, name: str) -> Path:
    """A path where a folder is, or nothing yet."""
    found = path(value, name)
    if found.exists() and not found.is_dir():
        raise NotADirectoryError(f"`{name}` must be a folder, or a name for a new one; {str(found)!r} is a file")
    return found


def to_pair(data: Any) -> tuple[Any, Any]:
    """One value, or a sequence of one or two, as a pair.

    Example:
        >>> to_pair(3), to_pair((3, 5))
        ((3, 3), (3, 5))
    """
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        if len(data) == 1:
            return (data[0], data[0])
        if len(data) == 2:
            return (data[0], data[1])
        raise fail("data", "one value or a sequence of one or two", data)
    return (data, data)


def pair(value: Any, name: str, minimum: int) -> tuple[int, int]:
    if isinstance(value, Sequence) and len(value) not in (1, 2):
        raise fail(name, "an integer or a pair of them", value)
    first, second = (integer(one, name, minimum) for one in to_pair(value))
    storable((max(first, second),), name, value)
    return first, second


def bounds(lower: Any, upper: Any) -> tuple[float, float]:
    """Weight bounds in order; numbers come back unchanged, so that integers stay integers."""
    ordered(number(lower, "lower_bound"), number(upper, "upper_bound"))
    return lower, upper


def ordered(lower: float, upper: float) -> None:
    if not lower < upper:
        raise ValueError(f"`lower_bound` must be below `upper_bound`; got {lower} and {upper}")


def span(value: Any, name: str) -> tuple[float, float]:
    """A pair of numbers in order, from the lowest to the highest."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise fail_type(name, "a pair (lowest, highest)", value)
    if not number(value[0], name) < number(value[1], name):
        raise fail(name, "a pair (lowest, highest) in order", value)
    return value[0], value[1]


# tensors


def tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    way = ""
    if isinstance(value, list | tuple) and any(isinstance(one, Tensor) for one in value):
        way = "`torch.stack` makes one of them"
    elif isinstance(value, list | tuple | np.ndarray):
        way = "`torch.as_tensor` makes one of it"
    elif isinstance(value, DataLoader):
        way = "`torch.cat([images for images, labels in loader])` makes one of pairs"
    elif isinstance(value, Dataset):
        way = "`torch.stack([image for image, label in dataset])` makes one, where its transform gives tensors"
    raise fail_type(name, "a torch.Tensor", value, way)


def sized(value: Any, name: str, ranks: tuple[int, ...], accepted: str) -> Tensor:
    """A dense real tensor of one of these ranks, with something in it."""
    if tensor(value, name).ndim not in ranks:
        raise fail(name, accepted, value)
    if value.is_complex() or value.layout is not torch.strided:
        raise fail_type(name, "real and dense", value)
    if not value.numel():
        raise fail(name, f"{accepted}, every size at least 1", value)
    return value  # type: ignore[no-any-return]


def image(value: Any, name: str) -> Tensor:
    return sized(value, name, (3, 4), "of shape (C, H, W) or (N, C, H, W)")


def images(value: Any, *, single: bool = False) -> Tensor:
    """What a network is given: a batch of images, or ``single`` ones too."""
    accepted = "of shape (C, H, W) or (N, C, H, W)" if single else "a batch of shape (N, C, H, W)"
    if isinstance(value, Tensor) and value.ndim in (2, 3) and value.ndim != (3 if single else 4):
        way = "`images[None]` is a batch of one image, `images[:, None]` one of grey images that have no channel"
        raise fail("images", accepted, value, "`images[None, None]` is one grey image" if value.ndim == 2 else way)
    sized(value, "images", (3, 4) if single else (4,), accepted)
    finite_if_looked_at(value, "images")
    return value  # type: ignore[no-any-return]


def regrouped(value: Tensor, wanted: int) -> str:
    """How images of another number of channels may get those that are wanted, as their shape suggests."""
    first = value.ndim - 3
    if value.shape[-1] in (1, 3, 4) and value.shape[-3] not in (1, 3, 4):
        return f"`images.permute({'2, 0, 1' if first == 0 else '0, 3, 1, 2'})` puts channels first"
    colours = "images[:3]" if first == 0 else "images[:, :3]"
    if value.shape[-3] in (3, 4) and wanted == 1:
        return f"`{colours if value.shape[-3] == 4 else 'images'}.float().mean({first}, keepdim=True)` makes them grey"
    if value.shape[-3] == 4 and wanted == 3:
        return f"`{colours}` leaves out how opaque they are"
    return ""


TIMES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
#: the largest T: float32 holds all times up to it
MOST_STEPS = 2**24


def steps(value: Any, name: str = "time_steps") -> int:
    """T, how many time steps there are."""
    if integer(value, name, 1) > MOST_STEPS:
        raise fail(name, f"at most {MOST_STEPS}", value)
    return int(value)


def times(value: Any, name: str) -> Tensor:
    checked = image(value, name)
    if checked.dtype not in TIMES:
        raise fail_type(name, "first-spike times of an integer type", value)
    return checked


def times_within(value: Tensor, name: str, time_steps: int) -> None:
    """Raise when a time lies outside of 0..T; T stands for silence."""
    if not looks_at(value):
        return
    low, high = map(int, extremes(value))
    if low < 0 or high > time_steps:
        raise ValueError(
            f"`{name}` must lie in 0..{time_steps}, the number of time steps, which stands for silence; got values "
            f"from {low} to {high}: were they made with another number of time steps?"
        )


def weight(value: Any, name: str) -> Tensor:
    """Weights of a type in which potentials are added: half types as float32."""
    checked = tensor(value, name).detach()
    if not checked.is_floating_point():
        raise fail_type(name, "a tensor of a floating type", value)
    return checked if checked.dtype in (torch.float32, torch.float64) else checked.to(torch.float32)


def indices(value: Any, name: str, count: int, device: torch.device) -> Tensor:
    """An integer tensor (count,) on the device, as int64; a list will do."""
    try:
        checked = torch.as_tensor(value, device=device)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # what torch makes no tensor of
        raise fail_type(name, f"{count} integers", value) from error
    whole = not (checked.is_floating_point() or checked.is_complex() or checked.dtype == torch.bool)
    if not whole or checked.shape != (count,) or checked.layout != torch.strided:
        way, given = "", name if isinstance(value, Tensor | np.ndarray) else f"numpy.asarray({name})"
        if checked.shape == (count, 1):
            way = f"`{given}.flatten()` has that shape"
        elif checked.ndim == 2 and len(checked) == count:
            way = f"`{given}.argmax(1)` is the place of the largest in each row, the class where rows are one-hot"
        elif checked.shape == (count,) and checked.layout == torch.strided:
            way = f"`{name}.long()` makes them whole"
            if not isinstance(value, Tensor):
                way = f"`numpy.asarray({name}).astype(int)` makes them whole"
        raise fail(name, f"{count} integers", value, way)
    return checked.to(torch.int64)


def labels(value: Any, count: int, device: torch.device) -> Tensor:
    """The class of each image, 0 or more, as :func:`indices`."""
    checked = indices(value, "labels", count, device)
    if readable(checked) and int(checked.min()) < 0:
        raise fail("labels", "classes, integers of 0 or more", int(checked.min()))
    return checked


def labels_within(labels: Tensor | None, classes: int) -> None:
    """Refuse labels beyond the classes that a read-out has."""
    if labels is not None and readable(labels) and int(labels.max()) >= classes:
        raise fail("labels", f"classes 0..{classes - 1}, as many as the read-out has", int(labels.max()))


def classes(value: Any, features: int) -> Tensor:
    """The class of each feature of a layer, ``(features,)`` int64."""
    return indices(value, "classes", features, torch.device("cpu"))


def names(value: Any, name: str) -> tuple[str, ...]:
    """Texts that differ, such as the names of classes."""
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, str) for one in value):
        raise fail_type(name, "a list of texts, or None", value)
    if len(set(value)) < len(value):
        twice = next(one for one in value if value.count(one) > 1)
        raise fail(name, f"a list of texts that differ; {twice!r} is there twice", value)
    return tuple(value)


def broadcasts(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether a shape can be expanded to another."""
    pairs = zip(reversed(shape), reversed(wanted), strict=False)
    return len(shape) <= len(wanted) and all(size in (1, full) for size, full in pairs)


def same_shape(value: Tensor, name: str, other: Tensor, other_name: str) -> None:
    if value.shape != other.shape:
        raise ValueError(f"`{name}` must have the shape of `{other_name}`, {tuple(other.shape)}; got {describe(value)}")


def same_device(value: Tensor, name: str, other: Tensor, other_name: str) -> None:
    if value.device != other.device:
        raise ValueError(
            f"`{name}` must be on the device of `{other_name}`, {other.device}; got a tensor on {value.device}: "
            f"move one of them with .to()"
        )


def floating(value: Tensor, name: str) -> Tensor:
    """Float32 and float64 tensors as they are, all others as float32; half types overflow and lose differences."""
    if value.is_complex():
        raise fail_type(name, "a real tensor", value)
    return value if value.dtype in (torch.float32, torch.float64) else value.to(torch.float32)


def precise(weight: Tensor, name: str) -> None:
    """Refuse half types, where a weight is to learn."""
    if weight.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"`{name}` must be float32 or float64 to learn; got {weight.dtype}, in which updates are rounded away: "
            "call `.float()` before its rule or Trainer is made, and convert what was learned"
        )


_WITHOUT_FLOAT64 = ("mps",)


def widest(device: torch.device) -> torch.dtype:
    """The type with most digits: float64, which Apple's GPUs do not have."""
    return torch.float32 if device.type in _WITHOUT_FLOAT64 else torch.float64


def wide(value: Tensor) -> Tensor:
    """In the type with most digits, where it is."""
    return value.to(widest(value.device))


def writable(value: Tensor, name: str) -> Tensor:
    """What can be changed in place."""
    if value.requires_grad and value.is_leaf and torch.is_grad_enabled():
        raise ValueError(
            f"`{name}` must not be a leaf that asks for a gradient, to be changed in place: use the function "
            "without _ at its end"
        )
    if any(step == 0 and size > 1 for size, step in zip(value.shape, value.stride(), strict=True)):
        raise ValueError(
            f"`{name}` must have a place for each value, to be changed in place; got an expanded tensor: "
            "use its .clone()"
        )
    return value


def threshold(value: Any, features: int, device: torch.device) -> float | Tensor:
    """A number, or a tensor with one per feature."""
    if type(value) is float and math.isfinite(value):
        return value
    if not isinstance(value, Tensor) or (value.ndim == 0 and free_to_read(value)):
        return number(value, "threshold")
    if value.shape not in ((features,), ()) or value.dtype == torch.bool or value.is_complex():
        raise fail("threshold", f"a number or one per feature, ({features},)", value)
    if value.device != device:
        raise ValueError(
            f"`threshold` must be on the device of the potentials, {device}; got a tensor on {value.device}"
        )
    finite_if_looked_at(value, "threshold")
    return value


def per_feature(value: Any, name: str, features: int, like: Tensor) -> Tensor:
    """A number, or one per feature, as a new tensor, () or (features,), beside another tensor and of its type."""
    accepted = f"a number or one per feature, ({features},)"
    if not isinstance(value, Tensor):
        try:
            values = np.asarray(value)
        except (ValueError, TypeError, RuntimeError) as error:  # rows of different lengths, tensors elsewhere
            raise fail_type(name, accepted, value) from error
        if values.dtype.kind not in "iuf":
            raise fail_type(name, accepted, value)
        given = torch.as_tensor(values.astype(np.float64), device="cpu")
    elif value.dtype == torch.bool or value.is_complex():
        raise fail_type(name, accepted, value)
    else:
        given = value
    if given.shape not in ((), (features,)):
        raise fail(name, accepted, value)
    own = given.detach().to(like.device, like.dtype, copy=True)
    finite(own, name)
    return own


# checks that read data


def readable(value: Tensor) -> bool:
    """Fake, meta and traced tensors hold nothing to read."""
    return type(value) in (Tensor, Parameter) and not value.is_meta and not torch.compiler.is_compiling()


def free_to_read(value: Tensor) -> bool:
    """Reading waits for no device."""
    return value.is_cpu and readable(value)


def looks_at(value: Tensor) -> bool:
    """Whether a check reads a value: for nothing on a CPU, and elsewhere where :func:`validation` asks for it."""
    return free_to_read(value) or (readable(value) and _reading.get())


def finite(value: Tensor, name: str) -> None:
    """Raise when a value is NaN or infinite."""
    if not value.is_floating_point() or not readable(value) or math.isfinite(total(value)):
        return  # a sum is finite where all values are, and thirty times as quick
    if not bool(torch.isfinite(value).all()):
        raise fail(name, "finite everywhere (it holds NaN or infinite values)", value)


def finite_if_looked_at(value: Tensor, name: str) -> None:
    """:func:`finite`, where :func:`looks_at` says so."""
    if looks_at(value):
        finite(value, name)


def intensities(value: Any, name: str) -> Tensor:
    """Finite intensities of a type that can be sorted and keeps them apart; times carry no gradient."""
    finite(image(value, name), name)
    value = value.detach()
    if value.is_floating_point():
        return value  # type: ignore[no-any-return]
    return value.to(torch.float32 if value.element_size() <= 2 else widest(value.device))  # type: ignore[no-any-return]


def not_negative(value: Tensor, name: str) -> None:
    """Raise when an intensity is below 0."""
    if looks_at(value) and value.dtype.is_signed and (least := extremes(value)[0]) < 0:
        raise ValueError(
            f"`{name}` must be 0 or more, as the largest fire first; got {describe(value)} down to "
            f"{least:g}: rectify them, as torch.nn.ReLU or the `thresholds=0` of a Filter do"
        )


def wave(value: Any, name: str) -> Tensor:
    return sized(value, name, (4, 5), "of shape (T, C, H, W) or (N, T, C, H, W)")


def potentials(value: Any, name: str) -> Tensor:
    checked = wave(value, name)
    if readable(checked) and _reading.get():
        finite(checked, name)
    return checked


def spikes(value: Any, name: str) -> Tensor:
    checked = wave(value, name)
    if readable(checked) and _reading.get():
        finite(checked, name)
        if not bool(((checked == 0) | (checked == 1)).all()):
            raise fail(name, "a spike wave of zeros and ones", value)
        if bool(falls(checked).any()):
            raise ValueError(
                f"`{name}` must be a cumulative spike wave: a neuron that fired at step t stays 1 until the last step, "
                f"but some entries fall from one step to the next; got {describe(value)}"
            )
    return checked


def falls(wave: Tensor) -> Tensor:
    """Where a wave is 1 and 0 one step later, ``(..., T - 1, C, H, W)``."""
    return wave.narrow(-4, 0, wave.shape[-4] - 1).bool() & ~wave.narrow(-4, 1, wave.shape[-4] - 1).bool()


#: what a rule learns from: every decision, mistakes until the guess is right, mistakes and the right answer
CORRECTIONS = {None: 0, "guess": 1, "teach": 2}


def correction(value: str | None) -> str | None:
    if not isinstance(value, str | None) or value not in CORRECTIONS:
        raise fail("correction", 'None, "guess" or "teach"', value)
    return value
