"""Where images come from: tensors, arrays, data sets and loaders as one thing, read once and in order."""

import hashlib
import itertools
import mmap
import numbers
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from spyketorch import _checks as check
from spyketorch._identity import Content, digest, hashed
from spyketorch.data._cache import _alike, _random_state

#: what stands for many images
Images = Tensor | np.ndarray | Dataset[Any] | Iterable[Any]
#: the classes of images as they come: numbers, or names
Labels = list[int] | list[str]

_HEAD, _HEAD_BYTES = 500, 2**28  # images that are looked at before all others, and the memory that they may take
_ROWS = 2**22  # bytes of a mapped file that are copied at once
_END = object()  # behind the last part of what is read

_FORMS = (
    "a tensor or an array (N, C, H, W), a Dataset, a list of images, or an iterable of batches (images, labels), such "
    "as a DataLoader"
)


class Source(ABC):
    """Images in one order, perhaps with labels; :func:`sourced` makes one of every form.

    Attributes:
        head: the first images, ``(n, C, H, W)``, up to 500, and no more than 256 MB of them.
        at_hand: all images that need not be read: those of a tensor, or the first of what is read.
        count: how many there are; None where only reading tells.
        classes: what numbers as labels stand for, such as the folders of an ``ImageFolder``; None where nothing tells.
        labelled: whether there are labels.
        labels: as they came, numbers or names, once they are known.
        random: whether another pass would give others, as far as the first images tell.
    """

    head: Tensor
    at_hand: Tensor
    count: int | None
    classes: tuple[str, ...] | None = None
    labelled: bool
    labels: Labels | None = None
    random: bool = False
    _identity: str | None = None

    @property
    @abstractmethod
    def name(self) -> str | None:
        """What tells these images from others before they are read; None where nothing does."""

    @property
    def identity(self) -> str | None:
        """Shape, type and hash of all images, the same in every form; None before they have been read."""
        return self._identity

    def recall(self, identity: str, labels: Labels | None) -> None:
        """Know what a pass over the images has told."""
        self._identity, self.labels = identity, labels

    @abstractmethod
    def chunks(self, size: int) -> Iterator[Tensor]:
        """All images in order, in parts of ``size``; the last may be smaller."""

    @abstractmethod
    def __len__(self) -> int:
        """How many there are; an error where only reading tells."""

    def numbered(self, names: tuple[str, ...] | None) -> tuple[Tensor | None, tuple[str, ...] | None]:
        """The classes of all images that were read, int64 ``(N,)``, by their place in ``names``; and the names.

        Without names they are those of the data set, or those that were met, in alphabetical order. Where a data set
        numbers its classes in another order than ``names``, the names count.
        """
        labels = self.labels
        if labels is None:
            return None, names or self.classes
        words = [label for label in labels if isinstance(label, str)]
        if not words and names is not None and self.classes not in (None, names):
            words = [_named(int(label), self.classes or ()) for label in labels]
        if not words:
            return torch.tensor(labels), names or self.classes
        if len(words) < len(labels):
            raise check.fail_type("labels", "all integers, or all names of classes", labels)
        names = names or self.classes or tuple(sorted(set(words)))
        place = {name: number for number, name in enumerate(names)}
        for number, word in enumerate(words):
            if word not in place:
                known = ", ".join(map(repr, names[:10])) + ", ..." * (len(names) > 10)
                raise ValueError(
                    f"`labels` must be among the classes {known}; that of image {number} is {word!r}: leave such "
                    "images out; before a network is taught other classes, `network.names = None` forgets those it had"
                )
        return torch.tensor([place[word] for word in words]), names


def _named(label: int, classes: tuple[str, ...]) -> str:
    if label >= len(classes):
        raise check.fail("labels", f"numbers below {len(classes)}, the number of `classes` of the data set", label)
    return classes[label]


