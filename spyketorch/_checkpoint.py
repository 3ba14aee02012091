"""Checkpoints of a training: what they hold, whose they are, and what is not taken."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spyketorch import _files
from spyketorch._identity import difference
from spyketorch._lessons import Lesson
from spyketorch.models import Network
from spyketorch.readout import LinearReadout

_SHARES = ("hits", "misses", "silent")
_ROW = {"layer", "seen", *_SHARES}  # and perhaps the convergence


def read(path: Path, identity: dict[str, str], network: Network, lessons: Sequence[Lesson], images: int) -> Any:
    """The content of a checkpoint, once it is whole, of the same run, and makes sense.

    Raises:
        ValueError: it is damaged, of another run, or holds what no run leaves; the network is as it was.
    """
    try:
        content = _files.load(path)
        found = dict(content["identity"])
    except _files.DamagedFile as error:
        raise ValueError(f"not a checkpoint of a Trainer: {error}; another directory begins anew") from error
    except (TypeError, KeyError, ValueError, IndexError) as error:
        raise ValueError(f"{str(path)!r} is not a checkpoint of a Trainer; another directory begins anew") from error
    for name, mine in identity.items():
        there = str(found.get(name, mine))  # 0.1 said less
        if there != mine:
            raise ValueError(
                f"the checkpoint {str(path)!r} was made with other {name}: "
                f"{difference(there.splitlines(), mine.splitlines())}; another directory begins anew"
            )
    try:
        _check(content, network, lessons, images)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{str(path)!r} holds no state that a training leaves ({error}): take a copy from before, if there is one, "
            "or begin anew in another directory"
        ) from error
    return content


def _check(content: Any, network: Network, lessons: Sequence[Lesson], images: int) -> None:
    stage, seen, layers = content["stage"], content["seen"], [stage.layer for stage in network.stages]
    read = content["readout"]
    _need(type(stage) is int and 0 <= stage <= len(lessons) + (read is not None), f"`stage` {stage!r}")
    lesson = lessons[stage] if stage < len(lessons) else None
    most, period = (0, 1) if lesson is None else (lesson.epochs * images, lesson.period)
    _need(type(seen) is int and 0 <= seen <= most and seen % images % period == 0, f"`seen` {seen!r}")
    shares = content["shares"]
    rounded = [round(share, 6) for share in shares]
    _need(len(rounded) == 3 and all(0 <= share <= 1 for share in rounded), f"`shares` {shares!r}")
    for name in ("wins", "weights", "thresholds"):
        _need(type(content[name]) is list and len(content[name]) == len(layers), f"`{name}` of other layers")
    for layer, wins, weight, threshold in zip(
        layers, content["wins"], content["weights"], content["thresholds"], strict=True
    ):
        _need(wins.dtype == torch.int64 and wins.shape == (layer.out_channels,) and int(wins.min()) >= 0, "`wins`")
        _numbers(weight, "`weights`", layer.weight.dtype, layer.weight.shape)
        _need((threshold is None) == (layer.threshold is None), "`thresholds`")
        if threshold is not None:
            _numbers(threshold, "`thresholds`", threshold.dtype, (), (1,), (layer.out_channels,))
    _need((read is not None) <= isinstance(network.readout, LinearReadout), "a `readout`")
    for name, value in network.readout.named_parameters() if read is not None and network.readout is not None else ():
        _numbers(read[name], f"`readout` {name}", value.dtype, value.shape)
    _need(type(content["history"]) is str, "`history`")
    for row in json.loads(content["history"]):
        known = type(row) is dict and row.keys() >= _ROW
        _need(
            known and all(type(value) in (int, float) and math.isfinite(value) for value in row.values()), "`history`"
        )
    told = json.loads(content.get("warnings", "[]"))  # 0.1 kept none
    _need(type(told) is list and len(told) in (0, len(layers)), "`warnings`")
    _need(all(type(texts) is list and all(type(text) is str for text in texts) for texts in told), "`warnings`")


def _need(truth: bool, what: str) -> None:
    if not truth:
        raise ValueError(f"{what} cannot be")


def _numbers(value: Tensor, what: str, dtype: torch.dtype, *shapes: Sequence[int]) -> None:
    _need(value.dtype == dtype and dtype.is_floating_point, f"{what} of type {value.dtype}")
    _need(tuple(value.shape) in map(tuple, shapes), f"{what} of shape {tuple(value.shape)}")
    _need(bool(torch.isfinite(value).all()), f"{what}, NaN or infinite,")
