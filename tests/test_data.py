"""CacheDataset in memory and on disk, and tensors as text files."""

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from spyketorch.utils import CacheDataset, tensor_to_text, text_to_tensor

# Python 3.12 and 3.13 warn when DataLoader forks a process that has threads.
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


class Items(Dataset):
    """Images that tell their index; every read leaves a line in `log`, so that reads in worker processes count too."""

    def __init__(self, log, length=8, offset=0.0):
        self.log, self.length, self.offset = Path(log), length, offset
        self.log.touch()

    def __repr__(self):
        return f"Items(length={self.length}, offset={self.offset})"

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if not -self.length <= index < self.length:
            raise IndexError(index)
        with self.log.open("a") as file:
            file.write(f"{index % self.length}\n")
        image = torch.arange(24.0).reshape(2, 3, 4) + 100 * (index % self.length) + self.offset
        return image, index % self.length

    @property
    def reads(self):
        return sorted(int(line) for line in self.log.read_text(encoding="utf-8").split())


@pytest.fixture
def items(tmp_path):
    return Items(tmp_path / "reads.log")


@pytest.fixture(params=["memory", "disk"])
def address(request, tmp_path):
    return None if request.param == "memory" else str(tmp_path / "cache")


def files(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file())


def same(item, expected):
    return torch.equal(item[0], expected[0]) and item[0].dtype == expected[0].dtype and item[1] == expected[1]


def check_all(cache, items):
    plain = Items(os.devnull, items.length, items.offset)
    assert len(cache) == len(plain)
    for index in range(len(plain)):
        assert same(cache[index], plain[index]), index


def test_equals_the_dataset_and_reads_it_once(items, address):
    cache = CacheDataset(items, address)
    assert items.reads == []  # nothing is read before it is asked for
    for _ in range(3):
        check_all(cache, items)
    assert items.reads == list(range(8))
    assert len(list(cache)) == 8  # ends as a sequence does
    assert same(cache[-1], cache[7])  # the same entry
    assert same(cache[torch.tensor(2)], cache[2])  # what a sampler gives
    assert items.reads == list(range(8))


def test_items_are_read_in_any_order(items, address):
    cache = CacheDataset(items, address)
    for index in (5, 0, 5, 7, 0, 5):
        assert cache[index][1] == index
    assert items.reads == [0, 5, 7]


def test_batches_of_a_loader(items, address):
    loader = DataLoader(CacheDataset(items, address), batch_size=3)
    for _ in range(2):
        images, targets = zip(*loader, strict=True)
        assert torch.equal(torch.cat(targets), torch.arange(8))
        assert torch.equal(torch.cat(images)[:, 0, 0, 0], 100.0 * torch.arange(8))
    assert items.reads == list(range(8))


def test_second_instance_reloads_what_it_finds_current(items, tmp_path):
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    again = CacheDataset(items, str(tmp_path / "cache"))
    check_all(again, items)
    assert items.reads == [0, *range(8)]  # the first is looked at


def test_what_can_no_longer_be_computed_is_reloaded(items, tmp_path, monkeypatch):
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    again = CacheDataset(items, str(tmp_path / "cache"))
    monkeypatch.delattr(Items, "__getitem__")
    assert [again[index][1] for index in range(8)] == list(range(8))


def test_the_key_alone_decides(items, tmp_path):
    """With a key the fingerprint is the key: another dataset object under the same key is not touched."""
    check_all(CacheDataset(items, str(tmp_path / "cache"), key="v1"), items)
    other = Items(tmp_path / "other.log", offset=0.5)
    check_all(CacheDataset(other, str(tmp_path / "cache"), key="v1"), items)
    assert other.reads == []
    check_all(CacheDataset(other, str(tmp_path / "cache"), key="v2"), other)
    assert other.reads == list(range(8))


@pytest.mark.parametrize("change", [{"offset": 0.5}, {"length": 5}, {"length": 11}])
def test_another_dataset_is_recomputed(items, tmp_path, change):
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    other = Items(tmp_path / "other.log", **change)
    cache = CacheDataset(other, str(tmp_path / "cache"))
    for _ in range(2):
        check_all(cache, other)
    assert other.reads == list(range(len(other)))


