"""What the library warns of, each kind once."""

import warnings


class PerformanceWarning(UserWarning):
    """The answer is right, but takes many times longer than it could; the message says why, and what to do.

    Each reason is told once per process. To be told nothing:

        >>> import warnings, spyketorch
        >>> warnings.filterwarnings("ignore", category=spyketorch.PerformanceWarning)
    """


_told: set[str] = set()


def warn_once(message: str, kind: str | None = None) -> None:
    """Warn, once per kind (or message) and process."""
    if (kind or message) not in _told:
        _told.add(kind or message)
        warnings.warn(message, PerformanceWarning, stacklevel=_outside())


def _outside() -> int:
    """The stack level, for :func:`warn_once`, of the caller of the library."""
    import sys

    frame, level = sys._getframe(2), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(("spyketorch", "torch", "numba")):
        frame, level = frame.f_back, level + 1
    return level
