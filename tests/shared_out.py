"""What one process or several do together, in the tests of :mod:`test_processes`; as a script, one of the processes."""

import os
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from spyketorch import _common_memory, snn
from spyketorch.encoding import DoGKernel, Filter, LatencyEncoder
from spyketorch.learning import STDP, TargetTime
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.training import Constant, Lesson, Processes, Readout, Reinforced, Trainer, Unsupervised, evaluate

T = 6


def bars(count, seed=0):
    """Images of one bar, upright or level, with noise; label 0 or 1."""
    random = torch.Generator().manual_seed(seed)
    images = 30 * torch.rand(count, 1, 12, 12, generator=random)
    labels = torch.randint(0, 2, (count,), generator=random)
    place = torch.randint(3, 8, (count,), generator=random)
    for image, label, at in zip(images, labels, place, strict=True):
        (image[0, at : at + 2] if label else image[0, :, at : at + 2]).add_(200)
    return images, labels


class Halving(STDP):
    """A rule of one's own, whose updates run in torch."""

    def change(self, synapses):
        return super().change(synapses) / 2


class OnWaves(STDP):
    """A rule of one's own that learns from waves."""

    def forward(self, input_spikes, potentials, output_spikes, winners=None, *args, **options):
        return super().forward(input_spikes, potentials, output_spikes, winners, *args, **options)


@dataclass(frozen=True)
class WithThreads(Lesson):
    """A lesson of one's own, which knows nothing of processes, with chance in it."""

    period: int = 20

    def rule(self, stage):
        return STDP(stage.layer, (0.05, -0.04))

    def learn(self, rule, period):
        from spyketorch.training import Learned

        kept = torch.rand(len(period.times), 1, 1, 1) < 0.9
        times = torch.where(kept, period.times, T)
        return Learned(rule.learn(times, kwta=2, minibatch=8))


STDP_ = Unsupervised(kwta=2, inhibition_radius=2, rates=(0.05, -0.04), schedule=Constant(), period=20, minibatch=8)
FIRST = {
    "features": STDP_,
    "online": replace(STDP_, minibatch=1),
    "thresholds": replace(STDP_, thresholds=TargetTime(0.5)),
    "patches": replace(STDP_, patches=True),
    "of torch": replace(STDP_, plasticity=Halving),
    "on waves": replace(STDP_, plasticity=OnWaves, period=10),
    "of one's own": WithThreads(),
}
RSTDP_ = Reinforced(reward=(0.02, -0.015), punishment=(-0.02, 0.015), period=20, dropout=0.3, minibatch=7)
SECOND = {"guess": replace(RSTDP_, correction="guess"), "published": RSTDP_, "read-out": None}


def network(second):
    encoder = LatencyEncoder(Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)], 1, thresholds=10), T)
    one = snn.SpikingConvolution(2, 5, 3, 6.0 if second else torch.full((5,), 6.0), 0.8, 0.05, time_steps=T, padding=1)
    two = snn.SpikingConvolution(5, 8, 6, None, 0.6, 0.1, time_steps=T)
    if second:
        return Network(encoder, [Stage(one, snn.SpikingPooling(2)), Stage(two)], [0, 0, 0, 0, 1, 1, 1, 1])
    made = Network(encoder, [Stage(one, snn.SpikingPooling(2))])
    made.readout = LinearReadout((5, 6, 6), 2, time_steps=T)
    return made


def train(first, second, processes=None, directory=None, count=61, happen=None, **options):
    """All that a run leaves, by name; ``happen`` is called with the trainer before each period."""
    torch.manual_seed(3 if processes is None else 3 + processes.rank)  # the first one's network becomes that of all
    lessons = [FIRST[first], SECOND[second] or Readout(iterations=6)]
    made = network(SECOND[second])
    if lessons[0] is FIRST["thresholds"]:
        made.stages[0].layer.threshold = torch.full((5,), 6.0)
    options = {"on_silence": "warn", "progress": False, **options}
    trainer = Trainer(made, lessons, directory, processes=processes, **options)
    if happen is not None:
        period = trainer._period
        vars(trainer)["_period"] = lambda *given: (happen(trainer), period(*given))[1]
    reports = trainer.fit(*bars(count))
    images, labels = bars(23, seed=1)
    result = evaluate(made, images, labels, batch=5, processes=processes)
    return {
        **{name: value.clone() for name, value in made.state_dict().items()},
        "confusion": result.confusion,
        "history": str(trainer.history),
        "reports": str(reports),
    }


#: ways to learn that share out their work, and one that does not: of the first layer, and of what follows
WAYS = {
    "features": "guess",
    "of torch": "published",
    "online": "read-out",
    "thresholds": "read-out",
    "patches": "guess",
    "on waves": "published",
    "of one's own": "read-out",
}


def some_ways(processes=None, directory=None, count=7):
    """What the first ways leave; every other keeps its answers in files."""
    found = {}
    for number, (name, then) in enumerate([*WAYS.items()][:count]):
        into = None if directory is None else directory / name
        found[name] = train(name, then, processes, into, memory_limit=0 if number % 2 == 0 else 4e9)
    return found


def rows(processes):
    """Rows that processes make together: in memory that they have in common, and without it."""
    found: dict[str, object] = {}
    for name, new_file in (("common", _common_memory._new_file), ("none", lambda size: None)):
        _common_memory._new_file = new_file
        made = _common_memory.Rows(processes, (8, 3), torch.int16)
        found[f"{name}: is common"] = made._file is not None
        numbers = torch.arange(24, dtype=torch.int16).view(8, 3)
        for part in torch.split(numbers, [2, 5, 1]):
            made.add(len(part), lambda mine, part=part: [part[mine]])
        whole = made.whole()
        found[name] = whole.clone()
        whole += processes.rank  # nobody else hears of it
        processes.told(lambda: None)
        found[f"{name}: written to"] = whole - processes.rank
    return found


def broken(processes, directory, what, rank=1, at=40):
    """A run with a checkpoint after each period, to which something happens in one process, or goes on from there."""

    def happen(trainer):
        if trainer._place.seen == at and processes is not None and processes.rank == rank:
            if what == "die":
                os._exit(3)
            if what == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            if what == "drift":
                trainer.network.stages[0].layer.weight.mul_(0.5)

    FIRST["twice"] = replace(STDP_, epochs=2)
    how = {"checkpoint_seconds": 0} if directory is None else {"checkpoint_seconds": 0, "resume": True}
    return train("twice", "guess", processes, directory, happen=happen, **how)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, what = Path(sys.argv[1]), sys.argv[2]
    with Processes.of_torchrun() as processes:
        if what.isdigit():
            found = some_ways(processes, folder, int(what))
        elif what == "rows":
            found = rows(processes)
        elif what == "others":
            found = train("features", "guess", processes, folder / "run", count=61 + processes.rank)
        else:
            found = broken(processes, folder / "run", what)
        torch.save(found, folder / f"found {processes.rank}.pt")