def test_an_empty_key_is_a_key(items, tmp_path):
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    other = Items(tmp_path / "other.log", offset=0.5)
    check_all(CacheDataset(other, str(tmp_path / "cache"), key=""), other)
    check_all(CacheDataset(items, str(tmp_path / "cache"), key=""), other)


def test_a_longer_dataset_of_the_same_name_is_another(tmp_path):
    class Nameless(Items):
        def __repr__(self):
            return "Nameless()"

    check_all(CacheDataset(Nameless(tmp_path / "a.log"), str(tmp_path / "cache")), Nameless(tmp_path / "a.log"))
    longer = Nameless(tmp_path / "b.log", length=9)
    check_all(CacheDataset(longer, str(tmp_path / "cache")), longer)
    assert longer.reads == list(range(9))


class Unnamed(Items):
    __repr__ = object.__repr__  # says where it is, not what


def test_a_dataset_that_prints_as_an_address(tmp_path):
    """Never taken for another one, not even for one that lived at the same address; its own copies share its files."""
    for offset in (0.0, 0.25, 0.5):
        items = Unnamed(tmp_path / f"{offset}.log", offset=offset)
        cache = CacheDataset(items, str(tmp_path / "cache"))
        check_all(cache, items)
        check_all(pickle.loads(pickle.dumps(cache)), items)
        assert items.reads == list(range(8))
        del items, cache


@pytest.mark.parametrize("filled", [0, 3, 8])
def test_reset(items, address, filled):
    cache = CacheDataset(items, address)
    for index in range(filled):
        cache[index]
    cache.reset_cache()
    if address is not None:
        assert files(address) == []
    items.offset = 0.25
    check_all(cache, items)
    assert items.reads == sorted([*range(filled), *range(8)])


def test_reset_twice_and_of_a_vanished_folder(items, tmp_path):
    cache = CacheDataset(items, str(tmp_path / "cache"))
    cache[2]
    shutil.rmtree(tmp_path / "cache")
    cache.reset_cache()
    cache.reset_cache()
    check_all(cache, items)


def test_reset_leaves_foreign_files(items, tmp_path):
    folder = tmp_path / "cache"
    (folder / "sub").mkdir(parents=True)
    foreign = [folder / name for name in ("notes.txt", "weights.pt", "0.txt", "0.pt", "7.pth", "sub/0.pt")]
    for path in foreign:
        path.write_bytes(b"mine")
    cache = CacheDataset(items, str(folder))
    check_all(cache, items)
    cache.reset_cache()
    assert files(folder) == sorted(foreign)
    assert all(path.read_bytes() == b"mine" for path in foreign)


def test_no_other_files_are_left(items, tmp_path):
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    names = files(tmp_path / "cache")
    assert len(names) == 8  # one per item
    assert len({path.suffix for path in names}) == 1
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    assert files(tmp_path / "cache") == names


def test_nested_new_folder_and_pathlike(items, tmp_path):
    cache = CacheDataset(items, tmp_path / "a" / "b" / "c")
    check_all(cache, items)
    assert len(files(tmp_path / "a" / "b" / "c")) == 8


def test_home_folder(items, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    check_all(CacheDataset(items, "~/cache"), items)
    assert len(files(tmp_path / "home" / "cache")) == 8
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "target",
    [
        3,
        -1.5,
        True,
        "seven",
        None,
        np.int64(7),
        np.float32(0.5),
        np.array([1, 2, 3]),
        np.array([[0.5]], dtype=np.float32),
        torch.tensor([1, 2]),
        (3, "cup"),
        {"label": 3, "box": [1.0, 2.0]},
    ],
    ids=lambda value: f"{type(value).__name__}",
)
def test_targets(tmp_path, target):
    """Whatever torch loads safely; numpy scalars and arrays too."""
    dataset = [(torch.ones(1, 2), target)]
    for _ in range(2):  # written, then read back
        image, back = CacheDataset(dataset, str(tmp_path / "cache"), key="k")[0]
        assert torch.equal(image, torch.ones(1, 2))
        assert type(back) is type(target)
        assert np.array_equal(back, target)
        assert getattr(back, "dtype", None) == getattr(target, "dtype", None)


