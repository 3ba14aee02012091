"""The examples run as a user runs them, in their short forms."""

import contextlib
import functools
import importlib
import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(script, *options):
    command = [sys.executable, str(EXAMPLES / script), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def accuracy(text, name):
    (figure,) = re.findall(rf"{name} accuracy (\d+\.\d) %", text)
    return float(figure)


def test_digits(tmp_path):
    told = run("digits.py", "--quick", "--seed", 3, "--out", tmp_path)
    assert accuracy(told, "held-out") > 20  # twice chance: it learns, if shortly
    assert (tmp_path / "digits.png").stat().st_size > 20_000
    assert not list(tmp_path.glob("*.part"))
    again = run("digits.py", "--evaluate", tmp_path / "digits.pt")
    assert accuracy(again, "held-out") == accuracy(told, "held-out")


def test_sweep(tmp_path):
    told = run("sweep.py", "--quick", "--thresholds", 12, "--out", tmp_path)
    rows = (tmp_path / "sweep.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0] == "threshold,seed,epochs,accuracy"
    assert len(rows) == 2
    assert f"{float(rows[1].split(',')[3]):.1%}" in told
    again = run("sweep.py", "--quick", "--thresholds", 12, "--out", tmp_path)  # nothing is run twice
    assert again.splitlines() == told.splitlines()[1:]
    assert (tmp_path / "sweep.csv").read_text(encoding="utf-8").splitlines() == rows


def test_a_network_that_never_fires_stops_with_a_sentence(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(EXAMPLES)!r})\n"
        "sys.argv = ['digits.py', '--quick', '--out', sys.argv[1]]\n"
        "import digits; build = digits.build\n"
        "def silent():\n    made = build(); made.stages[0].layer.threshold.fill_(1000); return made\n"
        "digits.build = silent; digits.main()"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "nothing fires" in done.stderr.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_digits_without_the_model():
    command = [sys.executable, str(EXAMPLES / "digits.py"), "--evaluate", "nowhere.pt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nowhere.pt" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    [
        ("digits.py", "--epochs", "0"),
        ("digits.py", "--evaluate", __file__),
        ("digits.py", "--evaluate", str(EXAMPLES)),
        ("digits.py", "--out", __file__),
        ("mnist_kheradpisheh.py", "--out", __file__),
        ("mnist_kheradpisheh.py", "--device", "nowhere"),
    ],
    ids=" ".join,
)
def test_options_that_cannot_be_are_refused_in_a_sentence(command):
    done = subprocess.run([sys.executable, str(EXAMPLES / command[0]), *command[1:]], capture_output=True, text=True)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert command[2 if command[1] == "--evaluate" else 1] in done.stderr.splitlines()[-1]


def draw_objects(root, objects=10, views=2):
    """Balls and bars of any colour before blue: CLASS/OBJECT/VIEW.png."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(0)
    for name in ("ball", "bar"):
        for number in range(objects):
            (root / name / str(number)).mkdir(parents=True)
            colour = (*random.integers(60, 256, 2).tolist(), 40)
            for view in range(views):
                picture = Image.new("RGB", (128, 128), (40, 60, 150))
                left, top, size = random.integers((20, 20, 40), (40, 40, 60)).tolist()
                box = (left, top, left + size, top + (size if name == "ball" else size // 3))
                (ImageDraw.Draw(picture).ellipse if name == "ball" else ImageDraw.Draw(picture).rectangle)(box, colour)
                picture.save(root / name / str(number) / f"{view}.png")


def test_eth80(tmp_path):
    pytest.importorskip("PIL.Image")
    draw_objects(tmp_path / "eth80")
    command = "eth80.py", "--data", tmp_path, "--out", tmp_path / "out"
    told = run(*command)
    assert accuracy(told, "test") > 80
    assert (tmp_path / "out" / "eth80.png").stat().st_size > 20_000
    assert run(*command, "--resume").splitlines()[-2:] == told.splitlines()[-2:]  # nothing is left to learn
    draw_objects(tmp_path / "few" / "eth80", objects=5)  # none is left for the test
    refused = [("--held-out", "5"), ("--evaluate",), ("--data", tmp_path / "eth80"), ("--data", tmp_path / "few")]
    for options in refused:
        script = [sys.executable, str(EXAMPLES / "eth80.py"), *map(str, (*command[1:], *options))]
        done = subprocess.run(script, capture_output=True, text=True)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "eth80" in done.stderr.splitlines()[-1]


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
def test_mnist_mozafari(tmp_path):
    short = ("--data", os.environ["SPYKETORCH_MNIST"], "--limit", 100, "--epochs", 2, "--out", tmp_path)
    told = run("mnist_mozafari.py", *short)
    assert 0 <= accuracy(told, "test") <= 100
    saved = torch.load(tmp_path / "mnist_mozafari.pt", weights_only=True)
    assert (tmp_path / "mnist_mozafari.png").exists()
    again = run("mnist_mozafari.py", *short, "--resume")  # a finished run has nothing left to learn
    assert accuracy(again, "test") == accuracy(told, "test")
    resumed = torch.load(tmp_path / "mnist_mozafari.pt", weights_only=True)
    for name, value in saved.items():
        assert torch.equal(resumed[name], value), name


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
def test_mnist_kheradpisheh(tmp_path):
    short = ("--data", os.environ["SPYKETORCH_MNIST"], "--limit", 1000, "--out", tmp_path)
    told = run("mnist_kheradpisheh.py", *short)
    assert accuracy(told, "test") > 70  # far above chance, if shortly
    assert (tmp_path / "mnist_kheradpisheh.png").exists()
    saved = torch.load(tmp_path / "mnist_kheradpisheh.pt", weights_only=True)
    assert accuracy(run("mnist_kheradpisheh.py", *short, "--resume"), "test") == accuracy(told, "test")
    resumed = torch.load(tmp_path / "mnist_kheradpisheh.pt", weights_only=True)
    assert all(torch.equal(resumed[name], value) for name, value in saved.items())
    shipped = run("mnist_kheradpisheh.py", "--data", os.environ["SPYKETORCH_MNIST"], "--evaluate", "--out", tmp_path)
    assert accuracy(shipped, "test") >= 98


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
def test_supervised_stdp_shipped_weights(tmp_path):
    told = run("supervised_stdp.py", "--data", os.environ["SPYKETORCH_MNIST"], "--evaluate", "--out", tmp_path)
    assert accuracy(told, "test") > 98.5
    assert (tmp_path / "supervised_stdp_mnist_neurons.png").exists()


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
def test_integer_digits(tmp_path):
    data = ("--data", os.environ["SPYKETORCH_MNIST"], "--out", tmp_path, "--images", 100, "--networks", "goupy2024")
    told = run("integer_digits.py", *data, "--bits", 4)
    assert accuracy(told, "test") >= 97
    for runtime in ("NumPy", "spyketorch"):
        assert f"{runtime}: 100 decisions, 0 differ; " in told
    runtimes = [line for line in told.splitlines() if " decisions, " in line or ": not run, " in line]
    assert len(runtimes) == 5
    assert all("decisions, 0 differ" in line for line in runtimes if "not run" not in line)
    assert (tmp_path / "goupy2024_4bits.safetensors").stat().st_size < 2**17


def draw_shapes(folder, names, count, size):
    """``count`` rings and as many crosses in folders of these names, at places that differ; numbered from 1."""
    image = pytest.importorskip("PIL.Image")
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    random = np.random.default_rng(count)
    for shape, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(1, count + 1):
            y, x = np.stack((rows, columns)) - random.uniform(-0.06, 0.06, (2, 1, 1))
            drawn = np.minimum(abs(x), abs(y)) < 0.05 if shape else abs(np.hypot(y, x) - 0.3) < 0.05
            pixels = 200 * drawn + random.uniform(20, 40, (size, size))
            image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{name}{number}-000.png")


def test_caltech_mozafari(tmp_path):
    draw_shapes(tmp_path / "data" / "train", ["ring", "wheel"], 12, 80)
    draw_shapes(tmp_path / "data" / "test", ["ring", "wheel"], 6, 80)
    size = ("--height", 112, "--width", 112, "--epochs", 10)
    short = ("--data", tmp_path / "data", *size, "--out", tmp_path / "out")
    told = run("caltech_mozafari.py", *short)
    assert accuracy(told, "test") > 70  # chance is 50
    assert (tmp_path / "out" / "caltech_mozafari.png").exists()
    saved = torch.load(tmp_path / "out" / "caltech_mozafari.pt", weights_only=True)
    assert accuracy(run("caltech_mozafari.py", *short, "--resume"), "test") == accuracy(told, "test")
    resumed = torch.load(tmp_path / "out" / "caltech_mozafari.pt", weights_only=True)
    assert all(torch.equal(resumed[name], value) for name, value in saved.items())


def test_caltech_mozafari_halves_folders_without_a_split(tmp_path):
    draw_shapes(tmp_path / "data", ["ring", "wheel"], 10, 80)
    size = ("--height", 112, "--width", 112, "--epochs", 1)
    run("caltech_mozafari.py", "--data", tmp_path / "data", *size, "--out", tmp_path)
    state = torch.load(tmp_path / "caltech_mozafari" / "checkpoint.pt", weights_only=True)
    assert state["identity"]["images"].startswith("(10, 1, 112, 112)")  # half of the twenty images


def test_caltech_mozafari_wants_two_classes(tmp_path):
    draw_shapes(tmp_path / "data", ["ring"], 2, 80)
    command = [sys.executable, str(EXAMPLES / "caltech_mozafari.py"), "--data", str(tmp_path / "data")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "ring" in done.stderr.splitlines()[-1]


@pytest.mark.skipif("SPYKETORCH_CALTECH" not in os.environ, reason="SPYKETORCH_CALTECH does not name a folder")
def test_caltech_mozafari_shipped_weights(tmp_path):
    told = run("caltech_mozafari.py", "--data", os.environ["SPYKETORCH_CALTECH"], "--evaluate", "--out", tmp_path)
    assert accuracy(told, "test") >= 98.9


def test_tutorial_cups_and_dogs(tmp_path):
    draw_shapes(tmp_path / "data", ["cup", "dog"], 10, 64)
    told = run("tutorial_cups_and_dogs.py", "--data", tmp_path / "data", "--epochs", 10, "--out", tmp_path)
    assert "10 images to learn from, 10 of other objects" in told  # objects 1 to 5, and 6 to 10, of both classes
    errors = [float(figure) for figure in re.findall(r"test error (\d+\.\d) %", told)]
    assert len(errors) == 2
    assert max(errors) <= 20  # chance is 50
    assert (tmp_path / "tutorial_cups_and_dogs.png").stat().st_size > 20_000


def test_saccades(tmp_path):
    told = run("saccades.py", "--quick", "--out", tmp_path)
    assert accuracy(told, "test") > 80
    assert "synthetic" in told
    assert (tmp_path / "saccades.png").stat().st_size > 20_000


def say(folder, speakers, recordings):
    """Tones that rise from a pitch of the speaker's own, the further the larger the digit."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for speaker in range(speakers):
        for digit in range(10):
            for number in range(recordings):
                seconds = np.arange(3200) / 8000
                pitch = 300 + 40 * speaker + 10 * random.random() + 600 * digit * seconds
                sound = np.sin(2 * np.pi * pitch * seconds) + 0.01 * random.standard_normal(3200)
                with wave.open(str(folder / f"{digit}_s{speaker}_{number}.wav"), "wb") as file:
                    file.setparams((1, 2, 8000, 0, "NONE", ""))
                    file.writeframes((8000 * sound).astype("<i2").tobytes())


def test_spoken_digits(tmp_path):
    say(tmp_path / "data", 2, 8)
    told = run("spoken_digits.py", "--data", tmp_path / "data", "--quick", "--out", tmp_path)
    assert "60 recordings to learn from, 100 others" in told
    assert accuracy(told, "test") > 50
    assert (tmp_path / "spoken_digits.png").stat().st_size > 20_000
    told = run("spoken_digits.py", "--data", tmp_path / "data", "--quick", "--unheard")
    assert len(re.findall(r"s[01], who was not heard in training: \d", told)) == 2


def test_spoken_digits_wants_recordings(tmp_path):
    command = [sys.executable, str(EXAMPLES / "spoken_digits.py"), "--data", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "DIGIT_SPEAKER_NUMBER.wav" in done.stderr.splitlines()[-1]


@pytest.fixture
def here(monkeypatch, capsys):
    """Examples in this process: what one prints, or how it ends."""
    for name in ("torchvision", "matplotlib", "tqdm"):
        pytest.importorskip(name)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def run(script, *options):
        monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
        importlib.import_module(script.removesuffix(".py")).main()
        return capsys.readouterr().out

    return run


@pytest.fixture
def own_images(here):
    return functools.partial(here, "own_images.py")


@pytest.fixture
def supervised_stdp(here):
    return functools.partial(here, "supervised_stdp.py")


def draw_cifar(folder, count):
    """``count`` pictures for each class of CIFAR-10: a shape that a mirror keeps, in one of two colours."""
    image = pytest.importorskip("PIL.Image")
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    random = np.random.default_rng(count)
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            rows, columns = np.mgrid[:32, :32] - random.uniform(13, 18, (2, 1, 1))
            away = np.hypot(rows, columns)
            shapes = (abs(rows) < 3, abs(columns) < 3, abs(abs(rows) - abs(columns)) < 3, away < 6, abs(away - 10) < 2)
            shape = shapes[label // 2]
            colour = np.array([0.9, 0.2, 0.2] if label % 2 else [0.2, 0.3, 0.9])
            pixels = np.where(shape[..., None], colour, 0.4) + random.uniform(-0.1, 0.1, (32, 32, 3))
            image.fromarray((255 * pixels.clip(0, 1)).astype(np.uint8)).save(folder / name / f"{number}.png")


@pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")  # of so few images
def test_supervised_stdp_of_colours(tmp_path, supervised_stdp):
    draw_cifar(tmp_path / "cifar10_jpeg" / "train", 30)
    draw_cifar(tmp_path / "cifar10_jpeg" / "test", 6)
    short = ["--data", tmp_path, "--set", "cifar10_jpeg", "--out", tmp_path / "out"]
    told = supervised_stdp(*short, "--held-out", 0.2)
    assert accuracy(told, "test") > 30  # three times chance
    assert len(re.findall("while it learned them", told)) == 8  # a pass over the images and their copies
    assert accuracy(told, "held-out") > 30
    for name in ("", "_neurons", "_curves"):
        assert (tmp_path / "out" / f"supervised_stdp_cifar10_jpeg{name}.png").stat().st_size > 20_000
    again = supervised_stdp(*short, "--held-out", 0.2, "--resume")
    assert accuracy(again, "test") == accuracy(told, "test")
    with pytest.raises(SystemExit, match="another directory begins anew"):
        supervised_stdp(*short, "--held-out", 0.2)


def write_digits(folder, part, count):
    """Bars as MNIST is stored: of a height for each digit."""
    random, folder = np.random.default_rng(count), folder / "MNIST" / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = np.zeros((count, 28, 28), np.uint8), random.integers(0, 10, count)
    for picture, label in zip(images, labels, strict=True):
        picture[3 + 2 * label : 6 + 2 * label, 4:24] = random.integers(150, 250)
    for kind, content in ("images-idx3", images), ("labels-idx1", labels.astype(np.uint8)):
        head = np.array([0x800 + content.ndim, *content.shape], ">i4").tobytes()
        (folder / f"{part}-{kind}-ubyte").write_bytes(head + content.tobytes())


def test_copies_of_pictures_are_mirrored_and_moved(here):
    module, images = importlib.import_module("supervised_stdp"), torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32)
    around = torch.nn.functional.pad(images.double(), (2, 2, 2, 2), "replicate").long()
    moved = module.moved(images, torch.tensor([[[1], [-2]], [[-1], [2]]]))
    assert torch.equal(moved[0], around[0, :, 1:33, 3:35])  # a row down, a column to the left
    assert torch.equal(moved[1], around[1, :, 4:36, 0:32])
    mirror, near, mirrored = module.mirrored_and_moved(images)
    assert torch.equal(mirror, images.flip(-1))
    assert torch.equal(near, module.mirrored_and_moved(images)[1])  # the same in a run that is resumed
    for some, copies in ((images, near), (mirror, mirrored)):
        ways = torch.cartesian_prod(torch.arange(-2, 3), torch.arange(-2, 3)).T[..., None, None]
        for image, copy in zip(some, copies, strict=True):
            assert any(torch.equal(module.moved(image[None], way)[0], copy) for way in ways.unbind(1))


@pytest.mark.filterwarnings("ignore::spyketorch.training.TrainingWarning")  # of so few images
def test_supervised_stdp_of_digits(tmp_path, supervised_stdp):
    write_digits(tmp_path, "train", 300)
    write_digits(tmp_path, "t10k", 100)
    told = supervised_stdp("--data", tmp_path, "--limit", 200, "--held-out", 0, "--out", tmp_path / "out")
    assert accuracy(told, "test") > 50
    assert "held out" not in told
    short = ["--data", tmp_path, "--limit", 100, "--held-out", 0.1, "--set", "mnist_shifted", "--out", tmp_path / "out"]
    told = supervised_stdp(*short)
    assert "read-out after 1,800 images" in told  # four passes over 90 digits and four copies of each
    assert accuracy(told, "held-out") > 30
    with pytest.raises(SystemExit):
        supervised_stdp(*short, "--evaluate")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--set", "cifar10_jpeg"), "should hold a folder of pictures for each class of CIFAR-10"),
        (("--held-out", 1), None),
    ],
)
def test_supervised_stdp_says_what_is_missing(tmp_path, supervised_stdp, options, says):
    with pytest.raises(SystemExit, match=says):
        supervised_stdp("--data", tmp_path, "--out", tmp_path / "out", *options)


