"""Which front end for colour: one layer of STDP on each, read by a linear classifier, on images that were not learned.

    python benchmarks/colour.py --data FOLDER

FOLDER holds a folder of pictures for each class. Of each class 400 pictures, spread over all by name, are learned and
the next 200 tested, at 32 x 32 pixels, unless --learn, --test and --size say otherwise; layer and classifier are alike.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from spyketorch import encoding, models, readout, snn
from spyketorch.learning import TargetTime
from spyketorch.training import Decaying, Readout, Trainer, Unsupervised, evaluate

T, FEATURES = 15, 64
SPOTS = [encoding.DoGKernel(7, 1, 2), encoding.DoGKernel(7, 2, 1)]
EDGES = [encoding.GaborKernel(5, angle) for angle in (22.5, 67.5, 112.5, 157.5)]


def spots(channels=1, *before):
    """Bright and dark spots, with repeated borders."""
    return nn.Sequential(*before, nn.ReplicationPad2d(3), encoding.Filter(SPOTS, thresholds=0, channels=channels))


FRONTS = {
    "luminance, spots": lambda: spots(1, encoding.Luminance()),
    "each channel, spots": lambda: spots(3),
    "opponent colours, spots": lambda: spots(3, encoding.OpponentColours()),
    "opponent colours, edges": lambda: nn.Sequential(
        encoding.OpponentColours(), nn.ReplicationPad2d(2), encoding.Filter(EDGES, use_abs=True, channels=3)
    ),
    "whitening": lambda: nn.Sequential(encoding.Whitening(), encoding.OnOff()),
}
ENCODERS = {
    "rank": encoding.LatencyEncoder,
    "line": encoding.LinearLatency,
    "table": encoding.EqualizedLatency,
}


def pictures(folder, learn, test, size):
    """(images, labels) to learn from, and to test."""
    parts = ([], []), ([], [])
    for label, kind in enumerate(sorted(path for path in Path(folder).iterdir() if path.is_dir())):
        files = sorted(kind.rglob("*.[jp][pn]g"))
        every = max(1, len(files) // (learn + test))
        for number, file in enumerate(files[::every][: learn + test]):
            with Image.open(file) as picture:
                array = np.array(picture.convert("RGB").resize((size, size), Image.Resampling.BOX))
            images, labels = parts[number >= learn]
            images.append(torch.from_numpy(array).permute(2, 0, 1))
            labels.append(label)
    return [(torch.stack(images), torch.tensor(labels)) for images, labels in parts]


def accuracy(encoder, learned, tested, seed):
    """The share of test images that are right."""
    torch.manual_seed(seed)
    encoding.fit(encoder, learned[0])
    maps, rows = encoder(learned[0][:1]).shape[1:3]
    layer = snn.SpikingConvolution(maps, FEATURES, 5, 10.0, 0.5, 0.01, time_steps=T)
    stride = -(-(rows - 4) // 4)
    pool = snn.SpikingPooling(stride, stride, earliest=4)
    network = models.Network(encoder, [models.Stage(layer, pool)])
    shape = network.features(learned[0][:1]).shape[1:]
    network.readout = readout.LinearReadout(shape, int(learned[1].max()) + 1, time_steps=T)
    lesson = Unsupervised(
        rates=(0.1, -0.1),
        schedule=Decaying(0.01),
        epochs=20,
        thresholds=TargetTime(0.7),
        steepness=1.0,
        patches=True,
        answering=0.75,
        pointwise_inhibition=False,
    )
    Trainer(network, [lesson, Readout()], seed=seed, progress=False).fit(*learned)
    return evaluate(network, *tested, progress=False).accuracy


def main():
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a folder with a folder of pictures for each class")
    parser.add_argument("--learn", type=int, default=400, help="pictures of each class")
    parser.add_argument("--test", type=int, default=200, help="pictures of each class")
    parser.add_argument("--size", type=int, default=32, help="pixels of a side")
    parser.add_argument("--seeds", type=int, default=2, help="how many")
    parser.add_argument("--only", default="", help="front ends whose name holds this")
    options = parser.parse_args()
    learned, tested = pictures(options.data, options.learn, options.test, options.size)
    print(f"{len(learned[0])} images to learn from, {len(tested[0])} to test, {options.seeds} seeds")
    for name, front in FRONTS.items():
        for way, encoder in ENCODERS.items():
            if options.only in name:
                start = time.thread_time()
                found = [accuracy(encoder(front(), T), learned, tested, seed) for seed in range(options.seeds)]
                mean, each = sum(found) / len(found), ", ".join(f"{one:.1%}" for one in found)
                print(f"{name:24s} {way:6s} {mean:.1%} ({each}), {time.thread_time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
