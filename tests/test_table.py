"""The table of the field: what it keeps and fills, what it counts, and its page."""

import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spyketorch import encoding, latency, models, readout, snn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from field import fronts, page  # noqa: E402
from field.cells import Cell, Result, Stopwatch, Table, fill, run, wanted  # noqa: E402
from field.cost import cost  # noqa: E402
from field.data import SETS, Data, Labelled  # noqa: E402
from field.processes import by_processes  # noqa: E402
from field.rules import RULES  # noqa: E402

ABOUT = {"date": "2026-01-01", "commit": "abc", "processor": "one", "torch": "2"}
RESULT = Result(0.5, 0.0, 10, 100.0, 1000.0, 1.5, 60_000, [])


def test_cells_come_in_the_order_of_what_they_tell():
    cells = wanted(RULES, SETS, (0, 1, 2), (None, 100, 1000))
    assert len(set(map(str, cells))) == len(cells)
    sizes = [cell.size for cell in cells]
    assert sizes.index(100) == sum(size is None for size in sizes)  # all images come first
    whole = [cell.seed for cell in cells if cell.size is None]
    assert whole == sorted(whole)
    assert {cell.set for cell in cells if cell.size == 1000}.isdisjoint({"faces_motorbikes", "caltech10"})  # too few


def test_a_table_is_filled_once_and_never_half_written(tmp_path):
    table, asked = Table(tmp_path / "new" / "table.json"), []
    cells = wanted(["target_time"], ["mnist"], (0, 1, 2), (None,))

    def outcomes(missing):
        asked.append(missing)
        for number, cell in enumerate(missing):
            yield cell, ValueError("silent") if number == 1 else RESULT
            if number == 1:
                return  # stopped

    fill(table, cells, outcomes, ABOUT)
    assert table.filled() == {str(cells[0]): {**RESULT._asdict(), "about": ABOUT}}
    assert table.read()["failed"] == {str(cells[1]): "ValueError: silent"}
    fill(table, cells, lambda missing: ((cell, RESULT) for cell in missing), ABOUT)
    assert [*table.filled()] == [str(cell) for cell in cells]
    assert table.read()["failed"] == {}
    fill(table, cells, outcomes, ABOUT)
    assert asked == [cells, []]
    assert [path.name for path in table.path.parent.iterdir()] == ["table.json"]


def test_a_page_tells_what_is_filled_and_what_is_not(tmp_path):
    found = {str(Cell("target_time", "mnist", seed)): 0.98 + seed / 100 for seed in (0, 1)}
    found |= {str(Cell("mozafari2019", "mnist", seed)): accuracy for seed, accuracy in enumerate((0.9, 0.91, 0.92))}
    filled = {cell: {**RESULT._asdict(), "accuracy": accuracy, "about": ABOUT} for cell, accuracy in found.items()}
    filled[str(Cell("target_time", "mnist", 0))]["warnings"] = ["a layer is silent"]
    page.write(filled, tmp_path / "table.md")
    text = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "98.5 (98.0-99.0) [2]" in text  # a seed is missing
    assert "91.0 (90.0-92.0) |" in text
    assert "| 97.2 | 91.0 (90.0-92.0) |" in text  # beside the published figure
    assert f"5 of {len(page.all_cells())} cells" in text
    assert "curves are not filled yet" in text and not (tmp_path / "images").exists()
    assert "`target_time/mnist/0/all`: a layer is silent" in text
    filled[str(Cell("target_time", "mnist", 0, 100))] = {**RESULT._asdict(), "images": 100, "about": ABOUT}
    page.write(filled, tmp_path / "table.md")
    assert "images/table.png" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert (tmp_path / "images" / "table.png").stat().st_size > 10_000


def test_published_figures_stand_beside_cells_that_there_are():
    assert {(one.rule, one.set) for one in page.PUBLISHED} <= {(rule, name) for rule in RULES for name in SETS}


def network(classes=None, inhibit=False):
    layer = snn.SpikingConvolution(1, 3, (3, 2), 1.5, time_steps=4, stride=2, padding=1)
    second = snn.SpikingConvolution(3, 4, 2, None, time_steps=4)
    stages = [models.Stage(layer, snn.SpikingPooling(2, 1), inhibit=inhibit)]
    return models.Network(encoding.LatencyEncoder(nn.Identity(), 4), [*stages, models.Stage(second)], classes)