def test_own_images_draws_its_own_where_there_are_none(tmp_path, own_images):
    told = own_images("--quick", "--features", 32, "--out", tmp_path)
    assert accuracy(told, "test") > 50  # of eight classes
    assert "R-STDP, which fails" in told  # after three epochs of reward
    for name in ("own_images.png", "own_images_wrong.png"):
        assert (tmp_path / name).stat().st_size > 5000
    (tmp_path / "text.png").write_text("no picture")
    star = tmp_path / "shapes" / "star" / "star0000.png"
    told = own_images("--predict", star, tmp_path / "text.png", star.parent, "--out", tmp_path).splitlines()
    first, second, *folder = told
    assert len(folder) == 20
    assert re.search(r"star0000.png: \w+ .*\d ms", first)
    assert "cannot be read" in second


def test_own_images_keeps_groups_together_and_takes_a_test_of_its_own(tmp_path, own_images):
    for group, count in ("a", 3), ("b", 4), ("c", 5):
        draw_shapes(tmp_path / group, ["ring", "wheel"], count, 40)
        for name in ("ring", "wheel"):
            (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / group / name).rename(tmp_path / "data" / name / group)
    draw_shapes(tmp_path / "test", ["ring", "wheel"], 2, 90)
    (tmp_path / "test" / "ring" / "broken.jpg").write_text("no picture")
    short = ["--data", tmp_path / "data", "--quick", "--features", 16, "--group", "--test", tmp_path / "test"]
    short += ["--out", tmp_path / "out"]
    told = own_images(*short)
    learned, compared, tested = map(int, re.findall(r"(\d+) (?:pictures to learn|to compare|to test)", told))
    assert learned + compared == 24
    assert compared in {3 + 3, 3 + 4, 4 + 4, 3 + 5, 4 + 5, 5 + 5}  # whole groups, one of each class
    assert tested == 4
    assert own_images(*short, "--resume") == told


