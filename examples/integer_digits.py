"""Digits in integers: one file, four runtimes, the same decisions.

    python examples/integer_digits.py --data DIR --out DIR                 # 8 bits, 1,000 test images
    python examples/integer_digits.py --data DIR --out DIR --bits 4
    python examples/integer_digits.py --data DIR --out DIR --images 10000  # all of them

The networks of digits that are shipped with the library become networks of integers: weights, thresholds, filters, the
rank of a spike, all of it. Each is written to one file, which NumPy alone, C, JavaScript, a microcontroller (emulated)
and this library then run, those of them that this machine has: the first spike of every neuron and every decision are
compared with those of this library. The page "Networks of integers" of the documentation says what the file means.

MNIST is downloaded into --data if it is not there.
"""

import argparse
import sys
from pathlib import Path

import common
import torch

from spyketorch import export, models
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork
from spyketorch.training import evaluate

NETWORKS = {
    "goupy2024": models.goupy2024,
    "kheradpisheh2018": models.kheradpisheh2018,
    "mozafari2019": models.mozafari2019,
}


def parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=Path("data"), help="where MNIST is, or is downloaded to")
    options.add_argument("--out", type=common.folder, default=Path("outputs"), help="folder for the files")
    options.add_argument("--images", type=common.at_least(1), default=1000, metavar="N", help="of the test set")
    options.add_argument("--bits", type=int, choices=(8, 4, 2, 1), default=8, help="of a weight (default 8)")
    options.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS], help="(default all)")
    options.set_defaults(limit=None)
    return options


def compare(path: Path, images: torch.Tensor) -> bool:
    """Run every runtime that the machine has; whether all agree."""
    known = export.ConformanceSet.make(path, images.numpy(), export.RUNTIMES["spyketorch"])
    known.save(path.with_suffix(".conformance.safetensors"))
    agree = True
    for runtime in export.RUNTIMES.values():
        lacking = runtime.why_not()
        if lacking is not None:
            print(f"{runtime.name}: not run, {lacking}")
            continue
        try:
            found = known.check(runtime, path)
        except NotAnIntegerNetwork as error:
            sys.exit(f"{runtime.name}: failed, {error}")
        agree = agree and not found
        print(f"{runtime.name}: {found}{costs(runtime, path, images)}")
    return agree


def costs(runtime: export.Runtime, path: Path, images: torch.Tensor) -> str:
    """What a runtime takes, where it can tell: C its time, a microcontroller its memory."""
    said = ""
    if hasattr(runtime, "seconds"):
        said += f"; {1000 * runtime.seconds(path, images.numpy()):.2f} ms an image"
    if hasattr(runtime, "size"):
        flash, ram = runtime.size(path)
        said += f"; {flash:,} bytes of flash, {ram:,} of RAM"
    return said


def main() -> None:
    options = parser().parse_args()
    (learned, classes), (images, labels) = common.mnist(options, True), common.mnist(options, False)
    images, labels = images[: options.images], labels[: options.images]
    agree = True
    for name in options.networks:
        print(f"\n{name}, {options.bits} bits")
        twin = export.quantize(NETWORKS[name](pretrained=True), learned[:1000], classes[:1000], options.bits)
        print(f"{twin.report}\n(accuracy of the first 1,000 training images)")
        path = options.out / f"{name}_{options.bits}bits.safetensors"
        export.save(twin, path)
        agree = compare(path, images) and agree
        print(f"test accuracy {100 * evaluate(export.load(path), images, labels).accuracy:.1f} %")
        print(f"file: {path}, {path.stat().st_size:,} bytes")
    if not agree:
        sys.exit("not all runtimes agree")


if __name__ == "__main__":
    main()
