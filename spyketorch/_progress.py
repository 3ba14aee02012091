"""A progress bar where there can be one."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(text: str, total: int | None, show: bool | None = None, *, initial: int = 0) -> Iterator[Any]:
    """What has ``update(count)`` and ``set_postfix_str(text)``; it is seen where tqdm is installed.

    With a total the bar tells how long it will take, with or without it how many a second.

    Args:
        text: in front of the bar.
        total, initial: images in all, and those that are done already.
        show: False hides it; True is an error where tqdm is missing.
    """
    if show is False:  # tqdm is left alone, which warns in a notebook without widgets
        yield _Hidden()
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        if show:
            raise ImportError('a progress bar needs tqdm: pip install "spyketorch[examples]"') from None
        yield _Hidden()
        return
    with tqdm(total=total, initial=initial, desc=text, unit="image", mininterval=1) as bar:
        yield bar


class _Hidden:
    def update(self, count: int) -> None: ...

    def set_postfix_str(self, text: str) -> None: ...
