"""Whitening: filters that take from each pixel what those around it tell already."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as fn
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._convolution import torch_threads
from spyketorch.encoding._filter import IMAGES, rounding_of
from spyketorch.encoding._fitted import Batches, FittedState, unfitted
from spyketorch.kernels.operators import correlated

_BLOCK = 4096  # patches that are added at once, whatever the batches are


class Whitening(FittedState):
    r"""The middle of whitened patches: one signed map for each channel, in which neighbours no longer say the same.

    Neighbouring pixels are alike, and so are the colours of one. With the covariance of patches of w x w pixels in all
    C channels, whose eigenvectors are the columns of U and whose eigenvalues are L,

    .. math:: W = U_m \, (L_m + \epsilon \, \bar{L})^{-1/2} \, U_m^\top

    makes them uncorrelated and of one size (m: of all, those of the largest eigenvalues; L with a bar: the mean of all,
    the variance of one value). The row of W for the middle of the patch in one channel is a kernel ``(C, w, w)``, which
    answers to an edge or a spot and to its colour. Of each of its C planes the mean is taken off, so that what is of
    one colour all over is 0. Edges of images are repeated. Whether values reach to 1 or to 255 makes no difference.

    It is fitted to images: :meth:`fit`, or :func:`fit` for a whole encoder. The kernels are saved in the ``state_dict``
    as ``kernels``, which loads into one that has none yet, too.

    Args:
        components: m; None for all, C w w.
        window: w, an odd number from 3.
        regularization: epsilon, a share of the mean variance; the more, the less is made of the finest detail, noise.
        patches: how many are drawn of each image, at random places.
        seed: of the places.

    Shape:
        ``(C, H, W)`` to ``(C, H, W)``, signed, and batches; integer images become float32. :class:`OnOff` behind it
        makes intensities of them.

    Attributes:
        kernels: ``(C, C, w, w)``, None until it is fitted.

    Raises:
        ValueError: images, where it is not fitted; images of another number of channels, or smaller than a patch where
            it is fitted.

    Example:
        >>> from spyketorch.encoding import EqualizedLatency, OnOff
        >>> encode = EqualizedLatency(torch.nn.Sequential(Whitening(window=5), OnOff()), 15)
        >>> images = torch.randint(0, 256, (100, 3, 16, 16), dtype=torch.uint8)
        >>> encode.fit(images)(images).shape
        torch.Size([100, 6, 16, 16])

    Reference:
        Falez, Tirilly, Bilasco: Improving STDP-based visual feature learning with whitening, IJCNN 2020,
        arXiv:2002.10177. There the share is absolute, 0.01 of values up to 1, whose variance in CIFAR-10 is 0.06.
    """

    kernels: Tensor | None

    def __init__(
        self,
        components: int | None = None,
        *,
        window: int = 9,
        regularization: float = 0.15,
        patches: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.components = None if components is None else check.integer(components, "components", 1)
        self.window = check.integer(window, "window", 3)
        if self.window % 2 == 0:
            raise check.fail("window", "odd, so that it has a middle", window)
        self.regularization = check.limit(regularization, "regularization")
        self.patches, self.seed = check.integer(patches, "patches", 1), check.integer(seed, "seed", 0)
        self.register_buffer("kernels", None)

    @property
    def fitted(self) -> bool:
        return self.kernels is not None

    @torch.no_grad()
    def fit(self, images: Tensor | Iterable[Any]) -> Self:
        """Take the kernels from patches of images, which are gone through once; gives the module itself.

        The same images give the same kernels, whatever the batches, the type and the threads.

        Args:
            images: ``(N, C, H, W)``, of any sizes from the window up, or batches of them, as in :func:`fit`.
        """
        patches = self._patches(Batches(images))
        first = next(patches)
        with torch_threads(1):
            covariance = _covariance(itertools.chain([first], patches), first[0])
            self.kernels = self._kernels(covariance, first.shape[1]).to(first.device, torch.float32)
        return self

    def _patches(self, images: Batches) -> Iterator[Tensor]:
        """Patches (n, C, w, w), as many of each image, in the order of the images."""
        draw = np.random.default_rng(self.seed)
        for batch in images:
            if min(batch.shape[-2:]) < self.window:
                raise check.fail("images", f"at least as large as the `window`, {self.window}", batch)
            views = batch.unfold(2, self.window, 1).unfold(3, self.window, 1)
            count, sizes = len(batch), views.shape[2:4]
            places = draw.random((count, self.patches, 2)) * np.array(sizes)
            rows, columns = torch.from_numpy(places.astype(np.int64)).to(batch.device).unbind(-1)
            number = torch.arange(count, device=batch.device)[:, None]
            yield views[number, :, rows, columns].flatten(0, 1)

    def _kernels(self, covariance: Tensor, channels: int) -> Tensor:
        size, wanted = len(covariance), self.components
        if wanted is not None and wanted > size:
            raise check.fail("components", f"at most the {size} values of a patch", wanted)
        variance = covariance.diagonal().mean()
        if not variance > 0:
            raise ValueError("`images` must not be of one value all over, as there is nothing to whiten")
        values, vectors = torch.linalg.eigh(covariance)
        kept = slice(size - (wanted or size), None)  # the largest come last
        spread = (values[kept].clamp(min=0) + self.regularization * variance).clamp(min=1e-12 * float(variance))
        middle = torch.arange(channels) * self.window**2 + self.window**2 // 2
        rows = (vectors[middle, kept] / spread.sqrt()) @ vectors[:, kept].T
        kernels: Tensor = rows.view(channels, channels, self.window, self.window)
        return kernels - kernels.mean((2, 3), keepdim=True)

    def forward(self, input: Tensor) -> Tensor:
        image = check.floating(check.image(input, IMAGES), IMAGES)
        if self.kernels is None:
            raise unfitted("kernels", self)
        if image.shape[-3] != len(self.kernels):
            accepted = f"of the {len(self.kernels)} channels that it was fitted to"
            raise check.fail(IMAGES, accepted, input, check.regrouped(input, len(self.kernels)))
        check.same_device(image, IMAGES, self.kernels, "kernels")
        check.finite(image, IMAGES)
        batch = image if image.ndim == 4 else image.unsqueeze(0)
        kernels = self.kernels.to(image.dtype)
        output = correlated(fn.pad(batch, (self.window // 2,) * 4, mode="replicate"), kernels, (0, 0))
        output = torch.where(output.abs() <= rounding_of(batch, kernels), 0, output)
        return output if image.ndim == 4 else output[0]

    def extra_repr(self) -> str:
        drawn = f"regularization={self.regularization}, patches={self.patches}, seed={self.seed}"
        return f"components={self.components}, window={self.window}, {drawn}"


def _covariance(patches: Iterator[Tensor], one: Tensor) -> Tensor:
    """Of patches such as this one, in float64."""
    size, shift = one.numel(), float(one[0, 0, 0])  # so that images of one value all over vary by exactly 0
    exact: Any = {"dtype": torch.float64, "device": "cpu"}
    total, products, count = torch.zeros(size, **exact), torch.zeros(size, size, **exact), 0
    for block in _blocks(patches):
        rows = block.reshape(-1, size).to("cpu", torch.float64) - shift
        total += rows.sum(0)
        products += rows.T @ rows
        count += len(rows)
    mean = total / count
    return products / count - mean[:, None] * mean


def _blocks(parts: Iterator[Tensor]) -> Iterator[Tensor]:
    """The rows of all parts in blocks of one size, the last of the rest: what is added together is always the same."""
    kept: list[Tensor] = []
    for part in parts:
        kept.append(part)
        if sum(map(len, kept)) >= _BLOCK:
            *whole, rest = torch.split(torch.cat(kept), _BLOCK)
            yield from whole
            kept = [rest]
    yield from torch.split(torch.cat(kept), _BLOCK)
