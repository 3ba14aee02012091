"""Events of a camera: the first spike of each place, against a loop over events."""

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from torch.utils.data import DataLoader

from spyketorch import models, snn
from spyketorch.encoding import EventLatency

FIELDS = [("x", "<i2"), ("y", "<i2"), ("p", "?"), ("t", "<i8")]
T = 5


def stream(events, dtype=FIELDS):
    """(x, y, p, t) of each event as an array."""
    return np.array([tuple(event) for event in events], np.dtype(dtype))


def drawn(seed, count, rows=3, columns=4, until=100):
    rng = np.random.default_rng(seed)
    places = [rng.integers(0, size, count) for size in (columns, rows, 2)]
    return stream(np.stack([*places, np.sort(rng.integers(0, until, count))], 1).tolist())


def slowly(events, size, time_steps, span=None, count=None, polarity="both", refractory=0):
    """The definition, event by event; ``span`` is (start, length)."""
    deaf_until, through = {}, []
    for x, y, p, t in sorted(events.tolist(), key=lambda event: event[3]):
        if t >= deaf_until.get((x, y), t):
            through.append((x, y, int(p > 0), t))
            deaf_until[x, y] = t + refractory
    heard = [event for event in through if polarity in ("both", "any", ("off", "on")[event[2]])]
    maps = np.full((2 if polarity == "both" else 1, *size), time_steps)
    for rank, (x, y, p, t) in enumerate(heard):
        since, length = (rank, count) if count is not None else (t - span[0], span[1])
        step = since * time_steps // length
        if 0 <= step < time_steps:
            place = (p if polarity == "both" else 0, y, x)
            maps[place] = min(maps[place], step)
    return torch.from_numpy(maps)


polarities = st.sampled_from(["both", "on", "off", "any"])
rests = st.sampled_from([0, 1, 7, 30, 1000])


@given(seed=seeds, count=st.integers(0, 60), polarity=polarities, rest=rests, start=st.integers(-20, 120))
def test_the_window_of_the_clock(seed, count, polarity, rest, start):
    events = drawn(seed, count)
    encode = EventLatency((3, 4), T, window=(start, 37), polarity=polarity, refractory=rest)
    wanted = slowly(events, (3, 4), T, (start, 37), polarity=polarity, refractory=rest)
    assert torch.equal(encode(events), wanted)
    mixed = events[np.random.default_rng(seed).permutation(count)]
    same_place = slowly(mixed, (3, 4), T, (start, 37), polarity=polarity, refractory=rest)
    assert torch.equal(encode(mixed), same_place)  # events at one time are heard in the order of the array


@given(seed=seeds, count=st.integers(1, 60), rest=rests)
def test_windows_from_the_first_event(seed, count, rest):
    events = drawn(seed, count)
    first, last = int(events["t"][0]), int(events["t"][-1])
    whole = slowly(events, (3, 4), T, (first, last - first + 1), refractory=rest)
    part = slowly(events, (3, 4), T, (first, 50), refractory=rest)
    assert torch.equal(EventLatency((3, 4), T, window=50, refractory=rest)(events), part)
    if not rest:  # the last event that is heard ends it
        assert torch.equal(EventLatency((3, 4), T)(events), whole)


@given(seed=seeds, count=st.integers(0, 60), polarity=polarities, rest=rests, wanted=st.integers(1, 40))
def test_a_number_of_events(seed, count, polarity, rest, wanted):
    events = drawn(seed, count)
    encode = EventLatency((3, 4), T, count=wanted, polarity=polarity, refractory=rest)
    maps = slowly(events, (3, 4), T, count=wanted, polarity=polarity, refractory=rest)
    assert torch.equal(encode(events), maps)


LATE = 2**62 - 1


@pytest.mark.parametrize("steps", [1, 5, 1000])
@pytest.mark.parametrize("first", [-LATE, -5, 2**53, LATE - 2**61])
def test_long_recordings_are_divided_exactly(steps, first):
    """T length is beyond 64 bits."""
    events = stream(
        [(0, 0, 1, first), (1, 0, 0, first + 2**60), (2, 1, 1, first + 2**61 - 7), (3, 2, 0, first + 2**61)]
    )
    for encode, span in (
        (EventLatency((3, 4), steps), (first, 2**61 + 1)),
        (EventLatency((3, 4), steps, window=2**61 - 6), (first, 2**61 - 6)),
        (EventLatency((3, 4), steps, window=(-LATE, LATE)), (-LATE, LATE)),
    ):
        assert torch.equal(encode(events), slowly(events, (3, 4), steps, span).to(encode(events).dtype))
    every = EventLatency((3, 4), steps, count=LATE)
    assert torch.equal(every(events), slowly(events, (3, 4), steps, count=LATE).to(every(events).dtype))


