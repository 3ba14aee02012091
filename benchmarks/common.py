"""What the benchmarks share: works that take turns in one run, medians with quartiles, and where they were measured.

Each round times every work once, so that a machine whose speed drifts treats all alike; ratios are taken round by
round.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

import spyketorch


class Work(NamedTuple):
    """Something to time: a call, and how many images it handles; ``threads`` where torch should use another number."""

    call: Callable[[], object]
    images: int
    threads: int | None = None


class Figure(NamedTuple):
    """Milliseconds per image: the median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.low:.3f}-{self.high:.3f})"


Times = dict[str, list[float]]


Clock = Callable[[], float]


def once(work: Work, clock: Clock = time.perf_counter) -> float:
    """Milliseconds per image of one call."""
    threads = torch.get_num_threads()
    torch.set_num_threads(work.threads or threads)
    try:
        start = clock()
        work.call()
        return (clock() - start) * 1e3 / work.images
    finally:
        torch.set_num_threads(threads)


def by_turns(works: Mapping[str, Work], rounds: int, clock: Clock = time.perf_counter) -> Times:
    """Milliseconds per image of each work in each round, after one round that does not count."""
    rows = [{name: once(work, clock) for name, work in works.items()} for _ in range(rounds + 1)][1:]
    return {name: [row[name] for row in rows] for name in works}


def figure(times: list[float]) -> Figure:
    low, median, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
    return Figure(median, low, high)


def ratio(times: Times, slow: str, fast: str) -> float:
    """How many times as long ``slow`` takes: the median over the rounds."""
    return statistics.median(a / b for a, b in zip(times[slow], times[fast], strict=True))


def options(description: str | None) -> argparse.Namespace:
    """What the command line says: where the data are, how much to measure, where to write."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="where torchvision finds MNIST")
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    return parser.parse_args()


def about() -> dict[str, Any]:
    """Where and with what this run is made."""
    packages = ("torch", "numpy", "numba", "torchvision", "spyker")
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **found,
        "spyketorch": spyketorch.__version__,
        "commit": _commit(),
    }


def _processor() -> str:
    name, told = platform.processor() or platform.machine(), Path("/proc/cpuinfo")
    for line in told.read_text(encoding="utf-8").splitlines() if told.exists() else []:
        if line.startswith("model name"):
            name = line.split(":")[1].strip()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def _commit() -> str:
    """The commit of this checkout, with a + where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def tell(title: str, table: Mapping[str, Times]) -> None:
    """Print medians and quartiles, a row per phase and a column per work."""
    columns = list(dict.fromkeys(name for times in table.values() for name in times))
    widths = [max(len(name), 22) for name in columns]
    print(f"{title:<22}" + "".join(f"{name:>{width + 2}}" for name, width in zip(columns, widths, strict=True)))
    for phase, times in table.items():
        cells = [str(figure(times[name])) if name in times else "-" for name in columns]
        print(f"{phase:<22}" + "".join(f"{cell:>{width + 2}}" for cell, width in zip(cells, widths, strict=True)))


def as_json(table: Mapping[str, Times]) -> dict[str, dict[str, dict[str, float]]]:
    """Medians and quartiles as they are written to a file."""
    return {phase: {name: figure(t)._asdict() for name, t in times.items()} for phase, times in table.items()}


def write(path: Path | None, figures: Mapping[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps({"about": about(), "ms per image": figures}, indent=1), encoding="utf-8")
