"""From the events of a camera to first-spike times."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spyketorch import _checks as check
from spyketorch.kernels.operators import time_dtype

#: names under which readers of recordings give place, polarity and time
_FIELDS = {
    "x": ("x",),
    "y": ("y",),
    "p": ("p", "pol", "polarity"),
    "t": ("t", "ts", "time", "timestamp", "timestamps"),
}
#: what each choice of polarity hears: the polarities, each of which is a map, or both in one
_POLARITIES = {"both": (0, 1), "on": (1,), "off": (0,), "any": ()}
#: all times lie nearer to 0, so that two may be added, or taken from each other, in 64 bits
_EVER = 2**62


class _Stream(NamedTuple):
    """Events that are heard, in order of time: where in the maps ``(C, H, W)`` each lies, and when."""

    places: np.ndarray
    times: np.ndarray


class EventLatency(nn.Module):
    r"""The events of a camera to first-spike times: when each place of the sensor first answers, in T steps.

    An event says that a pixel (x, y) has become brighter (p = 1) or darker (p = 0) at a time t. A window of the
    recording is divided into T steps; the step of its first event is the time of a place, T that of a place without.

    .. math:: \text{time} = \min_{\text{events at the place}} \left\lfloor T \, \frac{t - \text{start}}{\text{length}}
        \right\rfloor \qquad \text{or, by } \texttt{count} \text{,} \qquad
        \min_{\text{events at the place}} \left\lfloor T \, \frac{\text{rank}}{\text{count}} \right\rfloor

    Events are structured arrays with the fields x, y, p and t, in any order and of any integer type, as `tonic
    <https://tonic.readthedocs.io>`_ reads them from the files of all cameras; ``t`` is in microseconds there, and so
    are ``window`` and ``refractory``. Streams out of order are sorted. It is a transform, from one array to one map, to
    be given to a data set, and an encoder: a :class:`spyketorch.models.Network` that begins with it takes a list of
    arrays, or times that were made before.

    Args:
        size: (rows, columns) of the sensor; of a data set of tonic, ``dataset.sensor_size[1::-1]``.
        time_steps: T, how many there are.
        window: which part of a recording counts: its first ``length`` microseconds, counted from the first event; or
            (start, length) on the clock of the recording; None for all of it.
        count: in place of a window, how many events count, from the first on. Steps hold as many of them each, so that
            a movement that is twice as fast gives the same map.
        polarity: "both" gives two maps, what became darker and what became brighter; "off" and "on" one of them;
            "any" one map of both.
        refractory: microseconds for which a pixel is deaf after an event, of either polarity, that it has let through;
            it quietens pixels that flicker, also across the start of a window.

    Shape:
        An array of events ``(n,)`` to ``(C, H, W)``, a list of N to ``(N, C, H, W)``; uint8 (int16 where T > 254,
        int32 where T > 32,767). Tensors of times of these shapes pass as they are. Without events, all are silent.

    Raises:
        ValueError, TypeError: events outside of the sensor, without one of the fields, or that are no integers; times
            as far from 0 as 2^62; tensors of other shapes, or of other values than 0..T.

    Example:
        >>> events = np.array([(2, 0, 1, 70), (2, 0, 0, 80), (0, 1, 1, 95)], [(name, "i8") for name in "xypt"])
        >>> EventLatency((2, 3), 5, window=100)(events)
        tensor([[[5, 5, 0],
                 [5, 5, 5]],
        <BLANKLINE>
                [[5, 5, 0],
                 [1, 5, 5]]], dtype=torch.uint8)
    """

    def __init__(
        self,
        size: tuple[int, int],
        time_steps: int,
        *,
        window: int | tuple[int, int] | None = None,
        count: int | None = None,
        polarity: str = "both",
        refractory: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
            way = "`size[1::-1]` is that of a `sensor_size` of tonic" if _of_three(size) else ""
            raise check.fail("size", "a pair (rows, columns)", size, way)
        self.size = (check.integer(size[0], "size", 1), check.integer(size[1], "size", 1))
        check.storable((2, *self.size), "size", size)
        self.time_steps = check.steps(time_steps)
        if window is not None and count is not None:
            raise ValueError("`window` and `count` must not both be given, as each says which events count")
        self.window = None if window is None else _window(window)
        self.count = None if count is None else _bounded(count, "count", 1)
        if polarity not in _POLARITIES:
            raise check.fail("polarity", '"both", "on", "off" or "any"', polarity)
        self.polarity = polarity
        self.refractory = _bounded(refractory, "refractory", 0)

    def forward(self, events: Any) -> Tensor:
        if isinstance(events, Tensor):
            return self._binned(events)
        return self.gather(events) if isinstance(events, list | tuple) else self._first(events)

    def gather(self, streams: Sequence[np.ndarray]) -> Tensor:
        """The times ``(N, C, H, W)`` of several recordings, or of their maps; a network takes a list of them by it."""
        if not isinstance(streams, list | tuple) or not streams:
            raise check.fail_type("events", "a structured array, or a list of them", streams)
        return torch.stack([self(events) for events in streams])

    def windows(self, events: np.ndarray, step: int | None = None) -> Iterator[Tensor]:
        """One map after the other along a recording, each of a whole window (or of ``count`` events).

        Args:
            events: of the recording.
            step: from one window's start to the next, in microseconds (or events); None for windows end to end.

        Example:
            >>> events = np.array([(0, 0, 1, t) for t in range(0, 100, 5)], [(name, "i8") for name in "xypt"])
            >>> [int(times[1]) for times in EventLatency((1, 1), 8, window=40).windows(events, 16)]
            [0, 0, 0, 0]
        """
        if self.window is None and self.count is None:
            raise ValueError("`window` or `count` must say how long the windows of a recording are")
        if step is not None:
            step = check.integer(step, "step", 1)
        heard = self._heard(events)
        return self._slide(heard, step)

    def _slide(self, heard: _Stream, step: int | None) -> Iterator[Tensor]:
        if self.count is not None:
            for start in range(0, len(heard.times) - self.count + 1, step or self.count):
                yield self._by_count(heard, start, self.count)
        elif len(heard.times):
            start, length = self._span(heard)
            for begin in range(start, int(heard.times[-1]) - length + 2, step or length):
                yield self._by_time(heard, begin, length)

    def _first(self, events: Any) -> Tensor:
        heard = self._heard(events)
        if self.count is not None:
            return self._by_count(heard, 0, self.count)
        return self._by_time(heard, *self._span(heard))

    def _span(self, heard: _Stream) -> tuple[int, int]:
        """(start, length) of the first window, on the clock of the recording."""
        if isinstance(self.window, tuple):
            return self.window
        start = int(heard.times[0]) if len(heard.times) else 0
        end = int(heard.times[-1]) + 1 if len(heard.times) else 1
        return start, end - start if self.window is None else self.window

    def _by_time(self, heard: _Stream, start: int, length: int) -> Tensor:
        return self._map(heard.places, np.searchsorted(heard.times, start + self._edges(length)))

    def _by_count(self, heard: _Stream, first: int, count: int) -> Tensor:
        return self._map(heard.places, (first + self._edges(count)).clip(max=len(heard.places)))

    def _edges(self, length: int) -> np.ndarray:
        """Where each step begins within a window, and where the last ends: the least o with T o // length = k."""
        whole, rest = divmod(length, self.time_steps)
        steps = np.arange(self.time_steps + 1)
        return steps * whole - -steps * rest // self.time_steps  # T length itself may be beyond 64 bits

    def _map(self, places: np.ndarray, edges: np.ndarray) -> Tensor:
        """The step of the first event of each place; events ``edges[k]`` to ``edges[k + 1]`` are those of step k."""
        times = np.full(self._maps * self.size[0] * self.size[1], self.time_steps, np.int64)
        steps = np.repeat(np.arange(self.time_steps), np.diff(edges))
        times[places[edges[0] : edges[-1]][::-1]] = steps[::-1]  # the last to be written stays
        return torch.from_numpy(times).view(self._maps, *self.size).to(time_dtype(self.time_steps))

    @property
    def _maps(self) -> int:
        return len(_POLARITIES[self.polarity]) or 1

    def _heard(self, events: Any) -> _Stream:
        """The events that get through, in order of time."""
        x, y, p, t = _columns(events)
        rows, columns = self.size
        for name, values, side in (("x", x, columns), ("y", y, rows)):
            if len(values) and not (values.min() >= 0 and values.max() < side):
                way = "`size` is (rows, columns), the sizes of y and of x"
                furthest = int(values.min() if values.min() < 0 else values.max())
                raise check.fail("events", f"within the sensor, with {name} in 0..{side - 1}", furthest, way)
        pixels = y * columns + x
        if (t[1:] < t[:-1]).any():
            order = np.argsort(t, kind="stable")
            pixels, p, t = pixels[order], p[order], t[order]
        if self.refractory and len(t):
            through = _rested(pixels, t, self.refractory)
            pixels, p, t = pixels[through], p[through], t[through]
        if self.polarity == "both":
            return _Stream(p * (rows * columns) + pixels, t)
        if self.polarity != "any":
            chosen = p == _POLARITIES[self.polarity][0]
            pixels, t = pixels[chosen], t[chosen]
        return _Stream(pixels, t)

    def _binned(self, times: Tensor) -> Tensor:
        """Times that were made before, in the type that holds T."""
        shape, times = (self._maps, *self.size), check.image(times, "events")
        way = "events are given as structured arrays, with the fields x, y, p and t"
        if tuple(times.shape[-3:]) != shape:
            raise check.fail("events", f"times of shape (N, {', '.join(map(str, shape))})", times, way)
        if check.readable(times) and not self._are_times(times):
            raise check.fail("events", f"times, whole numbers in 0..{self.time_steps}", times, way)
        return times.to(time_dtype(self.time_steps))

    def _are_times(self, times: Tensor) -> bool:
        return bool(((times >= 0) & (times <= self.time_steps) & (times == times.to(torch.int64))).all())

    def extra_repr(self) -> str:
        part = f"count={self.count}" if self.count is not None else f"window={self.window}"
        rest = f"polarity={self.polarity!r}, refractory={self.refractory}"
        return f"{self.size}, time_steps={self.time_steps}, {part}, {rest}"


