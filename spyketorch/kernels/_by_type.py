"""Loops that call methods of the named tuples that they are given, chosen by their types when a loop is compiled.

Numba would not keep loops between processes that take functions as arguments, and it takes over, once, the code of a
method and all that it reads: what is edited later has to be noticed here.
"""

import hashlib
import importlib.resources
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from numba.extending import overload

from spyketorch._identity import Content

Method = TypeVar("Method", bound=Callable[..., Any])


def by_type(function: Method) -> Method:
    """A function that is, in loops, the method of the same name of its first argument, a named tuple."""
    name = function.__name__

    @overload(function, strict=False)
    def choose(part: Any, *_: Any) -> Any:
        return getattr(part.instance_class, name)

    return function


def content(kind: type) -> str:
    """A hash of the code of a class and of all that it reads."""
    package = str(__package__).partition(".")[0]
    if not kind.__module__.startswith(f"{package}."):
        return Content()(kind)
    file = sys.modules[kind.__module__].__file__ or ""
    return hashlib.sha256(importlib.resources.files(package).joinpath(file).read_bytes()).hexdigest()


def current(part: Any) -> Any:
    """A named tuple, of a class that holds its methods as they are now, and is named after their content.

    Loops that were compiled for a class keep the code, and the values of globals, that it had then; and numba takes a
    class for another of the same name, as one that was defined anew in a notebook.
    """
    kind = type(part)
    if kind.__module__.startswith("spyketorch."):
        return part
    name = f"{kind.__name__}_{content(kind)[:32]}"
    if name not in globals():  # a loop that was kept finds the class here
        globals()[name] = type(name, (kind,), {"__module__": __name__})
    return globals()[name](*part)