@pytest.mark.parametrize("image", [np.arange(6, dtype=np.uint8).reshape(2, 3), torch.ones(2, 3, dtype=torch.bool)])
def test_other_images(tmp_path, image):
    for _ in range(2):
        back, target = CacheDataset([(image, 4)], str(tmp_path / "cache"), key="k")[0]
        assert type(back) is type(image)
        assert back.dtype == image.dtype
        assert (back == image).all()
        assert target == 4


def test_a_view_is_stored_without_its_storage(tmp_path):
    """One frame of a large tensor takes the room of one frame."""
    dataset = [(torch.zeros(1000, 10, 10)[3], 0)]
    CacheDataset(dataset, str(tmp_path / "cache"), key="k")[0]
    assert files(tmp_path / "cache")[0].stat().st_size < 10_000


def test_nothing_unsafe_is_loaded(tmp_path):
    """A file that would run code when unpickled is refused, and does not run it."""
    cache = CacheDataset([(torch.ones(1), 0)], str(tmp_path / "cache"), key="k")
    cache[0]
    (path,) = files(tmp_path / "cache")
    torch.save({"fingerprint": "x", "item": Trap(str(tmp_path / "sprung"))}, path)
    with pytest.raises(ValueError, match="reset_cache"):
        CacheDataset([(torch.ones(1), 0)], str(tmp_path / "cache"), key="k")[0]
    assert not (tmp_path / "sprung").exists()


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_what_cannot_be_loaded_safely_is_refused_when_written(tmp_path):
    """A target of the user's own class could not be read back: say so, and leave no file that will not load."""
    cache = CacheDataset([(torch.ones(1), Trap("x"))], str(tmp_path / "cache"), key="k")
    with pytest.raises((TypeError, ValueError), match="Trap"):
        cache[0]
    assert files(tmp_path / "cache") == []


class Tagged(torch.Tensor):
    """Stands for the tensor classes of other libraries, such as torchvision's images."""


