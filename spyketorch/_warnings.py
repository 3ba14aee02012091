"""What the library warns of, each kind once."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch


class PerformanceWarning(UserWarning):
    """The answer is right, but takes many times longer than it could; the message says why, and what to do.

    Each reason is told once per process. To be told nothing:

        >>> import warnings, spyketorch
        >>> warnings.filterwarnings("ignore", category=spyketorch.PerformanceWarning)
    """


_told: set[str] = set()
_quiet: ContextVar[bool] = ContextVar("spyketorch_quiet", default=False)


def warn_once(message: str) -> None:
    """Warn, once per message and process."""
    if message not in _told and not _quiet.get() and not torch.compiler.is_compiling():
        _told.add(message)
        warnings.warn(message, PerformanceWarning, stacklevel=_outside())


@contextmanager
def quiet() -> Iterator[None]:
    """Where speed is of no account: what would be told within is told another time."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def _outside() -> int:
    """The stack level, for :func:`warn_once`, of the caller of the library."""
    import sys

    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("spyketorch", "torch", "numba")):
        frame, level = frame.f_back, level + 1
    return level
