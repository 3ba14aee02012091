"""The compiled loops are never stale, and whatever happens to their files costs time alone."""

import hashlib
import importlib.resources
import io
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import spyketorch
from spyketorch import _warnings

numba = pytest.importorskip("numba")
_cache = pytest.importorskip("spyketorch.kernels._cache")

ROOT = Path(__file__).resolve().parents[1]


def doubled(x):
    return 2 * x


def halved(x):
    return x / 2


def run():
    """Both functions on 6, how many of them were found, and what was told; each call is as in a new process."""
    _cache.folder.cache_clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loops = [_cache.compiled(function) for function in (doubled, halved)]
        answers = [loop(6) for loop in loops]
    assert answers == [12, 3]
    assert all(w.category is spyketorch.PerformanceWarning for w in told)
    return sum(sum(loop.stats.cache_hits.values()) for loop in loops), [str(w.message) for w in told]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache, and nothing told so far."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_warnings, "_told", set())
    _cache._say_compiling.cache_clear()
    yield tmp_path / "spyketorch"
    _cache.folder.cache_clear()


def stored(place):
    return sorted(p for p in place.rglob("*") if p.is_file() and p.parent.name.startswith("loops-"))


def test_a_second_process_takes_them_as_they_are(place):
    assert run() == (0, [])
    files = stored(place)
    assert len(files) == 2
    before = [(p.stat().st_mtime_ns, p.read_bytes()) for p in files]
    assert run() == (2, [])
    assert [(p.stat().st_mtime_ns, p.read_bytes()) for p in files] == before


def signed(content):
    return hashlib.sha256(content).digest() + content


DAMAGES = {
    "cut": lambda b: b[: len(b) // 2],
    "within the checksum": lambda b: b[:9],
    "empty": lambda b: b"",
    "zeroed": lambda b: bytes(len(b)),
    "first bit": lambda b: bytes([b[0] ^ 1]) + b[1:],
    "last bit": lambda b: b[:-1] + bytes([b[-1] ^ 1]),
    "longer": lambda b: b + b"\0",
    "no pickle, and its checksum": lambda b: signed(b"loops"),
    "another pickle, and its checksum": lambda b: signed(b"N."),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_made_anew(place, damage):
    run()
    whole = stored(place)
    for file in whole:
        file.write_bytes(damage(file.read_bytes()))
    hits, told = run()
    assert hits == 0
    assert len(told) == 1, "of two files"
    assert "damaged" in told[0]
    assert str(whole[0].parent) in told[0]
    assert run() == (2, [])
    assert stored(place) == whole


def blocked(folder):
    folder.write_text("a file in the way", encoding="utf-8")
    return str(folder)


def homeless(monkeypatch, path):
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, os.devnull)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def a_file_as_home(monkeypatch, path):
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, blocked(path / name))


