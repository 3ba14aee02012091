"""Tell spoken digits apart, by speakers that were heard before and by others, without gradients.

    python examples/spoken_digits.py --data DIR            # DIR/DIGIT_SPEAKER_NUMBER.wav
    python examples/spoken_digits.py --data DIR --unheard  # each speaker, by a network that has heard the others alone
    python examples/spoken_digits.py --data DIR --quick    # a short training, to see that it runs

recording -> spectrogram -> what is louder or fainter than around -> spikes -> layer 1 (STDP) -> pooling -> read-out

The data are the Free Spoken Digit Dataset (Z. Jackson et al., CC BY-SA 4.0), on GitHub in the repository
Jakobovski/free-spoken-digit-dataset: mono, 16 bits, 8,000 samples a second. As its makers say, recordings 0 to 4 of
each digit and speaker are the test.
"""

import argparse
import re
import sys
import wave
from pathlib import Path

import common
import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from spyketorch import visualization as vis
from spyketorch.encoding import DoGKernel, Filter, FilterBank, LinearLatency
from spyketorch.learning import TargetTime
from spyketorch.models import Network, Stage
from spyketorch.readout import LinearReadout
from spyketorch.snn import SpikingConvolution, SpikingPooling
from spyketorch.training import Decaying, Evaluation, Readout, Trainer, Unsupervised, evaluate

TIME_STEPS, BANDS, FRAMES = 15, 40, 64


def spectrogram(path: Path) -> Tensor:
    """(1, BANDS, FRAMES) of a recording, without its quiet ends; slow and fast speech fill as many frames."""
    try:
        with wave.open(str(path)) as file:
            form = file.getnchannels(), file.getsampwidth()
            sound = torch.from_numpy(np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32))
            loudness = FilterBank(file.getframerate(), BANDS, span=40)(sound.view(1, 1, -1))
    except (OSError, EOFError, ValueError, wave.Error) as error:
        sys.exit(f"{str(path)!r} is no recording that can be read: {error}")
    if form != (1, 2):
        sys.exit(f"{str(path)!r} has {form[0]} channels of {8 * form[1]} bits; it should be mono, of 16 bits")
    heard = (loudness.amax((0, 1)) > 0.4).nonzero().flatten().tolist() or [0]
    spoken = loudness[..., heard[0] : heard[-1] + 1]
    if spoken.shape[2] < FRAMES:
        return nn.functional.interpolate(spoken, FRAMES, mode="linear", align_corners=False)
    return nn.functional.adaptive_avg_pool1d(spoken, FRAMES)


def load(folder: Path) -> tuple[Tensor, Tensor, list[str], Tensor]:
    """Spectrograms (N, 1, BANDS, FRAMES), digits, speakers, and the numbers of the recordings."""
    names = [(path, re.fullmatch(r"(\d)_(\w+)_(\d+)", path.stem)) for path in sorted(folder.glob("**/*.wav"))]
    found = [(path, name) for path, name in names if name]
    if not found:
        sys.exit(f"{str(folder)!r} holds no recordings that are called DIGIT_SPEAKER_NUMBER.wav")
    digits, numbers = (torch.tensor([int(name[part]) for _, name in found]) for part in (1, 3))
    return torch.stack([spectrogram(path) for path, _ in found]), digits, [name[2] for _, name in found], numbers


def build() -> Network:
    """Features of 5 bands x 5 frames, heard in 6 x 8 parts of a spectrogram."""
    changes = Filter([DoGKernel(7, 1, 2), DoGKernel(7, 2, 1)], thresholds=0)  # louder and fainter than around
    encoder = LinearLatency(nn.Sequential(nn.ReplicationPad2d(3), changes), TIME_STEPS, per_place=True)
    layer = SpikingConvolution(2, 128, 5, threshold=5, weight_mean=0.5, weight_std=0.01, time_steps=TIME_STEPS)
    network = Network(encoder, [Stage(layer, SpikingPooling((6, 8), (6, 7)))])
    network.readout = LinearReadout((128, 6, 8), 10, time_steps=TIME_STEPS)
    return network


