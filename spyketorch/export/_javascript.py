"""The runtime in JavaScript, as node runs it."""

import os
import shutil
from importlib import resources

import numpy as np

from spyketorch.export._runtimes import run


class JavaScript:
    """``runtimes/runtime.js`` as a program of node."""

    name = "JavaScript"

    def why_not(self) -> str | None:
        """What this machine lacks."""
        return None if shutil.which("node") else "there is no `node` on this machine"

    def trace(self, path: str | os.PathLike[str], images: np.ndarray) -> bytes:
        """The traces of images ``(N, C, H, W)`` of bytes; what the program refuses it refuses, too."""
        with resources.as_file(resources.files("spyketorch.export") / "runtimes") as folder:
            return run(["node", str(folder / "runtime.js"), os.fspath(path)], images)