def test_times_beyond_all_clocks_are_refused():
    for kind, value in (("i8", 2**63 - 1), ("i8", -(2**62)), ("u8", 2**63 + 5)):
        events = np.zeros(2, [(name, kind) for name in "xypt"])
        events["t"][1] = value
        with pytest.raises(ValueError, match=f"`events` must be of times within 2\\^62 of 0; got {value}"):
            EventLatency((3, 4), T)(events)
    wrong: list[dict[str, Any]] = [{"window": 2**64}, {"window": (2**62, 5)}, {"count": 2**62}, {"refractory": 2**63}]
    for options in wrong:
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be below 2\\^62"):
            EventLatency((3, 4), T, **options)


def test_times_pass_where_there_is_nothing_to_read():
    encode, times = EventLatency((3, 4), T), torch.randint(0, T + 1, (2, 2, 3, 4), dtype=torch.uint8)
    assert encode(times.to("meta")).shape == times.shape
    assert torch.equal(torch.export.export(encode, (times,)).module()(times), times)
    with pytest.raises(ValueError, match="every size at least 1"):
        encode(times[:0])


def test_the_same_movement_at_another_speed_is_the_same_by_count():
    events = drawn(0, 50)
    slower = events.copy()
    slower["t"] = 3 * events["t"] + 7
    encode = EventLatency((3, 4), T, count=30)
    assert torch.equal(encode(events), encode(slower))


def test_windows_along_a_recording():
    events = drawn(0, 200, until=1000)
    start = int(events["t"][0])
    got = list(EventLatency((3, 4), T, window=100, refractory=20).windows(events, 40))
    assert len(got) == len(range(start, int(events["t"][-1]) - 100 + 2, 40))
    for number, times in enumerate(got):
        assert torch.equal(times, slowly(events, (3, 4), T, (start + 40 * number, 100), refractory=20))
    assert len(list(EventLatency((3, 4), T, window=(500, 100)).windows(events))) == 4
    by_count = list(EventLatency((3, 4), T, count=60).windows(events, 50))
    assert len(by_count) == 3
    assert torch.equal(by_count[2], EventLatency((3, 4), T, count=60)(events[100:]))
    assert list(EventLatency((3, 4), T, window=10).windows(events[:0])) == []
    assert list(EventLatency((3, 4), T, window=10_000).windows(events)) == []
    with pytest.raises(ValueError, match="`window` or `count`"):
        EventLatency((3, 4), T).windows(events)


@pytest.mark.parametrize("names", ["xypt", "xytp", "txyp"])
@pytest.mark.parametrize("kind", ["u1", "<u2", ">i4", "i8", "u8"])
def test_fields_in_any_order_and_type(names, kind):
    events = drawn(1, 30)
    same = np.empty(30, [(name, kind) for name in names])
    for name in names:
        same[name] = events[name]
    encode = EventLatency((3, 4), T, window=50, refractory=5)
    assert torch.equal(encode(same), encode(events))


def test_other_names_and_signed_polarity():
    events = drawn(1, 30)
    same = np.empty(30, [("timestamp", "i8"), ("x", "i4"), ("y", "i4"), ("polarity", "i1")])
    same["x"], same["y"], same["timestamp"] = events["x"], events["y"], events["t"]
    same["polarity"] = 2 * events["p"].astype(int) - 1
    encode = EventLatency((3, 4), T)
    assert torch.equal(encode(same), encode(events))


def test_no_events_are_silence():
    for encode in (EventLatency((3, 4), T), EventLatency((3, 4), T, count=9), EventLatency((3, 4), T, refractory=9)):
        assert torch.equal(encode(drawn(0, 0)), torch.full((2, 3, 4), T))


@pytest.mark.parametrize(("time_steps", "dtype"), [(254, torch.uint8), (255, torch.int16), (40_000, torch.int32)])
def test_the_type_holds_silence(time_steps, dtype):
    times = EventLatency((3, 4), time_steps)(drawn(0, 9))
    assert times.dtype == dtype
    assert times.max() == time_steps


def test_times_since_an_epoch_and_those_too_long_for_the_filter():
    events = drawn(0, 30)
    later = events.copy()
    later["t"] += 1_700_000_000_000_000
    encode = EventLatency((3, 4), T, window=50, refractory=5)
    assert torch.equal(encode(later), encode(events))
    later["t"][-1] = 2**62 - 1
    with pytest.raises(ValueError, match="`events` must be of a shorter recording"):
        encode(later)


def test_lists_and_times_pass():
    encode, parts = EventLatency((3, 4), T), [drawn(seed, 20) for seed in range(3)]
    batch = encode(parts)
    assert batch.shape == (3, 2, 3, 4)
    assert torch.equal(batch[1], encode(parts[1]))
    assert torch.equal(encode(batch), batch)
    assert torch.equal(encode(batch.float()), batch)
    assert encode(batch.float()).dtype == torch.uint8
    assert torch.equal(encode(batch[0]), batch[0])


