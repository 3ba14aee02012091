"""What the pictures hold, under a backend without a screen; sizes and features against small hand calculations."""

import json
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from spyketorch import latency, models, training
from spyketorch import visualization as vis

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def no_figures():
    plt.close("all")
    yield
    plt.close("all")


def drawn():
    """(array, colour limits) of every image in the open figures."""
    axes = [axis for number in plt.get_fignums() for axis in plt.figure(number).axes]
    return [(torch.as_tensor(image.get_array().data), image.get_clim()) for axis in axes for image in axis.images]


# ------------------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize("shape", [(3, 4), (1, 4), (3, 1), (1, 1), (1, 3, 4), (1, 1, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool])
def test_show_tensor_draws_the_values(shape, dtype):
    count = torch.Size(shape).numel()
    data = (torch.arange(count) % 2 if dtype == torch.bool else torch.arange(count)).to(dtype).reshape(shape)
    before = data.clone()
    vis.show_tensor(data)
    ((array, limits),) = drawn()
    assert array.tolist() == data.reshape(shape[-2:]).double().tolist()
    if count > 1:
        assert limits == (0, data.max().item())  # without limits, the data's own
    assert torch.equal(data, before)


def test_show_tensor_limits():
    vis.show_tensor(torch.tensor([[0.0, 0.25], [0.5, 0.75]]), -1, 2)
    vis.show_tensor(aTensor=torch.tensor([[0.0, 0.25], [0.5, 0.75]]), _vmin=0.125, _vmax=0.25)
    assert [limits for _, limits in drawn()] == [(-1, 2), (0.125, 0.25)]


def test_show_tensor_is_grey():
    """Black where it is lowest, white where it is highest."""
    vis.show_tensor(torch.tensor([[0.0, 1.0], [0.5, 0.0]]))
    (image,) = [image for axis in plt.gcf().axes for image in axis.images]
    colours = image.to_rgba(image.get_array())[..., :3]
    assert colours[0, 0].tolist() == [0, 0, 0]
    assert colours[0, 1].tolist() == [1, 1, 1]
    assert colours[1, 0].max() == colours[1, 0].min()


def test_show_tensor_of_parameters_and_views():
    data = torch.arange(6.0).reshape(2, 3)
    vis.show_tensor(torch.nn.Parameter(data))
    vis.show_tensor(data.t())
    assert [array.tolist() for array, _ in drawn()] == [data.tolist(), data.t().tolist()]


def test_show_tensor_shows_where_there_is_a_screen(monkeypatch):
    """matplotlib's do-nothing backend stands for a window."""
    calls = []
    plt.switch_backend("template")
    monkeypatch.setattr(plt, "show", lambda *args, **kwargs: calls.append(len(drawn())))
    try:
        vis.show_tensor(torch.rand(2, 3))
    finally:
        plt.switch_backend("Agg")
    assert calls == [1]


@pytest.mark.parametrize("draw", [vis.show_tensor, lambda data: vis.plot_tensor_in_image("x.png", data)])
@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (2, 1, 3, 4)])
def test_one_map_at_a_time(draw, shape):
    with pytest.raises(ValueError, match=r"aTensor.*two-dimensional") as caught:
        draw(torch.rand(shape))
    assert str(shape) in str(caught.value)
    assert plt.get_fignums() == []  # no empty window is left behind


@pytest.mark.parametrize("shape", [(16, 24), (1, 16, 24)])
def test_image_file(tmp_path, shape):
    """Dark where the tensor is low, bright where it is high, and no figure stays open."""
    data = torch.zeros(shape)
    data[..., 12:] = 1
    path = tmp_path / "tensor.png"
    assert vis.plot_tensor_in_image(str(path), data) is None
    image = plt.imread(path)[..., :3].mean(-1)
    assert image.min() < image.max()
    assert plt.get_fignums() == []
    assert [p.name for p in tmp_path.iterdir()] == ["tensor.png"]