def a_file_by_numba(monkeypatch, path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", blocked(path / "chosen"))


@pytest.mark.parametrize("block", [homeless, a_file_as_home, a_file_by_numba])
def test_nowhere_to_keep_them(place, block, monkeypatch, tmp_path):
    """A package that is read only, too: compiled for this process, with one warning."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    blocked(tmp_path / "__pycache__")
    monkeypatch.setattr(_cache, "__file__", str(tmp_path / "_cache.py"))
    block(monkeypatch, tmp_path)
    hits, told = run()
    assert hits == 0
    assert len(told) == 1
    assert "NUMBA_CACHE_DIR" in told[0]
    assert run() == (0, [])


def test_the_folder_of_the_user_where_the_package_is_read_only(place, monkeypatch, tmp_path):
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    blocked(tmp_path / "__pycache__")
    monkeypatch.setattr(_cache, "__file__", str(tmp_path / "_cache.py"))
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    assert [run(), run()] == [(0, []), (2, [])]
    assert len(stored(tmp_path / "home")) == 2


def test_a_folder_that_goes_while_in_use(place, monkeypatch):
    run()
    known = _cache.folder()
    monkeypatch.setattr(_cache.folder, "cache_clear", lambda: None)
    shutil.rmtree(known)
    assert run() == (0, []), "it is made again"
    assert run() == (2, [])
    shutil.rmtree(known)
    blocked(known)
    hits, told = run()
    assert hits == 0
    assert len(told) == 1
    assert "cannot be stored" in told[0]
    known.unlink()
    monkeypatch.undo()


def test_old_folders_go(place):
    for i in range(9):
        (place / f"loops-{i}").mkdir(parents=True)
        os.utime(place / f"loops-{i}", (i, i))
    run()
    assert {p.name for p in place.iterdir()} == {"loops-6", "loops-7", "loops-8", _cache.folder().name}


def test_another_process_clears_old_folders_too(place, monkeypatch):
    monkeypatch.setattr(Path, "glob", lambda path, _: [path / "gone already"])
    assert [run(), run()] == [(0, []), (2, [])]


def test_any_edit_of_what_is_compiled_gives_another_folder(monkeypatch, tmp_path):
    copy = tmp_path / "spyketorch"
    shutil.copytree(ROOT / "spyketorch", copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    monkeypatch.setattr(importlib.resources, "files", lambda _: copy)
    found = {_cache.sources.__wrapped__()}
    assert found == {_cache.sources()}
    files = [copy / "_convolution.py", *(copy / "kernels").rglob("*.py")]
    for file in files:
        file.write_text(file.read_text(encoding="utf-8") + "\n", encoding="utf-8", newline="")
        found.add(_cache.sources.__wrapped__())
    assert len(found) == len(files) + 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Notebook(io.StringIO):
    """As ipykernel's, which says that it is no terminal."""

    __module__ = "ipykernel.iostream"


@pytest.mark.parametrize("stream, lines", [(Terminal, 1), (Notebook, 1), (io.StringIO, 0)])
def test_whoever_waits_for_the_compiler_is_told_once(place, monkeypatch, stream, lines):
    monkeypatch.setattr(sys, "stderr", stream())
    for _ in range(2):
        run()
    assert sys.stderr.getvalue().count("compiles its loops, once") == lines
    assert sys.stderr.getvalue().count("\n") == lines


def test_nobody_waits_where_they_are_kept(place, monkeypatch):
    run()
    _cache._say_compiling.cache_clear()
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert run() == (2, [])
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("stream", [None, object()])
def test_without_a_stderr(place, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    assert run() == (0, [])


# From here on each case is a process; of the loops they compile one alone.

ORDER = """
import sys, warnings
import torch
warnings.simplefilter("always")
from spyketorch import latency
print(latency.rank_order(torch.tensor([[[3.0, 0.0, 5.0]]]), 2).flatten().tolist(), "torch._dynamo" in sys.modules)
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, whose sources may be edited."""
    left_out = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(ROOT / "spyketorch", tmp_path / "spyketorch", ignore=left_out)
    return tmp_path


def started(package, code=ORDER, **environment):
    left_out = ("PYTHONPATH", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    given = {k: v for k, v in os.environ.items() if k not in left_out} | {"PYTHONDONTWRITEBYTECODE": "1", **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], cwd=package, env=given, **pipes)


def finished(process):
    out, told = process.communicate(timeout=300)
    assert process.returncode == 0, told[-2000:]
    return out.strip(), told


def test_two_processes_at_once_and_edited_loops(package, tmp_path):
    place = tmp_path / "cache"
    both = [started(package, NUMBA_CACHE_DIR=str(place)) for _ in range(2)]
    assert [finished(process) for process in both] == [("[1, 2, 0] False", "")] * 2
    stamps = [p.stat().st_mtime_ns for p in stored(place)]
    assert finished(started(package, NUMBA_CACHE_DIR=str(place))) == ("[1, 2, 0] False", "")
    assert [p.stat().st_mtime_ns for p in stored(place)] == stamps

    loops = package / "spyketorch" / "kernels" / "loops" / "intensities.py"
    before = "times[n, index[0, i]] = step_of[bucket]"
    assert before in loops.read_text(encoding="utf-8")
    loops.write_text(loops.read_text(encoding="utf-8").replace(before, before + " + 7"), encoding="utf-8")
    assert finished(started(package, NUMBA_CACHE_DIR=str(place))) == ("[8, 2, 7] False", "")
    assert len({p.parent for p in stored(place)}) == 2


def test_a_process_with_nowhere_to_keep_them(package):
    blocked(package / "spyketorch" / "kernels" / "__pycache__")
    out, told = finished(started(package, HOME=os.devnull, LOCALAPPDATA=os.devnull))
    assert out == "[1, 2, 0] False"
    assert told.count("PerformanceWarning") == 1
    assert "NUMBA_CACHE_DIR" in told


def test_a_broken_numba(package):
    """Plain torch answers, with one warning; without numba there is nothing to say."""
    (package / "numba.py").write_text("raise ImportError('needs another numpy')", encoding="utf-8")
    out, told = finished(started(package))
    assert out == "[1, 2, 0] False"
    assert told.count("PerformanceWarning") == 1
    assert "needs another numpy" in told


def test_waves_import_neither_numba_nor_dynamo():
    finished(started(ROOT, """
import sys, torch
from spyketorch import functional as sf, snn, utils
conv = snn.Convolution(1, 2, 2)
rule = snn.STDP(conv, (0.004, -0.003))
wave = utils.Intensity2Latency(5, to_spike=True)(torch.rand(1, 6, 6))
spikes, potentials = sf.fire(conv(wave), 1, True)
potentials = sf.pointwise_inhibition(potentials)
rule(wave, potentials, potentials.sign(), sf.get_k_winners(potentials, 1, 0, spikes))
assert not {"numba", "torch._dynamo"} & set(sys.modules), sys.modules.keys() & {"numba", "torch._dynamo"}
"""))  # fmt: skip
