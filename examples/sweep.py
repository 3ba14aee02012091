"""A sweep: every threshold with every seed, on several processes, on real handwritten digits; nothing to download.

    python examples/sweep.py --processes 4          # some two minutes of one core, shared out
    python examples/sweep.py --thresholds 8 12      # some of them
    python examples/sweep.py --quick                # to see that it runs

Each run is a line of outputs/sweep.csv as soon as it has finished. Runs that are there are not made again, so a sweep
that was stopped goes on, and one with more thresholds or seeds adds to it. At the end: mean and range over the seeds of
each threshold, on held-out digits by other writers.
"""

import argparse
import csv
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import common
import digits
import torch

from spyketorch.training import Trainer, evaluate


class Setting(NamedTuple):
    """What one run tries; a line of the file begins with it."""

    threshold: float
    seed: int
    epochs: int


def run(setting: Setting) -> float:
    """Accuracy on held-out digits. It runs in a process of its own, and depends on the setting alone."""
    torch.set_num_threads(1)  # each process has one core: several threads in each would wait for one another
    torch.manual_seed(setting.seed)
    network = digits.build()
    network.stages[0].layer.threshold = torch.tensor(setting.threshold)
    images, labels, held_out, held_out_labels = digits.load()
    trainer = Trainer(network, digits.lessons(setting.epochs), seed=setting.seed, progress=False, on_silence="warn")
    trainer.fit(images, labels)
    return evaluate(network, held_out, held_out_labels).accuracy


def finished(path: Path) -> dict[Setting, float]:
    """The runs of earlier sweeps."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    return {Setting(float(threshold), int(seed), int(epochs)): float(found) for threshold, seed, epochs, found in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--thresholds", type=float, nargs="+", default=[4, 8, 12, 16, 20], help="of layer 1")
    parser.add_argument("--seeds", type=common.at_least(1), default=3, help="how many (default 3)")
    parser.add_argument("--epochs", type=common.at_least(1), default=10, help="of layer 2 (default 10)")
    parser.add_argument("--processes", type=common.at_least(1), default=2)
    parser.add_argument("--quick", action="store_true", help="one epoch, one seed, to see that it runs")
    parser.add_argument("--out", type=common.folder, default=Path("outputs"), help="folder for sweep.csv")
    options = parser.parse_args()

    epochs, seeds = (1, 1) if options.quick else (options.epochs, options.seeds)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "sweep.csv"
    found = finished(path)
    wanted = [Setting(threshold, seed, epochs) for threshold in options.thresholds for seed in range(seeds)]
    processes = multiprocessing.get_context("spawn")  # a fork would inherit threads that are not there
    with (
        path.open("a", newline="", encoding="utf-8") as file,
        ProcessPoolExecutor(options.processes, processes) as pool,
    ):
        if file.tell() == 0:
            print("threshold,seed,epochs,accuracy", file=file, flush=True)
        runs = {pool.submit(run, setting): setting for setting in wanted if setting not in found}
        for done in as_completed(runs):
            setting = runs[done]
            found[setting] = done.result()
            print(*setting, found[setting], sep=",", file=file, flush=True)
            print(f"threshold {setting.threshold:g}, seed {setting.seed}: {found[setting]:.1%}", flush=True)
    for threshold in options.thresholds:
        of_seeds = [found[Setting(threshold, seed, epochs)] for seed in range(seeds)]
        text = f"threshold {threshold:g}: mean {statistics.mean(of_seeds):.1%}"
        print(f"{text} ({min(of_seeds):.1%} to {max(of_seeds):.1%}) of {seeds} seeds")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("\nStopped. The same command goes on with what is missing.")