def test_additions_are_the_spikes_times_the_synapses_that_they_reach():
    made = network(torch.arange(4) // 2)
    images = torch.rand(5, 1, 7, 6)
    images[images < 0.4] = 0
    found = cost(made, images)
    additions, spikes = 0.0, 0
    for image in images:
        times = made.encoder(image[None])
        for layer, pool in ((made.stages[0].layer, made.stages[0].pool), (made.stages[1].layer, None)):
            spikes += int((times < 4).sum()) if pool is not None else 0
            fired = (times < 4).float()
            ones = torch.ones_like(layer.weight)  # each output adds one for each input that fired
            additions += float(nn.functional.conv2d(fired, ones, None, layer.stride, layer.padding).sum())
            times = layer(times)
            spikes += int((times < 4).sum()) if pool is not None else 0
            times = times if pool is None else pool(times)
    assert found.additions == pytest.approx(additions / 5)
    assert found.spikes == pytest.approx(spikes / 5)
    assert found.deciding == math.prod(times.shape[1:])


def test_a_read_out_that_fires_ends_what_is_counted():
    made = network()
    shape = tuple(made.features(torch.rand(1, 1, 7, 6)).shape[1:])
    images = torch.rand(5, 1, 7, 6)
    made.stages[1].layer.threshold = torch.tensor(6.0)
    made.readout = readout.LinearReadout(shape, 2, time_steps=4)
    whole = cost(made, images)
    heard = int((made.features(images) < 4).sum()) / 5
    assert heard > 0
    made.readout = readout.FirstSpikeReadout(shape, 2, 3, threshold=1e-6, time_steps=4)  # at the first input
    early = cost(made, images)
    assert (whole.deciding, early.deciding) == (2, 6)
    assert early.additions < whole.additions and early.spikes < whole.spikes
    made.readout.threshold = torch.tensor(1e9)  # never
    assert cost(made, images).additions == pytest.approx(whole.additions + 4 * heard)
    assert latency.pooling(made.encoder(images), 1).shape == (5, 1, 7, 6)


def pictures(count, seed):
    """Bars across and along, (count, 1, 40, 60)."""
    draw, labels = np.random.default_rng(seed), torch.arange(count) % 2
    images = draw.integers(0, 60, (count, 1, 40, 60)).astype(np.uint8)
    images[labels == 0, :, 10:30:4] += np.uint8(150)
    images[labels == 1, :, :, 10:50:4] += np.uint8(150)
    return Labelled(torch.from_numpy(images), labels)


def test_a_cell_that_is_stopped_goes_on_to_the_same_result(tmp_path, monkeypatch):
    front = fronts.CONTOURS._replace(features=8)
    data = Data(pictures(12, 0), pictures(6, 1), ("across", "along"), front)
    cell, seen = Cell("target_time", "faces_motorbikes", 3, 10), []
    whole = run(cell, data, tmp_path / "whole")
    assert whole.images == 10 and whole.accuracy >= 0.5
    keep = Stopwatch.__call__

    def watched(watch, moment):
        keep(watch, moment)
        seen.append(moment.seen)
        if len(seen) == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Stopwatch, "__call__", watched)
    with pytest.raises(KeyboardInterrupt):
        run(cell, data, tmp_path / "stopped")
    spent = Stopwatch(tmp_path / "stopped" / "seconds").before
    assert spent > 0
    again = run(cell, data, tmp_path / "stopped")
    assert seen[5] == seen[4] + 10  # images: not from the start
    assert again._replace(seconds=0) == whole._replace(seconds=0)
    assert again.seconds >= spent


def test_processes_fill_cells_and_tell_what_failed():
    cell = Cell("target_time", "mnist", 0)
    outcomes = dict(by_processes(len, [5, cell], 1))  # of 5 there is none
    assert outcomes[cell] == len(cell)
    assert isinstance(outcomes[5], TypeError)


def test_a_page_is_made_of_results_that_are_there(tmp_path):
    command = [sys.executable, str(BENCHMARKS / "table.py"), "--out", str(tmp_path / "none.json"), "--page", "page.md"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    assert not (tmp_path / "page.md").exists()


def test_the_command_lists_what_is_missing(tmp_path):
    table = Table(tmp_path / "table.json")
    table.fill(Cell("target_time", "mnist", 0), RESULT, ABOUT)
    command = [sys.executable, str(BENCHMARKS / "table.py"), "--out", str(table.path), "--list"]
    command += ["--rules", "target_time", "--sets", "mnist", "--seeds", "0", "1", "--sizes", "all"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "target_time/mnist/0/all: 50.0%",
        "target_time/mnist/1/all: missing",
        "1 of 2 cells are filled",
    ]
