"""All runtimes, by what they are called on a command line."""

from spyketorch.export._c import C, CortexM
from spyketorch.export._javascript import JavaScript
from spyketorch.export._runtimes import Library, Reference, Runtime

RUNTIMES: dict[str, Runtime] = {
    "numpy": Reference(),
    "spyketorch": Library(),
    "c": C(),
    "javascript": JavaScript(),
    "cortex-m": CortexM(),
}
