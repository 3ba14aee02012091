"""Networks of integers: made of trained ones, written to one file, read back, and run without this library.

    >>> import pathlib, tempfile, torch
    >>> from spyketorch import export, models
    >>> images = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8)
    >>> twin = export.quantize(models.goupy2024(pretrained=True), images)
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "digits.safetensors"
    >>> export.save(twin, path)
    >>> bool((export.load(path)(images) == twin(images)).all())
    True

The page "Networks of integers" of the documentation says what the file means.
"""

from spyketorch.export._all import RUNTIMES as RUNTIMES
from spyketorch.export._c import to_c as to_c
from spyketorch.export._conformance import ConformanceSet as ConformanceSet
from spyketorch.export._conformance import Difference as Difference
from spyketorch.export._network import IntegerNetwork as IntegerNetwork
from spyketorch.export._network import load as load
from spyketorch.export._network import save as save
from spyketorch.export._quantize import Loss as Loss
from spyketorch.export._quantize import Report as Report
from spyketorch.export._quantize import quantize as quantize
from spyketorch.export._runtimes import Command as Command
from spyketorch.export._runtimes import Runtime as Runtime
from spyketorch.export.runtimes.reading import NotAnIntegerNetwork as NotAnIntegerNetwork
