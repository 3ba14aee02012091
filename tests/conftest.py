"""Settings and fixtures shared by all tests."""

import os

import pytest
import torch
from hypothesis import settings

settings.register_profile("dev", deadline=None, max_examples=60)
settings.register_profile("ci", deadline=None, max_examples=60, derandomize=True, database=None)
settings.register_profile("thorough", deadline=None, max_examples=400)  # pytest --hypothesis-profile=thorough
settings.load_profile("ci" if os.environ.get("CI") else "dev")
torch.set_num_threads(1)

# Seconds each: new processes, notebooks, examples, whole trainings, whole maps. `pytest -m "not slow"` leaves them out.
SLOW = """
    test_examples.py
    test_notebooks.py
    test_kernels.py::test_learn
    test_kernels.py::test_opcheck
    test_kernels.py::test_without_numba
    test_kernels.py::test_times_that_the_steps_do_not_hold
    test_kernels.py::test_numba_is_imported_late
    test_documents.py::test_snippet[start.md
    test_latency.py::test_a_network_compiles_without_graph_breaks
    test_packaging.py::test_import
    test_packaging.py::test_sdist
    test_packaging.py::test_wheel
    test_readout.py::test_a_run_killed
    test_training.py::test_a_killed_run
    test_training.py::test_ctrl_c
    test_visualization.py::test_importing
""".split()

# Their tests make tensors where torch's default device is, and say nothing of the CPU: `pytest --device cuda` runs them
# there. The others test what is of the CPU (compiled loops, files, pictures, processes), or move tensors by themselves.
ANYWHERE = """
    test_devices_agree.py
""".split()


def pytest_addoption(parser):
    """``--device``, of the tests that are the same on every device."""
    parser.addoption("--device", default="cpu", help="cpu, cuda or mps: where tests that can run anywhere are run")


def pytest_configure(config):
    """A device that is not there ends the run before it starts."""
    config.addinivalue_line("markers", 'slow: takes seconds; left out by -m "not slow"')
    wanted = config.getoption("--device")
    try:
        torch.ones(1, device=wanted).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise pytest.UsageError(f"--device {wanted} is not there: {str(error).splitlines()[0]}") from None


def pytest_collection_modifyitems(items):
    """The marker is set here, by what was measured, and not all over the tests."""
    for item in items:
        if any(item.nodeid.removeprefix("tests/").startswith(name) for name in SLOW):
            item.add_marker("slow")
