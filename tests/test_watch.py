"""A training that is watched: which pictures are drawn, what they hold, and that learning is left alone."""

import itertools
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spyketorch import encoding, latency, models, snn
from spyketorch import visualization as vis
from spyketorch.training import Moment, Reinforced, Trainer, Unsupervised
from spyketorch.visualization import _watch

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")
IMAGES, LABELS = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2
LESSONS = [Unsupervised(period=10, epochs=2), Reinforced(period=10)]  # 8 periods, and 4


def network(encoder=None):
    torch.manual_seed(0)
    encoder = encoder or encoding.LatencyEncoder(encoding.Filter([torch.ones(3, 3), torch.eye(3)], 1, thresholds=0), 5)
    first = snn.SpikingConvolution(2, 5, 3, threshold=2, weight_std=0.05, time_steps=5)
    second = snn.SpikingConvolution(5, 4, 6, time_steps=5)
    return models.Network(encoder, [models.Stage(first), models.Stage(second)], classes=torch.arange(4) % 2)


def trained(watch, *arguments, **options):
    trainer = Trainer(network(), LESSONS, *arguments, watch=watch, progress=False, on_silence="warn", **options)
    trainer.fit(IMAGES, LABELS)
    return trainer


def film(path):
    """(stage, images seen), milliseconds and grey values of each frame."""
    frames = []
    with Image.open(path) as gif:
        for number in range(gif.n_frames):
            gif.seek(number)
            *_, stage, seen = gif.info["comment"].decode().split()
            frames.append(((int(stage), int(seen)), gif.info["duration"], np.asarray(gif.convert("L"))))
    return frames


def places(path):
    return [place for place, _, _ in film(path)]


