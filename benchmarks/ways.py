"""Every way of working beside the fastest one: the standard rule on whole batches with the compiled loops.

    python benchmarks/ways.py --data DIR [--quick] [--json PATH]

The three-layer MNIST network of Mozafari et al. 2019, trained on 6,000 images first; then, by turns in one run, each
layer learns from the same stored input in each way: whole batches, a factor of one's own in torch, a rule of one's own
with a compiled twin, and with thresholds that adapt, mini-batches, one image a call, in float64, in groups, with 254
time steps, and in plain torch as where numba is missing. Ratios say how many times as long a way takes as the batch of
the standard rule does.
"""

import copy
import json
import math
import os
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import common
import torch
from speed import Engine, T
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import learning, snn

CHOICES = ((5, 3), (8, 1), (1, 0))  # kwta and radius of each layer


def fading(synapses: learning.Synapses) -> Tensor:
    """A factor of one's own, in torch: potentiation fades with the time between the two spikes."""
    late = synapses.pre_times - synapses.post_times
    return torch.where(synapses.causal, synapses.ltp * torch.exp(late / 5), synapses.ltd)


class FadingTwin(NamedTuple):
    """The same for the loops, one synapse at a time."""

    tau: float

    def change(self, synapse: learning.Synapse) -> float:
        if synapse.causal:
            return synapse.ltp * math.exp((synapse.pre_time - synapse.post_time) / self.tau)
        return synapse.ltd


class Fading(learning.STDP):
    """A rule of one's own with a compiled twin."""

    def change(self, synapses: learning.Synapses) -> Tensor:
        return fading(synapses)

    def compiled(self) -> learning.Twin:
        return FadingTwin(5.0)


class Ways:
    """One layer of the trained network, its input, and a rule, in every way of working."""

    def __init__(self, layer: snn.SpikingConvolution, times: Tensor, labels: Tensor, number: int) -> None:
        self.layer, self.times, self.labels, self.number = layer, times, labels, number
        self.classes = torch.arange(layer.out_channels) * 10 // layer.out_channels

    def learner(self, layer: snn.SpikingConvolution | None = None, **options: Any) -> Callable[..., Tensor]:
        """``learn(times, labels)`` on a copy of the layer."""
        layer = copy.deepcopy(self.layer if layer is None else layer)
        kwta, radius = CHOICES[self.number]
        how = {"minibatch": options.pop("minibatch", 1)}
        if self.number < 2:
            rule = learning.STDP(layer, (0.004, -0.003), **options)
            return lambda times, labels: rule.learn(times, kwta, radius, **how)
        reward = learning.RSTDP(layer, (0.004, -0.003), (-0.004, 0.0005), **options)
        return lambda times, labels: reward.learn(times, labels, self.classes[: layer.out_channels], **how)

    def own(self, rule: type[learning.STDP], **options: Any) -> Callable[..., Tensor]:
        """The same by a rule of one's own."""
        made = rule(copy.deepcopy(self.layer), (0.004, -0.003), **options)
        return lambda times, labels: made.learn(times, *CHOICES[self.number])

    def works(self, few: int) -> dict[str, common.Work]:
        times, labels, many = self.times, self.labels, len(self.times)

        def batch(learn: Callable[..., Tensor], times: Tensor, count: int) -> common.Work:
            return common.Work(lambda: learn(times[:count], labels[:count]), count)

        def singles(learn: Callable[..., Tensor]) -> common.Work:
            return common.Work(lambda: [learn(times[i : i + 1], labels[i : i + 1]) for i in range(few)], few)

        works: dict[str, common.Work] = {
            "batch, standard rule": batch(self.learner(), times, many),
            "own factor in torch": batch(self.learner(rate=fading), times, few),
            "mini-batches of 64": batch(self.learner(minibatch=64), times, many),
            "one image a call": singles(self.learner()),
            "float64": batch(self.learner(copy.deepcopy(self.layer).double()), times, many),
        }
        if self.number < 2:
            works["own rule, compiled twin"] = batch(self.own(Fading), times, many)
            adapting = learning.TargetTime(0.5, rate=1e-6, floor=0.0)  # hardly, so that the same neurons answer
            works["with state: target times"] = batch(self.own(Fading, thresholds=adapting), times, many)
        if self.number == 1:
            grouped = snn.SpikingConvolution(
                30, 250, 3, float(self.layer.threshold) / 2, 0.8, 0.025, time_steps=T, padding=1, groups=2
            )
            works["two groups"] = batch(self.learner(grouped), times, many)
        if self.number < 2:
            fine = torch.where(times < T, times.long() * 17, 254).to(torch.uint8)  # the same spikes in 254 steps
            layer = copy.deepcopy(self.layer)
            layer.time_steps = 254
            works["254 time steps"] = batch(self.learner(layer), fine, many)
        return works


