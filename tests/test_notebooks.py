"""The notebooks of the documentation run, and are stored with what they show."""

from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason='notebooks need nbclient and ipykernel: pip install -e ".[test]"')
nbclient = pytest.importorskip("nbclient", reason='notebooks need nbclient and ipykernel: pip install -e ".[test]"')
pytest.importorskip("ipykernel", reason='notebooks need nbclient and ipykernel: pip install -e ".[test]"')

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = [pytest.param(path, id=path.stem) for path in sorted(FOLDER.glob("*.ipynb"))]


@pytest.fixture(autouse=True)
def fresh_kernels(monkeypatch):
    """One core each, as for the rest of the tests, and the backend that notebooks have."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.delenv("MPLBACKEND", raising=False)


def execute(notebook, folder):
    """The notebook with the outputs of a fresh kernel; raises what a cell raises."""
    options = {"timeout": 300, "kernel_name": "python3", "resources": {"metadata": {"path": str(folder)}}}
    return nbclient.NotebookClient(notebook, **options).execute()


def outputs(notebook):
    """Of each code cell."""
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def complaints(notebook):
    """Errors, and what was written to stderr, such as warnings; that loops are compiled is none."""
    every = [output for of_cell in outputs(notebook) for output in of_cell]
    written = [output for output in every if output.output_type == "error" or output.get("name") == "stderr"]
    return [output for output in written if not output.get("text", "").startswith("spyketorch compiles its loops")]


def pictures(notebook):
    """How many each code cell shows."""
    return [sum("image/png" in output.get("data", {}) for output in of_cell) for of_cell in outputs(notebook)]


def test_all_are_there():
    listed = (FOLDER / "index.md").read_text(encoding="utf-8")
    assert len(NOTEBOOKS) == 4
    assert all(f"]({path.name})" in listed for path in FOLDER.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_runs_in_a_fresh_kernel(path, tmp_path):
    stored = nbformat.read(path, as_version=4)
    shown = pictures(stored)
    run = execute(stored, tmp_path)
    assert complaints(run) == []
    assert pictures(run) == shown
    assert list(tmp_path.iterdir()) == []  # it leaves nothing behind


@pytest.mark.parametrize("path", NOTEBOOKS)
def test_is_stored_as_it_ran(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(pictures(notebook)) >= 3
    assert complaints(notebook) == []
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < 600_000


def test_a_figure_of_pyplot_is_shown_after_one_of_ours(tmp_path):
    """Drawing must leave pyplot interactive, or a notebook shows no other figure."""
    ours = "import torch\nfrom spyketorch.visualization import plot_features\nplot_features(torch.rand(2, 3, 3))"
    theirs = "from matplotlib import pyplot\nfigure, ax = pyplot.subplots()\nax.plot([1, 2]);"
    cells = [nbformat.v4.new_code_cell(code) for code in (ours, theirs)]
    assert pictures(execute(nbformat.v4.new_notebook(cells=cells), tmp_path)) == [1, 1]
