"""Learn MNIST digits from unsupervised features: the two-layer network of Kheradpisheh et al. 2018 and a linear SVM.

    python examples/mnist_kheradpisheh.py --data DIR               # train on 60,000 images, test on 10,000
    python examples/mnist_kheradpisheh.py --data DIR --limit 2000  # a first impression
    python examples/mnist_kheradpisheh.py --data DIR --evaluate    # the weights that are shipped

    torchrun --nproc-per-node 2 examples/mnist_kheradpisheh.py --data DIR --minibatch 16

Two processes, of which each answers to one half of every mini-batch, learn what one learns with ``--minibatch 16``.

Two layers find features with STDP, without labels: 32 of 5 x 5, and 150 that join 2 x 2 of their places. Labels come in
at the end alone, where a linear support vector machine reads how early each feature fires in each part of the image.
"""

import common

from spyketorch import models
from spyketorch.training import Doubling, Lesson, Readout, Unsupervised


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "--minibatch", type=common.at_least(1), default=1, metavar="N", help="images that answer with the same weights"
    )
    options = parser.parse_args()
    together = {"minibatch": options.minibatch}
    passes = max(1, 10_000 // (options.limit or 60_000))  # layers need some thousands of images, new or not
    lessons: list[Lesson | Readout] = [
        Unsupervised(kwta=5, inhibition_radius=2, schedule=Doubling(), epochs=passes, **together),
        Unsupervised(kwta=8, inhibition_radius=1, schedule=Doubling(), epochs=passes, threshold=4, **together),
        Readout(penalty=3e-4, iterations=60),
    ]
    common.run("mnist_kheradpisheh", models.kheradpisheh2018, lessons, common.mnist, [*"0123456789"], options)


if __name__ == "__main__":
    main()
