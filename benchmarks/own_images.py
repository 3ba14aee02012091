"""What linear classifiers make of the pictures of examples/own_images.py, on the same parts: of raw pixels, and of HOG.

    python benchmarks/own_images.py --data FOLDER --per-class 30 --seed 0      # needs: pip install scikit-image

A support vector machine hears the grey pixels of 64 x 64, or histograms of oriented gradients of them (9 orientations,
cells of 8 x 8, blocks of 2 x 2). Its C is chosen on the validation part; then it learns from both parts.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import own_images
from sklearn.svm import LinearSVC

try:
    from skimage.feature import hog
except ImportError as error:
    sys.exit(f"{error.name} is missing; this benchmark needs: pip install scikit-image")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--per-class", type=int)
    parser.add_argument("--group", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = own_images.pictures(options.data)
    groups = np.array(own_images.grouped(data, options.data, options.group))
    known, test = own_images.apart(data.labels, groups, data.names, options.share, options.seed, options.per_class)
    learned, validation = own_images.apart(data.labels[known], groups[known], data.names, 0.2, options.seed)
    pixels, labels = data.images[:, 0].numpy(), data.labels.numpy()
    inputs = {
        "raw pixels": pixels.reshape(len(pixels), -1) - pixels.mean(),
        "HOG": np.stack([hog(image, 9, (8, 8), (2, 2), block_norm="L2-Hys") for image in pixels]),
    }
    for name, given in inputs.items():

        def right(c: float, some: np.ndarray, others: np.ndarray, given: np.ndarray = given) -> float:
            machine = LinearSVC(C=c, max_iter=2000).fit(given[some], labels[some])
            return float(machine.score(given[others], labels[others]))

        known_, test_ = known.numpy(), test.numpy()
        best = max((0.001, 0.01, 0.1, 1.0), key=lambda c: right(c, known_[learned.numpy()], known_[validation.numpy()]))
        print(f"{name}: test accuracy {100 * right(best, known_, test_):.1f} % (C {best})")


if __name__ == "__main__":
    main()
