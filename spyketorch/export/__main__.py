"""Whether runtimes give what the reference gives, for a network of integers.

    python -m spyketorch.export digits.safetensors                         # every runtime that this machine has
    python -m spyketorch.export digits.safetensors --set digits.conformance.safetensors
    python -m spyketorch.export digits.safetensors --command ./my_runtime  # reads images, writes traces

Without --set it is asked about images that are drawn by chance, which it knows nothing of; --make SET writes them with
what is right for them, so that a runtime elsewhere can be checked. Ends with 1 where anything differs.
"""

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from spyketorch.export._all import RUNTIMES
from spyketorch.export._conformance import ConformanceSet
from spyketorch.export._runtimes import Command, Runtime
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork, read


def drawn(shape: list[int], count: int, seed: int) -> np.ndarray:
    """Images of noise, of few bright places, and of squares, in turn."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape))
    images[1::3] *= rng.random(images[1::3].shape) < 0.1
    for image in images[2::3]:
        top, left = rng.integers(0, shape[1]), rng.integers(0, shape[2])
        image[:] = np.where(rng.random() < 0.5, 0, 128)
        image[:, top : top + shape[1] // 2, left : left + shape[2] // 3] = rng.integers(0, 256)
    return images.astype(np.uint8)


def main() -> int:
    """Compares, prints, and gives the exit status."""
    options = argparse.ArgumentParser(
        prog="python -m spyketorch.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("network", type=Path, help="file of export.save")
    options.add_argument("--set", type=Path, help="file with images and what is right for them")
    options.add_argument("--make", type=Path, metavar="SET", help="write such a file")
    options.add_argument("--images", type=int, default=100, metavar="N", help="drawn without --set (default 100)")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--runtime", nargs="+", choices=RUNTIMES, default=[*RUNTIMES], help="(default all)")
    options.add_argument("--command", help="any other program, which knows the network")
    given = options.parse_args()
    try:
        about, _ = read(given.network)
        if given.set is not None:
            known = ConformanceSet.load(given.set, given.network)
        else:
            known = ConformanceSet.make(given.network, drawn(about["image"], given.images, given.seed))
        if given.make is not None:
            known.save(given.make)
            print(f"set: {given.make}")
    except (NotAnIntegerNetwork, OSError) as error:
        sys.exit(str(error))
    runtimes: list[Runtime] = [RUNTIMES[name] for name in given.runtime]
    if given.command is not None:
        runtimes = [Command(shlex.split(given.command))]
    failed = False
    for runtime in runtimes:
        lacking = runtime.why_not()
        if lacking is not None:
            print(f"{runtime.name}: not run, {lacking}")
            continue
        try:
            found = known.check(runtime, given.network)
        except (NotAnIntegerNetwork, OSError) as error:
            failed = True
            print(f"{runtime.name}: failed, {error}")
            continue
        failed = failed or bool(found)
        print(f"{runtime.name}: {found}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
