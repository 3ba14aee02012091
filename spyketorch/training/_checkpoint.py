"""Checkpoints of a training: what they hold, whose they are, and what is not taken."""

import dataclasses
import json
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spyketorch import _files
from spyketorch._identity import Content, difference, digest, rule_lines, users_own
from spyketorch.models._network import Network
from spyketorch.models._stage import Stage
from spyketorch.training import _answers as answers
from spyketorch.training._lesson import FinalLesson, Lesson, with_threshold

_SHARES = ("hits", "misses", "silent")
_ROW = {"layer", "seen", *_SHARES}  # and perhaps the convergence


def identify(network: Network, lessons: Sequence[Lesson], last: FinalLesson | None, images: Tensor) -> dict[str, str]:
    """Whose a checkpoint is: what a run depends on, without what it learns, and without its data; a few images."""
    stages = network.stages
    with ExitStack() as stack:
        for lesson, stage in zip(lessons, stages, strict=False):
            if lesson.learns_threshold:
                stack.enter_context(with_threshold(stage.layer, None))
        built = answers.identity(network, len(stages))
        parts = answers.detail(network, len(stages)) + answers.sampled(network, images)
    built += [f"classes {None if network.classes is None else network.classes.tolist()}"]
    if last is not None:  # it depends on layers that have no lesson
        untaught = digest(*(stage.layer.weight for stage in stages[len(lessons) :]))
        built += [f"weights of layers without a lesson: {untaught}"]
    return {
        "lessons": "\n".join(map(_told, [*lessons, last])),
        "network": "\n".join([*built, str(network.readout)]),
        "network in detail": "\n".join(parts),
        "lessons in detail": "\n".join(lesson.identity() for lesson in lessons),
    }


def users_code(lessons: Sequence[Lesson], last: FinalLesson | None, stages: Sequence[Stage]) -> dict[str, str]:
    """What rules and lessons of the user's own are made of, which no lesson tells."""
    rules, code = [], []
    for number, (lesson, stage) in enumerate(zip(lessons, stages, strict=False), 1):
        if users_own(type(lesson).rule):
            rules += rule_lines(lesson.rule(stage), stage.layer, number)
    for number, kind in enumerate(map(type, [*lessons, last]), 1):
        if users_own(kind):
            code.append(f"lesson {number}: {kind.__qualname__} {Content()(kind)[:16]}")
    return {"rules": "\n".join(rules), "code of lessons": "\n".join(code)}


def state(rule: nn.Module, layer: nn.Module) -> dict[str, Any]:
    """The state of a rule, without the weight and the threshold of its layer, which every checkpoint holds."""
    if rule is layer:
        return {}
    places = [name for name, part in rule.named_modules(remove_duplicate=False) if part is layer]
    known = {f"{place}.{name}" for place in places for name in ("weight", "threshold")}
    return {
        name: value.detach().cpu() if isinstance(value, Tensor) else value
        for name, value in rule.state_dict().items()
        if name not in known
    }


def restore(rule: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Give a rule, as it was made, the state that was saved."""
    try:
        rule.load_state_dict({**rule.state_dict(), **state})
    except (RuntimeError, TypeError, ValueError, AttributeError, KeyError) as error:
        raise _senseless(path, error) from error


def _senseless(path: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{str(path)!r} holds no state that a training leaves ({error}): take a copy from before, if there is one, "
        "or begin anew in another directory"
    )


def read(
    path: Path,
    identity: dict[str, str],
    network: Network,
    lessons: Sequence[Lesson],
    last: FinalLesson | None,
    images: int,
) -> Any:
    """The content of a checkpoint, once it is whole, of the same run as far as that is known, and makes sense.

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
    told = _told_by(str(found.get("lessons", "")).splitlines(), [*lessons, last])
    same(path, found, {**identity, "lessons": told})
    try:
        _check(content, network, lessons, last, images)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
        raise _senseless(path, error) from error
    return content


def _told_by(there: Sequence[str], lessons: Sequence[Any]) -> str:
    """Lessons as a checkpoint tells of its own: without settings that it does not know, where they are as usual."""
    mine = list(map(_told, lessons))
    for i, (text, lesson) in enumerate(zip(there, lessons, strict=False)):
        for setting in dataclasses.fields(lesson) if dataclasses.is_dataclass(lesson) else ():
            value = getattr(lesson, setting.name)
            usual = setting.default if setting.default_factory is dataclasses.MISSING else setting.default_factory()
            if f"{setting.name}=" not in text and value == usual:
                mine[i] = mine[i].replace(f", {setting.name}={value!r}", "")
    return "\n".join(mine)


def _told(lesson: Any) -> str:
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(lesson))


def same(path: Path, found: dict[str, Any], identity: dict[str, str]) -> None:
    """Raise where a checkpoint's identity is another."""
    for name, mine in identity.items():
        there = str(found.get(name, mine))  # 0.1 said less
        if there != mine:
            way = " (where they are drawn at random, each pass gives others)" if name == "images" else ""
            raise ValueError(
                f"the checkpoint {str(path)!r} was made with other {name}{way}: "
                f"{difference(there.splitlines(), mine.splitlines())}; another directory begins anew"
            )


def _check(content: Any, network: Network, lessons: Sequence[Lesson], last: FinalLesson | None, images: int) -> None:
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
    _need((read is not None) == (last is not None), "a `readout`")
    for name, value in () if last is None else last.module(network).named_parameters():
        _numbers(read[name], f"`readout` {name}", value.dtype, value.shape)
    final = content.get("final rule")  # 0.1 kept none
    _need(final is None or (type(final) is dict and last is not None), "`final rule`")
    states = content.get("rules", [])  # 0.1 kept none
    _need(type(states) is list and len(states) in (0, len(layers)), "`rules`")
    _need(all(state is None or type(state) is dict for state in states), "`rules`")
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
