"""Settings and fixtures shared by all tests."""

import os
from contextlib import nullcontext

import pytest
import torch
from hypothesis import settings
from torch._subclasses.fake_tensor import FakeTensorMode

from spyketorch import _warnings

settings.register_profile("dev", deadline=None, max_examples=30)
settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True, database=None)
settings.register_profile("thorough", deadline=None, max_examples=400)  # pytest --hypothesis-profile=thorough
settings.register_profile("quick", deadline=None, max_examples=12, derandomize=True, database=None)  # of -m "not slow"
settings.load_profile("ci" if os.environ.get("CI") else "dev")
torch.set_num_threads(1)

# Seconds each: new processes, notebooks, examples, whole trainings, whole maps. `pytest -m "not slow"` leaves them out.
SLOW = [
    "test_batches.py::test_answers_do_not_depend_on_it",
    "test_batches.py::test_larger_images",
    "test_batches.py::test_published_networks",
    "test_batches.py::test_whatever_holds",
    "test_c_runtime.py::test_many_networks",
    "test_compatibility.py::test_script",
    "test_compile.py",
    "test_devices.py::test_lessons",
    "test_devices.py::test_networks",
    "test_devices.py::test_stdp",
    "test_documents.py::test_snippet",
    "test_draw_page.py::test_drawings_of_any_shape",
    "test_draw_page.py::test_the_digits_to_begin_with",
    "test_events.py::test_a_transform_in_the_workers",
    "test_examples.py",
    "test_export.py::test_the_command_checks_runtimes",
    "test_files.py::test_a_folder_has_one_owner",
    "test_files.py::test_a_later_write",
    "test_files.py::test_reset_clears",
    "test_files.py::test_the_next_run",
    "test_images.py::test_another_scale",
    "test_images.py::test_the_same_values",
    "test_kernels.py::test_bytes_find",
    "test_kernels.py::test_learn",
    "test_kernels.py::test_numba_is_imported_late",
    "test_kernels.py::test_opcheck",
    "test_kernels.py::test_runs_that_are_decided_ahead",
    "test_kernels.py::test_times_that_the_steps_do_not_hold",
    "test_kernels.py::test_what_is_decided_ahead",
    "test_kernels.py::test_without_numba",
    "test_latency.py::test_a_network_compiles_without_graph_breaks",
    "test_latency.py::test_a_network_exports",
    "test_latency.py::test_a_network_that_decides",
    "test_latency.py::test_operations_compile",
    "test_lessons.py::test_a_lesson_of_ones_own",
    "test_loops_cache.py::test_a_broken_numba",
    "test_loops_cache.py::test_a_process",
    "test_loops_cache.py::test_damaged",
    "test_loops_cache.py::test_two_processes_at_once",
    "test_loops_cache.py::test_waves_import",
    "test_models.py::test_shipped_weights_load_from_a_zipped_package",
    "test_neurons.py::test_answers",
    "test_neurons.py::test_contract",
    "test_neurons.py::test_learning",
    "test_notebooks.py",
    "test_own_rules.py::test_learn_runs",
    "test_packaging.py::test_import",
    "test_performance.py::test_a_missing_numba",
    "test_performance.py::test_contracts",
    "test_processes.py::test_a_worker_that_dies",
    "test_processes.py::test_ctrl_c",
    "test_processes.py::test_four",
    "test_processes.py::test_processes_that_are_not_alike",
    "test_processes.py::test_the_example",
    "test_processes.py::test_torchrun",
    "test_readout.py::test_a_run_killed",
    "test_readout.py::test_scores_are_the_exact",
    "test_readout.py::test_the_same_bits",
    "test_reports.py::test_learning_that_goes_well",
    "test_reports.py::test_thresholds_that",
    "test_reports.py::test_unsupervised_layers",
    "test_scripts.py::test_a_script_on_waves_loads_no_compiler",
    "test_sources.py::test_ctrl_c",
    "test_sources.py::test_spawned_workers",
    "test_testing.py::test_rules",
    "test_time_steps.py::test_learning_with_many_steps",
    "test_time_steps.py::test_the_type_grows",
    "test_training.py::test_a_killed_run",
    "test_training.py::test_a_period",
    "test_training.py::test_checkpoints",
    "test_training.py::test_ctrl_c",
    "test_training.py::test_flipped_bits",
    "test_triton.py::test_in_the_interpreter",
    "test_triton.py::test_kernels_compile",
    "test_triton.py::test_triton_is_not_imported",
    "test_twins.py::test_chunks",
    "test_twins.py::test_mini_batches",
    "test_twins.py::test_twins",
    "test_visualization.py::test_importing",
    "test_visualization.py::test_plots_draw",
    "test_visualization.py::test_show_tensor_draws",
    "test_waits.py::test_rstdp",
    "test_wrong_arguments.py::test_wrong_arguments",
    "test_wrong_arguments_of_networks.py",
]

