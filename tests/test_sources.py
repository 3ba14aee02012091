"""Images in every form: the same bits as from a tensor, read once, and a way on for what is none of the forms."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from shared_out import bars
from test_training import LESSONS, network, weights
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

from spyketorch import models
from spyketorch.data._source import sourced
from spyketorch.encoding import DoGKernel, Filter, LinearLatency
from spyketorch.models import InputWarning, Network
from spyketorch.readout import LinearReadout
from spyketorch.training import Evaluation, Readout, Trainer, TrainingWarning, evaluate

forks = pytest.mark.skipif(sys.platform != "linux", reason="the data set is of this module, which workers fork")
IMAGES, LABELS = bars(40)
IMAGES = IMAGES.clamp(0, 255).to(torch.uint8)
NAMES = ("level", "upright")


def picture(image):
    return Image.fromarray(image[0].numpy())


class Pictures(Dataset):
    """Items as torchvision's data sets give them; each reading is a line in a file."""

    classes = NAMES

    def __init__(self, log, make=picture, label=int):
        self.log, self.make, self.label = str(log), make, label

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        with open(self.log, "a", encoding="utf-8") as file:
            file.write(f"{index}\n")
        return self.make(IMAGES[index]), self.label(LABELS[index])


def reads(log):
    """Which items have been read since the last call."""
    found = [int(line) for line in Path(log).read_text(encoding="utf-8").split()] if Path(log).exists() else []
    Path(log).write_text("", encoding="utf-8")
    return found


def fit(data, labels=None, directory=None, **options):
    made = network()
    trainer = Trainer(made, LESSONS, directory, progress=False, **options)
    return made, trainer.fit(data, labels)


def mapped(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES.numpy())
    return np.load(tmp_path / "images.npy", mmap_mode="r")


def named(label):
    return NAMES[int(label)]


def in_order(size):
    return BatchSampler(SequentialSampler(range(40)), size, False)


class Column:
    """Labels as a column of pandas has them."""

    def __init__(self, labels):
        self.labels = np.array(list(labels), object)

    def __len__(self):
        return len(self.labels)

    def __array__(self, dtype=None, copy=None):
        return self.labels


