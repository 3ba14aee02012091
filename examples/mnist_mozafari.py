"""Learn MNIST digits by reward, without gradients: the three-layer spiking network of Mozafari et al. 2019.

    python examples/mnist_mozafari.py --data DIR               # train on 60,000 images, test on 10,000
    python examples/mnist_mozafari.py --data DIR --limit 2000  # a first impression
    python examples/mnist_mozafari.py --data DIR --evaluate    # the weights that are shipped
    python examples/mnist_mozafari.py --data DIR --recipe paper --epochs 40

Two layers find features with STDP, without labels; the third learns to name the digit with reward-modulated STDP. It
learns from its mistakes alone: a wrong guess is punished, and the next best digit is tried, until one is right and
rewarded. Half of its neurons sit out each image, rates fade to a twentieth, and each neuron sees the whole map at once.
`--recipe paper` is the rule as published: one guess, neurons that see 5 x 5 places, a reward for every right answer.
`--recipe taught` shows the right digit after the first mistake.
"""

from functools import partial

import common

from spyketorch import models
from spyketorch.training import Adaptive, Doubling, Fading, Lesson, Reinforced, Unsupervised


def lessons(recipe: str, epochs: int, images: int) -> list[Lesson]:
    passes = max(1, 10_000 // images)  # layers without labels need some thousands of images, new or not
    features: list[Lesson] = [
        Unsupervised(kwta=5, inhibition_radius=3, schedule=Doubling(), epochs=passes),
        Unsupervised(kwta=8, inhibition_radius=1, schedule=Doubling(), epochs=passes),
    ]
    if recipe == "paper":
        return [*features, Reinforced(schedule=Adaptive(), epochs=epochs)]
    decision = Reinforced(
        correction="teach" if recipe == "taught" else "guess",
        punishment=(-0.004, 0.003),
        schedule=Fading(0.05),
        dropout=0.5,
        epochs=epochs,
    )
    return [*features, decision]


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--recipe", choices=["guess", "taught", "paper"], default="guess")
    parser.add_argument("--epochs", type=common.at_least(1), default=40, help="of the last layer (default 40)")
    options = parser.parse_args()
    build = partial(models.mozafari2019, whole_map=options.recipe != "paper")
    recipe = lessons(options.recipe, options.epochs, options.limit or 60_000)
    common.run("mnist_mozafari", build, recipe, common.mnist, [*"0123456789"], options)


if __name__ == "__main__":
    main()