def decisions(engine: Engine, images: Tensor, third: Tensor, few: int) -> dict[str, dict[str, common.Work]]:
    """Encoding, deciding, and both, in batches and one image a call."""

    def both(call: Callable[[Tensor], Any], given: Tensor) -> dict[str, common.Work]:
        return {
            "batch": common.Work(lambda: call(given), len(given)),
            "one image a call": common.Work(lambda: [call(given[i : i + 1]) for i in range(few)], few),
        }

    return {
        "encode": both(engine.encode, images),
        "decide": both(engine.decide, third),
        "image to decision": both(engine.infer, images),
    }


def without_numba(data: Path, quick: bool) -> dict[str, Any]:
    """In a process without numba, every phase of plain torch on times against the dense loop, printed as ratios."""
    with tempfile.TemporaryDirectory() as folder:
        script, figures = Path(__file__).with_name("without_numba.py"), Path(folder) / "figures.json"
        command = [sys.executable, "-W", "ignore", str(script), "--data", str(data), "--json", str(figures)]
        run = subprocess.run(command + ["--quick"] * quick, capture_output=True, text=True)
        if run.returncode:
            print(run.stderr.strip().splitlines()[-1])
            return {}
        print("without numba", *(line for line in run.stdout.splitlines() if "of the dense loop" in line), sep="\n  ")
        told: dict[str, Any] = json.loads(figures.read_text(encoding="utf-8"))["ms per image"]
    return told


def first_call(cached: bool) -> float:
    """Seconds of the first learning call of a process, with the compiled loops cached or not."""
    script = textwrap.dedent(
        """
        import time, torch
        from spyketorch import snn
        layer = snn.SpikingConvolution(2, 4, 3, threshold=5, time_steps=15)
        rule = snn.STDP(layer, (0.004, -0.003))
        start = time.perf_counter()
        rule.learn(torch.zeros(8, 2, 9, 9, dtype=torch.uint8), 2, 1)
        print(time.perf_counter() - start)
        """
    )
    with tempfile.TemporaryDirectory() as empty:
        extra = {} if cached else {"NUMBA_CACHE_DIR": empty}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, env={**os.environ, **extra}
        )
    return float(run.stdout) if run.returncode == 0 else float("nan")


def main() -> None:
    options = common.options(__doc__)
    train, many, few, rounds = (1000, 200, 10, 3) if options.quick else (6000, 1000, 64, 5)
    warnings.simplefilter("ignore")  # that a way leaves the compiled path is what is measured here

    torch.manual_seed(0)
    data = MNIST(options.data, train=True)
    images, labels = data.data[:train, None].float(), data.targets[:train]
    engine = Engine()
    inputs, _ = engine.train(images, labels, 2 if options.quick else 10)
    print(" ".join(f"{k} {v}" for k, v in common.about().items()))
    figures: dict[str, Any] = {}
    for number, layer in enumerate((engine.one, engine.two, engine.three)):
        ways = Ways(layer, inputs[number][:many], labels[:many], number)
        times = common.by_turns(ways.works(few), rounds)
        print(f"learning layer {number + 1}, ms per image")
        for name, row in times.items():
            print(f"  {name:<24}{common.figure(row)!s:>26}{common.ratio(times, name, 'batch, standard rule'):>8.1f}x")
        figures[f"layer {number + 1}"] = common.as_json({"learn": times})["learn"]
    for name, works in decisions(engine, images[:many], inputs[2][:many], few).items():
        times = common.by_turns(works, rounds)
        single, batch = (str(common.figure(times[how])) for how in ("one image a call", "batch"))
        print(f"{name}, ms per image: batch {batch}, one image a call {single}", end="")
        print(f"{common.ratio(times, 'one image a call', 'batch'):>8.1f}x")
        figures[name] = common.as_json({name: times})[name]
    figures["without numba"] = without_numba(options.data, options.quick)
    first_call(True)  # keeps the loops on disk
    figures["first call, s"] = {"cached": first_call(True), "not cached": first_call(False)}
    print(
        "first call of a process: {cached:.2f} s, {not cached:.2f} s where nothing is cached".format(
            **figures["first call, s"]
        )
    )
    common.write(options.json, figures)


if __name__ == "__main__":
    main()