ALL = [(0, seen) for seen in range(10, 81, 10)] + [(1, seen) for seen in range(10, 41, 10)]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that stands still where nobody moves it, so that drawing costs nothing."""
    hands = SimpleNamespace(now=0.0, drawing=0.0)
    monkeypatch.setattr(_watch, "time", SimpleNamespace(perf_counter=lambda: hands.now))
    draw = vis.Watch._picture

    def slow(self, moment):
        hands.now += hands.drawing
        return draw(self, moment)

    monkeypatch.setattr(vis.Watch, "_picture", slow)
    return hands


def test_a_frame_for_each_period(tmp_path):
    trained(vis.Watch(tmp_path / "film.gif"))
    frames = film(tmp_path / "film.gif")
    assert [place for place, _, _ in frames] == ALL
    assert [time for _, time, _ in frames] == [1500 if place in ((0, 80), (1, 40)) else 100 for place in ALL]
    assert len({picture.shape for _, _, picture in frames}) == 1
    assert not np.array_equal(frames[0][2], frames[7][2])
    assert [path.name for path in tmp_path.iterdir()] == ["film.gif"]


def test_as_many_frames_as_asked_for(tmp_path):
    trained(vis.Watch(tmp_path / "film.gif", frames=2))
    assert places(tmp_path / "film.gif") == [(0, 10), (0, 50), (0, 80), (1, 10), (1, 30), (1, 40)]


def test_the_film_is_whole_after_each_frame(tmp_path):
    watch, seen = vis.Watch(tmp_path / "film.gif"), itertools.count(1)

    def look(moment):
        watch(moment)
        assert len(film(tmp_path / "film.gif")) == next(seen)

    trained(look)
    assert next(seen) == len(ALL) + 1


def test_it_learns_the_same_bits(tmp_path):
    with_it, without = trained(vis.Watch(tmp_path / "film.gif")), trained(None)
    for one, other in zip(with_it.network.stages, without.network.stages, strict=True):
        assert torch.equal(one.layer.weight, other.layer.weight)
    assert with_it.history == without.history


def test_a_run_that_is_resumed_goes_on_with_its_film(tmp_path):
    path, moments = tmp_path / "film.gif", []

    def stop(moment):
        moments.append(moment)
        if len(moments) == 9:
            raise OSError("the disk is full")

    first = vis.Watch(path)
    with pytest.raises(OSError, match="full"):
        trained(lambda moment: (first(moment), stop(moment)), tmp_path / "run", checkpoint_seconds=1e9)
    assert places(path) == ALL[:9]
    before = film(path)  # the checkpoint is of the end of layer 1
    trained(vis.Watch(path), tmp_path / "run", resume=True)
    after = film(path)
    assert [place for place, _, _ in after] == ALL
    for (_, time, picture), (_, time_after, picture_after) in zip(before[:9], after, strict=False):
        assert time == time_after
        assert np.array_equal(picture, picture_after)


@pytest.mark.parametrize("content", [b"no film", "of others"])
def test_a_new_run_begins_a_new_film(tmp_path, content):
    path = tmp_path / "film.gif"
    if content == "of others":
        Image.new("L", (3, 3)).save(path)
    else:
        path.write_bytes(content)
    trained(vis.Watch(path))
    assert places(path) == ALL
    trained(vis.Watch(path))
    assert places(path) == ALL


def test_a_new_run_keeps_nothing_of_an_older_one(tmp_path):
    """Not even what comes before its first period."""
    short = Trainer(network(), [Unsupervised(period=5)], watch=vis.Watch(tmp_path / "film.gif"), progress=False)
    short.fit(IMAGES)
    assert places(tmp_path / "film.gif")[0] == (0, 5)
    trained(vis.Watch(tmp_path / "film.gif"))
    assert places(tmp_path / "film.gif") == ALL


def test_one_watch_serves_two_runs(tmp_path):
    watch = vis.Watch(tmp_path / "film.gif")
    trained(watch)
    trained(watch)
    assert places(tmp_path / "film.gif") == ALL


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_pictures_take_no_more_than_their_share(tmp_path, clock, share):
    watch, clock.drawing = vis.Watch(tmp_path / "film.gif", share=share), 0.5
    made = network()
    for stage, seen in [(0, 10 * i) for i in range(1, 101)] + [(1, 10 * i) for i in range(1, 101)]:
        clock.now += 1  # to learn a period
        watch(Moment(made, stage, 1000, [row(seen=seen)]))
    drawn = places(tmp_path / "film.gif")
    assert {(0, 1000), (1, 1000)} <= set(drawn)
    assert 0.5 * len(drawn) <= share * clock.now + 2 * 0.5
    assert 0.5 * len(drawn) >= 0.8 * share * clock.now


def row(**others):
    return {"layer": 1, "seen": 10, "hits": 0.0, "misses": 1.0, "silent": 0.0, **others}


class Own(torch.nn.Module):
    kernel_size, time_steps = 3, 5

    def forward(self, images):
        return latency.rank_order(images.expand(-1, 2, -1, -1), 5)


class Twice(torch.nn.Module):
    def forward(self, image):
        return torch.cat([image, image], -3)


@pytest.mark.parametrize("way", ["a window", "maps"])
def test_where_the_way_back_is_not_known_weights_are_shown(tmp_path, way):
    twice = torch.nn.Sequential(encoding.Filter([torch.rand(3, 3)], 1, 0), Twice())
    made = network(Own() if way == "a window" else encoding.LatencyEncoder(twice, 5))
    watch = vis.Watch(tmp_path / "film.gif")
    moment = Moment(made, 0, 100, [row()])
    assert torch.equal(watch._features(moment), made.stages[0].layer.weight.mean(1))
    watch(moment)
    assert places(tmp_path / "film.gif") == [(0, 10)]


def test_features_are_those_of_the_weights_now(tmp_path):
    made, watch = network(), vis.Watch(tmp_path / "film.gif", features=3)
    for _ in range(2):
        made.stages[0].layer.load_weight(torch.rand(5, 2, 3, 3))
        assert torch.equal(watch._features(Moment(made, 0, 9, [row()])), vis.get_network_features(made, 0)[::2])
    deciding = vis.get_network_features(made, 1)[[0, 2, 3]]  # evenly chosen
    torch.testing.assert_close(watch._features(Moment(made, 1, 9, [row()])), deciding - deciding.mean(0))


def test_tiles_side_by_side():
    mosaic = _watch._mosaic(torch.stack([torch.zeros(2, 2), torch.full((2, 2), 0.5), torch.ones(2, 2)]))
    assert mosaic.tolist() == [[0, 0, 255, 132, 132, 255, 255, 255, 255]] * 2 + [[255] * 9]


def test_series_are_stacked():
    """What is wide and low goes below one another."""
    assert _watch._mosaic(torch.rand(4, 1, 30)).shape == (4 * (1 + 2), 32)


def test_what_stands_above():
    text = _watch._text(Moment(network(), 1, 60_000, [row(seen=1500, hits=0.5, silent=0.25, convergence=0.125)]))
    assert text == "layer 2: 1,500 of 60,000 images, 50.0% right, 25.0% silent, convergence 0.125"
    assert _watch._text(Moment(network(), 0, 20, [row()])) == "layer 1: 10 of 20 images"


def test_an_error_in_it_keeps_the_period():
    def refuse(moment):
        if moment.seen == 20:
            raise RuntimeError("enough")

    trainer = Trainer(network(), LESSONS, watch=refuse, progress=False, on_silence="warn")
    with pytest.raises(RuntimeError, match="enough"):
        trainer.fit(IMAGES, LABELS)
    assert [period["seen"] for period in trainer.history] == [10, 20]


def test_a_cell_of_a_notebook(monkeypatch):
    pytest.importorskip("IPython.display")
    shown, handle = [], SimpleNamespace(update=lambda picture: shown.append(picture))

    def display(picture, display_id):
        shown.append(picture)
        return handle

    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace(kernel=True))
    monkeypatch.setattr(sys.modules["IPython.display"], "display", display)
    watch = vis.Watch()
    for seen in (10, 20):
        watch(Moment(network(), 0, 100, [row(seen=seen)]))
    assert [picture.format for picture in shown] == ["png", "png"]
    assert shown[0].data != shown[1].data


def test_a_window(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "get_backend", lambda: "a screen")
    monkeypatch.setattr("matplotlib.figure.Figure.show", lambda figure: None)
    watch = vis.Watch()
    for seen in (10, 20):
        watch(Moment(network(), 0, 100, [row(seen=seen)]))
    (image,) = pyplot.gcf().images
    assert image.get_array().shape[:2] == (286, 640)
    pyplot.close()


def test_without_a_screen_it_asks_for_a_path(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    with pytest.raises(ValueError, match="`path` must be the name of a GIF"):
        vis.Watch()


def test_without_pillow_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="watching needs pillow: pip install"):
        vis.Watch("film.gif")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"share": 0}, "`share` must be above 0 and at most 1"),
        ({"share": 1.5}, "`share`"),
        ({"features": 0}, "`features`"),
        ({"frames": 0}, "`frames`"),
    ],
)
def test_wrong_settings(options, part):
    with pytest.raises(ValueError, match=part):
        vis.Watch("film.gif", **options)


def test_what_cannot_watch_is_refused():
    with pytest.raises(TypeError, match="`watch`"):
        Trainer(network(), LESSONS, watch="film.gif")