# The same on every device: they make tensors where torch's default device is. `pytest --device cuda` runs them there,
# and leaves out the rest, which is of the CPU (files, pictures, compiled loops, processes) or moves tensors by itself.
ANYWHERE = [
    "test_encoding.py",
    "test_functional.py",
    "test_latency.py",
    "test_learning.py",
    "test_snn.py",
    "test_triton.py::test_against",
    "test_triton.py::test_rates",
    "test_triton.py::test_rstdp",
    "test_triton.py::test_several",
    "test_triton.py::test_stdp",
    "test_triton.py::test_ties",
    "test_triton.py::test_time_steps",
    "test_triton.py::test_types",
    "test_triton.py::test_weights",
    "test_triton.py::test_what",
    "test_waits.py::test_a_network_answers",
    "test_waits.py::test_encoders",
    "test_waits.py::test_functions",
    "test_waits.py::test_integers",
    "test_waits.py::test_layers",
    "test_waits.py::test_memory",
    "test_waits.py::test_no_part_waits",
    "test_waits.py::test_rstdp_learns",
    "test_waits.py::test_stdp_learns",
    "test_waits.py::test_target_times",
]


def pytest_addoption(parser):
    """Where the tests run that are the same on every device."""
    parser.addoption("--device", default="cpu", help="cpu (all tests), cuda or mps (those that are the same anywhere)")


def pytest_configure(config):
    """A device that is not there ends the run before it starts."""
    config.addinivalue_line("markers", 'slow: takes seconds; left out by -m "not slow"')
    if config.getoption("markexpr") == "not slow":
        settings.load_profile("quick")
    device = config.getoption("--device")
    try:
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        raise pytest.UsageError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from None


def is_of(item, names):
    """Whether a test is one of those, named by file or by the beginning of its name."""
    return any(item.nodeid.removeprefix("tests/").startswith(name) for name in names)


def pytest_collection_modifyitems(config, items):
    """Marks the slow ones, in one place, by what was measured; chooses those that can run on another device."""
    for item in items:
        if is_of(item, SLOW):
            item.add_marker("slow")
    if config.getoption("--device") != "cpu":
        left_out = [item for item in items if not is_of(item, ANYWHERE)]
        items[:] = [item for item in items if is_of(item, ANYWHERE)]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def device(pytestconfig):
    """Where tests run that are the same on every device."""
    return torch.device(pytestconfig.getoption("--device"))


@pytest.fixture(scope="session")
def fake_devices():
    """For tests with fake CUDA tensors: torch 2.6, where it is made for CUDA, asks for a driver even for those."""
    try:
        with FakeTensorMode():
            x = torch.ones(1, 2, 3, 3, device="cuda")
            torch.nn.functional.conv2d(x, x.new_ones(2, 1, 2, 2), groups=2)
    except RuntimeError as error:
        pytest.skip(f"this torch needs a driver even for fake tensors: {str(error).splitlines()[0]}")


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"], scope="session")
def dtype(request, device):
    """Both floating types."""
    if request.param == torch.float64 and device.type == "mps":
        pytest.skip("Apple's GPUs have no float64")
    return request.param


@pytest.fixture
def threads():
    """Call it with a number of threads for torch; the old number comes back after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch):
    """What is told once per process is told once per test: none depends on which ran before it."""
    monkeypatch.setattr(_warnings, "_told", set())


@pytest.fixture(autouse=True)
def seeded(device):
    """Every test starts from the same random state, on its device."""
    torch.manual_seed(0)
    with nullcontext() if device.type == "cpu" else device:
        yield