def _of_three(size: Any) -> bool:
    return isinstance(size, Sequence) and len(size) == 3


def _window(window: Any) -> int | tuple[int, int]:
    """The length of a window, or its start and length."""
    if not isinstance(window, Sequence):
        return _bounded(window, "window", 1)
    if isinstance(window, str) or len(window) != 2:
        raise check.fail("window", "a length, or a pair (start, length), in microseconds", window)
    return _bounded(window[0], "window", 1 - _EVER), _bounded(window[1], "window", 1)


def _bounded(value: Any, name: str, minimum: int) -> int:
    """An integer that may be added to a time."""
    if check.integer(value, name, minimum) >= _EVER:
        raise check.fail(name, "below 2^62", value)
    return int(value)


def _columns(events: Any) -> tuple[np.ndarray, ...]:
    """x, y, whether brighter, and t of a structured array, int64."""
    names = events.dtype.names if isinstance(events, np.ndarray) else None
    if not names or events.ndim != 1:
        way = ""
        if isinstance(events, np.ndarray) and events.ndim == 2:
            way = "`numpy.lib.recfunctions.unstructured_to_structured(events, dtype)` names the columns"
        raise check.fail_type("events", "a structured array (n,) with the fields x, y, p and t", events, way)
    found = []
    for field, known in _FIELDS.items():
        name = next((name for name in names if name.lower() in known), None)
        if name is None:
            raise ValueError(
                f"`events` must have the fields x, y, p and t, but none of {', '.join(names)} is {' or '.join(known)}: "
                "`numpy.lib.recfunctions.rename_fields` gives them other names"
            )
        if events[name].dtype.kind not in "iub":
            way = "in a field of integers `(1e6 * seconds).round()` are microseconds" if field == "t" else ""
            raise check.fail_type("events", f"integers in the field {name}", events[name], way)
        if field == "t":
            _within_reach(events[name])
        found.append(events[name].astype(np.int64))
    found[2] = _brighter(found[2])
    return tuple(found)