@pytest.mark.parametrize(
    "target",
    [
        np.array(["cup", "dog"]),
        np.str_("cup"),
        np.complex64(1j),
        np.array([1j, 2]),
        np.array([2.0, 3.0], dtype=np.float16),
        np.array([1, 2], dtype=">i4"),
        np.datetime64("2020-02-02"),
        np.array([1, "cup", None], dtype=object),
        torch.ones(2).as_subclass(Tagged),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
        torch.Size([1, 2]),
        b"cup",
        {1, 2},
        range(3),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_what_is_written_can_be_read(tmp_path, target):
    """Less common items come back, or are refused at once; no file is written that later counts as damaged."""
    dataset = [(torch.ones(1), {"target": target})]
    try:
        first = CacheDataset(dataset, str(tmp_path / "cache"), key="k")[0]
    except TypeError as error:
        assert "dataset" in str(error)
        assert files(tmp_path / "cache") == []
    else:
        again = CacheDataset(dataset, str(tmp_path / "cache"), key="k")[0]
        assert np.array_equal(again[1]["target"], target)
        assert np.array_equal(first[1]["target"], target)


def test_errors_of_the_dataset_pass_through(tmp_path, address):
    class Broken(Items):
        def __getitem__(self, index):
            raise RuntimeError("lens cap on")

    cache = CacheDataset(Broken(tmp_path / "reads.log"), address)
    with pytest.raises(RuntimeError, match="lens cap on"):
        cache[0]
    assert address is None or files(address) == []


@forks
def test_loader_workers(items, tmp_path):
    cache = CacheDataset(items, str(tmp_path / "cache"))
    loader = DataLoader(cache, batch_size=2, num_workers=2)
    for _ in range(2):
        images, targets = zip(*loader, strict=True)
        assert torch.equal(torch.cat(targets), torch.arange(8))
        assert torch.equal(torch.cat(images)[:, 0, 0, 0], 100.0 * torch.arange(8))
    reads = items.reads
    assert set(reads) == set(range(8))
    assert len(reads) <= 10  # what one worker stored the next epoch's two found; the first item of each is looked at
    check_all(cache, items)
    assert len(items.reads) <= len(reads) + 1


@forks
def test_two_loaders_on_one_folder(items, tmp_path):
    """Four workers write the same eight entries at once: each gets whole items, and eight files remain."""
    first = DataLoader(CacheDataset(items, str(tmp_path / "cache")), num_workers=2)
    second = DataLoader(CacheDataset(items, str(tmp_path / "cache")), num_workers=2)
    seen = [(int(a[1]), int(b[1]), a[0][0, 0, 0, 0].item(), b[0][0, 0, 0, 0].item())
            for a, b in zip(first, second, strict=True)]  # fmt: skip
    assert seen == [(i, i, 100.0 * i, 100.0 * i) for i in range(8)]
    assert len(files(tmp_path / "cache")) == 8
    reads = len(items.reads)
    check_all(CacheDataset(items, str(tmp_path / "cache")), items)
    assert len(items.reads) == reads + 1


def test_cache_is_picklable(items, address):
    """DataLoader pickles its dataset where processes are spawned."""
    cache = CacheDataset(items, address)
    cache[1]
    copy = pickle.loads(pickle.dumps(cache))
    check_all(copy, items)


# ---------------------------------------------------------------------------------------------------- text files

DTYPES = {
    "float": torch.float32,
    "double": torch.float64,
    "int": torch.int32,
    "long": torch.int64,
    "byte": torch.uint8,
    "bool": torch.bool,
}
EXTREMES = {
    "float": [0.1, -1.0, 1 / 3, 1.0000001, 3.4e38, 1e-45, 16777217.0, 0.0],
    "double": [0.1, -1.0, 1 / 3, 1.0000000000000002, 1.7e308, 5e-324, 9007199254740993.0, 0.0],
    "int": [0, 1, -1, 2**31 - 1, -(2**31), 16777217, 7, 8],
    "long": [0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, 7, 8],
    "byte": [0, 1, 255, 128, 127, 2, 3, 4],
    "bool": [0, 1, 1, 0, 0, 1, 0, 1],
}


@pytest.mark.parametrize("shape", [(8,), (1, 8), (2, 4), (2, 1, 4), (1, 2, 2, 2)])
@pytest.mark.parametrize("kind", DTYPES)
def test_text_round_trip(tmp_path, kind, shape):
    """Every bit comes back."""
    path = tmp_path / "values.txt"
    data = torch.tensor(EXTREMES[kind], dtype=DTYPES[kind]).reshape(shape)
    before = data.clone()
    tensor_to_text(data, str(path))
    back = text_to_tensor(str(path), type=kind)
    assert back.dtype == DTYPES[kind]
    assert back.shape == shape
    assert torch.equal(back, data)
    assert torch.equal(data, before)


@pytest.mark.parametrize("seed", range(3))
def test_text_is_exact_for_random_bits(tmp_path, seed):
    bits = torch.randint(-(2**31), 2**31 - 1, (200,), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    data = bits.view(torch.float32)
    data = data[torch.isfinite(data)]
    tensor_to_text(data, str(tmp_path / "x.txt"))
    assert torch.equal(text_to_tensor(str(tmp_path / "x.txt")).view(torch.int32), data.view(torch.int32))


@pytest.mark.parametrize("data", [torch.tensor([2.5]), torch.tensor(2.5), torch.tensor([[[[2.5]]]])])
def test_text_of_one_value(tmp_path, data):
    tensor_to_text(data, str(tmp_path / "x.txt"))
    back = text_to_tensor(str(tmp_path / "x.txt"))
    assert back.numel() == 1
    assert back.item() == 2.5
    assert back.shape in (data.shape, data.shape or (1,))


def test_text_default_type_is_float(tmp_path):
    tensor_to_text(torch.tensor([1, 2]), str(tmp_path / "x.txt"))
    assert text_to_tensor(str(tmp_path / "x.txt")).dtype == torch.float32


def test_text_format(tmp_path):
    """Line 1 the shape, line 2 the values row by row, both comma separated; then a checksum."""
    path = tmp_path / "x.txt"
    tensor_to_text(torch.tensor([[1.5, -2.0, 0.25], [3.0, 4.0, 5.0]]), str(path))
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[2].startswith("sha256 ")
    assert [int(size) for size in lines[0].split(",")] == [2, 3]
    assert [float(value) for value in lines[1].split(",")] == [1.5, -2.0, 0.25, 3.0, 4.0, 5.0]


def test_text_written_by_hand(tmp_path):
    (tmp_path / "x.txt").write_text("2,3\n1,2.5,-3,4e0, 5,6\n", encoding="utf-8")
    assert text_to_tensor(str(tmp_path / "x.txt")).tolist() == [[1.0, 2.5, -3.0], [4.0, 5.0, 6.0]]
    (tmp_path / "x.txt").write_bytes(b"2,1\r\n7,8\r\n")
    assert text_to_tensor(tmp_path / "x.txt", "long").tolist() == [[7], [8]]


def test_text_of_views_and_parameters(tmp_path):
    data = torch.arange(6.0).reshape(2, 3)
    for given in (data.t(), torch.nn.Parameter(data.t().contiguous()), data.t().clone().requires_grad_()):
        tensor_to_text(given, tmp_path / "x.txt")
        assert text_to_tensor(tmp_path / "x.txt").tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]


def test_text_overwrites(tmp_path):
    path = tmp_path / "x.txt"
    tensor_to_text(torch.ones(50), str(path))
    tensor_to_text(torch.zeros(2), str(path))
    assert text_to_tensor(str(path)).tolist() == [0.0, 0.0]
    assert files(tmp_path) == [path]


@pytest.mark.skipif(not hasattr(os, "link"), reason="needs hard links")
def test_files_are_moved_into_place(tmp_path):
    """A reader that holds the old file keeps the whole old file: writing makes a new one."""
    path, cache = tmp_path / "x.txt", tmp_path / "cache"
    tensor_to_text(torch.ones(3), path)
    CacheDataset([(torch.ones(3), 0)], cache, key="a")[0]
    (entry,) = files(cache)
    held = {tmp_path / "held.txt": path, tmp_path / "held.pt": entry}
    before = {link: target.read_bytes() for link, target in held.items()}
    for link, target in held.items():
        os.link(target, link)
    tensor_to_text(torch.zeros(2), path)
    CacheDataset([(torch.zeros(2), 1)], cache, key="b")[0]
    assert files(cache) == [entry]
    for link, target in held.items():
        assert link.read_bytes() == before[link]
        assert target.read_bytes() != before[link]


@pytest.fixture
def small_disk():
    """Files cannot grow past 2 kB, as on a full disk."""
    resource = pytest.importorskip("resource", reason="file size limits need a Unix system")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(on=True):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048 if on else soft, hard))

    yield limit
    limit(False)


def test_a_failed_text_write_leaves_the_old_file(tmp_path, small_disk):
    path = tmp_path / "x.txt"
    tensor_to_text(torch.tensor([1.0, 2.0]), str(path))
    small_disk()
    with pytest.raises(OSError, match=r"[Ff]ile"):
        tensor_to_text(torch.rand(5000), str(path))
    small_disk(False)
    assert text_to_tensor(str(path)).tolist() == [1.0, 2.0]
    assert files(tmp_path) == [path]  # nothing half-written beside it


def test_a_failed_cache_write_leaves_nothing(tmp_path, small_disk):
    dataset = [(torch.rand(5000), 1)]
    cache = CacheDataset(dataset, str(tmp_path / "cache"), key="k")
    small_disk()
    with pytest.raises((OSError, RuntimeError), match=r"[Ff]ile"):
        cache[0]
    small_disk(False)
    assert files(tmp_path / "cache") == []
    assert torch.equal(cache[0][0], dataset[0][0])
    assert len(files(tmp_path / "cache")) == 1
