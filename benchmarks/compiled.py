"""Networks in torch.compile and torch.export beside eager: the same answers, time per image, and memory.

    python benchmarks/compiled.py --data DIR [--quick] [--json PATH]

A dense network, the three layers of Mozafari et al. 2019 on waves of 15 steps with the weights that are shipped, and
the published networks on times as they decide. By turns in one run, on one thread, a batch of one image and one of 100
digits: eager, torch.compile, the module of torch.export, and what AOTInductor makes of that program, for any number of
images. Told are milliseconds per image; whether all answers are the same, of 100 images and of each by itself; the
seconds until it has answered to both sizes of batches, compiling included; and, on Linux, how much the resident memory
of a process of its own grows at most while it answers to 100 images, once it has answered to one, so that torch, the
network, the program and compiling are left out.
"""

import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor, nn
from torchvision.datasets import MNIST

from spyketorch import encoding, models, snn
from spyketorch import functional as sf

WAYS = ("eager", "torch.compile", "torch.export", "AOTInductor")
BATCH = 100


class Dense(nn.Module):
    """A network of Mozafari et al. 2019 on waves, as scripts write it; the last layer's first winner decides."""

    def __init__(self) -> None:
        super().__init__()
        trained = models.mozafari2019(pretrained=True)
        self.filter: Any = trained.encoder.filter
        self.latency = encoding.Intensity2Latency(15, to_spike=True, batched=True)
        self.layers = nn.ModuleList()
        for stage in trained.stages:
            layer = stage.layer
            conv = snn.Convolution(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.padding)
            conv.load_weight(layer.weight)
            self.layers.append(conv)
        self.register_buffer("classes", trained.classes)

    def forward(self, images: Tensor) -> Tensor:
        one, two, three = self.layers
        wave = self.latency(sf.local_normalization(self.filter(images), 8))
        wave = sf.pooling(sf.fire(one(wave), 15), 2)
        wave = sf.pooling(sf.fire(two(wave), 10), 3)
        fired, potentials = sf.fire(three(wave), None, True)
        first = sf.k_winners(potentials, 1, 0, fired)[:, 0, 0]
        return torch.where(first < 0, -1, self.get_buffer("classes")[first.clamp(min=0)])


class Coarse(Dense):
    """The same with weights n / 64, whose sums are exact."""

    def __init__(self) -> None:
        super().__init__()
        for layer in self.layers:
            layer.weight.data.mul_(64).round_().div_(64)


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "dense": Dense,
    "dense, weights n / 64": Coarse,
    "mozafari2019": lambda: models.mozafari2019(pretrained=True),
    "kheradpisheh2018": lambda: models.kheradpisheh2018(pretrained=True),
    "goupy2024": lambda: models.goupy2024(pretrained=True),
}


def made(name: str, way: str, images: Tensor, folder: Path) -> Callable[[Tensor], Tensor]:
    """A network in one of the ways, for batches of any size; a program comes from its file, where it is there."""
    network = NETWORKS[name]().eval()
    if way == "eager":
        return network
    if way == "torch.compile":
        return torch.compile(network, fullgraph=True)
    file = folder / f"{name}, {way}.pt2".replace("/", "of")
    if not file.exists():
        # a trace of one image would stand for one image alone
        program = torch.export.export(network, (images[:3],), dynamic_shapes=({0: torch.export.Dim("n", min=1)},))
        if way == "torch.export":
            torch.export.save(program, file)
        else:
            torch._inductor.aoti_compile_and_package(program, package_path=str(file))
    loaded: Callable[[Tensor], Tensor] = (
        torch.export.load(file).module() if way == "torch.export" else torch._inductor.aoti_load_package(str(file))
    )
    return loaded


def prepared(name: str, images: Tensor, folder: Path) -> tuple[dict[str, Callable[[Tensor], Tensor]], dict[str, float]]:
    """A network in all ways, once for each size of a batch, and how many seconds that took."""
    calls, seconds = dict[str, Callable[[Tensor], Tensor]](), dict[str, float]()
    for way in WAYS:
        torch._dynamo.reset()
        start = time.perf_counter()
        calls[way] = made(name, way, images, folder)
        calls[way](images[:1]), calls[way](images)
        seconds[way] = time.perf_counter() - start
    return calls, seconds


def same(calls: dict[str, Callable[[Tensor], Tensor]], images: Tensor) -> dict[str, dict[str, int]]:
    """How many of the answers are those of eager, to a batch and to each image by itself."""
    found = {}
    for way, call in calls.items():
        together, alone = call(images), torch.cat([call(image) for image in images.split(1)])
        eager = calls["eager"](images), torch.cat([calls["eager"](image) for image in images.split(1)])
        equal = [int((got == want).sum()) for got, want in zip((together, alone), eager, strict=True)]
        found[way] = {"images": len(images), "in a batch": equal[0], "one by one": equal[1]}
    return found


def memory(name: str, way: str, data: Path, folder: Path) -> float:
    """Megabytes that answers to a batch take in a process of its own; not a number where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    run = [sys.executable, "-W", "ignore", __file__, "--memory", name, way, str(data), str(folder)]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    return float(told.splitlines()[-1])


def measure_memory(name: str, way: str, data: Path, folder: Path) -> float:
    """In that process: compiled or loaded, it answers to one image, and then to the batch."""
    torch.set_num_threads(1)
    images = digits(data, BATCH)
    call = made(name, way, images, folder)
    if way == "torch.compile":
        torch._dynamo.mark_dynamic(images, 0)
        call(images[:2])  # as for any number of images, so that compiling is over
    call(images[:1])
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the largest is that from here on
    before = _megabytes("VmRSS")
    call(images)
    return _megabytes("VmHWM") - before


def _megabytes(what: str) -> float:
    """What Linux tells of this process."""
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in told.splitlines() if line.startswith(what)).split()[1]) / 2**10


def digits(data: Path, count: int) -> Tensor:
    images: Tensor = MNIST(data, train=False).data[:count, None].float()
    return images


def main() -> None:
    options = common.options(__doc__)
    rounds, singles = (3, 10) if options.quick else (15, 50)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    images = digits(options.data, BATCH)
    print(" ".join(f"{k} {v}" for k, v in common.about().items()))
    figures: dict[str, Any] = {}
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            calls, seconds = prepared(name, images, Path(folder))
            works = {
                f"batch of {BATCH}": {way: common.Work(lambda c=call: c(images), BATCH) for way, call in calls.items()},
                "one image": {
                    way: common.Work(lambda c=call: [c(images[i : i + 1]) for i in range(singles)], singles)
                    for way, call in calls.items()
                },
            }
            table = {phase: common.by_turns(work, rounds) for phase, work in works.items()}
            held = {way: memory(name, way, options.data, Path(folder)) for way in WAYS}
            equal = same(calls, images)
        common.tell(f"{name}, ms", table)
        for way in WAYS:
            told = equal[way]
            gains = ", ".join(f"{phase} {common.ratio(times, 'eager', way):.2f}x" for phase, times in table.items())
            print(
                f"  {way:<14} as fast as eager: {gains}; ready in {seconds[way]:.1f} s; {held[way]:.0f} MB; "
                f"the same: {told['in a batch']} and, one by one, {told['one by one']} of {told['images']}"
            )
        figures[name] = {"ms per image": common.as_json(table), "seconds": seconds, "MB": held, "the same": equal}
    if options.json is not None:
        options.json.write_text(json.dumps({"about": common.about(), "networks": figures}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        kind, how, *places = sys.argv[2:]
        with torch.inference_mode():
            print(measure_memory(kind, how, *map(Path, places)))
    else:
        main()