def learn(sounds: Tensor, digits: Tensor, epochs: int, seed: int) -> Network:
    """In each recording one place drawn by chance teaches the feature that fires first there; then a read-out."""
    torch.manual_seed(seed)
    network = build()
    features = Unsupervised(
        rates=(0.1, -0.1),
        steepness=1.0,
        thresholds=TargetTime(0.75),
        schedule=Decaying(0.07),
        patches=True,
        epochs=epochs,
    )
    for report in Trainer(network, [features, Readout(iterations=40)], seed=seed).fit(sounds, digits):
        print(report)
    return network


def compared(network: Network, learned: tuple[Tensor, Tensor], heard: tuple[Tensor, Tensor]) -> tuple[Evaluation, str]:
    """What the network makes of recordings, beside a linear classifier of the same spectrograms."""
    linear = LinearSVC(C=0.01).fit(learned[0].flatten(1), learned[1])
    result, plain = evaluate(network, *heard), linear.score(heard[0].flatten(1), heard[1])
    return result, f"{100 * result.accuracy:.1f} % (a linear classifier of the spectrograms: {100 * plain:.1f} %)"


def draw(network: Network, sounds: Tensor, result: Evaluation, path: Path) -> None:
    """A recording as it is heard, as first spikes and as answers; what features answer to, and how it decides."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplot_mosaic([["sound", "right"], ["spikes", "right"], ["features", "right"]])
    axes["sound"].imshow(sounds[0, 0], origin="lower", aspect="auto", cmap="magma")
    axes["sound"].set(title="loudness of a spoken digit", xlabel="frame", ylabel="band")
    times = network.encoder(sounds[0]).flip(-2)  # high bands at the top
    vis.plot_times(times, time_steps=TIME_STEPS, title="first spikes: louder than around, fainter", ax=axes["spikes"])
    answered = vis.get_mean_stimuli(network, 0, sounds[:1000], kwta=5, inhibition_radius=2).flip(-2)
    winning = answered[answered.amax((1, 2)) > 0][:60]
    vis.plot_features(winning, columns=20, title="what features of layer 1 answer to", ax=axes["features"])
    title = f"{100 * result.accuracy:.1f} % of {int(result.confusion.sum())} recordings right"
    vis.plot_confusion(result.confusion, [*"0123456789"], title=title, ax=axes["right"])
    common.save(figure, path)
    print(f"picture: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the recordings")
    parser.add_argument("--unheard", action="store_true", help="test on each speaker, having heard the others alone")
    parser.add_argument("--epochs", type=common.at_least(1), default=50, help="of layer 1 (default 50)")
    parser.add_argument("--quick", action="store_true", help="five epochs, to see that it runs")
    parser.add_argument("--seed", type=common.at_least(0), default=0)
    parser.add_argument("--out", type=common.folder, default=Path("outputs"), help="for the model and the picture")
    options = parser.parse_args()
    sounds, digits, speakers, numbers = load(options.data)
    epochs = 5 if options.quick else options.epochs

    if options.unheard:
        shares = []
        for one in sorted(set(speakers)):
            other = torch.tensor([speaker != one for speaker in speakers])
            learned, heard = (sounds[other], digits[other]), (sounds[~other], digits[~other])
            result, text = compared(learn(*learned, epochs, options.seed), learned, heard)
            print(f"{one}, who was not heard in training: {text}")
            shares.append(result.accuracy)
        print(f"mean accuracy of unheard speakers {100 * sum(shares) / len(shares):.1f} %")
        return
    test = numbers < 5
    if not test.any() or test.all():
        sys.exit(f"{str(options.data)!r} should hold recordings 0 to 4, for the test, and later ones to learn from")
    learned, heard = (sounds[~test], digits[~test]), (sounds[test], digits[test])
    print(f"{len(learned[1])} recordings to learn from, {len(heard[1])} others of the same speakers to test")
    network = learn(*learned, epochs, options.seed)
    result, text = compared(network, learned, heard)
    print(f"test accuracy {text}")
    network.save(options.out / "spoken_digits.pt")
    draw(network, heard[0], result, options.out / "spoken_digits.png")


if __name__ == "__main__":
    main()
