"""Cells: one rule on one data set, with one seed, from so many images; each is filled once."""

import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from field.cost import cost
from field.data import SETS, Data
from field.rules import RULES, drawn
from spyketorch.training import Moment, Trainer, TrainingWarning, evaluate

#: from how many images besides all
SIZES = (100, 500, 1000, 5000, 10_000)
SEEDS = (0, 1, 2)


class Cell(NamedTuple):
    """One run; ``size`` is the number of images that are learned, None for all."""

    rule: str
    set: str
    seed: int
    size: int | None = None

    def __str__(self) -> str:
        return f"{self.rule}/{self.set}/{self.seed}/{self.size or 'all'}"


class Result(NamedTuple):
    """What came of a cell.

    Attributes:
        accuracy, silent: shares of the test images, decided right, and not decided.
        deciding, spikes, additions: see :class:`field.cost.Cost`.
        seconds: of a processor, for learning and the test, from images that are read.
        images: that were learned.
        warnings: that the training gave.
    """

    accuracy: float
    silent: float
    deciding: int
    spikes: float
    additions: float
    seconds: float
    images: int
    warnings: list[str]


def wanted(rules: Iterable[str], sets: Iterable[str], seeds: Iterable[int], sizes: Iterable[int | None]) -> list[Cell]:
    """The cells in their order: all images before the curves, seed 0 before the others, cheap sets before dear ones."""
    cells = [Cell(rule, name, seed, size) for rule in rules for name in sets for seed in seeds for size in sizes]
    cells = [cell for cell in cells if cell.size is None or cell.size < SETS[cell.set].learned]
    sets_, rules_ = [*SETS], [*RULES]

    def order(cell: Cell) -> tuple[bool, int, int, int, int]:
        return cell.size is not None, cell.seed, sets_.index(cell.set), cell.size or 0, rules_.index(cell.rule)

    return sorted(cells, key=order)


class Table:
    """The file of all results. It is read before it is written, and written whole or not at all.

    Args:
        path: of the file; there may be none yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"cells": {}, "failed": {}}
        found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        return found

    def filled(self) -> dict[str, dict[str, Any]]:
        """What is known of the cells, by their names."""
        cells: dict[str, dict[str, Any]] = self.read()["cells"]
        return cells

    def fill(self, cell: Cell, result: Result, about: Mapping[str, Any]) -> None:
        """Keep a result, and with what it was made."""
        content = self.read()
        content["cells"][str(cell)] = {**result._asdict(), "about": dict(about)}
        content["failed"].pop(str(cell), None)
        self._write(content)

    def fail(self, cell: Cell, reason: str) -> None:
        """Keep why a cell could not be filled; the next run tries again."""
        content = self.read()
        content["failed"][str(cell)] = reason
        self._write(content)

    def _write(self, content: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part.replace(self.path)


class Stopwatch:
    """Seconds of the processor, also those of earlier runs of the same cell that were stopped.

    Args:
        path: where they are kept from period to period.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.process_time()
        self.before = float(path.read_text(encoding="utf-8")) if path.exists() else 0.0

    @property
    def seconds(self) -> float:
        return self.before + time.process_time() - self.start

    def __call__(self, moment: Moment) -> None:
        """After each period of a training."""
        self.path.write_text(str(self.seconds), encoding="utf-8")


def run(cell: Cell, data: Data, folder: Path) -> Result:
    """Learn and test; in the folder lies what a run that is stopped goes on from."""
    folder.mkdir(parents=True, exist_ok=True)
    watch = Stopwatch(folder / "seconds")
    rule = RULES[cell.rule]
    seen = rule.see(data.first(cell.size, cell.seed))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", TrainingWarning)
        network, lessons = drawn(rule, seen, cell.seed)
        trainer = Trainer(
            network,
            lessons,
            folder,
            seed=cell.seed,
            resume=True,
            progress=False,
            on_silence="warn",
            watch=watch,
        )
        trainer.fit(*seen.learned)
    found = evaluate(network, *seen.tested, progress=False)
    seconds = watch.seconds
    some = seen.tested.images[:: max(1, len(seen.tested.labels) // 500)]
    texts = [str(one.message) for one in told if issubclass(one.category, TrainingWarning)]
    return Result(
        found.accuracy,
        found.silent,
        *cost(network, some),
        round(seconds, 1),
        len(seen.learned.labels),
        texts,
    )


class Work(NamedTuple):
    """What a process needs to fill cells: where the data lie, and the folder of what is under way."""

    data: Path
    folder: Path

    def __call__(self, cell: Cell) -> Result:
        torch.set_num_threads(1)  # each process has one core
        folder = self.folder / str(cell).replace("/", "-")
        result = run(cell, _loaded(self.data, cell.set, cell.seed), folder)
        shutil.rmtree(folder)
        return result


_kept: dict[tuple[Path, str, int], Data] = {}  # the data of the last cell, as the next one often has the same


def _loaded(root: Path, name: str, seed: int) -> Data:
    key = root, name, seed
    if key not in _kept:
        _kept.clear()
        _kept[key] = SETS[name].load(root, seed)
    return _kept[key]


def fill(
    table: Table,
    cells: Iterable[Cell],
    outcomes: Callable[[list[Cell]], Iterator[tuple[Cell, Result | Exception]]],
    about: Mapping[str, Any],
) -> None:
    """Fill the cells that are not filled yet, and say so; what fails does not keep the others from it."""
    filled = table.filled()
    for cell, outcome in outcomes([cell for cell in cells if str(cell) not in filled]):
        if isinstance(outcome, Exception):
            table.fail(cell, f"{type(outcome).__name__}: {outcome}")
            print(f"{cell}: failed, {outcome}", flush=True)
        else:
            table.fill(cell, outcome, about)
            print(f"{cell}: {outcome.accuracy:.1%}, {outcome.seconds:.0f} s", flush=True)
