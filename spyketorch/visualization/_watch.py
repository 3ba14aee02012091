"""A training that is watched: what the features of the layer that learns look for, redrawn as it goes."""

import io
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from spyketorch import _checks as check
from spyketorch._files import atomic
from spyketorch.training._moment import Moment
from spyketorch.visualization._canvas import pyplot_module
from spyketorch.visualization._features import shades
from spyketorch.visualization._receptive_fields import Sight

if TYPE_CHECKING:
    from PIL.Image import Image

_WIDTH, _HEIGHT, _HEAD = 640, 256, 30  # pixels of the features, and of the line above them
_SHADES = 31  # beside black; more make a film twice as large, and cannot be told apart
_SEEN, _RESTS = 100, 1500  # milliseconds that a frame of a film lasts, and the last one of a layer

# of a GIF: the palette, its length with all before it, the block by which it is played again and again, a frame's mark
_GREYS = bytes(grey for grey in range(256) for _ in range(3))
_HEADER = 13 + len(_GREYS)
_LOOP = b"!\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_MARK = "spyketorch watch"


class Watch:
    """Shows the features of the layer that learns, in a notebook or as a film, while a trainer goes on.

    Give it to :class:`spyketorch.training.Trainer` as ``watch``. Each picture shows what features look for, drawn back
    to the image as by :func:`get_network_features`: of a layer that decides, what sets each apart from their mean; and
    weights, averaged over channels, where the way back to the image is not known.

    The next picture comes when those before have taken no more than ``share`` of the time, so that many are left out
    where images are learned fast. One is drawn in any case: when a layer has finished.

    Args:
        path: of a GIF, which grows by a frame with each picture and is whole at any moment. None shows one picture,
            which changes, below the cell of a notebook, or else in a window of matplotlib.
        features: shown at most, evenly chosen from those of the layer.
        share: of the time that pictures may take.
        frames: pictures of a layer at most.

    Raises:
        ImportError: pillow is missing.
        ValueError: no ``path``, and neither a notebook nor a window to draw in.

    A run that is resumed goes on with the film that it left at ``path``: frames of what it learns again are replaced.
    Otherwise a new film takes the place of one that is there.

    Example:
        >>> from spyketorch import models, training
        >>> lessons = [training.Unsupervised(kwta=5, inhibition_radius=2)]
        >>> watch = Watch("strokes.gif")
        >>> trainer = training.Trainer(models.kheradpisheh2018(), lessons, watch=watch, progress=False)
        >>> reports = trainer.fit(torch.rand(20, 1, 28, 28) * 255)  # doctest: +SKIP
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        features: int = 40,
        share: float = 0.05,
        frames: int = 100,
    ) -> None:
        try:
            from PIL import ImageFont
        except ImportError as error:
            raise ImportError('watching needs pillow: pip install "spyketorch[examples]"') from error
        self.features, self.frames = check.integer(features, "features", 1), check.integer(frames, "frames", 1)
        self.share = check.number(share, "share")
        if not 0 < self.share <= 1:
            raise check.fail("share", "above 0 and at most 1", share)
        self._font = ImageFont.load_default(15)
        self._screen: _Screen = _screen() if path is None else _Film(check.path(path, "path"))
        self._sight: tuple[Any, int, Sight | None] = (None, 0, None)  # of a network and its stage
        self._last, self._rests_until = (-1, 0), 0.0

    def __call__(self, moment: Moment) -> None:
        """Draw, if it is time to; a trainer calls this after each period."""
        start = time.perf_counter()
        if self._due(moment, start):
            self._screen.show(self._picture(moment), moment)
            self._last = (moment.stage, moment.seen)
            self._rests_until = max(self._rests_until, start) + (time.perf_counter() - start) / self.share

    def _due(self, moment: Moment, now: float) -> bool:
        stage, seen = self._last
        begun = moment.stage == stage and moment.seen > seen
        enough = not begun or moment.seen - seen >= moment.total / self.frames
        return moment.finished or (enough and now >= self._rests_until)

    @torch.no_grad()
    def _picture(self, moment: Moment) -> "Image":
        from PIL import Image, ImageDraw

        picture = Image.new("L", (_WIDTH, _HEAD + _HEIGHT), 255)
        ImageDraw.Draw(picture).text((4, 6), _text(moment), 0, self._font)
        mosaic = Image.fromarray(_mosaic(shades(self._features(moment))).numpy())
        scale = min(_WIDTH / mosaic.width, _HEIGHT / mosaic.height)
        size = (max(1, int(mosaic.width * scale)), max(1, int(mosaic.height * scale)))
        ways = Image.Resampling
        picture.paste(mosaic.resize(size, ways.NEAREST if scale > 1 else ways.BOX), (0, _HEAD))
        return picture

    def _features(self, moment: Moment) -> Tensor:
        """What is shown of the layer, (features, height, width)."""
        network, number = moment.network, moment.stage
        weight = network.stages[number].layer.weight.detach()
        chosen = torch.linspace(0, len(weight) - 1, min(self.features, len(weight))).round().long()
        if self._sight[:2] != (network, number):
            try:
                sight = Sight.of(network, number)
            except ValueError:  # no way back to the image that is known
                sight = None
            self._sight = (network, number, sight)
        sight = self._sight[2]
        features = weight[chosen.to(weight.device)].mean(1).cpu() if sight is None else sight.features(chosen)
        decides = network.classes is not None and number == len(network.stages) - 1
        return features - features.mean(0) if decides else features


def _mosaic(pictures: Tensor) -> Tensor:
    """Pictures (n, height, width) of 0 to 1, side by side on white: uint8, as large as fits with as few rows."""
    count, height, width = pictures.shape
    gap = max(1, max(height, width) // 12)
    height, width = height + gap, width + gap

    def scale(columns: int) -> float:
        return min(_WIDTH / (columns * width), _HEIGHT / (math.ceil(count / columns) * height))

    columns = max(range(1, count + 1), key=scale)
    rows = math.ceil(count / columns)
    framed = torch.ones(rows * columns, height, width)
    framed[:count, : height - gap, : width - gap] = pictures
    mosaic = framed.view(rows, columns, height, width).transpose(1, 2).reshape(rows * height, columns * width)
    return ((mosaic * _SHADES).round() * (255 / _SHADES)).round().to(torch.uint8)


def _text(moment: Moment) -> str:
    """The layer, how far it is, and how the last period went."""
    row = moment.history[-1]
    text = f"layer {moment.stage + 1}: {moment.seen:,} of {moment.total:,} images"
    if row["hits"]:
        text += f", {row['hits']:.1%} right"
    if row["silent"]:
        text += f", {row['silent']:.1%} silent"
    return text + (f", convergence {row['convergence']:.3f}" if "convergence" in row else "")


# where pictures are shown


class _Screen(Protocol):
    def show(self, picture: "Image", moment: Moment) -> None: ...


def _screen() -> _Screen:
    """Below the cell of a notebook, or else a window."""
    ipython = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if hasattr(ipython, "kernel"):
        return _Cell()
    if pyplot_module().get_backend().lower() == "agg":
        raise ValueError('`path` must be the name of a GIF, such as "features.gif", where there is no screen')
    return _Window()


class _Cell:
    """One picture below the cell of a notebook."""

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, picture: "Image", moment: Moment) -> None:
        display: Any = sys.modules["IPython.display"]
        file = io.BytesIO()
        picture.save(file, "PNG")
        shown = display.Image(data=file.getvalue())
        if self._handle is None:
            self._handle = display.display(shown, display_id=True)
        else:
            self._handle.update(shown)


class _Window:
    """One picture in a window of matplotlib."""

    def __init__(self) -> None:
        self._image: Any = None

    def show(self, picture: "Image", moment: Moment) -> None:
        if self._image is None:
            figure = pyplot_module().figure(figsize=(picture.width / 100, picture.height / 100), dpi=100)
            self._image = figure.figimage(picture, cmap="gray", vmin=0, vmax=255)
            figure.show()
        self._image.set_data(picture)
        canvas = self._image.figure.canvas
        canvas.draw_idle()
        canvas.flush_events()


class _Frame(NamedTuple):
    """A frame of a film, and where the training stood."""

    place: tuple[int, int]  # stage, images it had seen
    data: bytes  # as in the file


class _Film:
    """A GIF. A frame is encoded once, by itself; the film is their blocks, one after the other, behind one header."""

    def __init__(self, path: Path) -> None:
        self._path, self._frames = path, list[_Frame]()
        self._begun = False

    def show(self, picture: "Image", moment: Moment) -> None:
        place = (moment.stage, moment.seen)
        if not self._begun and len(moment.history) > 1:  # a run that is resumed
            self._frames = _frames_of(self._path)
        self._begun = True
        whole = _encoded(picture, place, _RESTS if moment.finished else _SEEN)
        self._frames = [frame for frame in self._frames if frame.place < place]
        self._frames.append(_Frame(place, whole[_HEADER:-1]))
        with atomic(self._path, lasting=False) as part:
            part.write_bytes(whole[:_HEADER] + _LOOP + b"".join(frame.data for frame in self._frames) + whole[-1:])


def _encoded(picture: "Image", place: tuple[int, int], milliseconds: int) -> bytes:
    """A GIF of one frame, whose comment tells its place."""
    file = io.BytesIO()
    comment = f"{_MARK} {place[0]} {place[1]}".encode()
    picture.save(file, "GIF", optimize=False, palette=_GREYS, comment=comment, duration=milliseconds)
    return file.getvalue()


def _frames_of(path: Path) -> list[_Frame]:
    """What an earlier run left there; nothing where there is no film, or one that is not of a training."""
    from PIL import Image, ImageSequence

    frames = []
    try:
        with Image.open(path) as film:
            for frame in ImageSequence.Iterator(film):
                mark, stage, seen = frame.info["comment"].decode().rsplit(" ", 2)
                if mark != _MARK:
                    return []
                place = (int(stage), int(seen))
                whole = _encoded(frame.convert("L"), place, frame.info["duration"])
                frames.append(_Frame(place, whole[_HEADER:-1]))
    except (OSError, KeyError, ValueError):
        return []
    return frames
