"""Draw the pictures of the documentation, docs/images/*: `python docs/make_figures.py` (about a minute, seed 0).

Everything is drawn by the library from the digits and pictures that scikit-learn ships, and from bars.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as fn
from matplotlib.animation import PillowWriter
from sklearn.datasets import load_digits, load_sample_images

from spyketorch import encoding, latency, models, snn
from spyketorch import functional as sf
from spyketorch import visualization as vis
from spyketorch.training import Fading, Reinforced, Trainer, Unsupervised, evaluate

IMAGES = Path(__file__).parent / "images"
T = 15
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#999999"
plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def save(figure, name):
    """Write a picture and forget it."""
    figure.savefig(IMAGES / name, dpi=100)
    plt.close(figure)


def digits():
    """Images (N, 1, 20, 20) in 0..1 and labels."""
    data = load_digits()
    images = fn.pad(torch.tensor(data.images / 16, dtype=torch.float32).unsqueeze(1), (1, 1, 1, 1))
    return fn.interpolate(images, scale_factor=2, mode="bilinear"), torch.tensor(data.target)


def as_mnist(image):
    """A digit of scikit-learn in the size and the range of MNIST."""
    digit = fn.interpolate(image[None, :, 2:-2, 2:-2], size=(20, 20), mode="bicubic")[0]
    return fn.pad(digit.clamp(0, 1), (4, 4, 4, 4)) * 255


def start_network():
    """The network of docs/start.md."""
    torch.manual_seed(0)
    on, off = encoding.DoGKernel(3, 1 / 3, 2 / 3), encoding.DoGKernel(3, 2 / 3, 1 / 3)
    encoder = encoding.LatencyEncoder(encoding.Filter([on, off], padding=1, thresholds=0), T)
    strokes = snn.SpikingConvolution(2, 64, 5, threshold=12, weight_std=0.05, time_steps=T, padding=2)
    answers = snn.SpikingConvolution(64, 200, 10, threshold=None, weight_std=0.05, time_steps=T)
    stages = [models.Stage(strokes, snn.SpikingPooling(3, 2, 1), inhibit=True), models.Stage(answers)]
    return models.Network(encoder, stages, classes=torch.arange(200) // 20)


def start(network, images, labels):
    """Train it, and draw what came of it."""
    lessons = [
        Unsupervised(kwta=5, inhibition_radius=2, epochs=8),
        Reinforced(
            correction="guess",
            reward=(0.015, -0.011),
            punishment=(-0.014, 0.0014),
            schedule=Fading(),
            dropout=0.5,
            epochs=20,
        ),
    ]
    before = network.stages[0].layer.weight.detach().clone()
    film = vis.Watch(IMAGES / "watch.gif", features=20, frames=6, share=1)
    trainer = Trainer(network, lessons, progress=False, watch=film)
    trainer.fit(images[:1297], labels[:1297])
    result = evaluate(network, images[1297:], labels[1297:])
    print(f"start: {result.accuracy:.1%} of the test digits are right")

    figure, axes = plt.subplots(1, 2, figsize=(9.4, 4.4), layout="constrained")
    vis.plot_features(vis.get_network_features(network, 0), columns=8, title="features of layer 1", ax=axes[0])
    vis.plot_confusion(result.confusion, title=f"test, {result.accuracy:.1%} right", ax=axes[1])
    save(figure, "start.png")

    save(vis.plot_history(trainer.history), "training-history.png")
    weights = {"before": before, "after": network.stages[0].layer.weight}
    save(vis.plot_weights(weights, title="weights of layer 1"), "training-weights.png")
    save(vis.plot_confusion(result, title=f"test, {result.accuracy:.1%} right"), "api-confusion.png")


def times(encoder, image):
    """From the image to first spikes, through two of the six filters."""
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 2.9), layout="constrained", width_ratios=[1, 2, 2.2])
    axes[0].imshow(image[0], cmap="gray")
    axes[0].set(xticks=[], yticks=[], title="image")
    contrasts = latency.local_normalization(encoder.filter(image[None]), encoder.normalization_radius)[0]
    vis.plot_features(contrasts[2:4], columns=2, title="contrasts: bright spots, dark spots", ax=axes[1])
    vis.plot_times(encoder(image)[2:4], time_steps=T, title="first spikes", ax=axes[2])
    save(figure, "ideas-times.png")


def waves(encoder, image):
    """The frames of a wave, side by side and as a film."""
    spikes = encoder(image)
    save(vis.plot_wave(spikes, time_steps=T), "ideas-wave.png")
    figure, ax = plt.subplots(figsize=(4.2, 3.9), layout="constrained")
    animation = vis.animate_wave(spikes, time_steps=T, ax=ax)
    animation.save(IMAGES / "wave.gif", writer=PillowWriter(fps=4), dpi=80)
    plt.close(figure)


def potentials(network, image):
    """Potentials of some features at one place, over time."""
    layer = network.stages[0].layer
    potential = sf.convolution(latency.to_wave(network.encoder(image), T), layer.weight, padding=2)
    fired = latency.from_wave(sf.fire(potential, 12))
    row, column = divmod(int(fired.long().sum(0).argmin()), fired.shape[-1])
    potential, fired = potential[:, :, row, column], fired[:, row, column].tolist()
    steps = sorted({step for step in fired if step < T})  # features of three times, and one that stays silent
    chosen = [fired.index(step) for step in (steps[0], steps[1], steps[len(steps) // 2])]
    chosen.append(int(potential[-1].argmin()))
    figure, ax = plt.subplots(figsize=(7.4, 3.2), layout="constrained")
    for feature, colour in zip(chosen, (ORANGE, BLUE, GREEN, GREY), strict=True):
        time = fired[feature]
        label = f"feature {feature}: " + (f"fires at step {time}" if time < T else "stays silent")
        ax.step(range(T), potential[:, feature], where="post", color=colour, label=label)
        if time < T:
            ax.plot(time, potential[time, feature], "o", color=colour)
    ax.axhline(12, color="black", linestyle="--", linewidth=1)
    ax.text(0.1, 12.3, "threshold")
    ax.set(xlabel="time step", ylabel="potential", xlim=(0, T - 1), ylim=(0, None))
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "ideas-potential.png")


def inhibition(network, image):
    """How many features speak at each place, and which one after inhibition."""
    fired, potential = network.stages[0].layer.respond(network.encoder(image))
    alone, _ = latency.pointwise_inhibition(fired, potential, time_steps=T)
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.6), layout="constrained")
    counts = axes[0].imshow((fired < T).sum(0), cmap="magma")
    figure.colorbar(counts, ax=axes[0], label="features that fire", location="bottom", shrink=0.8)
    axes[0].set(xticks=[], yticks=[], title="before: many features at each place")
    vis.plot_times(alone.amin(0, keepdim=True), time_steps=T, title="after: one, with this number", ax=axes[1])
    frame = (axes[1].images[0].get_array().shape[0] - alone.shape[-2]) // 2  # around the map
    for row, column in (alone.amin(0) < T).nonzero().tolist():
        feature = int(alone[:, row, column].argmin())
        axes[1].text(column + frame, row + frame, feature, ha="center", va="center", fontsize=6, color="white")
    save(figure, "ideas-inhibition.png")


def winners(network, image):
    """Who learns from a digit, and what each of them looks for."""
    found = network.stages[0].layer.winners(network.encoder(image), 3, 2, pointwise_inhibition=True)
    figure, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained", width_ratios=[1.1, 1])
    vis.plot_winners(image, found, vis.get_receptive_field(network, 0), title="three winners", ax=axes[0])
    features = vis.get_network_features(network, 0)[found[:, 0]]
    names = ", ".join(str(int(f)) for f in found[:, 0])
    vis.plot_features(features, columns=3, title=f"what features {names} look for", ax=axes[1])
    save(figure, "ideas-winners.png")


def rule():
    """STDP: the rate, and the stabilizer."""
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.9), layout="constrained")
    ax = axes[0]
    ax.plot([-8, 0], [1, 1], color=BLUE, linewidth=2)
    ax.plot([0, 8], [-0.75, -0.75], color=ORANGE, linewidth=2)
    ax.plot([0], [1], "o", color=BLUE)
    ax.axhline(0, color="black", linewidth=0.8)
    ax.axvline(0, color="black", linewidth=0.8, linestyle=":")
    ax.text(-4, 1.12, "LTP: the input helped", ha="center", color=BLUE)
    ax.text(4, -1.06, "LTD: too late, or silent", ha="center", color=ORANGE)
    ax.set(xlabel="input spike minus winner's spike (time steps)", ylabel="rate", ylim=(-1.4, 1.5))
    ax.set_yticks([1, 0, -0.75], ["$a^+$", "0", "$a^-$"])
    w = torch.linspace(0, 1, 101)
    axes[1].plot(w, w * (1 - w), color=GREEN, linewidth=2)
    axes[1].set(xlabel="weight w", ylabel="(w - 0) (1 - w)", ylim=(0, 0.3))
    axes[1].text(0.5, 0.265, "undecided: moves easily", ha="center")
    axes[1].text(0.05, 0.015, "rests")
    axes[1].text(0.95, 0.015, "rests", ha="right")
    save(figure, "ideas-stdp.png")


def bars():
    """The example of docs/ideas.md, looked at as it learns."""
    torch.manual_seed(1)
    both = torch.zeros(2, 1, 5, 5)
    both[0, 0, 2], both[1, 0, :, 2] = 1, 1
    images = 0.7 * both[torch.randint(2, (300,))] + 0.5 * torch.rand(300, 1, 5, 5)
    layer = snn.SpikingConvolution(1, 2, 5, threshold=3, weight_std=0.05, time_steps=10)
    stdp = snn.STDP(layer, learning_rate=(0.1, -0.075))
    figure, axes = plt.subplots(2, 8, figsize=(9.4, 2.6), layout="constrained")
    for ax, image in zip(axes[:, :3].T.flat, images[:6], strict=True):
        ax.imshow(image[0], cmap="gray")
    seen = 0
    for column, until in enumerate((0, 10, 30, 100, 300), 3):
        if until > seen:
            stdp.learn(latency.rank_order(images[seen:until], 10))
        seen = until
        for ax, weight in zip(axes[:, column], layer.weight.detach(), strict=True):
            ax.imshow(weight[0], cmap="viridis", vmin=0, vmax=1)
        axes[0, column].set_title(f"after {until}")
    axes[0, 1].set_title("some pictures")
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    for row in (0, 1):
        axes[row, 3].set_ylabel(f"neuron {row}")
    save(figure, "ideas-bars.png")


def overview(network, image, label):
    """Image to decision."""
    spikes = network.encoder(image)
    first, second = network.stages
    answer = first(spikes)
    _, votes = second.layer.respond(answer)
    best = votes.flatten().view(10, 20).amax(1)
    figure, axes = plt.subplots(1, 4, figsize=(9.6, 3.1), layout="constrained")
    axes[0].imshow(image[0], cmap="gray")
    axes[0].set(xticks=[], yticks=[], title="image")
    vis.plot_times(spikes.amin(0, keepdim=True), time_steps=T, title="first spikes", ax=axes[1])
    vis.plot_times(answer.amin(0, keepdim=True), time_steps=T, title="layer 1, pooled", ax=axes[2])
    decided = int(best.argmax())
    axes[3].bar(range(10), best, color=[ORANGE if k == decided else GREY for k in range(10)])
    low = float(best.min())
    axes[3].set(ylim=(low - 0.15 * (float(best.max()) - low), None), xticks=range(10), yticks=[])
    axes[3].set(title=f"largest potentials: a {decided}", xlabel="digit")
    print(f"overview: label {label}, decision {decided}")
    save(figure, "ideas-network.png")


def colour():
    """A flower through three front ends of docs/colour.md."""
    pictures = [torch.from_numpy(picture.copy()).permute(2, 0, 1) for picture in load_sample_images().images]
    small = torch.stack([fn.interpolate(one[None].float(), (80, 120), mode="area")[0] for one in pictures])
    spots = [encoding.DoGKernel(7, 1, 2), encoding.DoGKernel(7, 2, 1)]
    edges = torch.nn.ReplicationPad2d(3)
    fronts = {
        "brightness": (encoding.Luminance(), edges, encoding.Filter(spots, 0, 0)),
        "opponent colours": (encoding.OpponentColours(), edges, encoding.Filter(spots, 0, 0, channels=3)),
        "whitening": (encoding.Whitening(), encoding.OnOff()),
    }
    names = {
        "brightness": ["brighter", "darker"],
        "opponent colours": ["redder", "greener", "yellower", "bluer"],
        "whitening": ["more red", "less red", "more blue", "less blue"],
    }
    kept = {"brightness": [0, 1], "opponent colours": [2, 3, 4, 5], "whitening": [0, 1, 4, 5]}
    figure, axes = plt.subplots(3, 5, figsize=(9.6, 4.6), layout="constrained")
    for row, (name, front) in enumerate(fronts.items()):
        encoder = encoding.EqualizedLatency(torch.nn.Sequential(*front), T, per_place=False).fit(small)
        axes[row, 0].imshow(small[1].permute(1, 2, 0) / 255)
        axes[row, 0].set_ylabel(name)
        for ax in axes[row, 1:]:
            ax.axis("off")
        for ax, place, title in zip(axes[row, 1:], kept[name], names[name], strict=False):
            ax.imshow(T - encoder(small[1])[place].float(), cmap="gray", vmin=0, vmax=T, interpolation="nearest")
            ax.set_title(title)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
    save(figure, "colour.png")


def reference(network, image, images):
    """What docs/api/visualization.md shows of each function that no other page shows alone."""
    times = network.encoder(image)
    save(vis.plot_times(times, time_steps=T, title="bright spots, dark spots"), "api-times.png")
    found = network.stages[0].layer.winners(times, 5, 2)
    save(vis.plot_winners(image, found, vis.get_receptive_field(network, 0)), "api-winners.png")
    save(vis.plot_features(vis.get_network_features(network, 0), columns=16), "api-features.png")
    answered = vis.get_mean_stimuli(network, 0, images[:500], kwta=5, inhibition_radius=2)
    save(vis.plot_features(answered[answered.amax((1, 2)) > 0], columns=16), "api-mean-stimuli.png")
    vis.show_tensor(network.stages[0].layer.weight[0, 0])
    plt.gcf().set_size_inches(3.6, 2.8)
    save(plt.gcf(), "api-show-tensor.png")
    vis.plot_tensor_in_image(IMAGES / "api-pixels.png", image[0])


def events():
    """A digit of examples/saccades.py: its events, and the first spikes of the first saccade."""
    sys.path.append(str(Path(__file__).parents[1] / "examples"))
    import saccades

    image = fn.pad(digits()[0][13, 0], (7, 7, 7, 7))
    told = saccades.events(image, np.random.default_rng(0))
    figure = plt.figure(figsize=(9.4, 3.6), layout="constrained")
    cloud, *maps = (
        figure.add_subplot(1, 4, (1, 2), projection="3d"),
        figure.add_subplot(1, 4, 3),
        figure.add_subplot(1, 4, 4),
    )
    cloud.scatter(told["t"] / 1000, told["x"], told["y"], c=np.where(told["p"], ORANGE, BLUE), s=0.7)
    cloud.set(xlabel="ms", ylabel="x", yticks=[10, 20], zticks=[10, 20], ylim=(6, 27), zlim=(4, 29))
    cloud.set_zlabel("y", labelpad=-8)
    cloud.set_box_aspect((2.2, 1, 1))
    cloud.invert_zaxis()
    times = saccades.build().encoder(told)
    first_spikes(maps, times, ["darker", "brighter"])
    save(figure, "events.png")


def sound():
    """A tone that rises and one that falls: spectrogram, and first spikes, as in docs/sound.md."""
    seconds = torch.arange(4000) / 8000
    wave = torch.sin(2 * torch.pi * (300 + 1500 * seconds) * seconds)
    wave = (wave + 0.5 * torch.sin(2 * torch.pi * (3000 - 1500 * seconds) * seconds)) * torch.hann_window(4000)
    bank = encoding.FilterBank(8000, 40, span=40)
    changes = encoding.Filter([encoding.DoGKernel(7, 1, 2), encoding.DoGKernel(7, 2, 1)], 3, thresholds=0)
    heard = bank(wave.view(1, 1, -1))
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 2.9), layout="constrained")
    axes[0].imshow(heard[0], origin="lower", aspect="auto", cmap="magma")
    axes[0].set(title="spectrogram", xlabel="frame, every 10 ms", ylabel="band")
    times = encoding.LinearLatency(changes, T).fit(heard[None])(heard)
    first_spikes(axes[1:], times.flip(-2), ["louder than around", "fainter"])
    for ax in axes[1:]:
        ax.set_aspect("auto")
    save(figure, "sound.png")


def first_spikes(axes, times, titles):
    """Maps of first spikes in the colours of plot_times."""
    for ax, one, title in zip(axes, times, titles, strict=True):
        shown = np.ma.masked_equal(one.numpy(), T)
        ax.imshow(shown, cmap=plt.get_cmap("viridis_r"), vmin=-3, vmax=T - 1, interpolation="nearest")
        ax.set(title=title, xticks=[], yticks=[])
        ax.spines[:].set_visible(True)


def main():
    """Draw them all."""
    torch.set_num_threads(1)
    images, labels = digits()
    network = start_network()
    start(network, images, labels)
    image = images[1300 + int((labels[1300:] == 3).nonzero()[0])]
    encoder = models.mozafari2019().encoder
    times(encoder, as_mnist(image))
    waves(encoder, as_mnist(image))
    for draw in (potentials, inhibition, winners):
        draw(network, image)
    overview(network, image, 3)
    reference(network, image, images)
    rule()
    bars()
    colour()
    events()
    sound()


if __name__ == "__main__":
    main()