class _Held(Source):
    """Images that lie in memory as one tensor."""

    def __init__(self, images: Tensor, labels: Any) -> None:
        self.at_hand = check.images(images)
        if images.is_meta:
            raise check.fail_type("images", "a tensor with values", images)
        self.labels = None if labels is None else _labels(labels, len(images))
        self.head, self.count, self.labelled = images[: _room(images[:1])], len(images), labels is not None

    @property
    def name(self) -> str:
        return self.identity

    @property
    def identity(self) -> str:
        if self._identity is None:
            self._identity = f"{tuple(self.at_hand.shape)} {self.at_hand.dtype} {digest(self.at_hand)}"
        return self._identity

    def __len__(self) -> int:
        return len(self.at_hand)

    def chunks(self, size: int) -> Iterator[Tensor]:
        yield from torch.split(self.at_hand, min(size, len(self)))


class _Piece(NamedTuple):
    """Images that were read together, ``(n, C, H, W)``, their labels, where they came with some; or a single one."""

    images: Tensor
    labels: Labels | None
    single: bool = False


class _Streamed(Source):
    """Images that are read as they are asked for, and forgotten, but for the first.

    Args:
        form: what the images come from.
        labels: of all images, where they do not come with them.
    """

    def __init__(self, form: "_Form", labels: Any) -> None:
        self._form = form
        self.classes = form.classes
        begun, before = form.pieces(), _random_state()
        first = next(begun, None)
        self.random = form.shuffled or not _alike(_random_state(), before)
        if first is None:
            raise check.fail("images", "at least one image", form.holds)
        if labels is not None and first.labels is not None:
            raise check.fail("labels", "None where `images` come with labels of their own", labels)
        self.count = form.items if first.single else form.images
        self._labels = None if labels is None else _labels(labels, self.count)
        self.labelled = labels is not None or first.labels is not None
        self._first = first._replace(images=first.images[:1])
        looked, have, room = list[_Piece](), 0, _room(first.images[:1])
        for piece in itertools.chain([first], begun):
            looked.append(self._checked(piece, have))
            have += len(piece.images)
            if have >= room:
                break
        self.head = _joined([piece.images for piece in looked])[:room]
        if have > room:
            self.head = self.head.clone()  # without what lies behind it
        self.at_hand = self.head
        self._looked, self._rest = looked, begun
        self._fresh = True  # whether nothing was read behind those that were looked at

    @property
    def name(self) -> str | None:
        return self._name

    @cached_property
    def _name(self) -> str | None:
        content = Content()
        found = content(self._form.holds)
        if content.unknown:
            return None
        return hashed(found, str(self.count), digest(self.head), str(torch.get_default_dtype()))

    def __len__(self) -> int:
        if self.count is None:
            raise check.fail_type(
                "images",
                "of a form that tells how many there are, as room for the answers to all is made first",
                self._form.holds,
                "give a Dataset with a `__len__`, a DataLoader of one with a `batch_size`, or a list of batches",
            )
        return self.count

    def chunks(self, size: int) -> Iterator[Tensor]:
        """All images in order, in parts of ``size``; the last may be smaller.

        Raises:
            ValueError: images of another size, type or number than the first or the length let expect; values that are
                NaN; a further pass over what can be read once.
        """
        waiting, have = list[Tensor](), 0
        for images in self._pass():
            waiting.append(images)
            have += len(images)
            if have >= size:
                parts = torch.split(_joined(waiting), size)
                waiting = [] if have % size == 0 else [parts[-1]]
                have %= size
                yield from parts[: len(parts) - len(waiting)]
        if waiting:
            yield _joined(waiting)

    def _pass(self) -> Iterator[Tensor]:
        shape, kind = (self.count, *self.head.shape[1:]), self.head.dtype
        found, seen, labels = hashlib.sha256(f"{shape} {kind}".encode()), 0, list[Any]()
        for piece in self._in_order():
            images = self._checked(piece, seen).images
            seen += len(images)
            if self.count is not None and seen > self.count:
                raise check.fail("images", f"as many as their length says, {self.count}", seen)
            labels += piece.labels or []
            found.update(images.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
            yield images
        if self.count not in (None, seen):
            raise check.fail("images", f"as many as their length says, {self.count}", seen)
        if self._labels is not None and len(self._labels) != seen:
            raise check.fail("labels", f"the class of each of {seen} images", self._labels)
        kept = (labels if self._labels is None else self._labels) if self.labelled else None
        identity = f"{shape} {kind} {found.hexdigest()[:16]}"
        if self._identity is not None and (identity, kept) != (self._identity, self.labels):
            raise ValueError(
                "`images` must be the same in each pass, but those of an earlier pass were others: leave out what "
                "draws at random, such as shuffle=True of a DataLoader; where files have changed, another directory "
                "begins anew"
            )
        self.recall(identity, kept)

    def _in_order(self) -> Iterator[_Piece]:
        """All pieces; those that were looked at are not read again before the others were."""
        if not self._fresh:
            yield from self._form.pieces()
            return
        yield from self._looked
        for piece in self._rest:
            self._fresh, self._looked = False, []
            yield piece

    def _checked(self, piece: _Piece, seen: int) -> _Piece:
        """A piece that is as the first image was; ``seen`` images lie before it."""
        mine, first = piece.images, self._first.images
        if mine.shape[1:] != first.shape[1:]:
            way = "bring all to one size in the transform of the data set, as torchvision's Resize((rows, columns))"
            if mine.shape[2:] == first.shape[2:]:
                way = "bring all to the same channels, as torchvision's Grayscale() or a picture's `convert` does"
            raise ValueError(
                f"`images` must be of one size; image {seen} is {_by(mine)}, but the first {_by(first)}: {way}"
            )
        if mine.dtype != first.dtype:
            raise ValueError(
                f"`images` must be of one type; image {seen} is {mine.dtype}, but the first {first.dtype}: bring all "
                "to one type and scale in the transform of the data set"
            )
        if (piece.labels is None) != (self._first.labels is None):
            has = "none" if piece.labels is None else "one, but the first none"
            raise ValueError(f"`images` must come with a label each, or none of them; image {seen} has {has}")
        check.finite_if_looked_at(mine, "images")
        return piece


def _room(image: Tensor) -> int:
    """How many images are looked at before all others."""
    return min(_HEAD, max(1, _HEAD_BYTES // max(1, image.nbytes)))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _by(images: Tensor) -> str:
    return " x ".join(map(str, images.shape[1:]))


# every form becomes a source here, and nowhere else


class _Form(NamedTuple):
    """What images come from, piece by piece.

    Attributes:
        holds: what was given; its content tells it from others.
        pieces: begins a pass over the images, in order.
        items: how many there are, where pieces are single images; None where nothing tells.
        images: the same where pieces are batches.
        classes: what numbers as labels stand for.
        shuffled: whether the order is another in each pass.
    """

    holds: Any
    pieces: Callable[[], Iterator[_Piece]]
    items: int | None = None
    images: int | None = None
    classes: tuple[str, ...] | None = None
    shuffled: bool = False


def sourced(images: Any, labels: Any = None, *, single: bool = False) -> Source:
    """Images of any form as one thing.

    Args:
        images: a tensor or an array ``(N, C, H, W)``, also a memory-mapped one; a ``Dataset`` or a list of images or of
            pairs (image, label); an iterable of batches, images or (images, labels), such as a DataLoader. An image is
            a tensor or an array ``(C, H, W)`` or ``(H, W)``, or a picture of PIL, which becomes uint8.
        labels: of all images, numbers or names of classes, where they do not come with them.
        single: whether one image will do.

    Raises:
        TypeError, ValueError: what is none of these; the sentence says the way on.
    """
    if isinstance(images, Source):
        return images
    if single and (_is_picture(images) or (isinstance(images, Tensor | np.ndarray) and images.ndim in (2, 3))):
        images = _image(images)[None]
    if isinstance(images, np.memmap) and images.ndim == 4:
        return _Streamed(_mapped(images), labels)
    if isinstance(images, np.ndarray):
        images = _from_array(images)
    if isinstance(images, Tensor):
        return _Held(images, labels)
    readable = hasattr(images, "__getitem__") or hasattr(images, "__iter__")
    if isinstance(images, str | bytes | os.PathLike | Mapping | type) or _is_picture(images) or not readable:
        raise _refused(images)
    if isinstance(images, DataLoader):
        return _Streamed(_loaded(images), labels)
    if hasattr(images, "__getitem__") and not isinstance(images, IterableDataset):
        return _Streamed(_indexed(images), labels)
    return _Streamed(_iterated(images), labels)


def _refused(images: Any) -> TypeError:
    way = ""
    if isinstance(images, str | os.PathLike):
        way = "torchvision's `datasets.ImageFolder(path, transform)` is a Dataset of the pictures below a folder"
    elif _is_picture(images):
        way = "`[picture]` is a list of one"
    elif isinstance(images, Mapping):
        way = "give the images and the labels in it as two arguments"
    return check.fail_type("images", _FORMS, images, way)


def _mapped(images: "np.memmap[Any, Any]") -> _Form:
    rows = max(1, _ROWS // max(1, images[:1].nbytes))
    file: Any = images
    while isinstance(file, np.ndarray):
        file = file.base

    def pieces() -> Iterator[_Piece]:
        for start in range(0, len(images), rows):
            copied = np.array(images[start : start + rows])
            if images.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
                file.madvise(mmap.MADV_DONTNEED)  # pages of the file that were read count as this process' memory
            yield _Piece(_from_array(copied), None)

    return _Form(images, pieces, images=len(images))


def _indexed(images: Any) -> _Form:
    """A Dataset, or a list, of items or of batches."""
    count = _length(images)
    if count is None:
        raise check.fail_type("images", "a Dataset with a `__len__`, the number of its items", images)

    def pieces() -> Iterator[_Piece]:
        for index in range(count):
            with _noted(f"while item {index} of `images` was read"):
                item = images[index]
            yield _piece(item, f"item {index}")

    batches = isinstance(images, list | tuple) and count > 0 and not _is_single(images[0])
    whole = sum(len(_piece(item, f"item {index}").images) for index, item in enumerate(images)) if batches else None
    return _Form(images, pieces, count, whole, _classes(images))


def _loaded(loader: "DataLoader[Any]") -> _Form:
    images, batches, sampler = None, loader.batch_sampler, loader.sampler
    if type(batches) is BatchSampler:
        sampler = batches.sampler
        images = _length(loader.dataset if isinstance(loader.dataset, IterableDataset) else sampler)
        images = images - images % batches.batch_size if batches.drop_last and images else images
    held = (loader.dataset, sampler, batches, loader.collate_fn)
    shuffled = isinstance(sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler)
    return _iterated(loader)._replace(holds=held, images=images, classes=_classes(loader.dataset), shuffled=shuffled)


def _iterated(images: Any) -> _Form:
    begun = False

    def pieces() -> Iterator[_Piece]:
        nonlocal begun
        if begun and once:
            raise check.fail_type("images", "something that can be read again, such as a Dataset or a list", images)
        begun = True
        return read(iter(images))  # which draws a seed for its workers, where it is a DataLoader

    def read(iterator: Iterator[Any]) -> Iterator[_Piece]:
        for number in itertools.count():
            with _noted(f"while part {number} of `images` was read; a batch holds images of one size and type"):
                part = next(iterator, _END)
            if part is _END:
                return
            yield _piece(part, f"part {number}")

    once = isinstance(images, Iterator)
    return _Form(images, pieces, _length(images), classes=_classes(images))


def _length(images: Any) -> int | None:
    try:
        return len(images)
    except TypeError:  # also of a DataLoader whose data set has none
        return None


@contextmanager
def _noted(place: str) -> Iterator[None]:
    """Errors of the data say where they came up."""
    try:
        yield
    except Exception as error:
        error.add_note(place)
        raise


def _classes(dataset: Any) -> tuple[str, ...] | None:
    """The names of the classes of a data set, or of those that it is made of."""
    while dataset is not None:
        if isinstance(dataset, ConcatDataset):
            known = {names for part in dataset.datasets if (names := _classes(part)) is not None}
            if len(known) > 1:
                raise ValueError(
                    f"`images` must be of data sets with the same classes, as labels are their numbers; got {known}: "
                    "a `target_transform` makes names of them"
                )
            return known.pop() if known else None
        if getattr(dataset, "target_transform", None) is not None:
            return None  # numbers are no longer places in its `classes`
        names = getattr(dataset, "classes", None)
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
        dataset = getattr(dataset, "dataset", None)
    return None


# items: an image, or images, with or without a label


def _piece(item: Any, place: str) -> _Piece:
    given = item if isinstance(item, tuple | list) else (item,)
    if len(given) not in (1, 2):
        accepted = "images, or pairs (image, label) or (images, labels)"
        raise check.fail_type("images", accepted, item, f"{place} is none; `collate_fn` or a Dataset makes them")
    images = _image(given[0], place)
    if images.ndim == 3:
        labels = None if len(given) == 1 else [_label(given[1], place)]
        return _Piece(images[None], labels, single=True)  # type: ignore[arg-type]
    return _Piece(images, None if len(given) == 1 else _labels(given[1], len(images)))


def _is_single(item: Any) -> bool:
    """Whether an item of a list is one image, with its label or without."""
    image = item[0] if isinstance(item, tuple | list) and item else item
    return not (isinstance(image, Tensor | np.ndarray) and image.ndim == 4)


def _image(value: Any, place: str = "it") -> Tensor:
    """An image ``(C, H, W)``, or a batch of them, as a tensor."""
    if _is_picture(value):
        value = _from_picture(value)
    elif isinstance(value, np.ndarray):
        value = _from_array(value)
    if not isinstance(value, Tensor):
        way = f"{place} is none"
        if isinstance(value, str | os.PathLike):
            way = f"{place} is a path; open it, as `PIL.Image.open(path)` or a Dataset such as ImageFolder does"
        elif isinstance(value, Mapping):
            way = f"{place} is a dict; `collate_fn` or a Dataset of your own makes a pair of it"
        raise check.fail_type("images", "made of tensors, arrays or pictures of PIL", value, way)
    if value.ndim == 2:
        value = value[None]
    accepted = f"images (C, H, W) or (H, W), or batches of them; {place} is none"
    if value.ndim == 1:
        way = "labels are a second argument, or come in pairs (image, label) or (images, labels)"
        raise check.fail("images", accepted, value, way)
    return check.sized(value, "images", (3, 4), accepted)


def _is_picture(value: Any) -> bool:
    """Whether it is one of PIL, which is not imported for that."""
    known = sys.modules.get("PIL.Image")
    return known is not None and isinstance(value, known.Image)


#: modes of PIL whose bands are intensities as they stand; bits become 0 and 255, all others colours
_BANDS = ("L", "LA", "RGB", "RGBA", "I", "I;16", "F")


def _from_picture(picture: Any) -> Tensor:
    """The bands of a picture, ``(C, H, W)``, with values as they are: 0..255 in nearly all."""
    if picture.mode not in _BANDS:
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    bands = torch.from_numpy(np.array(picture))
    return bands[None] if bands.ndim == 2 else bands.permute(2, 0, 1).contiguous()


def _from_array(array: "np.ndarray[Any, Any]") -> Tensor:
    try:
        native = np.asarray(array, array.dtype.newbyteorder("="))
        writable = native.flags.writeable and all(step >= 0 for step in native.strides)
        return torch.from_numpy(np.asarray(native if writable else native.copy()))
    except (TypeError, ValueError) as error:  # of what torch knows no type
        words = array.dtype.kind in "US"
        way = "`PIL.Image.open` reads a picture" if words else "`images.astype(numpy.float32)` has one"
        raise check.fail_type("images", "arrays of numbers that torch has a type for", array, way) from error


def _label(value: Any, place: str) -> int | str:
    if isinstance(value, Tensor | np.ndarray) and value.ndim == 0:
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        way = f"that of {place} is neither; the `target_transform` of the data set makes one of it"
        raise check.fail_type("labels", "numbers of classes from 0 on, or their names", value, way)
    return int(value)


def _labels(labels: Any, count: int | None) -> Labels:
    """Those of many images."""
    if not isinstance(labels, Tensor) and hasattr(labels, "__array__"):  # an array, or a column of a table
        labels = np.asarray(labels)
        labels = labels.astype(str) if labels.dtype.kind == "S" else labels
        labels = labels.tolist() if labels.dtype.kind in "USO" else labels.astype(labels.dtype.newbyteorder("="))
    if isinstance(labels, list | tuple) and labels and isinstance(labels[0], str):
        if not all(isinstance(label, str) for label in labels) or count not in (None, len(labels)):
            raise check.fail("labels", "the name of a class for each image" + f", {count}" * bool(count), labels)
        return list(map(str, labels))
    known = len(labels) if count is None and hasattr(labels, "__len__") else count or 0
    return check.labels(labels, known, torch.device("cpu")).tolist()
