"""Events a second that `encoding.EventLatency` puts into maps, on one core: `python benchmarks/events.py`.

A million events at random places and times of a second, with a refractory period of 10 ms and without; "flickering" has
nine tenths of them at one pixel. The best of five, of the time of the thread.
"""

import time

import numpy as np
import torch

from spyketorch.encoding import EventLatency

COUNT, SECOND = 1_000_000, 1_000_000
FIELDS = np.dtype([("x", "<i2"), ("y", "<i2"), ("p", "?"), ("t", "<i8")])


def stream(rows: int, columns: int, flickering: float) -> np.ndarray:
    """Events in order of time."""
    random = np.random.default_rng(0)
    events = np.empty(COUNT, FIELDS)
    events["x"], events["y"] = random.integers(columns, size=COUNT), random.integers(rows, size=COUNT)
    events["p"], events["t"] = random.integers(2, size=COUNT), np.sort(random.integers(SECOND, size=COUNT))
    at_one = random.random(COUNT) < flickering
    events["x"][at_one], events["y"][at_one] = 3, 4
    return events


def best(encode: EventLatency, events: np.ndarray) -> float:
    """Seconds."""
    times = []
    for _ in range(5):
        start = time.thread_time()
        encode(events)
        times.append(time.thread_time() - start)
    return min(times)


def main() -> None:
    """A row for each sensor."""
    torch.set_num_threads(1)
    print("million events a second:      no filter   refractory 10 ms")
    for rows, columns, flickering in (
        (34, 34, 0.0),
        (128, 128, 0.0),
        (260, 346, 0.0),
        (720, 1280, 0.0),
        (260, 346, 0.9),
    ):
        events = stream(rows, columns, flickering)
        rates = [
            COUNT / best(EventLatency((rows, columns), 15, window=SECOND, refractory=rest), events) / 1e6
            for rest in (0, 10_000)
        ]
        print(f"{rows:4} x {columns:4}{' flickering' * bool(flickering):12} {rates[0]:15.0f} {rates[1]:15.1f}")


if __name__ == "__main__":
    main()
