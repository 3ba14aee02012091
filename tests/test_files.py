"""Files of ours: damage is found, hostile content is refused, writers that were killed leave nothing behind."""

import functools
import hashlib
import importlib
import io
import os
import random
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from spyketorch import _files
from spyketorch.data import CacheDataset
from spyketorch.utils import tensor_to_text, text_to_tensor


def flipped(data, count, seed=0):
    """The same bytes with one bit turned: at each byte where there are few, at random places where there are many."""
    draw = random.Random(seed)
    places = range(len(data)) if len(data) <= count else sorted(draw.sample(range(len(data)), count))
    for place in places:
        other = bytearray(data)
        other[place] ^= 1 << draw.randrange(8)
        yield bytes(other)


def refused_or_whole(path, read, same, *, flips=400, cuts=200):
    """Each flip and each cut of a file is an error that names it, or changes nothing; gives how many were refused."""
    data = path.read_bytes()
    lengths = range(len(data)) if len(data) <= cuts else random.Random(1).sample(range(len(data)), cuts)
    refused = 0
    for other in [*flipped(data, flips), *(data[:length] for length in lengths)]:
        path.write_bytes(other)
        try:
            found = read()
        except ValueError as error:
            assert path.name in str(error)
            refused += 1
        else:
            assert same(found)
    path.write_bytes(data)
    assert same(read())
    return refused


ITEM = (torch.arange(12.0).reshape(3, 4), {"box": np.arange(3, dtype=np.int16), "name": ("cup", 2)})


def same_item(item):
    return torch.equal(item[0], ITEM[0]) and np.array_equal(item[1]["box"], ITEM[1]["box"]) and item[1]["name"][1] == 2


def test_flipped_bits_of_cached_items(tmp_path):
    CacheDataset([ITEM], tmp_path, key="k")[0]
    (path,) = tmp_path.iterdir()
    refused = refused_or_whole(path, lambda: CacheDataset([ITEM], tmp_path, key="k")[0], same_item)
    assert refused == 600  # a flip in the checksum counts too


def test_flipped_bits_of_text(tmp_path):
    path, data = tmp_path / "x.txt", torch.tensor([[12.5, 0.25, 3e-7], [-50.0, 75.0, 1.0]])
    tensor_to_text(data, path)
    size = path.stat().st_size
    refused = refused_or_whole(
        path, lambda: text_to_tensor(path), lambda found: torch.equal(found, data), flips=9999, cuts=9999
    )
    assert refused == 2 * size


def test_files_without_a_checksum_still_load(tmp_path):
    (tmp_path / "x.txt").write_text("2,1\n7,8", encoding="utf-8")
    assert text_to_tensor(tmp_path / "x.txt", "long").tolist() == [[7], [8]]
    fingerprint = hashlib.sha256(b"k").hexdigest()
    path = tmp_path / "00000000.spyketorch.pt"
    torch.save({"fingerprint": fingerprint, "item": (torch.ones(2), 5)}, path)
    assert CacheDataset([(torch.zeros(2), 1)], tmp_path, key="k")[0][1] == 5
    whole = path.read_bytes()
    want = torch.load(path, weights_only=True)["item"]

    def read():
        return CacheDataset([(torch.zeros(2), 5)], tmp_path, key="k")[0]

    def same(found):  # or computed anew, where the fingerprint was hit
        return found[1] == 5 and (torch.equal(found[0], want[0]) or torch.equal(found[0], torch.zeros(2)))

    for other in flipped(whole, 300):
        path.write_bytes(other)
        try:
            assert same(read())
        except ValueError as error:
            assert path.name in str(error)


@pytest.mark.parametrize("array", [np.arange(3), np.float32(0.5), np.array(["a", "b"])])
def test_arrays_that_were_cached_by_the_first_version_are_computed_anew(tmp_path, array):
    fingerprint = hashlib.sha256(b"k").hexdigest()
    torch.save({"fingerprint": fingerprint, "item": (array, 5)}, tmp_path / "00000000.spyketorch.pt")
    for _ in range(2):
        assert np.array_equal(CacheDataset([(array, 5)], tmp_path, key="k")[0][0], array)


