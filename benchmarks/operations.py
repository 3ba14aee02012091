"""How many torch operations an image takes where plain torch runs, as on a GPU, where each is started by itself.

    python benchmarks/operations.py [--minibatch N] [--json PATH]

The layers of the MNIST network of Mozafari et al. 2019 learn random images, on the CPU, told that it is another device.
Views count, too. The count depends on the sizes by the parts alone that a layer's answer is cut into.
"""

import argparse
import json
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spyketorch import _checks as check
from spyketorch import learning, models
from spyketorch.kernels import defining, operators, serving

#: what our operators do on other devices, which a count must look into
INSIDE = {
    name: defining.IN_TORCH[name]
    for name in ("convolution_fire", "last_potentials", "pooling", "rank_order", "local_normalization")
}


class Count(TorchDispatchMode):
    """Counts operations."""

    operations = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        return operation(*args, **(kwargs or {}))


def counted(learn: Any) -> int:
    """Operations of a call, as on another device."""
    with (
        mock.patch.object(check, "free_to_read", lambda _: False),
        mock.patch.object(serving, "has_loops", lambda _: False),
        mock.patch.multiple(operators, **INSIDE),
        Count() as count,
    ):
        learn()
    return count.operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minibatch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    network, size = models.mozafari2019(), args.minibatch
    inputs = [network.encoder(torch.rand(size, 1, 28, 28) * 255)]
    for stage in network.stages[:2]:
        inputs.append(stage(inputs[-1]))
    (one, two, three), labels = (stage.layer for stage in network.stages), torch.arange(size) % 10
    stdp = [learning.STDP(layer, (0.004, -0.003)) for layer in (one, two)]
    rstdp = learning.RSTDP(three, (0.004, -0.003), (-0.004, 0.0005))
    works: dict[str, Any] = {
        "layer 1": lambda n: stdp[0].learn(inputs[0], 5, 3, minibatch=n),
        "layer 2": lambda n: stdp[1].learn(inputs[1], 8, 1, minibatch=n),
    }
    for kind in (None, "teach", "guess"):
        works[f"layer 3, correction {kind}"] = lambda n, kind=kind: rstdp.learn(
            inputs[2], labels, network.classes, correction=kind, minibatch=n
        )
    table = {
        name: {minibatch: counted(lambda work=work, n=minibatch: work(n)) / size for minibatch in (1, size)}
        for name, work in works.items()
    }
    print(f"operations an image, one by one and in mini-batches of {size}")
    for name, (alone, together) in ((name, row.values()) for name, row in table.items()):
        print(f"{name:28} {alone:8.1f} {together:8.1f}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
