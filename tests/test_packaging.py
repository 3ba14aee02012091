"""`import spyketorch` needs torch and numpy only, and costs little beyond them; version, typing marker, extras."""

import json
import re
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

import spyketorch

ROOT = Path(__file__).parent.parent
OPTIONAL = ("torchvision", "numba", "matplotlib", "tqdm", "sklearn", "hypothesis", "scipy", "PIL")
MODULES = ("functional", "snn", "learning", "encoding", "data", "utils", "visualization")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def python(code):
    """Run in a new process, warnings as errors; what it prints as JSON."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


EVERY_MODULE = """
    import importlib, json, pkgutil, sys
    import spyketorch
    names = [info.name for info in pkgutil.walk_packages(spyketorch.__path__, "spyketorch.")]
    compiled = ("_cache", "_by_type", "_triton", "deciding", "encoding", "engine", "loops.")  # private: numba, Triton
    names = [n for n in names if not n.startswith(tuple(f"spyketorch.kernels.{name}" for name in compiled))]
    for name in names:
        importlib.import_module(name)
"""


def test_imports_without_the_optional_packages():
    """All modules, in a process where every optional package is absent; then the core does its work there."""
    names = python(
        f"""
    import sys
    for name in {OPTIONAL}:
        sys.modules[name] = None
    {EVERY_MODULE}
    import torch
    from spyketorch import snn, utils
    wave = utils.Intensity2Latency(4, to_spike=True)(utils.Filter([utils.DoGKernel(3, 1, 2)])(torch.rand(1, 9, 9)))
    conv = snn.Convolution(1, 2, 3)
    snn.STDP(conv, (0.1, -0.1))(wave, conv(wave), conv(wave).sign())
    print(json.dumps(names))
    """
    )
    assert {f"spyketorch.{name}" for name in MODULES} <= set(names)


def test_imports_nothing_optional_where_it_is_present():
    loaded = python(
        f"""
    import sys
    import numpy, torch
    before = set(sys.modules)
    {EVERY_MODULE}
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
    )
    assert "spyketorch.snn" in loaded
    packages = {name.partition(".")[0] for name in loaded}
    assert packages.isdisjoint(OPTIONAL)
    foreign = packages - {"spyketorch", "torch", "numpy"} - set(sys.stdlib_module_names)
    assert foreign == set()


def test_import_costs_little_beyond_torch():
    """No compiler, no tracer, no server: what `import spyketorch` loads that `import torch` did not."""
    loaded = python(
        """
    import json, sys
    import numpy, torch
    before = set(sys.modules)
    import spyketorch
    print(json.dumps(sorted(set(sys.modules) - before)))
    """
    )
    assert "spyketorch" in loaded
    heavy = re.compile(r"torch\.(_inductor|_dynamo|_export|export|onnx|fx|distributed|ao|testing)\b")
    assert [name for name in loaded if heavy.match(name)] == []
    slow = {"sympy", "unittest", "asyncio", "http", "xml", "sqlite3", "tkinter", "doctest", "pydoc"}
    assert {name.partition(".")[0] for name in loaded}.isdisjoint(slow)
    assert len([name for name in loaded if not name.startswith("spyketorch")]) <= 40


def test_version(project):
    """One place says the version: the package, where the build reads it from."""
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert "version" in project["dynamic"]
    source = ROOT / tool["hatch"]["version"]["path"]
    assert source == ROOT / "spyketorch" / "__init__.py"
    (version,) = re.findall(r'^__version__ = "(.+)"$', source.read_text(encoding="utf-8"), re.MULTILINE)
    assert version == spyketorch.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?(\.dev\d+)?", version)


def test_typing_marker():
    assert (Path(spyketorch.__file__).parent / "py.typed").is_file()


def test_requirements(project):
    """To run: torch and numpy. Everything else is an extra."""
    names = {re.match(r"[\w-]+", line)[0].lower() for line in project["dependencies"]}
    assert names == {"torch", "numpy"}
    assert project["requires-python"] == ">=3.11"
    extras = project["optional-dependencies"]
    assert {"fast", "events", "examples", "notebooks", "docs", "test", "dev"} == set(extras)
    wanted = {re.match(r"[\w-]+", line)[0].lower() for line in extras["examples"]}
    assert {"matplotlib", "scikit-learn", "tqdm"} <= wanted
    tools = {re.match(r"[\w-]+", line)[0].lower() for line in extras["test"]}
    assert {"pytest", "hypothesis"} <= tools


def test_lowest_versions():
    """A constraint for each requirement, of the version that pyproject.toml allows at least."""
    script = [sys.executable, str(ROOT / ".github" / "lowest.py")]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    }
    assert set(lines) == {line.replace(">=", "==") for line in wanted if not line.startswith("spyketorch[")}
    assert all(re.fullmatch(r"[\w-]+==[\d.]+", line) for line in lines)


def test_addresses_agree(project):
    """One place on the web: in the project, the citation, the notebooks and the README."""
    home = project["urls"]["Homepage"]
    assert f"repository-code: {home}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"git+{home}" in (ROOT / "README.md").read_text(encoding="utf-8")
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        first, second = json.loads(notebook.read_text(encoding="utf-8"))["cells"][:2]
        there = f"colab.research.google.com/github/{home.removeprefix('https://github.com/')}/blob/main/docs/notebooks/"
        assert there + notebook.name in "".join(first["source"])
        assert f"git+{home}" in "".join(second["source"])