class Reduced:
    """Stands for what a hostile pickle holds: a call."""

    def __init__(self, call, *given):
        self.call, self.given = call, given

    def __reduce__(self):
        return self.call, self.given


def hostile():
    bomb = []
    for _ in range(60):
        bomb = [bomb] * 40  # 40 ** 60 elements in a few bytes
    loop = []
    loop.append(loop)
    yield "repeated lists", bomb
    yield "a list in itself", loop
    yield "a tensor of one element, repeated", torch.zeros(1).expand(2**40)
    yield "a tensor without content", torch.empty(2**40, device="meta")
    yield "an object array", ("array", "|O", [1], torch.zeros(8, dtype=torch.uint8))
    yield "a shape beyond the content", ("array", "<f4", [2**40], torch.zeros(8, dtype=torch.uint8))
    yield "a negative shape", ("array", "<f4", [-1, -2], torch.zeros(8, dtype=torch.uint8))
    yield "no bytes", ("array", "<f4", [2], torch.zeros(2))
    yield "letters that are none", ("array", "<U1", [1], torch.full((4,), 255, dtype=torch.uint8))
    yield "a bool of 7", ("array", "|b1", [1], torch.full((1,), 7, dtype=torch.uint8))
    yield "a kind that is none", ("call", "<f4", [1], torch.zeros(4, dtype=torch.uint8))
    yield "a tuple of nothing", ()
    yield "keys that are none", ("dict", [[1]], [2])
    yield "numpy's own pickle", np.arange(3)
    yield "a call", Reduced(os.getpid)


@pytest.mark.parametrize("item", [pytest.param(item, id=name) for name, item in hostile()])
def test_hostile_items_are_refused(tmp_path, item):
    path = tmp_path / "00000000.spyketorch.pt"
    _files.save({"fingerprint": hashlib.sha256(b"k").hexdigest(), "packed": item}, path)
    cache = CacheDataset([(torch.ones(1), 3)], tmp_path, key="k")
    try:
        assert cache[0][1] == 3  # computed anew
    except ValueError as error:
        assert path.name in str(error)
        assert "reset_cache()" in str(error)


