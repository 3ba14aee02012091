"""Where compiled loops are kept between processes: in a folder named after the sources of all loops.

Edit any of them and nothing old is found again. A file holds one compiled function and its checksum, and is written
beside and moved into place, so that neither damage nor a second process can do harm. Whatever goes wrong costs time
alone: the function is compiled anew, and one warning says so.
"""

import hashlib
import importlib.resources
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import config, njit, types
from numba.core import caching
from numba.core.serialize import dumps

from spyketorch._warnings import warn_once
from spyketorch.kernels._by_type import content

Loop = TypeVar("Loop", bound=Callable[..., Any])

_KEPT = 3  # folders of other versions that stay


@cache
def sources() -> str:
    """A hash of all that is compiled."""
    package, found = importlib.resources.files("spyketorch"), hashlib.sha256()
    kernels = package / "kernels"
    nouns = [package / f"{name}.py" for name in ("_convolution", "_plasticity", "_teacher", "_winners", "neurons")]
    files = [*nouns, *kernels.iterdir(), *(kernels / "loops").iterdir()]
    for file in sorted((f for f in files if f.name.endswith(".py")), key=lambda f: f.name):
        found.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def _places() -> list[Path]:
    """Where the folder may be, the best place first."""
    chosen: str = config.CACHE_DIR  # type: ignore[attr-defined]
    if chosen:
        return [Path(chosen) / "spyketorch"]
    if sys.platform == "win32":
        user = os.environ.get("LOCALAPPDATA")
    elif sys.platform == "darwin":
        user = "~/Library/Caches"
    else:
        user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    beside = Path(__file__).parent / "__pycache__"
    home = os.path.expanduser(user or "~")  # noqa: PTH111  Path.expanduser fails where there is no home
    return [beside] if home.startswith("~") else [beside, Path(home) / "spyketorch"]


@cache
def folder() -> Path | None:
    """The folder of these sources, or None where there is no place that can be written to."""
    for place in _places():
        path = place / f"loops-{sources()}"
        with suppress(OSError):
            new = not path.exists()
            path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
            if new:
                _clear(place, path)
            return path
    warn_once(
        "the compiled loops cannot be kept, as neither the package nor the user's cache folder can be written to: "
        "every process compiles them anew, which takes some seconds; set NUMBA_CACHE_DIR to a folder that can"
    )
    return None


def _clear(place: Path, path: Path) -> None:
    """Remove the folders of other versions, but for the latest; a second process may be at it, too."""
    with suppress(OSError):
        others = sorted(place.glob("loops-*"), key=lambda p: p.stat().st_mtime, reverse=True)
        for old in [p for p in others if p != path][_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)


@cache
def _say_compiling() -> None:
    """One line where somebody waits: in a terminal or a notebook."""
    with suppress(Exception):  # whatever stands in the place of stderr
        if sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel"):
            print("spyketorch compiles its loops, once: some 20 s for all of them", file=sys.stderr, flush=True)


def _code_of(sig: Any) -> list[str]:
    """Hashes of the classes of named tuples that are no loops of ours, whose methods are compiled into a loop."""
    found = []
    for kind in sig if isinstance(sig, tuple) else ():
        if isinstance(kind, types.NamedTuple | types.NamedUniTuple):
            made = kind.instance_class
            found += [] if made.__module__.startswith(__package__) else [content(made)]
            found += _code_of(tuple(kind))
    return found


class _Locator(caching._CacheLocator):
    @classmethod
    def from_function(cls, *_: Any) -> "_Locator":
        return cls()

    def get_cache_path(self) -> str:
        return str(folder() or "")

    def get_source_stamp(self) -> str:
        return sources()

    def get_disambiguator(self) -> str:
        return ""


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # type: ignore[list-item]  # noqa: RUF012


class _Cache(caching.FunctionCache):
    """Numba's cache of a function, by other files."""

    _impl_class = _Implementation

    def _file(self, sig: Any, codegen: Any) -> Path | None:
        key = self._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        key = (self._impl.filename_base, key, _code_of(sig), numba.__version__, sys.version)
        place = folder()
        return None if place is None else place / hashlib.sha256(repr(key).encode()).hexdigest()[:32]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        file = self._file(sig, target_context.codegen())
        if file is None:  # which folder() has told
            return None
        try:
            stored = file.read_bytes()
        except OSError:
            _say_compiling()
            return None
        try:
            if hashlib.sha256(stored[32:]).digest() != stored[:32]:
                raise ValueError("wrong checksum")
            return self._impl.rebuild(target_context, pickle.loads(stored[32:]))
        except Exception:
            warn_once(f"compiled loops that were stored in {file.parent} are damaged, and are compiled anew")
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        file = self._file(sig, data.codegen)
        if file is None or not self._impl.check_cachable(data):
            return
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            content = dumps(self._impl.reduce(data))  # type: ignore[no-untyped-call]
            file.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(hashlib.sha256(content).digest() + content)
            part.replace(file)
        except Exception as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            warn_once(f"a compiled loop cannot be stored in {file.parent}, and is compiled anew each time ({error!r})")


def compiled(function: Loop) -> Loop:
    """Compile a function when it is first called, and keep it."""
    return _kept(function)


def inlined(function: Loop) -> Loop:
    """:func:`compiled`, into each loop that calls it: for the innermost, whose constants the compiler then knows."""
    return _kept(function, forceinline=True)


def contracted(function: Loop) -> Loop:
    """:func:`compiled`, with a product and the sum it goes into rounded once, where the processor does that."""
    return _kept(function, fastmath={"contract"})


def dividing(function: Loop) -> Loop:
    """:func:`compiled`, where a number may be divided by 0, which a loop in vectors does not look at."""
    return _kept(function, error_model="numpy")


def _kept(function: Loop, **options: Any) -> Loop:
    loop: Any = njit(nogil=True, **options)(function)
    loop._cache = _Cache(function)  # type: ignore[no-untyped-call]
    return cast(Loop, loop)
