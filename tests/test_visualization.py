"""The four drawing functions, under a backend without a screen; sizes and features against small hand calculations."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

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
        for draw in (lambda: vis.show_tensor(map), lambda: vis.plot_tensor_in_image("x", map)):
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