def test_image_file_limits(tmp_path):
    """A constant tensor is drawn at the place of its value between the limits."""
    low, high = tmp_path / "low.png", tmp_path / "high.png"
    vis.plot_tensor_in_image(str(low), torch.full((8, 8), 0.5), 0.5, 1.0)
    vis.plot_tensor_in_image(fname=str(high), aTensor=torch.full((8, 8), 0.5), _vmin=0.0, _vmax=0.5)
    # colours of the middle: the two ends of the colour map
    first, second = (plt.imread(path) for path in (low, high))
    middle = [image[image.shape[0] // 2, image.shape[1] // 2, :3] for image in (first, second)]
    assert abs(middle[0] - middle[1]).max() > 0.3


def test_images_leave_no_figure_open(tmp_path):
    for name in ("a.png", "b.pdf", "c.svg"):  # the ending says the kind
        vis.plot_tensor_in_image(tmp_path / name, torch.rand(4, 5))
        assert plt.get_fignums() == []
    assert [path.read_bytes()[:4] for path in sorted(tmp_path.iterdir())] == [b"\x89PNG", b"%PDF", b"<?xm"]


def test_drawing_leaves_the_users_figure(tmp_path):
    figure, axes = plt.subplots()
    axes.plot([1, 2, 3])
    vis.plot_tensor_in_image(str(tmp_path / "x.png"), torch.rand(4, 5))
    assert plt.gcf() is figure
    assert len(axes.images) == 0


def test_importing_does_not_load_matplotlib_and_absence_is_one_sentence():
    """In a process where matplotlib cannot be imported: the sizes still work, drawing names the extra."""
    code = """
        import sys
        sys.modules["matplotlib"] = None
        sys.modules["matplotlib.pyplot"] = None
        import torch
        from spyketorch import visualization as vis
        assert vis.get_deep_receptive_field((5, 5, 1, 1)) == (5, 5)
        vis.get_deep_feature(torch.ones(1, 3, 3), (1, 1), (3, 3), (2, 2))
        map = torch.ones(2, 2)
        calls = (
            lambda: vis.show_tensor(map),
            lambda: vis.plot_tensor_in_image("x", map),
            lambda: vis.plot_times(map.int()[None], time_steps=2),
            lambda: vis.plot_wave(map[None, None]),
            lambda: vis.animate_wave(map[None, None]),
            lambda: vis.plot_features(map[None]),
            lambda: vis.plot_winners(map, [], vis.ReceptiveField((1, 1), (1, 1), (0, 0))),
            lambda: vis.plot_weights(map),
            lambda: vis.plot_confusion(map),
            lambda: vis.plot_history([{"layer": 1, "seen": 1, "hits": 0, "silent": 0, "convergence": 0.1}]),
        )
        for draw in calls:
            try:
                draw()
            except ImportError as error:
                assert "matplotlib" in str(error) and "spyketorch[examples]" in str(error), error
                assert "\\n" not in str(error), error
            else:
                raise AssertionError("drew without matplotlib")
        print("fine")
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["fine"]


# ----------------------------------------------------------------------------------------------- receptive fields


@pytest.mark.parametrize(
    ("layers", "size"),
    [
        ([], (1, 1)),
        ([(5, 5, 1, 1)], (5, 5)),
        ([(2, 3, 2, 3)], (2, 3)),
        # conv 5x5, pool 2x2 by 2, conv 3x3: 3; 2 + 2*2 = 6; 5 + 5*1 = 10
        ([(5, 5, 1, 1), (2, 2, 2, 2), (3, 3, 1, 1)], (10, 10)),
        # rows: 4; 3 + 3*2 = 9; 5 + 8*1 = 13.  columns: 2; 1 + 1*3 = 4; 7 + 3*2 = 13
        ([(5, 7, 1, 2), (3, 1, 2, 3), (4, 2, 1, 1)], (13, 13)),
        # the digit network: 5; 3 + 4*3 = 15; 3 + 14 = 17; 2 + 16*2 = 34; 5 + 33 = 38
        ([(5, 5, 1, 1), (2, 2, 2, 2), (3, 3, 1, 1), (3, 3, 3, 3), (5, 5, 1, 1)], (38, 38)),
    ],
)
def test_receptive_field(layers, size):
    answer = vis.get_deep_receptive_field(*layers)
    assert tuple(answer) == size
    assert all(type(side) is int for side in answer)
    assert tuple(vis.get_deep_receptive_field(*[list(layer) for layer in layers])) == size


def test_pooling_step_centres_the_feature():
    feature = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    before = feature.clone()
    # canvas 2 + (3 - 1)*1 = 4 rows, offset 4//2 - 2//2 = 1
    back, stride = vis.get_deep_feature(feature, (1, 1), (3, 3), (2, 2))
    assert tuple(stride) == (2, 2)
    assert back.shape == (2, 4, 4)
    assert back[0].tolist() == [[0, 0, 0, 0], [0, 1, 2, 0], [0, 3, 4, 0], [0, 0, 0, 0]]
    assert back[1].tolist() == [[0, 0, 0, 0], [0, 5, 6, 0], [0, 7, 8, 0], [0, 0, 0, 0]]
    assert torch.equal(feature, before)


def test_pooling_step_of_odd_and_even_sizes():
    # rows: 3 + (2-1)*1 = 4, offset 2 - 1 = 1; columns: 1 + (2-1)*3 = 4, offset 2 - 0 = 2
    back, stride = vis.get_deep_feature(torch.tensor([[[1.0], [2.0], [3.0]]]), (1, 3), (2, 2), (2, 1))
    assert tuple(stride) == (2, 3)
    assert back.tolist() == [[[0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 2, 0], [0, 0, 3, 0]]]


def test_convolution_step_adds_the_strongest_feature():
    feature = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.5, 0.5]]])
    weights = torch.tensor([[[[1.0, 2.0]], [[4.0, 0.0]]]])  # one feature out, two in, one row, two columns
    # canvas 2 x (2 + 1*1) = 2 x 3.  At column 0: max(f0 * 1, f1 * 4) = 2 everywhere.
    # At column 1: max(f0 * 2, f1 * 0) = [[2, 0], [0, 2]].
    back, stride = vis.get_deep_feature(feature, (1, 1), (1, 2), (1, 1), weights)
    assert tuple(stride) == (1, 1)
    assert back.tolist() == [[[2.0, 4.0, 0.0], [2.0, 2.0, 2.0]]]


def test_convolution_step_on_a_strided_feature():
    feature = torch.tensor([[[1.0, 3.0]]])
    weights = torch.tensor([[[[1.0, 10.0]]], [[[2.0, -1.0]]]])
    # canvas 1 x (2 + 1*2) = 1 x 4: weight column 1 lands two columns to the right
    back, stride = vis.get_deep_feature(feature, (3, 2), (1, 2), (5, 4), weights)
    assert tuple(stride) == (15, 8)
    assert back[0].tolist() == [[1.0, 3.0, 10.0, 30.0]]
    assert back[1].tolist() == [[2.0, 6.0, 0.0, 0.0]]  # -1 and -3, clamped at the end


def test_convolution_step_clamps_the_sum_not_the_terms():
    feature = torch.tensor([[[1.0, 2.0]]])
    weights = torch.tensor([[[[-1.0, 1.0]]]])
    # canvas 1 x 3: -1, -2 + 1, 2 -> 0, 0, 2
    back, _ = vis.get_deep_feature(feature, (1, 1), (1, 2), (1, 1), weights)
    assert back.tolist() == [[[0.0, 0.0, 2.0]]]


def test_maximum_of_negative_terms_is_the_largest():
    """The maximum is taken over the input features only: zero is not among them."""
    feature = torch.tensor([[[2.0]], [[3.0]]])
    weights = torch.tensor([[[[-1.0, 1.0]], [[-2.0, 1.0]]]])
    # two columns of 2 and 3; column 0: max(-2, -6) = -2; column 1: max(2, 3) = 3; canvas: -2, -2 + 3, 3
    back, _ = vis.get_deep_feature(feature.expand(2, 1, 2), (1, 1), (1, 2), (1, 1), weights)
    assert back.tolist() == [[[0.0, 1.0, 3.0]]]


def test_feature_of_a_learned_layer():
    """The first layer's features are its weights: one input pixel seen through a convolution step."""
    weights = torch.rand(7, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    back, stride = vis.get_deep_feature(torch.ones(1, 1, 1), (1, 1), (5, 5), (1, 1), torch.nn.Parameter(weights))
    assert torch.equal(back.detach(), weights[:, 0])
    assert tuple(stride) == (1, 1)
    double, _ = vis.get_deep_feature(torch.ones(1, 1, 1).double(), (1, 1), (5, 5), (1, 1), weights.double())
    assert double.dtype == torch.float64


# ------------------------------------------------------------------------------------------ figures, whatever they show

T = 4
TIMES = torch.tensor([[[0, 4, 2], [3, 4, 4]], [[4, 1, 4], [4, 3, 4]]], dtype=torch.uint8)  # 2 features, 2 x 3
FIELD = vis.ReceptiveField((3, 5), (2, 2), (-1, -2))
HISTORY = [
    {"layer": 1, "seen": 500, "hits": 0.0, "misses": 0.75, "silent": 0.25, "convergence": 0.2},
    {"layer": 1, "seen": 1000, "hits": 0.0, "misses": 1.0, "silent": 0.0, "convergence": 0.1},
    {"layer": 2, "seen": 500, "hits": 0.5, "misses": 0.5, "silent": 0.0, "convergence": 0.22},
    {"layer": 2, "seen": 1000, "hits": 0.75, "misses": 0.25, "silent": 0.0, "convergence": 0.15},
]
PLOTS = {
    "times": lambda **options: vis.plot_times(TIMES, time_steps=T, **options),
    "wave": lambda **options: vis.plot_wave(TIMES, time_steps=T, **options),
    "features": lambda **options: vis.plot_features(torch.rand(3, 4, 5), **options),
    "colours": lambda **options: vis.plot_features(torch.rand(3, 3, 4, 5), **options),
    "winners": lambda **options: vis.plot_winners(torch.rand(1, 9, 12), [(7, 1, 2), (3, 0, 0)], FIELD, **options),
    "weights": lambda **options: vis.plot_weights(torch.rand(2, 3), **options),
    "confusion": lambda **options: vis.plot_confusion(torch.tensor([[3, 1, 0], [0, 4, 1]]), **options),
    "history": lambda **options: vis.plot_history(HISTORY, **options),
}
plots = pytest.mark.parametrize("plot", PLOTS.values(), ids=PLOTS)


@plots
def test_plots_give_a_figure_that_pyplot_does_not_keep(plot, tmp_path):
    mine, _ = plt.subplots()
    figure = plot(title="what it is")
    assert isinstance(figure, matplotlib.figure.Figure)
    assert plt.get_fignums() == [mine.number]
    assert plt.gcf() is mine
    assert figure.axes[0].get_title() == "what it is"
    figure.savefig(tmp_path / "picture.png")
    pixels = plt.imread(tmp_path / "picture.png")[..., :3]
    assert pixels.min() < 0.5 < pixels.max()  # something dark on something bright


@plots
def test_plots_draw_into_given_axes(plot):
    figure, (left, right) = plt.subplots(1, 2)
    assert plot(ax=right) is figure
    assert right.has_data()
    assert not left.has_data()
    assert plt.get_fignums() == [figure.number]  # and it stays the user's


@plots
def test_plots_in_a_subfigure_give_the_whole_figure(plot):
    figure = matplotlib.figure.Figure()
    assert plot(ax=figure.subfigures(1, 2)[0].subplots()) is figure


def test_an_animation_is_drawn_into_given_axes(tmp_path):
    figure, ax = plt.subplots()
    animation = vis.animate_wave(TIMES, time_steps=T, ax=ax)
    animation.save(tmp_path / "wave.gif", writer="pillow")
    assert ax.images
    assert plt.get_fignums() == [figure.number]


def array(image):
    """What an image shows, NaN where it shows nothing."""
    return torch.from_numpy(np.ma.filled(image.get_array().astype(float), np.nan))


def tiles(figure, height, width):
    """The pictures in a mosaic, from its top left, row by row."""
    (image,) = figure.axes[0].images
    left = array(image)
    found = []
    while not left.isnan().all():
        row, column = (~left.isnan()).nonzero()[0].tolist()
        found.append(left[row : row + height, column : column + width].clone())
        left[row : row + height, column : column + width] = torch.nan
    return torch.stack(found)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


# -------------------------------------------------------------------------------------------------- first spikes


@pytest.mark.parametrize("columns", [1, 2, 8])
def test_times_are_drawn_as_they_are(columns):
    before = TIMES.clone()
    figure = vis.plot_times(TIMES, time_steps=T, columns=columns)
    assert torch.equal(tiles(figure, 2, 3), TIMES.double())
    assert texts(figure) == ["0", "1"]
    assert torch.equal(TIMES, before)
    high = array(figure.axes[0].images[0]).shape[0]
    assert (high > 4) == (columns == 1)  # one below the other


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bool])
def test_waves_are_drawn_as_their_times(dtype):
    wave = latency.to_wave(TIMES, T, dtype)
    assert torch.equal(tiles(vis.plot_times(wave), 2, 3), TIMES.double())
    assert torch.equal(tiles(vis.plot_wave(wave), 2, 3), tiles(vis.plot_wave(TIMES, time_steps=T), 2, 3))


def test_one_map_needs_no_number():
    assert texts(vis.plot_times(TIMES[:1], time_steps=T)) == []


def luminance(colours):
    return torch.from_numpy(np.asarray(colours)[..., :3]) @ torch.tensor([0.2126, 0.7152, 0.0722]).double()


@pytest.mark.parametrize("steps", [1, 2, 15, 254, 300])
def test_early_is_bright_late_is_dark_and_silence_is_neither(steps):
    """So that order can be read by everybody, in grey too."""
    times = torch.arange(steps + 1, dtype=torch.int16).view(1, 1, -1)
    (image,) = vis.plot_times(times, time_steps=steps).axes[0].images
    shade = luminance(image.to_rgba(image.get_array()))[0]
    assert (shade[1:-1] <= shade[:-2]).all()
    assert shade[-1] - shade[0] > 0.15  # silence is brighter than the first step,
    assert steps == 1 or shade[-1] - shade[-2] > 0.9  # and as far from the last as can be
    assert len(set(shade.tolist())) > min(steps, 100)  # all differ, where there are not hundreds of steps


def test_the_colour_bar_names_steps_and_silence():
    bar = vis.plot_times(TIMES, time_steps=T).axes[1]
    assert [text.get_text() for text in bar.texts] == ["silent"]
    assert [label.get_text() for label in bar.get_xticklabels()] == ["0", "1", "2", "3"]
    assert bar.get_xlabel() == "time step of the first spike"


def test_a_wave_is_a_strip_of_what_has_fired_by_each_step():
    """At each place the first of all features; silent until then."""
    figure = vis.plot_wave(TIMES, time_steps=T, columns=3)
    want = [[[0, 4, 4], [4, 4, 4]], [[0, 1, 4], [4, 4, 4]], [[0, 1, 2], [4, 4, 4]], [[0, 1, 2], [3, 3, 4]]]
    assert tiles(figure, 2, 3).tolist() == want
    assert texts(figure) == ["t = 0", "t = 1", "t = 2", "t = 3"]


def test_labels_stand_above_their_tiles():
    figure = vis.plot_wave(TIMES, time_steps=T, columns=3)
    (image,) = figure.axes[0].images
    shown = ~array(image).isnan()
    for text in figure.axes[0].texts:
        x, y = text.get_position()
        assert not shown[round(y) - 1 if round(y) > 0 else 0, round(x)]
        assert shown[round(y + 1), round(x)]


def test_an_animation_has_a_frame_per_step(tmp_path):
    animation = vis.animate_wave(TIMES, time_steps=T, interval=50, title="a digit")
    seen = []
    draw = animation._func  # type: ignore[attr-defined]

    def watched(step):
        artists = draw(step)
        seen.append((array(artists[0]).tolist(), artists[0].axes.get_title()))
        return artists

    animation._func = watched  # type: ignore[attr-defined]
    animation.save(tmp_path / "wave.gif", writer="pillow")
    strip = tiles(vis.plot_wave(TIMES, time_steps=T), 2, 3).tolist()
    assert seen[-T:] == [(frame, f"a digit, t = {step}") for step, frame in enumerate(strip)]
    with pytest.importorskip("PIL.Image").open(tmp_path / "wave.gif") as image:
        assert image.n_frames == T
        assert image.info["duration"] == 50
    assert plt.get_fignums() == []


@pytest.mark.parametrize("plot", [vis.plot_times, vis.plot_wave, vis.animate_wave])
@pytest.mark.parametrize(
    ("spikes", "steps", "exception", "parts"),
    [
        (TIMES, None, ValueError, "spikes.*one stimulus.*time_steps.*(2, 2, 3)"),
        (TIMES[None], T, ValueError, "spikes.*one stimulus.*(1, 2, 2, 3)"),
        (TIMES, 3, ValueError, "spikes.*0 to 3"),
        (TIMES.short() - 1, T, ValueError, "spikes.*0 to 4"),
        (TIMES.float(), T, TypeError, "spikes.*integer"),
        (TIMES, 0, ValueError, "time_steps.*at least 1"),
        (torch.eye(3).view(3, 3, 1, 1), None, ValueError, "spikes.*cumulative"),
        (torch.rand(3, 1, 2, 2), None, ValueError, "spikes.*zeros and ones"),
        (torch.zeros(3, 0, 2, 2), None, ValueError, "spikes.*(3, 0, 2, 2)"),
        ([1], T, TypeError, "spikes.*list"),
    ],
)
def test_what_is_no_stimulus_is_refused(plot, spikes, steps, exception, parts):
    with pytest.raises(exception, match=parts.replace("(", r"\(").replace(")", r"\)")):
        plot(spikes, time_steps=steps)


def test_columns_and_interval_are_checked():
    for call in (vis.plot_times, vis.plot_wave):
        with pytest.raises(ValueError, match=r"columns.*at least 1.*0"):
            call(TIMES, time_steps=T, columns=0)
    with pytest.raises(ValueError, match=r"columns.*at least 1.*0"):
        vis.plot_features(torch.rand(2, 3, 3), columns=0)
    with pytest.raises(ValueError, match=r"interval.*at least 1.*0"):
        vis.animate_wave(TIMES, time_steps=T, interval=0)


# -------------------------------------------------------------------------------------------- features and winners


def test_features_go_from_black_to_white_each():
    features = torch.stack([torch.tensor([[0.0, 1.0], [2.0, 4.0]]), torch.tensor([[-3.0, -3.0], [-1.0, -2.0]])])
    before = features.clone()
    figure = vis.plot_features(features)
    assert tiles(figure, 2, 2).tolist() == [[[0, 0.25], [0.5, 1]], [[0, 0], [1, 0.5]]]
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    assert torch.equal(features, before)


def test_features_without_contrast_are_black():
    assert tiles(vis.plot_features(torch.full((2, 3, 3), 5.0)), 3, 3).tolist() == torch.zeros(2, 3, 3).tolist()


@pytest.mark.parametrize("features", [torch.rand(3, 3), torch.zeros(0, 3, 3), torch.zeros(2, 0, 3)])
def test_features_of_another_shape_are_refused(features):
    with pytest.raises(ValueError, match=r"features.*height, width"):
        vis.plot_features(features)


def winners_drawn(figure):
    """({label: its place}, the rectangles as (left, top, right, bottom))."""
    ax = figure.axes[0]
    boxes = [(b.get_x(), b.get_y(), b.get_x() + b.get_width(), b.get_y() + b.get_height()) for b in ax.patches]
    return {text.get_text(): text.get_position() for text in ax.texts}, boxes


@pytest.mark.parametrize("kind", [list, torch.tensor, lambda rows: torch.tensor([*rows, (-1, -1, -1)])])
def test_winners_stand_where_they_look(kind):
    image = torch.rand(1, 9, 12)
    figure = vis.plot_winners(image, kind([(7, 1, 2), (3, 3, 5)]), FIELD)
    labels, boxes = winners_drawn(figure)
    # rows start at -1 + 2y and are 3, columns at -2 + 2x and are 5: rows 1..3, columns 2..6; rows 5..7, columns 8..12
    assert labels == {"7": (4, 2), "3": (10, 6)}
    assert boxes == [(1.5, 0.5, 6.5, 3.5), (7.5, 4.5, 11.5, 7.5)]  # the last column of the second is off the image
    assert torch.equal(array(figure.axes[0].images[0]).float(), image[0])
    assert figure.axes[0].get_xlim() == (-0.5, 11.5)
    assert figure.axes[0].get_ylim() == (8.5, -0.5)


def test_a_feature_keeps_its_colour_and_two_differ():
    figure = vis.plot_winners(torch.rand(9, 12), [(7, 1, 2), (3, 0, 0), (7, 3, 1)], FIELD)
    colours = [box.get_edgecolor() for box in figure.axes[0].patches]
    assert colours[0] == colours[2] != colours[1]


def test_winners_of_one_place_share_a_label():
    labels, boxes = winners_drawn(vis.plot_winners(torch.rand(9, 12), [(7, 1, 2), (3, 1, 2)], FIELD))
    assert labels == {"7, 3": (4, 2)}
    assert len(boxes) == 2


@pytest.mark.parametrize("nobody", [[], torch.zeros(0, 3, dtype=torch.int64), torch.full((2, 3), -1)])
def test_without_winners_there_is_the_image(nobody):
    assert winners_drawn(vis.plot_winners(torch.rand(9, 12), nobody, FIELD)) == ({}, [])


def test_winners_of_a_network():
    """All together: a bright spot is found where it is, two layers up."""
    network = models.kheradpisheh2018()
    image = torch.zeros(1, 28, 28)
    image[0, 8:12, 15:19] = 255
    times = network.stages[0](network.encoder(image))
    winners = network.stages[1].layer.winners(times)
    labels, _ = winners_drawn(vis.plot_winners(image, winners, vis.get_receptive_field(network, 1)))
    ((x, y),) = labels.values()
    assert abs(x - 16.5) < 5
    assert abs(y - 9.5) < 5


@pytest.mark.parametrize(
    ("image", "winners", "parts"),
    [
        (torch.rand(2, 9, 12), [], "image.*(H, W)"),
        (torch.rand(12), [], "image.*(H, W)"),
        (torch.rand(9, 12), [(1, 2)], "winners.*(feature, row, column)"),
        (torch.rand(9, 12), [[(1, 2, 3)]], "winners.*(feature, row, column)"),
        (torch.rand(9, 12), torch.zeros(1, 2, 3, dtype=torch.int64), "winners.*one image.*(1, 2, 3)"),
        (torch.rand(9, 12), torch.rand(2, 3), "winners.*integers"),
    ],
)
def test_what_are_no_winners_is_refused(image, winners, parts):
    with pytest.raises(ValueError, match=parts.replace("(", r"\(").replace(")", r"\)")):
        vis.plot_winners(image, winners, FIELD)


# ------------------------------------------------------------------------------------------------------- learning


def histograms(figure):
    """(heights, edges) of each line of the histogram, and the legend."""
    ax = figure.axes[0]
    data = [patch.get_data() for patch in ax.patches if not patch.get_fill()]
    return [(d.values.tolist(), d.edges.tolist()) for d in data], [t.get_text() for t in ax.get_legend().get_texts()]


def test_histogram_of_weights():
    weights = torch.tensor([[0.0, 0.125, 0.25], [0.625, 0.875, 1.0]]).repeat(2, 1)[:, :, None, None]
    data, labels = histograms(vis.plot_weights(weights, bins=4))
    assert data == [([2 / 6, 1 / 6, 1 / 6, 2 / 6], [0, 0.25, 0.5, 0.75, 1])]
    mean = (0 + 0.125 * 0.875 + 0.25 * 0.75 + 0.625 * 0.375 + 0.875 * 0.125 + 0) / 6
    assert labels == [f"convergence {mean:.3f}"]


def test_histograms_of_several_weights_share_their_bins():
    """Weights outside the bounds are counted too; convergence is measured between the bounds."""
    named = {"before": torch.full((3,), 0.5), "after": torch.tensor([-0.2, 0.2, 0.8, 1.0])}
    data, labels = histograms(vis.plot_weights(named, bounds=(0.2, 0.8), bins=2))
    assert data[0][1] == data[1][1] == pytest.approx([-0.2, 0.4, 1.0])
    assert [heights for heights, _ in data] == [[0, 1], [0.5, 0.5]]
    assert labels[0] == "before: convergence 0.250"
    assert labels[1].startswith("after: convergence -")  # past a bound


def test_convergence_is_that_of_the_trainer():
    network = models.kheradpisheh2018()
    lesson = training.Unsupervised(bounds=(0.0, 1.0))
    trainer = training.Trainer(network, [lesson], progress=False)
    trainer.fit(torch.rand(20, 1, 28, 28) * 255)
    _, labels = histograms(vis.plot_weights(network.stages[0].layer.weight))
    assert labels == [f"convergence {trainer.history[-1]['convergence']:.3f}"]


@pytest.mark.parametrize(
    ("weights", "options", "exception", "parts"),
    [
        ({}, {}, ValueError, "weights"),
        (torch.zeros(0), {}, ValueError, "weights"),
        ({"a": 1}, {}, TypeError, "weights.*int"),
        (torch.tensor([0.5, torch.nan]), {}, ValueError, "weights.*finite"),
        (torch.rand(3), {"bins": 0}, ValueError, "bins.*at least 1"),
        (torch.rand(3), {"bounds": (1, 0)}, ValueError, r"bounds.*in order"),
    ],
)
def test_what_are_no_weights_is_refused(weights, options, exception, parts):
    with pytest.raises(exception, match=parts):
        vis.plot_weights(weights, **options)


def test_confusion_counts_and_shades():
    table = torch.tensor([[9, 0, 0], [1, 2, 1]])
    figure = vis.plot_confusion(table, ["cup", "dog"])
    ax = figure.axes[0]
    assert array(ax.images[0]).tolist() == [[1, 0, 0], [0.5, pytest.approx(0.5**0.5), 0.5]]  # root of the row's share
    assert texts(figure) == ["9", "", "", "1", "2", "1"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cup", "dog"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cup", "dog", "silent"]


def ticks(figure):
    return [label.get_text() for label in figure.axes[0].get_xticklabels()]


def test_confusion_of_an_evaluation():
    table = torch.tensor([[9, 0, 0], [1, 2, 1]])
    of_numbers, of_names = training.Evaluation(table), training.Evaluation(table, ("cup", "dog"))
    assert texts(vis.plot_confusion(of_numbers)) == ["9", "", "", "1", "2", "1"]
    assert ticks(vis.plot_confusion(of_numbers)) == ["0", "1", "silent"]
    assert ticks(vis.plot_confusion(of_names)) == ["cup", "dog", "silent"]
    assert ticks(vis.plot_confusion(of_names, ["a", "b"])) == ["a", "b", "silent"]
    assert ticks(vis.plot_confusion(training.Evaluation(table, ("cup",)))) == ["cup", "1", "silent"]


def test_long_names_of_classes_stand_upright():
    names = [f"class {i}" for i in range(10)]
    for given, angle in ((None, 0), (names, 90)):
        figure = vis.plot_confusion(torch.eye(10), given)
        assert {label.get_rotation() for label in figure.axes[0].get_xticklabels()} == {angle}


def test_confusion_without_silence_and_with_a_class_without_images():
    figure = vis.plot_confusion(torch.tensor([[3, 1], [0, 0]]))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0", "1"]
    assert array(figure.axes[0].images[0])[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("table", "names", "parts"),
    [
        (torch.zeros(2, 4), None, "confusion.*classes"),
        (torch.zeros(3), None, "confusion"),
        (torch.eye(2), "abc", "names.*2"),
    ],
)
def test_what_is_no_confusion_is_refused(table, names, parts):
    with pytest.raises(ValueError, match=parts):
        vis.plot_confusion(table, names)


def curves(figure):
    return {
        line.get_label(): (ax.get_ylabel(), *(list(map(float, data)) for data in line.get_data()))
        for ax in figure.axes
        for line in ax.lines
    }


WANTED = {
    "layer 1: convergence": ("convergence", [500, 1000], [0.2, 0.1]),
    "layer 1: silent": ("share of images", [500, 1000], [0.25, 0]),
    "layer 2: right decisions": ("share of images", [500, 1000], [0.5, 0.75]),
}


def test_history_as_curves():
    figure = vis.plot_history(HISTORY)
    assert curves(figure) == WANTED
    assert {text.get_text() for text in figure.axes[0].get_legend().get_texts()} == set(WANTED)
    colours = [line.get_color() for ax in figure.axes for line in ax.lines]
    assert len(set(colours)) == 2  # one per layer


def test_history_of_one_kind_has_one_axis():
    (ax,) = vis.plot_history(HISTORY[1:2]).axes
    assert ax.get_ylabel() == "convergence"
    assert ax.lines[0].get_marker() not in ("", "None")  # a single period is seen


def test_history_of_a_layer_that_neither_decides_nor_converges():
    rows = [{"layer": 1, "seen": n, "hits": 0, "silent": 0, "unanswered": 50 / n} for n in (100, 200)]
    assert curves(vis.plot_history(rows)) == {"layer 1: unanswered": ("share of images", [100, 200], [0.5, 0.25])}


def test_history_of_a_read_out():
    """It is named as what it is, and images put aside have a curve of their own, in the same colour."""
    both = [{"layer": 2, "pass": n, "seen": 90 * n, "hits": n / 4, "silent": 0, "held_out": n / 5} for n in (1, 2)]
    figure = vis.plot_history([*HISTORY[:2], *both])
    found = curves(figure)
    assert found["read-out: right decisions"] == ("share of images", [90, 180], [0.25, 0.5])
    assert found["read-out: right of held-out images"] == ("share of images", [90, 180], [0.2, 0.4])
    lines = {line.get_label(): line for ax in figure.axes for line in ax.lines if "read-out" in line.get_label()}
    assert len({line.get_color() for line in lines.values()}) == 1
    assert len({line.get_linestyle() for line in lines.values()}) == 2


def test_history_of_a_checkpoint(tmp_path):
    """The file that a Trainer leaves, whatever is in it beside the history."""
    trainer = training.Trainer(models.kheradpisheh2018(), [training.Unsupervised(period=10)], tmp_path, progress=False)
    trainer.fit(torch.rand(30, 1, 28, 28) * 255)
    assert len(trainer.history) == 3
    for path in (trainer.checkpoint, str(trainer.checkpoint)):
        assert curves(vis.plot_history(path)) == curves(vis.plot_history(trainer.history))


class Trap:
    def __reduce__(self):
        return (Path.touch, (Path("sprung"),))


def test_history_of_another_file_is_refused(tmp_path, monkeypatch):
    """A file that would run code does not."""
    monkeypatch.chdir(tmp_path)
    Path("trap.pt").write_bytes(pickle.dumps(Trap()))
    torch.save({"history": Trap()}, "trap2.pt")
    torch.save({"weights": torch.ones(2)}, "other.pt")
    Path("text.pt").write_text(json.dumps(HISTORY), encoding="utf-8")
    for name in ("trap.pt", "trap2.pt", "other.pt", "text.pt"):
        with pytest.raises(ValueError, match=f"history.*checkpoint of a Trainer.*{name}"):
            vis.plot_history(name)
    assert not Path("sprung").exists()
    with pytest.raises(FileNotFoundError, match="absent"):
        vis.plot_history("absent.pt")
    with pytest.raises(ValueError, match=r"history.*at least one"):
        vis.plot_history([])