def _within_reach(times: np.ndarray) -> None:
    low, high = (int(times.min()), int(times.max())) if len(times) else (0, 0)
    if low <= -_EVER or high >= _EVER:
        raise check.fail("events", "of times within 2^62 of 0", high if high >= _EVER else low)


def _brighter(polarity: np.ndarray) -> np.ndarray:
    """1 where an event is of rising brightness, 0 where of falling, which some give as -1."""
    low, high = (int(polarity.min()), int(polarity.max())) if len(polarity) else (0, 0)
    if low < -1 or high > 1:
        raise check.fail("events", "of polarity 0 or 1, or -1 or 1", low if low < -1 else high)
    if low < 0 and (polarity == 0).any():
        raise check.fail("events", "of polarity 0 or 1, or -1 or 1", "-1, 0 and 1")
    return (polarity > 0).astype(np.int64)


def _rested(pixels: np.ndarray, times: np.ndarray, rest: int) -> np.ndarray:
    """Which events find their pixel rested: ``rest`` or more after the last one that it let through.

    Pixel by pixel, the first event gets through, and each that does leads to the next that does: those are followed
    from all first ones at once, in jumps that double.
    """
    order = np.argsort(pixels, kind="stable")
    pixels, times = pixels[order], times[order] - times[0]
    span = int(times.max()) + rest + 1
    if (int(pixels[-1]) + 1) * span >= 2**63:
        raise check.fail("events", "of a shorter recording, for a `refractory` filter", f"{span} microseconds")
    moments = pixels * span + times  # pixels one after the other, so far apart that none disturbs the next
    after = np.append(np.searchsorted(moments, moments + rest), len(moments))
    through = np.append(np.append(True, pixels[1:] != pixels[:-1]), False)
    reached = 0
    while reached < (reached := int(through.sum())):
        through[after[through]] = True
        after = after[after]
    kept = np.empty(len(moments), bool)
    kept[order] = through[:-1]
    return kept
