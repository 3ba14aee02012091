"""How much sooner several processes are done with what they share out, each on one thread.

    python benchmarks/processes.py --data DIR [--quick] [--json PATH]

The two-layer MNIST network of Kheradpisheh et al. 2018 with its shipped weights. By turns, torchrun starts 1 and 2
processes, and 4 where there are so many cores, which do the same: encoding, the answers of both layers, mini-batches of
64 in both, three passes of the linear read-out, and the test. Milliseconds per image are told, once by the wall clock
and once in processor time of the busiest process, in which waiting for others does not count: that is what the wall
clock would show where all cores are free and nothing has to be sent. Run it on a machine that does nothing else.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import common
import torch
from torchvision.datasets import MNIST

from spyketorch import models
from spyketorch.data._source import sourced
from spyketorch.learning import STDP
from spyketorch.training import Processes, evaluate
from spyketorch.training._answers import Answers

Row = dict[str, tuple[float, float]]  # milliseconds per image by the wall clock, and of the busiest processor


def works(
    network: models.Network, images: torch.Tensor, labels: torch.Tensor, processes: Processes
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is shared out, one after the other, as each needs what the one before gave."""
    answers = Answers(network, sourced(images), None, float("inf"), False, processes=processes)
    yield "encoding", lambda: answers(0)
    for number, (kwta, radius) in enumerate([(5, 2), (8, 1)], 1):
        layer, times = network.stages[number - 1].layer, answers(number - 1)
        rule = STDP(layer, (0.004, -0.003))
        yield (
            f"mini-batches {number}",
            lambda rule=rule, times=times, k=kwta, r=radius: rule.learn(  # type: ignore[misc]
                times, k, r, minibatch=64
            ),
        )
        yield f"answers {number}", lambda number=number: answers(number)  # type: ignore[misc]
    readout, times = network.readout, answers(2)
    yield "read-out, 3 passes", lambda: readout.fit(times, labels, iterations=2)  # type: ignore[operator,union-attr]
    yield "test", lambda: evaluate(network, images, labels, processes=processes)


def measure(folder: str, count: int, processes: Processes) -> Row:
    """One round, in one process; the first work of each kind is done before for a few images."""
    digits = MNIST(folder, train=True)
    images, labels, rows = digits.data[:count, None], digits.targets[:count], Row()
    network = models.kheradpisheh2018(pretrained=True)
    with torch.no_grad(), processes.at_work():
        for _, work in works(network, images[:130], labels[:130], processes):
            work()
        network = models.kheradpisheh2018(pretrained=True)
        for name, work in works(network, images, labels, processes):
            processes.told(lambda: None)  # all begin together
            start, busy = time.perf_counter(), time.thread_time()
            work()
            spent = torch.tensor([time.perf_counter() - start, time.thread_time() - busy])
            most = processes.spread(lambda rows, spent=spent: [spent[None]], processes.count)[0].amax(0)  # type: ignore[misc]
            rows[name] = (float(most[0]) * 1e3 / count, float(most[1]) * 1e3 / count)
    return rows


def started(folder: Path, count: int, number: int) -> Row:
    """One round in so many processes, each on one thread."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(number), __file__]
    told = subprocess.run(
        [*command, str(folder), str(count)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows: Row = json.loads(told.stdout.splitlines()[-1])
    return rows


def main() -> None:
    options = common.options(__doc__)
    count, rounds = (1000, 2) if options.quick else (6000, 5)
    numbers = [number for number in (1, 2, 4) if number <= max(2, os.cpu_count() or 1)]
    found = [{number: started(options.data, count, number) for number in numbers} for _ in range(rounds)]
    print(common.about())
    for place, title in enumerate(("wall clock", "processor time")):
        table = {
            name: {str(number): [turn[number][name][place] for turn in found] for number in numbers}
            for name in found[0][1]
        }
        common.tell(f"{title}, ms", table)
        for name, times in table.items():
            gains = ", ".join(f"{common.ratio(times, '1', str(number)):.2f} with {number}" for number in numbers[1:])
            print(f"{name}: {gains}")
        if place == 0:
            common.write(options.json, common.as_json(table))


if __name__ == "__main__":
    if len(sys.argv) == 3 and "WORLD_SIZE" in os.environ:
        torch.set_num_threads(1)
        with Processes.of_torchrun() as processes:
            row = measure(sys.argv[1], int(sys.argv[2]), processes)
        if processes.first:
            print(json.dumps(row))
    else:
        main()