def test_compressed_files_are_refused(tmp_path):
    """A megabyte of zeros in a kilobyte: what it says of its size is looked at first."""
    buffer, path = io.BytesIO(), tmp_path / "00000000.spyketorch.pt"
    torch.save({"fingerprint": "", "packed": torch.zeros(1_000_000)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(ValueError, match="more than its size"):
        CacheDataset([(torch.ones(1), 3)], tmp_path, key="k")[0]


# ---------------------------------------------------------------------------------------- writers and readers at once


def test_a_file_that_vanishes_is_computed_anew(tmp_path, monkeypatch):
    cache = CacheDataset([(torch.ones(1), 3)], tmp_path, key="k")
    cache[0]
    read = Path.read_bytes

    def vanishing(self):
        self.unlink()  # as another process's reset_cache() does
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", vanishing)
    assert cache[0][1] == 3


SCRIPT = """
    import os, sys
    from pathlib import Path
    from spyketorch import _files
    with _files.{call} as part:
        print("begun", flush=True)
        sys.stdin.readline()
"""


def writer(call):
    script = textwrap.dedent(SCRIPT).format(call=call)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout.readline().strip() == "begun"
    return process


def test_reset_clears_what_a_killed_writer_left_and_spares_a_living_one(tmp_path):
    cache = CacheDataset([(torch.ones(1), 3)], tmp_path, key="k")
    with (
        writer(f"atomic(Path({str(cache._path(0))!r}))") as killed,
        writer(f"atomic(Path({str(cache._path(0))!r}))") as living,
    ):
        assert len(list(tmp_path.glob(".*.part"))) == 2
        killed.kill()
        killed.wait()
        cache.reset_cache()
        assert len(list(tmp_path.glob(".*.part"))) == 1
        living.communicate("\n")
    assert [path.name for path in tmp_path.iterdir()] == [cache._path(0).name]


def test_a_folder_has_one_owner(tmp_path):
    with writer(f"owned(Path({str(tmp_path)!r}))") as owner:
        with pytest.raises(BlockingIOError, match="another run"), _files.owned(tmp_path):
            raise AssertionError
        owner.kill()
        owner.wait()
        with _files.owned(tmp_path):  # what a killed run owned is free
            pass


def test_a_later_write_clears_what_a_killed_one_left(tmp_path):
    with writer(f"atomic(Path({str(tmp_path / 'x.txt')!r}))") as killed:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 1
        tensor_to_text(torch.ones(3), tmp_path / "x.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_what_is_moved_into_place_is_on_the_disk_before(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("sync") or sync(handle))
    monkeypatch.setattr(Path, "replace", lambda self, target: done.append("replace") or replace(self, target))
    tensor_to_text(torch.ones(3), tmp_path / "x.txt")
    assert done == ["sync", "replace"] + ["sync"] * (os.name == "posix")


def test_a_file_that_is_read_by_another_process_is_replaced_a_moment_later(tmp_path, monkeypatch):
    """Windows refuses until then."""
    refusals, replace = [PermissionError()] * 2, Path.replace

    def refuse(self, target):
        if refusals:
            raise refusals.pop()
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(_files, "_PAUSES", [0.0] * 3)
    tensor_to_text(torch.ones(3), tmp_path / "x.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    refusals += [PermissionError("read")] * 9
    with pytest.raises(PermissionError, match="read"):
        tensor_to_text(torch.zeros(3), tmp_path / "x.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert torch.equal(text_to_tensor(tmp_path / "x.txt"), torch.ones(3))


# --------------------------------------------------------------------------------------------- what a cache belongs to


class Scaled(Dataset):
    """Its ``repr`` says nothing."""

    def __init__(self, transform):
        self.transform = transform

    def __repr__(self):
        return "Scaled()"

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.transform(torch.tensor([1.0 + index]))


class Lambda:
    def __init__(self, function):
        self.function = function

    def __repr__(self):
        return "Lambda()"

    def __call__(self, value):
        return self.function(value)


class Times(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.register_buffer("offset", torch.zeros(1), persistent=False)

    def forward(self, value):
        return value * self.factor + self.offset


FACTOR = 2.0


def by_global(value):
    return value * FACTOR


def through_another(value):
    return by_global(value)


class Slotted:
    __slots__ = ("factor",)

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, value):
        return value * self.factor


def offset(factor, value):
    made = Times(factor)
    made.offset += value
    return made


def closure(factor):
    return Lambda(lambda value: value * factor)


def arrays(value):
    array = np.full(3, value)
    return lambda given: given * float(array[0])


def method(factor):
    return Times(factor).forward


def default(factor):
    return lambda value, factor=factor: value * factor


class ByClass:
    factor = 2.0

    def __call__(self, value):
        return value * self.factor


class Kept:
    @functools.cached_property
    def factor(self):
        return 2.0

    def __call__(self, value):
        return value * self.factor


class KeptOtherwise(Kept):
    @functools.cached_property
    def factor(self):
        return 3.0


PAIRS = {
    "lambda": (Lambda(lambda value: value * 2), Lambda(lambda value: value * 3)),
    "another operation": (Lambda(lambda value: value * 2), Lambda(lambda value: value + 5)),
    "another function": (Lambda(torch.sin), Lambda(torch.cos)),
    "a method of a tensor": (torch.Tensor.sin, torch.Tensor.cos),
    "closure": (closure(2), closure(3)),
    "a tensor in a closure": (closure(torch.ones(1)), closure(torch.zeros(1))),
    "an array in a closure": (arrays(1), arrays(2)),
    "default": (default(2), default(3)),
    "partial": (functools.partial(torch.mul, other=2), functools.partial(torch.mul, other=3)),
    "number of a module": (Times(2), Times(3)),
    "buffer of a module": (offset(2, 0), offset(2, 1)),
    "parameter of a module": (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)),
    "method": (method(2), method(3)),
    "slots": (Slotted(2), Slotted(3)),
    "in a list": (torch.nn.Sequential(Times(2), Times(2)), torch.nn.Sequential(Times(2), Times(3))),
    "cached property": (Kept(), KeptOtherwise()),
    "cached function": (functools.cache(lambda value: value * 2), functools.cache(lambda value: value * 3)),
}


@pytest.mark.parametrize("one, two", PAIRS.values(), ids=PAIRS)
@torch.no_grad()
def test_a_cache_belongs_to_what_the_data_set_holds(tmp_path, one, two):
    want = [Scaled(transform)[1] for transform in (one, two)]
    assert not torch.equal(*want)
    for _ in range(2):
        for transform, answer in zip((one, two), want, strict=True):
            assert torch.equal(CacheDataset(Scaled(transform), tmp_path)[1], answer)
    CacheDataset(Scaled(one), tmp_path)[1]
    data = Scaled(one)
    cached = CacheDataset(data, tmp_path)
    data.transform = two
    assert torch.equal(cached[1], want[1])


@pytest.mark.parametrize("transform", [by_global, through_another, Lambda(through_another), ByClass()])
def test_a_cache_belongs_to_the_globals_that_functions_read(tmp_path, transform, monkeypatch):
    assert CacheDataset(Scaled(transform), tmp_path)[1] == 4
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    monkeypatch.setattr(ByClass, "factor", 3.0)
    assert CacheDataset(Scaled(transform), tmp_path)[1] == 6


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A module of the user's own, `conf`, with a number and a function."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    file = folder / "conf.py"
    file.write_text("scale = 2.0\n\ndef scaled(value):\n    return value * scale\n", encoding="utf-8")
    importlib.invalidate_caches()
    yield importlib.import_module("conf"), file
    del sys.modules["conf"]


def by_import(value):
    import conf as c  # type: ignore[import-not-found]

    return value * c.scale


def by_from(value):
    from conf import scaled

    return scaled(value)


def by_its_attribute(value):
    return value * by_its_attribute.factor  # type: ignore[attr-defined]


by_its_attribute.factor = 2.0  # type: ignore[attr-defined]


def by_name_of_a_global(value):
    return value * globals()["FACTOR"]


def by_environment(value):
    return value * float(os.environ.get("SPYKETORCH_TEST_FACTOR", "2"))


class Silent:
    """Leaves its number out of what pickle makes of it."""

    factor = 2.0

    def __init__(self, factor):
        self.factor = factor

    def __getstate__(self):
        return {}

    def __call__(self, value):
        return value * self.factor


def double_type(value):
    return torch.tensor(float(value))


@pytest.mark.parametrize("kind", ["attribute", "getattr", "import", "from", "edited"])
def test_a_cache_belongs_to_modules_of_ones_own(tmp_path, conf, kind):
    module, file = conf
    attribute, asked = lambda value: value * module.scale, lambda value: value * getattr(module, "scale")  # noqa: B009
    used = {"attribute": attribute, "getattr": asked, "import": by_import, "from": by_from, "edited": by_from}[kind]
    before = CacheDataset(Scaled(used), tmp_path)
    assert before[1] == 4
    if kind == "edited":
        file.write_text(file.read_text(encoding="utf-8").replace("scale = 2.0", "scale = 33.0"), encoding="utf-8")
        importlib.reload(module)
    else:
        module.scale = 33.0
    after = CacheDataset(Scaled(used), tmp_path)
    assert after._fingerprint != before._fingerprint
    assert after[1] == 66


def test_a_cache_belongs_to_attributes_and_named_globals_and_the_default_type(tmp_path, monkeypatch):
    for used, change in (
        (by_its_attribute, lambda: monkeypatch.setattr(by_its_attribute, "factor", 33.0)),
        (by_name_of_a_global, lambda: monkeypatch.setitem(globals(), "FACTOR", 33.0)),
    ):
        assert CacheDataset(Scaled(used), tmp_path)[1] == 4
        change()
        assert CacheDataset(Scaled(used), tmp_path)[1] == 66
    assert CacheDataset(Scaled(double_type), tmp_path)[1].dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert CacheDataset(Scaled(double_type), tmp_path)[1].dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_items_that_no_hash_knows_to_be_old_are_computed_anew(tmp_path, monkeypatch):
    """The second line: what is found first is computed as well."""
    for number, (used, change) in enumerate(
        (
            (lambda: by_environment, lambda: monkeypatch.setenv("SPYKETORCH_TEST_FACTOR", "33")),
            (lambda: Silent(FACTOR), lambda: monkeypatch.setitem(globals(), "FACTOR", 33.0)),
        )
    ):
        folder = tmp_path / str(number)
        first = CacheDataset(Scaled(used()), folder)
        assert [first[0], first[1], first[0]] == [2, 4, 2]
        change()
        again = CacheDataset(Scaled(used()), folder)
        with pytest.warns(UserWarning, match="not what `dataset` gives now.*`key`") as told:
            assert [again[1], again[0], again[0], again[1]] == [66, 33, 33, 66]
        assert len(told) == 1
        assert CacheDataset(Scaled(used()), folder)[0] == 33


@pytest.mark.parametrize("disk", [False, True])
def test_attributes_that_are_set_later_are_seen(tmp_path, disk):
    data = Scaled(torch.nn.Sequential(Times(2), Times(1)))
    cached = CacheDataset(data, tmp_path if disk else None)
    assert cached[1] == 4
    for change, answer in (
        (lambda: setattr(data.transform[0], "factor", 3), 6),
        (lambda: data.transform[1].offset.fill_(1), 7),
        (lambda: setattr(data, "transform", Times(5)), 10),
        (lambda: setattr(cached, "dataset", Scaled(Times(7))), 14),
    ):
        change()
        assert [cached[1], cached[1]] == [answer] * 2


@pytest.mark.parametrize("disk", [False, True])
def test_what_is_given_is_a_copy(tmp_path, disk):
    item = {"maps": [torch.ones(2)], "array": np.ones(2), "pair": (torch.ones(1), 5)}
    cached = CacheDataset([item], tmp_path if disk else None, key="k")
    for _ in range(2):
        given = cached[0]
        assert given["maps"][0].sum() == given["array"].sum() == 2
        assert given["pair"] == (1, 5)
        for part in (given["maps"][0], given["array"], given["pair"][0]):
            part *= 100
        given["maps"].append(3)


class Drawn:
    """Draws from a generator of its own, which no state of the process tells of."""

    def __init__(self):
        self.random = np.random.default_rng(0)

    def __call__(self, value):
        return float(self.random.random())


@pytest.mark.filterwarnings("ignore:what `dataset` holds")
def test_a_generator_of_ones_own_is_told_when_the_items_are_used_again(tmp_path):
    first = CacheDataset(Scaled(Drawn()), tmp_path)[1]
    again = CacheDataset(Scaled(Drawn()), tmp_path)
    again.dataset.transform.random.random()  # type: ignore[attr-defined]
    again._fingerprint = CacheDataset(Scaled(Drawn()), tmp_path)._fingerprint
    again._outline = None
    with pytest.warns(UserWarning, match="random"):
        assert again[1] == first


def test_looking_at_an_item_leaves_the_random_numbers_of_the_process(tmp_path):
    cached = CacheDataset(Scaled(lambda value: torch.rand(1)), tmp_path)
    with pytest.warns(UserWarning, match="random"):
        first = cached[0]
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    again = CacheDataset(Scaled(lambda value: torch.rand(1)), tmp_path)
    again._fingerprint = cached._fingerprint
    with pytest.warns(UserWarning, match="random"):
        assert again[0] == first
    assert torch.equal(torch.rand(3), want)


RUN = """
    import sys, torch
    sys.path.insert(0, {tests!r})
    import test_files as t
    cached = t.CacheDataset(t.Scaled({transform}), {folder!r})
    print(cached._fingerprint)
"""


def test_the_next_run_knows_the_cache(tmp_path):
    transforms = "[t.closure(2), t.through_another, t.Times(2), {'b', 'a'}, t.Kept(), t.offset(2, 1)]"
    script = textwrap.dedent(RUN).format(tests=str(Path(__file__).parent), transform=transforms, folder=str(tmp_path))
    runs = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed}).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]


def test_what_does_not_tell_its_content_serves_this_run(tmp_path):
    class Opened(Scaled):
        def __init__(self):
            super().__init__(Times(2))
            self.file = open(os.devnull, encoding="utf-8")  # noqa: SIM115

        def __len__(self):
            return 3

    data = Opened()
    with pytest.warns(UserWarning, match=r"TextIOWrapper.*`key`"):
        cache = CacheDataset(data, tmp_path)
    assert cache[1] == 4
    data.transform = Times(3)
    with pytest.warns(UserWarning, match="`key`"):
        assert cache[1] == 6
    data.file.close()
    CacheDataset(data, tmp_path, key="k")[1]  # says it itself: no warning


@pytest.mark.parametrize("draw", [torch.rand, lambda n: random.random(), lambda n: np.random.rand(n)])  # noqa: NPY002
@pytest.mark.parametrize("disk", [False, True])
def test_random_items_are_told_once(tmp_path, draw, disk):
    cache = CacheDataset(Scaled(lambda value: draw(1)), tmp_path if disk else None)
    with pytest.warns(UserWarning, match="random"):
        cache[0]
    cache[1], cache[0]


def test_identity_of_code_of_packages_is_their_version():
    from spyketorch._identity import _origin

    assert _origin("torch.nn.functional") == torch.__version__
    assert _origin("json.decoder") == "Python"
    assert _origin(__name__) is None


def wrong_arguments():
    odd = [None, 3, 1.5, True, b"x", [], {}, object(), torch.ones(1), "\0", "~nobody-of-that-name/x", lambda: 1]
    for value in odd:
        yield "address", lambda folder, value=value: tensor_to_text(torch.ones(1), value)
        yield "address", lambda folder, value=value: text_to_tensor(value)
        if value is not None:
            yield "cache_address", lambda folder, value=value: CacheDataset([1], value)
        if not isinstance(value, str | list):
            yield "type", lambda folder, value=value: text_to_tensor(folder / "x.txt", value)
        if not isinstance(value, torch.Tensor):
            yield "data", lambda folder, value=value: tensor_to_text(value, folder / "x.txt")
        if not isinstance(value, str | bytes | list | dict | torch.Tensor):
            yield "dataset", lambda folder, value=value: CacheDataset(value)
        if not isinstance(value, str | None):
            yield "key", lambda folder, value=value: CacheDataset([1], folder, key=value)
        if not isinstance(value, int | torch.Tensor):
            yield "index", lambda folder, value=value: CacheDataset([1])[value]
    for tensor in (torch.empty(2, device="meta"), torch.eye(2).to_sparse(), torch.ones(2) * 1j):
        yield "data", lambda folder, tensor=tensor: tensor_to_text(tensor, folder / "x.txt")
    yield "dataset", lambda folder: CacheDataset(Scaled)
    yield "cache_address", lambda folder: CacheDataset([1], Path(__file__))
    for item in (
        Lambda(1),
        {1, 2},
        np.array([object()]),
        np.ma.array([1]),
        np.array([(1, 2.0)], "i4,f4"),
        [{"a": range(3)}],
    ):
        yield "dataset", lambda folder, item=item: CacheDataset([item], folder, key="k")[0]


@pytest.mark.parametrize("name, call", [*wrong_arguments()])
def test_wrong_arguments_are_named(tmp_path, name, call):
    with pytest.raises((ValueError, TypeError, OSError, IndexError), match=f"`{name}`"):
        call(tmp_path)
    assert files_of(tmp_path) == []


def files_of(folder):
    return [path for path in folder.rglob("*") if path.is_file()]