@pytest.mark.parametrize(
    ("events", "kind", "said"),
    [
        (stream([(4, 0, 0, 0)]), ValueError, r"within the sensor, with x in 0\.\.3; got 4"),
        (stream([(0, 3, 0, 0)]), ValueError, r"with y in 0\.\.2; got 3"),
        (stream([(-1, 0, 0, 0)]), ValueError, r"got -1"),
        (np.zeros((5, 4), int), TypeError, "unstructured_to_structured"),
        (np.zeros(5), TypeError, "a structured array"),
        ([], TypeError, "a structured array"),
        ([drawn(0, 3), None], TypeError, "a structured array"),
        (np.zeros(2, [("x", int), ("y", int), ("t", int)]), ValueError, "none of x, y, t is p or pol or polarity"),
        (np.zeros(2, [*FIELDS[:3], ("t", float)]), TypeError, "1e6"),
        (np.zeros(2, [("x", float), *FIELDS[1:]]), TypeError, "integers in the field x"),
        (np.array([(0, 0, 2, 0)], [(name, int) for name in "xypt"]), ValueError, "of polarity 0 or 1"),
        (np.array([(0, 0, -1, 0), (0, 0, 0, 0)], [(n, int) for n in "xypt"]), ValueError, "of polarity 0 or 1"),
        (torch.zeros(1, 1, 3, 4), ValueError, r"times of shape \(N, 2, 3, 4\)"),
        (torch.rand(2, 3, 4), ValueError, r"whole numbers in 0\.\.5"),
        (torch.full((2, 3, 4), 6), ValueError, r"whole numbers in 0\.\.5"),
        (torch.full((2, 3, 4), torch.nan), ValueError, r"whole numbers in 0\.\.5"),
    ],
)
def test_what_is_refused(events, kind, said):
    with pytest.raises(kind, match=f"`events` must .*{said}"):
        EventLatency((3, 4), T)(events)


@pytest.mark.parametrize(
    ("arguments", "settings", "said"),
    [
        (((34, 34, 2), T), {}, "`size` must be a pair .*sensor_size"),
        ((34, T), {}, "`size` must be a pair"),
        (((0, 34), T), {}, "`size` must be an integer of at least 1"),
        (((3, 4), 0), {}, "`time_steps`"),
        (((3, 4), T), {"window": 0}, "`window`"),
        (((3, 4), T), {"window": (0, 0)}, "`window`"),
        (((3, 4), T), {"window": (0, 1, 2)}, "`window` must be a length, or a pair"),
        (((3, 4), T), {"count": 0}, "`count`"),
        (((3, 4), T), {"count": 3, "window": 3}, "`window` and `count` must not both"),
        (((3, 4), T), {"polarity": "p"}, '`polarity` must be "both"'),
        (((3, 4), T), {"refractory": -1}, "`refractory`"),
    ],
)
def test_settings_that_are_refused(arguments, settings, said):
    with pytest.raises(ValueError, match=said):
        EventLatency(*arguments, **settings)


class Recordings(torch.utils.data.Dataset):
    """As tonic gives them: events, target; with a transform."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return self.transform(drawn(index, 30)), index % 2


@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_transform_in_the_workers_of_a_loader(way):
    if way not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {way}")
    encode = EventLatency((3, 4), T, window=50, refractory=3)
    loader = DataLoader(Recordings(encode), 3, num_workers=1, multiprocessing_context=way)
    (first, labels), (second, _) = loader
    assert labels.tolist() == [0, 1, 0]
    assert torch.equal(torch.cat((first, second)), encode([drawn(seed, 30) for seed in range(6)]))


def test_pickled_it_is_the_same():
    encode = EventLatency((3, 4), T, count=20, polarity="any", refractory=3)
    again = pickle.loads(pickle.dumps(encode))
    assert repr(again) == repr(encode)
    assert torch.equal(again(drawn(0, 30)), encode(drawn(0, 30)))


def network():
    layer = snn.SpikingConvolution(2, 4, (3, 4), time_steps=T)
    return models.Network(EventLatency((3, 4), T), [models.Stage(layer)], classes=[0, 0, 1, 1])


def test_a_network_that_begins_with_events():
    net, parts = network(), [drawn(seed, 20) for seed in range(3)]
    times = net.encoder(parts)
    assert net(times).shape == (3,)
    assert torch.equal(net(parts), net(times))
    assert torch.equal(net([*times]), net(times))
    assert net.predict(parts) == net.predict(times)
    assert torch.equal(net.scores(parts), net.scores(times))
    assert torch.equal(net.features(parts, 0), times)
    assert torch.equal(net.features(times), net.features(times.float()))
    assert "2 x 3 x 4" in str(net.summary((2, 3, 4)))