@pytest.mark.parametrize(
    ("classes", "options", "says"),
    [
        ({}, (), "a folder for each class"),
        ({"cup": 3}, (), "'cup'; there must be another"),
        ({"cup": 3, "dog": 1}, (), "'dog' has too few"),
        ({"cup": 3, "dog": 0}, (), "dog"),
        ({"cup": 3, "dog": 3}, ("--per-class", 3), "'cup' has too few"),
        ({"cup": 3, "dog": 3}, ("--predict", "a.png"), "learn first"),
    ],
)
def test_own_images_says_what_is_missing(tmp_path, own_images, classes, options, says):
    image = pytest.importorskip("PIL.Image")
    data = tmp_path / "data"
    data.mkdir()
    for name, count in classes.items():
        (data / name).mkdir()
        for number in range(count):
            image.new("L", (20, 20)).save(data / name / f"{number}.png")
    with pytest.raises(SystemExit, match=says):
        own_images("--data", data, "--out", tmp_path / "out", *options)


def test_own_images_takes_what_people_have(tmp_path, own_images):
    """Pictures of telephones, cut-out and 16-bit ones; hidden files, links that lead back; what is none is counted."""
    image = pytest.importorskip("PIL.Image")
    import own_images as example

    grey = np.add.outer(np.arange(60), 2 * np.arange(40)).astype(np.uint8)
    upright = image.fromarray(grey)
    folder = tmp_path / "data" / "two words"
    (folder / ".thumbnails").mkdir(parents=True)
    (tmp_path / "data" / ".ipynb_checkpoints").mkdir()
    exif = image.Exif()
    exif[0x0112] = 6  # held on its side
    upright.rotate(90, expand=True).save(folder / "a.JPEG", exif=exif, quality=95)
    upright.save(folder / "b.gif")
    image.fromarray(grey.astype(np.uint16) * 300).save(folder / "c.png")
    cut = image.new("LA", upright.size)
    cut.putalpha(upright)
    cut.save(folder / "d.png")
    upright.save(folder / ".thumbnails" / "a.png")
    (folder / "._a.JPEG").write_text("of another system")
    (folder / "e.txt").write_text("no picture")
    with contextlib.suppress(OSError):  # not everyone may
        (folder / "again").symlink_to(folder)
    upright.save(tmp_path / "data" / "beside.png")

    found = example.listed(tmp_path / "data")
    assert {name: [file.name for file in files] for name, files in found.items()} == {
        "two words": ["a.JPEG", "b.gif", "c.png", "d.png", "e.txt"]
    }
    want = torch.from_numpy(np.asarray(upright.resize((64, 64), image.Resampling.BILINEAR)) / 255.0)
    for file in found["two words"][:3]:
        contrast = example.opened(file)[0] / example.opened(file).max()
        assert torch.allclose(contrast.double(), want / want.max(), atol=0.03), file
    assert example.opened(folder / "d.png").std() > 0.05  # black on nothing is to be seen
    with pytest.raises(OSError, match=r"e.txt' cannot be read as a picture"):
        example.opened(folder / "e.txt")


def test_own_images_tells_parts_from_classes_and_what_was_learned_from_a_test(tmp_path, own_images):
    draw_shapes(tmp_path / "Train", ["ring", "wheel"], 4, 40)
    draw_shapes(tmp_path / "test", ["ring", "wheel"], 2, 40)
    with pytest.raises(SystemExit, match="parts, not classes: 'Train', 'test'; give one as --data"):
        own_images("--data", tmp_path, "--out", tmp_path)
    with pytest.raises(SystemExit, match="is in --data, too"):
        own_images("--data", tmp_path / "Train", "--test", tmp_path / "Train", "--out", tmp_path)
