"""The rules: what learns, and how. One recipe for each, which goes by the number of images and is tuned to no cell."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from field.data import Data
from field.fronts import TIME_STEPS, grey, small
from spyketorch import encoding, models
from spyketorch.learning import VDSP, Competition, MultiplicativeSTDP, TargetTime
from spyketorch.models import Network, Stage
from spyketorch.neurons import IntegrateAndFire, Ramp, Responding
from spyketorch.readout import FirstSpikeReadout, LinearReadout
from spyketorch.snn import SpikingConvolution
from spyketorch.training import (
    Adaptive,
    Decaying,
    Doubling,
    Fading,
    FinalLesson,
    Lesson,
    Readout,
    Reinforced,
    Supervised,
    Unsupervised,
)

Lessons = Sequence[Lesson | FinalLesson]


class Taught(NamedTuple):
    """A network and what it is taught, made for some data."""

    network: Network
    lessons: Lessons


class Rule(NamedTuple):
    """A learning rule with its network.

    Attributes:
        title: as it is called on the page.
        source: where it was published.
        recipe: what is taught, in a sentence.
        see: from data to what the network is shown of it.
        teach: from what it is shown to a network, drawn by torch's generator, and its lessons.
        local: whether all that decides is learned by spikes, without a linear classifier.
    """

    title: str
    source: str
    recipe: str
    see: Callable[[Data], Data]
    teach: Callable[[Data], Taught]
    local: bool = True


def shown(see: Callable[[Tensor], Tensor], data: Data) -> Data:
    return data.seen(see)


def through_front(data: Data) -> Data:
    return data.seen(data.front.see)


# How much is learned of how many images


def epochs(images: int, least: int, presentations: int) -> int:
    """Passes over the images: the fewer they are, the more, up to so many presentations."""
    return max(least, presentations // images)


def readout(images: int) -> Readout:
    """The fewer the images, the larger the penalty, as that of a support vector machine of one C."""
    return Readout(max(3e-4, 3 / images), iterations=60)


# The published networks


def bytes_small(images: Tensor) -> Tensor:
    return (255 * small(images)).round().byte()


def large(images: Tensor) -> Tensor:
    """Grey, values 0..1; where an image has less than the 97 pixels that windows of 17 x 17 places see, enlarged."""
    factor = -(-97 // min(images.shape[-2:]))
    sizes = [size * factor for size in images.shape[-2:]]
    seen = torch.empty(len(images), 1, *sizes)
    for part, into in zip(images.split(1000), seen.split(1000), strict=True):
        into.copy_(nn.functional.interpolate(grey(part).float() / 255, sizes, mode="bilinear", align_corners=False))
    return seen


def mozafari2018(data: Data) -> Taught:
    images = len(data.learned.labels)
    network = models.mozafari2018(classes=len(data.names), image_shape=data.shape)
    lesson = Reinforced(
        reward=(0.05, -0.025),
        punishment=(-0.05, 0.005),
        schedule=Adaptive(),
        dropout=0.5,
        epochs=epochs(images, 10, 40_000),
    )
    return Taught(network, [lesson])


def features(images: int) -> list[Lesson]:
    """The first two layers of digits by reward, which need some thousands of images, new or not."""
    passes = epochs(images, 1, 10_000)
    return [
        Unsupervised(kwta=5, inhibition_radius=3, schedule=Doubling(), epochs=passes),
        Unsupervised(kwta=8, inhibition_radius=1, schedule=Doubling(), epochs=passes),
    ]


def mozafari2019(data: Data) -> Taught:
    images = len(data.learned.labels)
    network = models.mozafari2019(classes=len(data.names), image_shape=data.shape, whole_map=False)
    return Taught(network, [*features(images), Reinforced(epochs=epochs(images, 40, 200_000))])


def from_mistakes(data: Data) -> Taught:
    images = len(data.learned.labels)
    network = models.mozafari2019(classes=len(data.names), image_shape=data.shape)
    decision = Reinforced(
        correction="guess",
        punishment=(-0.004, 0.003),
        schedule=Fading(0.05),
        dropout=0.5,
        epochs=epochs(images, 40, 200_000),
    )
    return Taught(network, [*features(images), decision])


def kheradpisheh2018(data: Data) -> Taught:
    images = len(data.learned.labels)
    passes = epochs(images, 1, 10_000)
    lessons: Lessons = [
        Unsupervised(kwta=5, inhibition_radius=2, schedule=Doubling(), epochs=passes),
        Unsupervised(kwta=8, inhibition_radius=1, schedule=Doubling(), epochs=passes, threshold=4),
        readout(images),
    ]
    return Taught(models.kheradpisheh2018(classes=len(data.names), image_shape=data.shape), lessons)


# Features by target times, and what may read them


#: from single patches
PATCHES = partial(Unsupervised, rates=(0.1, -0.1), patches=True, schedule=Decaying(0.01), period=2000)
TARGET_TIME = partial(PATCHES, plasticity=MultiplicativeSTDP)
BY_POTENTIAL = partial(PATCHES, plasticity=VDSP, rates=(0.1, -0.4))


def of_patches(data: Data, teach: Callable[..., Unsupervised]) -> tuple[Network, Unsupervised]:
    """One layer that learns from single patches, and its lesson."""
    front, images = data.front, data.learned.images
    encoder = front.encoder()
    encoding.fit(encoder, images)
    maps, *size = encoder(images[:1]).shape[1:]
    layer = SpikingConvolution(maps, front.features, 5, front.threshold, 0.5, 0.01, time_steps=TIME_STEPS)
    stage = Stage(layer, front.pool(*layer.output_size(*size)), inhibit=front.inhibit)
    lesson = teach(
        thresholds=TargetTime(front.target),
        pointwise_inhibition=front.inhibit,
        answering=front.answering,
        epochs=min(200, epochs(len(images), 1, 600_000)),
    )
    return Network(encoder, [stage]), lesson


def read_linearly(data: Data, teach: Callable[..., Unsupervised]) -> Taught:
    network, lesson = of_patches(data, teach)
    shape = tuple(network.features(data.learned.images[:1]).shape[1:])
    network.readout = LinearReadout(shape, len(data.names), time_steps=TIME_STEPS)
    return Taught(network, [lesson, readout(len(data.learned.labels))])


def by_first_spike(data: Data, per_class: int, neuron: Responding, teach: Callable[..., Supervised]) -> Taught:
    """Features, and neurons that decide by who fires first."""
    network, lesson = of_patches(data, TARGET_TIME)
    shape = tuple(network.features(data.learned.images[:1]).shape[1:])
    network.readout = FirstSpikeReadout(shape, len(data.names), per_class, time_steps=TIME_STEPS, neuron=neuron)
    return Taught(network, [lesson, teach(epochs=epochs(len(data.learned.labels), 10, 60_000))])


#: as published, for step neurons: the share of the steps at which they reach their threshold before they learn
S2 = {"covariance": False, "rates": (0.2, -0.1), "gap": 0.03, "latency": 0.75}


MOZAFARI_2018 = "Mozafari et al., IEEE TNNLS 29:6178-6190, 2018, arXiv:1705.09132"
MOZAFARI_2019 = "Mozafari et al., Pattern Recognition 94:87-95, 2019, arXiv:1804.00227"
KHERADPISHEH = "Kheradpisheh et al., Neural Networks 99:56-67, 2018, arXiv:1611.01421"
FALEZ = "Falez et al., IJCNN 2019, arXiv:1904.01908"
S2_STDP = "Goupy et al., Frontiers in Neuroscience 18:1401690, 2024, arXiv:2308.02194"
NCG = "Goupy et al., NeurIPS 2024, arXiv:2410.17066"
VDSP_2023 = "Goupy et al., Neuromorphic Computing and Engineering 3:014001, 2023"

#: how the features are learned that several rules read
FEATURES = "Target-time STDP of one layer of 5 x 5 from single patches, at T = 15, of spots, colours or contours."

#: by name
RULES = {
    "mozafari2018": Rule(
        "R-STDP, one layer",
        MOZAFARI_2018,
        "`models.mozafari2018` with one guess an image, half of the neurons sitting out, rewards scaled by the share "
        "of misses and punishments by that of hits; rates of (0.05, -0.025) and (-0.05, 0.005). Images of less than "
        "97 pixels, what neurons of 17 x 17 places see, are enlarged.",
        partial(shown, large),
        mozafari2018,
    ),
    "mozafari2019": Rule(
        "R-STDP, three layers",
        MOZAFARI_2019,
        "`models.mozafari2019` as published: one guess an image, neurons that see 5 x 5 places.",
        partial(shown, bytes_small),
        mozafari2019,
    ),
    "from_mistakes": Rule(
        "R-STDP from mistakes",
        MOZAFARI_2019,
        "A rule of this library for that network, with neurons that see the whole map: a wrong guess is punished, and "
        "the next best class is tried until one is right (`correction='guess'`); half of the neurons sit out, rates "
        "fade.",
        partial(shown, bytes_small),
        from_mistakes,
    ),
    "kheradpisheh2018": Rule(
        "STDP + linear read-out",
        KHERADPISHEH,
        "`models.kheradpisheh2018`: two layers by STDP, read by a linear support vector machine.",
        partial(shown, bytes_small),
        kheradpisheh2018,
        local=False,
    ),
    "target_time": Rule(
        "target-time STDP + linear read-out",
        FALEZ,
        f"{FEATURES} A linear support vector machine.",
        through_front,
        partial(read_linearly, teach=TARGET_TIME),
        local=False,
    ),
    "s2_stdp": Rule(
        "S2-STDP",
        S2_STDP,
        "The features of target-time STDP; one step neuron for each class, taught when to fire (`training.Supervised` "
        "as published).",
        through_front,
        partial(
            by_first_spike, per_class=1, neuron=IntegrateAndFire(), teach=partial(Supervised, competition=None, **S2)
        ),
    ),
    "s2_ncg_step": Rule(
        "S2-STDP + NCG, step neurons",
        NCG,
        "The same with five neurons for each class that compete, one of them for what is of no class.",
        through_front,
        partial(
            by_first_spike,
            per_class=5,
            neuron=IntegrateAndFire(),
            teach=partial(Supervised, competition=Competition(lift=0.05), **S2),
        ),
    ),
    "s2_ncg_ramp": Rule(
        "S2-STDP + NCG, ramp neurons",
        NCG,
        "The same features; five ramp neurons for each class, depressed by what each input gives on average "
        "(`training.Supervised` as it stands).",
        through_front,
        partial(by_first_spike, per_class=5, neuron=Ramp(TIME_STEPS), teach=Supervised),
    ),
    "vdsp": Rule(
        "VDSP + linear read-out",
        VDSP_2023,
        "The features, thresholds and read-out of target-time STDP, learned by `learning.VDSP`.",
        through_front,
        partial(read_linearly, teach=BY_POTENTIAL),
        local=False,
    ),
}


def drawn(rule: Rule, data: Data, seed: int) -> Taught:
    """What the rule teaches, with weights drawn by the seed."""
    torch.manual_seed(seed)
    return rule.teach(data)
