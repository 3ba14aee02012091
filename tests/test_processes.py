"""Several processes of gloo, real ones, leave the bits that one process leaves; and how their runs end."""

import os
import socket
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import shared_out
import torch
import torch.distributed as dist

from spyketorch._common_memory import Rows
from spyketorch._processes import ALONE, at_work
from spyketorch.training import Processes, Trainer, evaluate

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="torch has no gloo")
ROOT = Path(__file__).parents[1]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def started(count, *arguments):
    """The ends of so many processes: exit codes, and what they wrote to stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
    command = [sys.executable, "-W", "ignore", Path(shared_out.__file__), *map(str, arguments)]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    running = []
    for rank in range(count):
        own = {**os.environ, **{name: str(value) for name, value in shared.items()}}
        own |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path}
        running.append(subprocess.Popen(command, env=own, stderr=subprocess.PIPE, text=True))
    told = [one.communicate(timeout=300)[1] for one in running]
    return [one.returncode for one in running], told


def found(folder, count):
    """What each process saved."""
    return [torch.load(folder / f"found {rank}.pt") for rank in range(count)]


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, dict):
            assert_same(value, other[name])
        elif isinstance(value, torch.Tensor):
            assert value.dtype == other[name].dtype and torch.equal(value, other[name]), name
        else:
            assert value == other[name], name


@contextmanager
def unwarned():
    """Without the warnings that such small networks deserve."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def alone():
    """What one process leaves."""
    with unwarned():
        return shared_out.some_ways(count=3)


def same_in(count, folder, ways):
    codes, told = started(count, folder, len(ways))
    assert codes == [0] * count, told
    for one in found(folder, count):
        assert_same(one, ways)


def test_two_leave_the_same_bits(tmp_path, alone):
    """Mini-batches of STDP and R-STDP, in loops and in torch; online; stored answers; read-out; decisions."""
    same_in(2, tmp_path, alone)


def test_four_leave_the_same_bits_in_all_ways(tmp_path):
    """And thresholds that move, patches, rules on waves, a lesson of one's own."""
    with unwarned():
        same_in(4, tmp_path, shared_out.some_ways())


@pytest.mark.parametrize("first", [1, 2])
def test_a_worker_that_dies_ends_the_run_and_another_number_goes_on(tmp_path, first):
    codes, told = started(2, tmp_path, "die")
    assert codes[1] == 3 and codes[0] == 1
    assert "ConnectionError: another process of this run has ended, so this one ends too; what a Trainer has" in told[0]
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    goes_on(tmp_path, first)


def test_torchrun_tells_the_others_of_a_worker_that_died(tmp_path):
    """By SIGTERM, wherever they are."""
    command = [*TORCHRUN, "2", shared_out.__file__, str(tmp_path), "die"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert run.returncode == 1
    assert "ConnectionError: another process of this run has ended" in run.stderr
    assert (tmp_path / "run" / "checkpoint.pt").exists()


def test_ctrl_c_in_one_stops_all_and_another_number_goes_on(tmp_path):
    told = started(2, tmp_path, "interrupt")[1]
    assert all("KeyboardInterrupt: stopped" in one for one in told), told
    goes_on(tmp_path, 4)


def goes_on(folder, count):
    """A run that was broken ends with the bits of one that was not."""
    with unwarned():
        want = shared_out.broken(None, None, "nothing")
    if count == 1:
        with unwarned():
            assert_same(shared_out.broken(None, folder / "run", "nothing"), want)
        return
    codes, told = started(count, folder, "nothing")
    assert codes == [0] * count, told
    for one in found(folder, count):
        assert_same(one, want)


def test_processes_that_are_not_alike_are_refused(tmp_path):
    for what, name in (("others", "`images`"), ("drift", "`weights of layer 1`")):
        codes, told = started(2, tmp_path, what)
        assert codes == [1, 1]
        assert all(f"ValueError: {name} must be the same in all processes" in one for one in told), told


def test_rows_that_processes_make_together(tmp_path):
    """In memory that they have in common, where there is such, or sent; none hears what another writes later."""
    codes, told = started(3, tmp_path, "rows")
    assert codes == [0] * 3, told
    want = torch.arange(24, dtype=torch.int16).view(8, 3)
    for one in found(tmp_path, 3):
        assert one.pop("common: is common") is hasattr(os, "memfd_create") and one.pop("none: is common") is False
        assert len(one) == 4
        for name, rows in one.items():
            assert rows.dtype == torch.int16 and torch.equal(rows, want), name


# one process


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rows", [0, 1, 2, 5, 12, 13])
def test_shares_are_all_rows(count, rows):
    """Each once, in order."""
    shares = [Processes(rank, count).share(rows) for rank in range(count)]
    assert [row for share in shares for row in range(rows)[share]] == list(range(rows))
    assert max(len(range(rows)[share]) for share in shares) == -(-rows // count)


def test_one_process_is_the_same_thing():
    with Processes.of_torchrun() as processes:
        assert processes == ALONE == Processes()
        assert processes.first
    rows = torch.arange(10)
    assert torch.equal(processes.spread(lambda some: [rows[some] ** 2], 10)[0], rows**2)
    assert processes.told(lambda: 5) == 5
    assert processes.sum_(rows) is rows
    assert processes.any(True) is True and processes.any(False) is False
    with pytest.raises(KeyError):
        processes.told(lambda: {}[1])


def test_rows_of_one_process():
    rows = Rows(ALONE, (3, 2), torch.uint8)
    numbers = torch.arange(6, dtype=torch.uint8).view(3, 2)
    rows.add(2, lambda mine: [numbers[:2][mine]])
    with pytest.raises(ValueError, match="3 rows were announced, and 2 came"):
        rows.whole()
    rows.add(1, lambda mine: [numbers[2:][mine]])
    assert torch.equal(rows.whole(), numbers)


def test_work_is_shared_out_within_a_block_alone():
    four = Processes(1, 4)
    with four.at_work():
        assert at_work() is four
    assert at_work() is ALONE


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`rank` must be below 2, the number of processes; got 2"):
        Processes(2, 2)
    made = shared_out.network(None)
    with pytest.raises(TypeError, match=r"`processes` must be a training\.Processes, or None; got 2"):
        Trainer(made, [shared_out.STDP_], processes=2)
    with pytest.raises(TypeError, match=r"`processes` must be a training\.Processes, or None; got 2"):
        evaluate(made, *shared_out.bars(3), processes=2)


# MNIST


@pytest.mark.skipif("SPYKETORCH_MNIST" not in os.environ, reason="SPYKETORCH_MNIST does not name a folder with MNIST")
def test_the_example_by_torchrun(tmp_path):
    """The command that docs/processes.md prints, for 1, 2 and 4 processes."""
    example = [str(ROOT / "examples" / "mnist_kheradpisheh.py"), "--data", os.environ["SPYKETORCH_MNIST"]]
    example += ["--limit", "300", "--minibatch", "16", "--out"]
    commands = [[sys.executable], [*TORCHRUN, "2"], [*TORCHRUN, "4"]]
    told, saved = [], []
    for number, command in enumerate(commands):
        folder = tmp_path / str(number)
        run = subprocess.run([*command, *example, str(folder)], capture_output=True, text=True, cwd=ROOT, timeout=900)
        assert run.returncode == 0, run.stderr[-2000:]
        told.append(run.stdout.replace(str(folder), ""))
        saved.append(torch.load(folder / "mnist_kheradpisheh.pt"))
    assert told[1] == told[0] and told[2] == told[0]
    for one in saved[1:]:
        assert_same(one, saved[0])