FORMS = {
    "array": lambda at: (IMAGES.numpy(), LABELS.numpy()),
    "mapped": lambda at: (mapped(at), LABELS.tolist()),
    "names": lambda at: (IMAGES, list(map(named, LABELS))),
    "pictures": lambda at: (Pictures(at / "log"), None),
    "pictures with names": lambda at: (Pictures(at / "log", label=named), None),
    "tensors": lambda at: (Pictures(at / "log", lambda image: image), None),
    "arrays": lambda at: (Pictures(at / "log", lambda image: image[0].numpy(), np.int64), None),
    "part": lambda at: (Subset(Pictures(at / "log"), range(40)), None),
    "a column of names": lambda at: (IMAGES, Column(map(named, LABELS))),
    "arrays of names": lambda at: (Pictures(at / "log", label=lambda label: np.array(named(label))), None),
    "swapped bytes": lambda at: (
        IMAGES.numpy().astype(">u2").astype(">f4").astype(np.uint8),
        LABELS.numpy().astype(">i4"),
    ),
    "list": lambda at: ([picture(image) for image in IMAGES], list(map(named, LABELS))),
    "loader": lambda at: (DataLoader(TensorDataset(IMAGES, LABELS), 7), None),
    "batches": lambda at: ([(IMAGES[:25], LABELS[:25]), (IMAGES[25:], LABELS[25:])], None),
    "loader of a sampler": lambda at: (DataLoader(TensorDataset(IMAGES, LABELS), batch_sampler=in_order(7)), None),
    "loader of batches": lambda at: (DataLoader(Pictures(at / "log", lambda image: image, named), 7), None),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_bits(form, tmp_path):
    want, told = fit(IMAGES, LABELS)
    data, labels = FORMS[form](tmp_path)
    made, found = fit(data, labels)
    assert all(map(torch.equal, weights(made), weights(want)))
    assert list(map(str, found)) == list(map(str, told))
    result = evaluate(made, data, labels)
    assert torch.equal(result.confusion, evaluate(want, IMAGES, LABELS).confusion)
    named_here = form not in ("array", "mapped", "swapped bytes", "loader", "loader of a sampler", "batches")
    assert made.names == result.names == (NAMES if named_here else None)
    assert sourced(data, labels).count == 40


@pytest.mark.parametrize("size", [1, 3, 7, 40, 100])
def test_chunks_are_the_images_in_order(size, tmp_path):
    for form in FORMS:
        parts = list(sourced(*FORMS[form](tmp_path)).chunks(size))
        assert [len(part) for part in parts] == [size] * (40 // size) + [40 % size] * (40 % size > 0)
        assert torch.equal(torch.cat(parts), IMAGES)


def test_chunks_of_batches_of_any_sizes():
    batches = list(torch.split(IMAGES, [4, 3, 3, 20, 1, 9]))
    assert [len(part) for part in sourced(batches).chunks(3)] == [3] * 13 + [1]
    assert torch.equal(torch.cat(list(sourced(batches).chunks(3))), IMAGES)
    for drop_last, count in ((False, 40), (True, 35)):
        source = sourced(DataLoader(TensorDataset(IMAGES), 7, drop_last=drop_last))
        assert len(source) == count == sum(map(len, source.chunks(9)))


def test_what_does_not_tell_its_content_is_read_anew(tmp_path):
    """An open file may hold anything, so that answers of an earlier run are not taken."""

    class Open(Pictures):
        def __init__(self, log):
            super().__init__(log)
            self.file = open(log, "a", encoding="utf-8")  # noqa: SIM115

    log = tmp_path / "log"
    for _ in range(2):
        data = Open(log)
        assert sourced(data).name is None
        reads(log)
        fit(data, directory=tmp_path / "run", memory_limit=0)
        assert sorted(reads(log)) == list(range(40))
        (tmp_path / "run" / "checkpoint.pt").unlink()
        data.file.close()


def test_a_stream_is_told_from_others_as_a_tensor_is(tmp_path):
    want = sourced(IMAGES).identity
    for form in FORMS:
        source = sourced(*FORMS[form](tmp_path))
        list(source.chunks(11))
        assert source.identity == want


@pytest.mark.parametrize("memory_limit", [0, 1e9])
def test_each_item_is_read_once(tmp_path, memory_limit, monkeypatch):
    """By two layers, their reports and a run that goes on; only what no file tells is read again."""
    monkeypatch.setattr("spyketorch.data._source._HEAD", 10)
    data, log = Pictures(tmp_path / "log"), tmp_path / "log"
    fit(data, directory=tmp_path / "run", memory_limit=memory_limit)
    assert sorted(reads(log)) == list(range(40))
    fit(data, directory=tmp_path / "run", memory_limit=memory_limit, resume=True)
    assert reads(log) == list(range(10))  # the first, which the reports look at
    (tmp_path / "run" / "checkpoint.pt").unlink()
    fit(data, directory=tmp_path / "run", memory_limit=memory_limit)
    assert sorted(reads(log)) == list(range(10 if memory_limit == 0 else 40))
    evaluate(network(), data)
    assert sorted(reads(log)) == list(range(40))


def test_an_encoder_that_is_fitted(tmp_path):
    def fitted():
        encoder = LinearLatency(Filter([DoGKernel(3, 1 / 3, 2 / 3), DoGKernel(3, 2 / 3, 1 / 3)], 1, thresholds=10), 6)
        return Network(encoder, network().stages, [0, 0, 0, 0, 1, 1, 1, 1])

    made, want = fitted(), fitted()
    log = tmp_path / "log"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        Trainer(made, LESSONS, tmp_path / "run", progress=False).fit(Pictures(log))
        assert sorted(reads(log)) == [*range(40)]  # not even that, as the first are kept, which are all here
        Trainer(want, LESSONS, progress=False).fit(IMAGES, LABELS)
        assert all(map(torch.equal, weights(made), weights(want)))
        with pytest.raises(FileExistsError):
            Trainer(fitted(), LESSONS, tmp_path / "run", progress=False).fit(Pictures(log))


def test_other_data_are_refused(tmp_path):
    fit(Pictures(tmp_path / "log"), directory=tmp_path / "run")
    fit(IMAGES, LABELS, tmp_path / "run", resume=True)  # the same images in another form
    before = IMAGES[35, 0, 0, 0].item()
    try:
        IMAGES[35, 0, 0, 0] = 255 - before
        with pytest.raises(ValueError, match="other images"):
            fit(DataLoader(TensorDataset(IMAGES, LABELS), 8), directory=tmp_path / "run", resume=True)
    finally:
        IMAGES[35, 0, 0, 0] = before
    with pytest.raises(ValueError, match="other labels"):
        fit(DataLoader(TensorDataset(IMAGES, 1 - LABELS), 8), directory=tmp_path / "run", resume=True)


@forks
def test_workers(tmp_path):
    want, _ = fit(IMAGES, LABELS)
    made, _ = fit(DataLoader(Pictures(tmp_path / "log", lambda image: image), 8, num_workers=2))
    assert all(map(torch.equal, weights(made), weights(want)))
    assert sorted(reads(tmp_path / "log")) == list(range(40))


def test_spawned_workers():
    want, _ = fit(IMAGES, LABELS)
    made, _ = fit(DataLoader(TensorDataset(IMAGES, LABELS), 8, num_workers=1, multiprocessing_context="spawn"))
    assert all(map(torch.equal, weights(made), weights(want)))


def test_a_second_pass_gives_the_same_images_or_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("spyketorch.data._source._HEAD", 10)
    source = sourced(Pictures(tmp_path / "log"))
    first, second = (torch.cat(list(source.chunks(9))) for _ in range(2))
    assert torch.equal(first, second)
    source = sourced(DataLoader(TensorDataset(IMAGES, LABELS), 8, shuffle=True))
    list(source.chunks(9))
    with pytest.raises(ValueError, match=r"`images` must be the same in each pass.*shuffle=True"):
        list(source.chunks(9))
    source = sourced((IMAGES, LABELS) for _ in range(2))
    list(source.chunks(9))
    with pytest.raises(TypeError, match="`images` must be something that can be read again, such as a Dataset"):
        list(source.chunks(9))


def test_files_that_change_under_stored_answers(tmp_path, monkeypatch):
    """Their names are the same, so that the folder's note is found; the pass tells."""
    monkeypatch.setattr("spyketorch.data._source._HEAD", 10)
    np.save(tmp_path / "images.npy", IMAGES.numpy())

    class Files(Dataset):
        def __init__(self, folder):
            self.folder = folder

        def __len__(self):
            return 40

        def __getitem__(self, index):
            return np.load(self.folder / "images.npy")[index], int(LABELS[index])

    fit(Files(tmp_path), directory=tmp_path / "run")
    changed = IMAGES.numpy().copy()
    changed[39] = 0
    np.save(tmp_path / "images.npy", changed)
    (tmp_path / "run" / "checkpoint.pt").unlink()
    with pytest.raises(ValueError, match=r"`images` must be the same in each pass.*another directory"):
        fit(Files(tmp_path), directory=tmp_path / "run")


def test_a_mapped_file_is_told_by_its_place_and_time(tmp_path):
    images = mapped(tmp_path)
    name = sourced(images).name
    assert sourced(np.load(tmp_path / "images.npy", mmap_mode="r")).name == name
    others = [sourced(part).name for part in (images[:20], images[20:], images[::2], images[:, :, ::-1])]
    assert len({name, *others}) == 5
    os.utime(tmp_path / "images.npy", ns=(0, 0))
    assert sourced(images).name != name
    for part in (images[20:], images[::2], images[:, :, ::-1]):
        assert torch.equal(torch.cat(list(sourced(part).chunks(7))), torch.from_numpy(np.array(part)))


def test_a_note_that_is_damaged_is_told(tmp_path):
    fit(Pictures(tmp_path / "log"), directory=tmp_path / "run")
    (note,) = (tmp_path / "run").glob("images-*.pt")
    whole = note.read_bytes()
    torch.save({"other": 1}, note)
    with pytest.raises(ValueError, match=r"tells of no images.*; delete it"):
        fit(Pictures(tmp_path / "log"), directory=tmp_path / "run", resume=True)
    note.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"is damaged.*; delete it"):
        fit(Pictures(tmp_path / "log"), directory=tmp_path / "run", resume=True)
    note.unlink()
    reads(tmp_path / "log")
    fit(Pictures(tmp_path / "log"), directory=tmp_path / "run", resume=True)
    assert sorted(reads(tmp_path / "log")) == list(range(40))


def test_random_images_are_warned_of(tmp_path):
    def noisy(image):
        return image + torch.randint(2, image.shape, dtype=torch.uint8)

    for data in (Pictures(tmp_path / "log", noisy), DataLoader(TensorDataset(IMAGES, LABELS), 8, shuffle=True)):
        with pytest.warns(InputWarning, match="`images` are random"):
            fit(data)


# classes


def test_names_of_a_test_set_that_lacks_a_class():
    """Its folders are numbered anew: names count, not numbers."""
    made, _ = fit(IMAGES, list(map(named, LABELS)))
    upright = TensorDataset(IMAGES[LABELS == 1], torch.zeros(int(LABELS.sum()), dtype=torch.int64))
    upright.__dict__["classes"] = ["upright"]
    result = evaluate(made, upright)
    assert result.names == NAMES
    assert result.confusion[0].sum() == 0
    upright.__dict__["classes"] = ["bent"]
    with pytest.raises(ValueError, match="among the classes 'level', 'upright'; that of image 0 is 'bent'"):
        evaluate(made, upright)


def test_names_mean_nothing_to_a_network_that_learned_numbers():
    made, _ = fit(IMAGES, LABELS)
    for data, labels in ((IMAGES, list(map(named, LABELS))), ([(IMAGES[0], "upright")], None)):
        with pytest.raises(ValueError, match=r"`labels` must be numbers .* `network.names = \[...\]`"):
            evaluate(made, data, labels)
    made.names = NAMES
    assert torch.equal(
        evaluate(made, IMAGES, list(map(named, LABELS))).confusion, evaluate(made, IMAGES, LABELS).confusion
    )


def test_names_of_data_sets_in_one(tmp_path):
    pictures = Pictures(tmp_path / "log")
    assert sourced(ConcatDataset([pictures, Subset(pictures, range(3))])).classes == NAMES
    assert sourced(ConcatDataset([pictures, Items((IMAGES[0], 0))])).classes == NAMES
    other = Pictures(tmp_path / "log")
    other.classes = NAMES[::-1]
    with pytest.raises(ValueError, match="`images` must be of data sets with the same classes"):
        sourced(ConcatDataset([pictures, other]))
    pictures.__dict__["target_transform"] = named
    assert sourced(pictures).classes is None


def test_names_are_saved(tmp_path):
    made, _ = fit(IMAGES, list(map(named, LABELS)))
    made.save(tmp_path / "bars.pt")
    again = network()
    again.load(tmp_path / "bars.pt")
    assert again.names == NAMES
    assert again.predict(IMAGES[:3]) == made.predict(IMAGES[:3])
    made.names = None
    made.save(tmp_path / "bars.pt")
    again.load(tmp_path / "bars.pt")
    assert again.names == NAMES
    for wrong in (["a", "a"], "ab", [1, 2], []):
        with pytest.raises((TypeError, ValueError), match="`names`"):
            made.names = wrong


def test_predict_and_scores_take_one_and_many(tmp_path):
    made, _ = fit(IMAGES, list(map(named, LABELS)))
    want = [NAMES[number] for number in made(IMAGES).tolist()]
    for form in FORMS:
        data, _ = FORMS[form](tmp_path)
        assert made.predict(data) == want
        assert torch.equal(made.scores(data), made.scores(IMAGES))
    for one in (IMAGES[0], IMAGES[0].numpy(), picture(IMAGES[0]), [picture(IMAGES[0])], IMAGES[0, 0]):
        assert made.predict(one) == want[:1]
        assert made.scores(one).shape == (1, 2)
    made.names = None
    assert made.predict(IMAGES) == made(IMAGES).tolist()
    assert made.predict(torch.zeros(1, 12, 12)) == [None]


@pytest.mark.parametrize("threshold", [None, 20.0, -1.0])
def test_the_largest_score_is_the_decision(threshold):
    made = network()
    layer = made.stages[1].layer
    layer.threshold = threshold
    layer.load_weight((layer.weight * 16).round() / 16)
    layer.weight[4:] = layer.weight[:4]  # classes that are equal: the first feature decides
    made.classes.copy_(1 - made.classes)
    images = torch.cat([IMAGES, torch.zeros_like(IMAGES[:1])])
    decided, scores = made(images), made.scores(images)
    assert scores.shape == (41, 2)
    fires = decided >= 0
    assert torch.equal(scores.argmax(1)[fires], decided[fires])
    assert (scores.sort(1).values.diff(dim=1) > 0)[fires].all()
    assert (scores[~fires] == 0).all()
    assert float(scores.min()) >= 0
    if threshold is not None:
        assert float(scores.max()) <= layer.time_steps + 1


def test_scores_of_a_readout():
    made = models.kheradpisheh2018(pretrained=True)
    images = torch.rand(3, 1, 28, 28) * 255
    assert torch.equal(made.scores(images), made.readout(made.features(images)))


def test_an_evaluation_reads_well():
    result = Evaluation(torch.tensor([[9, 1, 0], [0, 6, 2], [0, 0, 0]][:2]), NAMES)
    assert repr(result).splitlines() == [
        "accuracy 83.3% of 18 images, 11.1% silent",
        "class    images  right  most often taken for",
        "level        10  90.0%  upright (1)",
        "upright       8  75.0%",
    ]
    assert result.per_class == {"level": 0.9, "upright": 0.75}
    assert Evaluation(result.confusion).per_class == {0: 0.9, 1: 0.75}


# the way on


class Items(Dataset):
    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Endless(IterableDataset):
    def __iter__(self):
        return iter(TensorDataset(IMAGES, LABELS))


ONE = IMAGES[0]
REFUSED = {
    "a path": ("pictures/", "ImageFolder(path, transform)"),
    "another path": (Path("pictures"), "ImageFolder(path, transform)"),
    "paths": (["a.png", "b.png"], "item 0 is a path; open it, as `PIL.Image.open(path)`"),
    "a number": (7, "a tensor or an array (N, C, H, W), a Dataset"),
    "a dict": ({"images": IMAGES}, "as two arguments"),
    "dicts": (Items({"image": ONE, "label": 0}), "item 0 is a dict; `collate_fn`"),
    "three parts": (Items((ONE, 0, "more")), "pairs (image, label)"),
    "nothing": ([], "at least one image"),
    "no items": (DataLoader(TensorDataset(IMAGES[:0], LABELS[:0])), "at least one image"),
    "sizes": (Items((ONE, 0), (ONE[:, 1:], 0)), "image 1 is 1 x 11 x 12, but the first 1 x 12 x 12: bring all to one"),
    "channels": (Items((ONE, 0), (ONE.expand(3, -1, -1), 0)), "image 1 is 3 x 12 x 12"),
    "types": (Items((ONE, 0), (ONE / 255, 0)), "image 1 is torch.float32, but the first torch.uint8"),
    "labels of some": (Items((ONE, 0), ONE), "image 1 has none"),
    "one-hot": (Items((ONE, torch.tensor([0, 1]))), "that of item 0 is neither; the `target_transform`"),
    "fractions": (Items((ONE, 0.5)), "that of item 0 is neither"),
    "negative": (Items((ONE, -1)), "numbers of classes from 0 on"),
    "names and numbers": (Items((ONE, "a"), (ONE, 1)), "all integers, or all names"),
    "NaN": (Items((ONE * torch.nan, 0)), "finite everywhere"),
    "a generator": (((IMAGES, LABELS) for _ in range(1)), "give a Dataset with a `__len__`"),
    "no length": (Endless(), "give a Dataset with a `__len__`"),
    "a loader without length": (DataLoader(Endless(), 8), "give a Dataset with a `__len__`"),
    "no labels": (Items(ONE), "the class of each image"),
    "no picture": (Items((None, 0)), "item 0 is none"),
    "an end that is none": ([(IMAGES[:20], LABELS[:20]), None], "item 1 is none"),
    "a batch of nothing": (DataLoader(Items((ONE, 0), (ONE, 1)), collate_fn=lambda batch: None), "part 0 is none"),
    "a pair": ((IMAGES, LABELS), "labels are a second argument"),
    "no more than numbers": (
        DataLoader(Items((ONE, 0)), batch_sampler=[[0]]),
        "a DataLoader of one with a `batch_size`",
    ),
    "objects": (np.array([None, "a"]), "numbers that torch has a type for"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_of_the_forms_is_told_the_way_on(name):
    data, way = REFUSED[name]
    with pytest.raises((TypeError, ValueError), match=r"`(images|labels)`.* must ") as caught:
        fit(data)
    assert way in str(caught.value)


def test_labels_given_twice():
    with pytest.raises(ValueError, match="`labels` must be None where `images` come with labels of their own"):
        fit(TensorDataset(IMAGES, LABELS), LABELS)
    with pytest.raises(ValueError, match="`labels` must be 40 integers"):
        fit([picture(image) for image in IMAGES], LABELS[:7])


def test_what_tells_no_length_is_decided(tmp_path):
    """Generators and endless data sets can be looked at once."""
    made, _ = fit(IMAGES, LABELS)
    want = evaluate(made, IMAGES, LABELS).confusion
    for data in (((part, LABELS) for part in [IMAGES]), Endless(), DataLoader(Endless(), 8)):
        assert torch.equal(evaluate(made, data).confusion, want)


def test_none_is_no_end():
    """As it is what a `collate_fn` gives where all items of a batch were left out."""
    made, _ = fit(IMAGES, LABELS)
    with pytest.raises(TypeError, match="part 1 is none"):
        evaluate(made, iter([(IMAGES[:20], LABELS[:20]), None, (IMAGES[20:], LABELS[20:])]))


@pytest.mark.parametrize(
    "sampler", [RandomSampler, lambda data, **given: WeightedRandomSampler([1.0] * 40, 40, **given)]
)
def test_samplers_that_draw_are_told_of_whatever_they_draw_from(sampler):
    data, random = TensorDataset(IMAGES, LABELS), torch.Generator()
    drawn = sampler(data, generator=random)
    for loader in (DataLoader(data, 7, sampler=drawn), DataLoader(data, batch_sampler=BatchSampler(drawn, 7, True))):
        assert sourced(loader).random
    assert sourced(loader).count == 35


def test_errors_of_the_data_say_where():
    with pytest.raises(RuntimeError) as caught:
        fit(DataLoader(Items((ONE, 0), (ONE[:, 1:], 0)), 2))
    assert any("part 0 of `images`" in note for note in caught.value.__notes__)


def test_more_or_fewer_than_the_length(tmp_path):
    class Wrong(Endless):
        def __init__(self, length):
            self.length = length

        def __len__(self):
            return self.length

    for length in (39, 41):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match=f"as many as their length says, {length}"):
                fit(Wrong(length))


def test_pictures_of_every_mode():
    picture = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    for mode, bands in (("L", 1), ("RGB", 3), ("RGBA", 4), ("P", 3), ("1", 1), ("CMYK", 3), ("F", 1), ("I", 1)):
        head = sourced([picture.convert(mode)]).head
        assert head.shape == (1, bands, 4, 4)
    assert set(sourced([picture.convert("1")]).head.unique().tolist()) <= {0, 255}
    assert torch.equal(sourced([picture]).head[0], torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def test_bars_tell_rate_and_time(capsys):
    pytest.importorskip("tqdm")
    made = network()
    made.readout = LinearReadout((8, 1, 1), 2, time_steps=6)
    Trainer(made, [LESSONS[0], Readout(iterations=2)], progress=True).fit(TensorDataset(IMAGES, LABELS))
    evaluate(made, IMAGES, LABELS, progress=True)
    told = capsys.readouterr().err
    for text in ("encoding", "learning layer 1", "answers of layer 2", "deciding", "fitting the read-out"):
        assert re.search(rf"{text}: .*\d+/\d+ \[\d\d:\d\d<[\d:?]+, .*image", told), told


def test_unsupervised_layers_need_no_labels():
    Trainer(network(), LESSONS[:1], progress=False).fit([picture(image) for image in IMAGES])


@forks
@pytest.mark.parametrize(("workers", "fitted"), [(2, False), (0, True)])
def test_ctrl_c_while_images_are_read(tmp_path, workers, fitted):
    """It reaches the workers too, which end by it."""
    script = f"""
import os, signal, sys
import torch
from torch.utils.data import DataLoader, Dataset
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_sources import IMAGES, LABELS, LESSONS, LinearLatency, Trainer, network

class Slow(Dataset):
    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        if index == 2000:
            os.killpg(0, signal.SIGINT)
        return IMAGES[index % 40], LABELS[index % 40]

made = network()
if {fitted}:
    made.encoder = LinearLatency(torch.nn.Sequential(made.encoder, torch.nn.Identity()), 6)
Trainer(made, LESSONS, {str(tmp_path)!r}, progress=False).fit(DataLoader(Slow(), 50, num_workers={workers}))
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert "KeyboardInterrupt: stopped" in run.stderr, run.stderr
    assert not list(tmp_path.glob("*.part"))
