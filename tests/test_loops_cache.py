"""The compiled loops are never stale, and whatever happens to their files costs time alone. Each case is a process."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")
ROOT = Path(__file__).resolve().parents[1]

POOL = """
import sys, warnings
import torch
warnings.simplefilter("always")
from spyketorch import latency
times = torch.arange(8, dtype=torch.uint8).view(2, 1, 2, 2)
print(latency.pooling(times, 2).flatten().tolist(), "torch._dynamo" in sys.modules)
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package, whose sources may be edited."""
    left_out = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(ROOT / "spyketorch", tmp_path / "spyketorch", ignore=left_out)
    return tmp_path


def run(package, code=POOL, **environment):
    given = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "NUMBA_CACHE_DIR", "XDG_CACHE_HOME")}
    given |= {"PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=package, capture_output=True, text=True, timeout=300, env=given
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip(), done.stderr


def stored(place):
    return sorted(p for p in place.rglob("*") if p.is_file() and p.parent.name.startswith("loops-"))


def test_edited_loops_run_and_damaged_files_are_made_anew(package, tmp_path):
    place = tmp_path / "cache"
    assert run(package, NUMBA_CACHE_DIR=str(place)) == ("[0, 4] False", "")
    files = stored(place)
    assert files
    stamps = [p.stat().st_mtime_ns for p in files]
    assert run(package, NUMBA_CACHE_DIR=str(place)) == ("[0, 4] False", "")
    assert [p.stat().st_mtime_ns for p in stored(place)] == stamps, "a second process takes them as they are"

    flipped = lambda b: b[:-9] + bytes([b[-9] ^ 1]) + b[-8:]  # noqa: E731
    for damage in (lambda b: b[: len(b) // 2], lambda b: b"", lambda b: bytes(len(b)), flipped):
        for file in files:
            file.write_bytes(damage(file.read_bytes()))
        out, told = run(package, NUMBA_CACHE_DIR=str(place))
        assert out == "[0, 4] False"
        assert "PerformanceWarning" in told
        assert "damaged" in told
        assert run(package, NUMBA_CACHE_DIR=str(place)) == ("[0, 4] False", "")

    loops = package / "spyketorch" / "kernels" / "loops.py"
    before = "first[c] = min(first[c], time[c])"
    assert before in loops.read_text(encoding="utf-8")
    new = loops.read_text(encoding="utf-8").replace(before, "first[c] = min(first[c], time[c] + 1)")
    loops.write_text(new, encoding="utf-8")
    assert run(package, NUMBA_CACHE_DIR=str(place))[0] == "[1, 5] False"
    assert len({p.parent for p in stored(place)}) == 2


def test_nowhere_to_keep_them(package):
    """A package that is read only, and a home that is a file: compiled for this process, with one warning."""
    (package / "spyketorch" / "kernels" / "__pycache__").write_text("in the way", encoding="utf-8")
    out, told = run(package, HOME=os.devnull, LOCALAPPDATA=os.devnull)
    assert out == "[0, 4] False"
    assert told.count("PerformanceWarning") == 1
    assert "NUMBA_CACHE_DIR" in told


def test_a_broken_numba(package):
    """Plain torch answers, with one warning; without numba there is nothing to say."""
    (package / "numba.py").write_text("raise ImportError('needs another numpy')", encoding="utf-8")
    out, told = run(package)
    assert out == "[0, 4] False"
    assert told.count("PerformanceWarning") == 1
    assert "needs another numpy" in told


def test_old_folders_go(package, tmp_path):
    place = tmp_path / "cache"
    for i in range(9):
        (place / "spyketorch" / f"loops-{i}").mkdir(parents=True)
    run(package, NUMBA_CACHE_DIR=str(place))
    assert len(list((place / "spyketorch").iterdir())) == 4


def test_waves_import_neither_numba_nor_dynamo():
    run(ROOT, """
import sys, torch
from spyketorch import functional as sf, snn, utils
conv = snn.Convolution(1, 2, 2)
rule = snn.STDP(conv, (0.004, -0.003))
wave = utils.Intensity2Latency(5, to_spike=True)(torch.rand(1, 6, 6))
spikes, potentials = sf.fire(conv(wave), 1, True)
potentials = sf.pointwise_inhibition(potentials)
rule(wave, potentials, potentials.sign(), sf.get_k_winners(potentials, 1, 0, spikes))
assert not {"numba", "torch._dynamo"} & set(sys.modules), sys.modules.keys() & {"numba", "torch._dynamo"}
""")  # fmt: skip
