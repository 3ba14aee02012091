"""Plain torch on first-spike times, as where numba is missing, against the faithful dense loop.

    python benchmarks/without_numba.py --data DIR [--quick] [--json PATH]

Every phase of the three-layer MNIST network of Mozafari et al. 2019, trained on a few images first. The dense loop is
that of scripts of the original: one image at a time, all time steps. Both are measured in one run, by turns, on the
same images; ratios are taken round by round.
"""

import copy
import statistics
import sys
import warnings
from collections.abc import Callable

import common
import torch
from speed import Dense, Engine, T
from torch import Tensor
from torchvision.datasets import MNIST

from spyketorch import functional as sf
from spyketorch import latency, snn

CHOICES = ((15, 5, 3), (10, 8, 1))  # threshold, kwta and radius


class Guessing(Dense):
    """The dense loop that learns from mistakes: a wrong class is punished and silenced until the answer is right."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.classes = engine.classes.tolist()
        self.punish = snn.STDP(self.convs[2], (-0.004, 0.0005), False, 0.2, 0.8)

    def guess(self, wave: Tensor, label: int) -> None:
        spikes, potentials = sf.fire(self.convs[2](wave), None, True)
        known = True
        while winners := sf.get_k_winners(potentials, 1, 0, spikes):
            decided = self.classes[winners[0][0]]
            if decided == label:
                if not known:
                    self.reward(wave, potentials, spikes, winners)
                return
            self.punish(wave, potentials, spikes, winners)
            mistaken = [feature for feature, named in enumerate(self.classes) if named == decided]
            spikes, potentials = (sf.feature_inhibition(x, mistaken) for x in (spikes, potentials))
            known = False

    def minibatch(self, layer: int, waves: Tensor) -> None:
        for part in waves.split(64):
            self.learn(layer, part, *CHOICES[layer])


def phases(
    engine: Engine, images: Tensor, inputs: list[Tensor], labels: Tensor
) -> dict[str, dict[str, Callable[[], object]]]:
    """What is timed: in one call on all images, one image a call, and the dense loop."""
    dense, few = Guessing(engine), len(images)
    waves = [sf.pad(latency.to_wave(x, T), (p,) * 4) for x, p in zip(inputs, (2, 1, 2), strict=True)]

    def ways(call: Callable[..., object], given: Tensor, loop: Callable[[], object]) -> dict[str, Callable[[], object]]:
        return {
            "times": lambda: call(given, labels),
            "times, one by one": lambda: [call(given[i : i + 1], labels[i : i + 1]) for i in range(few)],
            "dense loop": loop,
        }

    def learner(number: int, minibatch: int = 1) -> Callable[..., object]:
        rule, (_, kwta, radius) = copy.deepcopy((engine.stdp1, engine.stdp2)[number]), CHOICES[number]
        return lambda times, _: rule.learn(times, kwta, radius, minibatch=minibatch)

    def rewarded(correction: str | None) -> Callable[..., object]:
        rule = copy.deepcopy(engine.rstdp)
        return lambda times, known: rule.learn(times, known, engine.classes, correction=correction)

    named = labels.tolist()
    table = {"encode": ways(lambda x, _: engine.encode(x), images, lambda: [dense.encode(image) for image in images])}
    for n in (0, 1):
        table[f"learn layer {n + 1}"] = ways(
            learner(n), inputs[n], lambda n=n: [dense.learn(n, wave, *CHOICES[n]) for wave in waves[n]]
        )
    table["learn layer 3"] = ways(rewarded(None), inputs[2], lambda: [dense.learn3(wave) for wave in waves[2]])
    table['learn layer 3, "guess"'] = ways(
        rewarded("guess"),
        inputs[2],
        lambda: [dense.guess(wave, label) for wave, label in zip(waves[2], named, strict=True)],
    )
    for n in (0, 1):
        table[f"mini-batches, layer {n + 1}"] = ways(
            learner(n, 64), inputs[n], lambda n=n: dense.minibatch(n, waves[n])
        )
        del table[f"mini-batches, layer {n + 1}"]["times, one by one"]

    def last(wave: Tensor) -> object:
        spikes, potentials = sf.fire(dense.convs[2](wave), None, True)
        return sf.get_k_winners(potentials, 1, 0, spikes)

    table["decide"] = ways(lambda x, _: engine.decide(x), inputs[2], lambda: [last(wave) for wave in waves[2]])
    table["image to decision"] = ways(
        lambda x, _: engine.infer(x), images, lambda: [dense.decide(dense.encode(image)) for image in images]
    )
    return table


def main() -> None:
    options = common.options(__doc__)
    sys.modules["numba"] = None  # type: ignore[assignment]  # looked for at the first call, as where it is missing
    train, few, rounds = (200, 16, 3) if options.quick else (2000, 64, 7)
    warnings.simplefilter("ignore")  # that numba is missing is what is measured here
    torch.manual_seed(0)
    data = MNIST(options.data, train=True)
    images, labels = data.data[:train, None].float(), data.targets[:train]
    engine = Engine()
    inputs, _ = engine.train(images, labels, 1)
    table: dict[str, common.Times] = {}
    for name, calls in phases(engine, images[:few], [x[:few] for x in inputs], labels[:few]).items():
        table[name] = common.by_turns({how: common.Work(call, few) for how, call in calls.items()}, rounds)
    print(" ".join(f"{k} {v}" for k, v in common.about().items()))
    common.tell("ms per image", table)
    for name, times in table.items():
        ratios = {way: [a / b for a, b in zip(t, times["dense loop"], strict=True)] for way, t in times.items()}
        told = [f"{way} {statistics.median(r):.2f}x ({min(r):.2f}-{max(r):.2f})" for way, r in ratios.items()][:-1]
        print(f"{name}: {', '.join(told)} of the dense loop")
    common.write(options.json, common.as_json(table))


if __name__ == "__main__":
    main()
